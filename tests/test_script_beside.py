"""The benchmark beside others: who computes something else is named, what fails is a cell and loses no other."""

import functools
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import machine
import numpy as np
import pytest
from bench import __main__ as script
from bench import machines
from running import SCRIPTS


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Ask a worker of this interpreter for a task."""
    from bench import beside

    folder = tmp_path_factory.mktemp("inputs")
    beside.write_inputs(folder)

    @functools.cache
    def asked(module, task):
        package = module.partition(".")[0]
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
        if package == "onnx":
            beside.write_models(folder)
        return beside._ask(Path(sys.executable), module, task, folder, 0.0)

    return asked


@pytest.mark.parametrize("module", ["fcnn", "torch", "onnx.reference"])
def test_a_worker_computes_what_fcnn_computes(ask, module):
    found, expected = ask(module, "forward"), ask("fcnn", "forward")
    assert np.shape(found["outputs"]) == (128, 10)
    # float32, rounded by 6e-8: others add hundreds of products in another order
    np.testing.assert_allclose(found["outputs"], expected["outputs"], rtol=0, atol=2e-6)
    assert min(found["one_ms"], found["all_ms"]) > 0
    assert ("torch" in found["compiled"], "torch" in expected["compiled"]) == (module == "torch", False)


@pytest.mark.parametrize("module", ["fcnn", "torch"])
def test_a_training_step_makes_the_loss_smaller(ask, module):
    before, after = ask(module, "train")["losses"]
    assert after < before
    np.testing.assert_allclose([before, after], ask("fcnn", "train")["losses"], rtol=1e-5)


def test_the_error_of_what_does_not_train_is_said(ask):
    from bench.beside import Failed

    with pytest.raises(Failed, match=r"^NotImplementedError: .*'Gradient'"):
        ask("onnx.reference", "train")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells of memory there")
def test_peak_memory_is_that_of_a_process(ask):
    assert 20 < ask("fcnn", "peak")["mib"] < 500


def test_what_an_environment_holds(tmp_path):
    from bench.beside import contents

    site = tmp_path / "lib" / "python3" / "site-packages"
    for name, file in (("numpy", "numpy/core.so"), ("other", "other/fast.pyd"), ("plain", "plain/slow.py")):
        (site / file).parent.mkdir(parents=True)
        (site / file).write_bytes(b" " * 100_000)
        (site / f"{name}-1.0.dist-info").mkdir()
        (site / f"{name}-1.0.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
        (site / f"{name}-1.0.dist-info" / "RECORD").write_text(f"{file},,\n")
    assert contents(tmp_path / "bin" / "python") == {
        "versions": {"numpy": "1.0", "other": "1.0", "plain": "1.0"},
        "size_mb": 0.3,
        "compiled": {"other": 1},
    }


def test_each_failure_is_a_cell_and_loses_no_other(tmp_path, monkeypatch, capsys):
    """Every kind of program, with canned answers in place of installations and processes."""
    from bench import beside

    def program(name, **options):
        return beside.Program(name, name, (f"{name}==1",), **options)

    canned = {  # by environment
        "fcnn": {"forward": 1.0, "losses": [2.5, 2.25]},
        "equal": {"forward": 1.00001, "train": "NotImplementedError: fit | not for NumPy"},
        "different": {"forward": 1.1},
        "lacking": {"forward": "ModuleNotFoundError: No module named 'jax'"},
        "lacking-added": {"forward": 1.0, "losses": [2.5, 2.5]},
        "dying": {"forward": 1.0, "late": "its process died (exit code -9)", "losses": [2.5, 2.0]},
    }

    def install(place, *packages):
        if place.name == "absent":
            raise beside.Failed("pip: ERROR: No matching distribution found for absent==1")
        return place / "bin" / "python"

    def answer(python, module, task, folder, seconds):
        known = canned[python.parents[1].name]
        value = known["late"] if seconds and "late" in known else known.get(task)
        if isinstance(value, str):
            raise beside.Failed(value)
        outputs = [[value, 0.0]]
        return {"outputs": outputs, "one_ms": 2.0, "all_ms": 30.0, "mib": 50.2, "compiled": []} | known

    def contents(python):
        name = python.parents[1].name
        return {
            "versions": {name: "1.2", "jax": "0.1"},
            "size_mb": 98.4,
            "compiled": {"fast": 2} if name == "dying" else {},
        }

    chosen = ("equal", "different", "lacking", "dying", "absent")
    programs = [beside.PROGRAMS[0], *(program(name, added="jax" if name == "lacking" else "") for name in chosen)]
    monkeypatch.setattr(beside, "PROGRAMS", programs)
    monkeypatch.setattr(beside, "install", install)
    monkeypatch.setattr(beside, "contents", contents)
    monkeypatch.setattr(beside, "_ask", answer)
    monkeypatch.setattr(beside, "_output", lambda *_: "")
    monkeypatch.setattr(beside, "write_models", lambda folder: None)
    monkeypatch.setattr(script, "find_spec", lambda name: True)
    assert script.main(["--beside", "--quick", "--out", str(tmp_path)]) == 0

    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    cells = {line.split(" | ")[0]: line.removesuffix(" |").split(" | ")[1:] for line in printed}
    assert cells["| LeNet-5, float32"] == ["fcnn", *chosen]
    different = "no: it computes something else: its outputs are not fcnn's"
    lacking = "no: ModuleNotFoundError: No module named 'jax'; here with jax installed too"
    absent = "no: pip: ERROR: No matching distribution found for absent==1"
    died = "no: its process died (exit code -9)"
    assert cells["| runs as `pip install` leaves it"] == ["yes", "yes", different, lacking, died, absent]
    assert cells["| – 128 images"] == [*["30.00 (30.00 to 30.00) ms"] * 2, "–", "30.00 (30.00 to 30.00) ms", "–", "–"]
    assert cells["| installed, with all dependencies"] == [*["98 MB, 2 packages"] * 5, "–"]
    assert cells["| compiled packages beside NumPy"] == [*["none"] * 4, "fast", "–"]
    assert cells["| a training step"] == [
        "yes: loss from 2.5000 to 2.2500",
        "no: NotImplementedError: fit \\| not for NumPy",
        "–",
        "no: loss from 2.5000 to 2.5000",
        "yes: loss from 2.5000 to 2.0000",
        "–",
    ]
    (written,) = tmp_path.iterdir()
    assert written.name == f"beside-{machine.slug(machine.processor())}.json"
    assert list(json.loads(written.read_text())["programs"]) == ["fcnn", *chosen]


def test_without_onnx_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(script, "find_spec", lambda name: None)
    assert script.main(["--beside"]) == 1
    assert capsys.readouterr().err.endswith("pip install onnx\n")


def test_kinds_of_results_are_kept_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(machines, "KEPT", tmp_path)
    for name in ("arm", "beside-arm"):
        (tmp_path / f"{name}.json").write_text(json.dumps(name))
    assert machines.kept() == {"arm": "arm"}
    assert machines.kept(beside=True) == {"beside-arm": "beside-arm"}


def test_the_readme_has_what_is_kept(capsys):
    assert script.main(["--beside", "--table"]) == 0
    text = (SCRIPTS.parent / "README.md").read_text(encoding="utf-8")
    assert text.partition("<!-- beside -->\n")[2].partition("<!-- /beside -->")[0] == capsys.readouterr().out
