"""What each layer is in ONNX: a rule for every kind that the library has, of a few operators.

A rule adds a layer's nodes to the graph, given the name of its input, and returns that of its output. A layer of one
operator is a node named by the layer's path; one of several has a node `path/operator` for each but the last.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.onnx_writing import DATA_TYPES, Attribute, Graph
from fcnn.network import layers
from fcnn.network.combinators import branch, residual, serial
from fcnn.network.layer import Init, Layer, Shape
from fcnn.network.views import averaged_views
from fcnn.ops.sequences import pads_of_rows
from fcnn.ops.window import Pads, extent, pads_of
from fcnn.values.checks import Pair, pair
from fcnn.values.text import printable
from fcnn.values.tree import EMPTY, Tree


class Place(NamedTuple):
    """A layer in its network: where it is, its values, its input's shape, and what `init` gave there, by path."""

    path: str
    layer: Layer
    params: Tree
    state: Tree
    in_shape: Shape
    made: Mapping[str, Init]

    @property
    def out_shape(self) -> Shape:
        """The output's shape; no shape here has a batch axis."""
        return self.made[self.path].out_shape

    @property
    def name(self) -> str:
        """Its path in a sentence."""
        return self.path or "the network"

    def inner(self, name: str) -> str:
        """The path of something in the layer."""
        return f"{self.path}/{name}" if self.path else name

    def child(self, name: str, in_shape: Shape) -> "Place":
        """The place of a child, given its input's shape."""
        values = self.params.get(name, EMPTY), self.state.get(name, EMPTY)
        return Place(self.inner(name), self.layer.children[name], *values, in_shape, self.made)


Rule: TypeAlias = Callable[[Graph, Place, str], str]


def write(graph: Graph, at: Place, x: str) -> str:
    """Add a layer, and all that is in it, to the graph; the name of its output.

    Raises ExchangeError, with the path, where a layer has no form in ONNX.
    """
    rule = RULES.get(at.layer.make)
    if rule is None:
        raise ExchangeError(
            f"{at.name}: {printable(repr(at.layer))} has no form in ONNX, as it is none of fcnn's own "
            "layers; put such in its place with fcnn.rewrite"
        )
    y = rule(graph, at, x)
    graph.shapes[y] = at.out_shape
    return y


def one_operator(operator: str, **attributes: Attribute) -> Rule:
    """The rule of a layer that is one operator, without values, whatever its arguments."""
    return lambda graph, at, x: graph.node(operator, at.path, [x], **attributes)


def with_settings(operator: str, **names: str) -> Rule:
    """The same of one whose arguments, by the operator's names for them, are attributes: numbers."""

    def rule(graph: Graph, at: Place, x: str) -> str:
        return graph.node(
            operator, at.path, [x], **{name: float(at.layer.config[ours]) for name, ours in names.items()}
        )

    return rule


def _serial(graph: Graph, at: Place, x: str) -> str:
    shape = at.in_shape
    for name in at.layer.children:
        child = at.child(name, shape)
        x, shape = write(graph, child, x), child.out_shape
    return x


def _residual(graph: Graph, at: Place, x: str) -> str:
    body, shortcut = (at.child(name, at.in_shape) for name in at.layer.children)
    # The usual shortcut is a line in the graph, and no node.
    given = x if shortcut.layer.make is layers.identity else write(graph, shortcut, x)
    return graph.node("Add", at.path, [write(graph, body, x), given])


def _branch(graph: Graph, at: Place, x: str) -> str:
    first, *rest = (write(graph, at.child(name, at.in_shape), x) for name in at.layer.children)
    if at.layer.config["merge"] == "concat":
        return graph.node("Concat", at.path, [first, *rest], axis=1)
    if not rest:
        return graph.node("Identity", at.path, [first])
    if at.layer.config["merge"] == "sum" and len(rest) > 1:
        return graph.node("Sum", at.path, [first, *rest])
    operator = "Add" if at.layer.config["merge"] == "sum" else "Mul"
    *between, last = rest
    for number, one in enumerate(between, 1):
        first = graph.node(operator, at.inner(str(number)), [first, one])
    return graph.node(operator, at.path, [first, last])


