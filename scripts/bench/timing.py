"""Programs take turns, so that a machine whose speed drifts slows all alike; and what that says in numbers."""

import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import attrs

from bench.cases import BOTH, INPUT, PARTS, PLAIN, WEIGHT, Case, Sgemm, flops_of, name_of
from bench.programs import SGEMM, Program, differs
from bench.worker import Worker, WorkerError

# How far a program's first results may be from fcnn's, relative to the greatest. Of Adam's first two steps of the
# VGG-like network in float32, PyTorch's channels_last came out 1.3e-3 from its own NCHW, which was within 1e-6 of fcnn.
TOLERANCE = 5e-3
IDLE = 0.02  # seconds between turns, in which the threads of the last one stop spinning
Turns = Sequence[Mapping[str, Sequence[float]]]  # for each round and part, the seconds of each call


@attrs.frozen
class Measured:
    """A case: each program's turns, seconds until its first results, why some failed; the floor's FLOP/s by round."""

    turns: dict[str, Turns]
    first_results: dict[str, float]
    failures: dict[str, str]
    rates: Sequence[float]


def measure(case: Case, workers: Mapping[Program, Worker], inputs: Path, rounds: int, budget: float) -> Measured:
    """Time a case: A B C A B C …, one program active at a time.

    Args:
        case: what is timed.
        workers: by whom, fcnn first; with `SGEMM` among them the floor is measured in the same rounds.
        inputs: the `.npz` of the case's arrays.
        rounds: how many turns each program has.
        budget: seconds a turn and part, about.
    """
    checks, first_results, failures = {}, {}, {}
    turns: dict[Program, list[dict[str, list[float]]]] = {}
    for program, worker in workers.items():
        try:
            job = Sgemm() if program is SGEMM else case
            found, first_results[program.name] = worker.ask("prepare", job, inputs)
            checks[program.name] = found
            if program is not SGEMM and differs(found, checks.get("fcnn", found), TOLERANCE):
                raise WorkerError("it computes something else: its first results are not fcnn's")
            worker.ask("calibrate", budget / 4 if program is SGEMM else budget)
            turns[program] = []
        except WorkerError as error:
            failures[program.name] = str(error)
    for program in itertools.chain.from_iterable(list(turns) for _ in range(rounds)):
        if program in turns:
            time.sleep(IDLE)
            try:
                turns[program].append(workers[program].ask("turn"))
            except WorkerError as error:
                failures[program.name] = str(error)
                del turns[program]
    floor = [min(map(median, turn.values())) for turn in turns.pop(SGEMM, [])]
    rates = [float(checks[SGEMM.name][0]) / seconds for seconds in floor]
    named: dict[str, Turns] = {program.name: taken for program, taken in turns.items()}
    return Measured(named, {name: first_results[name] for name in named}, failures, rates)


def rows_of(case: Case, measured: Measured) -> list[dict[str, Any]]:
    """The report's rows: one for each part, and those that come of others.

    The input gradient alone is a difference; plain fcnn has a row of its own, with its ratios to PyTorch's forms.
    """
    turns = measured.turns
    rounds = {part: {name: [turn[part] for turn in taken] for name, taken in turns.items()} for part in case.parts}
    if WEIGHT in rounds and BOTH in rounds:
        rounds[INPUT] = {
            name: [[max(median(a) - median(b), 1e-9)] for a, b in zip(both, rounds[WEIGHT][name], strict=True)]
            for name, both in rounds[BOTH].items()
        }
    if "fcnn, plain" in turns:
        whole = rounds[""]
        rounds[PLAIN] = {n: whole[n] for n in whole if n == "fcnn, plain" or n.startswith("PyTorch")}
        del whole["fcnn, plain"]
    return [row(case, part, rounds[part], measured.rates) for part in PARTS if part in rounds]


def row(
    case: Case, part: str, rounds: Mapping[str, Sequence[Sequence[float]]], rates: Sequence[float] = ()
) -> dict[str, Any]:
    """One row, as plain data.

    Args:
        case, part: what was timed.
        rounds: for each program and round, the seconds of each call.
        rates: FLOP/s of the floor in each round.
    """
    times = {name: [1000 * seconds for turn in turns for seconds in turn] for name, turns in rounds.items()}
    pytorch = [name for name in times if name.startswith("PyTorch")]
    our_name = "fcnn, plain" if part == PLAIN else "fcnn"
    ours, flops = rounds.get(our_name, []), flops_of(case, part)
    floor = [rate * median(turn) / flops for turn, rate in zip(ours, rates, strict=False)] if flops else []
    return {
        "case": name_of(case),
        "part": part,
        "flops": flops,
        "ms": {name: spread(values) for name, values in times.items()},
        "ratios": {name: ratio(ours, turns) for name, turns in rounds.items() if ours and name != our_name},
        "best_pytorch": min(pytorch, key=lambda name: median(times[name]), default=None),
        "times_floor": spread(floor) if floor else None,
        "sgemm_gflops": spread([rate / 1e9 for rate in rates]) if rates else None,
    }


def ratio(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Ours / theirs: the ratio of both medians in each round, over the rounds; and the ratio of all calls' medians."""
    by_round = [median(a) / median(b) for a, b in zip(ours, theirs, strict=True)]
    a, b = (median(list(itertools.chain.from_iterable(rounds))) for rounds in (ours, theirs))
    return {**spread(by_round), "of_medians": rounded(a / b)}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, quartiles and count.

    >>> spread([3.0, 1.0, 2.0, 5.0, 4.0])
    {'median': 3.0, 'low': 2.0, 'high': 4.0, 'count': 5}
    """
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * list(values)
    return {"median": rounded(middle), "low": rounded(low), "high": rounded(high), "count": len(values)}


def rounded(value: float) -> float:
    """To 5 digits, more than any timing has."""
    return float(f"{value:.5g}")
