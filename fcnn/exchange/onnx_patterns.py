"""Layers that ONNX has no operator for, or that an exporter takes apart.

Activations are there as x on several ways that meet again, a norm over channels as one over the last axis, padding as
a node of its own.
"""

import math

from fcnn.exchange.onnx_channels_last import Step, channels_first
from fcnn.exchange.onnx_constants import Constants
from fcnn.exchange.onnx_graph import Node
from fcnn.exchange.onnx_padding import padded
from fcnn.exchange.onnx_pieces import Piece
from fcnn.exchange.onnx_structure import Split, Way
from fcnn.network import layers

Steps = list[Step]
_NEAR = 1e-6  # of constants that are written in float32


def recognised(way: Way, constants: Constants) -> Steps:
    """The way with such layers in the place of their nodes; the ways of splits stay as they are."""
    found: Steps = []
    for item in way:
        found.append(item)
        if isinstance(item, Split) and item.merge.operator == "Mul" and len(item.ways) == 2:
            found[-1] = _gate(item, constants) or item
        if isinstance(item, Split) and item.merge.operator == "Where":
            signs = [[_sign(one, constants) for one in way] for way in item.ways]
            # log(1 + exp(x)) is x from 20 on, to ten digits.
            found[-1] = Piece(layers.softplus()) if signs == [["> 20"], [], ["Softplus"]] else item
        if _is_erf_gelu(found[-2:], constants):
            found[-2:] = [Piece(layers.gelu())]
        while (window := padded(found[-2:], constants)) is not None:
            found[-2:] = [window]
        found = channels_first(found, constants) or found
    return found


def _gate(split: Split, constants: Constants) -> Piece | None:
    """x times a function of x: SiLU or hard-swish, or GELU where half of x is on the other way."""
    for mine, other in (split.ways, split.ways[::-1]):
        signs = [_sign(item, constants) for item in other]
        if not mine and signs == ["Sigmoid"]:
            return Piece(layers.silu())
        if not mine and signs in (["hard"], ["+ 3", "0 to 6", "/ 6"]):
            return Piece(layers.hardswish())
        if [_sign(item, constants) for item in mine] == ["/ 2"] and signs == ["/ sqrt 2", "Erf", "+ 1"]:
            return Piece(layers.gelu())
    return None


def _is_erf_gelu(last: Steps, constants: Constants) -> bool:
    """Whether it is x * (1 + erf(x / sqrt 2)), and the half of it."""
    if len(last) < 2 or not isinstance(last[0], Split) or last[0].merge.operator != "Mul" or len(last[0].ways) != 2:
        return False
    by_length = sorted(last[0].ways, key=len)
    signs = [_sign(item, constants) for item in by_length[1]]
    return not by_length[0] and signs == ["/ sqrt 2", "Erf", "+ 1"] and _sign(last[1], constants) == "/ 2"


_FACTORS = {"/ 2": 0.5, "/ 6": 1 / 6, "/ sqrt 2": math.sqrt(0.5)}


def _sign(item: Step, constants: Constants) -> str:
    """A node in the words of this file, "" for one that isn't in them."""
    if not isinstance(item, Node):
        return ""
    operator, attributes = item.operator, item.attributes
    if operator in ("Sigmoid", "Erf", "Softplus"):
        return operator
    if operator == "HardSigmoid":
        alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
        return "hard" if isinstance(alpha, float) and _near(alpha, 1 / 6) and beta == 0.5 else ""
    numbers = [_number(name, constants) for name in item.inputs]
    given = [number for number in numbers if number is not None]
    if operator == "Clip":
        bounds = [attributes.get("min"), attributes.get("max")] if "min" in attributes else numbers[1:]
        return "0 to 6" if bounds == [0, 6] else ""
    if len(given) != 1 or len(numbers) != 2 or not given[0]:
        return ""
    if operator in ("Add", "Greater"):
        return f"{'+' if operator == 'Add' else '>'} {given[0]:g}"
    factor = given[0] if operator == "Mul" else 1 / given[0] if operator == "Div" and numbers[0] is None else 0.0
    return next((sign for sign, one in _FACTORS.items() if _near(factor, one)), "")


def _number(name: str, constants: Constants) -> float | None:
    """A constant that is one number."""
    if name not in constants.fixed:
        return None
    found = constants.array(name)
    return float(found.reshape(-1)[0]) if found.size == 1 else None


def _near(number: float, to: float) -> bool:
    return abs(number - to) < _NEAR * to
