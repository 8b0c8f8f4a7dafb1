"""Optimizers: they minimise, they are the published formulas, and they are pure; schedules at their corners."""

import math

import numpy as np
import pytest

import fcnn
from fcnn import adam, adamw, chain, clip_by_global_norm, freeze, optim, sgd, tree
from fcnn.training.schedules import constant_schedule, cosine, linear_warmup, piecewise_linear, step_decay
from fcnn.values.tree import EMPTY


def descend(optimizer, params, gradient, steps):
    state = optimizer.init(params)
    for step in range(steps):
        updates, state = optimizer.update(gradient(params), state, params, step)
        params = optim.apply_updates(params, updates)
    return params, state


def parabola(params):
    return freeze({"x": 2 * params["x"] * np.array([1.0, 10.0])})


def rosenbrock(params):
    a, b = params["x"]
    return freeze({"x": np.array([-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)])})


OPTIMIZERS = {
    "sgd": (sgd(0.04), sgd(1.5e-3), 20_000),
    "momentum": (sgd(0.01, momentum=0.9), sgd(5e-4, momentum=0.9), 6_000),
    "nesterov": (sgd(0.01, momentum=0.9, nesterov=True), sgd(5e-4, momentum=0.9, nesterov=True), 6_000),
    "adam": (adam(cosine(0.3, steps=400)), adam(0.03), 6_000),
    "adamw": (adamw(cosine(0.3, steps=400), weight_decay=0.0), adamw(0.03, weight_decay=0.0), 6_000),
    "clipped": (
        chain(clip_by_global_norm(5.0), sgd(0.03)),
        chain(clip_by_global_norm(1.0), sgd(1e-3, momentum=0.9)),
        6_000,
    ),
    "warmed up": (
        sgd(linear_warmup(step_decay(0.04, every=300, factor=0.5), steps=50)),
        adam(linear_warmup(piecewise_linear([(0, 0.05), (6_000, 0.01)]), steps=100)),
        6_000,
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_solves_a_parabola(name):
    found, _ = descend(OPTIMIZERS[name][0], freeze({"x": np.array([5.0, -3.0])}), parabola, 400)
    # it began 5 away: near enough to say that it converges
    assert np.abs(found["x"]).max() < 1e-3


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_solves_rosenbrock(name):
    _, optimizer, steps = OPTIMIZERS[name]
    found, _ = descend(optimizer, freeze({"x": np.array([-1.2, 1.0])}), rosenbrock, steps)
    # it began 2.2 away, at the other end of the valley
    np.testing.assert_allclose(found["x"], [1.0, 1.0], rtol=0, atol=0.02)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_the_first_step_of_adam_is_the_rate_whatever_the_gradients_size(size):
    params = freeze({"x": np.zeros(3)})
    gradient = freeze({"x": size * np.array([1.0, -2.0, 0.0])})
    optimizer = adam(0.01, eps=1e-12)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params, 0)
    # eps beside the smallest gradient, 1e-12 / 1e-4, and roundings
    np.testing.assert_allclose(updates["x"], [-0.01, 0.01, 0.0], rtol=1e-7)


def test_steps_count_from_0_and_reach_the_schedule_as_they_are():
    seen = []
    optimizer = sgd(lambda step: seen.append(step) or 0.1)
    descend(optimizer, freeze({"x": np.ones(1)}), lambda p: p, 3)
    assert seen == [0, 1, 2]


PARAMS = freeze({"conv1": {"w": np.ones((2, 3), np.float32), "b": np.ones(2, np.float32)}})
GRADS = tree.map(lambda leaf: leaf * np.float32(0.5), PARAMS)


@pytest.mark.parametrize(
    ("optimizer", "paths"),
    [
        (sgd(0.1), []),
        (sgd(0.1, momentum=0.9, weight_decay=0.1), ["momentum/velocity/conv1/w", "momentum/velocity/conv1/b"]),
        (adam(0.1), ["adam/mu/conv1/w", "adam/mu/conv1/b", "adam/nu/conv1/w", "adam/nu/conv1/b"]),
        (
            chain(clip_by_global_norm(1.0), chain(chain(adamw(0.1)))),
            ["adam/mu/conv1/w", "adam/mu/conv1/b", "adam/nu/conv1/w", "adam/nu/conv1/b"],
        ),
    ],
    ids=["sgd", "momentum", "adam", "chain in a chain"],
)
def test_the_state_is_a_tree_by_transform_name(optimizer, paths):
    state = optimizer.init(PARAMS)
    assert list(tree.flatten(state)) == paths
    after = optimizer.update(GRADS, state, PARAMS, 0).state
    assert list(tree.flatten(after)) == paths
    assert not any(leaf.any() for leaf in tree.flatten(state).values())


def test_a_chain_in_a_chain_lies_flat():
    inner = adamw(0.1)
    assert [part.name for part in chain(clip_by_global_norm(1.0), inner).parts] == [
        "clip_by_global_norm",
        *(part.name for part in inner.parts),
    ]


def test_two_transforms_without_state_may_have_one_name():
    optimizer = chain(clip_by_global_norm(2.0), clip_by_global_norm(1.0))
    assert optimizer.init(PARAMS) == EMPTY
    # float32: a sum of squares, a root and a quotient, 6e-8 each
    assert optim.global_norm(optimizer.update(PARAMS, EMPTY, PARAMS, 0).updates) == pytest.approx(1.0, rel=1e-7, abs=0)


@pytest.mark.parametrize("optimizer", [adam(0.1), sgd(0.1, momentum=0.9)], ids=["adam", "momentum"])
def test_moments_decay_to_0_and_not_to_denormals_which_are_slow(optimizer):
    params = freeze({"x": np.ones(2, np.float32)})
    state = optimizer.init(params)
    for step in range(1200):
        gradient = np.float32([0.0, 1.0]) if step else np.float32([1e-12, 1.0])
        _, state = optimizer.update(freeze({"x": gradient}), state, params, step)
    tiny = np.finfo(np.float32).smallest_normal
    for path, leaf in tree.flatten(state).items():
        assert leaf[0] == 0 or abs(leaf[0]) >= tiny, path
        assert leaf[1] > 0.5, path


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_what_is_too_small_for_a_normal_number_becomes_0_every_16_steps(kind):
    normal = np.finfo(kind).smallest_normal
    optimizer = optim.scale_by_momentum(0.9)
    params, still = freeze({"x": np.ones(2, kind)}), freeze({"x": np.zeros(2, kind)})
    for step in range(1, 33):
        velocity = freeze({"velocity": {"x": np.array([normal / 2, normal / kind(0.9)], kind)}})
        small, least = optimizer.update(still, velocity, params, step).state["velocity"]["x"]
        assert (small == 0) == (step % 16 == 0), step
        assert least >= normal, step  # the smallest normal number is one


def test_defaults_are_those_of_pytorch():
    # To the last bit, on numbers of which each matters: gradients as small as eps, parameters that decay.
    params, gradient = freeze({"x": np.array([3.0, -2.0])}), lambda params: freeze({"x": 1e-8 * params["x"] ** 3})
    for made, written in [
        (adam(0.1), adam(0.1, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0)),
        (adamw(0.1), adamw(0.1, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.01)),
        (optim.scale_by_adam(), optim.scale_by_adam(0.9, 0.999, 1e-8)),
        (sgd(0.1), sgd(0.1, momentum=0.0, nesterov=False, weight_decay=0.0)),
    ]:
        assert descend(made, params, gradient, 5) == descend(written, params, gradient, 5)


def test_clipping_is_joint_and_leaves_small_gradients_alone():
    grads = freeze({"a": np.array([3.0]), "b": np.array([[0.0, 4.0]])})
    clip = clip_by_global_norm(2.5)
    found = clip.update(grads, EMPTY, EMPTY, 0).updates
    assert (found["a"].tolist(), found["b"].tolist()) == ([1.5], [[0.0, 2.0]])
    assert clip.update(found, EMPTY, EMPTY, 0).updates == found
    assert clip_by_global_norm(5.0).update(grads, EMPTY, EMPTY, 0).updates == grads


def test_global_norm():
    assert optim.global_norm(freeze({"a": np.array([3.0]), "b": {"c": np.array([[4.0], [12.0]])}})) == 13.0
    assert optim.global_norm(EMPTY) == 0.0


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (constant_schedule(0.3), {0: 0.3, 10**6: 0.3}),
        (step_decay(1.0, every=3), {0: 1.0, 2: 1.0, 3: 0.1, 5: 0.1, 6: 0.01}),
        (cosine(2.0, steps=4, end=1.0), {0: 2.0, 1: 1.5 + math.sqrt(0.5) / 2, 2: 1.5, 4: 1.0, 5: 1.0, 99: 1.0}),
        (linear_warmup(0.8, steps=4), {0: 0.2, 2: 0.6, 3: 0.8, 4: 0.8, 99: 0.8}),
        (linear_warmup(0.8, steps=1), {0: 0.8, 1: 0.8}),
        (linear_warmup(step_decay(1.0, every=2), steps=4), {0: 0.25, 1: 0.5, 2: 0.075, 3: 0.1, 4: 0.01}),
        (piecewise_linear([(2, 1.0), (4, 0.0)]), {0: 1.0, 2: 1.0, 3: 0.5, 4: 0.0, 9: 0.0}),
        (piecewise_linear([(5, 0.7)]), {0: 0.7, 5: 0.7, 6: 0.7}),
    ],
)
def test_schedules_at_their_corners(schedule, values):
    for step, value in values.items():
        # a few roundings, 1.1e-16 each
        assert schedule(step) == pytest.approx(value, rel=1e-14, abs=0), step
        assert isinstance(schedule(step), float)


def test_gradients_of_another_network_are_refused_with_the_path():
    optimizer = fcnn.adam(0.1)
    with pytest.raises(fcnn.TreeError, match="conv1: the trees differ"):
        optimizer.update(freeze({"conv1": {"w": np.ones((2, 3))}}), optimizer.init(PARAMS), PARAMS, 0)
