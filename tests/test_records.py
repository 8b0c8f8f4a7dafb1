"""The records' scripts: what they train, that killed runs go on to the same bits, and that what is told is so.

What they reach takes an hour of two cores and stands in scripts/records/results; here they learn from few images.
"""

import json
import re
import signal
import sys
import types
from pathlib import Path

import attrs
import numpy as np
import pytest
from records import cifar10, mnist, mnist_one_epoch, seeds
from running import few_digits, runner

import fcnn
from fcnn.training import runs
from fcnn.values.tree import flatten

ROOT = Path(__file__).parents[1]
SCRIPTS = {script.RECIPE.name: script for script in (mnist_one_epoch, mnist, cifar10)}


def noise(count):
    """Images like CIFAR-10's, of nothing."""
    rng = np.random.default_rng(0)
    split = fcnn.Split(rng.integers(0, 256, (count, 3, 32, 32), np.uint8), rng.integers(0, 10, count))
    return fcnn.Dataset(split, split.take(10), "cifar10")


@pytest.fixture
def few(monkeypatch):
    """Few images and a narrow network in the place of what the recipes are for."""
    digits = few_digits(20)
    small = fcnn.Dataset(digits.train.take(60), digits.test, "mnist", digits.classes)
    monkeypatch.setattr(seeds, "load_data", lambda name, root: noise(24) if name == "cifar10" else small)
    for script in (mnist, cifar10):
        for name, value in {"WIDTHS": (4, 4, 4), "EPOCHS": 4, "BATCH": 8, "SHARD": 4, "WHITENING_EPOCHS": 2}.items():
            monkeypatch.setattr(script, name, value, raising=script is cifar10)


def kept(folder):
    """The bits of a run's last checkpoint: its path, and every array in it."""
    path = max(folder.rglob("epoch-*.npz"), key=lambda path: (path.parent.name, path.name))
    with np.load(path) as arrays:
        return path.name, {name: arrays[name].tobytes() for name in arrays.files if not name.startswith("meta")}


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_run_that_is_killed_goes_on_to_the_same_bits(name, tmp_path, capsys, monkeypatch):
    script, real, saved = SCRIPTS[name], runs.RunFolder.save_epoch, []
    main = runner(script, capsys)
    assert main("--seeds", 3, "--out", tmp_path / "whole")[0] == 1  # so few images don't reach it

    def dies(run, at):
        saved.append(at)
        if len(saved) in (1, 3, 6):  # in the first go, in the second, and in the third: in each part of a run
            raise MemoryError("killed")
        return real(run, at)

    monkeypatch.setattr(runs.RunFolder, "save_epoch", dies)
    outcomes = [main("--seeds", 3, "--out", tmp_path / "killed") for _ in range(4)]
    kills = ["killed" in error for _, _, error in outcomes]
    assert kills == ([True, False, False, False] if script.EPOCHS == 1 else [True, True, True, False])
    assert (outcomes[-1][0], outcomes[-1][2]) == (1, "")
    (whole,), (killed,) = (list((tmp_path / how).glob("*.json")) for how in ("whole", "killed"))
    one, other = (json.loads(path.read_text())["runs"][0] for path in (whole, killed))
    assert (one["seed"], one["accuracy"], one["one_view"]) == (3, other["accuracy"], other["one_view"])
    assert [item["train_loss"] for item in one["history"]] == [item["train_loss"] for item in other["history"]]
    assert len(one["history"]) == script.EPOCHS
    assert kept(tmp_path / "whole") == kept(tmp_path / "killed")


@pytest.mark.usefixtures("few")
def test_the_exit_code_says_whether_the_target_is_reached(tmp_path, capsys, monkeypatch):
    main = runner(mnist_one_epoch, capsys)
    code, said, _ = main("--seeds", 0, 1, 1, "--out", tmp_path)
    assert code == 1
    assert "not reached" in said
    (results,) = tmp_path.glob("*-seeds-0-to-1.json")
    assert results.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(results.read_text())
    assert [run["seed"] for run in found["runs"]] == [0, 1]
    accuracies = [run["accuracy"] for run in found["runs"]]
    summary = seeds.summary(found["runs"])
    assert summary["mean"] == pytest.approx(np.mean(accuracies))
    assert summary["sd"] == pytest.approx(np.std(accuracies, ddof=1))
    monkeypatch.setattr(mnist_one_epoch, "RECIPE", attrs.evolve(mnist_one_epoch.RECIPE, target=summary["mean"]))
    code, said, _ = main("--seeds", 0, 1, "--out", tmp_path)
    assert code == 0
    assert "not reached" not in said


