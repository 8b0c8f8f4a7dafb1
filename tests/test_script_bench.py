"""The benchmark: every program computes the same, the numbers are what they say, and no failure loses the rest."""

import doctest
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import machine
import numpy as np
import pytest
from bench import __main__ as script
from bench import machines
from running import SCRIPTS

import fcnn
from fcnn.values.tree import flatten, unflatten


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """What a program's worker gives as its check of a case, or the error that it raises."""
    from bench.inputs import load_images, make_inputs
    from bench.programs import PROGRAMS
    from bench.worker import Worker

    tmp_path = tmp_path_factory.mktemp("inputs")
    workers = {program.name: Worker(program, 1) for program in PROGRAMS}

    def ask(name, case):
        np.savez(tmp_path / "inputs.npz", **make_inputs(case, lambda data: load_images(data, None, True)))
        return workers[name].ask("prepare", case, tmp_path / "inputs.npz")[0]

    yield ask
    for worker in workers.values():
        worker.close()


def small_cases():
    """One small case of each kind, and for each network."""
    from bench.cases import Conv, flops_of, suite

    kinds = {}
    for case in suite(quick=True):
        if not isinstance(case, Conv) or (case.kernel == 5 and case.channels == 6):
            kinds.setdefault((type(case), getattr(case, "network", "")), case)
    assert flops_of(next(iter(kinds.values()))) > 0
    return list(kinds.values())


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("fcnn, plain", "fcnn"),
        ("PyTorch, channels_last", "torch"),
        ("JAX", "jax"),
        ("onnxruntime", "onnxruntime"),
        ("NumPy, im2col", "numpy"),
        ("autograd", "autograd"),
    ],
)
def test_a_peer_computes_what_fcnn_computes(prepared, name, package):
    """Losses before and after steps of Adam, logits, outputs and gradients of single layers."""
    from bench.cases import Step
    from bench.networks import AIRBENCH, RESNET, VGG
    from bench.programs import differs
    from bench.timing import TOLERANCE

    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    cases = [case for case in small_cases() if name in case.programs]
    assert cases
    for case in cases:
        expected, found = prepared("fcnn", case), prepared(name, case)
        assert found.shape == expected.shape
        if isinstance(case, Step) and case.network in (VGG, RESNET, AIRBENCH):
            # Adam and Muon make full steps of what is nothing but rounding, and batch norm a loss of that.
            assert not differs(found, expected, TOLERANCE)
            found, expected = found[:1], expected[:1]
        # float32, rounded by 6e-8: others add hundreds of products in another order, or by Winograd's form
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max(), err_msg=str(case))


def test_the_baselines_gradient_is_fcnns():
    from bench import with_numpy

    state = fcnn.init_state(fcnn.lenet5(), fcnn.adam(1e-3), fcnn.key(0), (1, 28, 28))
    rng = np.random.default_rng(0)
    x, y = rng.random((8, 1, 28, 28), np.float32), rng.integers(0, 10, 8)
    expected = fcnn.gradient(fcnn.lenet5(), fcnn.softmax_cross_entropy())(
        state.params, state.layer_state, state.key, (x, y)
    )
    loss, grads = with_numpy.gradient(flatten(state.params), x, y)
    # float32, rounded by 6e-8: the same sums in another order
    assert math.isclose(loss, expected.loss, rel_tol=1e-5)
    assert unflatten(grads).keys() == expected.grads.keys()
    for path, leaf in flatten(expected.grads).items():
        assert grads[path].dtype == np.float32
        np.testing.assert_allclose(grads[path], leaf, rtol=0, atol=1e-5 * np.abs(leaf).max(), err_msg=path)


