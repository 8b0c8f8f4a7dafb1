"""One cell, in whatever process: its numbers, its arrays, and the machine that it ran on."""

import functools
from typing import Any, NamedTuple

from machine import machine

from study.experiment.cells import Arrays, Cell, Parting, Timing, Training
from study.experiment.gradients import run_gradient_checks
from study.experiment.timing import run_timing
from study.experiment.training import run_training


class Outcome(NamedTuple):
    """What a cell gives: numbers ready for JSON, arrays by name, and `machine.machine`."""

    result: dict[str, Any]
    arrays: Arrays
    machine: dict[str, Any]


def run(cell: Cell) -> Outcome:
    """Run a cell. PyTorch is imported only where the cell needs it."""
    if isinstance(cell, Training):
        return Outcome(*run_training(cell), _here())
    if isinstance(cell, Timing):
        return Outcome(run_timing(cell), {}, _here())
    if isinstance(cell, Parting):
        from study.experiment.parting import run_parting

        return Outcome(run_parting(cell), {}, _here())
    return Outcome(run_gradient_checks(cell), {}, _here())


@functools.cache
def _here() -> dict[str, Any]:
    return machine(("numpy", "torch"))
