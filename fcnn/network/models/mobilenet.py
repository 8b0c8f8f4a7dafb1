"""MobileNetV2 (M. Sandler et al., CVPR 2018, arXiv 1801.04381)."""

from fcnn.network import layers
from fcnn.network.combinators import residual, serial
from fcnn.network.initializers import Initializer, he, zeros
from fcnn.network.layer import Layer
from fcnn.values.checks import MOST_COUNT, integer, number

# Table 2 of the paper: the expansion, the filters, how many blocks, and the stride of the first of them.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v2(
    classes: int = 1000,
    *,
    width: float = 1.0,
    dropout: float = 0.2,
    weights: Initializer = he(),  # noqa: B008
    biases: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """MobileNetV2, for images of 32 pixels or more; torchvision's `mobilenet_v2`.

    Blocks of a 1x1 convolution that widens, a 3x3 one of each channel by itself, and a 1x1 one that narrows, with the
    input added where its shape is the output's. 3,504,872 parameters for images of three channels at width 1.

    Args:
        classes: how many outputs.
        width: by how much to multiply the number of filters.
        dropout: the probability of dropping before the dense layer.
        weights, biases: how convolutions and the dense layer begin; only that has biases.
    """
    integer("classes", classes, least=1, most=MOST_COUNT)
    width = number("width", width, "(0, 8]")
    inputs = _filters(32, width)
    blocks = {"stem": _convolution(inputs, 3, 2, 1, weights)}
    for expansion, filters, count, first_stride in _STAGES:
        outputs = _filters(filters, width)
        for stride in (first_stride, *[1] * (count - 1)):
            blocks[f"block{len(blocks)}"] = _block(inputs, outputs, expansion, stride, weights)
            inputs = outputs
    last = _filters(1280, max(1.0, width))
    return serial(
        features=serial(**blocks, head=_convolution(last, 1, 1, 1, weights)),
        avgpool=layers.global_avg_pool2d(),
        dropout=layers.dropout(dropout),
        classifier=layers.dense(classes, weights=weights, biases=biases),
    )


def _block(inputs: int, outputs: int, expansion: int, stride: int, weights: Initializer) -> Layer:
    wide = inputs * expansion
    expand = {"expand": _convolution(wide, 1, 1, 1, weights)} if expansion > 1 else {}
    body = serial(
        **expand,
        depthwise=_convolution(wide, 3, stride, wide, weights),
        project=layers.conv2d(outputs, 1, bias=False, weights=weights),
        bn=layers.batch_norm(),
    )
    return residual(body) if stride == 1 and inputs == outputs else body


def _convolution(filters: int, kernel: int, stride: int, groups: int, weights: Initializer) -> Layer:
    conv = layers.conv2d(
        filters, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False, weights=weights
    )
    return serial(conv=conv, bn=layers.batch_norm(), relu=layers.relu6())


def _filters(count: int, width: float) -> int:
    """So many filters times the width, as a multiple of 8 that is at most a tenth smaller."""
    nearest = max(8, int(count * width + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * count * width else nearest + 8
