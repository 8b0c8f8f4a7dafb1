"""Training over real MPI ranks: the gradients, how a job ends when a rank doesn't go on, scripts/train.py --mpi.

As a script, `mpiexec -n 2 python tests/test_mpi.py NAME …`, this file is what the ranks run: the functions job_NAME.
"""

import importlib.util
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import numpy as np
import pytest
from test_parallel import (
    EVERYTHING,
    IMAGE,
    KEY,
    LOSS,
    NORMED,
    PLAIN,
    WEIGHTED,
    assert_same_mean,
    batch,
    made,
    weighted_batch,
)

import fcnn
from fcnn import parallel, tree
from fcnn.training import runs

SCRIPTS = Path(__file__).parents[1] / "scripts"
MPIEXEC = shutil.which("mpiexec", path=os.fspath(Path(sys.executable).parent)) or shutil.which("mpiexec")
TINY = ["--dataset", "digits", "--train-size", "160", "--batch-size", "32", "--epochs", "2", "--threads", "1"]
STEPS, TOTAL = 5, 10  # of TINY: an epoch, and all
AT_ONCE, TIMEOUT = 15, 3  # seconds; at once, with a generous time to start and to end

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="needs mpi4py: pip install -e .[mpi]"),
    pytest.mark.skipif(MPIEXEC is None, reason="needs mpiexec, beside python or on the PATH: pip install -e .[mpi]"),
]