def test_a_networks_products_are_those_that_the_library_counts():
    from bench.networks import LENET, LENET_BN, NETWORKS

    def products(layer):
        """Each layer below that has multiply-adds, in order."""
        return [one for child in layer.children.values() for one in products(child)] or [layer.kind]

    for name, network in NETWORKS.items():
        model = network.make(fcnn)
        made = model.init(fcnn.key(0), network.in_shape)
        assert (made.out_shape, made.macs) == ((10,), sum(network.macs)), name
        assert sum(kind in ("conv2d", "dense") for kind in products(model)) == len(network.macs), name
        first = next(child for child in model.children.values() if child.kind != "normalize")
        assert first.init(fcnn.key(0), network.in_shape).macs == network.macs[0], name
    for name, batch_norm in ((LENET, False), (LENET_BN, True)):
        shapes = [
            {path: leaf.shape for path, leaf in flatten(model.init(fcnn.key(0), (1, 28, 28)).params).items()}
            for model in (NETWORKS[name].make(fcnn), fcnn.lenet5(batch_norm=batch_norm))
        ]
        assert shapes[0] == shapes[1]


def test_a_named_networks_products_are_those_that_the_library_counts_at_any_size():
    from bench.cases import Photo, flops_of
    from bench.networks import PUBLISHED

    from fcnn.network.description import inits

    for name, network in PUBLISHED.items():
        for size in (32, 96, 224):
            made = inits(getattr(fcnn, network.constructor)(), (3, size, size))[""]
            flops = flops_of(Photo(programs=(), network=name, size=size))
            assert (made.out_shape, 2 * made.macs) == ((1000,), flops), name


def test_flops_by_hand():
    from bench.cases import ALL, BOTH, FORWARD, INPUT, WEIGHT, Conv, Epoch, Pool, Predict, Step, flops_of

    # Multiply-adds an image: 28*28*6*25 = 117,600; 10*10*16*150 = 240,000; 400*120; 120*84; 84*10. The first layer
    # has two products in training, every other one three.
    macs = 2 * 117_600 + 3 * (240_000 + 48_000 + 10_080 + 840)
    assert flops_of(Step(programs=(), batch=128)) == 2 * 128 * macs == 289_781_760
    assert flops_of(Epoch(programs=(), images=60_000)) == 2 * 60_000 * macs
    assert flops_of(Predict(programs=(), images=100, batch=10)) == 2 * 100 * 416_520
    assert flops_of(Predict(programs=(), images=100, batch=1)) == 2 * 416_520
    conv = Conv(programs=(), channels=3, filters=64, size=32)
    product = 2 * 64 * 32 * 32 * 64 * 27
    assert [flops_of(conv, part) for part in (FORWARD, WEIGHT, INPUT, BOTH, ALL)] == [
        *(product, product, product, 2 * product, 3 * product)
    ]
    assert flops_of(Conv(programs=(), channels=1, filters=6, kernel=5, padding=2, size=28, batch=1)) == 2 * 117_600
    assert flops_of(Pool(programs=(), channels=6, size=28)) is None


def test_ratios_are_taken_in_each_round():
    """A machine that becomes ten times slower in the second round slows both, and the ratio stays."""
    from bench.timing import ratio

    ours, theirs = [[1.0, 1.0, 9.0], [10.0, 10.0], [1.0]], [[2.0, 2.0], [20.0], [4.0, 4.0, 4.0]]
    assert ratio(ours, theirs) == {"median": 0.5, "low": 0.375, "high": 0.5, "count": 3, "of_medians": 1.25}


def test_a_row_names_the_best_form_and_the_floor():
    from bench.cases import Step
    from bench.timing import row

    rounds = {
        "fcnn": [[0.002], [0.004]],
        "PyTorch, NCHW": [[0.004], [0.004]],
        "PyTorch, channels_last": [[0.003], [0.004]],
        "JAX": [[0.001], [0.002]],
    }
    found = row(Step(programs=()), "", rounds, [289_781_760e3, 289_781_760e3 / 2])  # the floor is 1 ms, then 2 ms
    assert found["best_pytorch"] == "PyTorch, channels_last"
    assert found["ms"]["fcnn"] == {"median": 3.0, "low": 2.5, "high": 3.5, "count": 2}
    assert {name: ratio["median"] for name, ratio in found["ratios"].items()} == {
        "PyTorch, NCHW": 0.75,
        "PyTorch, channels_last": 0.83333,
        "JAX": 2.0,
    }
    assert found["times_floor"]["median"] == 2.0


