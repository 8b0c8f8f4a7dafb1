"""Activations of straight pieces, and hardswish: what networks for small machines take instead of curves.

Each is bounded by `np.clip`, the fastest pass that NumPy has; `np.where` takes twenty times as long.
"""

import math
from collections.abc import Callable

import attrs
import numpy as np

from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import cached, cached_array, floats, number, output_gradient


@attrs.frozen
class BoundedCache:
    """What the backward functions of `clip`, `relu6` and `hardsigmoid` need: the output, and where it is bent."""

    y: Array
    low: float
    high: float
    slope: float


def clip(x: Array, low: float | None = None, high: float | None = None) -> tuple[Array, BoundedCache]:
    """min(max(x, low), high), elementwise, any shape; None is no bound.

    The derivative at the bounds themselves is 0, as of PyTorch's `hardtanh` (of its `clamp` it is 1).

    >>> clip(np.array([-2.0, 0.5, 2.0]), -1, 1)[0], clip(np.array([-2.0, 0.5, 2.0]), high=0)[0]
    (array([-1. ,  0.5,  1. ]), array([-2.,  0.,  0.]))
    """
    x = floats("clip's x", x)
    least, most = clip_bounds(low, high)
    y = frozen(np.clip(x, least, most))
    return y, BoundedCache(y, least, most, 1.0)


def clip_backward(dy: Array, cache: BoundedCache) -> Array:
    """dx = dy where low < y < high, else 0."""
    return _bounded_backward("clip", dy, cache)


def clip_bounds(
    low: float | None, high: float | None, check: Callable[[str, object, str], float] = number
) -> tuple[float, float]:
    """The bounds as floats, infinite where there is none. Raises ValueError unless low < high."""
    for name, bound in (("low", low), ("high", high)):
        if isinstance(bound, (float, np.floating)) and math.isinf(bound):
            raise ValueError(f"clip's {name} is a number in (-inf, inf), got {bound}; None is no bound")
    least = -math.inf if low is None else check("clip's low", low, "(-inf, inf)")
    most = math.inf if high is None else check("clip's high", high, "(-inf, inf)")
    if not least < most:
        raise ValueError(f"clip expects low < high, got {low} and {high}")
    return least, most


def relu6(x: Array) -> tuple[Array, BoundedCache]:
    """min(max(x, 0), 6), elementwise, any shape; the derivative at 0 and at 6 is 0.

    A. Krizhevsky, "Convolutional deep belief networks on CIFAR-10" (2010).

    >>> relu6(np.array([-1.0, 2.0, 7.0]))[0]
    array([0., 2., 6.])
    """
    y = frozen(np.clip(floats("relu6's x", x), 0, 6))
    return y, BoundedCache(y, 0.0, 6.0, 1.0)


def relu6_backward(dy: Array, cache: BoundedCache) -> Array:
    """dx = dy where 0 < y < 6, else 0."""
    return _bounded_backward("relu6", dy, cache)


def hardsigmoid(x: Array, alpha: float = 1 / 6, beta: float = 0.5) -> tuple[Array, BoundedCache]:
    """min(max(alpha * x + beta, 0), 1), elementwise, any shape; `alpha` > 0.

    The defaults are PyTorch's, of A. Howard et al., ICCV 2019; ONNX's are 0.2 and 0.5. The derivative where y is 0 or 1
    is 0.

    >>> hardsigmoid(np.array([-4.0, 0.0, 4.0]))[0]
    array([0. , 0.5, 1. ])
    """
    x = floats("hardsigmoid's x", x)
    alpha, beta = number("hardsigmoid's alpha", alpha, "(0, inf)"), number("hardsigmoid's beta", beta, "(-inf, inf)")
    with np.errstate(over="ignore"):  # what is beyond all numbers is beyond the bounds as well
        y = np.asarray(x * alpha)
        y += beta
    y = frozen(np.clip(y, 0, 1, out=y))
    return y, BoundedCache(y, 0.0, 1.0, alpha)


def hardsigmoid_backward(dy: Array, cache: BoundedCache) -> Array:
    """dx = alpha * dy where 0 < y < 1, else 0."""
    return _bounded_backward("hardsigmoid", dy, cache)


def hardswish(x: Array) -> tuple[Array, Array]:
    """x * hardsigmoid(x) = x * min(max(x + 3, 0), 6) / 6, elementwise, any shape; the cache is x.

    A. Howard et al., "Searching for MobileNetV3", ICCV 2019, section 5.2.

    >>> hardswish(np.array([-4.0, 1.5, 4.0]))[0]
    array([-0.   ,  1.125,  4.   ])
    """
    x = floats("hardswish's x", x)
    y = np.asarray(np.clip(x, -3, 3))
    y *= 1 / 6
    y += 0.5
    y *= np.clip(x, -3, np.inf)  # left of -3 it is 0 all the same; without the bound, -inf would give NaN
    return frozen(y), keep(x)


def hardswish_backward(dy: Array, cache: Array) -> Array:
    """dx = dy * (x / 3 + 1 / 2) where -3 < x < 3, 0 left of that and at -3, dy right of it and at 3."""
    x = cached_array("hardswish", cache)
    dy = output_gradient("hardswish_backward", dy, x.shape)
    slope = np.asarray(np.clip(x, -3, 3))
    slope *= 1 / 3
    slope += 0.5
    slope *= x > -3
    slope -= np.multiply(x >= 3, 0.5, dtype=x.dtype)  # there it is 3 / 2 so far
    slope *= dy
    return frozen(slope)


def _bounded_backward(name: str, dy: Array, cache: BoundedCache) -> Array:
    cached(name, cache, BoundedCache)
    dy = output_gradient(f"{name}_backward", dy, cache.y.shape)
    inside = np.asarray(cache.y > cache.low)
    inside &= cache.y < cache.high
    dx = np.asarray(dy * inside)
    if cache.slope != 1:
        dx *= cache.slope
    return frozen(dx)
