"""The fully connected layer. Features lie in memory as (D, N), so the product is `w @ X` with nothing transposed."""

import math

import attrs
import numpy as np

from fcnn.ops.layout import block, unblock
from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import boolean, cached, floats, output_gradient


@attrs.frozen
class DenseCache:
    """What `dense_backward` needs: the input features (N, D), the weights, and whether there is a bias."""

    x: Array
    w: Array
    has_bias: bool


def dense(x: Array, w: Array, b: Array | None = None) -> tuple[Array, DenseCache]:
    """An affine map of the features: y = x @ w.T + b.

    Args:
        x: features, (N, D).
        w: weights, (F, D).
        b: biases, (F,), or None.

    Returns:
        y, (N, F); and the cache for `dense_backward`.

    Raises:
        ValueError: the shapes don't go together.

    >>> dense(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([0.5]))[0]
    array([[11.5]])
    """
    x, w = floats("dense's x", x), floats("dense's w", w)
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1]:
        advice = "; put flatten before it" if x.ndim == 4 and w.shape[1:] == (math.prod(x.shape[1:]),) else ""
        advice = "; x[None] is a batch of one" if x.ndim == 1 and w.shape[1:] == x.shape else advice
        raise ValueError(f"dense expects x (N, D) and w (F, D) with the same D, got {x.shape} and {w.shape}{advice}")
    if b is not None and (b := floats("dense's b", b)).shape != w.shape[:1]:
        raise ValueError(f"dense expects b ({w.shape[0]},), one number for each row of w, got {b.shape}")
    y = np.matmul(w, x.T)
    if b is not None:
        y += b[:, None]
    return frozen(unblock(y)), DenseCache(keep(x), keep(w), b is not None)


def dense_backward(
    dy: Array, cache: DenseCache, *, need_dx: bool = True, need_dw: bool = True, need_db: bool | None = None
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of `dense` for any dy, (N, F).

        dx = dy @ w          dw = dy.T @ x          db = sum of dy over the batch

    Returns:
        dx (N, D), None unless `need_dx`; dw (F, D), None unless `need_dw`; db (F,), None without a bias, and
        unless `need_db`, which is as `need_dw` when None.
    """
    cached("dense", cache, DenseCache)
    out = block(output_gradient("dense_backward", dy, (cache.x.shape[0], cache.w.shape[0])))
    boolean("need_dx", need_dx)
    boolean("need_dw", need_dw)
    need_db = need_dw if need_db is None else boolean("need_db", need_db)
    dw = frozen(np.matmul(out, cache.x)) if need_dw else None
    db = frozen(out.sum(axis=1)) if need_db and cache.has_bias else None
    dx = frozen(unblock(np.matmul(cache.w.T, out))) if need_dx else None
    return dx, dw, db
