"""A record's runs as a figure: test error after each epoch, a line a seed, and the outcome."""

import textwrap
from collections.abc import Mapping
from typing import Any

from machine import described
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fcnn.inspection.plots import BLUE, INK, ORANGE, style


def figure(results: Mapping[str, Any]) -> Figure:
    """Training loss and test error over epochs, of results as `records.seeds` writes them."""
    drawn = Figure(figsize=(9.0, 4.2), dpi=150, layout="constrained")
    loss, error = drawn.subplots(1, 2)
    for number, run in enumerate(results["runs"]):
        epochs = [item["epoch"] for item in run["history"]]
        of_test = [1 - item["validation_accuracy"] for item in run["history"]]
        look = {"color": BLUE, "alpha": 0.6, "linewidth": 1.2, "marker": "o", "markersize": 3}
        loss.plot(epochs, [item["train_loss"] for item in run["history"]], **look)
        error.plot(epochs, of_test, label="" if number else "a seed, after each epoch", **look)
        error.plot(
            epochs[-1], 1 - run["accuracy"], "D", color=ORANGE, markersize=5, label="" if number else "its outcome"
        )
    error.axhline(1 - results["target"], color=INK, linewidth=1, linestyle="--", label="what the mean must not exceed")
    style(loss, "epoch", "training loss, mean of the epoch")
    style(error, "epoch", "test error")
    error.set_yscale("log")
    for axis in (error.yaxis.set_major_formatter, error.yaxis.set_minor_formatter):
        axis(PercentFormatter(1.0, decimals=2))
    for axes in (loss, error):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    error.legend(frameon=False)
    drawn.suptitle(f"{results['record']}, n = {len(results['runs'])}", color=INK)
    drawn.supxlabel("\n".join(textwrap.wrap(described(results["runs"][0]["machine"]), 120)), fontsize=8, color=INK)
    return drawn
