"""safetensors files, read and written with NumPy alone: a header in JSON, and the numbers in C order behind it.

https://github.com/huggingface/safetensors#format. Bounds are checked before anything is read: offsets must cover the
file without hole or overlap, so the arrays take what the file has, and names may not be there twice.
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, BinaryIO, NoReturn, overload

import numpy as np

from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.matching import filled
from fcnn.exchange.names import Like, T, expect_template, named_values
from fcnn.values.archives import Bounded
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import file_path, mapping, told
from fcnn.values.files import opened, replacing
from fcnn.values.kinds import looks_like
from fcnn.values.text import is_name, is_whole, json_values, printable

_MOST_HEADER = 16 << 20  # bytes, of ASCII; or half, or a quarter, by the memory that each character takes
_WIDE, _WIDER = re.compile(rb"[^\0-\x7f]|\\u"), re.compile(rb"[\xf0-\xff]|\\u[dD][89a-fA-F]")
_MOST_VALUES = 500_000  # in the header: each takes some hundred bytes, however short its text
_MOST_AXES = 32  # NumPy's before 2.0
_DTYPES = {
    **{"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1"},
    **{"U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "b1", "BF16": "u2"},
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items() if name != "BF16"}


@overload
def load_safetensors(path: str | os.PathLike[str], like: None = None, *, names: None = None) -> dict[str, Array]: ...


@overload
def load_safetensors(path: str | os.PathLike[str], like: T, *, names: Mapping[str, str] | None = None) -> T: ...


def load_safetensors(path: str | os.PathLike[str], like: Any = None, *, names: Mapping[str, str] | None = None) -> Any:
    """Read the arrays of a safetensors file.

    BF16 comes as float32, which holds the same numbers, and all else in its own dtype.

    Args:
        path: the file.
        like: what the values are for: a `Model`, an `Init` as a network's `init` makes it, or a tree of parameters.
        names: the file's name for each path of `like`, such as {"conv1/w": "features.0.weight"}. Without, names that
            `torch_names` gives are recognised, and torchvision's. Others are matched by their shapes, as the file has
            them in no order of layers; those of equal shapes by the numbers in their names, and refused where these
            don't tell: then a `.pt`, which keeps the order, does.

    Returns:
        What `like` is, with the file's values, and halves as float32; without `like`, a dict from the file's names to
        read-only arrays.

    Raises:
        ExchangeError: it is no such file, or damaged; or it doesn't fit `like`: then it lists all that is missing,
            unexpected or of another shape.
        OSError: the file can't be read.
    """
    path = file_path("path", path)
    expect_template(like, names)
    try:
        with opened(path) as raw, Bounded(raw) as file:  # type: ignore[arg-type]  # as in `opened_archive`
            arrays = _read(file)
    except _DamagedError as error:
        seen = looks_like(path, "safetensors")
        raise ExchangeError(f"{path}: {f'no safetensors file; {seen}' if seen else error}") from error
    return arrays if like is None else filled(path, arrays, like, names, ordered=False)


def save_safetensors(
    path: str | os.PathLike[str],
    value: Like | dict[str, Array],
    *,
    names: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write values as a safetensors file, atomically, as `save` does.

    Args:
        path: the file, by custom ending in `.safetensors`.
        value: a `Model`, an `Init`, a tree of parameters, or a dict of arrays by name.
        names: what each path of a network is called in the file; by default as `torch_names` gives it.
        metadata: texts by name for the file's header; by default {"format": "pt"}, by which some readers know that
            filters lie as PyTorch's do.

    Raises:
        TypeError: it isn't one of these, or of a dtype that such files don't have.
        ValueError: names or metadata are no texts that a file can hold, or too long to be read again (4 MB at least).
        OSError: the file can't be written.
    """
    path = file_path("path", path)
    arrays = named_values(value, names)
    header: dict[str, Any] = {"__metadata__": _metadata(metadata)}
    begin = 0
    # The widest numbers first: so all lie at multiples of their size.
    ordered = sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize)
    for name, array in ordered:
        if name in header or array.dtype.str[1:] not in _NAMES:
            what = "which is the name of its metadata" if name in header else f"{array.dtype}, which it doesn't have"
            raise TypeError(f"a safetensors file holds arrays of numbers by name, got {name}: {what}")
        end = begin + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype.str[1:]], "shape": array.shape, "data_offsets": (begin, end)}
        begin = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > (most := _MOST_HEADER // _width(text)):
        raise ValueError(f"names and metadata are {len(text):,} bytes, more than {most:,}, which are read again")
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in ordered:
            file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data)


