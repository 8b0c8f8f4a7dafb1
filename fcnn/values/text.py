"""Text that came in a file, before it is read, and made fit to be shown."""

import re

MOST_OF_A_NAME = 10_000  # characters
_HALVES = re.compile("[\ud800-\udfff]")


def printable(text: str, most: int | None = 100) -> str:
    r"""A text without what would break a line or a terminal; of a long one, if there is a `most`, beginning and end.

    >>> print(printable("two\nlines"), printable("x" * 1000, 30))
    two\nlines xxxxxxxxxx…xxxxxxxxxxxxxxxxxxx
    """
    short = text if most is None or len(text) <= most else f"{text[: most - 20]}…{text[-19:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in short)


def is_name(text: str) -> bool:
    r"""Whether a text can be a value's name in a file: not too long, and no halves of characters, which have no bytes.

    >>> is_name("conv1.weight"), is_name("\ud83d"), is_name("w" * 10_001)
    (True, False, False)
    """
    return len(text) <= MOST_OF_A_NAME and not _HALVES.search(text)


def json_values(text: str) -> int:
    """How many values there are at most in a JSON text, before any is made: each takes some hundred bytes.

    >>> json_values('{"a": [1, 2]}')
    3
    """
    return sum(text.count(mark) for mark in ",[{")
