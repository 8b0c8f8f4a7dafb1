"""Activations; the mathematics stands in `fcnn.ops.activation`, `gaussian`, `piecewise` and `parametric`."""

from typing import Any

import numpy as np

from fcnn import ops
from fcnn.network.layer import (
    Functions,
    Grads,
    Init,
    LayerError,
    Out,
    Shape,
    expect_call,
    expect_params,
    layer_constructor,
)
from fcnn.network.layers.common import same_shape, without_weights
from fcnn.ops.gaussian import GELUS
from fcnn.ops.piecewise import clip_bounds
from fcnn.values.arrays import Array
from fcnn.values.checks import boolean, one_of, single
from fcnn.values.keys import Key
from fcnn.values.tree import EMPTY, Tree, freeze


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
def prelu(*, shared: bool = True, slope: float = 0.25) -> Functions:
    """x where x > 0, else slope * x, where the slope is learnt; see `fcnn.ops.prelu`.

    Parameters: `slope`, (1,) for all channels if `shared`, else (C,), one for each.

    Args:
        shared: whether all channels have one slope.
        slope: what the slopes begin with.
    """
    shared, slope = boolean("shared", shared), single("prelu's slope", slope, "(-inf, inf)")

    def init(key: Key, in_shape: Shape, /) -> Init:
        if len(in_shape) > 3:
            raise LayerError(f"prelu() expects (D,), (C, L) or (C, H, W), got {in_shape}")
        return Init(freeze({"slope": np.full(1 if shared else in_shape[0], slope, np.float32)}), EMPTY, in_shape)

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        expect_call(params, state, train, key)
        expect_params(("slope",), params)
        y, cache = ops.prelu(x, params["slope"])
        return Out(y, EMPTY, cache)

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        expect_params(("slope",), params)
        need_dx = boolean("need_dx", need_dx)
        dx, dslope = ops.prelu_backward(dy, cache)
        return Grads(dx if need_dx else None, freeze({"slope": dslope}))

    return Functions(init, apply, backward)


@layer_constructor
def sigmoid() -> Functions:
    """1 / (1 + exp(-x))."""
    return without_weights(same_shape, ops.sigmoid, ops.sigmoid_backward)


@layer_constructor
def tanh() -> Functions:
    """The hyperbolic tangent."""
    return without_weights(same_shape, ops.tanh, ops.tanh_backward)


@layer_constructor
def gelu(approximate: str = "none") -> Functions:
    """x * Phi(x) with the normal distribution, exact ("none") or by its approximation with a tanh ("tanh")."""
    one_of("gelu's approximate", approximate, GELUS)
    return without_weights(same_shape, lambda x: ops.gelu(x, approximate), ops.gelu_backward)


@layer_constructor
def silu() -> Functions:
    """x * sigmoid(x), also called swish."""
    return without_weights(same_shape, ops.silu, ops.silu_backward)


@layer_constructor
def softplus() -> Functions:
    """log(1 + exp(x))."""
    return without_weights(same_shape, ops.softplus, ops.softplus_backward)


@layer_constructor
def elu(alpha: float = 1.0) -> Functions:
    """x where x > 0, else alpha * (exp(x) - 1)."""
    single("elu's alpha", alpha, "[0, inf)")
    return without_weights(same_shape, lambda x: ops.elu(x, alpha), ops.elu_backward)


@layer_constructor
def clip(low: float | None = None, high: float | None = None) -> Functions:
    """min(max(x, low), high); None is no bound. The derivative at the bounds themselves is 0."""
    clip_bounds(low, high, single)
    return without_weights(same_shape, lambda x: ops.clip(x, low, high), ops.clip_backward)


@layer_constructor
def relu6() -> Functions:
    """min(max(x, 0), 6)."""
    return without_weights(same_shape, ops.relu6, ops.relu6_backward)


@layer_constructor
def hardsigmoid(alpha: float = 1 / 6, beta: float = 0.5) -> Functions:
    """min(max(alpha * x + beta, 0), 1); the defaults are PyTorch's, ONNX's are 0.2 and 0.5."""
    single("hardsigmoid's alpha", alpha, "(0, inf)")
    single("hardsigmoid's beta", beta, "(-inf, inf)")
    return without_weights(same_shape, lambda x: ops.hardsigmoid(x, alpha, beta), ops.hardsigmoid_backward)


@layer_constructor
def hardswish() -> Functions:
    """x * min(max(x + 3, 0), 6) / 6."""
    return without_weights(same_shape, ops.hardswish, ops.hardswish_backward)


@layer_constructor
def softmax() -> Functions:
    """exp(x) / sum(exp(x)) over classes or channels. Losses take logits: this is for networks that end in it."""
    return without_weights(same_shape, ops.softmax, ops.softmax_backward)


@layer_constructor
def log_softmax() -> Functions:
    """log(softmax(x)) over classes or channels."""
    return without_weights(same_shape, ops.log_softmax, ops.log_softmax_backward)
