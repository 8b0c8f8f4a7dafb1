"""A `map` over forked processes. Threads of one Python process share its lock; processes share nothing, and scale.

A forked worker is a copy of this process, so it knows the function to map, with everything that the function closed
over, without its being sent. Only arguments and results travel: arrays through memory that both processes see, the
rest through a pipe. That is possible because what is mapped is pure: a copy of the function is as good as the function.
"""

import copyreg
import mmap
import os
import pickle
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fcnn.values.arrays import Array
from fcnn.values.checks import integer

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

MapFn: TypeAlias = Callable[..., Iterable[Any]]

_ROOM = 1 << 26  # bytes for the arrays of one message, taken only as they are used; what doesn't fit goes by the pipe
_ALIGNED = 64
# A worker that waits looks for its next task so many seconds before it sleeps: to be woken takes the time of a layer.
_AWAKE = 0.005


class WorkerError(RuntimeError):
    """A worker process ended before it gave its result."""


@contextmanager
def processes(count: int) -> Iterator[MapFn]:
    """A `map` that runs in `count` processes, this one among them, with BLAS held to one thread in each.

    As `fcnn.parallel.threads`, with the same bits, but nothing waits for Python's lock: best for many short calls, as
    in a training step of a small network. Workers are forked when a function is first mapped, no more than there are
    items, and stay while the same function is mapped again; another function gets new ones, which takes some
    milliseconds. The function must be pure: what it closes over is what it was at that moment. Arguments and results
    must be picklable, the function needn't.

    Needs a system with `os.fork`. On macOS, whose own BLAS may not be used after a fork, take `threads`.

    Raises WorkerError if a worker dies, and whatever the function raises. The next call then starts anew.

    >>> with processes(2) as map_fn:
    ...     list(map_fn(lambda x, y: x + y, [1, 2, 3], [10, 20, 30]))
    [11, 22, 33]
    """
    from threadpoolctl import threadpool_limits  # here, because it costs start-up time

    integer("count", count, least=1)
    if not hasattr(os, "fork"):
        raise RuntimeError("processes needs os.fork, which this system lacks; use fcnn.parallel.threads")
    with threadpool_limits(1, user_api="blas"):
        if count == 1:
            yield map
            return
        crew: _Crew | None = None

        def map_fn(function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
            nonlocal crew
            items = list(zip(*arguments, strict=False))  # as `map`: the shortest ends it
            if len(items) < 2:
                return [function(*item) for item in items]
            size = min(count, len(items))
            if crew is None or crew.function is not function or crew.size < size:
                if crew is not None:
                    crew.close()
                crew = _Crew(function, size)
            try:
                return crew.run(items)
            except WorkerError:
                crew.close()
                crew = None
                raise

        try:
            yield map_fn
        finally:
            if crew is not None:
                crew.close()


class _Crew:
    """This process and the workers that know one function."""

    def __init__(self, function: Callable[..., Any], size: int) -> None:
        self.function = function
        self.size = size
        self._number = 0  # of the request; a call that was interrupted leaves answers to an older one behind
        self._workers: list[_Worker] = []
        for _ in range(size - 1):
            self._workers.append(_Worker(function))

    def run(self, items: list[tuple[Any, ...]]) -> list[Any]:
        """The function of each item, in order; item i is computed by process i modulo their number, 0 is this one."""
        self._number += 1
        every = self.size
        asked = [(at, worker) for at, worker in enumerate(self._workers, 1) if at < len(items)]
        for at, worker in asked:
            worker.send(self._number, items[at::every])
        results: list[Any] = [None] * len(items)
        results[::every] = [self.function(*item) for item in items[::every]]
        errors = []
        for at, worker in asked:
            found, error = worker.receive(self._number)
            if error is None:
                results[at::every] = found
            else:
                errors.append(error)
        if errors:
            raise errors[0]
        return results

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.hang_up()
        for worker in reversed(self._workers):  # the last one first: it holds copies of the others' pipes
            worker.close()


class _Worker:
    """One forked process, as its parent sees it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._requests, self._replies = mmap.mmap(-1, _ROOM), mmap.mmap(-1, _ROOM)
        import multiprocessing.util  # here, because it costs start-up time

        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        arguments = function, theirs, self._pipe, self._requests, self._replies
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        with warnings.catch_warnings():
            # Python 3.12 warns of forking where there are other threads. Theirs are BLAS's, which knows of forks.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        theirs.close()
        # At the interpreter's exit too, before multiprocessing waits for its children.
        multiprocessing.util.Finalize(self, self._pipe.close, exitpriority=10)

    def send(self, number: int, items: list[tuple[Any, ...]]) -> None:
        try:
            self._pipe.send_bytes(_dumps((number, items), self._requests))
        except OSError:
            raise self._ended() from None

    def receive(self, number: int) -> tuple[Any, Exception | None]:
        """The results, or the error, of the request of that number."""
        try:
            while True:
                answered, found, error = _loads(_receive(self._pipe), self._replies)
                if answered == number:
                    return found, error
        except (EOFError, OSError):
            raise self._ended() from None

    def _ended(self) -> WorkerError:
        self._process.join(1)
        return WorkerError(
            f"worker process {self._process.pid} ended with exit code {self._process.exitcode} before it gave its "
            "result; nothing was changed, so the same call can be made again"
        )

    def hang_up(self) -> None:
        self._pipe.close()  # at which the worker ends

    def close(self) -> None:
        self._process.join(1)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._requests.close()
        self._replies.close()


def _serve(
    function: Callable[..., Any], pipe: "Connection", parents: "Connection", requests: mmap.mmap, replies: mmap.mmap
) -> None:
    """What a worker does until its parent closes the pipe or dies."""
    parents.close()  # else the pipe would stay open when the parent dies
    for sent in (signal.SIGINT, signal.SIGTERM):  # sent to all; it is for the parent to say what is to be done
        signal.signal(sent, signal.SIG_IGN)
    while True:
        try:
            message = _receive(pipe)
        except (EOFError, OSError):
            return
        number = None
        try:
            number, items = _loads(message, requests)
            answer = _dumps((number, [function(*item) for item in items], None), replies)
        except Exception as error:
            error.add_note(f"in worker process {os.getpid()}:\n{traceback.format_exc().rstrip()}")
            try:
                answer = _dumps((number, None, error), replies)
                pickle.loads(pickle.dumps(error))  # some can be written but not read
            except Exception:
                answer = _dumps((number, None, RuntimeError(f"{error!r}\n{traceback.format_exc()}")), replies)
        try:
            pipe.send_bytes(answer)
        except OSError:
            return


def _receive(pipe: "Connection") -> bytes:
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    end = time.perf_counter() + _AWAKE
    while time.perf_counter() < end and not waiting.poll(0):
        os.sched_yield()
    return pipe.recv_bytes()


def _dumps(value: Any, memory: mmap.mmap) -> bytes:
    """Pickle a value, the contents of its arrays into `memory` as far as they fit."""
    used, places = 0, []

    def place(buffer: pickle.PickleBuffer) -> bool:  # whether to pickle it in place
        nonlocal used
        raw = buffer.raw()
        end = used + raw.nbytes
        if end > len(memory):
            return True
        memory[used:end] = raw
        places.append((used, end))
        used = -(-end // _ALIGNED) * _ALIGNED
        return False

    stream = BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=place).dump(value)
    return pickle.dumps((places, stream.getvalue()))


def _loads(message: bytes, memory: mmap.mmap) -> Any:
    """The value, its arrays read-only copies that nobody else knows of."""
    places, pickled = pickle.loads(message)
    return pickle.loads(pickled, buffers=[memory[begin:end] for begin, end in places])


def _reduced(array: Array) -> Any:
    """How to pickle an array in its memory order, such as batch-innermost; by itself it would come out in C order."""
    if array.flags.forc:
        return array.__reduce_ex__(5)
    order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    back = sorted(range(array.ndim), key=order.__getitem__)
    return np.transpose, (np.ascontiguousarray(array.transpose(order)), back)


class _Pickler(pickle.Pickler):
    dispatch_table = {  # noqa: RUF012 (the base class reads it so)
        **copyreg.dispatch_table,
        np.ndarray: _reduced,
    }
