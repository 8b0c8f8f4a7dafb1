"""The fully connected layer. Features lie in memory as (D, N), so the product is `w @ X` with nothing transposed."""

import attrs
import numpy as np

from fcnn.ops.layout import Array, block, frozen, keep, unblock
from fcnn.ops.window import check_dy


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
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1]:
        raise ValueError(f"dense expects x (N, D) and w (F, D) with one D, got {x.shape} and {w.shape}")
    if b is not None and b.shape != w.shape[:1]:
        raise ValueError(f"dense expects b ({w.shape[0]},), one number for each row of w, got {b.shape}")
    y = np.matmul(w, x.T)
    if b is not None:
        y += b[:, None]
    return frozen(unblock(y)), DenseCache(keep(x), keep(w), b is not None)


def dense_backward(dy: Array, cache: DenseCache, *, need_dx: bool = True) -> tuple[Array | None, Array, Array | None]:
    """The gradients of `dense` for any dy, (N, F).

        dx = dy @ w          dw = dy.T @ x          db = sum of dy over the batch

    Returns:
        dx (N, D), None unless `need_dx`; dw (F, D); db (F,), None without a bias.
    """
    check_dy("dense_backward", dy, (cache.x.shape[0], cache.w.shape[0]))
    out = block(dy)
    dw = frozen(np.matmul(out, cache.x))
    db = frozen(out.sum(axis=1)) if cache.has_bias else None
    dx = frozen(unblock(np.matmul(cache.w.T, out))) if need_dx else None
    return dx, dw, db


def flatten(x: Array) -> tuple[Array, tuple[int, ...]]:
    """Images (N, C, H, W) to features (N, C * H * W), in C, H, W order; the cache is x's shape.

    >>> flatten(np.zeros((2, 3, 4, 5)))[0].shape
    (2, 60)
    """
    if x.ndim == 2:
        return keep(x), x.shape
    if x.ndim != 4:
        raise ValueError(f"flatten expects images (N, C, H, W) or features (N, D), got {x.shape}")
    n, c, h, w = x.shape
    columns = np.ascontiguousarray(block(x).swapaxes(0, 1))  # (C, H, W, N)
    return _owned(unblock(columns.reshape(c * h * w, n)), x), x.shape


def flatten_backward(dy: Array, cache: tuple[int, ...]) -> Array:
    """The gradient of `flatten` for any dy, (N, C * H * W): the same numbers in x's shape."""
    if len(cache) == 2:
        return keep(dy)
    n, c, h, w = cache
    rows = np.ascontiguousarray(block(dy).reshape(c, h, w, n).swapaxes(0, 1))  # (H, C, W, N)
    return _owned(unblock(rows), dy)


def _owned(result: Array, source: Array) -> Array:
    """A result that may be a view of its source (where C is 1, say): read-only without a needless copy."""
    return keep(result) if np.may_share_memory(result, source) else frozen(result)
