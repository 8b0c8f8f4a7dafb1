"""Run cells: each at most once, those that measure time alone, the others over all cores."""

import functools
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

import stopping

from study.experiment.cells import Cell, Parting, Timing, Training
from study.experiment.run import Outcome, run
from study.experiment.store import Store, StudyError

if TYPE_CHECKING:
    from tqdm import tqdm  # at run time where it is used, so that the study can say that it is missing

PLAIN = Training()
LOOKS = "{desc:<60}|{bar}| {percentage:3.0f}%, {remaining} left"


def run_all(
    wanted: Sequence[Cell], store: Store, workers: int, executor: Executor | None = None
) -> list[dict[str, Any]]:
    """The entries of all cells, in this order; those that are in the store already are not run again.

    Args:
        wanted: the cells. Those that measure time run first, one after the other, alone on the machine.
        store: where results are and go.
        workers: processes for the others.
        executor: any `concurrent.futures` executor to use instead, such as `mpi4py.futures.MPIPoolExecutor`.
    """
    from tqdm import tqdm

    entries = {cell: store.load(cell) for cell in wanted}
    left = [cell for cell, entry in entries.items() if entry is None]
    if len(left) < len(entries):
        print(f"{len(entries) - len(left)} cells are there already, {len(left)} are to run", flush=True)
    with tqdm(total=round(sum(map(cost, left))), desc="study", disable=None, bar_format=LOOKS) as bar:
        began = time.monotonic()
        for cell, outcome in _outcomes(left, workers, executor, bar):
            entries[cell] = store.save(cell, outcome)
            bar.update(round(cost(cell)))
            if bar.disable:
                print(f"{time.monotonic() - began:7.1f} s: {describe(cell)}", flush=True)
    return [entry for entry in entries.values() if entry is not None]


def _outcomes(
    left: Sequence[Cell], workers: int, executor: Executor | None, bar: "tqdm[Any]"
) -> Iterator[tuple[Cell, Outcome]]:
    for cell in left:
        if isinstance(cell, Timing):
            bar.set_description_str(describe(cell)[:60])
            yield cell, _outcome(cell, functools.partial(run, cell))
    others = sorted((cell for cell in left if not isinstance(cell, Timing)), key=cost, reverse=True)
    if not others:
        return
    pool = executor or ProcessPoolExecutor(
        workers,
        # A fresh interpreter for each process: threads of BLAS and PyTorch don't survive a fork.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=stopping.as_child,
    )
    try:
        with stopping.sparing_children():
            futures = {pool.submit(run, cell): cell for cell in others}
        for future in as_completed(futures):
            bar.set_description_str(describe(futures[future])[:60])
            yield futures[future], _outcome(futures[future], future.result)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if pool is not executor:
            for child in multiprocessing.active_children():  # none has work left unless this was cut short
                child.kill()


def _outcome(cell: Cell, result: Callable[[], Outcome]) -> Outcome:
    try:
        return result()
    except BrokenExecutor as error:
        raise StudyError(
            f"error: the process that ran {describe(cell)} died ({error}); was there enough memory? "
            "Run again, and the study goes on from the finished cells"
        ) from error
    except Exception as error:
        raise StudyError(f"error in {describe(cell)}: {type(error).__name__}: {error}") from error


def cost(cell: Cell) -> float:
    """About how long a cell takes, in thousands of images that fcnn trains on: for the order and the time left."""
    thousands = getattr(cell, "train_size", 0) / 1000
    if isinstance(cell, Training):
        weight = (1.3 if cell.dataset == "cifar10" else 1.0) * (1.1 if cell.framework == "pytorch" else 1.0)
        overhead = 1 + 20 / cell.batch_size  # a step has a cost of its own
        return weight * overhead * cell.epochs * thousands + 3 * (cell.epochs if cell.detail else 1)
    if isinstance(cell, Timing):
        return 40 + len(cell.frameworks) * cell.epochs * thousands / cell.threads
    if isinstance(cell, Parting):
        return 3.0 * thousands * (2 if cell.dtype == "float64" else 1)
    return 20.0


def describe(cell: Cell) -> str:
    """A cell in a few words."""
    if isinstance(cell, Training):
        varied = ("batch_norm", "dropout", "optimizer", "lr", "batch_size")
        changed = [f"{name} {getattr(cell, name)}" for name in varied if getattr(cell, name) != getattr(PLAIN, name)]
        size = f"{cell.train_size:,} images"
        return ", ".join([cell.framework, cell.dataset, size, cell.init, *changed, f"seed {cell.seed}"])
    if isinstance(cell, Timing):
        return f"{' and '.join(cell.frameworks)} timed in turn, {cell.dataset}, {cell.train_size:,} images"
    if isinstance(cell, Parting):
        return f"both frameworks from equal weights, {cell.dtype}"
    return "gradient checks"
