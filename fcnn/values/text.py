"""Text that came in a file, before it is read, and made fit to be shown."""

import re
from collections.abc import Collection

MOST_OF_A_NAME = 10_000  # characters
_HALVES = re.compile("[\ud800-\udfff]")
_MOST_WORDS, _MOST_LETTERS = 1_000, 200  # of which one is sought that is like another


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
    return len(text) <= MOST_OF_A_NAME and is_whole(text)


def is_whole(text: str) -> bool:
    r"""Whether a text has no halves of characters, which JSON can write and no file of text can hold.

    >>> is_whole("\N{GRINNING FACE}"), is_whole("\ud83d")
    (True, False)
    """
    return not _HALVES.search(text)


def meant(word: str, known: Collection[str]) -> str:
    """A question after the one of few short words that is most like one that isn't among them, "" where none is.

    >>> print("features.0.w" + meant("features.0.w", ["features.0.weight", "fc.bias"]))
    features.0.w; did you mean features.0.weight?
    """
    import difflib

    # It compares each letter with each.
    short = sorted(one for one in known if len(one) <= _MOST_LETTERS) if len(known) <= _MOST_WORDS else []
    close = difflib.get_close_matches(word[:_MOST_LETTERS], short, n=1)
    return f"; did you mean {printable(close[0])}?" if close else ""


def json_values(text: str) -> int:
    """How many values there are at most in a JSON text, before any is made: each takes some hundred bytes.

    >>> json_values('{"a": [1, 2]}')
    3
    """
    return sum(text.count(mark) for mark in ",[{")
