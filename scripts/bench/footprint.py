"""What a program costs besides time: the most memory it ever has, and how long its import takes."""

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.cases import Case
from bench.programs import Program
from bench.timing import spread
from bench.worker import Worker, WorkerError


def peak_memory(
    case: Case, programs: Sequence[Program], inputs: Path, threads: int
) -> tuple[dict[str, float], dict[str, str]]:
    """MiB of a fresh process that imports, loads uint8 images and trains; and why it could not be had."""
    found, failures = {}, {}
    for program in programs:
        fresh = Worker(program, threads)
        try:
            fresh.ask("prepare", case, inputs)
            fresh.ask("calibrate", 0.0)  # goes through the case's steps
            peak = fresh.ask("peak")
            if math.isnan(peak):
                raise WorkerError("this system doesn't tell how much memory a process has had")
            found[program.name] = round(peak, 1)
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
