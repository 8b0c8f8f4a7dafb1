"""A convolution, ReLU and a 2x2 max pool for small inputs of one shape, with everything but the arithmetic done before.

For one small image the arithmetic takes some µs, and to make arrays and views takes ten times as long. So here buffers
and views are made once, and a run is seven calls of NumPy. The numbers are those of `fcnn.ops.lowered`.
"""

from collections.abc import Callable

import numpy as np

from fcnn.ops.layout import opaque, pixels, strided
from fcnn.ops.lowered import tall_matrix
from fcnn.ops.window import Geometry
from fcnn.values.allocation import empty, zeros
from fcnn.values.arrays import Array

_SMALL = 1 << 18  # numbers of the output, before the pool


def suits(g: Geometry, pool: bool) -> bool:
    """Whether inputs are so small that this is faster."""
    oh, filters, ow, n = g.out_shape
    if g.groups > 1 or g.dilation != (1, 1):
        return False
    return oh * filters * ow * n <= _SMALL and not (pool and (oh % 2 or ow % 2))


def planned(g: Geometry, w: Array, b: Array | None, *, relu: bool, pool: bool) -> Callable[[Array], Array]:
    """The function from an input block (H, C, W, N) to the output block, in a buffer that the next call writes to.

    For one thread at a time. `w` and `b` as `fcnn.ops.conv2d` takes them; whether there is ReLU, and a pool.
    """
    (height, channels, width, n), (oh, filters, ow, _) = g.in_shape, g.out_shape
    (kh, kw), (sh, sw), ((top, bottom), (left, right)) = g.kernel, g.stride, g.pads
    high = next(high for high in (4, 2, 1) if oh % high == 0) if n * ow < 64 else 1
    matrix = tall_matrix(w, high, sh)
    padded = zeros((height + top + bottom, channels, width + left + right, n), w.dtype)
    inside = padded[top : top + height, :, left : left + width]

    halves, half = (2, ow // 2) if pool else (1, ow)  # even columns, then odd ones
    lines = (oh - 1) * sh + kh
    lowered = empty((lines, channels, kw, halves, half, n), w.dtype)
    h, c, pixel, _ = padded.strides
    steps = (h, c, pixel, sw * pixel, halves * sw * pixel)
    source = np.ndarray(lowered.shape[:-1], opaque(pixel), padded, strides=steps)
    target, row, item = pixels(lowered), lowered.strides[0], lowered.itemsize
    shape = (oh // high, matrix.shape[1], ow * n)
    rows = strided(lowered, shape, (row * sh * high, ow * n * item, item))

    z = empty((oh // high, high * filters, ow * n), w.dtype)
    columns = z.reshape(oh, filters, halves, half * n)
    across = empty((oh, filters, half * n), w.dtype)
    y = empty((oh // 2, filters, half, n), w.dtype) if pool else z.reshape(oh, filters, ow, n)
    flat = y.reshape(*y.shape[:2], -1)
    bias, none = None if b is None else b[:, None], np.zeros(flat.shape[2], w.dtype)
    even, odd, upper, lower = columns[:, :, 0], columns[:, :, -1], across[0::2], across[1::2]

    def run(x: Array) -> Array:
        inside[...] = x
        target[...] = source
        np.matmul(matrix, rows, out=z)
        if pool:
            np.maximum(even, odd, out=across)
            np.maximum(upper, lower, out=flat)
        if bias is not None:
            np.add(flat, bias, out=flat)
        if relu:
            np.maximum(flat, none, out=flat)
        return y

    return run
