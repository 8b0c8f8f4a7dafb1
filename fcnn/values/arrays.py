"""The library's one rule of ownership, for single arrays.

What is handed out is read-only (`frozen`), and what is kept, in a tree or for a backward pass, is never an alias of
something that a caller can still write to (`keep`). So no function can change another's arrays, in either direction.
"""

from hashlib import blake2b
from typing import Any, TypeAlias, TypeVar

import numpy as np

# As in numpy.typing, whose import would be a tenth of the library's start-up time.
Scalar = TypeVar("Scalar", bound=np.generic)
NDArray: TypeAlias = np.ndarray[Any, np.dtype[Scalar]]
Array: TypeAlias = NDArray[Any]

NUMBERS = "biufc"  # kinds of dtypes: truth values, integers with and without a sign, floats, complex numbers


def frozen(array: Array) -> Array:
    """Mark a freshly made array, and the memory it is a view of, as read-only; return it."""
    array = np.asarray(array)  # what NumPy computes from 0-d arrays is a scalar
    array.setflags(write=False)
    base = array.base
    if base is not None and isinstance(base, np.ndarray):
        base.setflags(write=False)
    return array


def is_frozen(array: Array) -> bool:
    """Whether nobody can write to `array`, neither through it nor through anything that it is a view of."""
    view: Any = array
    while isinstance(view, np.ndarray):
        if view.flags.writeable:
            return False
        view = view.base
    return view is None or isinstance(view, bytes)  # any other buffer may have another owner


def keep(array: Array) -> Array:
    """`array` itself if it is read-only, else a read-only copy in the same memory order: safe to hold on to.

    A copy, too, of one in another byte order than the machine's: nothing in the library is.
    """
    if not array.dtype.isnative:
        return frozen(native(array))
    return array if is_frozen(array) else frozen(np.array(array, order="K"))


def zeros_like(array: Array) -> Array:
    """Read-only zeros of the array's shape and dtype."""
    return frozen(np.zeros_like(array))


def native(array: Array) -> Array:
    """The array in the machine's byte order."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def digest(*arrays: Array) -> str:
    """What tells the numbers of some arrays from others, whatever their shapes."""
    found = blake2b(digest_size=16)
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
