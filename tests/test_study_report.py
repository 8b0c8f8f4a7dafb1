"""The study's summary, figures and page, on made-up results: whatever is said follows from the numbers."""

import copy
import doctest
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import study_results
from study.figures.plot import Study
from study.page import blocks, rendering, text
from study.page.contents import OPENING, SECTIONS
from study_results import make

STUDY = Path(__file__).parents[1] / "scripts" / "study"
REPEATED = ("confusion", "mistakes")  # for CIFAR-10: those that differ


@pytest.fixture(scope="module")
def modules():
    """The study's modules by name."""
    from study.figures import catalogue as figures
    from study.findings import summary, verdicts, wording
    from study.page import report

    return {m.__name__.rpartition(".")[2]: m for m in (figures, report, summary, verdicts, wording)}


@pytest.fixture(scope="module")
def images():
    """Small stand-ins for the data sets."""
    return study_results.images


@pytest.fixture(scope="module")
def both(modules, images):
    results, arrays = make()
    results["summary"] = modules["summary"].summarise(results["cells"], arrays)
    return results, arrays


@pytest.fixture(scope="module")
def written(modules, images, both, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    results, arrays = both
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modules["catalogue"], "REPEATED", REPEATED)
        saved = modules["catalogue"].save_figures(results, arrays, images, folder / "figures")
    modules["report"].write_report(results, saved, folder)
    return folder, saved