PLACES = [os.fspath(SCRIPTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]


def start(ranks, *command):
    """Start Python on so many ranks."""
    return subprocess.Popen(
        [MPIEXEC, "-n", str(ranks), sys.executable, "-W", "error", *map(str, command)],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(PLACES)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process, seconds=60):
    """What became of it: (exit code, standard output, standard error)."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"no end after {seconds} s:\n{out}\n{err}")
    return process.returncode, out, err


def job(ranks, name, *arguments, module=()):
    return end(start(ranks, *module, __file__, name, *arguments))


def train(ranks, *arguments, fault="none"):
    return job(ranks, "train", fault, *arguments, "--mpi")


@pytest.fixture(scope="module", autouse=True)
def mpi_works():
    code, out, err = end(
        start(3, "-c", "import sys; from mpi4py.MPI import COMM_WORLD as c; sys.stdout.write(f'{c.size}\\n')")
    )
    if code or out.split() != ["3"] * 3:
        pytest.skip(f"mpiexec can't start 3 ranks here: {out}{err}")


class Counting:
    """A communicator with what `over_ranks` may use, and no more."""

    def __init__(self, comm):
        self.comm, self.rank, self.size, self.calls = comm, comm.rank, comm.size, 0

    def Iallreduce(self, sent, received):
        self.calls += 1
        return self.comm.Iallreduce(sent, received)


def job_gradients(comm):
    whole = fcnn.gradient(PLAIN, LOSS)
    params, state = made(PLAIN)
    for gradient in (whole, parallel.sharded(whole, 4)):
        for size in (22, 5, 1):
            expected = whole(params, state, KEY, batch(size))
            found = parallel.over_ranks(gradient, comm)(params, state, KEY, batch(size))
            assert (found.correct, found.size, found.layer_state) == (expected.correct, size, state)
            # float64, numbers around 1: the same sums over 22 rows in another order, rounded by 1.1e-16 each time
            np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-12)
            for path, leaf in tree.flatten(expected.grads).items():
                np.testing.assert_allclose(tree.flatten(found.grads)[path], leaf, rtol=0, atol=1e-12, err_msg=path)
            assert all(other == found for other in comm.allgather(found))
    for name, loss in WEIGHTED.items():
        whole, rows = fcnn.gradient(PLAIN, loss), weighted_batch(name)
        for gradient in (whole, parallel.sharded(whole, 4)):
            found = parallel.over_ranks(gradient, comm)(params, state, KEY, rows)
            assert_same_mean(found, whole(params, state, KEY, rows), 1e-12)  # as above
            assert all(other == found for other in comm.allgather(found))
    params, state = made(NORMED)
    gradient = fcnn.gradient(NORMED, LOSS)
    found = parallel.over_ranks(gradient, comm)(params, state, KEY, batch(22)).layer_state
    x, y = batch(22)
    cuts = [22 * rank // comm.size for rank in range(comm.size + 1)]
    parts = [gradient(params, state, KEY, (x[a:b], y[a:b])).layer_state for a, b in itertools.pairwise(cuts)]
    expected = np.average([part["bn1"]["var"] for part in parts], axis=0, weights=np.diff(cuts))
    # a weighted mean of as many numbers as there are ranks, in another order
    np.testing.assert_allclose(found["bn1"]["var"], expected, rtol=1e-13)


def job_adam(comm):
    optimizer = fcnn.adam(1e-2)
    counting = Counting(comm)
    gradient = parallel.over_ranks(parallel.sharded(fcnn.gradient(EVERYTHING, LOSS), 4), counting)
    step = fcnn.train_step(EVERYTHING, LOSS, optimizer, gradient)
    start = fcnn.init_state(EVERYTHING, optimizer, fcnn.key(0), IMAGE)
    final, records = fcnn.fold(step, start, (batch(11, np.float32, seed) for seed in range(20)))
    assert final != start
    assert all(other == (final, records) for other in comm.allgather((final, records)))
    assert counting.calls == 20


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("name", ["gradients", "adam"])
def test_of_several_ranks(name, ranks):
    """The gradient of the whole batch; the same bits on all ranks after 20 steps of one Allreduce each."""
    assert job(ranks, name, module=("-m", "mpi4py")) == (0, f"{name} is right\n" * ranks, "")


def job_end(comm, fault):
    gradient = parallel.over_ranks(fcnn.gradient(PLAIN, LOSS), comm, timeout=TIMEOUT)
    params, state = made(PLAIN)
    for step in range(10):
        if step == 5 and comm.rank == 1:
            print(f"{time.time()}", flush=True)
            happen(fault)
        gradient(params, state, KEY, batch())


def happen(fault):
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    if fault == "hang":
        time.sleep(1000)
    raise ZeroDivisionError("one of many")


@pytest.mark.parametrize(
    ("fault", "module", "seconds"),
    [
        ("kill", (), AT_ONCE),
        ("freeze", (), TIMEOUT + AT_ONCE),
        ("raise", (), TIMEOUT + AT_ONCE),
        ("raise", ("-m", "mpi4py"), AT_ONCE),
    ],
    ids=["kill", "freeze", "raise", "raise under mpi4py"],
)
def test_a_job_whose_rank_does_not_go_on_ends_in_time(fault, module, seconds):
    code, out, err = job(2, "end", fault, module=module)
    assert code != 0
    assert time.time() - float(out.split()[0]) < seconds
    if seconds > AT_ONCE:
        assert f"RankError: rank 0 waited {TIMEOUT} s for the other 1 rank(s)" in err
    if fault == "raise" and not module:  # mpi4py ends the job before all that was printed is handed on
        assert "ZeroDivisionError: one of many" in err


def job_train(comm, fault, *argv):
    """scripts/train.py on a few digits, with something that happens in the middle of the second epoch."""
    import train as script

    digits = fcnn.data.make_digits(fcnn.key(0), 400)
    parts = digits.take(list(range(320))), digits.take(list(range(320, 400)))
    load, save, train_step = fcnn.data.load, runs.save, fcnn.train_step
    small = fcnn.Dataset(*parts, "digits", tuple("0123456789"))
    fcnn.data.load = lambda name, *args, **kwargs: small if name == "digits" else load(name, *args, **kwargs)

    def failing_save(path, *args, **kwargs):
        if path.name == "epoch-02.npz":
            raise OSError(28, "No space left on device")
        save(path, *args, **kwargs)

    def failing_step(*args):
        step = train_step(*args)

        def one(state, batch):
            state, record = step(state, batch)
            if record.step == STEPS + 2 and comm.rank == 1:
                if fault == "signal":
                    os.kill(os.getpid(), signal.SIGTERM)
                elif fault == "differ":
                    params = tree.map(lambda leaf: np.nextafter(leaf, np.float32(9)), state.params)
                    state = attrs.evolve(state, params=params)
                else:
                    happen(fault)
            return state, record

        return one

    if fault != "none, but the figure":
        script.draw_curves = lambda *args: None  # it takes longer than the training
    if fault == "full":
        runs.save = failing_save
    elif not fault.startswith("none"):
        fcnn.train_step = failing_step
    sys.exit(script.main(list(argv)))


def arrays(checkpoint):
    with np.load(checkpoint, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files if name != "meta"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run of two ranks, and what it said."""
    folder = tmp_path_factory.mktemp("mpi") / "whole"
    options = [*TINY, "--model", "lenet5_bn", "--optimizer", "adamw", "--out", folder]
    code, out, err = train(2, *options, fault="none, but the figure")
    assert (code, err) == (0, "")
    return folder, out


def test_a_run_is_told_and_written_once(whole):
    folder, out = whole
    files = ["curves.png", "epoch-01.npz", "epoch-02.npz", "history.json"]
    assert sorted(path.name for path in folder.iterdir()) == files
    for line in ("seed 0, 2 ranks; results in", "epoch  1/2:", "epoch  2/2:", "test accuracy after epoch 2:"):
        assert out.count(line) == 1
    history = json.loads((folder / "history.json").read_text())
    assert history["settings"]["ranks"] == 2
    assert history["epochs"][1]["train_loss"] < history["epochs"][0]["train_loss"]


def test_two_ranks_train_as_one_does_on_the_same_shards(tmp_path):
    for ranks in (1, 2):
        code, out, err = train(ranks, *TINY, "--shard-size", "8", "--out", tmp_path / str(ranks))
        assert (code, err, "2 ranks;" in out) == (0, "", ranks > 1)
    one, two = (arrays(tmp_path / folder / "epoch-02.npz") for folder in "12")
    assert two["step"] == TOTAL
    for name, array in one.items():
        # float32 weights below 1, rounded by 3e-8 a step: ranks add the shards in another order
        np.testing.assert_allclose(two[name], array, rtol=0, atol=1e-6, err_msg=name)


def test_a_signal_to_one_rank_stops_all_after_one_step_and_resume_gives_the_same_bits(whole, tmp_path):
    folder = tmp_path / "stopped"
    options = [*TINY, "--model", "lenet5_bn", "--optimizer", "adamw", "--out", folder]
    code, _, err = train(2, *options, fault="signal")
    command = f"mpiexec -n 2 python scripts/train.py --resume {folder} --mpi"
    stop = (
        f"\ninterrupted after step {STEPS + 3}; everything is in {folder / 'interrupted.npz'}\ngo on with: {command}\n"
    )
    assert (code, err.startswith(stop), err.count("interrupted")) == (143, True, 2)
    assert sorted(path.name for path in folder.iterdir()) == ["epoch-01.npz", "history.json", "interrupted.npz"]

    code, _, err = train(1, "--resume", folder)
    assert (code, "has 2 rank(s), on which its bits depend, and this is 1" in err, command in err) == (1, True, True)

    code, out, err = train(2, "--resume", folder)
    assert (code, err, out.count("going on from")) == (0, "", 1)
    assert not (folder / "interrupted.npz").exists()
    resumed, uninterrupted = arrays(folder / "epoch-02.npz"), arrays(whole[0] / "epoch-02.npz")
    assert resumed.keys() == uninterrupted.keys()
    assert all(array.tobytes() == uninterrupted[name].tobytes() for name, array in resumed.items())


def test_ctrl_c_reaches_the_ranks_and_leaves_a_checkpoint(tmp_path):
    version = subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True)
    if "HYDRA" not in version.stdout:
        pytest.skip("needs MPICH's mpiexec; others don't hand Ctrl-C on but kill")
    folder = tmp_path / "stopped"
    process = start(2, SCRIPTS / "train.py", *TINY, "--epochs", "500", "--out", folder, "--mpi")  # as a user does
    limit = time.monotonic() + 60
    while not (folder / "curves.png").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    code, _, err = end(process)
    assert (code, err.count("interrupted after step"), err.count("go on with: mpiexec -n 2")) == (130, 1, 1)
    assert Path(re.search(r"everything is in (\S+)", err)[1]).exists()


