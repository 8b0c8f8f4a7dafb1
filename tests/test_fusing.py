"""`fuse`: the same network to everyone who looks at it, computed in fewer passes."""

import json
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
import pytest
from cases import descendants
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, networks, normal, small
from test_networks import SEEDS, bits, values

import fcnn
from fcnn import Layer, fuse, tree
from fcnn.network.layer import layer_constructor
from fcnn.ops.fused import FusedCache
from fcnn.ops.fused_norm import FusedNormCache
from fcnn.values.tree import EMPTY, flatten, freeze

KEY = fcnn.key(0)
pytestmark = pytest.mark.usefixtures("one_thread")
CONV, NORM, RELU, POOL = fcnn.conv2d(4, 3, padding=1), fcnn.batch_norm(), fcnn.relu(), fcnn.max_pool2d(2)


def groups(
    network: Layer, shape: tuple[int, ...], train: bool = True, dtype: Any = np.float64
) -> list[tuple[str, ...]]:
    """The names of layers that were computed as one, in order: what the caches tell."""
    made = values(network, shape, 0)
    params, state = tree.astype(made.params, dtype), tree.astype(made.state, dtype)
    cache = network.apply(params, state, normal(1, (4, *shape), dtype), train=train, key=KEY).cache
    return list(_groups(cache))


def _groups(cache: Any) -> Iterator[tuple[str, ...]]:
    if isinstance(cache, dict):
        for names, inner in cache.items():
            if isinstance(inner, (FusedCache, FusedNormCache)):
                yield names
            yield from _groups(inner)
    elif hasattr(cache, "caches"):
        yield from _groups(cache.caches)


def network() -> Layer:
    """Every kind of run, at several depths."""
    return fcnn.serial(
        conv1=fcnn.conv2d(4, 3, padding=1), bn1=fcnn.batch_norm(decay=0.5), relu1=fcnn.relu(), pool1=POOL,
        res1=fcnn.residual(
            fcnn.serial(fcnn.conv2d(4, 3, padding="same", bias=False), fcnn.relu(), fcnn.conv2d(4, 1), NORM)
        ),
        mix=fcnn.branch(merge="concat", a=fcnn.serial(fcnn.conv2d(2, 1), fcnn.relu()), b=fcnn.identity()),
        conv2=fcnn.conv2d(3, 3), pool2=fcnn.max_pool2d((2, 2), stride=(2, 2), padding=(0, 0)),
        drop=fcnn.dropout(0.3), flatten=fcnn.flatten(), fc=fcnn.dense(3),
    )  # fmt: skip


SHAPE = (2, 12, 12)
GROUPS = [
    ("conv1", "bn1", "relu1", "pool1"), ("conv2d1", "relu1"), ("conv2d2", "batch_norm1"), ("conv2d1", "relu1"),
    ("conv2", "pool2"),
]  # fmt: skip


# What looks at a network sees no difference.


def test_it_is_the_same_network_to_all_that_look_at_it() -> None:
    plain, fused = network(), fuse(network())
    assert groups(plain, SHAPE) == []
    assert groups(fused, SHAPE) == GROUPS
    assert repr(fused) == repr(plain)
    assert fused._repr_html_() == plain._repr_html_()
    assert fcnn.describe(fused) == fcnn.describe(plain)
    assert repr(fcnn.build(json.loads(json.dumps(fcnn.describe(fused))))) == repr(plain)
    assert fcnn.summary(fused, SHAPE) == fcnn.summary(plain, SHAPE)
    assert fused.init(KEY, SHAPE) == plain.init(KEY, SHAPE)
    assert [path for path, _ in descendants(fused)] == [path for path, _ in descendants(plain)]
    assert (fused.held, fused.rewritten, fused.make, fused.kind) == (False, False, fcnn.serial, "serial")


def test_children_are_the_ones_it_was_made_of() -> None:
    plain = fcnn.serial(a=CONV, b=RELU)
    fused = fuse(plain)
    assert fused.children["a"] is CONV
    assert fused.children["b"] is RELU
    assert groups(plain, SHAPE) == []  # it itself is as it was


def test_a_fused_network_pickles_as_one() -> None:
    fused = fuse(network())
    again = pickle.loads(pickle.dumps(fused))
    assert groups(again, SHAPE) == GROUPS
    made, x = values(fused, SHAPE, 3), normal(3, (5, *SHAPE))
    assert bits(again, made, x, True) == bits(fused, made, x, True)
    assert groups(pickle.loads(pickle.dumps(network())), SHAPE) == []


