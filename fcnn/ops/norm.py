"""Normalisation of each channel: by given numbers, or by the batch's own (batch normalisation).

Both kinds of input are seen as (R, C, M): channel c has R rows of M numbers, so one code serves both. For images
(N, C, H, W) that is (H, C, W * N), for features (N, D) it is (1, D, N); neither needs a copy.
"""

import attrs
import numpy as np

from fcnn.ops.layout import block, unblock
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
        x: images (N, C, H, W) or features (N, C).
        mean, std: one number for each channel, (C,), or one for all, (1,).

    Returns:
        y like x; the cache for `normalize_backward`.

    >>> normalize(np.array([[1.0, 2.0]]), np.array([1.0]), np.array([0.5]))[0]
    array([[0., 2.]])
    """
    x, mean, std = floats("normalize's x", x), floats("normalize's mean", mean), floats("normalize's std", std)
    if x.ndim not in (2, 4) or mean.shape != std.shape or mean.shape not in ((1,), x.shape[1:2]):
        raise ValueError(
            f"normalize expects x (N, C) or (N, C, H, W) and mean, std (C,) or (1,), got x {x.shape}, "
            f"mean {mean.shape}, std {std.shape}"
        )
    memory = block(x)
    rows = _rows(memory) - mean[:, None].astype(x.dtype, copy=False)
    rows /= std[:, None].astype(x.dtype, copy=False)
    return frozen(unblock(rows.reshape(memory.shape))), NormalizeCache(keep(std), x.shape)


def normalize_backward(dy: Array, cache: NormalizeCache) -> Array:
    """dx = dy / std."""
    memory = block(output_gradient("normalize_backward", dy, cached("normalize", cache, NormalizeCache).in_shape))
    rows = _rows(memory) / cache.std[:, None].astype(memory.dtype, copy=False)
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
        x: images (N, C, H, W) or features (N, C).
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
    if x.ndim not in (2, 4) or not gamma.shape == beta.shape == mean.shape == var.shape == x.shape[1:2]:
        raise ValueError(
            f"batch_norm expects x (N, C) or (N, C, H, W) and gamma, beta, mean, var (C,), got x {x.shape}, "
            f"gamma {gamma.shape}, beta {beta.shape}, mean {mean.shape}, var {var.shape}"
        )
    if not x.dtype == gamma.dtype == beta.dtype == mean.dtype == var.dtype:
        x = x.astype(np.float64, copy=False)  # the widest of them, in both modes
    memory = block(x)
    rows = _rows(memory)
    if train:
        count = rows.shape[0] * rows.shape[2]
        if count < 2:
            raise ValueError(
                f"batch_norm needs at least two numbers a channel in training, got x {x.shape}; use larger batches "
                "(or shards), and drop_last=True in fcnn.batches where the last one is smaller"
            )
        used_mean, used_var, inv_std, centred = _standardisation(rows, eps)
        mean = decay * mean + (1 - decay) * used_mean
        var = decay * var + (1 - decay) * (count / (count - 1)) * used_var
    else:
        used_mean, inv_std = mean, 1 / np.sqrt(var + eps)
        centred = rows - used_mean[:, None]
    centred *= (gamma * inv_std)[:, None]
    centred += beta[:, None]
    y = frozen(unblock(centred.reshape(memory.shape)))
    cache = NormCache(keep(memory), keep(used_mean), frozen(inv_std), keep(gamma), train)
    return y, keep(mean), keep(var), cache


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
    out = _rows(memory)
    x_hat = (_rows(cache.block) - cache.mean[:, None]) * cache.inv_std[:, None]
    dgamma, dbeta = _channel_dot(out, x_hat), _channel_sum(out)
    if cache.train:
        count = out.shape[0] * out.shape[2]
        x_hat *= (-dgamma / count)[:, None]
        x_hat += out
        x_hat -= (dbeta / count)[:, None]
        dx = x_hat
        dx *= (cache.gamma * cache.inv_std)[:, None]
    else:
        dx = out * (cache.gamma * cache.inv_std)[:, None]
    return frozen(unblock(dx.reshape(memory.shape))), frozen(dgamma), frozen(dbeta)


def _standardisation(rows: Array, eps: float) -> tuple[Array, Array, Array, Array]:
    """Of (R, C, M) rows the means (C,), biased variances, 1 / deviations, and the numbers minus the mean (R, C, M)."""
    count = rows.shape[0] * rows.shape[2]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = _channel_sum(rows) / count
        centred = rows - mean[:, None]
        var = _channel_dot(centred, centred) / count
        inv_std = 1 / np.sqrt(var + eps)
        # The rounding of a mean is up to some 64 units in its last place. Of a channel that varies less, as a constant
        # one does, it would be taken for the variance; such channels are done again, as are those whose squares
        # overflow float32: in float64, and relative to one of their numbers.
        known = (var >= np.square(64 * np.finfo(rows.dtype).eps * mean)) & (var < np.inf)
        for channel in np.flatnonzero(~known):
            first = np.float64(rows[0, channel, 0])
            exact = rows[:, channel].astype(np.float64) - first
            offset = exact.mean()
            exact -= offset
            square = np.square(exact).mean()
            mean[channel], var[channel], inv_std[channel] = first + offset, square, 1 / np.sqrt(square + eps)
            centred[:, channel] = exact
    return mean, var, inv_std, centred


def _rows(memory: Array) -> Array:
    return memory[None] if memory.ndim == 2 else memory.reshape(*memory.shape[:2], memory.shape[2] * memory.shape[3])


def _channel_sum(rows: Array) -> Array:
    return np.asarray(rows.sum(axis=2).sum(axis=0))


def _channel_dot(a: Array, b: Array) -> Array:
    return _channel_sum(a * b)
