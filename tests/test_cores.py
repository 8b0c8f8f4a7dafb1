"""Work shared out over threads: every part once, the same bits for any number of them, and nothing left behind."""

import contextlib
import dis
import os
import signal
import sys
import threading
import time
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import attrs
import numpy as np
import pytest
from faults import forks

import fcnn
from fcnn import ops
from fcnn.ops.processor import trying, tuning
from fcnn.values import cores
from fcnn.values.cores import alone, at_most, available, each_of, one_blas_thread, share
from fcnn.values.tree import flatten

MUCH = 1e9  # µs: worth any thread


@pytest.fixture
def four(monkeypatch):
    """A machine with four cores, and BLAS held to one thread."""
    monkeypatch.setattr(cores, "cores", lambda: 4)
    with one_blas_thread():
        yield


@pytest.fixture
def blas(monkeypatch):
    """Makes of what threadpoolctl finds, and of what NumPy was built with, what it is called with."""

    def set_to(found, built_with=""):
        fake = types.ModuleType("threadpoolctl")
        fake.ThreadpoolController = lambda: SimpleNamespace(
            select=lambda user_api: SimpleNamespace(lib_controllers=found)
        )
        monkeypatch.setitem(sys.modules, "threadpoolctl", None if found is None else fake)
        config = {"Build Dependencies": {"blas": {"name": built_with}}} if built_with else {}
        monkeypatch.setattr(np, "show_config", lambda mode: config)
        cores._libraries.cache_clear()

    monkeypatch.setattr(cores, "cores", lambda: 2)
    yield set_to
    cores._libraries.cache_clear()


class Together:
    """Lets nobody go on with a first part before `hands` threads have one: so that all of them did work."""

    def __init__(self, hands):
        self.barrier, self.seen = threading.Barrier(hands), set()

    def __call__(self, part):
        if threading.get_ident() not in self.seen:
            self.seen.add(threading.get_ident())
            self.barrier.wait(20)
        return part


def works_with(hands):
    """Whether so many threads share the parts of a call, no more, and it is right."""
    together = Together(hands)
    return each_of(3 * hands, together, MUCH) == list(range(3 * hands)) and len(together.seen) == hands


@pytest.mark.parametrize(
    ("found", "built_with", "hands"),
    [(None, "scipy-openblas", 1), (None, "", 1), ([], "openblas64", 1), ([], "accelerate", 2), ([], "", 2)],
    ids=["no threadpoolctl", "nor a BLAS", "an OpenBLAS that it doesn't find", "another BLAS", "no BLAS"],
)
def test_threads_compute_where_blas_is_held_or_has_no_threads(blas, found, built_with, hands):
    blas(found, built_with)
    with one_blas_thread(), one_blas_thread():
        assert available() == hands
        assert works_with(hands)
    with fcnn.parallel.threads(2) as map_fn:
        here = set(map_fn(lambda _: threading.get_ident(), range(9))) == {threading.get_ident()}
    assert here == (hands == 1)


def test_a_browser_has_no_threads(blas, monkeypatch):
    blas([])
    monkeypatch.setattr(sys, "platform", "emscripten")
    with one_blas_thread():
        assert works_with(1)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 100])
@pytest.mark.parametrize("hands", [1, 2, 3, 4, 9])
def test_every_part_is_called_once_and_what_it_gave_is_in_order(four, count, hands):
    called = []

    def square(part):
        called.append(part)
        return part * part

    with at_most(hands):
        assert each_of(count, square, MUCH) == [part * part for part in range(count)]
        assert sorted(called) == list(range(count))
        called.clear()
        assert share(square, count, MUCH) is None
        assert sorted(called) == list(range(count))


def test_as_many_threads_work_as_there_are_cores_and_are_allowed(four):
    assert works_with(4)
    with at_most(3):
        assert works_with(3)
        with at_most(8):
            assert works_with(3)
        with at_most(2):
            assert works_with(2)
        assert available() == 3
    assert works_with(4)
    for count in (1, 2, 3):  # no more than there are parts
        together = Together(count)
        each_of(count, together, MUCH)
        assert len(together.seen) == count


def only_here(count=8, work=MUCH):
    """Whether the caller computes all parts itself."""
    together = Together(1)
    return each_of(count, together, work) == list(range(count)) and together.seen == {threading.get_ident()}


def test_nothing_is_shared_where_that_is_not_worth_it_or_not_asked_for(monkeypatch):
    monkeypatch.setattr(cores, "cores", lambda: 4)
    assert available() == 1
    assert only_here()  # BLAS's own threads may be at work
    with one_blas_thread():
        assert works_with(4)
        assert only_here(count=1)
        assert only_here(work=10.0)
        with alone():
            with alone():
                assert available() == 1
            assert only_here()
        with at_most(1):
            assert only_here()
        assert works_with(4)
    assert available() == 1


