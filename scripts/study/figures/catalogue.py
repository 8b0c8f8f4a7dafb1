"""The table of figures, and saving them. Nothing global is touched, and pyplot is not used."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

import fcnn
from fcnn.values.files import replacing
from study.figures import network, sweeps, training
from study.figures.plot import Picture, Plot, Study
from study.findings.wording import name_of

FIGURES = {
    "accuracy": Plot("Accuracy curves", partial(training.draw_curves, kind="accuracy"), Study.details),
    "loss": Plot("Loss curves", partial(training.draw_curves, kind="loss"), Study.details),
    "confusion": Plot("Confusion matrices", training.draw_confusion, Study.details),
    "mistakes": Plot("Confident mistakes", training.draw_mistakes, Study.arrays_of),
    "reliability": Plot("Reliability", training.draw_reliability, lambda s, d: d in s.summary["reliability"]),
    "filters": Plot("First-layer filters", network.draw_filters, Study.arrays_of),
    "filters_over_training": Plot("The filters as they change", network.draw_filters_over_training, Study.arrays_of),
    "feature_maps": Plot("One image on its way through the network", network.draw_feature_maps, network.maps_of),
    "batch_size": Plot("Impact of batch size", sweeps.draw_batch_size, lambda s, d: s.summary["batch_sizes"]),
    "grid": Plot("Accuracy by training size, initialisation and framework", sweeps.draw_grid, sweeps.rows_of),
    "effects": Plot("What makes the difference", sweeps.draw_effects, lambda s, d: s.summary["effects"]),
    "parting": Plot("How the trajectories part", sweeps.draw_parting, lambda s, d: s.summary["parting"]),
    "ablations": Plot("Ablations", sweeps.draw_ablations, lambda s, d: s.summary["ablations"]),
}
"""All figures of the main data set, by the names of their files."""

REPEATED = ("accuracy", "loss", "confusion", "mistakes", "reliability")
"""Those that are drawn for the other data sets, too."""


def save_figures(
    results: Mapping[str, Any],
    arrays: Mapping[str, Mapping[str, np.ndarray[Any, Any]]],
    images: Callable[[str], fcnn.Dataset],
    folder: Path,
) -> dict[str, Picture]:
    """Draw every figure for which there are results, each as PNG (150 dpi) and SVG: the pictures by the figure's name.

    The files' bytes are a function of the results and matplotlib's version: no dates, no random identifiers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = Study(results, arrays, images)
    return {name: _saved(plot, study, dataset, folder / name) for name, dataset, plot in drawable(study)}


def drawable(study: Study) -> Iterator[tuple[str, str, Plot]]:
    """(name, data set, plot) of each figure that can be drawn."""
    for dataset in study.summary["datasets"]:
        for name, plot in FIGURES.items():
            is_main = dataset == study.summary["main"]
            if (is_main or name in REPEATED) and plot.available(study, dataset):
                yield figure_name(study, name, dataset), dataset, plot


def figure_name(study: Study, name: str, dataset: str) -> str:
    """The name of a data set's figure: the main data set's have the plain names."""
    return name if dataset == study.summary["main"] else f"{name}_{dataset}"


def _saved(plot: Plot, study: Study, dataset: str, path: Path) -> Picture:
    figure, caption = plot.draw(study, dataset)
    png, svg = path.with_suffix(".png"), path.with_suffix(".svg")
    with replacing(png) as file:
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    figure.set_layout_engine("none")  # it is laid out; doing so again would take as long
    with replacing(svg) as file, matplotlib.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(plot.title, caption, f"{plot.title}, {name_of(dataset)}. {caption}", png, svg)
