"""Mapping over forked processes: the same results as `map`, whatever happens to a worker."""

import faulthandler
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from machine import forked
from profiles import LONG
from threadpoolctl import threadpool_info

import fcnn
from fcnn import parallel, tree
from fcnn.ops.layout import block, unblock
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
    x = unblock(np.empty((3, 2, 4, 5), np.float32))  # (5, 2, 3, 4)
    x[:] = np.random.default_rng(0).normal(size=x.shape)
    arrays = [x, x[1:3], x[::2, :, 1:], np.asfortranarray(np.eye(3)), np.array(5.0), np.array([], np.int8)]
    arrays += [x.astype(">f4"), np.float16([1, 2]), np.array([1 + 2j]), np.array([["one", "two"], ["three", "four"]]).T]
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


def test_what_was_handed_out_never_changes_whoever_kept_it():
    """States that `scan` gave long ago, parts of them, a worker's arguments, while training goes on."""
    kept = []

    def keeps(x):
        kept.append(x)
        return [array.sum() for array in kept]

    with processes(2) as map_fn:
        step = fcnn.train_step(MODEL, LOSS, OPTIMIZER, parallel.sharded(fcnn.gradient(MODEL, LOSS), 11, map_fn))
        states, parts, then = [], [], []
        for k, (state, _) in enumerate(fcnn.scan(step, START, (batch(seed) for seed in range(30)))):
            states.append((state, [leaf.copy() for leaf in tree.flatten(state.opt_state).values()]))
            if k % 3 == 0:
                parts.append((state.params["fc"]["w"][1:, ::2], memoryview(state.params["conv"]["w"])))
                then.append([np.array(part) for part in parts[-1]])
        for state, copies in states:
            for leaf, copy in zip(tree.flatten(state.opt_state).values(), copies, strict=True):
                np.testing.assert_array_equal(leaf, copy)
        for some, copies in zip(parts, then, strict=True):
            for part, copy in zip(some, copies, strict=True):
                np.testing.assert_array_equal(part, copy)
        for k in range(1, 6):
            _, sums = map_fn(keeps, [np.full(5000, k), np.full(5000, 10 * k)])
            assert sums == [50_000 * i for i in range(1, k + 1)]


