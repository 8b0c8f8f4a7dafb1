"""The study from end to end at its quick scale, and the promises of its runner."""

import importlib.util
import itertools
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import numpy as np
import pytest
from running import runner
from study import __main__ as study
from study.experiment import timing
from study.experiment.cells import Timing, Training, key_of, settings_of
from study.experiment.fcnn_lenet import MAPS
from study.experiment.plan import SCALES, plan
from study.experiment.protocol import dataset, epoch_batches
from study.experiment.reuse import reuse
from study.experiment.run import Outcome, run
from study.experiment.runner import run_all
from study.experiment.store import Store, StudyError
from study.experiment.timing import VARIANTS
from study.experiment.training import opener

import fcnn

STUDY = Path(__file__).parents[1] / "scripts" / "study"
TORCH = importlib.util.find_spec("torch") is not None
FRAMEWORKS = ["fcnn", pytest.param("pytorch", marks=pytest.mark.skipif(not TORCH, reason="no torch"))]
NAMES = ("fcnn", "pytorch") if TORCH else ("fcnn",)


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
    assert set(results["meta"]) == {"scale", "seconds", "date", "git_commit", "workers", "explorer"}
    assert all(set(cell) == {"kind", "key", "config", "result", "machine"} for cell in results["cells"])
    (machine,) = results["summary"]["machines"]
    assert (machine["cells"], machine["timed"]) == (len(results["cells"]), 1)
    assert (quick / "report.html").stat().st_size > 100_000
    assert (quick / "explorer.html").stat().st_size > 100_000
    assert '<a href="explorer.html">See it think</a>' in (quick / "report.html").read_text()
    assert (quick / "report.md").exists()
    figures = {path.stem for path in (quick / "figures").glob("*.png")}
    assert len(figures) >= 8
    assert figures == {path.stem for path in (quick / "figures").glob("*.svg")}


def test_run_again_no_cell_is_run_and_the_numbers_are_the_same(quick):
    before = json.loads((quick / "results.json").read_text())["cells"]
    (quick / "cells" / "seconds.json").write_text("[]")  # damaged: how long it took is not known any more
    done = run_study("--quick", "--out", quick)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(before)} cells are there already, 0 are to run" in done.stdout
    assert json.loads((quick / "results.json").read_text())["cells"] == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    done = run_study("--quick", "--out", tmp_path / "file" / "study")
    assert done.returncode == 1
    assert "can't make the folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_result_of_another_cell_is_not_believed(tmp_path, capsys):
    first, second = small(seed=0), small(seed=1)
    store = Store(tmp_path)
    entry = store.save(first, Outcome({}, {}, {}))
    other = tmp_path / f"{key_of(*settings_of(second))}.json"
    other.write_text((tmp_path / f"{entry['key']}.json").read_text())
    assert store.load(second) is None
    assert capsys.readouterr().out == f"{other} is the result of another cell; the cell is run again\n"
    assert store.load(first) == entry
    assert capsys.readouterr().out == ""


def test_whatever_bit_of_a_cell_changes_it_is_not_believed(tmp_path, capsys):
    cell, store = small(detail=True), Store(tmp_path)
    entry = store.save(cell, Outcome({"test_accuracy": 0.5}, {"labels": np.arange(3)}, {"cores": 2}))
    for suffix in (".json", ".npz"):
        path = tmp_path / f"{entry['key']}{suffix}"
        whole = path.read_bytes()
        changed = [bytearray(whole) for _ in range(len(whole))]
        for at, data in enumerate(changed):
            data[at] ^= 1
        for data in (*changed, b"", whole[:50], b"[]", b"{}", b'{"sha256": 1}', b"[" * 100_000):
            path.write_bytes(data)
            # A blank that is another kind of blank says the same.
            assert store.load(cell) in ((None,) if bytes(data).split() != whole.split() else (None, entry))
        path.write_bytes(whole)
        assert store.load(cell) == entry
    assert "damaged" in capsys.readouterr().out


