"""The error function, which NumPy lacks, and GELU, which is made of it."""

import math

import attrs
import numpy as np

from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import cached, floats, one_of, output_gradient

GELUS = ("none", "tanh")

_SCALE = math.sqrt(2 / math.pi)
_CUBE = 0.044715


@attrs.frozen
class GeluCache:
    """What `gelu_backward` needs: the input, and which of the two functions it was."""

    x: Array
    approximate: str


def gelu(x: Array, approximate: str = "none") -> tuple[Array, GeluCache]:
    """x * Phi(x) with Phi the standard normal distribution, elementwise.

    D. Hendrycks and K. Gimpel, arXiv 1606.08415.

    Args:
        x: any shape.
        approximate: "none" for the exact function, with erf; "tanh" for the paper's approximation, which networks were
            trained with: x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x³))).

    >>> gelu(np.array([0.0, 1.0]))[0], gelu(np.array([0.0, 1.0]), "tanh")[0]
    (array([0.        , 0.84134475]), array([0.        , 0.84119199]))
    """
    x, approximate = floats("gelu's x", x), one_of("gelu's approximate", approximate, GELUS)
    distribution = _normal_cdf(x) if approximate == "none" else _half_1_plus(np.tanh(_cubic(_near(x))))
    # Left of -40 it is 0 in float64; without the bound, -inf would give NaN.
    return frozen(np.maximum(x, -40) * distribution), GeluCache(keep(x), approximate)


def gelu_backward(dy: Array, cache: GeluCache) -> Array:
    """dx = dy * (Phi(x) + x * phi(x)) with phi the standard normal density; of the approximation its own derivative."""
    x = cached("gelu", cache, GeluCache).x
    dy = output_gradient("gelu_backward", dy, x.shape)
    near = _near(x)
    if cache.approximate == "none":
        density = np.exp(-0.5 * near * near) * (1 / math.sqrt(2 * math.pi))
        return frozen(dy * (_normal_cdf(x) + near * density))
    bent = np.tanh(_cubic(near))
    slope = (1 - bent * bent) * (near * near * (3 * _CUBE) + 1)
    return frozen(dy * (_half_1_plus(bent) + near * slope * (0.5 * _SCALE)))


def _near(x: Array) -> Array:
    """x, but for what is so far from 0 that its density is 0 in float64: x³ may overflow there, and inf * 0 is NaN."""
    return np.clip(x, -40, 40)


def _cubic(x: Array) -> Array:
    return (x * x * _CUBE + 1) * x * _SCALE


def _half_1_plus(x: Array) -> Array:
    """(1 + x) / 2, in place."""
    half = np.asarray(x)
    half += 1
    half *= 0.5
    return half


def _normal_cdf(x: Array) -> Array:
    return _half_1_plus(_erf(x * (1 / math.sqrt(2))))


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
