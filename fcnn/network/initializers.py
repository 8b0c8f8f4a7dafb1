"""How weights begin. An initializer is a value, called with a key, a shape and the layer's fans.

What is made of images rather than of a key, `whitening_filters`, is put into the parameters: see there.

`fan.inputs` is how many numbers each output sees (C * KH * KW, or D), `fan.outputs` how many outputs see each input
(F * KH * KW, or F). Draws are made in float64 and rounded to float32, the library's default.
"""

import math
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, Literal, NamedTuple, ParamSpec, TypeAlias

import attrs
import numpy as np

from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import Pair, floats, function, instance, integer, lengths, one_of, pair, single, told
from fcnn.values.configuration import Config, as_call, constructor
from fcnn.values.keys import Key, generator

Distribution = Literal["normal", "uniform"]
P = ParamSpec("P")

_AT_A_TIME = 1 << 22  # numbers of patches that are multiplied
_MOST = 1 << 62  # of a fan: what a float can still hold, times two


class Fan(NamedTuple):
    """A layer's fan-in and fan-out."""

    inputs: int
    outputs: int


Draw: TypeAlias = Callable[[np.random.Generator, tuple[int, ...], Fan], Array]


@attrs.frozen(repr=False)
class Initializer:
    """`initializer(key, shape, fan)` gives a float32 array; `initializer.make(**initializer.config)` is it again."""

    kind: str
    config: Config
    make: "Callable[..., Initializer]" = attrs.field(eq=False)
    draw: Draw = attrs.field(eq=False)

    def __call__(self, key: Key, shape: tuple[int, ...], fan: Fan) -> Array:
        """Draw an array of `shape`: the same for the same key. Both numbers of the fan are at least 1."""
        rng = generator(key)
        shape = lengths("shape", shape, "a tuple of lengths, such as (10, 84)")
        instance("fan", fan, Fan, "Fan(inputs, outputs)")
        fan = Fan(*(integer(f"fan's {name}", value, least=1, most=_MOST) for name, value in fan._asdict().items()))
        drawn = self.draw(rng, shape, fan)
        if not isinstance(drawn, np.ndarray) or drawn.dtype.kind not in "iuf" or drawn.shape != shape:
            raise TypeError(f"{self.kind} draws an array of numbers of shape {shape}, got {told(drawn)}")
        return frozen(drawn.astype(np.float32, copy=False))

    def __repr__(self) -> str:
        return as_call(self.kind, self.config)

    def __reduce__(self) -> tuple[Any, ...]:
        return _initializer, (self.make, dict(self.config))


def _initializer(make: "Callable[..., Initializer]", config: Mapping[str, Any]) -> Initializer:
    return make(**config)


def check_initializers(**initializers: object) -> None:
    """Raise TypeError, with the argument's name, unless all are initializers."""
    for name, value in initializers.items():
        instance(name, value, Initializer, "an Initializer, such as fcnn.he()")


def initializer_constructor(body: Callable[P, Draw]) -> Callable[P, Initializer]:
    """Turn a function from arguments to a `draw(rng, shape, fan)` into a constructor of initializers.

    >>> @initializer_constructor
    ... def uniform(limit: float) -> Draw:
    ...     return lambda rng, shape, fan: rng.uniform(-limit, limit, shape)
    >>> uniform(0.1)
    uniform(0.1)
    """

    def made(kind: str, config: Config, make: Callable[P, Initializer], draw: Draw) -> Initializer:
        return Initializer(kind, config, make, function(f"what {kind} returns", draw, "a function (rng, shape, fan)"))

    construct = constructor(
        instance("initializer_constructor's argument", body, FunctionType, "a function that returns one"), made
    )
    construct.__annotations__ = {**body.__annotations__, "return": Initializer}
    return construct


@initializer_constructor
def he(distribution: Distribution = "normal") -> Draw:
    """He et al., ICCV 2015 (arXiv 1502.01852), for ReLU: variance 2 / fan_in.

    >>> he(), he("uniform")
    (he(), he(distribution='uniform'))
    """
    return _scaled("he", distribution, lambda fan: 2 / fan.inputs)


@initializer_constructor
def xavier(distribution: Distribution = "normal") -> Draw:
    """Glorot and Bengio, AISTATS 2010, for tanh and sigmoid: variance 2 / (fan_in + fan_out)."""
    return _scaled("xavier", distribution, lambda fan: 2 / (fan.inputs + fan.outputs))


@initializer_constructor
def lecun(distribution: Distribution = "normal") -> Draw:
    """LeCun et al., "Efficient BackProp", 1998: variance 1 / fan_in."""
    return _scaled("lecun", distribution, lambda fan: 1 / fan.inputs)


@initializer_constructor
def kaiming_uniform() -> Draw:
    """PyTorch's default for weights *and* biases: uniform on ±1 / sqrt(fan_in), which is variance 1 / (3 fan_in)."""
    return lambda rng, shape, fan: rng.uniform(-1, 1, shape) / math.sqrt(fan.inputs)


@initializer_constructor
def zeros() -> Draw:
    """All zeros: the usual bias."""
    return lambda rng, shape, fan: np.zeros(shape)


@initializer_constructor
def unallocated() -> Draw:
    """Zeros that take no memory, whatever their shape: for asking a network what shapes it has."""
    return lambda rng, shape, fan: np.broadcast_to(frozen(np.zeros((), np.float32)), shape)


