"""Figures of many trainings: batch and training sizes, initialisations, ablations, and how trajectories part."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from fcnn.inspection.plots import BLUE, GREEN, INK, ORANGE, PURPLE, style
from study.figures.drawing import (
    INIT_LOOKS,
    LOOKS,
    REPORT_LINES,
    VALIDATION,
    Study,
    bars,
    bars_are,
    legend,
    new_figure,
    sizes_on,
    titled,
    with_bars,
)
from study.findings.wording import count, listed, name_of, percent, tiny


def draw_batch_size(study: Study, dataset: str) -> Figure:
    """Validation accuracy and seconds an epoch by batch size."""
    rows = study.summary["batch_sizes"]["rows"]
    figure = new_figure(3.7)
    left, right = figure.subplots(1, 2)
    for framework, look in LOOKS.items():
        mine = [row for row in rows if row["framework"] == framework]
        if mine:
            sizes = [row["batch_size"] for row in mine]
            with_bars(left, sizes, mine, look, name_of(framework))
            time = [row["seconds_per_epoch"] for row in mine]
            right.plot(
                sizes, time, color=look[0], linestyle=look[1], marker=look[2], markersize=5, label=name_of(framework)
            )
    ticks = sorted({row["batch_size"] for row in rows})
    for axes, label in ((left, "validation accuracy (%)"), (right, "seconds an epoch")):
        style(axes, "batch size", label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        legend(axes)
    right.set_ylim(bottom=0)
    titled(left, "accuracy")
    titled(right, "time")
    return figure


def caption_batch_size(study: Study, dataset: str) -> str:
    """Which batch size does best, and the caveat of the times."""
    found = study.summary["batch_sizes"]
    best = {}
    for row in found["rows"]:
        if row["mean"] > best.get(row["framework"], {"mean": -1.0})["mean"]:
            best[row["framework"]] = row
    told = listed(
        [f"{name_of(f)} does best with {row['batch_size']} ({percent(row['mean'])})" for f, row in best.items()]
    )
    return (
        f"Accuracy after the last epoch by batch size at one learning rate, {count(found['train_size'])} training "
        "images: "
        f"{told}. {bars_are(found['rows'])} Times are medians of runs that shared the machine, on one thread each: "
        "they "
        f"compare batch sizes, not frameworks. {VALIDATION}"
    )


def sweep_rows(study: Study, dataset: str) -> list[Mapping[str, Any]]:
    """The means of the sweep over training sizes, initialisations and frameworks."""
    sizes = {row["train_size"] for row in study.summary["effects"]}
    return [row for row in study.summary["grid"] if row["dataset"] == dataset and row["train_size"] in sizes]


def draw_grid(study: Study, dataset: str) -> Figure:
    """Accuracy by training size: a panel an initialisation, a line a framework."""
    rows = sweep_rows(study, dataset)
    inits = [init for init in INIT_LOOKS if any(row["init"] == init for row in rows)]
    figure = new_figure(4.2)
    panels = figure.subplots(1, len(inits), sharey=True, squeeze=False)[0]
    for axes, init in zip(panels, inits, strict=True):
        for framework, look in LOOKS.items():
            mine = [row for row in rows if (row["framework"], row["init"]) == (framework, init)]
            if mine:
                with_bars(axes, [row["train_size"] for row in mine], mine, look, name_of(framework))
        for label, level, colour in REPORT_LINES if dataset == "mnist" else ():
            axes.axhline(level, color=colour, linewidth=0.9, linestyle=(0, (1, 2)), label=label)
        style(axes, "training images", "test accuracy (%)" if axes is panels[0] else "")
        sizes_on(axes, sorted({row["train_size"] for row in rows}))
        titled(axes, name_of(init))
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9, labelcolor=INK)
    return figure


def caption_grid(study: Study, dataset: str) -> str:
    """What the bars are."""
    lines = " Dotted: the two accuracies of the report." if dataset == "mnist" else ""
    return (
        "Test accuracy after the last epoch by training size, for three ways to draw the first weights. "
        f"{bars_are(sweep_rows(study, dataset))}{lines}"
    )


EFFECTS = (
    ("framework", "framework: fcnn − PyTorch", (BLUE, "-", "o")),
    ("init", "initialisation: He − PyTorch's default", (GREEN, "-.", "^")),
    ("both", "both: fcnn with He − PyTorch's default", (PURPLE, ":", "D")),
)


def draw_effects(study: Study, dataset: str) -> Figure:
    """What a change of framework, of initialisation or of both makes, by training size."""
    rows = study.summary["effects"]
    figure = new_figure(4.2)
    axes = figure.subplots()
    for shift, (key, label, look) in zip((0.94, 1.0, 1.06), EFFECTS, strict=True):
        mine = [row for row in rows if row[key]]
        if mine:
            with_bars(axes, [row["train_size"] * shift for row in mine], [row[key] for row in mine], look, label)
    axes.axhline(0, color=INK, linewidth=0.8)
    if dataset == "mnist":
        axes.axhline(3.1, color=ORANGE, linewidth=1, linestyle=(0, (1, 2)), label="the report's gap: 3.1 points")
    style(axes, "training images", "difference in accuracy (points)")
    sizes_on(axes, [row["train_size"] for row in rows])
    legend(axes)
    return figure


def caption_effects(study: Study, dataset: str) -> str:
    """What is compared with what."""
    rows = [row[key] for row in study.summary["effects"] for key, *_ in EFFECTS if row[key]]
    return (
        "Differences in test accuracy when one thing changes and all else, batches included, stays: the framework "
        "(averaged over initialisations), the initialisation (averaged over frameworks), or both. "
        f"{bars_are(rows)}"
    )


def draw_parting(study: Study, dataset: str) -> Figure:
    """How far the losses and the weights of both frameworks part, from the same start on the same batches."""
    figure = new_figure(3.9)
    left, right = figure.subplots(1, 2)
    looks = {"float32": (ORANGE, "--"), "float64": (BLUE, "-")}
    for cell in (c for c in study.results["cells"] if c["kind"] == "Parting"):
        dtype, steps = cell["config"]["dtype"], cell["result"]["steps"]
        colour, dashes = looks[dtype]
        x = range(1, len(steps) + 1)
        gap = np.array([abs(step["fcnn_loss"] - step["pytorch_loss"]) for step in steps])
        largest = np.maximum.accumulate(gap)
        left.plot(
            x, np.where(largest, largest, np.nan), color=colour, linestyle=dashes, label=f"{dtype}, largest so far"
        )
        left.plot(x, np.where(gap, gap, np.nan), color=colour, marker=".", markersize=2, linestyle="", alpha=0.5)
        right.plot(x, [step["distance"] for step in steps], color=colour, linestyle=dashes, label=dtype)
    for axes, label in ((left, "gap of the losses (nats)"), (right, "distance of the weights ÷ their norm")):
        axes.set_yscale("log")
        style(axes, "step", label)
        legend(axes)
    titled(left, "losses")
    titled(right, "weights")
    return figure


def caption_parting(study: Study, dataset: str) -> str:
    """The largest gaps."""
    told = [
        f"in {dtype} the losses differ by at most {tiny(row['max_loss_gap'])} over {count(row['steps'])} steps and the "
        f"weights end {tiny(row['final_distance'])} apart"
        for dtype, row in study.summary["parting"].items()
    ]
    text = "; ".join(told)
    gaps = {dtype: row["max_loss_gap"] for dtype, row in study.summary["parting"].items()}
    rounding = len(gaps) == 2 and gaps["float64"] < 1e-4 * gaps["float32"]
    why = " The gap shrinks with the precision: it is rounding, which training amplifies." if rounding else ""
    return (
        f"fcnn and PyTorch from the same weights on the same batches of one epoch: {text}.{why} Dots: single steps, "
        "where "
        "the losses differ at all."
    )


def draw_ablations(study: Study, dataset: str) -> Figure:
    """Accuracy of fcnn's LeNet-5 with one thing changed."""
    rows = study.summary["ablations"]["rows"][::-1]
    figure = new_figure(3.8)
    axes = figure.subplots()
    base = 100 * rows[-1]["mean"]
    axes.axvline(base, color="#888888", linewidth=1, linestyle=":")
    for y, row in enumerate(rows):
        low, high = (100 * end for end in bars(row))
        colour, marker = (INK, "s") if row["difference"] is None else (BLUE, "o")
        axes.plot([low, high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot(100 * row["mean"], y, color=colour, marker=marker, markersize=7)
    axes.set_yticks(
        range(len(rows)), [row["name"].replace(": ", ":\n").replace(" instead", "\ninstead") for row in rows]
    )
    axes.set_ylim(-0.6, len(rows) - 0.4)
    style(axes, "test accuracy (%)", "")
    return figure


def caption_ablations(study: Study, dataset: str) -> str:
    """What is changed, and by how much the greatest change moves accuracy."""
    found = study.summary["ablations"]
    best = max(found["rows"], key=lambda row: row["mean"])
    return (
        f"fcnn's LeNet-5 with one thing changed at a time, {count(found['train_size'])} training images; best: "
        f"{best['name']} ({percent(best['mean'])}). Dotted: the baseline. {bars_are(found['rows'])}"
    )
