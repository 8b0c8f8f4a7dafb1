"""An ONNX model as plain records: the nodes, the arrays they take, what goes in and what comes out.

Fields and their numbers are those of onnx.proto3 (github.com/onnx/onnx). A subgraph within a node is never read.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.onnx_limits import Allowance
from fcnn.exchange.onnx_tensors import FLOAT_TYPES, Folder, Tensor, type_name
from fcnn.exchange.protobuf import Message, read
from fcnn.values.text import printable

OLDEST, NEWEST = 6, 28  # operator sets
MOST_NODES = 5_000
_MODEL = {"producer": 2, "graph": 7, "opsets": 8, "metadata": 14, "training": 20}
_GRAPH = {"nodes": 1, "initializers": 5, "inputs": 11, "outputs": 12, "sparse": 15}
_NODE = {"inputs": 1, "outputs": 2, "name": 3, "operator": 4, "attributes": 5, "domain": 7}
_ATTRIBUTE = {"name": 1, "f": 2, "i": 3, "s": 4, "t": 5, "g": 6, "floats": 7, "ints": 8, "strings": 9, "type": 20}
PRODUCER = "fcnn"
_OURS = ("", "ai.onnx")  # the names of the one domain whose operators are known
_MOST_NUMBERS = 1 << 16  # of an attribute
_MOST_NAMES = 1_000  # of a node's inputs or outputs
_MOST_NAMES_IN_ALL = 30_000  # of all nodes' inputs and outputs
_MOST_ATTRIBUTES = 50  # of a node
_MOST_ARRAYS = 30_000  # that are named in a graph
_MOST_NUMBERS_IN_ALL = 1 << 18  # of all nodes' attributes


@attrs.frozen
class Node:
    """One operator on named values, "" where an optional one is left out.

    attributes: numbers, text, tuples of either, tensors, and None for what isn't read.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        called = self.name or (self.outputs[0] if self.outputs else "")
        return f"{printable(self.operator, 40)} {printable(called, 60)!r}" if called else printable(self.operator, 40)


@attrs.frozen
class Graph:
    """What a model computes: `nodes` in order, which take the input, arrays of `tensors`, and each other's outputs.

    shape: the input's with the batch axis, None where a length is left open.
    facts: texts by name, of what `save_onnx` says beside the graph; none of what others say.
    """

    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    input: str
    shape: tuple[int | None, ...] | None
    output: str
    opset: int
    facts: Mapping[str, str]


def read_graph(data: bytes, folder: Path) -> Graph:
    """The graph of a model's file.

    Raises ExchangeError or DamagedFileError, without the file's name, where it is none, or one of another kind than
    networks are.
    """
    model = read(memoryview(data), "model", _MODEL.values())
    if not model.has(_MODEL["graph"]):
        raise ExchangeError("no ONNX model: it has no graph")
    if model.has(_MODEL["training"]):
        raise ExchangeError("a graph for training, with its optimizer in it; export the network alone")
    opset = _opset(model)
    graph = read(model.content(_MODEL["graph"]), "graph", _GRAPH.values())
    if graph.has(_GRAPH["sparse"]):
        raise ExchangeError("some of its arrays are sparse, which are not read; export it with dense ones")
    for what in ("initializers", "inputs"):
        if len(graph.contents(_GRAPH[what])) > _MOST_ARRAYS:
            raise ExchangeError(f"a graph of more than {_MOST_ARRAYS:,} {what}")
    place = Folder(folder)
    tensors = {
        one.name: one for one in (Tensor.of(content, place) for content in graph.contents(_GRAPH["initializers"]))
    }
    nodes = graph.contents(_GRAPH["nodes"])
    if len(nodes) > MOST_NODES:
        raise ExchangeError(f"a graph of {len(nodes):,} nodes; at most {MOST_NODES:,} are read")
    name, shape = _input(graph, tensors)
    outputs = [read(content, "output", {1}).text(1) for content in graph.contents(_GRAPH["outputs"])]
    if len(outputs) != 1:
        raise ExchangeError(f"a graph of {_listed(outputs, 'output')}; a network has one")
    facts = _facts(model) if model.text(_MODEL["producer"]) == PRODUCER else {}
    names = Allowance(_MOST_NAMES_IN_ALL, f"a graph of more than {_MOST_NAMES_IN_ALL:,} inputs and outputs of nodes")
    numbers = Allowance(_MOST_NUMBERS_IN_ALL, f"more than {_MOST_NUMBERS_IN_ALL:,} numbers in attributes")
    made = tuple(_node(content, place, names, numbers) for content in nodes)
    return Graph(made, tensors, name, shape, outputs[0], opset, facts)


def _facts(model: Message) -> dict[str, str]:
    found = [read(content, "metadata", {1, 2}) for content in model.contents(_MODEL["metadata"])]
    return {one.text(1): one.text(2) for one in found}


