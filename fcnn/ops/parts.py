"""How a layer's output is cut into parts that fit into a core's cache, and shared out over the cores.

The cut depends on shapes alone, never on who computes, and sums over parts have a fixed order: so have the bits.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs

from fcnn.ops.layout import pixels
from fcnn.ops.processor import tuning
from fcnn.ops.window import Geometry
from fcnn.values.allocation import scratch_space
from fcnn.values.arrays import Array
from fcnn.values.cores import each_of

T = TypeVar("T")

_PASS = 5000.0  # numbers that a pass over an array in cache goes through in a µs
_PRODUCT = 60_000.0  # multiply-adds of a product in a µs


@attrs.frozen
class Part:
    """Some rows and columns of an output."""

    rows: range
    columns: range

    def of(self, block: Array, halved: bool = False) -> Array:
        """The view (rows, F, columns, N) of this part of a block; `halved`: of one half as high and wide."""
        by = 2 if halved else 1
        rows, columns = self.rows, self.columns
        return block[rows.start // by : rows.stop // by, :, columns.start // by : columns.stop // by]


def parts_of(shape: tuple[int, int, int, int], whole_rows: bool = False) -> list[Part]:
    """A block (OH, F, OW, N) in parts, whose rows begin at multiples of 4 and columns at even numbers."""
    return _parts_of(shape, whole_rows, tuning().part)


@functools.lru_cache(maxsize=256)
def _parts_of(shape: tuple[int, int, int, int], whole_rows: bool, size: int) -> list[Part]:
    oh, filters, ow, n = shape
    pixel = max(1, filters * n)
    width = ow if whole_rows else max(size // (8 * pixel), -(-512 // max(1, n)))
    columns = _cut(ow, width, 2)
    height = max(size // (pixel * len(columns[0])), 8)
    if len(columns) == 1 and oh <= height and oh * ow * pixel > size // 2:
        height = -(-oh // 2)  # at least two parts, for two cores
    return [Part(r, c) for r in _cut(oh, height, 4) for c in columns]


def _cut(length: int, most: int, by: int) -> list[range]:
    count = -(-length // max(most, by))
    size = -(-length // (count * by)) * by
    return [range(begin, min(begin + size, length)) for begin in range(0, length, size)]


def work(g: Geometry, products: int = 1, passes: int = 2) -> float:
    """About how long a layer takes on one core, in µs: products of a convolution, and passes over its output."""
    return products * g.macs / _PRODUCT + passes * math.prod(g.out_shape) / _PASS


def each_part(count: int, function: Callable[[int], T], us: float) -> list[T]:
    """What the function gives for parts 0 … count - 1, over the cores if all of them take long enough, in µs.

    Each has a `scratch_space` of its own.
    """

    def one(number: int) -> T:
        with scratch_space():
            return function(number)

    return each_of(count, one, us)


def row_parts(rows: Array) -> list[slice]:
    """The rows of (R, C, M) in groups that stay in cache."""
    height = max(1, tuning().part // max(1, rows.shape[1] * rows.shape[2]))
    return [slice(first, first + height) for first in range(0, len(rows), height)]


def lines(part: Array) -> Array:
    """A view (R, F, columns * N) of a part (R, F, columns, N)."""
    return part.reshape(*part.shape[:2], part.shape[2] * part.shape[3])


def place(part: Array, target: Array) -> None:
    """Write a part whose even columns come before its odd ones into one with the columns in order."""
    half = target.shape[2] // 2
    pixels(target[:, :, 0::2])[...] = pixels(part[:, :, :half])
    pixels(target[:, :, 1::2])[...] = pixels(part[:, :, half:])


def total(found: Sequence[Array]) -> Array:
    """The sum of what parts gave, in their order; the first of them is written to."""
    first, *rest = found
    for each in rest:
        first += each
    return first
