"""ONNX's operators under fcnn's names, as far as LeNet-5 has them.

Nodes have names, and attributes their defaults too, as exporters write them: some readers of ONNX need both.

add(graph, path, x) -> y         # appends nodes; path: of the layer, such as "conv1/"; x, y: names of values
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from bench.programs import Array

Add: TypeAlias = Callable[["Graph", str, str], str]
TRAINING = "ai.onnx.preview.training"


class Graph:
    """The nodes so far, and the arrays that they take."""

    def __init__(self, params: Mapping[str, Array]) -> None:
        self.params, self.nodes, self.initializers = params, list[NodeProto](), list[TensorProto]()

    def node(self, operator: str, path: str, *inputs: str, **attributes: Any) -> str:
        """Append an operator on named values; the name of its output. Inputs that are parameters come with it."""
        self.nodes.append(helper.make_node(operator, inputs, [f"{path}y"], f"{path}{operator}", **attributes))
        arrays = [name for name in inputs if name in self.params]
        self.initializers += [numpy_helper.from_array(self.params[name], name) for name in arrays]
        return f"{path}y"


def model(network: Add, params: Mapping[str, Array], in_shape: tuple[int, ...]) -> bytes:
    """The file of a network that takes `x`, any number of images in bytes, as numbers from 0 to 1."""
    graph = Graph({**params, "scale": params["fc3/b"].dtype.type(255)})
    floats = graph.node("Cast", "floats/", "x", to=TensorProto.FLOAT)
    y = network(graph, "", graph.node("Div", "unit/", floats, "scale"))
    return _file(
        graph, [helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", *in_shape])], [_floats(y, "N", None)]
    )


def plain_model(network: Add, params: Mapping[str, Array], in_shape: tuple[int, ...]) -> bytes:
    """The file of a network that takes `x`, any number of images in float32, as they are."""
    graph = Graph(params)
    y = network(graph, "", "x")
    return _file(graph, [_floats("x", "N", *in_shape)], [_floats(y, "N", None)])


def training_model(network: Add, params: Mapping[str, Array], in_shape: tuple[int, ...], classes: int) -> bytes:
    """The file of the loss of such a network, and of its gradients by ONNX's operator for training.

    It takes `x` and `t`, one-hot (N, classes), and gives the mean of t * log(softmax) over both axes, which training
    makes greater, and its gradient for each parameter, in their order.
    """
    graph = Graph(params)
    logs = graph.node("LogSoftmax", "logs/", network(graph, "", "x"), axis=1)
    mean = graph.node("ReduceMean", "mean/", graph.node("Mul", "chosen/", logs, "t"), axes=[0, 1], keepdims=0)
    gradients = [f"gradient/{path}" for path in params]
    graph.nodes.append(
        helper.make_node("Gradient", [*params], gradients, "Gradient", domain=TRAINING, xs=[*params], y=mean)
    )
    return _file(
        graph,
        [_floats("x", "N", *in_shape), _floats("t", "N", classes)],
        [_floats(mean), *(_floats(name, *params[path].shape) for name, path in zip(gradients, params, strict=True))],
    )


def _floats(name: str, *shape: int | str | None) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _file(graph: Graph, inputs: list[ValueInfoProto], outputs: list[ValueInfoProto]) -> bytes:
    made = helper.make_graph(graph.nodes, "network", inputs, outputs, graph.initializers)
    domains = dict.fromkeys(node.domain for node in graph.nodes)
    opsets = [helper.make_opsetid(domain, 1 if domain else 17) for domain in domains]
    return helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString()  # type: ignore[no-any-return]


def serial(**children: Add) -> Add:
    """One layer after the other."""

    def add(graph: Graph, path: str, x: str) -> str:
        for name, child in children.items():
            x = child(graph, f"{path}{name}/", x)
        return x

    return add


def conv2d(filters: int, kernel: int, *, padding: int = 0, bias: bool = True) -> Add:
    """A convolution; with a bias, as the networks without batch norm have it."""
    geometry: dict[str, Any] = {"pads": [padding] * 4, "strides": [1, 1], "dilations": [1, 1], "group": 1}
    return lambda graph, path, x: graph.node("Conv", path, x, f"{path}w", f"{path}b", **geometry)


def dense(units: int, *, bias: bool = True) -> Add:
    """A dense layer with a bias."""
    return lambda graph, path, x: graph.node("Gemm", path, x, f"{path}w", f"{path}b", transB=1)


def relu() -> Add:
    """The greater of x and 0."""
    return lambda graph, path, x: graph.node("Relu", path, x)


def max_pool2d(size: int) -> Add:
    """The greatest of each window."""
    geometry: dict[str, Any] = {"kernel_shape": [size] * 2, "strides": [size] * 2, "pads": [0] * 4}
    return lambda graph, path, x: graph.node("MaxPool", path, x, **geometry)


def flatten() -> Add:
    """Images as features."""
    return lambda graph, path, x: graph.node("Flatten", path, x)
