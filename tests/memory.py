"""Arrays in every order of memory and of bytes, and what the tests of the tables ask of arrays."""

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
import pytest

from fcnn import Tree
from fcnn.values.tree import flatten

FLOATS = (np.float32, np.float64)
OTHER_DTYPES = ("float16", "longdouble", "int64", "uint8", "bool", "complex64", "U1", "O", "M8[s]")


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def batch_innermost(array: np.ndarray) -> np.ndarray:
    """A writable copy laid out as `fcnn.ops.layout` describes, written without it."""
    order = (2, 1, 3, 0) if array.ndim == 4 else tuple(reversed(range(array.ndim)))
    return np.array(array.transpose(order), order="C").transpose(np.argsort(order))


def sliced(array: np.ndarray) -> np.ndarray:
    """The same values as a view with gaps in the first axis and the last axis reversed."""
    larger = np.zeros((2 * array.shape[0], *array.shape[1:]), array.dtype)
    view = larger[1::2, ..., ::-1] if array.ndim > 1 else larger[1::2]
    view[...] = array
    return view


def backwards(array: np.ndarray) -> np.ndarray:
    """The same values with every stride negative."""
    turn = (slice(None, None, -1),) * array.ndim
    return np.array(array[turn], order="C")[turn]


def unaligned(array: np.ndarray) -> np.ndarray:
    """The same values in memory that begins one byte beside where numbers of this size begin."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def swapped(array: np.ndarray) -> np.ndarray:
    """The same values in the other byte order."""
    return array.astype(array.dtype.newbyteorder())


ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda a: np.array(a, order="C"),
    "Fortran": lambda a: np.array(a, order="F"),
    "batch innermost": batch_innermost,
    "sliced": sliced,
    "backwards": backwards,
    "unaligned": unaligned,
    "swapped bytes": swapped,
}


def repeated(array: np.ndarray) -> np.ndarray:
    """The first row for every row, in the memory of one: a stride of 0."""
    return np.broadcast_to(np.array(array[:1]), array.shape)


def arrays_in(value: Any) -> Iterator[np.ndarray]:
    """Every array in nested plain data; anything that isn't plain data is an error."""
    if isinstance(value, np.ndarray):
        yield value
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from arrays_in(getattr(value, field.name))
    elif isinstance(value, Tree):
        yield from flatten(value).values()
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from arrays_in(item)
    elif isinstance(value, dict):
        yield from arrays_in(list(value.values()))
    else:
        assert value is None or isinstance(value, (bool, int, float, str)), f"not plain data: {value!r}"


def bits(*values: Any) -> list[tuple[Any, ...]]:
    return [(a.dtype.str, a.shape, a.tobytes()) for a in arrays_in(values)]


def assert_close(found: np.ndarray, expected: np.ndarray, factor: float = 1) -> None:
    """Equal but for the rounding of sums, which goes with the array's greatest number.

    Sums here have at most some hundred numbers around 1, whose order differs: 100 times half a unit in the last place,
    6e-8 or 1.1e-16, is 6e-6 or 1e-14. `factor` is for those that have more.
    """
    unit = 1e-5 if expected.dtype == np.float32 else 1e-13
    atol = factor * unit * max(1, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def assert_handed_out(value: Any, *passed_in: np.ndarray) -> None:
    """Nobody can write to what is handed out: neither to it nor to what it is a view of, nor to what was passed in."""
    for array in arrays_in(value):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        assert array.base is None or not array.base.flags.writeable
        for other in passed_in:
            assert not (other.flags.writeable and np.shares_memory(array, other))


def wrong_shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes that NumPy would broadcast to it, and some that it would not."""
    wrong = [(), (1,), (1,) * len(shape), (1, *shape[1:]), (*shape[:-1], 1), shape[1:], (1, *shape), (*shape, 1)]
    wrong += [(shape[0] + 1, *shape[1:]), shape[::-1], (int(np.prod(shape)),)]
    return [other for other in dict.fromkeys(wrong) if other != shape]
