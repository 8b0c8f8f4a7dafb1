"""What options of several scripts can say, and how their numbers are read."""

import argparse
import math
import os
from collections.abc import Callable

import fcnn

MODELS = {"lenet5": fcnn.lenet5, "lenet5_bn": fcnn.lenet5_bn}
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
