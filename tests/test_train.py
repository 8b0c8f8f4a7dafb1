"""Training is a fold: pure, resumable at any step to the same bits, and it learns."""

from concurrent.futures import ThreadPoolExecutor

import attrs
import numpy as np
import pytest
from memory import swapped

import fcnn
from fcnn import Record, TrainState, data, parallel, tree

IMAGE = (1, 6, 6)
BATCH = 8


@pytest.fixture(scope="module", autouse=True)
def _one_blas_thread():
    """So that the tests are as fast on cores that others use too."""
    with parallel.threads(1):
        yield


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (36, *IMAGE), dtype=np.uint8)
    return data.Split(x, rng.integers(0, 3, 36))


@pytest.fixture(scope="module")
def digits():
    return data.make_digits(fcnn.key(5), 1500)


NETWORK = fcnn.serial(
    conv1=fcnn.conv2d(4, 3, padding=1),
    bn1=fcnn.batch_norm(),
    relu1=fcnn.relu(),
    pool1=fcnn.max_pool2d(2),
    flatten=fcnn.flatten(),
    drop1=fcnn.dropout(0.3),
    fc1=fcnn.dense(3),
)
LOSS = fcnn.softmax_cross_entropy(0.1)
OPTIMIZERS = {
    "adam": fcnn.chain(fcnn.clip_by_global_norm(1.0), fcnn.adamw(fcnn.cosine(0.01, steps=15))),
    "nesterov": fcnn.sgd(fcnn.linear_warmup(0.05, steps=7), momentum=0.9, nesterov=True, weight_decay=1e-3),
}


def stream(split, start_step=0):
    return fcnn.batches(split, BATCH, fcnn.key(1), epochs=3, start_step=start_step, transform=data.random_shift(1))


def begin(optimizer, dtype=np.float32):
    return fcnn.init_state(NETWORK, optimizer, fcnn.key(0), IMAGE, dtype)


@pytest.fixture(params=OPTIMIZERS)
def optimizer(request):
    return OPTIMIZERS[request.param]


@pytest.fixture
def step(optimizer):
    return fcnn.train_step(NETWORK, LOSS, optimizer)


def test_fold_is_scan_is_a_loop(split, optimizer, step):
    final, records = fcnn.fold(step, begin(optimizer), stream(split))
    scanned = list(fcnn.scan(step, begin(optimizer), stream(split)))
    state, looped = begin(optimizer), []
    for batch in stream(split):
        state, record = step(state, batch)
        looped.append((state, record))
    assert scanned == looped
    assert (final, records) == (state, [record for _, record in looped])
    assert len(records) == 15


def test_fold_over_nothing_is_the_start(optimizer, step):
    start = begin(optimizer)
    assert fcnn.fold(step, start, []) == (start, [])


def test_scan_takes_no_batch_before_it_is_asked(split, optimizer, step):
    taken = []
    pairs = fcnn.scan(step, begin(optimizer), (taken.append(batch) or batch for batch in stream(split)))
    assert not taken
    next(pairs)
    assert len(taken) == 1


def test_a_step_is_pure(split, optimizer, step):
    start, batch = begin(optimizer), next(stream(split))
    before = attrs.evolve(
        start, params=tree.map(np.copy, start.params), layer_state=tree.map(np.copy, start.layer_state)
    )
    x, y = batch.x.copy(), batch.y.copy()
    first = step(start, batch)
    step(first[0], batch)
    assert step(start, batch) == first
    assert start == before
    np.testing.assert_array_equal(batch.x, x)
    np.testing.assert_array_equal(batch.y, y)


def test_a_step_changes_every_part_but_the_key(split, optimizer, step):
    start = begin(optimizer)
    after, _ = step(start, next(stream(split)))
    assert (start.step, after.step, after.key) == (0, 1, start.key)
    for name in ("params", "layer_state", "opt_state"):
        old, new = (tree.flatten(getattr(state, name)) for state in (start, after))
        assert list(old) == list(new)
        assert all(old[path].dtype == new[path].dtype == np.float32 for path in old)
    # A bias before batch norm has no gradient, so conv1/b alone may stay.
    still = [p for p, leaf in tree.flatten(start.params).items() if (leaf == tree.flatten(after.params)[p]).all()]
    assert set(still) <= {"conv1/b"}


