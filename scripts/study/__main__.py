"""The comparative study: LeNet-5 in fcnn and in PyTorch, side by side, on one page.

    python scripts/study                   # about five minutes: MNIST, both frameworks, small sweeps
    python scripts/study --quick           # about a minute: digits that the library draws itself; no network
    python scripts/study --full            # MNIST and CIFAR-10, all seeds; up to an hour and a half
    mpiexec -n 9 python -m mpi4py.futures scripts/study --full --mpi     # the sweeps on 8 MPI processes, of a cluster

Writes a folder with report.html, report.md, results.json and the figures. Interrupted, it goes on where it stopped.
PyTorch's half needs PyTorch (`pip install torch==2.13.0`); without it the rest runs, and the page says so.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import sys
import time
from concurrent.futures import Executor
from pathlib import Path

# However this folder was started: scripts import one another by their places in the folder above.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fcnn
from fcnn.values.files import replacing
from study.experiment.cells import dataset
from study.experiment.plan import plan
from study.experiment.runner import Store, StudyError, environment, run_all


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--quick", action="store_const", const="quick", dest="scale", help="about a minute, no network")
    scale.add_argument("--full", action="store_const", const="full", dest="scale", help="everything")
    parser.add_argument("--out", metavar="FOLDER", help="where the page goes (default runs/study-SCALE)")
    parser.add_argument(
        "--data", metavar="FOLDER", help="where the data sets are (default: $FCNN_DATA, cache, download)"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: every core)")
    parser.add_argument("--mpi", action="store_true", help="the sweeps on the ranks of mpi4py.futures instead (above)")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out although it is installed")
    arguments = parser.parse_args(argv)
    name = arguments.scale or "default"
    folder = Path(arguments.out or f"runs/study-{name}")
    if arguments.workers < 1:
        parser.error(f"--workers expects at least 1, got {arguments.workers}")
    if arguments.data:
        os.environ["FCNN_DATA"] = str(Path(arguments.data).resolve())  # the processes read it, too
    try:
        with mpi_pool() if arguments.mpi else contextlib.nullcontext() as pool:
            study(name, folder, arguments.workers, pool, with_torch=not arguments.no_torch)
    except (StudyError, fcnn.data.DataError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\nerror: {error}; finished cells are kept, and run again the study goes on from them", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"\ninterrupted; finished cells are in {folder}, and run again the study goes on from them", file=sys.stderr
        )
        return 130
    return 0


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
    # The workers run no script: they are told where cells.py is, and the data.
    found = {"FCNN_DATA": os.environ["FCNN_DATA"]} if "FCNN_DATA" in os.environ else {}
    return MPIPoolExecutor(main=False, path=[str(Path(__file__).parent)], env=found)


def study(scale: str, folder: Path, workers: int, pool: Executor | None, with_torch: bool) -> None:
    """Run what is missing, then write the page."""
    from study.figures.catalogue import save_figures
    from study.findings.summary import summarise
    from study.page.report import write_report

    began = time.monotonic()
    try:
        (folder / "cells").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(
            f"error: can't make the folder {folder} ({error.strerror}); choose another with --out"
        ) from None
    missing = []
    has_torch = with_torch and importlib.util.find_spec("torch") is not None
    if not has_torch:
        missing.append(
            "PyTorch was left out with --no-torch: its half of the study is missing."
            if not with_torch
            else "PyTorch is not installed: its half of the study is missing. Add it with: pip install torch==2.13.0"
        )
        print(missing[0])
    todo = plan(scale, ("fcnn", "pytorch") if has_torch else ("fcnn",), os.cpu_count() or 1)
    for name in dict.fromkeys(cell.dataset for cell in todo.timed):
        print(f"data set {name} …", flush=True)
        dataset(name, 1)  # a download, or an error, comes before the work
    store = Store(folder / "cells")
    entries = run_all(todo.timed, todo.others, store, workers, pool)

    spent = folder / "cells" / "seconds.json"
    seconds = time.monotonic() - began + (json.loads(spent.read_text()) if spent.exists() else 0.0)
    with replacing(spent) as file:
        file.write(json.dumps(seconds).encode())
    arrays = {entry["key"]: store.arrays(entry["key"]) for entry in entries if entry["config"].get("detail")}
    results = {
        "meta": environment(scale, os.cpu_count() or 1, seconds),
        "missing": missing,
        "cells": entries,
        "summary": summarise(entries, arrays),
    }
    with replacing(folder / "results.json") as file:
        file.write(json.dumps(results, indent=1, allow_nan=False).encode())
    print("drawing the figures …", flush=True)
    figures = save_figures(results, arrays, lambda name: dataset(name, 1), folder / "figures")
    write_report(results, figures, folder)
    print(f"the page: {folder / 'report.html'} (and report.md, results.json, figures/)")


if __name__ == "__main__":
    sys.exit(main())
