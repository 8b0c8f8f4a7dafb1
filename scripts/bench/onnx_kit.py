"""ONNX's operators under fcnn's names, as far as LeNet-5 has them.

add(graph, path, x) -> y         # appends nodes; path: of the layer, such as "conv1/"; x, y: names of values
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from onnx import NodeProto, TensorProto, helper, numpy_helper

from bench.programs import Array

Add: TypeAlias = Callable[["Graph", str, str], str]


class Graph:
    """The nodes so far, and the arrays that they take."""

    def __init__(self, params: Mapping[str, Array]) -> None:
        self.params, self.nodes, self.initializers = params, list[NodeProto](), list[TensorProto]()

    def node(self, operator: str, path: str, *inputs: str, **attributes: Any) -> str:
        """Append an operator on named values; the name of its output. Inputs that are parameters come with it."""
        self.nodes.append(helper.make_node(operator, inputs, [f"{path}y"], **attributes))
        arrays = [name for name in inputs if name in self.params]
        self.initializers += [numpy_helper.from_array(self.params[name], name) for name in arrays]
        return f"{path}y"


def model(network: Add, params: Mapping[str, Array], in_shape: tuple[int, ...]) -> bytes:
    """The file of a network that takes `x`, any number of images in bytes, as numbers from 0 to 1."""
    graph = Graph({**params, "scale": params["fc3/b"].dtype.type(255)})
    floats = graph.node("Cast", "floats/", "x", to=TensorProto.FLOAT)
    y = network(graph, "", graph.node("Div", "unit/", floats, "scale"))
    values = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", *in_shape]),
        helper.make_tensor_value_info(y, TensorProto.FLOAT, ["N", None]),
    ]
    made = helper.make_graph(graph.nodes, "network", values[:1], values[1:], graph.initializers)
    opsets = [helper.make_opsetid("", 17)]
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
    return lambda graph, path, x: graph.node("Conv", path, x, f"{path}w", f"{path}b", pads=[padding] * 4)


def dense(units: int, *, bias: bool = True) -> Add:
    """A dense layer with a bias."""
    return lambda graph, path, x: graph.node("Gemm", path, x, f"{path}w", f"{path}b", transB=1)


def relu() -> Add:
    """The greater of x and 0."""
    return lambda graph, path, x: graph.node("Relu", path, x)


def max_pool2d(size: int) -> Add:
    """The greatest of each window."""
    return lambda graph, path, x: graph.node("MaxPool", path, x, kernel_shape=[size] * 2, strides=[size] * 2)


def flatten() -> Add:
    """Images as features."""
    return lambda graph, path, x: graph.node("Flatten", path, x)
