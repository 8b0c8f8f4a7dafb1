"""How fast each framework trains LeNet-5 in its fastest way, measured in turn on a machine that does nothing else.

Every variant has a fresh process, so that allocators and thread pools don't touch each other's. All are alive at once
and exactly one works at a time. Importing fcnn, for the batches, has PyTorch's processes keep freed memory as well.
"""

import contextlib
import itertools
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import stopping
from machine import peak_memory_mib

import fcnn
from fcnn.values.arrays import frozen
from study.experiment.cells import Framework, Timing, Training
from study.experiment.protocol import dataset, epoch_batches
from study.experiment.training import opener

PROCESSES = ("processes",) if hasattr(os, "fork") and sys.platform == "linux" else ()
VARIANTS: dict[Framework, tuple[str, ...]] = {
    "fcnn": (*PROCESSES, "threads", "whole batches"),
    "pytorch": ("NCHW", "channels_last"),  # eager; compiled forms are for scripts/bench, as they take long to compile
}
WARM_UP, STEPS, ROUNDS = 5, 12, 3  # steps before all, steps a turn, turns a variant
IDLE = 0.02  # seconds between turns, in which the threads of the last one stop spinning
_SPAWN = multiprocessing.get_context("spawn")  # a fresh interpreter: thread pools don't survive a fork


def run_timing(cell: Timing) -> dict[str, Any]:
    """For each framework its fastest variant, and the seconds of whole epochs with it: A B A B …, the training alone.

    Raises RuntimeError where a process fails or dies.
    """
    data = dataset(cell.dataset, cell.train_size)
    with tempfile.TemporaryDirectory(prefix="fcnn-study-") as scratch, contextlib.ExitStack() as stack:
        images = Path(scratch) / "images.npz"  # so that no process needs the memory that loading the data set takes
        np.savez(images, x=data.train.x, y=data.train.y, classes=data.classes)
        workers: dict[Framework, dict[str, _Worker]] = {framework: {} for framework in cell.frameworks}
        for framework, variants in workers.items():
            for variant in VARIANTS[framework]:
                with stopping.sparing_children():
                    variants[variant] = _Worker(cell, images, framework, variant)
                    stack.callback(variants[variant].close)
        every = [worker for variants in workers.values() for worker in variants.values()]
        for worker in every:
            worker.steps(0, WARM_UP)
        for worker in every * ROUNDS:
            worker.tried += worker.steps(0, STEPS)
        chosen = {framework: min(variants.values(), key=_median) for framework, variants in workers.items()}
        for worker in set(every).difference(chosen.values()):
            worker.close()

        seconds: dict[Framework, list[float]] = {framework: [] for framework in cell.frameworks}
        for epoch, framework in itertools.product(range(cell.epochs), cell.frameworks):
            seconds[framework].append(sum(chosen[framework].steps(epoch)))
    found = {
        framework: {
            "variant": worker.variant,
            "step_seconds": {variant: _median(other) for variant, other in workers[framework].items()},
            "seconds": seconds[framework],
            "images_per_second": cell.train_size / statistics.median(seconds[framework]),
            "peak_memory_mib": worker.peak_memory_mib,
        }
        for framework, worker in chosen.items()
    }
    return {"frameworks": found}


class _Worker:
    """A variant's process, as the study sees it."""

    def __init__(self, cell: Timing, images: Path, framework: Framework, variant: str) -> None:
        self.variant = variant
        self.tried: list[float] = []
        self.peak_memory_mib: float | None = None
        self._name = f"{framework}, {variant}"
        self._connection, theirs = _SPAWN.Pipe()
        # Not a daemon, which may not have the processes that fcnn forks.
        self._process = _SPAWN.Process(target=_serve, args=(theirs, cell, images, framework, variant))
        self._process.start()
        theirs.close()

    def steps(self, epoch: int, count: int | None = None) -> list[float]:
        """The seconds of each of the first `count` steps of an epoch, of all if None, with the making of batches."""
        time.sleep(IDLE)
        try:
            self._connection.send((epoch, count))
            error, seconds, self.peak_memory_mib = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(10)
            died = f"the process of {self._name} died (exit code {self._process.exitcode}); was there enough memory?"
            raise RuntimeError(died) from None
        if error:
            raise RuntimeError(f"the process of {self._name} failed: {error}")
        return seconds  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the process, and what it forked with it. It has nothing to clear up."""
        self._connection.close()
        self._process.kill()
        self._process.join()


def _median(worker: _Worker) -> float:
    return statistics.median(worker.tried)


def _serve(connection: Connection, cell: Timing, images: Path, framework: Framework, variant: str) -> None:
    """What a process does: the steps that it is asked for, until the study closes its end."""
    stopping.as_child()
    training = Training(framework=framework, batch_size=cell.batch_size)
    try:
        with np.load(images, allow_pickle=False) as archive:
            train = fcnn.Split(frozen(archive["x"]), frozen(archive["y"]))
            data = fcnn.Dataset(train, train.take(1), classes=tuple(archive["classes"]))
        with opener(framework)(training, data, variant, cell.threads) as network:
            state = network.start
            while True:
                epoch, count = connection.recv()
                seconds, began = [], time.perf_counter()
                for batch in itertools.islice(epoch_batches(training, train, epoch), count):
                    state, _ = network.step(state, batch)
                    now = time.perf_counter()
                    seconds.append(now - began)
                    began = now
                peak = peak_memory_mib()
                connection.send(("", seconds, None if math.isnan(peak) else peak))
    except EOFError:
        pass
    except Exception as error:
        connection.send((f"{type(error).__name__}: {error}", [], None))
