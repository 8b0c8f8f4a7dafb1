"""Pooling; the mathematics stands in `fcnn.ops.pool`."""

from collections.abc import Callable
from typing import Any

from fcnn import ops
from fcnn.network.layer import Functions, Init, Shape, layer_constructor
from fcnn.network.layers.common import images, without_weights
from fcnn.ops.pool import pool_window
from fcnn.ops.window import Padding, pads_of
from fcnn.values.arrays import Array
from fcnn.values.checks import Pair, pair
from fcnn.values.keys import Key
from fcnn.values.tree import EMPTY


@layer_constructor
def max_pool2d(window: Pair, *, stride: Pair | None = None, padding: Padding = 0) -> Functions:
    """The greatest number in each window of images (C, H, W); see `fcnn.ops.max_pool2d`.

    Args:
        window: in pixels, an int or (height, width).
        stride: in pixels; the window's size when None.
        padding: in pixels on each side, an int, (vertical, horizontal), or "same"; the border never wins.
    """
    return _pool("max_pool2d", ops.max_pool2d, ops.max_pool2d_backward, window, stride, padding)


@layer_constructor
def avg_pool2d(window: Pair, *, stride: Pair | None = None, padding: Padding = 0) -> Functions:
    """The mean of each window of images (C, H, W), padded zeros included; arguments as `max_pool2d`."""
    return _pool("avg_pool2d", ops.avg_pool2d, ops.avg_pool2d_backward, window, stride, padding)


@layer_constructor
def global_avg_pool2d() -> Functions:
    """The mean of each channel: images (C, H, W) to features (C,)."""

    def init(key: Key, in_shape: Shape, /) -> Init:
        return Init(EMPTY, EMPTY, images("global_avg_pool2d()", in_shape)[:1])

    return without_weights(init, ops.global_avg_pool2d, ops.global_avg_pool2d_backward)


def _pool(
    name: str,
    forward: Callable[..., tuple[Array, Any]],
    backward: Callable[..., Array],
    window: Pair,
    stride: Pair | None,
    padding: Padding,
) -> Functions:
    size = pair("window", window, least=1)
    steps = size if stride is None else pair("stride", stride, least=1)
    pads_of((1, 1), size, steps, padding)  # refuses nonsense here, not at the first image

    def init(key: Key, in_shape: Shape, /) -> Init:
        channels, height, width = images(f"{name}({window})", in_shape)
        _, out = pool_window(name, (height, width), size, steps, padding)
        return Init(EMPTY, EMPTY, (channels, *out))

    return without_weights(init, lambda x: forward(x, size, stride=steps, padding=padding), backward)