def test_plain_fcnn_has_a_row_and_its_ratios_to_pytorch():
    from bench.cases import PLAIN, Step
    from bench.report import section
    from bench.timing import Measured, rows_of

    seconds = {"fcnn": 1.0, "fcnn, plain": 3.0, "fcnn, 1 thread": 2.0, "PyTorch, NCHW": 2.0, "JAX": 5.0}
    case = Step(programs=())
    rows = rows_of(case, Measured({name: [{"": [time]}] * 2 for name, time in seconds.items()}, {}, {}, ()))
    assert [(row["part"], row["best_pytorch"]) for row in rows] == [("", "PyTorch, NCHW"), (PLAIN, "PyTorch, NCHW")]
    ratios = [{name: ratio["median"] for name, ratio in row["ratios"].items()} for row in rows]
    assert ratios == [{"fcnn, 1 thread": 0.5, "PyTorch, NCHW": 0.5, "JAX": 0.2}, {"PyTorch, NCHW": 1.5}]
    title = "LeNet-5 training step, batch 128"
    printed = section(title, {"rows": rows, "first_results_s": {title: {}}}).splitlines()
    assert printed[printed.index("  plain train_step") + 1].split()[:3] == ["fcnn,", "plain", "3000.000"]


def test_plain_fcnn_takes_all_cores_so_it_is_left_out_of_runs_with_fewer():
    from bench.programs import PROGRAMS
    from machine import cores

    plain = next(program for program in PROGRAMS if program.name == "fcnn, plain")
    assert (plain.suits(cores()), plain.suits(cores() + 1)) == (True, False)


class Canned:
    """Stands for a worker: gives the same answers every time, and fails when it is asked for the wrong thing."""

    def __init__(self, check, seconds, fails_at=None):
        self.check, self.seconds, self.fails_at, self.asked = check, seconds, fails_at, []

    def ask(self, what, *_):
        from bench.worker import WorkerError

        self.asked.append(what)
        if self.asked.count(what) == (self.fails_at or {}).get(what):
            raise WorkerError(f"broke at {what}")
        turn = {part: [seconds] for part, seconds in self.seconds.items()}
        return {"prepare": (np.array(self.check), 1.0), "turn": turn}.get(what)


def test_who_dies_or_computes_something_else_leaves_the_rest():
    from bench.cases import BOTH, INPUT, WEIGHT, Conv
    from bench.programs import PROGRAMS
    from bench.timing import measure, rows_of

    seconds = {WEIGHT: 1.0, BOTH: 3.0}
    canned = {
        "fcnn": Canned([1.0, 2.0], seconds),
        "PyTorch, NCHW": Canned([1.0, 2.0005], {WEIGHT: 3.0, BOTH: 4.0}),
        "PyTorch, channels_last": Canned([1.0, 2.0], seconds, {"turn": 2}),
        "JAX": Canned([1.0, 2.1], seconds),
        "NumPy, im2col": Canned([1.0, math.nan], seconds),
        "autograd": Canned([1.0, 2.0], seconds, {"prepare": 1}),
    }
    case = Conv(programs=(), channels=1, filters=1, size=4, parts=(WEIGHT, BOTH))
    workers = {program: canned[program.name] for program in PROGRAMS if program.name in canned}
    found = measure(case, workers, Path(), rounds=3, budget=0.0)
    different = "it computes something else: its first results are not fcnn's"
    assert found.failures == {
        "PyTorch, channels_last": "broke at turn",
        "JAX": different,
        "NumPy, im2col": different,
        "autograd": "broke at prepare",
    }
    assert {name: len(turns) for name, turns in found.turns.items()} == {"fcnn": 3, "PyTorch, NCHW": 3}
    assert canned["JAX"].asked == ["prepare"]
    medians = {row["part"]: row["ratios"]["PyTorch, NCHW"]["median"] for row in rows_of(case, found)}
    assert medians == {WEIGHT: 0.33333, INPUT: 2.0, BOTH: 0.75}


