"""Random networks of random combinators: what holds for every layer holds for whatever is made of them."""

import json
import pickle
from collections import Counter
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import numpy as np
from cases import descendants
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import KINDS_OF_SHAPES, examples, networks, normal
from test_checkpoint import METAS

import fcnn
from fcnn import Init, Layer, tree
from fcnn.network.rewriting import leaves, rewrite
from fcnn.values.tree import EMPTY, flatten

SEEDS = st.integers(0, 10**6)


def values(layer: Layer, shape: tuple[int, ...], seed: int) -> Init:
    """Parameters and state in float64, none of them 0 or 1, which hide mistakes."""
    made = layer.init(fcnn.key(seed), shape)
    rng = np.random.default_rng(seed)

    def moved(leaf: np.ndarray) -> np.ndarray:
        return leaf + 0.1 * rng.random(leaf.shape)

    return made._replace(params=tree.map(moved, made.params), state=tree.map(moved, made.state))


def bits(layer: Layer, made: Init, x: np.ndarray, train: bool) -> tuple[Any, ...]:
    """All that a network computes, to the bit: the output, the state after it, and every gradient under a random dy."""
    out = layer.apply(made.params, made.state, x, train=train, key=fcnn.key(1))
    grads = layer.backward(made.params, out.cache, normal(2, out.y.shape))
    return out.y.tobytes(), out.state, grads.dx.tobytes(), grads.params


def differentiable(layer: Layer, shape: tuple[int, ...], train: bool, seed: int) -> None:
    """The whole gradient is right at one of a few points; at the others a kink may lie within every step."""
    for at in range(3):
        report = fcnn.gradcheck(
            layer, shape, train=train, key=fcnn.key(seed + at), directions=2, elementwise=4, raises=False
        )
        smooth = [check for check in report.checks if check.smooth]
        assert all(check.error <= report.tolerance for check in smooth), report.worst
        if report.ok:
            return
    assume(False)


@given(networks(), SEEDS)
@examples(100, shrink=False)
def test_the_whole_gradient_is_right_in_both_modes(network: Any, seed: int) -> None:
    layer, shape = network
    for train in (True, False):
        differentiable(layer, shape, train, seed)


@given(networks(linear=True), SEEDS, st.integers(0, 3))
@examples(60, shrink=False)
def test_networks_of_linear_layers_are_linear_and_their_gradients_adjoint(network: Any, seed: int, batch: int) -> None:
    """f(a x + u) = a f(x) + f(u) and <f(x), dy> = <x, dx>, for sums and concatenations of whatever is linear."""
    layer, shape = network
    made, x, u = values(layer, shape, seed), normal(seed, (batch, *shape)), normal(seed + 1, (batch, *shape))

    def f(x: np.ndarray) -> Any:
        return layer.apply(made.params, made.state, x, train=True, key=fcnn.key(1))

    out = f(x)
    # Some thousand products of numbers around 1, added in another order.
    scale = 1e-12 * max(1.0, np.abs(out.y).max(initial=0), np.abs(f(u).y).max(initial=0))
    np.testing.assert_allclose(f(3 * x + u).y, 3 * out.y + f(u).y, rtol=0, atol=5 * scale)
    dy = normal(seed + 2, out.y.shape)
    dx = layer.backward(made.params, out.cache, dy).dx
    assert abs((x * dx).sum() - (out.y * dy).sum()) <= scale * (1 + np.abs(dy).sum())


@given(networks(), SEEDS, st.integers(0, 3))
@examples(60, shrink=False)
def test_declared_shapes_are_those_that_come(network: Any, seed: int, batch: int) -> None:
    layer, shape = network
    made = values(layer, shape, seed)
    x = normal(seed, (batch, *shape))
    out = layer.apply(made.params, made.state, x, train=False)
    assert out.y.shape == (batch, *made.out_shape)
    assert out.state == made.state
    grads = layer.backward(made.params, out.cache, normal(1, out.y.shape))
    assert grads.dx.shape == x.shape
    assert [(p, g.shape) for p, g in flatten(grads.params).items()] == [
        (p, leaf.shape) for p, leaf in flatten(made.params).items()
    ]
    # A batch is its inputs one by one, and so are the gradients, which are sums over them.
    for row in range(batch):
        one = layer.apply(made.params, made.state, x[row : row + 1], train=False)
        # The order of sums may differ, of which networks 6 deep make no more than a thousand times the rounding.
        np.testing.assert_allclose(one.y[0], out.y[row], rtol=1e-12, atol=1e-12)


@given(networks(), st.booleans(), SEEDS)
@examples(60, shrink=False)
def test_a_description_and_a_pickle_make_the_network_again(network: Any, train: bool, seed: int) -> None:
    layer, shape = network
    made, x = values(layer, shape, seed), normal(seed, (3, *shape))
    expected = bits(layer, made, x, train)
    for again in (
        fcnn.build(json.loads(json.dumps(fcnn.describe(layer)))),
        pickle.loads(pickle.dumps(layer)),
        layer.make(**layer.config, **layer.children),
        rewrite(layer, lambda path, one: one),
    ):
        assert repr(again) == repr(layer)
        assert again.init(fcnn.key(seed), shape) == layer.init(fcnn.key(seed), shape)
        assert bits(again, made, x, train) == expected


