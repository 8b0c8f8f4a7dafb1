"""A network in words: as plain data, and as a table."""

import math
from typing import Any

import attrs

from fcnn.network.initializers import Initializer
from fcnn.network.layer import Init, Layer, Shape
from fcnn.network.rewriting import rewrite
from fcnn.values.keys import Key, key
from fcnn.values.tree import size

_FLOAT32 = 4  # bytes


def describe(layer: Layer) -> dict[str, Any]:
    """A layer as plain data for JSON: kind, config and children. An initializer has a kind and a config, too."""

    def plain(value: Any) -> Any:
        if isinstance(value, Initializer):
            return {"kind": value.kind, "config": {name: plain(v) for name, v in value.config.items()}}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)

    return {
        "kind": layer.kind,
        "config": {name: plain(value) for name, value in layer.config.items()},
        "children": {name: describe(child) for name, child in layer.children.items()},
    }


def summary(layer: Layer, in_shape: Shape) -> str:
    """A table of every layer inside `layer`, with what each takes for one input.

    Path, layer, output shape without the batch axis, parameters, multiply-adds (of convolutions and dense layers), and
    the memory of its output, the activations, in float32.

    Raises LayerError, with the path, where the shapes don't fit.
    """
    made, rows = _inits(layer, tuple(in_shape))
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


def _inits(layer: Layer, in_shape: Shape) -> tuple[Init, list[tuple[str, Layer, Init]]]:
    """What `init` of the network gives, and of every layer without children, in order; each is asked once.

    The network runs its own `init`, in which each layer notes what it gave: so no combinator need be known.
    """
    found: dict[str, tuple[str, Layer, Init]] = {}

    def noting(path: str, one: Layer) -> Layer:
        def init(key: Key, in_shape: Shape, /) -> Init:
            made = one.init(key, in_shape)
            if not one.children:
                found[path] = path, one, made
            return made

        return attrs.evolve(one, init=init)

    return rewrite(layer, noting).init(key(0), in_shape), list(found.values())


def _memory(*shapes: Shape) -> str:
    """The memory of float32 arrays of these shapes."""
    size = sum(map(math.prod, shapes)) * _FLOAT32
    return f"{size} B" if size < 1024 else f"{size / 1024:,.1f} KiB"
