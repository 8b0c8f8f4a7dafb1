"""Arguments, checked in one place and in one style: what is expected, and what came.

Something of another type raises TypeError, a number out of range raises ValueError. True and False are no numbers.
"""

from typing import TypeAlias, TypeGuard

import numpy as np

Pair: TypeAlias = int | tuple[int, int]


def integer(name: str, value: object, *, least: int) -> int:
    """`value` as an int of at least `least`.

    >>> integer("batch_size", 0, least=1)
    Traceback (most recent call last):
    ...
    ValueError: batch_size is an integer of at least 1, got 0
    """
    if not _is_integer(value):
        raise TypeError(f"{name} is an integer of at least {least}, got {value!r}")
    if value < least:
        raise ValueError(f"{name} is an integer of at least {least}, got {value!r}")
    return int(value)


def pair(name: str, value: object, *, least: int) -> tuple[int, int]:
    """`value` as (height, width): one integer of at least `least` for both, or two of them.

    >>> pair("stride", 2, least=1), pair("stride", [2, 1], least=1)
    ((2, 2), (2, 1))
    """
    both = value if isinstance(value, (tuple, list)) else (value, value)
    if not all(map(_is_integer, both)):
        raise TypeError(f"{name} is an integer of at least {least}, or a pair (height, width), got {value!r}")
    if len(both) != 2 or min(both) < least:
        raise ValueError(f"{name} is an integer of at least {least}, or a pair (height, width), got {value!r}")
    return int(both[0]), int(both[1])


def number(name: str, value: object, interval: str) -> float:
    """`value` as a float in an interval, written as in mathematics; so NaN is in none.

    >>> number("momentum", 1.0, "[0, 1)")
    Traceback (most recent call last):
    ...
    ValueError: momentum is a number in [0, 1), got 1.0
    """
    expected = f"{name} is a number in {interval}, got {value!r}"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(expected)
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value > low if interval[0] == "(" else value >= low
    below = value < high if interval[-1] == ")" else value <= high
    if not (above and below):
        raise ValueError(expected)
    return float(value)


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
