"""2-D convolution (cross-correlation), lowered along the width only.

After M. Cho and D. Brand, "MEC: Memory-efficient Convolution for Deep Neural Network", ICML 2017 (arXiv
1706.06873), carried over to the batch-innermost layout of `fcnn.ops.layout`.

`im2col` copies every pixel KH * KW times. Here the padded (H, C, W, N) block is copied KW times only,

    L[h, c, j, x, n] = block[h, c, j + x * stride, n]                    shape (H, C, KW, OW, N)

because the KH rows that output row y needs, L[y : y + KH], already lie one behind the other: the GEMM operand of that
row, (KH * C * KW, OW * N), is a *view*. Output row y is W @ rows[y] with the weights as (F, KH * C * KW), and comes out
as (F, OW * N), which is row y of the output block. With f the flattened (KH, C, KW) index:

    forward            y[y]           =  W @ rows[y]  + b
    weight gradient    dW             =  sum over y of  dy[y] @ rows[y].T
    input gradient     dL[y : y + KH] += (W.T @ dy[y]);   dblock[h, c, j + x * stride] += dL[h, c, j, x]

Thin layers, such as the first one of a network, make matrices too small for a fast product. For them T neighbouring
output columns are computed together: a convolution with the T * F filters that are w shifted by 0 … T - 1 steps, each
in a window of KW + (T - 1) * stride columns, with T times the stride; its outputs are then interleaved.
"""

import attrs
import numpy as np

from fcnn.ops.layout import Array, block, frozen, keep, strided, unblock
from fcnn.ops.window import NO_PADS, Padding, Pads, Pair, check_dy, crop_block, out_size, pad_block, pads, pair

# Up to so many numbers (4 MB of float32) all products of a layer are made in one call and then added; beyond that,
# one at a time, so that a product is still in cache when it is added.
_BATCHED = 1 << 20


@attrs.frozen
class ConvCache:
    """What `conv2d_backward` needs: the padded input block (H, C, W, N), the weights, and the window."""

    padded: Array
    w: Array
    has_bias: bool
    stride: tuple[int, int]
    around: Pads
    tile: int