class _Odd(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b


class _Disguised(Exception):
    def __reduce__(self):
        return str, ("no error at all",)


class _Unspeakable(Exception):
    def __repr__(self):
        raise RuntimeError("neither printed nor pickled")

    __str__ = __reduce__ = __repr__


class _Deadly(Exception):
    def __setstate__(self, state):
        raise SystemExit(3)


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

    with processes(2) as map_fn, pytest.raises(RuntimeError, match=r"^_Odd, which can't be pickled:\n(?s:.*)strange"):
        map_fn(odd, [0, 1])


@pytest.mark.parametrize("kind", [_Disguised, _Unspeakable, _Deadly])
def test_an_error_that_does_something_else_when_it_is_pickled_is_told_as_text(kind):
    def odd(x):
        if x:
            raise kind("strange")

    with processes(2) as map_fn:
        with pytest.raises(RuntimeError, match=rf"^{kind.__name__}, which can't be pickled:\n(?s:.*)raise kind"):
            map_fn(odd, [0, 1])
        assert map_fn(abs, [-1, -2]) == [1, 2]


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


@pytest.mark.parametrize("wrong", [(0,), (1,), (2,), (0, 1), (1, 2, 3), (4, 5)])
@pytest.mark.parametrize("size", [10, 100_000])
def test_of_several_errors_the_first_items_is_raised_however_large_the_arrays(wrong, size, monkeypatch):
    monkeypatch.setattr(module, "_ROOM", 4096)  # so that they fill the pipes, on which both sides would wait

    def picky(x, k):
        if k in wrong:
            raise ValueError(f"no {k}")
        return x * k

    x = np.arange(float(size))
    with processes(3) as map_fn:
        for _ in range(2):
            with pytest.raises(ValueError, match=f"no {wrong[0]}"):
                map_fn(picky, [x] * 6, range(6))
            found = map_fn(picky, [x] * 3, [7, 8, 9])
            assert all(np.array_equal(array, x * k) for array, k in zip(found, [7, 8, 9], strict=True))


def test_a_bad_label_in_the_first_shard_of_a_large_network_is_an_error_and_the_next_step_works(monkeypatch):
    monkeypatch.setattr(module, "_ROOM", 1 << 16)  # for a network whose gradients exceed it, as others exceed 64 MB
    model = fcnn.serial(flatten=fcnn.flatten(), fc1=fcnn.dense(2000), fc2=fcnn.dense(200), fc3=fcnn.dense(3))
    start = fcnn.init_state(model, OPTIMIZER, fcnn.key(0), (1, 6, 6))
    x, y = batch(0, 8)
    bad = np.where(np.arange(8) == 1, 7, y)
    serial = fcnn.train_step(model, LOSS, OPTIMIZER, parallel.sharded(fcnn.gradient(model, LOSS), 4))
    with processes(2) as map_fn:
        step = fcnn.train_step(model, LOSS, OPTIMIZER, parallel.sharded(fcnn.gradient(model, LOSS), 4, map_fn))
        for _ in range(2):
            with pytest.raises(ValueError, match="7"):
                step(start, (x, bad))
            assert step(start, (x, y)) == serial(start, (x, y))


class _Unreadable:
    """It can be pickled, and not be read again."""

    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise ValueError("can't be read")


def test_what_can_not_be_pickled_or_read_again_is_an_error_and_the_next_call_works():
    def same(x):
        return _Unreadable() if x == "made" else (lambda: x) if x == "local" else 1

    with processes(2) as map_fn:
        for items, message in (
            ([0, _Unreadable()], "can't be read"),
            ([0, "made"], "can't be read"),
            ([0, lambda: 1], "pickle"),
            ([0, "local"], "pickle"),
        ):
            with pytest.raises(Exception, match=message):
                map_fn(same, items)
            assert map_fn(same, range(4)) == [1] * 4


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (lambda: os._exit(0), "ended with exit code 0 before it gave its result"),
        (lambda: os._exit(3), "ended with exit code 3"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "ended with exit code -9"),
        (lambda: (faulthandler.disable(), os.kill(os.getpid(), signal.SIGSEGV)), "ended with exit code -11"),
        (lambda: (faulthandler.disable(), os.abort()), "ended with exit code -6"),
    ],
)
@pytest.mark.parametrize("item", [1, 5, 4])
def test_however_a_worker_dies_it_is_said_and_the_next_call_works(end, message, item):
    here = os.getpid()

    def dies(x):
        if x == item and os.getpid() != here:
            end()
        return x

    with processes(3) as map_fn:
        for _ in range(2):
            with pytest.raises(WorkerError, match=message):
                map_fn(dies, range(6))
            assert map_fn(dies, range(10, 16)) == list(range(10, 16))


@pytest.mark.parametrize("error", [SystemExit(3), MemoryError("too large"), KeyboardInterrupt(), GeneratorExit()])
@pytest.mark.parametrize("item", [0, 1])
def test_whatever_is_raised_comes_through_and_the_next_call_works(error, item):
    def raises(x):
        if x == item:
            raise error
        return x

    with processes(2) as map_fn:
        for _ in range(2):
            with pytest.raises(type(error)) as caught:
                map_fn(raises, range(4))
            assert caught.value.args == error.args
            assert map_fn(raises, [7, 8, 9]) == [7, 8, 9]


def test_a_worker_whose_end_was_told_to_somebody_else_is_an_error_all_the_same():
    def dies(x):
        if x == 1:
            os._exit(3)
        pid, _ = os.waitpid(-1, 0)  # as a program does that waits for any child
        return pid

    with processes(2) as map_fn:
        with pytest.raises(WorkerError, match=r"worker process \d+ ended before it gave its result"):
            map_fn(dies, range(2))
        assert map_fn(str, range(2)) == ["0", "1"]


