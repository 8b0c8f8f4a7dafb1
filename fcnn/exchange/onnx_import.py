"""Networks out of ONNX files, with NumPy alone: as the library's own layers and combinators, so that they train on.

The way of a file: its bytes (`protobuf`), the graph in them (`onnx_graph`), what of it is constant (`onnx_constants`),
what a chain and what a split (`onnx_structure`), each node as a layer (`onnx_operators`); and here the network.
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.onnx_constants import Constants
from fcnn.exchange.onnx_graph import Graph, Node, read_graph
from fcnn.exchange.onnx_joining import join, settled
from fcnn.exchange.onnx_limits import Allowance
from fcnn.exchange.onnx_operators import PLACES, of_node
from fcnn.exchange.onnx_patterns import recognised
from fcnn.exchange.onnx_pieces import Affine, Piece, Pieces, Site, told
from fcnn.exchange.onnx_structure import Split, Way, structure
from fcnn.network import layers
from fcnn.network.combinators import branch, residual, serial
from fcnn.network.description import without_numbers
from fcnn.network.layer import Init, Layer, LayerError, Shape
from fcnn.network.merging import Merge, merged_shape
from fcnn.network.model import Model
from fcnn.training.checkpoint import differences
from fcnn.values.archives import DamagedFileError
from fcnn.values.checks import file_path, lengths
from fcnn.values.files import opened
from fcnn.values.keys import key
from fcnn.values.kinds import looks_like
from fcnn.values.text import json_values
from fcnn.values.tree import Tree, freeze

_MERGES: dict[str, Merge] = {"Add": "sum", "Sum": "sum", "Mul": "multiply", "Concat": "concat"}
_IDENTITY = Piece(layers.identity())
_MOST_TEXT, _MOST_VALUES = 10_000_000, 100_000  # of what is said beside a graph
_MOST_CHANNELS, _MOST_NUMBERS = 1 << 20, 1 << 40  # of an input
_MOST_AXES = 8
_MOST_ARGUMENTS = 1 << 18  # numbers that aren't values: a mean for each channel, for example


def load_onnx(path: str | os.PathLike[str], *, in_shape: Shape | None = None) -> Model:
    """Read a network out of an ONNX file, as it was trained elsewhere, with its values.

    It is made of `serial`, `residual` and `branch`, whose layers are named by kind and ordinal (`conv2d1`), and trains
    on as any other does. Operator sets 6 to 28 are read. Arrays of float16 and bfloat16 become float32; float64 stays.
    Weights may lie in other files of the model's folder. The file may come from anywhere: nothing of it is run, and
    memory is taken as far as there are bytes; of constants that it only describes, a gibibyte.

    Args:
        path: the file.
        in_shape: one input's shape without the batch axis; needed only where the file leaves lengths open.

    Raises:
        ExchangeError: damaged, or no network that is known: an operator that isn't, named with its node; a graph that
            is more than chains, residuals and branches, with the node at which it stops being one; several inputs or
            outputs; a graph for training, or with control flow; weights outside of the model's folder.
        OSError: the file can't be read.
    """
    path = file_path("path", path)
    if in_shape is not None:
        in_shape = lengths("in_shape", in_shape)
    with opened(path) as file:
        data = file.read()
    try:
        graph = _graph(data, path)
        del data
        constants = Constants.of(graph)
        shape = _in_shape(graph, in_shape)
        importer = _Importer(graph, constants, {graph.input: shape})
        whole = _in_serial(importer.chain(structure(graph, constants), shape)[0])
    except (ExchangeError, DamagedFileError, LayerError) as error:
        raise ExchangeError(f"{path}: {error}") from error
    classes, meta = (_fact(graph, *each) for each in (("classes", list), ("meta", dict)))
    try:
        return Model(whole.layer, whole.params, whole.state, in_shape=shape, classes=classes or (), meta=meta or {})
    except (TypeError, ValueError):
        return Model(whole.layer, whole.params, whole.state, in_shape=shape)


def _graph(data: bytes, path: Path) -> Graph:
    """The graph of a file, or what the file is where it is none of ONNX's."""
    try:
        return read_graph(data, path.parent)
    except (ExchangeError, DamagedFileError) as error:
        seen = looks_like(path, "ONNX")
        raise ExchangeError(f"no ONNX model; {seen}" if seen else str(error)) from error


