"""The page's two renderings: one HTML file that needs no other, and Markdown."""

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path

from fcnn.inspection.explorer import page_part
from study.figures.plot import Picture
from study.page.blocks import Block, Bullets, Code, Heading, Paragraph, Table

STYLE = Path(__file__).with_name("style.css")
VERDICTS = {"holds": "yes", "may hold": "partly", "partly": "partly", "does not hold": "no", "cannot be told": "open"}


def to_markdown(title: str, blocks: Sequence[Block], folder: Path) -> str:
    """The page in Markdown; pictures are linked relative to `folder`."""
    return "\n\n".join([f"# {title}", *(_markdown(block, folder) for block in blocks)]) + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The page as one HTML file with its styles and pictures inside."""
    headings = [block for block in blocks if isinstance(block, Heading)]
    links = "".join(f'<li><a href="#{block.anchor}">{inline(block.text)}</a></li>' for block in headings)
    contents = f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n'
    body = "\n".join((contents if block in headings[:1] else "") + _html(block) for block in blocks)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>
{page_part("base.css")}{STYLE.read_text("utf-8")}</style>
</head>
<body>
<main>
<h1>{inline(title)}</h1>
{body}
</main>
</body>
</html>
"""


def inline(text: str) -> str:
    """Text as HTML: escaped, with code, bold and links; a per cent sign stays on the line of its number.

    >>> inline("a < b, `x`, **y**, 5 %")
    'a &lt; b, <code>x</code>, <strong>y</strong>, 5&nbsp;%'
    """
    text = html.escape(text).replace(" %", "&nbsp;%")
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\[([^\]]+)\]\((https?://[^)\s]+|[a-z]+\.html)\)", r'<a href="\2">\1</a>', text)


def _markdown(block: Block, folder: Path) -> str:
    match block:
        case Heading(text):
            return f"## {text}"
        case Paragraph(text, kind):
            return f"> {text}" if kind == "notice" else text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Table(caption, columns, rows, numbers):
            rule = [("---:" if k in numbers else "---") for k in range(len(columns))]
            lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (columns, rule, *rows)]
            return f"**{caption}**\n\n" + "\n".join(f"| {line} |" for line in lines)
        case Picture(title, caption, alt, png, svg):
            png_link, svg_link = (path.relative_to(folder).as_posix() for path in (png, svg))
            alt = alt.replace("[", "(").replace("]", ")")
            return f"![{alt}]({png_link})\n\n**{title}.** {caption} ([SVG]({svg_link}))"
        case Code(text):
            return f"```bash\n{text}\n```"


def _html(block: Block) -> str:
    match block:
        case Heading(text, anchor):
            return f'<h2 id="{html.escape(anchor)}">{inline(text)}</h2>'
        case Paragraph(text, kind):
            return f'<p class="{kind}">{inline(text)}</p>' if kind else f"<p>{inline(text)}</p>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{inline(item)}</li>" for item in items) + "</ul>"
        case Table(caption):
            wordy = " wordy" if max((len(text) for row in block.rows for text in row), default=0) > 60 else ""
            scrolling = _scrolling(f"table{wordy}", caption, "all columns", _table(block))
            return f'<p class="caption">{inline(caption)}</p>{scrolling}'
        case Picture(title, caption, alt, png):
            data = base64.b64encode(png.read_bytes()).decode()
            image = f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'
            about = f"<figcaption><strong>{inline(title)}.</strong> {inline(caption)}</figcaption>"
            return f"<figure>{_scrolling('picture', title, 'the whole figure', image)}{about}</figure>"
        case Code(text):
            return f'<pre tabindex="0"><code>{html.escape(text)}</code></pre>'


def _scrolling(kind: str, label: str, whole: str, content: str) -> str:
    """Content that scrolls within itself where it is wider than the page, with a hint that shows only there."""
    return (
        f'<div class="scrolling {kind}" tabindex="0" role="region" aria-label="{html.escape(label)}"><div>'
        f'<p class="hint" aria-hidden="true">Scroll sideways to see {whole} →</p>{content}</div></div>'
    )


def _table(table: Table) -> str:
    """Columns' names are repeated in each cell: on a narrow screen, where a row becomes a card, they stand by it."""

    def cell(k: int, text: str) -> str:
        kind = "number" if k in table.numbers else VERDICTS.get(text, "")
        attributes = f' class="{kind}"' if kind else ""
        tag = 'th scope="row"' if k == 0 else "td"
        name = html.escape(re.sub(r"[`*]", "", table.columns[k]))
        return f'<{tag}{attributes} data-name="{name}"><span>{inline(text)}</span></{tag[:2]}>'

    def heading(k: int, text: str) -> str:
        return f'<th scope="col"{" class=number" if k in table.numbers else ""}>{inline(text)}</th>'

    head = "".join(heading(k, name) for k, name in enumerate(table.columns))
    body = "".join("<tr>" + "".join(cell(k, text) for k, text in enumerate(row)) + "</tr>" for row in table.rows)
    return (
        f'<table aria-label="{html.escape(table.caption)}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )
