"""Learning rates as pure functions `step -> float`, with one 0-based step owned by the training state.

Wherever a rate is asked for, a plain float does as well.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from fcnn.values.checks import MOST_STEPS, function, integer, number, one_of, told
from fcnn.values.configuration import prints_as_call

Schedule: TypeAlias = Callable[[int], float]
Rate: TypeAlias = float | Schedule


@prints_as_call
def constant_schedule(value: float) -> Schedule:
    """Always `value`."""
    rate = _rate("constant_schedule's value", value)
    return _of_steps(lambda step: rate)


@prints_as_call
def step_decay(value: float, *, every: int, factor: float = 0.1) -> Schedule:
    """`value * factor ** (step // every)`.

    A `factor` above 1 makes it grow; where it grows beyond all floats, it raises ValueError.

    >>> [step_decay(1.0, every=2, factor=0.5)(step) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    value, factor = _rate("step_decay's value", value), _rate("factor", factor)
    every = integer("every", every, least=1)

    def rate(step: int) -> float:
        try:
            found = value * factor ** (step // every)
        except OverflowError:
            found = math.inf
        if found == math.inf:
            raise ValueError(
                f"step_decay({value}, every={every}, factor={factor}) is too great for a float at step {step}; "
                "a factor below 1 makes it fall"
            )
        return found

    return _of_steps(rate)


@prints_as_call
def cosine(value: float, *, steps: int, end: float = 0.0) -> Schedule:
    """From `value` to `end` along half a cosine wave in `steps` steps, then `end` (arXiv 1608.03983, eq. 5).

    >>> [round(cosine(1.0, steps=2)(step), 3) for step in range(4)]
    [1.0, 0.5, 0.0, 0.0]
    """
    value, end, steps = _rate("cosine's value", value), _rate("end", end), integer("steps", steps, least=1)
    return _of_steps(lambda step: end + (value - end) * (1 + math.cos(math.pi * min(step / steps, 1.0))) / 2)


@prints_as_call
def linear_warmup(then: Rate, *, steps: int) -> Schedule:
    """`then`, multiplied in the first `steps` steps by (step + 1) / steps.

    >>> [linear_warmup(1.0, steps=4)(step) for step in range(6)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """
    after, steps = as_schedule("linear_warmup's then", then), integer("steps", steps, least=1)
    return _of_steps(lambda step: rate_at(after, step) * min((step + 1) / steps, 1.0))


@prints_as_call
def piecewise_linear(points: Sequence[tuple[float, float]]) -> Schedule:
    """Straight lines between the points (step, rate), level before the first and after the last.

    >>> [piecewise_linear([(0, 0.0), (2, 1.0), (4, 0.5)])(step) for step in range(6)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.5]
    """
    if not isinstance(points, (list, tuple)) or not all(isinstance(p, (list, tuple)) and len(p) == 2 for p in points):
        raise TypeError(f"piecewise_linear expects pairs (step, rate), in a list, got {told(points)}")
    steps = [_rate(f"the step of points[{place}]", step) for place, (step, _) in enumerate(points)]
    rates = [_rate(f"the rate of points[{place}]", rate) for place, (_, rate) in enumerate(points)]
    if not points or steps != sorted(set(steps)):
        raise ValueError(f"piecewise_linear expects points with rising steps, got {told(points)}")
    return _of_steps(lambda step: float(np.interp(step, steps, rates)))


@prints_as_call
def one_cycle(
    peak: float,
    *,
    steps: int,
    rising: float = 0.3,
    start: float | None = None,
    end: float | None = None,
    shape: str = "cosine",
) -> Schedule:
    """Up from `start` to `peak`, and down to `end`, which is the rate of the last of `steps` steps.

    After L. Smith, arXiv 1803.09820; as PyTorch's `OneCycleLR(max_lr=peak, total_steps=steps, pct_start=rising,
    anneal_strategy=…)`: the peak is at step `rising * steps - 1`.

    Args:
        peak: the greatest rate.
        steps: of the whole training.
        rising: the share of them in which the rate goes up, between 0 and 1.
        start, end: the first and the last rate; peak / 25 and peak / 250,000 when None.
        shape: of both ways, "cosine" (half a wave) or "linear".

    >>> [round(one_cycle(1.0, steps=6, rising=0.5, start=0.5, end=0.0, shape="linear")(step), 3) for step in range(7)]
    [0.5, 0.75, 1.0, 0.667, 0.333, 0.0, 0.0]
    """
    peak, steps = _rate("one_cycle's peak", peak), integer("steps", steps, least=1)
    rising = number("rising", rising, "(0, 1)")
    first = peak / 25 if start is None else _rate("one_cycle's start", start)
    last = peak / 250_000 if end is None else _rate("one_cycle's end", end)
    is_linear = one_of("one_cycle's shape", shape, ("cosine", "linear")) == "linear"
    top = max(rising * steps - 1, 0.0)

    def rate(step: int) -> float:
        if step >= steps - 1:
            return last
        begin, to, share = (first, peak, step / top) if step < top else (peak, last, (step - top) / (steps - 1 - top))
        return begin + (to - begin) * (share if is_linear else (1 - math.cos(math.pi * share)) / 2)

    return _of_steps(rate)


@prints_as_call
def ramp(value: float, *, steps: int, power: float = 1.0) -> Schedule:
    """From 0 to `value` in `steps` steps, as `value * (step / steps) ** power`, then `value`.

    >>> [ramp(1.0, steps=2, power=2)(step) for step in range(4)]
    [0.0, 0.25, 1.0, 1.0]
    """
    value, steps = _rate("ramp's value", value), integer("steps", steps, least=1)
    power = number("power", power, "(0, inf)")
    return _of_steps(lambda step: value * min(step / steps, 1.0) ** power)


@prints_as_call
def until(rate: Rate, *, steps: int) -> Schedule:
    """The rate in the first `steps` steps, and 0 after them: what learns by it stands still from then on.

    >>> [until(0.5, steps=2)(step) for step in range(4)]
    [0.5, 0.5, 0.0, 0.0]
    """
    before, steps = as_schedule("until's rate", rate), integer("steps", steps, least=1)
    return _of_steps(lambda step: rate_at(before, step) if step < steps else 0.0)


def as_schedule(name: str, rate: Rate) -> Schedule:
    """A schedule of a float or a schedule, which is the argument `name`."""
    if not callable(rate):
        return constant_schedule(_rate(name, rate))
    return function(name, rate, "a number, or a schedule, such as fcnn.cosine(1e-3, steps=1000)")


def rate_at(schedule: Schedule, step: int) -> float:
    """The rate of a step; anybody's function can be a schedule, so it is looked at.

    >>> rate_at(lambda step: 0.1 - 0.1 * step, 3)
    Traceback (most recent call last):
    ...
    ValueError: the rate of step 3 is a number in [0, inf), got -0.20000000000000004
    """
    rate = schedule(step)
    if type(rate) is float and 0 <= rate < math.inf:
        return rate
    return _rate(f"the rate of step {step}", rate.item() if isinstance(rate, np.ndarray) and rate.ndim == 0 else rate)


def _of_steps(schedule: Schedule) -> Schedule:
    """The schedule that refuses what is no step, and computes with Python's numbers, whatever it is given."""

    def rate(step: int) -> float:
        if type(step) is not int or not 0 <= step <= MOST_STEPS:
            number("step", step, "[0, inf)")
            step = step.item() if isinstance(step, np.generic) else step
        return schedule(step)

    return rate


def _rate(name: str, value: object) -> float:
    return number(name, value, "[0, inf)")
