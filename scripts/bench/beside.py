"""What fcnn does and doesn't beside other programs, each installed alone, as `pip install` leaves it.

Every cell is what a run found: nothing is known of a program beforehand but its name, and how it is called
(`beside_worker.py`). Each has a virtual environment of its own in a temporary folder; processes are fresh ones, and
programs take turns. Programs take as many threads as they do by themselves.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import numpy as np
from machine import ROOT, commit, machine, processor, slug

import fcnn
from bench import machines, timing
from bench.networks import LENET, NETWORKS
from bench.programs import Array, differs
from fcnn.values.files import replacing
from fcnn.values.tree import flatten

IMAGES, TOLERANCE = 128, 1e-4  # outputs may differ by that much of the greatest
PATIENCE = 1800  # seconds until an installation or a worker counts as dead
WORKER = Path(__file__).with_name("beside_worker.py")
Found: TypeAlias = dict[str, Any]
Ask: TypeAlias = Callable[..., dict[str, Any]]


class Failed(Exception):
    """Something could not be done; the message is the error's."""


@attrs.frozen
class Program:
    """A column: its name, the module that is imported, what pip installs, and what is added if a module is missing.

    With `converts`, what is added is there only to convert the ONNX file, and to try a training step.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    added: str = ""
    converts: bool = False


PROGRAMS = (
    Program("fcnn", "fcnn", ("fcnn",)),
    # So spelled it is the build for CPUs where there is one. The images are NumPy's, which PyTorch doesn't bring.
    Program("PyTorch", "torch", ("torch==2.13.0", "numpy")),
    Program("Keras, NumPy backend", "keras", ("keras",), added="jax"),
    Program("planer", "planer", ("planer",), added="onnx", converts=True),
    Program("onnx.reference", "onnx.reference", ("onnx",)),
)


def run(arguments: argparse.Namespace) -> Found:
    """Measure and write as it comes; the results."""
    path = path_of(arguments)
    results: Found = {"format": 1, "commit": commit(), "machine": machine(("numpy",)), "programs": {}}
    results["settings"] = {name: getattr(arguments, name) for name in ("rounds", "quick")}
    with tempfile.TemporaryDirectory(prefix="fcnn-bench-") as scratch:
        folder, opened, expected = Path(scratch), dict[Program, Ask](), np.empty(0)
        write_inputs(folder)
        write_models(folder)
        for program in PROGRAMS:
            print(f"{program.name}: installing and trying it", flush=True)
            results["programs"][program.name] = found = dict[str, Any]()
            try:
                ask = opened_in(folder, program, found)
                outputs = np.array(ask("forward", 0.0)["outputs"])
                expected = expected if len(expected) else outputs
                if differs(outputs, expected, TOLERANCE):
                    raise Failed("it computes something else: its outputs are not fcnn's")
                opened[program] = ask
            except Failed as failure:
                found["failed"] = str(failure)
            _write(results, path)
        for program, ask in opened.items():
            found = results["programs"][program.name]
            for task in ("peak", "train"):
                try:
                    found[task] = ask(task)
                except Failed as failure:
                    found[task] = {"error": str(failure)}
            _write(results, path)
        for name, values in in_turn(opened, arguments.rounds, 0.02 if arguments.quick else 0.5).items():
            results["programs"][name] |= values
        _write(results, path)
    return results


def path_of(arguments: argparse.Namespace) -> Path:
    """The file of the results, named by the processor."""
    return Path(arguments.out) / f"{machines.BESIDE}{slug(processor())}.json"


def in_turn(opened: Mapping[Program, Ask], rounds: int, seconds: float) -> dict[str, Found]:
    """By program, spreads over rounds of an import's seconds and of the median ms of forward passes; or why not."""
    taken: dict[Program, dict[str, list[float]]] = {one: {"import_s": [], "one_ms": [], "all_ms": []} for one in opened}
    failures: dict[Program, str] = {}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        for program in [one for one in opened if one not in failures]:
            try:
                answer = opened[program]("forward", seconds) | {"import_s": opened[program]("import")["seconds"]}
            except Failed as failure:
                failures[program] = str(failure)
                continue
            for name, values in taken[program].items():
                values.append(answer[name])
    return {
        program.name: {"failed": failures[program]}
        if program in failures
        else {name: timing.spread(values) for name, values in measured.items()}
        for program, measured in taken.items()
    }


