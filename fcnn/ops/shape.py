"""Layers that change an array's shape and none of its numbers."""

import math

import numpy as np

from fcnn.ops.layout import block, unblock
from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import cached_shape, floats, output_gradient


def flatten(x: Array) -> tuple[Array, tuple[int, ...]]:
    """Images (N, C, H, W) to features (N, C * H * W), in C, H, W order; the cache is x's shape.

    >>> flatten(np.zeros((2, 3, 4, 5)))[0].shape
    (2, 60)
    """
    x = floats("flatten's x", x)
    if x.ndim == 2:
        return keep(x), x.shape
    if x.ndim != 4:
        raise ValueError(f"flatten expects images (N, C, H, W) or features (N, D), got {x.shape}")
    n, c, h, w = x.shape
    columns = np.ascontiguousarray(block(x).swapaxes(0, 1))  # (C, H, W, N)
    return _owned(unblock(columns.reshape(c * h * w, n)), x), x.shape


def flatten_backward(dy: Array, cache: tuple[int, ...]) -> Array:
    """The gradient of `flatten` for any dy, (N, C * H * W): the same numbers in x's shape."""
    shape = cached_shape("flatten", cache, (2, 4))
    dy = output_gradient("flatten_backward", dy, (shape[0], math.prod(shape[1:])))
    if len(shape) == 2:
        return keep(dy)
    n, c, h, w = shape
    rows = np.ascontiguousarray(block(dy).reshape(c, h, w, n).swapaxes(0, 1))  # (H, C, W, N)
    return _owned(unblock(rows), dy)


def _owned(result: Array, source: Array) -> Array:
    """A result that may be a view of its source (where C is 1, say): read-only without a needless copy."""
    return keep(result) if np.may_share_memory(result, source) else frozen(result)
