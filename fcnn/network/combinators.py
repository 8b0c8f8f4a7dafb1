"""Combinators: layers made of layers. They know of a child only what the contract of `fcnn.network.layer` says.

A child's name is its key in the parameters, the state and the gradients, and its key's name for random draws, so that
inserting a layer changes nothing in the others. Children without parameters or state take no place in the trees.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from fcnn.network.layer import Functions, Grads, Init, Layer, LayerError, Out, Shape, error_path
from fcnn.network.layers.shape import identity
from fcnn.values import tree
from fcnn.values.arrays import Array, frozen
from fcnn.values.keys import Key, fold_in
from fcnn.values.tree import EMPTY, Tree, check_name, freeze


def serial(*layers: Layer, **named: Layer) -> Layer:
    """One layer after the other.

    Keyword names become the keys of the parameters; positional layers come first and are named by kind and ordinal.
    A layer holds no weights: one object in two places is two layers, each with weights of its own.

    >>> from fcnn import conv2d, dense, flatten, key, relu
    >>> serial(conv2d(6, 5), relu(), flatten(), dense(10))
    serial(conv2d1=conv2d(6, 5), relu1=relu(), flatten1=flatten(), dense1=dense(10))
    >>> serial(flatten(), dense(10)).init(key(0), (1, 4, 4)).params
    {dense1: {w: float32[10, 16], b: float32[10]}}
    >>> twice = dense(4)
    >>> list(serial(a=twice, b=twice).init(key(0), (4,)).params)
    ['a', 'b']
    """
    children = _named("serial", layers, named)

    def init(key: Key, in_shape: Shape) -> Init:
        made, shape = {}, tuple(in_shape)
        for name, child in children.items():
            with error_path(name):
                made[name] = child.init(fold_in(key, name), shape)
            shape = made[name].out_shape
        return _joined(made, shape)

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        _only(params, children)
        states, caches = {}, {}
        for name, child in children.items():
            x, states[name], caches[name] = _apply(name, child, params, state, x, train, key)
        return Out(x, _states(states), caches)

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        # The first children's dx is wanted only for parameters before them, or by the caller.
        wanted, needs, learns = need_dx, {}, {}
        for name, child in children.items():
            needs[name], learns[name] = wanted, _learns(child, params.get(name))
            wanted = wanted or learns[name]
        grads: dict[str, Tree] = {}
        dx: Array | None = dy
        for name, child in reversed(children.items()):
            if dx is None or not (needs[name] or learns[name]):
                return Grads(None, _gradients(params, grads))
            with error_path(name):
                dx, grads[name] = child.backward(params.get(name, EMPTY), cache[name], dx, need_dx=needs[name])
        return Grads(dx, _gradients(params, grads))

    return Layer("serial", {}, children, serial, init, apply, backward)


def residual(body: Layer, shortcut: Layer | None = None) -> Layer:
    """body(x) + shortcut(x) (K. He et al., CVPR 2016, arXiv 1512.03385); the shortcut is the identity by default.

    >>> from fcnn import conv2d, key
    >>> residual(conv2d(8, 3, padding=1)).init(key(0), (8, 5, 5)).params
    {body: {w: float32[8, 8, 3, 3], b: float32[8]}}
    """
    children = {"body": body, "shortcut": identity() if shortcut is None else shortcut}
    for name, child in children.items():
        _check_layer("residual", name, child)
    return Layer("residual", {}, children, residual, *_parallel("residual", children, "sum"))


def branch(*layers: Layer, merge: Literal["sum", "concat"], **named: Layer) -> Layer:
    """Several layers on one input, their outputs added or put side by side along the channels (or features).

    >>> from fcnn import conv2d, key
    >>> branch(merge="concat", a=conv2d(2, 1), b=conv2d(3, 3, padding=1)).init(key(0), (4, 5, 5)).out_shape
    (5, 5, 5)
    """
    if merge not in ("sum", "concat"):
        raise ValueError(f'branch expects merge="sum" or merge="concat", got {merge!r}')
    children = _named("branch", layers, named)
    return Layer("branch", {"merge": merge}, children, branch, *_parallel("branch", children, merge))


def _parallel(kind: str, children: Mapping[str, Layer], merge: Literal["sum", "concat"]) -> Functions:
    def init(key: Key, in_shape: Shape) -> Init:
        made = {}
        for name, child in children.items():
            with error_path(name):
                made[name] = child.init(fold_in(key, name), tuple(in_shape))
        shapes = {name: one.out_shape for name, one in made.items()}
        first = next(iter(shapes.values()))
        free = 0 if merge == "sum" else 1  # the leading axes in which the children may differ
        if any(len(shape) != len(first) or shape[free:] != first[free:] for shape in shapes.values()):
            got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            same = "the same shape" if merge == "sum" else "the same shape after the first axis"
            raise LayerError(f"{kind} expects children of {same}, got {got}")
        return _joined(made, first if merge == "sum" else (sum(s[0] for s in shapes.values()), *first[1:]))

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        _only(params, children)
        outs = {name: _apply(name, child, params, state, x, train, key) for name, child in children.items()}
        ys = [out.y for out in outs.values()]
        states = _states({name: out.state for name, out in outs.items()})
        caches = {name: out.cache for name, out in outs.items()}
        y = _total(ys) if merge == "sum" else frozen(np.concatenate(ys, axis=1))
        return Out(y, states, (caches, [one.shape[1] for one in ys]))

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        caches, widths = cache
        parts = [dy] * len(children) if merge == "sum" else np.split(dy, np.cumsum(widths)[:-1], axis=1)
        grads, dxs = {}, []
        for (name, child), part in zip(children.items(), parts, strict=True):
            if need_dx or _learns(child, params.get(name)):
                with error_path(name):
                    dx, grads[name] = child.backward(params.get(name, EMPTY), caches[name], part, need_dx=need_dx)
                dxs.append(dx)
        return Grads(_total([dx for dx in dxs if dx is not None]) if need_dx else None, _gradients(params, grads))

    return Functions(init, apply, backward)


def _named(kind: str, layers: tuple[Layer, ...], named: Mapping[str, Layer]) -> dict[str, Layer]:
    children: dict[str, Layer] = {}
    ordinals: dict[str, int] = {}
    for layer in layers:
        _check_layer(kind, "a positional argument", layer)
        ordinals[layer.kind] = ordinals.get(layer.kind, 0) + 1
        children[f"{layer.kind}{ordinals[layer.kind]}"] = layer
    for name, layer in named.items():
        _check_layer(kind, name, layer)
        if name in children:
            raise ValueError(f"{kind}: the name {name} is taken by a positional layer; choose another")
        check_name(name)
        children[name] = layer
    if not children:
        raise ValueError(f"{kind} expects at least one layer")
    return children


def _check_layer(kind: str, name: str, layer: object) -> None:
    if not isinstance(layer, Layer):
        raise TypeError(f"{kind} expects layers, got {layer!r} for {name}; call the constructor, such as relu()")


def _apply(name: str, child: Layer, params: Tree, state: Tree, x: Array, train: bool, key: Key | None) -> Out:
    with error_path(name):
        return child.apply(
            params.get(name, EMPTY),
            state.get(name, EMPTY),
            x,
            train=train,
            key=None if key is None else fold_in(key, name),
        )


def _only(params: Tree, children: Mapping[str, Layer]) -> None:
    unknown = [name for name in params if name not in children]
    if unknown:
        raise LayerError(f"the parameters have {', '.join(unknown)}, but the network has {', '.join(children)}")


def _joined(made: Mapping[str, Init], out_shape: Shape) -> Init:
    params = freeze({name: one.params for name, one in made.items() if one.params})
    state = freeze({name: one.state for name, one in made.items() if one.state})
    return Init(params, state, out_shape, sum(one.macs for one in made.values()))


def _states(states: Mapping[str, Tree]) -> Tree:
    return freeze({name: state for name, state in states.items() if state})


def _learns(layer: Layer, params: Tree | None) -> bool:
    """Whether the layer has parameters, and not only those of held layers."""
    if not params or layer.held:
        return False
    return not layer.children or any(_learns(child, params.get(name)) for name, child in layer.children.items())


def _gradients(params: Tree, grads: Mapping[str, Tree]) -> Tree:
    """A tree like the parameters; zeros where no gradient was computed, as nothing there learns."""
    return freeze({name: grads.get(name) or _zeros(params[name]) for name in params})


def _zeros(params: Tree) -> Tree:
    return tree.map(lambda leaf: frozen(np.zeros_like(leaf)), params)


def _total(arrays: list[Array]) -> Array:
    total = np.array(arrays[0], order="K")
    for array in arrays[1:]:
        total += array
    return frozen(total)