def test_records_say_what_the_step_saw(split):
    """Without dropout or batch norm the step's loss is that of a plain forward pass before the update."""
    model = fcnn.serial(fcnn.flatten(), fcnn.dense(3))
    optimizer = fcnn.sgd(0.1)
    state = fcnn.init_state(model, optimizer, fcnn.key(0), IMAGE)
    step = fcnn.train_step(model, fcnn.softmax_cross_entropy(), optimizer)
    sizes = []
    for number, batch in enumerate(fcnn.batches(split, BATCH, fcnn.key(1), epochs=2)):
        logits = model.apply(state.params, state.layer_state, batch.x, train=False).y
        loss, _ = fcnn.softmax_cross_entropy()(logits, batch.y)
        correct = int((logits.argmax(axis=1) == batch.y).sum())
        state, record = step(state, batch)
        assert record == Record(number, loss, correct, len(batch.x))
        assert [type(field) for field in record[:4]] == [int, float, int, int]
        sizes.append(record.size)
    assert sizes == [8, 8, 8, 8, 4] * 2


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_records_of_a_regression_count_nothing_right(dtype):
    model, optimizer = fcnn.dense(1), fcnn.sgd(0.1)
    state = fcnn.init_state(model, optimizer, fcnn.key(0), (2,))
    batch = (np.ones((4, 2), np.float32), np.zeros((4, 1), dtype))
    _, record = fcnn.train_step(model, fcnn.mean_squared_error(), optimizer)(state, batch)
    assert (record.correct, record.size) == (None, 4)


@pytest.mark.parametrize("through_a_file", [False, True], ids=["in memory", "save and load"])
def test_resuming_at_any_step_gives_the_bits_of_never_having_stopped(split, optimizer, step, through_a_file, tmp_path):
    whole = list(fcnn.scan(step, begin(optimizer), stream(split)))
    for stopped in (0, 1, 4, 5, 7, 14, 15):
        state = whole[stopped - 1][0] if stopped else begin(optimizer)
        if through_a_file:
            fcnn.save(tmp_path / "state.npz", state)
            state = fcnn.load(tmp_path / "state.npz", like=begin(optimizer))
        final, records = fcnn.fold(step, state, stream(split, start_step=state.step))
        assert final == whole[-1][0], stopped
        assert records == [record for _, record in whole[stopped:]], stopped


def test_the_key_decides_weights_and_dropout(split):
    optimizer = OPTIMIZERS["adam"]
    one, other = (fcnn.init_state(NETWORK, optimizer, fcnn.key(seed), IMAGE) for seed in (0, 1))
    assert begin(optimizer) == one
    assert one.params != other.params
    step, batch = fcnn.train_step(NETWORK, LOSS, optimizer), next(stream(split))
    rekeyed = attrs.evolve(one, key=other.key)
    assert step(one, batch)[1].loss != step(rekeyed, batch)[1].loss
    later = attrs.evolve(one, step=1)
    assert step(one, batch)[1].loss != step(later, batch)[1].loss, "each step drops other units"


def test_a_state_at_the_start(optimizer):
    state = begin(optimizer)
    assert isinstance(state, TrainState)
    assert state.step == 0
    assert state.opt_state == optimizer.init(state.params)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        state.step = 1


def test_float64_from_end_to_end(split, optimizer, step):
    start = begin(optimizer, np.float64)
    x, y = next(stream(split))
    after, _ = step(start, (x.astype(np.float64), y))
    for part in (after.params, after.layer_state, after.opt_state):
        assert {leaf.dtype for leaf in tree.flatten(part).values()} == {np.dtype(np.float64)}
    assert tree.astype(start.params, np.float32) == begin(optimizer).params


@pytest.mark.parametrize(("ours", "theirs"), [("float32", "float64"), ("float64", "float32")])
def test_a_batch_of_another_dtype_is_refused(split, optimizer, step, ours, theirs):
    x, y = next(stream(split))
    message = f"conv1/w is {ours}, the batch's x is {theirs}; cast x with x.astype\\(np.{ours}\\)"
    with pytest.raises(ValueError, match=message):
        step(begin(optimizer, ours), (x.astype(theirs), y))


def test_evaluation_depends_on_neither_batch_size_nor_map(split, optimizer, step):
    state, _ = fcnn.fold(step, begin(optimizer), stream(split))
    whole = fcnn.evaluate(NETWORK, state.params, state.layer_state, split)
    with ThreadPoolExecutor(3) as pool:
        others = [
            fcnn.evaluate(NETWORK, state.params, state.layer_state, split, batch_size=size, map_fn=map_fn)
            for size in (1, 5, 36, 37)
            for map_fn in (map, pool.map)
        ]
    for other in others:
        np.testing.assert_array_equal(other.predictions, whole.predictions)
        # float32, rounded by 6e-8: for batches of another size BLAS adds in another order
        np.testing.assert_allclose(other.outputs, whole.outputs, rtol=1e-5, atol=1e-6)
        assert other.loss == pytest.approx(whole.loss, rel=1e-6, abs=0)
        assert other.accuracy == whole.accuracy


def test_evaluation_is_the_forward_pass_in_evaluation_mode(split, optimizer):
    state = begin(optimizer)
    found = fcnn.evaluate(NETWORK, state.params, state.layer_state, split)
    x = (split.x / 255.0).astype(np.float32)
    logits = NETWORK.apply(state.params, state.layer_state, x, train=False).y
    # as above: other batches
    np.testing.assert_allclose(found.outputs, logits, rtol=1e-5, atol=1e-6)
    assert found.loss == pytest.approx(fcnn.softmax_cross_entropy()(logits, split.y)[0], rel=1e-6, abs=0)
    assert found.accuracy == np.mean(logits.argmax(axis=1) == split.y)
    assert (found.predictions.dtype, found.predictions.flags.writeable) == (np.int64, False)
    assert fcnn.evaluate(NETWORK, state.params, state.layer_state, split, loss=lambda o, t: (42.0, o)).loss == 42.0


def test_evaluation_in_float64(split, optimizer):
    state = begin(optimizer, np.float64)
    assert fcnn.evaluate(NETWORK, state.params, state.layer_state, split).outputs.dtype == np.float64


def test_learns_the_embedded_digits(digits):
    model, optimizer = fcnn.lenet5(), fcnn.adam(2e-3)
    train, test = digits.take(1000), digits.take(list(range(1000, 1500)))
    state = fcnn.init_state(model, optimizer, fcnn.key(0), (1, 28, 28))
    step = fcnn.train_step(model, fcnn.softmax_cross_entropy(), optimizer)
    final, records = fcnn.fold(step, state, fcnn.batches(train, 50, fcnn.key(1), epochs=6))
    assert fcnn.evaluate(model, final.params, final.layer_state, test).accuracy > 0.85
    assert np.mean([r.loss for r in records[-20:]]) < np.mean([r.loss for r in records[:20]]) / 3


# Section 2a of the design, letter for letter.
EXAMPLE = """
import fcnn

lenet = fcnn.serial(
    conv1=fcnn.conv2d(6, 5, padding=2), relu1=fcnn.relu(), pool1=fcnn.max_pool2d(2),
    conv2=fcnn.conv2d(16, 5), relu2=fcnn.relu(), pool2=fcnn.max_pool2d(2),
    flatten=fcnn.flatten(),
    fc1=fcnn.dense(120), relu3=fcnn.relu(), fc2=fcnn.dense(84), relu4=fcnn.relu(), fc3=fcnn.dense(10),
)
mnist = fcnn.data.load("mnist")                                  # mnist.train.x: uint8 (60000, 1, 28, 28); .y: int64
optimizer = fcnn.adam(1e-3)
step = fcnn.train_step(lenet, fcnn.softmax_cross_entropy(), optimizer)
start = fcnn.init_state(lenet, optimizer, fcnn.key(0), (1, 28, 28))
stream = fcnn.batches(mnist.train, 128, fcnn.key(1), epochs=5)   # pure: batch k is always batch k; start_step=n skips ahead
final, records = fcnn.fold(step, start, stream)                  # fcnn.scan is the same fold, yielding (state, record) as it goes
result = fcnn.evaluate(lenet, final.params, final.layer_state, mnist.test)     # .loss, .accuracy, .predictions
fcnn.save("lenet.npz", final.params)
params = fcnn.load("lenet.npz", like=start.params)
"""  # noqa: E501


def test_the_example_of_the_design_runs_as_it_stands(digits, tmp_path, monkeypatch):
    small = data.Dataset(digits.take(300), digits.take(50), "mnist")
    monkeypatch.setattr(fcnn.data, "load", lambda name: {"mnist": small}[name])
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(EXAMPLE, names)
    assert names["params"] == names["final"].params
    assert len(names["records"]) == 15
    assert names["result"].predictions.shape == (50,)
    assert names["lenet"].children.keys() == fcnn.lenet5().children.keys()
    assert [path.name for path in tmp_path.iterdir()] == ["lenet.npz"]


def test_any_byte_order_gives_the_same_bits(split, optimizer, step):
    x, y = next(stream(split))
    assert step(begin(optimizer), (swapped(x), swapped(y))) == step(begin(optimizer), (x, y))
    floats = split.x / np.float32(255)
    for ours, theirs in ((split.x, split.y), (floats, split.y), (floats, np.linspace(0, 1, 36))):
        one, other = data.Split(ours, theirs), data.Split(swapped(ours), swapped(theirs))
        assert (other.x.tobytes(), other.y.tobytes()) == (one.x.tobytes(), one.y.tobytes())
        assert other.x.dtype.isnative
        assert other.y.dtype.isnative
        for part, expected in zip(
            data.as_batch(swapped(ours), swapped(theirs)), data.as_batch(ours, theirs), strict=True
        ):
            np.testing.assert_array_equal(part, expected)
    state = begin(optimizer)
    whole = fcnn.evaluate(NETWORK, state.params, state.layer_state, split)
    again = fcnn.evaluate(NETWORK, state.params, state.layer_state, (swapped(floats), swapped(split.y)))
    assert (again.loss, again.accuracy) == (whole.loss, whole.accuracy)


