"""Layers that draw random numbers: dropout (N. Srivastava et al., JMLR 15, 2014), with inverted scaling."""

import attrs
import numpy as np

from fcnn.ops.layout import block, unblock
from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import boolean, cached, floats, number, output_gradient
from fcnn.values.keys import Key, expect_key, generator


@attrs.frozen
class DropoutCache:
    """What `dropout_backward` needs: the scaled mask, None where nothing was dropped, and x's shape."""

    mask: Array | None
    in_shape: tuple[int, ...]


def dropout(x: Array, rate: float, *, train: bool, key: Key | None = None) -> tuple[Array, DropoutCache]:
    """In training set each number to 0 with probability `rate` and scale the others by 1 / (1 - rate).

    In evaluation y is x, unchanged. The mask depends on the key and on x's shape only. It is drawn with 24 bits, so a
    rate within 1e-7 of 1 drops everything.

    Args:
        x: features (N, D) or images (N, C, H, W).
        rate: the probability of *dropping*, 0 <= rate < 1.
        train: which of the two modes.
        key: needed in training.

    Returns:
        y like x; the cache for `dropout_backward`.

    Raises:
        ValueError: a rate out of range, or no key in training.

    >>> from fcnn.values.keys import key
    >>> dropout(np.ones((2, 4)), 0.5, train=True, key=key(0))[0]
    array([[0., 0., 2., 2.],
           [0., 0., 2., 0.]])
    """
    check_rate(rate)
    x = floats("dropout's x", x)
    if key is not None:
        expect_key("key", key)
    if not boolean("train", train) or rate == 0:
        return keep(x), DropoutCache(None, x.shape)
    if key is None:
        raise ValueError(f"dropout({rate}) needs a key in training; pass key=fcnn.key(seed) to apply")
    memory = block(x)
    kept = generator(key).random(memory.shape, np.float32) >= rate
    mask = np.multiply(kept, 1 / (1 - rate), dtype=x.dtype)
    return frozen(unblock(memory * mask)), DropoutCache(frozen(unblock(mask)), x.shape)


def dropout_backward(dy: Array, cache: DropoutCache) -> Array:
    """dx = dy * mask / (1 - rate), and dy itself where nothing was dropped."""
    mask = cached("dropout", cache, DropoutCache).mask
    dy = output_gradient("dropout_backward", dy, cache.in_shape)
    return keep(dy) if mask is None else frozen(dy * mask)


def check_rate(rate: float) -> None:
    """Raise ValueError unless 0 <= rate < 1."""
    number("dropout's rate, the probability of dropping,", rate, "[0, 1)")
