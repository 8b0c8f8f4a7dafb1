"""Activations; the mathematics stands in `fcnn.ops.activation`."""

from fcnn import ops
from fcnn.network.layer import Functions, layer_constructor
from fcnn.network.layers.common import same_shape, without_weights
from fcnn.values.checks import single


@layer_constructor
def relu() -> Functions:
    """max(x, 0)."""
    return without_weights(same_shape, ops.relu, ops.relu_backward)


@layer_constructor
def leaky_relu(slope: float = 0.01) -> Functions:
    """x where x > 0, else slope * x."""
    single("leaky_relu's slope", slope, "[0, inf)")
    return without_weights(same_shape, lambda x: ops.leaky_relu(x, slope), ops.leaky_relu_backward)


@layer_constructor
def sigmoid() -> Functions:
    """1 / (1 + exp(-x))."""
    return without_weights(same_shape, ops.sigmoid, ops.sigmoid_backward)


@layer_constructor
def tanh() -> Functions:
    """The hyperbolic tangent."""
    return without_weights(same_shape, ops.tanh, ops.tanh_backward)


@layer_constructor
def gelu() -> Functions:
    """x * Phi(x) with the exact normal distribution."""
    return without_weights(same_shape, ops.gelu, ops.gelu_backward)


@layer_constructor
def softmax() -> Functions:
    """exp(x) / sum(exp(x)) over classes or channels. Losses take logits: this is for networks that end in it."""
    return without_weights(same_shape, ops.softmax, ops.softmax_backward)
