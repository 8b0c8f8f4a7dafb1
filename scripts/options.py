"""What options of several scripts can say, and how their numbers are read."""

import argparse
import math
import os
from collections.abc import Callable

import fcnn


def _of_any_size(make: Callable[..., fcnn.Layer]) -> Callable[..., fcnn.Layer]:
    """The constructor of a network that takes images of any size, in the form of those that need to know it."""
    return lambda in_shape, classes, **initializers: make(classes=classes, **initializers)


MODELS: dict[str, Callable[..., fcnn.Layer]] = {  # from one image's shape and the number of classes
    "lenet5": fcnn.lenet5,
    "lenet5_bn": fcnn.lenet5_bn,
    "resnet_cifar": _of_any_size(fcnn.resnet_cifar),
    "resnet18": _of_any_size(fcnn.resnet18),
    "vgg11": _of_any_size(fcnn.vgg11),
    "mobilenet_v2": _of_any_size(fcnn.mobilenet_v2),
    "squeezenet1_1": _of_any_size(fcnn.squeezenet1_1),
}
NORMALISING = ("lenet5_bn", "resnet_cifar", "resnet18", "mobilenet_v2")  # by batch: a shard's statistics are its own
USUAL = {  # the images that a network was made for, and how many classes it told apart
    **dict.fromkeys(("lenet5", "lenet5_bn"), ((1, 28, 28), 10)),
    "resnet_cifar": ((3, 32, 32), 10),
    **dict.fromkeys(("resnet18", "vgg11", "mobilenet_v2", "squeezenet1_1"), ((3, 224, 224), 1000)),
}
INITIALIZERS = {  # of weights and of biases
    "he": (fcnn.he(), fcnn.zeros()),
    "xavier": (fcnn.xavier(), fcnn.zeros()),
    "lecun": (fcnn.lecun(), fcnn.zeros()),
    "kaiming_uniform": (fcnn.kaiming_uniform(), fcnn.kaiming_uniform()),
}


def whole(least: int) -> Callable[[str], int]:
    """A parser of whole numbers of at least `least`."""

    def convert(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text}")
        return value

    convert.__name__ = "whole number"
    return convert


def image_shape(text: str) -> tuple[int, int, int]:
    """The (3, 224, 224) of 3x224x224."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() and 0 < int(part) < 1 << 20 for part in parts):
        raise argparse.ArgumentTypeError(f"expected channels, height and width, such as 3x224x224, got {text!r}")
    channels, height, width = map(int, parts)
    return channels, height, width


def data_set(text: str) -> str:
    """The name of a data set as it is, or the whole path of a folder or a file, so that it is found from anywhere."""
    try:
        return os.path.abspath(os.path.expanduser(text)) if fcnn.data.is_own(text) else text
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def number(text: str) -> float:
    """A finite number of at least 0."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a finite number of at least 0, got {text}")
    return value
