"""Convolutions; the mathematics stands in `fcnn.ops.conv` and `fcnn.ops.transposed`."""

import functools
import math

from fcnn import ops
from fcnn.network.initializers import Fan, Initializer, check_initializers, xavier, zeros
from fcnn.network.layer import Functions, Init, Shape, layer_constructor
from fcnn.network.layers.common import draw_weights, images, with_weights
from fcnn.ops.conv import expect_divided
from fcnn.ops.transposed import transposed_windows
from fcnn.ops.window import Padding, Pads, extent, pads_of, windows
from fcnn.values.checks import MOST_COUNT, Pair, boolean, integer, pair
from fcnn.values.keys import Key
from fcnn.values.tree import EMPTY


@layer_constructor
def conv2d(
    filters: int,
    kernel: Pair,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    bias: bool = True,
    weights: Initializer = xavier(),  # noqa: B008 (an immutable value)
    biases: Initializer = zeros(),  # noqa: B008
) -> Functions:
    """2-D convolution: images (C, H, W) to (filters, OH, OW); see `fcnn.ops.conv2d`.

    Parameters: `w` (filters, C / groups, KH, KW), and `b` (filters,) with `bias`. Fans are those of `w` alone, as in
    PyTorch: each group's filters count as seeing its channels, and each channel as seen by all filters.

    Args:
        filters: how many output channels.
        kernel: the filter's size in pixels, an int or (height, width).
        stride: step in pixels, an int or (vertical, horizontal).
        padding: zeros on each side, an int, (vertical, horizontal), ((top, bottom), (left, right)), or "same".
        dilation: how far apart the filter's numbers stand, in pixels, an int or (vertical, horizontal).
        groups: into how many parts channels and filters are divided, each of which sees nothing of the others.
        bias: whether to add a bias to each filter's output.
        weights, biases: how they begin; for deep networks of ReLUs `he()` keeps the variance.

    >>> conv2d(6, 5, padding=2)
    conv2d(6, 5, padding=2)
    """
    count, parts = filter_counts("conv2d", filters, groups)
    bias = boolean("bias", bias)
    check_initializers(weights=weights, biases=biases)
    size, steps, apart = (
        pair(name, value, least=1) for name, value in (("kernel", kernel), ("stride", stride), ("dilation", dilation))
    )
    pads_of((1, 1), extent(size, apart), steps, padding)  # refuses nonsense here, not at the first image

    def init(key: Key, in_shape: Shape, /) -> Init:
        channels, height, width = images(f"conv2d({filters}, {kernel})", in_shape)
        expect_divided("conv2d", parts, channels, count)
        _, _, out = windows((height, width), size, steps, padding, apart)
        fan = Fan(channels // parts * math.prod(size), count * math.prod(size))
        shape = count, channels // parts, *size
        params = draw_weights(key, shape, fan, count if bias else None, weights, biases)
        return Init(params, EMPTY, (count, *out), count * math.prod(out) * fan.inputs)

    op = functools.partial(ops.conv2d, stride=steps, padding=padding, dilation=apart, groups=parts)
    return with_weights(init, op, ops.conv2d_backward, bias)


@layer_constructor
def conv_transpose2d(
    filters: int,
    kernel: Pair,
    *,
    stride: Pair = 1,
    padding: Pair | Pads = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    bias: bool = True,
    weights: Initializer = xavier(),  # noqa: B008
    biases: Initializer = zeros(),  # noqa: B008
) -> Functions:
    """Transposed convolution: images (C, H, W) to (filters, OH, OW); see `fcnn.ops.conv_transpose2d`.

    Parameters: `w` (C, filters / groups, KH, KW), and `b` (filters,) with `bias`. Fans are those of `w` alone, as in
    PyTorch: fan_in is filters / groups * KH * KW, fan_out C * KH * KW.

    Args:
        filters: how many output channels.
        kernel: the filter's size in pixels, an int or (height, width).
        stride: step in the output, in pixels, an int or (vertical, horizontal).
        padding: what is left out on each side, an int, (vertical, horizontal), or ((top, bottom), (left, right)).
        output_padding: rows and columns more below and on the right, an int or (vertical, horizontal).
        dilation: how far apart the filter's numbers stand, in pixels, an int or (vertical, horizontal).
        groups: into how many parts channels and filters are divided, each of which sees nothing of the others.
        bias: whether to add a bias to each output channel.
        weights, biases: how they begin.

    >>> from fcnn import key
    >>> conv_transpose2d(3, 2, stride=2).init(key(0), (8, 5, 5)).out_shape
    (3, 10, 10)
    """
    count, parts = filter_counts("conv_transpose2d", filters, groups)
    bias = boolean("bias", bias)
    check_initializers(weights=weights, biases=biases)
    size = pair("kernel", kernel, least=1)

    def window(height: int, width: int) -> tuple[int, int]:
        return transposed_windows((height, width), size, stride, padding, output_padding, dilation)[-1]

    window(1 << 40, 1 << 40)  # refuses nonsense here, not at the first image

    def init(key: Key, in_shape: Shape, /) -> Init:
        channels, height, width = images(f"conv_transpose2d({filters}, {kernel})", in_shape)
        expect_divided("conv_transpose2d", parts, channels, count)
        out = window(height, width)
        fan = Fan(count // parts * math.prod(size), channels * math.prod(size))
        shape = channels, count // parts, *size
        params = draw_weights(key, shape, fan, count if bias else None, weights, biases)
        return Init(params, EMPTY, (count, *out), channels * height * width * fan.inputs)

    op = functools.partial(
        ops.conv_transpose2d,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=parts,
    )
    return with_weights(init, op, ops.conv_transpose2d_backward, bias)


def filter_counts(name: str, filters: int, groups: int) -> tuple[int, int]:
    """How many filters and groups."""
    count, parts = (
        integer(name, value, least=1, most=MOST_COUNT) for name, value in (("filters", filters), ("groups", groups))
    )
    if count % parts:
        raise ValueError(f"groups divide the {count} filters of {name}, got {parts}")
    return count, parts
