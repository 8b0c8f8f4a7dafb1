"""Convolution with dilation, at stride 1 and without groups: pixels that lie `dilation` apart are a small image.

An output pixel meets only those of the input whose row and column leave the same remainders as its own by the dilation.
So where that is d, a part of the output is that many small images in place of each, d * d of them, which the filters
without dilation go over by `fcnn.ops.lowered`. Those of equal size are laid side by side, as a larger batch,

    small[h, c, w, i, n] = block[first[i] + h * d, c, start[i] + w * d, n]

so many at a time as make a product long enough, and lowered rows that stay in cache. (TensorFlow has this as "space to
batch"; what such filters are for: F. Yu and V. Koltun, ICLR 2016, arXiv 1511.07122.)

The functions have the signatures of `fcnn.ops.lowered`.
"""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import attrs
import numpy as np

from fcnn.ops import lowered
from fcnn.ops.layout import pixels
from fcnn.ops.lowered import within
from fcnn.ops.parts import place
from fcnn.ops.processor import Product, tile
from fcnn.ops.window import Geometry
from fcnn.values.allocation import scratch, scratch_space
from fcnn.values.arrays import Array

Image: TypeAlias = tuple[range, range]  # the output's rows and columns that a small image consists of

_LENGTH = 512  # numbers of one row of a product's operand


def suits(g: Geometry) -> bool:
    """Whether it has dilation, and neither stride nor groups, and this is faster than `fcnn.ops.grouped`.

    Each of d * d small images is copied by itself, N numbers at a time: of few samples that takes too long.
    """
    down, across = g.dilation
    return 1 < down * across <= 2 * g.in_shape[3] and g.stride == (1, 1) and g.groups == 1


def forward_weights(w: Array, g: Geometry) -> Array:
    """Filters (F, C, KH, KW) as `correlate` takes them."""
    return lowered.tall_matrix(w, _high(g, "forward"), 1)


def correlate(x: Array, weights: Array, g: Geometry, rows: range, columns: range, split: bool, out: Array) -> None:
    """Some rows and columns of the output, into `out`, (rows, F, columns, N).

    `split` puts the even columns before the odd ones.
    """
    with scratch_space():
        target = scratch(out.shape, out.dtype) if split else out
        for images in _images(g, rows, columns):
            with scratch_space():
                small, block = _small(x, g, images, len(weights) // g.filters)
                y = scratch(small.out_shape, out.dtype)
                lowered.correlate(block, weights, small, range(small.out[0]), range(small.out[1]), False, y)
                for image, found in _each(images, y):
                    pixels(_of(target, g, rows, columns, image))[...] = pixels(found)
        if split:
            half = len(columns) // 2
            pixels(out[:, :, :half])[...] = pixels(target[:, :, 0::2])
            pixels(out[:, :, half:])[...] = pixels(target[:, :, 1::2])


def weight_gradient(x: Array, dy: Array, g: Geometry, rows: range, columns: range, split: bool) -> Array:
    """What some rows and columns of the output, with the gradient (rows, F, columns, N), add to the weights' gradient.

    Sums of it are what `weights_of` takes.
    """
    total = None
    with scratch_space():
        if split:
            ordered = scratch(dy.shape, dy.dtype)
            place(dy, ordered)
            dy = ordered
        for images in _images(g, rows, columns):
            with scratch_space():
                small, block = _small(x, g, images, _high(g, "weight gradient"))
                out = scratch(small.out_shape, dy.dtype)
                out[len(images[0][0]) :] = 0
                for image, given in _each(images, out):
                    pixels(given)[...] = pixels(_of(dy, g, rows, columns, image))
                every = range(small.out[0]), range(small.out[1])
                # How many rows are computed together, and so the result's shape, is the same for all parts.
                whole = attrs.evolve(small, out=(_height(g), small.out[1]))
                part = lowered.weight_gradient(block, out, whole, *every, False)
            total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    return total


def weights_of(total: Array, g: Geometry) -> Array:
    """The gradient of filters (F, C, KH, KW) from the sum of what `weight_gradient` gave."""
    return lowered.weights_of(total, g)


def backward_weights(w: Array, g: Geometry) -> Array:
    """Filters (F, C, KH, KW) as `input_gradient` takes them: flipped and transposed."""
    return forward_weights(w[:, :, ::-1, ::-1].swapaxes(0, 1), g.transposed())


def input_gradient(dy: Array, weights: Array, g: Geometry, rows: range, out: Array) -> None:
    """Some rows of the input block's gradient, into `out`, (rows, C, W, N), for an output gradient (OH, F, OW, N)."""
    correlate(dy, weights, g.transposed(), rows, range(g.in_shape[2]), False, out)


def _height(g: Geometry) -> int:
    """That of the output's small images, or of the higher ones."""
    return -(-g.out[0] // g.dilation[0])


def _high(g: Geometry, product: Product) -> int:
    """How many of their rows are computed together."""
    return tile(product, g.filters, _height(g))


def _images(g: Geometry, rows: range, columns: range) -> Iterator[Sequence[Image]]:
    """The small images of a part, those of equal size that are computed together."""
    (down, across), by_size = g.dilation, dict[tuple[int, int], list[Image]]()
    for row in range(min(down, len(rows))):
        for column in range(min(across, len(columns))):
            image = rows[row::down], columns[column::across]
            by_size.setdefault((len(image[0]), len(image[1])), []).append(image)
    for (_, width), images in by_size.items():
        most = max(1, _LENGTH // (width * max(1, g.in_shape[3])))
        yield from (images[first : first + most] for first in range(0, len(images), most))


def _each(images: Sequence[Image], small: Array) -> Iterator[tuple[Image, Array]]:
    """Each with the view (height, F, width, N) of what is its own of a block of all."""
    height, width = (len(length) for length in images[0])
    apart = small.reshape(*small.shape[:3], len(images), -1)
    return ((image, apart[:height, :, :width, i]) for i, image in enumerate(images))


def _of(part: Array, g: Geometry, rows: range, columns: range, image: Image) -> Array:
    """The view (height, F, width, N) of what is a small image's of a part (rows, F, columns, N)."""
    first, start = image[0].start - rows.start, image[1].start - columns.start
    return part[first :: g.dilation[0], :, start :: g.dilation[1]]


def _small(x: Array, g: Geometry, images: Sequence[Image], high: int) -> tuple[Geometry, Array]:
    """The convolution that gives them, and its block, with zeros beyond the image. In scratch memory."""
    (height, channels, width, n), (down, across) = x.shape, g.dilation
    out = -(-len(images[0][0]) // high) * high, len(images[0][1])
    size = out[0] + g.kernel[0] - 1, out[1] + g.kernel[1] - 1
    block = scratch((size[0], channels, size[1], len(images), n), x.dtype)
    for i, (rows, columns) in enumerate(images):
        row, top, bottom = within(rows.start - g.pads[0][0], down, size[0], height)
        column, left, right = within(columns.start - g.pads[1][0], across, size[1], width)
        target = block[:, :, :, i]
        if top or left or (bottom, right) != size:
            target[...] = 0
        if top < bottom and left < right:
            source = x[row : row + (bottom - top - 1) * down + 1 : down]
            line = pixels(source)[:, :, column : column + (right - left - 1) * across + 1 : across]
            pixels(target[top:bottom, :, left:right])[...] = line
    shape = (size[0], channels, size[1], len(images) * n)
    small = attrs.evolve(g, in_shape=shape, pads=((0, 0), (0, 0)), out=out, dilation=(1, 1))
    return small, block.reshape(shape)
