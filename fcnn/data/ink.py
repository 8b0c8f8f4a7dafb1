"""What is ink on a sheet of paper: without its shading, shadows, noise, ruled lines and a scanner's dark frame.

    ink = find_ink(grey)      # grey levels, (H, W)
    ink.level                 # 0 on paper, about 1 in full ink

NumPy alone, and no loop over pixels: a page of 1600 x 1200 takes about a second.
"""

from typing import Any

import attrs
import numpy as np

from fcnn.data.components import Integers, Mask, boxes, label, run_lengths
from fcnn.values.arrays import NDArray
from fcnn.values.checks import told
from fcnn.values.packages import expect_pillow

Floats = NDArray[np.float32]

_LEAST_CONTRAST = 16 / 255  # of the paper's light; less is an empty sheet with a camera's or JPEG's noise
_CLEAR = 16  # the contrast in standard deviations of the noise that needs no smoothing
_MOST_SMOOTHING = 3  # pixels on each side
_NOISY = 0.02  # of full ink: a standard deviation that a bounding box can't do with
_WEAK, _STRONG = 0.3, 0.5  # of full ink: what belongs to a stroke, and what a stroke has somewhere
_DEVIATIONS = 4  # of the paper, beyond which it is no paper
_WINDOW = 4  # strokes are narrower than this part of the sheet's shorter side, shadows wider
_FINE = 800  # pixels of the longer side on which the paper is found
_COARSE = 48  # and on which is told whether it is light or dark
_SPECK = 0.15  # of the height of the largest figures: what is smaller is dirt, a dot or a comma
_PART = 0.25  # of a piece's ink is strong; a ruled line's fainter one is so by chance
_LEAST_SIZE = 6  # pixels, or a hundredth of the sheet: what is smaller is dirt, also where nothing else is there
_CUT = 0.5  # the same at the sheet's edge, where shadows end and neighbours are cut off
_TOUCHES = 0.4  # of a side of the sheet: a frame lies along as much of it
_RULE = 0.35  # of a sheet's width: a ruled line is as long
_COVERED = 0.5  # of a ruled line's length is there to be seen
_SLOPE, _SLOPES = 0.2, 50  # rows a column, either way, and how many slopes are tried
_LEAST_SHEET = 60  # pixels of a side: on smaller pictures strokes are as thin as lines
_MOST_RULES = 100  # each way
_RULES = 3  # make a ruled sheet
_HAIR = 3  # pixels, or an eightieth of the sheet: rules are no thicker


@attrs.frozen(eq=False)
class Ink:
    """The ink on a sheet.

    level: how much there is, float32 (H, W): 0 on paper, 1 at full strength and at times a little more.
    labels: int64 (H, W): the pieces that hang together, numbered from 1; 0 on paper.
    count: how many pieces there are.
    is_dark: whether the ink is darker than the paper.
    notes: what had to be taken away: of "shading removed", "noise removed", "lines removed", "frame removed"
        and "specks removed" those that were.
    """

    level: Floats = attrs.field(repr=False)
    labels: Integers = attrs.field(repr=False)
    count: int
    is_dark: bool
    notes: tuple[str, ...]


