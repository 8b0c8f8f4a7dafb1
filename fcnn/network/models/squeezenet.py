"""SqueezeNet (F. Iandola et al., arXiv 1602.07360, 2016)."""

from fcnn.network import layers
from fcnn.network.combinators import branch, serial
from fcnn.network.initializers import Initializer, he, zeros
from fcnn.network.layer import Layer
from fcnn.values.checks import MOST_COUNT, integer, number


def squeezenet1_1(
    classes: int = 1000,
    *,
    dropout: float = 0.5,
    weights: Initializer = he(),  # noqa: B008
    biases: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """SqueezeNet 1.1 (the authors' second release), for images of 32 pixels or more; torchvision's `squeezenet1_1`.

    Eight fire modules, each a 1x1 convolution to few channels and then 1x1 and 3x3 ones side by side, and a 1x1
    convolution of whose maps the means are the scores. 1,235,496 parameters for images of three channels.

    Args:
        classes: how many outputs.
        dropout: the probability of dropping before the last convolution.
        weights, biases: how convolutions begin.
    """
    integer("classes", classes, least=1, most=MOST_COUNT)
    number("dropout", dropout, "[0, 1)")

    def convolution(filters: int, kernel: int, padding: int = 0, stride: int = 1) -> Layer:
        return layers.conv2d(filters, kernel, stride=stride, padding=padding, weights=weights, biases=biases)

    def fire(squeezed: int, expanded: int) -> Layer:
        return serial(
            squeeze=convolution(squeezed, 1),
            relu=layers.relu(),
            expand=branch(
                merge="concat",
                expand1x1=serial(conv=convolution(expanded, 1), relu=layers.relu()),
                expand3x3=serial(conv=convolution(expanded, 3, padding=1), relu=layers.relu()),
            ),
        )

    def pool() -> Layer:
        return layers.max_pool2d(3, stride=2, ceil_mode=True)

    features = serial(
        conv1=convolution(64, 3, stride=2), relu1=layers.relu(), pool1=pool(),
        fire2=fire(16, 64), fire3=fire(16, 64), pool3=pool(),
        fire4=fire(32, 128), fire5=fire(32, 128), pool5=pool(),
        fire6=fire(48, 192), fire7=fire(48, 192), fire8=fire(64, 256), fire9=fire(64, 256),
    )  # fmt: skip
    classifier = serial(
        dropout=layers.dropout(dropout),
        conv10=convolution(classes, 1),
        relu10=layers.relu(),
        avgpool=layers.global_avg_pool2d(),
    )
    return serial(features=features, classifier=classifier)
