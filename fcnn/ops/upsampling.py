"""Images made larger by whole factors, as PyTorch's `interpolate` does: each pixel repeated, or linear between pixels.

Either is done along the width, then along the height, and is a linear map; backwards goes its transpose.
"""

from collections.abc import Iterator
from typing import Literal

import attrs
import numpy as np

from fcnn.ops.layout import block, unblock
from fcnn.values.allocation import empty
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import Pair, boolean, cached, floats, one_of, output_gradient, pair

Mode = Literal["nearest", "bilinear"]


@attrs.frozen
class UpsamplePlan:
    """The images' shape (N, C, H, W), by how much they grow, and how."""

    in_shape: tuple[int, ...]
    scale: tuple[int, int]
    mode: Mode
    align_corners: bool

    @property
    def out(self) -> tuple[int, int]:
        """The height and width of the output."""
        return self.in_shape[2] * self.scale[0], self.in_shape[3] * self.scale[1]


def upsample(
    x: Array, scale: Pair, *, mode: Mode = "nearest", align_corners: bool = False
) -> tuple[Array, UpsamplePlan]:
    """Images with `scale` times as many rows and columns.

    Args:
        x: images, (N, C, H, W).
        scale: an int or (vertical, horizontal).
        mode: "nearest" repeats each pixel; "bilinear" takes what lies on the lines between the four nearest.
        align_corners: of "bilinear": where an output's pixel i lies in the image. At i (H - 1) / (s H - 1), so that the
            corners' middles are the same, or else at (i + 1/2) / s - 1/2, so that the corners are, and what lies
            outside the middles is as the nearest pixel.

    Returns:
        y, (N, C, scale * H, scale * W); and the cache for `upsample_backward`.

    >>> upsample(np.arange(2.0).reshape(1, 1, 1, 2), (1, 2))[0]
    array([[[[0., 0., 1., 1.]]]])
    >>> upsample(np.arange(2.0).reshape(1, 1, 1, 2), (1, 2), mode="bilinear")[0]
    array([[[[0.  , 0.25, 0.75, 1.  ]]]])
    """
    x = floats("upsample's x", x)
    if x.ndim != 4:
        raise ValueError(f"upsample expects images (N, C, H, W), got {x.shape}")
    scales = upsample_scale(scale, mode, align_corners)
    plan, memory = UpsamplePlan(x.shape, scales, mode, bool(align_corners)), block(x)
    if mode == "nearest":
        y = _repeated(_repeated(memory, 2, scales[1]), 0, scales[0])
    else:
        y = _between(_between(memory, 2, scales[1], align_corners), 0, scales[0], align_corners)
    return frozen(unblock(y)), plan


def upsample_backward(dy: Array, cache: UpsamplePlan) -> Array:
    """The gradient of `upsample` for any dy, (N, C, scale * H, scale * W)."""
    plan = cached("upsample", cache, UpsamplePlan)
    memory = block(output_gradient("upsample_backward", dy, (*plan.in_shape[:2], *plan.out)))
    if plan.mode == "nearest":
        dx = _summed(_summed(memory, 0, plan.scale[0]), 2, plan.scale[1])
    else:
        dx = _gathered(_gathered(memory, 0, plan.scale[0], plan.align_corners), 2, plan.scale[1], plan.align_corners)
    return frozen(unblock(dx))


def upsample_scale(scale: Pair, mode: Mode, align_corners: bool) -> tuple[int, int]:
    """The scale as (vertical, horizontal), if the three go together."""
    one_of("upsample's mode", mode, ("nearest", "bilinear"))
    if boolean("align_corners", align_corners) and mode == "nearest":
        raise ValueError('upsample: align_corners is for mode="bilinear"; "nearest" repeats each pixel')
    return pair("scale", scale, least=1)


def _repeated(memory: Array, axis: int, scale: int) -> Array:
    shape = memory.shape
    grown = empty((*shape[: axis + 1], scale, *shape[axis + 1 :]), memory.dtype)
    for target in np.moveaxis(grown, axis + 1, 0):
        target[...] = memory
    return grown.reshape(*shape[:axis], shape[axis] * scale, *shape[axis + 1 :])


def _summed(memory: Array, axis: int, scale: int) -> Array:
    """The transpose of `_repeated`."""
    shape = memory.shape
    parts = memory.reshape(*shape[:axis], shape[axis] // scale, scale, *shape[axis + 1 :])
    first, *others = np.moveaxis(parts, axis + 1, 0)
    total = np.array(first)
    for one in others:
        total += one
    return total


@attrs.frozen
class _Taps:
    """Places along an axis of the output, each of two in the image: (1 - part) of `low` and `part` of `high`."""

    places: slice
    low: slice
    high: slice
    part: float


def _between(memory: Array, axis: int, scale: int, align_corners: bool) -> Array:
    shape = memory.shape
    y = empty((*shape[:axis], shape[axis] * scale, *shape[axis + 1 :]), memory.dtype)
    source, target = np.moveaxis(memory, axis, 0), np.moveaxis(y, axis, 0)
    for taps in _taps(shape[axis], scale, align_corners):
        there = target[taps.places]
        np.multiply(source[taps.low], 1 - taps.part, out=there)
        if taps.part:  # else an infinity in `high` would be NaN here
            there += taps.part * source[taps.high]
    return y


def _gathered(memory: Array, axis: int, scale: int, align_corners: bool) -> Array:
    """The transpose of `_between`."""
    shape = memory.shape
    dx = np.zeros((*shape[:axis], shape[axis] // scale, *shape[axis + 1 :]), memory.dtype)
    source, target = np.moveaxis(memory, axis, 0), np.moveaxis(dx, axis, 0)
    for taps in _taps(len(target), scale, align_corners):
        dy = source[taps.places]
        target[taps.low] += (1 - taps.part) * dy
        if taps.part:
            target[taps.high] += taps.part * dy
    return dx


def _taps(size: int, scale: int, align_corners: bool) -> Iterator[_Taps]:
    """All places of an axis of `size` times `scale`, those together that have the same part."""

    def one(place: int, low: int, part: float) -> _Taps:
        high = min(low + 1, size - 1)
        return _Taps(slice(place, place + 1), slice(low, low + 1), slice(high, high + 1), part)

    if align_corners:
        for place in range(size * scale):
            low, rest = divmod(place * (size - 1), max(size * scale - 1, 1))
            yield one(place, low, rest / max(size * scale - 1, 1))
        return
    for first in range(scale):  # and each `scale`-th place after it
        at = (first + 0.5) / scale - 0.5
        before = at < 0  # the first place is before the middle of pixel 0, and else the last is beyond the last one's
        begin = first + scale if before else first
        places = slice(begin, begin + scale * (size - 1), scale)
        yield _Taps(places, slice(0, size - 1), slice(1, size), at + 1 if before else at)
        yield one(first, 0, 0.0) if before else one(first + scale * (size - 1), size - 1, 0.0)
