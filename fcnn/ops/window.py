"""Window arithmetic shared by convolution and pooling: sizes, padding, and the view of one window offset.

A window of K at stride s over a padded length P has (P - K) // s + 1 positions; what doesn't tile is left out. With
dilation d a filter's taps stand d pixels apart, so its window is (K - 1) * d + 1 pixels long.
"""

from typing import Literal, TypeAlias, TypeGuard

import attrs
import numpy as np

from fcnn.values.allocation import empty
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import Pair, pair, told

Pads: TypeAlias = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))
Padding: TypeAlias = Pair | Pads | Literal["same"]


def pads_of(in_size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: Padding) -> Pads:
    """The rows and columns to add on each side of an image of `in_size` (H, W), for a window of `kernel` pixels.

    `padding` is an integer, (vertical, horizontal), ((top, bottom), (left, right)), or "same": that gives
    ceil(size / stride) positions; an odd number is split with the greater part after, as PyTorch and TensorFlow do.
    """
    if isinstance(padding, str):
        if padding != "same":
            expected = 'padding is an integer, a pair (height, width), ((top, bottom), (left, right)) or "same"'
            raise ValueError(f"{expected}, got {told(padding)}")
        return _same(in_size[0], kernel[0], stride[0]), _same(in_size[1], kernel[1], stride[1])
    if _is_per_side(padding):
        down, across = padding
        return (
            pair("padding of the height", down, least=0, sides="(top, bottom)"),
            pair("padding of the width", across, least=0, sides="(left, right)"),
        )
    height, width = pair("padding", padding, least=0)
    return (height, height), (width, width)


def _is_per_side(padding: Padding) -> TypeGuard[Pads]:
    sides = padding if isinstance(padding, (tuple, list)) else ()
    return len(sides) == 2 and all(isinstance(side, (tuple, list)) for side in sides)


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def out_size(in_size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], pads: Pads) -> tuple[int, int]:
    """How many window positions there are (OH, OW). Raises ValueError if the window fits nowhere."""
    sizes = []
    for axis in range(2):
        padded = in_size[axis] + sum(pads[axis])
        if padded < kernel[axis]:
            raise ValueError(
                f"a window of {kernel[0]}x{kernel[1]} does not fit into {in_size[0]}x{in_size[1]} "
                f"with padding {pads[0]} x {pads[1]}; use a smaller window or more padding"
            )
        sizes.append((padded - kernel[axis]) // stride[axis] + 1)
    return sizes[0], sizes[1]


def windows(
    in_size: tuple[int, int],
    kernel: tuple[int, int],
    stride: Pair,
    padding: Padding,
    dilation: tuple[int, int] = (1, 1),
) -> tuple[tuple[int, int], Pads, tuple[int, int]]:
    """The stride as a pair, the padding as rows and columns, and (OH, OW)."""
    steps, window = pair("stride", stride, least=1), extent(kernel, dilation)
    pads = pads_of(in_size, window, steps, padding)
    return steps, pads, out_size(in_size, window, steps, pads)


def extent(kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    """The height and width in pixels of a window whose taps stand `dilation` pixels apart."""
    return (kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1


@attrs.frozen
class Geometry:
    """Where the windows of a convolution lie, from a block (H, C, W, N) to a block (OH, F, OW, N)."""

    in_shape: tuple[int, int, int, int]  # H, C, W, N
    filters: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: Pads
    out: tuple[int, int]  # OH, OW
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        """OH, F, OW, N."""
        return self.out[0], self.filters, self.out[1], self.in_shape[3]

    @property
    def window(self) -> tuple[int, int]:
        """Its height and width in pixels."""
        return extent(self.kernel, self.dilation)

    @classmethod
    def of(
        cls,
        x: tuple[int, ...],
        w: tuple[int, ...],
        stride: Pair,
        padding: Padding,
        dilation: Pair = 1,
        groups: int = 1,
    ) -> "Geometry":
        """That of images (N, C, H, W) and filters (F, C / groups, KH, KW) of these shapes.

        Raises ValueError as `windows`.
        """
        n, channels, height, width = x
        apart = pair("dilation", dilation, least=1)
        steps, pads, out = windows((height, width), (w[2], w[3]), stride, padding, apart)
        return cls((height, channels, width, n), w[0], (w[2], w[3]), steps, pads, out, apart, groups)

    def transposed(self) -> "Geometry":
        """That of the input's gradient as a convolution of the output's, at stride 1."""
        (height, channels, width, _), (kh, kw), ((top, bottom), (left, right)) = self.in_shape, self.window, self.pads
        pads = ((kh - 1 - top, kh - 1 - bottom), (kw - 1 - left, kw - 1 - right))
        return attrs.evolve(self, in_shape=self.out_shape, filters=channels, pads=pads, out=(height, width))

    @property
    def macs(self) -> int:
        """Multiply-adds of one of the three products, if all of them are made."""
        oh, filters, ow, n = self.out_shape
        return oh * filters * ow * n * self.in_shape[1] // self.groups * self.kernel[0] * self.kernel[1]


def pad_block(block: Array, pads: Pads, value: float = 0.0) -> Array:
    """A read-only (H, C, W, N) block with a border of `value`; the block itself where there is none."""
    (top, bottom), (left, right) = pads
    if not (top or bottom or left or right):
        return block
    h, c, w, n = block.shape
    padded = empty((h + top + bottom, c, w + left + right, n), block.dtype)
    padded.fill(value)
    padded[top : top + h, :, left : left + w] = block
    return frozen(padded)


def crop_block(block: Array, pads: Pads) -> Array:
    """The inner part of a padded (H, C, W, N) block, contiguous; the adjoint of `pad_block`."""
    (top, bottom), (left, right) = pads
    return np.ascontiguousarray(block[top : block.shape[0] - bottom, :, left : block.shape[2] - right])
