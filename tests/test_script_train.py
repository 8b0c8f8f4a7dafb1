"""scripts/train.py from outside: what it writes, what it says, and that stopping it at any moment costs nothing."""

import contextlib
import errno
import json
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import train as script
from running import SCRIPTS, few_digits, runner

import fcnn
from fcnn.training import runs
from fcnn.training.runs import RunFolder, checkpoints

SCRIPT = SCRIPTS / "train.py"

TINY = ["--dataset", "digits", "--train-size", "160", "--batch-size", "32", "--epochs", "3", "--shard-size", "16"]
STEPS, TOTAL = 5, 15  # of TINY: an epoch, and all
LONGER = ["--dataset", "digits", "--train-size", "2048", "--batch-size", "32", "--epochs", "3", "--validation", "200"]


@pytest.fixture(scope="module")
def digits():
    return few_digits(200)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, digits):
    """Run the script in this process and in an empty folder: (exit code, standard output, standard error)."""
    real = fcnn.data.load
    monkeypatch.setattr(
        fcnn.data, "load", lambda name, *args, **kw: digits if name == "digits" else real(name, *args, **kw)
    )
    monkeypatch.chdir(tmp_path)
    return runner(script, capsys)


def arrays(checkpoint):
    with np.load(checkpoint, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files if name != "meta"}


def assert_same_bits(one, other):
    one, other = arrays(one), arrays(other)
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype
        assert array.tobytes() == other[name].tobytes(), name


def epochs(folder):
    """The history, without what a clock measured."""
    history = json.loads((Path(folder) / "history.json").read_text())["epochs"]
    return [{k: v for k, v in item.items() if k not in ("seconds", "images_per_second")} for item in history]


def test_a_run_leaves_checkpoints_a_history_and_a_figure(run, digits):
    code, out, _ = run(*TINY, "--out", "a/b")
    assert code == 0
    folder = Path("a/b")
    files = ["curves.png", "epoch-01.npz", "epoch-02.npz", "epoch-03.npz", "history.json"]
    assert sorted(path.name for path in folder.iterdir()) == files

    history = json.loads((folder / "history.json").read_text())
    assert history["settings"]["train_size"] == 160
    assert [item["epoch"] for item in history["epochs"]] == [1, 2, 3]
    assert history["epochs"][2]["train_loss"] < history["epochs"][0]["train_loss"]
    for item in history["epochs"]:
        assert set(item) == {
            *("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"),
            *("seconds", "images_per_second"),
        }
        assert 0 <= item["validation_accuracy"] <= 1

    png = (folder / "curves.png").read_bytes()
    width, height = struct.unpack(">II", png[16:24])
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert 800 <= width <= 3000
    assert 400 <= height <= 2000

    assert "lenet5 (61,706 parameters) on digits: 160 training images, 200 test images" in out
    assert f"test accuracy after epoch 3: {history['epochs'][2]['validation_accuracy']:.2%} of 200 images" in out
    assert "weighted avg" in out

    params = fcnn.load(folder / "epoch-03.npz", like=fcnn.lenet5().init(fcnn.key(0), (1, 28, 28)).params)
    found = fcnn.evaluate(fcnn.lenet5(), params, fcnn.tree.EMPTY, digits.test)
    assert found.accuracy == history["epochs"][2]["validation_accuracy"]
    assert arrays(folder / "epoch-03.npz")["step"] == TOTAL

    meta = fcnn.load_meta(folder / "epoch-03.npz")  # names that no later version may change: --resume reads them
    assert set(meta) == {"settings", "history", "seen", "network", "in_shape", "classes", "format"}
    assert set(meta["seen"]) == {"loss", "correct", "images", "seconds", "weight", "counted"}


def test_the_seed_decides_and_the_threads_do_not(run):
    small = [*TINY[:-4], "--epochs", "1", "--shard-size", "16"]
    for name, options in {"one": ["--threads", "1"], "two": ["--threads", "2"], "seed": ["--seed", "1"]}.items():
        assert run(*small, "--out", name, *options)[0] == 0
    assert_same_bits("one/epoch-01.npz", "two/epoch-01.npz")
    one, other = arrays("one/epoch-01.npz"), arrays("seed/epoch-01.npz")
    assert (one["params/fc1/w"] != other["params/fc1/w"]).any()


