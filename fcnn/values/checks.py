"""Arguments, checked in one place and in one style: what is expected, what came, and what to do.

They are checked where a user hands them over, at the entry of a public function; what that calls believes it.
Something of another type raises TypeError, a number out of range or another shape ValueError. True and False are no
numbers. What came is told in a few words however large it is.
"""

import math
import os
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from pathlib import Path
from types import FunctionType
from typing import Any, TypeAlias, TypeGuard, TypeVar

import numpy as np

from fcnn.values.arrays import NUMBERS, Array, native

Pair: TypeAlias = int | tuple[int, int]
Kind = TypeVar("Kind")

FLOATS = (np.float32, np.float64)
_FLOAT32, _FLOAT64 = map(np.dtype, FLOATS)
MOST_STEPS = (1 << 63) - 1  # of training, which is what a checkpoint's int64 holds
_NOT_IN_NAMES = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")  # of files: halves of characters, for which no bytes stand
_MOST_CHARACTERS = 80
MOST_PIXELS = 1 << 20  # of a window, its steps and its padding; or places of a sequence
MOST_COUNT = (1 << 31) - 1  # of filters, units, groups and classes
_MOST_NUMBERS = 1 << 58  # of an array: in float64 they take 2^61 bytes, which can still be counted


def integer(name: str, value: object, *, least: int, most: int | None = None) -> int:
    """`value` as an int from `least` to `most`, or of any size where there is none.

    >>> integer("batch_size", 0, least=1)
    Traceback (most recent call last):
    ...
    ValueError: batch_size is an integer of at least 1, got 0
    """
    expected = f"{name} is an integer of at least {least}"
    if not is_integer(value):
        raise TypeError(f"{expected}, got {told(value)}")
    if value < least:
        raise ValueError(f"{expected}, got {told(value)}")
    if most is not None and value > most:
        raise ValueError(f"{name} is at most {most:,}, got {told(value)}")
    return int(value)


def pair(name: str, value: object, *, least: int, sides: str = "(height, width)") -> tuple[int, int]:
    """`value` as (height, width), or what `sides` says: one integer of at least `least` for both, or two of them.

    >>> pair("stride", 2, least=1), pair("stride", [2, 1], least=1)
    ((2, 2), (2, 1))
    """
    if (  # as layers give it to every call of an operation: told fast
        type(value) is tuple
        and len(value) == 2
        and type(value[0]) is type(value[1]) is int
        and least <= value[0] <= MOST_PIXELS
        and least <= value[1] <= MOST_PIXELS
    ):
        return value
    both = value if isinstance(value, (tuple, list)) else (value, value)
    expected = f"{name} is an integer of at least {least}, or a pair {sides}"
    if not all(map(is_integer, both)):
        raise TypeError(f"{expected}, got {told(value)}")
    if len(both) != 2 or min(both) < least:
        raise ValueError(f"{expected}, got {told(value)}")
    if max(both) > MOST_PIXELS:
        raise ValueError(f"{name} is at most {MOST_PIXELS:,} pixels, got {told(value)}")
    return int(both[0]), int(both[1])


def lengths(
    name: str, value: object, expected: str = "a tuple of lengths, such as (1, 28, 28)", *, least: int = 1
) -> tuple[int, ...]:
    """`value` as the shape of an array: integers of at least `least`, in a tuple or a list.

    >>> lengths("in_shape", 28)
    Traceback (most recent call last):
    ...
    TypeError: in_shape is a tuple of lengths, such as (1, 28, 28), each at least 1, got 28
    """
    expected = f"{name} is {expected}, each at least {least}"
    if not isinstance(value, (tuple, list)) or not all(map(is_integer, value)):
        raise TypeError(f"{expected}, got {told(value)}")
    if not value or min(value) < least:
        raise ValueError(f"{expected}, got {told(value)}")
    if math.prod(map(int, value)) > _MOST_NUMBERS:
        raise ValueError(f"{name} is of more numbers than an array can have, got {told(value)}")
    return tuple(map(int, value))


