"""Shell-style patterns of paths, such as "conv*" or ["stem/*", "bn?"]; a `*` matches slashes, too."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

from fcnn.values.checks import texts

Patterns: TypeAlias = str | Sequence[str]


def as_patterns(patterns: Patterns, such_as: str) -> tuple[str, ...]:
    """One pattern or several, as a tuple; `such_as` is an example of one."""
    if isinstance(patterns, str):
        return (patterns,)
    return texts("the patterns of paths", patterns, f'text, such as "{such_as}"')


def first_match(patterns: Sequence[str], path: str) -> int | None:
    """The place of the first pattern that matches the path; None where none does."""
    return next((place for place, pattern in enumerate(patterns) if fnmatchcase(path, pattern)), None)


def expect_matches(no_path: str, patterns: Sequence[str], paths: Iterable[str]) -> None:
    """Raise ValueError, which begins with `no_path`, for a pattern that matches none of the paths."""
    paths = list(paths)
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in paths):
            raise ValueError(f"{no_path} matches {pattern!r}; there are {', '.join(paths)}")
