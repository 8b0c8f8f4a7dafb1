"""Convolution in groups, depthwise above all, and with dilation: many thin products, which `np.matmul` goes through.

Each of the groups is a convolution of C / groups channels by F / groups filters. As in `fcnn.ops.lowered`, rows are
lowered along the width, but with each group's numbers together,

    L[g, h, c, j, x, n] = block[h, g * C / groups + c, x * stride + j * dilation, n]

so the KH rows that output row y needs of a group, L[g, y * stride : y * stride + KH], are the operand of one product,
(KH * C / groups * KW, OW * N), without another copy. With dilation these rows don't lie together, and are copied KH
times.

Where a group has few filters, and a depthwise one has a single one, its products are of few rows. There 4 output rows
are computed together, or how many divide what there is, by a matrix with each filter in it 4 times, shifted down by
0 … 3 steps, and its rows apart as dilation says. Most of what it multiplies is by 0. Still a product of 4 rows takes a
fifth of the time of a multiplication and a sum for each tap, since each of those goes through memory.

The functions have the signatures of `fcnn.ops.lowered`. They work on some rows, columns and groups at a time, so that L
stays in cache.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fcnn.ops.layout import pixels, strided
from fcnn.ops.lowered import within
from fcnn.ops.window import Geometry
from fcnn.values.allocation import scratch, scratch_space
from fcnn.values.arrays import Array

_TOGETHER = (4, 7, 6, 5, 3)  # how many output rows may be computed together, the best one first
_FEW = 4  # filters of a group, from which on there is no need to
_LOWERED = 1 << 19  # numbers of L at a time
_LENGTH = 1024  # numbers of one of its rows


class _Piece(NamedTuple):
    """What is worked on at a time."""

    rows: range  # of the output
    high: int  # how many of them are computed together
    columns: range
    at: int  # where these begin in the part
    groups: range


def suits(g: Geometry) -> bool:
    """Whether it has groups or dilation, of which most other kernels know nothing."""
    return g.groups > 1 or g.dilation != (1, 1)


def forward_weights(w: Array, g: Geometry) -> Array:
    """Filters (F, C / groups, KH, KW) as `correlate` takes them.

    (groups, F / groups, 7, rows * C / groups * KW) where up to 7 output rows are computed together, with the image's
    rows that they need; elsewhere (groups, 1, F / groups, KH * C / groups * KW).
    """
    by_row = w.reshape(g.groups, -1, *w.shape[1:]).swapaxes(2, 3)
    if not _is_thin(g):
        return np.ascontiguousarray(by_row).reshape(_shape(g))
    most = max(_TOGETHER)
    tall = np.zeros((*by_row.shape[:2], most, _height(g, most), *by_row.shape[3:]), w.dtype)
    for t in range(most):
        tall[:, :, t, _taps(g, t)] = by_row
    return tall.reshape(_shape(g))


def correlate(x: Array, weights: Array, g: Geometry, rows: range, columns: range, split: bool, out: Array) -> None:
    """Some rows and columns of the output, into `out`, (rows, F, columns, N).

    `split` puts the even columns before the odd ones.
    """
    for piece in _pieces(rows, columns, split, g):
        with scratch_space():
            np.matmul(_matrices(weights, g, piece), _lowered(x, g, piece), out=_by_group(out, g, piece, rows.start))


def weight_gradient(x: Array, dy: Array, g: Geometry, rows: range, columns: range, split: bool) -> Array:
    """What some rows and columns of the output, with the gradient (rows, F, columns, N), add to the weights' gradient.

    Sums of it are what `weights_of` takes; its shape is that of `forward_weights`.
    """
    total = np.zeros(_shape(g), np.result_type(x, dy))
    for piece in _pieces(rows, columns, split, g):
        with scratch_space():
            found = np.matmul(_by_group(dy, g, piece, rows.start), _lowered(x, g, piece).swapaxes(-1, -2))
            _matrices(total, g, piece)[...] += np.add.reduce(found, axis=0)
    return total


def weights_of(total: Array, g: Geometry) -> Array:
    """The gradient of filters (F, C / groups, KH, KW) from the sum of what `weight_gradient` gave."""
    channels, kw = g.in_shape[1] // g.groups, g.kernel[1]
    if not _is_thin(g):
        return np.ascontiguousarray(total.reshape(g.filters, -1, channels, kw).swapaxes(1, 2))
    most = max(_TOGETHER)
    parts = total.reshape(g.filters, most, -1, channels, kw)
    dw = np.add.reduce([parts[:, t, _taps(g, t)] for t in range(most)], axis=0)
    return np.ascontiguousarray(dw.swapaxes(1, 2))


def backward_weights(w: Array, g: Geometry) -> Array:
    """Filters (F, C / groups, KH, KW) as `input_gradient` takes them.

    At stride 1 that is a convolution of the output's gradient, with filters flipped, and transposed in each group.
    """
    if g.stride != (1, 1):
        return np.ascontiguousarray(forward_weights(w, g).swapaxes(-1, -2))
    flipped = w.reshape(g.groups, -1, *w.shape[1:]).swapaxes(1, 2)[..., ::-1, ::-1]
    return forward_weights(flipped.reshape(g.in_shape[1], -1, *g.kernel), g.transposed())


def input_gradient(dy: Array, weights: Array, g: Geometry, rows: range, out: Array) -> None:
    """Some rows of the input block's gradient, into `out`, (rows, C, W, N), for an output gradient (OH, F, OW, N)."""
    if g.stride == (1, 1):
        correlate(dy, weights, g.transposed(), rows, range(g.in_shape[2]), False, out)
        return
    out.fill(0)
    top = g.pads[0][0]
    first = max(0, (rows.start + top - g.window[0]) // g.stride[0] + 1)
    last = min(g.out[0], (rows.stop - 1 + top) // g.stride[0] + 1)
    for piece in _pieces(range(first, last), range(g.out[1]), False, g):
        with scratch_space():
            matrices = _matrices(weights.swapaxes(-1, -2), g, piece).swapaxes(-1, -2)
            back = np.matmul(matrices, _by_group(dy, g, piece, 0))
            _unlower(np.add.reduce(back, axis=2), out, g, piece, rows)


def _is_thin(g: Geometry) -> bool:
    """Whether output rows are computed together."""
    return g.filters // g.groups < _FEW


def _spread(g: Geometry) -> int:
    """How far apart in the image the rows of an operand are: thin matrices have zeros for those between taps."""
    return 1 if _is_thin(g) else g.dilation[0]


def _height(g: Geometry, high: int) -> int:
    """Rows of the image in the operand of `high` output rows that are computed together."""
    return ((high - 1) * g.stride[0] + g.window[0] - 1) // _spread(g) + 1


def _taps(g: Geometry, t: int) -> slice:
    """The rows of a tall filter in which copy t has its taps."""
    return slice(t * g.stride[0], t * g.stride[0] + g.window[0], g.dilation[0])


def _depth(g: Geometry, high: int) -> int:
    return _height(g, high) * g.in_shape[1] // g.groups * g.kernel[1]


def _shape(g: Geometry) -> tuple[int, int, int, int]:
    filters, most = g.filters // g.groups, max(_TOGETHER)
    return (g.groups, filters, most, _depth(g, most)) if _is_thin(g) else (g.groups, 1, filters, _depth(g, 1))


def _pieces(rows: range, columns: range, split: bool, g: Geometry) -> Iterator[_Piece]:
    """All of a part. If no number of rows divides it, there are fewer at its end."""
    high = next((one for one in _TOGETHER if len(rows) % one == 0), min(4, len(rows))) if _is_thin(g) else 1
    n, depth = g.in_shape[3], _depth(g, high)
    wide = min(len(columns), max(1, max(64, min(_LENGTH, _LOWERED // depth)) // n))
    few = max(1, _LOWERED // (depth * wide * n))  # products
    tall, whole, at = max(1, few // g.groups) * high, len(rows) // high * high, 0
    cuts = [(rows[begin : min(begin + tall, whole)], high) for begin in range(0, whole, tall)]
    if whole < len(rows):
        cuts.append((rows[whole:], len(rows) - whole))
    for line in (columns[0::2], columns[1::2]) if split else (columns,):
        for begin in range(0, len(line), wide):
            part = line[begin : begin + wide]
            for cut, high in cuts:
                for group in range(0, g.groups, few):
                    yield _Piece(cut, high, part, at, range(group, min(group + few, g.groups)))
            at += len(part)


def _matrices(weights: Array, g: Geometry, piece: _Piece) -> Array:
    """Those of a piece's groups, for so many rows as are computed together: the beginning of those for more."""
    weights = weights[piece.groups.start : piece.groups.stop]
    return weights[:, :, : piece.high, : _depth(g, piece.high)] if _is_thin(g) else weights


def _by_group(out: Array, g: Geometry, piece: _Piece, first: int) -> Array:
    """The view of a piece in rows (rows, F, columns, N) from `first` on, as its products have it.

    (products, groups, F / groups, high, columns * N), and where rows aren't computed together (…, 1, F / groups, …).
    """
    filters = g.filters // g.groups
    rows = out[piece.rows.start - first : piece.rows.stop - first]
    rows = rows[:, piece.groups.start * filters : piece.groups.stop * filters, piece.at : piece.at + len(piece.columns)]
    products = rows.reshape(-1, piece.high, len(piece.groups), filters, len(piece.columns) * out.shape[3])
    return products.transpose((0, 2, 3, 1, 4) if _is_thin(g) else (0, 2, 1, 3, 4))


def _lowered(x: Array, g: Geometry, piece: _Piece) -> Array:
    """The operands of a piece's products, (products, groups, 1, rows * C / groups * KW, columns * N), which overlap."""
    (_, kw), (sh, _), n, spread = g.kernel, g.stride, x.shape[3], _spread(g)
    channels, count = g.in_shape[1] // g.groups, len(piece.columns)
    height, products = _height(g, piece.high), len(piece.rows) // piece.high
    first = piece.rows.start * sh - g.pads[0][0]
    source = x[:, piece.groups.start * channels : piece.groups.stop * channels]
    source = source.reshape(len(x), len(piece.groups), channels, *x.shape[2:])
    if spread == 1:
        lowered = scratch(
            (len(piece.groups), (len(piece.rows) - 1) * sh + g.window[0], channels, kw, count, n), x.dtype
        )
        _lower(source, first, 1, g, piece.columns, lowered.swapaxes(0, 1))
        step = piece.high * sh
    else:
        lowered = scratch((len(piece.groups), products * height, channels, kw, count, n), x.dtype)
        for k in range(height):
            _lower(source, first + k * spread, sh, g, piece.columns, lowered[:, k::height].swapaxes(0, 1))
        step = height
    group, row, item = *lowered.strides[:2], lowered.itemsize
    shape = products, len(piece.groups), 1, height * channels * kw, count * n
    return strided(lowered, shape, (step * row, group, 0, count * n * item, item))


def _lower(x: Array, first: int, step: int, g: Geometry, columns: range, out: Array) -> None:
    """Rows first, first + step, … of a block (H, groups, C / groups, W, N), lowered, zeros beyond it.

    Into `out`, (rows, groups, C / groups, KW, columns, N).
    """
    row, top, bottom = within(first, step, len(out), len(x))
    if top:
        out[:top] = 0
    if bottom < len(out):
        out[max(bottom, 0) :] = 0
    if top >= bottom:
        return
    target, source = out[top:bottom], pixels(x[row : row + (bottom - top - 1) * step + 1 : step])
    for j in range(g.kernel[1]):
        start, across = columns.start * g.stride[1] - g.pads[1][0] + j * g.dilation[1], columns.step * g.stride[1]
        at, begin, end = within(start, across, len(columns), x.shape[3])
        if begin:
            target[:, :, :, j, :begin] = 0
        if end < len(columns):
            target[:, :, :, j, max(end, 0) :] = 0
        if begin < end:
            line = source[..., at : at + (end - begin - 1) * across + 1 : across]
            pixels(target[:, :, :, j, begin:end])[...] = line


def _unlower(lowered: Array, out: Array, g: Geometry, piece: _Piece, rows: range) -> None:
    """Add a piece's (products, groups, rows * C / groups * KW, columns * N) to the image's rows that they come from."""
    channels, spread, step = g.in_shape[1] // g.groups, _spread(g), g.stride[1]
    shape = -1, channels, g.kernel[1], len(piece.columns), out.shape[3]
    block = out.reshape(len(out), g.groups, channels, *out.shape[2:])[:, piece.groups.start : piece.groups.stop]
    for y, product in zip(piece.rows[:: piece.high], lowered, strict=True):
        lines = product.reshape(len(piece.groups), *shape).swapaxes(0, 1)
        first = y * g.stride[0] - g.pads[0][0] - rows.start
        row, top, bottom = within(first, spread, len(lines), len(rows))
        for j in range(g.kernel[1] if top < bottom else 0):
            start = piece.columns.start * step - g.pads[1][0] + j * g.dilation[1]
            at, begin, end = within(start, step, len(piece.columns), out.shape[2])
            if begin < end:
                target = block[row : row + (bottom - top - 1) * spread + 1 : spread]
                target[..., at : at + (end - begin - 1) * step + 1 : step, :] += lines[top:bottom, :, :, j, begin:end]
