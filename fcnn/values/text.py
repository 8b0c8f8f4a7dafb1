"""Text that came in a file, made fit to be shown."""


def printable(text: str, most: int = 100) -> str:
    r"""A text in one line, of at most about `most` characters, without what would break a line or a terminal.

    >>> print(printable("two\nlines"), printable("x" * 1000, 30))
    two\nlines xxxxxxxxxx…xxxxxxxxxxxxxxxxxxx
    """
    short = text if len(text) <= most else f"{text[: most - 20]}…{text[-19:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in short)
