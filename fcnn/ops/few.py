"""Convolution and max pooling of few images, channel by channel: blocks are (C, H, W, N) here.

The rows of one image's (H, C, W, N) block are W numbers, so a product for each of them has few columns, and for each of
them all weights are read. With a channel's pixels together, a product is of as many rows of the output as leave its
operand in cache,

    y[f, rows] = W @ L         W (F, C * KH * KW + 1), L (C * KH * KW + 1, rows * OW * N)
    L[(c, k, l), (i, x, n)] = x_padded[c, i * stride + k * dilation, x * stride + l * dilation, n]

where the last column of W is the biases, and the last row of L ones. A 1x1 convolution at stride 1 multiplies the block
itself. In groups, `fcnn.ops.grouped` computes it, to which it is all one in what order an array's axes lie.
"""

from collections.abc import Callable

import numpy as np

from fcnn.ops import grouped
from fcnn.ops.lowered import within
from fcnn.ops.parts import each_part, work
from fcnn.ops.passes import InPlace
from fcnn.ops.window import Geometry, Pads
from fcnn.values.allocation import empty, scratch, scratch_space
from fcnn.values.arrays import Array

_TOGETHER = 1 << 19  # numbers of a product and its operand: more than this leaves the cache
_COLUMNS = 256  # of a product at least, as each reads all its weights
_PASS = 1 << 17  # numbers of outputs of a convolution in groups


