"""Residual networks (K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385)."""

from fcnn.network import layers
from fcnn.network.combinators import residual, serial
from fcnn.network.initializers import Initializer, he, zeros
from fcnn.network.layer import Layer
from fcnn.values.checks import MOST_COUNT, integer

_MOST_DEPTH = 2000  # the paper's deepest has 1202


def resnet18(
    classes: int = 1000,
    *,
    weights: Initializer = he(),  # noqa: B008 (an immutable value)
    biases: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """ResNet-18, for images of any size from some 32 pixels on; torchvision's `resnet18`.

    A 7x7 convolution and a 3x3 max pool, both with a stride of 2, then four stages of two blocks with 64, 128, 256 and
    512 filters, and the mean of each channel before a dense layer. 11,689,512 parameters for images of three channels.

    Args:
        classes: how many outputs.
        weights, biases: how convolutions and the dense layer begin; only that has biases.

    >>> resnet18(10).children["layer2"].children["block1"].children["add"].children["shortcut"]
    serial(conv=conv2d(128, 1, stride=2, bias=False, weights=he()), bn=batch_norm())
    """
    integer("classes", classes, least=1, most=MOST_COUNT)
    return serial(
        conv1=layers.conv2d(64, 7, stride=2, padding=3, bias=False, weights=weights),
        bn1=layers.batch_norm(),
        relu=layers.relu(),
        maxpool=layers.max_pool2d(3, stride=2, padding=1),
        layer1=_stage(2, 64, 1, False, weights),
        layer2=_stage(2, 128, 2, True, weights),
        layer3=_stage(2, 256, 2, True, weights),
        layer4=_stage(2, 512, 2, True, weights),
        avgpool=layers.global_avg_pool2d(),
        fc=layers.dense(classes, weights=weights, biases=biases),
    )


def resnet_cifar(
    depth: int = 20,
    classes: int = 10,
    *,
    weights: Initializer = he(),  # noqa: B008
    biases: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """The residual networks for small images (section 4.2 of the paper): of depth 20, 32, 44, 56, 110, any 6 n + 2.

    A 3x3 convolution, three stages of n blocks with 16, 32 and 64 filters, and the mean of each channel before a dense
    layer. Where a stage begins, the shortcut is a 1x1 convolution (the paper's option B) as in `resnet18`, and not a
    subsample padded with zeros.

    Args:
        depth: how many layers with weights lie one after the other, but for shortcuts.
        classes: how many outputs.
        weights, biases: how convolutions and the dense layer begin; only that has biases.
    """
    integer("classes", classes, least=1, most=MOST_COUNT)
    blocks, rest = divmod(integer("depth", depth, least=8, most=_MOST_DEPTH) - 2, 6)
    if rest:
        raise ValueError(f"resnet_cifar's depth is 6 n + 2, such as 20, 32, 44, 56 or 110, got {depth}")
    return serial(
        conv1=layers.conv2d(16, 3, padding=1, bias=False, weights=weights),
        bn1=layers.batch_norm(),
        relu=layers.relu(),
        layer1=_stage(blocks, 16, 1, False, weights),
        layer2=_stage(blocks, 32, 2, True, weights),
        layer3=_stage(blocks, 64, 2, True, weights),
        avgpool=layers.global_avg_pool2d(),
        fc=layers.dense(classes, weights=weights, biases=biases),
    )


def _stage(count: int, filters: int, stride: int, projected: bool, weights: Initializer) -> Layer:
    blocks = {"block1": _block(filters, stride, projected, weights)}
    for number in range(2, count + 1):
        blocks[f"block{number}"] = _block(filters, 1, False, weights)
    return serial(**blocks)


def _block(filters: int, stride: int, projected: bool, weights: Initializer) -> Layer:
    """Two 3x3 convolutions, and the input beside them: as it is, or by a 1x1 convolution where its shape changes."""
    body = serial(
        conv1=layers.conv2d(filters, 3, stride=stride, padding=1, bias=False, weights=weights),
        bn1=layers.batch_norm(),
        relu=layers.relu(),
        conv2=layers.conv2d(filters, 3, padding=1, bias=False, weights=weights),
        bn2=layers.batch_norm(),
    )
    shortcut = None
    if projected:
        projection = layers.conv2d(filters, 1, stride=stride, bias=False, weights=weights)
        shortcut = serial(conv=projection, bn=layers.batch_norm())
    return serial(add=residual(body, shortcut), relu=layers.relu())
