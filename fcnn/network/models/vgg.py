"""VGG (K. Simonyan and A. Zisserman, ICLR 2015, arXiv 1409.1556)."""

from fcnn.network import layers
from fcnn.network.combinators import serial
from fcnn.network.initializers import Initializer, he, zeros
from fcnn.network.layer import Layer
from fcnn.values.checks import MOST_COUNT, integer, number

_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))  # filters; a max pool after each stage


def vgg11(
    classes: int = 1000,
    *,
    dropout: float = 0.5,
    weights: Initializer = he(),  # noqa: B008
    biases: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """VGG with eleven layers (the paper's configuration A), for images of 32 pixels or more; torchvision's `vgg11`.

    Eight 3x3 convolutions with ReLU in five stages, each with a max pool at its end, a mean over 7x7 windows, and dense
    layers of 4096, 4096 and `classes` units. 132,863,336 parameters for images of three channels.

    Args:
        classes: how many outputs.
        dropout: the probability of dropping after the ReLU of each dense layer; 0 for no dropout layers.
        weights, biases: how convolutions and dense layers begin.
    """
    integer("classes", classes, least=1, most=MOST_COUNT)
    dropout = number("dropout", dropout, "[0, 1)")
    features: dict[str, Layer] = {}
    for stage, several in enumerate(_STAGES, 1):
        for filters in several:
            ordinal = 1 + sum(name.startswith("conv") for name in features)
            features[f"conv{ordinal}"] = layers.conv2d(filters, 3, padding=1, weights=weights, biases=biases)
            features[f"relu{ordinal}"] = layers.relu()
        features[f"pool{stage}"] = layers.max_pool2d(2)

    def dropped(number: int) -> dict[str, Layer]:
        return {f"drop{number}": layers.dropout(dropout)} if dropout else {}

    classifier = serial(
        fc1=layers.dense(4096, weights=weights, biases=biases),
        relu1=layers.relu(),
        **dropped(1),
        fc2=layers.dense(4096, weights=weights, biases=biases),
        relu2=layers.relu(),
        **dropped(2),
        fc3=layers.dense(classes, weights=weights, biases=biases),
    )
    return serial(
        features=serial(**features),
        avgpool=layers.adaptive_avg_pool2d(7),
        flatten=layers.flatten(),
        classifier=classifier,
    )
