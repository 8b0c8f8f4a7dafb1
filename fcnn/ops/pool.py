"""Max, average and global average pooling.

A pool is a running maximum or sum over the KH * KW views that hold, for every window, its element at one offset. With
the batch innermost each view consists of long runs, so this is several times faster than an argmax over windows.
"""

from collections.abc import Iterator

import attrs
import numpy as np

from fcnn.ops.layout import Array, block, frozen, keep, unblock
from fcnn.ops.window import Padding, Pads, Pair, at_offset, check_dy, crop_block, out_size, pad_block, pads, pair


@attrs.frozen
class Plan:
    """Where the windows lie: the images' shape (N, C, H, W), the window, its steps and padding, and (OH, OW)."""

    in_shape: tuple[int, ...]
    window: tuple[int, int]
    stride: tuple[int, int]
    around: Pads
    out: tuple[int, int]


@attrs.frozen
class MaxPoolCache:
    """What `max_pool2d_backward` needs: the padded input block (H, C, W, N) and the output block (OH, C, OW, N)."""

    plan: Plan
    padded: Array
    y: Array


def max_pool2d(
    x: Array, window: Pair, *, stride: Pair | None = None, padding: Padding = 0
) -> tuple[Array, MaxPoolCache]:
    """The greatest number in each window.

    Args:
        x: images, (N, C, H, W).
        window: in pixels, an int or (height, width).
        stride: in pixels; the window's size when None.
        padding: in pixels, as in `fcnn.ops.conv2d`; the border never wins.

    Returns:
        y, (N, C, OH, OW) with OH = (H + padding - window) // stride + 1; and the cache for `max_pool2d_backward`.

    >>> max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)[0]
    array([[[[ 5.,  7.], [13., 15.]]]])
    """
    plan = _plan("max_pool2d", x, window, stride, padding)
    padded = pad_block(block(x), plan.around, -np.inf)
    views = _views(padded, plan)
    y = np.array(next(views))
    for view in views:
        np.maximum(y, view, out=y)
    return frozen(unblock(y)), MaxPoolCache(plan, keep(padded), y)


def max_pool2d_backward(dy: Array, cache: MaxPoolCache) -> Array:
    """The gradient of `max_pool2d` for any dy, (N, C, OH, OW): it goes to the *first* maximum of each window."""
    check_dy("max_pool2d_backward", dy, (*cache.plan.in_shape[:2], *cache.plan.out))
    out = block(dy)
    free = np.ones(out.shape, bool)  # windows whose maximum has not been met yet
    hit = np.empty_like(free)
    dpadded = np.zeros(cache.padded.shape, dy.dtype)
    for target, view in zip(_views(dpadded, cache.plan), _views(cache.padded, cache.plan), strict=True):
        np.equal(view, cache.y, out=hit)
        hit &= free
        free ^= hit
        target += out * hit
    return frozen(unblock(crop_block(dpadded, cache.plan.around)))


def avg_pool2d(x: Array, window: Pair, *, stride: Pair | None = None, padding: Padding = 0) -> tuple[Array, Plan]:
    """The mean of each window; padded zeros count, as in PyTorch's default. Arguments and shapes as `max_pool2d`.

    >>> avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)[0]
    array([[[[ 2.5,  4.5], [10.5, 12.5]]]])
    """
    plan = _plan("avg_pool2d", x, window, stride, padding)
    views = _views(pad_block(block(x), plan.around), plan)
    y = np.array(next(views))
    for view in views:
        y += view
    y *= 1 / (plan.window[0] * plan.window[1])
    return frozen(unblock(y)), plan


def avg_pool2d_backward(dy: Array, cache: Plan) -> Array:
    """The gradient of `avg_pool2d` for any dy, (N, C, OH, OW): each pixel of a window gets an equal share."""
    check_dy("avg_pool2d_backward", dy, (*cache.in_shape[:2], *cache.out))
    share = block(dy) * (1 / (cache.window[0] * cache.window[1]))
    n, c, h, w = cache.in_shape
    (top, bottom), (left, right) = cache.around
    dpadded = np.zeros((h + top + bottom, c, w + left + right, n), dy.dtype)
    for target in _views(dpadded, cache):
        target += share
    return frozen(unblock(crop_block(dpadded, cache.around)))


def global_avg_pool2d(x: Array) -> tuple[Array, tuple[int, ...]]:
    """The mean over all pixels of each channel: images (N, C, H, W) to features (N, C); the cache is x's shape.

    >>> global_avg_pool2d(np.ones((2, 3, 4, 4)))[0].shape
    (2, 3)
    """
    if x.ndim != 4:
        raise ValueError(f"global_avg_pool2d expects images (N, C, H, W), got {x.shape}")
    return frozen(unblock(block(x).mean(axis=(0, 2)))), x.shape


def global_avg_pool2d_backward(dy: Array, cache: tuple[int, ...]) -> Array:
    """The gradient of `global_avg_pool2d` for any dy, (N, C)."""
    n, c, h, w = cache
    check_dy("global_avg_pool2d_backward", dy, (n, c))
    dx = np.empty((h, c, w, n), dy.dtype)
    dx[:] = (block(dy) * (1 / (h * w)))[None, :, None, :]
    return frozen(unblock(dx))


def _plan(name: str, x: Array, window: Pair, stride: Pair | None, padding: Padding) -> Plan:
    if x.ndim != 4:
        raise ValueError(f"{name} expects images (N, C, H, W), got {x.shape}")
    size = pair("window", window, least=1)
    steps = size if stride is None else pair("stride", stride, least=1)
    around, out = pool_window(name, (x.shape[2], x.shape[3]), size, steps, padding)
    return Plan(x.shape, size, steps, around, out)


def pool_window(
    name: str, in_size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int], padding: Padding
) -> tuple[Pads, tuple[int, int]]:
    """A pool's padding and its output's (OH, OW). Raises ValueError where a window would hold no pixel."""
    around = pads(in_size, window, stride, padding)
    if max(around[0]) >= window[0] or max(around[1]) >= window[1]:
        raise ValueError(f"{name}: padding {padding!r} leaves windows of {window[0]}x{window[1]} that hold no pixel")
    return around, out_size(in_size, window, stride, around)


def _views(padded: Array, plan: Plan) -> Iterator[Array]:
    """For each offset in the window, in reading order, the (OH, C, OW, N) view of the windows' elements there."""
    for k in range(plan.window[0]):
        for j in range(plan.window[1]):
            yield at_offset(padded, (k, j), plan.out, plan.stride)
