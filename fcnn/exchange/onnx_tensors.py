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
_MOST_DIMENSIONS = 8


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
        shape = tuple(map(int, message.integers(_DIMS)[: _MOST_DIMENSIONS + 1]))
        return cls(message.text(_NAME), shape, message.integer(_TYPE), message, folder)

    def array(self) -> Array:
        """Its numbers, read-only. Raises ExchangeError, without its name, where they aren't there."""
        if len(self.shape) > _MOST_DIMENSIONS or min(self.shape, default=0) < 0:
            raise ExchangeError(f"an array of the shape {self.shape[:_MOST_DIMENSIONS]}, which fcnn has none of")
        if self.type not in _LAYOUTS:
            raise ExchangeError(f"numbers of {type_name(self.type)}, which are not read")
        if self._message.has(_SEGMENT):
            raise ExchangeError("it is stored in segments, which are not read")
        dtype, field = _LAYOUTS[self.type]
        count = math.prod(self.shape)
        if self._message.integer(_LOCATION):
            found = np.frombuffer(self._beside(count * np.dtype(dtype).itemsize), dtype)
        elif self._message.has(_RAW):
            raw = self._message.content(_RAW)
            if len(raw) != count * np.dtype(dtype).itemsize:
                raise ExchangeError(f"{len(raw):,} bytes for {type_name(self.type)} {self.shape}")
            found = np.array(np.frombuffer(raw, dtype))  # a copy: the file's bytes aren't held on to, nor aligned
        else:
            found = self._one_by_one(field, dtype)
            if found.size != count:
                raise ExchangeError(f"{found.size:,} numbers for the shape {self.shape}")
        return frozen(_widened(found, self.type).reshape(self.shape))

    def _one_by_one(self, field: int, dtype: str) -> Array:
        if field == _FLOATS:
            return self._message.floats(field)
        if field == _DOUBLES:
            return self._message.doubles(field)
        numbers = self._message.integers(field)
        # 16 bits of a float stand here as an integer.
        return numbers.astype("<u2").view(dtype) if self.type in FLOAT_TYPES else numbers

    def _beside(self, size: int) -> bytes:
        entries: Mapping[str, str] = {}
        for content in self._message.contents(_EXTERNAL):
            entry = read(content, "tensor's place", {1, 2})
            entries = {**entries, entry.text(1): entry.text(2)}
        offset = _number(entries.get("offset", "0"))
        length = _number(entries.get("length", str(size)))
        if length != size:
            raise ExchangeError(f"{length:,} bytes for {type_name(self.type)} {self.shape}")
        return self._folder.content(entries.get("location", ""), offset, size)


def _widened(found: Array, code: int) -> Array:
    """The numbers in a type that the library computes with."""
    if code == 16:  # the upper half of a float32
        return (found.astype(np.uint32) << 16).view(np.float32)
    if code in FLOAT_TYPES:
        return found.astype(np.float64 if code == 11 else np.float32, copy=False)
    return found.astype(np.bool_ if code == 9 else np.int64, copy=False)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ExchangeError(f"its place in a file is {printable(text, 40)!r}, no number")
    return int(text)


def _shown(location: str) -> str:
    return printable(location) or "no file"
