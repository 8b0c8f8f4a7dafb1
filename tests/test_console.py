"""Scripts at the terminal: output that is closed, full, read by nobody or of few characters, and signals."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import stopping
import train as script
from running import SCRIPTS, few_digits, runner

import fcnn
from fcnn.training.runs import checkpoints

RECORDS = ("records/mnist_one_epoch.py", "records/mnist.py", "records/cifar10.py")
ALL = ("train.py", "predict.py", "tour.py", "bench", "study", *RECORDS)
TINY = ["--dataset", "digits", "--train-size", "64", "--batch-size", "32", "--epochs", "3", "--out"]
posix = pytest.mark.skipif(os.name != "posix", reason="shells and signals are POSIX's")
# Terminals and files of few characters.
ASCII = {"PYTHONIOENCODING": "ascii"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(name, *arguments, redirected="", **env):
    """Run a script with redirections that a shell makes: (exit code, standard output, standard error)."""
    command = f'"$@" {redirected}'
    done = subprocess.run(
        ["bash", "-c", command, "bash", sys.executable, "-W", "error", SCRIPTS / name, *map(str, arguments)],
        capture_output=True, timeout=120, env={**os.environ, **env},
    )  # fmt: skip
    return done.returncode, done.stdout.decode("latin-1"), done.stderr.decode()


@posix
@pytest.mark.parametrize("name", ALL)
def test_help_needs_no_character_but_those_of_ascii(name):
    code, out, err = shell(name, "--help", **ASCII)
    assert (code, err, out.startswith("usage: ")) == (0, "", True)


@posix
@pytest.mark.parametrize("name", ALL)
def test_help_into_nothing_is_no_error(name):
    assert shell(name, "--help", redirected=">&- 2>&- <&-") == (0, "", "")


def whole(folder, count):
    """Whether the checkpoints of so many epochs are there, and can be read."""
    found = checkpoints(folder)
    return len(found) == count and all(fcnn.load_model(path) for path in found)


@posix
@pytest.mark.parametrize("redirected", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_a_run_with_closed_output_is_a_run(tmp_path, redirected):
    code, out, err = shell("train.py", *TINY, tmp_path / "run", redirected=redirected)
    assert (code, err) == (0, "")
    assert ("test accuracy after epoch 3" in out) == (redirected == "2>&-")
    assert whole(tmp_path / "run", 3)


@posix
def test_a_run_in_few_characters_is_a_run(tmp_path):
    folder = tmp_path / "größe…"
    code, out, err = shell("train.py", *TINY, folder, **ASCII)
    assert (code, err, r"gr\xf6\xdfe\u2026: epoch-03.npz" in out) == (0, "", True)
    assert whole(folder, 3)
    code, out, err = shell("predict.py", folder / "epoch-03.npz", "--rows", "0:3", **C_LOCALE)
    assert (code, err, "digits test 0" in out) == (0, "", True)


@posix
def test_a_run_that_nobody_reads_any_more_says_how_it_goes_on(tmp_path):
    """Its reader ends after the first epoch."""
    folder = tmp_path / "run"
    read = "| sed -u '/^epoch/q' >/dev/null; exit ${PIPESTATUS[0]}"
    code, _, err = shell("train.py", *TINY[:-2], 12, "--out", folder, redirected=read)
    assert code == 141
    assert err == (
        f"\nnobody reads the output any more; the checkpoints in {folder} are whole\n"
        f"go on with: python scripts/train.py --resume {folder}\n"
    )
    count = len(checkpoints(folder))
    assert 1 <= count < 12
    assert whole(folder, count)


@posix
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_beneath_the_output_is_told(tmp_path):
    code, _, err = shell("train.py", *TINY, tmp_path / "run", redirected=">/dev/full")
    assert (code, err.strip()) == (1, "error: [Errno 28] No space left on device")
    shell("train.py", *TINY, tmp_path / "run")
    rows = "predict.py", tmp_path / "run" / "epoch-03.npz", "--rows", "0:3"
    code, _, err = shell(*rows, redirected=">/dev/full")
    assert (code, err.startswith("error: "), err.endswith("No space left on device\n")) == (1, True, True)
    code, _, err = shell(*rows, redirected="| true; exit ${PIPESTATUS[0]}")
    assert (code, err) == (141, "")


@pytest.fixture(scope="module")
def few():
    return few_digits(100)


@pytest.fixture
def run(few, tmp_path, monkeypatch, capsys):
    """scripts/train.py in this process and in an empty folder, on few digits."""
    monkeypatch.setattr(fcnn.data, "load", lambda *args, **kwargs: few)
    monkeypatch.chdir(tmp_path)
    return runner(script, capsys)


STEPS = 2  # of TINY, an epoch


def signals(monkeypatch, number, step, times):
    """Send this process a signal in the middle of a step, so many times."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    stopping.raising()  # as a script does that is run by itself
    real = fcnn.train_step

    def train_step(*args):
        inner = real(*args)

        def one(state, batch):
            for _ in range(times if state.step == step else 0):
                signal.raise_signal(number)
            return inner(state, batch)

        return one

    monkeypatch.setattr(fcnn, "train_step", train_step)