def test_a_detailed_cell_is_run_again_without_its_arrays(tmp_path, capsys):
    cells, store = [small(detail=True, seed=seed) for seed in (0, 1)], Store(tmp_path)
    entries = [store.save(cell, Outcome({}, {"labels": np.arange(3) + cell.seed}, {})) for cell in cells]
    assert store.load(cells[0]) == entries[0]
    assert store.arrays(entries[0]["key"])["labels"].tolist() == [0, 1, 2]
    mine, other = (tmp_path / f"{entry['key']}.npz" for entry in entries)
    mine.write_bytes(other.read_bytes())
    assert store.load(cells[0]) is None
    assert f"{mine} is damaged, or of another cell: its checksum is another" in capsys.readouterr().out
    mine.write_bytes(b"changed between two looks")
    with pytest.raises(StudyError, match=f"{mine.name} was changed meanwhile .*start the study again"):
        store.arrays(entries[0]["key"])
    mine.unlink()
    assert store.load(cells[0]) is None
    assert f"{mine} is missing; the cell is run again" in capsys.readouterr().out


def test_data_that_is_not_there_is_said_at_once(tmp_path, capsys):
    code, out, err = runner(study, capsys)("--quick", "--out", tmp_path / "new", "--data", tmp_path / "nowhere")
    assert (code, out) == (1, "")
    assert err == f"\nerror: --data {tmp_path / 'nowhere'}: no such folder; name the one with the data sets\n"
    assert not (tmp_path / "new").exists()


def small(**settings):
    return Training(**{"dataset": "digits", "train_size": 300, "epochs": 1, **settings})


def timeless(result):
    """A result without what depends on the machine's mood."""
    history = [{k: v for k, v in item.items() if k != "seconds"} for item in result["history"]]
    return {"history": history, "test_accuracy": result["test_accuracy"], "macro_f1": result["macro_f1"]}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_cell_is_a_pure_function_of_its_settings(framework):
    cell = small(framework=framework)
    assert timeless(run(cell).result) == timeless(run(cell).result)
    other = attrs.evolve(cell, seed=1)
    assert timeless(run(cell).result) != timeless(run(other).result)
    assert key_of(*settings_of(cell)) == key_of(*settings_of(small(framework=framework)))
    assert key_of(*settings_of(cell)) != key_of(*settings_of(other))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_detail_changes_no_number(framework):
    plain, detailed = (run(small(framework=framework, epochs=2, detail=detail)) for detail in (False, True))
    for name in ("test_accuracy", "macro_f1"):
        assert plain.result[name] == detailed.result[name]
    assert "validation_accuracy" not in plain.result["history"][0]
    assert "validation_accuracy" in detailed.result["history"][0]
    assert (plain.arrays, detailed.arrays["filters"].shape) == ({}, (3, 6, 1, 5, 5))


@pytest.mark.parametrize("variant", MAPS)
def test_threads_change_no_number(variant):
    data = dataset("digits", 300)
    cell = small()
    losses = []
    for threads in (1, 2):
        with opener("fcnn")(cell, data, variant, threads) as network:
            _, records = fcnn.fold(network.step, network.start, epoch_batches(cell, data.train, 0))
        losses.append([record.loss for record in records])
    assert losses[0] == losses[1]


def test_both_frameworks_see_the_batches_of_the_library():
    data, cell = dataset("digits", 300), small(seed=3)
    key = fcnn.fold_in(fcnn.key(3), "batches")
    expected = list(fcnn.batches(data.train, cell.batch_size, key, epochs=2, start_step=3))
    found = list(epoch_batches(cell, data.train, 1))
    assert len(found) == len(expected) == 3
    for (images, labels), batch in zip(found, expected, strict=True):
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(fcnn.data.as_batch(images, labels).x, batch.x)
        np.testing.assert_array_equal(labels, batch.y)


def test_any_executor_runs_the_cells_and_finished_ones_are_kept(tmp_path, capsys):
    cells = [small(seed=seed) for seed in range(3)]
    with ThreadPoolExecutor(1) as pool:
        first = run_all(cells[:2], Store(tmp_path), 1, pool)
    with ThreadPoolExecutor(1) as pool:
        entries = run_all([*cells, cells[0]], Store(tmp_path), 1, pool)
    assert "2 cells are there already, 1 are to run" in capsys.readouterr().out
    assert len(entries) == 3
    assert all(entry in entries for entry in first)


def test_a_damaged_cell_is_run_again_and_said(tmp_path, capsys):
    cells = [small(seed=seed) for seed in range(2)]
    with ThreadPoolExecutor(1) as pool:
        before = run_all(cells, Store(tmp_path), 1, pool)
    damaged = tmp_path / f"{before[0]['key']}.json"
    damaged.write_text(damaged.read_text()[:100])
    capsys.readouterr()
    with ThreadPoolExecutor(1) as pool:
        after = run_all(cells, Store(tmp_path), 1, pool)
    out = capsys.readouterr().out
    assert f"{damaged} is damaged, or of an earlier version; the cell is run again\n" in out
    assert "1 cells are there already, 1 are to run" in out
    assert after[1] == before[1]
    assert timeless(after[0]["result"]) == timeless(before[0]["result"])