def opened_in(folder: Path, program: Program, found: Found) -> Ask:
    """Install a program; what asks it for a task. `found` gets what was found on the way. Raises Failed."""
    packages = program.packages
    sources = [str(_copy_of_fcnn(folder))] if packages == ("fcnn",) else packages
    python = trainer = install(folder / program.module, *sources)
    try:
        _ask(python, program.module, "forward", folder, 0.0)
    except Failed as failure:
        if not (program.added and str(failure).startswith("ModuleNotFoundError")):
            raise
        found["alone"] = str(failure)
        trainer = install(folder / f"{program.module}-added", *sources, program.added)
        if program.converts:
            found["remedy"] = f"with a file converted where {program.added} is installed too"
            _output(folder, trainer, "-c", f"import {program.module} as m; m.onnx2pla('lenet.onnx')")
        else:
            python, packages = trainer, (*packages, program.added)
            found["remedy"] = f"with {program.added} installed too"
    found |= contents(python)
    found["chosen"] = [package.partition("==")[0] for package in packages]

    def ask(task: str, seconds: float = 0.0) -> dict[str, Any]:
        if task == "import":
            return {"seconds": import_seconds(folder, python, program.module)}
        return _ask(trainer if task == "train" else python, program.module, task, folder, seconds)

    import_seconds(folder, python, program.module)  # compiles the files and brings them into memory
    return ask


def install(place: Path, *packages: str) -> Path:
    """The interpreter of a new environment with these packages and nothing else. Raises Failed."""
    venv.create(place)
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"pip did not end in {PATIENCE} s") from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["it gave no reason"]
        raise Failed(f"pip: {errors[-1][:200]}")
    return python


def contents(python: Path) -> Found:
    """What an environment holds: versions, size in MB (10^6 bytes), and compiled modules by package, but NumPy's."""
    site = next(python.parents[1].rglob("site-packages"))
    installed = list(distributions(path=[str(site)]))
    counts = {one.name: sum(file.suffix in (".so", ".pyd") for file in one.files or ()) for one in installed}
    return {
        "versions": {one.name: one.version for one in installed},
        "size_mb": round(sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) / 1e6, 1),
        "compiled": {name: count for name, count in sorted(counts.items()) if count and name != "numpy"},
    }


def write_inputs(folder: Path) -> None:
    """Images, labels and weights."""
    rng = np.random.default_rng(0)
    x, y = rng.random((IMAGES, *NETWORKS[LENET].in_shape), np.float32), rng.integers(0, 10, IMAGES)
    np.savez(folder / "inputs.npz", x=x, y=y, **_params())


def write_models(folder: Path) -> None:
    """The files of ONNX, made with the package onnx of this interpreter."""
    from bench import onnx_kit

    network = NETWORKS[LENET]
    made, params, in_shape = network.make(onnx_kit), _params(), network.in_shape
    (folder / "lenet.onnx").write_bytes(onnx_kit.plain_model(made, params, in_shape))
    (folder / "train.onnx").write_bytes(onnx_kit.training_model(made, params, in_shape, 10))


def _params() -> dict[str, Array]:
    network = NETWORKS[LENET]
    return dict(flatten(network.make(fcnn).init(fcnn.key(0), network.in_shape).params))


def import_seconds(folder: Path, python: Path, module: str) -> float:
    """Of an import in a fresh interpreter, less an empty one's."""
    began = time.perf_counter()
    _output(folder, python, "-c", "pass")
    empty = time.perf_counter()
    _output(folder, python, "-c", f"import {module}")
    return time.perf_counter() - empty - (empty - began)


def _ask(python: Path, module: str, task: str, folder: Path, seconds: float) -> dict[str, Any]:
    """A task's answer from a fresh process. Raises Failed."""
    answer: dict[str, Any] = json.loads(
        _output(folder, python, str(WORKER), module, task, str(seconds)).splitlines()[-1]
    )
    if "error" in answer:
        raise Failed(answer["error"])
    return answer


def _output(folder: Path, python: Path, *arguments: str) -> str:
    """What a process prints, which sees nothing of this one's Python and home. Raises Failed."""
    environment = {**os.environ, "HOME": str(folder), "USERPROFILE": str(folder), "KERAS_BACKEND": "numpy"}
    command = [str(python), "-I", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"it did not end in {PATIENCE} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Failed(f"its process died (exit code {done.returncode}): {last[:200]}")
    return done.stdout


def _copy_of_fcnn(folder: Path) -> Path:
    """The library's sources without what else is in the repository, since building writes beside them."""
    sources = folder / "sources"
    shutil.copytree(ROOT / "fcnn", sources / "fcnn", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    return sources


def _write(results: Found, path: Path) -> None:
    with replacing(path) as file:
        file.write(json.dumps(results, indent=1, allow_nan=False).encode())
