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

_TOGETHER = 1 << 18  # numbers of a product and its operand at a time; more parts are shared out better
_COLUMNS = 256  # of a product at least, as each reads all its weights
_WORTH_HALVES = 1 << 24  # multiply-adds, from which on there is something to do for two cores
_OUTPUTS = 1 << 18  # numbers at a time of a convolution in groups
_PIXELS = 1 << 18  # numbers at a time of pooling


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
    halves = len(rows_of) == 1 and filters > 1 and g.macs >= _WORTH_HALVES
    filters_of = _cuts(filters, -(-filters // 2) if halves else filters)

    def run(x: Array) -> Array:
        y = empty((filters, oh, ow, n), np.result_type(x, w))

        def operand(rows: range) -> Array:
            return x[:, rows.start : rows.stop].reshape(depth, -1) if direct else _lowered(x, g, rows, ones, halves)

        with scratch_space():
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
    rows_of = _cuts(oh, _OUTPUTS // (filters * ow * n))

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
    """The greatest numbers of windows of images (C, H, W, N), (C, OH, OW, N)."""
    channels, height, width, n = x.shape
    y = empty((channels, *out, n), x.dtype)
    parts = _cuts(channels, _PIXELS // (height * width * n))
    down, across = (
        [slice(k, k + (o - 1) * s + 1, s) for k in range(w)] for w, s, o in zip(window, stride, out, strict=True)
    )

    def one(number: int) -> None:
        some = slice(parts[number].start, parts[number].stop)
        image = x[some]
        if pads != ((0, 0), (0, 0)):
            (top, bottom), (left, right) = pads
            image = scratch((len(image), top + height + bottom, left + width + right, n), x.dtype)
            image.fill(-np.inf)
            image[:, top : top + height, left : left + width] = x[some]
        # Along the height first: then there is less to take number by number, along the width.
        rows = scratch((len(image), out[0], image.shape[2], n), x.dtype)
        _greatest([image[:, line] for line in down], rows)
        _greatest([rows[:, :, line] for line in across], y[some])

    each_part(len(parts), one, x.size / 1000)
    return y


def _greatest(views: list[Array], out: Array) -> None:
    np.maximum(views[0], views[-1], out=out)
    for view in views[1:-1]:
        np.maximum(out, view, out=out)


def _cuts(length: int, most: int) -> list[range]:
    """A length in equal parts, of which the last one may be less; if in several, in an even number, for two cores."""
    count = -(-length // max(1, most))
    size = -(-length // (count + (count > 1 and count % 2)))
    return [range(begin, min(begin + size, length)) for begin in range(0, length, size)]


def _part(y: Array, filters: range, rows: range) -> Array:
    """The view (filters, rows * OW * N) of some of the outputs."""
    return y[filters.start : filters.stop, rows.start : rows.stop].reshape(len(filters), -1)


def _phases(x: Array, g: Geometry, rows: range) -> Array:
    """What some rows of the output need of x and its padding, (C, rows, stride, columns, N), in scratch memory.

    Columns with the same remainder by the stride lie together. So what a tap meets lies in one run: the column
    x * stride + l * dilation is one of those with the remainder of l * dilation.
    """
    (channels, height, width, n), ((top, _), (left, _)), (sh, sw) = x.shape, g.pads, g.stride
    count, columns = (len(rows) - 1) * sh + g.window[0], g.out[1] + (g.window[1] - 1) // sw
    phases = scratch((channels, count, sw, columns, n), x.dtype)
    phases.fill(0)
    row, first, last = within(rows.start * sh - top, 1, count, height)
    for phase in range(sw):
        at, begin, end = within(phase - left, sw, columns, width)
        if first < last and begin < end:
            source = x[:, row : row + last - first, at : at + (end - begin - 1) * sw + 1 : sw]
            phases[:, first:last, phase, begin:end] = source
    return phases


def _lowered(x: Array, g: Geometry, rows: range, ones: bool, halves: bool) -> Array:
    """L of some rows of the output, with a row of ones below it if asked for; in scratch memory.

    By halves of the channels, which two cores can do.
    """
    channels, taps, length = len(x), g.kernel[0] * g.kernel[1], len(rows) * g.out[1] * x.shape[3]
    lowered = scratch((channels * taps + ones, length), x.dtype)
    lowered[channels * taps :] = 1
    parts = _cuts(channels, -(-channels // 2) if halves else channels)

    def one(number: int) -> None:
        some = parts[number]
        _lower(x[some.start : some.stop], g, rows, lowered[some.start * taps : some.stop * taps])

    each_part(len(parts), one, lowered.size / 2000)
    return lowered


def _lower(x: Array, g: Geometry, rows: range, out: Array) -> None:
    (kh, kw), (sh, sw), (down, across), length = g.kernel, g.stride, g.dilation, g.out[1] * x.shape[3]
    phases = _phases(x, g, rows)
    target = out.reshape(len(x), kh, kw, len(rows), length)
    channel, line, phase, pixel, item = phases.strides
    shape, strides = (len(x), kh, len(rows), length), (channel, down * line, sh * line, item)
    for tap in range(kw):
        at, remainder = divmod(tap * across, sw)
        target[:, :, tap] = np.ndarray(shape, x.dtype, phases, remainder * phase + at * pixel, strides)
