"""Elementwise activations and softmax. Each keeps the memory order of its input and the dtype.

Where the derivative can be written in terms of the *output*, the output is the cache: then nothing is copied.
"""

import attrs
import numpy as np

from fcnn.ops.layout import block, unblock
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import cached, cached_array, floats, number, output_gradient


def relu(x: Array) -> tuple[Array, Array]:
    """max(x, 0), elementwise, any shape; the cache is y. The derivative at 0 is 0.

    >>> relu(np.array([-1.0, 0.0, 2.0]))[0]
    array([0., 0., 2.])
    """
    x = floats("relu's x", x)
    memory = block(x)
    lines = memory.reshape(len(memory), -1) if memory.ndim > 2 and memory.size else memory
    # A line of zeros instead of the number 0, for which NumPy has no vectorised loop: twice as fast.
    y = frozen(unblock(np.maximum(lines, np.zeros(lines.shape[-1:], x.dtype)).reshape(memory.shape)))
    return y, y


def relu_backward(dy: Array, cache: Array) -> Array:
    """dx = dy where y > 0, else 0."""
    y = cached_array("relu", cache)
    return frozen(output_gradient("relu_backward", dy, y.shape) * (y > 0))


@attrs.frozen
class LeakyReluCache:
    """What `leaky_relu_backward` needs: the output, whose sign is that of the input, and the slope."""

    y: Array
    slope: float


def leaky_relu(x: Array, slope: float = 0.01) -> tuple[Array, LeakyReluCache]:
    """x where x > 0, else slope * x, elementwise (A. Maas et al., 2013); `slope` >= 0, so that y tells x's sign.

    >>> leaky_relu(np.array([-1.0, 2.0]), 0.1)[0]
    array([-0.1,  2. ])
    """
    x, slope = floats("leaky_relu's x", x), number("leaky_relu's slope", slope, "[0, inf)")
    y = np.asarray(np.clip(x, -np.inf, 0))
    y *= slope
    y += np.clip(x, 0, np.inf)
    return frozen(y), LeakyReluCache(y, slope)


def leaky_relu_backward(dy: Array, cache: LeakyReluCache) -> Array:
    """dx = dy where y > 0, else slope * dy."""
    y = cached("leaky_relu", cache, LeakyReluCache).y
    dy = output_gradient("leaky_relu_backward", dy, y.shape)
    dx = _where_positive_1(y, cache.slope)
    dx *= dy
    return frozen(dx)


def sigmoid(x: Array) -> tuple[Array, Array]:
    """1 / (1 + exp(-x)), elementwise; the cache is y. Written with tanh, which can't overflow.

    >>> sigmoid(np.array([0.0, -1000.0]))[0]
    array([0.5, 0. ])
    """
    y = frozen(_sigmoid(floats("sigmoid's x", x)))
    return y, y


def sigmoid_backward(dy: Array, cache: Array) -> Array:
    """dx = dy * y * (1 - y)."""
    y = cached_array("sigmoid", cache)
    return frozen(output_gradient("sigmoid_backward", dy, y.shape) * y * (1 - y))


def tanh(x: Array) -> tuple[Array, Array]:
    """The hyperbolic tangent, elementwise; the cache is y.

    >>> tanh(np.array([0.0]))[0]
    array([0.])
    """
    y = frozen(np.tanh(floats("tanh's x", x)))
    return y, y


def tanh_backward(dy: Array, cache: Array) -> Array:
    """dx = dy * (1 - y²)."""
    y = cached_array("tanh", cache)
    return frozen(output_gradient("tanh_backward", dy, y.shape) * (1 - y * y))


@attrs.frozen
class SiluCache:
    """What `silu_backward` needs: the output and sigmoid(x)."""

    y: Array
    sigmoid: Array


def silu(x: Array) -> tuple[Array, SiluCache]:
    """x * sigmoid(x), elementwise, also called swish.

    D. Hendrycks and K. Gimpel, arXiv 1606.08415, section 3; S. Elfwing et al., arXiv 1702.03118.

    >>> silu(np.array([0.0, 1.0]))[0]
    array([0.        , 0.73105858])
    """
    x = floats("silu's x", x)
    s = _sigmoid(x)
    # Left of -40 sigmoid is 0 as it is computed here; without the bound, -inf would give NaN.
    y = frozen(np.clip(x, -40, np.inf) * s)
    return y, SiluCache(y, frozen(s))


def silu_backward(dy: Array, cache: SiluCache) -> Array:
    """dx = dy * (s + y * (1 - s)) with s = sigmoid(x)."""
    y = cached("silu", cache, SiluCache).y
    dy = output_gradient("silu_backward", dy, y.shape)
    dx = np.asarray(1 - cache.sigmoid)
    dx *= np.clip(y, -np.inf, 40)  # right of 40 the factor is 0, and inf * 0 would be NaN
    dx += cache.sigmoid
    dx *= dy
    return frozen(dx)


