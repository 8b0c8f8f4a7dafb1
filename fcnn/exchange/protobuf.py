"""Protobuf's wire format, read within bounds: a message is bytes, and its fields are places in them.

A message is a sequence of fields, each a number that says which, a kind, and a value: an integer of variable length
("varint", seven bits a byte, the lowest first, negative ones as 64 bits in two's complement), four or eight bytes, or
any bytes with their length before them (text, arrays, messages within). Nothing here calls itself: a message within is
read only by who asks for it. A length is believed as far as there are bytes, and of fields that nobody wants nothing
is kept. (protobuf.dev/programming-guides/encoding)
"""

from collections.abc import Collection, Iterator

import attrs
import numpy as np

from fcnn.values.archives import DamagedFileError
from fcnn.values.arrays import Array
from fcnn.values.text import printable

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}
_MOST_FIELDS = 100_000  # that are kept of a message; each takes some 300 bytes of memory
_AT_A_TIME = 1 << 16  # bytes of integers
_LONGEST = 10  # bytes of an integer


@attrs.frozen
class Message:
    """The fields of a message that were wanted: by number, in order, each as a kind and the bytes of its value.

    Numbers that follow one another are one field: so they are those of a repeated field, packed or not.
    """

    name: str
    _fields: dict[int, list[tuple[int, memoryview | bytearray]]]

    def has(self, number: int) -> bool:
        """Whether there is such a field."""
        return number in self._fields

    def integer(self, number: int, default: int = 0) -> int:
        """A field's integer, the last one where there are several."""
        # One byte more than it may have, so that too long a one is seen.
        found = _integers(self._joined(number, _VARINT)[-_LONGEST - 1 :], self.name)
        return int(found[-1]) if found.size else default

    def count(self, number: int) -> int:
        """How many integers a repeated field has, of which none is read yet."""
        octets = np.frombuffer(self._joined(number, _VARINT), np.uint8)
        return sum(
            int(np.count_nonzero(octets[begin : begin + _AT_A_TIME] < 0x80))
            for begin in range(0, octets.size, _AT_A_TIME)
        )

    def integers(self, number: int) -> Array:
        """All integers of a repeated field, as int64: eight bytes for each, of which the file may have one."""
        return np.concatenate([np.zeros(0, np.int64), *self.integers_in_parts(number)])

    def integers_in_parts(self, number: int) -> Iterator[Array]:
        """The same, some thousand at a time."""
        content, begin = self._joined(number, _VARINT), 0
        while begin < len(content):
            part = content[begin : begin + _AT_A_TIME]
            whole = len(part)
            if begin + whole < len(content):  # up to the last integer that ends in it
                ends = np.flatnonzero(np.frombuffer(part[-_LONGEST:], np.uint8) < 0x80)
                whole -= _LONGEST - 1 - int(ends[-1]) if ends.size else 0
            yield _integers(part[:whole], self.name)
            begin += whole

    def float32(self, number: int) -> float:
        """A field's number of four bytes."""
        found = self.floats(number)
        return float(found[-1]) if found.size else 0.0

    def floats(self, number: int) -> Array:
        """All numbers of four bytes of a repeated field, as float32."""
        return self._numbers(number, _FIXED32, "<f4")

    def doubles(self, number: int) -> Array:
        """All numbers of eight bytes of a repeated field, as float64."""
        return self._numbers(number, _FIXED64, "<f8")

    def contents(self, number: int) -> list[memoryview]:
        """The bytes of each field of a number: what may be messages."""
        found = self._fields.get(number, ())
        if any(kind != _BYTES for kind, _ in found):
            raise DamagedFileError(f"field {number} of its {self.name} is a number, where ONNX has none")
        return [memoryview(content) for _, content in found]

    def content(self, number: int) -> memoryview:
        """The bytes of a field, the last one where there are several; none where there is none."""
        return (self.contents(number) or [memoryview(b"")])[-1]

    def texts(self, number: int) -> list[str]:
        """The text of each field of a number."""
        return [_text(content, self.name) for content in self.contents(number)]

    def text(self, number: int) -> str:
        """The text of a field, "" where there is none."""
        return _text(self.content(number), self.name)

    def _joined(self, number: int, kind: int) -> memoryview:
        """The numbers of a field one after the other, whether they were packed or not."""
        found = self._fields.get(number, ())
        if any(one not in (kind, _BYTES) for one, _ in found):
            raise DamagedFileError(f"field {number} of its {self.name} is a number of another kind than ONNX has there")
        return memoryview(found[0][1] if len(found) == 1 else b"".join(content for _, content in found))

    def _numbers(self, number: int, kind: int, dtype: str) -> Array:
        content = self._joined(number, kind)
        if len(content) % _SIZES[kind]:
            raise DamagedFileError(f"field {number} of its {self.name} is {len(content)} bytes, no whole numbers")
        return np.frombuffer(bytes(content), dtype)


