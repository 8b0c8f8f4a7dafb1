"""The results as one figure: ratios to PyTorch, and the programs on a LeNet-5 training step."""

import textwrap
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from bench import report
from bench.cases import ALL, BACKWARD, BOTH, FORWARD, INPUT, PLAIN, WEIGHT
from fcnn.inspection.plots import BLUE, GREEN, INK, ORANGE, PURPLE, style

WIDTH = 8.0  # inches
LOOKS = {  # of the parts of a case: colour, marker
    "": (INK, "o"),
    PLAIN: (ORANGE, "X"),
    FORWARD: (BLUE, "o"),
    WEIGHT: (GREEN, "^"),
    INPUT: (PURPLE, "v"),
    BOTH: (ORANGE, "s"),
    BACKWARD: (ORANGE, "P"),
    ALL: (INK, "D"),
}
FAMILIES = {"fcnn": BLUE, "PyTorch": ORANGE, "JAX": GREEN, "NumPy": INK, "autograd": PURPLE, "onnx": PURPLE}


def figure(results: Mapping[str, Any]) -> Figure:
    """Both panels, of results with at least one time; where PyTorch was not measured, the first says so."""
    rows = [row for row in results["rows"] if row["best_pytorch"] in row["ratios"]]
    names = list(dict.fromkeys(row["case"] for row in rows))
    step = next(row for row in results["rows"] if row["ms"])
    heights = [max(1.0, 0.42 * len(names) + 0.9), 0.3 * len(step["ms"]) + 0.8]
    figure = Figure(figsize=(WIDTH, sum(heights) + 1.0), dpi=150, layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=heights)
    figure.suptitle("fcnn / best form of PyTorch: ratio in one run", color=INK)
    if rows:
        _ratios(above, rows, names)
    else:
        above.set_axis_off()
        above.text(0.5, 0.5, "PyTorch was not measured in this run", color=INK, ha="center", va="center")
    _programs(below, step)
    caption = f"{report.measured_on(results['machine'])}. Dots: medians; lines: quartiles."
    figure.supxlabel("\n".join(textwrap.wrap(caption, 110)), fontsize=8, color=INK)
    return figure


def _ratios(axes: Axes, rows: list[Mapping[str, Any]], names: list[str]) -> None:
    for y, name in enumerate(names):
        parts = [row for row in rows if row["case"] == name]
        for number, row in enumerate(parts):
            ratio, (colour, marker) = row["ratios"][row["best_pytorch"]], LOOKS[row["part"]]
            height = y + 0.15 * (number - (len(parts) - 1) / 2)
            axes.plot([ratio["low"], ratio["high"]], [height, height], color=colour, linewidth=1.5)
            label = row["part"] or None
            label = None if label in axes.get_legend_handles_labels()[1] else label
            axes.plot(ratio["median"], height, color=colour, marker=marker, markersize=5, linestyle="", label=label)
    axes.axvline(1, color=INK, linewidth=1)
    _finish(axes, names, "time of fcnn / time of PyTorch (1: level; left of it fcnn is faster)")
    if any(row["part"] for row in rows):
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower center", bbox_to_anchor=(0.3, 1), ncols=3)


def _programs(axes: Axes, row: Mapping[str, Any]) -> None:
    for y, (name, ms) in enumerate(row["ms"].items()):
        colour = next(colour for family, colour in FAMILIES.items() if name.startswith(family))
        axes.plot([ms["low"], ms["high"]], [y, y], color=colour, linewidth=1.5)
        axes.plot(ms["median"], y, color=colour, marker="o", markersize=6)
        said = f"{ms['median']:.3g}" if ms["median"] < 1000 else f"{ms['median']:,.0f}"
        axes.annotate(said, (ms["high"], y), (6, -3), textcoords="offset points", fontsize=8)
    axes.set_title(report.name_of(row), fontsize=11, color=INK, loc="left")
    _finish(axes, list(row["ms"]), "milliseconds")


def _finish(axes: Axes, names: list[str], x_label: str) -> None:
    """A line for each name, and a log axis with a few round numbers, wider than the data by a label."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    style(axes, x_label, "")
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    low, high = low / 1.1, high * 1.3
    steps = (1, 2, 5) if high / low > 8 else (1, 1.5, 2, 3, 5, 7)
    ticks = [step * 10.0**power for power in range(-4, 7) for step in steps]
    axes.set_xlim(low, high)
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