def conv2d(
    x: Array, w: Array, b: Array | None = None, *, stride: Pair = 1, padding: Padding = 0
) -> tuple[Array, ConvCache]:
    """Cross-correlate images with filters.

        y[n, f, i, j] = b[f] + sum over c, k, l of  w[f, c, k, l] * x_padded[n, c, i * stride + k, j * stride + l]

    Args:
        x: images, (N, C, H, W).
        w: filters, (F, C, KH, KW).
        b: biases, (F,), or None.
        stride: step of the window in pixels, an int or (vertical, horizontal).
        padding: zeros on each side in pixels, an int, (vertical, horizontal), or "same" for ceil(H / stride) rows.

    Returns:
        y, (N, F, OH, OW) with OH = (H + padding - KH) // stride + 1; and the cache for `conv2d_backward`.

    Raises:
        ValueError: the shapes don't go together, or the filter doesn't fit into the padded image.

    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> delta = np.zeros((1, 1, 3, 3)); delta[0, 0, 1, 1] = 1       # a delta kernel crops
    >>> conv2d(x, delta)[0]
    array([[[[ 5.,  6.], [ 9., 10.]]]])
    """
    if x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1]:
        raise ValueError(f"conv2d expects x (N, C, H, W) and w (F, C, KH, KW) with one C, got {x.shape} and {w.shape}")
    filters, _, kh, kw = w.shape
    if b is not None and b.shape != (filters,):
        raise ValueError(f"conv2d expects b ({filters},), one number for each filter of w, got {b.shape}")
    steps = pair("stride", stride, least=1)
    around = pads((x.shape[2], x.shape[3]), (kh, kw), steps, padding)
    oh, ow = out_size((x.shape[2], x.shape[3]), (kh, kw), steps, around)

    padded = pad_block(block(x), around)
    tile = _tile(x.shape[1] * kw, ow)
    if tile == 1:
        y = _correlate(padded, w, steps, (oh, ow))
        if b is not None:
            y += b[:, None, None]
    else:
        wide = _correlate(padded, _widened(w, tile, steps[1]), (steps[0], steps[1] * tile), (oh, ow // tile))
        y = _interleaved(wide, b, tile)
    return frozen(unblock(y)), ConvCache(keep(padded), keep(w), b is not None, steps, around, tile)


def conv2d_backward(dy: Array, cache: ConvCache, *, need_dx: bool = True) -> tuple[Array | None, Array, Array | None]:
    """The gradients of `conv2d` for any dy, (N, F, OH, OW).

    Returns:
        dx (N, C, H, W), None unless `need_dx`; dw (F, C, KH, KW); db (F,), None without a bias.
    """
    w, padded, tile = cache.w, cache.padded, cache.tile
    filters, _, kh, kw = w.shape
    height, _, width, n = padded.shape
    oh, ow = out_size((height, width), (kh, kw), cache.stride, NO_PADS)
    check_dy("conv2d_backward", dy, (n, filters, oh, ow))
    out = block(dy)
    db = frozen(out.reshape(oh, filters, -1).sum(axis=2).sum(axis=0)) if cache.has_bias else None

    stride = (cache.stride[0], cache.stride[1] * tile)
    if tile > 1:
        out, w = _deinterleaved(out, tile), _widened(w, tile, cache.stride[1])
    dw = _weight_gradient(padded, out, w.shape, stride)
    if tile > 1:
        dw = _narrowed(dw, tile, cache.stride[1], kw)
    if not need_dx:
        return None, frozen(dw), db
    dpadded = _input_gradient(out, w, stride, padded.shape)
    return frozen(unblock(crop_block(dpadded, cache.around))), frozen(dw), db


def _tile(columns: int, out_width: int) -> int:
    """How many neighbouring output columns are computed together; `columns` is C * KW."""
    return 2 if columns <= 32 and out_width % 2 == 0 else 1


def _correlate(padded: Array, w: Array, stride: tuple[int, int], out: tuple[int, int]) -> Array:
    """The (OH, F, OW, N) block of outputs of a padded (H, C, W, N) block."""
    rows = _rows(padded, (w.shape[2], w.shape[3]), stride, out)
    return np.asarray(np.matmul(_matrix(w), rows)).reshape(out[0], w.shape[0], out[1], padded.shape[3])


def _weight_gradient(padded: Array, out: Array, w_shape: tuple[int, ...], stride: tuple[int, int]) -> Array:
    """The gradient of the weights (F, C, KH, KW), for an output gradient (OH, F, OW, N)."""
    filters, channels, kh, kw = w_shape
    oh, _, ow, n = out.shape
    rows = _rows(padded, (kh, kw), stride, (oh, ow))
    out = out.reshape(oh, filters, ow * n)
    if oh * filters * rows.shape[1] <= _BATCHED:
        total = np.asarray(np.matmul(out, rows.transpose(0, 2, 1)).sum(axis=0))
    else:
        total = np.matmul(out[0], rows[0].T)
        part = np.empty_like(total)
        for y in range(1, oh):
            total += np.matmul(out[y], rows[y].T, out=part)
    return np.ascontiguousarray(total.reshape(filters, kh, channels, kw).transpose(0, 2, 1, 3))


def _input_gradient(out: Array, w: Array, stride: tuple[int, int], padded_shape: tuple[int, ...]) -> Array:
    """The gradient of the padded input block (H, C, W, N), for an output gradient (OH, F, OW, N)."""
    height, channels, _, n = padded_shape
    filters, _, kh, kw = w.shape
    oh, _, ow, _ = out.shape
    sh, sw = stride
    out, back = out.reshape(oh, filters, ow * n), _matrix(w).T
    lowered = np.zeros((height, channels * kw, ow * n), np.result_type(out, w))
    if oh * back.shape[0] * ow * n <= _BATCHED:
        products = np.matmul(back, out).reshape(oh, kh, *lowered.shape[1:])
        for k in range(kh):
            lowered[k : k + (oh - 1) * sh + 1 : sh] += products[:, k]
    else:
        product = np.empty((back.shape[0], ow * n), lowered.dtype)
        for y in range(oh):
            np.matmul(back, out[y], out=product)
            lowered[y * sh : y * sh + kh] += product.reshape(kh, *lowered.shape[1:])
    lowered = lowered.reshape(height, channels, kw, ow, n)
    dpadded = np.zeros(padded_shape, lowered.dtype)
    for j in range(kw):
        dpadded[:, :, j : j + (ow - 1) * sw + 1 : sw] += lowered[:, :, j]
    return dpadded


def _matrix(w: Array) -> Array:
    """Filters (F, C, KH, KW) as the (F, KH * C * KW) matrix that goes with `_rows`."""
    return w.transpose(0, 2, 1, 3).reshape(w.shape[0], -1)


def _rows(padded: Array, kernel: tuple[int, int], stride: tuple[int, int], out: tuple[int, int]) -> Array:
    """Lower a padded (H, C, W, N) block along its width; the (OH, KH * C * KW, OW * N) overlapping view of its rows."""
    (kh, kw), (sh, sw), (oh, ow) = kernel, stride, out
    height, channels, _, n = padded.shape
    if kw == 1 and sw == 1:
        lowered = padded  # a column is lowered to itself
    else:
        h, c, w, item = padded.strides
        lowered = np.empty((height, channels, kw, ow, n), padded.dtype)
        np.copyto(lowered, strided(padded, lowered.shape, (h, c, w, w * sw, item)))
    row, item = lowered.strides[0], lowered.itemsize
    return strided(lowered, (oh, kh * channels * kw, ow * n), (row * sh, ow * n * item, item))


def _widened(w: Array, tile: int, step: int) -> Array:
    """Filters (F, C, KH, KW) as (T * F, C, KH, KW + (T - 1) * step): copy t is shifted by t steps."""
    filters, channels, kh, kw = w.shape
    wide = np.zeros((tile, filters, channels, kh, kw + (tile - 1) * step), w.dtype)
    for t in range(tile):
        wide[t, ..., t * step : t * step + kw] = w
    return wide.reshape(tile * filters, *wide.shape[2:])


def _narrowed(wide: Array, tile: int, step: int, kw: int) -> Array:
    """The adjoint of `_widened`: the sum over t of what belongs to the copy shifted by t steps."""
    parts = wide.reshape(tile, -1, *wide.shape[1:])
    total = np.array(parts[0, ..., :kw])
    for t in range(1, tile):
        total += parts[t, ..., t * step : t * step + kw]
    return total


def _interleaved(wide: Array, b: Array | None, tile: int) -> Array:
    """The (OH, F, T * OW, N) block of a (OH, T * F, OW, N) one, plus the biases."""
    oh, filters, ow, n = wide.shape
    parts = wide.reshape(oh, tile, filters // tile, ow, n)
    y = np.empty((oh, filters // tile, ow * tile, n), wide.dtype)
    bias = np.zeros((), wide.dtype) if b is None else b[:, None, None]
    for t in range(tile):
        np.add(parts[:, t], bias, out=y[:, :, t::tile])
    return y


def _deinterleaved(out: Array, tile: int) -> Array:
    """The (OH, T * F, OW / T, N) block of an (OH, F, OW, N) one; the adjoint of `_interleaved`."""
    oh, filters, ow, n = out.shape
    parts = np.empty((oh, tile, filters, ow // tile, n), out.dtype)
    for t in range(tile):
        parts[:, t] = out[:, :, t::tile]
    return parts.reshape(oh, tile * filters, ow // tile, n)
