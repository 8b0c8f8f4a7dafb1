"""Ctrl-C and SIGTERM at any moment, also twice: one sentence, the shell's exit code, nothing lost, no process left.

By default a few moments of each program; with FCNN_PROFILE=long hundreds, at random times from a seed.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import numpy as np
import pytest
from machine import cores
from profiles import LONG
from running import SCRIPTS
from study.experiment.cells import Timing
from study.experiment.plan import SCALES, plan
from study.experiment.run import Outcome
from study.experiment.store import Store

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")

MOMENTS = {
    "train, processes": 60, "train, threads": 30, "fit": 30, "predict": 40, "tour": 20, "study, timing": 15, "study": 30
}  # fmt: skip
SIGNALS = (signal.SIGINT, signal.SIGTERM)
TRAIN = "--dataset", "digits", "--train-size", "640", "--validation", "64", "--epochs", "3", "--batch-size", "64"
STUDY = SCRIPTS / "study", "--quick", "--no-torch", "--workers", "2", "--out", "run"
FIT = """
import sys
import fcnn
digits = fcnn.data.load("digits")
train = digits.train.take(640)
try:
    fcnn.fit(fcnn.lenet5(train.in_shape, 10), train, epochs=3, batch_size=64, validation=64, workers=2, folder="run",
             resume=True)
except fcnn.InterruptedFit as error:
    print(error, file=sys.stderr)
    sys.exit(128 + error.signal)
print("done")
"""


@attrs.frozen
class Program:
    """How it is started, what it says at its end, and how long that takes, about."""

    arguments: tuple
    done: str
    seconds: float


def train(workers):
    arguments = SCRIPTS / "train.py", *TRAIN, "--threads", "2", "--workers", workers, "--out", "run"
    return Program(arguments, "test accuracy after epoch 3", 4.0)


PROGRAMS = {
    "train, processes": train("processes"),
    "train, threads": train("threads"),
    "fit": Program(("-c", FIT), "done", 3.0),
    "predict": Program((SCRIPTS / "predict.py", "model.npz", "--rows", "0:500"), "rows right", 2.5),
    "tour": Program((SCRIPTS / "tour.py",), "none of them wrong", 2.0),
    "study, timing": Program(STUDY, "the page: ", 6.0),
    "study": Program(STUDY, "the page: ", 15.0),  # without what is timed
    "bench": Program((SCRIPTS / "bench", "--quick", "--peers", "--out", "run"), "", 0),
}


@attrs.frozen
class Ended:
    code: int
    out: str
    err: str
    left: list


def started(program, folder, *more):
    command = [sys.executable, *map(str, program.arguments), *map(str, more)]
    return subprocess.Popen(
        command, cwd=folder, text=True, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )  # fmt: skip


def ended(process):
    """How a program ended, and which processes of its session are left some time after that."""
    out, err = process.communicate(timeout=120)
    end = time.monotonic() + 10
    while (left := in_session(process.pid)) and time.monotonic() < end:
        time.sleep(0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return Ended(process.returncode, out, err, left)


def in_session(leader):
    """The living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(session) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found


