"""Names, errors and trees of `serial`, `residual` and `branch`; what every layer promises is in `test_layers.py`."""

import json
import pickle
import re

import numpy as np
import pytest

import fcnn
from fcnn import (
    Functions,
    Grads,
    Init,
    Layer,
    LayerError,
    Out,
    batch_norm,
    branch,
    conv2d,
    dense,
    dropout,
    flatten,
    global_avg_pool1d,
    global_avg_pool2d,
    identity,
    layer_constructor,
    relu,
    residual,
    serial,
    sigmoid,
)
from fcnn.values.tree import EMPTY, freeze, set_at

KEY = fcnn.key(0)


@layer_constructor
def scale(factor: float, log: list[bool] | None = None) -> Functions:
    """y = factor * s * x with a parameter s (1,); `log` gets the need_dx of every backward."""

    def init(key, in_shape):
        return Init(freeze({"s": np.ones(1, np.float32)}), EMPTY, in_shape)

    def apply(params, state, x, *, train, key=None):
        return Out(factor * params["s"] * x, EMPTY, x.copy())

    def backward(params, cache, dy, *, need_dx=True):
        if log is not None:
            log.append(need_dx)
        ds = np.reshape(factor * (dy * cache).sum(), 1)
        return Grads(factor * params["s"] * dy if need_dx else None, freeze({"s": ds}))

    return Functions(init, apply, backward)


@layer_constructor
def spy(log: list[bool]) -> Functions:
    """The identity, without parameters; `log` gets the need_dx of every backward."""

    def init(key, in_shape):
        return Init(EMPTY, EMPTY, in_shape)

    def apply(params, state, x, *, train, key=None):
        return Out(x, EMPTY, None)

    def backward(params, cache, dy, *, need_dx=True):
        log.append(need_dx)
        return Grads(dy if need_dx else None, EMPTY)

    return Functions(init, apply, backward)


def run(layer: Layer, x: np.ndarray, need_dx: bool = True) -> tuple[Out, Grads]:
    made = layer.init(KEY, x.shape[1:])
    out = layer.apply(made.params, made.state, x, train=True, key=KEY)
    return out, layer.backward(made.params, out.cache, np.ones_like(out.y), need_dx=need_dx)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_positional_layers_are_named_by_kind_and_ordinal() -> None:
    net = serial(conv2d(2, 3), relu(), conv2d(2, 3), serial(flatten(), dense(3)), head=dense(2))
    assert list(net.children) == ["conv2d1", "relu1", "conv2d2", "serial1", "head"]
    assert list(net.init(KEY, (1, 7, 7)).params) == ["conv2d1", "conv2d2", "serial1", "head"]
    assert list(branch(relu(), relu(), merge="sum").children) == ["relu1", "relu2"]


def dense_of_means(units):
    return serial(mean=global_avg_pool2d(), fc=dense(units))


