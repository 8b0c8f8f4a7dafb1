"""Combinators: layers made of layers. What they do with their children is in `fcnn.network.children`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import attrs

from fcnn.network.children import (
    apply_child,
    backward_child,
    caches_of,
    can_learn,
    expect_children,
    gradients_of,
    init_child,
    joined,
    named_children,
    no_cache,
    states_of,
)
from fcnn.network.layer import (
    Functions,
    Grads,
    Init,
    Layer,
    Out,
    Shape,
    expect_call,
    expect_layer,
)
from fcnn.network.layers.shape import flatten, identity, reshape
from fcnn.network.layers.stochastic import dropout
from fcnn.network.merging import Merge, added, merged, merged_shape, parted
from fcnn.values.arrays import Array, keep
from fcnn.values.checks import boolean, floats, lengths, one_of, output_gradient
from fcnn.values.keys import Key, expect_key
from fcnn.values.tree import Tree


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
    children = named_children("serial", layers, named)
    return in_runs(children, [one_after_another({name: child}) for name, child in children.items()])


_THE_SAME_IN_EVALUATION = (identity, dropout, flatten, reshape)


def last_of(network: Layer) -> Layer:
    """The layer whose outputs are the network's in evaluation, but for their shape; it may lie in nested `serial`s.

    >>> from fcnn import dense, softmax
    >>> last_of(serial(a=dense(2), b=serial(c=softmax(), d=identity())))
    softmax()
    """
    return next((layer for layer in _from_the_last(network) if layer.make not in _THE_SAME_IN_EVALUATION), network)


def _from_the_last(layer: Layer) -> Iterator[Layer]:
    if layer.make is not serial:
        yield layer
        return
    for child in reversed([*layer.children.values()]):
        yield from _from_the_last(child)


class Run(NamedTuple):
    """Some neighbours in a `serial` that are computed together.

    apply: (params, state, x, train, key) -> (y, their states by name, cache), of the serial's trees and key.
    backward: (params, cache, dy, need_dx) -> (dx or None, their gradients by name).
    """

    names: tuple[str, ...]
    apply: Callable[[Tree, Tree, Array, bool, Key | None], tuple[Array, Mapping[str, Tree], Any]]
    backward: Callable[[Tree, Any, Array, bool], tuple[Array | None, Mapping[str, Tree]]]


def in_runs(children: Mapping[str, Layer], runs: Sequence[Run]) -> Layer:
    """The `serial` of these children, computed run by run; each child is in one of them, in order."""

    def init(key: Key, in_shape: Shape) -> Init:
        expect_key("key", key)
        made, shape = {}, lengths("in_shape", in_shape)
        for name, child in children.items():
            made[name] = init_child(name, child, key, shape)
            shape = made[name].out_shape
        return joined(made, shape)

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        expect_call(params, state, train, key)
        expect_children(params, children)
        states: dict[str, Tree] = {}
        caches = {}
        for run in runs:
            x, found, caches[run.names] = run.apply(params, state, x, train, key)
            states.update(found)
        return Out(x, states_of(states), caches)

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        expect_children(params, children)
        if type(cache) is not dict or cache.keys() != {run.names for run in runs}:
            raise no_cache("serial", cache)
        if dy is None:  # which from a child means that nothing before it learns
            floats("serial's dy", dy)
        # The first children's dx is wanted only for parameters before them, or by the caller.
        wanted, needs, learns = boolean("need_dx", need_dx), {}, {}
        for run in runs:
            needs[run.names] = wanted
            learns[run.names] = any(can_learn(children[name], params.get(name)) for name in run.names)
            wanted = wanted or learns[run.names]
        grads: dict[str, Tree] = {}
        dx: Array | None = dy
        for run in reversed(runs):
            if dx is None or not (needs[run.names] or learns[run.names]):
                return Grads(None, gradients_of(params, grads))
            dx, found = run.backward(params, cache[run.names], dx, needs[run.names])
            grads.update(found)
        return Grads(dx, gradients_of(params, grads))

    return Layer("serial", {}, children, serial, init, apply, backward)


def one_after_another(children: Mapping[str, Layer]) -> Run:
    """The run that computes its children as they are."""

    def apply(
        params: Tree, state: Tree, x: Array, train: bool, key: Key | None
    ) -> tuple[Array, Mapping[str, Tree], Any]:
        states, caches = {}, {}
        for name, child in children.items():
            x, states[name], caches[name] = apply_child(name, child, params, state, x, train, key)
        return x, states, caches

    def backward(params: Tree, cache: Any, dy: Array, need_dx: bool) -> tuple[Array | None, Mapping[str, Tree]]:
        grads: dict[str, Tree] = {}
        dx: Array | None = dy
        names = list(children)
        for at in reversed(range(len(names))):
            if dx is None:
                break
            wanted = need_dx or any(can_learn(children[name], params.get(name)) for name in names[:at])
            dx, grads[names[at]] = backward_child(names[at], children[names[at]], params, cache, dx, wanted)
        return dx, grads

    return Run(tuple(children), apply, backward)


def residual(body: Layer, shortcut: Layer | None = None) -> Layer:
    """body(x) + shortcut(x) (K. He et al., CVPR 2016, arXiv 1512.03385); the shortcut is the identity by default.

    >>> from fcnn import conv2d, key
    >>> residual(conv2d(8, 3, padding=1)).init(key(0), (8, 5, 5)).params
    {body: {w: float32[8, 8, 3, 3], b: float32[8]}}
    """
    children = {"body": body, "shortcut": identity() if shortcut is None else shortcut}
    for name, child in children.items():
        expect_layer(f"residual's {name}", child)
    return Layer("residual", {}, children, residual, *_parallel("residual", children, "sum"))


def branch(*layers: Layer, merge: Merge, **named: Layer) -> Layer:
    """Several layers on one input, their outputs merged into one.

    Args:
        layers, named: the layers, named as in `serial`.
        merge: "sum" adds the outputs, which are of one shape; "concat" puts them side by side along the channels (or
            features); "multiply" multiplies them, and a length of 1 meets any other, as in NumPy: so a gate (C, 1, 1)
            scales the channels of maps (C, H, W) (J. Hu et al., CVPR 2018, arXiv 1709.01507, equation 4).

    >>> from fcnn import adaptive_avg_pool2d, conv2d, identity, key, relu, sigmoid
    >>> branch(merge="concat", a=conv2d(2, 1), b=conv2d(3, 3, padding=1)).init(key(0), (4, 5, 5)).out_shape
    (5, 5, 5)
    >>> gate = serial(adaptive_avg_pool2d(1), conv2d(2, 1), relu(), conv2d(4, 1), sigmoid())
    >>> branch(merge="multiply", x=identity(), gate=gate).init(key(0), (4, 5, 5)).out_shape
    (4, 5, 5)
    """
    one_of("branch's merge", merge, ("sum", "concat", "multiply"))
    children = named_children("branch", layers, named)
    return Layer("branch", {"merge": merge}, children, branch, *_parallel("branch", children, merge))


@attrs.frozen
class MergedCache:
    """What the backward pass of parallel layers needs: their caches, and the output's shape.

    widths: of "concat", the channels of each.
    factors: of "multiply", the output of each.
    """

    caches: Mapping[str, Any]
    shape: Shape
    widths: Sequence[int]
    factors: Sequence[Array]


def _parallel(kind: str, children: Mapping[str, Layer], merge: Merge) -> Functions:
    def init(key: Key, in_shape: Shape) -> Init:
        expect_key("key", key)
        shape = lengths("in_shape", in_shape)
        made = {name: init_child(name, child, key, shape) for name, child in children.items()}
        return joined(made, merged_shape(kind, merge, {name: one.out_shape for name, one in made.items()}, 0))

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        expect_call(params, state, train, key)
        expect_children(params, children)
        outs = {name: apply_child(name, child, params, state, x, train, key) for name, child in children.items()}
        ys = {name: out.y for name, out in outs.items()}
        shape = merged_shape(kind, merge, {name: y.shape for name, y in ys.items()}, 1)
        widths = [one.shape[1] for one in ys.values()] if merge == "concat" else []
        factors = [keep(one) for one in ys.values()] if merge == "multiply" else []
        states = states_of({name: out.state for name, out in outs.items()})
        caches = {name: out.cache for name, out in outs.items()}
        return Out(merged(merge, [*ys.values()]), states, MergedCache(caches, shape, widths, factors))

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        need_dx = boolean("need_dx", need_dx)
        expect_children(params, children)
        if type(cache) is not MergedCache:
            raise no_cache(kind, cache)
        caches = caches_of(kind, cache.caches, children)
        dy = output_gradient(f"{kind}'s backward", dy, cache.shape)
        parts = parted(merge, dy, cache.widths, cache.factors, len(children))
        grads, dxs = {}, []
        for (name, child), part in zip(children.items(), parts, strict=True):
            if need_dx or can_learn(child, params.get(name)):
                dx, grads[name] = backward_child(name, child, params, caches, part, need_dx)
                dxs.append(dx)
        return Grads(added([dx for dx in dxs if dx is not None]) if need_dx else None, gradients_of(params, grads))

    return Functions(init, apply, backward)