def _convolution(graph: Graph, at: Place, x: str) -> str:
    windows = Windows.of(at, at.layer.config["kernel"]).attributes()
    return graph.node("Conv", at.path, [x, *_arrays(graph, at, "w", "b")], **windows, group=_group(at))


def _conv_transpose2d(graph: Graph, at: Place, x: str) -> str:
    found = Windows.of(at, at.layer.config["kernel"])
    windows, more = found.attributes(), pair("output_padding", at.layer.config["output_padding"], least=0)
    if any(extra >= step for extra, step in zip(more, found.stride, strict=True)):
        raise ExchangeError(
            f"{at.name}: onnxruntime runs no transposed convolution whose output_padding {more} isn't less than the "
            f"stride {found.stride}; choose a smaller one"
        )
    windows |= {"output_padding": more if any(more) else None, "group": _group(at)}
    return graph.node("ConvTranspose", at.path, [x, *_arrays(graph, at, "w", "b")], **windows)


def _dense(graph: Graph, at: Place, x: str) -> str:
    return graph.node("Gemm", at.path, [x, *_arrays(graph, at, "w", "b")], transB=1)


def _batch_norm(graph: Graph, at: Place, x: str) -> str:
    inputs = [x, *_arrays(graph, at, "gamma", "beta", "mean", "var")]
    eps, decay = float(at.layer.config["eps"]), float(at.layer.config["decay"])
    return graph.node("BatchNormalization", at.path, inputs, epsilon=eps, momentum=decay)


def _normalize(graph: Graph, at: Place, x: str) -> str:
    numbers = {name: np.array(at.layer.config[name], np.float64) for name in ("mean", "std")}
    mean, std = (graph.array(at.inner(name), _along_channels(at, values)) for name, values in numbers.items())
    return graph.node("Div", at.path, [graph.node("Sub", at.inner("sub"), [x, mean]), std])


def _layer_norm(graph: Graph, at: Place, x: str) -> str:
    axes, eps = len(at.in_shape), float(at.layer.config["eps"])
    values = _arrays(graph, at, "gamma", "beta")
    if axes == 1 or at.layer.config["over"] == "all":
        return graph.node("LayerNormalization", at.path, [x, *values], axis=1, epsilon=eps)
    # ONNX normalises over the last axes, so the channels go there and come back.
    last = graph.node("Transpose", at.inner("transpose"), [x], perm=(0, *range(2, axes + 1), 1))
    y = graph.node("LayerNormalization", at.inner("normalization"), [last, *values], axis=-1, epsilon=eps)
    return graph.node("Transpose", at.path, [y], perm=(0, axes, *range(1, axes)))


def _group_norm(graph: Graph, at: Place, x: str) -> str:
    config = at.layer.config
    inputs = [x, *_arrays(graph, at, "gamma", "beta")]
    settings = {"num_groups": config["groups"], "epsilon": float(config["eps"])}
    precision = DATA_TYPES["float64"] if graph.dtype == np.float64 else None  # it computes in float32 otherwise
    return graph.node("GroupNormalization", at.path, inputs, **settings, stash_type=precision)


def _dropout(graph: Graph, at: Place, x: str) -> str:
    return graph.node("Dropout", at.path, [x, graph.array(at.inner("ratio"), float(at.layer.config["rate"]))])


def _max_pool(graph: Graph, at: Place, x: str) -> str:
    return _pool(graph, at, x, "MaxPool")


def _avg_pool(graph: Graph, at: Place, x: str) -> str:
    return _pool(graph, at, x, "AveragePool", counted=at.layer.config["count_include_pad"])


def _global_avg_pool(graph: Graph, at: Place, x: str) -> str:
    return graph.node("Flatten", at.path, [graph.node("GlobalAveragePool", at.inner("mean"), [x])], axis=1)


