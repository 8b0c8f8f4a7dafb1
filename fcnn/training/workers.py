"""A `map` over forked processes. Threads of one Python process share its lock; processes share nothing, and scale.

A forked worker is a copy of this process, so it knows the function to map, with everything that the function closed
over, without its being sent. Only arguments and results travel: arrays through memory that both processes see, the
rest through a pipe. That is possible because what is mapped is pure: a copy of the function is as good as the function.

Whatever ends a call before every worker has answered ends its workers, too: the next call begins with new ones, and
never with half of an old message. A worker whose parent is gone ends by itself.
"""

import contextlib
import copyreg
import mmap
import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from fcnn.training.mapping import MapFn, expect_mapping
from fcnn.training.signals import undisturbed
from fcnn.values.arrays import NUMBERS, Array
from fcnn.values.checks import integer
from fcnn.values.cores import alone, at_most, one_blas_thread

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_ROOM = 1 << 26  # bytes for the arrays of one message, taken only as they are used; what doesn't fit goes by the pipe
_ALIGNED = 64
# A worker that waits looks for its next task so many seconds before it sleeps: to be woken takes the time of a layer.
_AWAKE = 0.005
_LOOKS = 0.5  # seconds between two looks whether the other process is still there; most often the pipe tells sooner


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

    Ctrl-C and SIGTERM are this process's to handle. A call that one of them ends, or anything else, takes its workers
    with it; they also end when this process is killed. A mapped function that maps itself runs in one process.

    Where `threadpoolctl` is missing, BLAS isn't held, and its threads in all the processes get into one another's way:
    then `OPENBLAS_NUM_THREADS=1` in the environment is what makes it fast.

    Needs a system with `os.fork`. On macOS, whose own BLAS may not be used after a fork, take `threads`.

    Raises WorkerError if a worker dies, and whatever the function raises, of several errors that of the first item. The
    next call then works.

    >>> with processes(2) as map_fn:
    ...     list(map_fn(lambda x, y: x + y, [1, 2, 3], [10, 20, 30]))
    [11, 22, 33]
    """
    integer("count", count, least=1)
    if not hasattr(os, "fork"):
        raise RuntimeError("processes needs os.fork, which this system lacks; use fcnn.parallel.threads")
    with one_blas_thread(), at_most(count):
        if count == 1:
            yield map
            return
        crew: _Crew | None = None
        turn, owner, ended = threading.RLock(), os.getpid(), False

        def map_fn(function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
            nonlocal crew
            expect_mapping(arguments, ended)
            items = list(zip(*arguments, strict=False))  # as `map`: the shortest ends it
            if len(items) < 2 or os.getpid() != owner:  # the workers are their parent's, not a fork's
                return [function(*item) for item in items]
            with turn:  # another thread waits for its turn
                if crew is not None and crew.at_work:
                    return [function(*item) for item in items]
                size = min(count, len(items))
                if crew is None or not (crew.ready and crew.function is function and crew.size >= size):
                    if crew is not None:
                        crew.close()
                    crew = _Crew(function, size)
                return crew.run(items)

        try:
            try:
                yield map_fn
            finally:
                ended = True
                if crew is not None:
                    crew.close()
        finally:  # once more, as an interrupt may have come just before
            if crew is not None:
                crew.close()


class _Crew:
    """This process and the workers that know one function.

    ready: whether all workers wait for a message, and so whether there may be another.
    at_work: whether this process is computing its share.
    """

    def __init__(self, function: Callable[..., Any], size: int) -> None:
        self.function = function
        self.size = size
        self.ready, self.at_work = True, False
        self._workers: list[_Worker] = []

    def run(self, items: list[tuple[Any, ...]]) -> list[Any]:
        """The function of each item, in order; item i is computed by process i modulo their number, 0 is this one."""
        try:
            self.ready = False
            while len(self._workers) < self.size - 1:
                with undisturbed():
                    self._workers.append(_Worker(self.function))
            with alone():
                results, errors = self._run(items)
            self.ready = True
        finally:
            if not self.ready:
                self.close()
        if errors:
            raise errors[min(errors)]
        return results

    def _run(self, items: list[tuple[Any, ...]]) -> tuple[list[Any], dict[int, BaseException]]:
        """The results, and the errors by the index of the item."""
        every = self.size
        asked = [(at, worker) for at, worker in enumerate(self._workers, 1) if at < len(items)]
        for at, worker in asked:
            worker.send(items[at::every])
        results: list[Any] = [None] * len(items)
        errors: dict[int, BaseException] = {}
        try:
            self.at_work = True
            for index in range(0, len(items), every):
                try:
                    results[index] = self.function(*items[index])
                except Exception as error:  # the workers' answers are waited for all the same
                    errors[index] = error
                    break
        finally:
            self.at_work = False
        for at, worker in asked:
            found, raised = worker.receive()
            if raised is None:
                results[at::every] = found
            else:
                errors[at + every * len(found)] = raised
        return results, errors

    def close(self) -> None:
        """End the workers, at once: they have nothing left to do, or nothing that anybody waits for."""
        self.ready = False
        with undisturbed():
            for worker in self._workers:
                worker.close()


class _Worker:
    """One forked process, as its parent sees it. What is done here is done undisturbed, but for `send` and `receive`.

    Not a `multiprocessing.Process`: that is not allowed within a worker of a pool, and is waited for at exit.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        from multiprocessing import Pipe  # here, because it costs start-up time

        self._pid, self._parent = 0, os.getpid()
        self._status: int | None = None  # of the ended process; -1 where somebody else was told
        _flush()  # else the worker would print it, too
        # The worker has no handlers of its own yet, and its parent's would raise in the middle of a copy of everything.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._requests, self._replies = mmap.mmap(-1, _ROOM), mmap.mmap(-1, _ROOM)
            self._pipe, theirs = Pipe()
            with warnings.catch_warnings():
                # Python 3.12 warns of forking where there are other threads. Theirs are BLAS's, which knows of
                # forks, and the kernels', which sleep.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._pid = os.fork()
            if not self._pid:
                try:
                    self._pipe.close()
                    with alone():
                        _serve(function, theirs, self._requests, self._replies, self._parent, mask)
                finally:
                    os._exit(1)
        except OSError as error:
            raise WorkerError(f"no worker process could be made ({error.strerror}); ask for fewer processes") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()

    def send(self, items: list[tuple[Any, ...]]) -> None:
        message = _dumps(items, self._requests)
        try:
            self._pipe.send_bytes(message)
        except OSError:
            raise self._died() from None

    def receive(self) -> tuple[list[Any], BaseException | None]:
        """The results, and the error that ended them."""
        try:
            message = _receive(self._pipe, self._ended)
        except (EOFError, OSError):
            raise self._died() from None
        answer: tuple[list[Any], BaseException | None] = _loads(message, self._replies)
        return answer

    def _ended(self, options: int = os.WNOHANG) -> bool:
        with undisturbed():
            if self._status is None:
                try:
                    pid, status = os.waitpid(self._pid, options)
                    self._status = status if pid else None
                except ChildProcessError:
                    self._status = -1
        return self._status is not None

    def _died(self) -> WorkerError:
        end = time.monotonic() + 1
        while not self._ended() and time.monotonic() < end:
            time.sleep(0.001)
        known = self._status is not None and self._status >= 0
        how = f" with exit code {os.waitstatus_to_exitcode(self._status or 0)}" if known else ""
        return WorkerError(
            f"worker process {self._pid} ended{how} before it gave its result; nothing was changed, so the same call "
            "can be made again"
        )

    def close(self) -> None:
        """End the process, unless it has ended, or this one is a copy of its parent."""
        if self._pid:
            if os.getpid() == self._parent and not self._ended():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
                self._ended(0)
            for one in (self._pipe, self._requests, self._replies):
                one.close()
            self._pid = 0


