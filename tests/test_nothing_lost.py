"""Nothing is lost: runs that are killed anywhere, disks that are full, folders that go, two runs in one folder.

By default a sample of each; with FCNN_PROFILE=long all of it, in some minutes.
"""

import contextlib
import errno
import functools
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import faults
import numpy as np
import pytest
from faults import REFUSED, UNREACHED, ended, forked, forks, is_litter
from profiles import LONG
from running import SCRIPTS

import fcnn
from fcnn import CheckpointError, RunError
from fcnn.training import runs
from fcnn.training.runs import INTERRUPTED, TakenError, checkpoints, has_checkpoint

EPOCHS = 3
NETWORK = fcnn.serial(a=fcnn.dense(6), norm=fcnn.batch_norm(), act=fcnn.relu(), drop=fcnn.dropout(0.2), b=fcnn.dense(3))
RNG = np.random.default_rng(0)
DATA = RNG.standard_normal((60, 5)).astype(np.float32), RNG.integers(0, 3, 60)
ERRORS = (OSError, RunError, CheckpointError)  # what a user may be told where a call fails


def run(folder=None, epochs=EPOCHS, at=0, do=None, **options):
    """A small training, which does something at its batch of that number, counted from 1."""
    numbers = itertools.count(1)

    def transform(key, batch):
        if next(numbers) == at:
            do()
        return batch

    options = {"transform": transform, "workers": 1, "progress": False, **options}
    return fcnn.fit(NETWORK, DATA, epochs=epochs, batch_size=16, folder=folder, **options)


def timeless(history):
    return [{k: v for k, v in item.items() if k not in ("seconds", "images_per_second")} for item in history]


@pytest.fixture(scope="module")
def whole():
    """An uninterrupted run: its states by the number of epochs, and its history."""
    found = [run(epochs=epochs) for epochs in range(EPOCHS + 1)]
    return [one.state for one in found], timeless(found[-1].history)


def started(folder):
    """A run that was interrupted in its second epoch, with a file that isn't the run's."""
    with pytest.raises(fcnn.InterruptedFit):
        run(folder, at=6, do=lambda: signal.raise_signal(signal.SIGINT))
    (folder / "mine.txt").write_text("mine")
    assert sorted(path.name for path in folder.iterdir()) == ["epoch-01.npz", "history.json", INTERRUPTED, "mine.txt"]


def going_on(folder):
    return run(folder, resume=True)


def assert_whole(folder, states):
    """Every checkpoint that has its name can be read, and is what it says."""
    for path in checkpoints(folder):
        assert fcnn.load(path, like=states[0]) == states[int(path.stem[6:])], path.name
    if (folder / INTERRUPTED).exists():
        assert fcnn.load(folder / INTERRUPTED, like=states[0]).step == 6


def assert_ends_well(folder, whole, moment, others=()):
    """The run goes on to the bits of one that was never stopped, and leaves nothing but what it should."""
    states, history = whole
    assert_whole(folder, states)
    found = going_on(folder)
    assert found.state == states[-1], moment
    assert timeless(found.history) == history, moment
    assert timeless(json.loads((folder / "history.json").read_text())["epochs"]) == history, moment
    names = [*others, *(f"epoch-{epoch:02d}.npz" for epoch in range(1, EPOCHS + 1)), "history.json"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names), moment


# Every call of a checkpoint's write, and of a run, fails or kills in turn.


def saving(folder):
    """What replaces a file by a checkpoint, and what says whether that was lost."""
    old, new = (fcnn.freeze({"w": np.full((40, 300), value, np.float32)}) for value in (1.0, 2.0))
    folder.mkdir()
    path = folder / "model.npz"
    (folder / "other.npz").write_bytes(b"another")

    def check(moment, code):
        found = fcnn.load(path, like=old)
        assert found in ((old, new) if code != UNREACHED else (new,)), moment
        left = {one.name for one in folder.iterdir()} - {"model.npz", "other.npz"}
        assert all(map(is_litter, left)), moment
        assert (folder / "other.npz").read_bytes() == b"another"
        for name in left:
            (folder / name).unlink()
        fcnn.save(path, old)

    fcnn.save(path, old)
    return lambda: fcnn.save(path, new), check


