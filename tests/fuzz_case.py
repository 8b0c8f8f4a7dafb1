"""What `fuzz.py` reads and judges: a damaged file, and what is allowed to come out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs


class Failure(Exception):
    """What was read is neither right nor refused in a sentence."""


@attrs.frozen
class Case:
    """A damaged file: what is called to read it, and what is allowed to come out."""

    data: bytes
    read: Callable[[Path], Any]
    check: Callable[[Any], bool]  # whether what was read is right
    errors: tuple[type[Exception], ...]
    allowed: int = 0  # bytes that the file declares and may have
    named: bool = True  # whether a message names the file
    lines: bool = False  # whether a message may list differences, a line each


def require(condition: Any, what: str) -> None:
    if not condition:
        raise Failure(what)