def _adaptive_avg_pool2d(graph: Graph, at: Place, x: str) -> str:
    size, out = at.in_shape[1:], at.out_shape[1:]
    if out == (1, 1):
        return graph.node("GlobalAveragePool", at.path, [x])
    if size[0] % out[0] or size[1] % out[1]:
        raise ExchangeError(
            f"{at.name}: ONNX has no pool of {size[0]}x{size[1]} pixels to {out[0]}x{out[1]}, whose windows differ; "
            "choose an in_shape, or a size, so that one divides the other"
        )
    steps = size[0] // out[0], size[1] // out[1]
    return graph.node("AveragePool", at.path, [x], kernel_shape=steps, strides=steps)


def _reshape(graph: Graph, at: Place, x: str) -> str:
    shape = np.array([0, *at.out_shape], np.int64)  # 0: as many as there are
    return graph.node("Reshape", at.path, [x, graph.array(at.inner("shape"), shape)])


def _upsample(graph: Graph, at: Place, x: str) -> str:
    config = at.layer.config
    scales = graph.array(at.inner("scales"), np.array([1, 1, *pair("scale", config["scale"], least=1)], np.float32))
    if config["mode"] == "nearest":
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        corners = "align_corners" if config["align_corners"] else "half_pixel"
        how = {"mode": "linear", "coordinate_transformation_mode": corners}
    return graph.node("Resize", at.path, [x, "", scales], **how)


def _silu(graph: Graph, at: Place, x: str) -> str:
    return graph.node("Mul", at.path, [x, graph.node("Sigmoid", at.inner("sigmoid"), [x])])


def _gelu(graph: Graph, at: Place, x: str) -> str:
    return graph.node("Gelu", at.path, [x], approximate=at.layer.config["approximate"])


def _clip(graph: Graph, at: Place, x: str) -> str:
    return _between(graph, at, x, at.layer.config["low"], at.layer.config["high"])


def _relu6(graph: Graph, at: Place, x: str) -> str:
    return _between(graph, at, x, 0.0, 6.0)


def _prelu(graph: Graph, at: Place, x: str) -> str:
    slope = graph.array(at.inner("slope"), _along_channels(at, at.params["slope"]))
    return graph.node("PRelu", at.path, [x, slope])


def _only_views(graph: Graph, at: Place, x: str) -> str:
    raise ExchangeError(
        f"{at.name}: {at.layer.kind} has no form in ONNX; "
        "write the network that averaged_views was given, without views"
    )


RULES: Mapping[Callable[..., Layer], Rule] = {
    layers.adaptive_avg_pool2d: _adaptive_avg_pool2d,
    layers.avg_pool1d: _avg_pool,
    layers.avg_pool2d: _avg_pool,
    layers.batch_norm: _batch_norm,
    layers.clip: _clip,
    layers.conv1d: _convolution,
    layers.conv2d: _convolution,
    layers.conv_transpose2d: _conv_transpose2d,
    layers.dense: _dense,
    layers.dropout: _dropout,
    layers.elu: with_settings("Elu", alpha="alpha"),
    layers.flatten: one_operator("Flatten", axis=1),
    layers.gelu: _gelu,
    layers.global_avg_pool1d: _global_avg_pool,
    layers.global_avg_pool2d: _global_avg_pool,
    layers.group_norm: _group_norm,
    layers.hardsigmoid: with_settings("HardSigmoid", alpha="alpha", beta="beta"),
    layers.hardswish: one_operator("HardSwish"),
    layers.identity: one_operator("Identity"),
    layers.layer_norm: _layer_norm,
    layers.leaky_relu: with_settings("LeakyRelu", alpha="slope"),
    layers.log_softmax: one_operator("LogSoftmax", axis=1),
    layers.max_pool1d: _max_pool,
    layers.max_pool2d: _max_pool,
    layers.mirror: _only_views,
    layers.normalize: _normalize,
    layers.prelu: _prelu,
    layers.relu: one_operator("Relu"),
    layers.relu6: _relu6,
    layers.reshape: _reshape,
    layers.shift: _only_views,
    layers.sigmoid: one_operator("Sigmoid"),
    layers.silu: _silu,
    layers.softmax: one_operator("Softmax", axis=1),
    layers.softplus: one_operator("Softplus"),
    layers.tanh: one_operator("Tanh"),
    layers.upsample: _upsample,
    serial: _serial,
    residual: _residual,
    branch: _branch,
    averaged_views: _only_views,
}


