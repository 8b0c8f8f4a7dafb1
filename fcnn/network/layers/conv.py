"""Convolutions; the mathematics stands in `fcnn.ops.conv`."""

import functools

from fcnn import ops
from fcnn.network.initializers import Fan, Initializer, check_initializers, xavier, zeros
from fcnn.network.layer import Functions, Init, Shape, layer_constructor
from fcnn.network.layers.common import draw_weights, images, with_weights
from fcnn.ops.window import Padding, out_size, pads_of
from fcnn.values.checks import Pair, boolean, integer, pair
from fcnn.values.keys import Key
from fcnn.values.tree import EMPTY


@layer_constructor
def conv2d(
    filters: int,
    kernel: Pair,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    bias: bool = True,
    weights: Initializer = xavier(),  # noqa: B008 (an immutable value)
    biases: Initializer = zeros(),  # noqa: B008
) -> Functions:
    """2-D convolution: images (C, H, W) to (filters, OH, OW); see `fcnn.ops.conv2d`.

    Parameters: `w` (filters, C, KH, KW), and `b` (filters,) with `bias`.

    Args:
        filters: how many output channels.
        kernel: the filter's size in pixels, an int or (height, width).
        stride: step in pixels, an int or (vertical, horizontal).
        padding: zeros on each side, an int, (vertical, horizontal), or "same".
        bias: whether to add a bias to each filter's output.
        weights, biases: how they begin; for deep networks of ReLUs `he()` keeps the variance.

    >>> conv2d(6, 5, padding=2)
    conv2d(6, 5, padding=2)
    """
    count = integer("filters", filters, least=1)
    bias = boolean("bias", bias)
    check_initializers(weights=weights, biases=biases)
    size, steps = pair("kernel", kernel, least=1), pair("stride", stride, least=1)
    pads_of((1, 1), size, steps, padding)  # refuses nonsense here, not at the first image

    def init(key: Key, in_shape: Shape, /) -> Init:
        channels, *image = images(f"conv2d({filters}, {kernel})", in_shape)
        in_size = (image[0], image[1])
        oh, ow = out_size(in_size, size, steps, pads_of(in_size, size, steps, padding))
        fan = Fan(channels * size[0] * size[1], count * size[0] * size[1])
        params = draw_weights(key, (count, channels, *size), fan, bias, weights, biases)
        return Init(params, EMPTY, (count, oh, ow), count * oh * ow * fan.inputs)

    op = functools.partial(ops.conv2d, stride=steps, padding=padding)
    return with_weights(init, op, ops.conv2d_backward, bias)
