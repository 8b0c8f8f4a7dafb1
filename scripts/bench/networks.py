"""The networks that are timed, each written once, from the constructors of a kit.

A kit is `fcnn` itself, or a file that has another program's layers under the names that fcnn gives them
(`torch_kit.py`, `onnx_kit.py`). So structure, and the paths of parameters, are everybody's alike. Networks that
fcnn has by name are not written again: a kit makes them of what fcnn tells of them (`described`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Network:
    """A network for images of one data set.

    make: the network of a kit.
    data: the name of the set, as `fcnn.data.load` takes it.
    in_shape: an image's (C, H, W).
    macs: multiply-adds of each product, an image, forward, in order: outputs x taps, or units x inputs.
    shard: images at a time in fcnn's processes.
    """

    make: Callable[[Any], Any]
    data: str
    in_shape: tuple[int, int, int]
    macs: tuple[int, ...]
    shard: int


@attrs.frozen(kw_only=True)
class Published:
    """A network that fcnn has by name; it ends in the mean of each channel, at a 32nd of the size, and a dense layer.

    constructor: its name in `fcnn`.
    macs: multiply-adds of all convolutions for 32x32 pixels of an image, and those of the dense layer.
    """

    constructor: str
    macs: tuple[int, int]


def described(kit: Any, layer: Mapping[str, Any]) -> Any:
    """A kit's network, of what `fcnn.network.description.describe` gives, but for how weights begin."""
    config = {name: value for name, value in layer["config"].items() if not isinstance(value, dict)}
    children = {name: described(kit, child) for name, child in layer["children"].items()}
    return getattr(kit, layer["kind"])(**config, **children)


def lenet5(kit: Any, batch_norm: bool = False) -> Any:
    """`fcnn.lenet5`."""
    bias = not batch_norm

    def activated(number: int) -> dict[str, Any]:
        return _activated(kit, number) if batch_norm else {f"relu{number}": kit.relu()}

    return kit.serial(
        conv1=kit.conv2d(6, 5, padding=2, bias=bias),
        **activated(1),
        pool1=kit.max_pool2d(2),
        conv2=kit.conv2d(16, 5, bias=bias),
        **activated(2),
        pool2=kit.max_pool2d(2),
        flatten=kit.flatten(),
        fc1=kit.dense(120, bias=bias),
        **activated(3),
        fc2=kit.dense(84, bias=bias),
        **activated(4),
        fc3=kit.dense(10),
    )


def vgg(kit: Any) -> Any:
    """A small network in the manner of VGG (K. Simonyan, A. Zisserman, ICLR 2015, arXiv 1409.1556), with batch norm.

    Pairs of 3x3 convolutions with 32, 64 and 128 filters, a 2x2 max pool after each pair, and one dense layer.
    """
    layers: dict[str, Any] = {}
    for number, filters in enumerate((32, 32, 64, 64, 128, 128), 1):
        layers |= {f"conv{number}": _conv(kit, filters), **_activated(kit, number)}
        layers |= {f"pool{number // 2}": kit.max_pool2d(2)} if number % 2 == 0 else {}
    return kit.serial(**layers, flatten=kit.flatten(), head=kit.dense(10))


def resnet8(kit: Any) -> Any:
    """ResNet-8: the networks for CIFAR-10 of K. He et al. (CVPR 2016, arXiv 1512.03385, section 4.2) with n = 1.

    A 3x3 convolution and three blocks of two with 16, 32 and 64 filters, the last two of stride 2; where the shape
    changes, the shortcut is a 1x1 convolution with batch norm (their option B).
    """
    layers: dict[str, Any] = {"conv": _conv(kit, 16), "bn": kit.batch_norm(), "relu": kit.relu()}
    for number, (filters, stride) in enumerate(((16, 1), (32, 2), (64, 2)), 1):
        body = kit.serial(
            conv1=_conv(kit, filters, stride),
            **_activated(kit, 1),
            conv2=_conv(kit, filters),
            bn2=kit.batch_norm(),
        )
        shortcut = [_projection(kit, filters, stride)] if stride > 1 else []
        layers |= {f"block{number}": kit.residual(body, *shortcut), f"relu{number}": kit.relu()}
    return kit.serial(**layers, pool=kit.global_avg_pool2d(), head=kit.dense(10))


