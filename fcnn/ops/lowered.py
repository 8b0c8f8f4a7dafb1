"""Convolution by matrix products on images lowered along the width only: the kernel for every shape.

After M. Cho and D. Brand, "MEC: Memory-efficient Convolution for Deep Neural Network", ICML 2017 (arXiv
1706.06873), carried over to the batch-innermost layout of `fcnn.ops.layout`.

`im2col` copies every pixel KH * KW times. Here the padded (H, C, W, N) block is copied KW times only,

    L[h, c, j, x, n] = block[h, c, j + x * stride, n]                    shape (H, C, KW, OW, N)

because the KH rows that output row y needs, L[y : y + KH], already lie one behind the other: the GEMM operand of that
row, (KH * C * KW, OW * N), is a *view*. Output row y is W @ rows[y] with the weights as (F, KH * C * KW), and comes out
as (F, OW * N), which is row y of the output block. The output gradient's rows lie one behind the other as well. So, at
stride 1, with W[k] the (F, C * KW) weights of filter row k:

    forward            y[y]    =  W @ rows[y]
    weight gradient    dW.T    =  sum over y of  rows[y] @ dy[y].T
    input gradient     dL[h]   =  [W[KH - 1].T … W[0].T] @ dy[h - KH + 1 : h + 1]
                       dblock[h, c, j + x] += dL[h, c, j, x]

Thin layers, such as the first one of a network, make matrices too small for a fast product. For them T neighbouring
output rows are computed together: a convolution with the T * F filters that are w shifted down by 0 … T - 1 steps, in
a window of KH + (T - 1) * stride rows, with T times the stride. Their outputs come out in the right order.
"""

import numpy as np

from fcnn.ops.layout import strided
from fcnn.ops.window import Pads
from fcnn.values.arrays import Array

# Up to so many numbers (4 MB of float32) are worked on at a time, so that they are still in cache for the next pass.
_BATCHED = 1 << 20


def correlate(padded: Array, w: Array, stride: tuple[int, int]) -> Array:
    """Cross-correlate a padded (H, C, W, N) block with filters (F, C, KH, KW); the (OH, F, OW, N) block."""
    height, _, width, n = padded.shape
    filters, _, kh, kw = w.shape
    oh, ow = (height - kh) // stride[0] + 1, (width - kw) // stride[1] + 1
    tile = _tile(filters, oh, least=12)
    rows = _rows(padded, (kh + (tile - 1) * stride[0], kw), (stride[0] * tile, stride[1]), (oh // tile, ow))
    return np.asarray(np.matmul(_matrix(_tall(w, tile, stride[0])), rows)).reshape(oh, filters, ow, n)


def weight_gradient(padded: Array, out: Array, w_shape: tuple[int, ...], stride: tuple[int, int]) -> Array:
    """The gradient of filters (F, C, KH, KW), for a padded block (H, C, W, N) and an output gradient (OH, F, OW, N)."""
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


def input_gradient(out: Array, w: Array, in_shape: tuple[int, ...], stride: tuple[int, int], pads: Pads) -> Array:
    """The gradient of the unpadded (H, C, W, N) block of shape `in_shape`, for an output gradient (OH, F, OW, N).

    `pads` is the padding of the forward pass, ((top, bottom), (left, right)).
    """
    height, channels, width, n = in_shape
    (sh, sw), ((top, _), (left, _)) = stride, pads
    filters, kw = w.shape[0], w.shape[3]
    oh, _, ow, _ = out.shape
    out = out.reshape(oh * filters, ow * n)
    # Padded row h meets output row y where k = h - y * sh is a row of the filter: every sh-th k, the last one first.
    taps = [w[:, :, r::sh][:, :, ::-1] for r in range(sh)]
    back = [tap.transpose(1, 3, 2, 0).reshape(channels * kw, -1) for tap in taps]
    dx = np.zeros((height, channels, width, n), np.result_type(out, w))
    # A few rows at a time, so that they are still in cache when they are added.
    group = max(1, _BATCHED // max(1, channels * kw * ow * n))
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
        _unlower(lowered[: len(rows)].reshape(len(rows), channels, kw, ow, n), rows, sw, left)
    return dx


def _unlower(lowered: Array, rows: Array, step: int, left: int) -> None:
    """Add rows (…, C, KW, OW, N), lowered along the width, to the rows (…, C, W, N) that they come from."""
    kw, ow, width = lowered.shape[2], lowered.shape[3], rows.shape[2]
    for j in range(kw):
        begin = max(0, -((j - left) // step))  # the first output column whose j-th input column isn't padding
        end = min(ow, (width - 1 - (j - left)) // step + 1)
        if begin < end:
            at = j - left + begin * step
            rows[:, :, at : at + (end - begin - 1) * step + 1 : step] += lowered[:, :, j, begin:end]


def _tile(filters: int, out_height: int, least: int) -> int:
    """How many output rows are computed together: enough for matrices of `least` rows, where they divide OH."""
    return next((tile for tile in (1, 2, 4) if tile * filters >= least and out_height % tile == 0), 1)


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
