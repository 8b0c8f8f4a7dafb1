"""A graph of ONNX put together, and the bytes of its file (github.com/onnx/onnx/blob/main/onnx/onnx.proto).

An attribute or a value's type is a message of a few fields; the numbers in the calls of `field` are theirs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fcnn.exchange.onnx_graph import PRODUCER
from fcnn.exchange.protobuf_writing import Pieces, field, fields
from fcnn.network.layer import Shape
from fcnn.values.arrays import Array

# The first set in which every layer is an operator or two: it has GroupNormalization with a scale for each channel, and
# Gelu (since 20). It came with the tenth version of the file, in 2024, and onnxruntime reads both from 1.18 on.
OPSET, IR_VERSION = 21, 10
INPUT, OUTPUT, BATCH = "x", "y", "N"

Attribute: TypeAlias = int | float | str | Sequence[int] | None

DATA_TYPES = {"float32": 1, "int64": 7, "float64": 11}


class Node(NamedTuple):
    """One operator: what it is called, the values that it takes, and the one that it gives."""

    operator: str
    name: str
    inputs: Sequence[str]
    output: str
    attributes: Mapping[str, Attribute]


class Graph:
    """Nodes in the order of computation, given arrays by name, and the shapes of values without the batch axis.

    A node has the path of its layer as its name, and what it gives is called that path and `/y`; no array has such a
    name, as no layer has a parameter `y`. The network's own input and output are `x` and `y`.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.nodes: list[Node] = []
        self.arrays: dict[str, Array] = {}
        self.shapes: dict[str, Shape] = {}

    def array(self, name: str, values: Any) -> str:
        """Add an array; its name. Numbers of float64 become of the network's dtype, others stay what they are."""
        found = np.asarray(values)
        self.arrays[name] = found.astype(self.dtype) if found.dtype == np.float64 else found
        return name

    def node(self, operator: str, path: str, inputs: Sequence[str], /, **attributes: Attribute) -> str:
        """Add a node; the name of what it gives. An attribute that is None isn't there."""
        output = f"{path}/{OUTPUT}" if path else OUTPUT
        given = {name: value for name, value in attributes.items() if value is not None}
        self.nodes.append(Node(operator, path or operator, inputs, output, given))
        return output


def model_pieces(graph: Graph, in_shape: Shape, out_shape: Shape, facts: Mapping[str, str]) -> Pieces:
    """The file of a graph whose last node gives the output, with facts about the model, text by name."""
    *first, last = graph.nodes
    nodes = [*first, last._replace(output=OUTPUT)]
    shapes = {name: shape for name, shape in graph.shapes.items() if name not in (OUTPUT, last.output)}
    kind = DATA_TYPES[graph.dtype.name]
    body = [
        *fields(1, map(_node, nodes)),
        *field(2, "network"),
        *fields(5, (_tensor(name, array) for name, array in graph.arrays.items())),
        *field(11, _value(INPUT, in_shape, kind)),
        *field(12, _value(OUTPUT, out_shape, kind)),
        *fields(13, (_value(name, shape, kind) for name, shape in shapes.items())),
    ]
    return [
        *field(1, IR_VERSION),
        *field(2, PRODUCER),
        *field(7, body),
        *field(8, field(2, OPSET)),
        *fields(14, ([*field(1, name), *field(2, text)] for name, text in facts.items())),
    ]


def _node(node: Node) -> Pieces:
    return [
        *fields(1, node.inputs),
        *field(2, node.output),
        *field(3, node.name),
        *field(4, node.operator),
        *fields(5, (_attribute(name, value) for name, value in node.attributes.items())),
    ]


def _attribute(name: str, value: Attribute) -> Pieces:
    if isinstance(value, float):
        return [*field(1, name), *field(2, value), *field(20, 1)]
    if isinstance(value, int):
        return [*field(1, name), *field(3, int(value)), *field(20, 2)]
    if isinstance(value, str):
        return [*field(1, name), *field(4, value), *field(20, 3)]
    return [*field(1, name), *fields(8, value or ()), *field(20, 7)]


def _tensor(name: str, array: Array) -> Pieces:
    numbers = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
    return [
        *fields(1, array.shape),
        *field(2, DATA_TYPES[array.dtype.name]),
        *field(8, name),
        *field(9, numbers.data),
    ]


def _value(name: str, shape: Shape, kind: int) -> Pieces:
    dims = [field(2, BATCH), *(field(1, length) for length in shape)]
    return [*field(1, name), *field(2, field(1, [*field(1, kind), *field(2, fields(1, dims))]))]
