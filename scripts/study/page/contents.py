"""The page's order, as data: its sections, and the sentences, tables and figures of each."""

from collections.abc import Callable

import attrs

from study.figures.catalogue import REPEATED
from study.figures.plot import Study
from study.page import tables, text
from study.page.blocks import Block

Part = Block | str | Callable[[Study, str], Block | None]
"""A block as it is, the name of a figure, or what is made of the results for a data set."""


@attrs.frozen
class Section:
    """A part of the page; without a heading it stands once for each data set but the main one, under its name."""

    heading: str
    anchor: str
    parts: tuple[Part, ...]


OPENING: tuple[Part, ...] = (text.notice, text.answer)

EXPLANATION = (
    text.EXPLANATION,
    tables.effects,
    "effects",
    "grid",
    tables.variance,
    tables.reached,
    tables.grid,
    "parting",
    tables.parting,
)

TRAINING = (
    "accuracy",
    "loss",
    "confusion",
    "mistakes",
    "batch_size",
    "reliability",
    tables.classification,
    tables.batch_sizes,
)

METHOD = (text.gradient_checks, tables.gradient_checks, "ablations", tables.ablations)

SECTIONS = (
    Section("Results", "results", (tables.headline, text.comparison, text.timing, text.ACCURACIES)),
    Section("The report's claims", "claims", (text.CLAIMS, tables.claims)),
    Section("What explains 95.3 against 92.2?", "explanation", EXPLANATION),
    Section("Training", "training", TRAINING),
    Section("Inside the network", "inside", (text.explorer, "filters", "filters_over_training", "feature_maps")),
    Section("Parts of the method", "method", METHOD),
    Section("", "", (*REPEATED, tables.classification)),
    Section("How it was measured", "measured", (text.measured,)),
    Section("Run it again", "again", (text.again, text.AGAIN)),
)
