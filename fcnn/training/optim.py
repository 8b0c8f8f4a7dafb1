"""Optimizers as composable transforms of gradients, after optax's idea.

A `Transform` turns a tree of updates into another, with a state of its own. An optimizer is a chain of them, the last
of which multiplies by minus the learning rate, so that the new parameters are `params + updates`. All are pure: the
one step counter belongs to the training state and is passed in. Moments have the dtype of the parameters.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fcnn.training.orthogonal import orthogonalize, rescale_weights
from fcnn.training.scaling import (
    add_weight_decay,
    scale_by_adam,
    scale_by_learning_rate,
    scale_by_momentum,
    scale_by_rms,
)
from fcnn.training.schedules import Rate
from fcnn.training.transform import (
    Transform,
    Updated,
    expect_state,
    expect_transform,
    stateless,
    transform_constructor,
    updated,
)
from fcnn.values import tree
from fcnn.values.arrays import Array, frozen, zeros_like
from fcnn.values.checks import boolean, number, told
from fcnn.values.configuration import one_by_one
from fcnn.values.patterns import Patterns, as_patterns, expect_matches, first_match
from fcnn.values.tree import EMPTY, Tree, expect_tree, freeze


@transform_constructor
def chain(*transforms: Transform) -> Transform:
    """Apply transforms one after the other; the state is a tree by transform name, such as `adam/mu/conv1/w`.

    Raises ValueError if two transforms that keep a state have one name.

    >>> chain(clip_by_global_norm(1.0), adam(1e-3)).init(freeze({"w": np.ones(2)}))
    {adam: {mu: {w: float64[2]}, nu: {w: float64[2]}}}
    """
    one_by_one("chain", "transforms", transforms)
    for transform in transforms:
        expect_transform("what is chained", transform)
    parts = tuple(part for transform in transforms for part in (transform.parts or (transform,)))
    names = dict.fromkeys(part.name for part in parts)

    def init(params: Tree) -> Tree:
        states: dict[str, Tree] = {}
        for part in parts:
            state = part.init(params)
            if state and part.name in states:
                raise ValueError(
                    f"chain has two transforms named {part.name} that keep a state; use one, "
                    "or by_path for other parameters"
                )
            if state:
                states[part.name] = state
        return freeze(states)

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        states: dict[str, Tree] = {}
        expect_state(state, names)
        for part in parts:
            updates, new = updated(part, updates, state.get(part.name, EMPTY), params, step)
            if new:
                states[part.name] = new
        return Updated(updates, freeze(states))

    return Transform("chain", init, update, parts)


def apply_updates(params: Tree, updates: Tree) -> Tree:
    """params + updates."""
    if not type(params) is type(updates) is Tree:
        expect_tree("params", params)
        expect_tree("updates", updates)
    return tree.map_elementwise(lambda p, u: frozen(p + u), params, updates)


@transform_constructor
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
    boolean("nesterov", nesterov)
    if nesterov and not momentum:
        raise ValueError("sgd with nesterov=True needs momentum > 0")
    parts = [add_weight_decay(weight_decay)] if weight_decay else []
    parts += [scale_by_momentum(momentum, nesterov)] if momentum else []
    return chain(*parts, scale_by_learning_rate(lr))


@transform_constructor
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


@transform_constructor
def adamw(lr: Rate, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.01) -> Transform:
    """Adam with decoupled weight decay (I. Loshchilov and F. Hutter, ICLR 2019, arXiv 1711.05101), as PyTorch's.

    As `adam`, and p = p - lr * weight_decay * p, for all parameters. Biases and batch norm are better left alone:

        chain(scale_by_adam(), masked(add_weight_decay(0.01), "*/w"), scale_by_learning_rate(lr))
    """
    return chain(scale_by_adam(b1, b2, eps), add_weight_decay(weight_decay), scale_by_learning_rate(lr))


@transform_constructor
def rmsprop(
    lr: Rate,
    *,
    decay: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
    weight_decay: float = 0.0,
) -> Transform:
    """RMSprop (T. Tieleman and G. Hinton, Neural Networks for Machine Learning, Coursera 2012, lecture 6.5e), as
    PyTorch's `RMSprop`: L2 in the gradient, then a step of about the same length for each parameter, then momentum.

        g = g + weight_decay * p;   nu = decay * nu + (1 - decay) * g²;   v = momentum * v + g / (sqrt(nu) + eps)
        p = p - lr * v

    Args:
        lr: learning rate, a float or a schedule.
        decay: how much of the mean of squares a step keeps, 0 to less than 1 (PyTorch's `alpha`; the lecture has 0.9).
        eps: keeps the step finite where gradients are 0.
        momentum: 0 to less than 1, of the steps.
        centered: divide by the root of the variance, nu - mu² with mu = decay * mu + (1 - decay) * g (A. Graves 2013,
            arXiv 1308.0850, equations 38 to 40, where eps is within the root).
        weight_decay: coefficient of L2 regularisation.

    >>> params = freeze({"w": np.array([1.0])})
    >>> optimizer = rmsprop(0.1)
    >>> updates, state = optimizer.update(freeze({"w": np.array([7.0])}), optimizer.init(params), params, 0)
    >>> updates["w"].round(6)                             # nu begins at 0, so the first step is lr / sqrt(1 - decay)
    array([-1.])
    """
    number("momentum", momentum, "[0, 1)")
    number("weight_decay", weight_decay, "[0, inf)")
    parts = [add_weight_decay(weight_decay)] if weight_decay else []
    parts += [scale_by_rms(decay, eps, centered)]
    parts += [scale_by_momentum(momentum)] if momentum else []
    return chain(*parts, scale_by_learning_rate(lr))


@transform_constructor
def muon(
    lr: Rate,
    momentum: float = 0.95,
    nesterov: bool = True,
    *,
    steps: int = 5,
    eps: float = 1e-7,
    rescale: bool = False,
) -> Transform:
    """Muon (K. Jordan et al., kellerjordan.github.io/posts/muon, 2024): momentum, made orthogonal, then the rate.

        v = momentum * v + g;   X = orthogonalize(g + momentum * v  if nesterov else  v);   p = p - lr * X

    For matrices and filters, each seen as a matrix (out, all the rest); a network's other parameters learn by another
    optimizer:

        by_path({"conv*/w": muon(0.02), "*": adam(1e-3)})

    Args:
        lr: learning rate, a float or a schedule: by about how much each singular value of a weight may change.
        momentum: 0 to less than 1.
        nesterov: look one step ahead; needs momentum.
        steps, eps: of `optim.orthogonalize`, which says what is done in them.
        rescale: give each weight the norm sqrt(out) before each step (`optim.rescale_weights`), for those that batch
            norm follows.

    >>> params = freeze({"w": np.eye(2)})
    >>> optimizer = muon(0.1)
    >>> updates, state = optimizer.update(freeze({"w": 7 * np.eye(2)}), optimizer.init(params), params, 0)
    >>> updates["w"].round(1)                                # a step's length is that of lr, whatever the gradient's
    array([[-0.1, -0. ], [-0. , -0.1]])
    """
    number("momentum", momentum, "[0, 1)")
    boolean("nesterov", nesterov)
    parts = [scale_by_momentum(momentum, nesterov)] if momentum else []
    parts += [orthogonalize(steps, eps), scale_by_learning_rate(lr)]
    return chain(*parts, rescale_weights()) if boolean("rescale", rescale) else chain(*parts)


@transform_constructor
def set_to_zero() -> Transform:
    """Updates of zero: parameters that stay as they are, to the bit, as one of the optimizers of `by_path`.

    Their gradients are computed nevertheless; `fcnn.hold` spares that.

    >>> by_path({"*/gamma": set_to_zero(), "*": sgd(0.1)})
    by_path({'*/gamma': set_to_zero(), '*': sgd(0.1)})
    """

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        return Updated(tree.map(zeros_like, updates), EMPTY)

    return Transform("set_to_zero", stateless, update)


@transform_constructor
def masked(transform: Transform, where: Patterns) -> Transform:
    """The transform for some parameters only; updates of all others pass through untouched, to the bit.

    It is a part of a chain, such as weight decay for weights. As an optimizer by itself it would add the others' bare
    gradients to them: to train a part, `hold` the rest, or use `by_path`.

    Args:
        transform: what is done to them; its state is of them alone.
        where: shell-style patterns of parameters' paths, such as "*/w" or ["fc*/w", "head/*"].

    `init` raises ValueError for a pattern that matches no path; it lists the paths there are.

    >>> params = freeze({"fc": {"w": np.ones(2), "b": np.ones(2)}})
    >>> decay = masked(add_weight_decay(0.5), "*/w")
    >>> decay.update(params, decay.init(params), params, 0).updates["fc"]
    {w: float64[2], b: float64[2]}
    >>> [leaf.tolist() for leaf in tree.flatten(decay.update(params, EMPTY, params, 0).updates).values()]
    [[1.5, 1.5], [1.0, 1.0]]
    """
    expect_transform("what is masked", transform)
    patterns = as_patterns(where, "*/w")

    def init(params: Tree) -> Tree:
        expect_matches("masked: no path", patterns, (path for path, _ in tree.leaves(params)))
        return transform.init(_part(params, patterns))

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        found, after = updated(transform, _part(updates, patterns), state, _part(params, patterns), step)
        return Updated(_joined(updates, found), after)

    return Transform(f"masked_{transform.name}", init, update)


@transform_constructor
def by_path(transforms: Mapping[str, Transform]) -> Transform:
    """Other transforms for other parameters: each path goes by the first pattern that matches it.

    Args:
        transforms: an optimizer for each shell-style pattern of parameters' paths, such as
            {"head/*": adam(1e-3), "*": adam(1e-5)}.

    `init` raises ValueError for a pattern that no path goes by, and for paths that no pattern matches.

    >>> optimizer = by_path({"fc/w": adamw(1e-3), "*": adam(1e-3)})
    >>> optimizer.init(freeze({"fc": {"w": np.ones(2), "b": np.ones(2)}}))["group2"]
    {adam: {mu: {fc: {b: float64[2]}}, nu: {fc: {b: float64[2]}}}}
    """
    if not isinstance(transforms, Mapping) or not transforms:
        raise TypeError(
            f'by_path expects transforms by patterns, such as {{"*": fcnn.adam(1e-3)}}, got {told(transforms)}'
        )
    transforms = dict(transforms)  # the caller's may change
    for pattern, transform in transforms.items():
        if not isinstance(pattern, str):
            raise TypeError(f"by_path's patterns are text, got {told(pattern)}")
        expect_transform(f"what goes by {pattern!r}", transform)
    patterns = tuple(transforms)
    groups = dict.fromkeys(f"group{k}" for k in range(1, len(patterns) + 1))

    def parts(values: Tree) -> list[Tree]:
        groups: list[dict[str, Array]] = [{} for _ in patterns]
        for path, leaf in tree.leaves(values):
            group = first_match(patterns, path)
            if group is None:
                raise ValueError(f"by_path: no pattern matches {path}; there are {', '.join(map(repr, patterns))}")
            groups[group][path] = leaf
        return [tree.unflatten(group) for group in groups]

    def init(params: Tree) -> Tree:
        paths = [path for path, _ in tree.leaves(params)]
        left = [path for path in paths if first_match(patterns, path) is None]
        if left:
            raise ValueError(f'by_path: no pattern matches {", ".join(left)}; add one, such as "*"')
        gone = [patterns[k] for k in range(len(patterns)) if k not in {first_match(patterns, path) for path in paths}]
        if gone:
            raise ValueError(f"by_path: no path goes by {', '.join(map(repr, gone))}; there are {', '.join(paths)}")
        states = [part.init(group) for part, group in zip(transforms.values(), parts(params), strict=True)]
        return freeze({f"group{k}": state for k, state in enumerate(states, 1) if state})

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        states, after = {}, updates
        expect_state(state, groups)
        for k, (part, ups, values) in enumerate(
            zip(transforms.values(), parts(updates), parts(params), strict=True), 1
        ):
            found, states[f"group{k}"] = updated(part, ups, state.get(f"group{k}", EMPTY), values, step)
            after = _joined(after, found)
        return Updated(after, freeze({name: new for name, new in states.items() if new}))

    return Transform("by_path", init, update)


@transform_constructor
def clip_by_global_norm(max_norm: float) -> Transform:
    """Scale all gradients down together so that their joint L2 norm is at most `max_norm` (arXiv 1211.5063).

    Infinite gradients become NaN, which the loss of the next step will show: clipping hides none.

    >>> clip_by_global_norm(1.0).update(freeze({"w": np.array([3.0, 4.0])}), EMPTY, EMPTY, 0).updates["w"]
    array([0.6, 0.8])
    """
    number("max_norm", max_norm, "(0, inf)")

    def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
        norm = global_norm(updates)
        if norm <= max_norm:
            return Updated(updates, EMPTY)
        with np.errstate(invalid="ignore"):  # inf * 0
            return Updated(tree.map_elementwise(lambda g: frozen(g * (max_norm / norm)), updates), EMPTY)

    return Transform("clip_by_global_norm", stateless, update)


def global_norm(updates: Tree) -> float:
    """The L2 norm of all numbers of a tree together: right also where their squares would overflow float64."""
    leaves = tree.flatten(expect_tree("updates", updates)).values()
    with np.errstate(over="ignore"):
        norm = math.sqrt(sum(float(np.square(leaf, dtype=np.float64).sum()) for leaf in leaves))
    if norm != math.inf:
        return norm
    greatest = max(float(np.abs(leaf).max(initial=0.0)) for leaf in leaves)
    if not greatest < math.inf:
        return greatest
    return greatest * math.sqrt(sum(float(np.square(leaf / greatest).sum()) for leaf in leaves))


def _part(values: Tree, patterns: Sequence[str]) -> Tree:
    """The tree of the leaves whose path matches one of the patterns."""
    return tree.unflatten({path: leaf for path, leaf in tree.leaves(values) if first_match(patterns, path) is not None})


def _joined(whole: Tree, part: Tree) -> Tree:
    """The whole with the leaves of a part of it replaced."""
    return tree.unflatten({**tree.flatten(whole), **tree.flatten(part)})
