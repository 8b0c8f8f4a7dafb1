"""A convolution, ReLU and a 2x2 max pool as one; any but the first may be missing.

Layer by layer, each writes its whole output to memory and the next one reads it again. Here a part of the convolution's
output (`fcnn.ops.parts`) goes through all of them while it is in cache, forwards and backwards; where there is a pool,
the convolution's own output never reaches memory. The pool comes first, as it commutes with the others
(`fcnn.ops.passes`).

The outputs are those of the layers, to the bit where BLAS rounds each column of a product alike whatever stands beside
it, as OpenBLAS does for batches of multiples of 16 images; elsewhere but for the rounding of a sum of products. The
gradients differ by rounding, as sums over a batch are taken in another order, and where adding a bias rounds two
numbers of a window to one, which the layers see as a tie and so give all to the first.
"""

from collections.abc import Sequence

import attrs

from fcnn.ops.conv import forward, input_gradient, kernel_for, pad_for, with_border
from fcnn.ops.layout import block, unblock
from fcnn.ops.parts import each_part, lines, parts_of, place, total, work
from fcnn.ops.passes import Hits, rectify, unpool_part, where_positive
from fcnn.ops.statistics import channel_sum
from fcnn.ops.window import Geometry
from fcnn.values.allocation import empty
from fcnn.values.arrays import Array, frozen


@attrs.frozen
class FusedCache:
    """What `fused_backward` needs: what `fused` was given, its output block and, with a pool, where the maxima were."""

    g: Geometry
    inner: Geometry  # that of x, which may have its border
    x: Array
    w: Array
    y: Array
    has_bias: bool
    relu: bool
    hits: Sequence[Hits] | None


def fused(x: Array, w: Array, b: Array | None, g: Geometry, *, relu: bool, pool: bool) -> tuple[Array, FusedCache]:
    """A convolution of the geometry g, then ReLU and a 2x2 max pool as far as they are asked for.

    Args:
        x: images (N, C, H, W), read-only.
        w, b: filters (F, C, KH, KW), read-only, and biases (F,) or None; of x's dtype.
        g: where the windows lie; OH and OW are even where there is a pool.
        relu, pool: whether there are such.

    Returns:
        y (N, F, OH, OW), or half as high and wide; and the cache for `fused_backward`.
    """
    inner, memory = with_border(g), pad_for(g, block(x))
    weights = kernel_for(inner, "forward").forward_weights(w, inner)
    y, hits = forward(memory, weights, b, g, inner, after=rectify if relu else None, pool=pool, keeps=True)
    return frozen(unblock(y)), FusedCache(g, inner, memory, w, frozen(y), b is not None, relu, hits if pool else None)


def fused_backward(dy: Array, cache: FusedCache, *, need_dx: bool) -> tuple[Array | None, Array, Array | None]:
    """The gradients of `fused` for any dy like its output: dx or None, dw, and db or None."""
    g, pool, out, kernel = cache.g, cache.hits is not None, block(dy), kernel_for(cache.g, "weight gradient")
    parts = parts_of(g.out_shape)
    dz = empty(g.out_shape, dy.dtype) if need_dx else None

    def one(number: int) -> tuple[Array, Array]:
        part = parts[number]
        d = lines(part.of(out, pool))
        target = None if dz is None or pool else lines(part.of(dz))
        if cache.relu:
            d = where_positive(d, lines(part.of(cache.y, pool)), target)
        elif target is not None:
            target[...] = d
        db = channel_sum(d)
        if cache.hits is not None:
            d = unpool_part(d, cache.hits[number])
        shaped = d.reshape(len(part.rows), g.filters, len(part.columns), -1)
        if dz is not None and pool:
            place(shaped, part.of(dz))
        return kernel.weight_gradient(cache.x, shaped, cache.inner, part.rows, part.columns, pool), db

    found = each_part(len(parts), one, work(g, passes=4))
    dw = frozen(kernel.weights_of(total([dw for dw, _ in found]), g))
    db = frozen(total([db for _, db in found])) if cache.has_bias else None
    dx = None if dz is None else frozen(unblock(input_gradient(g, dz, cache.w)))
    return dx, dw, db
