"""Explicit randomness: a key is a plain value, and every random draw names the key it came from.

There is no global generator. A key is derived from another by *name* (or by a number, for a sequence such as
epochs or steps), so inserting a layer into a network changes the draws of no other layer.
"""

from hashlib import blake2b
from typing import Any

import attrs
import numpy as np

from fcnn.values.checks import instance, integer, told

_BITS = 128
_MOST_BITS = 14_000  # Python writes no longer numbers in digits


@attrs.frozen
class Key:
    """A 128-bit immutable random key; make one with `key`, derive others with `fold_in`."""

    value: int = attrs.field()

    @value.validator
    def _in_range(self, _: object, value: int) -> None:
        if type(value) is not int or value < 0 or value.bit_length() > _BITS:
            raise ValueError(
                f"a key's value is an int of {_BITS} bits, got {told(value)}; make keys with fcnn.key(seed)"
            )

    def __repr__(self) -> str:
        return f"Key(0x{self.value:032x})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Key, (self.value,)  # half the time of what attrs would do; every shard carries one


def key(seed: int) -> Key:
    """Make the key that belongs to a seed.

    Raises TypeError unless `seed` is an integer, ValueError if it is negative.

    >>> key(0) == key(0), key(0) == key(1)
    (True, False)
    """
    return Key(_digest(b"seed", _digits("seed", seed)))


def fold_in(parent: Key, data: str | int) -> Key:
    """Derive a key from `parent` and a name or a non-negative number; a pure function of both.

    >>> root = key(0)
    >>> fold_in(root, "conv1") == fold_in(root, "conv1")
    True
    >>> len({fold_in(root, "1"), fold_in(root, 1), fold_in(root, 2), root})
    4
    """
    if type(parent) is not Key:
        expect_key("parent", parent)
    stem = parent.value.to_bytes(_BITS // 8, "little")
    if isinstance(data, str):
        return Key(_digest(b"name" + stem, data.encode("utf-8", "surrogatepass")))
    return Key(_digest(b"number" + stem, _digits("data, where it is no text,", data)))


def generator(key: Key) -> np.random.Generator:
    """A fresh NumPy generator for `key`; the same key always gives the same stream.

    >>> float(generator(key(0)).random()) == float(generator(key(0)).random())
    True
    """
    return np.random.Generator(np.random.PCG64(expect_key("key", key).value))


def expect_key(name: str, value: object) -> Key:
    """`value`, if it is a key and not, say, the seed of one."""
    return instance(name, value, Key, "a key, such as fcnn.key(0) makes")


def _digest(tag: bytes, data: bytes) -> int:
    return int.from_bytes(blake2b(tag + b":" + data, digest_size=_BITS // 8).digest(), "little")


def _digits(name: str, value: object) -> bytes:
    number = integer(name, value, least=0)
    if number.bit_length() > _MOST_BITS:
        raise ValueError(f"{name} is an integer of at most {_MOST_BITS:,} bits, got one of {number.bit_length():,}")
    return str(number).encode()
