"""Convolution by matrix products on images lowered along the width only: the kernel for every shape.

After M. Cho and D. Brand, "MEC: Memory-efficient Convolution for Deep Neural Network", ICML 2017 (arXiv
1706.06873), carried over to the batch-innermost layout of `fcnn.ops.layout`.

`im2col` copies every pixel KH * KW times. Here the (H, C, W, N) block, with zeros around it, is copied KW times only,

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

Each function computes a part: some rows and columns of the output, or of the input's gradient. Columns are lowered in
groups, no more than one product takes (`fcnn.ops.processor`), so that a group is still in cache when it is multiplied.
"""

import math
from collections.abc import Iterator

import numpy as np

from fcnn.ops.layout import opaque, pixels, strided
from fcnn.ops.processor import columns_a_product, tile
from fcnn.ops.window import Geometry
from fcnn.values.allocation import scratch, scratch_space
from fcnn.values.arrays import Array

_TOGETHER = 1 << 18  # numbers of products that are made by one call and then added up


def forward_weights(w: Array, g: Geometry) -> Array:
    """Filters (F, C, KH, KW) as `correlate` takes them: (T * F, (KH + (T - 1) * stride) * C * KW)."""
    return tall_matrix(w, tile("forward", g.filters, g.out[0]), g.stride[0])