def test_a_worker_that_is_killed_says_so_and_starts_anew(tmp_path):
    from bench.cases import Sgemm
    from bench.programs import SGEMM
    from bench.worker import Worker, WorkerError

    np.savez(tmp_path / "inputs.npz")
    worker = Worker(SGEMM, 1)
    request = ("prepare", Sgemm(size=8), tmp_path / "inputs.npz")
    worker.ask(*request)
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match=r"its process died \(exit code -9\)"):
        worker.ask("turn")
    with pytest.raises(WorkerError, match="KeyError"):
        worker.ask("prepare", attrs.evolve(small_cases()[0]), tmp_path / "inputs.npz")
    worker.ask(*request)
    worker.ask("calibrate", 0.0)
    assert set(worker.ask("turn")) == set(Sgemm().parts)
    assert 5 < worker.ask("peak") < 1000
    worker.close()


def machine_name():
    return machine.slug(machine.processor())


def test_quick_run_writes_its_numbers_and_names_who_is_missing(tmp_path, monkeypatch, capsys):
    from bench import session

    monkeypatch.setattr(session, "find_spec", lambda name: None if name == "torch" else importlib.util.find_spec(name))
    options = ["--quick", "--only", "conv 6->16", "--peers", "numpy", "torch", "--threads", "1"]
    assert script.main([*options, "--out", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "a" / f"{machine_name()}.json").read_text())
    assert [row["part"] for row in results["rows"]] == [
        *("forward", "weight gradient", "input gradient (both − weight)", "both gradients", "forward + both gradients")
    ]
    assert all(set(row["ms"]) == {"fcnn", "NumPy, im2col"} for row in results["rows"])
    assert all(row["times_floor"]["median"] > 0 for row in results["rows"])
    assert str(tmp_path) not in json.dumps(results)
    assert results["commit"] == machine.commit()
    assert (tmp_path / "a" / f"{machine_name()}.png").read_bytes().startswith(b"\x89PNG")
    assert "PyTorch, NCHW: not installed: pip install torch==2.13.0 (everything)" in printed
    assert "conv 6->16 5x5 @14, batch 16" in printed


def test_the_figure_shows_ratios_where_pytorch_was_measured(tmp_path):
    from bench import draw, report
    from bench.cases import suite
    from bench.timing import row

    rounds = {name: [[0.01, 0.02], [0.03]] for name in ("fcnn", "PyTorch, NCHW", "JAX", "autograd")}
    rows = [row(case, part, rounds) for case in suite(quick=False) for part in case.parts]
    draw.figure({"rows": rows, "machine": {**machine.machine(), "threads": 2}}).savefig(tmp_path / "ratios.png")
    results = {"rows": rows, "notes": report.NOTES, "not_compared": [["JAX", "a", "b"], ["JAX", "c", "b"]]}
    assert "JAX: b (a; c)" in report.ending(results)
    assert "LeNet-5 training step, batch 128" in report.ending(results)


@pytest.mark.parametrize("name", machines.kept())
def test_committed_results_can_be_drawn_and_printed(tmp_path, name):
    from bench import draw, report

    path = machines.KEPT / f"{name}.json"
    results = json.loads(path.read_text())
    draw.figure(results).savefig(tmp_path / "ratios.png")
    assert path.with_suffix(".png").exists()
    assert results["machine"]["processor"] in report.heading(results)
    assert f"threads of each program: {results['machine']['threads']}" in report.heading(results)
    assert report.name_of(results["rows"][0]) in report.ending(results)  # a run may be of some rows alone


def test_the_readme_has_the_table_of_all_results_that_are_kept(capsys):
    assert script.main(["--table"]) == 0
    assert capsys.readouterr().out in (SCRIPTS.parent / "README.md").read_text(encoding="utf-8")


