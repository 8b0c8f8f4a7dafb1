"""Photographs and scans of digits: what is taken away before a digit is looked at."""

from typing import TYPE_CHECKING

import numpy as np

from fcnn.data.ink import find_ink
from fcnn.data.pieces import MOST_PIECES, figure_on_black, figures_of

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SEVERAL = "several figures"
"""The step that says that a picture of a digit has more than one figure on it; the image is made of all together."""

_SHEET = 1600  # pixels: what finding figures looks at


def as_sheet(picture: "Picture") -> "Picture":
    """A greyscale picture of at most 1600 pixels on its longer side, scaled down if it is larger."""
    from PIL import Image

    longest = max(picture.size)
    if longest <= _SHEET:
        return picture
    width, height = (max(1, round(n * _SHEET / longest)) for n in picture.size)
    return picture.resize((width, height), Image.Resampling.BOX)


def cleaned(picture: "Picture", invert: bool | None) -> tuple["Picture", bool | None, list[str]]:
    """A greyscale picture without all that is neither paper nor figure, whether to invert it, and what was done.

    One that has nothing of that kind stays as it is, and so does one whose figure reaches its edge: in a picture that
    is cut so tightly little paper can be seen; and one with more pieces than a sheet of figures has.
    """
    from PIL import Image, ImageOps

    ink = find_ink(np.asarray(as_sheet(picture), np.float32))
    edge = [ink.labels[0], ink.labels[-1], ink.labels[:, 0], ink.labels[:, -1]]
    if not 0 < ink.count <= MOST_PIECES or np.concatenate(edge).any() or invert not in (None, ink.is_dark):
        return picture, invert, []
    figure, is_thickened = figure_on_black(ink, np.ones(ink.count, bool))
    steps = [*ink.notes, *(["thickened"] if is_thickened else [])]
    several = [SEVERAL] if figures_of(ink)[1].max() else []
    if not steps:
        return picture, invert, several
    clean = Image.fromarray(figure)
    return (ImageOps.invert(clean) if ink.is_dark else clean), ink.is_dark, steps + several
