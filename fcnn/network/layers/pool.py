"""Pooling; the mathematics stands in `fcnn.ops.pool` and `fcnn.ops.adaptive`."""

import functools
from collections.abc import Callable
from typing import Any

from fcnn import ops
from fcnn.network.layer import Functions, Init, Shape, layer_constructor
from fcnn.network.layers.common import images, without_weights
from fcnn.ops.pool import pool_window
from fcnn.ops.window import Padding, pads_of
from fcnn.values.arrays import Array
from fcnn.values.checks import Pair, boolean, pair
from fcnn.values.keys import Key
from fcnn.values.tree import EMPTY


@layer_constructor
def max_pool2d(window: Pair, *, stride: Pair | None = None, padding: Padding = 0, ceil_mode: bool = False) -> Functions:
    """The greatest number in each window of images (C, H, W); see `fcnn.ops.max_pool2d`.

    Args:
        window: in pixels, an int or (height, width).
        stride: in pixels; the window's size when None.
        padding: in pixels on each side, an int, (vertical, horizontal), ((top, bottom), (left, right)), or "same"; the
            border never wins.
        ceil_mode: whether what doesn't tile has a window too, if that begins in the image or in the padding before it.
    """
    backward = ops.max_pool2d_backward
    return _pool("max_pool2d", ops.max_pool2d, backward, window, stride, padding, ceil_mode=ceil_mode)


@layer_constructor
def avg_pool2d(
    window: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Functions:
    """The mean of each window of images (C, H, W); other arguments as those of `max_pool2d`.

    Args:
        count_include_pad: whether padded zeros count; what `ceil_mode` adds beyond the padding never does.
    """
    boolean("count_include_pad", count_include_pad)
    forward = functools.partial(ops.avg_pool2d, count_include_pad=count_include_pad)
    return _pool("avg_pool2d", forward, ops.avg_pool2d_backward, window, stride, padding, ceil_mode=ceil_mode)


@layer_constructor
def global_avg_pool2d() -> Functions:
    """The mean of each channel: images (C, H, W) to features (C,)."""

    def init(key: Key, in_shape: Shape, /) -> Init:
        return Init(EMPTY, EMPTY, images("global_avg_pool2d()", in_shape)[:1])

    return without_weights(init, ops.global_avg_pool2d, ops.global_avg_pool2d_backward)


@layer_constructor
def adaptive_avg_pool2d(size: Pair) -> Functions:
    """The mean of each of h * w windows that divide images (C, H, W), to (C, h, w); see `fcnn.ops.adaptive_avg_pool2d`.

    Args:
        size: how many windows, an int or (rows, columns); 1 is `global_avg_pool2d` to (C, 1, 1).
    """
    windows = pair("size", size, least=1)

    def init(key: Key, in_shape: Shape, /) -> Init:
        channels, *_ = images(f"adaptive_avg_pool2d({size})", in_shape)
        return Init(EMPTY, EMPTY, (channels, *windows))

    return without_weights(init, lambda x: ops.adaptive_avg_pool2d(x, windows), ops.adaptive_avg_pool2d_backward)


def _pool(
    name: str,
    forward: Callable[..., tuple[Array, Any]],
    backward: Callable[..., Array],
    window: Pair,
    stride: Pair | None,
    padding: Padding,
    *,
    ceil_mode: bool,
) -> Functions:
    size = pair("window", window, least=1)
    steps = size if stride is None else pair("stride", stride, least=1)
    pads_of((1, 1), size, steps, padding)  # refuses nonsense here, not at the first image
    boolean("ceil_mode", ceil_mode)

    def init(key: Key, in_shape: Shape, /) -> Init:
        channels, height, width = images(f"{name}({window})", in_shape)
        _, out = pool_window(name, (height, width), size, steps, padding, ceil_mode)
        return Init(EMPTY, EMPTY, (channels, *out))

    op = functools.partial(forward, window=size, stride=steps, padding=padding, ceil_mode=ceil_mode)
    return without_weights(init, op, backward)
