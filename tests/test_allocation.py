"""What importing fcnn does to the process's memory; aligned arrays, and memory that a kernel needs only for itself."""

import itertools
import math
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import CASES
from memory import arrays_in, bits
from test_table_ops import OPS, arguments_of, dy_of

import fcnn
from fcnn import fuse
from fcnn.values import allocation
from fcnn.values.allocation import empty, scratch, scratch_space, zeros

pytestmark = pytest.mark.usefixtures("one_thread")

# Six arrays of 4 MB, made and freed again and again, as in a training step; how many pages had to be faulted in.
CODE = """
import resource
import numpy as np
{imports}
def step():
    arrays = [np.ones(1 << 20, np.float32) for _ in range(6)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(imports: str) -> int:
    done = subprocess.run([sys.executable, "-c", CODE.format(imports=imports)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator gives memory back like this")
def test_freed_memory_is_kept_once_fcnn_is_imported():
    with_fcnn, without = page_faults("import fcnn"), page_faults("")
    assert with_fcnn < 1000
    assert with_fcnn < without / 3


def address(array):
    return array.__array_interface__["data"][0]


SHAPES = [(), (0,), (3, 0, 2), (1,), (5, 7), (100, 41), (3, 5, 7, 129), (1 << 16,)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_larger_arrays_begin_at_multiples_of_64_bytes(shape, dtype):
    for make in (empty, zeros):
        made = [make(shape, dtype) for _ in range(5)]
        for array in made:
            assert (array.shape, array.dtype) == (shape, dtype)
            assert array.flags.c_contiguous
            assert array.flags.writeable
            assert array.nbytes < 4096 or address(array) % 64 == 0
        assert not any(np.shares_memory(*pair) for pair in itertools.combinations(made, 2))
    assert not any(array.any() for array in made)


def in_a_thread(function):
    """What it gives, or raises, in a thread that has no scratch memory yet."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(60)


def take(size=4096):
    return scratch((size,), np.uint8)


def test_scratch_is_the_same_memory_again_and_again():
    def run():
        with scratch_space():  # in which it learns how much is needed
            first = take(), take(5), take(70_000)
            assert not any(np.shares_memory(*pair) for pair in itertools.combinations(first, 2))
        found = []
        for _ in range(3):
            with scratch_space():
                arrays = take(), take(5), take(70_000)
                found.append([address(array) for array in arrays])
                assert all(array.base is not None for array in arrays)
                assert not any(np.shares_memory(*pair) for pair in itertools.combinations(arrays, 2))
                assert all(address(array) % 64 == 0 for array in arrays)
        assert found[0] == found[1] == found[2]

    in_a_thread(run)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scratch_arrays_are_as_asked_for(shape, dtype):
    def run():
        for _ in range(2):
            with scratch_space():
                take()
                array = scratch(shape, dtype)
                assert (array.shape, array.dtype) == (shape, dtype)
                assert array.flags.c_contiguous
                array[...] = 1
                assert np.count_nonzero(array) == math.prod(shape)

    in_a_thread(run)


def test_a_space_within_another_gives_back_its_own_and_no_more():
    def run():
        for _ in range(2):
            with scratch_space():
                outer = take()
                outer[...] = 1
                with scratch_space():
                    inner = take(8192)
                    inner[...] = 2
                    with scratch_space():
                        take()[...] = 3
                    assert (inner == 2).all()
                    again = take()
                    again[...] = 4
                    assert (inner == 2).all()
                after = take(100)
                after[...] = 5
                assert (outer == 1).all()
        assert address(after) == address(inner)  # memory that the inner space gave back

    in_a_thread(run)


def test_what_an_error_leaves_is_given_back():
    def failing():
        take()
        with scratch_space():
            take()
            return 1 / 0

    def run():
        with scratch_space():
            take()
        for _ in range(3):
            with pytest.raises(ZeroDivisionError), scratch_space():
                failing()
        assert allocation._space.used == 0
        with scratch_space():
            assert address(take()) == address(allocation._space.memory)

    in_a_thread(run)