def test_what_rewrites_it_makes_it_plain_and_fusing_again_does_it_again() -> None:
    fused = fuse(network())
    assert groups(fuse(fused), SHAPE) == GROUPS
    made, x = values(fused, SHAPE, 3), normal(3, (5, *SHAPE))
    for rule in (
        lambda layer: fcnn.rewrite(layer, lambda path, one: one), fcnn.checked,
        lambda layer: fcnn.build(fcnn.describe(layer)), lambda layer: fcnn.hold(layer, "fc"),
    ):  # fmt: skip
        assert groups(rule(fused), SHAPE) == []
        assert bits(rule(fused), made, x, True) == bits(rule(network()), made, x, True)
    assert groups(fused.make(**fused.config, **fused.children), SHAPE) == GROUPS[1:4]  # those within its children
    with pytest.raises(fcnn.LayerError, match="a network without caches has no backward pass"):
        bits(fcnn.without_caches(fused), made, x, True)


def test_a_checkpoint_of_one_is_one_of_the_other(tmp_path: Any) -> None:
    plain, fused = network(), fuse(network())
    made = plain.init(KEY, SHAPE)
    for one, other in ((plain, fused), (fused, plain)):
        path = tmp_path / "model.npz"
        fcnn.save_model(path, fcnn.Model(one, made.params, made.state, in_shape=SHAPE))
        found = fcnn.load_model(path)
        assert (repr(found.network), found.params, found.state) == (repr(other), made.params, made.state)


# What is computed as one.


@layer_constructor
def conv2d(filters: int) -> fcnn.Functions:
    """A user's own, of the same name."""
    inner = fcnn.conv2d(filters, 3, padding=1)
    return fcnn.Functions(inner.init, inner.apply, inner.backward)


def held(layer: Layer) -> Layer:
    return fcnn.hold(fcnn.serial(a=layer), "a").children["a"]


def checked(layer: Layer) -> Layer:
    return fcnn.checked(layer)


RUNS: list[tuple[list[Layer], list[int]]] = [
    ([CONV, RELU], [2]), ([CONV, NORM], [2]), ([CONV, POOL], [2]), ([CONV, NORM, POOL], [3]),
    ([CONV, NORM, RELU, POOL], [4]), ([CONV, RELU, POOL], [3]),
    ([CONV], []), ([RELU, POOL], []), ([NORM, RELU], []), ([RELU, CONV, RELU], [2]),
    ([CONV, POOL, RELU], [2]), ([CONV, RELU, NORM], [2]), ([CONV, RELU, RELU], [2]), ([CONV, NORM, NORM], [2]),
    ([CONV, CONV, RELU, CONV, NORM], [2, 2]), ([CONV, RELU, CONV, RELU], [2, 2]),
    ([CONV, fcnn.identity(), RELU], []), ([CONV, fcnn.leaky_relu()], []), ([CONV, fcnn.tanh(), POOL], []),
    ([CONV, fcnn.avg_pool2d(2)], []), ([CONV, fcnn.max_pool2d(2, stride=2)], [2]),
    ([CONV, fcnn.max_pool2d((2, 2), stride=(2, 2), padding=0)], [2]), ([CONV, fcnn.max_pool2d([2, 2])], [2]),
    ([CONV, fcnn.max_pool2d(3)], []), ([CONV, fcnn.max_pool2d((2, 1))], []), ([CONV, fcnn.max_pool2d(2, stride=1)], []),
    ([CONV, fcnn.max_pool2d(2, ceil_mode=True)], []), ([CONV, fcnn.max_pool2d(2, padding=1)], []),
    ([CONV, fcnn.max_pool2d(2, padding="same")], []),
    ([CONV, RELU, fcnn.max_pool2d(3, stride=2)], [2]), ([fcnn.conv2d(3, 2, stride=2), RELU, POOL], [3]),
    ([fcnn.conv2d(3, 3), RELU, POOL], [3]), ([fcnn.conv2d(3, 2), RELU, POOL], []),  # 11 rows: computed one by one
    ([conv2d(3), RELU], []), ([held(CONV), RELU], []), ([CONV, held(NORM), RELU], []), ([CONV, held(RELU)], []),
    ([checked(CONV), RELU], []), ([CONV, checked(RELU)], []), ([CONV, NORM, checked(RELU)], [2]),
    ([fcnn.serial(CONV), RELU], []), ([fcnn.serial(CONV, RELU), POOL], [2]),
    ([fcnn.residual(fcnn.serial(fcnn.conv2d(2, 1), RELU)), RELU], [2]),
    ([CONV, fcnn.serial(RELU)], []),
]  # fmt: skip