def test_shards_are_a_shard_size(run):
    run(*TINY[:-2], "--shards", "3", "--out", "a")
    run(*TINY[:-2], "--shard-size", "11", "--out", "b")  # 32 / 3, rounded up
    assert_same_bits("a/epoch-03.npz", "b/epoch-03.npz")
    assert json.loads(Path("a/history.json").read_text())["settings"]["shard_size"] == 11
    code, _, err = run(*TINY, "--shards", "3")
    assert (code, "not allowed with argument" in err) == (2, True)


def test_mpi_without_mpi4py_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    code, out, _ = run(*TINY, "--mpi")
    assert "error: --mpi needs mpi4py and an MPI library" in code
    assert (code.endswith("pip install mpi4py mpich"), out) == (True, "")


def test_held_out_images_are_the_last_and_not_trained_on(run, digits):
    assert run(*TINY, "--epochs", "1", "--validation", "60", "--out", "a")[0] == 0
    params = fcnn.load("a/epoch-01.npz", like=fcnn.lenet5().init(fcnn.key(0), (1, 28, 28)).params)
    held = digits.train.take(list(range(100, 160)))
    found = fcnn.evaluate(fcnn.lenet5(), params, fcnn.tree.EMPTY, held)
    # float32, in batches of another size: approx allows 1e-6
    assert epochs("a")[0]["validation_loss"] == pytest.approx(found.loss)
    assert arrays("a/epoch-01.npz")["step"] == 4
    code, _, err = run(*TINY, "--validation", "160", "--out", "b")
    assert (code, "error: --validation 160 leaves no image of 160" in err, Path("b").exists()) == (1, True, False)


def test_more_images_than_there_are_is_told_by_the_option(run, digits):
    code, _, err = run("--dataset", "digits", "--train-size", "999999")
    assert (code, err.strip()) == (
        1,
        f"error: --train-size 999999 is more than the {len(digits.train)} images of digits",
    )


def test_a_file_to_resume_from_is_told_without_advice_for_new_runs(run):
    Path("notes.txt").write_text("")
    code, _, err = run("--resume", "notes.txt")
    said = "error: can't make the folder notes.txt (there is a file of that name); name another"
    assert (code, err.strip()) == (1, said)


def test_a_second_run_takes_a_new_folder(run):
    for _ in range(2):
        run(*TINY, "--epochs", "1")
    assert sorted(path.name for path in Path("runs").iterdir()) == ["digits-lenet5-seed0", "digits-lenet5-seed0-2"]


def interrupted_after(step):
    """Ctrl-C in the middle of this step of the run."""

    @contextlib.contextmanager
    def interruptible():
        asked = iter(range(1, 1000))
        yield lambda: signal.SIGINT if next(asked) >= step else 0

    return interruptible


@pytest.mark.parametrize(
    ("model", "steps"),
    [("lenet5", (1, STEPS - 1, STEPS, TOTAL)), ("lenet5_bn", (STEPS + 2,))],
    ids=["lenet5", "lenet5_bn"],
)
def test_interrupted_after_any_step_a_run_goes_on_to_the_same_bits(run, monkeypatch, model, steps):
    options = [*TINY, "--model", model, "--optimizer", "adamw", "--schedule", "one-cycle", "--clip", "1"]
    run(*options, "--out", "whole")
    for step in steps:
        folder = f"stopped-{step}"
        with monkeypatch.context() as patch:
            patch.setattr(script, "interruptible", interrupted_after(step))
            code, _, err = run(*options, "--out", folder)
        if code:  # stopping after the very last step may as well finish the run
            assert f"interrupted after step {step}" in err
            assert (code, f"--resume {folder}" in err) == (130, True)
            code, _, err = run("--resume", folder)
        assert (code, err) == (0, "")
        assert_same_bits(f"{folder}/epoch-03.npz", "whole/epoch-03.npz")
        assert epochs(folder) == epochs("whole"), f"stopped after step {step}"
        assert sorted(p.name for p in Path(folder).iterdir()) == sorted(p.name for p in Path("whole").iterdir())