def convolution(g: Geometry, w: Array, b: Array | None, after: InPlace | None) -> Callable[[Array], Array]:
    """The function from images (C, H, W, N), contiguous, to outputs (F, OH, OW, N), of this geometry.

    g, w, b: as everywhere; so g's shapes are (H, C, W, N) and (OH, F, OW, N).
    after: what is done to each part of the outputs, (filters, pixels).
    """
    if g.groups > 1:
        return _in_groups(g, w, b, after)
    (oh, filters, ow, n), direct = g.out_shape, g.kernel == g.stride == (1, 1) and g.pads == ((0, 0), (0, 0))
    matrix, ones = w.reshape(filters, -1), b is not None and not direct
    if b is not None and ones:
        matrix = np.concatenate([matrix, b[:, None]], axis=1)
    depth = matrix.shape[1]
    rows_of = _cuts(oh, max(_TOGETHER // (depth + filters), _COLUMNS) // (ow * n))
    halves = len(rows_of) == 1 and filters > 64  # for two cores
    filters_of = _cuts(filters, -(-filters // 2) if halves else filters)

    def run(x: Array) -> Array:
        y = empty((filters, oh, ow, n), np.result_type(x, w))
        with scratch_space():
            source = x if direct else _phases(x, g)

            def operand(rows: range) -> Array:
                if direct:
                    return source[:, rows.start : rows.stop].reshape(depth, -1)
                return _lowered(source, g, rows, ones)

            whole = operand(rows_of[0]) if halves else None

            def one(number: int) -> None:
                rows, some = rows_of[number // len(filters_of)], filters_of[number % len(filters_of)]
                target = _part(y, some, rows)
                np.matmul(matrix[some.start : some.stop], operand(rows) if whole is None else whole, out=target)
                if b is not None and direct:
                    np.add(target, b[some.start : some.stop, None], out=target)
                if after is not None:
                    after(target)

            each_part(len(rows_of) * len(filters_of), one, work(g))
        return y

    return run


def _in_groups(g: Geometry, w: Array, b: Array | None, after: InPlace | None) -> Callable[[Array], Array]:
    weights, (oh, filters, ow, n) = grouped.forward_weights(w, g), g.out_shape
    rows_of = _cuts(oh, _PASS // (filters * ow * n))

    def run(x: Array) -> Array:
        y = empty((filters, oh, ow, n), np.result_type(x, w))

        def one(number: int) -> None:
            rows = rows_of[number]
            out = y[:, rows.start : rows.stop].swapaxes(0, 1)
            grouped.correlate(x.swapaxes(0, 1), weights, g, rows, range(ow), False, out)
            target = _part(y, range(filters), rows)
            if b is not None:
                np.add(target, b[:, None], out=target)
            if after is not None:
                after(target)

        each_part(len(rows_of), one, work(g, passes=20))
        return y

    return run


def max_pool(x: Array, window: tuple[int, int], stride: tuple[int, int], pads: Pads, out: tuple[int, int]) -> Array:
    """The greatest numbers of windows of images (C, H, W, N), (C, OH, OW, N).

    Along the height first: then what is taken number by number, along the width, is less.
    """
    for axis, (size, step, (before, after), count) in enumerate(zip(window, stride, pads, out, strict=True), 1):
        if before or after:
            shape = list(x.shape)
            shape[axis] += before + after
            padded = np.full(shape, -np.inf, x.dtype)
            padded.swapaxes(0, axis)[before : before + x.shape[axis]] = x.swapaxes(0, axis)
            x = padded
        lines = x.swapaxes(0, axis)
        views = [lines[k : k + (count - 1) * step + 1 : step].swapaxes(0, axis) for k in range(size)]
        x = np.array(views[0]) if size == 1 else np.maximum(views[0], views[1])
        for view in views[2:]:
            np.maximum(x, view, out=x)
    return x


def _cuts(length: int, most: int) -> list[range]:
    """A length in equal parts, of multiples of 4 where they are longer; the last one may be less."""
    size = -(-length // -(-length // max(1, most)))
    size = -(-size // 4) * 4 if size > 4 else size
    return [range(begin, min(begin + size, length)) for begin in range(0, length, size)]


def _part(y: Array, filters: range, rows: range) -> Array:
    """The view (filters, rows * OW * N) of some of the outputs."""
    return y[filters.start : filters.stop, rows.start : rows.stop].reshape(len(filters), -1)


def _phases(x: Array, g: Geometry) -> Array:
    """x with its padding, the columns of each step's remainder together, (C, rows, stride, columns, N).

    So what a tap meets lies in one run: column x * stride + l * dilation is one of those with the remainder of
    l * dilation.
    """
    (channels, height, width, n), ((top, _), (left, _)), (sh, sw) = x.shape, g.pads, g.stride
    rows, columns = (g.out[0] - 1) * sh + g.window[0], g.out[1] + (g.window[1] - 1) // sw
    phases = scratch((channels, rows, sw, columns, n), x.dtype)
    phases.fill(0)
    row, first, last = within(-top, 1, rows, height)
    for phase in range(sw):
        at, begin, end = within(phase - left, sw, columns, width)
        if first < last and begin < end:
            source = x[:, row : row + last - first, at : at + (end - begin - 1) * sw + 1 : sw]
            phases[:, first:last, phase, begin:end] = source
    return phases


def _lowered(phases: Array, g: Geometry, rows: range, ones: bool) -> Array:
    """L of some rows of the output, with a row of ones below it if asked for."""
    (kh, kw), (sh, sw), (down, across), ow = g.kernel, g.stride, g.dilation, g.out[1]
    channels, n, item = phases.shape[0], phases.shape[4], phases.itemsize
    depth = channels * kh * kw
    lowered = scratch((depth + ones, len(rows) * ow * n), phases.dtype)
    lowered[depth:] = 1
    target = lowered[:depth].reshape(channels, kh, kw, len(rows), ow * n)
    channel, line, _, pixel, _ = phases.strides
    for tap in range(kw):
        at, phase = divmod(tap * across, sw)
        first = rows.start * sh * line + phase * phases.strides[2] + at * pixel
        shape, strides = (channels, kh, len(rows), ow * n), (channel, down * line, sh * line, item)
        target[:, :, tap] = np.ndarray(shape, phases.dtype, phases, first, strides)
    return lowered