def catches_sigterm(process):
    """Whether a handler is installed: the program is past its first line."""
    try:
        caught = Path(f"/proc/{process.pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    except (OSError, IndexError):
        return False
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def wait_for(process, condition):
    end = time.monotonic() + 60
    while process.poll() is None and not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def send(process, number, to_group):
    if process.poll() is None:
        (os.killpg if to_group else os.kill)(process.pid, number)


def sentences(err):
    return err.count("interrupted") + err.count("terminated")


def check(program, found, numbers):
    """One sentence, and the shell's exit code of the signal; or the work was done when it came."""
    assert "Traceback" not in found.err, found.err
    assert found.left == []
    # While Python itself ends, after all else, a signal does what it does by default; a shell's code is the same.
    code = found.code if found.code >= 0 else 128 - found.code
    if found.code == 0 or (found.code < 0 and not found.err):
        assert (program.done in found.out, found.err) == (True, "")
    else:
        assert code in {128 + number for number in numbers}, found
        assert sentences(found.err.replace("interrupted.npz", "")) == 1, found.err
        assert len(found.err.strip().splitlines()) <= 2, found.err


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of an uninterrupted run: its last checkpoint, and a model to predict with."""
    folder = tmp_path_factory.mktemp("whole")
    found = ended(started(PROGRAMS["train, threads"], folder))
    assert (found.code, found.err) == (0, "")
    return folder


def assert_goes_on(name, folder, whole):
    """What an interrupted run left is whole, and goes on to the bits of a run that was not interrupted."""
    if name.startswith("train"):
        kept = list((folder / "run").glob("*.npz"))
        if kept:
            arguments = SCRIPTS / "train.py", "--resume", "run"
            found = ended(started(Program(arguments, "", 0), folder))
            assert (found.code, found.err) == (0, ""), found.err
            assert (folder / "run" / "epoch-03.npz").exists()
            assert_same_bits(folder / "run" / "epoch-03.npz", whole / "run" / "epoch-03.npz")
    elif name == "fit" or (name == "study" and LONG):
        found = ended(started(PROGRAMS[name], folder))
        assert (found.code, found.err) == (0, "")


def assert_same_bits(path, other):
    with np.load(path) as ours, np.load(other) as theirs:
        assert ours.files == theirs.files
        for name in set(ours.files) - {"meta"}:
            np.testing.assert_array_equal(ours[name], theirs[name])


def prepared(name, folder, whole):
    """Put what the program needs into its folder."""
    if name == "predict":
        (folder / "model.npz").write_bytes((whole / "run" / "epoch-03.npz").read_bytes())
    if name == "study":  # so that what isn't timed comes at once
        (folder / "run" / "cells").mkdir(parents=True)
        (cell,) = (cell for cell in plan(SCALES["quick"], ("fcnn",), cores()) if isinstance(cell, Timing))
        turns = {"variant": "threads", "step_seconds": {"threads": 1.0}, "seconds": [1.0] * cell.epochs}
        fcnn_turns = {**turns, "images_per_second": 1.0, "peak_memory_mib": 1.0}
        where = {"processor": "none", "cores": 1, "memory_gib": 1.0, "system": "Linux", "versions": {}, "blas": ""}
        Store(folder / "run" / "cells").save(cell, Outcome({"frameworks": {"fcnn": fcnn_turns}}, {}, where))
    return PROGRAMS[name]


def there(pattern):
    """Whether the program has made such a file."""
    return lambda process, folder: any((folder / "run").glob(pattern))


def processes(count):
    """Whether so many processes are there."""
    return lambda process, folder: len(in_session(process.pid)) >= count


POOL = processes(4)  # multiprocessing has one for itself


def started_run(process, folder):
    """It has its folder, and loads."""
    return (folder / "run").exists()


def importing(process, folder):
    """At once."""
    return True


@pytest.mark.parametrize(
    ("name", "reached", "number", "twice"),
    [
        ("train, processes", importing, signal.SIGINT, False),
        ("train, processes", importing, signal.SIGTERM, True),
        ("train, processes", started_run, signal.SIGINT, False),
        ("train, threads", started_run, signal.SIGTERM, True),
        ("train, processes", processes(2), signal.SIGINT, True),
        ("train, processes", there(".epoch-01*.tmp"), signal.SIGTERM, False),
        ("train, threads", there("epoch-02.npz"), signal.SIGTERM, False),
        ("fit", there("*epoch-01*"), signal.SIGTERM, False),
        ("predict", importing, signal.SIGINT, True),
        ("tour", importing, signal.SIGTERM, True),
        ("study, timing", processes(3), signal.SIGINT, True),
        ("study", POOL, signal.SIGINT, False),
        ("study", POOL, signal.SIGTERM, True),
        ("bench", processes(3), signal.SIGTERM, False),
    ],
)
def test_a_signal_ends_a_program_with_a_sentence_and_loses_nothing(name, reached, number, twice, tmp_path, whole):
    program = prepared(name, tmp_path, whole)
    process = started(program, tmp_path)
    wait_for(process, lambda: catches_sigterm(process) and reached(process, tmp_path))
    send(process, number, to_group=number == signal.SIGINT)
    if twice:
        time.sleep(0.01)
        send(process, number, to_group=number == signal.SIGINT)
    check(program, ended(process), [number])
    if name == "fit" or twice:
        assert_goes_on(name, tmp_path, whole)


DURING_AN_IMPORT_AND_AFTER_IT = """
import os, signal, sys, time
sys.path.insert(0, {scripts!r})
import stopping
stopping.raising()
try:
    import signalled  # the first signal waits for its end
    os.kill(os.getpid(), signal.SIGTERM)
except stopping.Terminated:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # as Python does when it ends
    time.sleep(0.1)
    sys.exit(143)
"""


def test_a_second_signal_may_overtake_one_that_waits_for_an_import(tmp_path):
    (tmp_path / "signalled.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    program = DURING_AN_IMPORT_AND_AFTER_IT.format(scripts=str(SCRIPTS))
    found = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (143, "")


@pytest.mark.parametrize(
    ("name", "reached"),
    [
        ("train, processes", processes(2)),
        ("study, timing", processes(4)),
        ("study", POOL),
        ("bench", processes(3)),
    ],
)
def test_a_killed_program_leaves_no_process(name, reached, tmp_path, whole):
    process = started(prepared(name, tmp_path, whole), tmp_path)
    wait_for(process, lambda: catches_sigterm(process) and reached(process, tmp_path))
    process.kill()
    found = ended(process)
    assert (found.code, found.left) == (-signal.SIGKILL, [])


@pytest.mark.skipif(not LONG, reason="FCNN_PROFILE=long")
@pytest.mark.parametrize(("name", "moment"), [(name, i) for name, count in MOMENTS.items() for i in range(count)])
def test_signals_at_random_moments(name, moment, tmp_path, whole):
    rng = random.Random(f"{name} {moment}")
    program = prepared(name, tmp_path, whole)
    process = started(program, tmp_path)
    wait_for(process, lambda: catches_sigterm(process))
    time.sleep(rng.uniform(0, program.seconds))
    numbers = [rng.choice(SIGNALS)]
    wait_for(process, lambda: catches_sigterm(process))  # before and after `fit` the signals aren't the library's
    send(process, numbers[0], to_group=rng.random() < 0.5)
    if name != "fit" and rng.random() < 0.5:
        numbers.append(rng.choice(SIGNALS))
        time.sleep(rng.uniform(0, 0.3))
        send(process, numbers[1], to_group=rng.random() < 0.5)
    check(program, ended(process), numbers)
    assert_goes_on(name, tmp_path, whole)