def _metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    found = dict(mapping("metadata", {"format": "pt"} if metadata is None else metadata, "a mapping of texts to texts"))
    if not all(isinstance(text, str) for item in found.items() for text in item):
        raise TypeError(f"metadata is a mapping of texts to texts, got {told(metadata)}")
    for name, text in found.items():
        if not is_whole(name + text):
            raise ValueError(f"metadata has no halves of characters (surrogates), got {told(name)}: {told(text)}")
    return found


class _DamagedError(ValueError):
    """It is not what it should be."""


def _refuse(what: str) -> NoReturn:
    raise _DamagedError(what)


def _read(file: BinaryIO) -> dict[str, Array]:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        _refuse(f"no safetensors file, or cut short: {size:,} bytes, and its header would be {length:,}")
    if length > _MOST_HEADER:
        _refuse(f"its header is of {length:,} bytes, more than {_MOST_HEADER:,}")
    entries = _entries(file.read(length))
    begin = 8 + length
    found: dict[str, Array] = {}
    # By their places: those of empty arrays are those of their neighbours.
    for name, (dtype, shape, (start, stop)) in sorted(entries.items(), key=lambda item: item[1][2]):
        if 8 + length + start != begin:
            _refuse(f"{printable(name)} begins at {start:,}, where the one before ends at {begin - 8 - length:,}")
        begin += stop - start
        if begin > size:
            _refuse(f"{printable(name)} ends at {stop:,}, and the file has {size - 8 - length:,} bytes of numbers")
        found[name] = _array(file.read(stop - start), dtype, shape)
    if begin != size:
        _refuse(f"it has {size - begin:,} bytes that belong to no array")
    return {name: found[name] for name in entries}


def _array(data: bytes, dtype: str, shape: tuple[int, ...]) -> Array:
    array: Array = np.frombuffer(data, np.dtype(_DTYPES[dtype]).newbyteorder("<")).reshape(shape)
    if dtype == "BF16":  # the upper half of a float32
        wide = array.astype("u4")
        wide <<= 16
        return frozen(wide.view("f4"))
    if dtype == "BOOL":
        return frozen(np.not_equal(array.view("u1"), 0))
    return frozen(array.astype(array.dtype.newbyteorder("="), copy=False))


Entry = tuple[str, tuple[int, ...], tuple[int, int]]  # dtype, shape, and its place among the bytes of numbers


def _entries(text: bytes) -> dict[str, Entry]:
    """What the header says of each array, in its order."""
    if text[:1] != b"{":
        _refuse("no safetensors file: its header isn't a JSON object")
    if len(text) > (most := _MOST_HEADER // _width(text)):
        _refuse(f"its header is of {len(text):,} bytes, more than {most:,}, with characters beyond ASCII in it")
    try:
        words = text.decode()
        if json_values(words) > _MOST_VALUES:
            _refuse(f"its header is of more than {_MOST_VALUES:,} values")
        header = json.loads(words, object_pairs_hook=_without_doubles, parse_constant=_no_number)
    except _DamagedError:
        raise
    except (ValueError, RecursionError) as error:
        raise _DamagedError(f"its header is no JSON ({printable(str(error))})") from error
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        _refuse("its metadata is no object of texts")
    return {name: _entry(name, entry) for name, entry in header.items()}


def _width(text: bytes) -> int:
    """How many bytes of memory a character takes in Python when JSON in UTF-8 is decoded."""
    return 4 if _WIDER.search(text) else 2 if _WIDE.search(text) else 1


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        _refuse(f"{printable(counts.most_common(1)[0][0])} is in its header twice")
    return found


def _no_number(text: str) -> NoReturn:
    _refuse(f"its header is no JSON ({text} in it)")


def _entry(name: str, entry: object) -> Entry:
    if not is_name(name):
        _refuse(f"{printable(name)} is the name of an array, and no text that can be one")
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, stop], **rest} if not rest:
            if dtype not in _DTYPES:
                _refuse(f"{printable(name)} is of dtype {printable(dtype)}; known are {', '.join(_DTYPES)}")
            numbers = (*shape, start, stop)
            if not all(type(one) is int and 0 <= one < 1 << 63 for one in numbers) or len(shape) > _MOST_AXES:
                _refuse(f"{printable(name)} has a shape or offsets that are no counts")
            size = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
            if size != stop - start:
                _refuse(f"{printable(name)} has {stop - start:,} bytes, for which its shape and dtype have others")
            if 0 in shape and math.prod(max(one, 1) for one in shape) >= 1 << 58:
                _refuse(f"{printable(name)} has no numbers, and a shape that no array has")
            return dtype, tuple(shape), (start, stop)
    _refuse(f"{printable(name)} isn't told as an array with dtype, shape and data_offsets")