def number(name: str, value: object, interval: str) -> float:
    """`value` as a float in an interval, written as in mathematics; so NaN is in none.

    >>> number("momentum", 1.0, "[0, 1)")
    Traceback (most recent call last):
    ...
    ValueError: momentum is a number in [0, 1), got 1.0
    """
    expected = f"{name} is a number in {interval}"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{expected}, got {told(value)}")
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value > low if interval[0] == "(" else value >= low
    below = value < high if interval[-1] == ")" else value <= high
    if not (above and below):
        raise ValueError(f"{expected}, got {told(value)}")
    try:
        return float(value)
    except OverflowError:  # an int of hundreds of digits
        raise ValueError(f"{expected} that a float can hold, got {told(value)}") from None


def single(name: str, value: object, interval: str) -> float:
    """`value` as a float in an interval that keeps its digits in float32, which networks compute in by default.

    >>> single("eps", 1e-50, "(0, inf)")
    Traceback (most recent call last):
    ...
    ValueError: eps is a number in (0, inf) that float32 can hold, got 1e-50
    """
    found = number(name, value, interval)
    limits = np.finfo(np.float32)
    if found and not float(limits.smallest_normal) <= abs(found) <= float(limits.max):
        raise ValueError(f"{name} is a number in {interval} that float32 can hold, got {told(value)}")
    return found


def boolean(name: str, value: object) -> bool:
    """`value`, if it is True or False.

    >>> boolean("train", "no")
    Traceback (most recent call last):
    ...
    TypeError: train is True or False, got 'no'
    """
    if value is True or value is False:
        return value
    if not isinstance(value, np.bool_):
        raise TypeError(f"{name} is True or False, got {told(value)}")
    return bool(value)


def one_of(name: str, value: object, options: Sequence[str]) -> str:
    """`value`, if it is one of some words.

    >>> one_of("merge", "add", ["sum", "concat"])
    Traceback (most recent call last):
    ...
    ValueError: merge is "sum" or "concat", got 'add'
    """
    if isinstance(value, str) and value in options:
        return value
    *most, last = (f'"{option}"' for option in options)
    expected = " or ".join([", ".join(most), last] if most else [last])
    raise (ValueError if isinstance(value, str) else TypeError)(f"{name} is {expected}, got {told(value)}")


