"""A convolution, batch norm with the batch's statistics, ReLU and a 2x2 max pool as one; the last two may be missing.

As `fcnn.ops.fused`, in two goes: batch norm's mean and variance must be known before any part can be finished. The
first go computes a part of the convolution and its moments, the second one centres, pools, scales and shifts it. The
pool comes before the scale, which it commutes with where the scale is above 0; where gamma is below 0, the centred
numbers are taken with the other sign.

Backwards likewise, with x_hat the normalised numbers and M of them a channel (`fcnn.ops.batch_norm_backward`):

    dz = gamma / std * (dy - sum(dy) / M - x_hat * sum(dy * x_hat) / M)

The first go computes dy behind ReLU and the two sums, on pooled numbers where there is a pool, since dy is 0 elsewhere;
the second one the bracket, and the weights' gradient from it. gamma / std is a factor of a filter: it is multiplied to
the weights and their gradient.

Outputs and gradients are those of the layers but for rounding, as sums have another order. A gamma of 0 makes all
numbers of a window equal, of which the layers take the first and this takes the greatest before that.
"""

from collections.abc import Sequence

import attrs
import numpy as np

from fcnn.ops.conv import input_gradient, kernel_for, pad_for, with_border
from fcnn.ops.fused import FusedCache
from fcnn.ops.layout import block, unblock
from fcnn.ops.parts import each_part, lines, parts_of, place, total, work
from fcnn.ops.passes import Hits, by_channel, pool_part, rectify, unpool_part, where_positive
from fcnn.ops.statistics import Moments, centre, channel_dot, channel_sum, moments, statistics
from fcnn.ops.window import Geometry
from fcnn.values.allocation import empty, scratch
from fcnn.values.arrays import Array, frozen, keep


@attrs.frozen
class Norm:
    """Batch norm's parameters and state (C,) and settings, as `fcnn.ops.batch_norm` takes them."""

    gamma: Array
    beta: Array
    mean: Array
    var: Array
    decay: float
    eps: float


@attrs.frozen
class FusedNormCache(FusedCache):
    """What `fused_norm_backward` needs, beside what `fused_norm` was given.

    By part: the centred numbers, with the other sign where gamma is below 0; and with a pool the maxima of them.
    """

    centred: Sequence[Array]
    pooled: Sequence[Array]
    sign: Array
    inv_std: Array
    gamma: Array


def fused_norm(
    x: Array, w: Array, b: Array | None, norm: Norm, g: Geometry, *, relu: bool, pool: bool
) -> tuple[Array, Array, Array, FusedNormCache]:
    """A convolution of the geometry g, batch norm, then ReLU and a 2x2 max pool as far as they are asked for.

    Arguments as `fcnn.ops.fused.fused` takes them, all of one dtype; N * OH * OW is 2 at least.

    Returns:
        y (N, F, OH, OW), or half as high and wide; the new running mean and variance (F,); and the cache for
        `fused_norm_backward`.
    """
    inner, memory = with_border(g), pad_for(g, block(x))
    kernel, parts = kernel_for(g, "forward"), parts_of(g.out_shape)
    oh, filters, ow, n = g.out_shape
    y = empty((oh // 2, filters, ow // 2, n) if pool else g.out_shape, x.dtype)
    weights = kernel.forward_weights(w, inner)

    def convolve(number: int) -> tuple[Array, Moments]:
        part = parts[number]
        z = empty((len(part.rows), filters, len(part.columns), n), x.dtype)
        kernel.correlate(memory, weights, inner, part.rows, part.columns, pool, z)
        return lines(z), moments(lines(z))

    found = each_part(len(parts), convolve, work(g, passes=3))
    numbers = [z for z, _ in found]
    used = statistics(numbers, [each for _, each in found], norm.eps)
    sign = np.where(norm.gamma < 0, -1, 1).astype(x.dtype)
    scale, flipped = np.abs(norm.gamma) * used.inv_std, bool((sign < 0).any())

    def finish(number: int) -> tuple[Array, Hits | None]:
        z, target = numbers[number], lines(parts[number].of(y, pool))
        centre(z, used, z)
        if flipped:
            by_channel(np.multiply, z, sign, z)
        pooled, hits = z, None
        if pool:
            pooled = empty(target.shape, z.dtype)
            hits = pool_part(z, pooled)
        by_channel(np.multiply, pooled, scale, target)
        by_channel(np.add, target, norm.beta, target)
        if relu:
            rectify(target)
        frozen(z)
        return frozen(pooled), hits

    done = each_part(len(parts), finish, work(g, products=0, passes=6))
    count, mean = oh * ow * n, used.mean if b is None else used.mean + b
    mean = norm.decay * norm.mean + (1 - norm.decay) * mean
    var = norm.decay * norm.var + (1 - norm.decay) * (count / (count - 1)) * used.var
    hits = [hit for _, hit in done if hit is not None] if pool else None
    pooled = [each for each, _ in done]
    cache = FusedNormCache(
        g, inner, memory, w, frozen(y), b is not None, relu, hits,
        numbers, pooled, frozen(sign), frozen(used.inv_std), keep(norm.gamma),
    )  # fmt: skip
    return frozen(unblock(y)), keep(mean), keep(var), cache


def fused_norm_backward(
    dy: Array, cache: FusedNormCache, *, need_dx: bool
) -> tuple[Array | None, Array, Array | None, Array, Array]:
    """The gradients of `fused_norm` for any dy like its output: dx or None, dw, db or None, dgamma and dbeta.

    db is 0: batch norm takes any bias out again.
    """
    g, pool, out, kernel = cache.g, cache.hits is not None, block(dy), kernel_for(cache.g, "weight gradient")
    parts, count = parts_of(g.out_shape), g.out[0] * g.out[1] * g.in_shape[3]

    def behind_relu(number: int) -> tuple[Array, Array]:
        part = parts[number]
        d = lines(part.of(out, pool))
        if cache.relu:
            d = where_positive(d, lines(part.of(cache.y, pool)), empty(d.shape, d.dtype))
        return d, np.stack([channel_sum(d), channel_dot(d, cache.pooled[number])])

    found = each_part(len(parts), behind_relu, work(g, products=0, passes=3))
    dbeta, products = total([sums for _, sums in found])
    products = products * cache.inv_std
    slope, shift = products * cache.inv_std / -count, dbeta / -count
    scale = np.abs(cache.gamma) * cache.inv_std  # of what has gamma's sign already
    dz = empty(g.out_shape, dy.dtype) if need_dx else None

    def bracket(number: int) -> Array:
        part, (d, _) = parts[number], found[number]
        centred = cache.centred[number]
        if cache.hits is not None:
            d = unpool_part(d, cache.hits[number])
        z = scratch(centred.shape, centred.dtype)
        by_channel(np.multiply, centred, slope, z)
        by_channel(np.add, z, shift, z)
        z += d
        shaped = z.reshape(len(part.rows), g.filters, len(part.columns), -1)
        if dz is not None and pool:
            place(shaped, part.of(dz))
        elif dz is not None:
            part.of(dz)[...] = shaped
        return kernel.weight_gradient(cache.x, shaped, cache.inner, part.rows, part.columns, pool)

    dw = kernel.weights_of(total(each_part(len(parts), bracket, work(g, passes=5))), g)
    factor = (scale * cache.sign)[:, None, None, None]
    dx = None if dz is None else frozen(unblock(input_gradient(g, dz, cache.w * factor)))
    db = frozen(np.zeros(g.filters, dy.dtype)) if cache.has_bias else None
    return dx, frozen(dw * factor), db, frozen(products * cache.sign), frozen(np.array(dbeta))
