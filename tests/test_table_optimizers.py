"""Optimizers and the transforms that they are made of: a row each with its formula, and what all of them promise."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest
from constructors import constructors
from memory import FLOATS, ORDERS, assert_handed_out, bits

import fcnn
from fcnn import TreeError, freeze, optim, tree
from fcnn.training.optim import Transform
from fcnn.values.tree import flatten, unflatten

every_float = pytest.mark.parametrize("dtype", FLOATS)


Values = dict[str, np.ndarray]
Formula = Callable[[int, Values, Values, dict[str, Any]], Values]  # step, gradients, parameters, what it remembers


def descent(lr: Callable[[int], float], decay: float = 0.0) -> Formula:
    """-lr (g + decay p)"""
    return lambda step, grads, params, kept: {k: -lr(step) * (g + decay * params[k]) for k, g in grads.items()}


def momentum(m: float, nesterov: bool = False) -> Formula:
    """v = m v + g; g + m v with Nesterov, else v (Sutskever et al., 2013)"""

    def formula(step: int, grads: Values, params: Values, kept: dict[str, Any]) -> Values:
        for k, g in grads.items():
            kept[k] = m * kept.get(k, 0) + g
        return {k: g + m * kept[k] if nesterov else kept[k] for k, g in grads.items()}

    return formula


def adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Formula:
    """Kingma and Ba, algorithm 1, without the rate"""

    def formula(step: int, grads: Values, params: Values, kept: dict[str, Any]) -> Values:
        found = {}
        for k, g in grads.items():
            mu, nu = kept.get(k, (0, 0))
            mu, nu = kept[k] = b1 * mu + (1 - b1) * g, b2 * nu + (1 - b2) * g**2
            found[k] = (mu / (1 - b1 ** (step + 1))) / (np.sqrt(nu / (1 - b2 ** (step + 1))) + eps)
        return found

    return formula


def rms(a: float = 0.99, eps: float = 1e-8, centered: bool = False) -> Formula:
    """Tieleman and Hinton, lecture 6.5e; centered, Graves 2013, equations 38 to 40; without the rate"""

    def formula(step: int, grads: Values, params: Values, kept: dict[str, Any]) -> Values:
        found = {}
        for k, g in grads.items():
            nu, mu = kept.get(k, (0, 0))
            nu, mu = kept[k] = a * nu + (1 - a) * g**2, a * mu + (1 - a) * g
            found[k] = g / (np.sqrt(nu - mu**2 if centered else nu) + eps)
        return found

    return formula


def decay(coefficient: float) -> Formula:
    return lambda step, grads, params, kept: {k: g + coefficient * params[k] for k, g in grads.items()}


def orthogonal(steps: int = 5, eps: float = 1e-7) -> Formula:
    """Jordan et al., 2024: what Newton-Schulz steps do to singular values; computed from these"""

    def one(g: np.ndarray) -> np.ndarray:
        u, s, v = np.linalg.svd(g.reshape(len(g), math.prod(g.shape[1:])), full_matrices=False)
        s = s / (math.sqrt((s**2).sum()) + eps)
        for _ in range(steps):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        return ((u * s) @ v).reshape(g.shape)

    return lambda step, grads, params, kept: {k: one(g) for k, g in grads.items()}


def rescaled(step: int, grads: Values, params: Values, kept: dict[str, Any]) -> Values:
    """as if each weight had had the norm sqrt(out) before"""
    return {
        k: g - params[k] + math.sqrt(len(g)) * params[k] / np.linalg.norm(params[k].ravel()) if g.size else g
        for k, g in grads.items()
    }


def clip(most: float) -> Formula:
    def formula(step: int, grads: Values, params: Values, kept: dict[str, Any]) -> Values:
        norm = math.sqrt(math.fsum(float(number) ** 2 for g in grads.values() for number in g.flat))
        return {k: g * min(1, most / norm) for k, g in grads.items()}

    return formula


def then(*formulas: Formula) -> Formula:
    def formula(step: int, grads: Values, params: Values, kept: dict[str, Any]) -> Values:
        for number, one in enumerate(formulas):
            grads = one(step, grads, params, kept.setdefault(number, {}))
        return grads

    return formula


def for_some(suffix: str, one: Formula, others: Formula) -> Formula:
    """One formula for the paths that end so, another for the rest."""

    def formula(step: int, grads: Values, params: Values, kept: dict[str, Any]) -> Values:
        found = {}
        for part, here in ((one, True), (others, False)):
            chosen = {k: g for k, g in grads.items() if k.endswith(suffix) is here}
            found.update(part(step, chosen, params, kept.setdefault(here, {})))
        return {k: found[k] for k in grads}

    return formula


def zero(step: int, grads: Values, params: Values, kept: dict[str, Any]) -> Values:
    return {k: 0 * g for k, g in grads.items()}


def nothing(step: int, grads: Values, params: Values, kept: dict[str, Any]) -> Values:
    return grads


RATE, FALLING = (lambda step: 0.05), fcnn.cosine(0.05, steps=6)
MINUS = descent(RATE)

TRANSFORMS: tuple[tuple[Transform, Formula], ...] = (
    (fcnn.sgd(0.05), MINUS),
    (fcnn.sgd(FALLING, weight_decay=0.1), descent(FALLING, 0.1)),
    (fcnn.sgd(0.05, momentum=0.9), then(momentum(0.9), MINUS)),
    (fcnn.sgd(0.05, 0.9, nesterov=True, weight_decay=0.1), then(decay(0.1), momentum(0.9, True), MINUS)),
    (fcnn.adam(0.05), then(adam(), MINUS)),
    (fcnn.adam(FALLING, 0.8, 0.95, 1e-3, weight_decay=0.1), then(decay(0.1), adam(0.8, 0.95, 1e-3), descent(FALLING))),
    (fcnn.adamw(0.05, 0.8, 0.95, 1e-3, 0.1), then(adam(0.8, 0.95, 1e-3), decay(0.1), MINUS)),
    (fcnn.rmsprop(0.05), then(rms(), MINUS)),
    (fcnn.rmsprop(0.05, decay=0.8, eps=1e-3, centered=True), then(rms(0.8, 1e-3, True), MINUS)),
    (
        fcnn.rmsprop(FALLING, decay=0.9, momentum=0.5, weight_decay=0.1),
        then(decay(0.1), rms(0.9), momentum(0.5), descent(FALLING)),
    ),
    (fcnn.muon(0.05), then(momentum(0.95, True), orthogonal(), MINUS)),
    (fcnn.muon(FALLING, 0.6, False, steps=3), then(momentum(0.6), orthogonal(3), descent(FALLING))),
    (fcnn.muon(0.05, 0.0, rescale=True), then(orthogonal(), MINUS, rescaled)),
    (fcnn.clip_by_global_norm(0.5), clip(0.5)),
    (fcnn.clip_by_global_norm(1e6), nothing),
    (fcnn.chain(fcnn.clip_by_global_norm(0.5), fcnn.chain(fcnn.adam(0.05))), then(clip(0.5), adam(), MINUS)),
    (fcnn.chain(), nothing),
    (fcnn.masked(optim.scale_by_momentum(0.9), "*w"), for_some("w", momentum(0.9), nothing)),
    (
        fcnn.by_path({"*w": fcnn.adamw(0.05, weight_decay=0.1), "*": fcnn.sgd(0.05, momentum=0.5)}),
        for_some("w", then(adam(), decay(0.1), MINUS), then(momentum(0.5), MINUS)),
    ),
    (fcnn.by_path({"*w": optim.set_to_zero(), "*": fcnn.sgd(0.05)}), for_some("w", zero, MINUS)),
    (optim.set_to_zero(), zero),
    (optim.orthogonalize(2, 1e-3), orthogonal(2, 1e-3)),
    (optim.rescale_weights(), rescaled),
    (optim.add_weight_decay(0.1), decay(0.1)),
    (optim.scale_by_momentum(0.9), momentum(0.9)),
    (optim.scale_by_momentum(0.9, True), momentum(0.9, True)),
    (optim.scale_by_adam(0.8, 0.95, 1e-3), adam(0.8, 0.95, 1e-3)),
    (optim.scale_by_rms(0.8, 1e-3), rms(0.8, 1e-3)),
    (optim.scale_by_rms(centered=True), rms(centered=True)),
    (optim.scale_by_learning_rate(FALLING), descent(FALLING)),
)
OF_MATRICES = ("muon", "orthogonalize", "rescale_weights")
TREES = {  # with a single number, and with an array of none
    "a nest": {"conv": {"w": (2, 3), "b": (3,)}, "w": (), "none": {"w": (0, 4), "b": (2, 0)}},
    "a number": {"w": (), "b": ()},
}
every_transform = pytest.mark.parametrize(("transform", "formula"), TRANSFORMS, ids=[str(row[0]) for row in TRANSFORMS])
every_tree = pytest.mark.parametrize("shapes", TREES.values(), ids=TREES)


def fitting(transform: Transform, shapes: Any) -> Any:
    """The shapes, each with two axes at least if the transform learns matrices alone."""
    if isinstance(shapes, dict):
        return {name: fitting(transform, inner) for name, inner in shapes.items()}
    return (*shapes, 1, 1)[: max(2, len(shapes))] if str(transform).startswith(OF_MATRICES) else shapes


def drawn(shapes: Any, dtype: Any, seed: int) -> fcnn.Tree:
    rng = np.random.default_rng(seed)

    def draw(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: draw(inner) for name, inner in part.items()}
        return np.asarray(rng.standard_normal(part)).astype(dtype)

    return freeze(draw(shapes))


def paths_and_shapes(values: fcnn.Tree) -> dict[str, tuple[int, ...]]:
    return {path: leaf.shape for path, leaf in flatten(values).items()}


def test_the_table_has_every_transform() -> None:
    assert constructors(Transform) == {str(transform).partition("(")[0] for transform, _ in TRANSFORMS}


@every_tree
@every_transform
def test_step_by_step_it_is_the_published_formula(transform: Transform, formula: Formula, shapes: Any) -> None:
    shapes = fitting(transform, shapes)
    params = drawn(shapes, np.float64, 0)
    expected, kept = flatten(params), {}
    state = transform.init(params)
    for step in range(8):
        grads = drawn(shapes, np.float64, 1 + step)
        updates, state = transform.update(grads, state, params, step)
        changes = formula(step, dict(flatten(grads)), expected, kept)
        for path, update in flatten(updates).items():
            # A handful of roundings a step, of numbers around 1.
            np.testing.assert_allclose(update, changes[path], rtol=1e-12, atol=1e-14, err_msg=path)
        params = optim.apply_updates(params, updates)
        expected = {path: leaf + changes[path] for path, leaf in expected.items()}


@every_float
@every_tree
@every_transform
def test_updates_and_state_are_like_the_parameters(
    transform: Transform, formula: Formula, shapes: Any, dtype: type
) -> None:
    shapes = fitting(transform, shapes)
    params, grads = drawn(shapes, dtype, 0), drawn(shapes, dtype, 1)
    state = transform.init(params)
    updates, after = transform.update(grads, state, params, 3)
    like = paths_and_shapes(params)
    assert paths_and_shapes(updates) == like
    assert paths_and_shapes(after) == paths_and_shapes(state)
    for path, shape in paths_and_shapes(state).items():
        assert any(path.endswith(f"/{end}") and shape == like[end] for end in like), path
    changed = optim.apply_updates(params, updates)
    for values in (state, updates, after, changed):
        assert {leaf.dtype for leaf in flatten(values).values()} <= {np.dtype(dtype)}
        assert_handed_out(values)
    assert paths_and_shapes(changed) == like


@every_transform
def test_leaves_of_several_dtypes_keep_theirs(transform: Transform, formula: Formula) -> None:
    kinds = {"w": np.float32, "b": np.float64, "nest/w": np.float32, "nest/b": np.float64}
    params, grads = (
        unflatten({path: leaf.astype(kinds[path]) for path, leaf in flatten(drawn(shapes, np.float64, seed)).items()})
        for seed, shapes in enumerate([fitting(transform, {"w": (), "b": (), "nest": {"w": (2,), "b": (0,)}})] * 2)
    )
    updates, state = transform.update(grads, transform.init(params), params, 3)
    for values in (updates, optim.apply_updates(params, updates)):
        assert {path: leaf.dtype for path, leaf in flatten(values).items()} == kinds
        assert paths_and_shapes(values) == paths_and_shapes(params)
    for values in (state, transform.init(params)):
        assert all(
            leaf.dtype == kinds[path[-6:] if "nest" in path else path[-1]] for path, leaf in flatten(values).items()
        )


@every_tree
@every_transform
def test_transforms_are_pure(transform: Transform, formula: Formula, shapes: Any) -> None:
    shapes = fitting(transform, shapes)
    params, grads = drawn(shapes, np.float32, 0), drawn(shapes, np.float32, 1)
    state = transform.update(grads, transform.init(params), params, 0).state
    before = bits(params, grads, state)
    first, again = (transform.update(grads, state, params, 1) for _ in range(2))
    assert first == again
    assert bits(params, grads, state) == before
    assert transform.init(params) == transform.init(params)


@every_tree
@every_transform
def test_transforms_take_any_order_of_memory_and_bytes(transform: Transform, formula: Formula, shapes: Any) -> None:
    shapes = fitting(transform, shapes)
    params, grads = drawn(shapes, np.float64, 0), drawn(shapes, np.float64, 1)
    updates, state = transform.update(grads, transform.init(params), params, 0)
    for order in ("Fortran", "backwards", "swapped bytes"):
        other_params, other_grads = (tree.map(ORDERS[order], values) for values in (params, grads))
        for begin in (transform.init(params), transform.init(other_params)):
            found = transform.update(other_grads, begin, other_params, 0)
            for values, expected in ((found.updates, updates), (found.state, state)):
                assert paths_and_shapes(values) == paths_and_shapes(expected)
                for path, leaf in flatten(values).items():
                    # norms are sums of squares in the order of memory, rounded by 1.1e-16 each time
                    np.testing.assert_allclose(leaf, flatten(expected)[path], rtol=1e-13, err_msg=path)


@pytest.mark.parametrize("dtype", ["float16", "longdouble", "int64", "complex64"])
@every_transform
def test_parameters_of_other_dtypes_are_refused(transform: Transform, formula: Formula, dtype: str) -> None:
    params = tree.map(lambda leaf: leaf.astype(dtype), drawn(fitting(transform, TREES["a nest"]), np.float32, 0))
    name = str(np.dtype(dtype))
    with pytest.raises(TypeError, match=rf"^\w+ learns parameters of float32 or float64, got conv/w as {name}"):
        transform.init(params)


@every_transform
def test_gradients_of_another_structure_are_refused(transform: Transform, formula: Formula) -> None:
    params = drawn(fitting(transform, TREES["a nest"]), np.float64, 0)
    fewer = unflatten({path: leaf for path, leaf in flatten(params).items() if path != "conv/w"})
    state = transform.init(params)
    with pytest.raises(TreeError, match=r"the trees differ"):
        optim.apply_updates(params, transform.update(fewer, state, params, 0).updates)


@every_transform
def test_a_transform_prints_as_the_call_that_makes_it_again_and_pickles(transform: Transform, formula: Formula) -> None:
    params, grads = (
        drawn(fitting(transform, TREES["a nest"]), np.float32, 0),
        drawn(fitting(transform, TREES["a nest"]), np.float32, 1),
    )
    expected = transform.update(grads, transform.init(params), params, 2)
    for again in (eval(str(transform), {**vars(optim), **vars(fcnn)}), pickle.loads(pickle.dumps(transform))):
        assert str(again) == str(transform)
        assert again.update(grads, again.init(params), params, 2) == expected
    assert copy.deepcopy(transform) is copy.copy(transform) is transform


def test_a_transform_of_ones_own_pickles_as_what_it_is() -> None:
    own = Transform("own", optim.global_norm, optim.apply_updates)  # functions that have a name
    changed = attrs.evolve(fcnn.clip_by_global_norm(0.1), init=optim.global_norm, update=optim.apply_updates)
    for one in (own, changed):
        assert pickle.loads(pickle.dumps(one)) == one
