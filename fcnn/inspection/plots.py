"""Figures in one clean style. The only module of the library that imports matplotlib; no global state is touched.

Colours are those of M. Okabe and K. Ito, "Color Universal Design" (2008), which the colour-blind can tell apart; lines
differ in their dashes and markers as well.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
INK, GRID = "#222222", "#DDDDDD"


def curves(history: Sequence[Mapping[str, Any]], title: str, validation_name: str = "validation") -> Figure:
    """Loss and accuracy after each epoch, training and validation side by side.

    Args:
        history: an item an epoch with `epoch`, `train_loss`, `train_accuracy`, `validation_loss` and
            `validation_accuracy`; accuracies from 0 to 1.
        title: what was trained.
        validation_name: what the legend calls the second curve.
    """
    figure = Figure(figsize=(9, 3.8), dpi=150, layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = [item["epoch"] for item in history]
    for axes, kind, label, factor in (
        (loss, "loss", "cross-entropy (nats)", 1),
        (accuracy, "accuracy", "accuracy (%)", 100),
    ):
        for split, name, colour, dashes, marker in (
            ("train", "training (mean over the epoch)", BLUE, "-", "o"),
            ("validation", validation_name, ORANGE, "--", "s"),
        ):
            values = [item[f"{split}_{kind}"] * factor for item in history]
            axes.plot(epochs, values, color=colour, linestyle=dashes, marker=marker, markersize=5, label=name)
        style(axes, "epoch", label)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.legend(frameon=False)
    figure.suptitle(title, color=INK)
    return figure


def style(axes: Axes, x_label: str, y_label: str) -> None:
    """The library's look for one pair of axes: labelled, a light grid, no box."""
    axes.set_xlabel(x_label, color=INK)
    axes.set_ylabel(y_label, color=INK)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