class Page(HTMLParser):
    """Everything of a page that tests look at."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.images, self.anchors, self.words, self.tags = [], [], set(), [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.addresses += [(tag, found[name]) for name in ("src", "href", "srcset", "poster") if name in found]
        if tag == "img":
            self.images.append(found)
        if "id" in found:
            self.anchors.add(found["id"])

    def handle_data(self, data):
        self.words.append(data)


def test_every_figure_is_drawn_for_both_frameworks(modules, written):
    _, saved = written
    again = {f"{name}_cifar10" for name in REPEATED}
    assert set(saved) == set(modules["catalogue"].FIGURES) | again
    for picture in saved.values():
        assert picture.png.read_bytes().startswith(b"\x89PNG")
        assert ET.parse(picture.svg).getroot().tag.endswith("svg")
        assert "<dc:date>" not in picture.svg.read_text()


def test_figures_are_the_same_bytes_when_drawn_again(modules, images, both, tmp_path):
    figures = modules["catalogue"]
    results, arrays = both
    kept = {"grid": figures.FIGURES["grid"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "FIGURES", kept)
        patch.setattr(figures, "REPEATED", ())
        first, second = (figures.save_figures(results, arrays, images, tmp_path / name) for name in "ab")
    for name in kept:
        for kind in ("png", "svg"):
            assert getattr(first[name], kind).read_bytes() == getattr(second[name], kind).read_bytes()


def test_the_page_needs_nothing_from_outside(written):
    folder, saved = written
    page = Page((folder / "report.html").read_text())
    assert not {"script", "iframe", "object"} & set(page.tags)
    for tag, address in page.addresses:
        assert address.startswith("data:") or (tag == "a" and address.startswith(("#", "https://"))), address
    assert {address[1:] for tag, address in page.addresses if tag == "a" and address.startswith("#")} <= page.anchors
    assert "url(" not in (folder / "report.html").read_text()
    assert len(page.images) == len(saved)
    assert all(len(image["alt"]) > 20 for image in page.images)
    assert "A <fast> processor" in page.text  # escaped in the source


def test_what_may_be_wider_than_the_page_scrolls_in_a_frame_that_says_so(written):
    folder, saved = written
    html = (folder / "report.html").read_text()
    frame = r'<div class="scrolling [a-z ]+" tabindex="0" role="region" aria-label="([^"]+)"><div>'
    hint = r'<p class="hint" aria-hidden="true">Scroll sideways to see (all columns|the whole figure) →</p>'
    framed = re.findall(f"{frame}{hint}<(table|img) ", html)
    assert Counter(tag for _, _, tag in framed) == {"table": html.count("<table"), "img": len(saved)}
    assert all(what == {"table": "all columns", "img": "the whole figure"}[tag] for _, what, tag in framed)
    assert html.count("<table") > 10
    style, printed = html[html.index("<style>") : html.index("</style>")].split("@media print")
    assert re.search(r"\.scrolling \{[^}]*overflow-x: auto", style)
    assert re.search(r"\.hint \{ display: none; \}", printed)
    assert "scroll sideways" not in (folder / "report.md").read_text().lower()


def test_the_pages_order_is_that_of_its_contents(modules, both, written):
    parts = [part for section in SECTIONS if section.heading for part in section.parts]
    assert sorted(part for part in parts if isinstance(part, str)) == sorted(modules["catalogue"].FIGURES)
    assert len(set(map(id, (*OPENING, *parts)))) == len((*OPENING, *parts))
    folder, _ = written
    headings = re.findall(r"^## (.+)$", (folder / "report.md").read_text(), re.MULTILINE)
    assert headings == [section.heading or "CIFAR-10" for section in SECTIONS]
    places = [(folder / "report.html").read_text().index(f'<h2 id="{s.anchor or "cifar10"}">') for s in SECTIONS]
    assert places == sorted(places)


def words_of(modules, results):
    """Everything that the page says, in a line."""
    return " ".join(str(block) for block in modules["report"].page(results, {}))


def test_how_fast_and_on_which_machines_is_said(modules, images, both):
    results, _ = both
    words = words_of(modules, results)
    for name in ("MNIST", "CIFAR-10"):
        assert (
            f"On {name}, fcnn trains 1.50 times as fast as PyTorch (1.40 to 1.60 over three epochs each, in turn)."
            in words
        )
    assert "timed epochs, of 60,000 images of MNIST and 60,000 images of CIFAR-10." in words
    count = len(results["cells"])
    assert (
        f"{count - 1} of {count} runs, the two timed runs among them, on 2 cores of A <fast> processor, 7.75" in words
    )
    assert f"1 of {count} runs on 2 cores of an older one" in words
    spent = "4321.0 s in all (without those reused) with two workers"
    assert f"{count} runs, seeds 0, 1 and 2, {spent}, on 2026-01-02, commit `abc1234`." in words
    one = copy.deepcopy(results)
    for cell in one["cells"]:
        cell["machine"] = study_results.machine()
    one["cells"] = [cell for cell in one["cells"] if cell["kind"] != "Timing"]
    one["summary"] = modules["summary"].summarise(one["cells"], {})
    words = words_of(modules, one)
    assert f"All {count - 2} runs on 2 cores of A <fast> processor" in words
    assert "timed" not in words


@pytest.mark.parametrize("module", [blocks, rendering, text], ids=lambda module: module.__name__)
def test_examples_in_the_pages_docstrings(module):
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


@pytest.mark.parametrize(("scale", "command"), [("quick", " --quick"), ("default", ""), ("full", " --full")])
def test_the_page_names_its_scale_and_the_command_that_makes_it(modules, both, scale, command):
    results, _ = both
    words = words_of(modules, {**results, "meta": {**results["meta"], "scale": scale}})
    assert f"'python scripts/study{command}'" in words
    assert (f"This is the {scale} scale" in words) == (scale != "full")


@pytest.mark.parametrize("path", sorted([*(STUDY / "figures").glob("*.py"), *(STUDY / "page").glob("*.py")]), ids=str)
def test_no_sentence_is_broken_into_words(path):
    assert not re.findall(r'^ +f?"[^"{\s]+ ?"$', path.read_text(), re.MULTILINE)


def test_markdown_links_exist_and_say_what_the_page_says(written):
    folder, saved = written
    text = (folder / "report.md").read_text()
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", text)
    assert len(links) == 2 * len(saved)
    assert all((folder / link).is_file() for link in links)
    page = Page((folder / "report.html").read_text()).text
    for line in text.splitlines():
        if line.startswith("| ") and "---" not in line:
            for cell in line.strip("| ").split(" | "):
                assert " ".join(re.sub(r"[`*]", "", cell).split()) in page


def numbers_in(value, path=()):
    """Paths of all numbers in a JSON value."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, (int, float)):
        yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from numbers_in(item, (*path, key))
    elif isinstance(value, list):
        for k, item in enumerate(value):
            yield from numbers_in(item, (*path, k))


