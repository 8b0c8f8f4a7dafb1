"""A whole run: one case after the other, its numbers written as soon as they are there."""

import contextlib
import functools
import json
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from bench import cases, draw, footprint, report
from bench.inputs import Images, load_images, make_inputs
from bench.programs import PROGRAMS, SGEMM, Program
from bench.timing import measure, rows_of
from bench.worker import Worker
from fcnn.values.files import replacing

MEMORY, IMPORTS = "LeNet-5 training, peak memory", "import time"
Found = tuple[str, dict[str, Any], dict[str, str]]  # a section's title, its results, and who failed and why


@attrs.frozen(kw_only=True)
class Settings:
    """What the command line chose."""

    threads: int
    rounds: int
    epoch_rounds: int
    peers: tuple[str, ...]
    only: tuple[str, ...]
    quick: bool
    data: str | None
    out: Path


def names_of(settings: Settings) -> list[str]:
    """The names of all rows that would be measured."""
    chosen = cases.select(cases.suite(settings.quick), settings.only)
    timed = [cases.name_of(case, part) for case in chosen for part in case.parts]
    return timed + [name for name in (MEMORY, IMPORTS) if cases.matches(name, settings.only)]


def run(settings: Settings) -> dict[str, Any]:
    """Measure what was chosen, print it as it comes, and write results.json and ratios.png."""
    wanted = [p for p in PROGRAMS if p.package in ("fcnn", *settings.peers) and (p.threads or 0) < settings.threads]
    programs = [p for p in wanted if find_spec(p.package) is not None]
    results: dict[str, Any] = {
        "format": 1,
        "machine": report.machine(settings.threads),
        "settings": {name: getattr(settings, name) for name in ("rounds", "epoch_rounds", "peers", "only", "quick")},
        "notes": list(report.NOTES),
        "rows": [],
        "first_results_s": {},
        "memory_mib": {},
        "import_s": {},
        "not_compared": [[p.name, "everything", f"not installed: {p.install}"] for p in wanted if p not in programs],
    }
    print(report.heading(results), flush=True)
    _write(results, settings.out)
    for title, found, failures in _sections(settings, programs, results["notes"]):
        for name, value in found.items():
            results[name] = results[name] + value if isinstance(value, list) else results[name] | value
        results["not_compared"] += [[name, title, reason] for name, reason in failures.items()]
        _write(results, settings.out)
        print(report.section(title, found), flush=True)
    with replacing(settings.out / "ratios.png") as file:
        draw.figure(results).savefig(file, format="png")
    return results


def _write(results: dict[str, Any], folder: Path) -> None:
    with replacing(folder / "results.json") as file:
        file.write(json.dumps(results, indent=1, allow_nan=False).encode())


def _sections(settings: Settings, programs: list[Program], notes: list[str]) -> Iterator[Found]:
    suite, budget = cases.suite(settings.quick), 0.01 if settings.quick else 0.2  # seconds a turn and part

    @functools.cache
    def images() -> Images:
        found = load_images(settings.data, settings.quick)
        notes.extend(filter(None, [found.note]))
        return found

    with tempfile.TemporaryDirectory(prefix="fcnn-bench-") as scratch, contextlib.ExitStack() as stack:
        inputs = Path(scratch) / "inputs.npz"
        workers = {program: Worker(program, settings.threads) for program in (*programs, SGEMM)}
        for worker in workers.values():
            stack.callback(worker.close)
        for case in cases.select(suite, settings.only):
            np.savez(inputs, allow_pickle=False, **make_inputs(case, images))
            names = (*case.programs, *([SGEMM.name] if cases.flops_of(case, case.parts[0]) else []))
            chosen = {program: worker for program, worker in workers.items() if program.name in names}
            rounds = settings.epoch_rounds if isinstance(case, cases.Epoch) else settings.rounds
            found, title = measure(case, chosen, inputs, rounds, budget), cases.name_of(case)
            first = {name: round(found.first_results[name], 2) for name in cases.COMPILED if name in found.turns}
            yield title, {"rows": rows_of(case, found), "first_results_s": {title: first}}, found.failures
        if cases.matches(MEMORY, settings.only):
            case = next(case for case in suite if isinstance(case, cases.Epoch))
            case = attrs.evolve(case, steps=min(100, case.images // case.batch))
            np.savez(inputs, allow_pickle=False, **make_inputs(case, images))
            trained = [program for program in programs if program.name in case.programs]
            memory, failures = footprint.peak_memory(case, trained, inputs, settings.threads)
            yield MEMORY, {"memory_mib": memory}, failures
    if cases.matches(IMPORTS, settings.only):
        packages = list(dict.fromkeys(["fcnn", "numpy", *(program.package for program in programs)]))
        imports, failures = footprint.import_times(packages, 2 if settings.quick else 9)
        yield IMPORTS, {"import_s": imports}, failures
