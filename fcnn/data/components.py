"""Which pixels of a mask hang together: runs of pixels, and what touches what.

Labelling takes runs for its pieces, of which a page has some ten thousand, and joins those that touch by pointers that
jump: no loop over pixels (Shiloach & Vishkin, "An O(log n) parallel connectivity algorithm", 1982).
"""

from typing import NamedTuple

import numpy as np

from fcnn.values.arrays import NDArray
from fcnn.values.checks import told

Mask = NDArray[np.bool_]
Integers = NDArray[np.int64]


class Runs(NamedTuple):
    """The horizontal runs of a mask, from top to bottom: each one's row, first column, and column after its last."""

    row: Integers
    start: Integers
    stop: Integers


def runs(mask: Mask) -> Runs:
    """Every horizontal run of a mask (H, W).

    >>> [place.tolist() for place in runs(np.array([[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0]], bool))]
    [[0, 0, 2], [0, 3, 1], [2, 4, 3]]
    """
    rimmed = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
    rimmed[:, 1:-1] = mask
    edges = np.diff(rimmed, axis=1)
    row, start = np.nonzero(edges > 0)
    return Runs(row, start, np.nonzero(edges < 0)[1])


def run_lengths(mask: Mask) -> Integers:
    """How long the horizontal run through each pixel is, int64 (H, W); 0 where the mask is False."""
    found = runs(mask)
    length = found.stop - found.start
    lengths = np.zeros(mask.shape, np.int64)
    lengths[mask] = np.repeat(length, length)
    return lengths


def label(mask: Mask) -> tuple[Integers, int]:
    """Number what hangs together, diagonals included.

    Args:
        mask: bool (H, W).

    Returns:
        int64 (H, W): 0 where the mask is False, and 1 to n elsewhere, in the order of each component's first pixel; and
        n, how many there are.

    >>> label(np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]], bool))[0]
    array([[1, 0, 0, 2],
           [0, 1, 0, 2],
           [0, 0, 0, 0],
           [3, 3, 0, 0]])
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.ndim != 2:
        raise TypeError(f"mask is an array of bool (H, W), got {told(mask)}")
    found = runs(mask)
    which, count = _joined(len(found.row), *_touching(found, mask.shape[1]))
    labels = np.zeros(mask.shape, np.int64)
    labels[mask] = np.repeat(which + 1, found.stop - found.start)
    return labels, count


def boxes(labels: Integers, count: int) -> Integers:
    """The box of each component that `label` numbered, (n, 4): left, top, right and bottom, the last two beyond it."""
    found = runs(labels > 0)
    which = labels[found.row, found.start] - 1
    box = np.zeros((count, 4), np.int64)
    box[:, :2] = np.iinfo(np.int64).max
    np.minimum.at(box[:, 0], which, found.start)
    np.minimum.at(box[:, 1], which, found.row)
    np.maximum.at(box[:, 2], which, found.stop)
    np.maximum.at(box[:, 3], which, found.row + 1)
    return box


def join(count: int, pairs: NDArray[np.bool_]) -> Integers:
    """The number of the group of each of `count` things, of which those that `pairs` (n, n) names belong together."""
    return _joined(count, *np.nonzero(pairs))[0]


def _touching(found: Runs, width: int) -> tuple[Integers, Integers]:
    """The runs that touch one of the next row, each pair once: the numbers of the upper and of the lower."""
    line = width + 2  # so that a run's ends stay apart from those of other rows
    first = np.searchsorted(found.row * line + found.stop, (found.row + 1) * line + found.start)
    beyond = np.searchsorted(found.row * line + found.start, (found.row + 1) * line + found.stop, "right")
    many = np.maximum(beyond - first, 0)
    upper = np.repeat(np.arange(len(many)), many)
    lower = np.arange(len(upper)) - np.repeat(np.cumsum(many) - many, many) + np.repeat(first, many)
    return upper, lower


def _joined(count: int, one: Integers, other: Integers) -> tuple[Integers, int]:
    """Each thing's group, 0 to n - 1 in the order of their first things, and n; one[i] and other[i] share theirs."""
    root = np.arange(count)
    while True:
        low, high = np.minimum(root[one], root[other]), np.maximum(root[one], root[other])
        if (low == high).all():
            break
        np.minimum.at(root, high, low)
        apart = low < high
        one, other = one[apart], other[apart]
        while not np.array_equal(further := root[root], root):
            root = further
    first, which = np.unique(root, return_inverse=True)
    return which, len(first)