@pytest.mark.usefixtures("few")
def test_a_run_tells_with_what_it_began_and_goes_on_with_nothing_else(tmp_path, capsys, monkeypatch):
    main = runner(mnist_one_epoch, capsys)
    main("--seeds", 4, "--out", tmp_path)
    (results,) = tmp_path.glob("*.json")
    (run,) = json.loads(results.read_text())["runs"]
    assert run["machine"]["processor"] == seeds.processor()
    (began,) = tmp_path.glob("*/seed-4.json")
    then = json.loads(began.read_text())
    began.write_text(json.dumps({**then, "commit": "abc1234"}))
    main("--seeds", 4, "--out", tmp_path)
    assert json.loads(results.read_text())["runs"][0]["commit"] == "abc1234"  # of the training, not of the last call
    then["machine"]["blas"] = "other 1.0"
    began.write_text(json.dumps(then))
    code, _, error = main("--seeds", 4, "--out", tmp_path)
    assert code == 1
    assert f"seed-4.json began with BLAS other 1.0, now {run['machine']['blas']}; go on with that" in error
    machine = then["machine"]
    damaged = ({}, [], None, {"machine": 3}, {**then, "machine": {**machine, "versions": {}}}, {**then, "commit": 3})
    without = [{**then, "machine": {name: machine[name] for name in machine if name != one}} for one in machine]
    for content in ("", "{", "[" * 100_000, *map(json.dumps, (*damaged, *without))):
        began.write_text(content)
        code, _, error = main("--seeds", 4, "--out", tmp_path)
        assert (code, error) == (
            1,
            f"error: {began} is damaged: it says with what a run began; without it and the run's folder, "
            "it begins anew\n",
        )
    began.unlink()
    code, _, error = main("--seeds", 4, "--out", tmp_path)
    run = began.with_suffix("")
    assert (code, error) == (
        1,
        f"error: {began} is missing: it says with what the run in {run} began; without that folder, it begins anew\n",
    )


@pytest.mark.usefixtures("few")
def test_what_no_run_can_be_kept_in_is_told(tmp_path, capsys):
    main, file = runner(mnist_one_epoch, capsys), tmp_path / "file"
    file.touch()
    code, _, error = main("--seeds", 4, "--out", file)
    assert (code, error.startswith(f"error: no run can begin or go on with {file}")) == (1, True)
    assert error.endswith("seed-4.json (Not a directory); choose another --out\n")
    code, said, error = main("--seeds", *range(0, 300, 2), "--out", tmp_path / "long")
    assert (code, said) == (1, "")  # before the first seed
    assert re.fullmatch(
        r"error: --seeds makes a file's name of \d+ characters; take fewer or a row, such as 0 1 2\n", error
    )


@pytest.mark.usefixtures("few")
def test_without_what_draws_there_is_no_figure_and_the_rest_is_as_ever(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mnist_one_epoch, "RECIPE", attrs.evolve(mnist_one_epoch.RECIPE, target=0.0))
    main = runner(mnist_one_epoch, capsys)
    assert main("--seeds", 4, "--out", tmp_path)[0] == 0
    for hidden in (None, types.ModuleType("records.draw")):  # one that isn't there, and one that isn't whole
        monkeypatch.setitem(sys.modules, "records.draw", hidden)
        code, said, error = main("--seeds", 4, "--out", tmp_path)
        assert (code, error) == (0, "")
        assert said.endswith('python -m pip install -e ".[full]" adds what it needs\n')
        assert not [*tmp_path.glob("*.png")]


def test_a_figure_of_one_epoch_has_that_epoch_at_its_axis():
    pytest.importorskip("matplotlib")
    from records.draw import figure

    item = {"epoch": 1, "train_loss": 0.2, "validation_accuracy": 0.99}
    run = {"seed": 0, "accuracy": 0.99, "one_view": 0.99, "history": [item], "machine": seeds.machine()}
    drawn = figure({"record": "one", "target": 0.99, "train_size": 60, "runs": [run]})
    for axes in drawn.axes:
        first, last = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if first <= tick <= last] == [1]


@pytest.mark.usefixtures("few")
def test_a_signal_ends_it_with_a_sentence(tmp_path, capsys, monkeypatch):
    def stops(*args, **kwargs):
        raise fcnn.InterruptedFit("interrupted after step 3; it is kept", None, signal.SIGTERM)

    monkeypatch.setattr(fcnn, "fit", stops)
    code, _, error = runner(mnist_one_epoch, capsys)("--out", tmp_path)
    assert (code, error) == (143, "\ninterrupted after step 3; it is kept; called again the script does so\n")


@pytest.mark.usefixtures("few")
def test_a_loss_that_is_no_number_and_too_few_images_are_told_in_a_sentence(tmp_path, capsys, monkeypatch):
    main = runner(mnist_one_epoch, capsys)
    code, said, _ = main("--out", tmp_path, "--train-size", 40, "--seeds", 0)
    assert (code, "a trial, of the first 40 images: it says nothing of the target\n" in said) == (1, True)
    code, _, error = main("--out", tmp_path, "--train-size", 61)
    assert (code, error) == (1, "error: --train-size 61 is more than the 60 images of mnist\n")

    def diverges(*args, **kwargs):
        raise fcnn.DivergedError("the loss is not finite at step 3 (epoch 1)", None)

    monkeypatch.setattr(fcnn, "fit", diverges)
    code, _, error = main("--out", tmp_path, "--seeds", 2)
    assert (code, error) == (1, "error: seed 2: the loss is not finite at step 3 (epoch 1)\n")