WRONG_SHAPES = [
    (
        serial(flat=flatten(), res1=residual(serial(conv1=conv2d(16, 5)))),
        (16, 5, 5),
        "res1/body/conv1: conv2d(16, 5) expects (C, H, W), got (400,); put it before flatten",
    ),
    (serial(a=serial(fc=dense(3))), (2, 4, 4), "a/fc: dense(3) expects (D,), got (2, 4, 4); put flatten() before it"),
    (
        residual(conv2d(3, 3)),
        (3, 5, 5),
        "residual expects children of the same shape, got body (3, 3, 3), shortcut (3, 5, 5)",
    ),
    (
        serial(mix=branch(merge="concat", a=conv2d(2, 1), b=conv2d(2, 3))),
        (1, 5, 5),
        "mix: branch expects children of the same shape after the first axis, got a (2, 5, 5), b (2, 3, 3)",
    ),
    (
        branch(merge="sum", a=dense(2), b=dense(3)),
        (4,),
        "branch expects children of the same shape, got a (2,), b (3,)",
    ),
    (
        branch(merge="multiply", a=conv2d(2, 1), b=conv2d(2, 1, stride=2)),
        (1, 3, 3),
        "branch expects children of the same shape, but for lengths of 1, got a (2, 3, 3), b (2, 2, 2)",
    ),
    (
        branch(merge="multiply", a=identity(), b=flatten()),  # which NumPy would broadcast
        (1, 1, 4),
        "branch expects children of the same shape, but for lengths of 1, got a (1, 1, 4), b (4,)",
    ),
    (
        serial(se=branch(identity(), serial(global_avg_pool2d(), dense(3), sigmoid()), merge="multiply")),
        (3, 5, 5),
        "se: branch expects children of the same shape, but for lengths of 1, got identity1 (3, 5, 5), serial1 (3,); "
        "put reshape((3, 1, 1)) after serial1 to scale channels by it",
    ),
    (
        branch(merge="multiply", x=identity(), a=global_avg_pool1d(), b=global_avg_pool1d()),
        (3, 5),
        "branch expects children of the same shape, but for lengths of 1, got x (3, 5), a (3,), b (3,); "
        "put reshape((3, 1)) after a and b to scale channels by it",
    ),
    (
        branch(merge="multiply", x=identity(), a=global_avg_pool2d(), b=dense_of_means(2)),
        (3, 5, 5),
        "branch expects children of the same shape, but for lengths of 1, got x (3, 5, 5), a (3,), b (2,)",
    ),
    (branch(merge="concat", a=flatten(), b=identity()), (1, 2, 2), "branch expects children of the same shape after"),
    (
        residual(serial(c=conv2d(1, 9))),
        (1, 4, 4),
        "body/c: a window of 9x9 does not fit into 4x4 with padding (0, 0) x (0, 0); use a smaller window",
    ),
    (
        serial(pool=fcnn.max_pool2d(2, padding=2)),
        (1, 4, 4),
        "pool: max_pool2d: padding 2 leaves windows of 2x2 that hold no pixel",
    ),
]