def test_a_cell_that_fails_is_named(tmp_path):
    with ThreadPoolExecutor(1) as pool, pytest.raises(StudyError, match=r"fcnn, nothing, 300 images.*unknown data set"):
        run_all([small(dataset="nothing")], Store(tmp_path), 1, pool)


def timed(**settings):
    return Timing(**{"dataset": "digits", "train_size": 300, "frameworks": ("fcnn",), **settings})


def test_timed_frameworks_take_turns_in_their_fastest_variants(quick):
    results = json.loads((quick / "results.json").read_text())
    (cell,) = [cell for cell in results["cells"] if cell["kind"] == "Timing"]
    assert list(cell["result"]["frameworks"]) == cell["config"]["frameworks"] == list(NAMES)
    for framework, found in cell["result"]["frameworks"].items():
        assert set(found["step_seconds"]) == set(VARIANTS[framework])
        assert found["variant"] == min(found["step_seconds"], key=found["step_seconds"].get)
        assert len(found["seconds"]) == 3
        assert 0 < found["images_per_second"] < 1e7
        assert 10 < found["peak_memory_mib"] < 10_000
    head = results["summary"]["headline"]["digits"]
    assert (head["speed"] is not None) == TORCH


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_timed_process_that_dies_or_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "VARIANTS", {"fcnn": ("threads",)})
    start = timing._Worker.__init__

    def dying(self, *arguments):
        start(self, *arguments)
        self._process.kill()

    with monkeypatch.context() as patch:
        patch.setattr(timing._Worker, "__init__", dying)
        with pytest.raises(StudyError, match=r"fcnn timed in turn, digits.*the process of fcnn, threads died"):
            run_all([timed()], Store(tmp_path), 1)
    with pytest.raises(StudyError, match=r"the process of fcnn, threads failed: ValueError: .*batch_size"):
        run_all([timed(batch_size=0)], Store(tmp_path), 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scale", SCALES)
def test_the_frameworks_get_the_same_cells(scale):
    cells = plan(SCALES[scale], ("fcnn", "pytorch"), 2)
    assert len(set(cells)) == len(cells)
    compared = [c for c in cells if isinstance(c, Training) and not (c.batch_norm or c.dropout or c.optimizer == "sgd")]
    ours, theirs = (
        {attrs.evolve(c, framework="fcnn") for c in compared if c.framework == name} for name in ("fcnn", "pytorch")
    )
    assert theirs <= ours
    assert {c.train_size for c in theirs} == {c.train_size for c in ours}
    alone = plan(SCALES[scale], ("fcnn",), 2)
    assert not [c for c in alone if getattr(c, "framework", "fcnn") != "fcnn" or type(c).__name__ == "Parting"]
    assert {c.frameworks for c in alone if isinstance(c, Timing)} == {("fcnn",)}


@pytest.mark.parametrize("scale", SCALES)
def test_a_detailed_cell_takes_the_place_of_its_plain_twin(scale):
    cells = [c for c in plan(SCALES[scale], ("fcnn", "pytorch"), 2) if isinstance(c, Training)]
    detailed = [c for c in cells if c.detail]
    assert {(c.dataset, c.framework) for c in detailed} == {(c.dataset, c.framework) for c in cells}
    assert {c.seed for c in detailed} == {0}
    assert not {attrs.evolve(c, detail=False) for c in detailed} & set(cells)


def test_default_and_full_compare_both_data_sets_with_three_seeds_or_more():
    for scale in ("default", "full"):
        cells = plan(SCALES[scale], ("fcnn", "pytorch"), 2)
        assert [c.dataset for c in cells if isinstance(c, Timing)] == ["mnist", "cifar10"]
        assert all(c.epochs == 3 for c in cells if isinstance(c, Timing))
        sizes = {"mnist": 60_000, "cifar10": SCALES[scale].headline["cifar10"][0]}
        for (name, size), framework in itertools.product(sizes.items(), ("fcnn", "pytorch")):
            plain = Training(framework=framework, dataset=name, train_size=size)
            runs = [c for c in cells if isinstance(c, Training) and attrs.evolve(c, seed=0, detail=False) == plain]
            assert len({c.seed for c in runs}) >= 3


OLD = STUDY / "results" / "results.json"


def old_results(path, cells, **more):
    meta = {
        "hardware": {"processor": "old", "cores": 2, "memory_gib": 4.0, "system": "Linux"},
        "versions": {"python": "3.11.1", "numpy": "2.3.5", "fcnn": "0.1.0", "matplotlib": "3.10", "torch": None},
    }
    path.write_text(json.dumps({"meta": meta, "cells": cells, **more}))
    return path


def old_entry(cell, **more):
    kind, config = settings_of(cell)
    return {"kind": kind, "config": {**config, "threads": 1}, "timed": False, "result": RESULT, **more}


RESULT = {"history": [], "test_accuracy": 0.5, "macro_f1": 0.5}


def test_runs_of_an_earlier_study_are_reused(tmp_path):
    wanted = [small(seed=seed) for seed in range(4)] + [small(seed=9, detail=True), timed()]
    new = old_entry(wanted[2], machine={"processor": "new"})
    del new["config"]["threads"]
    entries = [
        old_entry(wanted[0]),
        old_entry(wanted[1], timed=True),
        new,
        old_entry(wanted[4]),
        old_entry(small(seed=5)),
        old_entry(wanted[3], config={"threads": 2, **settings_of(wanted[3])[1]}),
        {"kind": "Timing", "config": settings_of(timed())[1], "result": {}, "machine": {}},
    ]
    store = Store(tmp_path)
    told = reuse(old_results(tmp_path / "results.json", entries), wanted, store)
    assert told == (
        f"2 of 7 runs in {tmp_path / 'results.json'} are reused; 3 were timed or are needed with their arrays, "
        "and 2 are no cells of this study"
    )
    loaded = [store.load(cell) for cell in wanted]
    assert [entry is not None for entry in loaded] == [True, False, True, False, False, False]
    assert loaded[0]["machine"] == {
        "processor": "old", "cores": 2, "memory_gib": 4.0, "system": "Linux", "blas": "BLAS not recorded",
        "versions": {"Python": "3.11.1", "fcnn": "0.1.0", "numpy": "2.3.5"},
    }  # fmt: skip
    assert loaded[2]["machine"] == {"processor": "new"}
    store.save(wanted[0], Outcome({"mine": 1}, {}, {}))
    reuse(tmp_path / "results.json", wanted, store)
    assert store.load(wanted[0])["result"] == {"mine": 1}, "what is there is kept"


def test_the_committed_results_can_be_reused(tmp_path):
    results = json.loads(OLD.read_text())
    cells = plan(SCALES["full"], ("fcnn", "pytorch"), 2)
    told = reuse(OLD, cells, Store(tmp_path))
    left = [cell for cell in cells if Store(tmp_path).load(cell) is None]
    assert {isinstance(cell, Timing) or cell.detail for cell in left} == {True}
    assert len(left) == 6
    assert told.startswith(f"{len(cells) - 6} of {len(results['cells'])} runs in ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"cells": [', "is not the whole results.json of a study (JSONDecodeError"),
        ('{"rows": []}', "is not the whole results.json of a study (KeyError: 'cells')"),
        ('{"meta": {}, "cells": [1]}', "is not the whole results.json of a study (TypeError"),
        (
            '{"meta": {}, "cells": [], "x": 1' + 400 * "0" + "}",
            "is not the whole results.json of a study (ValueError: 10",
        ),
        ('{"meta": {}, "cells": [], "x": NaN}', "is not the whole results.json of a study (ValueError: NaN"),
        (None, "can't be read (No such file or directory); --reuse expects a results.json"),
    ],
)
def test_a_damaged_or_foreign_file_to_reuse_is_told_in_a_sentence(tmp_path, capsys, content, message):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    code, _, err = runner(study, capsys)("--quick", "--out", tmp_path / "new", "--reuse", path)
    assert (code, "Traceback" in err) == (1, False)
    assert err.startswith(f"\nerror: {path} {message}")
    assert err.count("\n") == 2


def test_a_run_without_its_numbers_is_not_reused(tmp_path):
    path = old_results(tmp_path / "results.json", [old_entry(small(), result={"history": []})])
    with pytest.raises(StudyError, match="a run without macro_f1, test_accuracy"):
        reuse(path, [small()], Store(tmp_path))
