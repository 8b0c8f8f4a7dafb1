"""What all figures share: the data they are drawn from, one look, one way to show uncertainty."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

import fcnn
from fcnn.inspection.plots import BLUE, GREEN, INK, ORANGE, PURPLE
from study.findings.wording import count, listed, name_of

WIDTH = 8.0  # inches; shown 700 pixels wide, 10-point text is 12 pixels high
LOOKS = {"fcnn": (BLUE, "-", "o"), "pytorch": (ORANGE, "--", "s")}
INIT_LOOKS = {"he": (GREEN, "-.", "^"), "xavier": (PURPLE, ":", "D"), "kaiming_uniform": (INK, "-", "o")}
REPORT_LINES = (("report: NumPy 95.3 %", 95.3, BLUE), ("report: PyTorch 92.2 %", 92.2, ORANGE))
VALIDATION = "Validation is the test set, evaluated after each epoch and never used to choose anything."


@attrs.frozen
class Study:
    """All that a figure is drawn from."""

    results: Mapping[str, Any]
    arrays: Mapping[str, Mapping[str, np.ndarray[Any, Any]]]
    images: Callable[[str], fcnn.Dataset]

    @property
    def summary(self) -> Mapping[str, Any]:
        """The derived numbers."""
        return self.results["summary"]  # type: ignore[no-any-return]

    def details(self, dataset: str) -> dict[str, Mapping[str, Any]]:
        """The detailed cell of each framework."""
        cells = [c for c in self.results["cells"] if c["kind"] == "Training" and c["config"]["detail"]]
        cells = [c for c in cells if c["config"]["dataset"] == dataset]
        return {f: c for f in LOOKS for c in cells if c["config"]["framework"] == f}

    def arrays_of(self, dataset: str) -> dict[str, Mapping[str, np.ndarray[Any, Any]]]:
        """The arrays of those cells."""
        return {f: self.arrays[cell["key"]] for f, cell in self.details(dataset).items() if cell["key"] in self.arrays}


@attrs.frozen
class Plot:
    """A figure of the study: what it is called, what it shows in words, how it is drawn, and whether it can be."""

    title: str
    caption: Callable[[Study, str], str]
    draw: Callable[[Study, str], Figure]
    available: Callable[[Study, str], bool]


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


def with_bars(axes: Axes, x: Any, rows: Any, look: tuple[str, str, str], label: str) -> None:
    """Means of shares at `x` as per cent, with their bars."""
    mean = np.array([100 * row["mean"] for row in rows])
    ends = np.array([[100 * end for end in bars(row)] for row in rows])
    error = [np.maximum(mean - ends[:, 0], 0), np.maximum(ends[:, 1] - mean, 0)]
    colour, dashes, marker = look
    axes.errorbar(
        x,
        mean,
        error,
        color=colour,
        linestyle=dashes,
        marker=marker,
        markersize=5,
        capsize=3,
        label=label,
        linewidth=1.5,
    )


def bars_are(rows: Any) -> str:
    """What the bars in a figure are, in words."""
    n = {row["n"] for row in rows}
    seeds = str(min(n)) if len(n) == 1 else f"{min(n)} to {max(n)}"
    if max(n) == 1:
        return "One seed each, so no bars."
    what = (
        "95 % intervals of the mean (t-distribution)" if min(n) > 2 else "95 % intervals, or with two seeds their range"
    )
    return f"Bars: {what if max(n) > 2 else 'the range of both seeds'}; {seeds} seeds a point."


def whole_epochs(axes: Axes) -> None:
    """No half epochs on the axis."""
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def frameworks_of(study: Study, dataset: str) -> str:
    """The frameworks with a detailed run, in words."""
    return listed([name_of(framework) for framework in study.details(dataset)])


def has_details(study: Study, dataset: str) -> bool:
    """Whether there is a detailed run."""
    return bool(study.details(dataset))


def has_arrays(study: Study, dataset: str) -> bool:
    """Whether there is a detailed run whose arrays were kept."""
    return bool(study.arrays_of(dataset))


def sizes_on(axes: Axes, sizes: Any) -> None:
    """Few sizes on a log axis, each written out."""
    axes.set_xscale("log")
    axes.set_xticks(sizes, [count(size) if size < 1000 else f"{size / 1000:g}k" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())


def show(axes: Axes, image: np.ndarray[Any, Any]) -> None:
    """An image (C, H, W): dark on white if grey, in its colours otherwise."""
    if image.shape[0] == 3:
        axes.imshow(image.transpose(1, 2, 0))
    else:
        axes.imshow(image[0], cmap="gray_r")
