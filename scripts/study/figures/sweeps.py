"""Figures of many trainings, each drawn with its caption: sizes, initialisations, ablations, trajectories that part."""

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fcnn.inspection.plots import BLUE, GREEN, INK, ORANGE, PURPLE, style
from study.figures.drawing import (
    LOOKS,
    VALIDATION,
    bars,
    bars_are,
    legend,
    look,
    new_figure,
    sizes_on,
    titled,
    with_bars,
)
from study.figures.plot import Study
from study.findings.wording import count, listed, name_of, percent, tiny


def draw_batch_size(study: Study, dataset: str) -> tuple[Figure, str]:
    """Validation accuracy and seconds an epoch by batch size."""
    found = study.summary["batch_sizes"]
    rows = found["rows"]
    figure = new_figure(3.7)
    left, right = figure.subplots(1, 2)
    words = []
    for framework, how in LOOKS.items():
        mine = [row for row in rows if row["framework"] == framework]
        if mine:
            name, sizes = name_of(framework), [row["batch_size"] for row in mine]
            with_bars(left, sizes, mine, how, name)
            right.plot(sizes, [row["seconds_per_epoch"] for row in mine], label=name, **how)
            best = max(mine, key=itemgetter("mean"))
            words.append(f"{name} does best with {best['batch_size']} ({percent(best['mean'])})")
    for axes, label in ((left, "validation accuracy (%)"), (right, "seconds an epoch")):
        style(axes, "batch size", label)
        sizes_on(axes, sorted({row["batch_size"] for row in rows}))
        legend(axes)
    right.set_ylim(bottom=0)
    titled(left, "accuracy")
    titled(right, "time")
    return figure, (
        f"Accuracy after the last epoch by batch size at one learning rate, {count(found['train_size'])} training "
        f"images: {listed(words)}. {bars_are(rows)} Times are medians of runs that shared the machine, on one thread "
        f"each: they compare batch sizes, not frameworks. {VALIDATION}"
    )


def rows_of(study: Study, dataset: str) -> list[Mapping[str, Any]]:
    """The means of the sweep over training sizes, initialisations and frameworks."""
    sizes = {row["train_size"] for row in study.summary["effects"]}
    return [row for row in study.summary["grid"] if row["dataset"] == dataset and row["train_size"] in sizes]


def draw_grid(study: Study, dataset: str) -> tuple[Figure, str]:
    """Accuracy by training size: a panel an initialisation, a line a framework."""
    rows = rows_of(study, dataset)
    inits = list(dict.fromkeys(row["init"] for row in rows))
    figure = new_figure(4.2)
    panels = figure.subplots(1, len(inits), sharey=True, squeeze=False)[0]
    for axes, init in zip(panels, inits, strict=True):
        for framework, how in LOOKS.items():
            mine = [row for row in rows if (row["framework"], row["init"]) == (framework, init)]
            if mine:
                with_bars(axes, [row["train_size"] for row in mine], mine, how, name_of(framework))
        if dataset == "mnist":
            for label, level, colour in (("NumPy 95.3 %", 95.3, BLUE), ("PyTorch 92.2 %", 92.2, ORANGE)):
                axes.axhline(level, color=colour, linewidth=0.9, linestyle=(0, (1, 2)), label=f"report: {label}")
        style(axes, "training images", "test accuracy (%)" if axes is panels[0] else "")
        sizes_on(axes, sorted({row["train_size"] for row in rows}))
        titled(axes, name_of(init))
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9, labelcolor=INK)
    lines = " Dotted: the two accuracies of the report." if dataset == "mnist" else ""
    return figure, (
        "Test accuracy after the last epoch by training size, for three ways to draw the first weights. "
        f"{bars_are(rows)}{lines}"
    )


CHANGES = (
    ("framework", "framework: fcnn − PyTorch", look(BLUE, "-", "o")),
    ("init", "initialisation: He − PyTorch's default", look(GREEN, "-.", "^")),
    ("both", "both: fcnn with He − PyTorch's default", look(PURPLE, ":", "D")),
)