def resuming(folder, whole):
    """The same for a run that goes on."""
    template = folder.with_name("template")
    started(template)

    def check(moment, code):
        assert (folder / "mine.txt").read_text() == "mine"
        assert fcnn.load(runs.furthest(folder)[0], like=whole[0][0]).step >= 6, f"{moment}: steps were lost"
        assert_ends_well(folder, whole, moment, ["mine.txt"])
        restore()

    def restore():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template, folder)

    restore()
    return lambda: going_on(folder), check


def beginning(folder, whole):
    """The same for a run that begins; what is refused without resume can be gone on with."""

    def check(moment, code):
        if folder.exists():
            with contextlib.suppress(TakenError), runs.claimed(folder, resume=False):
                assert not has_checkpoint(folder), moment
        assert_ends_well(folder, whole, moment)
        shutil.rmtree(folder)

    return lambda: run(folder), check


SCENES = {
    "a checkpoint is replaced": lambda folder, whole: saving(folder),
    "a run goes on": resuming,
    "a run begins": beginning,
}


@forks
@pytest.mark.parametrize(("scene", "stride"), [*zip(SCENES, (1, 1, 1) if LONG else (1, 41, 41), strict=True)])
def test_whichever_call_fails_or_kills_nothing_is_lost(tmp_path, whole, scene, stride):
    action, check = SCENES[scene](tmp_path / "run", whole)
    print(faults.after_each_fault(action, ("fail", "fail on", "die", "die after"), check, ERRORS, stride), "faults")


@forks
@pytest.mark.skipif(sys.platform != "linux", reason="system calls are made to fail by strace")
@pytest.mark.parametrize("scene", SCENES if LONG else ["a checkpoint is replaced"])
def test_whichever_system_call_fails_or_kills_nothing_is_lost(tmp_path, whole, scene):
    if reason := faults.strace_works():
        pytest.skip(reason)
    action, check = SCENES[scene](tmp_path / "run", whole)
    kinds = ("error=ENOSPC", "error=EIO", "signal=KILL") if LONG else ("error=ENOSPC", "signal=KILL")
    print(faults.after_each_system_call(action, check, ERRORS, kinds), "faults")


# Kills at random moments.


@forks
def test_killed_at_random_moments_a_fit_goes_on_to_the_same_bits(tmp_path, whole):
    """Of a process that does nothing else, so that nearly every kill meets the steps or the writing."""
    rng, folder = random.Random(0), tmp_path / "run"
    kills, runs_done = 0, 0
    while kills < (200 if LONG else 10):
        pid = forked(lambda: bool(going_on(folder)) - 1)
        time.sleep(rng.uniform(0, 0.12))
        os.kill(pid, signal.SIGKILL)
        if ended(pid):
            kills += 1
            assert_whole(folder, whole[0])
        else:  # it was done before
            assert_ends_well(folder, whole, f"after {kills} kills")
            shutil.rmtree(folder)
            runs_done += 1
    assert_ends_well(folder, whole, f"after {kills} kills")
    print(kills, "kills in", runs_done + 1, "runs")


TRAINING = ["--dataset", "digits", "--train-size", "640", "--batch-size", "32", "--epochs", "3", "--lr", "0.002"]


def script(name, *arguments, **options):
    """Start a script by itself."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, SCRIPTS / name, *map(str, arguments)], **{**streams, **options})


def outcome(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def arrays(path):
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name].tobytes() for name in archive.files if name != "meta"}


def epochs_of(folder):
    return timeless(json.loads((folder / "history.json").read_text())["epochs"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of scripts/train.py that nothing disturbed, and how long it took."""
    folder, began = tmp_path_factory.mktemp("train") / "whole", time.monotonic()
    assert outcome(script("train.py", *TRAINING, "--out", folder))[0] == 0
    return folder, time.monotonic() - began