def find_ink(grey: Floats, is_dark: bool | None = None) -> Ink:
    """Tell ink from paper.

    The paper's light is a grey closing over a quarter of the sheet (Serra, "Image Analysis and Mathematical
    Morphology", 1982): what is dark and narrower than that is ink, the edge of a shadow stays where it is. Ink is what
    is darker by more than 4 standard deviations of the paper, estimated by the median of deviations, and by 0.3 of full
    ink, and hangs together with 0.5 of it (Canny's hysteresis).

    Args:
        grey: float32 (H, W), 0 to 255.
        is_dark: whether ink is darker than paper; None: to which side the sheet is skewed.
    """
    if not isinstance(grey, np.ndarray) or grey.ndim != 2 or grey.dtype != np.float32 or not grey.size:
        raise TypeError(f"grey is an array of float32 (H, W), got {told(grey)}")
    notes = []
    smooth = _smoothed(grey)
    if is_dark is None:
        is_dark = _is_ink_dark(smooth)
    light = smooth if is_dark else 255 - smooth
    paper = _paper(light)
    if np.ptp(np.percentile(paper, (2, 98))) > 0.1 * np.median(paper):
        notes.append("shading removed")
    # Paper of half the light has ink of half the contrast; where light ink is on a dark ground, light is added.
    level = (paper - light) / np.maximum(paper, 32) if is_dark else (paper - light) / 255
    level -= np.median(level)
    noise = 1.4826 * float(np.median(np.abs(level))) + 1e-3
    most = float(np.partition(level.ravel(), -min(level.size, 10))[-min(level.size, 10) :].min())
    empty = Ink(np.zeros_like(level), np.zeros(level.shape, np.int64), 0, is_dark, tuple(notes))
    if most < max(_LEAST_CONTRAST, 6 * noise):
        return empty
    inked = level[level > max(0.3 * most, _DEVIATIONS * noise)]
    full = float(np.percentile(inked, 95)) if inked.size else most
    if smooth is not grey or noise > _NOISY * full:
        notes.append("noise removed")
    mask = level > max(_WEAK * full, _DEVIATIONS * noise)
    rules = _rules(mask) | _rules(np.ascontiguousarray(mask.T)).T
    if rules.any():
        notes.append("lines removed")
        mask &= ~rules
    labels, count = label(_strong(mask, level > _STRONG * full))
    keep = ~_is_frame(labels, count)
    if not keep.all():
        notes.append("frame removed")
    is_speck = _are_specks(labels, count, keep)
    if (is_speck & keep).any():
        notes.append("specks removed")
    mask = np.concatenate([[False], keep & ~is_speck])[labels]
    labels, count = label(mask)
    near = _greatest(mask, 3)  # with the grey rim of strokes
    if rules.any():
        near &= mask | ~_greatest(rules, 5)
    return Ink(np.where(near, np.maximum(level / full, 0), 0), labels, count, is_dark, tuple(notes))


def shaped(level: Floats, mask: Mask) -> Floats:
    """One figure's ink with sharp edges, float32 (H, W), 0 to 1: half of its own full strength becomes a half.

    Args:
        level: of `Ink`, a part of the sheet, (H, W).
        mask: which pixels are the figure's, bool (H, W); a rim of one pixel around them is taken, too.
    """
    own = float(np.percentile(level[mask], 75))
    sharp: Floats = np.clip((level * _greatest(mask, 3) / own - 0.3) / 0.4, 0, 1).astype(np.float32)
    return sharp


def _smoothed(grey: Floats) -> Floats:
    """The sheet without noise and dithering, as far as its strokes need it; the sheet itself if they don't."""
    contrast = float(np.ptp(np.percentile(grey, (0.5, 99.5))))
    smooth = grey
    is_dithered = _is_dithered(grey)  # its noise may be all in the strokes' rims
    for radius in range(1, _MOST_SMOOTHING + 1):
        is_clear = _noise(smooth) * _CLEAR <= contrast and not (is_dithered and radius == 1)
        if is_clear or min(grey.shape) < 40 * radius:
            break
        smooth = _mean(_mean(grey, radius), radius)
    return smooth


def _is_dithered(grey: Floats) -> bool:
    """Whether a sheet is black and white, and a hundredth of its ink or more is single dots."""
    black, white = grey == grey.min(), grey == grey.max()
    if min(grey.shape) < 3 or not (black | white).all():
        return False
    beside = [black[:-2, 1:-1], black[2:, 1:-1], black[1:-1, :-2], black[1:-1, 2:]]
    single = np.all([side != black[1:-1, 1:-1] for side in beside], axis=0)
    return bool(single.sum() > 0.01 * min(black.sum(), white.sum()))


def _noise(grey: Floats) -> float:
    """The noise's standard deviation (Immerkær, "Fast noise variance estimation", 1996), by a quantile for its mean.

    Edges of strokes are a small part of a sheet; of dithering, the few dots of light grey are to be seen.
    """
    if min(grey.shape) < 3:
        return 0.0
    rows = grey[:-2] - 2 * grey[1:-1] + grey[2:]
    both = np.abs(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:])
    return float(np.percentile(both, 80)) / (6 * 1.2816)


