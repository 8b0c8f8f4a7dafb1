"""Normalisation of each sample by its own numbers: layer norm and group norm, the same in both modes.

What is normalised together, and how passes and sums go through it, stands in `fcnn.ops.sample_view`.
"""

from collections.abc import Callable

import attrs
import numpy as np

from fcnn.ops.layout import block, unblock
from fcnn.ops.parts import each_part
from fcnn.ops.sample_view import View
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


def _normalise(
    x: Array, gamma: Array, beta: Array, groups: int, per_pixel: bool, eps: float
) -> tuple[Array, SampleNormCache]:
    memory = keep(block(x))
    view, y = View.of(memory, gamma, groups, per_pixel), empty(memory.shape, x.dtype)
    numbers, out = view.wide(memory), view.wide(y)
    used = _centred(numbers, view, eps, out)
    centre, inv_std = _centring(view, used), view.everywhere(used.inv_std)
    scale, shift = view.spread(view.weights(gamma)), view.spread(view.weights(beta))

    def apply(number: int) -> None:
        rows = view.parts[number]
        part = out[rows]
        if used.exact:
            centre(numbers[rows], rows, part)
        part *= inv_std(rows)
        part *= scale(rows)
        part += shift(rows)

    each_part(len(view.parts), apply, x.size / 2000)
    return frozen(unblock(y)), SampleNormCache(memory, keep(gamma), groups, per_pixel, used)


def _centred(x: Array, view: View, eps: float, out: Array) -> SampleStatistics:
    """The statistics; what isn't doubtful is in `out`, minus its mean."""

    def sums(number: int) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            return view.totals(x[view.parts[number]])

    mean = view.means(each_part(len(view.parts), sums, x.size / 20000))
    means = view.everywhere(mean)

    def squares(number: int) -> Array:
        rows = view.parts[number]
        with np.errstate(over="ignore", invalid="ignore"):
            centred = np.subtract(x[rows], means(rows), out=out[rows])
            return view.totals(np.square(centred, out=scratch(centred.shape, x.dtype)))

    var = view.means(each_part(len(view.parts), squares, x.size / 4000)).astype(np.float64)
    # As in `fcnn.ops.statistics`: what varies less than a mean may be rounded is done again in float64 and relative to
    # one of the numbers, and so is what has squares beyond the dtype.
    doubtful = ~((var >= np.square(64 * np.finfo(x.dtype).eps * mean.astype(np.float64))) & (var < np.inf))
    exact = None
    if doubtful.any():
        with np.errstate(over="ignore", invalid="ignore"):
            wide, every = x.astype(np.float64), slice(None)
            first = np.array((wide if view.per_pixel else wide[:1])[:, :, :1, : view.shape[3]])
            wide -= view.everywhere(first)(every)
            offset = view.means([view.totals(wide)])
            wide -= view.everywhere(offset)(every)
            var = np.where(doubtful, view.means([view.totals(np.square(wide, out=wide))]), var)
        exact = Exact(frozen(doubtful), frozen(first), frozen(offset))
    return SampleStatistics(frozen(mean), frozen((1 / np.sqrt(var + eps)).astype(x.dtype)), exact)


def _centring(view: View, used: SampleStatistics) -> Callable[[Array, slice, Array], None]:
    """What writes a part, and its rows, minus their mean into an array."""
    mean, exact = view.everywhere(used.mean), used.exact and [view.everywhere(one) for one in attrs.astuple(used.exact)]

    def centre(part: Array, rows: slice, out: Array) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(part, mean(rows), out=out)
            if exact:
                doubtful, first, offset = exact
                wide = part - first(rows)
                wide -= offset(rows)
                np.copyto(out, wide, where=doubtful(rows), casting="same_kind")

    return centre


def _backward(name: str, dy: Array, cache: SampleNormCache) -> tuple[Array, Array, Array]:
    shape = unblock(cached(name, cache, SampleNormCache).block).shape
    memory = block(output_gradient(f"{name}_backward", dy, shape))
    gamma, used = cache.gamma, cache.used
    view, dx = View.of(memory, gamma, cache.groups, cache.per_pixel), empty(memory.shape, memory.dtype)
    x, out, target = (view.wide(one) for one in (cache.block, memory, dx))
    centre, inv_std, weights = _centring(view, used), view.everywhere(used.inv_std), view.weights(gamma)

    def sums(number: int) -> tuple[Array, Array, Array, Array]:
        rows = view.parts[number]
        given, hat, own = out[rows], target[rows], weights[rows] if view.own else weights
        centre(x[rows], rows, hat)
        hat *= inv_std(rows)
        product = np.multiply(given, hat, out=scratch(hat.shape, hat.dtype))
        return *view.weighed(given, own), *view.weighed(product, own)

    dbetas, shifts, dgammas, slopes = zip(*each_part(len(view.parts), sums, x.size / 2500), strict=True)
    shift, slope, scale = *(view.everywhere(view.means(sums)) for sums in (shifts, slopes)), view.spread(weights)

    def apply(number: int) -> None:
        rows = view.parts[number]
        given, hat = out[rows], target[rows]  # which becomes the gradient
        hat *= slope(rows)
        np.subtract(np.multiply(given, scale(rows), out=scratch(given.shape, hat.dtype)), hat, out=hat)
        hat -= shift(rows)
        hat *= inv_std(rows)

    each_part(len(view.parts), apply, x.size / 2000)
    return frozen(unblock(dx)), view.gradient(dgammas, gamma), view.gradient(dbetas, gamma)
