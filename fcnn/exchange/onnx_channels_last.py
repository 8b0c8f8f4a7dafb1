"""What is computed with the channels as the last axis, between the node that takes them there and the one back.

So exporters write a norm over channels, and the blocks of ConvNeXt (Z. Liu et al., CVPR 2022, arXiv 2201.03545), whose
dense layers are convolutions of one pixel.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import attrs

from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.onnx_constants import Constants
from fcnn.exchange.onnx_graph import Node
from fcnn.exchange.onnx_operators import of_node
from fcnn.exchange.onnx_pieces import Affine, Piece, repeated, told
from fcnn.exchange.onnx_structure import Split
from fcnn.network import layers
from fcnn.network.layer import Layer

Step: TypeAlias = Node | Split | Piece | Affine
_NODES = (  # of each number by itself
    *("Clip", "Dropout", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mish", "Relu"),
    *("Sigmoid", "Softplus", "Tanh"),
)
_LAYERS = (layers.gelu, layers.hardswish, layers.silu, layers.softplus)


def channels_first(steps: Sequence[Step], constants: Constants) -> list[Step] | None:
    """Steps that end with their channels taken back, with channels as the first axis; None for others."""
    back = steps[-1]
    if not isinstance(back, Node) or back.operator != "Transpose":
        return None
    begin = len(steps) - 2
    while begin >= 0 and getattr(steps[begin], "operator", "") != "Transpose":
        begin -= 1
    there = steps[begin] if begin >= 0 else None
    if not isinstance(there, Node):
        return None
    perm = there.attributes.get("perm")
    axes = len(perm) if isinstance(perm, tuple) else 0
    if axes not in (3, 4) or perm != (0, *range(2, axes), 1):
        return None
    if back.attributes.get("perm") != (0, axes - 1, *range(1, axes - 1)):
        return None
    found = [*steps[:begin]]
    for step in steps[begin + 1 : -1]:
        with told(step):
            one = _first(step, axes, constants)
        if one is None:
            return None
        found.append(one)
    return found


def _first(step: Step, axes: int, constants: Constants) -> Step | None:
    """A step on the last axis as one on the first after the batch's; None for one that isn't known."""
    if isinstance(step, Piece):
        return step if step.layer.make in _LAYERS else None
    if not isinstance(step, Node):
        return None
    if step.operator in _NODES:
        return attrs.evolve(step, outputs=("",))  # whose shape was another one
    _, attributes = of_node(step)
    given = [constants.array(name) if name in constants.fixed else None for name in step.inputs]
    wrong = next((one for one in given if one is not None and one.dtype.kind != "f"), None)
    if wrong is not None:
        raise ExchangeError(f"{step} takes numbers of {wrong.dtype}; only floats are read")
    match step.operator, given:
        case "LayerNormalization", [None, gamma, *more] if gamma is not None and (not more or more[0] is not None):
            if attributes["axis"] not in (-1, axes - 1):
                return None
            norm = layers.layer_norm(over="channels", eps=attributes["epsilon"])
            beta = more[0] if more else repeated(0, gamma.dtype, *gamma.shape)
            return Piece.of(norm, {"gamma": gamma, "beta": beta})
        case "MatMul", [None, w] if w is not None and w.ndim == 2:
            make: Callable[..., Layer] = layers.conv2d if axes == 4 else layers.conv1d
            filters = w.T.reshape(w.shape[::-1] + (1,) * (axes - 2))
            return Piece.of(make(len(filters), 1, bias=False), {"w": filters, "b": None})
        case ("Add" | "Mul", [None, c] | [c, None]) | ("Sub" | "Div", [None, c]) if c is not None:
            if c.ndim <= axes and c.shape[-1:] in ((), (c.size,)):
                return Affine(step.operator, c.reshape(() if c.size == 1 else -1), step)
    return None
