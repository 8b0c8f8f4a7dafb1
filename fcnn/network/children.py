"""What combinators do with the layers that they are made of, their children.

They know of a child only what the contract of `fcnn.network.layer` says. A child's name is its key in the parameters,
the state and the gradients, and its key's name for random draws, so that inserting a layer changes nothing in the
others. Children without parameters or state take no place in the trees.
"""

from collections.abc import Mapping
from typing import Any

from fcnn.network.layer import (
    Grads,
    Init,
    Layer,
    LayerError,
    Out,
    Shape,
    error_path,
    expect_layer,
    expect_values,
)
from fcnn.values import tree
from fcnn.values.arrays import Array, zeros_like
from fcnn.values.checks import instance, told
from fcnn.values.configuration import one_by_one
from fcnn.values.keys import Key, fold_in
from fcnn.values.tree import EMPTY, Tree, check_name, freeze


def named_children(kind: str, layers: tuple[Layer, ...], named: Mapping[str, Layer]) -> dict[str, Layer]:
    """The children by name: keyword names, and kind and ordinal of what came without one."""
    children: dict[str, Layer] = {}
    ordinals: dict[str, int] = {}
    one_by_one(kind, "layers", layers)
    for layer in layers:
        expect_layer(f"{kind}'s argument", layer)
        ordinals[layer.kind] = ordinals.get(layer.kind, 0) + 1
        children[f"{layer.kind}{ordinals[layer.kind]}"] = layer
    for name, layer in named.items():
        expect_layer(f"{kind}'s {name}", layer)
        if name in children:
            raise ValueError(f"{kind}: the name {name} is taken by a positional layer; choose another")
        check_name(name)
        children[name] = layer
    if not children:
        raise ValueError(f"{kind} expects at least one layer")
    return children


def init_child(name: str, child: Layer, key: Key, in_shape: Shape) -> Init:
    """What a child makes, with a key of its own."""
    with error_path(name):
        made = child.init(fold_in(key, name), in_shape)
        return instance("what init gives", made, Init, "Init(params, state, out_shape)")


def apply_child(name: str, child: Layer, params: Tree, state: Tree, x: Array, train: bool, key: Key | None) -> Out:
    """What a child makes of x, given its parent's values and key."""
    with error_path(name):
        out = child.apply(
            params.get(name, EMPTY),
            state.get(name, EMPTY),
            x,
            train=train,
            key=None if key is None else fold_in(key, name),
        )
        return out if type(out) is Out else instance("what apply gives", out, Out, "Out(y, state, cache)")


def backward_child(
    name: str, child: Layer, params: Tree, caches: Mapping[str, Any], dy: Array, need_dx: bool
) -> tuple[Array | None, Tree]:
    """The gradients of a child, given its parent's parameters and the caches by child."""
    with error_path(name):
        grads = child.backward(params.get(name, EMPTY), caches[name], dy, need_dx=need_dx)
        return grads if type(grads) is Grads else instance("what backward gives", grads, Grads, "Grads(dx, params)")


def caches_of(kind: str, cache: Any, children: Mapping[str, Layer]) -> Mapping[str, Any]:
    """The caches by child, if these are what `apply` gave."""
    if type(cache) is not dict or cache.keys() != children.keys():
        raise no_cache(kind, cache)
    return cache


def no_cache(kind: str, cache: object) -> TypeError:
    """The error where a cache is not what `apply` gave."""
    return TypeError(f"{kind}'s cache is the one that its apply gave, got {told(cache)}")


def expect_children(params: Tree, children: Mapping[str, Layer]) -> None:
    """Raise LayerError where there are parameters of no child."""
    expect_values("params", params)
    unknown = params.keys() - children.keys()
    if unknown:
        named = ", ".join(name for name in params if name in unknown)
        raise LayerError(f"the parameters have {named}, but the network has {', '.join(children)}")


def joined(made: Mapping[str, Init], out_shape: Shape) -> Init:
    """What the parent makes, of what its children made."""
    params = freeze({name: one.params for name, one in made.items() if one.params})
    state = freeze({name: one.state for name, one in made.items() if one.state})
    return Init(params, state, out_shape, sum(one.macs for one in made.values()))


def states_of(states: Mapping[str, Tree]) -> Tree:
    """The parent's state, of those of its children."""
    return freeze({name: state for name, state in states.items() if state})


def can_learn(layer: Layer, params: Tree | None) -> bool:
    """Whether the layer has parameters, and not only those of held layers."""
    if type(params) is not Tree:
        return params is not None  # an array: so that the layer is asked, which refuses it
    if not params or layer.held:
        return False
    return not layer.children or any(can_learn(child, params.get(name)) for name, child in layer.children.items())


def gradients_of(params: Tree, grads: Mapping[str, Tree]) -> Tree:
    """A tree like the parameters; zeros where no gradient was computed, as nothing there learns."""
    return freeze({name: grads.get(name) or tree.map(zeros_like, params[name]) for name in params})
