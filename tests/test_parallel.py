"""Sharding: the whole batch's gradient, whatever the threads or ranks; steps that can run at once without harm."""

import atexit
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from faults import forks
from threadpoolctl import threadpool_info

import fcnn
from fcnn import parallel, tree

IMAGE = (1, 8, 8)
LOSS = fcnn.softmax_cross_entropy(0.1)
PLAIN = fcnn.serial(
    conv1=fcnn.conv2d(4, 3),
    relu1=fcnn.relu(),
    pool1=fcnn.max_pool2d(2),
    flatten=fcnn.flatten(),
    fc1=fcnn.dense(3),
)
NORMED = fcnn.serial(conv1=fcnn.conv2d(4, 3), bn1=fcnn.batch_norm(decay=0.5), flatten=fcnn.flatten(), fc1=fcnn.dense(3))
DROPPING = fcnn.serial(flatten=fcnn.flatten(), drop1=fcnn.dropout(0.5), fc1=fcnn.dense(3))
EVERYTHING = fcnn.serial(
    conv1=fcnn.conv2d(4, 3),
    bn1=fcnn.batch_norm(),
    relu1=fcnn.relu(),
    pool1=fcnn.max_pool2d(2),
    flatten=fcnn.flatten(),
    drop1=fcnn.dropout(0.3),
    fc1=fcnn.dense(3),
)
KEY = fcnn.key(3)


def batch(n=22, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, *IMAGE)).astype(dtype), rng.integers(0, 3, n)


def made(model, dtype=np.float64):
    state = fcnn.init_state(model, fcnn.sgd(0.1), fcnn.key(0), IMAGE, dtype)
    return state.params, state.layer_state


@pytest.mark.parametrize("shard_size", [1, 5, 11, 22, 64])
def test_sharded_is_the_gradient_of_the_whole_batch(shard_size):
    params, state = made(PLAIN)
    whole = fcnn.gradient(PLAIN, LOSS)
    expected = whole(params, state, KEY, batch())
    found = parallel.sharded(whole, shard_size)(params, state, KEY, batch())
    # float64, numbers around 1: the same sums over 22 rows in another order, rounded by 1.1e-16 each time
    assert found.loss == pytest.approx(expected.loss, rel=1e-12, abs=0)
    assert (found.correct, found.size, found.layer_state) == (expected.correct, 22, state)
    for path, leaf in tree.flatten(expected.grads).items():
        np.testing.assert_allclose(tree.flatten(found.grads)[path], leaf, rtol=0, atol=1e-12, err_msg=path)


@pytest.mark.parametrize("several", [parallel.threads, pytest.param(parallel.processes, marks=forks)])
def test_what_else_a_batch_says_of_its_rows_changes_nothing(several):
    params, state = made(EVERYTHING)
    x, y = batch()
    told = fcnn.Batch(x, y, rows=np.arange(22)[::-1], epoch=3)
    gradient = fcnn.gradient(EVERYTHING, LOSS)
    with several(2) as map_fn:
        shards = parallel.sharded(gradient, 5, map_fn)
        assert shards(params, state, KEY, told) == shards(params, state, KEY, (x, y))
    assert gradient(params, state, KEY, told) == gradient(params, state, KEY, (x, y))
    start = fcnn.init_state(PLAIN, fcnn.sgd(0.1), fcnn.key(0), IMAGE, np.float64)
    step = fcnn.train_step(PLAIN, LOSS, fcnn.sgd(0.1))
    assert step(start, told) == step(start, (x, y))


def known_only(outputs, targets):
    """The mean of squares of the first output, over targets that are known: a loss as a user may write it."""
    known = ~np.isnan(targets)
    difference = np.where(known, outputs[:, 0] - targets, 0)
    d_outputs = np.zeros_like(outputs)
    d_outputs[:, 0] = 2 * difference / max(known.sum(), 1)
    return (difference**2).sum() / max(known.sum(), 1), d_outputs


WEIGHTED = {
    "class weights": fcnn.softmax_cross_entropy(class_weights=[1, 7, 0.3]),
    "ignored": fcnn.softmax_cross_entropy(ignored=-1),
    "both, smoothed": fcnn.softmax_cross_entropy(0.2, [1, 7, 0.3], ignored=-1),
    "of one's own": fcnn.WeightedLoss(known_only, lambda targets: ~np.isnan(targets)),
}


