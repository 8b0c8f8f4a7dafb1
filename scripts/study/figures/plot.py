"""A figure as values: what it is drawn from, what it is, and what is left of it when it is drawn."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from matplotlib.figure import Figure

import fcnn


@attrs.frozen
class Study:
    """All that figures and tables are made from: the results, the detailed cells' arrays by key, data sets by name."""

    results: Mapping[str, Any]
    arrays: Mapping[str, Mapping[str, np.ndarray[Any, Any]]] = attrs.field(factory=dict)
    images: Callable[[str], fcnn.Dataset] = fcnn.data.load

    @property
    def summary(self) -> Mapping[str, Any]:
        """The derived numbers."""
        return self.results["summary"]  # type: ignore[no-any-return]

    def details(self, dataset: str) -> dict[str, Mapping[str, Any]]:
        """The detailed cell of each framework."""
        cells = [cell for cell in self.results["cells"] if cell["kind"] == "Training" and cell["config"]["detail"]]
        return {cell["config"]["framework"]: cell for cell in cells if cell["config"]["dataset"] == dataset}

    def arrays_of(self, dataset: str) -> dict[str, Mapping[str, np.ndarray[Any, Any]]]:
        """The arrays of those cells."""
        return {f: self.arrays[cell["key"]] for f, cell in self.details(dataset).items() if cell["key"] in self.arrays}


@attrs.frozen
class Plot:
    """A figure of a data set: its title, what gives it with its caption, and what is true where it can be drawn."""

    title: str
    draw: Callable[[Study, str], tuple[Figure, str]]
    available: Callable[[Study, str], Any]


@attrs.frozen
class Picture:
    """A figure that was drawn; `alt` is what it shows, for those who don't see it."""

    title: str
    caption: str
    alt: str
    png: Path
    svg: Path