def _fact(graph: Graph, name: str, kind: type) -> Any:
    """What the file says beside its graph, if it is of that kind; None where it isn't: the graph is all the same."""
    text = graph.facts.get(name, "")
    try:
        found = json.loads(text) if len(text) <= _MOST_TEXT and json_values(text) <= _MOST_VALUES else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, kind) else None


def _in_shape(graph: Graph, given: Shape | None) -> Shape:
    """The shape of an input without the batch axis, of the file and of who reads it."""
    if graph.shape is None:
        if given is None:
            raise ExchangeError(
                "it doesn't say what shape its inputs have; say it: in_shape=(3, 224, 224), for example"
            )
        return given
    shown = f"({', '.join('?' if length is None else str(length) for length in graph.shape[:_MOST_AXES])})"
    if len(graph.shape) < 2:
        raise ExchangeError(f"its input's shape is {shown}; the first axis is the batch's, and another one is needed")
    if len(graph.shape) > _MOST_AXES:
        raise ExchangeError(f"its input has {len(graph.shape):,} axes; at most {_MOST_AXES} are read")
    declared = graph.shape[1:]
    if given is None:
        if None in declared:
            raise ExchangeError(f"its input's shape is {shown}, which leaves lengths open; say them: in_shape=(…)")
        given = tuple(length for length in declared if length is not None)
    if len(given) != len(declared) or any(
        theirs not in (None, ours) for ours, theirs in zip(given, declared, strict=True)
    ):
        raise ExchangeError(f"its input's shape is {shown}, with the batch axis; in_shape={given} isn't that")
    if given[0] > _MOST_CHANNELS or math.prod(given) > _MOST_NUMBERS:
        limits = f"at most {_MOST_CHANNELS:,} channels or features, and {_MOST_NUMBERS:,} numbers, are read"
        raise ExchangeError(f"its input's shape is {shown}; {limits}")
    return given