def test_more_than_a_thread_keeps_is_allocated(monkeypatch):
    monkeypatch.setattr(allocation, "_MOST", 10_000)

    def run():
        for _ in range(3):
            with scratch_space():
                arrays = [take() for _ in range(4)]  # of which two fit
                for value, array in enumerate(arrays):
                    array[...] = value
                assert [set(array) for array in arrays] == [{0}, {1}, {2}, {3}]
                with scratch_space():
                    take()[...] = 9
                assert [set(array) for array in arrays] == [{0}, {1}, {2}, {3}]
        assert allocation._space.memory.size == 10_000

    in_a_thread(run)


def test_memory_is_never_moved_while_it_is_in_use():
    def run():
        with scratch_space():
            take()
        with scratch_space():
            first = take()
            first[...] = 1
            for _ in range(3):
                with scratch_space():
                    more = take(100_000)
                    more[...] = 2
                    assert not np.shares_memory(first, more)
            assert address(first) == address(allocation._space.memory)
            assert (first == 1).all()
        with scratch_space():
            assert allocation._space.memory.size >= 104_096

    in_a_thread(run)


def test_threads_have_scratch_of_their_own():
    barrier = threading.Barrier(4)

    def run(number):
        for _ in range(3):
            with scratch_space():
                array = take(50_000)
                array[...] = number
                barrier.wait(20)
                assert (array == number).all()
                barrier.wait(20)
        return address(array)

    with ThreadPoolExecutor(4) as pool:
        assert len({*pool.map(run, range(4))}) == 4


# No kernel keeps or hands out scratch memory, nor needs what is in it.


def spoil():
    """Write NaN into this thread's scratch memory."""
    allocation._space.memory.fill(0xFF)


def owns(found):
    return not any(np.shares_memory(array, allocation._space.memory) for array in arrays_in(found))


def called_thrice(call):
    """The bits of what it gives are the same whatever scratch memory holds, and stay so when that is used again."""

    def run():
        call()
        first = call()
        before = bits(first)
        assert owns(first)
        spoil()
        assert bits(first) == before
        second = call()
        spoil()
        assert bits(second) == bits(first) == before
        assert bits(call()) == before

    in_a_thread(run)


WIDE = fcnn.serial(
    conv1=fcnn.conv2d(64, 3, padding=1), bn1=fcnn.batch_norm(), relu1=fcnn.relu(), pool1=fcnn.max_pool2d(2),
    conv2=fcnn.conv2d(65, 3, padding=1), relu2=fcnn.relu(), conv3=fcnn.conv2d(4, 2, stride=2),
)  # fmt: skip
NETWORKS = [*((case.name, case.layer, case.in_shape, 3) for case in CASES), ("wide", WIDE, (64, 12, 12), 64)]


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("rule", [fuse, lambda layer: layer], ids=["fused", "plain"])
@pytest.mark.parametrize(("layer", "shape", "n"), [row[1:] for row in NETWORKS], ids=[row[0] for row in NETWORKS])
def test_no_layer_keeps_or_hands_out_scratch_memory(layer, shape, n, rule, train):
    network, made = rule(layer), layer.init(fcnn.key(0), shape)
    x = fcnn.generator(fcnn.key(1)).standard_normal((n, *shape)).astype(np.float32)

    def call():
        out = network.apply(made.params, made.state, x, train=train, key=fcnn.key(2))
        grads = network.backward(made.params, out.cache, out.y)
        return *out, *grads

    called_thrice(call)


@pytest.mark.parametrize("op", OPS, ids=str)
def test_no_operation_keeps_or_hands_out_scratch_memory(op):
    arguments = arguments_of(op, np.float32)

    def call():
        *results, cache = op.forward(arguments)
        return results, cache, op.backward(dy_of(results[0]), cache)

    called_thrice(call)
