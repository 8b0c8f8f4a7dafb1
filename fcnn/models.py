"""The networks of the study. Each is a plain function that returns a layer."""

from fcnn.combinators import serial
from fcnn.initializers import Initializer, he, zeros
from fcnn.layer import Layer, Shape
from fcnn.layers import batch_norm, conv2d, dense, dropout, flatten, max_pool2d, relu


def lenet5(
    in_shape: Shape = (1, 28, 28),
    classes: int = 10,
    *,
    init: Initializer = he(),  # noqa: B008
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """LeNet-5 (Y. LeCun et al., Proc. IEEE 86, 1998) with ReLU and max pooling, as the reproduced study has it.

    Two 5x5 convolutions (6 and 16 filters), each with ReLU and a 2x2 max pool, then 120, 84 and `classes` units.
    Images of 28x28 are padded by 2, which gives the original's 32x32; images of 32x32 are taken as they are. So both
    sizes have a 400-number input to the first dense layer; (1, 28, 28) has 61,706 parameters, (3, 32, 32) 62,006.

    >>> from fcnn.keys import key
    >>> lenet5((3, 32, 32)).init(key(0), (3, 32, 32)).out_shape
    (10,)
    """
    return serial(
        conv1=conv2d(6, 5, padding=_padding(in_shape), init=init, bias_init=bias_init),
        relu1=relu(),
        pool1=max_pool2d(2),
        conv2=conv2d(16, 5, init=init, bias_init=bias_init),
        relu2=relu(),
        pool2=max_pool2d(2),
        flatten=flatten(),
        fc1=dense(120, init=init, bias_init=bias_init),
        relu3=relu(),
        fc2=dense(84, init=init, bias_init=bias_init),
        relu4=relu(),
        fc3=dense(classes, init=init, bias_init=bias_init),
    )


def lenet5_bn(
    in_shape: Shape = (1, 28, 28),
    classes: int = 10,
    *,
    rate: float = 0.25,
    init: Initializer = he(),  # noqa: B008
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """LeNet-5 with batch normalisation before each ReLU and dropout after the dense ones.

    Args:
        in_shape: (C, 28, 28) or (C, 32, 32).
        classes: how many outputs.
        rate: dropout's probability of dropping.
        init, bias_init: how weights and biases begin. A layer before batch norm has no bias: its shift is `beta`.
    """
    return serial(
        conv1=conv2d(6, 5, padding=_padding(in_shape), bias=False, init=init),
        bn1=batch_norm(),
        relu1=relu(),
        pool1=max_pool2d(2),
        conv2=conv2d(16, 5, bias=False, init=init),
        bn2=batch_norm(),
        relu2=relu(),
        pool2=max_pool2d(2),
        flatten=flatten(),
        fc1=dense(120, bias=False, init=init),
        bn3=batch_norm(),
        relu3=relu(),
        drop1=dropout(rate),
        fc2=dense(84, bias=False, init=init),
        bn4=batch_norm(),
        relu4=relu(),
        drop2=dropout(rate),
        fc3=dense(classes, init=init, bias_init=bias_init),
    )


def _padding(in_shape: Shape) -> int:
    if len(in_shape) != 3 or in_shape[1:] not in ((28, 28), (32, 32)):
        raise ValueError(f"LeNet-5 takes images (C, 28, 28) or (C, 32, 32), got {in_shape}")
    return 2 if in_shape[1] == 28 else 0
