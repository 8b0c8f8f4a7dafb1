"""Figures in one clean style. The only module that can't be imported without matplotlib; no global state is touched.

Colours are those of M. Okabe and K. Ito, "Color Universal Design" (2008), which the colour-blind can tell apart; lines
differ in their dashes and markers as well.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fcnn.values.arrays import Array
from fcnn.values.checks import array, instance, told
from fcnn.values.packages import expect_package

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ModuleNotFoundError:
    expect_package("matplotlib", "figures are drawn by matplotlib")
    raise

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
INK, GRID = "#222222", "#DDDDDD"

_SCREEN = 96  # pixels an inch, in a browser
_MOST_COLUMNS = 5
_MOST_MARKERS = 25  # on a curve
_DRAWN = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


class InlineFigure(Figure):
    """A figure that notebooks show by itself; matplotlib's own do so only where pyplot keeps a list of all figures."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        file = io.BytesIO()
        self.savefig(file, format="png")
        width, height = (round(inches * _SCREEN) for inches in self.get_size_inches())
        return file.getvalue(), {"width": width, "height": height}


def curves(
    history: Sequence[Mapping[str, Any]], title: str = "", validation_name: str = "validation", loss_name: str = "loss"
) -> InlineFigure:
    """Loss and, where it is known, accuracy after each epoch, training and validation side by side.

    Args:
        history: an item an epoch with `epoch`, `train_loss`, `train_accuracy`, `validation_loss` and
            `validation_accuracy`, such as `fitted.history`; accuracies from 0 to 1, None for what isn't known.
        title: what was trained.
        validation_name: what the legend calls the second curve.
        loss_name: what the loss is, with its unit, such as "cross-entropy (nats)".

    >>> figure = curves([{"epoch": 1, "train_loss": 0.5, "train_accuracy": 0.8}])
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['loss', 'accuracy (%)']
    """
    _expect_history(history)
    for name, text in (("title", title), ("validation_name", validation_name), ("loss_name", loss_name)):
        instance(name, text, str, "text")
    known = {name for item in history for name, value in item.items() if value is not None}
    panels = [("loss", loss_name, 1)]
    panels += [("accuracy", "accuracy (%)", 100)] if {"train_accuracy", "validation_accuracy"} & known else []
    figure = InlineFigure(figsize=(4.5 * len(panels), 3.8), dpi=150, layout="constrained")
    epochs = [item["epoch"] for item in history]
    for axes, (kind, label, factor) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for split, name, colour, dashes, marker in (
            ("train", "training (mean over the epoch)", BLUE, "-", "o"),
            ("validation", validation_name, ORANGE, "--", "s"),
        ):
            found = [item.get(f"{split}_{kind}") for item in history]
            values = [math.nan if value is None else value * factor for value in found]
            if f"{split}_{kind}" in known:
                axes.plot(
                    epochs, values, color=colour, linestyle=dashes, marker=marker, markersize=5, label=name,
                    markevery=math.ceil(len(epochs) / _MOST_MARKERS),
                )  # fmt: skip
        style(axes, "epoch", label)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        if axes.lines:
            axes.legend(frameon=False)
    figure.suptitle(title, color=INK)
    return figure


def heatmaps(images: Array, maps: Array, titles: Sequence[object] | None = None, name: str = "map") -> InlineFigure:
    """Images, each with a map beneath it of where something is strong, such as `saliency` and `grad_cam` give.

    A map is drawn from 0 to its own greatest value, in colours (matplotlib's cividis) that grow in lightness, made for
    the colour-blind. An image is drawn from its least to its greatest value, with 3 channels in colour, else in grey
    as their mean.

    Args:
        images: (N, C, H, W), of any dtype.
        maps: (N, H, W), 0 or more.
        titles: what stands above each image, such as its class; nothing when None.
        name: what the maps are, for the colours' scale.

    Raises ValueError where the shapes or the number of titles don't fit.

    >>> images = np.random.default_rng(0).random((7, 1, 28, 28))
    >>> figure = heatmaps(images, images[:, 0] ** 2, titles=range(7), name="brightness squared")
    >>> [axes.get_title() for axes in figure.axes if axes.get_title()]
    ['0', '1', '2', '3', '4', '5', '6']
    """
    images, maps = array("images", images, "numbers (N, C, H, W)"), array("maps", maps, "numbers (N, H, W)")
    if "c" in images.dtype.kind + maps.dtype.kind:
        raise TypeError(f"images and maps are real numbers, got {images.dtype} and {maps.dtype}")
    if images.ndim != 4 or not images.size or maps.shape != (len(images), *images.shape[2:]):
        raise ValueError(f"expected images (N, C, H, W) and maps (N, H, W), got {images.shape} and {maps.shape}")
    count = len(images)
    if titles is not None and (isinstance(titles, str) or not isinstance(titles, Sequence)):
        raise TypeError(f"titles are a list, one for each image, got {told(titles)}")
    if titles is not None and len(titles) != count:
        raise ValueError(f"expected {count} titles, one for each image, got {len(titles)}")
    instance("name", name, str, "text")
    columns = min(count, _MOST_COLUMNS)
    rows = math.ceil(count / columns)
    figure = InlineFigure(figsize=(1.5 * columns + 1.1, 3.2 * rows), dpi=150, layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for index, (image, map_) in enumerate(zip(images, maps, strict=True)):
        row, column = divmod(index, columns)
        above, below = grid[2 * row : 2 * row + 2, column]
        pixels = _scaled(image.transpose(1, 2, 0) if len(image) == 3 else image.mean(axis=0))
        above.imshow(pixels, cmap="gray", vmin=0, vmax=1)
        drawn = below.imshow(map_ / (map_.max() or 1), cmap="cividis", vmin=0, vmax=1)
        above.set_title("" if titles is None else str(titles[index]), color=INK)
    bar = figure.colorbar(drawn, ax=grid, shrink=min(1, 0.7 / rows + 0.1), aspect=15)
    bar.set_label(f"{name}\nas a share of its greatest", color=INK)
    bar.ax.tick_params(colors=INK)
    return figure


def _expect_history(history: Any) -> None:
    expected = "history is a list of dicts, one for each epoch, as fitted.history is"
    if not isinstance(history, (list, tuple)):
        advice = "; take its .history" if hasattr(history, "history") else ""
        raise TypeError(f"{expected}, got {told(history)}{advice}")
    for item in history:
        if not isinstance(item, Mapping) or "epoch" not in item:
            raise TypeError(f"{expected}, got {told(item)} among them")
        for name in _DRAWN:
            value = item.get(name)
            if value is not None and not _is_drawable(value):
                raise TypeError(f"an epoch's {name} is a number or None, got {told(value)}")


def _is_drawable(value: object) -> bool:
    """Whether it is a number that a float can hold, NaN too."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    return not isinstance(value, int) or value.bit_length() < 1000


def _scaled(pixels: Array) -> Array:
    """The numbers moved and stretched to 0 to 1."""
    least, greatest = float(pixels.min()), float(pixels.max())
    with np.errstate(over="ignore", invalid="ignore"):  # what is infinite is left blank
        return np.asarray((pixels - least) / (greatest - least or 1))


def style(axes: Axes, x_label: str, y_label: str) -> None:
    """The library's look for one pair of axes: labelled, a light grid, no box."""
    instance("axes", axes, Axes, "axes of matplotlib")
    instance("x_label", x_label, str, "text")
    instance("y_label", y_label, str, "text")
    axes.set_xlabel(x_label, color=INK)
    axes.set_ylabel(y_label, color=INK)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