def correlate(x: Array, weights: Array, g: Geometry, rows: range, columns: range, split: bool, out: Array) -> None:
    """Some rows and columns of the output, into `out`, (rows, F, columns, N).

    `split` puts the even columns before the odd ones. Rows begin at a multiple of 4 and end at one, or at the last.
    """
    high, n = len(weights) // g.filters, x.shape[3]
    y = out.reshape(len(rows) // high, high * g.filters, len(columns) * n)
    at = 0
    for group, halved in _groups(columns, split, columns_a_product(weights.size, n)):
        with scratch_space():
            np.matmul(weights, _rows(x, g, rows, group, halved, high), out=y[:, :, at : at + len(group) * n])
        at += len(group) * n


def weight_gradient(x: Array, dy: Array, g: Geometry, rows: range, columns: range, split: bool) -> Array:
    """What some rows and columns of the output, with the gradient (rows, F, columns, N), add to the weights' gradient.

    Sums of it are what `weights_of` takes.
    """
    high, n = tile("weight gradient", g.filters, g.out[0]), x.shape[3]
    # rows @ dy.T and not dy @ rows.T: BLAS is faster when the greater matrix comes first.
    out = dy.reshape(len(rows) // high, high * g.filters, len(columns) * n).transpose(0, 2, 1)
    total, at = None, 0
    few = columns_a_product((g.kernel[0] + high - 1) * g.in_shape[1] * g.kernel[1] * out.shape[2], n, least=512)
    for group, halved in _groups(columns, split, few):
        with scratch_space():
            part = _products(_rows(x, g, rows, group, halved, high), out[:, at : at + len(group) * n])
        total = part if total is None else np.add(total, part, out=total)
        at += len(group) * n
    assert total is not None
    return total


def _products(rows: Array, out: Array) -> Array:
    """The sum over y of rows[y] @ out[y]."""
    shape = len(out), rows.shape[1], out.shape[2]
    if math.prod(shape) <= _TOGETHER:
        return np.asarray(np.add.reduce(np.matmul(rows, out, out=scratch(shape, out.dtype)), axis=0))
    total: Array = np.matmul(rows[0], out[0])
    part = scratch(shape[1:], out.dtype)
    for row, d in zip(rows[1:], out[1:], strict=True):
        total += np.matmul(row, d, out=part)
    return total


def weights_of(total: Array, g: Geometry) -> Array:
    """The gradient of filters (F, C, KH, KW) from the sum of what `weight_gradient` gave."""
    (kh, kw), channels = g.kernel, g.in_shape[1]
    high = total.shape[1] // g.filters
    parts = total.reshape(-1, channels, kw, high, g.filters)
    dw = parts[:kh, :, :, 0]
    for t in range(1, high):
        dw = dw + parts[t * g.stride[0] : t * g.stride[0] + kh, :, :, t]
    return np.ascontiguousarray(dw.transpose(3, 1, 0, 2))


def backward_weights(w: Array, g: Geometry) -> list[Array]:
    """Filters (F, C, KH, KW) as `input_gradient` takes them: for each of the stride's rows (C * KW, taps * F).

    Input row h, counted with the padding, meets output row y where k = h - y * stride is a row of the filter: every
    stride-th k, the last one first. Where the gradient is a convolution (below), as that takes them.
    """
    if _is_convolution(g):
        return [forward_weights(w[:, :, ::-1, ::-1].swapaxes(0, 1), g.transposed())]
    taps = [w[:, :, r :: g.stride[0]][:, :, ::-1] for r in range(g.stride[0])]
    return [np.ascontiguousarray(t.transpose(1, 3, 2, 0).reshape(w.shape[1] * w.shape[3], -1)) for t in taps]


def input_gradient(dy: Array, weights: list[Array], g: Geometry, rows: range, out: Array) -> None:
    """Some rows of the input block's gradient, into `out`, (rows, C, W, N), for an output gradient (OH, F, OW, N)."""
    if _is_convolution(g):
        correlate(dy, weights[0], g.transposed(), rows, range(g.in_shape[2]), False, out)
        return
    _, channels, _, n = g.in_shape
    kw, ow = g.kernel[1], g.out[1]
    out.fill(0)
    for group, _ in _groups(range(ow), False, columns_a_product(weights[0].size, n)):
        with scratch_space():
            lowered = scratch((len(rows), channels * kw, len(group) * n), out.dtype)
            columns = dy[:, :, group.start : group.stop].reshape(g.out[0] * g.filters, len(group) * n)
            for h, row in enumerate(lowered, rows.start + g.pads[0][0]):
                last, r = divmod(h, g.stride[0])
                first = last - weights[r].shape[1] // g.filters + 1
                begin, end = max(first, 0), min(last + 1, g.out[0])
                if begin < end:
                    back = weights[r][:, (begin - first) * g.filters : (end - first) * g.filters]
                    np.matmul(back, columns[begin * g.filters : end * g.filters], out=row)
                else:
                    row.fill(0)
            _unlower(lowered.reshape(len(rows), channels, kw, len(group), n), out, g, group.start)


def _is_convolution(g: Geometry) -> bool:
    """Whether the input's gradient is computed as a convolution of dy with the filters flipped.

    It copies dy KW times where the other way adds the input's gradient up KW times: better where filters are no more
    than channels. But its products are of only C rows, and where the input is larger than the output they have more to
    do.
    """
    (height, channels, width, _), (oh, ow) = g.in_shape, g.out
    return g.stride == (1, 1) and channels >= max(12, g.filters) and 4 * height * width <= 5 * oh * ow


def _unlower(lowered: Array, rows: Array, g: Geometry, first: int) -> None:
    """Add rows (…, C, KW, columns, N), lowered along the width, to the rows (…, C, W, N) that they come from."""
    step, width = g.stride[1], rows.shape[2]
    for j in range(g.kernel[1]):
        at, begin, end = within(first * step + j - g.pads[1][0], step, lowered.shape[3], width)
        if begin < end:
            rows[:, :, at : at + (end - begin - 1) * step + 1 : step] += lowered[:, :, j, begin:end]


def within(at: int, step: int, count: int, width: int) -> tuple[int, int, int]:
    """Of the columns at, at + step, … the first that isn't outside, its number, and that of the first beyond."""
    begin = max(0, -(at // step))
    return at + begin * step, begin, min(count, (width - 1 - at) // step + 1)


def _groups(columns: range, split: bool, most: int) -> Iterator[tuple[range, bool]]:
    """The columns of one product after the other, and whether even ones come before odd ones within it."""
    if len(columns) <= most:
        yield columns, split
        return
    for part in (columns[0::2], columns[1::2]) if split else (columns,):
        groups = -(-len(part) // max(1, most))
        size = -(-len(part) // groups)
        for begin in range(0, len(part), size):
            yield part[begin : begin + size], False


def tall_matrix(w: Array, high: int, step: int) -> Array:
    """Filters (F, C, KH, KW) as (T * F, (KH + (T - 1) * step) * C * KW): copy t is shifted down by t steps."""
    filters, channels, kh, kw = w.shape
    tall = np.zeros((high, filters, kh + (high - 1) * step, channels, kw), w.dtype)
    for t in range(high):
        tall[t, :, t * step : t * step + kh] = w.swapaxes(1, 2)
    return tall.reshape(high * filters, -1)


def _rows(x: Array, g: Geometry, rows: range, columns: range, split: bool, high: int) -> Array:
    """The overlapping view (rows / T, (KH + (T - 1) * stride) * C * KW, columns * N) of an image's lowered rows."""
    (sh, sw), (kh, kw), (_, channels, _, n) = g.stride, g.kernel, x.shape
    tall, count, first = kh + (high - 1) * sh, len(rows) // high, rows.start * sh - g.pads[0][0]
    height, start = (len(rows) - 1) * sh + kh, columns.start * sw - g.pads[1][0]
    lowered = lower(x, first, height, start, columns.step * sw, kw, len(columns), split)
    row, item = lowered.strides[0], lowered.itemsize
    shape = (count, tall * channels * kw, len(columns) * n)
    return strided(lowered, shape, (row * sh * high, len(columns) * n * item, item))


def lower(
    x: Array, first: int, height: int, start: int, step: int, taps: int, count: int, split: bool = False
) -> Array:
    """L[h, c, j, i, n] = x[first + h, c, start + j + i * step, n], (height, C, taps, count, N); zeros beyond the image.

    The column of tap j moves by 1, that of output i by `step`; `split` puts even i before odd ones. In scratch memory.
    """
    image_height, channels, width, n = x.shape
    lowered = scratch((height, channels, taps, count, n), x.dtype)
    halves = (range(start, start + count * step, 2 * step), range(start + step, start + count * step, 2 * step))
    if first >= 0 and first + height <= image_height and start >= 0 and start + (count - 1) * step + taps <= width:
        # Not x.strides, which along an axis of length 1 may be anything.
        w = n * x.itemsize
        c, h = width * w, channels * width * w
        lines, at = (2, count // 2) if split else (1, count), first * h + start * w
        steps = (step * w, 2 * step * w) if split else (0, step * w)
        source = np.ndarray((height, channels, taps, *lines), opaque(w), x, at, (h, c, w, *steps))
        pixels(lowered.reshape(height, channels, taps, *lines, n))[...] = source
        return lowered
    top, bottom = min(max(0, -first), height), max(min(height, image_height - first), 0)
    lowered[:top] = 0
    lowered[bottom:] = 0
    inside, source = lowered[top:bottom], pixels(x[first + top : first + bottom])
    offset = 0
    for line in halves if split else (range(start, start + count * step, step),):
        for j in range(taps):
            target = inside[:, :, j, offset : offset + len(line)]
            at, begin, end = within(line.start + j, line.step, len(line), width)
            if begin:
                target[:, :, :begin] = 0
            if end < len(line):
                target[:, :, max(end, 0) :] = 0
            if begin < end:
                pixels(target)[:, :, begin:end] = source[:, :, at : at + (end - begin - 1) * line.step + 1 : line.step]
        offset += len(line)
    return lowered