def _serve(
    function: Callable[..., Any],
    pipe: "Connection",
    requests: mmap.mmap,
    replies: mmap.mmap,
    parent: int,
    mask: Iterable[int],
) -> None:
    """What a worker does until its parent closes the pipe or dies."""
    for sent in (signal.SIGINT, signal.SIGTERM):  # sent to all; it is for the parent to say what is to be done
        signal.signal(sent, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    while True:
        try:
            message = _receive(pipe)
        except (EOFError, OSError):
            os._exit(0)
        found: list[Any] = []
        try:
            for item in _loads(message, requests):
                found.append(function(*item))  # noqa: PERF401 (an error's index is their number)
            answer = _dumps((found, None), replies)
        except BaseException as error:
            answer = _dumps_error(found, error, replies)
        _flush()
        try:
            pipe.send_bytes(answer)
        except OSError:
            os._exit(0)


def _end_with(parent: int) -> None:
    """End this process when its parent has ended; in the middle of a computation, which the pipe doesn't."""
    while os.getppid() == parent:
        time.sleep(_LOOKS)
    os._exit(1)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _receive(pipe: "Connection", ended: Callable[[], bool] | None = None) -> bytes:
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    end = time.perf_counter() + _AWAKE
    while time.perf_counter() < end and not waiting.poll(0):
        os.sched_yield()
    # A process that was forked elsewhere may hold the other end open, so that its closing isn't seen.
    while ended is not None and not waiting.poll(1000 * _LOOKS):
        if ended() and not waiting.poll(0):
            raise EOFError
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


def _dumps_error(found: list[Any], error: BaseException, memory: mmap.mmap) -> bytes:
    """An answer with the error that came at item `len(found)`; as text where it can't be pickled."""
    told = traceback.format_exc().rstrip()
    try:
        error.add_note(f"in worker process {os.getpid()}:\n{told}")
        again = pickle.loads(pickle.dumps(error))  # some can be written but not read, or are read as something else
    except BaseException:
        again = None
    if not isinstance(again, BaseException):
        error = RuntimeError(f"{type(error).__name__}, which can't be pickled:\n{told}")  # nor printed, perhaps
    return _dumps(([None] * len(found), error), memory)


def _loads(message: bytes, memory: mmap.mmap) -> Any:
    """The value, its arrays read-only copies that nobody else knows of."""
    places, pickled = pickle.loads(message)
    return pickle.loads(pickled, buffers=[memory[begin:end] for begin, end in places])


def _reduced(array: Array) -> Any:
    """How to pickle an array: in its memory order, such as batch-innermost, and in less time than it would itself."""
    if array.dtype.kind not in NUMBERS:
        return array.__reduce_ex__(5)
    if array.flags.c_contiguous:
        return _again, (pickle.PickleBuffer(array.data), array.dtype.str, array.shape)
    order = sorted(range(array.ndim), key=array.strides.__getitem__, reverse=True)
    back = sorted(range(array.ndim), key=order.__getitem__)
    ordered = np.ascontiguousarray(array.transpose(order))
    return _again, (pickle.PickleBuffer(ordered.data), array.dtype.str, ordered.shape, back)


def _again(buffer: Any, dtype: str, shape: tuple[int, ...], axes: list[int] | None = None) -> Array:
    array = np.frombuffer(buffer, dtype).reshape(shape)
    return array if axes is None else array.transpose(axes)


class _Pickler(pickle.Pickler):
    dispatch_table = {  # noqa: RUF012 (the base class reads it so)
        **copyreg.dispatch_table,
        np.ndarray: _reduced,
    }
