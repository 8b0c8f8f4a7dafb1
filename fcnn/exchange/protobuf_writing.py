"""Protobuf's wire format, written: as much of it as a file of ONNX needs.

A message is a sequence of fields, each a number that says which, a kind, and a value: an integer of variable length,
four bytes, or any bytes with their length before them (text, arrays, messages within the message). What is written
here is a list of pieces, so that an array of many megabytes isn't copied once for each message that it lies in.
(protobuf.dev/programming-guides/encoding)
"""

import struct
from collections.abc import Iterable
from typing import TypeAlias

Pieces: TypeAlias = list[bytes | memoryview]

_VARINT, _BYTES, _FIXED32 = 0, 2, 5


def varint(value: int) -> bytes:
    r"""An integer, seven bits a byte, the lowest first; negative ones are 64 bits in two's complement.

    >>> varint(300), len(varint(-1))
    (b'\xac\x02', 10)
    """
    left, found = value & (1 << 64) - 1, bytearray()
    while left > 0x7F:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    found.append(left)
    return bytes(found)


def field(number: int, value: int | float | str | bytes | memoryview | Pieces) -> Pieces:
    r"""One field: a float is written in 32 bits, and pieces as the message that they are.

    >>> b"".join(field(1, 150)), b"".join(field(2, "hi")), b"".join(field(3, field(1, 150)))
    (b'\x08\x96\x01', b'\x12\x02hi', b'\x1a\x03\x08\x96\x01')
    """
    if isinstance(value, int):
        return [varint(number << 3 | _VARINT) + varint(value)]
    if isinstance(value, float):
        return [varint(number << 3 | _FIXED32) + struct.pack("<f", value)]
    pieces: Pieces = value if isinstance(value, list) else [value.encode() if isinstance(value, str) else value]
    return [varint(number << 3 | _BYTES) + varint(sum(map(len, pieces))), *pieces]


def fields(number: int, values: Iterable[int | float | str | bytes | Pieces]) -> Pieces:
    """A repeated field: one after the other."""
    return [piece for value in values for piece in field(number, value)]