@posix
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_once_a_signal_waits_for_the_step_and_twice_it_ends_at_once(run, monkeypatch, number, code, word):
    before = [signal.getsignal(one) for one in stopping.SIGNALS]
    on = "go on with: python scripts/train.py --resume"
    with monkeypatch.context() as patch:
        signals(patch, number, STEPS, 1)
        found, _, err = run(*TINY, "once")
        assert (found, err) == (
            code, f"\ninterrupted after step 3; everything is in once/interrupted.npz\n{on} once\n"
        )  # fmt: skip
    with monkeypatch.context() as patch:
        signals(patch, number, STEPS, 2)
        found, _, err = run(*TINY, "twice")
        assert (found, err) == (code, f"\n{word}; the checkpoints in twice are whole\n{on} twice\n")
    with monkeypatch.context() as patch:
        signals(patch, number, 0, 2)
        found, _, err = run(*TINY, "early")
        assert (found, err) == (code, f"\n{word} before the first checkpoint; nothing is kept\n")
        assert not Path("early").exists()
    with monkeypatch.context() as patch:
        signals(patch, number, -1, 0)
        patch.setattr(fcnn.data, "load", lambda *args, **kwargs: signal.raise_signal(number))
        found, _, err = run(*TINY, "loading")
        assert (found, err) == (code, f"\n{word} before the first checkpoint; nothing is kept\n")
        assert not Path("loading").exists()
    for one, handler in zip(stopping.SIGNALS, before, strict=True):
        signal.signal(one, handler)
    for folder in ("once", "twice"):
        code, _, err = run("--resume", folder)
        assert (code, err) == (0, "")
        assert whole(Path(folder), 3)


CHANGES = [
    ({"settings": 5}, "was not written by this script: it has no settings"),
    ({"settings": {"epochs": "five"}}, "epochs is an integer of at least 1, got 'five'"),
    ({"settings": {"epochs": None}}, "epochs is an integer of at least 1, got None"),
    ({"settings": {"batch_size": 0}}, "batch_size is an integer of at least 1, got 0"),
    ({"settings": {"shard_size": -1}}, "shard_size is an integer of at least 0, got -1"),
    ({"settings": {"train_size": 1.5}}, "train_size is an integer of at least 0, got 1.5"),
    ({"settings": {"seed": True}}, "seed is an integer of at least 0, got True"),
    ({"settings": {"lr": "fast"}}, "lr is a number in [0, inf), got 'fast'"),
    ({"settings": {"lr": -1}}, "lr is a number in [0, inf), got -1"),
    ({"settings": {"dataset": "mnits"}}, "unknown data set 'mnits'"),
    ({"settings": {"model": "lenet6"}}, "model is "),
    ({"settings": {"model": []}}, "model is "),
    ({"settings": {"init": "none"}}, "init is "),
    ({"settings": {"optimizer": "adm"}}, "optimizer is "),
    ({"settings": {"schedule": "never"}}, "schedule is "),
    ({"settings": {"drop_last": "yes"}}, "as this script writes them (drop_last is True or False, got 'yes')"),
    ({"settings": {"colour": "red"}}, "its settings are not as this script writes them (unknown: colour)"),
    ({"settings": {"ranks": 0}}, "ranks is an integer of at least 1, got 0"),
    ({"settings": {"train_size": 10**9}}, "1000000000"),
    ({"settings": {"validation": 64}}, "--validation 64 leaves no image of 64 to train on"),
    ({"settings": {"model": "lenet5_bn"}}, "difference(s) from the template"),
    ({"settings": {"label_smoothing": 2.0}}, "label_smoothing is a number in [0, 1), got 2.0"),
    ({"history": "none"}, "its history is not as a run writes it"),
]


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory):
    """The state and the meta of a run's only checkpoint."""
    folder = tmp_path_factory.mktemp("edited") / "run"
    assert shell("train.py", *TINY[:-2], 1, "--out", folder)[0] == 0
    path = folder / "epoch-01.npz"
    network, optimizer = fcnn.lenet5(weights=fcnn.xavier()), fcnn.adam(1e-3)
    return fcnn.load(path, like=fcnn.init_state(network, optimizer, fcnn.key(0), (1, 28, 28))), fcnn.load_meta(path)


@posix
@pytest.mark.parametrize(("change", "message"), CHANGES, ids=lambda value: json.dumps(value)[:60])
def test_a_checkpoint_that_was_edited_gets_a_sentence(run, one_epoch, change, message):
    state, meta = one_epoch
    if isinstance(change.get("settings"), dict):
        change = {"settings": meta["settings"] | change["settings"]}
    Path("run").mkdir()
    fcnn.save("run/epoch-01.npz", state, meta=meta | change)
    code, _, err = run("--resume", "run")
    assert (code, message in err) == (1, True), err
    assert "Error" not in err
