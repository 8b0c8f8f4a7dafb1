"""Constructors of layers. Each is thin: the mathematics stands in `fcnn.ops`, one function of the same name.

In every constructor the order is the same: init, apply, backward.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fcnn import ops
from fcnn.arrays import Array, keep
from fcnn.initializers import Fan, Initializer, xavier, zeros
from fcnn.keys import Key, fold_in
from fcnn.layer import Functions, Grads, Init, LayerError, Out, Shape, expect_names, layer_constructor, no_state
from fcnn.ops.dropout import check_rate
from fcnn.ops.pool import pool_window
from fcnn.ops.window import Padding, Pair, out_size, pads, pair
from fcnn.tree import EMPTY, Tree, freeze


@layer_constructor
def conv2d(
    filters: int,
    kernel: Pair,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    bias: bool = True,
    init: Initializer = xavier(),  # noqa: B008 (an immutable value)
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Functions:
    """2-D convolution: images (C, H, W) to (filters, OH, OW); see `fcnn.ops.conv2d`.

    Parameters: `w` (filters, C, KH, KW), and `b` (filters,) with `bias`.

    Args:
        filters: how many output channels.
        kernel: the filter's size in pixels, an int or (height, width).
        stride: step in pixels, an int or (vertical, horizontal).
        padding: zeros on each side, an int, (vertical, horizontal), or "same".
        bias: whether to add a bias to each filter's output.
        init, bias_init: how weights and biases begin; for deep networks of ReLUs `he()` keeps the variance.

    >>> conv2d(6, 5, padding=2)
    conv2d(6, 5, padding=2)
    """
    count = _count("filters", filters)
    size, steps = pair("kernel", kernel, least=1), pair("stride", stride, least=1)
    pads((1, 1), size, steps, padding)  # refuses nonsense here, not at the first image
    call = f"conv2d({filters}, {kernel})"

    def initialise(key: Key, in_shape: Shape) -> Init:
        channels, *image = _images(call, in_shape)
        oh, ow = out_size((image[0], image[1]), size, steps, pads((image[0], image[1]), size, steps, padding))
        fan = Fan(channels * size[0] * size[1], count * size[0] * size[1])
        return no_state(_weights(key, (count, channels, *size), fan, bias, init, bias_init), (count, oh, ow))

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        y, cache = ops.conv2d(x, *_w_and_b(params, bias), stride=steps, padding=padding)
        return Out(y, EMPTY, cache)

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        return _weight_grads(*ops.conv2d_backward(dy, cache, need_dx=need_dx))

    return Functions(initialise, apply, backward)


@layer_constructor
def dense(
    units: int,
    *,
    bias: bool = True,
    init: Initializer = xavier(),  # noqa: B008
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Functions:
    """Fully connected: features (D,) to (units,); see `fcnn.ops.dense`.

    Parameters: `w` (units, D), and `b` (units,) with `bias`.

    Args:
        units: how many output features.
        bias: whether to add a bias.
        init, bias_init: how weights and biases begin; for deep networks of ReLUs `he()` keeps the variance.
    """
    count = _count("units", units)
    call = f"dense({units})"

    def initialise(key: Key, in_shape: Shape) -> Init:
        (inputs,) = _features(call, in_shape)
        return no_state(_weights(key, (count, inputs), Fan(inputs, count), bias, init, bias_init), (count,))

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        y, cache = ops.dense(x, *_w_and_b(params, bias))
        return Out(y, EMPTY, cache)

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        return _weight_grads(*ops.dense_backward(dy, cache, need_dx=need_dx))

    return Functions(initialise, apply, backward)


@layer_constructor
def batch_norm(*, decay: float = 0.9, eps: float = 1e-5) -> Functions:
    """Batch normalisation of features (D,) or of each channel of images (C, H, W); see `fcnn.ops.batch_norm`.

    Parameters: `gamma` (C,), ones, and `beta` (C,), zeros. State: running `mean` (C,) and unbiased `var` (C,).

    Args:
        decay: the weight of the *old* running value (PyTorch's `momentum` is 1 - decay).
        eps: added to the variance.
    """
    if not 0 <= decay <= 1 or not eps > 0:
        raise ValueError(f"batch_norm expects 0 <= decay <= 1 and eps > 0, got decay={decay}, eps={eps}")

    def initialise(key: Key, in_shape: Shape) -> Init:
        if len(in_shape) not in (1, 3):
            raise LayerError(f"batch_norm() expects (D,) or (C, H, W), got {in_shape}")
        one, zero = np.ones(in_shape[0], np.float32), np.zeros(in_shape[0], np.float32)
        return Init(freeze({"gamma": one, "beta": zero}), freeze({"mean": zero, "var": one}), in_shape)

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        expect_names(params, ("gamma", "beta"))
        y, mean, var, cache = ops.batch_norm(
            x, params["gamma"], params["beta"], state["mean"], state["var"], train=train, decay=decay, eps=eps
        )
        return Out(y, freeze({"mean": mean, "var": var}) if train else state, cache)

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        dx, dgamma, dbeta = ops.batch_norm_backward(dy, cache)
        return Grads(dx if need_dx else None, freeze({"gamma": dgamma, "beta": dbeta}))

    return Functions(initialise, apply, backward)


@layer_constructor
def dropout(rate: float) -> Functions:
    """In training drop each number with probability `rate` and scale the others up; see `fcnn.ops.dropout`."""
    check_rate(rate)

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        y, cache = ops.dropout(x, rate, train=train, key=key)
        return Out(y, EMPTY, cache)

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        return Grads(ops.dropout_backward(dy, cache) if need_dx else None, EMPTY)

    return Functions(_same_shape, apply, backward)


@layer_constructor
def max_pool2d(window: Pair, *, stride: Pair | None = None, padding: Padding = 0) -> Functions:
    """The greatest number in each window of images (C, H, W); see `fcnn.ops.max_pool2d`.

    Args:
        window: in pixels, an int or (height, width).
        stride: in pixels; the window's size when None.
        padding: in pixels on each side, an int, (vertical, horizontal), or "same"; the border never wins.
    """
    return _pool("max_pool2d", ops.max_pool2d, ops.max_pool2d_backward, window, stride, padding)


@layer_constructor
def avg_pool2d(window: Pair, *, stride: Pair | None = None, padding: Padding = 0) -> Functions:
    """The mean of each window of images (C, H, W), padded zeros included; arguments as `max_pool2d`."""
    return _pool("avg_pool2d", ops.avg_pool2d, ops.avg_pool2d_backward, window, stride, padding)


@layer_constructor
def global_avg_pool2d() -> Functions:
    """The mean of each channel: images (C, H, W) to features (C,)."""

    def initialise(key: Key, in_shape: Shape) -> Init:
        return no_state(EMPTY, _images("global_avg_pool2d()", in_shape)[:1])

    return _plain(initialise, ops.global_avg_pool2d, ops.global_avg_pool2d_backward)


@layer_constructor
def flatten() -> Functions:
    """Images (C, H, W) to features (C * H * W,), in C, H, W order; features stay as they are."""

    def initialise(key: Key, in_shape: Shape) -> Init:
        if len(in_shape) not in (1, 3):
            raise LayerError(f"flatten() expects (C, H, W) or (D,), got {in_shape}")
        return no_state(EMPTY, (int(np.prod(in_shape)),))

    return _plain(initialise, ops.flatten, ops.flatten_backward)


@layer_constructor
def identity() -> Functions:
    """The input, unchanged: the usual shortcut of `residual`."""
    return _plain(_same_shape, lambda x: (keep(x), None), lambda dy, cache: keep(dy))


@layer_constructor
def relu() -> Functions:
    """max(x, 0)."""
    return _plain(_same_shape, ops.relu, ops.relu_backward)


@layer_constructor
def leaky_relu(slope: float = 0.01) -> Functions:
    """x where x > 0, else slope * x."""
    if not 0 <= slope < math.inf:
        raise ValueError(f"leaky_relu expects a slope of at least 0, got {slope}")
    return _plain(_same_shape, lambda x: ops.leaky_relu(x, slope), ops.leaky_relu_backward)


@layer_constructor
def sigmoid() -> Functions:
    """1 / (1 + exp(-x))."""
    return _plain(_same_shape, ops.sigmoid, ops.sigmoid_backward)


@layer_constructor
def tanh() -> Functions:
    """The hyperbolic tangent."""
    return _plain(_same_shape, ops.tanh, ops.tanh_backward)


@layer_constructor
def gelu() -> Functions:
    """x * Phi(x) with the exact normal distribution."""
    return _plain(_same_shape, ops.gelu, ops.gelu_backward)


@layer_constructor
def softmax() -> Functions:
    """exp(x) / sum(exp(x)) over classes or channels. Losses take logits: this is for networks that end in it."""
    return _plain(_same_shape, ops.softmax, ops.softmax_backward)


def _plain(
    init: Callable[[Key, Shape], Init], forward: Callable[[Array], tuple[Array, Any]], backward: Callable[..., Array]
) -> Functions:
    """The functions of a layer without parameters, the same in both modes."""

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        y, cache = forward(x)
        return Out(y, EMPTY, cache)

    def back(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        return Grads(backward(dy, cache) if need_dx else None, EMPTY)

    return Functions(init, apply, back)


def _pool(
    name: str,
    forward: Callable[..., tuple[Array, Any]],
    backward: Callable[..., Array],
    window: Pair,
    stride: Pair | None,
    padding: Padding,
) -> Functions:
    size = pair("window", window, least=1)
    steps = size if stride is None else pair("stride", stride, least=1)
    pads((1, 1), size, steps, padding)  # refuses nonsense here, not at the first image

    def initialise(key: Key, in_shape: Shape) -> Init:
        channels, height, width = _images(f"{name}({window})", in_shape)
        _, out = pool_window(name, (height, width), size, steps, padding)
        return no_state(EMPTY, (channels, *out))

    return _plain(initialise, lambda x: forward(x, size, stride=steps, padding=padding), backward)


def _same_shape(key: Key, in_shape: Shape, /) -> Init:
    return no_state(EMPTY, tuple(in_shape))


def _weights(key: Key, shape: Shape, fan: Fan, bias: bool, init: Initializer, bias_init: Initializer) -> Tree:
    weights = {"w": init(fold_in(key, "w"), shape, fan)}
    if bias:
        weights["b"] = bias_init(fold_in(key, "b"), shape[:1], fan)
    return freeze(weights)


def _w_and_b(params: Tree, bias: bool) -> tuple[Array, Array | None]:
    expect_names(params, ("w", "b") if bias else ("w",))
    return params["w"], params["b"] if bias else None


def _weight_grads(dx: Array | None, dw: Array, db: Array | None) -> Grads:
    return Grads(dx, freeze({"w": dw} if db is None else {"w": dw, "b": db}))


def _images(call: str, in_shape: Shape) -> Shape:
    if len(in_shape) != 3:
        advice = "; put it before flatten" if len(in_shape) == 1 else ""
        raise LayerError(f"{call} expects (C, H, W), got {in_shape}{advice}")
    return in_shape


def _features(call: str, in_shape: Shape) -> Shape:
    if len(in_shape) != 1:
        raise LayerError(f"{call} expects (D,), got {in_shape}; put flatten() before it")
    return in_shape


def _count(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} is an integer of at least 1, got {value!r}")
    return int(value)
