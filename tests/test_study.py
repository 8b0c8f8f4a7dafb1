"""The study from end to end at its quick scale, and the promises of its runner."""

import importlib.util
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

STUDY = Path(__file__).parents[1] / "scripts" / "study"
TORCH = importlib.util.find_spec("torch") is not None


def run_study(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", STUDY, *map(str, arguments)], capture_output=True, text=True, timeout=500
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The folder of one whole quick run."""
    folder = tmp_path_factory.mktemp("study") / "quick"
    done = run_study("--quick", "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_quick_ends_with_the_page_and_its_numbers(quick):
    results = json.loads((quick / "results.json").read_text())
    assert results["meta"]["scale"] == "quick"
    frameworks = {cell["config"]["framework"] for cell in results["cells"] if cell["kind"] == "Training"}
    assert frameworks == ({"fcnn", "pytorch"} if TORCH else {"fcnn"})
    assert bool(results["missing"]) is not TORCH
    assert (quick / "report.html").stat().st_size > 100_000
    assert (quick / "report.md").exists()
    figures = {path.stem for path in (quick / "figures").glob("*.png")}
    assert len(figures) >= 8
    assert figures == {path.stem for path in (quick / "figures").glob("*.svg")}


def test_run_again_no_cell_is_run_and_the_numbers_are_the_same(quick):
    before = json.loads((quick / "results.json").read_text())["cells"]
    done = run_study("--quick", "--out", quick)
    assert done.returncode == 0, done.stderr
    assert f"{len(before)} cells are there already, 0 are to run" in done.stdout
    assert json.loads((quick / "results.json").read_text())["cells"] == before


def test_a_damaged_result_is_named(quick, tmp_path):
    cells = tmp_path / "cells"
    cells.mkdir()
    for path in (quick / "cells").iterdir():
        (cells / path.name).write_bytes(path.read_bytes())
    damaged = sorted(cells.glob("training-*.json"))[0]
    damaged.write_text(damaged.read_text()[:100])
    done = run_study("--quick", "--out", tmp_path)
    assert done.returncode == 1
    assert f"{damaged} can't be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    done = run_study("--quick", "--out", tmp_path / "file" / "study")
    assert done.returncode == 1
    assert "can't make the folder" in done.stderr
    assert "Traceback" not in done.stderr


def small(**settings):
    from study.experiment.cells import Training

    return Training(**{"dataset": "digits", "train_size": 300, "epochs": 1, **settings})


def timeless(result):
    """A result without what depends on the machine's mood."""
    history = [{k: v for k, v in item.items() if k != "seconds"} for item in result["history"]]
    return {"history": history, "test_accuracy": result["test_accuracy"], "macro_f1": result["macro_f1"]}


@pytest.mark.parametrize(
    "framework", ["fcnn", pytest.param("pytorch", marks=pytest.mark.skipif(not TORCH, reason="no torch"))]
)
def test_a_cell_is_a_pure_function_of_its_settings(framework):
    from study.experiment.cells import key_of, run

    cell = small(framework=framework)
    assert timeless(run(cell)[0]) == timeless(run(cell)[0])
    other = attrs.evolve(cell, seed=1)
    assert timeless(run(cell)[0]) != timeless(run(other)[0])
    assert key_of(cell) == key_of(small(framework=framework)) != key_of(other)


def test_threads_change_no_number():
    from study.experiment.cells import run

    assert timeless(run(small(threads=1))[0]) == timeless(run(small(threads=2))[0])


def test_any_executor_runs_the_cells_and_finished_ones_are_kept(tmp_path, capsys):
    from study.experiment.runner import Store, run_all

    cells = [small(seed=seed) for seed in range(3)]
    with ThreadPoolExecutor(1) as pool:
        first = run_all((), cells[:2], Store(tmp_path), 1, pool)
    with ThreadPoolExecutor(1) as pool:
        entries = run_all((), [*cells, cells[0]], Store(tmp_path), 1, pool)
    assert "2 cells are there already, 1 are to run" in capsys.readouterr().out
    assert len(entries) == 3
    assert all(entry in entries for entry in first)


def test_a_cell_that_fails_is_named(tmp_path):
    from study.experiment.runner import Store, StudyError, run_all

    with ThreadPoolExecutor(1) as pool, pytest.raises(StudyError, match=r"fcnn, nothing, 300 images.*unknown data set"):
        run_all((), [small(dataset="nothing")], Store(tmp_path), 1, pool)


@pytest.mark.parametrize("scale", ["quick", "default", "full"])
def test_the_frameworks_get_the_same_cells(scale):
    from study.experiment.cells import Training
    from study.experiment.plan import plan

    cells = plan(scale, ("fcnn", "pytorch"), 2).cells
    compared = [c for c in cells if isinstance(c, Training) and not (c.batch_norm or c.dropout or c.optimizer == "sgd")]
    ours, theirs = (
        {attrs.evolve(c, framework="fcnn") for c in compared if c.framework == name} for name in ("fcnn", "pytorch")
    )
    assert theirs <= ours
    assert {c.train_size for c in theirs} == {c.train_size for c in ours}
    alone = plan(scale, ("fcnn",), 2).cells
    assert not [c for c in alone if getattr(c, "framework", "fcnn") != "fcnn" or type(c).__name__ == "Parting"]
