"""Figures of one training a framework: curves, confusion, mistakes, reliability. Each is drawn with its caption."""

import itertools
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from fcnn.inspection.plots import BLUE, INK, ORANGE, style
from study.figures.drawing import LOOKS, VALIDATION, legend, look, new_figure, show, titled
from study.figures.plot import Study
from study.findings.wording import count, listed, name_of, percent


def draw_curves(study: Study, dataset: str, kind: str) -> tuple[Figure, str]:
    """Accuracy or loss after each epoch, training and validation, a panel a framework with one scale."""
    cells = study.details(dataset)
    figure = new_figure(3.6)
    factor, unit = (100, "accuracy (%)") if kind == "accuracy" else (1, "cross-entropy (nats)")
    lines = {
        "train": ("training (mean over the epoch)", look(BLUE, "-", "o")),
        "validation": ("validation", look(ORANGE, "--", "s")),
    }
    ends = []
    panels = figure.subplots(1, len(cells), sharey=True, squeeze=False)[0]
    for axes, (framework, cell) in zip(panels, cells.items(), strict=True):
        history = cell["result"]["history"]
        epochs = [item["epoch"] for item in history]
        for split, (label, how) in lines.items():
            axes.plot(epochs, [factor * item[f"{split}_{kind}"] for item in history], label=label, **how)
        style(axes, "epoch", unit if axes is panels[0] else "")
        titled(axes, name_of(framework))
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)  # no half epochs
        legend(axes)
        last = history[-1][f"validation_{kind}"]
        ends.append(f"{name_of(framework)} ends at {percent(last) if kind == 'accuracy' else f'{last:.4f}'}")
    return figure, (
        f"{kind.capitalize()} on {name_of(dataset)} after each epoch; in validation {listed(ends)}. {VALIDATION}"
    )


def draw_confusion(study: Study, dataset: str) -> tuple[Figure, str]:
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

    words = []
    found = study.summary["confused"][dataset]
    for framework, row in found.items():
        pairs = listed([f"{pair['true']} as {pair['predicted']} ({pair['count']})" for pair in row["pairs"][:3]])
        often = f", most often {pairs}" if pairs else ""
        words.append(f"{name_of(framework)} makes {count(row['mistakes'])} mistakes{often}")
    images = count(next(iter(found.values()))["count"])
    return figure, (
        f"Images of the test set ({images}) by true and predicted class; empty is none. {'; '.join(words)}. "
        "Colour is the share of the true class, stretched so that rare mistakes show."
    )


def draw_mistakes(study: Study, dataset: str) -> tuple[Figure, str]:
    """The wrong predictions of which each framework is most sure."""
    runs, data = study.arrays_of(dataset), study.images(dataset)
    rows, columns, between = (2, 8, " ") if max(map(len, data.classes)) <= 2 else (2, 6, "\n")
    figure = new_figure(3.1 * len(runs) + (0.8 if columns == 6 else 0))
    parts = figure.subfigures(len(runs), 1, squeeze=False)[:, 0]
    for part, (framework, arrays) in zip(parts, runs.items(), strict=True):
        part.suptitle(name_of(framework), fontsize=11, color=INK, x=0.01, ha="left")
        wrong = np.flatnonzero(arrays["predictions"] != arrays["labels"])
        surest = wrong[np.argsort(-arrays["confidence"][wrong], kind="stable")][: rows * columns]
        for axes, index in itertools.zip_longest(part.subplots(rows, columns).flat, surest):
            axes.axis("off")
            if index is not None:
                show(axes, data.test.x[index])
                true, predicted = (data.classes[arrays[name][index]] for name in ("labels", "predictions"))
                text = f"{true}{between}→ {predicted}\n{percent(arrays['confidence'][index], 1)}"
                axes.set_title(text, fontsize=9, color=INK, pad=3)
    return figure, (
        f"The mistakes on the test set of {name_of(dataset)} of which {listed([name_of(f) for f in runs])} "
        f"{'are' if len(runs) > 1 else 'is'} most confident: true → predicted class, and the probability of the "
        "predicted class."
    )


def draw_reliability(study: Study, dataset: str) -> tuple[Figure, str]:
    """Accuracy against confidence in ten bins, and how many images each holds."""
    rows = study.summary["reliability"][dataset]
    figure = new_figure(5.0)
    words = []
    panels = figure.subplots(2, len(rows), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1))
    for (framework, found), (upper, lower) in zip(rows.items(), panels.T, strict=True):
        bins = [row for row in found["bins"] if row["count"]]
        upper.plot([0, 100], [0, 100], color="#888888", linewidth=1, linestyle=":", label="as sure as right")
        x, y = ([100 * row[name] for row in bins] for name in ("confidence", "accuracy"))
        upper.plot(x, y, label=name_of(framework), **LOOKS[framework])
        first = upper is panels[0, 0]
        style(upper, "", "accuracy in the bin (%)" if first else "")
        titled(upper, f"{name_of(framework)}: calibration error {percent(found['error'])}")
        legend(upper, loc="upper left")
        _draw_counts(lower, found["bins"], LOOKS[framework]["color"])
        style(lower, "confidence (%)", "images" if first else "")
        sure, right = found["confidence"], sum(row["count"] * row["accuracy"] for row in bins) / found["count"]
        how = "more sure than right" if sure > right else "less sure than right"
        words.append(f"{name_of(framework)} is on average {percent(sure)} sure and {percent(right)} right ({how})")
    return figure, (
        "Test images in ten bins by the probability of the predicted class: how many of a bin are right, and how many "
        f"images it holds (log scale). {'; '.join(words)}. The calibration error is the mean over images of "
        "|accuracy − confidence| of the image's bin; bins with few images scatter."
    )


def _draw_counts(axes: Axes, bins: Any, colour: str) -> None:
    """How many images are in each bin, as bars with their numbers."""
    edges, counts = [100 * row["from"] for row in bins], [row["count"] for row in bins]
    axes.bar(edges, counts, width=10, align="edge", color=colour, edgecolor="white")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, max(counts) * 20)
    for edge, number in zip(edges, counts, strict=True):
        if number:
            text = count(number) if number < 10_000 else f"{number / 1000:.3g}k"
            axes.text(edge + 5, number * 1.3, text, ha="center", fontsize=7.5, color=INK)
    axes.set_yticks([1, 100, 10_000], ["1", "100", "10k"])