def _mean(image: Floats, radius: int) -> Floats:
    """The mean over squares of 2 * radius + 1 pixels."""
    for axis in (0, 1):
        rim = [(radius + 1, radius) if a == axis else (0, 0) for a in (0, 1)]
        sums = np.cumsum(np.pad(image, rim, "edge"), axis=axis, dtype=np.float64)
        n = image.shape[axis]
        upper = np.take(sums, range(2 * radius + 1, 2 * radius + 1 + n), axis)
        image = ((upper - np.take(sums, range(n), axis)) / (2 * radius + 1)).astype(np.float32)
    return image


def _greatest(image: NDArray[Any], window: int) -> NDArray[Any]:
    """The maximum over squares of `window` pixels, which is odd; in log2(window) steps."""
    for axis in (0, 1):
        rim = [(window // 2, window // 2) if a == axis else (0, 0) for a in (0, 1)]
        padded, n, reach = np.pad(image, rim, "edge"), image.shape[axis], 1
        while reach < window:
            step = min(reach, window - reach)
            length = padded.shape[axis]
            padded = np.maximum(np.take(padded, range(length - step), axis), np.take(padded, range(step, length), axis))
            reach += step
        image = padded if padded.shape[axis] == n else np.take(padded, range(n), axis)
    return image


def _resized(image: Floats, shape: tuple[int, int]) -> Floats:
    expect_pillow()
    from PIL import Image

    # Pillow widens the filter where it scales down, so that every pixel counts.
    return np.array(Image.fromarray(image).resize(shape[::-1], Image.Resampling.BILINEAR))


def _at_most(image: Floats, longest: int) -> Floats:
    scale = longest / max(image.shape)
    height, width = (max(1, round(n * scale)) for n in image.shape)
    return image if scale >= 1 else _resized(image, (height, width))


def _is_ink_dark(grey: Floats) -> bool:
    """Whether what stands out from the median around it is darker: ink is less than half of its surroundings."""
    small = _at_most(grey, _COARSE)
    reach = max(1, min(small.shape) // 4)
    padded = np.pad(small, reach, "symmetric")
    around = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1))
    usual = np.median(around, axis=(2, 3)).astype(np.float32)
    return float(((grey - _resized(usual, grey.shape)) ** 3).mean()) < 0


def _paper(light: Floats) -> Floats:
    """The light of the paper below the ink."""
    small = _at_most(light, _FINE)
    window = max(3, min(small.shape) // _WINDOW) | 1
    even = _mean(small, max(1, min(small.shape) // 200))  # a maximum takes noise for paper
    closed = -_greatest(-_greatest(even, window), window)
    return closed if closed.shape == light.shape else _resized(closed, light.shape)


def _strong(weak: Mask, strong: Mask) -> Mask:
    """The pieces of one mask of which another has a part, and not by chance: hysteresis."""
    labels, count = label(weak)
    part = np.bincount(labels[strong & weak], minlength=count + 1) / np.bincount(labels.ravel(), minlength=count + 1)
    return (part > _PART)[labels] & weak


def _rules(mask: Mask) -> Mask:
    """The horizontal ruled lines on a sheet, a little skewed or bent as they may be, without the strokes across them.

    A line is thin, long, and on a parabola. There are three or more, or they go from side to side: the bar of a 7 may
    be thin and long, too. Where a stroke crosses a line, the ink is not thin: there it stays.
    """
    height, width = mask.shape
    if min(mask.shape) < _LEAST_SHEET:
        return np.zeros_like(mask)
    thickness = run_lengths(np.ascontiguousarray(mask.T)).T
    row, column = np.nonzero(mask & (thickness <= max(_HAIR, min(mask.shape) // 80)))
    slopes = np.linspace(-_SLOPE, _SLOPE, 2 * _SLOPES + 1)
    bin_height = max(3.0, height / 200)
    lines: list[tuple[NDArray[np.float64], int, int, int]] = []
    for _ in range(_MOST_RULES):
        step = max(1, len(row) // 20_000)
        count, slope, start = max(_most_along(row[::step], column[::step], slope, bin_height) for slope in slopes)
        if count * step < _COVERED * _RULE * width:
            break
        lines_through = [_fitted(row, column, np.array([slope, start]), degree, bin_height) for degree in (1, 2)]
        line, near = max(lines_through, key=lambda pair: int(pair[1].sum()))
        if not near.any():
            break
        columns, own = np.unique(column[near]), int(np.median(thickness[row[near], column[near]]))
        first, last = np.percentile(columns, (1, 99))
        if len(columns) >= _COVERED * (last - first) and last - first >= _RULE * width:
            lines.append((line, int(columns[0]), int(columns[-1]) + 1, own))
        near |= np.abs(row - np.polyval(line, column)) <= bin_height
        row, column = row[~near], column[~near]
    if len(lines) < _RULES:
        lines = [line for line in lines if line[1] <= 0.02 * width and line[2] >= 0.98 * width]

    found = np.zeros_like(mask)
    for line, start_column, stop_column, own in lines:
        across = np.arange(start_column, stop_column)
        rows = np.rint(np.polyval(line, across)).astype(np.int64)[:, None] + np.arange(-own - 1, own + 2)
        inside = (rows >= 0) & (rows < height)
        rows, columns = rows[inside], np.broadcast_to(across[:, None], inside.shape)[inside]
        is_thin = mask[rows, columns] & (thickness[rows, columns] <= 2 * own + 1)
        found[rows[is_thin], columns[is_thin]] = True
    return found


def _fitted(
    row: Integers, column: Integers, line: NDArray[np.float64], degree: int, bin_height: float
) -> tuple[NDArray[np.float64], Mask]:
    """The polynomial of a degree through what lies along a line, by least squares of what is ever nearer; and that."""
    for reach in (2 * bin_height, 2 * bin_height, bin_height, 3.0):
        near = np.abs(row - np.polyval(line, column)) <= reach
        if len(np.unique(column[near])) <= degree:
            break
        line = np.polyfit(column[near], row[near], degree)
    return line, np.abs(row - np.polyval(line, column)) <= 3


def _most_along(row: Integers, column: Integers, slope: float, bin_height: float) -> tuple[int, float, float]:
    """Of all lines of a slope that which most pixels are on: how many, the slope, and its row in column 0 (Hough)."""
    start = (row - slope * column) / bin_height
    low = np.floor(start.min()) if start.size else 0.0
    counts = np.bincount((start - low).astype(np.int64), minlength=2)
    both = counts[:-1] + counts[1:]
    best = int(both.argmax())
    return int(both[best]), slope, float((best + 1 + low) * bin_height)


def _is_frame(labels: Integers, count: int) -> Mask:
    """Which pieces lie along a side of the sheet, if there is something inside: a scanner's frame, and no tight cut."""
    frame = np.zeros(count + 1, bool)
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        frame |= np.bincount(side, minlength=count + 1) >= _TOUCHES * len(side)
    frame = frame[1:]
    inside = _sizes(labels, count)[~_at_edge(labels, count)]
    return frame if inside.size and inside.max() > 0.05 * min(labels.shape) else np.zeros_like(frame)


def _are_specks(labels: Integers, count: int, keep: Mask) -> Mask:
    """Which pieces are too small for a figure or a part of one; at the sheet's edge a half of a figure is too small."""
    sizes = _sizes(labels, count)
    if not keep.any():
        return np.zeros_like(keep)
    least = whole_figure(sizes[keep]) * np.where(_at_edge(labels, count), _CUT, _SPECK)
    return sizes < np.maximum(max(_LEAST_SIZE, min(labels.shape) / 100), least)


def _at_edge(labels: Integers, count: int) -> Mask:
    """Which pieces touch the sheet's edge."""
    edge = np.zeros(count + 1, bool)
    edge[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    return edge[1:]


def _sizes(labels: Integers, count: int) -> Integers:
    """The greater side of each piece's box."""
    box = boxes(labels, count)
    sizes: Integers = np.maximum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1])
    return sizes


def whole_figure(sizes: Integers) -> float:
    """The size of a whole figure among pieces: half of all area is of pieces that are smaller; most pieces are dirt."""
    ordered = np.sort(sizes)
    weight = np.cumsum(ordered.astype(float) ** 2)
    return float(ordered[np.searchsorted(weight, weight[-1] / 2)])
