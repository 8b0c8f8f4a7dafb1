"""Window arithmetic shared by convolution and pooling: sizes, padding, and the view of one window offset.

A window of K at stride s over a padded length P has (P - K) // s + 1 positions; what doesn't tile is left out.
"""

from typing import Literal, TypeAlias

import attrs
import numpy as np

from fcnn.values.allocation import empty
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import Pair, pair, told

Padding: TypeAlias = Pair | Literal["same"]
Pads: TypeAlias = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))


def pads_of(in_size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: Padding) -> Pads:
    """The rows and columns to add on each side of an image of `in_size` (H, W).

    "same" gives ceil(size / stride) positions; an odd number is split with the greater part after, as PyTorch and
    TensorFlow do.
    """
    if isinstance(padding, str):
        if padding != "same":
            raise ValueError(f'padding is an integer, a pair (height, width) or "same", got {told(padding)}')
        return _same(in_size[0], kernel[0], stride[0]), _same(in_size[1], kernel[1], stride[1])
    height, width = pair("padding", padding, least=0)
    return (height, height), (width, width)


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
    in_size: tuple[int, int], kernel: tuple[int, int], stride: Pair, padding: Padding
) -> tuple[tuple[int, int], Pads, tuple[int, int]]:
    """The stride as a pair, the padding as rows and columns, and (OH, OW)."""
    steps = pair("stride", stride, least=1)
    pads = pads_of(in_size, kernel, steps, padding)
    return steps, pads, out_size(in_size, kernel, steps, pads)


@attrs.frozen
class Geometry:
    """Where the windows of a convolution lie, from a block (H, C, W, N) to a block (OH, F, OW, N)."""

    in_shape: tuple[int, int, int, int]  # H, C, W, N
    filters: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: Pads
    out: tuple[int, int]  # OH, OW

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        """OH, F, OW, N."""
        return self.out[0], self.filters, self.out[1], self.in_shape[3]

    @classmethod
    def of(cls, x: tuple[int, ...], w: tuple[int, ...], stride: Pair, padding: Padding) -> "Geometry":
        """That of images (N, C, H, W) and filters (F, C, KH, KW) of these shapes. Raises ValueError as `windows`."""
        n, channels, height, width = x
        steps, pads, out = windows((height, width), (w[2], w[3]), stride, padding)
        return cls((height, channels, width, n), w[0], (w[2], w[3]), steps, pads, out)

    def transposed(self) -> "Geometry":
        """That of the input's gradient as a convolution of the output's, at stride 1."""
        (height, channels, width, _), (kh, kw), ((top, bottom), (left, right)) = self.in_shape, self.kernel, self.pads
        pads = ((kh - 1 - top, kh - 1 - bottom), (kw - 1 - left, kw - 1 - right))
        return Geometry(self.out_shape, channels, self.kernel, (1, 1), pads, (height, width))

    @property
    def macs(self) -> int:
        """Multiply-adds of one of the three products, if all of them are made."""
        oh, filters, ow, n = self.out_shape
        return oh * filters * ow * n * self.in_shape[1] * self.kernel[0] * self.kernel[1]


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
