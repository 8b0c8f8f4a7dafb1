"""ONNX's operators (onnx.ai/onnx/operators): a table of what each becomes, and the functions that make it.

A function gives the layers of a node, with their values, of the node's attributes and constant inputs; none for a node
that changes nothing. What no layer does is refused in a sentence. Attributes are those of the operator sets from 6 on,
with what each is where it isn't given: a value, or a type where it is then None.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np

from fcnn.exchange import onnx_padding as padding
from fcnn.exchange import onnx_windows as windows
from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.onnx_graph import Node
from fcnn.exchange.onnx_pieces import Affine, Piece, Pieces, Site, repeated
from fcnn.network import layers
from fcnn.network.combinators import branch, serial
from fcnn.network.layer import Layer
from fcnn.values.arrays import Array
from fcnn.values.text import printable


@attrs.frozen
class Operator:
    """How an operator is read: the function, the attributes that it may have, and its inputs, at most so many.

    What flows comes first among them; `anywhere` is for those that take it at any place.
    """

    pieces: Callable[[Site], Pieces]
    attributes: Mapping[str, Any] = {}
    inputs: int = 1
    anywhere: bool = False


def of_node(node: Node) -> tuple[Operator, dict[str, Any]]:
    """How a node is read, and its attributes, each as it is given or as it is otherwise.

    Raises ExchangeError for an operator that isn't known, or that has other attributes.
    """
    if node.operator in PLACES:
        raise ExchangeError(f"{node} is read {PLACES[node.operator]} alone")
    if node.operator not in OPERATORS:
        is_flow = node.operator in ("If", "Loop", "Scan")
        kind = "control flow, no layer" if is_flow else "no operator that is known"
        raise ExchangeError(f"{node} is {kind}; known are {', '.join(sorted(OPERATORS))}")
    operator = OPERATORS[node.operator]
    found = {name: None if isinstance(usual, type) else usual for name, usual in operator.attributes.items()}
    for name, value in node.attributes.items():
        usual = operator.attributes.get(name)
        if usual is None or type(value) is not (usual if isinstance(usual, type) else type(usual)):
            raise ExchangeError(f"{node}: its attribute {printable(name, 40)!r} is none that is known there")
        found[name] = value
    count = max((place for place, name in enumerate(node.inputs, 1) if name), default=0)
    if count > operator.inputs:
        raise ExchangeError(f"{node} takes {count} inputs, where the operator has {operator.inputs}")
    return operator, found


def _layer(make: Callable[..., Layer], **names: str) -> Callable[[Site], Pieces]:
    """An operator that is a layer without values, whose arguments are attributes."""
    return lambda site: [Piece(make(**{ours: site[theirs] for ours, theirs in names.items()}))]


def _gemm(site: Site) -> Pieces:
    if site["transA"]:
        raise site.refused("transposes what flows in, as no layer does")
    w = site.weights(1, "weights")
    if w.ndim != 2:
        raise site.refused(f"has weights {w.shape}, no matrix")
    w = w if site["transB"] else w.T
    b = site.weights(2, "bias") if site.has(2) and site["beta"] else None
    if b is not None and b.size != 1 and (b.shape[-1:] != (len(w),) or b.size != len(w)):
        raise site.refused(f"has a bias {b.shape}, not one number for each of {len(w)} outputs")
    w = site.copied(w, site["alpha"])
    if b is not None:
        b = site.copied(np.broadcast_to(b.reshape(-1), len(w)), site["beta"])
    return [Piece.of(layers.dense(len(w), bias=b is not None), {"w": w, "b": b})]


def _matmul(site: Site) -> Pieces:
    w = site.weights(1, "matrix")
    if w.ndim != 2 or len(site.shape) != 1:
        raise site.refused(f"multiplies {site.shape} by {w.shape}; a dense layer takes features (D,), and a matrix")
    return [Piece.of(layers.dense(w.shape[1], bias=False), {"w": w.T, "b": None})]


def _batch_norm(site: Site) -> Pieces:
    if site["training_mode"] or len([name for name in site.node.outputs if name]) > 1:
        raise site.refused("is in training; export the network in evaluation mode")
    if not site["spatial"]:
        raise site.refused("has a mean for each pixel (spatial=0), as no layer has")
    names = {"scale": 1, "shift": 2, "running mean": 3, "running variance": 4}
    gamma, beta, mean, var = (site.weights(place, name) for name, place in names.items())
    if gamma.shape != site.shape[:1]:
        raise site.refused(f"has scale {gamma.shape} for {site.shape[0]} channels")
    layer = layers.batch_norm(decay=site["momentum"], eps=site["epsilon"])
    return [Piece.of(layer, {"gamma": gamma, "beta": beta}, mean=mean, var=var)]


def _layer_norm(site: Site) -> Pieces:
    gamma = site.weights(1, "scale")
    beta = site.weights(2, "bias") if site.has(2) else repeated(0, gamma.dtype, *gamma.shape)
    if site.axis() != 1 or {gamma.shape, beta.shape} != {site.shape}:
        raise site.refused(f"is over the axes from {site.axis()} on; read are those over all of an input, {site.shape}")
    return [Piece.of(layers.layer_norm(eps=site["epsilon"]), {"gamma": gamma, "beta": beta})]


def _group_norm(site: Site) -> Pieces:
    channels, groups = site.shape[0], site["num_groups"]
    if not groups or channels % groups:
        raise site.refused(f"has {groups} groups of {channels} channels")
    gamma, beta = site.weights(1, "scale"), site.weights(2, "bias")
    if gamma.size == groups != channels:  # operator sets 18 to 20: one number for each group
        shape = (groups, channels // groups)
        if beta.size != groups:
            raise site.refused(f"has scale {gamma.shape} and bias {beta.shape} for {groups} groups")
        gamma, beta = (site.copied(np.broadcast_to(one.reshape(-1, 1), shape), 1).reshape(-1) for one in (gamma, beta))
    return _in_groups(site, groups, gamma, beta)


def _instance_norm(site: Site) -> Pieces:
    return _in_groups(site, site.shape[0], site.weights(1, "scale"), site.weights(2, "bias"))


def _in_groups(site: Site, groups: int, gamma: Array, beta: Array) -> Pieces:
    if gamma.shape != site.shape[:1]:
        raise site.refused(f"has scale {gamma.shape} for {site.shape[0]} channels")
    return [Piece.of(layers.group_norm(groups, eps=site["epsilon"]), {"gamma": gamma, "beta": beta})]


def _clip(site: Site) -> Pieces:
    low, high = (site[name] if site.opset < 11 else site.number(place) for place, name in ((1, "min"), (2, "max")))
    if site.opset >= 11 and any(site.node.inputs[place] and site.constant(place) is None for place in _places(site)):
        raise site.refused("has a bound that is computed of its input; only constants are read")
    largest = float(np.finfo(np.float32).max)  # the operator sets' own word for no bound
    low = None if low is None or low <= -largest else low
    high = None if high is None or high >= largest else high
    if (low, high) == (None, None):
        return []
    named: dict[Any, Callable[[], Layer]] = {(0, 6): layers.relu6, (0, None): layers.relu}
    return [Piece(named[low, high]() if (low, high) in named else layers.clip(low, high))]


def _places(site: Site) -> range:
    return range(1, len(site.node.inputs))


def _prelu(site: Site) -> Pieces:
    slope = site.weights(1, "slope")
    one_axis = slope.ndim == 1 and site.opset < 7  # where it met the channels, not the last axis
    found = slope if one_axis and slope.size in (1, site.shape[0]) else site.along_channels(slope)
    if found is None:
        raise site.refused(f"has slopes {slope.shape}, not one for all or one for each of {site.shape[0]} channels")
    shared = found.size == 1
    return [Piece.of(layers.prelu(shared=shared), {"slope": found.reshape(-1)})]


def _hardsigmoid(site: Site) -> Pieces:
    alpha = site["alpha"]
    # A sixth, which the file has in float32, is the default and has no short decimal.
    return [Piece(layers.hardsigmoid(1 / 6 if np.float32(alpha) == np.float32(1 / 6) else alpha, site["beta"]))]


def _mish(site: Site) -> Pieces:
    """x * tanh(softplus(x))."""
    gate = serial(layers.softplus(), layers.tanh())
    return [Piece(branch(layers.identity(), gate, merge="multiply"))]


def _softmax(make: Callable[[], Layer]) -> Callable[[Site], Pieces]:
    def of(site: Site) -> Pieces:
        axis = site.axis() if "axis" in site.node.attributes else 1 if site.opset < 13 else site.rank - 1
        # Before operator set 13 it was over all axes from one on.
        over = {axis} if site.opset >= 13 else {*range(axis, site.rank)}
        if axis != 1 or any(site.shape[one - 1] != 1 for one in over - {1}):
            raise site.refused(f"is over the axes {sorted(over)}; a layer's is over the classes or channels, axis 1")
        return [Piece(make())]

    return of


def _dropout(site: Site) -> Pieces:
    if site.flag(2):
        raise site.refused("is in training; export the network in evaluation mode")
    given = site.number(1) if site.opset >= 12 else site["ratio"]
    rate = 0.5 if given is None else given
    return [Piece(layers.dropout(rate))] if rate else []


def _flatten(site: Site) -> Pieces:
    axis = site["axis"]
    if axis not in (1, 1 - site.rank):
        raise site.refused(f"flattens from axis {axis} on; a layer keeps the batch's axis, and flattens from 1 on")
    return _shaped(site, (math.prod(site.shape),))


def _reshape(site: Site) -> Pieces:
    target = [*site["shape"]] if site["shape"] is not None else site.lengths(1)
    if not target or target.count(-1) > 1 or (site["allowzero"] and 0 in target):
        raise site.refused(f"makes the shape {target} of what flows in, as no layer does")
    first, rest = (
        target[0],
        [site.shape[i] if one == 0 and i < len(site.shape) else one for i, one in enumerate(target[1:])],
    )
    known = math.prod(one for one in rest if one is not None and one > 0)
    size = math.prod(site.shape)
    if rest.count(-1) == 1 and known and size % known == 0:
        rest[rest.index(-1)] = size // known
    kept = first in (0, None, -1) or first == site.batch
    if not kept or None in rest or any(one is None or one < 1 for one in rest) or math.prod(rest) != size:  # type: ignore[arg-type]
        shown = ["N" if one is None else one for one in target]
        raise site.refused(f"makes ({_listed(shown)}) of (N, {_listed([*site.shape])}); a layer keeps the batch's axis")
    return _shaped(site, tuple(int(one) for one in rest if one is not None))


def _listed(lengths: list[Any]) -> str:
    return ", ".join(map(str, lengths[:8]))


def _squeeze(site: Site) -> Pieces:
    axes = site.axes()
    found = None if axes is None else {axis % site.rank for axis in axes}
    if not found or 0 in found or any(site.shape[axis - 1] != 1 for axis in found):
        raise site.refused("drops the batch's axis, axes that it doesn't say, or some longer than 1")
    return _shaped(site, tuple(length for axis, length in enumerate(site.shape, 1) if axis not in found))


def _unsqueeze(site: Site) -> Pieces:
    axes = site.axes() or ()
    rank = site.rank + len(axes)
    found = {axis % rank for axis in axes}
    if not axes or 0 in found or len(found) != len(axes):
        raise site.refused("adds an axis before the batch's, or none")
    lengths = iter(site.shape)
    return _shaped(site, tuple(1 if axis in found else next(lengths) for axis in range(1, rank)))


def _shaped(site: Site, shape: tuple[int, ...]) -> Pieces:
    """What makes one shape of another: nothing, `flatten` or `reshape`."""
    if shape == site.shape:
        return []
    if not shape:
        raise site.refused("leaves the batch's axis alone")
    return [Piece(layers.flatten() if len(shape) == 1 and len(site.shape) <= 3 else layers.reshape(shape))]


def _transpose(site: Site) -> Pieces:
    """Other order of axes where it isn't the way to channels as the last axis and back."""
    axes = site["perm"] or tuple(range(site.rank))[::-1]
    if axes == tuple(range(site.rank)):
        return []
    raise site.refused(
        f"of the axes {axes} is read around what is computed with channels as the last axis alone: layer norms, "
        "products, biases and activations, until (0, 3, 1, 2) takes them back"
    )


