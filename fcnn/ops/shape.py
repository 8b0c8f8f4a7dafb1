"""Layers that change an array's shape and none of its numbers."""

import math
from collections.abc import Sequence

import attrs
import numpy as np

from fcnn.ops.layout import block, unblock
from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import cached, cached_shape, floats, is_integer, output_gradient, told


def flatten(x: Array) -> tuple[Array, tuple[int, ...]]:
    """Images (N, C, H, W) or sequences (N, C, L) to features, in C, H, W order; the cache is x's shape.

    >>> flatten(np.zeros((2, 3, 4, 5)))[0].shape
    (2, 60)
    """
    x = floats("flatten's x", x)
    if x.ndim == 2:
        return keep(x), x.shape
    if x.ndim not in (3, 4):
        raise ValueError(f"flatten expects images (N, C, H, W), sequences (N, C, L) or features (N, D), got {x.shape}")
    columns = np.ascontiguousarray(block(x).swapaxes(0, 1))  # (C, H, W, N)
    return _owned(unblock(columns.reshape(math.prod(x.shape[1:]), len(x))), x), x.shape


def flatten_backward(dy: Array, cache: tuple[int, ...]) -> Array:
    """The gradient of `flatten` for any dy, (N, D): the same numbers in x's shape."""
    shape = cached_shape("flatten", cache, (2, 3, 4))
    dy = output_gradient("flatten_backward", dy, (shape[0], math.prod(shape[1:])))
    if len(shape) == 2:
        return keep(dy)
    rows = np.ascontiguousarray(block(dy).reshape(*shape[1:], shape[0]).swapaxes(0, 1))  # (H, C, W, N)
    return _owned(unblock(rows), dy)


@attrs.frozen
class ReshapeCache:
    """The shapes of `reshape`'s x and y."""

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]


def reshape(x: Array, shape: Sequence[int]) -> tuple[Array, ReshapeCache]:
    """The same numbers, in C, H, W order, in another shape.

    Args:
        x: images (N, C, H, W), sequences (N, C, L) or features (N, D).
        shape: that of y without N, (C, H, W), (C, L) or (D,); one length may be -1, for what is left.

    Returns:
        y, (N, *shape); and the cache for `reshape_backward`.

    >>> reshape(np.arange(6.0).reshape(1, 6), (3, -1))[0]
    array([[[0., 1.],
            [2., 3.],
            [4., 5.]]])
    """
    x = floats("reshape's x", x)
    if x.ndim not in (2, 3, 4):
        raise ValueError(f"reshape expects images (N, C, H, W), sequences (N, C, L) or features (N, D), got {x.shape}")
    cache = ReshapeCache(x.shape, (x.shape[0], *resolved(x.shape[1:], new_shape(shape))))
    return _reshaped(x, cache.out_shape), cache


def reshape_backward(dy: Array, cache: ReshapeCache) -> Array:
    """The gradient of `reshape` for any dy, of y's shape: the same numbers in x's shape."""
    cached("reshape", cache, ReshapeCache)
    return _reshaped(output_gradient("reshape_backward", dy, cache.out_shape), cache.in_shape)


def new_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape, if it is one of one to three lengths, of which one may be -1."""
    expected = "reshape's shape is a tuple of one to three lengths, such as (16, 7, 7), of which one may be -1"
    if not isinstance(shape, (tuple, list)) or not all(map(is_integer, shape)):
        raise TypeError(f"{expected}, got {told(shape)}")
    if not 1 <= len(shape) <= 3 or min(shape) < -1 or 0 in shape or list(shape).count(-1) > 1:
        raise ValueError(f"{expected}, got {told(shape)}")
    return tuple(map(int, shape))


def resolved(in_shape: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with what is left for -1. Raises ValueError where it isn't of as many numbers as `in_shape`."""
    count, known = math.prod(in_shape), abs(math.prod(shape))
    if (count % known if -1 in shape else count != known) or not count:
        raise ValueError(f"reshape({shape}) expects as many numbers as it gives, got {in_shape}, which is {count:,}")
    return tuple(count // known if length == -1 else length for length in shape)


def _reshaped(x: Array, shape: tuple[int, ...]) -> Array:
    n = x.shape[0]
    numbers = np.ascontiguousarray(np.moveaxis(x, 0, -1)).reshape(*shape[1:], n)  # in C, H, W, N order
    memory = numbers.swapaxes(0, 1) if len(shape) > 2 else numbers
    return _owned(unblock(np.ascontiguousarray(memory)), x)


def _owned(result: Array, source: Array) -> Array:
    """A result that may be a view of its source (where C is 1, say): read-only without a needless copy."""
    return keep(result) if np.may_share_memory(result, source) else frozen(result)
