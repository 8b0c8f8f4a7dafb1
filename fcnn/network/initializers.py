"""How weights begin. An initializer is a value, called with a key, a shape and the layer's fans.

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
from fcnn.values.checks import function, instance, integer, lengths, one_of, single, told
from fcnn.values.configuration import Config, as_call, constructor
from fcnn.values.keys import Key, generator

Distribution = Literal["normal", "uniform"]
P = ParamSpec("P")

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


def _scaled(name: str, distribution: Distribution, variance: Callable[[Fan], float]) -> Draw:
    one_of(f"{name}'s distribution", distribution, ("normal", "uniform"))

    def draw(rng: np.random.Generator, shape: tuple[int, ...], fan: Fan) -> Array:
        deviation = math.sqrt(variance(fan))
        if distribution == "normal":
            return rng.standard_normal(shape) * deviation
        return rng.uniform(-1, 1, shape) * (math.sqrt(3) * deviation)

    return draw