FIT = """
import sys
import fcnn
digits = fcnn.data.load("digits")
data = fcnn.Dataset(digits.train.take(640), digits.test.take(200), digits.name, digits.classes)
network, optimizer = fcnn.lenet5(weights=fcnn.xavier()), fcnn.adam(2e-3)
fcnn.fit(network, data, epochs=3, batch_size=32, optimizer=optimizer, folder=sys.argv[1], resume=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("how", ["scripts/train.py", "fcnn.fit"])
def test_programs_killed_at_random_moments_go_on_to_the_same_bits(tmp_path, trained, how):
    rng, folder = random.Random(how), tmp_path / "run"
    whole, seconds = trained

    def start():
        if how == "fcnn.fit":
            return subprocess.Popen([sys.executable, "-c", FIT, folder])
        return script("train.py", *(["--resume", folder] if has_checkpoint(folder) else [*TRAINING, "--out", folder]))

    kills = runs_done = 0
    while kills < (50 if LONG else 2) or not runs_done:
        process = start()
        if kills < (50 if LONG else 2):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(seconds / 4, seconds))
            process.kill()
        code, _, err = outcome(process)
        kills += code == -signal.SIGKILL
        for path in checkpoints(folder):
            assert arrays(path) == arrays(whole / path.name)
        if code != -signal.SIGKILL:
            assert (code, err or "") == (0, "")
            if how == "scripts/train.py":
                assert epochs_of(folder) == epochs_of(whole)
                assert sorted(one.name for one in folder.iterdir()) == sorted(one.name for one in whole.iterdir())
            assert len(checkpoints(folder)) == 3
            shutil.rmtree(folder)
            runs_done += 1
    print(kills, "kills in", runs_done, "runs")


# Two runs in one folder.


@forks
def test_of_two_fits_at_the_same_instant_one_goes_on(tmp_path, whole):
    """Also in a folder that isn't there."""
    for race in range(100 if LONG else 20):
        folder, (read, write) = tmp_path / f"{race}" / "run", os.pipe()

        def child(folder=folder, read=read):
            os.read(read, 1)
            try:
                run(folder)
            except TakenError as error:
                return REFUSED if str(error).startswith(str(folder)) else 1
            return 0

        children = [forked(child) for _ in range(3)]
        os.write(write, b"...")
        assert sorted(map(ended, children)) == [0, REFUSED, REFUSED]
        os.close(read)
        os.close(write)
        assert_ends_well(folder, whole, f"race {race}")


