"""Normalisation of each sample by its own numbers: layer norm and group norm, the same in both modes.

A block is seen as (R, G, K, M): R rows of G groups of K channels, and M numbers of each, W columns of N samples. What
is normalised together is a sample's group, over all rows and columns, or a pixel's channels. A statistic is
(1, G, 1, M), the same in all columns, or (R, 1, 1, M): so every pass goes along M, however few the samples are. A sum
goes one axis at a time, which rounds as often as an axis is long.
"""

from collections.abc import Sequence

import attrs
import numpy as np

from fcnn.ops.layout import block, channel_rows, unblock
from fcnn.ops.parts import each_part, row_parts
from fcnn.ops.passes import by_channel
from fcnn.ops.statistics import channel_dot, channel_sum
from fcnn.values.allocation import empty, scratch
from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import cached, floats, integer, number, output_gradient


@attrs.frozen
class Exact:
    """The means of what hardly varies, `doubtful`, which are first + offset in float64."""

    doubtful: Array
    first: Array
    offset: Array


@attrs.frozen
class SampleStatistics:
    """Mean and 1 / sqrt(variance + eps), and the exact means where there are some that are needed."""

    mean: Array
    inv_std: Array
    exact: Exact | None


@attrs.frozen
class SampleNormCache:
    """What the backward functions need: the input block, gamma, over what was normalised, and the statistics."""

    block: Array
    gamma: Array
    groups: int
    per_pixel: bool
    used: SampleStatistics