def _arrays(graph: Graph, at: Place, *names: str) -> list[str]:
    """The layer's values of these names, as far as it has them."""
    values = {**at.params, **at.state}
    return [graph.array(at.inner(name), values[name]) for name in names if name in values]


def _along_channels(at: Place, numbers: Any) -> Any:
    """One number for each channel, or one for all, so that they meet the channels of (N, C, …)."""
    return np.reshape(numbers, (-1, *[1] * (len(at.in_shape) - 1)))


class Windows(NamedTuple):
    """Those of a convolution or a pool, in pixels: (height, width) of each, and the padding.

    axes: 2, or 1 of sequences, which are images of one column.
    """

    axes: int
    size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: Pads

    @classmethod
    def of(cls, at: Place, size: Pair) -> "Windows":
        """The layer's, of this size."""
        config, axes = at.layer.config, len(at.in_shape) - 1

        def along(name: str, value: Pair) -> tuple[int, int]:
            return pair(name, value if axes == 2 else (value, 1), least=1)

        found, given, padding = along("size", size), config["stride"], config["padding"]
        stride = along("stride", size if given is None else given)
        dilation = along("dilation", config.get("dilation", 1))  # pools have none
        if axes == 1:
            padding = pads_of_rows(padding)
        pads = pads_of(_pixels(at.in_shape), extent(found, dilation), stride, padding)
        return cls(axes, found, stride, dilation, pads)

    def attributes(self) -> dict[str, Attribute]:
        """What ONNX calls them; what is as it takes it to be is left out."""
        before, after = zip(*self.pads[: self.axes], strict=True)
        return {
            "kernel_shape": self.size[: self.axes],
            "strides": self.stride[: self.axes] if self.stride != (1, 1) else None,
            "dilations": self.dilation[: self.axes] if self.dilation != (1, 1) else None,
            "pads": (*before, *after) if any(before) or any(after) else None,
        }


def _pixels(shape: Shape) -> tuple[int, int]:
    """The height and width; sequences are images of one column."""
    return shape[1], shape[2] if len(shape) > 2 else 1


def _pool(graph: Graph, at: Place, x: str, operator: str, counted: bool = False) -> str:
    """A pool; `counted` is whether its padding counts.

    ONNX can say that the last windows hang over the padded image, but only of height and width at once. Where that
    would make a window too many along one of them (which would begin in the padding after the image), more padding says
    the same, if it doesn't count.
    """
    windows = Windows.of(at, at.layer.config["window"])
    over = [
        (count - 1) * step + size - pixels - sum(ends)
        for count, step, size, pixels, ends in zip(
            _pixels(at.out_shape), windows.stride, windows.size, _pixels(at.in_shape), windows.pads, strict=True
        )
    ]
    ceil = max(over) > 0
    if ceil and min(over) < 0:
        if counted and any(map(any, windows.pads)):
            raise ExchangeError(
                f"{at.name}: ONNX has no mean with padding whose windows hang over in height or width alone; choose "
                "count_include_pad=False, or another padding"
            )
        down, across = ((ends[0], max(0, ends[1] + more)) for ends, more in zip(windows.pads, over, strict=True))
        windows, ceil, counted = windows._replace(pads=(down, across)), False, False
    told = {"ceil_mode": 1 if ceil else None, "count_include_pad": 1 if counted else None}
    return graph.node(operator, at.path, [x], **windows.attributes(), **told)


def _group(at: Place) -> int | None:
    groups: int = at.layer.config["groups"]
    return groups if groups > 1 else None


def _between(graph: Graph, at: Place, x: str, low: float | None, high: float | None) -> str:
    bounds = [
        "" if bound is None else graph.array(at.inner(name), float(bound))
        for name, bound in (("low", low), ("high", high))
    ]
    return graph.node("Clip", at.path, [x, *bounds])
