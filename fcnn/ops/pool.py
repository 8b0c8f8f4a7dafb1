"""Max and average pooling over windows of one size; those that divide an image are in `fcnn.ops.adaptive`.

A pool is made of two in one dimension: along the width, then along the height. Each is a running maximum or sum over
the K views that hold, for every window, its element at one offset. With the batch innermost each view consists of
long runs, so this is many times faster than an argmax over windows.
"""

import math
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np

from fcnn.ops.layout import block, unblock
from fcnn.ops.window import Padding, Pads, crop_block, out_size, pad_block, pads_of
from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import Pair, boolean, cached, floats, output_gradient, pair, told


@attrs.frozen
class PoolPlan:
    """Where the windows lie: the images' shape (N, C, H, W), the window, its steps and padding, and (OH, OW).

    counts: how many numbers a window's mean is taken of, along the height (OH,) and along the width (OW,); None where
        all windows count whole.
    """

    in_shape: tuple[int, ...]
    window: tuple[int, int]
    stride: tuple[int, int]
    pads: Pads
    out: tuple[int, int]
    counts: tuple[tuple[int, ...], tuple[int, ...]] | None = None


@attrs.frozen
class MaxPoolCache:
    """What `max_pool2d_backward` needs: the padded input block, the maxima along its rows, and those of the windows.

    Their shapes are (H, C, W, N), (H, C, OW, N) and (OH, C, OW, N).
    """

    plan: PoolPlan
    padded: Array
    rows: Array
    y: Array


def max_pool2d(
    x: Array, window: Pair, *, stride: Pair | None = None, padding: Padding = 0, ceil_mode: bool = False
) -> tuple[Array, MaxPoolCache]:
    """The greatest number in each window.

    Args:
        x: images, (N, C, H, W).
        window: in pixels, an int or (height, width).
        stride: in pixels; the window's size when None.
        padding: in pixels, as in `fcnn.ops.conv2d`; the border never wins.
        ceil_mode: whether what doesn't tile has a window too, which reaches beyond the padding. As in PyTorch, it
            begins in the image or in the padding before it.

    Returns:
        y, (N, C, OH, OW) with OH = (H + padding - window) // stride + 1, the quotient rounded up in `ceil_mode`; and
        the cache for `max_pool2d_backward`.

    >>> max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)[0]
    array([[[[ 5.,  7.], [13., 15.]]]])
    """
    x = floats("max_pool2d's x", x)
    plan = _plan("max_pool2d", x.shape, window, stride, padding, ceil_mode)
    padded = keep(pad_block(block(x), plan.pads, -np.inf))
    rows = frozen(_along(1, np.maximum, padded, plan))
    y = frozen(_along(0, np.maximum, rows, plan))
    return unblock(y), MaxPoolCache(plan, padded, rows, y)


def max_pool2d_backward(dy: Array, cache: MaxPoolCache) -> Array:
    """The gradient of `max_pool2d` for any dy, (N, C, OH, OW): it goes to the *first* maximum of each window.

    First in reading order: the first row that holds the maximum, and in it the first column. The border gets nothing,
    even where all pixels are -inf as well. NaN counts as greater than all numbers.
    """
    plan = cached("max_pool2d", cache, MaxPoolCache).plan
    memory = block(output_gradient("max_pool2d_backward", dy, (*plan.in_shape[:2], *plan.out)))
    to_first = _exactly_to_first if _is_special(cache) else _to_first
    drows = to_first(memory, cache.y, cache.rows, 0, plan)
    dpadded = to_first(drows, cache.rows, cache.padded, 1, plan)
    return frozen(unblock(crop_block(dpadded, plan.pads)))


