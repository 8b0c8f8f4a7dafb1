"""Figures of what is inside the trained networks: filters and feature maps. Each is drawn with its caption."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fcnn.inspection.plots import INK
from study.figures.drawing import new_figure, show, titled
from study.figures.plot import Study
from study.findings.wording import listed, name_of, percent


def draw_filters(study: Study, dataset: str) -> tuple[Figure, str]:
    """The first layer's filters after training, a row a framework."""
    last = {framework: arrays["filters"][-1] for framework, arrays in study.arrays_of(dataset).items()}
    figure = new_figure(1.3 * len(last))
    limit = max(float(np.abs(filters).max()) for filters in last.values())
    grid = figure.subplots(len(last), len(next(iter(last.values()))), squeeze=False)
    for line, (framework, filters) in zip(grid, last.items(), strict=True):
        picture = _filter_row(line, name_of(framework), filters, limit)
    _weight_bar(figure, picture)
    return figure, (
        f"The filters of the first convolution after training, {listed([name_of(f) for f in last])}: 5×5 weights each, "
        "on one scale. Each framework began from weights of its own."
    )


def draw_filters_over_training(study: Study, dataset: str) -> tuple[Figure, str]:
    """The first layer's filters before training and after each epoch; a column a filter, a row an epoch."""
    runs = {framework: arrays["filters"] for framework, arrays in study.arrays_of(dataset).items()}
    epochs = max(map(len, runs.values()))
    number = next(iter(runs.values())).shape[1]
    figure = new_figure(0.3 + 0.62 * epochs)
    limit = max(float(np.abs(filters).max()) for filters in runs.values())
    widths = [*[1.0] * number, 0.5] * len(runs)  # a narrow column parts the frameworks
    grid = figure.subplots(epochs, len(widths) - 1, squeeze=False, width_ratios=widths[:-1])
    for axes in grid.flat:
        axes.axis("off")
    for place, (framework, filters) in enumerate(runs.items()):
        mine = grid[:, place * (number + 1) :][:, :number]
        for k, weights in enumerate(filters):
            picture = _filter_row(mine[k], "start" if k == 0 else f"epoch {k}", weights, limit)
        titled(mine[0, 0], name_of(framework))
    _weight_bar(figure, picture)
    change = study.summary["filter_change"].get(dataset, {})
    told = [f"{percent(share, 0)} of its final length after one epoch in {name_of(f)}" for f, share in change.items()]
    words = f" The change from the start has {listed(told)}." if told else ""
    return figure, f"The same filters before training and after each epoch.{words}"


def _filter_row(line: Any, label: str, filters: np.ndarray[Any, Any], limit: float) -> Any:
    """Filters (F, C, 5, 5) in a row: blue for negative, red for positive up to ±limit; in colours where C is 3."""
    picture = None
    for axes, weights in zip(line, filters, strict=True):
        if weights.shape[0] == 3:
            axes.imshow(0.5 + weights.transpose(1, 2, 0) / (2 * limit))
        else:
            picture = axes.imshow(weights[0], cmap="RdBu_r", vmin=-limit, vmax=limit)
        _bare(axes)
    line[0].set_ylabel(label, fontsize=9, color=INK)
    return picture


def _weight_bar(figure: Figure, picture: Any) -> None:
    """What the colours mean, where they mean weights."""
    if picture is not None:
        bar = figure.colorbar(picture, ax=figure.axes, shrink=0.8, pad=0.02, aspect=30)
        bar.set_label("weight", color=INK)
        bar.outline.set_visible(False)


def _bare(axes: Axes) -> None:
    axes.axis("on")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def maps_of(study: Study, dataset: str) -> dict[str, np.ndarray[Any, Any]]:
    """The output of every layer of fcnn's network up to `flatten`, by the layer; empty where they were not kept."""
    arrays = study.arrays_of(dataset).get("fcnn", {})
    return {name.removeprefix("map_"): value for name, value in arrays.items() if name.startswith("map_")}


def draw_feature_maps(study: Study, dataset: str) -> tuple[Figure, str]:
    """One image of the test set and the output of every layer up to `flatten`, in fcnn."""
    image, maps = study.arrays_of(dataset)["fcnn"]["digit"], maps_of(study, dataset)
    columns = 8
    lines = [(name, part, value) for name, value in maps.items() for part in range(-(-len(value) // columns))]
    figure = new_figure(0.3 + 0.95 * (1 + len(lines)))
    grid = figure.subplots(1 + len(lines), columns)
    for axes in grid.flat:
        _bare(axes)
    show(grid[0, 0], image)
    _name(grid[0, 0], "input", image)
    for line, (name, part, value) in zip(grid[1:], lines, strict=True):
        limit = float(np.abs(value).max()) or 1.0
        for axes, channel in zip(line, value[part * columns : (part + 1) * columns], strict=False):
            axes.imshow(channel, cmap="RdBu_r", vmin=-limit, vmax=limit)
        if part == 0:
            _name(line[0], name, value)
    return figure, (
        f"The first test image of {name_of(dataset)} and the output of every layer of fcnn's trained LeNet-5 up to the "
        "dense layers; red is positive, blue negative, each layer on a scale of its own. Channels × height × width."
    )


def _name(axes: Axes, layer: str, value: np.ndarray[Any, Any]) -> None:
    axes.set_ylabel(f"{layer}\n{'×'.join(map(str, value.shape))}", fontsize=9, color=INK)
