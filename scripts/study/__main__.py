"""The comparative study: LeNet-5 in fcnn and in PyTorch, side by side, on one page.

    python scripts/study                   # about five minutes: MNIST and CIFAR-10, both frameworks, small sweeps
    python scripts/study --quick           # about a minute: digits that the library draws itself; no network
    python scripts/study --full            # everything, on all images; up to an hour and a half
    mpiexec -n 9 python -m mpi4py.futures scripts/study --full --mpi     # the sweeps on 8 MPI processes, of a cluster

Writes a folder with report.html, report.md, results.json and the figures. Interrupted, it goes on where it stopped.
PyTorch's half needs PyTorch (`pip install torch==2.13.0`); without it the rest runs, and the page says so.
"""

import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
# However this folder was started: scripts import one another by their places in the folder above.
sys.path.insert(0, str(SCRIPTS))

import stopping

stopping.at_once(__name__)  # before the other imports, which take a second

import argparse
import contextlib
import importlib.util
import json
import math
import os
import time
from concurrent.futures import Executor

from console import program
from machine import commit, cores
from options import whole

import fcnn
from fcnn.values.files import replacing
from study.experiment.plan import SCALES, plan
from study.experiment.protocol import dataset
from study.experiment.reuse import reuse
from study.experiment.runner import run_all
from study.experiment.store import Store, StudyError


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    arguments = parser().parse_args(argv)
    folder = Path(arguments.out or f"runs/study-{arguments.scale}")
    if arguments.data:
        os.environ["FCNN_DATA"] = str(Path(arguments.data).resolve())  # the processes read it, too
    goes_on = "run again the study goes on from them"
    try:
        with mpi_pool() if arguments.mpi else contextlib.nullcontext() as pool:
            study(arguments, folder, pool)
    except (StudyError, fcnn.data.DataError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\nerror: {error}; finished cells are kept, and {goes_on}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(
            f"\n{stopping.word_for(interrupt)}; finished cells are in {folder}, and {goes_on}",
            file=sys.stderr,
        )
        return stopping.code_of(interrupt)
    return 0


def parser() -> argparse.ArgumentParser:
    """What the command line can say."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scale = made.add_mutually_exclusive_group()
    scale.add_argument("--quick", action="store_const", const="quick", dest="scale", help="about a minute, no network")
    scale.add_argument("--full", action="store_const", const="full", dest="scale", help="everything")
    made.set_defaults(scale="default")
    made.add_argument("--out", metavar="FOLDER", help="where the page goes (default runs/study-SCALE)")
    made.add_argument("--data", metavar="FOLDER", help="where the data sets are (default: $FCNN_DATA, cache, download)")
    made.add_argument("--workers", type=whole(1), default=cores(), help="processes (default: every core)")
    made.add_argument("--mpi", action="store_true", help="the sweeps on the ranks of mpi4py.futures instead (above)")
    made.add_argument("--no-torch", action="store_true", help="leave PyTorch out although it is installed")
    made.add_argument(
        "--reuse",
        metavar="RESULTS.json",
        type=Path,
        help="take the runs in the results.json of an earlier study, all but the timed ones and those whose arrays a "
        "figure needs, instead of running them again",
    )
    return made


def mpi_pool() -> Executor:
    """The executor over all ranks but this one, which `python -m mpi4py.futures` made its workers."""
    try:
        from mpi4py import MPI
        from mpi4py.futures import MPIPoolExecutor
    except (ImportError, RuntimeError) as error:  # a RuntimeError where there is no MPI library
        raise StudyError(f"error: --mpi needs mpi4py and an MPI library ({error}); pip install mpi4py mpich") from None
    if "mpi4py.futures" not in sys.orig_argv or MPI.COMM_WORLD.size < 2:
        raise StudyError(
            "error: --mpi needs ranks to run cells on; start it as\n"
            "  mpiexec -n N python -m mpi4py.futures scripts/study … --mpi\nwith an N of at least 2"
        )
    # The workers run no script: they are told where the scripts are, and the data.
    found = {"FCNN_DATA": os.environ["FCNN_DATA"]} if "FCNN_DATA" in os.environ else {}
    return MPIPoolExecutor(main=False, path=[str(SCRIPTS)], env=found)


def study(arguments: argparse.Namespace, folder: Path, pool: Executor | None) -> None:
    """Run what is missing, then write the page."""
    from study.figures.catalogue import save_figures
    from study.figures.plot import Study
    from study.findings.summary import summarise
    from study.page.explorer import write_explorer
    from study.page.report import write_report

    began = time.monotonic()
    if arguments.data and not Path(arguments.data).is_dir():
        raise StudyError(f"error: --data {arguments.data}: no such folder; name the one with the data sets")
    try:
        (folder / "cells").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(
            f"error: can't make the folder {folder} ({error.strerror}); choose another with --out"
        ) from None
    missing = without_torch(arguments.no_torch)
    print(*missing, sep="\n", end="\n" if missing else "")
    cells = plan(SCALES[arguments.scale], ("fcnn",) if missing else ("fcnn", "pytorch"), cores())
    store = Store(folder / "cells")
    if arguments.reuse:
        print(reuse(arguments.reuse, cells, store))
    for name in SCALES[arguments.scale].headline:
        print(f"data set {name} …", flush=True)
        dataset(name, 1)  # a download, or an error, comes before the work
    spent = folder / "cells" / "seconds.json"
    try:
        entries = run_all(cells, store, arguments.workers, pool)
    finally:  # what was interrupted has taken its time, too
        seconds = time.monotonic() - began + seconds_before(spent)
        with replacing(spent) as file:
            file.write(json.dumps(seconds).encode())
    arrays = {entry["key"]: store.arrays(entry["key"]) for entry in entries if entry["config"].get("detail")}
    results = {
        "meta": {
            "scale": arguments.scale,
            "seconds": seconds,
            "date": time.strftime("%Y-%m-%d"),
            "git_commit": commit(),
            "workers": arguments.workers,
        },
        "missing": missing,
        "cells": entries,
        "summary": summarise(entries, arrays),
    }
    results["meta"]["explorer"] = write_explorer(Study(results, arrays, lambda name: dataset(name, 1)), folder)
    with replacing(folder / "results.json") as file:
        file.write(json.dumps(results, indent=1, allow_nan=False).encode())
    print("drawing the figures …", flush=True)
    figures = save_figures(results, arrays, lambda name: dataset(name, 1), folder / "figures")
    write_report(results, figures, folder)
    print(f"the page: {folder / 'report.html'} (and report.md, results.json, figures/)")


def seconds_before(path: Path) -> float:
    """How long the study has taken in earlier calls, as far as is known."""
    try:
        seconds = float(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):  # none, or damaged: it is told on the page, and nothing depends on it
        return 0.0
    return seconds if 0 <= seconds < math.inf else 0.0


def without_torch(left_out: bool) -> list[str]:
    """Why PyTorch's half of the study is missing, if it is, as the page says it."""
    if left_out:
        return ["PyTorch was left out with --no-torch: its half of the study is missing."]
    if importlib.util.find_spec("torch") is None:
        return ["PyTorch is not installed: its half of the study is missing. Add it with: pip install torch==2.13.0"]
    return []


if __name__ == "__main__":
    sys.exit(program(main))
