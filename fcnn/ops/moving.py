"""Images mirrored, or moved by whole pixels: each pixel of the output is one of the image, or black."""

from typing import Literal

import attrs
import numpy as np

from fcnn.ops.layout import block, unblock
from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import cached, cached_shape, floats, integer, one_of, output_gradient

Edge = Literal["reflect", "zero"]

MOST_PIXELS = 1 << 20  # that images are moved by; far more can't be added to a place in an image


def mirror(x: Array) -> tuple[Array, tuple[int, ...]]:
    """Images mirrored left to right: y[n, c, i, j] = x[n, c, i, W - 1 - j].

    Args:
        x: images, (N, C, H, W).

    Returns:
        y, (N, C, H, W); and the cache for `mirror_backward`.

    >>> mirror(np.arange(3.0).reshape(1, 1, 1, 3))[0]
    array([[[[2., 1., 0.]]]])
    """
    x = _images("mirror", x)
    return _mirrored(x), x.shape


def mirror_backward(dy: Array, cache: tuple[int, ...]) -> Array:
    """The gradient of `mirror` for any dy, (N, C, H, W): its mirror image."""
    return _mirrored(output_gradient("mirror_backward", dy, cached_shape("mirror", cache, (4,))))


@attrs.frozen
class ShiftPlan:
    """The images' shape (N, C, H, W), by how much they are moved, and what comes in at their edges."""

    shape: tuple[int, ...]
    by: tuple[int, int]
    mode: Edge


def shift(x: Array, down: int, right: int, *, mode: Edge = "reflect") -> tuple[Array, ShiftPlan]:
    """Images moved by whole pixels: y[n, c, i, j] = x[n, c, i - down, j - right].

    Args:
        x: images, (N, C, H, W).
        down, right: by how many pixels; below 0 up and left.
        mode: what comes in at the edges: "reflect" the image mirrored at its edge pixels, as `np.pad` means it, or
            "zero", black. The same as padding and cropping.

    Returns:
        y, (N, C, H, W); and the cache for `shift_backward`.

    Raises ValueError where "reflect" moves images by their height or width, or more.

    >>> shift(np.arange(4.0).reshape(1, 1, 1, 4), 0, 2)[0]
    array([[[[2., 1., 0., 1.]]]])
    >>> shift(np.arange(4.0).reshape(1, 1, 1, 4), 0, -1, mode="zero")[0]
    array([[[[1., 2., 3., 0.]]]])
    """
    x, by = _images("shift", x), shift_by(down, right, mode)
    expect_to_reflect(f"shift{by}", by, x.shape[2:], mode)
    plan = ShiftPlan(x.shape, by, mode)
    if by == (0, 0):
        return keep(x), plan
    return frozen(unblock(_moved(_moved(block(x), 0, by[0], mode), 2, by[1], mode))), plan


def shift_backward(dy: Array, cache: ShiftPlan) -> Array:
    """The gradient of `shift` for any dy, (N, C, H, W): moved back, and what was reflected added where it was taken."""
    plan = cached("shift", cache, ShiftPlan)
    dy = output_gradient("shift_backward", dy, plan.shape)
    if plan.by == (0, 0):
        return keep(dy)
    return frozen(unblock(_moved_back(_moved_back(block(dy), 0, plan.by[0], plan.mode), 2, plan.by[1], plan.mode)))


def shift_by(down: int, right: int, mode: Edge) -> tuple[int, int]:
    """(down, right), if a shift takes these arguments."""
    one_of("shift's mode", mode, ("reflect", "zero"))
    both = (("down", down), ("right", right))
    found = [integer(f"shift's {name}", value, least=-MOST_PIXELS, most=MOST_PIXELS) for name, value in both]
    return found[0], found[1]


def expect_to_reflect(call: str, by: tuple[int, int], size: tuple[int, ...], mode: str) -> None:
    """Raise ValueError where images of that size have no pixels to be reflected."""
    if mode == "reflect" and (abs(by[0]) >= size[0] or abs(by[1]) >= size[1]):
        most = max(map(abs, by))
        raise ValueError(f"{call} reflects within images larger than {most}, got {size[0]}x{size[1]}")


def reflected(places: Array, size: int) -> Array:
    """Whole numbers beyond 0 to `size` - 1, by less than `size`, mirrored at these."""
    mirrored: Array = (size - 1) - np.abs((size - 1) - np.abs(places))
    return mirrored


def _images(name: str, x: Array) -> Array:
    x = floats(f"{name}'s x", x)
    if x.ndim != 4:
        raise ValueError(f"{name} expects images (N, C, H, W), got {x.shape}")
    return x


def _mirrored(x: Array) -> Array:
    return frozen(unblock(np.array(block(x)[:, :, ::-1], order="C")))


def _moved(memory: Array, axis: int, by: int, mode: Edge) -> Array:
    """A block moved along an axis."""
    size = memory.shape[axis]
    if mode == "reflect":
        return memory.take(reflected(np.arange(size) - by, size), axis=axis)
    moved = np.zeros_like(memory)
    there, here = np.moveaxis(moved, axis, 0), np.moveaxis(memory, axis, 0)
    there[max(by, 0) : max(size + by, 0)] = here[max(-by, 0) : max(size - by, 0)]
    return moved


def _moved_back(memory: Array, axis: int, by: int, mode: Edge) -> Array:
    """The transpose of `_moved`."""
    moved = _moved(memory, axis, -by, "zero")
    if mode == "reflect":
        size = memory.shape[axis]
        there, here = np.moveaxis(moved, axis, 0), np.moveaxis(memory, axis, 0)
        for place in range(by) if by > 0 else range(size + by, size):  # what came in at the edge
            there[reflected(np.array(place - by), size)] += here[place]
    return moved
