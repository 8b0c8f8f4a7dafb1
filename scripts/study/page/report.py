"""The study's page, `report.html` and `report.md`, made of the numbers in `results.json` and of nothing else."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fcnn.values.files import replacing
from study.figures.catalogue import figure_name
from study.figures.plot import Picture, Study
from study.findings.wording import name_of
from study.page.blocks import Block, Heading
from study.page.contents import OPENING, SECTIONS, Part
from study.page.rendering import to_html, to_markdown
from study.page.text import TITLE


def write_report(results: Mapping[str, Any], figures: Mapping[str, Picture], folder: Path) -> tuple[Path, Path]:
    """Write the page into `folder` as HTML, self-contained, and as Markdown, beside the figures; gives both paths.

    Args:
        results: what `results.json` holds, the summary included.
        figures: the pictures of the figures, as `save_figures` gives them.
    """
    blocks = tuple(page(results, figures))
    paths = folder / "report.html", folder / "report.md"
    for path, text in zip(paths, (to_html(TITLE, blocks), to_markdown(TITLE, blocks, folder)), strict=True):
        with replacing(path) as file:
            file.write(text.encode())
    return paths


def page(results: Mapping[str, Any], figures: Mapping[str, Picture]) -> Iterator[Block]:
    """The page, block by block; a section of which nothing was run is left out."""
    study = Study(results)
    main, *others = study.summary["datasets"] or [""]
    yield from _blocks(OPENING, study, main, figures)
    for section in SECTIONS:
        for dataset in [main] if section.heading else others:
            blocks = list(_blocks(section.parts, study, dataset, figures))
            if blocks:
                yield Heading(section.heading or name_of(dataset), section.anchor or dataset)
                yield from blocks


def _blocks(parts: Iterable[Part], study: Study, dataset: str, figures: Mapping[str, Picture]) -> Iterator[Block]:
    for part in parts:
        block: Block | None
        if isinstance(part, str):
            block = figures.get(figure_name(study, part, dataset))
        else:
            block = part(study, dataset) if callable(part) else part
        if block is not None:
            yield block
