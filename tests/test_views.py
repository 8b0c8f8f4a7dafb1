"""`averaged_views` is the mean that its docstring writes, wherever networks are used; and the views by hand."""

import numpy as np
import pytest

import fcnn
from fcnn import averaged_views, freeze, identity, mirror, shift
from fcnn.values.tree import astype, flatten

KEY = fcnn.key(0)
NET = fcnn.serial(
    conv=fcnn.conv2d(4, 3), bn=fcnn.batch_norm(), act=fcnn.relu(), pool=fcnn.max_pool2d(2), flat=fcnn.flatten(),
    drop=fcnn.dropout(0.3), out=fcnn.dense(3),
)  # fmt: skip
BOTH = averaged_views(NET, identity(), mirror())
SIX = averaged_views(BOTH, identity(), shift(1, 1), shift(-1, -1), weights=(0.5, 0.25, 0.25))
MADE = NET.init(KEY, (2, 8, 8))
STATE = freeze({"bn": {"mean": np.full(4, 0.1, np.float32), "var": np.full(4, 0.7, np.float32)}})
X = fcnn.generator(KEY).standard_normal((70, 2, 8, 8)).astype(np.float32)


def within(values, depth):
    for _ in range(depth):
        values = freeze({"network": values})
    return values


def plain(x):
    return NET.apply(MADE.params, STATE, x, train=False).y