class _Importer:
    """Makes layers of ways through a graph.

    shapes: without the batch axis, of what is computed so far.
    """

    def __init__(self, graph: Graph, constants: Constants, shapes: dict[str, Shape]) -> None:
        self.graph, self.constants, self.shapes = graph, constants, shapes
        self.batch = graph.shape[0] if graph.shape else None
        self.arguments = Allowance(_MOST_ARGUMENTS, f"more than {_MOST_ARGUMENTS:,} numbers as arguments of layers")

    def chain(self, way: Way, shape: Shape) -> tuple[list[Piece], Shape]:
        """The layers of a way one after the other, and the shape of what comes out."""
        found: list[tuple[Piece, Shape]] = []
        affines: list[Affine] = []

        def settle() -> None:
            if affines:
                before = found.pop() if found else None
                with told(affines[0].node):
                    for number, piece in enumerate(self.settled(before[0] if before else None, affines, shape)):
                        into = before[1] if before and number == 0 else shape
                        _made(piece, into)
                        found.append((piece, into))
                affines.clear()

        def add(piece: Piece | Affine, out: Shape | None) -> None:
            nonlocal shape
            if isinstance(piece, Affine):
                affines.append(piece)
                return
            settle()
            out = out or _made(piece, shape).out_shape
            join(found, piece, shape, out)
            if found and not found[-1][0].layer.children:
                where = node if isinstance(node, Node) else ""
                found[-1] = (found[-1][0].copied(partial(self.constants.copied, where=where)), found[-1][1])
            shape = out

        for item in recognised(way, self.constants):
            node = item.merge if isinstance(item, Split) else item
            with told(node):
                if isinstance(item, Split):
                    add(*self.merged(item, shape))
                elif isinstance(item, Piece | Affine):
                    add(item, None)
                else:
                    for piece in self.pieces(item, shape):
                        add(piece, None)
            if isinstance(node, Node):
                self.shapes[node.outputs[0]] = shape
        settle()
        return [piece for piece, _ in found], shape

    def settled(self, before: Piece | None, affines: list[Affine], shape: Shape) -> list[Piece]:
        """The layers of what is added and multiplied, whose new arrays are counted, and the numbers on the way."""
        node, count, most = affines[0].node, self.constants.count_bytes, 16 * shape[0]
        count(most + 8 * sum(one.constant.size for one in affines), node)
        found = settled(before, affines, shape, self.arguments)
        held = [] if before is None else [id(array) for array in before.params.values()]
        new = sum(one.nbytes for piece in found for one in piece.params.values() if id(one) not in held)
        count(new - most, node)
        return found

    def pieces(self, node: Node, shape: Shape) -> Pieces:
        """What a node becomes."""
        operator, attributes = of_node(node)
        if not operator.anywhere and node.inputs[0] not in self.constants.flowing(node):
            raise ExchangeError(f"{node} takes what flows in at another place than as its first input")
        given = [self.constants.array(name) if name in self.constants.fixed else None for name in node.inputs]

        def integers(place: int) -> list[int | None]:
            name = node.inputs[place] if place < len(node.inputs) else ""
            if not name:
                raise ExchangeError(f"{node}: its input {place + 1} is missing")
            if name not in self.constants.fixed and name not in self.constants.sizes:
                raise ExchangeError(f"{node} takes a shape that is computed of its input's numbers")
            return self.constants.lengths(name, self.shapes)

        copied, opset = partial(self.constants.copied, where=node), self.graph.opset
        return operator.pieces(Site(node, opset, shape, self.batch, tuple(given), integers, copied, attributes))

    def merged(self, split: Split, shape: Shape) -> tuple[Piece, Shape]:
        """A split as one layer: a `residual` where its body comes first or beside the input itself, else a `branch`.

        With the shape of what comes out.
        """
        node = split.merge
        if node.operator not in _MERGES:
            if node.operator in PLACES:
                raise ExchangeError(f"{node} is read {PLACES[node.operator]} alone")
            raise ExchangeError(f"{node} takes several computed values; of those {', '.join(_MERGES)} are known")
        merge = _MERGES[node.operator]
        _, attributes = of_node(node)
        made = [self.chain(way, shape) for way in split.ways]
        if len(made) != len(node.inputs):
            raise ExchangeError(f"{node} takes something else beside what is computed; only either is read")
        outs = {f"input {number}": out for number, (_, out) in enumerate(made, 1)}
        if merge == "concat" and attributes["axis"] not in (1, -len(made[0][1])):
            raise ExchangeError(
                f"{node} is along axis {attributes['axis']}; a branch joins channels or features, axis 1"
            )
        out = merged_shape(node.operator, merge, outs, 0)
        parts = [pieces for pieces, _ in made]
        if merge == "sum" and len(parts) == 2 and (not all(parts) or len(parts[0]) >= len(parts[1])):
            body, shortcut = map(_in_serial_if_several, sorted(parts, key=len, reverse=True))
            named = {"body": body} if not all(parts) else {"body": body, "shortcut": shortcut}
            return _together(residual(**{name: piece.layer for name, piece in named.items()}), named), out
        several = [_in_serial_if_several(one) for one in parts]
        layer = branch(*(piece.layer for piece in several), merge=merge)
        return _together(layer, dict(zip(layer.children, several, strict=True))), out


def _made(piece: Piece, shape: Shape) -> Init:
    """What a layer makes of inputs of a shape; its values are of the shapes that it makes itself."""
    layer = piece.layer if piece.layer.children else without_numbers(piece.layer)
    made = layer.init(key(0), shape)
    wrong = [*differences(piece.params, made.params), *differences(piece.state, made.state)]
    if wrong:
        raise ValueError(f"its values don't fit inputs {shape}: {'; '.join(wrong[:3])}")
    return made


def _in_serial_if_several(pieces: Sequence[Piece]) -> Piece:
    if not pieces:
        return _IDENTITY
    return pieces[0] if len(pieces) == 1 else _in_serial(pieces)


def _in_serial(pieces: Sequence[Piece]) -> Piece:
    """Layers one after the other as one."""
    several = pieces or [_IDENTITY]
    layer = serial(*(piece.layer for piece in several))
    return _together(layer, dict(zip(layer.children, several, strict=True)))


def _together(layer: Layer, children: dict[str, Piece]) -> Piece:
    """A combinator with the values of its children."""

    def values(of: Callable[[Piece], Tree]) -> Tree:
        return freeze({name: of(piece) for name, piece in children.items() if of(piece)})

    return Piece(layer, values(lambda piece: piece.params), values(lambda piece: piece.state))