def layer_norm(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> tuple[Array, SampleNormCache]:
    """Normalise each sample by its own mean m and biased variance v (J. Ba et al., arXiv 1607.06450, equation 4).

        y = gamma * (x - m) / sqrt(v + eps) + beta

    gamma's shape says over what. What is constant gives just beta, whatever the constant.

    Args:
        x: features (N, C), (N, C, L) or images (N, C, H, W).
        gamma, beta: of a sample's shape, (C, H, W), to normalise over all of it, as PyTorch's `LayerNorm((C, H, W))`;
            or (C,), to normalise each pixel over its channels (Z. Liu et al., "A ConvNet for the 2020s", CVPR 2022).
        eps: added to the variance.

    Returns:
        y like x; the cache for `layer_norm_backward`.

    >>> layer_norm(np.array([[1.0, 3.0]]), np.ones(2), np.zeros(2), eps=0.0)[0]
    array([[-1.,  1.]])
    """
    x, gamma, beta = floats("layer_norm's x", x), floats("layer_norm's gamma", gamma), floats("layer_norm's beta", beta)
    fits = gamma.shape in (x.shape[1:], x.shape[1:2])
    x = _expect("layer_norm", x, gamma, beta, fits, "of a sample's shape or (C,)")
    return _normalise(x, gamma, beta, 1, x.ndim > 2 and gamma.ndim == 1, number("layer_norm's eps", eps, "[0, inf)"))


def layer_norm_backward(dy: Array, cache: SampleNormCache) -> tuple[Array, Array, Array]:
    """The gradients of `layer_norm` for any dy.

    With x_hat the normalised input, g = gamma * dy, and means over the same numbers as m:

        dx = (g - mean(g) - x_hat * mean(g * x_hat)) / sqrt(v + eps)    dgamma = sum(dy * x_hat)    dbeta = sum(dy)

    Returns:
        dx like x; dgamma and dbeta like gamma.
    """
    return _backward("layer_norm", dy, cache)


def group_norm(x: Array, gamma: Array, beta: Array, groups: int, *, eps: float = 1e-5) -> tuple[Array, SampleNormCache]:
    """Normalise each group of channels of each sample by its own mean and variance (Y. Wu and K. He, ECCV 2018).

    As `layer_norm` over the C / groups channels of a group and all their pixels; with a group for each channel it is
    instance norm (D. Ulyanov et al., arXiv 1607.08022).

    Args:
        x: features (N, C), (N, C, L) or images (N, C, H, W).
        gamma, beta: scale and shift, (C,).
        groups: how many, a divisor of C; each is of neighbouring channels.
        eps: added to the variance.

    Returns:
        y like x; the cache for `group_norm_backward`.

    >>> group_norm(np.array([[1.0, 3.0, 0.0, 4.0]]), np.ones(4), np.zeros(4), 2, eps=0.0)[0]
    array([[-1.,  1., -1.,  1.]])
    """
    x, gamma, beta = floats("group_norm's x", x), floats("group_norm's gamma", gamma), floats("group_norm's beta", beta)
    groups, eps = integer("group_norm's groups", groups, least=1), number("group_norm's eps", eps, "[0, inf)")
    x = _expect("group_norm", x, gamma, beta, gamma.shape == x.shape[1:2], "(C,)")
    if x.shape[1] % groups:
        raise ValueError(f"group_norm's groups divide the channels, got {groups} groups of {x.shape[1]} channels")
    return _normalise(x, gamma, beta, groups, False, eps)


def group_norm_backward(dy: Array, cache: SampleNormCache) -> tuple[Array, Array, Array]:
    """The gradients of `group_norm` for any dy, as those of `layer_norm`: dx like x, dgamma (C,), dbeta (C,)."""
    return _backward("group_norm", dy, cache)


def _expect(name: str, x: Array, gamma: Array, beta: Array, fits: bool, like: str) -> Array:
    """x in the widest of the dtypes, if the shapes go together."""
    if x.ndim not in (2, 3, 4) or not fits or beta.shape != gamma.shape:
        raise ValueError(
            f"{name} expects x (N, C), (N, C, L) or (N, C, H, W) and gamma, beta {like}, got x {x.shape}, "
            f"gamma {gamma.shape}, beta {beta.shape}"
        )
    if 0 in x.shape[1:]:
        raise ValueError(f"{name} expects samples of at least one number, got x {x.shape}")
    return x if x.dtype == gamma.dtype == beta.dtype else x.astype(np.float64, copy=False)


@attrs.frozen
class _View:
    """How a block is seen, and its rows in parts that stay in cache.

    `own` is whether each of a sample's numbers has a gamma and beta of its own, not each channel.
    """

    shape: tuple[int, int, int, int]
    columns: int
    per_pixel: bool
    own: bool
    parts: list[slice]

    @property
    def samples(self) -> int:
        return self.shape[3] // self.columns

    def totals(self, part: Array) -> Array:
        """Of a part (R, G, K, M), the sums over its rows and channels, or a pixel's channels."""
        down = part if self.per_pixel or len(part) == 1 else part.sum(axis=0, keepdims=True)
        return np.asarray(down.sum(axis=2, keepdims=True))

    def means(self, totals: Sequence[Array]) -> Array:
        """The statistic that the totals of all parts make."""
        rows, groups, channels, _ = self.shape
        if self.per_pixel:
            return np.concatenate(totals) / channels
        of_columns = np.add.reduce(totals).reshape(groups, self.columns, self.samples)
        return self.everywhere(of_columns.sum(axis=1) / (rows * channels * self.columns))

    def everywhere(self, by_sample: Array) -> Array:
        """The statistic of numbers (G, N)."""
        groups, samples = by_sample.shape
        in_columns = np.broadcast_to(by_sample[:, None], (groups, self.columns, samples))
        return in_columns.reshape(1, groups, 1, self.columns * samples)

    def at(self, statistic: Array, part: slice) -> Array:
        return statistic[part] if self.per_pixel else statistic

    def rows(self, part: Array) -> Array:
        """A part as (R, C, M), or as (1, R * C * W, N): whatever has a gamma of its own is a channel."""
        rows, groups, channels, length = part.shape
        if self.own:
            return part.reshape(1, rows * groups * channels * self.columns, self.samples)
        return part.reshape(rows, groups * channels, length)

    def ordered(self, values: Array) -> Array:
        """A gamma or beta as `scale` takes it: (C,), or in rows (R, C * W)."""
        return block(values[None]).reshape(self.shape[0], -1) if self.own else values

    def scale(self, function: np.ufunc, part: Array, ordered: Array, number: slice, out: Array) -> None:
        """function(part, its gamma or beta) into out."""
        values = ordered[number].ravel() if self.own else ordered
        by_channel(function, self.rows(part), values, self.rows(out))

    def gradient(self, found: Sequence[Array], like: Array) -> Array:
        """The gradient of gamma or beta that those of the parts make."""
        if not self.own:
            return frozen(np.add.reduce(found))
        whole = np.concatenate(found).reshape(block(like[None]).shape)
        return frozen(np.ascontiguousarray(unblock(whole)[0]))


def _view(memory: Array, gamma: Array, groups: int, per_pixel: bool) -> _View:
    rows = channel_rows(memory)
    height, channels, length = rows.shape
    columns = memory.shape[2] if memory.ndim == 4 else 1
    shape = (height, groups, channels // groups, length)
    return _View(shape, columns, per_pixel, gamma.ndim > 1, row_parts(rows))


def _normalise(
    x: Array, gamma: Array, beta: Array, groups: int, per_pixel: bool, eps: float
) -> tuple[Array, SampleNormCache]:
    memory = keep(block(x))
    view, y = _view(memory, gamma, groups, per_pixel), empty(memory.shape, x.dtype)
    numbers, out = memory.reshape(view.shape), y.reshape(view.shape)
    used, scales, shifts = _statistics(numbers, view, eps), view.ordered(gamma), view.ordered(beta)

    def apply(number: int) -> None:
        rows = view.parts[number]
        part = out[rows]
        _centre(numbers[rows], view, used, rows, part)
        part *= view.at(used.inv_std, rows)
        view.scale(np.multiply, part, scales, rows, part)
        view.scale(np.add, part, shifts, rows, part)

    each_part(len(view.parts), apply, x.size / 1500)
    return frozen(unblock(y)), SampleNormCache(memory, keep(gamma), groups, per_pixel, used)


def _statistics(x: Array, view: _View, eps: float) -> SampleStatistics:
    def sums(number: int) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            return view.totals(x[view.parts[number]])

    mean = view.means(each_part(len(view.parts), sums, x.size / 4000))

    def squares(number: int) -> Array:
        part = x[view.parts[number]]
        with np.errstate(over="ignore", invalid="ignore"):
            centred = np.subtract(part, view.at(mean, view.parts[number]), out=scratch(part.shape, part.dtype))
            return view.totals(np.square(centred, out=centred))

    var = view.means(each_part(len(view.parts), squares, x.size / 2000)).astype(np.float64)
    # As in `fcnn.ops.statistics`: what varies less than a mean may be rounded is done again in float64 and relative to
    # one of the numbers, and so is what has squares beyond the dtype.
    doubtful = ~((var >= np.square(64 * np.finfo(x.dtype).eps * mean.astype(np.float64))) & (var < np.inf))
    exact = None
    if doubtful.any():
        with np.errstate(over="ignore", invalid="ignore"):
            wide = x.astype(np.float64)
            first = np.array(wide[:, :, :1] if view.per_pixel else view.everywhere(wide[0, :, 0, : view.samples]))
            wide -= first  # which is therefore no view of it
            offset = view.means([view.totals(wide)])
            wide -= offset
            var = np.where(doubtful, view.means([view.totals(np.square(wide, out=wide))]), var)
        exact = Exact(frozen(doubtful), frozen(first), frozen(offset))
    return SampleStatistics(frozen(mean), frozen((1 / np.sqrt(var + eps)).astype(x.dtype)), exact)


def _centre(part: Array, view: _View, used: SampleStatistics, rows: slice, out: Array) -> None:
    """The numbers of a part minus their mean, into out."""
    with np.errstate(over="ignore", invalid="ignore"):
        np.subtract(part, view.at(used.mean, rows), out=out)
        if used.exact:
            wide = part - view.at(used.exact.first, rows)
            wide -= view.at(used.exact.offset, rows)
            np.copyto(out, wide, where=view.at(used.exact.doubtful, rows), casting="same_kind")


def _backward(name: str, dy: Array, cache: SampleNormCache) -> tuple[Array, Array, Array]:
    shape = unblock(cached(name, cache, SampleNormCache).block).shape
    memory = block(output_gradient(f"{name}_backward", dy, shape))
    gamma, used = cache.gamma, cache.used
    view, dx = _view(cache.block, gamma, cache.groups, cache.per_pixel), empty(memory.shape, memory.dtype)
    x, out, target = (one.reshape(view.shape) for one in (cache.block, memory, dx))
    scales = view.ordered(gamma)

    def sums(number: int) -> tuple[Array, Array, Array, Array]:
        rows = view.parts[number]
        part, hat, scaled = out[rows], scratch(out[rows].shape, x.dtype), scratch(out[rows].shape, memory.dtype)
        _centre(x[rows], view, used, rows, hat)
        hat *= view.at(used.inv_std, rows)
        view.scale(np.multiply, part, scales, rows, scaled)
        shift = view.totals(scaled)
        given, hats = view.rows(part), view.rows(hat)
        if view.own:  # short lines, for which a dot product each would take longer
            dgamma, dbeta = np.einsum("rsn,rsn->s", given, hats), np.einsum("rsn->s", given)
        else:
            dgamma, dbeta = channel_dot(given, hats), channel_sum(given)
        return dgamma, dbeta, shift, view.totals(np.multiply(scaled, hat, out=scaled))

    dgammas, dbetas, shifts, slopes = zip(*each_part(len(view.parts), sums, x.size / 1000), strict=True)
    shift, slope = view.means(shifts), view.means(slopes) * -used.inv_std

    def apply(number: int) -> None:
        rows = view.parts[number]
        part, scaled = target[rows], scratch(out[rows].shape, memory.dtype)
        _centre(x[rows], view, used, rows, part)
        part *= view.at(slope, rows)
        view.scale(np.multiply, out[rows], scales, rows, scaled)
        part += scaled
        part -= view.at(shift, rows)
        part *= view.at(used.inv_std, rows)

    each_part(len(view.parts), apply, x.size / 1000)
    return frozen(unblock(dx)), view.gradient(dgammas, gamma), view.gradient(dbetas, gamma)
