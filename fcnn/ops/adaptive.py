"""Average pooling into a given number of windows, whatever the images' size: one for each channel, or rows and columns.

Window i of h along a height H reaches from floor(i * H / h) to ceil((i + 1) * H / h), as in PyTorch: where H is no
multiple of h neighbours share a row, and where h is more than H a row is in several windows.
"""

from typing import Any

import attrs
import numpy as np

from fcnn.ops.layout import block, unblock
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import Pair, cached, cached_shape, floats, output_gradient, pair


def global_avg_pool2d(x: Array) -> tuple[Array, tuple[int, ...]]:
    """The mean over all pixels of each channel: images (N, C, H, W) to features (N, C); the cache is x's shape.

    >>> global_avg_pool2d(np.ones((2, 3, 4, 4)))[0].shape
    (2, 3)
    """
    x = floats("global_avg_pool2d's x", x)
    if x.ndim != 4:
        raise ValueError(f"global_avg_pool2d expects images (N, C, H, W), got {x.shape}")
    if 0 in x.shape[2:]:
        raise ValueError(f"global_avg_pool2d expects images of at least one pixel, got {x.shape}")
    # Along the height, then along the width: one sum over all pixels would round as often as there are pixels.
    y = block(x).sum(axis=0).sum(axis=1)
    y *= 1 / (x.shape[2] * x.shape[3])
    return frozen(unblock(y)), x.shape


def global_avg_pool2d_backward(dy: Array, cache: tuple[int, ...]) -> Array:
    """The gradient of `global_avg_pool2d` for any dy, (N, C)."""
    n, c, h, w = cached_shape("global_avg_pool2d", cache, (4,))
    dy = output_gradient("global_avg_pool2d_backward", dy, (n, c))
    dx = np.empty((h, c, w, n), dy.dtype)
    dx[:] = (block(dy) * (1 / (h * w)))[None, :, None, :]
    return frozen(unblock(dx))


@attrs.frozen
class AdaptivePlan:
    """The images' shape (N, C, H, W), and into how many windows they are divided, (h, w)."""

    in_shape: tuple[int, ...]
    out: tuple[int, int]


def adaptive_avg_pool2d(x: Array, size: Pair) -> tuple[Array, AdaptivePlan]:
    """The mean of each of h * w windows that divide an image, as PyTorch divides it.

    Args:
        x: images, (N, C, H, W), of any size from one pixel on.
        size: how many windows, an int or (rows, columns).

    Returns:
        y, (N, C, h, w); and the cache for `adaptive_avg_pool2d_backward`.

    >>> adaptive_avg_pool2d(np.arange(12.0).reshape(1, 1, 3, 4), 2)[0]
    array([[[[2.5, 4.5], [6.5, 8.5]]]])
    """
    x = floats("adaptive_avg_pool2d's x", x)
    if x.ndim != 4:
        raise ValueError(f"adaptive_avg_pool2d expects images (N, C, H, W), got {x.shape}")
    if 0 in x.shape[2:]:
        raise ValueError(f"adaptive_avg_pool2d expects images of at least one pixel, got {x.shape}")
    plan = AdaptivePlan(x.shape, pair("size", size, least=1))
    y = _sums(_sums(block(x), 0, plan.out[0]), 2, plan.out[1])
    y *= _share(plan, x.dtype)
    return frozen(unblock(y)), plan


def adaptive_avg_pool2d_backward(dy: Array, cache: AdaptivePlan) -> Array:
    """The gradient of `adaptive_avg_pool2d` for any dy, (N, C, h, w): each pixel of a window gets an equal share."""
    plan = cached("adaptive_avg_pool2d", cache, AdaptivePlan)
    n, c, h, w = plan.in_shape
    dy = output_gradient("adaptive_avg_pool2d_backward", dy, (n, c, *plan.out))
    share = block(dy) * _share(plan, dy.dtype)
    return frozen(unblock(_spread(_spread(share, 2, w), 0, h)))


def _windows(size: int, count: int) -> list[slice]:
    return [slice(k * size // count, -(-(k + 1) * size // count)) for k in range(count)]


def _share(plan: AdaptivePlan, dtype: np.dtype[Any]) -> Array:
    """What a number is multiplied by in the mean of its window, (h, 1, w, 1)."""
    height, width = (
        [window.stop - window.start for window in _windows(size, count)]
        for size, count in zip(plan.in_shape[2:], plan.out, strict=True)
    )
    return (1 / np.multiply.outer(height, width)).astype(dtype)[:, None, :, None]


def _sums(memory: Array, axis: int, count: int) -> Array:
    """The sums over so many windows along an axis."""
    sums = np.empty((*memory.shape[:axis], count, *memory.shape[axis + 1 :]), memory.dtype)
    places, totals = np.moveaxis(memory, axis, 0), np.moveaxis(sums, axis, 0)
    for window, total in zip(_windows(len(places), count), totals, strict=True):
        np.add.reduce(places[window], axis=0, out=total)
    return sums


def _spread(shares: Array, axis: int, size: int) -> Array:
    """Each window's share in all its places, of which there are so many along an axis; the transpose of `_sums`."""
    count = shares.shape[axis]
    apart = size % count == 0  # no place is in two windows, so there is nothing to add up
    shape = (*shares.shape[:axis], size, *shares.shape[axis + 1 :])
    spread = (np.empty if apart else np.zeros)(shape, shares.dtype)
    places = np.moveaxis(spread, axis, 0)
    for window, share in zip(_windows(size, count), np.moveaxis(shares, axis, 0), strict=True):
        if apart:
            places[window] = share
        else:
            places[window] += share
    return spread