def test_interrupted_at_any_line_a_call_leaves_nothing_behind_and_the_next_one_is_right():
    """SIGINT at each line in turn that this process goes through: opening, forking, sending, receiving, closing."""
    seen, moment = {}, None

    def trace(frame, event, argument):
        if frame.f_code.co_filename != module.__file__:
            return None
        if event == "line":
            seen[frame.f_lineno] = seen.get(frame.f_lineno, 0) + 1
            if (frame.f_lineno, seen[frame.f_lineno]) == moment:
                signal.raise_signal(signal.SIGINT)
        return trace

    def square(x):
        return x * x

    def other(x):
        return -x

    def right(map_fn):
        for k, found in enumerate(map_fn(square, [x, x + 1])):
            np.testing.assert_array_equal(found, square(x + k))

    def interrupted():
        """Whether an interrupt at the moment came out of these calls, after which others are right."""
        seen.clear()
        came = False
        try:
            with processes(2) as map_fn:
                sys.settrace(trace)
                try:
                    for function in (other, square, square):
                        map_fn(function, [x, x + 1])
                except KeyboardInterrupt:
                    came = True
                    sys.settrace(None)
                    right(map_fn)
        except KeyboardInterrupt:  # while it was closed
            came = True
        finally:
            sys.settrace(before)
        assert forked() == [], moment
        return came

    x = np.arange(100.0)
    before, handler = sys.gettrace(), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert not interrupted()
        times = 4 if LONG else 1
        moments = [(line, time) for line, found in sorted(seen.items()) for time in range(1, min(found, times) + 1)]
        came = 0
        for moment in moments:  # noqa: B007 (for `trace`)
            came += interrupted()
        moment = None
        with processes(2) as map_fn:
            right(map_fn)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert came > 0.9 * len(moments) > 50  # all but those to which waiting came once more than now


def test_interrupted_at_random_moments_the_next_call_is_right():
    seconds = 120 if LONG else 1
    for seed, more in ((1, []), (2, []), (3, ["--numbers", 300_000, "--room", 1 << 16])):
        command = [sys.executable, Path(__file__).with_name("interrupts.py"), "--seconds", seconds, "--seed", seed]
        done = subprocess.run([*map(str, command + more)], capture_output=True, text=True, timeout=seconds + 90)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert json.loads(done.stdout)["right calls after it"] > 0


def test_a_map_within_a_map_and_one_in_another_thread_have_the_same_results():
    with processes(3) as map_fn:

        def inner(x):
            return x + 1

        def outer(x):
            return sum(map_fn(inner, range(x)))

        expected = [x * (x + 1) // 2 for x in range(6)]
        assert map_fn(outer, range(6)) == expected
        found = {}

        def from_a_thread(name):
            found[name] = [map_fn(outer, range(6)) for _ in range(5)]

        several = [threading.Thread(target=from_a_thread, args=(name,)) for name in range(3)]
        for one in several:
            one.start()
        for one in several:
            one.join()
        assert found == dict.fromkeys(range(3), [expected] * 5)


def maps_in_processes(x):
    with processes(2) as map_fn:
        return list(map_fn(abs, [-x, x, -2 * x]))


def evaluates(network, params, state, split):
    with processes(2) as map_fn:
        return fcnn.evaluate(network, params, state, split, map_fn=map_fn).loss


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_within_a_worker_of_a_pool(method):
    context = multiprocessing.get_context(method)
    expected = [[x, x, 2 * x] for x in range(3)]
    if method != "forkserver":  # whose server stays until the interpreter's end
        with context.Pool(2) as pool:  # its workers are daemons, which may have no children of multiprocessing's
            assert pool.map(maps_in_processes, range(3)) == expected
    x, y = batch(0)
    split = fcnn.Split(x, y)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(maps_in_processes, range(3))) == expected
        loss = pool.submit(evaluates, MODEL, START.params, START.layer_state, split).result()
    assert loss == fcnn.evaluate(MODEL, START.params, START.layer_state, split).loss


def test_what_workers_print_comes_out_once(capfd):
    def speak(x):
        sys.stdout.write(f"item {x}\n")  # in one piece: print would let another process come before its end of line

    print("before")
    with processes(3) as map_fn:
        map_fn(speak, range(6))
    assert sorted(capfd.readouterr().out.split("\n")) == ["", "before", *(f"item {x}" for x in range(6))]


def test_workers_hold_blas_to_one_thread():
    def threads_of_blas(_):
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with processes(2) as map_fn:
        assert map_fn(threads_of_blas, range(2)) == [{1}, {1}]


@pytest.mark.parametrize("busy", [False, True])
def test_workers_end_with_a_parent_that_is_killed(busy):
    program = (
        "import os, signal, time\n"
        "from fcnn.training.workers import processes\n"
        "def who(x):\n"
        "    if x < 0:\n"
        "        time.sleep(0.2 if os.getpid() == here else 1000)\n"
        "        os.kill(here, signal.SIGKILL)\n"
        "    return os.getpid()\n"
        "here = os.getpid()\n"
        "with processes(3) as map_fn:\n"
        "    print(*map_fn(who, range(3))[1:], flush=True)\n"
        f"    map_fn(who, [-1, -1, -1]) if {busy} else os.kill(here, signal.SIGKILL)\n"
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
