"""What all figures share: one look, and one way to show uncertainty."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from fcnn.inspection.plots import BLUE, INK, ORANGE

WIDTH = 8.0  # inches; shown 700 pixels wide, 10-point text is 12 pixels high
VALIDATION = "Validation is the test set, evaluated after each epoch and never used to choose anything."


def look(colour: str, dashes: str, marker: str) -> dict[str, Any]:
    """How a line and its points look: apart from the others without colour, too."""
    return {"color": colour, "linestyle": dashes, "marker": marker, "markersize": 5, "linewidth": 1.5}


LOOKS = {"fcnn": look(BLUE, "-", "o"), "pytorch": look(ORANGE, "--", "s")}


def new_figure(height: float) -> Figure:
    """An empty figure of the common width and this height, in inches."""
    return Figure(figsize=(WIDTH, height), dpi=150, layout="constrained")


def titled(axes: Axes, text: str) -> None:
    """A panel's title."""
    axes.set_title(text, fontsize=11, color=INK, loc="left")


def legend(axes: Axes, **how: Any) -> None:
    """A panel's legend."""
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, **how)


def bars(row: Mapping[str, Any]) -> tuple[float, float]:
    """A point's bar: its 95 % interval, or with two seeds, for which that is wider than any figure, their range."""
    return (row["low"], row["high"]) if row["n"] > 2 else (row["least"], row["most"])


def with_bars(axes: Axes, x: Any, rows: Any, how: Mapping[str, Any], label: str) -> None:
    """Means of shares at `x` as per cent, with their bars."""
    mean = np.array([100 * row["mean"] for row in rows])
    ends = np.array([[100 * end for end in bars(row)] for row in rows])
    error = [np.maximum(mean - ends[:, 0], 0), np.maximum(ends[:, 1] - mean, 0)]
    axes.errorbar(x, mean, error, capsize=3, label=label, **how)


def bars_are(rows: Any) -> str:
    """What the bars in a figure are, in words."""
    fewest, most = (choice(row["n"] for row in rows) for choice in (min, max))
    if most == 1:
        return "One seed each, so no bars."
    what = (
        "95 % intervals of the mean (t-distribution)" if fewest > 2 else "95 % intervals, or with two seeds their range"
    )
    seeds = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"Bars: {what if most > 2 else 'the range of both seeds'}; {seeds} seeds a point."


def sizes_on(axes: Axes, sizes: Any) -> None:
    """Few sizes on a log axis, each written out."""
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) if size % 1000 else f"{size // 1000}k" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())


def show(axes: Axes, image: np.ndarray[Any, Any]) -> None:
    """An image (C, H, W): dark on white if grey, in its colours otherwise."""
    if image.shape[0] == 3:
        axes.imshow(image.transpose(1, 2, 0))
    else:
        axes.imshow(image[0], cmap="gray_r")
