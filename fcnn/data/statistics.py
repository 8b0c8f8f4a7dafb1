"""Means and deviations of inputs, for `fcnn.normalize`: of training inputs, as the others aren't known yet."""

import numpy as np

from fcnn.data.types import Split, expect_split

_AT_A_TIME = 1 << 22  # numbers that are made float64


def channel_statistics(split: Split) -> tuple[list[float], list[float]]:
    """The mean and the standard deviation of each channel (of images and sequences) or feature, as a network sees them.

    So grey levels of uint8 count as numbers from 0 to 1. The deviation is that of the numbers at hand (not the unbiased
    one), and 1 for what is always the same, which it then leaves as it is. Raises ValueError for an empty split.

    >>> x = np.array([[0, 255], [0, 0]], np.uint8)
    >>> channel_statistics(Split(x, np.array([0, 1])))
    ([0.0, 0.5], [1.0, 0.5])
    """
    x = expect_split("split", split).x
    if not len(x):
        raise ValueError("an empty split has no mean")
    axes = (0, *range(2, x.ndim))
    rows = max(1, _AT_A_TIME // x[0].size)
    parts = [x[start : start + rows] for start in range(0, len(x), rows)]
    count = x.size // x.shape[1]
    mean = sum(part.sum(axis=axes, dtype=np.float64) for part in parts) / count
    # Around the mean: a difference of squares would lose the digits of inputs that lie far from 0.
    around = mean.reshape(-1, *[1] * (x.ndim - 2))
    variance = sum(np.square(part - around).sum(axis=axes) for part in parts) / count
    unit = 255.0 if x.dtype == np.uint8 else 1.0
    deviation = np.sqrt(variance) / unit
    return (mean / unit).tolist(), np.where(deviation > 0, deviation, 1.0).tolist()
