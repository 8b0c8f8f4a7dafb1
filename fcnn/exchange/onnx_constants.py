"""What an ONNX graph computes without its input: of arrays alone, and of the sizes of what flows through it.

Exporters write a weight as a node, transpose it in another, and take a reshape's target apart into the sizes of a value
and a few numbers. Here such nodes are computed, when what they give is asked for.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import numpy as np

from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.onnx_graph import Graph, Node
from fcnn.exchange.onnx_limits import Allowance
from fcnn.exchange.onnx_tensors import Tensor
from fcnn.values.arrays import Array, frozen
from fcnn.values.text import printable

Inputs = list[Array | None]
_MOST_BYTES = 1 << 30  # of arrays that a file doesn't hold but describes, all together
_TOO_MANY_BYTES = f"more than {_MOST_BYTES:,} bytes of constants that the file doesn't hold"
_MOST_COMPUTED = 1 << 20  # numbers of an array that is more than another view of one
_MOST_LENGTHS = 64  # of a shape
_MOST_STEPS = 100_000  # of computing
_BATCHES = (1_000_003, 1_000_033)  # primes: a size that follows them both is the batch's
_FLOATS = {1: np.float32, 10: np.float32, 11: np.float64, 16: np.float32}
_INTEGERS = (2, 3, 4, 5, 6, 7, 12, 13)


@attrs.define
class Constants:
    """The values of a graph that don't depend on its input's numbers, each computed at most once.

    fixed: the names of those that depend on nothing; sizes: of those that depend on shapes.
    """

    graph: Graph
    fixed: set[str]
    sizes: set[str]
    _places: dict[str, int]  # of the node that makes a value
    _arrays: dict[str, Array] = attrs.field(factory=dict)
    _copies: dict[tuple[object, ...], tuple[Array, Array]] = attrs.field(factory=dict)  # each with what it is of
    _bytes: Allowance = attrs.field(factory=lambda: Allowance(_MOST_BYTES, _TOO_MANY_BYTES))
    _steps_left: int = _MOST_STEPS

    @classmethod
    def of(cls, graph: Graph) -> "Constants":
        """Those of a graph, of which nothing is computed yet."""
        fixed, sizes, places = {*graph.tensors} - {""}, set[str](), dict[str, int]()
        for place, node in enumerate(graph.nodes):
            taken = {name for name in node.inputs if name}
            if not node.outputs or not node.outputs[0]:
                continue
            # What is computed has one output; another one of the node is nobody's.
            name = node.outputs[0]
            places[name] = place
            if node.operator == "Shape":
                (fixed if taken <= fixed else sizes).add(name)
            elif node.operator in _COMPUTED and all(one in fixed or one in sizes for one in taken):
                (sizes if taken & sizes else fixed).add(name)
        return cls(graph, fixed, sizes, places)

    def flowing(self, node: Node) -> list[str]:
        """The inputs of a node that depend on the graph's input."""
        return [name for name in node.inputs if name and name not in self.fixed and name not in self.sizes]

    def array(self, name: str) -> Array:
        """The array of a name in `fixed`. Raises ExchangeError where it can't be had."""
        return self._computed(name, self._arrays, {})

    def copied(self, array: Array, times: float = 1.0, where: object = "") -> Array:
        """The array in C order, in memory of its own numbers, times a number; one copy for all that ask for it.

        where: the node that asks, for the error that the copies take too much memory.
        """
        if times == 1 and array.flags.c_contiguous:
            return array
        key = (array.__array_interface__["data"], array.shape, array.strides, array.dtype, times)
        if key not in self._copies:
            self.count_bytes(array.nbytes, where)
            with np.errstate(all="ignore"):
                made = np.multiply(array, array.dtype.type(times), order="C")
            self._copies[key] = array, frozen(made)
        return self._copies[key][1]

    def count_bytes(self, number: int, where: object = "") -> None:
        """Count memory that is to be taken for what the file describes. Raises ExchangeError beyond all that may be."""
        self._bytes.take(number, where)

    def lengths(self, name: str, shapes: Mapping[str, tuple[int, ...]]) -> list[int | None]:
        """The integers of a name in `fixed` or `sizes`, None for what is the batch's length.

        shapes: without the batch axis, of the values that flow.
        """
        if name in self.fixed:
            return [*_few(self.array(name))]
        first, second = (
            _few(self._computed(name, {}, {value: (batch, *shape) for value, shape in shapes.items()}))
            for batch in _BATCHES
        )
        found: list[int | None] = []
        for pair in zip(first, second, strict=True):
            if pair[0] != pair[1] and pair != _BATCHES:
                raise ExchangeError(f"{printable(name)!r} is computed of the batch's length, and isn't that length")
            found.append(None if pair == _BATCHES else int(pair[0]))
        return found

    def _computed(self, name: str, values: dict[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> Array:
        """A value, computed together with those that it needs, which are put into `values`."""
        needed, asked = set[int](), [name]
        while asked:  # a list and no recursion: a file may have a chain of any length
            one = asked.pop()
            if one in values or one in self._arrays:
                continue
            if one not in self._places:
                self._arrays[one] = _told(f"the array {printable(one)!r}", self.graph.tensors[one].array)
            elif self._places[one] not in needed:
                needed.add(self._places[one])
                node = self.graph.nodes[self._places[one]]
                asked += [each for each in node.inputs if each in self.fixed or each in self.sizes]
        self._steps_left -= len(needed)
        if self._steps_left < 0:
            raise ExchangeError(f"{printable(name)!r} is the end of more than {_MOST_STEPS:,} steps of computing sizes")
        for place in sorted(needed):
            node = self.graph.nodes[place]
            inputs: Inputs = []
            for each in node.inputs:
                if each and each not in self.fixed and each not in self.sizes:  # only its shape is asked for
                    if each not in shapes:
                        raise ExchangeError(f"{node} is of a value that is computed later, or not at all")
                    inputs.append(np.broadcast_to(np.float32(), shapes[each]))
                else:
                    inputs.append((values[each] if each in values else self._arrays[each]) if each else None)
            kept = self._arrays if node.outputs[0] in self.fixed else values
            kept[node.outputs[0]] = frozen(self._counted(node, inputs))
        return values[name] if name in values else self._arrays[name]

    def _counted(self, node: Node, inputs: Inputs) -> Array:
        """What a node gives, its bytes counted if they are neither in the file nor a view of what there was.

        What may be large is counted before it is made, by `_taken`; all else is of `_MOST_COMPUTED` numbers at most.
        """
        before = _taken(node, inputs)
        self.count_bytes(before, node)
        found = _told(str(node), lambda: _COMPUTED[node.operator](node, inputs))
        shares = any(one is not None and np.may_share_memory(found, one) for one in inputs)
        made = 0 if shares or node.operator == "Constant" else found.nbytes
        self.count_bytes(made - before, node)
        return found


def _taken(node: Node, inputs: Inputs) -> int:
    """The bytes that a node's result may take, where it may have as many numbers as what it takes."""
    array = _given(inputs, 0)
    if array is None or (node.operator == "Reshape" and array.flags.c_contiguous):
        return 0
    if node.operator == "Cast":
        to = _type_cast_to(node)
        return 0 if to is None or to == array.dtype else array.size * to.itemsize
    return array.nbytes if node.operator == "Reshape" else 0


def _told(what: str, compute: Callable[[], Array]) -> Array:
    """What is computed, or the reason why it can't be in a sentence that begins with what it is of."""
    try:
        return compute()
    except ExchangeError as error:
        raise ExchangeError(f"{what}: {error}") from None
    except (ValueError, TypeError, LookupError, ArithmeticError, MemoryError, AttributeError) as error:
        reason = printable(" ".join(str(error).split()), 200)
        raise ExchangeError(f"{what} can't be computed of its constants: {reason}") from error


def _small(shape: Iterable[int]) -> None:
    if math.prod(shape) > _MOST_COMPUTED:
        raise ExchangeError(
            f"more than {_MOST_COMPUTED:,} numbers to be computed; simplify the file with onnxslim or onnxsim"
        )


def _few(array: Array) -> list[int]:
    """The integers of an array that is a shape, or another short list."""
    if array.size > _MOST_LENGTHS or array.dtype.kind != "i":
        raise ExchangeError(f"a list of {array.size:,} numbers of {array.dtype} for a shape")
    found: list[int] = array.reshape(-1).tolist()
    return found


def _given(inputs: Inputs, place: int) -> Array | None:
    return inputs[place] if place < len(inputs) else None


def _needed(inputs: Inputs, place: int = 0) -> Array:
    found = _given(inputs, place)
    if found is None:
        raise ExchangeError(f"its input {place + 1} is missing")
    return found


def _axes(node: Node, inputs: Inputs) -> tuple[int, ...] | None:
    """Axes, which are an attribute in older operator sets and an input in newer ones."""
    given = _given(inputs, 1)
    if given is not None:
        return tuple(_few(given))
    axes: tuple[int, ...] | None = node.attributes.get("axes")
    return axes


def _constant(node: Node, inputs: Inputs) -> Array:
    for name, dtype in {"value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}.items():
        if name in node.attributes:
            return np.array(node.attributes[name], dtype)
    return _value(node)


def _value(node: Node) -> Array:
    value = node.attributes.get("value")
    if not isinstance(value, Tensor):
        raise ExchangeError("it has no array")
    return value.array()


def _constant_of_shape(node: Node, inputs: Inputs) -> Array:
    value = _value(node) if "value" in node.attributes else np.zeros(1, np.float32)
    shape = tuple(_few(_needed(inputs)))
    if min(shape, default=0) < 0 or math.prod(shape) * value.itemsize > _MOST_BYTES:
        raise ExchangeError(f"an array of the shape {shape[:8]}, which is none or too large")
    return np.broadcast_to(value.reshape(()), shape)  # one number, wherever one looks


def _cast(node: Node, inputs: Inputs) -> Array:
    to = _type_cast_to(node)
    if to is None:
        raise ExchangeError("a cast to something that isn't read")
    return _needed(inputs).astype(to, copy=False)


def _type_cast_to(node: Node) -> np.dtype[Any] | None:
    to = node.attributes.get("to")
    if not isinstance(to, int) or to not in (*_FLOATS, *_INTEGERS):
        return None
    return np.dtype(_FLOATS.get(to, np.int64))


def _unsqueeze(node: Node, inputs: Inputs) -> Array:
    return np.expand_dims(_needed(inputs), _axes(node, inputs) or ())


def _squeeze(node: Node, inputs: Inputs) -> Array:
    return np.squeeze(_needed(inputs), _axes(node, inputs))


def _reshape(node: Node, inputs: Inputs) -> Array:
    array, target = _needed(inputs), _few(_needed(inputs, 1))
    return array.reshape([array.shape[i] if one == 0 else one for i, one in enumerate(target)])


def _transpose(node: Node, inputs: Inputs) -> Array:
    return np.transpose(_needed(inputs), node.attributes.get("perm"))


def _concat(node: Node, inputs: Inputs) -> Array:
    arrays = [_needed(inputs, place) for place in range(len(inputs))]
    _small([sum(array.size for array in arrays)])
    return np.concatenate(arrays, _axis(node))


def _gather(node: Node, inputs: Inputs) -> Array:
    array, chosen = _needed(inputs), _needed(inputs, 1)
    _small([array.size, max(chosen.size, 1)])
    return np.array(np.take(array, chosen, _axis(node)))


def _axis(node: Node) -> int:
    axis = node.attributes.get("axis", 0)
    if not isinstance(axis, int):
        raise ExchangeError("its axis is no integer")
    return axis


def _slice(node: Node, inputs: Inputs) -> Array:
    array = _needed(inputs)
    parts: list[Any] = [node.attributes.get(name) for name in ("starts", "ends", "axes", "steps")]
    for place in range(1, len(inputs)):
        given = inputs[place]
        parts[place - 1] = None if given is None else tuple(_few(given))
    starts, ends, axes, steps = parts
    chosen = [slice(None)] * array.ndim
    count = len(starts)
    places: Any = zip(starts, ends, axes or range(count), steps or [1] * count, strict=True)
    for start, end, axis, step in places:
        chosen[axis] = slice(start, None if step < 0 and end < -array.shape[axis] else end, step)
    return array[tuple(chosen)]


def _shape(node: Node, inputs: Inputs) -> Array:
    start: Any = node.attributes.get("start", 0)
    return np.array(_needed(inputs).shape[start : node.attributes.get("end")], np.int64)


def _arithmetic(compute: Callable[[Array, Array], Any]) -> Callable[[Node, Inputs], Array]:
    def of(node: Node, inputs: Inputs) -> Array:
        a, b = _needed(inputs), _needed(inputs, 1)
        _small(np.broadcast_shapes(a.shape, b.shape))
        with np.errstate(all="ignore"):
            return np.asarray(compute(a, b))

    return of


def _quotient(a: Array, b: Array) -> Array:
    # Of integers ONNX has the one towards zero; sizes have no sign.
    return np.asarray(np.floor_divide(a, b) if a.dtype.kind == b.dtype.kind == "i" else np.true_divide(a, b))


_COMPUTED: dict[str, Callable[[Node, Inputs], Array]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Identity": lambda node, inputs: _needed(inputs),
    "Cast": _cast,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Shape": _shape,
    "Add": _arithmetic(np.add),
    "Sub": _arithmetic(np.subtract),
    "Mul": _arithmetic(np.multiply),
    "Div": _arithmetic(_quotient),
}