def test_of_two_fits_in_threads_of_one_process_one_goes_on(tmp_path):
    for race in range(20):
        barrier, found = threading.Barrier(2), []

        def one(folder=tmp_path / f"{race}", barrier=barrier, found=found):
            barrier.wait()
            try:
                found.append(run(folder).state.step)
            except TakenError:
                found.append("taken")

        threads = [threading.Thread(target=one) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(map(type, found)) == {int, str}


@pytest.mark.parametrize("named", [True, False], ids=["--out", "the default folder"])
def test_of_two_trainers_at_the_same_instant_none_is_lost(tmp_path, named):
    options = ["--dataset", "digits", "--train-size", "64", "--epochs", "1", *(["--out", "run"] if named else [])]
    for race in range(20 if LONG else 1):
        place = tmp_path / f"{race}"
        place.mkdir()
        both = [script("train.py", *options, "--lr", rate, cwd=place) for rate in ("0.001", "0.01")]
        found = [outcome(process) for process in both]
        if named:
            (code, _, err), won = sorted(found, reverse=True)
            assert (code, won[0]) == (1, 0)
            assert (
                "run belongs to a run that is going on; choose another with --out" in err or "run is not empty" in err
            )
        else:
            assert [code for code, _, _ in found] == [0, 0]
            folders = ["digits-lenet5-seed0", "digits-lenet5-seed0-2"]
            assert sorted(path.name for path in (place / "runs").iterdir()) == folders
            written = [json.loads((place / "runs" / name / "history.json").read_text()) for name in folders]
            assert sorted(one["settings"]["lr"] for one in written) == [0.001, 0.01]


@forks
def test_a_killed_run_lets_go_of_its_folder_although_its_workers_live(tmp_path):
    read, write = os.pipe()

    def killed():
        with runs.claimed(tmp_path / "run", resume=False):
            os.write(write, str(forked(lambda: time.sleep(60))).encode())
            os.kill(os.getpid(), signal.SIGKILL)

    assert ended(forked(killed)) == -signal.SIGKILL
    worker = int(os.read(read, 20))
    try:
        run(tmp_path / "run", epochs=1)
    finally:
        os.kill(worker, signal.SIGKILL)
    os.close(read)
    os.close(write)


@forks
def test_a_forked_process_does_not_end_the_claim_of_its_parent(tmp_path):
    with contextlib.ExitStack() as stack:
        stack.enter_context(runs.claimed(tmp_path / "run", resume=False))
        assert ended(forked(stack.close)) == 0
        with pytest.raises(TakenError, match="belongs to a run that is going on"):
            run(tmp_path / "run")


def test_a_folder_whose_run_ends_at_the_same_instant_is_taken_all_the_same(tmp_path, monkeypatch):
    """Where the lock was opened before, and got after the other run had removed its file, it is another's next."""
    fcntl = pytest.importorskip("fcntl")
    real, folder = fcntl.flock, tmp_path / "run"

    def flock(handle, operation):
        monkeypatch.setattr(fcntl, "flock", real)
        shutil.rmtree(folder)
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with runs.claimed(folder, resume=False), pytest.raises(TakenError, match="belongs to a run that is going on"):
        run(folder)
    assert not folder.exists()


def test_where_files_cannot_be_locked_one_run_goes_on_and_a_killed_one_says_what_to_do(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def flock(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    folder = tmp_path / "run"
    with runs.claimed(folder, resume=False), pytest.raises(TakenError, match="belongs to a run that is going on"):
        run(folder, resume=True)
    run(folder, epochs=1)
    assert not (folder / ".lock").exists()
    (folder / ".lock").touch()  # a run was killed
    with pytest.raises(TakenError, match=r"if a run was killed and none is going on, delete .*\.lock"):
        run(folder, resume=True)
    (folder / ".lock").unlink()
    assert run(folder, resume=True).state.step == 4 * EPOCHS


def test_what_a_killed_run_left_half_written_is_removed_and_nothing_else(tmp_path):
    names = [f".{name}.fcnn-0123456789abcdef.tmp" for name in ("epoch-02.npz", "history.json", "curves.png")]
    for name in names:
        (tmp_path / name).write_text("half")
    run(tmp_path, epochs=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-01.npz", "history.json"]
    others = [".model.npz.abc.tmp", "epoch-02.npz.tmp", ".epoch-02.npz.tmp"]
    for name in [*names, *others]:
        (tmp_path / name).write_text("half")
    run(tmp_path, resume=True)
    left = {path.name for path in tmp_path.iterdir() if path.read_bytes() == b"half"}
    assert left == set(others)


# Disks that are full, folders that are read-only or go.


@forks
def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, whole):
    with faults.small_disk(tmp_path / "disk", "256k") as disk:
        rng = random.Random(0)
        for _ in range(60 if LONG else 8):
            folder = disk / "run"
            run(folder, epochs=1)
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            (disk / "filler").write_bytes(bytes(free - 4096 * rng.randrange(10)))
            code = ended(forked(lambda folder=folder: told(lambda: going_on(folder))))
            assert code in (0, REFUSED)
            (disk / "filler").unlink()
            assert_ends_well(folder, whole, code)
            shutil.rmtree(folder)


@forks
def test_a_limit_of_files_is_as_a_full_disk(tmp_path, whole):
    resource = pytest.importorskip("resource")
    folder = tmp_path / "run"
    for limit in range(0, 16_000, 500 if LONG else 4_000):
        run(folder, epochs=1)

        def child(folder=folder, limit=limit):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            return told(lambda: going_on(folder))

        assert ended(forked(child)) in (0, REFUSED)
        assert_ends_well(folder, whole, limit)
        shutil.rmtree(folder)


def told(action):
    """The exit code of a child in which a disk may be full."""
    try:
        action()
    except OSError:
        return REFUSED
    return 0


def test_a_full_disk_says_how_to_go_on(tmp_path, monkeypatch):
    def full(path, *args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    run(tmp_path / "run", epochs=1)
    monkeypatch.setattr(runs, "save", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        run(tmp_path / "run", resume=True)
    assert caught.value.__notes__ == [
        f"the checkpoints in {tmp_path / 'run'} from before are whole; go on with resume=True"
    ]


@forks
def test_a_read_only_folder_is_told_before_the_first_step(whole):
    if os.getuid():
        pytest.skip("needs root, to become nobody")
    steps = []

    def child():
        os.setgid(65534)
        os.setuid(65534)
        words = {
            False: "is not empty",
            True: rf"can't write to the folder {folder} \(Permission denied\); choose another folder",
        }
        for resume, message in words.items():
            with pytest.raises(RunError, match=message):
                run(folder, resume=resume, at=1, do=lambda: steps.append(1))
        with pytest.raises(RunError, match=r"can't make the folder .*/new \(Permission denied\)"):
            run(folder / "new")
        return len(steps)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        run(folder, epochs=1)
        os.chmod(name, 0o755)
        assert ended(forked(child)) == 0
        assert_ends_well(folder, whole, "read-only")


@forks
def test_a_folder_that_becomes_read_only_leaves_the_last_checkpoint_whole(whole):
    if os.getuid():
        pytest.skip("needs root, to become nobody")

    def child():
        with pytest.raises(PermissionError) as caught:
            run(folder, at=6, do=lambda: os.setuid(65534))
        assert "are whole; go on with resume=True" in caught.value.__notes__[0]

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        os.chmod(name, 0o755)
        assert ended(forked(child)) == 0
        assert [path.name for path in checkpoints(folder)] == ["epoch-01.npz"]
        assert_ends_well(folder, whole, "read-only")


def test_a_folder_that_goes_in_the_middle_of_a_run_is_told(tmp_path, whole):
    for name, going in (("removed", shutil.rmtree), ("renamed", lambda path: path.rename(tmp_path / "elsewhere"))):
        folder = tmp_path / name
        with pytest.raises(RunError, match=f"{name} was removed or renamed while the run went on, and what it had"):
            run(folder, at=6, do=functools.partial(going, folder))
        assert not folder.exists()
    assert_whole(tmp_path / "elsewhere", whole[0])
    assert [path.name for path in checkpoints(tmp_path / "elsewhere")] == ["epoch-01.npz"]


# Histories, and checkpoints that are damaged.


def test_a_history_that_was_left_an_epoch_short_is_made_whole(tmp_path, whole):
    for name, text in (("none", None), ("empty", ""), ("other", "[]")):
        folder = tmp_path / name
        run(folder)
        (folder / "history.json").unlink()
        if text is not None:
            (folder / "history.json").write_text(text)
        run(folder, resume=True)
        assert epochs_of(folder) == whole[1]


def test_a_run_of_10_000_epochs_is_written_and_gone_on_with(tmp_path):
    run(tmp_path, epochs=1)
    path = tmp_path / "epoch-01.npz"
    meta = fcnn.load_meta(path)
    state = run(epochs=0).state
    item = meta["history"][0] | {"metrics": {f"a metric of one's own, number {n}": 1 / 3 for n in range(10)}}
    meta["history"] = [{**item, "epoch": epoch} for epoch in range(1, 10_001)]
    steps = 4 * 10_000
    fcnn.save(tmp_path / "epoch-10000.npz", fcnn.training.step.attrs.evolve(state, step=steps), meta=meta)
    path.unlink()
    found = run(tmp_path, epochs=10_001, resume=True)
    assert [item["epoch"] for item in found.history] == list(range(1, 10_002))
    assert len(epochs_of(tmp_path)) == 10_001


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("harm", [damage, cut, lambda path: path.write_bytes(b"")], ids=["bit", "cut", "empty"])
def test_a_damaged_newest_checkpoint_names_the_way_on_which_works(tmp_path, whole, harm):
    run(tmp_path)
    for name in ("epoch-03.npz", "epoch-02.npz"):
        harm(tmp_path / name)
    advice = "use an earlier checkpoint: rename epoch-03.npz and epoch-02.npz, and the run goes on from epoch-01"
    with pytest.raises(CheckpointError, match=f"epoch-03.npz: .*{advice}"):
        run(tmp_path, resume=True)
    (tmp_path / "epoch-03.npz").unlink()
    (tmp_path / "epoch-02.npz").rename(tmp_path / "bad.npz")
    assert run(tmp_path, resume=True).state == whole[0][-1]
    for path in checkpoints(tmp_path):
        harm(path)
    with pytest.raises(CheckpointError) as caught:
        run(tmp_path, resume=True)
    assert "goes on from" not in str(caught.value)


def test_a_damaged_interrupted_checkpoint_names_the_way_on_which_works(tmp_path, whole):
    started(tmp_path)
    damage(tmp_path / INTERRUPTED)
    with pytest.raises(CheckpointError, match=r"rename interrupted\.npz, and the run goes on from epoch-01"):
        going_on(tmp_path)
    (tmp_path / INTERRUPTED).unlink()
    assert going_on(tmp_path).state == whole[0][-1]


def test_an_interrupted_checkpoint_from_before_losses_had_weights_goes_on(tmp_path, whole):
    started(tmp_path)
    path = tmp_path / INTERRUPTED
    meta = fcnn.load_meta(path)
    assert (meta["seen"].pop("weight"), meta["seen"].pop("counted")) == (meta["seen"]["images"],) * 2
    fcnn.save(path, fcnn.load(path, like=whole[0][0]), meta=meta)
    found = going_on(tmp_path)
    assert found.state == whole[0][-1]
    assert timeless(found.history) == whole[1]


def test_a_damaged_older_checkpoint_is_in_nobodys_way(tmp_path, whole):
    run(tmp_path, epochs=2)
    (tmp_path / "epoch-01.npz").write_bytes(b"")
    assert run(tmp_path, resume=True).state == whole[0][-1]


def test_a_best_checkpoint_that_is_gone_is_told_with_what_can_be_done(tmp_path):
    options = {"validation": 20, "optimizer": fcnn.adam(lambda step: 1e-3 if step < 3 else 1.0)}
    found = run(tmp_path, patience=9, **options)
    assert found.best_epoch == 1
    (tmp_path / "epoch-01.npz").unlink()
    with pytest.raises(RunError, match=r"(?s)is needed, as the best epoch so far is 1.*leave out patience"):
        run(tmp_path, patience=9, resume=True, **options)
    assert run(tmp_path, resume=True, **options).history == found.history


def test_a_history_whose_validation_was_edited_away_gets_a_sentence(tmp_path):
    options = {"validation": 20, "patience": 2, "epochs": 1}
    state = run(tmp_path, **options).state
    path = tmp_path / "epoch-01.npz"
    meta = fcnn.load_meta(path)
    meta["history"][0]["validation_loss"] = None
    fcnn.save(path, state, meta=meta)
    with pytest.raises(RunError, match=r"epoch-01\.npz: its history was changed, an epoch has no validation loss"):
        run(tmp_path, resume=True, **options)


EPOCH = {"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5, "validation_loss": None, "validation_accuracy": None}
EPOCH |= {"seconds": 1.0, "images_per_second": 1.0}
SEEN = {"loss": 0, "correct": 0, "images": 1, "seconds": 0}
CHANGES = [
    ({"history": 5}, "its history is not as a run writes it"),
    ({"history": [5]}, "its history is not as a run writes it"),
    ({"history": [{"epoch": "1"}]}, "its history is not as a run writes it"),
    ({"history": [{"epoch": 1, "train_loss": 1.0}]}, "its history is not as a run writes it"),
    ({"history": [EPOCH | {"epoch": True}]}, "its history is not as a run writes it"),
    ({"history": [EPOCH | {"epoch": 0}]}, "its history is not as a run writes it"),
    ({"history": [EPOCH, EPOCH]}, "its history is not as a run writes it"),
    ({"history": [EPOCH | {"train_loss": 10**400}]}, "its history is not as a run writes it"),
    ({"history": [EPOCH | {"seconds": -(10**400)}]}, "its history is not as a run writes it"),
    ({"history": [EPOCH | {"metrics": {"error": 10**400}}]}, "its history is not as a run writes it"),
    ({"seen": {"loss": 0, "correct": 0, "images": 10**400, "seconds": 0}}, "its history is not as a run writes it"),
    ({"seen": {}}, "its history is not as a run writes it"),
    ({"seen": None}, "its history is not as a run writes it"),
    ({"seen": {"loss": 0, "correct": 0, "images": -1, "seconds": 0}}, "its history is not as a run writes it"),
    ({"seen": SEEN | {"weight": -1}}, "its history is not as a run writes it"),
    ({"seen": SEEN | {"counted": None}}, "its history is not as a run writes it"),
    ({"seen": SEEN | {"more": 1}}, "its history is not as a run writes it"),
    ({"fit": 5}, "is a run with other settings"),
    ({"fit": {}}, "is a run with other settings"),
    ({"network": 5}, "is a run with other settings"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES, ids=lambda value: json.dumps(value)[:40])
def test_a_checkpoint_that_was_edited_gets_a_sentence(tmp_path, change, message):
    state = run(tmp_path, epochs=1).state
    path = tmp_path / "epoch-01.npz"
    fcnn.save(path, state, meta=fcnn.load_meta(path) | change)
    with pytest.raises((CheckpointError, RunError), match=message):
        run(tmp_path, resume=True)
