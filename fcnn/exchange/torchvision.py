"""What torchvision calls the layers of its networks, in the order in which those of `fcnn.models` have them."""

from collections.abc import Iterator

from fcnn.exchange.names import Like, torch_name, values_of
from fcnn.values.checks import one_of

_SQUEEZENET = ("squeeze", "expand1x1", "expand3x3")


def torchvision_modules(kind: str) -> tuple[str, ...]:
    """The modules with weights of one of torchvision's networks, in the order in which they compute.

    Args:
        kind: "resnet18", "vgg11", "mobilenet_v2" or "squeezenet1_1".

    >>> torchvision_modules("vgg11")[:3]
    ('features.0', 'features.3', 'features.6')
    """
    return tuple(_MODULES[one_of("kind", kind, NETWORKS)]())


def torchvision_names(kind: str, like: Like) -> dict[str, str]:
    """torchvision's name for each value of a network that is built as one of its: for `names` when files are read.

    The network's layers with weights are paired in order with torchvision's modules; a residual block's body comes
    before its shortcut. Raises ValueError where there aren't as many.

    Args:
        kind: "resnet18", "vgg11", "mobilenet_v2" or "squeezenet1_1".
        like: a `Model`, an `Init` or a tree of parameters.
    """
    modules = torchvision_modules(kind)
    paths = list(values_of(like, "like"))
    layers = list(dict.fromkeys(path.rpartition("/")[0] for path in paths))
    if len(layers) != len(modules):
        raise ValueError(f"{kind} has {len(modules)} layers with weights, the network {len(layers)}")
    module_of = dict(zip(layers, modules, strict=True))
    return {path: f"{module_of[path.rpartition('/')[0]]}.{torch_name(path.rpartition('/')[2])}" for path in paths}


def _resnet18() -> Iterator[str]:
    yield from ("conv1", "bn1")
    for layer in (1, 2, 3, 4):
        for block in (0, 1):
            yield from (f"layer{layer}.{block}.{name}" for name in ("conv1", "bn1", "conv2", "bn2"))
            if layer > 1 and block == 0:
                yield from (f"layer{layer}.0.downsample.{part}" for part in (0, 1))
    yield "fc"


def _vgg11() -> Iterator[str]:
    yield from (f"features.{place}" for place in (0, 3, 6, 8, 11, 13, 16, 18))
    yield from (f"classifier.{place}" for place in (0, 3, 6))


def _mobilenet_v2() -> Iterator[str]:
    yield from ("features.0.0", "features.0.1")
    yield from (f"features.1.conv.{part}" for part in ("0.0", "0.1", "1", "2"))
    for block in range(2, 18):
        yield from (f"features.{block}.conv.{part}" for part in ("0.0", "0.1", "1.0", "1.1", "2", "3"))
    yield from ("features.18.0", "features.18.1", "classifier.1")


def _squeezenet1_1() -> Iterator[str]:
    yield "features.0"
    for fire in (3, 4, 6, 7, 9, 10, 11, 12):
        yield from (f"features.{fire}.{name}" for name in _SQUEEZENET)
    yield "classifier.1"


_MODULES = {"resnet18": _resnet18, "vgg11": _vgg11, "mobilenet_v2": _mobilenet_v2, "squeezenet1_1": _squeezenet1_1}
NETWORKS = tuple(_MODULES)
"""The networks whose names are known."""
