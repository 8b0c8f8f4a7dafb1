"""Optimizers as composable transforms of gradients, after optax's idea.

A `Transform` turns a tree of updates into another, with a state of its own. An optimizer is a chain of them, the last
of which multiplies by minus the learning rate, so that the new parameters are `params + updates`. All are pure: the
one step counter belongs to the training state and is passed in. Moments have the dtype of the parameters.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import attrs
import numpy as np

from fcnn.training.schedules import Rate, as_schedule
from fcnn.values import tree
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import number
from fcnn.values.tree import EMPTY, Tree, freeze


class Updated(NamedTuple):
    """What `Transform.update` gives."""

    updates: Tree
    state: Tree


@attrs.frozen
class Transform:
    """`init(params) -> state` and `update(updates, state, params, step) -> (updates, state)`.

    `parts` are the transforms of a chain, so that a chain within a chain lies flat.
    """

    name: str
    init: Callable[[Tree], Tree] = attrs.field(repr=False)
    update: Callable[[Tree, Tree, Tree, int], Updated] = attrs.field(repr=False)
    parts: "tuple[Transform, ...]" = ()


def chain(*transforms: Transform) -> Transform:
    """Apply transforms one after the other; the state is a tree by transform name, such as `adam/mu/conv1/w`.

    Raises ValueError if two transforms that keep a state have one name.

    >>> chain(clip_by_global_norm(1.0), adam(1e-3)).init(freeze({"w": np.ones(2)}))
    {adam: {mu: {w: float64[2]}, nu: {w: float64[2]}}}
    """
    parts = tuple(part for transform in transforms for part in (transform.parts or (transform,)))

    def init(params: Tree) -> Tree:
        states: dict[str, Tree] = {}
        for part in parts:
            state = part.init(params)
            if state and part.name in states:
                raise ValueError(f"chain has two transforms named {part.name} that keep a state; use one")
            if state:
                states[part.name] = state
        return freeze(states)

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        states: dict[str, Tree] = {}
        for part in parts:
            updates, new = part.update(updates, state.get(part.name, EMPTY), params, step)
            if new:
                states[part.name] = new
        return Updated(updates, freeze(states))

    return Transform("chain", init, update, parts)


def apply_updates(params: Tree, updates: Tree) -> Tree:
    """params + updates."""
    return tree.map_elementwise(lambda p, u: frozen(p + u), params, updates)


def sgd(lr: Rate, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0) -> Transform:
    """Stochastic gradient descent, as PyTorch's `SGD`: L2 in the gradient, then momentum, then the rate.

        g = g + weight_decay * p;   v = momentum * v + g;   p = p - lr * (g + momentum * v  if nesterov else  v)

    Args:
        lr: learning rate, a float or a schedule.
        momentum: 0 to less than 1 (I. Sutskever et al., ICML 2013).
        nesterov: look one step ahead; needs momentum.
        weight_decay: coefficient of L2 regularisation.
    """
    number("momentum", momentum, "[0, 1)")
    number("weight_decay", weight_decay, "[0, inf)")
    if nesterov and not momentum:
        raise ValueError("sgd with nesterov=True needs momentum > 0")
    parts = [add_weight_decay(weight_decay)] if weight_decay else []
    parts += [scale_by_momentum(momentum, nesterov)] if momentum else []
    return chain(*parts, scale_by_learning_rate(lr))


def adam(lr: Rate, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0) -> Transform:
    """Adam (D. Kingma and J. Ba, ICLR 2015, arXiv 1412.6980, algorithm 1), as PyTorch's `Adam`.

        mu = b1 * mu + (1 - b1) * g;        nu = b2 * nu + (1 - b2) * g²        with t = step + 1:
        p = p - lr * (mu / (1 - b1^t)) / (sqrt(nu / (1 - b2^t)) + eps)

    `weight_decay` is L2, added to the gradient; for the decoupled kind see `adamw`.

    >>> params = freeze({"w": np.array([1.0])})
    >>> optimizer = adam(0.1)
    >>> updates, state = optimizer.update(freeze({"w": np.array([7.0])}), optimizer.init(params), params, 0)
    >>> updates["w"].round(6)                                # the first step is lr, whatever the gradient's size
    array([-0.1])
    """
    number("weight_decay", weight_decay, "[0, inf)")
    parts = [add_weight_decay(weight_decay)] if weight_decay else []
    return chain(*parts, scale_by_adam(b1, b2, eps), scale_by_learning_rate(lr))


def adamw(lr: Rate, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.01) -> Transform:
    """Adam with decoupled weight decay (I. Loshchilov and F. Hutter, ICLR 2019, arXiv 1711.05101), as PyTorch's.

    As `adam`, and p = p - lr * weight_decay * p.
    """
    return chain(scale_by_adam(b1, b2, eps), add_weight_decay(weight_decay), scale_by_learning_rate(lr))


def clip_by_global_norm(max_norm: float) -> Transform:
    """Scale all gradients down together so that their joint L2 norm is at most `max_norm` (arXiv 1211.5063).

    >>> clip_by_global_norm(1.0).update(freeze({"w": np.array([3.0, 4.0])}), EMPTY, EMPTY, 0).updates["w"]
    array([0.6, 0.8])
    """
    number("max_norm", max_norm, "(0, inf)")

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        norm = global_norm(updates)
        if norm <= max_norm:
            return Updated(updates, EMPTY)
        return Updated(tree.map_elementwise(lambda g: frozen(g * (max_norm / norm)), updates), EMPTY)

    return Transform("clip_by_global_norm", _stateless, update)


def global_norm(updates: Tree) -> float:
    """The L2 norm of all numbers of a tree together."""
    return math.sqrt(sum(float(np.square(leaf, dtype=np.float64).sum()) for leaf in tree.flatten(updates).values()))


def add_weight_decay(coefficient: float) -> Transform:
    """Add coefficient * params to the updates."""
    number("weight_decay", coefficient, "[0, inf)")

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        return Updated(tree.map_elementwise(lambda g, p: frozen(g + coefficient * p), updates, params), EMPTY)

    return Transform("add_weight_decay", _stateless, update)


def scale_by_momentum(momentum: float, nesterov: bool = False) -> Transform:
    """A running sum of the updates, each weighing `momentum` times less a step later (the state's `velocity`)."""
    number("momentum", momentum, "[0, 1)")

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        velocity = tree.map_elementwise(lambda g, v: _flushed(momentum * v + g, step), updates, state["velocity"])
        ahead = tree.map_elementwise(lambda g, v: frozen(g + momentum * v), updates, velocity) if nesterov else velocity
        return Updated(ahead, freeze({"velocity": velocity}))

    return Transform("momentum", lambda params: freeze({"velocity": tree.map(_zeros, params)}), update)


def scale_by_adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Transform:
    """Adam's direction, without the rate: see `adam`."""
    number("b1", b1, "[0, 1)")
    number("b2", b2, "[0, 1)")
    number("eps", eps, "(0, inf)")

    def init(params: Tree) -> Tree:
        return freeze({"mu": tree.map(_zeros, params), "nu": tree.map(_zeros, params)})

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
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


def scale_by_learning_rate(lr: Rate) -> Transform:
    """Multiply by minus the learning rate of the step: the last transform of an optimizer."""
    schedule = as_schedule(lr)

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        factor = -float(schedule(step))
        return Updated(tree.map_elementwise(lambda g: frozen(g * factor), updates), EMPTY)

    return Transform("scale_by_learning_rate", _stateless, update)


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


def _zeros(leaf: Array) -> Array:
    return frozen(np.zeros_like(leaf))


def _stateless(params: Tree) -> Tree:
    return EMPTY