def weighted_batch(name, n=22, dtype=np.float64):
    """A batch whose first rows count for nothing, so that whole shards do, where the loss can say so."""
    x, y = batch(n, dtype)
    if name == "class weights":
        return x, y
    y = np.where(np.arange(n) < min(6, n - 1), -1, y)
    return x, np.where(y < 0, np.nan, y) if name == "of one's own" else y


def assert_same_mean(found, expected, exact):
    assert found.loss == pytest.approx(expected.loss, rel=exact, abs=0)
    assert (found.correct, found.size, found.layer_state) == (expected.correct, expected.size, expected.layer_state)
    assert (found.weight, found.counted) == (pytest.approx(expected.weight, rel=exact), expected.counted)
    for path, leaf in tree.flatten(expected.grads).items():
        np.testing.assert_allclose(tree.flatten(found.grads)[path], leaf, rtol=0, atol=exact, err_msg=path)


@pytest.mark.parametrize("shard_size", [1, 5, 11, 22, 64])
@pytest.mark.parametrize("name", WEIGHTED)
def test_shards_of_a_weighted_mean_are_that_of_the_whole_batch(name, shard_size):
    params, state = made(PLAIN)
    whole = fcnn.gradient(PLAIN, WEIGHTED[name])
    found = parallel.sharded(whole, shard_size)(params, state, KEY, weighted_batch(name))
    # float64, numbers around 1: the same sums over 22 rows in another order, rounded by 1.1e-16 each time
    assert_same_mean(found, whole(params, state, KEY, weighted_batch(name)), 1e-12)


@pytest.mark.parametrize("several", [parallel.threads, pytest.param(parallel.processes, marks=forks)])
def test_the_bits_of_a_weighted_mean_do_not_depend_on_what_maps(several):
    params, state = made(EVERYTHING, np.float32)
    gradient = fcnn.gradient(EVERYTHING, WEIGHTED["both, smoothed"])
    rows = weighted_batch("both, smoothed", dtype=np.float32)
    serial = parallel.sharded(gradient, 5)(params, state, KEY, rows)
    with several(2) as map_fn:
        assert parallel.sharded(gradient, 5, map_fn)(params, state, KEY, rows) == serial
    assert {leaf.dtype for leaf in tree.flatten(serial.grads).values()} == {np.dtype(np.float32)}


def test_a_batch_of_which_nothing_counts_changes_no_parameter():
    optimizer = fcnn.sgd(0.1)
    start = fcnn.init_state(PLAIN, optimizer, fcnn.key(0), IMAGE)
    gradient = fcnn.gradient(PLAIN, WEIGHTED["ignored"])
    x, _ = batch(11, np.float32)
    for found in (gradient, parallel.sharded(gradient, 4)):
        state, record = fcnn.train_step(PLAIN, LOSS, optimizer, found)(start, (x, np.full(11, -1)))
        assert record == fcnn.Record(0, 0.0, 0, 11, 0.0, 0)
        assert state.params == start.params


def test_shards_of_a_loss_that_tells_no_weights_count_by_their_rows():
    """Such as one of a user's own; whatever else it has is its own affair."""

    class Halved:
        weights = 0.5

        def __call__(self, outputs, targets):
            value, d_outputs = LOSS(outputs, targets)
            return self.weights * value, self.weights * d_outputs

    params, state = made(PLAIN)
    found, expected = (
        parallel.sharded(fcnn.gradient(PLAIN, loss), 8)(params, state, KEY, batch()) for loss in (Halved(), LOSS)
    )
    assert found.loss == expected.loss / 2
    assert found.grads == tree.map(lambda leaf: leaf / 2, expected.grads)
    assert (found.weight, found.counted) == (None, None)


def test_of_a_regression_nothing_is_counted_right():
    model = fcnn.serial(fcnn.flatten(), fcnn.dense(2))
    x, _ = batch()
    params, state = made(model)
    found = parallel.sharded(fcnn.gradient(model, fcnn.mean_squared_error()), 5)(
        params, state, KEY, (x, x[:, 0, 0, :2])
    )
    assert found.correct is None