@pytest.mark.parametrize(("layers", "sizes"), RUNS, ids=lambda value: str(value) if isinstance(value, list) else None)
def test_runs_are_recognised_by_their_constructors_in_order(layers: list[Layer], sizes: list[int]) -> None:
    names = ["pool", "relu", "norm", "conv", "x"]  # which say nothing
    fused = fuse(fcnn.serial(**dict(zip(names, layers, strict=False))))
    assert [len(group) for group in groups(fused, SHAPE)] == sizes
    assert groups(fused, SHAPE, train=False) == []


def test_a_layer_whose_functions_were_changed_is_left_alone() -> None:
    changed = attrs.evolve(CONV, apply=RELU.apply, rewritten=True)
    assert groups(fuse(fcnn.serial(a=CONV, b=RELU)), SHAPE) == [("a", "b")]
    assert [*fuse(fcnn.serial(a=changed, b=RELU)).children.values()] == [changed, RELU]
    traced = fcnn.trace(
        fuse(network()), *network().init(KEY, SHAPE)[:2], normal(1, (2, *SHAPE), np.float32), train=False
    )
    assert {path for path, layer in descendants(network()) if not layer.children} <= {*traced.outputs}


def test_layers_alone_and_networks_without_runs_are_what_they_were() -> None:
    for layer in (CONV, fcnn.residual(CONV), fcnn.serial(a=RELU, b=CONV)):
        assert groups(fuse(layer), (4, 6, 6)) == []
        assert repr(fuse(layer)) == repr(layer)
    with pytest.raises(TypeError, match=r"^network is a layer"):
        fuse(fcnn.relu)


# What it computes.


def expect_close(fused: Layer, plain: Layer, shape: tuple[int, ...], seed: int, batch: int) -> None:
    """In float64, up to 4 layers of 130 products in another order each, with deviations of 0.3 and more: 1e-10."""
    made, x = values(plain, shape, seed), normal(seed, (batch, *shape))
    assert bits(fused, made, x, False) == bits(plain, made, x, False)
    outs = [one.apply(made.params, made.state, x, train=True, key=fcnn.key(1)) for one in (fused, plain)]
    dy = normal(2, outs[0].y.shape)
    found, exact = (
        {"y": out.y, "dx": grads.dx, **flatten(out.state), **{f"d {p}": g for p, g in flatten(grads.params).items()}}
        for out, grads in zip(
            outs,
            (n.backward(made.params, o.cache, dy) for n, o in zip((fused, plain), outs, strict=True)),
            strict=True,
        )
    )
    assert found.keys() == exact.keys()
    for path, array in exact.items():
        assert (found[path].shape, found[path].dtype) == (array.shape, array.dtype), path
        scale = max(1.0, np.abs(array).max(initial=0))
        np.testing.assert_allclose(found[path], array, rtol=0, atol=1e-10 * scale, err_msg=path)
    less = fused.backward(made.params, outs[0].cache, dy, need_dx=False)
    assert less.dx is None
    assert less.params == fused.backward(made.params, outs[0].cache, dy).params


@given(networks(), SEEDS)
@examples(60, shrink=False)
def test_random_networks_compute_the_same(network: Any, seed: int) -> None:
    layer, shape = network
    expect_close(fuse(layer), layer, shape, seed, 3)


@st.composite
def convolutional(draw: st.DrawFn) -> Layer:
    """Networks with many runs, some of them in residual bodies."""
    window = st.sampled_from([1, 2, 3, (3, 2)])
    parts: list[Layer] = []
    for _ in range(draw(st.integers(1, 3))):
        conv = fcnn.conv2d(draw(small), draw(window), padding="same", stride=draw(st.sampled_from([1, 1, 1, 2])),
                           bias=draw(st.booleans()), biases=fcnn.constant(0.1))  # fmt: skip
        follow = [fcnn.batch_norm(eps=0.1), fcnn.relu(), fcnn.max_pool2d(2)]
        parts += [conv, *(one for one in follow if draw(st.booleans()))]
        parts = [one for at, one in enumerate(parts) if one.kind != "max_pool2d" or at < 6]
        if draw(st.booleans()):
            inner = fcnn.serial(fcnn.conv2d(2, 3, padding=1), fcnn.batch_norm(eps=0.1), fcnn.relu())
            parts.append(fcnn.residual(inner, fcnn.conv2d(2, 1)))
    return fcnn.serial(*parts)