def test_a_part_that_shares_computes_alone(four):
    together = Together(4)

    def outer(part):
        together(part)
        return only_here()

    assert all(each_of(8, outer, MUCH))
    assert works_with(4)


@pytest.mark.parametrize("mine", [True, False], ids=["the caller's", "another thread's"])
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_an_error_comes_out_when_no_part_is_at_work_any_more(four, error, mine):
    caller, together, at_work = threading.get_ident(), Together(4), []

    def part(number):
        at_work.append(number)
        together(number)
        if (threading.get_ident() == caller) == mine:
            at_work.remove(number)
            raise error
        time.sleep(0.02)
        at_work.remove(number)

    with pytest.raises(type(error)) as caught:
        each_of(100, part, MUCH)
    assert caught.value is error
    assert at_work == []
    assert works_with(4)


def test_after_an_error_no_new_part_is_begun(four):
    begun, together = [], Together(4)

    def part(number):
        begun.append(number)
        together(number)
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        each_of(100, part, MUCH)
    assert len(begun) == 4


def test_parts_see_numpys_error_state_of_the_caller_and_no_other(four):
    def divided():
        together = Together(4)

        def part(number):
            together(number)
            return np.float64(1) / np.float64(0)

        return each_of(8, part, MUCH)

    with np.errstate(divide="ignore"):
        assert divided() == [np.inf] * 8
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        divided()
    with pytest.raises(RuntimeWarning, match="divide by zero"):
        divided()
    with np.errstate(divide="ignore"):
        assert divided() == [np.inf] * 8


def test_of_two_threads_that_share_at_once_the_second_computes_alone(four):
    begun, go_on = threading.Event(), threading.Event()

    def slow(part):
        begun.set()
        assert go_on.wait(20)
        return part

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(each_of, 9, slow, MUCH)
        assert begun.wait(20)
        assert only_here()
        go_on.set()
        assert first.result(20) == list(range(9))
        assert works_with(4)


def test_many_threads_share_at_once_and_all_are_right(four):
    def call(number):
        return [each_of(6, lambda part: number * part, MUCH) for _ in range(20)]

    with ThreadPoolExecutor(6) as pool:
        assert [*pool.map(call, range(24))] == [[[number * part for part in range(6)]] * 20 for number in range(24)]
    assert works_with(4)


