"""What training asks of what a user hands it: batches, metrics, and functions that map."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from fcnn.training.workers import MapFn
from fcnn.values.arrays import Array
from fcnn.values.checks import floats, function, told

_A_METRIC = "a function (outputs, targets) that gives a number"


def expect_metrics(metrics: Any) -> tuple[Callable[..., Any], ...]:
    """The metrics, if they are functions in a tuple or a list."""
    if not isinstance(metrics, (tuple, list)):
        raise TypeError(f"metrics are functions (outputs, targets) in a tuple or a list, got {told(metrics)}")
    return tuple(function("a metric", metric, _A_METRIC) for metric in metrics)


def expect_map_fn(value: Any) -> MapFn:
    """`value`, if it can map; what only gives something that does is told apart."""
    expected = "a function that maps as `map` does"
    if isinstance(value, AbstractContextManager) and hasattr(value, "map"):
        raise TypeError(f"map_fn is {expected}, got {told(value)}; take its .map")
    if isinstance(value, AbstractContextManager):
        raise TypeError(f"map_fn is {expected}, got {told(value)}; enter it: with … as map_fn")
    return function("map_fn", value, expected)


def mapped(map_fn: MapFn, of_one: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """The function of each item, by anybody's map; as many results as there are items, or TypeError."""
    items = list(items)
    found = map_fn(of_one, items)
    if not isinstance(found, Iterable):
        raise TypeError(f"map_fn gives the results as `map` does, {told(map_fn)} gave {told(found)}")
    results = list(found)
    if len(results) != len(items):
        raise TypeError(f"map_fn gives one result for each item, {told(map_fn)} gave {len(results)} for {len(items)}")
    return results


def inputs_and_targets(batch: Any) -> tuple[Array, Any]:
    """The two parts of a batch: inputs, floats (N, …) in the machine's byte order, and targets, of any kind."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise TypeError(f"a batch is a pair (x, y), as fcnn.batches gives them, got {told(batch)}")
    return inputs_of(batch), batch[1]


def inputs_of(batch: Any) -> Array:
    """The inputs of a batch, floats (N, …) in the machine's byte order; they come first."""
    if not isinstance(batch, (tuple, list)) or not batch:
        raise TypeError(f"a batch is a pair (x, y), as fcnn.batches gives them, got {told(batch)}")
    x = batch[0]
    if isinstance(x, np.ndarray) and x.dtype.kind == "u" and x.dtype == np.uint8 and x.ndim in (2, 4):
        raise TypeError(
            f"a batch's x is an array of float32 or float64, got {told(x)}; fcnn.data.as_batch(x, y) makes floats of it"
        )
    x = floats("a batch's x", x)
    if not x.ndim:
        raise ValueError("a batch's x is inputs (N, …), got one number")
    return x


def measured(statement: str, value: Any) -> float:
    """What anybody's function gave, as a float: any number, NaN too.

    >>> measured("the metric share gives", "high")
    Traceback (most recent call last):
    ...
    TypeError: the metric share gives a number, got 'high'
    """
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    try:
        if not isinstance(value, (str, bytes, bytearray)):
            return float(value)
    except Exception:  # anybody's class
        pass
    raise TypeError(f"{statement} a number, got {told(value)}")