def avg_pool2d(
    x: Array,
    window: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Array, PoolPlan]:
    """The mean of each window; other arguments and shapes as those of `max_pool2d`.

    Args:
        count_include_pad: whether padded zeros count; what `ceil_mode` adds beyond the padding never does.

    It is infinite where the sum of a window is beyond the dtype's numbers.

    >>> avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)[0]
    array([[[[ 2.5,  4.5], [10.5, 12.5]]]])
    """
    x = floats("avg_pool2d's x", x)
    plan = _plan("avg_pool2d", x.shape, window, stride, padding, ceil_mode)
    if not boolean("count_include_pad", count_include_pad) or ceil_mode:
        plan = attrs.evolve(plan, counts=_counts(plan, padding, count_include_pad))
    y = _along(0, np.add, _along(1, np.add, pad_block(block(x), plan.pads), plan), plan)
    y *= _share(plan, y.dtype)
    return frozen(unblock(y)), plan


def avg_pool2d_backward(dy: Array, cache: PoolPlan) -> Array:
    """The gradient of `avg_pool2d` for any dy, (N, C, OH, OW): each pixel of a window gets an equal share."""
    cached("avg_pool2d", cache, PoolPlan)
    dy = output_gradient("avg_pool2d_backward", dy, (*cache.in_shape[:2], *cache.out))
    share = block(dy) * _share(cache, dy.dtype)
    n, c, h, w = cache.in_shape
    (top, bottom), (left, right) = cache.pads
    drows = np.zeros((h + top + bottom, c, cache.out[1], n), dy.dtype)
    for target in _offsets(drows, 0, cache):
        target += share
    dpadded = np.zeros((h + top + bottom, c, w + left + right, n), dy.dtype)
    for target in _offsets(dpadded, 1, cache):
        target += drows
    return frozen(unblock(crop_block(dpadded, cache.pads)))


def _plan(
    name: str, shape: tuple[int, ...], window: Pair, stride: Pair | None, padding: Padding, ceil_mode: bool
) -> PoolPlan:
    if len(shape) != 4:
        raise ValueError(f"{name} expects images (N, C, H, W), got {shape}")
    size = pair("window", window, least=1)
    steps = size if stride is None else pair("stride", stride, least=1)
    pads, out = pool_window(name, (shape[2], shape[3]), size, steps, padding, boolean("ceil_mode", ceil_mode))
    return PoolPlan(shape, size, steps, pads, out)


def pool_window(
    name: str,
    in_size: tuple[int, int],
    window: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
    ceil_mode: bool = False,
) -> tuple[Pads, tuple[int, int]]:
    """A pool's padding, with what `ceil_mode` adds to it, and its output's (OH, OW).

    Raises ValueError where a window would hold no pixel.
    """
    pads = pads_of(in_size, window, stride, padding)
    if max(pads[0]) >= window[0] or max(pads[1]) >= window[1]:
        raise ValueError(
            f"{name}: padding {told(padding)} leaves windows of {window[0]}x{window[1]} that hold no pixel"
        )
    if ceil_mode:
        pads = (
            _to_whole(in_size[0], window[0], stride[0], pads[0]),
            _to_whole(in_size[1], window[1], stride[1], pads[1]),
        )
    return pads, out_size(in_size, window, stride, pads)


