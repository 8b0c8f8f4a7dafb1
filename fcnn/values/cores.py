"""Work shared out over the processor's cores, with the same bits however many there are.

NumPy leaves Python's lock in its loops and products, so threads of one process use all cores where each call is long
enough. What is shared out are parts of a kernel's output, cut by its shape and never by the number of threads: each
part is computed by one thread, with BLAS held to one thread a call, and writes where no other does.

It happens only while somebody asked for one thread of BLAS (`one_blas_thread`), as gradients, evaluation and the maps
of `fcnn.parallel` do: elsewhere BLAS's own threads are at work, and its bits depend on their number.

Threads are held by `threadpoolctl`. Where that is missing, or finds nothing of the OpenBLAS that NumPy was built with,
one thread computes at a time, for products of several at once over many threads of OpenBLAS 0.3.28 and 0.3.29 are
wrong without a word (numpy#29391; of later versions, numpy#31618). Then BLAS takes as many threads as it likes, and
its bits depend on them; `OPENBLAS_NUM_THREADS=1` in the environment, before NumPy is imported, holds it as well.
"""

import functools
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

# To wake a thread and to wait for it takes some 10 to 100 µs, and where two threads make short calls of NumPy, each
# waits for Python's lock: parts of less work than this, in µs of one core, are not worth it.
_WORTH_IT = 150.0

_LIMITING = threading.RLock()
_blocks = 0
_limits: list[tuple[Any, int]] = []

# Whose kernel has the threads; who comes second computes alone. An interrupt just after it was acquired leaves it with
# the interrupted thread, which can acquire this kind of lock again.
_TURN = threading.RLock()
_threads: "list[_Thread]" = []
_most: list[int] = []  # what the blocks of `at_most` allow
_local = threading.local()


def share(function: Callable[[int], object], count: int, work: float) -> None:
    """Call function(0) … function(count - 1), each once, in any order, on several threads where that is faster.

    Args:
        function: writes its part of an array, which no other part reads; pure otherwise.
        count: how many parts.
        work: about how long all parts take on one core, in µs.

    Raises what a part raises, once no part is at work any more.
    """
    hands = 1 if count < 2 or work < _WORTH_IT else min(available(), count)
    if hands < 2 or not _TURN.acquire(blocking=False):
        for part in range(count):
            function(part)
        return
    try:
        _run(function, count, hands)
    finally:
        _TURN.release()


def each_of(count: int, function: Callable[[int], T], work: float) -> list[T]:
    """As `share`, of a function that gives something: what it gave, in the order of the parts."""
    found: list[Any] = [None] * count

    def one(part: int) -> None:
        found[part] = function(part)

    share(one, count, work)
    return found


def available() -> int:
    """How many threads `share` would use here and now."""
    if not _blocks or getattr(_local, "alone", False) or not threads_compute():
        return 1
    return min([cores(), *_most])


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_compute() -> bool:
    """Whether threads of Python may compute at the same time: there are such, and BLAS is held meanwhile."""
    return sys.platform not in ("emscripten", "wasi") and _libraries() is not None


@functools.cache
def _libraries() -> tuple[Any, ...] | None:
    """What sets the threads of each BLAS in this process, none where BLAS has none; None where it can't be held."""
    try:
        from threadpoolctl import ThreadpoolController  # here, because it costs start-up time, and may be missing
    except ModuleNotFoundError:
        return None
    found = tuple(ThreadpoolController().select(user_api="blas").lib_controllers)
    built_with = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return None if not found and "openblas" in built_with.get("name", "") else found


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """Let kernels use so many threads at most, in this whole process, while the block runs."""
    _most.append(count)
    try:
        yield
    finally:
        _most.remove(count)


def as_here(function: Callable[..., T]) -> Callable[..., T]:
    """The function, to be called once, by any thread, in the context and with NumPy's error state of here and now.

    NumPy 2 keeps its error state in the context, NumPy 1.26 in the thread.
    """
    context = copy_context()
    if not np.__version__.startswith("1."):
        return functools.partial(context.run, function)
    call, state = np.geterrcall(), np.geterr()

    def run(*arguments: Any) -> T:
        with np.errstate(call=call, **state):  # type: ignore[arg-type]  # None, too, is what `geterrcall` gives
            return function(*arguments)

    return lambda *arguments: context.run(run, *arguments)


class alone:
    """Let kernels that this thread calls use no other while the block runs: it is itself one of several at work.

    A class, for between what a generator does and the block that it is for, an interrupt would leave this so for ever.
    """

    def __enter__(self) -> None:
        self._before = getattr(_local, "alone", False)
        _local.alone = True

    def __exit__(self, *error: object) -> None:
        _local.alone = self._before


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread a call in this whole process, if it can be held, until the last of such blocks ends.

    Blocks in several threads overlap. If each put back what it had found, the first to end would let go of BLAS within
    another, whose bits may depend on it, and the last would put back a limit, for ever.
    """
    global _blocks, _limits
    with _LIMITING:
        if not _blocks:
            _limits = [(library, library.get_num_threads()) for library in _libraries() or ()]
            for library, _ in _limits:
                library.set_num_threads(1)
        _blocks += 1
    try:
        yield
    finally:
        with _LIMITING:
            _blocks -= 1
            if not _blocks:
                for library, before in _limits:
                    library.set_num_threads(before)


class _Thread:
    """One that sleeps until there is work, and ends with the process."""

    def __init__(self) -> None:
        self._wake, self._done = threading.Lock(), threading.Lock()
        self._wake.acquire()
        self._done.acquire()
        self._work: Callable[[], None] | None = None
        threading.Thread(target=self._serve, name="fcnn", daemon=True).start()

    def begin(self, work: Callable[[], None]) -> None:
        self._work = work
        self._wake.release()

    def wait(self) -> None:
        self._done.acquire()

    def _serve(self) -> None:
        _local.alone = True
        while True:
            self._wake.acquire()
            work, self._work = self._work, None
            assert work is not None
            work()
            del work  # or what it closes over would live until there is more
            self._done.release()


def _run(function: Callable[[int], object], count: int, hands: int) -> None:
    global _threads
    parts, errors = itertools.count(), list[BaseException]()

    def work() -> None:
        try:
            while not errors and (part := next(parts)) < count:
                function(part)
        except BaseException as error:
            errors.append(error)

    taken, _threads = _threads, []  # given back once none of them is at work: an interrupt leaves them to end alone
    while len(taken) < hands - 1:
        taken.append(_Thread())
    asked = [(thread, as_here(work)) for thread in taken[: hands - 1]]
    try:
        for thread, work_there in asked:
            thread.begin(work_there)
        with alone():
            work()
        for thread, _ in asked:
            thread.wait()
    except BaseException as error:  # an interrupt: nobody will see the arrays that the others may still write to
        errors.append(error)
        raise
    _threads = taken
    if errors:
        raise errors[0]


def _after_fork() -> None:
    """In a forked process: the threads, and the one that may hold a lock, are another process's."""
    global _LIMITING, _TURN, _threads
    _LIMITING, _TURN, _threads = threading.RLock(), threading.RLock(), []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
