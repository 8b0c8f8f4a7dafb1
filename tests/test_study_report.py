"""The study's summary, figures and page, on made-up results: whatever is said follows from the numbers."""

import copy
import itertools
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import attrs
import numpy as np
import pytest

import fcnn

STUDY = Path(__file__).parents[1] / "scripts" / "study"
REPEATED = ("confusion", "mistakes")  # for CIFAR-10: those that differ
INITS = ("he", "xavier", "kaiming_uniform")
SIZES = (1_000, 10_000, 60_000)
BASE = {
    "batch_norm": False, "dropout": 0.0, "optimizer": "adam", "lr": 1e-3, "batch_size": 128, "epochs": 2, "threads": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def modules():
    """The study's modules by name."""
    from study.figures import catalogue as figures
    from study.findings import summary, verdicts, wording
    from study.page import report

    return {m.__name__.rpartition(".")[2]: m for m in (figures, report, summary, verdicts, wording)}


def noise(*parts):
    """A number from -1 to 1 that depends on the parts alone."""
    return 2 * fcnn.generator(fcnn.fold_in(fcnn.key(1), "/".join(map(str, parts)))).random() - 1


def training(framework, accuracy, *, dataset="mnist", timed=False, detail=False, **config):
    config = {**BASE, "framework": framework, "dataset": dataset, "init": "xavier", "seed": 0,
              "train_size": SIZES[-1], "detail": detail, **config}  # fmt: skip
    history = [
        {"epoch": k, "train_loss": 1 / k, "train_accuracy": accuracy - 0.02 / k, "validation_loss": 0.9 / k,
         "validation_accuracy": accuracy - 0.1 * (2 - k), "seconds": 3.0 + k / 10}
        for k in (1, 2)
    ]  # fmt: skip
    result = {"history": history, "test_accuracy": accuracy, "test_loss": 0.45, "macro_f1": accuracy - 0.001,
              "train_seconds": 31.25 if framework == "fcnn" else 47.5, "peak_memory_mib": 512.0,
              "images_per_second": 19_200.0 if framework == "fcnn" else 12_631.0}  # fmt: skip
    key = "training-" + re.sub(r"\W+", "-", json.dumps([config, timed]))
    return {"kind": "Training", "key": key, "config": config, "timed": timed, "result": result}


def detailed(cell, data):
    """A detailed cell's arrays; its confusion matrix goes into its result."""
    labels = data.test.y
    rng = fcnn.generator(fcnn.fold_in(fcnn.key(2), cell["key"]))
    predictions = np.where(rng.random(len(labels)) < 0.8, labels, (labels + 1) % 10)
    cell["result"]["confusion"] = fcnn.confusion_matrix(predictions, labels, 10).tolist()
    report = fcnn.classification_report(predictions, labels, data.classes)
    cell["result"]["report"] = attrs.asdict(report)
    channels = data.test.x.shape[1]
    arrays = {"filters": rng.standard_normal((3, 6, channels, 5, 5)).cumsum(axis=0), "predictions": predictions,
              "confidence": 0.1 + 0.9 * rng.random(len(labels)), "labels": labels}  # fmt: skip
    if cell["config"]["framework"] == "fcnn":
        arrays |= {"digit": data.test.x[0], "map_conv1": rng.standard_normal((6, 28, 28)),
                   "map_relu1": np.zeros((6, 28, 28)), "map_conv2": rng.standard_normal((16, 10, 10))}  # fmt: skip
    return arrays


def accuracy_of(framework, init, size, seed, gap, init_effect):
    base = {1_000: 0.86, 10_000: 0.955, 60_000: 0.9885}[size]
    shift = (gap if framework == "fcnn" else 0.0) + (init_effect if init == "he" else 0.0)
    return base + shift + 0.001 * noise(framework, init, size, seed)


def make(images, frameworks=("fcnn", "pytorch"), datasets=("mnist", "cifar10"), gap=0.0, init_effect=0.0, seeds=3):
    """Results as the runner would write them, and the arrays."""
    arrays, cells = {}, []
    for dataset, framework in itertools.product(datasets, frameworks):
        accuracy = 0.6 if dataset == "cifar10" else accuracy_of(framework, INITS[2], SIZES[-1], 0, gap, 0)
        cells.append(training(framework, accuracy, dataset=dataset, timed=True, detail=True))
        arrays[cells[-1]["key"]] = detailed(cells[-1], images(dataset))
    for framework, init, size, seed in itertools.product(frameworks, INITS, SIZES, range(seeds)):
        accuracy = accuracy_of(framework, init, size, seed, gap, init_effect)
        cells.append(training(framework, accuracy, init=init, train_size=size, seed=seed))
    for framework, batch, seed in itertools.product(frameworks, (32, 1024), range(seeds)):
        accuracy = 0.9 + 0.01 * noise(batch, seed)
        cells.append(training(framework, accuracy, batch_size=batch, train_size=10_000, seed=seed))
    changes = ({"optimizer": "sgd", "lr": 0.05}, {"batch_norm": True}, {"dropout": 0.25},
               {"batch_norm": True, "dropout": 0.25})  # fmt: skip
    for change, seed in itertools.product(changes, range(seeds)):
        cells.append(training("fcnn", 0.93 + 0.01 * noise(str(change), seed), train_size=10_000, seed=seed, **change))
    if len(frameworks) > 1:
        for dtype, unit in (("float32", 1e-7), ("float64", 1e-16)):
            steps = [
                {"fcnn_loss": 2.0 / k, "pytorch_loss": 2.0 / k + unit * k, "distance": unit * k} for k in range(1, 121)
            ]
            result = {"steps": steps, "max_loss_gap": 120 * unit, "final_distance": 120 * unit}
            config = {"dataset": "mnist", "dtype": dtype, "seed": 0}
            cells.append({"kind": "Parting", "key": dtype, "config": config, "timed": False, "result": result})
    rows = [{"name": "dense", "train": 3.25e-9, "eval": 1e-10, "comparisons": 3},
            {"name": "mean_squared_error", "train": 2e-10, "eval": None, "comparisons": 1}]  # fmt: skip
    cells.append(
        {"kind": "GradientChecks", "key": "checks", "config": {"seed": 0}, "timed": False, "result": {"rows": rows}}
    )
    missing = [] if len(frameworks) > 1 else ["PyTorch is not installed: its half is missing."]
    meta = {
        "scale": "full", "seconds": 4321.0, "git_commit": "abc1234", "date": "2026-01-02", "threads": 2,
        "versions": {"python": "3.11.9", "numpy": "2.3.5", "fcnn": "0.1.0", "matplotlib": "3.10", "torch": None},
        "hardware": {"processor": "A <fast> processor", "cores": 2, "memory_gib": 7.75, "system": "Linux"},
    }  # fmt: skip
    return {"meta": meta, "missing": missing, "cells": cells}, arrays


@pytest.fixture(scope="module")
def images():
    """Small stand-ins for the data sets."""
    rng = np.random.default_rng(0)

    def dataset(name):
        shape, names = ((3, 32, 32), ("airplane", "automobile")) if name == "cifar10" else ((1, 28, 28), ("0", "1"))
        x, y = rng.integers(0, 256, (120, *shape), dtype=np.uint8), np.arange(120) % 10
        names += tuple(f"class {k}" if name == "cifar10" else str(k) for k in range(2, 10))
        return fcnn.Dataset(fcnn.Split(x[:1], y[:1]), fcnn.Split(x, y), name, names)

    made = {name: dataset(name) for name in ("mnist", "cifar10")}
    return made.__getitem__


@pytest.fixture(scope="module")
def both(modules, images):
    results, arrays = make(images)
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
    for png, svg in saved.values():
        assert png.read_bytes().startswith(b"\x89PNG")
        assert ET.parse(svg).getroot().tag.endswith("svg")
        assert "<dc:date>" not in svg.read_text()


def test_figures_are_the_same_bytes_when_drawn_again(modules, images, both, tmp_path):
    figures = modules["catalogue"]
    results, arrays = both
    kept = {"grid": figures.FIGURES["grid"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "FIGURES", kept)
        patch.setattr(figures, "REPEATED", ())
        first, second = (figures.save_figures(results, arrays, images, tmp_path / name) for name in "ab")
    for name in kept:
        assert [path.read_bytes() for path in first[name]] == [path.read_bytes() for path in second[name]]


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
    results, arrays = make(images, datasets=("mnist",))
    report, summarise = modules["report"], modules["summary"].summarise

    def text_of(cells):
        return str(list(report.page({**results, "cells": cells, "summary": summarise(cells, arrays)}, {})))

    timed = results["cells"][0]
    assert timed["timed"]
    assert "31.2 s" in text_of(results["cells"])
    for key, value, shown in (
        ("train_seconds", 77.77, "77.8 s"),
        ("peak_memory_mib", 876.0, "876 MiB"),
        ("macro_f1", 0.5, "50.00 %"),
    ):
        cells = copy.deepcopy(results["cells"])
        cells[0]["result"][key] = value
        assert shown in text_of(cells)
        assert shown not in text_of(results["cells"])


def test_the_classification_report_is_on_the_page(both, written):
    folder, _ = written
    cell = both[0]["cells"][0]
    scores = cell["result"]["report"]["classes"]["3"]
    row = next(line for line in (folder / "report.md").read_text().splitlines() if line.startswith("| 3 | "))
    assert f"| {100 * scores['precision']:.2f} % | {100 * scores['recall']:.2f} % | {100 * scores['f1']:.2f} % |" in row


def test_without_pytorch_the_page_says_so_and_the_rest_is_there(modules, images, tmp_path):
    results, arrays = make(images, frameworks=("fcnn",), datasets=("mnist",), seeds=1)
    results["summary"] = modules["summary"].summarise(results["cells"], arrays)
    json.dumps(results, allow_nan=False)
    study = modules["catalogue"].Study(results, arrays, images)
    made = {name: figure for name, _, figure in modules["catalogue"].drawn(study)}
    assert set(modules["catalogue"].FIGURES) - set(made) == {"parting"}
    made["batch_size"].savefig(tmp_path / "batch_size.png", dpi=50)
    made["accuracy"].savefig(tmp_path / "accuracy.png", dpi=50)
    saved = {name: (tmp_path / f"{name}.png", tmp_path / f"{name}.svg") for name in ("batch_size", "accuracy")}
    html, _ = modules["report"].write_report(results, saved, tmp_path)
    text = Page(html.read_text()).text
    assert text.index("PyTorch is not installed") < text.index("Results")
    assert "nan" not in text.lower().split()


def test_a_study_without_cells_has_a_page(modules, images, tmp_path):
    results = {**make(images)[0], "cells": []}
    results["summary"] = modules["summary"].summarise([], {})
    modules["report"].write_report(results, modules["catalogue"].save_figures(results, {}, images, tmp_path), tmp_path)
    assert "No training has finished yet" in (tmp_path / "report.md").read_text()
