"""Memory for arrays: kept when it is freed, and aligned for the processor's widest loads.

**Kept.** glibc hands the memory of big arrays back to the system when they are freed, and the next ones fault it in
again page by page, which can take half of a training step. From how big an array on it does so, it learns from the
biggest that was freed, up to 32 MB; so freeing one of 31 MB makes it keep what smaller ones leave. That one is never
touched, so it takes no memory. Other C libraries don't mind.

**Aligned.** NumPy's arrays begin at any multiple of 16 bytes. Where loads are 64 bytes wide (AVX-512), each of an array
that begins elsewhere touches two lines of the cache: a sum or product of arrays in cache takes two to three times as
long (65,536 numbers: 30 against 10 µs). So the arrays that the kernels write begin at multiples of 64 bytes.
"""

import math
from typing import Any

import numpy as np

from fcnn.values.arrays import Array

_LINE = 64  # bytes of a line of cache, and of the widest registers
_SMALL = 1 << 12  # bytes, below which the time to align is more than what it saves


def keep_freed_memory() -> None:
    """Make glibc's allocator keep the memory of freed arrays, of up to 31 MB each, for the next ones."""
    np.empty(31 << 20, np.uint8)


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """As `np.empty`; a larger array begins at a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < _SMALL:
        return np.empty(shape, dtype)
    memory = np.empty(size + _LINE, np.uint8)
    return np.ndarray(shape, dtype, memory, -memory.__array_interface__["data"][0] % _LINE)


def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """As `np.zeros`, aligned as `empty`."""
    made = empty(shape, dtype)
    made.fill(0)
    return made
