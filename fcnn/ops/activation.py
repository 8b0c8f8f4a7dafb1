"""Elementwise activations and softmax. Each keeps the memory order of its input and the dtype.

Where the derivative can be written in terms of the *output*, the output is the cache: then nothing is copied.
"""

import math

import attrs
import numpy as np

from fcnn.ops.layout import block, unblock
from fcnn.values.arrays import Array, frozen, keep
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
    y = frozen(np.where(x > 0, x, slope * x))
    return y, LeakyReluCache(y, slope)


def leaky_relu_backward(dy: Array, cache: LeakyReluCache) -> Array:
    """dx = dy where y > 0, else slope * dy."""
    y = cached("leaky_relu", cache, LeakyReluCache).y
    dy = output_gradient("leaky_relu_backward", dy, y.shape)
    return frozen(np.where(y > 0, dy, cache.slope * dy))


def sigmoid(x: Array) -> tuple[Array, Array]:
    """1 / (1 + exp(-x)), elementwise; the cache is y. Written with tanh, which can't overflow.

    >>> sigmoid(np.array([0.0, -1000.0]))[0]
    array([0.5, 0. ])
    """
    y = np.asarray(np.tanh(0.5 * floats("sigmoid's x", x)))
    y += 1
    y *= 0.5
    return frozen(y), y


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


def gelu(x: Array) -> tuple[Array, Array]:
    """x * Phi(x) with Phi the standard normal distribution, exact (erf, no tanh approximation); the cache is x.

    D. Hendrycks and K. Gimpel, arXiv 1606.08415.

    >>> gelu(np.array([0.0, 1.0])) [0]
    array([0.        , 0.84134475])
    """
    x = floats("gelu's x", x)
    # Left of -40 it is 0 in float64; without the bound, -inf would give NaN.
    return frozen(np.maximum(x, -40) * _normal_cdf(x)), keep(x)


def gelu_backward(dy: Array, cache: Array) -> Array:
    """dx = dy * (Phi(x) + x * phi(x)) with phi the standard normal density."""
    x = cached_array("gelu", cache)
    dy = output_gradient("gelu_backward", dy, x.shape)
    near = np.clip(x, -40, 40)  # beyond, the density is 0 in float64, where x² may overflow and inf * 0 is NaN
    density = np.exp(-0.5 * near * near) * (1 / math.sqrt(2 * math.pi))
    return frozen(dy * (_normal_cdf(x) + near * density))


def softmax(x: Array) -> tuple[Array, Array]:
    """exp(x) / sum of exp(x) over axis 1 (classes or channels), stable for any finite x; the cache is y.

    >>> softmax(np.array([[0.0, 0.0], [1000.0, 0.0]]))[0]
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    x = floats("softmax's x", x)
    if x.ndim < 2 or not x.shape[1]:
        raise ValueError(f"softmax expects x (N, classes) or (N, C, H, W), at least one class, got {x.shape}")
    with np.errstate(over="ignore"):  # a difference beyond all numbers is one of probability 0
        y = np.exp(x - x.max(axis=1, keepdims=True))
    y /= y.sum(axis=1, keepdims=True)
    return frozen(y), y


def softmax_backward(dy: Array, cache: Array) -> Array:
    """The whole Jacobian, whatever the loss: dx = y * (dy - sum(dy * y) over axis 1)."""
    y = cached_array("softmax", cache)
    dy = output_gradient("softmax_backward", dy, y.shape)
    return frozen(y * (dy - (dy * y).sum(axis=1, keepdims=True)))


def _normal_cdf(x: Array) -> Array:
    half = np.asarray(_erf(x * (1 / math.sqrt(2))))
    half += 1
    half *= 0.5
    return half


def erf(x: Array) -> Array:
    """The error function, which NumPy lacks; float32 within 5e-7, float64 within 1e-15.

    float64: W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969).
    float32: one rational minimax approximation on [-4, 4], as in Eigen and XLA; beyond, erf is ±1 to float32.
    """
    return frozen(_erf(floats("erf's x", x)))


def _erf(x: Array) -> Array:
    if x.dtype == np.float32:
        z = np.clip(x, -4, 4)
        square = z * z
        return z * _polynomial(square, _ERF32_TOP) / _polynomial(square, _ERF32_BOTTOM)
    size = np.abs(x)
    near = np.clip(x, -0.46875, 0.46875)
    inner = near * near
    small = near * _polynomial(inner, _CODY_A) / _polynomial(inner, _CODY_B)
    middle = np.clip(size, 0.46875, 4.0)
    medium = 1 - np.exp(-middle * middle) * _polynomial(middle, _CODY_C) / _polynomial(middle, _CODY_D)
    outer = np.clip(size, 4.0, 6.0)  # erf(6) is 1 in float64
    inverse = 1 / (outer * outer)
    tail = inverse * _polynomial(inverse, _CODY_P) / _polynomial(inverse, _CODY_Q)
    large = 1 - np.exp(-outer * outer) / outer * (1 / math.sqrt(math.pi) - tail)
    return np.where(size <= 0.46875, small, np.copysign(np.where(size <= 4, medium, large), x))


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Horner's rule, highest power first."""
    value = np.asarray(x * coefficients[0])  # of a single number NumPy makes no array
    for coefficient in coefficients[1:-1]:
        value += coefficient
        value *= x
    value += coefficients[-1]
    return value


# fmt: off
_ERF32_TOP = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
    -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02,
)
_ERF32_BOTTOM = (
    -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02,
)
_CODY_A = (
    1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3,
)
_CODY_B = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_CODY_C = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
    2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
    1.23033935479799725e3,
)
_CODY_D = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
    3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
)
_CODY_P = (
    1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
    1.60837851487422766e-2, 6.58749161529837803e-4,
)
_CODY_Q = (
    1.0, 2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
    2.33520497626869185e-3,
)
# fmt: on
