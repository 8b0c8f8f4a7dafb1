"""The networks of the study. Each is a plain function that returns a layer."""

from fcnn.combinators import serial
from fcnn.initializers import Initializer, xavier, zeros
from fcnn.layer import Layer, Shape
from fcnn.layers import batch_norm as normalise
from fcnn.layers import conv2d, dense, flatten, max_pool2d, relu
from fcnn.layers import dropout as drop


def lenet5(
    in_shape: Shape = (1, 28, 28),
    classes: int = 10,
    *,
    batch_norm: bool = False,
    dropout: float = 0.0,
    init: Initializer = xavier(),  # noqa: B008
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """LeNet-5 (Y. LeCun et al., Proc. IEEE 86, 1998) with ReLU and max pooling, as the reproduced study has it.

    Two 5x5 convolutions (6 and 16 filters), each with ReLU and a 2x2 max pool, then 120, 84 and `classes` units.
    Images of 28x28 are padded by 2, which gives the original's 32x32; images of 32x32 are taken as they are. So both
    sizes have a 400-number input to the first dense layer; (1, 28, 28) has 61,706 parameters, (3, 32, 32) 62,006.

    Args:
        in_shape: (C, 28, 28) or (C, 32, 32).
        classes: how many outputs.
        batch_norm: normalise before each ReLU; the layer before has no bias then, as its shift is `beta`.
        dropout: the probability of dropping after the ReLU of each dense layer; 0 for no dropout layers.
        init, bias_init: how weights and biases begin.

    >>> from fcnn.keys import key
    >>> lenet5((3, 32, 32)).init(key(0), (3, 32, 32)).out_shape
    (10,)
    """
    padding = _padding(in_shape)

    def activated(number: int) -> dict[str, Layer]:
        norm = {f"bn{number}": normalise()} if batch_norm else {}
        return {**norm, f"relu{number}": relu()}

    def dropped(number: int) -> dict[str, Layer]:
        return {f"drop{number}": drop(dropout)} if dropout else {}

    return serial(
        conv1=conv2d(6, 5, padding=padding, bias=not batch_norm, init=init, bias_init=bias_init),
        **activated(1),
        pool1=max_pool2d(2),
        conv2=conv2d(16, 5, bias=not batch_norm, init=init, bias_init=bias_init),
        **activated(2),
        pool2=max_pool2d(2),
        flatten=flatten(),
        fc1=dense(120, bias=not batch_norm, init=init, bias_init=bias_init),
        **activated(3),
        **dropped(1),
        fc2=dense(84, bias=not batch_norm, init=init, bias_init=bias_init),
        **activated(4),
        **dropped(2),
        fc3=dense(classes, init=init, bias_init=bias_init),
    )


def lenet5_bn(
    in_shape: Shape = (1, 28, 28),
    classes: int = 10,
    *,
    dropout: float = 0.25,
    init: Initializer = xavier(),  # noqa: B008
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """The variant of `lenet5` with batch normalisation and dropout."""
    return lenet5(in_shape, classes, batch_norm=True, dropout=dropout, init=init, bias_init=bias_init)


def _padding(in_shape: Shape) -> int:
    if len(in_shape) != 3 or in_shape[1:] not in ((28, 28), (32, 32)):
        raise ValueError(f"LeNet-5 takes images (C, 28, 28) or (C, 32, 32), got {in_shape}")
    return 2 if in_shape[1] == 28 else 0