def test_a_machine_without_a_row_has_a_dash():
    from bench.cases import PEAK, PLAIN, Step, footprints, name_of
    from bench.networks import LENET
    from bench.table import ROWS, table
    from bench.timing import row

    zen = machines.kept()["amd-epyc-zen3"]
    case = Step(programs=(), network=LENET)
    rounds = {"fcnn": [[1.0]], "fcnn, 1 thread": [[1.8]], "PyTorch, NCHW": [[4.0]], "onnxruntime": [[0.5]]}
    plain = {"fcnn, plain": [[3.0]], "PyTorch, NCHW": [[4.0]]}
    results = {
        "machine": {**machine.machine(), "threads": 2},
        "commit": "1234567+changes",
        "rows": [row(case, "", rounds), row(case, PLAIN, plain)],
        "memory_mib": {},
        "peaks_mib": {name_of(footprints(False)[0], PEAK): {"fcnn": 9.6, "PyTorch, NCHW": 30.0, "PyTorch, b": 20.2}},
        "import_s": {"fcnn": {"median": 0.2}},
    }
    lines = table({"amd-epyc-zen3": zen, "new": results}).splitlines()
    cells = {line.split(" | ")[0].removeprefix("| "): line.removesuffix(" |").split(" | ")[1:] for line in lines[2:]}
    assert list(cells)[: len(ROWS)] == list(ROWS)
    assert cells["LeNet-5 on MNIST, training step, batch 128"] == ["0.68 (0.66 to 0.72)", "0.25 (0.25 to 0.25)"]
    assert cells["– plain `train_step`"] == ["–", "0.75 (0.75 to 0.75)"]
    assert cells["– times the speed of one core"] == ["1.57 (1.34 to 1.68)", "1.80 (1.80 to 1.80)"]
    assert cells["– against PyTorch as it comes"] == ["0.50 (0.43 to 0.55)", "–"]
    assert cells["– VGG-like, peak memory beyond imports"] == ["–", "10 against 20 MiB"]
    assert cells["– peak memory, training"] == ["182 against 378 MiB", "–"]
    assert cells["`import`"] == ["0.21 against 2.63 s", "–"]
    assert lines[-1].startswith("- new (")
    assert lines[-1].endswith("; threads of each program: 2; commit 1234567+changes")


def test_results_know_their_commit(tmp_path):
    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    assert machine.commit(tmp_path) is None
    git("init")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-m", "first")
    (tmp_path / "other").write_text("not part of it")
    commit = git("rev-parse", "--short", "HEAD")
    assert machine.commit(tmp_path) == commit
    (tmp_path / "file").write_text("b")
    assert machine.commit(tmp_path) == f"{commit}+changes"
    (tmp_path / "folder").mkdir()
    assert machine.commit(tmp_path / "folder") is None