@initializer_constructor
def constant(value: float) -> Draw:
    """All `value`, which is finite."""
    filled = single("constant's value", value, "(-inf, inf)")
    return lambda rng, shape, fan: np.full(shape, filled)


@initializer_constructor
def dirac(rest: Initializer = kaiming_uniform()) -> Draw:  # noqa: B008 (an immutable value)
    """Filters that hand on what they see: the k-th filter has a 1 in the middle of its k-th channel, and zeros else.

    So, with "same" padding, the first min(F, C) outputs of a convolution are its inputs (S. Zagoruyko and N. Komodakis,
    "DiracNets", arXiv 1706.00388), as PyTorch's `dirac_` makes them. Of F > C filters the others begin as `rest` says.
    Weights (F, C, KH, KW), or any (out, in, …): the middle of an even length is the one after it. With groups, C is how
    many channels a filter sees.

    >>> from fcnn.values.keys import key
    >>> dirac(zeros())(key(0), (2, 1, 1, 3), Fan(3, 6)).tolist()
    [[[[0.0, 1.0, 0.0]]], [[[0.0, 0.0, 0.0]]]]
    """
    check_initializers(rest=rest)

    def draw(rng: np.random.Generator, shape: tuple[int, ...], fan: Fan) -> Array:
        if len(shape) < 2:
            raise ValueError(f"dirac makes weights of two axes or more, (out, in, …), got the shape {shape}")
        drawn = np.array(rest.draw(rng, shape, fan), np.float64)
        count = min(shape[:2])
        drawn[:count] = 0
        numbers = np.arange(count)
        ones: tuple[Any, ...] = numbers, numbers, *(length // 2 for length in shape[2:])
        drawn[ones] = 1
        return drawn

    return draw


def whitening_filters(images: Array, kernel: Pair = 2, *, eps: float = 5e-4) -> Array:
    """Filters whose outputs have no correlation on these images, and about the variance 1, each with both signs.

    With all patches p (C, KH, KW) of the images, laid end to end, and their second moments M = mean of p pᵀ, the
    filters are the eigenvectors of M, the one with the greatest eigenvalue first, each divided by
    sqrt(eigenvalue + eps); and then the same ones times -1, so that an activation after them loses nothing (K. Jordan,
    arXiv 2404.00498, section 3.1). Each is greater than 0 where it is furthest from it.

    Args:
        images: (N, C, H, W), as the convolution sees them, so after `normalize`; some thousand are enough.
        kernel: the filters' size in pixels, an int or (height, width).
        eps: how much noise is taken for granted, in squared units of the images.

    Returns:
        (2 * C * KH * KW, C, KH, KW), for a `conv2d` of so many filters, of the images' dtype:
        `fcnn.tree.set_at(params, "conv1/w", whitening_filters(images))`.

    >>> rng = np.random.default_rng(0)
    >>> whitening_filters(rng.standard_normal((100, 1, 8, 8)), 1, eps=1e-6).round(1).ravel()
    array([ 1., -1.])
    """
    images = floats("whitening_filters' images", images)
    height, width = pair("kernel", kernel, least=1)
    eps = single("eps", eps, "(0, inf)")
    if images.ndim != 4 or not images.size or images.shape[2] < height or images.shape[3] < width:
        raise ValueError(
            f"whitening_filters expects images (N, C, H, W) of at least {height}x{width} pixels, got {images.shape}"
        )
    channels = images.shape[1]
    size = channels * height * width
    moments, patches = np.zeros((size, size)), 0
    rows = max(1, _AT_A_TIME // (images[0].size * height * width))
    for first in range(0, len(images), rows):
        part = images[first : first + rows].astype(np.float64)
        windows = np.lib.stride_tricks.sliding_window_view(part, (height, width), axis=(2, 3))
        flat = windows.transpose(1, 4, 5, 0, 2, 3).reshape(size, -1)
        with np.errstate(over="ignore", invalid="ignore"):  # it is told below
            moments += flat @ flat.T
        patches += flat.shape[1]
    if not np.isfinite(moments).all():
        raise ValueError(
            "whitening_filters expects finite images whose squares have a finite sum, got "
            f"{told(images)} with numbers from {images.min()} to {images.max()}"
        )
    values, vectors = np.linalg.eigh(moments / patches)
    filters = vectors.T[::-1] / np.sqrt(np.maximum(values[::-1, None], 0) + eps)
    furthest = np.take_along_axis(filters, np.abs(filters).argmax(axis=1)[:, None], axis=1)
    filters *= np.sign(furthest)  # either sign is an eigenvector's, and which comes is up to the LAPACK build
    both = np.concatenate([filters, -filters]).reshape(2 * size, channels, height, width)
    return frozen(both.astype(images.dtype))


def _scaled(name: str, distribution: Distribution, variance: Callable[[Fan], float]) -> Draw:
    one_of(f"{name}'s distribution", distribution, ("normal", "uniform"))

    def draw(rng: np.random.Generator, shape: tuple[int, ...], fan: Fan) -> Array:
        deviation = math.sqrt(variance(fan))
        if distribution == "normal":
            return rng.standard_normal(shape) * deviation
        return rng.uniform(-1, 1, shape) * (math.sqrt(3) * deviation)

    return draw