def read(data: memoryview, name: str, wanted: Collection[int]) -> Message:
    r"""The wanted fields of a message, which errors call by a name. Raises DamagedFileError where it is none.

    >>> found = read(memoryview(b"\x08\x96\x01\x12\x02hi\x1a\x04\x01\xff\xff\x03"), "example", {1, 2, 3})
    >>> found.integer(1), found.text(2), found.integers(3)
    (150, 'hi', array([    1, 65535]))
    """
    fields: dict[int, list[tuple[int, memoryview | bytearray]]] = {}
    place, kept = 0, 0
    while place < len(data):
        tag, start = _varint(data, place, name)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, place = _varint(data, start, name)
        elif kind == _BYTES:
            length, start = _varint(data, start, name)
            place = start + length
        elif kind in _SIZES:
            place = start + _SIZES[kind]
        else:
            raise DamagedFileError(f"its {name} has a field of the kind {kind}, which is none")
        if place > len(data) or not number:
            raise DamagedFileError(f"a field of its {name} {'ends beyond it' if number else 'has no number'}")
        if number not in wanted:
            continue
        of_number = fields.setdefault(number, [])
        if kind == _BYTES:
            of_number.append((kind, data[start:place]))
        elif of_number and of_number[-1][0] == kind:
            of_number[-1][1].extend(data[start:place])  # type: ignore[union-attr]  # as only bytes are views
            continue
        else:
            of_number.append((kind, bytearray(data[start:place])))
        kept += 1
        if kept > _MOST_FIELDS:
            raise DamagedFileError(f"its {name} has more than {_MOST_FIELDS:,} fields")
    return Message(name, fields)


def _varint(data: memoryview, place: int, name: str) -> tuple[int, int]:
    """An integer without a sign, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if place == len(data):
            raise DamagedFileError(f"its {name} ends within a number")
        octet = data[place]
        place += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value & (1 << 64) - 1, place
    raise DamagedFileError(f"its {name} has a number of more than ten bytes")


def _integers(content: memoryview, name: str) -> Array:
    octets = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(octets < 0x80)
    if octets.size and (not ends.size or ends[-1] != octets.size - 1):
        raise DamagedFileError(f"its {name} ends within a number")
    values = np.zeros(ends.size, np.uint64)
    first = np.concatenate([[0], ends[:-1] + 1])[: ends.size]
    lengths = ends - first + 1
    longest = int(lengths.max(initial=0))
    if longest > _LONGEST:
        raise DamagedFileError(f"its {name} has a number of more than ten bytes")
    for i in range(longest):
        has = np.flatnonzero(lengths > i)
        values[has] |= (octets[first[has] + i] & 0x7F).astype(np.uint64) << np.uint64(7 * i)
    return values.view(np.int64)


def _text(content: memoryview, name: str) -> str:
    try:
        return str(content, "utf-8")
    except UnicodeDecodeError:
        raise DamagedFileError(f"its {name} has a text that is none: {printable(repr(bytes(content[:40])))}") from None
