"""What optimizers are made of beside chains: transforms that scale each number of the gradients by itself.

Moments, which a transform keeps from step to step, have the dtype of the parameters.
"""

import math

import numpy as np

from fcnn.training.schedules import Rate, as_schedule, rate_at
from fcnn.training.transform import Transform, Updated, expect_state, stateless, transform_constructor
from fcnn.values import tree
from fcnn.values.arrays import Array, frozen, zeros_like
from fcnn.values.checks import boolean, number, single
from fcnn.values.tree import EMPTY, Tree, freeze

_OF_MOMENTUM, _OF_ADAM = {"velocity": None}, {"mu": None, "nu": None}  # what their states hold


@transform_constructor
def add_weight_decay(coefficient: float) -> Transform:
    """Add coefficient * params to the updates."""
    number("weight_decay", coefficient, "[0, inf)")

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        return Updated(tree.map_elementwise(lambda g, p: frozen(g + coefficient * p), updates, params), EMPTY)

    return Transform("add_weight_decay", stateless, update)


@transform_constructor
def scale_by_momentum(momentum: float, nesterov: bool = False) -> Transform:
    """A running sum of the updates, each weighing `momentum` times less a step later (the state's `velocity`)."""
    number("momentum", momentum, "[0, 1)")
    boolean("nesterov", nesterov)

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        expect_state(state, _OF_MOMENTUM, all_of_them=True)
        velocity = tree.map_elementwise(lambda g, v: _flushed(momentum * v + g, step), updates, state["velocity"])
        ahead = tree.map_elementwise(lambda g, v: frozen(g + momentum * v), updates, velocity) if nesterov else velocity
        return Updated(ahead, freeze({"velocity": velocity}))

    return Transform("momentum", lambda params: freeze({"velocity": tree.map(zeros_like, params)}), update)


@transform_constructor
def scale_by_adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Transform:
    """Adam's direction, without the rate: see `adam`.

    A gradient whose square overflows, beyond 1e19 in float32, makes `nu` infinite, and its parameter stands still from
    then on. Put `clip_by_global_norm` before it where such may come.
    """
    number("b1", b1, "[0, 1)")
    number("b2", b2, "[0, 1)")
    single("eps", eps, "(0, inf)")

    def init(params: Tree) -> Tree:
        return freeze({"mu": tree.map(zeros_like, params), "nu": tree.map(zeros_like, params)})

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        expect_state(state, _OF_ADAM, all_of_them=True)
        mu = tree.map_elementwise(lambda m, g: _average(m, g, b1, step), state["mu"], updates)
        nu = tree.map_elementwise(lambda v, g: _average(v, g * g, b2, step), state["nu"], updates)
        # With c1 = 1 / (1 - b1^t) and c2 = 1 / sqrt(1 - b2^t), both plain numbers, the direction of `adam`'s formula is
        #     c1 m / (c2 sqrt(v) + eps)  =  m / (sqrt(v) c2 / c1 + eps / c1):
        # one pass over the arrays less, and no array but the root itself.
        c1, c2 = 1 / (1 - b1 ** (step + 1)), 1 / math.sqrt(1 - b2 ** (step + 1))

        def direction(m: Array, v: Array) -> Array:
            scale = np.asarray(np.sqrt(v))
            scale *= c2 / c1
            scale += eps / c1
            return frozen(np.divide(m, scale, out=scale))

        return Updated(tree.map_elementwise(direction, mu, nu), freeze({"mu": mu, "nu": nu}))

    return Transform("adam", init, update)


@transform_constructor
def scale_by_rms(decay: float = 0.99, eps: float = 1e-8, centered: bool = False) -> Transform:
    """Divide by the root of a running mean of squares, without the rate: see `rmsprop`.

    The state's `nu` is the mean of squares, and where it is centered `mu` that of the updates. As in `scale_by_adam`, a
    square that overflows stays in `nu`.
    """
    number("decay", decay, "[0, 1)")
    single("eps", eps, "(0, inf)")
    held = _OF_ADAM if boolean("centered", centered) else {"nu": None}

    def init(params: Tree) -> Tree:
        return freeze({name: tree.map(zeros_like, params) for name in held})

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        expect_state(state, held, all_of_them=True)
        moments = {"nu": tree.map_elementwise(lambda v, g: _average(v, g * g, decay, step), state["nu"], updates)}
        variances = moments["nu"]
        if centered:
            moments["mu"] = tree.map_elementwise(lambda m, g: _average(m, g, decay, step), state["mu"], updates)
            # Rounding would take the variance of equal gradients below 0, where it has no root.
            variances = tree.map_elementwise(lambda v, m: frozen(np.maximum(v - m * m, 0)), variances, moments["mu"])
        scaled = tree.map_elementwise(lambda g, v: frozen(g / (np.sqrt(v) + eps)), updates, variances)
        return Updated(scaled, freeze({name: moments[name] for name in held}))

    return Transform("rms", init, update)


@transform_constructor
def scale_by_learning_rate(lr: Rate) -> Transform:
    """Multiply by minus the learning rate of the step: the last transform of an optimizer."""
    schedule = as_schedule("lr", lr)

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        factor = -rate_at(schedule, step)
        return Updated(tree.map_elementwise(lambda g: frozen(g * factor), updates), EMPTY)

    return Transform("scale_by_learning_rate", stateless, update)


def _average(old: Array, new: Array, decay: float, step: int) -> Array:
    total = np.asarray(new * (1 - decay))
    total += old * decay
    return _flushed(total, step)


def _flushed(moment: Array, step: int) -> Array:
    """A moment in which, every 16 steps, what is too small for a normal float becomes 0.

    Denormal numbers are slow and may never decay. That often is enough, and costs nothing to speak of.
    """
    moment = np.asarray(moment)
    if step % 16 == 0:
        moment *= np.abs(moment) >= np.finfo(moment.dtype).smallest_normal
    return frozen(moment)
