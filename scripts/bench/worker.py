"""A program in a process of its own, so that allocators, thread pools and spinning threads don't touch each other's.

The parent asks, the worker answers. One that raises or dies answers with a `WorkerError`, and nothing else is lost.
"""

import contextlib
import importlib
import math
import multiprocessing
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import stopping
from machine import peak_memory_mib

from bench.cases import Case
from bench.programs import Array, Makers, Program

PATIENCE = 1800  # seconds until a worker without an answer counts as dead
_SPAWN = multiprocessing.get_context("spawn")  # a fresh interpreter: thread pools don't survive a fork


class WorkerError(Exception):
    """A worker could not do what it was asked; the message says why."""


class Worker:
    """The parent's end. The process starts when it is first asked, and anew after it has failed."""

    def __init__(self, program: Program, threads: int) -> None:
        self._arguments = program, program.threads or threads
        self._process: Any = None

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of the worker's `Server`. Raises WorkerError."""
        if self._process is None:
            self._connection, theirs = _SPAWN.Pipe()
            with stopping.sparing_children():
                process = _SPAWN.Process(target=serve, args=(theirs, *self._arguments))  # no daemon: fcnn forks
                process.start()
                self._process = process
            theirs.close()
        try:
            self._connection.send((method, arguments))
            done, value = self._connection.recv() if self._connection.poll(PATIENCE) else (False, "it does not answer")
        except (EOFError, OSError):
            self._process.join(10)
            done, value = False, f"its process died (exit code {self._process.exitcode})"
        if not done:
            self.close()
            raise WorkerError(value)
        return value

    @property
    def pid(self) -> int:
        """The process that was asked."""
        return int(self._process.pid)

    def close(self) -> None:
        """End the process, and what it forked with it. It has nothing to clear up."""
        if self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
            self._process = None


class Server:
    """The worker's end: one case at a time."""

    def __init__(self, makers: Makers) -> None:
        self._makers = makers
        self._calls: Mapping[str, Callable[[], Any]] = {}
        self._check: Any = None
        self._counts: dict[str, tuple[int, int]] = {}

    def start(self) -> None:
        """Nothing more than what comes before any answer: the program's imports."""

    def load(self, case: Case, inputs: Path) -> None:
        """Make a case ready without calling anything yet."""
        self._calls, self._check = {}, None  # lets go of the case before
        with np.load(inputs) as archive:
            prepared = self._makers[type(case)](case, dict(archive))
        self._calls = {part: prepared.calls[part] for part in case.parts}
        self._check = prepared.check

    def prepare(self, case: Case, inputs: Path) -> tuple[Array, float]:
        """Make a case ready; its check, and the seconds of that and of first calls, in which compilers work."""
        self.load(case, inputs)
        began = time.perf_counter()
        found = self._check()
        for call in self._calls.values() if len(self._calls) > 1 else ():
            call()
        return found, time.perf_counter() - began

    def calibrate(self, budget: float) -> None:
        """Find how many calls of each part fill about `budget` seconds."""
        for part, call in self._calls.items():
            seconds = _seconds(call)
            self._counts[part] = how_many(min(seconds, _seconds(call)) if seconds < 1 else seconds, budget)

    def turn(self) -> dict[str, list[float]]:
        """The seconds of each timed call, by part."""
        times = {}
        for part, call in self._calls.items():
            warm, count = self._counts[part]
            for _ in range(warm):
                call()
            times[part] = [_seconds(call) for _ in range(count)]
        return times

    def peak(self) -> float:
        """The most memory that this process has had so far, with those that it forked, in MiB."""
        return peak_memory_mib()


def how_many(seconds: float, budget: float) -> tuple[int, int]:
    """Warm-up calls and timed calls of a turn: about `budget` seconds, but at least 5 short calls.

    What takes more than a second warms itself up.

    >>> how_many(0.001, 0.2), how_many(0.1, 0.2), how_many(0.5, 0.2), how_many(4.0, 0.2)
    ((2, 200), (2, 3), (1, 1), (0, 1))
    """
    least = 5 if seconds < 0.05 else 3 if seconds < 0.2 else 1
    warm = 2 if seconds < 0.2 else int(seconds < 1)
    return warm, min(max(math.ceil(budget / max(seconds, 1e-9)), least), 1000)


def serve(connection: Connection, program: Program, threads: int) -> None:
    """Answer until the parent closes its end. The program's packages are imported here and nowhere else."""
    stopping.as_child()
    if program.keeps_memory:
        # What importing fcnn does, as fcnn.values.allocation explains; no other program's process may import fcnn.
        np.empty(31 << 20, np.uint8)
    server: Server | None = None
    with contextlib.ExitStack() as stack, contextlib.suppress(EOFError, OSError):
        while True:
            method, arguments = connection.recv()
            try:
                if server is None:
                    opened = importlib.import_module(f"bench.{program.module}").opened
                    server = Server(stack.enter_context(opened(threads, program.form)))
                answer = (True, getattr(server, method)(*arguments))
            except Exception as error:
                answer = (False, f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}")
            connection.send(answer)


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
