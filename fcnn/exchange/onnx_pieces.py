"""What an operator of a graph becomes: layers with their values, and what is asked to know which."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import attrs
import numpy as np

from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.onnx_graph import Node, as_written
from fcnn.network.layer import Layer, Shape
from fcnn.values.arrays import Array, frozen
from fcnn.values.text import printable
from fcnn.values.tree import EMPTY, Tree, freeze


@attrs.frozen
class Piece:
    """A layer with its values."""

    layer: Layer
    params: Tree = EMPTY
    state: Tree = EMPTY

    @classmethod
    def of(cls, layer: Layer, params: Mapping[str, Array | None], **state: Array) -> "Piece":
        """A layer and its arrays, of which those that are None aren't there.

        They may be views of others, in any order: in the network they become copies, one for all that take the same.
        """
        given = {name: frozen(values) for name, values in params.items() if values is not None}
        return cls(layer, freeze(given), freeze({name: frozen(values) for name, values in state.items()}))

    def copied(self, copy: Callable[[Array], Array]) -> "Piece":
        """The layer with copies of its arrays."""
        params, state = (
            freeze({name: copy(values) for name, values in one.items()}) for one in (self.params, self.state)
        )
        return Piece(self.layer, params, state)


@attrs.frozen
class Affine:
    """One of x + c, x - c, x * c and x / c, whose c is a number, or one for each channel (C,)."""

    operator: str
    constant: Array
    node: Node


Pieces: TypeAlias = list[Piece | Affine]


@attrs.frozen
class Site:
    """A node where it stands: what flows into it, and the constants that it takes.

    shape: of what flows in, without the batch axis; batch: that axis' length where the graph says it.
    constants: the inputs in order, None for what flows in and for what is left out.
    lengths: the integers of an input, None among them for the batch's length.
    copied: a constant times a number, in memory that is counted.
    """

    node: Node
    opset: int
    shape: Shape
    batch: int | None
    constants: tuple[Array | None, ...]
    lengths: Callable[[int], list[int | None]]
    copied: Callable[[Array, float], Array]
    attributes: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        """An attribute, or what it is where it isn't given."""
        return self.attributes[name]

    @property
    def rank(self) -> int:
        """How many axes what flows in has, with the batch's."""
        return 1 + len(self.shape)

    def refused(self, what: str) -> ExchangeError:
        """The error that the node can't be read, as a sentence that goes on after its name."""
        return ExchangeError(f"{self.node} {printable(what, 300)}")

    def constant(self, place: int) -> Array | None:
        """The constant at a place of the inputs, None if it is left out."""
        return self.constants[place] if place < len(self.constants) else None

    def has(self, place: int) -> bool:
        """Whether the node takes something at a place of its inputs."""
        return place < len(self.node.inputs) and bool(self.node.inputs[place])

    def weights(self, place: int, what: str) -> Array:
        """The constant array of floats at a place of the inputs."""
        found = self.constant(place)
        if found is None:
            raise self.refused(f"has no constant {what}; only those that the file holds are read")
        if found.dtype.kind != "f":
            raise self.refused(f"has {what} of {found.dtype}; only floats are read")
        return found

    def number(self, place: int) -> float | None:
        """The one number of a constant input, None if it is left out."""
        found = self.constant(place)
        if found is None:
            return None
        if found.size != 1:
            raise self.refused(f"takes one number as its input {place + 1}, got an array {found.shape}")
        return as_floats(found)[0]

    def flag(self, place: int) -> bool:
        """Whether a constant input is true."""
        return bool(self.number(place))

    def axis(self, name: str = "axis") -> int:
        """An attribute that is an axis, counted from the front."""
        axis: int = self[name]
        if not -self.rank <= axis < self.rank:
            raise self.refused(f"has the axis {axis}, where there are {self.rank}")
        return axis % self.rank

    def axes(self) -> tuple[int, ...] | None:
        """The axes of the attribute or of the second input, as they are written; None where there are none."""
        found = [*self["axes"]] if self["axes"] is not None else self.lengths(1) if len(self.constants) > 1 else None
        if found is None or None in found:
            return None
        return tuple(int(one) for one in found if one is not None)

    def along_channels(self, constant: Array) -> Array | None:
        """The numbers of a constant that is one for all or one for each channel, as () or (C,); None for another."""
        shape = (1,) * (self.rank - constant.ndim) + constant.shape
        if constant.size == 1 and constant.ndim <= self.rank:
            return constant.reshape(())
        if len(shape) == self.rank and constant.size == shape[1] == self.shape[0]:
            return constant.reshape(-1)
        return None


def repeated(number: int, dtype: np.dtype[Any], *shape: int) -> Array:
    """0 or 1 in an array of a shape, which takes no memory."""
    return np.broadcast_to(_NUMBERS[dtype][number, ...], shape)


_NUMBERS = {np.dtype(dtype): frozen(np.arange(2, dtype=dtype)) for dtype in (np.float32, np.float64)}


def as_floats(array: Array) -> list[float]:
    """Numbers as floats; those of float32 as they were written."""
    numbers: list[float] = array.reshape(-1).tolist()
    return [as_written(one) for one in numbers] if array.dtype == np.float32 else [float(one) for one in numbers]


@contextmanager
def told(node: object) -> Iterator[None]:
    """Put the node before what a layer says of its arguments and shapes."""
    try:
        yield
    except ExchangeError:
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        where = f"{node}: " if isinstance(node, Node) else ""
        raise ExchangeError(f"{where}{printable(str(error), 300)}") from error
