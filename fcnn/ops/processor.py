"""What is fastest depends on the processor: the one table of it, chosen by what the processor can do.

NumPy tells (`numpy.show_config`) which instructions it found. Nothing is timed while the library runs, so that the
bits of a machine stay the bits of that machine. `python scripts/bench --tune` measures these rows on another one.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import attrs
import numpy as np

Product = Literal["forward", "weight gradient", "input gradient"]
DEEP = 128  # small products of matrices with more columns than this are no faster than large ones


_tried: "list[Tuning]" = []


@attrs.frozen
class Tuning:
    """What was fastest on a kind of processor.

    product: the most multiply-adds of one matrix product, where smaller ones are faster; 0 where they aren't.
    part: how many numbers of an output are worked on at a time, so that they stay in cache.
    tiles: how many numbers of Winograd's tiles are transformed at a time.
    winograd, winograd_weights: of how many channels and filters on that form is faster, for the weights' gradient too.
    forward_rows, weight_rows: output rows computed together make products of at least so many rows.
    """

    product: int
    part: int
    tiles: int
    winograd: int
    winograd_weights: int
    forward_rows: int
    weight_rows: int


# OpenBLAS has kernels for AVX-512 that multiply up to a million numbers without copying them first: LeNet's second
# layer, (16, 150) @ (150, 640), runs at 71 GFLOP/s as a whole and at 125 in halves.
_AVX512 = Tuning(
    product=800_000, part=1 << 18, tiles=1 << 15, winograd=64, winograd_weights=128, forward_rows=1, weight_rows=1
)
_OTHER = Tuning(
    product=0, part=1 << 18, tiles=1 << 15, winograd=64, winograd_weights=64, forward_rows=12, weight_rows=16
)


def tuning() -> Tuning:
    """The row of this machine."""
    return _tried[-1] if _tried else _of_this_machine()


@contextmanager
def trying(row: Tuning) -> Iterator[None]:
    """Compute by another row while the block runs: to measure it, or to test it."""
    _tried.append(row)
    try:
        yield
    finally:
        _tried.pop()


@functools.cache
def _of_this_machine() -> Tuning:
    found = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])
    return _AVX512 if {"AVX512_SKX", "X86_V4"} & set(found) else _OTHER


def columns_a_product(size: int, n: int, least: int = 64) -> int:
    """How many columns of n numbers one product takes, of a matrix of `size` numbers with (depth, columns * n).

    All of them where it would be fewer than `least` numbers.
    """
    few = tuning().product // size
    return few // n if few >= max(least, n) else 1 << 30


def tile(product: Product, filters: int, out_height: int) -> int:
    """How many output rows are computed together, where they divide the output's height."""
    least = tuning().forward_rows if product == "forward" else tuning().weight_rows
    return next((high for high in (1, 2, 4) if high * filters >= least and out_height % high == 0), 1)


def rows_a_product(rows: int, depth: int, n: int) -> int:
    """Into products of how many rows one of (rows, depth) with (depth, n) is best cut; 0 where such are slow."""
    most = tuning().product
    if not most or depth > DEEP:
        return 0
    return next(few for few in range(rows, 0, -1) if rows % few == 0 and (few * depth * n <= most or few == 1))