SIZES = st.tuples(small, st.sampled_from([8, 12, 16]), st.sampled_from([8, 9, 16]))


@given(convolutional(), SIZES, SEEDS, st.integers(1, 5))
@examples(80, shrink=False)
def test_random_convolutional_networks_compute_the_same(layer: Layer, shape: Any, seed: int, batch: int) -> None:
    try:
        layer.init(KEY, shape)
    except fcnn.LayerError:  # a pool that doesn't fit any more
        return
    made = values(layer, shape, seed)
    small_batch = min(array[:, 0].size for array in _images(layer, made, batch, shape))
    expect_close(fuse(layer), layer, shape, seed, batch if small_batch > 1 else batch + 1)


def _images(layer: Layer, made: Any, batch: int, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """What comes out of each layer, whose batch norms need two numbers a channel."""
    x = np.zeros((batch, *shape))
    for name, child in layer.children.items():
        x = child.apply(made.params.get(name, EMPTY), made.state.get(name, EMPTY), x, train=False).y
        yield x


def test_what_is_drawn_has_runs_of_every_kind() -> None:
    found: Counter[tuple[str, ...]] = Counter()

    @given(convolutional(), SIZES)
    @examples(80)
    def draw(layer: Layer, shape: Any) -> None:
        try:
            layer.init(KEY, shape)
        except fcnn.LayerError:
            return
        found.update(tuple(name.rstrip("0123456789") for name in group) for group in groups(fuse(layer), shape))

    draw()
    norm, relu, pool = ("batch_norm",), ("relu",), ("max_pool",)
    kinds = {("conv2d", *a, *b, *c) for a in (norm, ()) for b in (relu, ()) for c in (pool, ())} - {("conv2d",)}
    assert {tuple(name.replace("max_pool2d", "max_pool") for name in group) for group in found} >= kinds


@pytest.mark.parametrize("layers", [run for run, sizes in RUNS if sizes and not any(one.held for one in run)], ids=str)
def test_gradients_of_fused_networks_match_central_differences(layers: list[Layer]) -> None:
    fused = fuse(fcnn.serial(*layers))
    assert groups(fused, (2, 8, 12))
    assert fcnn.gradcheck(fused, (2, 8, 12), train=True, batch=3).ok


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradient_fuses_unless_it_is_told_not_to(dtype: Any) -> None:
    loss, plain = fcnn.softmax_cross_entropy(), network()
    made = values(plain, SHAPE, 0)
    params, state = tree.astype(made.params, dtype), tree.astype(made.state, dtype)
    batch = normal(1, (32, *SHAPE), dtype), np.arange(32) % 3

    def found(**options: bool) -> Any:
        return fcnn.gradient(plain, loss, **options)(params, state, KEY, batch)

    def alone(layer: Layer) -> Any:
        out = layer.apply(params, state, batch[0], train=True, key=KEY)
        value, dy = loss(out.y, batch[1])
        return value, layer.backward(params, out.cache, dy, need_dx=False).params, out.state

    with fcnn.parallel.threads(1):
        assert found(fuse=False)[:3] == alone(plain)
        assert found() == found(fuse=True)
        assert found()[:3] == alone(fuse(plain))
    assert found() != found(fuse=False)


# What it refuses.


def outcome(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The error with all its text and its path, or the dtypes and shapes of what came."""
    try:
        found = call(*arguments, **options)
    except Exception as error:
        return type(error), str(error), getattr(error, "path", None)
    arrays = [found[0], *flatten(found[1]).values()]
    return [None if array is None else (array.dtype, array.shape) for array in arrays]


MADE = values(network(), SHAPE, 0)
MADE = MADE._replace(params=tree.astype(MADE.params, np.float32), state=tree.astype(MADE.state, np.float32))
X = normal(1, (4, *SHAPE), np.float32)


def changed(where: fcnn.Tree, **leaves: Any) -> Any:
    """The tree with other leaves, written with __ for /, or without those that are None."""
    there = dict(flatten(where))
    for path, leaf in leaves.items():
        there.pop(path.replace("__", "/"), None)
        if leaf is not None:
            there[path.replace("__", "/")] = leaf
    return tree.unflatten(there)


def without(where: fcnn.Tree, name: str) -> Any:
    return freeze({key: value for key, value in where.items() if key != name})


P, S = MADE.params, MADE.state
OTHER_PARAMS: dict[str, Any] = {
    "none": None, "a dict": {"conv1": {}}, "Init": MADE, "an array": np.ones(3), "empty": EMPTY,
    "no conv1": without(P, "conv1"), "no bn1": without(P, "bn1"), "no res1": without(P, "res1"),
    "no b": changed(P, conv1__b=None), "no w": changed(P, conv1__w=None), "no gamma": changed(P, bn1__gamma=None),
    "one more": changed(P, conv1__c=np.ones(3)), "one more of bn": changed(P, bn1__w=np.ones(3)),
    "relu's": changed(P, relu1__w=np.ones(3)), "pool's": changed(P, pool2__w=np.ones(3)),
    "b where none is": changed(P, res1__body__conv2d1__b=np.ones(4, np.float32)),
    "an unknown layer's": changed(P, conv9__w=np.ones(3)),
    "an array for a layer": freeze({**without(P, "conv1"), "conv1": np.ones(3, np.float32)}),
    "an array for bn": freeze({**without(P, "bn1"), "bn1": np.ones(3, np.float32)}),
    "a tree for an array": freeze({**P, "conv1": {"w": {"w": P["conv1"]["w"]}, "b": P["conv1"]["b"]}}),
    "flat w": changed(P, conv1__w=np.ones((4, 18), np.float32)), "other C": changed(P, conv1__w=np.ones((4, 3, 3, 3))),
    "more filters": changed(P, conv1__w=np.ones((5, 2, 3, 3), np.float32)),
    "no filters": changed(P, conv1__w=np.ones((0, 2, 3, 3), np.float32)),
    "an empty window": changed(P, conv1__w=np.ones((4, 2, 0, 3), np.float32)),
    "another window": changed(P, conv1__w=np.ones((4, 2, 5, 1), np.float32)),
    "a window too large": changed(P, conv2__w=np.ones((3, 6, 9, 9), np.float32)),
    "long b": changed(P, conv1__b=np.ones(5, np.float32)), "one b": changed(P, conv1__b=np.ones(1, np.float32)),
    "b as a column": changed(P, conv1__b=np.ones((4, 1), np.float32)),
    "b as a number": changed(P, conv1__b=np.ones((), np.float32)),
    "short beta": changed(P, bn1__beta=np.ones(3, np.float32)),
    "gamma (4, 1)": changed(P, bn1__gamma=np.ones((4, 1), np.float32)),
    "double w": changed(P, conv1__w=np.ones((4, 2, 3, 3))), "double b": changed(P, conv1__b=np.ones(4)),
    "double gamma": changed(P, bn1__gamma=np.ones(4)), "whole b": changed(P, conv1__b=np.ones(4, int)),
    "half w": changed(P, conv1__w=np.ones((4, 2, 3, 3), np.float16)),
    "bool gamma": changed(P, bn1__gamma=np.ones(4, bool)),
}  # fmt: skip
OTHER_STATES: dict[str, Any] = {
    "none": None, "a dict": {}, "empty": EMPTY, "no mean": changed(S, bn1__mean=None),
    "short": changed(S, bn1__var=np.ones(3)),
    "one more": changed(S, bn1__count=np.ones(3)), "double": changed(S, bn1__var=np.ones(4)),
    "whole": changed(S, bn1__mean=np.ones(4, int)), "an array": freeze({**S, "bn1": np.ones(3, np.float32)}),
    "conv's": changed(S, conv1__mean=np.ones(4)), "unknown": changed(S, what__mean=np.ones(4)),
}  # fmt: skip
OTHER_INPUTS: dict[str, Any] = {
    "none": None, "a list": [[1.0]], "a number": 1.0, "features": X[:, 0, 0], "one image": X[0], "more axes": X[None],
    "other channels": X[:, :1], "channels last": np.ascontiguousarray(X.transpose(0, 2, 3, 1)), "thin": X[..., :1],
    "small": X[..., :2, :2], "no pixels": X[..., :0], "no channels": X[:, :0], "no images": X[:0], "one": X[:1],
    "double": X.astype(np.float64), "half": X.astype(np.float16), "whole": X.astype(int), "bytes": X.astype(np.uint8),
    "complex": X.astype(complex), "objects": X.astype(object), "masked": np.ma.array(X), "swapped": X.astype(">f4"),
    "odd": X[..., :11, :11],
}  # fmt: skip


@pytest.mark.parametrize("train", [True, False, None, 1, np.True_], ids=str)
def test_apply_refuses_what_the_plain_network_does_in_the_same_words(train: Any) -> None:
    plain, fused = network(), fuse(network())
    arguments = [(params, S, X, KEY) for params in OTHER_PARAMS.values()]
    arguments += [(P, state, X, KEY) for state in OTHER_STATES.values()]
    arguments += [(P, S, x, KEY) for x in OTHER_INPUTS.values()] + [(P, S, X, key) for key in (KEY, None, 3)]
    errors = 0
    for params, state, x, key in arguments:
        found, expected = (outcome(one.apply, params, state, x, train=train, key=key) for one in (fused, plain))
        assert found == expected
        errors += isinstance(found, tuple)
    assert errors > 40


def test_an_output_with_one_number_a_channel_is_refused_by_its_batch_norm() -> None:
    plain = fcnn.serial(a=fcnn.conv2d(4, 3), b=fcnn.batch_norm(), c=fcnn.relu())
    made, x = plain.init(KEY, (2, 3, 3)), normal(0, (1, 2, 3, 3), np.float32)
    found, expected = (outcome(lambda one=one: one.apply(*made[:2], x, train=True)) for one in (fuse(plain), plain))
    assert found == expected
    assert found[1].startswith("b: batch_norm needs at least two numbers a channel in training, got x (1, 4, 1, 1)")


OTHER_DYS: dict[str, Callable[[np.ndarray], Any]] = {
    "right": lambda dy: dy, "none": lambda dy: None, "a list": lambda dy: [1.0], "fewer": lambda dy: dy[:1],
    "more axes": lambda dy: dy[None], "a column": lambda dy: dy[:, :1], "transposed": lambda dy: dy.T,
    "half": lambda dy: dy.astype(np.float16), "whole": lambda dy: dy.astype(int),
    "swapped": lambda dy: dy.astype(">f4"), "number": lambda dy: 1.0, "flat": lambda dy: dy.ravel(),
}  # fmt: skip
ENDS = [network(), *(fcnn.serial(*run) for run, sizes in RUNS if sizes and not any(one.held for one in run))]


@pytest.mark.parametrize("plain", ENDS, ids=str)
def test_backward_refuses_what_the_plain_network_does_in_the_same_words(plain: Layer) -> None:
    """Whatever the last layer is, which refuses a dy by its name."""
    fused, made = fuse(plain), plain.init(KEY, SHAPE)
    outs = {one: one.apply(*made[:2], X, train=True, key=KEY) for one in (fused, plain)}
    y = np.array(outs[plain].y)
    refused: list[tuple[Any, Any, dict[str, Any]]] = [(made.params, make(y), {}) for make in OTHER_DYS.values()]
    refused += [(made.params, y, {"need_dx": value}) for value in (False, None, 1, "yes")]
    for name in made.params:
        refused += [(without(made.params, name), y, {}), (freeze({**made.params, name: {"v": np.ones(2)}}), y, {})]
    if "conv1" in made.params:
        refused += [(params, y, {}) for params in OTHER_PARAMS.values()]
    for params, dy, options in refused:
        found, expected = (outcome(one.backward, params, outs[one].cache, dy, **options) for one in outs)
        assert found == expected
    for cache in (None, {}, {"conv1": None}, outs):
        found, expected = (outcome(one.backward, made.params, cache, y) for one in outs)
        assert found == expected


def test_a_dy_of_the_other_float_dtype_gives_the_gradients_of_the_layers() -> None:
    """In the network's own dtype, as everything else is."""
    plain = fcnn.serial(*RUNS[4][0], fcnn.conv2d(2, 1), fcnn.relu())
    made, dy = plain.init(KEY, SHAPE), normal(2, (4, 2, 6, 6))
    grads = []
    for one in (fuse(plain), plain):
        out = one.apply(*made[:2], X, train=True)
        grads.append(one.backward(made.params, out.cache, dy))
    np.testing.assert_allclose(grads[0].dx, grads[1].dx, rtol=0, atol=1e-5)
    for path, leaf in flatten(grads[1].params).items():
        np.testing.assert_allclose(flatten(grads[0].params)[path], leaf, rtol=0, atol=1e-4, err_msg=path)