def _alone(site: Site) -> Pieces:
    """Values that are added or put side by side, of which there is one; of several, a branch is made."""
    return [] if len(site.node.inputs) == 1 else _with_constant(site)


def _with_constant(site: Site) -> Pieces:
    place = 0 if site.constant(0) is not None else 1
    constant = site.weights(place, "number") if len(site.node.inputs) == 2 else None
    numbers = None if constant is None else site.along_channels(constant)
    operator = {"Sum": "Add"}.get(site.node.operator, site.node.operator)
    if numbers is None or (place == 0 and operator in ("Sub", "Div")):
        shape = "" if constant is None else f" {constant.shape}"
        raise site.refused(
            f"is of {site.shape} and a constant{shape}; read are x + c, x - c, x * c and x / c of one "
            "number, or of one for each channel"
        )
    return [Affine(operator, numbers, site.node)]


# Operators that are read in certain places alone, as parts of what other files of this folder recognise.
PLACES = {
    **dict.fromkeys(("Cast", "ConstantOfShape", "Gather", "Shape", "Slice"), "where it is of sizes and constants"),
    "Erf": "in GELU, x * (1 + erf(x / sqrt 2)) / 2,",
    **dict.fromkeys(("Greater", "Where"), "in softplus, as PyTorch writes it for float64,"),
}
_NORM = {"epsilon": 1e-5, "stash_type": 1}
_ANY = 1_000  # which no node has more of
OPERATORS: dict[str, Operator] = {
    "Add": Operator(_with_constant, inputs=2, anywhere=True),
    "AveragePool": Operator(windows.average_pool, {**windows.POOL, "count_include_pad": 0}),
    "BatchNormalization": Operator(
        _batch_norm,
        {"epsilon": 1e-5, "momentum": 0.9, "spatial": 1, "training_mode": 0, "is_test": 1},
        inputs=5,
    ),
    "Clip": Operator(_clip, {"min": float, "max": float}, inputs=3),
    "Conv": Operator(windows.conv, {**windows.WINDOW, "group": 1}, inputs=3),
    "ConvTranspose": Operator(
        windows.conv_transpose,
        {**windows.WINDOW, "group": 1, "output_padding": tuple, "output_shape": tuple},
        inputs=3,
    ),
    "Concat": Operator(_alone, {"axis": 1}, inputs=_ANY, anywhere=True),
    "Div": Operator(_with_constant, inputs=2, anywhere=True),
    "Dropout": Operator(_dropout, {"ratio": 0.5, "seed": 0, "is_test": 1}, inputs=3),
    "Elu": Operator(_layer(layers.elu, alpha="alpha"), {"alpha": 1.0}),
    "Flatten": Operator(_flatten, {"axis": 1}),
    "Gelu": Operator(_layer(layers.gelu, approximate="approximate"), {"approximate": "none"}),
    "Gemm": Operator(_gemm, {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0, "broadcast": 1}, inputs=3),
    "GlobalAveragePool": Operator(windows.global_average),
    "GroupNormalization": Operator(_group_norm, {**_NORM, "num_groups": 0}, inputs=3),
    "HardSigmoid": Operator(_hardsigmoid, {"alpha": 0.2, "beta": 0.5}),
    "HardSwish": Operator(_layer(layers.hardswish)),
    "Identity": Operator(lambda site: []),
    "InstanceNormalization": Operator(_instance_norm, {"epsilon": 1e-5}, inputs=3),
    "LayerNormalization": Operator(_layer_norm, {**_NORM, "axis": -1}, inputs=3),
    "LeakyRelu": Operator(_layer(layers.leaky_relu, slope="alpha"), {"alpha": 0.01}),
    "LogSoftmax": Operator(_softmax(layers.log_softmax), {"axis": 1}),
    "MatMul": Operator(_matmul, inputs=2),
    "MaxPool": Operator(windows.max_pool, {**windows.POOL, "storage_order": 0}),
    "Mish": Operator(_mish),
    "Mul": Operator(_with_constant, inputs=2, anywhere=True),
    "Pad": Operator(padding.alone, {"mode": "constant", "pads": tuple, "value": 0.0}, inputs=4),
    "PRelu": Operator(_prelu, inputs=2),
    "ReduceMean": Operator(windows.reduce_mean, {"axes": tuple, "keepdims": 1, "noop_with_empty_axes": 0}, inputs=2),
    "Relu": Operator(_layer(layers.relu)),
    "Reshape": Operator(_reshape, {"shape": tuple, "allowzero": 0}, inputs=2),
    "Resize": Operator(windows.resize, {**windows.RESIZE, "scales": tuple}, inputs=4),
    "Sigmoid": Operator(_layer(layers.sigmoid)),
    "Softmax": Operator(_softmax(layers.softmax), {"axis": 1}),
    "Softplus": Operator(_layer(layers.softplus)),
    "Squeeze": Operator(_squeeze, {"axes": tuple}, inputs=2),
    "Sub": Operator(_with_constant, inputs=2, anywhere=True),
    "Sum": Operator(_alone, inputs=_ANY, anywhere=True),
    "Tanh": Operator(_layer(layers.tanh)),
    "Transpose": Operator(_transpose, {"perm": tuple}),
    "Unsqueeze": Operator(_unsqueeze, {"axes": tuple}, inputs=2),
    "Upsample": Operator(windows.resize, {**windows.RESIZE, "scales": tuple}, inputs=2),
}