def _opset(model: Message) -> int:
    """The version of ONNX's own operators."""
    found = [read(content, "operator set", {1, 2}) for content in model.contents(_MODEL["opsets"])]
    versions = [one.integer(2) for one in found if one.text(1) in _OURS]
    if not versions:
        raise ExchangeError("no ONNX model of a kind that is known: it names no set of ONNX's own operators")
    if not OLDEST <= versions[-1] <= NEWEST:
        advice = "export it with an older one" if versions[-1] > NEWEST else "bring it up with onnx.version_converter"
        raise ExchangeError(f"operator set {versions[-1]}; {OLDEST} to {NEWEST} are read: {advice}")
    return versions[-1]


def _input(graph: Message, tensors: Mapping[str, Tensor]) -> tuple[str, tuple[int | None, ...] | None]:
    """The name of the one input that isn't an array of the model's own, and its shape if it says one."""
    infos = [read(content, "input", {1, 2}) for content in graph.contents(_GRAPH["inputs"])]
    inputs = {info.text(1): info for info in infos if info.text(1) not in tensors}
    if len(inputs) != 1:
        raise ExchangeError(f"a graph of {_listed([*inputs], 'input')}; a network has one")
    ((name, info),) = inputs.items()
    kinds = read(info.content(2), "input's type", {1})
    if not kinds.has(1):
        raise ExchangeError(f"its input {_quoted(name)} is no tensor")
    kind = read(kinds.content(1), "input's type", {1, 2})
    if kind.integer(1) not in FLOAT_TYPES:
        raise ExchangeError(
            f"its input {_quoted(name)} is of {type_name(kind.integer(1))}; a network takes floats: cut the graph's "
            "beginning off"
        )
    if not kind.has(2):
        return name, None
    dims = [
        read(content, "input's shape", {1, 2}) for content in read(kind.content(2), "input's shape", {1}).contents(1)
    ]
    # An open length has a name, or nothing; some exporters write -1 or 0.
    return name, tuple(dim.integer(1) if dim.integer(1) > 0 else None for dim in dims)


def _node(content: memoryview, folder: Folder, names: Allowance, numbers: Allowance) -> Node:
    message = read(content, "node", _NODE.values())
    operator, domain = message.text(_NODE["operator"]), message.text(_NODE["domain"])
    inputs, outputs = message.contents(_NODE["inputs"]), message.contents(_NODE["outputs"])
    if max(len(inputs), len(outputs)) > _MOST_NAMES:
        raise ExchangeError(f"a node {printable(operator, 40)} of more than {_MOST_NAMES:,} inputs or outputs")
    names.take(len(inputs) + len(outputs))
    described = message.contents(_NODE["attributes"])
    if len(described) > _MOST_ATTRIBUTES:
        raise ExchangeError(f"a node {printable(operator, 40)} of more than {_MOST_ATTRIBUTES} attributes")
    attributes = dict(_attribute(one, folder, numbers) for one in described)
    return Node(
        operator if domain in _OURS else f"{domain}.{operator}",
        message.text(_NODE["name"]),
        tuple(message.texts(_NODE["inputs"])),
        tuple(message.texts(_NODE["outputs"])),
        attributes,
    )


def _attribute(content: memoryview, folder: Folder, numbers: Allowance) -> tuple[str, Any]:
    """An attribute's name and value; None for kinds that no known operator has, such as a subgraph."""
    message = read(content, "attribute", _ATTRIBUTE.values())
    a = _ATTRIBUTE
    count = message.floats(a["floats"]).size + message.count(a["ints"]) + len(message.contents(a["strings"]))
    if count > _MOST_NUMBERS:
        raise ExchangeError(f"an attribute of more than {_MOST_NUMBERS:,} numbers, which are read as a tensor alone")
    numbers.take(count)
    values: dict[int, Any] = {
        1: lambda: as_written(message.float32(a["f"])),
        2: lambda: message.integer(a["i"]),
        3: lambda: message.text(a["s"]),
        4: lambda: Tensor.of(message.content(a["t"]), folder),
        6: lambda: tuple(map(as_written, message.floats(a["floats"]).tolist())),
        7: lambda: tuple(message.integers(a["ints"]).tolist()),
        8: lambda: tuple(message.texts(a["strings"])),
    }
    value = values.get(message.integer(a["type"]), lambda: None)()
    return message.text(a["name"]), value


def as_written(number: float) -> float:
    """A float32 as the float of its shortest decimal: 1e-5 was written as 1e-5, and in float64 is to be no other.

    >>> as_written(float(np.float32(1e-5)))
    1e-05
    """
    return float(str(np.float32(number)))


def _quoted(name: str) -> str:
    return repr(printable(name, 60))


def _listed(names: list[str], what: str) -> str:
    """How many there are of something, and the first of them."""
    if not names:
        return f"no {what}"
    shown = ", ".join(map(_quoted, names[:3])) + (", …" if len(names) > 3 else "")
    return f"{len(names):,} {what}s: {shown}" if len(names) > 1 else f"1 {what}"
