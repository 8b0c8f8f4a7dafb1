"""A border that a node of its own puts around an image: part of the padding of the layer right behind it.

A convolution's padding is zeros, an average pool's too where it counts them, a max pool's is -inf.
"""

import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from fcnn.exchange.onnx_constants import Constants
from fcnn.exchange.onnx_graph import Node
from fcnn.exchange.onnx_pieces import Pieces, Site

_BORDERS = {"Conv": 0.0, "AveragePool": 0.0, "MaxPool": -math.inf}
_MOST_GIVEN = 64  # numbers of a constant
_LOWEST = float(np.finfo(np.float32).min)  # as which some exporters write -inf


def padded(last: Sequence[object], constants: Constants) -> Node | None:
    """The second of two nodes with what the first one pads in its own padding; None where that isn't the same."""
    if len(last) != 2 or not isinstance(pad := last[0], Node) or not isinstance(node := last[1], Node):
        return None
    if pad.operator != "Pad" or node.operator not in _BORDERS or node.attributes.get("ceil_mode", 0):
        return None
    kernel = node.attributes.get("kernel_shape")
    if kernel is None and len(node.inputs) > 1 and node.inputs[1] in constants.fixed:
        kernel = constants.array(node.inputs[1]).shape[2:]
    how = node.attributes.get("auto_pad", "NOTSET")
    if not isinstance(kernel, tuple) or how not in ("NOTSET", "VALID"):
        return None
    none = (0,) * 2 * len(kernel)
    own = none if how == "VALID" else node.attributes.get("pads", none)
    more = _around(pad, constants, len(kernel), _BORDERS[node.operator])
    if more is None or not _are_integers(own) or len(own) != len(more):
        return None
    together = {**node.attributes, "pads": tuple(map(sum, zip(own, more, strict=True))), "auto_pad": "NOTSET"}
    if node.operator == "AveragePool":
        if any(own) and not together.get("count_include_pad", 0):
            return None
        together["count_include_pad"] = 1
    return attrs.evolve(node, attributes=together)


def _around(pad: Node, constants: Constants, axes: int, border: float) -> tuple[int, ...] | None:
    """How much is padded before, and then after, each axis behind the channels; None for another border."""
    given: list[Any] = [pad.attributes.get("pads"), pad.attributes.get("value"), None]
    for place, name in enumerate(pad.inputs[1:4]):
        if name:
            found = constants.array(name) if name in constants.fixed else None
            if found is None or found.size > _MOST_GIVEN:
                return None
            given[place] = found.reshape(-1).tolist()
    pads, value, chosen = given
    number = value[0] if isinstance(value, list) and len(value) == 1 else value or 0.0
    if pad.attributes.get("mode", "constant") != "constant" or not isinstance(number, float | int):
        return None
    if number != border and not number <= _LOWEST >= border:
        return None
    rank = axes + 2
    chosen = [*range(rank)] if chosen is None else chosen
    if not _are_integers(chosen) or not _are_integers(pads) or len(pads) != 2 * len(chosen) or min(pads, default=0) < 0:
        return None
    around = [0] * 2 * rank
    for place, axis in enumerate(chosen):
        if not -rank <= axis < rank:
            return None
        around[axis % rank], around[rank + axis % rank] = pads[place], pads[len(chosen) + place]
    if any(around[:2]) or any(around[rank : rank + 2]):
        return None
    return (*around[2:rank], *around[rank + 2 :])


def _are_integers(numbers: object) -> bool:
    return isinstance(numbers, tuple | list) and all(type(one) is int for one in numbers)


def alone(site: Site) -> Pieces:
    """Pad where it isn't part of the layer behind it: nothing, if it pads nothing."""
    pads = [*site["pads"]] if site["pads"] is not None else site.lengths(1)
    if not any(one != 0 for one in pads):
        return []
    value = site["value"] if site.opset < 11 else site.number(2) or 0.0
    what = f"{value:g} around {site.shape}, {pads}" if site["mode"] == "constant" else f"by mode {site['mode']}"
    raise site.refused(
        f"pads {what}; read are zeros around height and width right before a convolution, or an average pool that "
        "counts them, and -inf right before a max pool, both without ceil_mode"
    )