@pytest.mark.parametrize("shard_size", [3, 8])
def test_the_bits_depend_on_the_shards_and_not_on_the_threads(shard_size):
    params, state = made(EVERYTHING, np.float32)
    gradient = fcnn.gradient(EVERYTHING, LOSS)
    serial = parallel.sharded(gradient, shard_size)(params, state, KEY, batch(dtype=np.float32))
    for count in (1, 2, 4):
        with parallel.threads(count) as map_fn:
            assert parallel.sharded(gradient, shard_size, map_fn)(params, state, KEY, batch(dtype=np.float32)) == serial
    assert {leaf.dtype for leaf in tree.flatten(serial.grads).values()} == {np.dtype(np.float32)}


def test_any_map_will_do_that_keeps_the_order():
    params, state = made(PLAIN)
    seen = []

    def backwards(function, items):
        seen.extend(items)
        return [function(item) for item in reversed(list(items))][::-1]

    gradient = fcnn.gradient(PLAIN, LOSS)
    found = parallel.sharded(gradient, 5, backwards)(params, state, KEY, batch())
    assert found == parallel.sharded(gradient, 5)(params, state, KEY, batch())
    assert [key for _, _, _, key, *_ in seen] == [fcnn.fold_in(KEY, shard) for shard in range(5)]
    assert [len(x) for _, _, _, _, (x, _), _ in seen] == [5, 5, 5, 5, 2]


def test_ghost_batch_norm_keeps_the_weighted_mean_of_what_the_shards_found():
    params, state = made(NORMED)
    x, y = batch(22)
    gradient = fcnn.gradient(NORMED, LOSS)
    found = parallel.sharded(gradient, 9)(params, state, KEY, (x, y))
    parts = [gradient(params, state, KEY, (x[a:b], y[a:b])) for a, b in ((0, 9), (9, 18), (18, 22))]
    for name in ("mean", "var"):
        expected = sum(
            w * part.layer_state["bn1"][name] for w, part in zip((9 / 22, 9 / 22, 4 / 22), parts, strict=True)
        )
        np.testing.assert_allclose(found.layer_state["bn1"][name], expected, rtol=1e-14)  # a mean of three or four
    assert found.layer_state != gradient(params, state, KEY, (x, y)).layer_state


def test_every_shard_drops_other_units():
    """Four equal shards under equal masks would have the gradient of one."""
    params, state = made(DROPPING)
    x, y = batch(5)
    four = np.concatenate([x] * 4), np.concatenate([y] * 4)
    gradient = fcnn.gradient(DROPPING, LOSS)
    seen = []

    def watched(params, state, key, part):
        seen.append(key)
        return gradient(params, state, key, part)

    found = parallel.sharded(watched, 5)(params, state, KEY, four)
    assert seen == [fcnn.fold_in(KEY, shard) for shard in range(4)]
    parts = [gradient(params, state, key, (x, y)).grads["fc1"]["w"] for key in seen]
    assert len({part.tobytes() for part in parts}) == 4
    # a mean of four numbers around 1
    np.testing.assert_allclose(found.grads["fc1"]["w"], sum(parts) / 4, rtol=0, atol=1e-14)


def test_a_sharded_step_trains_as_a_whole_one_does():
    optimizer = fcnn.sgd(0.1, momentum=0.9)
    start = fcnn.init_state(PLAIN, optimizer, fcnn.key(0), IMAGE, np.float64)
    stream = [batch(22, seed=seed) for seed in range(6)]
    whole, _ = fcnn.fold(fcnn.train_step(PLAIN, LOSS, optimizer), start, stream)
    gradient = parallel.sharded(fcnn.gradient(PLAIN, LOSS), 4)
    found, records = fcnn.fold(fcnn.train_step(PLAIN, LOSS, optimizer, gradient), start, stream)
    for path, leaf in tree.flatten(whole.params).items():
        # as above, in each of 6 steps
        np.testing.assert_allclose(tree.flatten(found.params)[path], leaf, rtol=0, atol=1e-12, err_msg=path)
    assert [record.size for record in records] == [22] * 6


