"""`predictor`: what its plans and buffers must not change, and what it refuses as the network does."""

import numpy as np
import pytest

import fcnn
from fcnn.network.layer import Layer, LayerError

KEY = fcnn.key(0)
NET = fcnn.serial(
    conv1=fcnn.conv2d(4, 3), relu1=fcnn.relu(), flatten=fcnn.flatten(), body=fcnn.serial(fc=fcnn.dense(3))
)
MADE = NET.init(KEY, (2, 6, 6))
X = np.random.default_rng(0).standard_normal((3, 2, 6, 6))


def test_the_other_float_dtype_is_computed_as_the_network_does_whatever_came_before() -> None:
    predict = fcnn.predictor(NET, MADE.params)
    predict(X.astype(np.float32))
    wanted = NET.apply(MADE.params, MADE.state, X, train=False).y
    assert predict(X).dtype == wanted.dtype == np.float64
    np.testing.assert_array_equal(predict(X), wanted)


WRONG = {
    "array for a group": {"relu1": np.ones(3, np.float32)},
    "array for flatten": {"flatten": np.ones(3, np.float32)},
    "array for a serial": {"body": np.ones(3, np.float32)},
    "unknown": {"zzz": {"w": np.ones(3, np.float32)}},
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("in_state", [False, True])
def test_values_in_the_wrong_place_are_told_as_the_network_tells_them(wrong: str, in_state: bool) -> None:
    if in_state and wrong == "unknown":
        pytest.skip("no layer minds what else is in a state")
    values = fcnn.freeze({**(MADE.state if in_state else MADE.params), **WRONG[wrong]})
    params, state = (MADE.params, values) if in_state else (values, MADE.state)
    x = X.astype(np.float32)
    with pytest.raises(LayerError) as of_network:
        NET.apply(params, state, x, train=False)
    with pytest.raises(LayerError) as of_predictor:
        fcnn.predictor(NET, params, state)(x)
    with pytest.raises(LayerError) as of_fused:
        fcnn.fuse(NET).apply(params, state, x, train=True, key=KEY)
    assert str(of_predictor.value) == str(of_fused.value) == str(of_network.value)


def test_what_a_layer_keeps_of_its_input_never_changes() -> None:
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def apply(params, state, x, /, *, train, key=None):  # type: ignore[no-untyped-def]
        seen.append((x, x.copy()))
        return inner.apply(params, state, x, train=train, key=key)

    inner = fcnn.tanh()
    spy = Layer("spy", {}, {}, lambda: spy, inner.init, apply, inner.backward)
    network = fcnn.serial(conv=fcnn.conv2d(4, 3), spy=spy)
    predict = fcnn.predictor(network, network.init(KEY, (2, 6, 6)).params)
    for scale in (1, 2):
        predict((scale * X).astype(np.float32))
    for kept, then in seen:
        assert not kept.flags.writeable
        np.testing.assert_array_equal(kept, then)


@pytest.mark.parametrize("merge", ["sum", "concat", "multiply"])
def test_children_are_merged_as_the_network_merges_them(merge: str) -> None:
    gate = fcnn.serial(pool=fcnn.adaptive_avg_pool2d(1 if merge == "multiply" else 4), conv=fcnn.conv2d(4, 1))
    network = fcnn.branch(merge=merge, maps=fcnn.serial(fcnn.conv2d(4, 3), fcnn.relu()), gate=gate)
    made = network.init(KEY, (2, 6, 6))
    params = fcnn.tree.astype(made.params, np.float64)
    predict = fcnn.predictor(network, params)
    for x in (X, 2 * X):
        np.testing.assert_allclose(predict(x), network.apply(params, made.state, x, train=False).y, rtol=0, atol=1e-14)


def test_a_product_that_numpy_would_broadcast_is_refused_as_the_network_does() -> None:
    network = fcnn.branch(merge="multiply", a=fcnn.identity(), b=fcnn.flatten())
    with pytest.raises(LayerError, match=r"but for lengths of 1, got a \(2, 2, 1, 1\), b \(2, 2\); put reshape"):
        fcnn.predictor(network, fcnn.freeze({}))(np.ones((2, 2, 1, 1)))