def in_a_fork(function):
    """Whether a forked process found so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads
        child = os.fork()
    if not child:
        right = False
        with contextlib.suppress(BaseException):
            right = function()
        os._exit(0 if right else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@forks
def test_a_forked_process_has_threads_of_its_own(four):
    assert works_with(4)
    assert in_a_fork(lambda: works_with(4) and works_with(4))
    assert works_with(4)


@forks
def test_a_process_forked_while_threads_are_at_work_has_none_and_makes_its_own(four):
    found, together = [], Together(4)

    def part(number):
        together(number)
        if number == 0:
            found.append(in_a_fork(lambda: freed() and works_with(4)))

    def freed():  # of being a part itself, which computes alone
        cores._local.alone = False
        return True

    each_of(8, part, MUCH)
    assert found == [True]
    assert works_with(4)


@pytest.fixture
def interruptible():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_while_others_are_waited_for(four, interruptible, monkeypatch):
    """It comes out at once; the threads that are still at work are left to end, and others do what comes next."""
    caller, together, first = threading.get_ident(), Together(4), threading.Lock()
    waits, go_on, ended, wait = threading.Event(), threading.Event(), [], cores._Thread.wait
    raised = threading.Event()

    def once(*_):
        if not raised.is_set():
            raised.set()
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, once)

    def waited(thread):
        waits.set()
        wait(thread)

    def part(number):
        together(number)
        if threading.get_ident() != caller:
            if first.acquire(blocking=False):
                assert waits.wait(20)
                while not raised.wait(0.05):  # one that comes just before the wait begins is seen after it
                    signal.pthread_kill(caller, signal.SIGINT)
            assert go_on.wait(20)
            ended.append(number)

    monkeypatch.setattr(cores._Thread, "wait", waited)
    with pytest.raises(KeyboardInterrupt):
        each_of(4, part, MUCH)
    assert ended == []
    assert works_with(4)
    go_on.set()
    deadline = time.monotonic() + 20
    while len(ended) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(ended) == 3
    assert works_with(4)


LOOKS = {"CALL", "CALL_KW", "CALL_FUNCTION_EX", "RESUME", "JUMP_BACKWARD"}  # after these Python looks for signals


def test_interrupted_wherever_python_looks_for_signals_the_next_call_is_right_and_shared(four, interruptible):
    """One moment of a call after the other, in this module and where its context managers are run."""
    count, at, last = 0, 0, {}

    def trace(frame, event, argument):
        nonlocal count
        code = frame.f_code
        if code.co_filename not in (cores.__file__, contextlib.__file__):
            return None
        frame.f_trace_opcodes = True
        if event == "call":
            last.pop(id(frame), None)
        if event == "opcode":
            if last.get(id(frame)) in LOOKS:
                count += 1
                if count == at:
                    signal.raise_signal(signal.SIGINT)
            last[id(frame)] = dis.opname[code.co_code[frame.f_lasti]]
        return trace

    def interrupted():
        nonlocal count
        count = 0
        last.clear()
        sys.settrace(trace)
        try:
            share(lambda part: None, 4, MUCH)
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    before = sys.gettrace()
    assert works_with(4)
    assert not interrupted()
    moments = range(1, count + 1)
    came = 0
    for at in moments:
        came += interrupted()
        assert works_with(4), at
    assert came > 0.5 * len(moments) > 20  # the caller doesn't have as many parts each time


# What kernels compute.


@pytest.fixture
def shared(monkeypatch):
    """How many calls were shared by `hands` threads, all of which had parts of each."""
    counts = {}
    run = cores._run

    def counted(function, count, hands):
        counts[hands] = counts.get(hands, 0) + 1
        together = Together(hands)

        def part(number):
            together(number)
            function(number)

        run(part, count, hands)

    monkeypatch.setattr(cores, "_run", counted)
    monkeypatch.setattr(cores, "cores", lambda: 4)
    return counts


def bits(function, hands):
    with one_blas_thread(), at_most(hands):
        return function()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "filters", "kernel"), [((64, 3, 24, 24), 16, 5), ((64, 64, 12, 12), 70, 3)], ids=["lowered", "winograd"]
)
def test_the_bits_of_kernels_are_those_of_one_thread(shared, shape, filters, kernel, dtype):
    """On an output in many parts."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(dtype) for s in (shape, (filters, shape[1], kernel, kernel)))

    def everything():
        y, cache = ops.conv2d(x, w, np.ones(filters, dtype), padding=1)
        one, zero = np.ones(filters, dtype), np.zeros(filters, dtype)
        normed, mean, var, kept = ops.batch_norm(y, one, zero, zero, one, train=True)
        found = y, normed, mean, var, *ops.conv2d_backward(y, cache), *ops.batch_norm_backward(y, kept)
        return [array.tobytes() for array in found]

    with trying(attrs.evolve(tuning(), part=1 << 14)):
        expected = bits(everything, 1)
        assert shared == {}
        for hands in (2, 3, 4):
            assert bits(everything, hands) == expected
            assert shared[hands] >= 5  # three products, and two passes of batch norm
            shared.clear()


def block(channels, pool):
    layers = {"conv": fcnn.conv2d(channels, 3, padding=1), "bn": fcnn.batch_norm(), "relu": fcnn.relu()}
    return fcnn.serial(**layers, **({"pool": fcnn.max_pool2d(2)} if pool else {}))


NETWORKS = {
    "lenet5": (fcnn.lenet5(), (1, 28, 28), 128),
    "lenet5_bn": (fcnn.lenet5_bn(), (1, 28, 28), 128),
    "vgg": (
        fcnn.serial(
            b1=block(32, False), b2=block(32, True), b3=block(64, False), b4=block(64, True),
            flatten=fcnn.flatten(), fc=fcnn.dense(10),
        ), (3, 16, 16), 64,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_the_bits_of_a_plain_step_are_those_of_one_core(shared, name):
    network, shape, size = NETWORKS[name]
    optimizer = fcnn.adam(1e-3)
    start = fcnn.init_state(network, optimizer, fcnn.key(0), shape)
    step = fcnn.train_step(network, fcnn.softmax_cross_entropy(), optimizer)
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((size, *shape)).astype(np.float32), rng.integers(0, 10, size)) for _ in range(2)]

    def trained():
        state, records = fcnn.fold(step, start, batches)
        trees = state.params, state.layer_state, state.opt_state
        return [{path: leaf.tobytes() for path, leaf in flatten(tree).items()} for tree in trees], records

    expected = bits(trained, 1)
    assert shared == {}
    for hands in (2, 3):
        assert bits(trained, hands) == expected
        assert sum(shared.values()) >= 8  # kernels, in two steps
        shared.clear()
