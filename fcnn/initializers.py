"""How weights begin. An initializer is a value, called with a key, a shape and the layer's fans.

`fan.inputs` is how many numbers each output sees (C * KH * KW, or D), `fan.outputs` how many outputs see each input
(F * KH * KW, or F). Draws are made in float64 and rounded to float32, the library's default.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import attrs
import numpy as np

from fcnn.arrays import Array, frozen
from fcnn.keys import Key, generator

Distribution = Literal["normal", "uniform"]


class Fan(NamedTuple):
    """A layer's fan-in and fan-out."""

    inputs: int
    outputs: int


@attrs.frozen
class Initializer:
    """`initializer(key, shape, fan)` gives a float32 array; `name` is how it prints."""

    name: str
    draw: Callable[[np.random.Generator, tuple[int, ...], Fan], Array] = attrs.field(repr=False, eq=False)

    def __call__(self, key: Key, shape: tuple[int, ...], fan: Fan) -> Array:
        """Draw an array of `shape`: the same for the same key."""
        return frozen(self.draw(generator(key), shape, fan).astype(np.float32))

    def __repr__(self) -> str:
        return self.name


def he(distribution: Distribution = "normal") -> Initializer:
    """He et al., ICCV 2015 (arXiv 1502.01852), for ReLU: variance 2 / fan_in.

    >>> he()
    he('normal')
    """
    return _scaled("he", distribution, lambda fan: 2 / fan.inputs)


def xavier(distribution: Distribution = "normal") -> Initializer:
    """Glorot and Bengio, AISTATS 2010, for tanh and sigmoid: variance 2 / (fan_in + fan_out)."""
    return _scaled("xavier", distribution, lambda fan: 2 / (fan.inputs + fan.outputs))


def lecun(distribution: Distribution = "normal") -> Initializer:
    """LeCun et al., "Efficient BackProp", 1998: variance 1 / fan_in."""
    return _scaled("lecun", distribution, lambda fan: 1 / fan.inputs)


def kaiming_uniform() -> Initializer:
    """PyTorch's default for weights *and* biases: uniform on ±1 / sqrt(fan_in), which is variance 1 / (3 fan_in)."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...], fan: Fan) -> Array:
        return rng.uniform(-1, 1, shape) / math.sqrt(fan.inputs)

    return Initializer("kaiming_uniform()", draw)


def zeros() -> Initializer:
    """All zeros: the usual bias."""
    return Initializer("zeros()", lambda rng, shape, fan: np.zeros(shape))


def constant(value: float) -> Initializer:
    """All `value`."""
    return Initializer(f"constant({value!r})", lambda rng, shape, fan: np.full(shape, float(value)))


def _scaled(name: str, distribution: Distribution, variance: Callable[[Fan], float]) -> Initializer:
    if distribution not in ("normal", "uniform"):
        raise ValueError(f'{name} expects "normal" or "uniform", got {distribution!r}')

    def draw(rng: np.random.Generator, shape: tuple[int, ...], fan: Fan) -> Array:
        deviation = math.sqrt(variance(fan))
        if distribution == "normal":
            return rng.standard_normal(shape) * deviation
        return rng.uniform(-1, 1, shape) * (math.sqrt(3) * deviation)

    return Initializer(f"{name}({distribution!r})", draw)
