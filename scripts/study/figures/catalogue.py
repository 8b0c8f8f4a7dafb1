"""The table of figures, and saving them. Nothing global is touched, and pyplot is not used."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

import fcnn
from fcnn.values.files import replacing
from study.figures.drawing import Plot, Study, has_arrays, has_details
from study.figures.network import (
    caption_feature_maps,
    caption_filters,
    caption_filters_over_training,
    draw_feature_maps,
    draw_filters,
    draw_filters_over_training,
    has_maps,
)
from study.figures.sweeps import (
    caption_ablations,
    caption_batch_size,
    caption_effects,
    caption_grid,
    caption_parting,
    draw_ablations,
    draw_batch_size,
    draw_effects,
    draw_grid,
    draw_parting,
    sweep_rows,
)
from study.figures.training import (
    caption_confusion,
    caption_curves,
    caption_mistakes,
    caption_reliability,
    draw_confusion,
    draw_curves,
    draw_mistakes,
    draw_reliability,
)


def save_figures(
    results: Mapping[str, Any],
    arrays: Mapping[str, Mapping[str, np.ndarray[Any, Any]]],
    images: Callable[[str], fcnn.Dataset],
    folder: Path,
) -> dict[str, tuple[Path, Path]]:
    """Draw every figure for which there are results, each as PNG (150 dpi) and SVG: the paths by the figure's name.

    The files' bytes are a function of the results and matplotlib's version: no dates, no random identifiers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    saved = {}
    for name, _, figure in drawn(Study(results, arrays, images)):
        png, svg = folder / f"{name}.png", folder / f"{name}.svg"
        with replacing(png) as file:
            figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
        figure.set_layout_engine("none")  # it is laid out; doing so again would take as long
        with replacing(svg) as file, matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        saved[name] = (png, svg)
    return saved


def entries(study: Study, every: bool = False) -> list[tuple[str, str, Plot]]:
    """(name, data set, plot) of each figure that can be drawn (or of `every` one), in the page's order."""
    main, *others = study.summary["datasets"] or [None]
    everything = [(name, main, plot) for name, plot in FIGURES.items()]
    everything += [(f"{name}_{dataset}", dataset, FIGURES[name]) for dataset in others for name in REPEATED]
    return [(name, dataset, plot) for name, dataset, plot in everything if every or plot.available(study, dataset)]


def drawn(study: Study) -> Any:
    """(name, caption, figure) of each, one at a time."""
    for name, dataset, plot in entries(study):
        yield name, plot.caption(study, dataset), plot.draw(study, dataset)


FIGURES: dict[str, Plot] = {
    "accuracy": Plot(
        "Accuracy curves",
        lambda s, d: caption_curves(s, d, "accuracy"),
        lambda s, d: draw_curves(s, d, "accuracy"),
        has_details,
    ),
    "loss": Plot(
        "Loss curves", lambda s, d: caption_curves(s, d, "loss"), lambda s, d: draw_curves(s, d, "loss"), has_details
    ),
    "confusion": Plot("Confusion matrices", caption_confusion, draw_confusion, has_details),
    "filters": Plot(
        "First-layer filters",
        caption_filters,
        draw_filters,
        has_arrays,
    ),
    "mistakes": Plot("Confident mistakes", caption_mistakes, draw_mistakes, has_arrays),
    "batch_size": Plot(
        "Impact of batch size", caption_batch_size, draw_batch_size, lambda s, d: bool(s.summary["batch_sizes"])
    ),
    "feature_maps": Plot(
        "One image on its way through the network",
        caption_feature_maps,
        draw_feature_maps,
        has_maps,
    ),
    "filters_over_training": Plot(
        "The filters as they change",
        caption_filters_over_training,
        draw_filters_over_training,
        has_arrays,
    ),
    "reliability": Plot(
        "Reliability", caption_reliability, draw_reliability, lambda s, d: d in s.summary["reliability"]
    ),
    "grid": Plot(
        "Accuracy by training size, initialisation and framework",
        caption_grid,
        draw_grid,
        lambda s, d: bool(sweep_rows(s, d)),
    ),
    "effects": Plot(
        "What makes the difference", caption_effects, draw_effects, lambda s, d: bool(s.summary["effects"])
    ),
    "parting": Plot(
        "How the trajectories part", caption_parting, draw_parting, lambda s, d: bool(s.summary["parting"])
    ),
    "ablations": Plot("Ablations", caption_ablations, draw_ablations, lambda s, d: bool(s.summary["ablations"])),
}
"""All figures of the main data set, in order."""

REPEATED = ("accuracy", "loss", "confusion", "mistakes", "reliability")
"""Those that are drawn for the other data sets, too."""
