"""2-D convolution (cross-correlation), lowered along the width only.

After M. Cho and D. Brand, "MEC: Memory-efficient Convolution for Deep Neural Network", ICML 2017 (arXiv
1706.06873), carried over to the batch-innermost layout of `fcnn.ops.layout`.

`im2col` copies every pixel KH * KW times. Here the padded (H, C, W, N) block is copied KW times only,

    L[h, c, j, x, n] = block[h, c, j + x * stride, n]                    shape (H, C, KW, OW, N)

because the KH rows that output row y needs, L[y : y + KH], already lie one behind the other: the GEMM operand of that
row, (KH * C * KW, OW * N), is a *view*. Output row y is W @ rows[y] with the weights as (F, KH * C * KW), and comes out
as (F, OW * N), which is row y of the output block. With f the flattened (KH, C, KW) index:

    forward            y[y]           =  W @ rows[y]  + b
    weight gradient    dW.T           =  sum over y of  rows[y] @ dy[y].T
    input gradient     dL[y : y + KH] += (W.T @ dy[y]);   dblock[h, c, j + x * stride] += dL[h, c, j, x]

Thin layers, such as the first one of a network, make matrices too small for a fast product. For them T neighbouring
output columns are computed together: a convolution with the T * F filters that are w shifted by 0 … T - 1 steps, each
in a window of KW + (T - 1) * stride columns, with T times the stride; its outputs are then interleaved.
"""

import attrs
import numpy as np

from fcnn.ops.layout import Array, block, frozen, keep, strided, unblock
from fcnn.ops.window import Padding, Pads, Pair, check_dy, pad_block, windows

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
    steps, around, (oh, ow) = windows((x.shape[2], x.shape[3]), (kh, kw), stride, padding)
    padded = pad_block(block(x), around)
    tile = _tile(filters, oh, least=12)
    rows = _rows(padded, (kh + (tile - 1) * steps[0], kw), (steps[0] * tile, steps[1]), (oh // tile, ow))
    y = np.asarray(np.matmul(_matrix(_tall(w, tile, steps[0])), rows)).reshape(oh, filters, ow, padded.shape[3])
    if b is not None:
        y += b[:, None, None]
    return frozen(unblock(y)), ConvCache(keep(padded), keep(w), b is not None, steps, around)


def conv2d_backward(dy: Array, cache: ConvCache, *, need_dx: bool = True) -> tuple[Array | None, Array, Array | None]:
    """The gradients of `conv2d` for any dy, (N, F, OH, OW).

    Returns:
        dx (N, C, H, W), None unless `need_dx`; dw (F, C, KH, KW); db (F,), None without a bias.
    """
    w, padded = cache.w, cache.padded
    filters = w.shape[0]
    height, _, width, n = padded.shape
    _, _, (oh, ow) = windows((height, width), (w.shape[2], w.shape[3]), cache.stride, 0)
    check_dy("conv2d_backward", dy, (n, filters, oh, ow))
    out = block(dy)
    db = (
        frozen(np.add.reduce(np.add.reduce(out.reshape(oh, filters, ow * n), axis=2), axis=0))
        if cache.has_bias
        else None
    )
    dw = _weight_gradient(padded, out, w.shape, cache.stride)
    dx = frozen(unblock(_input_gradient(out, w, cache))) if need_dx else None
    return dx, frozen(dw), db


def _tile(filters: int, out_height: int, least: int) -> int:
    """How many output rows are computed together: enough for matrices of `least` rows, where they divide OH."""
    return next((tile for tile in (1, 2, 4) if tile * filters >= least and out_height % tile == 0), 1)


def _weight_gradient(padded: Array, out: Array, w_shape: tuple[int, ...], stride: tuple[int, int]) -> Array:
    """The gradient of the weights (F, C, KH, KW), for an output gradient (OH, F, OW, N)."""
    filters, channels, kh, kw = w_shape
    oh, _, ow, n = out.shape
    tile = _tile(filters, oh, least=16)
    tall = kh + (tile - 1) * stride[0]
    rows = _rows(padded, (tall, kw), (stride[0] * tile, stride[1]), (oh // tile, ow))
    # rows @ dy.T and not dy @ rows.T: BLAS is faster when the greater matrix comes first.
    out = out.reshape(oh // tile, tile * filters, ow * n).transpose(0, 2, 1)
    if len(out) * rows.shape[1] * out.shape[2] <= _BATCHED:
        total = np.add.reduce(np.matmul(rows, out), axis=0)
    else:
        total = np.matmul(rows[0], out[0])
        part = np.empty_like(total)
        for y in range(1, len(out)):
            total += np.matmul(rows[y], out[y], out=part)
    parts = total.reshape(tall, channels, kw, tile, filters)
    dw = parts[:kh, :, :, 0]
    for t in range(1, tile):
        dw = dw + parts[t * stride[0] : t * stride[0] + kh, :, :, t]
    return np.ascontiguousarray(dw.transpose(3, 1, 0, 2))


def _input_gradient(out: Array, w: Array, cache: ConvCache) -> Array:
    """The gradient of the input block (H, C, W, N), without its padding, for an output gradient (OH, F, OW, N)."""
    (sh, sw), ((top, bottom), (left, right)) = cache.stride, cache.around
    height, channels, width, n = cache.padded.shape
    height, width = height - top - bottom, width - left - right
    filters, kw = w.shape[0], w.shape[3]
    oh, _, ow, _ = out.shape
    out = out.reshape(oh * filters, ow * n)
    # Padded row h meets output row y where k = h - y * sh is a row of the filter: every sh-th k, the last one first.
    taps = [w[:, :, r::sh][:, :, ::-1] for r in range(sh)]
    back = [tap.transpose(1, 3, 2, 0).reshape(channels * kw, -1) for tap in taps]
    dx = np.zeros((height, channels, width, n), np.result_type(out, w))
    # A few rows at a time, so that they are still in cache when they are added.
    group = max(1, _BATCHED // (channels * kw * ow * n))
    lowered = np.empty((min(group, height), channels * kw, ow * n), dx.dtype)
    for start in range(0, height, group):
        rows = dx[start : start + group]
        for h, row in enumerate(lowered[: len(rows)], start + top):
            last, r = divmod(h, sh)
            first = last - taps[r].shape[2] + 1
            begin, end = max(first, 0), min(last + 1, oh)
            if begin < end:
                columns = back[r][:, (begin - first) * filters : (end - first) * filters]
                np.matmul(columns, out[begin * filters : end * filters], out=row)
            else:
                row[:] = 0
        columns_of = lowered[: len(rows)].reshape(len(rows), channels, kw, ow, n)
        for j in range(kw):
            begin = max(0, -((j - left) // sw))  # the first output column whose j-th input column isn't padding
            end = min(ow, (width - 1 - (j - left)) // sw + 1)
            if begin < end:
                at = j - left + begin * sw
                rows[:, :, at : at + (end - begin - 1) * sw + 1 : sw] += columns_of[:, :, j, begin:end]
    return dx


def _tall(w: Array, tile: int, step: int) -> Array:
    """Filters (F, C, KH, KW) as (T * F, C, KH + (T - 1) * step, KW): copy t is shifted down by t steps."""
    if tile == 1:
        return w
    filters, channels, kh, kw = w.shape
    tall = np.zeros((tile, filters, channels, kh + (tile - 1) * step, kw), w.dtype)
    for t in range(tile):
        tall[t, :, :, t * step : t * step + kh] = w
    return tall.reshape(tile * filters, *tall.shape[2:])


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
