"""A record's runs as a figure: training loss and test error after each epoch, a line a seed, and the outcome."""

import textwrap
from collections.abc import Mapping
from typing import Any

from machine import described
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from fcnn.inspection.plots import BLUE, INK, ORANGE, style


def figure(results: Mapping[str, Any]) -> Figure:
    """Both over epochs, of results as `records.seeds` writes them."""
    drawn = Figure(figsize=(9.0, 4.2), dpi=150, layout="constrained")
    loss, error = drawn.subplots(1, 2)
    runs = results["runs"]
    has_views = any(run["accuracy"] != run["one_view"] for run in runs)
    for number, run in enumerate(runs):
        epochs = [item["epoch"] for item in run["history"]]
        of_test = [100 * (1 - item["validation_accuracy"]) for item in run["history"]]
        look = {"color": BLUE, "alpha": 0.6, "linewidth": 1.2, "marker": "o", "markersize": 3}
        loss.plot(epochs, [item["train_loss"] for item in run["history"]], **look)
        label = "a seed, by one view of each image" if has_views else "a seed"
        error.plot(epochs, of_test, label="" if number else label, **look)
        if has_views:
            label = "" if number else "its outcome, by all views"
            error.plot(epochs[-1], 100 * (1 - run["accuracy"]), "D", color=ORANGE, markersize=5, label=label)
    target = 100 * (1 - results["target"])
    error.axhline(target, color=INK, linewidth=1, linestyle="--", label=f"target of the mean: {target:.2f} %")
    style(loss, "epoch", "training loss, mean of the epoch (nats)")
    style(error, "epoch", "test error (%)")
    if error.get_ylim()[1] > 3 * error.get_ylim()[0]:
        error.set_yscale("log")
        error.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        error.yaxis.set_minor_formatter(NullFormatter())
    error.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axes in (loss, error):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    seeds = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
    title = f"{results['record']}: {results['train_size']:,} training images, {seeds}"
    drawn.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8, title=title, title_fontsize=11)
    drawn.supxlabel("\n".join(textwrap.wrap(described(runs[0]["machine"]), 110)), fontsize=8, color=INK)
    return drawn