def test_a_parameter_may_be_a_single_number():
    @fcnn.layer_constructor
    def scale():
        def init(key, in_shape):
            return fcnn.Init(fcnn.freeze({"s": np.array(2.0)}), tree.EMPTY, in_shape)

        def apply(params, state, x, *, train, key=None):
            return fcnn.Out(x * params["s"], tree.EMPTY, (x, params["s"]))

        def backward(params, cache, dy, *, need_dx=True):
            x, s = cache
            return fcnn.Grads(dy * s if need_dx else None, fcnn.freeze({"s": np.sum(dy * x)}))

        return fcnn.Functions(init, apply, backward)

    model = fcnn.serial(scale=scale(), flatten=fcnn.flatten(), fc1=fcnn.dense(3))
    params, state = made(model)
    gradient = fcnn.gradient(model, LOSS)
    found = parallel.sharded(gradient, 5)(params, state, KEY, batch()).grads["scale"]["s"]
    # float64, numbers around 1: the same sums over 22 rows in another order, rounded by 1.1e-16 each time
    assert found == pytest.approx(float(gradient(params, state, KEY, batch()).grads["scale"]["s"]), rel=1e-12, abs=0)


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@pytest.mark.parametrize("count", [1, 3])
def test_threads_holds_blas_to_one_thread_and_lets_go_again(count):
    before = blas_threads()
    with parallel.threads(count) as map_fn:
        assert set(blas_threads()) == {1}
        assert list(map_fn(abs, [-1, 2, -3])) == [1, 2, 3]
    assert blas_threads() == before

    def failing():
        with parallel.threads(count) as map_fn:
            list(map_fn(lambda n: 1 / n, [1, 0]))

    with pytest.raises(ZeroDivisionError):
        failing()
    assert blas_threads() == before


def test_an_error_in_a_shard_names_the_layer():
    params, state = made(PLAIN)
    x, y = batch()
    with (
        parallel.threads(2) as map_fn,
        pytest.raises(fcnn.LayerError, match=r"^conv1: "),
    ):
        parallel.sharded(fcnn.gradient(PLAIN, LOSS), 5, map_fn)(params, state, KEY, (x[:, :, :2, :2], y))


def test_steps_at_once_agree_bit_for_bit_with_steps_one_by_one():
    """Nothing inside a layer is shared between calls."""
    optimizer = fcnn.adam(1e-2)
    step = fcnn.train_step(EVERYTHING, LOSS, optimizer)

    def run(seed):
        start = fcnn.init_state(EVERYTHING, optimizer, fcnn.key(seed), IMAGE)
        return fcnn.fold(step, start, (batch(9 + seed % 3, np.float32, seed=100 * seed + k) for k in range(25)))

    alone = [run(seed) for seed in range(12)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(run, range(12))) == alone


class Rank:
    """A rank of a job whose ranks are threads: what `over_ranks` uses of a communicator. One may be `missing`."""

    def __init__(self, job, rank):
        self.job, self.rank, self.size = job, rank, len(job)
        self.aborted = None

    def Iallreduce(self, sent, received):
        assert (sent.dtype, sent.shape) == (received.dtype, received.shape)
        call = len(self.job[self.rank])
        self.job[self.rank].append(sent.copy())

        class Request:
            def Test(_):
                if not all(len(calls) > call for calls in self.job):
                    return False
                received[...] = sum(calls[call] for calls in self.job)
                return True

        return Request()

    def Abort(self, code):
        self.aborted = code


def on_ranks(count, function):
    """What `function(comm)` gives on each of so many ranks."""
    job = [[] for _ in range(count)]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, [Rank(job, rank) for rank in range(count)]))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [22, 5, 1])
def test_over_ranks_is_the_gradient_of_the_whole_batch_on_every_rank(ranks, size, dtype):
    params, state = made(PLAIN, dtype)
    whole = fcnn.gradient(PLAIN, LOSS)
    expected = whole(params, state, KEY, batch(size, dtype))
    found = on_ranks(ranks, lambda comm: parallel.over_ranks(whole, comm)(params, state, KEY, batch(size, dtype)))
    assert all(one == found[0] for one in found)
    # numbers around 1: the same sums over 22 rows in another order, rounded by 1.1e-16 or 6e-8 each time
    exact = 1e-12 if dtype is np.float64 else 1e-6
    assert found[0].loss == pytest.approx(expected.loss, rel=exact, abs=0)
    assert found[0][2:] == (state, expected.correct, size, None, None)
    for path, leaf in tree.flatten(expected.grads).items():
        mine = tree.flatten(found[0].grads)[path]
        np.testing.assert_allclose(mine, leaf, rtol=0, atol=exact, err_msg=path)
        assert (mine.dtype, mine.shape, mine.flags.writeable) == (leaf.dtype, leaf.shape, False)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [22, 5])
