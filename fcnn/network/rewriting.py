"""A network is data, so what changes a network is a function from networks to networks. All stand on `rewrite`."""

from collections.abc import Callable

from fcnn.network.layer import Layer


def rewrite(network: Layer, rule: Callable[[str, Layer], Layer], path: str = "") -> Layer:
    """The network in which `rule(path, layer)` has replaced every layer, from the innermost outwards.

    A combinator is made again, by its `make`, of what the rule made of its children, and then given to the rule
    itself. Names stay, and so do the paths of parameters. `path` is that of the network, "" for a whole one.

    >>> from fcnn import relu, serial, tanh
    >>> rewrite(serial(a=relu(), b=serial(c=relu())), lambda path, layer: tanh() if layer.kind == "relu" else layer)
    serial(a=tanh(), b=serial(c=tanh()))
    """
    children = {
        name: rewrite(child, rule, f"{path}/{name}" if path else name) for name, child in network.children.items()
    }
    return rule(path, network.make(**network.config, **children) if children else network)
