"""The leaky ReLU whose slope is learnt."""

import attrs
import numpy as np

from fcnn.ops.layout import block, channel_rows, unblock
from fcnn.ops.parts import each_part, row_parts
from fcnn.ops.passes import by_channel
from fcnn.ops.statistics import channel_dot
from fcnn.values.allocation import empty, scratch
from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import cached, floats, output_gradient


@attrs.frozen
class PreluCache:
    """What `prelu_backward` needs: the input block and the slope."""

    block: Array
    slope: Array


def prelu(x: Array, slope: Array) -> tuple[Array, PreluCache]:
    """x where x > 0, else slope * x, where the slope is a parameter (K. He et al., ICCV 2015, equation 1).

    Args:
        x: features (N, C), (N, C, L) or images (N, C, H, W).
        slope: one for all channels, (1,), or one for each, (C,).

    Returns:
        y like x; the cache for `prelu_backward`.

    >>> prelu(np.array([[-1.0, -1.0], [2.0, 2.0]]), np.array([0.25, 0.5]))[0]
    array([[-0.25, -0.5 ],
           [ 2.  ,  2.  ]])
    """
    x, slope = floats("prelu's x", x), floats("prelu's slope", slope)
    if x.ndim not in (2, 3, 4) or slope.shape not in ((1,), x.shape[1:2]):
        raise ValueError(
            "prelu expects x (N, C), (N, C, L) or (N, C, H, W) and slope (1,) or (C,), "
            f"got x {x.shape} and slope {slope.shape}"
        )
    if x.dtype != slope.dtype:
        x = x.astype(np.float64, copy=False)  # the wider of them
    memory = keep(block(x))
    rows, y = _rows(memory, slope), empty(memory.shape, x.dtype)
    parts, out = row_parts(rows), _rows(y, slope)

    def apply(number: int) -> None:
        part, target = rows[parts[number]], out[parts[number]]
        np.clip(part, -np.inf, 0, out=target)
        by_channel(np.multiply, target, slope, target)
        target += np.clip(part, 0, np.inf, out=scratch(part.shape, part.dtype))

    each_part(len(parts), apply, rows.size / 3000)
    return frozen(unblock(y)), PreluCache(memory, keep(slope))


def prelu_backward(dy: Array, cache: PreluCache) -> tuple[Array, Array]:
    """dx = dy where x > 0, else slope * dy; the slope's gradient is the sum of dy * min(x, 0) over all that has it.

    Returns:
        dx like x, dslope like slope.
    """
    shape, slope = unblock(cached("prelu", cache, PreluCache).block).shape, cache.slope
    memory = block(output_gradient("prelu_backward", dy, shape))
    dx = empty(memory.shape, memory.dtype)
    x, out, target = (_rows(one, slope) for one in (cache.block, memory, dx))
    parts = row_parts(x)

    def apply(number: int) -> Array:
        part, given, made = (one[parts[number]] for one in (x, out, target))
        positive = np.greater(part, 0, out=scratch(part.shape, bool))
        np.subtract(1, positive, out=made, dtype=made.dtype)
        by_channel(np.multiply, made, slope, made)
        made += positive
        made *= given
        return channel_dot(given, np.clip(part, -np.inf, 0, out=scratch(part.shape, part.dtype)))

    dslope = np.add.reduce(each_part(len(parts), apply, x.size / 2000))
    return frozen(unblock(dx)), frozen(dslope)


def _rows(memory: Array, slope: Array) -> Array:
    """A block as (R, C, M), or as (R, 1, C * M) where all channels have one slope."""
    rows = channel_rows(memory)
    return rows.reshape(len(rows), 1, rows.shape[1] * rows.shape[2]) if slope.size == 1 else rows
