"""How values show in a notebook: HTML that folds, with one small style, no scripts and nothing to fetch.

Colours are those of the surroundings, light or dark, and without the style it reads well too. Text becomes markup in
one place, which escapes it. What is long is cut, and says how much was left out.
"""

from collections.abc import Callable, Sequence
from html import escape
from typing import NewType, TypeVar

import attrs
import numpy as np

from fcnn.values.arrays import Array

Markup = NewType("Markup", str)  # as opposed to text, which is not escaped yet
T = TypeVar("T")

_MOST_ROWS = 100
_MOST_CHARACTERS = 200
_STYLE = """
.fcnn { overflow-x: auto; line-height: 1.5; }
.fcnn summary { cursor: pointer; }
.fcnn details > div { margin: 0 0 0.3em 1.1em; }
.fcnn p { margin: 0; }
.fcnn table { margin: 0; border-collapse: collapse; font-size: 0.95em; color: inherit; }
.fcnn th, .fcnn td { padding: 0.1em 0.5em; text-align: right; white-space: nowrap; font-weight: normal; }
.fcnn th:first-child { text-align: left; }
.fcnn thead th { border-bottom: 1px solid #8888; vertical-align: bottom; white-space: normal; }
.fcnn thead th, .fcnn i { font-style: normal; color: var(--jp-content-font-color2, inherit); }
.fcnn ul.lines { list-style: none; margin: 0; padding: 0; max-width: 64em; min-width: max-content; }
.fcnn li ul.lines { max-width: none; }
.fcnn li > span, .fcnn summary > span { display: flex; column-gap: 1em; align-items: baseline; }
.fcnn summary > span { display: inline-flex; width: calc(100% - 1.1em); vertical-align: top; }
.fcnn b { min-width: 5em; }
.fcnn span > code { max-width: 40em; padding: 0; background: none; color: inherit; white-space: pre-wrap; }
.fcnn code + i { margin-left: auto; }
.fcnn i { min-width: 9em; text-align: right; white-space: nowrap; }
.fcnn i + i + i { min-width: 12em; }
"""


@attrs.frozen
class Line:
    """A line of an outline: a name, what it names as code, facts about it, and the lines beneath it."""

    name: str
    code: str
    facts: Sequence[str] = ()
    inner: "Sequence[Line]" = ()


def view(*parts: Markup) -> str:
    """What a `_repr_html_` gives."""
    return f'<div class="fcnn"><style>{_STYLE}</style>{"".join(parts)}</div>'


def fold(heading: str, *parts: Markup) -> Markup:
    """Parts under a heading that folds them away."""
    return Markup(f"<details open><summary>{_text(heading)}</summary><div>{''.join(parts)}</div></details>")


def counted(number: int, noun: str) -> str:
    """So many of something, in words."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def paragraph(text: str) -> Markup:
    """A line or more of text."""
    return Markup(f"<p>{_text(text)}</p>")


def table(header: Sequence[str], items: Sequence[T], cells: Callable[[T], Sequence[str]]) -> Markup:
    """A table with a row of `cells(item)` for each item; of many items, for the first and the last ones."""

    def row(item: T) -> str:
        first, *others = map(_text, cells(item))
        return f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in others) + "</tr>"

    half = _MOST_ROWS // 2
    left_out = len(items) - 2 * half
    if left_out > 0:
        gap = f'<tr><th scope="row" colspan="{len(header)}">… {left_out:,} left out …</th></tr>'
        rows = [*map(row, items[:half]), gap, *map(row, items[-half:])]
    else:
        rows = [*map(row, items)]
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in header)
    return Markup(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>")


def arrays(named: Sequence[tuple[str, Array]]) -> Markup:
    """A table of arrays: path, shape, dtype, and how their numbers are spread."""

    def cells(item: tuple[str, Array]) -> Sequence[str]:
        path, array = item
        return path, str(array.shape), str(array.dtype), *_spread(array)

    return table(["path", "shape", "dtype", "least", "mean ± sd", "greatest"], named, cells) if named else Markup("")


def outline(top: Line) -> Markup:
    """A line and those beneath it, which fold away; of many lines, the first ones."""
    left = _MOST_ROWS

    def shown(line: Line) -> str:
        nonlocal left
        left -= 1
        facts = "".join(f" <i>{_text(fact)}</i>" for fact in line.facts)
        name = f"<b>{_text(line.name)}</b> " if line.name else ""
        told = f"<span>{name}<code>{_text(line.code)}</code>{facts}</span>"
        if not line.inner:
            return told
        items = []
        for index, inner in enumerate(line.inner):
            if not left:
                items.append(f"<li>… {sum(map(_count, line.inner[index:])):,} left out</li>")
                break
            items.append(f"<li>{shown(inner)}</li>")
        return f'<details open><summary>{told}</summary><div><ul class="lines">{"".join(items)}</ul></div></details>'

    return Markup(f'<ul class="lines"><li>{shown(top)}</li></ul>')


def _count(line: Line) -> int:
    return 1 + sum(map(_count, line.inner))


def _text(text: str) -> Markup:
    short = text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"
    return Markup(escape(short))


def _spread(array: Array) -> tuple[str, str, str]:
    """The least number, mean and standard deviation, and the greatest: of those that are finite."""
    if array.dtype.kind not in "biuf" or not array.size:
        return "", "", ""
    finite = np.isfinite(array)
    wrong = array.size - int(np.count_nonzero(finite))
    numbers = array[finite] if wrong else array
    if not numbers.size:
        return "", f"{wrong:,} not finite", ""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = f"{numbers.mean(dtype=np.float64):.3g} ± {numbers.std(dtype=np.float64):.3g}"
    mean += f", {wrong:,} not finite" if wrong else ""
    return _number(numbers.min()), mean, _number(numbers.max())


def _number(number: np.generic) -> str:
    return f"{number:.3g}" if number.dtype.kind == "f" else str(number)