@pytest.mark.parametrize("name", WEIGHTED)
def test_over_ranks_a_weighted_mean_is_that_of_the_whole_batch(name, size, ranks, dtype):
    """Of shards too; some ranks have no row that counts, and some no row."""
    params, state = made(PLAIN, dtype)
    whole = fcnn.gradient(PLAIN, WEIGHTED[name])
    rows = weighted_batch(name, size, dtype)
    expected = whole(params, state, KEY, rows)
    exact = 1e-12 if dtype is np.float64 else 3e-6  # as above; gradients are up to 7
    for gradient in (whole, parallel.sharded(whole, 2)):
        found = on_ranks(
            ranks, lambda comm, gradient=gradient: parallel.over_ranks(gradient, comm)(params, state, KEY, rows)
        )
        assert all(one == found[0] for one in found)
        assert_same_mean(found[0], expected, exact)


def test_one_allreduce_a_call_each_rank_with_its_rows_and_its_key():
    params, state = made(PLAIN)
    x, y = batch(8)
    seen = {}

    def step(comm):
        def watched(params, state, key, part):
            seen[comm.rank] = key, part[1].tolist()
            return fcnn.gradient(PLAIN, LOSS)(params, state, key, part)

        gradient = parallel.over_ranks(watched, comm)
        for _ in range(4):
            gradient(params, state, KEY, (x, y))
        return len(comm.job[comm.rank])

    assert on_ranks(3, step) == [4, 4, 4]
    rows = {0: y[:2], 1: y[2:5], 2: y[5:]}
    assert seen == {rank: (fcnn.fold_in(KEY, rank), rows[rank].tolist()) for rank in range(3)}


def test_over_ranks_composes_with_sharded_and_keeps_the_mean_of_the_ghosts():
    params, state = made(NORMED)
    x, y = batch(22)
    gradient = fcnn.gradient(NORMED, LOSS)
    found, _ = on_ranks(
        2, lambda comm: parallel.over_ranks(parallel.sharded(gradient, 9), comm)(params, state, KEY, (x, y))
    )
    parts = [gradient(params, state, KEY, (x[a:b], y[a:b])) for a, b in ((0, 9), (9, 11), (11, 20), (20, 22))]
    for name in ("mean", "var"):
        weights = (9 / 22, 2 / 22, 9 / 22, 2 / 22)
        expected = sum(w * part.layer_state["bn1"][name] for w, part in zip(weights, parts, strict=True))
        np.testing.assert_allclose(found.layer_state["bn1"][name], expected, rtol=1e-14)  # a mean of three or four


def test_over_ranks_counts_nothing_of_a_regression():
    model = fcnn.serial(fcnn.flatten(), fcnn.dense(2))
    x, _ = batch(2)
    params, state = made(model)
    gradient = fcnn.gradient(model, fcnn.mean_squared_error())
    found = on_ranks(3, lambda comm: parallel.over_ranks(gradient, comm)(params, state, KEY, (x, x[:, 0, 0, :2])))
    assert [one.correct for one in found] == [None] * 3


def test_ranks_train_to_the_same_bits():
    optimizer = fcnn.adam(1e-2)
    start = fcnn.init_state(EVERYTHING, optimizer, fcnn.key(0), IMAGE)

    def train(comm):
        gradient = parallel.over_ranks(fcnn.gradient(EVERYTHING, LOSS), comm)
        step = fcnn.train_step(EVERYTHING, LOSS, optimizer, gradient)
        return fcnn.fold(step, start, (batch(9, np.float32, seed) for seed in range(10)))

    first, second, third = on_ranks(3, train)
    assert first == second == third


