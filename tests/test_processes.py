"""Mapping over forked processes: the same results as `map`, whatever happens to a worker."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from machine import forked
from threadpoolctl import threadpool_info

import fcnn
from fcnn import parallel, tree
from fcnn.ops.layout import block, empty
from fcnn.training import workers as module
from fcnn.training.workers import WorkerError, processes

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes needs os.fork")

MODEL = fcnn.serial(
    conv=fcnn.conv2d(4, 3), relu=fcnn.relu(), drop=fcnn.dropout(0.2), flatten=fcnn.flatten(), fc=fcnn.dense(3)
)
LOSS, OPTIMIZER = fcnn.softmax_cross_entropy(), fcnn.adam(1e-2)
START = fcnn.init_state(MODEL, OPTIMIZER, fcnn.key(0), (1, 6, 6))


def batch(seed, n=22):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 1, 6, 6)).astype(np.float32), rng.integers(0, 3, n)


@pytest.fixture(autouse=True)
def _leaves_no_process_behind():
    yield
    assert forked() == []


@pytest.mark.parametrize("count", [1, 2, 3])
def test_maps_like_map(count):
    with processes(count) as map_fn:
        assert list(map_fn(lambda x, y: (x, y, x + y), range(7), iter(range(10, 16)))) == [
            (x, x + 10, 2 * x + 10) for x in range(6)
        ]
        assert list(map_fn(str, [])) == []
        assert list(map_fn(str, [5])) == ["5"]


def test_forks_no_more_than_there_are_items():
    with processes(8) as map_fn:
        map_fn(abs, range(3))
        assert len(forked()) == 2
        map_fn(abs, range(4))
        assert len(forked()) == 3


def test_works_in_several_processes_and_keeps_them_for_the_same_function():
    def who(_):
        time.sleep(0.01)
        return os.getpid()

    with processes(3) as map_fn:
        first = map_fn(who, range(6))
        assert len(set(first)) == 3
        assert os.getpid() in first
        assert map_fn(who, range(6)) == first
        assert map_fn(who, range(2)) == first[:2]
        assert set(map_fn(lambda x: who(x), range(6))) & set(first) == {os.getpid()}


@pytest.mark.parametrize("concurrent", [parallel.threads, processes])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_training_has_the_same_bits_however_many_run_it(concurrent, count):
    stream = [batch(seed, n) for seed, n in enumerate([22, 22, 22, 5, 22, 1])]

    def trained(map_fn):
        gradient = parallel.sharded(fcnn.gradient(MODEL, LOSS), 5, map_fn)
        return fcnn.fold(fcnn.train_step(MODEL, LOSS, OPTIMIZER, gradient), START, stream)

    with concurrent(count) as map_fn:
        final, records = trained(map_fn)
    serial, serial_records = trained(map)
    assert records == serial_records
    assert final == serial


@pytest.mark.parametrize("concurrent", [parallel.threads, processes])
def test_ten_thousand_concurrent_steps_equal_serial_ones(concurrent):
    model = fcnn.serial(flatten=fcnn.flatten(), fc=fcnn.dense(3))
    step = fcnn.train_step(model, LOSS, OPTIMIZER)
    start = fcnn.init_state(model, OPTIMIZER, fcnn.key(0), (1, 6, 6))
    batches = [batch(seed, 4) for seed in range(8)]

    def after(number):
        state, record = step(start, batches[number % 8])
        return hash((tree.ravel(state.params).tobytes(), tree.ravel(state.opt_state).tobytes(), record.loss))

    expected = [after(number) for number in range(8)]
    assert len(set(expected)) == 8
    with concurrent(4) as map_fn:
        assert list(map_fn(after, range(10_000))) == expected * 1250


def test_arrays_keep_order_dtype_and_bits_and_come_out_read_only():
    x = empty((5, 2, 3, 4), np.float32)
    x[:] = np.random.default_rng(0).normal(size=x.shape)
    arrays = [x, x[1:3], x[::2, :, 1:], np.asfortranarray(np.eye(3)), np.array(5.0), np.array([], np.int8)]
    with processes(2) as map_fn:
        for array in arrays:
            _, there = map_fn(lambda a: a, [array, array])
            assert not there.flags.writeable
            assert there.dtype == array.dtype
            assert np.array_equal(there, array)
            assert not np.may_share_memory(there, array)
        _, images = map_fn(lambda a: a, [x, x])
        assert block(images).base is not None  # batch-innermost still, so that `block` is a view


def test_what_is_too_big_for_the_shared_memory_goes_all_the_same(monkeypatch):
    monkeypatch.setattr(module, "_ROOM", 4096)
    arrays = [np.full(size, size) for size in (10, 400, 100_000, 20)]
    with processes(2) as map_fn:
        doubled = map_fn(lambda part: [2 * a for a in part], [arrays, arrays])
    for found in doubled:
        assert all(np.array_equal(a, 2 * b) for a, b in zip(found, arrays, strict=True))


def test_results_stay_as_they_are_when_more_are_made():
    with processes(2) as map_fn:
        first = map_fn(np.full, [100, 100], [1, 2])
        map_fn(np.full, [100, 100], [3, 4])
    assert [a[0] for a in first] == [1, 2]


class _Odd(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b


@pytest.mark.parametrize("wrong", [0, 1, 2, 3])
def test_an_error_comes_through_and_the_next_call_works(wrong):
    def picky(x):
        if x == wrong:
            raise ValueError(f"no {x}")
        return x

    with processes(2) as map_fn:
        for _ in range(2):
            with pytest.raises(ValueError, match=f"no {wrong}") as caught:
                map_fn(picky, range(4))
            if wrong % 2:
                assert "in worker process" in caught.value.__notes__[0]
                assert "picky" in caught.value.__notes__[0]
            assert map_fn(picky, [7, 8, 9]) == [7, 8, 9]


def test_an_error_that_can_not_be_pickled_is_told_as_text():
    def odd(x):
        if x:
            raise _Odd("strange", x)

    with processes(2) as map_fn, pytest.raises(RuntimeError, match="strange"):
        map_fn(odd, [0, 1])


def test_a_killed_worker_is_an_error_and_the_next_call_works():
    here = os.getpid()

    def dies(x):
        if x == 1 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    with processes(3) as map_fn:
        with pytest.raises(WorkerError, match=r"worker process \d+ ended with exit code -9 .* can be made again"):
            map_fn(dies, range(5))
        assert map_fn(dies, [0, 2, 3]) == [0, 2, 3]
        (_, pid, _) = map_fn(lambda _: os.getpid(), range(3))
        os.kill(pid, signal.SIGKILL)


def test_a_worker_that_dies_between_two_calls_is_told_at_the_next():
    def who(_):
        return os.getpid()

    with processes(2) as map_fn:
        pid = map_fn(who, range(2))[1]
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match=f"worker process {pid} ended with exit code -9"):
            map_fn(who, range(2))
        assert map_fn(who, range(2))[1] != pid


def test_an_interrupt_is_the_parents_to_handle_and_leaves_no_old_answer_behind():
    interrupt = True

    def slow(x):
        if x == 0 and interrupt:
            raise KeyboardInterrupt
        if x == 1:
            os.kill(os.getpid(), signal.SIGINT)  # ignored there
        return x

    with processes(2) as map_fn:
        with pytest.raises(KeyboardInterrupt):
            map_fn(slow, range(2))
        interrupt = False
        assert map_fn(slow, range(4, 8)) == [4, 5, 6, 7]


def test_workers_hold_blas_to_one_thread():
    def threads_of_blas(_):
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with processes(2) as map_fn:
        assert map_fn(threads_of_blas, range(2)) == [{1}, {1}]


def test_workers_end_with_a_parent_that_is_killed():
    program = (
        "import os, signal\n"
        "from fcnn.training.workers import processes\n"
        "def who(_): return os.getpid()\n"
        "with processes(3) as map_fn:\n"
        "    print(*map_fn(who, range(3))[1:], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    workers = [int(pid) for pid in done.stdout.split()]
    assert len(workers) == 2
    end = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in workers)


def test_says_what_it_needs(monkeypatch):
    with pytest.raises(ValueError, match="count is an integer of at least 1, got 0"), processes(0):
        pass
    monkeypatch.delattr(os, "fork")
    with pytest.raises(RuntimeError, match=r"lacks; use fcnn.parallel.threads"), processes(2):
        pass