@pytest.mark.parametrize("fault", ["hang", "raise"])
def test_a_run_whose_rank_does_not_go_on_ends_and_keeps_its_checkpoints(tmp_path, fault):
    began = time.monotonic()
    code, _, err = train(2, *TINY, "--timeout", TIMEOUT, "--out", tmp_path / "a", fault=fault)
    assert code != 0
    assert time.monotonic() - began < TIMEOUT + AT_ONCE
    assert (f"rank 0 waited {TIMEOUT} s for the other 1 rank(s)" in err) == (fault == "hang")
    assert ("ZeroDivisionError: one of many" in err) == (fault == "raise")
    left = {path.name for path in (tmp_path / "a").iterdir()} - {".lock"}  # which stays where MPI ends the process
    assert left == {"epoch-01.npz", "history.json"}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("differ", f"error: after step {TOTAL} the parameters of rank 1 have other bits than those of rank 0"),
        ("full", "error: [Errno 28] No space left on device"),
    ],
)
def test_what_all_ranks_know_of_is_said_once_and_ends_all(tmp_path, fault, message):
    code, _, err = train(2, *TINY, "--out", tmp_path / "a", fault=fault)
    assert (code, err.count("error"), err.startswith(f"\n{message}")) == (1, 1, True), err
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["epoch-01.npz", "history.json"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--dataset", "mnist", "--data", "{}/nowhere"], 1, "nowhere: no such folder"),
        (["--out", "{}"], 1, "is not empty, and holds no checkpoint of a run; choose another with --out"),
        (["--validation", "160"], 1, "--validation 160 leaves no image of 160 to train on"),
        (["--lr", "-1"], 2, "expected a finite number of at least 0, got -1"),
    ],
    ids=["data", "folder", "images", "option"],
)
def test_what_is_wrong_at_the_beginning_is_said_once(tmp_path, options, code, message):
    (tmp_path / "mine.txt").write_text("mine")
    found, out, err = train(2, *TINY, "--out", tmp_path / "new", *(option.format(tmp_path) for option in options))
    assert (found, out, err.count(message)) == (code, "", 1), err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def job_cells(comm, folder):
    """The study's cells over the executor of its --mpi; the last one can't be run."""
    from study import __main__ as study
    from study.experiment.cells import Training
    from study.experiment.runner import run_all
    from study.experiment.store import Store, StudyError

    cells = [Training(dataset=name, train_size=100, epochs=1) for name in ("digits", "nothing")]
    with study.mpi_pool() as pool:
        run_all(cells[:1], Store(Path(folder)), 1, pool)
    try:
        with study.mpi_pool() as pool:
            run_all(cells, Store(Path(folder)), 1, pool)
    except StudyError as error:
        sys.exit(str(error))


def test_the_cells_of_the_study_run_on_ranks(tmp_path):
    code, out, err = job(3, "cells", tmp_path, module=("-m", "mpi4py.futures"))
    assert (code, "fcnn, digits, 100 images" in out, len(list(tmp_path.iterdir()))) == (1, True, 1), err
    assert "error in fcnn, nothing, 100 images, xavier, seed 0: ValueError: unknown data set" in err


@pytest.mark.parametrize("module", [(), ("-m", "mpi4py.futures")], ids=["no pool", "no workers"])
def test_the_study_says_how_it_wants_its_ranks_started(tmp_path, module):
    code, _, err = end(start(1, *module, SCRIPTS / "study", "--quick", "--mpi", "--out", tmp_path / "a"))
    assert (code, "mpiexec -n N python -m mpi4py.futures scripts/study" in err) == (1, True)
    assert not (tmp_path / "a").exists()


if __name__ == "__main__":
    from mpi4py import MPI

    name, *rest = sys.argv[1:]
    globals()[f"job_{name}"](MPI.COMM_WORLD, *rest)
    sys.stdout.write(f"{name} is right\n")