def start(folder, *options):
    """Start the script by itself and come back in the middle of its second epoch."""
    process = subprocess.Popen(
        [sys.executable, SCRIPT, *LONGER, "--out", folder, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    limit = time.monotonic() + 120
    while not (folder / "curves.png").exists():  # the last that is written of an epoch
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < limit
        time.sleep(0.01)
    time.sleep(0.05)
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize(("model", "number"), [("lenet5", signal.SIGINT), ("lenet5_bn", signal.SIGKILL)])
def test_a_run_that_was_stopped_from_outside_goes_on_to_the_same_bits(run, tmp_path, model, number):
    process = start(tmp_path / "stopped", "--model", model)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    left = {path.name for path in (tmp_path / "stopped").iterdir()}
    assert "epoch-03.npz" not in left
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert (process.returncode, "interrupted.npz" in left) == (130, True)
        assert f"go on with: python scripts/train.py --resume {tmp_path / 'stopped'}" in err
    code, out, _ = run("--resume", "stopped")
    assert code == 0
    assert "going on from stopped/" in out
    run(*LONGER, "--model", model, "--out", "whole")
    assert_same_bits("stopped/epoch-03.npz", "whole/epoch-03.npz")
    assert epochs("stopped") == epochs("whole")
    assert not Path("stopped/interrupted.npz").exists()


def test_resuming_a_finished_run_reports_and_changes_nothing(run):
    run(*TINY, "--out", "a")
    before = {path: path.read_bytes() for path in Path("a").iterdir()}
    code, out, _ = run("--resume", "a")
    assert (code, "test accuracy after epoch 3" in out) == (0, True)
    assert {path: path.read_bytes() for path in Path("a").iterdir()} == before


def test_a_full_disk_costs_the_epoch_and_not_the_run(run, monkeypatch):
    run(*TINY, "--out", "whole")
    save = runs.save

    def full_at_the_second(path, *args, **kwargs):
        if path.name == "epoch-02.npz":
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "save", full_at_the_second)
        code, _, err = run(*TINY, "--out", "a")
    assert (code, "No space left on device" in err, "--resume" in err) == (1, True, True)
    assert run("--resume", "a")[0] == 0
    assert_same_bits("a/epoch-03.npz", "whole/epoch-03.npz")


def test_a_full_disk_beneath_the_figure_costs_the_figure_alone(run, monkeypatch):
    run(*TINY, "--out", "whole")

    def full(target):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    with monkeypatch.context() as patch:
        patch.setattr(script, "replacing", full)
        code, _, err = run(*TINY, "--out", "a")
    assert (code, err) == (
        1,
        "\nerror: [Errno 28] No space left on device: 'a/curves.png'; the checkpoints in a are whole\n"
        "go on with: python scripts/train.py --resume a\n",
    )
    assert sorted(path.name for path in Path("a").iterdir()) == ["epoch-01.npz", "history.json"]
    assert run("--resume", "a")[0] == 0
    assert_same_bits("a/epoch-03.npz", "whole/epoch-03.npz")
    assert epochs("a") == epochs("whole")
    (Path("a") / "curves.png").unlink()  # as after a kill between the last checkpoint and the figure
    (Path("a") / "history.json").unlink()
    assert run("--resume", "a")[0] == 0
    assert (Path("a") / "curves.png").exists()
    assert epochs("a") == epochs("whole")


def test_a_folder_that_is_removed_in_the_middle_is_told(run, monkeypatch):
    real = runs.save

    def removing(path, *args, **kwargs):
        if path.name == "epoch-02.npz":
            shutil.rmtree(path.parent)
        real(path, *args, **kwargs)

    monkeypatch.setattr(runs, "save", removing)
    code, _, err = run(*TINY, "--out", "a")
    message = "error: a was removed or renamed while the run went on, and what it had written with it"
    assert (code, err) == (1, f"\n{message}\n")
    assert not Path("a").exists()


def test_a_damaged_checkpoint_names_the_way_on_which_works(run):
    run(*TINY, "--out", "a")
    whole = Path("a/epoch-03.npz").read_bytes()
    Path("a/epoch-03.npz").write_bytes(whole[:-9])
    code, _, err = run("--resume", "a")
    assert (code, "rename epoch-03.npz, and the run goes on from epoch-02.npz" in err) == (1, True)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1  # in an array: found when the state is loaded
    Path("a/epoch-03.npz").write_bytes(damaged)
    code, _, err = run("--resume", "a")
    assert (code, "rename epoch-03.npz, and the run goes on from epoch-02.npz" in err) == (1, True)
    Path("a/epoch-03.npz").rename("a/damaged.npz")
    code, out, err = run("--resume", "a")
    assert (code, err, "going on from a/epoch-02.npz" in out) == (0, "", True)
    Path("whole.npz").write_bytes(whole)
    assert_same_bits("a/epoch-03.npz", "whole.npz")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_loss_that_overflows_ends_the_run_with_a_sentence_and_no_warning(run, threads):
    code, out, err = run(*TINY, "--optimizer", "sgd", "--lr", "1e30", "--threads", threads, "--out", "a")
    assert code == 1
    assert "the loss is not finite at step 1 (epoch 1); no epoch was finished" in err
    assert "Try a smaller --lr" in err
    assert "test accuracy" not in out
    assert not Path("a").exists(), "a run that came to nothing leaves nothing behind"


def test_a_loss_that_is_no_number_later_leaves_the_earlier_checkpoints(run, monkeypatch):
    real = fcnn.train_step

    def train_step(*args):
        step = real(*args)

        def failing(state, batch):
            new, record = step(state, batch)
            return new, record._replace(loss=float("nan")) if record.step == STEPS + 2 else record

        return failing

    monkeypatch.setattr(fcnn, "train_step", train_step)
    code, _, err = run(*TINY, "--out", "a")
    assert code == 1
    assert "not finite at step 7 (epoch 2); the last good checkpoint is a/epoch-01.npz" in err
    assert sorted(path.name for path in Path("a").iterdir()) == ["curves.png", "epoch-01.npz", "history.json"]
    assert arrays("a/epoch-01.npz")["step"] == STEPS


def test_a_folder_with_something_in_it_is_never_written_to(run):
    Path("a").mkdir()
    Path("a/mine.txt").write_text("mine")
    code, _, err = run(*TINY, "--out", "a")
    assert (code, "a is not empty, and holds no checkpoint of a run; choose another with --out" in err) == (1, True)
    assert [path.name for path in Path("a").iterdir()] == ["mine.txt"]
    run(*TINY, "--epochs", "1", "--out", "b")
    code, _, err = run(*TINY, "--out", "b")
    assert (code, "b is not empty; go on with --resume b, or choose another with --out" in err) == (1, True)


def test_a_folder_that_cannot_be_made_is_said_at_once(run):
    Path("file").write_text("")
    code, out, err = run(*TINY, "--out", "file/a")
    assert (code, "can't make the folder file/a (Not a directory)" in err, "epoch" in out) == (1, True, False)


def test_epochs_are_in_order_beyond_the_99th(tmp_path):
    for epoch in (100, 9, 99, 10):
        RunFolder(tmp_path).epoch_file(epoch).touch()
    assert [path.name for path in checkpoints(tmp_path)] == [
        *("epoch-09.npz", "epoch-10.npz", "epoch-99.npz", "epoch-100.npz")
    ]


def test_resuming_with_other_settings_is_refused(run):
    """Also with a value that happens to be the default: here the run has 3 epochs, the default is 5."""
    run(*TINY, "--out", "a")
    for options in (
        ["--seed", "1"],
        ["--lr", "0.1"],
        ["--out", "b"],
        ["--shards", "2"],
        ["--batch-size", "128"],
    ):
        code, _, err = run("--resume", "a", *options)
        assert (code, f"leave out {options[0]}" in err) == (2, True), options


def test_a_last_batch_of_one_image_and_batch_norm(run):
    options = ["--dataset", "digits", "--model", "lenet5_bn", "--train-size", "33", "--batch-size", "32"]
    code, _, err = run(*options, "--epochs", "1", "--out", "a")
    assert (code, "drop_last" in err, "here that is --drop-last" in err) == (1, True, True)
    run(*options, "--epochs", "1", "--drop-last", "--out", "b")
    code, out, _ = run("--resume", "b", "--epochs", "2")
    assert (code, "going on from b/epoch-01.npz, step 1 of 2" in out) == (0, True)
    run(*options, "--epochs", "2", "--drop-last", "--out", "whole")
    assert_same_bits("b/epoch-02.npz", "whole/epoch-02.npz")


def test_a_finished_run_goes_on_for_more_epochs(run):
    run(*TINY, "--out", "a")
    code, out, err = run("--resume", "a", "--epochs", "5")
    assert (code, err) == (0, "")
    assert "going on from a/epoch-03.npz, step 15 of 25" in out
    run(*TINY, "--epochs", "5", "--out", "whole")
    assert_same_bits("a/epoch-05.npz", "whole/epoch-05.npz")
    assert epochs("a") == epochs("whole")
    code, _, err = run("--resume", "a", "--epochs", "4")
    assert (code, "the run has 5 epochs already; --epochs 4 is less" in err) == (1, True)


def test_more_epochs_say_what_they_do_to_the_schedule(run):
    run(*TINY, "--schedule", "cosine", "--out", "a")
    code, _, err = run("--resume", "a", "--epochs", "6")
    assert code == 0
    assert (
        "the schedule cosine now spans 6 epochs in place of 3: at step 15 the rate is 0.0005, and would have been 0"
        in err
    )
    assert epochs("a")[-1]["epoch"] == 6


def test_checking_for_finite_numbers_changes_last_bits_alone_and_names_the_layer(run):
    run(*TINY, "--out", "a")
    assert run(*TINY, "--check-finite", "--out", "b")[0] == 0
    one, other = arrays("a/epoch-03.npz"), arrays("b/epoch-03.npz")
    assert one.keys() == other.keys()
    for name in one:  # 15 steps of Adam, from sums in another order
        np.testing.assert_allclose(one[name], other[name], rtol=1e-3, atol=1e-5, err_msg=name)
    code, _, err = run(*TINY, "--check-finite", "--optimizer", "sgd", "--lr", "1e30", "--out", "c")
    assert code == 1
    assert re.search(r"error: \w+: the (output|gradient of .*) is not finite: [0-9]+ of [0-9]+ numbers", err)


def test_it_ends_with_the_bits_of_fit(run, digits):
    run(*TINY, "--out", "a")
    data = fcnn.Dataset(digits.train.take(160), digits.test, digits.name, digits.classes)
    fitted = fcnn.fit(fcnn.lenet5(), data, epochs=3, batch_size=32, shard_size=16, folder="b")
    assert_same_bits("a/epoch-03.npz", "b/epoch-03.npz")
    assert fitted.state == fcnn.load("a/epoch-03.npz", like=fitted.state)


def test_a_checkpoint_is_a_model_without_its_code(run, digits):
    run(*TINY, "--model", "lenet5_bn", "--out", "a")
    model = fcnn.load_model("a/epoch-03.npz")
    found = fcnn.evaluate(model.network, model.params, model.state, digits.test)
    assert found.accuracy == epochs("a")[-1]["validation_accuracy"]
    assert (model.in_shape, model.classes) == ((1, 28, 28), digits.classes)


def test_resuming_what_is_no_run(run, tmp_path):
    for folder in ("nowhere", tmp_path):
        code, _, err = run("--resume", folder)
        assert (code, f"{folder} holds no checkpoint (epoch-01.npz, …) to go on from" in err) == (1, True)
    fcnn.save("epoch-01.npz", fcnn.freeze({"w": np.ones(1)}))
    code, _, err = run("--resume", ".")
    assert (code, "epoch-01.npz was not written by a run: it has no history" in err) == (1, True)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--dataset", "mnits"], 2, "unknown data set 'mnits', did you mean 'mnist'?"),
        (["--epochs", "0"], 2, "expected a whole number of at least 1, got 0"),
        (["--epochs", "two"], 2, "invalid whole number value: 'two'"),
        (["--lr", "nan"], 2, "expected a finite number of at least 0, got nan"),
        (["--see", "1"], 2, "unrecognized arguments: --see 1"),
        (["--label-smoothing", "1.5"], 1, "label_smoothing is a number in [0, 1), got 1.5"),
        (["--optimizer", "sgd", "--momentum", "2"], 1, "momentum is a number in [0, 1), got 2.0"),
        (["--momentum", "0.8"], 2, "--momentum is of sgd, not of adam; add --optimizer sgd, or leave it out"),
        (["--train-size", "10001"], 1, "10001"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nonsense_is_refused_before_a_folder_is_made(run, options, code, message):
    found, _, err = run("--dataset", "digits", *options)
    assert (found, message in err) == (code, True), err
    assert not list(Path().iterdir())


def test_missing_data_says_where_it_looked(run, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = run("--dataset", "mnist", "--data", tmp_path / "empty", "--out", "a")
    assert code == 1
    assert f"error: {tmp_path / 'empty'}: no mnist there; looked in" in err
    assert "leave root out to download" not in err, "an option of the script, not an argument of a function"
    assert not Path("a").exists()
