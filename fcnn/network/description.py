"""A network in words: as plain data, there and back, and as a table."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import numpy as np

from fcnn.network import layers
from fcnn.network.combinators import branch, residual, serial
from fcnn.network.initializers import (
    Initializer,
    constant,
    dirac,
    he,
    kaiming_uniform,
    lecun,
    unallocated,
    xavier,
    zeros,
)
from fcnn.network.layer import MOST_DEPTH, Init, Layer, LayerError, Shape, expect_layer
from fcnn.network.rewriting import leaves, rewrite
from fcnn.network.views import averaged_views
from fcnn.values.checks import lengths, told
from fcnn.values.keys import Key, key
from fcnn.values.text import printable
from fcnn.values.tree import size

_FLOAT32 = 4  # bytes
_MOST_LAYERS = 10_000  # of a description
_CONSTRUCTORS = (*(getattr(layers, name) for name in layers.__all__), serial, residual, branch, averaged_views)
_INITIALIZERS = {make.__name__: make for make in (he, xavier, lecun, kaiming_uniform, zeros, constant, dirac)}


def describe(layer: Layer) -> dict[str, Any]:
    """A layer as plain data for JSON: kind, config and children. An initializer has a kind and a config, too."""

    def plain(value: Any) -> Any:
        if isinstance(value, Initializer):
            return {"kind": value.kind, "config": {name: plain(v) for name, v in value.config.items()}}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return value if value is None or isinstance(value, (bool, int, float, str)) else {"repr": repr(value)}

    expect_layer("describe's layer", layer)
    return {
        "kind": layer.kind,
        "config": {name: plain(value) for name, value in layer.config.items()},
        "children": {name: describe(child) for name, child in layer.children.items()},
    }


def build(description: Any, *, layers: Iterable[Callable[..., Layer]] = ()) -> Layer:
    """The network of a description: the inverse of `describe`.

    A description may come from anywhere: it is made of this library's constructors, and of those named in `layers`,
    with plain values, at most 100 layers one within the other and 10,000 in all; nothing else is called.

    Args:
        description: what `describe` gives, also after a way through JSON.
        layers: constructors of layers, combinators and initializers of one's own that may occur, each known by its
            name.

    Raises LayerError, with the path, for anything that isn't a network.

    >>> from fcnn import conv2d, relu, serial
    >>> build(describe(serial(conv1=conv2d(6, 5), relu1=relu())))
    serial(conv1=conv2d(6, 5), relu1=relu())
    """
    known = {make.__name__: make for make in (*_CONSTRUCTORS, *expect_constructors("layers", layers))}
    left = _MOST_LAYERS

    def made(node: Any, path: str, depth: int) -> Layer:
        nonlocal left
        left -= 1
        if left < 0 or depth > MOST_DEPTH:
            limit = f"{_MOST_LAYERS:,} layers" if left < 0 else f"{MOST_DEPTH} layers one within the other"
            raise LayerError(f"a description has at most {limit}", path)
        kind, config, children = _parts(node, path)
        if kind not in known:
            raise LayerError(f"no constructor of layers is called {told(kind)}; name your own in layers=", path)
        arguments = {name: _plain_value(value, path, known) for name, value in config.items()}
        parts = {
            name: made(child, f"{path}/{_short(name)}" if path else _short(name), depth + 1)
            for name, child in children.items()
        }
        try:
            layer = known[kind](**arguments, **parts)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise LayerError(f"{kind}: {printable(str(error), 400)}", path) from error
        if not isinstance(layer, Layer) or layer.children.keys() != parts.keys():
            raise LayerError(f"{kind} is not made of {printable(', '.join(parts), 200) or 'nothing'}", path)
        return layer

    try:
        return made(description, "", 0)
    except RecursionError:
        raise LayerError("a description's values are not lists within lists within lists") from None


def _short(name: str) -> str:
    return printable(name, 80)


def expect_constructors(name: str, value: object) -> list[Callable[..., Layer]]:
    """A user's own constructors, if they are such, in a list."""
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes, Mapping, np.ndarray)):
        raise TypeError(f"{name} is a list of constructors, got {told(value)}")
    found = list(value)
    for make in found:
        if not callable(make) or not hasattr(make, "__name__"):
            expected = "a constructor of layers or initializers, such as layer_constructor makes of a function"
            raise TypeError(f"each of {name} is {expected}, got {told(make)}")
    return found


