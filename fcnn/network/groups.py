"""Which neighbours in a `serial` can be computed as one, recognised by the constructors that made them.

A group is a convolution or a dense layer, then batch norm, ReLU and, after a convolution, a 2x2 max pool, as far as
they are there in this order; or another elementwise activation in the place of the last two. Layers that were
rewritten, such as held ones, are in none: nobody knows what they do.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

from fcnn.network import layers
from fcnn.network.layer import Layer
from fcnn.ops.window import Geometry
from fcnn.values.arrays import Array
from fcnn.values.checks import FLOATS, pair
from fcnn.values.tree import EMPTY, Tree

Role = Literal["conv", "dense", "norm", "relu", "pool", "act", "other"]
_MAKES: dict[Role, Any] = {"conv": layers.conv2d, "dense": layers.dense, "norm": layers.batch_norm, "relu": layers.relu}
_ACTS: tuple[Any, ...] = (
    layers.clip, layers.elu, layers.gelu, layers.hardsigmoid, layers.hardswish, layers.leaky_relu, layers.relu6,
    layers.sigmoid, layers.silu, layers.softplus, layers.tanh,
)  # fmt: skip
_AFTER: dict[Role, tuple[Role, ...]] = {"conv": ("norm", "relu", "pool", "act"), "dense": ("norm", "relu", "act")}


def groups(children: Mapping[str, Layer], acts: bool = False) -> Iterator[dict[Role, str]]:
    """All children in order, in groups: the name by role. What is in no group is alone, as "other".

    With `acts`, activations other than ReLU are in groups, and those after none are alone as "act".
    """
    names = [*children]
    while names:
        found = _group([(name, _role(children[name], acts)) for name in names])
        yield found
        names = names[len(found) :]


def _group(left: list[tuple[str, Role]]) -> dict[Role, str]:
    name, role = left.pop(0)
    if role not in _AFTER:
        return {role if role == "act" else "other": name}
    found: dict[Role, str] = {role: name}
    for after in _AFTER[role]:
        taken = after == "act" and ("relu" in found or "pool" in found)
        if left and left[0][1] == after and not taken:
            found[after] = left.pop(0)[0]
    return found


def _role(layer: Layer, acts: bool) -> Role:
    if layer.rewritten:
        return "other"
    if acts and layer.make in _ACTS:
        return "act"
    if layer.make is layers.max_pool2d:
        config = layer.config
        window = pair("window", config["window"], least=1)
        stride = window if config["stride"] is None else pair("stride", config["stride"], least=1)
        plain = config["padding"] in (0, (0, 0), ((0, 0), (0, 0))) and not config["ceil_mode"]
        return "pool" if plain and window == stride == (2, 2) else "other"
    return next((role for role, make in _MAKES.items() if layer.make is make), "other")


def are_trees(names: Iterable[str], params: Tree, state: Tree) -> bool:
    """Whether what layers of these names have is a tree each, and no array in a tree's place."""
    return all(type(values.get(name, EMPTY)) is Tree for name in names for values in (params, state))


def own_weights(own: Tree, bias: bool) -> tuple[Array, Array | None] | None:
    """w and b of a convolution or a dense layer; None where its parameters aren't as they must be."""
    if type(own) is not Tree or own.keys() != ({"w", "b"} if bias else {"w"}):
        return None
    w, b = own["w"], own.get("b")
    if type(w) is not np.ndarray or (bias and type(b) is not np.ndarray):
        return None
    return None if b is not None and (b.shape != w.shape[:1] or b.dtype != w.dtype) else (w, b)


def geometry(x: Any, w: Array, config: Mapping[str, Any]) -> Geometry | None:
    """Where a convolution's windows lie in x; None where x doesn't go with the weights."""
    parts = config["groups"]
    if type(x) is not np.ndarray or x.ndim != 4 or w.ndim != 4 or not x.size or not w.size:
        return None
    if x.shape[1] != w.shape[1] * parts or len(w) % parts:
        return None
    if x.dtype.type not in FLOATS or x.dtype != w.dtype:
        return None
    try:
        return Geometry.of(x.shape, w.shape, config["stride"], config["padding"], config["dilation"], parts)
    except ValueError:
        return None


def are_norms(params: Tree, state: Tree, like: Array) -> bool:
    """Whether these are batch norm's, one number for each row of `like`, and of its dtype."""
    if type(params) is not Tree or type(state) is not Tree:
        return False
    if params.keys() != {"gamma", "beta"} or state.keys() != {"mean", "var"}:
        return False
    leaves = [*params.values(), *state.values()]
    return all(
        type(leaf) is np.ndarray and leaf.shape == like.shape[:1] and leaf.dtype == like.dtype for leaf in leaves
    )
