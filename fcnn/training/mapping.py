"""What maps over threads and over processes have in common: one thread of BLAS each, and what they refuse."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

MapFn: TypeAlias = Callable[..., Iterable[Any]]

_LIMITING = threading.RLock()
_blocks = 0
_limits: Any = None


def expect_mapping(arguments: tuple[Iterable[Any], ...], ended: bool) -> None:
    """Raise unless what `threads` or `processes` gave can map these: within its block, and at least one iterable."""
    if ended:
        raise RuntimeError("map_fn maps within the block that it was made for, which has ended; enter another")
    if not arguments:
        raise TypeError("map_fn takes a function and at least one iterable, as `map` does, got no iterable")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread a call in this whole process, until the last of such blocks ends.

    Blocks in several threads overlap. If each put back what it had found, the first to end would let go of BLAS within
    another, whose bits may depend on it, and the last would put back a limit, for ever.
    """
    global _blocks, _limits
    from threadpoolctl import threadpool_limits  # here, because it costs start-up time

    with _LIMITING:
        if not _blocks:
            _limits = threadpool_limits(1, user_api="blas")
        _blocks += 1
    try:
        yield
    finally:
        with _LIMITING:
            _blocks -= 1
            if not _blocks:
                _limits.restore_original_limits()


def _unlock_limits() -> None:
    """In a forked process: the thread that may hold the lock is another process's."""
    global _LIMITING
    _LIMITING = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_limits)