def _to_whole(size: int, window: int, stride: int, pads: tuple[int, int]) -> tuple[int, int]:
    """The padding with which also the last window is whole, if it begins in the image or in the padding before it."""
    before, after = pads
    room = size + before + after - window  # for steps
    last = -(-room // stride) * stride  # where the last window begins
    return before, after + (last - room if 0 <= last < size + before else 0)


def _counts(plan: PoolPlan, padding: Padding, padded: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How many numbers each window holds along the height and along the width: pixels, and if `padded` the padding."""
    size = plan.in_shape[2], plan.in_shape[3]
    pads = pads_of(size, plan.window, plan.stride, padding) if padded else ((0, 0), (0, 0))

    def along(axis: int) -> tuple[int, ...]:
        before, after = pads[axis]
        begins = [k * plan.stride[axis] - plan.pads[axis][0] for k in range(plan.out[axis])]
        ends = [min(begin + plan.window[axis], size[axis] + after) for begin in begins]
        return tuple(end - max(begin, -before) for begin, end in zip(begins, ends, strict=True))

    return along(0), along(1)


def _share(plan: PoolPlan, dtype: np.dtype[Any]) -> float | Array:
    """What a number is multiplied by in the mean of its window, for all or for each (OH, 1, OW, 1)."""
    if plan.counts is None:
        return 1 / (plan.window[0] * plan.window[1])
    height, width = plan.counts
    return (1 / np.multiply.outer(height, width)).astype(dtype)[:, None, :, None]


def _offsets(memory: Array, axis: int, plan: PoolPlan) -> Iterator[Array]:
    """For each offset in the window along the height (axis 0) or the width (1), the view of what stands there."""
    span = (plan.out[axis] - 1) * plan.stride[axis] + 1
    for k in range(plan.window[axis]):
        part = slice(k, k + span, plan.stride[axis])
        yield memory[part] if axis == 0 else memory[:, :, part]


def _along(axis: int, function: np.ufunc, memory: Array, plan: PoolPlan) -> Array:
    """The windows along one axis, each reduced to one number."""
    views = _offsets(memory, axis, plan)
    first = next(views)
    second = next(views, None)
    if second is None:
        return np.array(first)
    total: Array = function(first, second)
    for view in views:
        function(total, view, out=total)
    return total


def _to_first(dy: Array, y: Array, memory: Array, axis: int, plan: PoolPlan) -> Array:
    """The gradient of `memory`, whose windows along `axis` have the maxima y: dy goes to the first that equals it."""
    window, stride = plan.window[axis], plan.stride[axis]
    apart = window <= stride  # no element is in two windows, so there is nothing to add up
    tiled = window == stride and plan.out[axis] * stride == memory.shape[2 * axis]
    gradient = (np.empty if tiled and window > 1 else np.zeros)(memory.shape, dy.dtype)
    *targets, last = _offsets(gradient, axis, plan)
    rest = dy  # what no element has taken yet; the last one takes what is left
    for number, (target, view) in enumerate(zip(targets, _offsets(memory, axis, plan), strict=False), 1):
        hit = np.equal(view, y)
        if apart:
            taken = np.multiply(rest, hit, out=target)
            rest = np.subtract(rest, taken, out=last if number == len(targets) else None)
        else:
            taken = rest * hit
            target += taken
            rest = rest - taken
    if not (apart and targets):
        last += rest
    return gradient


def _is_special(cache: MaxPoolCache) -> bool:
    """Whether a window's maximum is NaN, which equals nothing, or -inf, as the border is."""
    y, bordered = cache.y, cache.plan.pads != ((0, 0), (0, 0))
    # No sum of squares is NaN but for NaN; that takes less time than asking for it, and so does the least number.
    return math.isnan(np.vdot(y, y)) or (bordered and y.size > 0 and y.min() == -np.inf)


def _exactly_to_first(dy: Array, y: Array, memory: Array, axis: int, plan: PoolPlan) -> Array:
    """As `_to_first`, slower, and right also where a maximum is NaN or that of the border."""
    gradient = np.zeros(memory.shape, dy.dtype)
    before, _ = plan.pads[axis]
    at = np.arange(plan.out[axis]) * plan.stride[axis]  # where the windows begin
    untaken = np.ones(y.shape, bool)  # the windows of which nothing was given away yet
    offsets = zip(_offsets(gradient, axis, plan), _offsets(memory, axis, plan), strict=True)
    for k, (target, view) in enumerate(offsets):
        inside = at + k >= before  # the border after the image comes later in a window than one of its pixels
        hit = (view == y) | (np.isnan(view) & np.isnan(y))
        hit &= inside[:, None, None, None] if axis == 0 else inside[:, None]
        hit &= untaken
        np.add(target, dy, out=target, where=hit)
        untaken &= ~hit
    return gradient
