"""Figures of one training a framework: curves, confusion, mistakes, reliability."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from fcnn.inspection.plots import BLUE, INK, ORANGE, style
from study.figures.drawing import (
    LOOKS,
    VALIDATION,
    Study,
    frameworks_of,
    legend,
    new_figure,
    show,
    titled,
    whole_epochs,
)
from study.findings.wording import count, listed, name_of, percent


def draw_curves(study: Study, dataset: str, kind: str) -> Figure:
    """Accuracy or loss after each epoch, training and validation, a panel a framework with one scale."""
    cells = study.details(dataset)
    figure = new_figure(3.6)
    panels = figure.subplots(1, len(cells), sharey=True, squeeze=False)[0]
    for axes, (framework, cell) in zip(panels, cells.items(), strict=True):
        history = cell["result"]["history"]
        epochs = [item["epoch"] for item in history]
        factor = 100 if kind == "accuracy" else 1
        for split, colour, dashes, marker in (("train", BLUE, "-", "o"), ("validation", ORANGE, "--", "s")):
            values = [factor * item[f"{split}_{kind}"] for item in history]
            label = "training (mean over the epoch)" if split == "train" else "validation"
            axes.plot(epochs, values, color=colour, linestyle=dashes, marker=marker, markersize=5, label=label)
        style(
            axes,
            "epoch",
            ("accuracy (%)" if kind == "accuracy" else "cross-entropy (nats)") if axes is panels[0] else "",
        )
        titled(axes, name_of(framework))
        whole_epochs(axes)
        legend(axes)
    return figure


def caption_curves(study: Study, dataset: str, kind: str) -> str:
    """What the curves end at."""
    ends = [
        f"{name_of(f)} ends at "
        f"{percent(h['validation_accuracy']) if kind == 'accuracy' else format(h['validation_loss'], '.4f')}"
        for f, h in ((f, cell["result"]["history"][-1]) for f, cell in study.details(dataset).items())
    ]
    what = "Accuracy" if kind == "accuracy" else "Loss"
    return f"{what} on {name_of(dataset)} after each epoch; in validation {listed(ends)}. {VALIDATION}"


def draw_confusion(study: Study, dataset: str) -> Figure:
    """Counts by true and predicted class, coloured by their share of the true class."""
    cells = study.details(dataset)
    figure = new_figure(4.6)
    panels = figure.subplots(1, len(cells), squeeze=False)[0]
    for axes, (framework, cell) in zip(panels, cells.items(), strict=True):
        table, names = np.array(cell["result"]["confusion"]), list(cell["result"]["report"]["classes"])
        share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", norm=PowerNorm(0.4, 0, 1))
        for i, j in np.argwhere(table):
            colour = "white" if share[i, j] > 0.3 else INK
            axes.text(j, i, str(table[i, j]), ha="center", va="center", fontsize=8, color=colour)
        turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 2 else {}
        axes.set_xticks(range(len(names)), names, **turn)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("predicted class", color=INK)
        axes.set_ylabel("true class" if axes is panels[0] else "", color=INK)
        axes.tick_params(length=0, colors=INK)
        axes.spines[:].set_visible(False)
        titled(axes, name_of(framework))
    return figure


def caption_confusion(study: Study, dataset: str) -> str:
    """How many mistakes, and which most often."""
    parts = []
    for framework, row in study.summary["confused"][dataset].items():
        pairs = listed([f"{pair['true']} as {pair['predicted']} ({pair['count']})" for pair in row["pairs"][:3]])
        often = f", most often {pairs}" if pairs else ""
        parts.append(f"{name_of(framework)} makes {count(row['mistakes'])} mistakes{often}")
    images = count(next(iter(study.summary["confused"][dataset].values()))["count"])
    return (
        f"Images of the test set ({images}) by true and predicted class; empty is none. {'; '.join(parts)}. "
        "Colour is the share of the true class, stretched so that rare mistakes show."
    )


def draw_mistakes(study: Study, dataset: str) -> Figure:
    """The wrong predictions of which each framework is most sure."""
    runs, data = study.arrays_of(dataset), study.images(dataset)
    columns, rows = (8, 2) if max(map(len, data.classes)) <= 2 else (6, 2)
    figure = new_figure(3.1 * len(runs) + (0.8 if columns == 6 else 0))
    parts = np.atleast_1d(figure.subfigures(len(runs), 1))
    for part, (framework, arrays) in zip(parts, runs.items(), strict=True):
        part.suptitle(name_of(framework), fontsize=11, color=INK, x=0.01, ha="left")
        wrong = _worst(arrays)
        for axes, index in itertools.zip_longest(part.subplots(rows, columns).flat, wrong[: rows * columns]):
            axes.axis("off")
            if index is not None:
                show(axes, data.test.x[index])
                true, predicted = (data.classes[arrays[name][index]] for name in ("labels", "predictions"))
                text = (
                    f"{true}{' ' if columns == 8 else chr(10)}→ {predicted}\n{percent(arrays['confidence'][index], 1)}"
                )
                axes.set_title(text, fontsize=9, color=INK, pad=3)
    return figure


def _worst(arrays: Mapping[str, np.ndarray[Any, Any]]) -> list[int]:
    """The misclassified images, the most confident first."""
    wrong = np.flatnonzero(arrays["predictions"] != arrays["labels"])
    return [int(index) for index in wrong[np.argsort(-arrays["confidence"][wrong], kind="stable")]]


def caption_mistakes(study: Study, dataset: str) -> str:
    """How to read the labels."""
    return (
        f"The mistakes on the test set of {name_of(dataset)} of which {frameworks_of(study, dataset)} "
        f"{'are' if len(study.details(dataset)) > 1 else 'is'} most confident: true → predicted class, and the "
        "probability "
        "of the predicted class."
    )


def draw_reliability(study: Study, dataset: str) -> Figure:
    """Accuracy against confidence in ten bins, and how many images each holds."""
    rows = study.summary["reliability"][dataset]
    figure = new_figure(5.0)
    panels = figure.subplots(2, len(rows), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1))
    for (framework, found), (upper, lower) in zip(rows.items(), panels.T, strict=True):
        colour, dashes, marker = LOOKS[framework]
        bins = [row for row in found["bins"] if row["count"]]
        upper.plot([0, 100], [0, 100], color="#888888", linewidth=1, linestyle=":", label="as sure as right")
        x, y = ([100 * row[name] for row in bins] for name in ("confidence", "accuracy"))
        upper.plot(x, y, color=colour, linestyle=dashes, marker=marker, markersize=5, label=name_of(framework))
        first = upper is panels[0, 0]
        style(upper, "", "accuracy in the bin (%)" if first else "")
        titled(upper, f"{name_of(framework)}: calibration error {percent(found['error'])}")
        legend(upper, loc="upper left")
        edges, counts = [100 * row["from"] for row in found["bins"]], [row["count"] for row in found["bins"]]
        lower.bar(edges, counts, width=10, align="edge", color=colour, edgecolor="white")
        lower.set_yscale("symlog", linthresh=1)
        lower.set_ylim(0, max(counts) * 20)
        for edge, number in zip(edges, counts, strict=True):
            text = count(number) if number < 10_000 else f"{number / 1000:.3g}k"
            lower.text(edge + 5, max(number, 0.3) * 1.3, text if number else "", ha="center", fontsize=7.5, color=INK)
        lower.set_yticks([1, 100, 10_000], ["1", "100", "10k"])
        style(lower, "confidence (%)", "images" if first else "")
    return figure


def caption_reliability(study: Study, dataset: str) -> str:
    """What the curve says in words."""
    words = []
    for framework, found in study.summary["reliability"][dataset].items():
        right = sum(row["count"] * row["accuracy"] for row in found["bins"] if row["count"]) / found["count"]
        gap = found["confidence"] - right
        how = "more sure than right" if gap > 0 else "less sure than right"
        words.append(
            f"{name_of(framework)} is on average {percent(found['confidence'])} sure and {percent(right)} right ({how})"
        )
    return (
        f"Test images in ten bins by the probability of the predicted class: how many of a bin are right, and how many "
        f"images it holds (log scale). {'; '.join(words)}. Bins with few images scatter."
    )