def six_by_hand(x):
    """Airbench's, written with NumPy's own padding and slices."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    places = [x, padded[:, :, :-2, :-2], padded[:, :, 2:, 2:]]
    logits = [0.5 * plain(place) + 0.5 * plain(place[..., ::-1]) for place in places]
    return 0.5 * logits[0] + 0.25 * logits[1] + 0.25 * logits[2]


def test_the_views_by_hand():
    x = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    np.testing.assert_array_equal(fcnn.ops.mirror(x)[0][0, 0], [[3, 2, 1, 0], [7, 6, 5, 4], [11, 10, 9, 8]])
    np.testing.assert_array_equal(fcnn.ops.shift(x, 1, -2)[0][0, 0], [[6, 7, 6, 5], [2, 3, 2, 1], [6, 7, 6, 5]])
    np.testing.assert_array_equal(
        fcnn.ops.shift(x, -1, 1, mode="zero")[0][0, 0], [[0, 4, 5, 6], [0, 8, 9, 10], [0, 0, 0, 0]]
    )
    dy = np.ones((1, 1, 3, 4))  # how often a pixel is seen
    _, plan = fcnn.ops.shift(x.astype(np.float64), 1, -2)
    np.testing.assert_array_equal(fcnn.ops.shift_backward(dy, plan)[0, 0], [[0, 1, 2, 1], [0, 2, 4, 2], [0, 0, 0, 0]])


@pytest.mark.parametrize("by", [(0, 0), (2, 0), (-2, 3), (1, -1), (-4, -4)])
@pytest.mark.parametrize(("mode", "pad_mode"), [("reflect", "reflect"), ("zero", "constant")])
def test_a_shift_is_a_crop_of_the_padded_images(by, mode, pad_mode):
    x = np.random.default_rng(0).standard_normal((3, 2, 5, 5))
    padded = np.pad(x, ((0, 0), (0, 0), (4, 4), (4, 4)), mode=pad_mode)
    crop = padded[:, :, 4 - by[0] : 9 - by[0], 4 - by[1] : 9 - by[1]]
    np.testing.assert_array_equal(fcnn.ops.shift(x, *by, mode=mode)[0], crop)


def test_a_random_shift_moves_as_a_shift_does():
    x = np.random.default_rng(0).random((40, 1, 4, 5)).astype(np.float32)
    for mode in ("reflect", "zero"):
        moved = fcnn.data.random_shift(2, mode)(KEY, fcnn.Batch(x, np.zeros(40, np.int64))).x
        down, right = fcnn.generator(KEY).integers(-2, 3, (2, 40))
        for image, found, *by in zip(x[:, None], moved, down, right, strict=True):
            np.testing.assert_array_equal(fcnn.ops.shift(image, *by, mode=mode)[0][0], found)


def test_evaluation_is_the_weighted_mean_and_training_the_network_alone():
    params, state = within(MADE.params, 2), within(STATE, 2)
    found = SIX.apply(params, state, X, train=False)
    # logits about 1 in float32, six of them added in another order
    np.testing.assert_allclose(found.y, six_by_hand(X), rtol=0, atol=1e-6)
    assert found.state == state
    trained = SIX.apply(params, state, X, train=True, key=KEY)
    inner = fcnn.fold_in(fcnn.fold_in(KEY, "network"), "network")
    alone = NET.apply(MADE.params, STATE, X, train=True, key=inner)
    assert trained.y.tobytes() == alone.y.tobytes()
    assert trained.state == within(alone.state, 2)
    grads, expected = SIX.backward(params, trained.cache, trained.y), NET.backward(MADE.params, alone.cache, alone.y)
    assert grads.params == within(expected.params, 2)
    assert grads.dx.tobytes() == expected.dx.tobytes()


def test_weights_count_by_their_share():
    x, params = X[:5], within(MADE.params, 1)
    same = [
        averaged_views(NET, a=identity(), b=mirror(), weights=weights).apply(params, within(STATE, 1), x, train=False).y
        for weights in ((3, 1), [0.75, 0.25], (np.float32(6), 2))
    ]
    np.testing.assert_array_equal(same[0], np.float32(0.75) * plain(x) + np.float32(0.25) * plain(x[..., ::-1]))
    assert same[0].tobytes() == same[1].tobytes() == same[2].tobytes()
    one = averaged_views(NET, identity(), mirror(), weights=(1, 0)).apply(params, within(STATE, 1), x, train=False).y
    np.testing.assert_array_equal(one, plain(x))


def test_everything_that_runs_networks_runs_it(tmp_path):
    model = fcnn.Model(SIX, within(MADE.params, 2), within(STATE, 2), in_shape=(2, 8, 8), classes=("a", "b", "c"))
    expected, y = six_by_hand(X), np.arange(70) % 3
    accuracy = float((expected.argmax(axis=1) == y).mean())
    for fuse in (True, False):
        found = fcnn.evaluate(SIX, model.params, model.state, (X, y), fuse=fuse)
        np.testing.assert_allclose(found.outputs, expected, rtol=0, atol=1e-6)
        assert found.accuracy == accuracy
    np.testing.assert_allclose(fcnn.predict(model, X).outputs, expected, rtol=0, atol=1e-6)
    one = fcnn.predictor(SIX, model.params, model.state)
    np.testing.assert_allclose(np.concatenate([one(x[None]) for x in X]), expected, rtol=0, atol=1e-6)
    fcnn.save_model(tmp_path / "six.npz", model)
    again = fcnn.load_model(tmp_path / "six.npz")
    assert repr(again.network) == repr(SIX)
    assert fcnn.predict(again, X).outputs.tobytes() == fcnn.predict(model, X).outputs.tobytes()
    with pytest.raises(fcnn.LayerError, match=r"^network/network/out: "):
        fcnn.evaluate(
            SIX, within(fcnn.tree.set_at(MADE.params, "out/w", np.ones((3, 5), np.float32)), 2), model.state, (X, y)
        )


def test_a_network_without_state_gets_views():
    net = fcnn.serial(flat=fcnn.flatten(), out=fcnn.dense(3))
    made = net.init(KEY, (2, 8, 8))
    model = fcnn.Model(averaged_views(net, mirror()), within(made.params, 1), within(made.state, 1), in_shape=(2, 8, 8))
    alone = fcnn.Model(net, made.params, in_shape=(2, 8, 8))
    assert fcnn.predict(model, X).outputs.tobytes() == fcnn.predict(alone, X[..., ::-1]).outputs.tobytes()


def test_fit_trains_the_network_and_evaluates_the_views():
    rng = np.random.default_rng(0)
    data = fcnn.Dataset(
        fcnn.Split(rng.integers(0, 256, (96, 2, 8, 8), dtype=np.uint8), np.arange(96) % 3),
        fcnn.Split(rng.integers(0, 256, (48, 2, 8, 8), dtype=np.uint8), np.arange(48) % 3),
    )
    net = fcnn.serial(conv=fcnn.conv2d(4, 3), act=fcnn.relu(), flat=fcnn.flatten(), out=fcnn.dense(3))
    made = net.init(KEY, (2, 8, 8))
    options = {"epochs": 2, "batch_size": 32, "workers": 1, "progress": False, "transform": fcnn.data.random_shift(1)}
    seen = averaged_views(net, identity(), shift(1, 0))
    alone = fcnn.fit(net, data, start=fcnn.Model(net, made.params, in_shape=(2, 8, 8)), **options)
    found = fcnn.fit(seen, data, start=fcnn.Model(seen, within(made.params, 1), in_shape=(2, 8, 8)), **options)
    assert found.state.params == within(alone.state.params, 1)
    assert [item["train_loss"] for item in found.history] == [item["train_loss"] for item in alone.history]
    expected = fcnn.evaluate(seen, found.state.params, found.state.layer_state, data.test)
    assert found.history[-1]["validation_loss"] == expected.loss
    assert expected.loss != alone.history[-1]["validation_loss"]


def test_what_changes_networks_changes_it():
    params, state = within(MADE.params, 1), within(STATE, 1)
    out = BOTH.apply(params, state, X, train=False)
    for changed in (
        fcnn.fuse(BOTH),
        fcnn.without_caches(BOTH),
        fcnn.checked(BOTH),
        fcnn.rewrite(BOTH, lambda _, one: one),
    ):
        assert changed.apply(params, state, X, train=False).y.tobytes() == out.y.tobytes()
        assert repr(changed) == repr(BOTH)
    held = fcnn.hold(BOTH, "network/*")
    for train in (True, False):
        out = held.apply(params, state, X, train=train, key=KEY)
        for need_dx in (True, False):
            grads = held.backward(params, out.cache, out.y, need_dx=need_dx)
            assert (grads.dx is None) != need_dx
            assert not any(leaf.any() for leaf in flatten(grads.params).values())
    doubled = fcnn.gradcheck(BOTH, (2, 6, 6), train=False)
    assert doubled.ok


def test_float64_stays_float64():
    params, state = (astype(values, np.float64) for values in (within(MADE.params, 2), within(STATE, 2)))
    out = SIX.apply(params, state, X.astype(np.float64), train=False)
    grads = SIX.backward(params, out.cache, out.y)
    assert {out.y.dtype, grads.dx.dtype, *(leaf.dtype for leaf in flatten(grads.params).values())} == {
        np.dtype(np.float64)
    }
