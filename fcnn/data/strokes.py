"""How thick the strokes of a figure are, and thin ones made as thick as those of MNIST's digits."""

import numpy as np

from fcnn.values.arrays import NDArray
from fcnn.values.packages import expect_pillow

Floats = NDArray[np.float32]

_THIN = 1.7  # pixels of MNIST's box: 9 % of its digits have thinner strokes
_USUAL = 2.2  # the median of MNIST's
_BOX = 20
_FINE = 100  # pixels of a figure's longer side in which strokes are thickened: fifths of MNIST's


def stroke_width(ink: Floats) -> float:
    """How many pixels wide the strokes of a figure are: twice its area by the length of its outline.

    The outline's length is the total variation, which a grey rim doesn't change.

    >>> bar = np.zeros((60, 20), np.float32)
    >>> bar[5:55, 8:12] = 1
    >>> round(stroke_width(bar), 1)
    3.7
    """
    rimmed = np.pad(ink, 1)
    down, right = rimmed[2:, 1:-1] - rimmed[:-2, 1:-1], rimmed[1:-1, 2:] - rimmed[1:-1, :-2]
    outline = float(np.hypot(down, right).sum()) / 2
    return 2 * float(ink.sum()) / outline if outline else 0.0


def thickened(ink: Floats) -> tuple[Floats, bool]:
    """A figure whose strokes have MNIST's width once it is scaled into MNIST's box, and whether they hadn't.

    Strokes of less than 1.7 pixels of that box are made 2.2 pixels thick, by the maximum over a disc; others are left.

    Args:
        ink: of a figure and nothing around it, float32 (H, W), 0 to 1.
    """
    longest = max(ink.shape)
    width = stroke_width(ink) * _FINE / longest
    if not 0 < width < _THIN * _FINE / _BOX:
        return ink, False
    expect_pillow()
    from PIL import Image

    shape = [max(1, round(n * _FINE / longest)) for n in ink.shape]
    fine = np.clip(np.array(Image.fromarray(ink).resize(shape[::-1], Image.Resampling.BICUBIC)), 0, 1)
    if fine.max() > 0:
        fine = fine / fine.max()  # a hair fades where it is scaled down
    share = _USUAL / _BOX
    radius = (share * _FINE - width) / (1 - share) / 2  # the figure grows, too
    reach = int(np.ceil(radius))
    padded = np.pad(fine, 2 * reach)
    height, across = fine.shape[0] + 2 * reach, fine.shape[1] + 2 * reach
    thick = np.zeros((height, across), np.float32)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            if np.hypot(down, right) <= radius:
                top, left = reach + down, reach + right
                np.maximum(thick, padded[top : top + height, left : left + across], out=thick)
    return thick, True