def airbench(kit: Any) -> Any:
    """`fcnn.airbench` as scripts/records/cifar10.py trains it."""

    def group(filters: int) -> Any:
        def norm() -> Any:
            return kit.batch_norm(decay=0.6, eps=1e-12)

        return kit.serial(
            conv1=_conv(kit, filters), pool=kit.max_pool2d(2), bn1=norm(), gelu1=kit.gelu(),
            conv2=_conv(kit, filters), bn2=norm(), gelu2=kit.gelu(),
        )  # fmt: skip

    return kit.serial(
        norm=kit.normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        whiten=kit.conv2d(24, 2),
        gelu=kit.gelu(),
        group1=group(64),
        group2=group(256),
        group3=group(256),
        pool=kit.max_pool2d(3),
        flatten=kit.flatten(),
        head=kit.dense(10, bias=False),
        scale=kit.normalize(0.0, 256.0),
    )


def _conv(kit: Any, filters: int, stride: int = 1) -> Any:
    return kit.conv2d(filters, 3, stride=stride, padding=1, bias=False)  # batch norm follows, whose beta is a bias


def _projection(kit: Any, filters: int, stride: int) -> Any:
    return kit.serial(conv=kit.conv2d(filters, 1, stride=stride, bias=False), bn=kit.batch_norm())


def _activated(kit: Any, number: int) -> dict[str, Any]:
    return {f"bn{number}": kit.batch_norm(), f"relu{number}": kit.relu()}


LENET_MACS = (28 * 28 * 6 * 25, 10 * 10 * 16 * 6 * 25, 400 * 120, 120 * 84, 84 * 10)
VGG_MACS = (
    *(32 * 32 * 32 * 3 * 9, 32 * 32 * 32 * 32 * 9),
    *(16 * 16 * 64 * 32 * 9, 16 * 16 * 64 * 64 * 9),
    *(8 * 8 * 128 * 64 * 9, 8 * 8 * 128 * 128 * 9),
    4 * 4 * 128 * 10,
)
RESNET_MACS = (
    32 * 32 * 16 * 3 * 9,
    *(32 * 32 * 16 * 16 * 9, 32 * 32 * 16 * 16 * 9),
    *(16 * 16 * 32 * 16 * 9, 16 * 16 * 32 * 32 * 9, 16 * 16 * 32 * 16),
    *(8 * 8 * 64 * 32 * 9, 8 * 8 * 64 * 64 * 9, 8 * 8 * 64 * 32),
    64 * 10,
)
AIRBENCH_MACS = (
    31 * 31 * 24 * 3 * 4,
    *(31 * 31 * 64 * 24 * 9, 15 * 15 * 64 * 64 * 9),
    *(15 * 15 * 256 * 64 * 9, 7 * 7 * 256 * 256 * 9),
    *(7 * 7 * 256 * 256 * 9, 3 * 3 * 256 * 256 * 9),
    256 * 10,
)

LENET, LENET_BN, VGG, RESNET = "LeNet-5", "LeNet-5 with batch norm", "VGG-like", "ResNet-8"
AIRBENCH = "airbench94"
NETWORKS = {
    LENET: Network(make=lenet5, data="mnist", in_shape=(1, 28, 28), macs=LENET_MACS, shard=64),
    LENET_BN: Network(
        make=lambda kit: lenet5(kit, batch_norm=True), data="mnist", in_shape=(1, 28, 28), macs=LENET_MACS, shard=64
    ),
    VGG: Network(make=vgg, data="cifar10", in_shape=(3, 32, 32), macs=VGG_MACS, shard=32),
    RESNET: Network(make=resnet8, data="cifar10", in_shape=(3, 32, 32), macs=RESNET_MACS, shard=32),
    AIRBENCH: Network(make=airbench, data="cifar10", in_shape=(3, 32, 32), macs=AIRBENCH_MACS, shard=125),
}

PUBLISHED = {
    "ResNet-18": Published(constructor="resnet18", macs=(37_011_456, 512 * 1000)),
    "MobileNetV2": Published(constructor="mobilenet_v2", macs=(6_112_128, 1280 * 1000)),
}
