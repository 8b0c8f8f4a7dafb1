"""A network is data, so what changes a network is a function from networks to networks. All stand on `rewrite`.

None of them needs a mode or a hook, and the paths of parameters survive them all.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import attrs
import numpy as np

from fcnn.network.layer import Grads, Layer, LayerError, Out, expect_layer
from fcnn.values import tree
from fcnn.values.arrays import Array, zeros_like
from fcnn.values.checks import function, instance, texts, told
from fcnn.values.keys import Key
from fcnn.values.patterns import Patterns, as_patterns, expect_matches, first_match
from fcnn.values.tree import Tree

Rule = Callable[[str, Layer], Layer]


def rewrite(network: Layer, rule: Rule, path: str = "") -> Layer:
    """The network in which `rule(path, layer)` has replaced every layer, from the innermost outwards.

    A combinator is made again, by its `make`, of what the rule made of its children, and then given to the rule
    itself. Names stay, and so do the paths of parameters. `path` is that of the network, "" for a whole one.

    A rule that changes a combinator's functions makes a network that can't be rewritten again, in `evaluate` either:
    that raises LayerError. What changes layers without children can be, as often as one likes.

    >>> from fcnn import relu, serial, tanh
    >>> rewrite(serial(a=relu(), b=serial(c=relu())), lambda path, layer: tanh() if layer.kind == "relu" else layer)
    serial(a=tanh(), b=serial(c=tanh()))
    """
    expect_layer("network", network)
    return _rewrite(
        network,
        function("rule", rule, "a function (path, layer) that gives a layer"),
        instance("path", path, str, 'text, such as "res1/body"'),
    )


def _rewrite(network: Layer, rule: Rule, path: str) -> Layer:
    children = {
        name: _rewrite(child, rule, f"{path}/{name}" if path else name) for name, child in network.children.items()
    }
    if not children:
        return _ruled(rule, path, network)
    again = network.make(**network.config, **children)
    if getattr(again.apply, "__code__", None) is not getattr(network.apply, "__code__", None):
        raise LayerError("a rule changed this combinator, so its constructor can't make it again", path)
    return _ruled(rule, path, again)


def _ruled(rule: Rule, path: str, layer: Layer) -> Layer:
    made = rule(path, layer)
    if not isinstance(made, Layer):
        raise LayerError(f"the rule gave {told(made)} for {told(layer)}, where it gives a layer", path)
    return made


def rewrite_leaves(network: Layer, rule: Rule) -> Layer:
    """As `rewrite`, with a rule for the layers that have no children: what it makes can always be rewritten again."""
    return rewrite(network, lambda path, layer: layer if layer.children else rule(path, layer))


def leaves(network: Layer, path: str = "") -> Iterator[tuple[str, Layer]]:
    """Every layer without children, with its path, in order."""
    if not network.children:
        yield path, network
    for name, child in network.children.items():
        yield from leaves(child, f"{path}/{name}" if path else name)


def every_layer(network: Layer) -> Iterator[Layer]:
    """The network and every layer in it."""
    yield network
    for child in network.children.values():
        yield from every_layer(child)


def hold(network: Layer, patterns: Patterns, *more: NoReturn, only: str | Sequence[str] = ()) -> Layer:
    """The network with some layers frozen: they go on computing, and don't learn.

    A held layer's gradients are zeros of the same structure, and are never computed; the backward pass ends where
    nothing before it learns. It computes as in evaluation also in training: held batch norm uses its running mean and
    variance and *doesn't* go on averaging, held dropout drops nothing. A step of `fcnn.train_step` leaves the
    parameters of held layers as they are, to the bit, whatever the optimizer (weight decay, say) would do.

    With `only`, just these of their parameters are frozen: the layers learn the others, and compute in training as
    they did. Of convolutions and dense layers the gradient of what is frozen isn't computed.

    Args:
        network: any network.
        patterns: shell-style patterns of layers' paths, such as "conv*", "res1/*" or ["stem", "bn?"]; a `*` matches
            slashes too.
        only: names of parameters, such as "w" or ["w", "b"]; none: the layers as a whole.

    Raises ValueError for a pattern that matches no layer; it lists the paths there are.

    >>> from fcnn import conv2d, dense, flatten, serial
    >>> held = hold(serial(conv1=conv2d(6, 5), flatten=flatten(), fc=dense(10)), "conv*")
    >>> [path for path, layer in leaves(held) if layer.held]
    ['conv1']
    >>> held_paths(hold(held, "fc", only="w"))
    ['conv1', 'fc/w']
    """
    expect_layer("network", network)
    if more:  # Python's own error would not say that a list is meant
        given = [patterns, *more]
        advice = f"; hold(network, {given}) is such" if all(isinstance(one, str) for one in given) else ""
        raise TypeError(
            f"hold takes a network and its patterns, one text or a list of them, got {1 + len(given)} arguments{advice}"
        )
    wanted = as_patterns(patterns, "conv*")
    names = (only,) if isinstance(only, str) else texts("only", only, 'text, such as "w"')
    expect_matches("hold: no layer's path", wanted, (path for path, _ in leaves(network)))
    rule = functools.partial(_held_in_part, names) if names else _held
    return rewrite_leaves(network, lambda path, layer: layer if first_match(wanted, path) is None else rule(layer))


def held_paths(network: Layer) -> list[str]:
    """The paths of all that is held, layers and parameters, in order."""
    return [
        "/".join(filter(None, (path, name)))
        for path, layer in leaves(network)
        for name in ([""] if layer.held else layer.held_params)
    ]


def _held(layer: Layer) -> Layer:
    skips = _skips(layer)

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        return layer.apply(params, state, x, train=False, key=key)

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        zeros = tree.map(zeros_like, params)
        if not need_dx:
            return Grads(None, zeros)
        less: dict[str, Any] = {"need_params": False} if skips else {}
        return Grads(layer.backward(params, cache, dy, need_dx=True, **less).dx, zeros)

    return attrs.evolve(layer, apply=apply, backward=backward, held=True, rewritten=True, origin=(_held, layer))


def _held_in_part(names: tuple[str, ...], layer: Layer) -> Layer:
    skips = _skips(layer)

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        unknown = [name for name in names if name not in params]
        if unknown:
            raise LayerError(
                f"hold: only {', '.join(unknown)}; the layer's parameters are {', '.join(params) or 'none'}"
            )
        return layer.apply(params, state, x, train=train, key=key)

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        less: dict[str, Any] = {"need_params": params.keys() - set(names)} if skips else {}
        dx, found = layer.backward(params, cache, dy, need_dx=need_dx, **less)
        zeros = tree.map(zeros_like, tree.freeze({name: params[name] for name in names}))
        return Grads(dx, tree.freeze({name: zeros[name] if name in zeros else found[name] for name in params}))

    return attrs.evolve(
        layer,
        apply=apply,
        backward=backward,
        held_params=tuple(dict.fromkeys((*layer.held_params, *names))),
        rewritten=True,
        origin=(functools.partial(_held_in_part, names), layer),
    )


def _skips(layer: Layer) -> bool:
    """Whether the layer can be told which gradients of parameters are needed."""
    return "need_params" in inspect.signature(layer.backward).parameters


def checked(network: Layer) -> Layer:
    """The network that raises LayerError, with the path, at the first output or gradient that is not finite.

    The first in the order of computation: a layer whose output is infinite or NaN although its input wasn't, or whose
    gradients are although the gradient that came to it wasn't. Checking costs a pass over every array.

    >>> from fcnn import dense, key, relu, serial
    >>> network = checked(serial(fc1=dense(2), relu1=relu()))
    >>> made = network.init(key(0), (3,))
    >>> network.apply(made.params, made.state, np.full((1, 3), np.inf, np.float32), train=False)
    Traceback (most recent call last):
    ...
    fcnn.network.layer.LayerError: fc1: the output is not finite: 2 of 2 numbers
    """
    return rewrite_leaves(network, lambda path, layer: _checked(layer))


def _checked(layer: Layer) -> Layer:
    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            out = layer.apply(params, state, x, train=train, key=key)
        _expect_finite("the output", out.y)
        return out

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            grads = layer.backward(params, cache, dy, need_dx=need_dx)
        if grads.dx is not None:
            _expect_finite("the gradient of the input", grads.dx)
        for name, leaf in tree.leaves(grads.params):
            _expect_finite(f"the gradient of {name}", leaf)
        return grads

    return attrs.evolve(layer, apply=apply, backward=backward, rewritten=True, origin=(_checked, layer))


def _expect_finite(what: str, array: Array) -> None:
    wrong = array.size - np.count_nonzero(np.isfinite(array))
    if wrong:
        raise LayerError(f"{what} is not finite: {wrong} of {array.size} numbers")


def without_caches(network: Layer) -> Layer:
    """The network that keeps nothing for a backward pass, for evaluation.

    It needs the memory of the layer at work, not of all of them. Its outputs are those of the network, to the bit; its
    `backward` raises LayerError.
    """
    return rewrite_leaves(network, lambda path, layer: _without_cache(layer))


def _without_cache(layer: Layer) -> Layer:
    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        return layer.apply(params, state, x, train=train, key=key)._replace(cache=None)

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        raise LayerError("a network without caches has no backward pass; take the network that it was made of")

    return attrs.evolve(layer, apply=apply, backward=backward, rewritten=True, origin=(_without_cache, layer))
