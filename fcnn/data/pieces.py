"""The pieces of ink on a sheet: which make one figure, and that figure by itself."""

import numpy as np

from fcnn.data.components import Integers, Mask, boxes, join
from fcnn.data.ink import Ink, shaped, whole_figure
from fcnn.data.strokes import thickened
from fcnn.values.arrays import NDArray

MOST_PIECES = 1_500
"""Of ink on a sheet: each is compared with each."""


def figures_of(ink: Ink) -> tuple[Integers, Integers]:
    """The box of each piece of ink, (n, 4), and the number of the figure that it belongs to, int64 (n,), from 0.

    Pieces are of one figure where they are near and are no two figures side by side: one is small, or they stand above
    one another and are together no taller than a figure, or their boxes overlap, as the two strokes of a 4.
    """
    box = boxes(ink.labels, ink.count)
    left, top, right, bottom = box.T
    wide, high = right - left, bottom - top
    size = np.maximum(wide, high)
    figure = whole_figure(size)
    apart_x = np.maximum(left[:, None], left) - np.minimum(right[:, None], right)  # negative: they overlap
    apart_y = np.maximum(top[:, None], top) - np.minimum(bottom[:, None], bottom)
    together = np.maximum(bottom[:, None], bottom) - np.minimum(top[:, None], top)
    across = np.maximum(right[:, None], right) - np.minimum(left[:, None], left)
    is_near = np.maximum(apart_x, apart_y) <= 0.2 * figure
    is_whole = np.maximum(together, across) <= 1.4 * figure
    is_small = np.minimum(size[:, None], size) < 0.5 * figure
    is_stacked = -apart_x >= 0.5 * np.minimum(wide[:, None], wide)
    overlap = np.maximum(-apart_x, 0) * np.maximum(-apart_y, 0)
    is_crossed = overlap >= 0.3 * np.minimum((wide * high)[:, None], wide * high)
    # A ruled line that was taken away took the end of a stroke along it, too.
    is_touching = np.maximum(apart_x, apart_y) <= (0.2 if "lines removed" in ink.notes else 0.06) * figure
    pairs = is_near & is_whole & (is_stacked | is_crossed | (is_small & is_touching))
    return box, join(len(box), pairs)


def figure_on_black(ink: Ink, pieces: Mask) -> tuple[NDArray[np.uint8], bool]:
    """A figure, light on black with a margin, uint8 (H, W); and whether its strokes were thickened.

    Args:
        pieces: which pieces of the ink are the figure's, bool (n,), at least one.
    """
    mask = np.concatenate([[False], pieces])[ink.labels]
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    # With the grey rim of its strokes.
    part = slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)
    figure, is_thickened = thickened(shaped(ink.level[part], mask[part]))
    return np.pad(np.rint(figure * 255).astype(np.uint8), max(figure.shape)), is_thickened