@pytest.mark.parametrize(("layer", "in_shape", "message"), WRONG_SHAPES, ids=[row[2] for row in WRONG_SHAPES])
def test_shapes_are_refused_at_init_with_the_path(layer: Layer, in_shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(LayerError, match="^" + re.escape(message)):
        layer.init(KEY, in_shape)
    with pytest.raises(LayerError, match="^" + re.escape(message)):
        fcnn.summary(layer, in_shape)


def test_errors_in_apply_and_backward_have_the_path() -> None:
    net = serial(a=residual(serial(fc=dense(3))))
    params = net.init(KEY, (3,)).params
    with pytest.raises(LayerError, match=r"^a/body/fc: dense expects x \(N, D\) and w \(F, D\) with the same D"):
        net.apply(params, EMPTY, np.ones((2, 4), np.float32), train=False)
    out = net.apply(params, EMPTY, np.ones((2, 3), np.float32), train=False)
    with pytest.raises(LayerError, match=r"^a: residual's backward expects dy of the output's shape \(2, 3\), got"):
        net.backward(params, out.cache, np.ones((5, 3), np.float32))
    deep = serial(a=serial(body=serial(fc=dense(3))))
    out = deep.apply(params, EMPTY, np.ones((2, 3), np.float32), train=False)
    with pytest.raises(LayerError, match=r"^a/body/fc: dense_backward expects dy of the output's shape") as error:
        deep.backward(params, out.cache, np.ones((5, 3), np.float32))
    assert error.value.path == "a/body/fc"
    assert isinstance(error.value.__cause__, ValueError)
    again = pickle.loads(pickle.dumps(error.value))
    assert (str(again), again.path) == (str(error.value), error.value.path)


def test_missing_and_unknown_parameters_are_refused() -> None:
    net = serial(a=serial(fc=dense(3)), b=relu())
    params, x = net.init(KEY, (3,)).params, np.ones((2, 3), np.float32)
    with pytest.raises(LayerError, match=r"^a/fc: the parameters have nothing, the layer has w, b"):
        net.apply(EMPTY, EMPTY, x, train=False)
    with pytest.raises(LayerError, match=r"^a/fc: the parameters have w, the layer has w, b"):
        net.apply(freeze({"a": {"fc": {"w": params["a"]["fc"]["w"]}}}), EMPTY, x, train=False)
    with pytest.raises(LayerError, match=r"^the parameters have fc9, but the network has a, b"):
        net.apply(freeze({**params, "fc9": params["a"]}), EMPTY, x, train=False)
    with pytest.raises(LayerError, match=r"^a: the parameters have old, but the network has fc"):
        net.apply(set_at(params, "a", {**params["a"], "old": params["a"]["fc"]}), EMPTY, x, train=False)
    with pytest.raises(LayerError, match=r"^the parameters have c1, c2, c3, c4, but the network has a, b"):
        net.apply(freeze({**params, **{f"c{i}": params["a"] for i in (1, 2, 3, 4)}}), EMPTY, x, train=False)
    with pytest.raises(LayerError, match=r"^b: no 'mean' in this tree; it has nothing"):
        serial(b=batch_norm()).apply(serial(b=batch_norm()).init(KEY, (3,)).params, EMPTY, x, train=True)


def test_parameters_that_a_layer_does_not_have_are_refused() -> None:
    net, x = serial(fc=dense(3, bias=False)), np.ones((2, 3))
    with pytest.raises(LayerError, match=r"^fc: the parameters have w, b, the layer has w"):
        net.apply(freeze({"fc": {"w": np.ones((3, 3)), "b": np.ones(3)}}), EMPTY, x, train=False)


def test_children_without_parameters_or_state_take_no_place() -> None:
    net = serial(r=relu(), bn=batch_norm(), drop=dropout(0.5), inner=serial(a=relu(), b=identity()), fc=dense(2))
    made = net.init(KEY, (3,))
    assert (list(made.params), list(made.state)) == (["bn", "fc"], ["bn"])
    out, grads = run(net, images(4, 3))
    assert (list(grads.params), list(out.state)) == (["bn", "fc"], ["bn"])


def test_serial_is_composition() -> None:
    a, b = dense(4), dense(2)
    net = serial(a=a, act=relu(), b=b)
    params, x, dy = net.init(KEY, (3,)).params, images(5, 3), images(5, 2)
    out = net.apply(params, EMPTY, x, train=True)
    grads = net.backward(params, out.cache, dy)
    hidden = a.apply(params["a"], EMPTY, x, train=True)
    active = relu().apply(EMPTY, EMPTY, hidden.y, train=True)
    last = b.apply(params["b"], EMPTY, active.y, train=True)
    np.testing.assert_array_equal(out.y, last.y)
    db = b.backward(params["b"], last.cache, dy)
    da = a.backward(params["a"], hidden.cache, relu().backward(EMPTY, active.cache, db.dx).dx)
    np.testing.assert_array_equal(grads.dx, da.dx)
    assert grads.params == freeze({"a": da.params, "b": db.params})


def test_residual_adds_and_branch_merges() -> None:
    x = images(2, 3, 4, 4)
    double = residual(identity())
    out, grads = run(double, x)
    np.testing.assert_array_equal(out.y, 2 * x)
    np.testing.assert_array_equal(grads.dx, np.full_like(x, 2))
    both = branch(merge="concat", a=scale(2.0), b=identity(), c=scale(3.0))
    assert both.init(KEY, (3, 4, 4)).out_shape == (9, 4, 4)
    out, _ = run(both, x)
    np.testing.assert_array_equal(out.y, np.concatenate([2 * x, x, 3 * x], axis=1))
    dy = np.concatenate([np.full_like(x, factor) for factor in (1, 10, 100)], axis=1)
    params = both.init(KEY, (3, 4, 4)).params
    np.testing.assert_array_equal(both.backward(params, out.cache, dy).dx, np.full_like(x, 2 * 1 + 10 + 3 * 100))
    assert list(params) == ["a", "c"]


def test_dropouts_of_a_network_are_independent() -> None:
    net = branch(merge="concat", a=dropout(0.5), b=serial(dropout(0.5), dropout(0.0)))
    y = run(net, np.ones((20, 50), np.float32))[0].y
    assert 0.4 < (y[:, :50] == y[:, 50:]).mean() < 0.6


@pytest.mark.parametrize("need_dx", [True, False])
def test_serial_asks_for_no_dx_that_nobody_wants(need_dx: bool) -> None:
    logs: list[list[bool]] = [[] for _ in range(4)]
    inner = serial(s=spy(logs[1]), a=scale(2.0, logs[2]))
    net = serial(first=spy(logs[0]), inner=inner, last=scale(3.0, logs[3]))
    x = images(4, 3)
    out, grads = run(net, x, need_dx)
    # The first layer with parameters needs dx for the caller only, and nothing before it need run at all.
    assert logs[3] == [True]
    assert logs[2] == [need_dx]
    assert logs[1] == logs[0] == ([True] if need_dx else [])
    assert (grads.dx is not None) == need_dx
    assert grads.params == run(net, x)[1].params
    # float32, which rounds by 6e-8: sums of the same numbers in another order
    np.testing.assert_allclose(grads.params["last"]["s"], out.y.sum(), rtol=1e-5)
    np.testing.assert_allclose(grads.params["inner"]["a"]["s"], out.y.sum(), rtol=1e-5)


def test_network_without_parameters_gives_no_gradients() -> None:
    _, grads = run(serial(relu(), flatten()), images(2, 1, 3, 3), need_dx=False)
    assert grads == Grads(None, EMPTY)


def test_own_layer_composes_and_is_checked() -> None:
    net = serial(body=residual(serial(scale(0.5), dense(3))), out=scale(2.0))
    assert repr(net.children["body"].children["body"]) == "serial(scale1=scale(0.5), dense1=dense(3))"
    assert fcnn.gradcheck(net, (3,), train=True).ok
    with pytest.raises(TypeError, match="missing a required argument: 'factor'"):
        scale()
    with pytest.raises(TypeError, match="unexpected keyword argument 'facto'"):
        scale(1.0, facto=2)


def test_layers_and_their_parts_are_immutable() -> None:
    net = serial(a=dense(2))
    with pytest.raises(AttributeError):
        net.kind = "parallel"
    with pytest.raises(TypeError):
        net.children["a"] = relu()
    with pytest.raises(TypeError):
        net.children["a"].config["units"] = 3


def test_long_networks_print_one_child_a_line() -> None:
    text = repr(fcnn.lenet5())
    assert text.splitlines()[:2] == ["serial(", "    conv1=conv2d(6, 5, padding=2),"]
    assert text.splitlines()[-2:] == ["    fc3=dense(10),", ")"]


def test_describe_is_plain_json() -> None:
    net = serial(a=conv2d(2, (3, 1), weights=fcnn.xavier()), r=residual(dropout(0.5)))
    described = fcnn.describe(net)
    assert json.loads(json.dumps(described)) == described
    assert described["kind"] == "serial"
    assert described["children"]["a"]["config"] == {
        "filters": 2, "kernel": [3, 1], "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": True,
        "weights": {"kind": "xavier", "config": {"distribution": "normal"}}, "biases": {"kind": "zeros", "config": {}},
    }  # fmt: skip
    assert described["children"]["r"]["children"]["body"] == {
        "kind": "dropout",
        "config": {"rate": 0.5},
        "children": {},
    }


def test_numpy_integers_are_described_as_integers() -> None:
    assert fcnn.describe(dense(np.int64(3)))["config"]["units"] == 3


def test_trees_pickle() -> None:
    params = serial(a=dense(2), b=serial(c=batch_norm())).init(KEY, (3,)).params
    again = pickle.loads(pickle.dumps(params))
    assert again == params
    assert not again["a"]["w"].flags.writeable


def test_a_layer_used_twice_is_two_layers() -> None:
    """With weights of its own in each place, as the path says whose they are."""
    one = dense(4)
    for net in (serial(a=one, b=one), branch(merge="sum", a=one, b=one), residual(one, one), serial(serial(one), one)):
        weights = [leaf for path, leaf in fcnn.tree.flatten(net.init(KEY, (4,)).params).items() if path.endswith("/w")]
        assert len(weights) == 2
        assert not np.array_equal(*weights)
        assert fcnn.gradcheck(net, (4,), train=True).ok


def test_a_product_has_its_gradient_where_factors_are_0() -> None:
    """Without dividing: each factor's gradient is dy times the others, of which one or more may be 0."""
    x = np.array([[0.0, 2.0, 0.0, 3.0]])
    net = branch(merge="multiply", a=identity(), b=identity(), c=identity())
    out = net.apply(EMPTY, EMPTY, x, train=True)
    np.testing.assert_array_equal(out.y, x**3)
    np.testing.assert_array_equal(net.backward(EMPTY, out.cache, np.ones_like(x)).dx, 3 * x**2)