@pytest.mark.parametrize(
    "part", ["headline", "effects", "batch_sizes", "ablations", "parting", "gradient_checks", "variance"]
)
def test_every_number_in_a_table_comes_from_the_results(modules, both, part):
    """Shifting the numbers of a part of the summary changes the page's tables, and that many cells."""
    results, _ = both
    report = modules["report"]
    saved = {}
    before = [block for block in report.page(results, saved) if type(block).__name__ == "Table"]
    changed = copy.deepcopy(results)
    for path in numbers_in(changed["summary"][part]):
        place = changed["summary"][part]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = place[path[-1]] * 3 + 1
    after = [block for block in report.page(changed, saved) if type(block).__name__ == "Table"]
    digits = [
        (a, b)
        for old, new in zip(before, after, strict=True)
        for row, other in zip(old.rows, new.rows, strict=True)
        for a, b in zip(row, other, strict=True)
        if a != b
    ]
    assert len(digits) >= 2


def test_a_cells_number_reaches_page_and_summary(modules, images):
    results, arrays = make(datasets=("mnist",))
    report, summarise = modules["report"], modules["summary"].summarise

    def text_of(cells):
        return str(list(report.page({**results, "cells": cells, "summary": summarise(cells, arrays)}, {})))

    def result_of(cells, kind):
        detailed = (cell for cell in cells if cell["kind"] == kind and cell["config"].get("detail", True))
        found = next(detailed)["result"]
        return found["frameworks"]["fcnn"] if kind == "Timing" else found

    assert "2.00 s" in text_of(results["cells"])
    for kind, key, value, shown in (
        ("Timing", "seconds", [77.77] * 3, "77.8 s"),
        ("Timing", "images_per_second", 4321.0, "4,321"),
        ("Timing", "peak_memory_mib", 876.0, "876 MiB"),
        ("Timing", "variant", "threads", "threads"),
        ("Training", "macro_f1", 0.4321, "43.21 %"),
    ):
        cells = copy.deepcopy(results["cells"])
        result_of(cells, kind)[key] = value
        assert f"'{shown}'" in text_of(cells)
        assert f"'{shown}'" not in text_of(results["cells"])


def test_the_classification_report_is_on_the_page(both, written):
    folder, _ = written
    cell = next(cell for cell in both[0]["cells"] if cell["config"].get("detail"))
    scores = cell["result"]["report"]["classes"]["3"]
    row = next(line for line in (folder / "report.md").read_text().splitlines() if line.startswith("| 3 | "))
    assert f"| {100 * scores['precision']:.2f} % | {100 * scores['recall']:.2f} % | {100 * scores['f1']:.2f} % |" in row


def test_without_pytorch_the_page_says_so_and_the_rest_is_there(modules, images, tmp_path):
    results, arrays = make(frameworks=("fcnn",), datasets=("mnist",), seeds=1)
    results["summary"] = modules["summary"].summarise(results["cells"], arrays)
    json.dumps(results, allow_nan=False)
    study = Study(results, arrays, images)
    drawn = {name: plot.draw(study, dataset) for name, dataset, plot in modules["catalogue"].drawable(study)}
    assert set(modules["catalogue"].FIGURES) - set(drawn) == {"parting"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            modules["catalogue"], "FIGURES", {k: modules["catalogue"].FIGURES[k] for k in ("batch_size", "accuracy")}
        )
        saved = modules["catalogue"].save_figures(results, arrays, images, tmp_path)
    assert set(saved) == {"batch_size", "accuracy"}
    html, _ = modules["report"].write_report(results, saved, tmp_path)
    text = Page(html.read_text()).text
    assert text.index("PyTorch is not installed") < text.index("Results")
    assert "nan" not in text.lower().split()


def test_a_study_without_cells_has_a_page(modules, images, tmp_path):
    results = {**make()[0], "cells": []}
    results["summary"] = modules["summary"].summarise([], {})
    modules["report"].write_report(results, modules["catalogue"].save_figures(results, {}, images, tmp_path), tmp_path)
    assert "No training has finished yet" in (tmp_path / "report.md").read_text()
