"""Layers that draw random numbers: dropout (N. Srivastava et al., JMLR 15, 2014), with inverted scaling."""

import numpy as np

from fcnn.ops.layout import block, unblock
from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import number
from fcnn.values.keys import Key, generator


def dropout(x: Array, rate: float, *, train: bool, key: Key | None = None) -> tuple[Array, Array | None]:
    """In training set each number to 0 with probability `rate` and scale the others by 1 / (1 - rate).

    In evaluation y is x, unchanged. The mask depends on the key and on x's shape only. It is drawn with 24 bits, so a
    rate within 1e-7 of 1 drops everything.

    Args:
        x: features (N, D) or images (N, C, H, W).
        rate: the probability of *dropping*, 0 <= rate < 1.
        train: which of the two modes.
        key: needed in training.

    Returns:
        y like x; the cache for `dropout_backward`: the scaled mask, None where nothing is dropped.

    Raises:
        ValueError: a rate out of range, or no key in training.

    >>> from fcnn.values.keys import key
    >>> dropout(np.ones((2, 4)), 0.5, train=True, key=key(0))[0]
    array([[0., 0., 2., 2.],
           [0., 0., 2., 0.]])
    """
    check_rate(rate)
    if not train or rate == 0:
        return keep(x), None
    if key is None:
        raise ValueError(f"dropout({rate}) needs a key in training; pass key=fcnn.key(seed) to apply")
    memory = block(x)
    kept = generator(key).random(memory.shape, np.float32) >= rate
    mask = np.multiply(kept, 1 / (1 - rate), dtype=x.dtype)
    return frozen(unblock(memory * mask)), frozen(unblock(mask))


def dropout_backward(dy: Array, cache: Array | None) -> Array:
    """dx = dy * mask / (1 - rate), and dy itself where nothing was dropped."""
    return keep(dy) if cache is None else frozen(dy * cache)


def check_rate(rate: float) -> None:
    """Raise ValueError unless 0 <= rate < 1."""
    number("dropout's rate, the probability of dropping,", rate, "[0, 1)")
