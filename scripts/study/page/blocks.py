"""A page as values, and its two renderings, HTML and Markdown: the same content, so that they cannot disagree.

Text may hold `code`, **bold** and [links](https://...); nothing else has a meaning.
"""

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path

import attrs


@attrs.frozen
class Heading:
    """A section's name and the fragment that leads to it."""

    text: str
    anchor: str


@attrs.frozen
class Paragraph:
    """Running text; `lead` sets it larger, `notice` in a frame."""

    text: str
    kind: str = ""


@attrs.frozen
class Bullets:
    """A list."""

    items: tuple[str, ...]


@attrs.frozen
class Table:
    """A table: names of columns, rows of text, and what it shows. Columns in `numbers` are set to the right."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()


@attrs.frozen
class Picture:
    """A figure by its PNG, with a caption; `alt` is what it shows, for those who don't see it."""

    title: str
    caption: str
    alt: str
    png: Path
    svg: Path


@attrs.frozen
class Code:
    """Commands."""

    text: str


Block = Heading | Paragraph | Bullets | Table | Picture | Code


def to_markdown(title: str, blocks: Sequence[Block], folder: Path) -> str:
    """The page in Markdown; pictures are linked relative to `folder`."""
    parts = [f"# {title}"]
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(f"## {text}")
            case Paragraph(text, kind):
                parts.append(f"> {text}" if kind == "notice" else text)
            case Bullets(items):
                parts.append("\n".join(f"- {item}" for item in items))
            case Table(caption, columns, rows, numbers):
                rule = [("---:" if k in numbers else "---") for k in range(len(columns))]
                lines = [
                    "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (columns, rule, *rows)
                ]
                parts += [f"**{caption}**", "\n".join(lines)]
            case Picture(name, caption, alt, png, svg):
                png_link, svg_link = (path.relative_to(folder).as_posix() for path in (png, svg))
                alt = alt.replace("[", "(").replace("]", ")")
                parts += [f"![{alt}]({png_link})", f"**{name}.** {caption} ([SVG]({svg_link}))"]
            case Code(text):
                parts.append(f"```bash\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The page as one HTML file with its styles and pictures inside."""
    headings = [block for block in blocks if isinstance(block, Heading)]
    contents = "".join(f'<li><a href="#{block.anchor}">{inline(block.text)}</a></li>' for block in headings)
    body, listed = [], False
    for block in blocks:
        if isinstance(block, Heading) and not listed:
            body.append(f'<nav aria-label="Contents"><ul>{contents}</ul></nav>')
            listed = True
        body.append(_block(block))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{inline(title)}</h1>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


def inline(text: str) -> str:
    """Text as HTML: escaped, with code, bold and links.

    >>> inline("a < b, `x`, **y**")
    'a &lt; b, <code>x</code>, <strong>y</strong>'
    """
    text = html.escape(text)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\[([^\]]+)\]\((https?://[^)\s]+)\)", r'<a href="\2">\1</a>', text)


def _block(block: Block) -> str:
    match block:
        case Heading(text, anchor):
            return f'<h2 id="{html.escape(anchor)}">{inline(text)}</h2>'
        case Paragraph(text, kind):
            return f'<p class="{kind}">{inline(text)}</p>' if kind else f"<p>{inline(text)}</p>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{inline(item)}</li>" for item in items) + "</ul>"
        case Table():
            return _table(block)
        case Picture(name, caption, alt, png):
            data = base64.b64encode(png.read_bytes()).decode()
            return (
                f'<figure><div class="picture" tabindex="0"><img alt="{html.escape(alt)}" '
                f'src="data:image/png;base64,{data}"></div>'
                f"<figcaption><strong>{inline(name)}.</strong> {inline(caption)}</figcaption></figure>"
            )
        case Code(text):
            return f'<pre tabindex="0"><code>{html.escape(text)}</code></pre>'


VERDICTS = {"holds": "yes", "partly": "partly", "does not hold": "no", "cannot be told": "open"}


def _table(table: Table) -> str:
    """Columns' names are repeated in each cell: on a narrow screen, where a row becomes a card, they stand by it."""

    def cell(k: int, text: str) -> str:
        kind = "number" if k in table.numbers else VERDICTS.get(text, "")
        kind += " short" if len(text) <= 12 else ""
        attributes = f' class="{kind.strip()}"' if kind else ""
        tag = 'th scope="row"' if k == 0 else "td"
        name = html.escape(re.sub(r"[`*]", "", table.columns[k]))
        return f'<{tag}{attributes} data-name="{name}"><span>{inline(text)}</span></{tag[:2]}>'

    def heading(k: int, text: str) -> str:
        return f'<th scope="col"{" class=number" if k in table.numbers else ""}>{inline(text)}</th>'

    head = "".join(heading(k, name) for k, name in enumerate(table.columns))
    body = "".join("<tr>" + "".join(cell(k, text) for k, text in enumerate(row)) + "</tr>" for row in table.rows)
    wordy = " wordy" if max((len(text) for row in table.rows for text in row), default=0) > 60 else ""
    return (
        f'<p class="caption">{inline(table.caption)}</p><div class="table{wordy}" tabindex="0">'
        f'<table aria-label="{html.escape(table.caption)}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


STYLE = """
:root { --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --paper: #ffffff; --tint: #f6f8fa; --link: #0059b2;
  --yes: #00694c; --no: #b03a00; --partly: #7a5200; --open: #57606a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa4af; --line: #30363d; --paper: #0d1117;
  --tint: #161b22; --link: #79b8ff; --yes: #56d6a8; --no: #ff9b66; --partly: #f0c36d; --open: #9aa4af; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; overflow-wrap: break-word; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1.25rem; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 3rem 0 1rem; padding-top: 1rem; border-top: 1px solid var(--line); }
a { color: var(--link); }
p { margin: 0 0 1rem; }
.lead { font-size: 1.125rem; }
.notice { background: var(--tint); border-left: 4px solid var(--partly); padding: .75rem 1rem;
  border-radius: 0 6px 6px 0; }
nav { margin: 1.5rem 0; font-size: .95rem; }
nav ul { list-style: none; padding: 0; margin: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .9em; }
code { background: var(--tint); padding: .1em .3em; border-radius: 4px; }
pre { background: var(--tint); padding: .9rem 1rem; border-radius: 8px; overflow-x: auto; }
pre code { background: none; padding: 0; }
.table { overflow-x: auto; margin: 0 0 1.75rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; line-height: 1.45;
  font-variant-numeric: tabular-nums; }
.caption { color: var(--soft); font-size: .92rem; margin: 0 0 .4rem; break-after: avoid; }
th, td { text-align: left; vertical-align: top; padding: .45rem .6rem; border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 500; }
.number { text-align: right; }
.short { white-space: nowrap; }
.yes, .no, .partly, .open { font-weight: 600; white-space: nowrap; }
td.yes { color: var(--yes); } td.no { color: var(--no); } td.partly { color: var(--partly); }
td.open { color: var(--open); }
td.yes span::before { content: "✓ "; } td.no span::before { content: "✗ "; }
td.partly span::before { content: "± "; } td.open span::before { content: "? "; }
figure { margin: 0 0 2.5rem; }
.picture { background: #ffffff; border: 1px solid var(--line); border-radius: 10px; padding: .75rem; overflow-x: auto; }
.picture img { display: block; width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: .92rem; margin-top: .6rem; }
figcaption strong { color: var(--ink); }
@media (max-width: 40rem) {
  main { padding: 1.25rem 1rem 3rem; }
  h1 { font-size: 1.5rem; }
  .picture { padding: .4rem; }
  .picture img { min-width: 34rem; }
  .wordy table, .wordy tbody, .wordy tr, .wordy td, .wordy tbody th { display: block; width: 100%; }
  .wordy thead { position: absolute; clip-path: inset(50%); height: 1px; width: 1px; overflow: hidden; }
  .wordy tr { border: 1px solid var(--line); border-radius: 8px; margin: 0 0 .9rem; padding: .35rem .2rem; }
  .wordy td, .wordy tbody th { border: 0; padding: .3rem .7rem; text-align: left; white-space: normal; }
  .wordy td::before { content: attr(data-name); display: block; color: var(--soft); font-size: .82rem;
    font-weight: 400; }
}
@media print {
  :root { --ink: #000; --soft: #333; --line: #bbb; --paper: #fff; --tint: #f4f4f4; --link: #000; --yes: #000;
    --no: #000; --partly: #000; --open: #000; }
  main { max-width: none; padding: 0; }
  body { font-size: 10pt; }
  nav { display: none; }
  figure, tr, pre { break-inside: avoid; }
  h2 { break-after: avoid; }
  .picture { border: 0; padding: 0; }
  .table, .picture, pre { overflow: visible; }
}
"""