def test_a_pair_of_arrays_is_evaluated_as_a_split(split, optimizer):
    state = begin(optimizer)
    values = NETWORK, state.params, state.layer_state
    pair, whole = fcnn.evaluate(*values, (split.x, split.y)), fcnn.evaluate(*values, split)
    assert (pair.loss, pair.accuracy) == (whole.loss, whole.accuracy)
    np.testing.assert_array_equal(pair.outputs, whole.outputs)


@pytest.mark.parametrize("change", ["one leaf", "all leaves"])
@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64])
def test_a_gradient_of_another_dtype_is_refused(split, dtype, change):
    """It would make the parameters float64, and with Adam, whose eps float16 can't hold, no numbers."""
    optimizer, plain = fcnn.adam(1e-3), fcnn.gradient(NETWORK, fcnn.softmax_cross_entropy())
    first = next(path for path, _ in tree.leaves(begin(optimizer).params))

    def gradient(*arguments):
        found = plain(*arguments)
        leaves = {
            path: leaf.astype(dtype) if change == "all leaves" or path == first else leaf
            for path, leaf in tree.leaves(found.grads)
        }
        return found._replace(grads=tree.unflatten(leaves))

    step = fcnn.train_step(NETWORK, fcnn.softmax_cross_entropy(), optimizer, gradient)
    with pytest.raises(TypeError) as error:
        step(begin(optimizer), next(stream(split)))
    assert str(error.value) == (f"gradients are of float32, as the parameters are, got {first} as {np.dtype(dtype)}")


def test_a_loss_of_ones_own_leaves_the_parameters_their_dtype(split):
    """One that computes in float64, as with targets of a split, where numbers are float64."""

    def loss(outputs, targets):
        difference = outputs[:, 0] - targets
        d_outputs = np.zeros(outputs.shape)
        d_outputs[:, 0] = 2 * difference / len(difference)
        return np.array([(difference**2).mean()]), d_outputs

    optimizer = fcnn.adam(1e-3)
    step = fcnn.train_step(NETWORK, loss, optimizer)
    state, record = step(begin(optimizer), (next(stream(split)).x, np.linspace(0, 1, BATCH)))
    assert {leaf.dtype for _, leaf in tree.leaves(state.params)} == {np.dtype(np.float32)}
    assert type(record.loss) is float
    step(state, (next(stream(split)).x, np.linspace(0, 1, BATCH)))


def test_a_rate_may_be_what_numpy_gives(split):
    batch = next(stream(split))
    plain, other = (
        fcnn.train_step(NETWORK, LOSS, fcnn.sgd(rate))(begin(fcnn.sgd(0.1)), batch)[0].params
        for rate in (0.1, lambda step: np.where(step < 5, 0.1, 0.01))
    )
    assert plain == other


def test_a_metric_may_give_any_number(split, optimizer):
    state = begin(optimizer)
    values = [True, 2, np.float32(0.5), np.array([0.25]), np.nan]
    metrics = [lambda outputs, targets, value=value: value for value in values]
    found = fcnn.evaluate(NETWORK, state.params, state.layer_state, split, metrics=metrics).metrics
    np.testing.assert_array_equal(list(found.values()), [1.0, 2.0, 0.5, 0.25, np.nan])
    assert {type(value) for value in found.values()} == {float}


def test_what_a_network_needs_of_its_input_is_part_of_it(split, tmp_path):
    """Evaluation, prediction and the file see the same normalised images as training does."""
    plain = fcnn.serial(flatten=fcnn.flatten(), fc=fcnn.dense(3))
    network = fcnn.serial(norm=fcnn.normalize(0.3, 0.2), rest=plain)
    made = network.init(fcnn.key(0), IMAGE)
    x = ((split.x / 255.0 - 0.3) / 0.2).astype(np.float32)
    expected = fcnn.evaluate(plain, made.params["rest"], made.state, (x, split.y))
    found = fcnn.evaluate(network, made.params, made.state, split)
    model = fcnn.Model(network, made.params, made.state, in_shape=IMAGE)
    fcnn.save_model(tmp_path / "m.npz", model)
    seen = [
        found.outputs,
        *(fcnn.predict(one, split.x).outputs for one in (model, fcnn.load_model(tmp_path / "m.npz"))),
    ]
    for outputs in seen:
        # float32, rounded by 6e-8: pixels up to 3.5, and sums of 36 products
        np.testing.assert_allclose(outputs, expected.outputs, rtol=0, atol=1e-5)
    assert found.accuracy == expected.accuracy
    assert not np.allclose(
        found.outputs, fcnn.evaluate(plain, made.params["rest"], made.state, split).outputs, atol=0.1
    )
