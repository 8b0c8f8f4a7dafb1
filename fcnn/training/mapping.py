"""What maps over threads and over processes have in common: what they refuse."""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

MapFn: TypeAlias = Callable[..., Iterable[Any]]


def expect_mapping(arguments: tuple[Iterable[Any], ...], ended: bool) -> None:
    """Raise unless what `threads` or `processes` gave can map these: within its block, and at least one iterable."""
    if ended:
        raise RuntimeError("map_fn maps within the block that it was made for, which has ended; enter another")
    if not arguments:
        raise TypeError("map_fn takes a function and at least one iterable, as `map` does, got no iterable")
