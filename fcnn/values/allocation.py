"""Memory for arrays: kept when it is freed, and aligned for the processor's widest loads.

**Kept.** glibc hands the memory of big arrays back to the system when they are freed, and the next ones fault it in
again page by page, which can take half of a training step. From how big an array on it does so, it learns from the
biggest that was freed, up to 32 MB; so freeing one of 31 MB makes it keep what smaller ones leave. That one is never
touched, so it takes no memory. Other C libraries don't mind.

**Aligned.** NumPy's arrays begin at any multiple of 16 bytes. Where loads are 64 bytes wide (AVX-512), each of an array
that begins elsewhere touches two lines of the cache: a sum or product of arrays in cache takes two to three times as
long (65,536 numbers: 30 against 10 µs). So the arrays that the kernels write begin at multiples of 64 bytes.

**In cache.** What a kernel needs only for itself it takes from `scratch`, a piece of memory of its thread's own: the
same addresses again and again, which are in cache already. Such arrays are never handed out.
"""

import ctypes
import math
import threading
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
    return np.ndarray(shape, dtype, memory, -_address(memory) % _LINE)


def _address(memory: Array) -> int:
    # A quarter of the time of `memory.ctypes.data`. NumPy's types don't tell that an array is a buffer.
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))  # type: ignore[arg-type]


def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """As `np.zeros`, aligned as `empty`."""
    made = empty(shape, dtype)
    made.fill(0)
    return made


class _Space(threading.local):
    """A thread's memory for scratch: how much of it is in use, and how much would have been at most."""

    def __init__(self) -> None:
        self.memory = np.empty(0, np.uint8)
        self.used = self.wanted = 0


_MOST = 1 << 25  # bytes that a thread keeps for scratch; what doesn't fit is allocated
_space = _Space()


class scratch_space:
    """A block in which `scratch` gives arrays, whose memory is used again when the block has ended."""

    def __enter__(self) -> None:
        self._before = _space.used
        if not self._before and _space.wanted > _space.memory.size:
            _space.memory = empty((min(_space.wanted, _MOST),), np.uint8)

    def __exit__(self, *error: object) -> None:
        _space.used = self._before


def scratch(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array with any contents, for use within the innermost `scratch_space` only: neither kept nor handed out."""
    dtype = np.dtype(dtype)
    begin = _space.used
    _space.used = end = begin + -(-math.prod(shape) * dtype.itemsize // _LINE) * _LINE
    if end <= _space.memory.size:
        return np.ndarray(shape, dtype, _space.memory, begin)
    _space.wanted = max(_space.wanted, end)
    return empty(shape, dtype)
