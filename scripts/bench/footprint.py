"""What a program costs besides time: the most memory it ever has, and how long its import takes."""

import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from machine import proportional_memory_mib

from bench.cases import Case
from bench.programs import Program
from bench.timing import spread
from bench.worker import Worker, WorkerError

INTERVAL = 0.005  # seconds between two looks at a process's memory
Found: TypeAlias = tuple[dict[str, float], dict[str, str]]  # by program: MiB, or why they could not be had


def peak_memory(case: Case, programs: Sequence[Program], inputs: Path, threads: int) -> Found:
    """MiB of a fresh process that imports, loads uint8 images and trains; and why it could not be had.

    The greatest resident size of each of its processes so far, as the system keeps it, added up.
    """

    def measure(worker: Worker) -> float:
        worker.ask("prepare", case, inputs)
        worker.ask("calibrate", 0.0)  # goes through the case's steps
        return float(worker.ask("peak"))

    return _of_each(programs, threads, measure)


def peak_beyond_imports(case: Case, programs: Sequence[Program], inputs: Path, threads: int, seconds: float) -> Found:
    """MiB that a case takes at its peak, beyond what the program's imports do; and why it could not be had.

    The proportional set size (a page that several processes share counts in parts) of a fresh process and those that
    it forks is read every 5 ms, from outside, while it works for about twice so many `seconds`; the greatest counts,
    less that after the imports. What is shorter than that between two reads is missed, unless the program keeps the
    memory that it frees, as all but those "as it comes" do.
    """

    def measure(worker: Worker) -> float:
        worker.ask("start")
        imported = proportional_memory_mib(worker.pid)
        worker.ask("load", case, inputs)  # no check, which in fcnn may be another program's step
        with _sampled(worker.pid) as samples:
            worker.ask("calibrate", seconds)
            worker.ask("turn")
        return max(samples) - imported

    return _of_each(programs, threads, measure)


@contextmanager
def _sampled(pid: int) -> Iterator[list[float]]:
    """The memory of a process, read from a thread until the block ends, and at least once."""
    samples, ended = [proportional_memory_mib(pid)], threading.Event()

    def sample() -> None:
        while not ended.wait(INTERVAL):
            samples.append(proportional_memory_mib(pid))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def _of_each(programs: Sequence[Program], threads: int, measure: Callable[[Worker], float]) -> Found:
    found, failures = {}, {}
    for program in programs:
        fresh = Worker(program, threads)
        try:
            mib = measure(fresh)
            if math.isnan(mib):
                raise WorkerError("this system doesn't tell how much memory a process has had")
            found[program.name] = round(mib, 1)
        except WorkerError as error:
            failures[program.name] = str(error)
        fresh.close()
    return found, failures


def import_times(packages: Sequence[str], rounds: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Seconds of `import package` in a fresh interpreter, less an empty one's, in turn; and why it can't be had."""
    seconds: dict[str, list[float]] = {package: [] for package in packages}
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="fcnn-bench-") as bytecode:
        for number in range(rounds + 1):
            empty, _ = _run("pass", bytecode)
            for package in [package for package in packages if package not in failures]:
                taken, error = _run(f"import {package}", bytecode)
                if error:
                    failures[package] = error
                elif number:  # the first round compiles the files and brings them into memory
                    seconds[package].append(taken - empty)
    return {package: spread(values) for package, values in seconds.items() if package not in failures}, failures


def _run(statement: str, bytecode: str) -> tuple[float, str]:
    # Compiled once and kept, as where a package is installed, whatever this shell says of bytecode.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, env=environment)
    seconds = time.perf_counter() - began
    return seconds, (done.stderr.strip().splitlines() or ["no reason given"])[-1] if done.returncode else ""