def instance(name: str, value: object, kind: type[Kind], expected: str) -> Kind:
    """`value`, if it is of a kind that is made as `expected` says.

    >>> instance("network", "lenet", dict, "a layer, such as fcnn.serial(…)")
    Traceback (most recent call last):
    ...
    TypeError: network is a layer, such as fcnn.serial(…), got 'lenet'
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {expected}, got {_came(value, kind)}")
    return value


def mapping(name: str, value: object, expected: str) -> Mapping[Any, Any]:
    """`value`, if it is a dict or another mapping, of what `expected` says."""
    if type(value) is not dict and not isinstance(value, Mapping):
        raise TypeError(f"{name} is {expected}, got {told(value)}")
    return value


def function(name: str, value: Any, expected: str) -> Callable[..., Any]:
    """`value`, if it can be called, and is not a constructor of what is expected that wasn't called itself.

    >>> function("loss", 0.5, "a function (outputs, targets), such as fcnn.softmax_cross_entropy() gives")
    Traceback (most recent call last):
    ...
    TypeError: loss is a function (outputs, targets), such as fcnn.softmax_cross_entropy() gives, got 0.5
    """
    if not callable(value):
        raise TypeError(f"{name} is {expected}, got {told(value)}")
    if _is_constructor(value):
        raise TypeError(f"{name} is {expected}, got {_came(value)}")
    return value  # type: ignore[no-any-return]


def _is_constructor(value: object) -> bool:
    """Whether it makes losses, optimizers, layers or schedules, and so is none: somebody forgot to call it."""
    return hasattr(value, "__wrapped__") and str(getattr(value, "__module__", "")).startswith("fcnn.")


def array(name: str, value: object, expected: str) -> Array:
    """`value` as an array, of what lists and numbers NumPy can make one; not of text or objects.

    >>> array("labels", [1, "two"], "integers (N,)")
    Traceback (most recent call last):
    ...
    TypeError: labels are integers (N,), got [1, 'two']
    """
    try:
        found = np.asarray(value)
    except Exception:  # lists of unequal length, tensors elsewhere, anybody's class
        found = np.empty(0, object)
    if found.dtype.kind not in NUMBERS:
        raise TypeError(f"{name} are {expected}, got {told(value)}")
    return found


def file_path(name: str, value: object, expected: str = "the name of a file, text or a pathlib.Path") -> Path:
    """`value` as a path.

    >>> file_path("path", 3)
    Traceback (most recent call last):
    ...
    TypeError: path is the name of a file, text or a pathlib.Path, got 3
    """
    try:
        text = os.fspath(value)  # type: ignore[call-overload]
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise TypeError(f"{name} is {expected}, got {told(value)}")
    if not text or _NOT_IN_NAMES.search(text):
        raise ValueError(f"{name} is {expected}, got {text!r}")
    return Path(text)


def texts(name: str, value: Any, expected: str) -> tuple[str, ...]:
    """`value` as a tuple of texts; one text isn't taken for its letters.

    >>> texts("class_names", "cat", "names, one a class")
    Traceback (most recent call last):
    ...
    TypeError: class_names are names, one a class, got 'cat'; put it into a list
    """
    advice = "; put it into a list" if isinstance(value, str) else ""
    if advice or isinstance(value, (bytes, np.ndarray, Mapping)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} are {expected}, got {told(value)}{advice}")
    found = tuple(value)
    for one in found:
        if not isinstance(one, str):
            raise TypeError(f"{name} are {expected}, got {told(one)} among them")
    return found


def floats(name: str, value: object) -> Array:
    """`value`, if it is an array of float32 or float64, in the machine's byte order.

    This is where every other dtype is refused.

    >>> floats("relu's x", np.array([1.0], ">f8"))
    array([1.])
    >>> floats("relu's x", np.array([1, 2]))
    Traceback (most recent call last):
    ...
    TypeError: relu's x is an array of float32 or float64, got int64 (2,); .astype(np.float32) makes one of it
    """
    if type(value) is np.ndarray and (value.dtype is _FLOAT32 or value.dtype is _FLOAT64):
        return value  # every call of every layer passes here: the usual case is told fast
    if isinstance(value, np.ndarray) and value.dtype.type in FLOATS and not isinstance(value, np.ma.MaskedArray):
        return native(np.asarray(value))  # a matrix, say, would go on computing in its own way
    raise TypeError(f"{name} is an array of float32 or float64, got {told(value)}{how_to_make_floats(value)}")


def output_gradient(name: str, dy: object, shape: tuple[int, ...]) -> Array:
    """`dy`, if it is an array of floats of the output's shape: another would be broadcast or cut by NumPy.

    >>> output_gradient("sigmoid_backward", np.ones((4, 1)), (4, 3))
    Traceback (most recent call last):
    ...
    ValueError: sigmoid_backward expects dy of the output's shape (4, 3), got (4, 1)
    """
    if type(dy) is np.ndarray and dy.shape == shape and (dy.dtype is _FLOAT32 or dy.dtype is _FLOAT64):
        return dy  # as in `floats`
    array = floats(f"{name}'s dy", dy)
    if array.shape != shape:
        raise ValueError(f"{name} expects dy of the output's shape {shape}, got {array.shape}")
    return array


def float_dtype(name: str, value: object) -> np.dtype[Any]:
    """`value` as the dtype float32 or float64, in the machine's byte order.

    >>> float_dtype("dtype", "float32")
    dtype('float32')
    >>> float_dtype("dtype", np.float16)
    Traceback (most recent call last):
    ...
    TypeError: dtype is np.float32 or np.float64, got np.float16
    """
    try:
        kind = None if value is None else np.dtype(value).type  # type: ignore[call-overload]
    except (TypeError, ValueError, SyntaxError):  # what NumPy knows no dtype for
        kind = None
    for dtype in (_FLOAT32, _FLOAT64):
        if kind is dtype.type:
            return dtype
    raise TypeError(f"{name} is np.float32 or np.float64, got {told(value)}")


def cached(name: str, cache: object, kind: type[Kind]) -> Kind:
    """`cache`, if it is of the kind that the forward function `name` gives to its backward function.

    >>> cached("dense", None, dict)
    Traceback (most recent call last):
    ...
    TypeError: dense_backward's cache is the one that dense gave, got None
    """
    if not isinstance(cache, kind):
        raise TypeError(f"{name}_backward's cache is the one that {name} gave, got {told(cache)}")
    return cache


def cached_array(name: str, cache: object) -> Array:
    """`cache`, if it is an array as the forward function `name` gives it to its backward function."""
    if type(cache) is not np.ndarray or cache.dtype not in (_FLOAT32, _FLOAT64):
        raise TypeError(f"{name}_backward's cache is the one that {name} gave, got {told(cache)}")
    return cache


def cached_shape(name: str, cache: object, dimensions: Sequence[int]) -> tuple[int, ...]:
    """`cache`, if it is the shape of an input of the forward function `name`, of so many dimensions."""
    if type(cache) is not tuple or len(cache) not in dimensions or {*map(type, cache)} != {int}:
        raise TypeError(f"{name}_backward's cache is the one that {name} gave, got {told(cache)}")
    return cache


def told(value: object) -> str:
    """What came, in a few words: of an array its dtype and shape, of another large thing its beginning.

    >>> told(np.zeros((2, 3))), told(list(range(1000))), told(None)
    ('float64 (2, 3)', 'a list of 1000', 'None')
    """
    if isinstance(value, np.ndarray):
        prefix = "" if type(value) is np.ndarray else f"{type(value).__name__} of "
        return f"{prefix}{value.dtype} {value.shape}"
    if isinstance(value, FunctionType):
        return f"the function {value.__name__}"
    if isinstance(value, type):
        return f"the class {value.__name__}" if value.__module__ != "numpy" else f"np.{value.__name__}"
    kind = type(value).__name__
    article = "an" if kind[:1].lower() in tuple("aeiou") else "a"
    try:
        text = repr(value)
    except Exception:  # anybody's class, a list of itself a thousand times, an int of more digits than Python prints
        return f"{article} {kind}"
    if len(text) <= _MOST_CHARACTERS and "\n" not in text and " at 0x" not in text:
        return text
    if isinstance(value, Sized) and type(value) in (list, tuple, dict, set, frozenset):
        return f"a {kind} of {len(value)}"
    if isinstance(value, (str, bytes, int)):
        return reprlib.repr(value)
    return f"{article} {kind}"


def _came(value: Any, kind: type | None = None) -> str:
    """What came, with advice for a constructor, or another function that gives what is meant, that wasn't called."""
    if _is_constructor(value):
        return f"the constructor {value.__name__}; call it: {value.__name__}(…)"
    gives = value.__annotations__.get("return") if isinstance(value, FunctionType) else None
    is_meant = kind is not None and gives is kind
    return told(value) + (f"; call it: {value.__name__}(…)" if is_meant else "")


def how_to_make_floats(value: object) -> str:
    """Advice that is right for this value, or none."""
    if isinstance(value, np.ma.MaskedArray):
        return "; value.filled(0) makes an array of it, with 0 where it is masked"
    if isinstance(value, np.ndarray):
        pixels = ", / 255 where it holds pixels" if value.dtype == np.uint8 else ""
        return f"; .astype(np.float32) makes one of it{pixels}" if value.dtype.kind in "iufb" else ""
    if isinstance(value, np.generic) or not (isinstance(value, (list, tuple)) or hasattr(value, "__array__")):
        return ""
    try:
        is_numeric = np.asarray(value).dtype.kind in "iufb"
    except Exception:  # lists of several lengths, a tensor on another device, one that wants its gradient: anything
        return ""
    return "; np.asarray(value, np.float32) makes one of it" if is_numeric else ""


def is_integer(value: object) -> TypeGuard[int]:
    """Whether it is a whole number of Python or NumPy; True and False are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
