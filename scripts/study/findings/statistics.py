"""Means, intervals and paired differences, and what an interval says about an effect."""

import enum
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def t_quantile(degrees: int, level: float = 0.95) -> float:
    """The t such that Student's variable of `degrees` degrees of freedom is within ±t with probability `level`.

    t = sqrt(degrees) tan(angle), where the density of the angle goes as cos(angle) ** (degrees - 1).

    >>> [round(t_quantile(n), 3) for n in (1, 2, 4, 9, 29)]
    [12.706, 4.303, 2.776, 2.262, 2.045]
    """
    angle = np.linspace(0, math.pi / 2, 100_001)
    density = np.cos(angle) ** (degrees - 1)
    mass = np.cumsum(density) - (density + density[0]) / 2  # trapezoids
    return float(math.sqrt(degrees) * math.tan(np.interp(level * mass[-1], mass, angle)))


def spread(values: Iterable[float], floor: float = 0.0) -> dict[str, Any]:
    """Mean, standard deviation (n - 1), n, range and 95 % t-interval; no deviation or interval of fewer than two.

    The interval ends at `floor` and at 1, between which shares (floor 0) or their differences (floor -1) lie.
    """
    x = np.array(list(values), np.float64)
    n = len(x)
    mean = float(x.mean())
    sd = float(x.std(ddof=1)) if n > 1 else None
    half = None if sd is None else t_quantile(n - 1) * sd / math.sqrt(n)
    low, high = (None, None) if half is None else (max(mean - half, floor), min(mean + half, 1.0))
    return {"mean": mean, "sd": sd, "n": n, "low": low, "high": high, "least": float(x.min()), "most": float(x.max())}


def paired(first: Mapping[Any, float], second: Mapping[Any, float]) -> dict[str, Any] | None:
    """The spread of first - second over the keys that both have (runs with the same seed and so the same batches)."""
    common = [key for key in first if key in second]
    return spread((first[key] - second[key] for key in common), floor=-1.0) if common else None


def median_and_range(values: Iterable[float]) -> dict[str, Any]:
    """Of a few timings, of which a mean would say little.

    >>> median_and_range([3.0, 1.0, 2.5])
    {'median': 2.5, 'least': 1.0, 'most': 3.0, 'n': 3}
    """
    x = list(values)
    return {"median": float(np.median(x)), "least": min(x), "most": max(x), "n": len(x)}


class Effect(enum.Enum):
    """Where the 95 % interval of an effect lies, seen from 0 and from a gap above 0 that the effect might explain."""

    ABOVE = "above the gap"
    MAY_EXPLAIN = "around the gap, above 0"
    UNKNOWN = "around the gap and 0, or there is none"
    SMALLER = "below the gap, above 0"
    UNSEEN = "below the gap, around 0"
    REVERSED = "below 0"


def effect_of(found: Mapping[str, Any], gap: float) -> Effect:
    """What the interval of a difference, as `spread` gives it, says.

    >>> effect_of({"low": 0.0053, "high": 0.0424}, 0.031)
    <Effect.MAY_EXPLAIN: 'around the gap, above 0'>
    """
    low, high = found["low"], found["high"]
    if low is None:
        return Effect.UNKNOWN
    if low > gap:
        return Effect.ABOVE
    if high < 0:
        return Effect.REVERSED
    if high >= gap:
        return Effect.MAY_EXPLAIN if low > 0 else Effect.UNKNOWN
    return Effect.SMALLER if low > 0 else Effect.UNSEEN