@pytest.mark.usefixtures("few")
def test_results_of_other_seeds_replace_none(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mnist_one_epoch, "RECIPE", attrs.evolve(mnist_one_epoch.RECIPE, seeds=(0,)))
    main, written = runner(mnist_one_epoch, capsys), {}
    for seeds_of_it in ((), (7,), (2, 0)):
        main("--out", tmp_path, *(["--seeds", *seeds_of_it] if seeds_of_it else []))
        assert all(path.read_bytes() == content for path, content in written.items())
        written = {path: path.read_bytes() for path in tmp_path.glob("*.json")}
    found = [[run["seed"] for run in json.loads(content)["runs"]] for content in written.values()]
    assert sorted(found) == [[0], [2, 0], [7]]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_target_that_is_met_exactly_is_reached(name):
    recipe = SCRIPTS[name].RECIPE

    def said(accuracy, seconds):
        run = {"accuracy": accuracy, "one_view": accuracy, "seconds": seconds}
        return seeds.verdict(recipe, [run] * len(recipe.seeds))

    reached, line = said(recipe.target, recipe.seconds)
    assert reached
    assert "is reached" in line
    assert "were enough" in line
    reached, line = said(recipe.target - 1e-4, 2 * recipe.seconds)
    assert not reached
    assert "is not reached" in line
    assert "were not enough" in line


def test_one_seed_has_no_deviation():
    one, other = ({"accuracy": a, "one_view": a - 0.01, "seconds": 3.0} for a in (0.5, 0.6))
    assert seeds.in_words({"runs": [one]}).startswith("50.00% (n = 1; 49.00% by one view), 3.0 s")
    assert "(n = 2, standard deviation 7.07; 54.00% by one view)" in seeds.in_words({"runs": [one, other]})


def test_the_step_that_the_benchmark_has_of_pytorch_is_the_recipes():
    """Within rounding; by what the benchmark itself compares, within 5e-3, a bias that never learns isn't seen."""
    pytest.importorskip("torch")
    from bench import with_fcnn, with_torch
    from bench.cases import RecordStep
    from bench.inputs import make_inputs

    case = RecordStep(programs=(), batch=16)
    inputs = make_inputs(case, lambda name: noise(32))
    found = [made.check() for made in (with_fcnn.training(case, inputs, None), with_torch.record(case, inputs, "NCHW"))]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)  # 2e-7 was seen, and 1e-4 where biases didn't learn


def test_the_benchmark_times_the_network_of_the_recipe():
    from bench.networks import AIRBENCH, NETWORKS

    theirs, ours = NETWORKS[AIRBENCH].make(fcnn), cifar10.network()
    assert [*flatten(ours.init(fcnn.key(0), (3, 32, 32)).params)] == [
        *flatten(theirs.init(fcnn.key(0), (3, 32, 32)).params)
    ]
    x = np.random.default_rng(0).random((4, 3, 32, 32))
    made = ours.init(fcnn.key(0), (3, 32, 32))
    values = [fcnn.tree.map(lambda leaf: leaf.astype(np.float64), each) for each in (made.params, made.state)]
    outputs = [network.apply(*values, x, train=True).y for network in (ours, theirs)]
    assert outputs[0].tobytes() == outputs[1].tobytes()


def test_first_weights_whiten_and_the_head_is_of_deviation_one():
    model = cifar10.first_model(cifar10.network(), noise(50), 0)
    assert model.params["head"]["w"].std() == pytest.approx(1, rel=1e-6)
    assert (model.params["whiten"]["w"][:12] == -model.params["whiten"]["w"][12:]).all()
    other = cifar10.first_model(cifar10.network(), noise(50), 1)
    assert (other.params["whiten"]["w"] == model.params["whiten"]["w"]).all()
    assert (other.params["head"]["w"] != model.params["head"]["w"]).any()


# What is committed.


def results_of(name):
    """The files of one record."""
    return {file: found for file, found in seeds.kept().items() if found["record"] == name}


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_was_reached_is_told_as_it_is(name):
    recipe = SCRIPTS[name].RECIPE
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    about = " ".join(SCRIPTS[name].__doc__.split())
    assert results_of(name)
    for file, found in results_of(name).items():
        assert file.startswith(f"{name}-")
        assert (seeds.KEPT / f"{file}.png").is_file()
        assert found["train_size"] == (50_000 if recipe.dataset == "cifar10" else 60_000)
        assert [run["seed"] for run in found["runs"]] == [*recipe.seeds]  # all of them, and no other
        assert all(len(run["history"]) == SCRIPTS[name].EPOCHS for run in found["runs"])
        assert all(run["history"][-1]["validation_accuracy"] == run["one_view"] for run in found["runs"])
        assert seeds.in_words(found) in about, file
        summary = seeds.summary(found["runs"])
        assert f"{summary['mean']:.2%}".replace("%", " %") in readme
        assert re.search(rf"{len(found['runs'])} seeds?|n = {len(found['runs'])}", readme)
