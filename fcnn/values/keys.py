"""Explicit randomness: a key is a plain value, and every random draw names the key it came from.

There is no global generator. A key is derived from another by *name* (or by a number, for a sequence such as
epochs or steps), so inserting a layer into a network changes the draws of no other layer.
"""

from hashlib import blake2b

import attrs
import numpy as np

from fcnn.values.checks import instance, integer

_BITS = 128


@attrs.frozen
class Key:
    """A 128-bit immutable random key; make one with `key`, derive others with `fold_in`."""

    value: int = attrs.field()

    @value.validator
    def _in_range(self, _: object, value: int) -> None:
        if not isinstance(value, int) or value < 0 or value.bit_length() > _BITS:
            raise ValueError(f"a key's value is an int of {_BITS} bits, got {value!r}; make keys with fcnn.key(seed)")

    def __repr__(self) -> str:
        return f"Key(0x{self.value:032x})"


def expect_key(name: str, value: object) -> Key:
    """`value`, if it is a key; of a seed the error says how one is made."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 0:
        raise TypeError(f"{name} is a key, such as fcnn.key(0), got {value}; fcnn.key({value}) makes one of it")
    return instance(name, value, Key, "a key, such as fcnn.key(0)")


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
    stem = parent.value.to_bytes(_BITS // 8, "little")
    if isinstance(data, str):
        return Key(_digest(b"name" + stem, data.encode()))
    return Key(_digest(b"number" + stem, _digits("data", data)))


def generator(key: Key) -> np.random.Generator:
    """A fresh NumPy generator for `key`; the same key always gives the same stream.

    >>> float(generator(key(0)).random()) == float(generator(key(0)).random())
    True
    """
    return np.random.Generator(np.random.PCG64(key.value))


def _digest(tag: bytes, data: bytes) -> int:
    return int.from_bytes(blake2b(tag + b":" + data, digest_size=_BITS // 8).digest(), "little")


def _digits(name: str, value: object) -> bytes:
    return str(integer(name, value, least=0)).encode()
