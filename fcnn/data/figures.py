"""The figures on a sheet: where each is, in reading order, and made into an image such as MNIST's.

    figures = find_figures(open_picture("sheet.jpg"))
    figures[0].box, figures[0].pixels          # (left, top, right, bottom); uint8 (1, 28, 28)

What a network says of them is `fcnn.training.reading`'s. Figures that touch one another are not separated.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np

from fcnn.data.cleaning import as_sheet
from fcnn.data.components import Integers, join
from fcnn.data.ink import find_ink
from fcnn.data.pictures import (
    MOST_PIXELS,
    PictureError,
    Pixels,
    check_picture,
    fit_figure,
    over_white,
)
from fcnn.data.pieces import MOST_PIECES, figure_on_black, figures_of
from fcnn.values.arrays import frozen
from fcnn.values.checks import told

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Box = tuple[int, int, int, int]

_BOX = 20  # pixels, MNIST's
_WIDEST = 1.5  # times its height: 0.3 % of MNIST's test digits are wider
_SMALLEST, _LARGEST = 0.4, 2.5  # times the height of most figures on the sheet
_MOST_PIECES = 5
_BLUE, _RED = (0, 90, 181), (200, 45, 20)  # which the colour-blind tell apart


@attrs.frozen(eq=False)
class Figure:
    """A figure on a sheet.

    box: (left, top, right, bottom) in the picture's pixels, the last two beyond it.
    pixels: as MNIST's images are, uint8 (1, 28, 28).
    flaw: why its shape can't be a digit's; empty if it can.
    notes: what was done to it: of "joined of 2 pieces", "thickened" those that were, after what was done to the sheet.
    """

    box: Box
    pixels: Pixels = attrs.field(repr=False)
    flaw: str = ""
    notes: tuple[str, ...] = ()


def find_figures(picture: "Picture", invert: bool | None = None) -> list[Figure]:
    """The figures on a picture, line by line and from left to right; none if it is empty.

    A sheet of more than 1600 pixels is scaled down first. Shading, shadows, noise, dithering, ruled lines, a scanner's
    frame and specks are taken away (`fcnn.data.ink`). The pieces of what remains are joined where they make one figure,
    such as the top of a 5 that stands apart. Each figure is then made into an image by MNIST's recipe (`fit_figure`),
    its strokes thickened where a pen's are thinner than MNIST's. Lines may be skewed, as the slope between neighbours
    tells. Many thin strokes in a row, such as a line of 1s in a thin pen, may be taken for a ruled line.

    Args:
        picture: of any size up to `MOST_PIXELS`, and of any mode.
        invert: whether the ink is darker than the paper; None: as the sheet looks.

    Raises:
        PictureError: it is too large, or has too many pieces of ink.
        TypeError: it is no picture.
        ImportError: Pillow is missing.

    >>> from PIL import Image
    >>> sheet = Image.new("L", (300, 200), "white")
    >>> for left, top in ((200, 30), (40, 20), (50, 130)):
    ...     sheet.paste("black", (left, top, left + 10, top + 50))
    >>> [figure.box for figure in find_figures(sheet)]
    [(40, 20, 50, 70), (200, 30, 210, 80), (50, 130, 60, 180)]
    """
    check_picture(picture)
    if invert is not None and not isinstance(invert, bool):
        raise TypeError(f"invert is True, False or None, got {told(invert)}")
    if picture.width * picture.height > MOST_PIXELS:
        raise PictureError(f"it is more than {MOST_PIXELS:,} pixels; scale it down")
    from PIL import Image

    grey = as_sheet(over_white(picture)[0].convert("L"))
    ink = find_ink(np.asarray(grey, np.float32), invert)
    if not ink.count:
        return []
    if ink.count > MOST_PIECES:
        raise PictureError(
            f"{ink.count:,} pieces of ink are on it, at most {MOST_PIECES:,} are looked at; "
            "cut out the part that is meant"
        )
    pieces, groups = figures_of(ink)
    box = np.array([_around(pieces[groups == number]) for number in range(groups.max() + 1)])
    height = float(np.median(box[:, 3] - box[:, 1]))
    across, down = picture.width / grey.width, picture.height / grey.height
    found = []
    for number in _reading_order(box):
        many = int((groups == number).sum())
        figure, is_thickened = figure_on_black(ink, groups == number)
        image = np.array(fit_figure(Image.fromarray(figure), _BOX, by_mass=True))[None]
        notes = [f"joined of {many} pieces"] if many > 1 else []
        notes += ["thickened"] if is_thickened else []
        left, top, right, bottom = box[number].tolist()
        place = (int(left * across), int(top * down), int(np.ceil(right * across)), int(np.ceil(bottom * down)))
        flaw = _flaw(right - left, bottom - top, height if len(box) > 2 else 0, many)
        found.append(Figure(place, frozen(image), flaw, (*ink.notes, *notes)))
    return found


def draw_boxes(picture: "Picture", figures: Sequence[Figure], labels: Sequence[str | None]) -> "Picture":
    """A copy of a picture, in colour, with a box around each figure and its label above; for None "none", in red.

    Labels that find no place above their box stand below it; none is cut off at the picture's sides.

    >>> from PIL import Image
    >>> sheet = Image.new("L", (300, 200), "white")
    >>> sheet.paste("black", (40, 20, 50, 70))
    >>> draw_boxes(sheet, find_figures(sheet), ["1"]).size
    (300, 200)
    """
    check_picture(picture)
    if not isinstance(figures, (list, tuple)) or not all(isinstance(figure, Figure) for figure in figures):
        raise TypeError(f"figures are a list of Figure, as find_figures gives it, got {told(figures)}")
    if not isinstance(labels, (list, tuple)) or not all(label is None or isinstance(label, str) for label in labels):
        raise TypeError(f"labels are a list of text, or None for none, got {told(labels)}")
    if len(figures) != len(labels):
        raise ValueError(f"draw_boxes expects one label a figure, got {len(figures)} figures and {len(labels)} labels")
    from PIL import ImageDraw, ImageFont

    copy = over_white(picture)[0].convert("RGB")
    copy = copy.copy() if copy is picture else copy
    draw = ImageDraw.Draw(copy)
    line = max(1, round(max(copy.size) / 500))
    tall = float(np.median([figure.box[3] - figure.box[1] for figure in figures])) if figures else 0
    size = max(10, min(round(tall / 3), min(copy.size) // 8), round(max(copy.size) / 70))
    font = ImageFont.load_default(size)
    for figure, label in zip(figures, labels, strict=True):
        colour = _BLUE if label is not None else _RED
        left, top, right, bottom = figure.box
        gap = 2 * line
        left, top, right, bottom = left - gap, top - gap, right - 1 + gap, bottom - 1 + gap
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, copy.width - 1), min(bottom, copy.height - 1)
        draw.rectangle((left, top, right, bottom), outline="white", width=2 * line)
        draw.rectangle((left, top, right, bottom), outline=colour, width=line)
        text = "none" if label is None else label
        x0, y0, x1, y1 = draw.textbbox((0, 0), text, font=font)
        wide, high = round(x1 - x0) + 2 * gap, round(y1 - y0) + 2 * gap
        x = max(0, min(left, copy.width - wide))
        y = top - high if top >= high else min(bottom + 1, copy.height - high)
        y = max(0, y)
        draw.rectangle((x, y, x + wide - 1, y + high - 1), fill=colour, outline="white")
        draw.text((x + gap - x0, y + gap - y0), text, fill="white", font=font)
    return copy


def _around(box: Integers) -> Integers:
    return np.concatenate([box[:, :2].min(axis=0), box[:, 2:].max(axis=0)])


def _flaw(wide: int, high: int, usual: float, pieces: int) -> str:
    """Why a figure's shape can't be a digit's."""
    if wide > _WIDEST * high:
        return "wider than a digit; figures that touch are not separated"
    if usual and not _SMALLEST <= high / usual <= _LARGEST:
        return "smaller than the others" if high < usual else "larger than the others"
    if pieces > _MOST_PIECES:
        return "in too many pieces"
    return ""