def test_a_run_of_footprints_alone_draws_nothing(tmp_path, monkeypatch):
    from bench import footprint

    monkeypatch.setattr(footprint, "import_times", lambda packages, rounds: ({}, {"fcnn": "it can't be had"}))
    assert script.main(["--only", "import time", "--peers", "numpy", "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / f"{machine_name()}.json").read_text())
    assert results["not_compared"] == [["fcnn", "import time", "it can't be had"]]
    assert results["machine"].keys() >= {"processor", "cores", "threads", "memory_gib", "system", "versions", "blas"}
    assert [path.name for path in tmp_path.iterdir()] == [f"{machine_name()}.json"]


def test_memory_that_the_system_does_not_tell_is_not_compared(monkeypatch):
    from bench import footprint
    from bench.programs import PROGRAMS

    class Silent:
        def __init__(self, program, threads):
            self.pid = self.peak = {"fcnn": 100.04}.get(program.name, math.nan)

        def ask(self, what, *_):
            return self.peak if what == "peak" else None

        def close(self):
            pass

    monkeypatch.setattr(footprint, "Worker", Silent)
    programs = [program for program in PROGRAMS if program.name in ("fcnn", "JAX")]
    expected = {"JAX": "this system doesn't tell how much memory a process has had"}
    assert footprint.peak_memory(None, programs, Path(), 1) == ({"fcnn": 100.0}, expected)
    monkeypatch.setattr(footprint, "proportional_memory_mib", lambda pid: pid)
    assert footprint.peak_beyond_imports(None, programs, Path(), 1, 0.0) == ({"fcnn": 0.0}, expected)


def test_the_greatest_memory_of_several_looks_counts_less_that_of_the_imports(monkeypatch):
    from bench import footprint
    from bench.programs import PROGRAMS

    class Working:
        """After its imports 100, while it works up to 180 for a moment."""

        def __init__(self, program, threads):
            self.pid, self.asked, self.looks = 0, [], 0
            monkeypatch.setattr(footprint, "proportional_memory_mib", self.now)

        def ask(self, what, *_):
            self.asked.append(what)
            if what == "turn":
                while self.looks < 6:
                    time.sleep(0.001)

        def now(self, pid):
            if self.asked == ["start"]:
                return 100.0
            self.looks += 1
            return 180.0 if self.looks == 3 else 150.0

        def close(self):
            pass

    monkeypatch.setattr(footprint, "Worker", Working)
    monkeypatch.setattr(footprint, "INTERVAL", 0.001)
    program = PROGRAMS[0]
    assert footprint.peak_beyond_imports(None, [program], Path(), 1, 0.0) == ({program.name: 80.0}, {})


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells of proportional sizes there")
def test_memory_of_forked_processes_counts_once():
    held = np.ones(64 << 20, np.uint8)
    before = machine.proportional_memory_mib(os.getpid())
    with fcnn.parallel.processes(2) as map_fn:
        list(map_fn(lambda number: int(held[number]), range(2)))
        assert machine.forked()
        shared = machine.proportional_memory_mib(os.getpid())
    assert before > 64
    assert abs(shared - before) < 48  # not the 64 MiB more that resident sizes would add up to
    assert math.isnan(machine.proportional_memory_mib(2**30))


def test_no_other_programs_process_imports_fcnn():
    """It would change their allocator and add to their memory. A worker may run the script's file, too."""
    code = "import sys, bench.__main__, bench.worker, bench.with_numpy; print('fcnn' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SCRIPTS), str(SCRIPTS.parent)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_import_times_leave_out_what_is_missing():
    from bench.footprint import import_times

    found, failures = import_times(["json", "no_such_package"], 1)
    assert list(found) == ["json"]
    assert failures == {"no_such_package": "ModuleNotFoundError: No module named 'no_such_package'"}


@pytest.mark.parametrize("model", ["lenet5", "lenet5_bn", "cifar", "vgg", "resnet8"])
def test_profile_has_a_line_for_each_layer(capsys, model):
    from bench.layers import NETWORKS

    assert script.main(["--profile", "--model", model, "--shard-size", "2", "--repetitions", "2"]) == 0
    paths = [line.split()[0] for line in capsys.readouterr().out.splitlines()[3:]]
    assert paths == [*NETWORKS[model][0]().children, "loss", "optimizer", "sharding", "everything", "whole"]


def test_examples_in_docstrings():
    from bench import timing, worker

    assert [doctest.testmod(module).failed for module in (machine, timing, worker)] == [0, 0, 0]


def test_list_and_nonsense(capsys, tmp_path):
    assert script.main(["--list", "--only", "latency", "--only", "IMPORT"]) == 0
    photos = [f"{network} inference, one image 224x224 (latency)" for network in ("ResNet-18", "MobileNetV2")]
    expected = ["LeNet-5 inference, one image (latency)", *photos, "import time"]
    assert capsys.readouterr().out.splitlines() == expected
    assert script.main(["--list", "--only", "one image 224"]) == 0
    assert capsys.readouterr().out.splitlines() == photos
    assert script.main(["--only", "alexnet"]) == 2
    assert "--only alexnet names no case; --list prints them" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert script.main(["--only", "import", "--out", str(tmp_path / "file" / "a")]) == 1
    assert "choose another --out" in capsys.readouterr().err
    assert script.main(["--only", "epoch", "--data", str(tmp_path), "--out", str(tmp_path / "a")]) == 1
    assert f"{tmp_path}: no mnist there" in capsys.readouterr().err


def test_data_that_is_not_there_is_said_at_once(tmp_path, capsys):
    assert script.main(["--quick", "--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "new")]) == 1
    found = capsys.readouterr()
    assert (found.out, found.err.count("\n")) == ("", 1)
    assert f"--data {tmp_path / 'nowhere'}: no such folder" in found.err
    assert not (tmp_path / "new").exists()