@given(networks(), st.booleans(), SEEDS)
@examples(40, shrink=False)
def test_changed_networks_compute_the_same(network: Any, train: bool, seed: int) -> None:
    layer, shape = network
    made, x = values(layer, shape, seed), normal(seed, (3, *shape))
    assert bits(fcnn.checked(layer), made, x, train) == bits(layer, made, x, train)
    lean, whole = (
        one.apply(made.params, made.state, x, train=train, key=fcnn.key(1))
        for one in (fcnn.without_caches(layer), layer)
    )
    assert lean.y.tobytes() == whole.y.tobytes()
    assert lean.state == whole.state


def _in_evaluation(layer: Layer) -> Layer:
    """A layer that computes as in evaluation, also in training, and learns."""

    def apply(params: Any, state: Any, x: Any, /, *, train: bool, key: Any = None) -> Any:
        return layer.apply(params, state, x, train=False)

    return attrs.evolve(layer, apply=apply)


@given(networks(), SEEDS, st.data())
@examples(40, shrink=False)
def test_held_layers_compute_as_in_evaluation_and_do_not_learn(network: Any, seed: int, data: Any) -> None:
    layer, shape = network
    held = data.draw(st.sets(st.sampled_from([path for path, _ in leaves(layer)]), min_size=1, max_size=3))
    frozen = fcnn.hold(layer, sorted(held))
    learning = rewrite(layer, lambda path, one: _in_evaluation(one) if path in held else one)
    differentiable(learning, shape, True, seed)
    made, x = values(layer, shape, seed), normal(seed, (3, *shape))
    y, state, dx, grads = bits(frozen, made, x, True)
    expected = bits(learning, made, x, True)
    assert (y, state, dx) == expected[:3]

    def is_held(path: str) -> bool:
        return path.rpartition("/")[0] in held

    zeros = {path: np.zeros_like(leaf) for path, leaf in flatten(made.params).items() if is_held(path)}
    assert grads == tree.unflatten({**flatten(expected[3]), **zeros})
    again = pickle.loads(pickle.dumps(frozen))
    assert bits(again, made, x, True) == (y, state, dx, grads)


@given(networks(sure=True), SEEDS, st.integers(1, 7), st.integers(1, 8), st.booleans())
@examples(40, shrink=False)
def test_the_gradient_of_shards_is_the_whole_batch_s(
    network: Any, seed: int, rows: int, shard: int, crossed: bool
) -> None:
    """Where no layer draws or averages over the batch."""
    layer, shape = network
    made, x = values(layer, shape, seed), normal(seed, (rows, *shape))
    loss, targets = fcnn.mean_squared_error(), normal(3, (rows, *made.out_shape))
    if crossed and len(made.out_shape) == 1:
        loss = fcnn.softmax_cross_entropy(0.1)
        targets = np.random.default_rng(seed).integers(0, made.out_shape[0], rows)
    gradient = fcnn.gradient(layer, loss)
    arguments = made.params, made.state, fcnn.key(0), (x, targets)
    whole, parts = gradient(*arguments), fcnn.parallel.sharded(gradient, shard)(*arguments)
    assert (parts.correct, parts.size, parts.layer_state) == (whole.correct, whole.size, EMPTY)
    # The same products, summed in another order: numbers around 1, through networks 6 deep.
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-12)
    for path, leaf in flatten(whole.grads).items():
        scale = max(1.0, np.abs(leaf).max())
        np.testing.assert_allclose(flatten(parts.grads)[path], leaf, rtol=0, atol=1e-12 * scale)


@given(networks(), SEEDS, METAS, st.lists(st.text(), max_size=3), st.sampled_from([np.float32, np.float64]))
@examples(40, shrink=False)
def test_a_model_comes_back_from_its_file(
    network: Any, seed: int, meta: dict[str, Any], classes: list[str], dtype: Any
) -> None:
    layer, shape = network
    made, x = values(layer, shape, seed), normal(seed, (3, *shape))
    params, state = tree.astype(made.params, dtype), tree.astype(made.state, dtype)
    model = fcnn.Model(layer, params, state, in_shape=shape, classes=classes, meta=meta)
    with TemporaryDirectory() as folder:
        path = f"{folder}/m.npz"
        fcnn.save_model(path, model)
        found = fcnn.load_model(path)
    assert repr(found.network) == repr(layer)
    assert (found.params, found.state, found.in_shape) == (params, state, shape)
    assert (found.classes, found.meta) == (tuple(classes), meta)
    ours, theirs = (m.network.apply(m.params, m.state, x.astype(dtype), train=False).y for m in (model, found))
    assert ours.tobytes() == theirs.tobytes()


def test_what_is_drawn_has_layers_of_every_kind() -> None:
    kinds: Counter[str] = Counter()

    for shapes in KINDS_OF_SHAPES:  # each by itself, as some layers are drawn for few of them

        @given(networks(shapes=shapes))
        @examples(400)
        def draw(network: Any) -> None:
            kinds.update({layer.kind for _, layer in descendants(network[0])})

        draw()
    made = {*fcnn.network.layers.__all__, "serial", "residual", "branch", "averaged_views"}
    assert made <= kinds.keys(), made - kinds.keys()
