"""The network of "airbench" (K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv 2404.00498)."""

from fcnn.network import layers
from fcnn.network.combinators import serial
from fcnn.network.initializers import Initializer, dirac, kaiming_uniform
from fcnn.network.layer import Layer
from fcnn.values.checks import integer, lengths, single


def airbench(
    widths: tuple[int, int, int] = (64, 256, 256),
    classes: int = 10,
    *,
    channels: int = 3,
    divisor: float = 9.0,
    weights: Initializer = kaiming_uniform(),  # noqa: B008 (an immutable value)
) -> Layer:
    """A network that learns images of 32x32 pixels within ten epochs: airbench94's, with 1,972,792 parameters.

    A 2x2 convolution that whitens, GELU, then three groups of two 3x3 convolutions with batch norm and GELU, a max pool
    after the first of each, a 3x3 max pool, and a dense layer whose scores are divided. Maps are of 31, 15, 7, 3 and 1
    pixels a side, and an image takes 118 million multiply-adds. The least images are of 25x25 pixels.

    What the paper does to it is said where it is trained: the whitening filters are made of images, and don't learn,
    and neither does the scale of batch norm.

        network = hold(airbench(), "whiten", only="w")
        params = tree.set_at(params, "whiten/w", whitening_filters(images[:5000]))      # normalised ones
        optimizer = by_path({"*/gamma": optim.set_to_zero(), "*": sgd(…)})

    Args:
        widths: filters of each group; (64, 128, 128) for airbench93, (128, 384, 384) for airbench95.
        classes: how many outputs.
        channels: of the images.
        divisor: of the scores.
        weights: how weights begin that hand nothing on; the 3x3 convolutions are `dirac(weights)`.

    >>> airbench().children["group1"].children["conv1"]
    conv2d(64, 3, padding='same', bias=False, weights=dirac())
    """
    counts = lengths("widths", widths, "the filters of three groups, such as (64, 256, 256)")
    if len(counts) != 3:
        raise ValueError(f"widths is the filters of three groups, such as (64, 256, 256), got {counts}")
    integer("classes", classes, least=1)
    whitening = 2 * 4 * integer("channels", channels, least=1)  # of each direction of a 2x2 patch, with both signs
    return serial(
        whiten=layers.conv2d(whitening, 2, weights=weights),
        gelu=layers.gelu(),
        **{f"group{number}": _group(filters, weights) for number, filters in enumerate(counts, 1)},
        pool=layers.max_pool2d(3),
        flatten=layers.flatten(),
        head=layers.dense(classes, bias=False, weights=weights),
        scale=layers.normalize(0.0, single("divisor", divisor, "(0, inf)")),
    )


def _group(filters: int, weights: Initializer) -> Layer:
    def convolution() -> Layer:
        return layers.conv2d(filters, 3, padding="same", bias=False, weights=dirac(weights))

    def norm() -> Layer:
        return layers.batch_norm(decay=0.6, eps=1e-12)

    return serial(
        conv1=convolution(), pool=layers.max_pool2d(2), bn1=norm(), gelu1=layers.gelu(),
        conv2=convolution(), bn2=norm(), gelu2=layers.gelu(),
    )  # fmt: skip
