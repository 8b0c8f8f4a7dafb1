"""The page as values, which HTML and Markdown are made of: the same content, so that they cannot disagree.

Text may hold `code`, **bold** and [links](https://...); nothing else has a meaning, line breaks are spaces.
"""

import re
from collections.abc import Iterable

import attrs

from study.figures.plot import Picture


def flowing(text: str) -> str:
    """Text without the line breaks and margins that it has in the source.

    >>> flowing(" one\\n    two ")
    'one two'
    """
    return re.sub(r"\s*\n\s*", " ", text.strip())


def _all_flowing(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(flowing, texts))


@attrs.frozen
class Heading:
    """A section's name and the fragment that leads to it."""

    text: str
    anchor: str


@attrs.frozen
class Paragraph:
    """Running text; `lead` sets it larger, `notice` in a frame."""

    text: str = attrs.field(converter=flowing)
    kind: str = ""


@attrs.frozen
class Bullets:
    """A list."""

    items: tuple[str, ...] = attrs.field(converter=_all_flowing)


@attrs.frozen
class Table:
    """A table: names of columns, rows of text, and what it shows. Columns in `numbers` are set to the right."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()


@attrs.frozen
class Code:
    """Commands."""

    text: str


Block = Heading | Paragraph | Bullets | Table | Picture | Code