def softplus(x: Array) -> tuple[Array, Array]:
    """log(1 + exp(x)), elementwise; the cache is y. Written as max(x, 0) + log(1 + exp(-|x|)), which can't overflow.

    C. Dugas et al., NIPS 2000. Exact everywhere, where PyTorch's is just x right of 20, 2e-9 less.

    >>> softplus(np.array([0.0, -1000.0, 1000.0]))[0]
    array([6.93147181e-01, 0.00000000e+00, 1.00000000e+03])
    """
    x = floats("softplus's x", x)
    y = np.asarray(np.abs(x))
    np.negative(y, out=y)
    np.log1p(np.exp(y, out=y), out=y)
    y += np.clip(x, 0, np.inf)
    return frozen(y), y


def softplus_backward(dy: Array, cache: Array) -> Array:
    """dx = dy * sigmoid(x) = dy * (1 - exp(-y))."""
    y = cached_array("softplus", cache)
    return frozen(output_gradient("softplus_backward", dy, y.shape) * -np.expm1(-y))


@attrs.frozen
class EluCache:
    """What `elu_backward` needs: the output, whose sign is that of the input, and alpha."""

    y: Array
    alpha: float


def elu(x: Array, alpha: float = 1.0) -> tuple[Array, EluCache]:
    """x where x > 0, else alpha * (exp(x) - 1), elementwise; `alpha` >= 0, so that y tells x's sign.

    D.-A. Clevert et al., ICLR 2016 (arXiv 1511.07289), equation 15. The derivative at 0 is alpha.

    >>> elu(np.array([-1.0, 2.0]))[0]
    array([-0.63212056,  2.        ])
    """
    x, alpha = floats("elu's x", x), number("elu's alpha", alpha, "[0, inf)")
    y = np.asarray(np.expm1(np.clip(x, -np.inf, 0)))
    y *= alpha
    y += np.clip(x, 0, np.inf)
    return frozen(y), EluCache(y, alpha)


def elu_backward(dy: Array, cache: EluCache) -> Array:
    """dx = dy where y > 0, else (y + alpha) * dy."""
    y = cached("elu", cache, EluCache).y
    dy = output_gradient("elu_backward", dy, y.shape)
    dx = _where_positive_1(y, cache.alpha)
    dx += np.clip(y, -np.inf, 0)
    dx *= dy
    return frozen(dx)


def softmax(x: Array) -> tuple[Array, Array]:
    """exp(x) / sum of exp(x) over axis 1 (classes or channels), stable for any finite x; the cache is y.

    >>> softmax(np.array([[0.0, 0.0], [1000.0, 0.0]]))[0]
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    x = _classes("softmax", x)
    with np.errstate(over="ignore"):  # a difference beyond all numbers is one of probability 0
        y = np.exp(x - x.max(axis=1, keepdims=True))
    y /= y.sum(axis=1, keepdims=True)
    return frozen(y), y


def softmax_backward(dy: Array, cache: Array) -> Array:
    """The whole Jacobian, whatever the loss: dx = y * (dy - sum(dy * y) over axis 1)."""
    y = cached_array("softmax", cache)
    dy = output_gradient("softmax_backward", dy, y.shape)
    return frozen(y * (dy - (dy * y).sum(axis=1, keepdims=True)))


def log_softmax(x: Array) -> tuple[Array, Array]:
    """log(softmax(x)) over axis 1 (classes or channels), stable for any finite x; the cache is y.

    >>> log_softmax(np.array([[0.0, 1000.0]]))[0]
    array([[-1000.,     0.]])
    """
    x = _classes("log_softmax", x)
    with np.errstate(over="ignore"):
        y = np.asarray(x - x.max(axis=1, keepdims=True))
    y -= np.log(np.exp(y).sum(axis=1, keepdims=True))
    return frozen(y), y


def log_softmax_backward(dy: Array, cache: Array) -> Array:
    """dx = dy - exp(y) * sum(dy) over axis 1."""
    y = cached_array("log_softmax", cache)
    dy = output_gradient("log_softmax_backward", dy, y.shape)
    dx = np.exp(y)
    dx *= -dy.sum(axis=1, keepdims=True)
    dx += dy
    return frozen(dx)


def _classes(name: str, x: object) -> Array:
    x = floats(f"{name}'s x", x)
    if x.ndim < 2 or not x.shape[1]:
        raise ValueError(f"{name} expects x (N, classes) or (N, C, H, W), at least one class, got {x.shape}")
    return x


def _sigmoid(x: Array) -> Array:
    y = np.asarray(np.tanh(0.5 * x))
    y += 1
    y *= 0.5
    return y


def _where_positive_1(y: Array, other: float) -> Array:
    """1 where y > 0, else `other`, by products: `np.where` takes twenty times as long."""
    positive = np.asarray(y > 0)
    found = np.asarray(np.multiply(~positive, other, dtype=y.dtype))
    found += positive
    return found
