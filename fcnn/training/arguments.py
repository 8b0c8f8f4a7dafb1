"""What training asks of what a user hands it: batches, metrics, and functions that map."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeVar

import numpy as np

from fcnn.network.layer import Layer, LayerError, Shape
from fcnn.training.mapping import MapFn
from fcnn.values.arrays import Array
from fcnn.values.checks import floats, function, told
from fcnn.values.keys import key

Kind = TypeVar("Kind")

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


def mapped(
    map_fn: MapFn, of_one: Callable[[Any], tuple[int, Kind]], items: Iterable[Any], kind: type[Kind]
) -> list[Kind]:
    """The result of each item, by anybody's map and in the items' order, in whatever order that gives them.

    The function gives a pair: the item's number, from 0 on, and a result of that kind. Anything else is a TypeError.
    """
    items = list(items)
    found = map_fn(of_one, items)
    if not isinstance(found, Iterable):
        raise TypeError(f"map_fn gives the results as `map` does, {told(map_fn)} gave {told(found)}")
    pairs = list(found)
    if len(pairs) != len(items):
        raise TypeError(f"map_fn gives one result for each item, {told(map_fn)} gave {len(pairs)} for {len(items)}")
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[1], kind):
            raise TypeError(f"map_fn gives what the function gives, {told(map_fn)} gave {told(pair)} among the results")
    results = dict(pairs)
    if len(results) != len(items):
        raise TypeError(f"map_fn gives one result for each item, {told(map_fn)} gave that of one item twice")
    return [results[number] for number in range(len(items))]


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


def how_to_shape_inputs(network: Layer, in_shape: Shape) -> str:
    """Advice that is right for inputs of a shape that the network doesn't take, or none."""
    if len(in_shape) == 3 and in_shape[2] in (1, 3, 4) and in_shape[0] > 4:
        return f"; where the channels of {in_shape} come last, x.transpose(0, 3, 1, 2) puts them first"
    if len(in_shape) == 2:
        with suppress(LayerError):
            network.init(key(0), (1, *in_shape))
            return "; x[:, None] gives grey images (N, H, W) their channel"
    return ""


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
