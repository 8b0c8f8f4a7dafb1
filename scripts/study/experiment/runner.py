"""Run cells: each at most once, the timed ones alone, the others over all cores; results are files.

A cell's result is `cells/<key>.json`, with `cells/<key>.npz` beside it where it has arrays. Both are written
atomically and the JSON last, so an interrupted study goes on where it stopped: what is there is not run again.
"""

import functools
import importlib.metadata
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from tqdm import tqdm

import fcnn
from fcnn.values.files import replacing
from study.experiment import cells
from study.experiment.cells import Arrays, Cell


class StudyError(Exception):
    """The study can't go on; the message is what the user reads."""


@attrs.frozen
class Store:
    """The folder with the results of cells."""

    folder: Path

    def load(self, cell: Cell, timed: bool) -> dict[str, Any] | None:
        """A cell's entry for results.json, or None where it hasn't been run (as a timed one, if `timed`)."""
        path = self._path(cell, timed)
        try:
            entry: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StudyError(f"error: {path} can't be read ({error}); delete it, and the cell is run again") from None
        return entry

    def save(self, cell: Cell, timed: bool, result: dict[str, Any], arrays: Arrays) -> dict[str, Any]:
        """Write a cell's result; gives its entry."""
        path = self._path(cell, timed)
        entry = {
            "kind": type(cell).__name__,
            "key": path.stem,
            "config": attrs.asdict(cell),
            "timed": timed,
            "result": result,
        }
        if arrays:
            with replacing(path.with_suffix(".npz")) as file:
                np.savez_compressed(file, allow_pickle=False, **arrays)
        with replacing(path) as file:
            file.write(json.dumps(entry, allow_nan=False).encode())
        return entry

    def arrays(self, key: str) -> dict[str, Any]:
        """A cell's arrays by name; empty where it has none."""
        path = self.folder / f"{key}.npz"
        if not path.exists():
            return {}
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)

    def _path(self, cell: Cell, timed: bool) -> Path:
        return self.folder / f"{cells.key_of(cell)}{'-timed' if timed else ''}.json"


def run_all(
    timed: Sequence[Cell], others: Sequence[Cell], store: Store, workers: int, executor: Executor | None = None
) -> list[dict[str, Any]]:
    """The entries of all cells, timed ones first; those that are in the store already are not run again.

    Args:
        timed: cells to run alone, one after the other, each in a process of its own.
        others: cells to map over an executor.
        store: where results are and go.
        workers: processes for the others.
        executor: any `concurrent.futures` executor to use instead, such as `mpi4py.futures.MPIPoolExecutor`.
    """
    wanted = [*((cell, True) for cell in timed), *((cell, False) for cell in dict.fromkeys(others))]
    entries = {
        (cell, is_timed): entry for cell, is_timed in wanted if (entry := store.load(cell, is_timed)) is not None
    }
    open_cells = [one for one in wanted if one not in entries]
    total = sum(cost(cell) for cell, _ in open_cells)
    if entries:
        print(f"{len(entries)} cells are there already, {len(open_cells)} are to run", flush=True)
    looks = "{desc:<60}|{bar}| {percentage:3.0f}%, {remaining} left"
    with tqdm(total=round(total), desc="study", disable=None, bar_format=looks) as bar:
        began = time.monotonic()
        for cell, is_timed, (result, arrays) in _results(open_cells, workers, executor, lambda name: _tell(bar, name)):
            entries[cell, is_timed] = store.save(cell, is_timed, result, arrays)
            bar.update(round(cost(cell)))
            if bar.disable:
                print(f"{time.monotonic() - began:7.1f} s: {describe(cell)}", flush=True)
    return [entries[one] for one in wanted]  # in the plan's order, whichever was finished first


def _results(
    open_cells: list[tuple[Cell, bool]], workers: int, executor: Executor | None, tell: Callable[[str], None]
) -> Iterator[tuple[Cell, bool, tuple[dict[str, Any], Arrays]]]:
    # A fresh interpreter for each process: threads of BLAS and PyTorch don't survive a fork.
    # Ctrl-C reaches the whole group; the default action ends a process without a traceback of its own.
    spawned = functools.partial(
        ProcessPoolExecutor,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_DFL),
    )
    for cell, is_timed in open_cells:
        if is_timed:
            tell(f"{describe(cell)}, alone")
            with spawned(1) as alone:
                yield cell, True, _outcome(cell, alone.submit(cells.run, cell))
    rest = sorted((cell for cell, is_timed in open_cells if not is_timed), key=cost, reverse=True)
    if not rest:
        return
    pool = executor or spawned(workers)
    try:
        futures: dict[Future[tuple[dict[str, Any], Arrays]], Cell] = {pool.submit(cells.run, c): c for c in rest}
        for future in as_completed(futures):
            cell = futures[future]
            tell(describe(cell))
            yield cell, False, _outcome(cell, future)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():  # none has work left unless this was cut short
            child.terminate()


def _outcome(cell: Cell, future: Future[tuple[dict[str, Any], Arrays]]) -> tuple[dict[str, Any], Arrays]:
    try:
        return future.result()
    except BrokenExecutor as error:
        raise StudyError(
            f"error: the process that ran {describe(cell)} died ({error}); was there enough memory? "
            "Run again, and the study goes on from the finished cells"
        ) from error
    except Exception as error:
        raise StudyError(f"error in {describe(cell)}: {type(error).__name__}: {error}") from error


def _tell(bar: "tqdm[Any]", text: str) -> None:
    bar.set_description_str(text[:60])


def cost(cell: Cell) -> float:
    """About how long a cell takes, in thousands of images: for the order and the time left."""
    if isinstance(cell, cells.Training):
        weight = 1.5 if cell.framework == "pytorch" else 1.0
        weight *= 2.0 if cell.dataset == "cifar10" else 1.0
        overhead = 20 / cell.batch_size  # a step has a cost of its own
        return weight * (1 + overhead) * cell.epochs * cell.train_size / 1000 + 5
    if isinstance(cell, cells.Parting):
        return 3.0 * cell.train_size / 1000 * (2 if cell.dtype == "float64" else 1)
    return 20.0


def describe(cell: Cell) -> str:
    """A cell in a few words."""
    if isinstance(cell, cells.Training):
        extras = [
            f"batch {cell.batch_size}" if cell.batch_size != 128 else "",
            cell.optimizer if cell.optimizer != "adam" else "",
            "batch norm" if cell.batch_norm else "",
            f"dropout {cell.dropout:g}" if cell.dropout else "",
        ]
        words = [cell.framework, cell.dataset, f"{cell.train_size:,} images", cell.init, *filter(None, extras)]
        return f"{', '.join(words)}, seed {cell.seed}"
    if isinstance(cell, cells.Parting):
        return f"both frameworks from equal weights, {cell.dtype}"
    return "gradient checks"


def environment(scale: str, threads: int, seconds: float) -> dict[str, Any]:
    """What the results were made with: versions, hardware, commit."""
    try:
        torch_version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch_version = None
    return {
        "scale": scale,
        "seconds": seconds,
        "date": time.strftime("%Y-%m-%d"),
        "git_commit": _commit(),
        "threads": threads,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "fcnn": fcnn.__version__,
            "matplotlib": importlib.metadata.version("matplotlib"),
            "torch": torch_version,
        },
        "hardware": {
            "processor": _processor(),
            "cores": os.cpu_count() or 1,
            "memory_gib": _memory_gib(),
            "system": platform.system(),
        },
    }


def _commit() -> str | None:
    here = Path(__file__).resolve().parent
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
