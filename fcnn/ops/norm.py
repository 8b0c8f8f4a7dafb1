"""Normalisation of each channel: by given numbers, or by the batch's own (batch normalisation).

All kinds of input are seen as (R, C, M), as `channel_rows` gives them without a copy: so one code serves all.
"""

import attrs
import numpy as np

from fcnn.ops.layout import block, channel_rows, unblock
from fcnn.ops.parts import each_part, row_parts
from fcnn.ops.passes import by_channel
from fcnn.ops.statistics import Statistics, centre, channel_dot, channel_sum, moments, statistics
from fcnn.values.allocation import empty, scratch
from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import boolean, cached, floats, number, output_gradient


@attrs.frozen
class NormalizeCache:
    """What `normalize_backward` needs: the deviations, (C,) or (1,), and x's shape."""

    std: Array
    in_shape: tuple[int, ...]


def normalize(x: Array, mean: Array, std: Array) -> tuple[Array, NormalizeCache]:
    """(x - mean) / std, channel by channel, with given numbers.

    Args:
        x: images (N, C, H, W), sequences (N, C, L) or features (N, C).
        mean, std: one number for each channel, (C,), or one for all, (1,).

    Returns:
        y like x; the cache for `normalize_backward`.

    >>> normalize(np.array([[1.0, 2.0]]), np.array([1.0]), np.array([0.5]))[0]
    array([[0., 2.]])
    """
    x, mean, std = floats("normalize's x", x), floats("normalize's mean", mean), floats("normalize's std", std)
    if x.ndim not in (2, 3, 4) or mean.shape != std.shape or mean.shape not in ((1,), x.shape[1:2]):
        raise ValueError(
            f"normalize expects x (N, C), (N, C, L) or (N, C, H, W) and mean, std (C,) or (1,), got x {x.shape}, "
            f"mean {mean.shape}, std {std.shape}"
        )
    memory = block(x)
    rows = channel_rows(memory) - mean[:, None].astype(x.dtype, copy=False)
    rows /= std[:, None].astype(x.dtype, copy=False)
    return frozen(unblock(rows.reshape(memory.shape))), NormalizeCache(keep(std), x.shape)


def normalize_backward(dy: Array, cache: NormalizeCache) -> Array:
    """dx = dy / std."""
    memory = block(output_gradient("normalize_backward", dy, cached("normalize", cache, NormalizeCache).in_shape))
    rows = channel_rows(memory) / cache.std[:, None].astype(memory.dtype, copy=False)
    return frozen(unblock(rows.reshape(memory.shape)))


@attrs.frozen
class NormCache:
    """What `batch_norm_backward` needs: the input block, the mean and 1 / deviation used (C,), gamma and the mode."""

    block: Array
    mean: Array
    inv_std: Array
    gamma: Array
    train: bool


def batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    var: Array,
    *,
    train: bool,
    decay: float = 0.9,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array, NormCache]:
    """Normalise each channel by the batch, then scale and shift it (S. Ioffe and C. Szegedy, ICML 2015, algorithm 1).

        y = gamma * (x - m) / sqrt(v + eps) + beta

    In training m and v are the batch's mean and biased variance, and the running values become
    `decay * old + (1 - decay) * batch`, with the unbiased variance. In evaluation m and v are the running values.
    A constant channel gives just beta, whatever the constant; so does one whose deviation, beyond 1e154, has no square
    in float64.

    Args:
        x: images (N, C, H, W), sequences (N, C, L) or features (N, C).
        gamma, beta: scale and shift, (C,).
        mean, var: running mean and variance, (C,).
        train: which of the two modes.
        decay: weight of the old running value, 0 to 1.
        eps: added to the variance.

    Returns:
        y like x; the new running mean and variance (C,); the cache for `batch_norm_backward`.

    Raises:
        ValueError: the shapes don't go together, or a training batch has one number a channel, so no variance.

    >>> x = np.array([[1.0], [3.0]])
    >>> y, mean, var, _ = batch_norm(x, np.ones(1), np.zeros(1), np.zeros(1), np.ones(1), train=True, eps=0.0)
    >>> y.ravel(), mean, var
    (array([-1.,  1.]), array([0.2]), array([1.1]))
    """
    x, gamma, beta = floats("batch_norm's x", x), floats("batch_norm's gamma", gamma), floats("batch_norm's beta", beta)
    mean, var = floats("batch_norm's mean", mean), floats("batch_norm's var", var)
    train, decay = boolean("train", train), number("batch_norm's decay", decay, "[0, 1]")
    eps = number("batch_norm's eps", eps, "[0, inf)")
    if x.ndim not in (2, 3, 4) or not gamma.shape == beta.shape == mean.shape == var.shape == x.shape[1:2]:
        raise ValueError(
            f"batch_norm expects x (N, C), (N, C, L) or (N, C, H, W) and gamma, beta, mean, var (C,), got x {x.shape}, "
            f"gamma {gamma.shape}, beta {beta.shape}, mean {mean.shape}, var {var.shape}"
        )
    if not x.dtype == gamma.dtype == beta.dtype == mean.dtype == var.dtype:
        x = x.astype(np.float64, copy=False)  # the widest of them, in both modes
    memory = keep(block(x))
    rows, y = channel_rows(memory), empty(memory.shape, x.dtype)
    parts = row_parts(rows)
    if train:
        count = rows.shape[0] * rows.shape[2]
        if count < 2:
            raise ValueError(
                f"batch_norm needs at least two numbers a channel in training, got x {x.shape}; use larger batches "
                "(or shards), and drop_last=True in fcnn.batches where the last one is smaller"
            )
        found = each_part(len(parts), lambda i: moments(rows[parts[i]]), rows.size / 2000)
        used = statistics([rows[part] for part in parts], found, eps)
        mean = decay * mean + (1 - decay) * used.mean
        var = decay * var + (1 - decay) * (count / (count - 1)) * used.var
    else:
        used = Statistics(mean, var, 1 / np.sqrt(var + eps), {})
    scale, out = gamma * used.inv_std, channel_rows(y)

    def apply(number: int) -> None:
        part = out[parts[number]]
        centre(rows[parts[number]], used, part)
        by_channel(np.multiply, part, scale, part)
        by_channel(np.add, part, beta, part)

    each_part(len(parts), apply, rows.size / 1500)
    cache = NormCache(memory, keep(used.mean), frozen(used.inv_std), keep(gamma), train)
    return frozen(unblock(y)), keep(mean), keep(var), cache


def batch_norm_backward(dy: Array, cache: NormCache) -> tuple[Array, Array, Array]:
    """The gradients of `batch_norm` for any dy, like x; the running statistics are constants.

    With x_hat the normalised input and M numbers a channel:

        dgamma = sum(dy * x_hat)          dbeta = sum(dy)
        training    dx = gamma / std * (dy - dbeta / M - x_hat * dgamma / M)
        evaluation  dx = gamma / std * dy

    Returns:
        dx like x, dgamma (C,), dbeta (C,).
    """
    shape = unblock(cached("batch_norm", cache, NormCache).block).shape
    memory = block(output_gradient("batch_norm_backward", dy, shape))
    x, out, dx = channel_rows(cache.block), channel_rows(memory), empty(memory.shape, memory.dtype)
    parts, mean = row_parts(x), cache.mean

    def sums(number: int) -> Array:
        part, numbers = out[parts[number]], x[parts[number]]
        centred = scratch(numbers.shape, numbers.dtype)
        by_channel(np.subtract, numbers, mean, centred)
        return np.stack([channel_sum(part), channel_dot(part, centred)])

    dbeta, products = np.add.reduce(each_part(len(parts), sums, x.size / 2000))
    dgamma = products * cache.inv_std
    scale, target, count = cache.gamma * cache.inv_std, channel_rows(dx), max(1, x.shape[0] * x.shape[2])
    slope, shift = dgamma * cache.inv_std / -count, dbeta / -count

    def apply(number: int) -> None:
        part = target[parts[number]]
        if cache.train:
            by_channel(np.subtract, x[parts[number]], mean, part)
            by_channel(np.multiply, part, slope, part)
            part += out[parts[number]]
            by_channel(np.add, part, shift, part)
            by_channel(np.multiply, part, scale, part)
        else:
            by_channel(np.multiply, out[parts[number]], scale, part)

    each_part(len(parts), apply, x.size / 1500)
    return frozen(unblock(dx)), frozen(dgamma), frozen(dbeta)
