"""The arrays of an ONNX model: within its file, or in another file of the same folder, and never outside of it.

An array is made when it is asked for, and only of bytes that are there. Numbers of 16 bits become float32, integers
int64.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath

import attrs
import numpy as np

from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.protobuf import Message, read
from fcnn.values.arrays import Array, frozen
from fcnn.values.files import opened, why_unreadable
from fcnn.values.text import printable

FLOAT_TYPES = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
_TYPES = {2: "uint8", 3: "int8", 5: "int16", 6: "int32", 7: "int64", 8: "text", 9: "bool"} | FLOAT_TYPES
# As they lie in memory, and in which field of a tensor they stand one by one.
_LAYOUTS = {1: ("<f4", 4), 10: ("<f2", 5), 11: ("<f8", 10), 16: ("<u2", 5)}
_LAYOUTS |= {2: ("<u1", 5), 3: ("<i1", 5), 5: ("<i2", 5), 6: ("<i4", 5), 7: ("<i8", 7), 9: ("<u1", 5)}
_DIMS, _TYPE, _SEGMENT, _FLOATS, _INT32S, _INT64S, _NAME, _RAW, _DOUBLES, _EXTERNAL, _LOCATION = (
    *(1, 2, 3, 4, 5, 7, 8, 9, 10, 13, 14),
)
_WANTED = {_DIMS, _TYPE, _SEGMENT, _FLOATS, _INT32S, _INT64S, _NAME, _RAW, _DOUBLES, _EXTERNAL, _LOCATION}
_BOOL = 9
_MOST_DIMENSIONS = 8
_MOST_INTEGERS = 1 << 20  # of an array: shapes and indices are short, and weights are floats


def type_name(code: int) -> str:
    """What a number of ONNX's for a type of numbers stands for."""
    return _TYPES.get(code, f"the type {code}")


@attrs.define
class Folder:
    """The folder of a model, from whose files its arrays are read, each byte once.

    Raises ExchangeError for a place outside of it, and for bytes that a file hasn't.
    """

    path: Path
    _read: dict[tuple[str, int, int], bytes] = attrs.field(factory=dict)
    _left: dict[str, int] = attrs.field(factory=dict)
    _arrays: dict[tuple[str, int, int, int], Array] = attrs.field(factory=dict)

    def array(self, location: str, offset: int, size: int, code: int) -> Array:
        """The numbers of a type in `size` bytes of a file, one array however often they are asked for."""
        key = (location, offset, size, code)
        if key not in self._arrays:
            self._arrays[key] = _widened(np.frombuffer(self.content(location, offset, size), _LAYOUTS[code][0]), code)
        return self._arrays[key]

    def content(self, location: str, offset: int, size: int) -> bytes:
        """`size` bytes of a file from `offset` on."""
        key = (location, offset, size)
        if key not in self._read:
            file = self._file(location)
            with opened(file) as stream:
                length = os.fstat(stream.fileno()).st_size
                left = self._left.setdefault(location, length)
                if offset < 0 or offset + size > length:
                    raise ExchangeError(
                        f"bytes {offset:,} to {offset + size:,} of {_shown(location)}, which has {length:,}"
                    )
                if size > left:
                    raise ExchangeError(f"its place in {_shown(location)} overlaps others")
                stream.seek(offset)
                self._read[key] = stream.read(size)
            if len(self._read[key]) != size:
                raise ExchangeError(f"{_shown(location)} became shorter while it was read")
            self._left[location] = left - size
        return self._read[key]

    def _file(self, location: str) -> Path:
        named = PureWindowsPath(location)  # whose parts are told apart by either slash
        if not location or "\0" in location or named.is_absolute() or named.drive or named.root or ".." in named.parts:
            raise ExchangeError(f"it lies in {_shown(location)}; only files in the model's own folder are read")
        folder = os.path.realpath(self.path)
        found = os.path.realpath(os.path.join(folder, location))
        if os.path.commonpath([folder, found]) != folder:
            raise ExchangeError(
                f"it lies in {_shown(location)}, a link out of the model's own folder, which isn't followed"
            )
        reason = why_unreadable(found)
        if reason is not None:
            raise ExchangeError(f"it lies in {_shown(location)}: {reason}; put that file beside the model")
        return Path(found)