def test_a_rank_that_does_not_come_ends_the_wait_and_then_the_job(monkeypatch):
    at_exit = []
    monkeypatch.setattr(atexit, "register", lambda *call: at_exit.append(call))
    comm = Rank([[], []], 0)
    params, state = made(PLAIN)
    gradient = parallel.over_ranks(fcnn.gradient(PLAIN, LOSS), comm, timeout=0.05)
    with pytest.raises(parallel.RankError, match=r"^rank 0 waited 0.05 s for the other 1 rank\(s\)"):
        gradient(params, state, KEY, batch())
    assert comm.aborted is None
    [(function, *arguments)] = at_exit
    function(*arguments)
    assert comm.aborted == 1


def test_ranks_with_different_batches_are_told():
    params, state = made(PLAIN)

    def step(comm):
        with pytest.raises(ValueError, match=r"the same batch on every rank: .* 11 rows together, .* has (10|12)"):
            parallel.over_ranks(fcnn.gradient(PLAIN, LOSS), comm)(params, state, KEY, batch(10 + 2 * comm.rank))

    on_ranks(2, step)


def test_sum_over_ranks():
    found = on_ranks(3, lambda comm: parallel.sum_over_ranks(np.array([comm.rank, 1]), comm, timeout=math.inf))
    assert [one.tolist() for one in found] == [[3, 3]] * 3
    with pytest.raises(ValueError, match="read-only"):
        found[0][0] = 1


@pytest.mark.parametrize("several", [parallel.threads, pytest.param(parallel.processes, marks=forks)])
def test_a_map_ends_with_its_block_and_takes_something_to_map_over(several):
    with several(2) as map_fn:
        with pytest.raises(TypeError, match=r"^map_fn takes a function and at least one iterable, as `map` does"):
            map_fn(abs)
        assert list(map_fn(abs, [-1, 2])) == [1, 2]
    with pytest.raises(RuntimeError, match=r"^map_fn maps within the block that it was made for, which has ended"):
        map_fn(abs, [-1, 2])


@pytest.mark.parametrize("several", [parallel.threads, pytest.param(parallel.processes, marks=forks)])
def test_blas_is_held_until_the_last_of_overlapping_blocks_ends(several):
    before = blas_threads()
    first, second = several(2), several(1)
    first.__enter__()
    second.__enter__()  # as another thread does
    first.__exit__(None, None, None)
    held = blas_threads()
    second.__exit__(None, None, None)
    assert set(held) == {1}
    assert blas_threads() == before


def in_reverse(function, items):
    """As the maps of pools that give each result as soon as it is there."""
    return [function(item) for item in reversed(items)]


def test_results_find_their_items_in_whatever_order_a_map_gives_them():
    params, state = made(EVERYTHING)
    whole = fcnn.gradient(EVERYTHING, LOSS)
    expected, found = (parallel.sharded(whole, 5, map_fn)(params, state, KEY, batch()) for map_fn in (map, in_reverse))
    assert found == expected
    expected, found = (
        fcnn.evaluate(EVERYTHING, params, state, batch(), batch_size=5, map_fn=map_fn) for map_fn in (map, in_reverse)
    )
    assert found.outputs.tobytes() == expected.outputs.tobytes()
    assert found.loss == expected.loss


@pytest.mark.parametrize(
    ("map_fn", "message"),
    [
        (
            lambda function, items: [function(items[0])[1]] * len(items),
            "map_fn gives what the function gives, .* gave ",
        ),
        (lambda function, items: [None] * len(items), "map_fn gives what the function gives, .* gave None among the "),
        (lambda function, items: [(0, None)] * len(items), "map_fn gives what the function gives, .* gave .0, None. a"),
        (lambda function, items: [function(items[0])] * len(items), "map_fn gives one .* gave that of one item twice"),
    ],
)
def test_a_map_that_gives_something_else_is_refused(map_fn, message):
    params, state = made(PLAIN)
    with pytest.raises(TypeError, match=message):
        fcnn.evaluate(PLAIN, params, state, batch(), batch_size=5, map_fn=map_fn)
    with pytest.raises(TypeError, match=message):
        parallel.sharded(fcnn.gradient(PLAIN, LOSS), 5, map_fn)(params, state, KEY, batch())
