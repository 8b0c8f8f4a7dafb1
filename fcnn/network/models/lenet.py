"""LeNet-5, the network of the study."""

from fcnn.network import layers
from fcnn.network.combinators import serial
from fcnn.network.initializers import Initializer, xavier, zeros
from fcnn.network.layer import Layer, Shape
from fcnn.values.checks import MOST_COUNT, boolean, integer, lengths, number
from fcnn.values.configuration import tells_new_names

_LEAST_SIDE = 16


@tells_new_names
def lenet5(
    in_shape: Shape = (1, 28, 28),
    classes: int = 10,
    *,
    batch_norm: bool = False,
    dropout: float = 0.0,
    weights: Initializer = xavier(),  # noqa: B008
    biases: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """LeNet-5 (Y. LeCun et al., Proc. IEEE 86, 1998) with ReLU and max pooling, as the reproduced study has it.

    Two 5x5 convolutions (6 and 16 filters), each with ReLU and a 2x2 max pool, then 120, 84 and `classes` units.
    Images of 28x28 are padded by 2, which gives the original's 32x32; images of any other size are taken as they are.
    So 28x28 and 32x32 have a 400-number input to the first dense layer; (1, 28, 28) has 61,706 parameters, (3, 32, 32)
    62,006. Larger images make that layer larger: (3, 64, 64) has 338,486 parameters.

    Args:
        in_shape: (C, H, W), of 16x16 pixels or more: smaller ones would leave nothing after the second pool.
        classes: how many outputs.
        batch_norm: normalise before each ReLU; the layer before has no bias then, as its shift is `beta`.
        dropout: the probability of dropping after the ReLU of each dense layer; 0 for no dropout layers.
        weights, biases: how they begin.

    >>> from fcnn.values.keys import key
    >>> lenet5((3, 32, 32)).init(key(0), (3, 32, 32)).out_shape
    (10,)
    """
    padding = _padding(lengths("in_shape", in_shape))
    integer("classes", classes, least=1, most=MOST_COUNT)
    batch_norm, dropout = boolean("batch_norm", batch_norm), number("dropout", dropout, "[0, 1)")

    def activated(number: int) -> dict[str, Layer]:
        norm = {f"bn{number}": layers.batch_norm()} if batch_norm else {}
        return {**norm, f"relu{number}": layers.relu()}

    def dropped(number: int) -> dict[str, Layer]:
        return {f"drop{number}": layers.dropout(dropout)} if dropout else {}

    return serial(
        conv1=layers.conv2d(6, 5, padding=padding, bias=not batch_norm, weights=weights, biases=biases),
        **activated(1),
        pool1=layers.max_pool2d(2),
        conv2=layers.conv2d(16, 5, bias=not batch_norm, weights=weights, biases=biases),
        **activated(2),
        pool2=layers.max_pool2d(2),
        flatten=layers.flatten(),
        fc1=layers.dense(120, bias=not batch_norm, weights=weights, biases=biases),
        **activated(3),
        **dropped(1),
        fc2=layers.dense(84, bias=not batch_norm, weights=weights, biases=biases),
        **activated(4),
        **dropped(2),
        fc3=layers.dense(classes, weights=weights, biases=biases),
    )


@tells_new_names
def lenet5_bn(
    in_shape: Shape = (1, 28, 28),
    classes: int = 10,
    *,
    dropout: float = 0.25,
    weights: Initializer = xavier(),  # noqa: B008
    biases: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """The variant of `lenet5` with batch normalisation and dropout."""
    return lenet5(in_shape, classes, batch_norm=True, dropout=dropout, weights=weights, biases=biases)


def _padding(in_shape: Shape) -> int:
    if len(in_shape) != 3 or min(in_shape[1:]) < _LEAST_SIDE:
        raise ValueError(
            f"LeNet-5 takes images (C, H, W) of at least {_LEAST_SIDE}x{_LEAST_SIDE} pixels, got {in_shape}"
        )
    return 2 if in_shape[1:] == (28, 28) else 0