@attrs.frozen
class Tensor:
    """An array that a model holds, which is made of its bytes by `array`."""

    name: str
    shape: tuple[int, ...]
    type: int
    _message: Message
    _folder: Folder

    @classmethod
    def of(cls, data: memoryview, folder: Folder) -> "Tensor":
        """The tensor of a message."""
        message = read(data, "tensor", _WANTED)
        shape = (0,) * (_MOST_DIMENSIONS + 1)  # which `array` refuses
        if message.count(_DIMS) <= _MOST_DIMENSIONS:
            shape = tuple(message.integers(_DIMS).tolist())
        return cls(message.text(_NAME), shape, message.integer(_TYPE), message, folder)

    def array(self) -> Array:
        """Its numbers, read-only. Raises ExchangeError, without its name, where they aren't there."""
        if len(self.shape) > _MOST_DIMENSIONS or min(self.shape, default=0) < 0:
            what = f"the shape {self.shape}" if len(self.shape) <= _MOST_DIMENSIONS else "nine axes or more"
            raise ExchangeError(f"an array of {what}, which fcnn has none of")
        if self.type not in _LAYOUTS:
            raise ExchangeError(f"numbers of {type_name(self.type)}, which are not read")
        if self._message.has(_SEGMENT):
            raise ExchangeError("it is stored in segments, which are not read")
        dtype, field = _LAYOUTS[self.type]
        count = math.prod(self.shape)
        if self.type not in FLOAT_TYPES and count > _MOST_INTEGERS:
            raise ExchangeError(
                f"{count:,} numbers of {type_name(self.type)}; at most {_MOST_INTEGERS:,} that are no floats are read"
            )
        if self._message.integer(_LOCATION):
            found = self._beside(count * np.dtype(dtype).itemsize)
        elif self._message.has(_RAW):
            raw = self._message.content(_RAW)
            if len(raw) != count * np.dtype(dtype).itemsize:
                raise ExchangeError(f"{len(raw):,} bytes for {type_name(self.type)} {self.shape}")
            # A copy, as the file's bytes are neither held on to nor aligned.
            found = _widened(np.frombuffer(raw, dtype), self.type, copy=True)
        else:
            found = self._one_by_one(field, count)
        return frozen(found.reshape(self.shape))

    def _one_by_one(self, field: int, count: int) -> Array:
        """Numbers that stand one by one, counted first: an integer of one byte in the file has eight here."""
        of_floats = {_FLOATS: self._message.floats, _DOUBLES: self._message.doubles}
        size = of_floats[field](field).size if field in of_floats else self._message.count(field)
        if size != count:
            raise ExchangeError(f"{size:,} numbers for the shape {self.shape}")
        if field in of_floats:
            return of_floats[field](field)
        numbers, done = np.empty(count, np.float32 if self.type in FLOAT_TYPES else np.int64), 0
        for part in self._message.integers_in_parts(field):
            # 16 bits of a float stand here as an integer.
            found = part.astype("<u2").view(_LAYOUTS[self.type][0]) if self.type in FLOAT_TYPES else part
            numbers[done : done + part.size] = _widened(found, self.type)
            done += part.size
        return numbers.astype(np.bool_) if self.type == _BOOL else numbers

    def _beside(self, size: int) -> Array:
        entries: Mapping[str, str] = {}
        for content in self._message.contents(_EXTERNAL):
            entry = read(content, "tensor's place", {1, 2})
            entries = {**entries, entry.text(1): entry.text(2)}
        offset = _number(entries.get("offset", "0"))
        length = _number(entries.get("length", str(size)))
        if length != size:
            raise ExchangeError(f"{length:,} bytes for {type_name(self.type)} {self.shape}")
        return self._folder.array(entries.get("location", ""), offset, size, self.type)


def _widened(found: Array, code: int, *, copy: bool = False) -> Array:
    """The numbers in a type that the library computes with."""
    if code == 16:  # the upper half of a float32
        wide = found.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    if code in FLOAT_TYPES:
        return found.astype(np.float64 if code == 11 else np.float32, copy=copy)
    return found.astype(np.bool_ if code == _BOOL else np.int64, copy=copy)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ExchangeError(f"its place in a file is {printable(text, 40)!r}, no number")
    return int(text)


def _shown(location: str) -> str:
    return printable(location) or "no file"