def _reading_order(box: Integers) -> list[int]:
    """The numbers of the boxes, line by line and from left to right.

    The sheet's slope is the median of those between each figure and its next neighbour to the right; along it, figures
    whose heights overlap by half are on one line.
    """
    x, y = (box[:, 0] + box[:, 2]) / 2, (box[:, 1] + box[:, 3]) / 2
    high = (box[:, 3] - box[:, 1]).astype(float)
    slope = 0.0
    for _ in range(2):  # again, with the neighbours that the first slope shows
        level = y - slope * x
        to_right = x - x[:, None]
        overlap = (high[:, None] + high) / 2 - np.abs(level - level[:, None])
        beside = (to_right > 0) & (overlap >= 0.5 * np.minimum(high[:, None], high))
        distance = np.where(beside, to_right, np.inf)
        follows = distance.argmin(axis=1)
        has_next = np.isfinite(distance.min(axis=1)) if len(x) > 1 else np.zeros(len(x), bool)
        if has_next.any():
            slope = float(np.median((y[follows] - y)[has_next] / (x[follows] - x)[has_next]))
    pairs = np.zeros((len(x), len(x)), bool)
    pairs[np.flatnonzero(has_next), follows[has_next]] = True
    line = join(len(x), pairs)
    level = y - slope * x
    middle = np.array([np.median(level[line == number]) for number in range(line.max() + 1)])
    return [int(number) for number in np.lexsort((x, middle[line]))]