def draw_effects(study: Study, dataset: str) -> tuple[Figure, str]:
    """What a change of framework, of initialisation or of both makes, by training size."""
    rows = study.summary["effects"]
    figure = new_figure(4.2)
    axes = figure.subplots()
    for shift, (key, label, how) in zip((0.94, 1.0, 1.06), CHANGES, strict=True):
        mine = [row for row in rows if row[key]]
        if mine:
            with_bars(axes, [row["train_size"] * shift for row in mine], [row[key] for row in mine], how, label)
    axes.axhline(0, color=INK, linewidth=0.8)
    if dataset == "mnist":
        axes.axhline(3.1, color=ORANGE, linewidth=1, linestyle=(0, (1, 2)), label="the report's gap: 3.1 points")
    style(axes, "training images", "difference in accuracy (points)")
    sizes_on(axes, [row["train_size"] for row in rows])
    legend(axes)
    points = [row[key] for row in rows for key, *_ in CHANGES if row[key]]
    return figure, (
        "Differences in test accuracy when one thing changes and all else, batches included, stays: the framework "
        f"(averaged over initialisations), the initialisation (averaged over frameworks), or both. {bars_are(points)}"
    )


def draw_parting(study: Study, dataset: str) -> tuple[Figure, str]:
    """How far the losses and the weights of both frameworks part, from the same start on the same batches."""
    figure = new_figure(3.9)
    left, right = figure.subplots(1, 2)
    looks = {"float32": (ORANGE, "--"), "float64": (BLUE, "-")}
    for cell in (c for c in study.results["cells"] if c["kind"] == "Parting"):
        dtype, steps = cell["config"]["dtype"], cell["result"]["steps"]
        colour, dashes = looks[dtype]
        x = range(1, len(steps) + 1)
        gap = np.array([abs(step["fcnn_loss"] - step["pytorch_loss"]) for step in steps])
        gap[gap == 0] = np.nan  # which a log scale can't show
        largest = np.fmax.accumulate(gap)
        left.plot(x, largest, color=colour, linestyle=dashes, label=f"{dtype}, largest so far")
        left.plot(x, gap, color=colour, marker=".", markersize=2, linestyle="", alpha=0.5)
        right.plot(x, [step["distance"] for step in steps], color=colour, linestyle=dashes, label=dtype)
    for axes, label in ((left, "gap of the losses (nats)"), (right, "distance of the weights ÷ their norm")):
        axes.set_yscale("log")
        style(axes, "step", label)
        legend(axes)
    titled(left, "losses")
    titled(right, "weights")
    found = study.summary["parting"]
    words = [
        f"in {dtype} the losses differ by at most {tiny(row['max_loss_gap'])} over {count(row['steps'])} steps and the "
        f"weights end {tiny(row['final_distance'])} apart"
        for dtype, row in found.items()
    ]
    rounding = len(found) == 2 and found["float64"]["max_loss_gap"] < 1e-4 * found["float32"]["max_loss_gap"]
    why = " The gap shrinks with the precision: it is rounding, which training amplifies." if rounding else ""
    return figure, (
        f"fcnn and PyTorch from the same weights on the same batches of one epoch: {'; '.join(words)}.{why} Dots: "
        "single steps, where the losses differ at all."
    )


def draw_ablations(study: Study, dataset: str) -> tuple[Figure, str]:
    """Accuracy of fcnn's LeNet-5 with one thing changed."""
    found = study.summary["ablations"]
    rows = found["rows"][::-1]
    figure = new_figure(3.8)
    axes = figure.subplots()
    axes.axvline(100 * rows[-1]["mean"], color="#888888", linewidth=1, linestyle=":")
    for y, row in enumerate(rows):
        low, high = (100 * end for end in bars(row))
        colour, marker = (INK, "s") if row["difference"] is None else (BLUE, "o")
        axes.plot([low, high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot(100 * row["mean"], y, color=colour, marker=marker, markersize=7)
    names = [row["name"].replace(": ", ":\n").replace(" instead", "\ninstead") for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    style(axes, "test accuracy (%)", "")
    best = max(rows, key=itemgetter("mean"))
    return figure, (
        f"fcnn's LeNet-5 with one thing changed at a time, {count(found['train_size'])} training images; best: "
        f"{best['name']} ({percent(best['mean'])}). Dotted: the baseline. {bars_are(rows)}"
    )
