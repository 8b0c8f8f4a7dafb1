"""A whole run: one case after the other, its numbers written as soon as they are there.

What is measured, and how, the command line says: `arguments` are what `bench.__main__.parse` gives.
"""

import argparse
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
from machine import commit, machine, processor, slug

import fcnn
from bench import cases, draw, footprint, report
from bench.inputs import load_images, make_inputs
from bench.programs import PACKAGES, PROGRAMS, SGEMM, Program
from bench.timing import measure, rows_of
from bench.worker import Worker
from fcnn.values.files import replacing

MEMORY, IMPORTS = "LeNet-5 training, peak memory", "import time"
Section = tuple[str, dict[str, Any], dict[str, str]]  # its title, its results, and who failed and why


def names_of(arguments: argparse.Namespace) -> list[str]:
    """The names of all rows that would be measured."""
    chosen = cases.select(cases.suite(arguments.quick), arguments.only)
    timed = [cases.name_of(case, part) for case in chosen for part in case.parts]
    peaks = [cases.name_of(case, cases.PEAK) for case in cases.footprints(arguments.quick)]
    return timed + [name for name in (MEMORY, *peaks, IMPORTS) if cases.matches(name, arguments.only)]


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure what was chosen, print and write it as it comes; if anything was timed, a figure is beside the file."""
    wanted = [p for p in PROGRAMS if p.package in ("fcnn", *arguments.peers) and p.suits(arguments.threads)]
    programs = [p for p in wanted if find_spec(p.package) is not None]
    results: dict[str, Any] = {
        "format": 3,
        "commit": commit(),
        "machine": {**machine(PACKAGES), "threads": arguments.threads},
        "settings": {name: getattr(arguments, name) for name in ("rounds", "epoch_rounds", "peers", "only", "quick")},
        "notes": list(report.NOTES),
        "rows": [],
        "first_results_s": {},
        "memory_mib": {},
        "peaks_mib": {},
        "import_s": {},
        "not_compared": [[p.name, "everything", f"not installed: {p.install}"] for p in wanted if p not in programs],
    }
    print(report.heading(results), flush=True)
    path = path_of(arguments)
    _write(results, path)
    for title, found, failures in _sections(arguments, programs, results["notes"]):
        for name, value in found.items():
            results[name] = results[name] + value if isinstance(value, list) else results[name] | value
        results["not_compared"] += [[name, title, reason] for name, reason in failures.items()]
        _write(results, path)
        print(report.section(title, found), flush=True)
    if any(row["ms"] for row in results["rows"]):
        with replacing(path.with_suffix(".png")) as file:
            draw.figure(results).savefig(file, format="png")
    return results


def path_of(arguments: argparse.Namespace) -> Path:
    """The file of the results, named by the processor as those in `scripts/bench/results` are."""
    return Path(arguments.out) / f"{slug(processor())}.json"


def _write(results: dict[str, Any], path: Path) -> None:
    with replacing(path) as file:
        file.write(json.dumps(results, indent=1, allow_nan=False).encode())


def _sections(arguments: argparse.Namespace, programs: list[Program], notes: list[str]) -> Iterator[Section]:
    suite, budget = cases.suite(arguments.quick), 0.01 if arguments.quick else 0.2  # seconds a turn and part

    @functools.cache
    def images(data: str) -> fcnn.Dataset:
        found = load_images(data, arguments.data, arguments.quick)
        notes.extend([report.RANDOM_IMAGES.format(data)] if found.name == "random" else [])
        return found

    with tempfile.TemporaryDirectory(prefix="fcnn-bench-") as scratch:
        inputs = Path(scratch) / "inputs.npz"
        with contextlib.ExitStack() as stack:
            workers = {program: Worker(program, arguments.threads) for program in (*programs, SGEMM)}
            for worker in workers.values():
                stack.callback(worker.close)
            for case in cases.select(suite, arguments.only):
                np.savez(inputs, **make_inputs(case, images))
                names = (*case.programs, *([SGEMM.name] if cases.flops_of(case, case.parts[0]) else []))
                chosen = {program: worker for program, worker in workers.items() if program.name in names}
                rounds = arguments.epoch_rounds if isinstance(case, cases.Epoch) else arguments.rounds
                found, title = measure(case, chosen, inputs, rounds, budget), cases.name_of(case)
                first = {name: round(found.first_results[name], 2) for name in cases.COMPILED if name in found.turns}
                yield title, {"rows": rows_of(case, found), "first_results_s": {title: first}}, found.failures
        # Memory is measured after the workers have ended, who would share pages of libraries with those measured.
        if cases.matches(MEMORY, arguments.only):
            case = next(case for case in suite if isinstance(case, cases.Epoch))
            case = attrs.evolve(case, steps=min(100, case.images // case.batch))
            np.savez(inputs, **make_inputs(case, images))
            trained = [program for program in programs if program.name in case.programs]
            memory, failures = footprint.peak_memory(case, trained, inputs, arguments.threads)
            yield MEMORY, {"memory_mib": memory}, failures
        for case in cases.footprints(arguments.quick):
            if cases.matches(title := cases.name_of(case, cases.PEAK), arguments.only):
                np.savez(inputs, **make_inputs(case, images))
                working = [program for program in programs if program.name in case.programs]
                peaks, failures = footprint.peak_beyond_imports(case, working, inputs, arguments.threads, 5 * budget)
                yield title, {"peaks_mib": {title: peaks}}, failures
    if cases.matches(IMPORTS, arguments.only):
        packages = list(dict.fromkeys(["fcnn", "numpy", *(program.package for program in programs)]))
        imports, failures = footprint.import_times(packages, 2 if arguments.quick else 9)
        yield IMPORTS, {"import_s": imports}, failures