def _parts(node: Any, path: str) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    """The kind, config and children of a layer's description."""
    expected = {"kind": str, "config": Mapping, "children": Mapping}
    if not isinstance(node, Mapping) or node.keys() != expected.keys():
        came = ", ".join(str(name)[:20] for name in [*node][:5]) if isinstance(node, Mapping) else type(node).__name__
        expectation = "a layer is described by kind, config and children"
        raise LayerError(f"{expectation}, got {printable(came) or 'nothing'}", path)
    for name, kind in expected.items():
        if not isinstance(node[name], kind):
            raise LayerError(f"{name} is {'text' if kind is str else 'a mapping'}, got {told(node[name])}", path)
    for name in (*node["config"], *node["children"]):
        if not isinstance(name, str):
            raise LayerError(f"names are text, got {told(name)}", path)
    return node["kind"], node["config"], node["children"]


def _plain_value(value: Any, path: str, known: Mapping[str, Any], depth: int = 0) -> Any:
    """An argument: a plain value, a tuple of such, or an initializer."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)) and depth < 2:
        return tuple(_plain_value(one, path, known, depth + 1) for one in value)
    if isinstance(value, Mapping) and value.keys() == {"kind", "config"} and isinstance(value["config"], Mapping):
        make = _INITIALIZERS.get(str(value["kind"])) or known.get(str(value["kind"]))
        if make is not None and depth < 2:
            try:
                return make(
                    **{str(name): _plain_value(one, path, known, depth + 1) for name, one in value["config"].items()}
                )
            except (TypeError, ValueError, ArithmeticError) as error:
                raise LayerError(f"{value['kind']}: {printable(str(error), 400)}", path) from error
    raise LayerError(f"arguments are plain values, got {told(value)}", path)


def summary(layer: Layer, in_shape: Shape) -> str:
    """A table of every layer inside `layer`, with what each takes for one input.

    Path, layer, output shape without the batch axis, parameters, multiply-adds (of convolutions and dense layers), and
    the memory of its output, the activations, in float32.

    Raises LayerError, with the path, where the shapes don't fit.
    """
    expect_layer("summary's layer", layer)
    in_shape = lengths("in_shape", in_shape)
    found = inits(layer, in_shape)
    made, rows = found[""], [(path, one, found[path]) for path, one in leaves(layer) if path in found]
    table = [["path", "layer", "output", "parameters", "multiply-adds", "activations"]]
    for path, one, its in rows:
        counts = [f"{number:,}" if number else "" for number in (size(its.params), its.macs)]
        table.append([path or one.kind, repr(one), str(its.out_shape), *counts, _memory(its.out_shape)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    aligned = [f"<{width}" for width in widths[:3]] + [f">{width}" for width in widths[3:]]
    lines = ["  ".join(map(format, row, aligned)) for row in table]
    rule = "-" * max(len(line) for line in lines)
    total = [f"input {tuple(in_shape)}", f"{size(made.params):,} parameters"]
    total += [f"{size(made.state):,} numbers of state"] if made.state else []
    total += [
        f"{made.macs:,} multiply-adds",
        f"{_memory(*(its.out_shape for _, _, its in rows))} of activations an input",
    ]
    return "\n".join([lines[0], rule, *lines[1:], rule, ", ".join(total)])


def inits(layer: Layer, in_shape: Shape) -> dict[str, Init]:
    """What `init` of the network and of every layer in it gives, by path, "" for the network; each is asked once.

    The network runs its own `init`, in which each layer notes what it gave: so no combinator need be known. It is asked
    for shapes alone: no weights are drawn, and they take no memory.

    Raises LayerError, with the path, where the shapes don't fit.
    """
    found: dict[str, Init] = {}

    def noting(path: str, one: Layer) -> Layer:
        asked = one if one.children else without_numbers(one)

        def init(key: Key, in_shape: Shape, /) -> Init:
            found[path] = asked.init(key, in_shape)
            return found[path]

        return attrs.evolve(one, init=init)

    rewrite(layer, noting).init(key(0), tuple(in_shape))
    return found


def without_numbers(layer: Layer) -> Layer:
    """A layer without children whose weights take no memory, for asking it what shapes it has."""
    less = {name: unallocated() for name, value in layer.config.items() if isinstance(value, Initializer)}
    return layer.make(**{**layer.config, **less}) if less else layer


def _memory(*shapes: Shape) -> str:
    """The memory of float32 arrays of these shapes."""
    size = sum(map(math.prod, shapes)) * _FLOAT32
    return f"{size} B" if size < 1024 else f"{size / 1024:,.1f} KiB"
