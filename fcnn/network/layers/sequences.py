"""Convolution and pooling of sequences; the mathematics stands in `fcnn.ops.sequences`."""

import functools
from collections.abc import Callable
from typing import Any

from fcnn import ops
from fcnn.network.initializers import Fan, Initializer, check_initializers, xavier, zeros
from fcnn.network.layer import Functions, Init, Shape, layer_constructor
from fcnn.network.layers.common import draw_weights, sequences, with_weights, without_weights
from fcnn.network.layers.conv import filter_counts
from fcnn.ops.conv import expect_divided
from fcnn.ops.sequences import Ends, conv_length, pads_of_rows, places, pool_length
from fcnn.values.arrays import Array
from fcnn.values.checks import boolean
from fcnn.values.keys import Key
from fcnn.values.tree import EMPTY


@layer_constructor
def conv1d(
    filters: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: Ends = 0,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
    weights: Initializer = xavier(),  # noqa: B008 (an immutable value)
    biases: Initializer = zeros(),  # noqa: B008
) -> Functions:
    """1-D convolution: sequences (C, L) to (filters, OL); see `fcnn.ops.conv1d`.

    Parameters: `w` (filters, C / groups, K), and `b` (filters,) with `bias`.

    Args:
        filters: how many output channels.
        kernel: how many places a filter sees.
        stride, dilation, groups, bias, weights, biases: as those of `conv2d`.
        padding: zeros at each end, an int, (before, after), or "same".

    >>> from fcnn import key
    >>> conv1d(8, 3, padding="same").init(key(0), (2, 100)).out_shape
    (8, 100)
    """
    count, parts = filter_counts("conv1d", filters, groups)
    bias = boolean("bias", bias)
    check_initializers(weights=weights, biases=biases)
    size, steps, apart = (
        places(name, value) for name, value in (("kernel", kernel), ("stride", stride), ("dilation", dilation))
    )
    pads = pads_of_rows(padding)

    def init(key: Key, in_shape: Shape, /) -> Init:
        channels, length = sequences(f"conv1d({filters}, {kernel})", in_shape)
        expect_divided("conv1d", parts, channels, count)
        out = conv_length(length, size, steps, pads, apart)
        fan = Fan(channels // parts * size, count * size)
        params = draw_weights(key, (count, channels // parts, size), fan, count if bias else None, weights, biases)
        return Init(params, EMPTY, (count, out), count * out * fan.inputs)

    op = functools.partial(ops.conv1d, stride=steps, padding=padding, dilation=apart, groups=parts)
    return with_weights(init, op, ops.conv1d_backward, bias)


@layer_constructor
def max_pool1d(window: int, *, stride: int | None = None, padding: Ends = 0, ceil_mode: bool = False) -> Functions:
    """The greatest number in each window of sequences (C, L); see `fcnn.ops.max_pool1d`.

    Args:
        window: how many places.
        stride: in places; the window's when None.
        padding: at each end, an int, (before, after), or "same"; it never wins.
        ceil_mode: whether what doesn't tile has a window too, if that begins in the sequence or the padding before it.
    """
    return _pool("max_pool1d", ops.max_pool1d, ops.max_pool1d_backward, window, stride, padding, ceil_mode)


@layer_constructor
def avg_pool1d(
    window: int,
    *,
    stride: int | None = None,
    padding: Ends = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Functions:
    """The mean of each window of sequences (C, L); other arguments as those of `max_pool1d`.

    Args:
        count_include_pad: whether padded zeros count; what `ceil_mode` adds beyond the padding never does.
    """
    boolean("count_include_pad", count_include_pad)
    forward = functools.partial(ops.avg_pool1d, count_include_pad=count_include_pad)
    return _pool("avg_pool1d", forward, ops.avg_pool1d_backward, window, stride, padding, ceil_mode)


@layer_constructor
def global_avg_pool1d() -> Functions:
    """The mean of each channel: sequences (C, L) to features (C,)."""

    def init(key: Key, in_shape: Shape, /) -> Init:
        return Init(EMPTY, EMPTY, sequences("global_avg_pool1d()", in_shape)[:1])

    return without_weights(init, ops.global_avg_pool1d, ops.global_avg_pool1d_backward)


def _pool(
    name: str,
    forward: Callable[..., tuple[Array, Any]],
    backward: Callable[..., Array],
    window: int,
    stride: int | None,
    padding: Ends,
    ceil_mode: bool,
) -> Functions:
    size = places("window", window)
    steps = size if stride is None else places("stride", stride)
    pads = pads_of_rows(padding)
    boolean("ceil_mode", ceil_mode)

    def init(key: Key, in_shape: Shape, /) -> Init:
        channels, length = sequences(f"{name}({window})", in_shape)
        return Init(EMPTY, EMPTY, (channels, pool_length(name, length, size, steps, pads, ceil_mode)))

    op = functools.partial(forward, window=size, stride=steps, padding=padding, ceil_mode=ceil_mode)
    return without_weights(init, op, backward)
