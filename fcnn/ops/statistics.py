"""Mean and variance of each channel of a block that is looked at part by part, each part once while it is in cache.

Each part's numbers are centred by the part's own mean before they are squared, and parts are put together by what
their means differ (T. Chan, G. Golub and R. LeVeque, The American Statistician 37 (1983), equation 2.1):

    M2 = sum over parts of  M2[p] + n[p] * (mean[p] - mean)²

So no variance is a difference of two great numbers, as E[x²] - E[x]² is.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fcnn.ops.passes import by_channel
from fcnn.values.allocation import scratch
from fcnn.values.arrays import Array


class Moments(NamedTuple):
    """Of a part (R, C, M): its numbers a channel, their mean (C,), and the sum of their squares around it (C,)."""

    size: int
    mean: Array
    squares: Array


class Statistics(NamedTuple):
    """Of all parts together, each (C,): mean, biased variance, and 1 / sqrt(variance + eps).

    `exact` is the mean in float64 of the channels, by number, that hardly vary.
    """

    mean: Array
    var: Array
    inv_std: Array
    exact: Mapping[int, np.float64]


def channel_sum(part: Array) -> Array:
    """The sums (C,) of a part (R, C, M) whose channels lie one behind the other."""
    # A dot product for each row takes a fifth of the time of `np.add.reduce`, and no row's bits depend on another.
    return channel_dot(part, np.ones((1, 1, part.shape[2]), part.dtype))


def channel_dot(a: Array, b: Array) -> Array:
    """The sums (C,) of the products of two parts (R, C, M)."""
    # A row times a column is a dot product to NumPy: `np.vecdot`, which NumPy 1.26 hasn't.
    return np.asarray(np.add.reduce(np.matmul(a[:, :, None], b[..., None])[:, :, 0, 0], axis=0))


def moments(part: Array) -> Moments:
    """Those of a part (R, C, M); within a `scratch_space`."""
    count = part.shape[0] * part.shape[2]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = channel_sum(part) / part.dtype.type(count)
        centred = scratch(part.shape, part.dtype)
        by_channel(np.subtract, part, mean, centred)
        return Moments(count, mean, channel_dot(centred, centred))


def statistics(parts: Sequence[Array], found: Sequence[Moments], eps: float) -> Statistics:
    """Of all parts together, from the moments of each."""
    count, dtype = sum(each.size for each in found), parts[0].dtype
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.zeros(len(found[0].mean))
        for each in found:
            mean += each.mean.astype(np.float64) * (each.size / count)
        squares = np.zeros_like(mean)
        for each in found:
            squares += each.squares + each.size * np.square(each.mean - mean)
        var = squares / count
        # The rounding of a mean is up to some 64 units in its last place. Of a channel that varies less, as a constant
        # one does, it would be taken for the variance; such channels are done again, as are those whose squares
        # overflow float32: in float64, and relative to one of their numbers.
        known = (var >= np.square(64 * np.finfo(dtype).eps * mean)) & (var < np.inf)
        exact: dict[int, np.float64] = {}
        for channel in np.flatnonzero(~known):
            first = np.float64(parts[0][0, channel, 0])
            numbers = np.concatenate([part[:, channel] for part in parts], axis=None, dtype=np.float64) - first
            offset = numbers.mean()
            exact[int(channel)] = mean[channel] = first + offset
            var[channel] = np.square(numbers - offset).mean()
        return Statistics(mean.astype(dtype), var.astype(dtype), (1 / np.sqrt(var + eps)).astype(dtype), exact)


def centre(part: Array, found: Statistics, out: Array) -> None:
    """The numbers of a part (R, C, M) minus their channel's mean, into `out`, which may be the part itself."""
    exact = {channel: part[:, channel].astype(np.float64) - mean for channel, mean in found.exact.items()}
    by_channel(np.subtract, part, found.mean, out)
    for channel, numbers in exact.items():
        out[:, channel] = numbers
