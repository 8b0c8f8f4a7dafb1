"""What follows a convolution, done to a part of its output (R, F, M) while that is in cache: ReLU, and a 2x2 max pool.

A part to be pooled has its even columns before its odd ones, (R, F, 2 * M): so the two numbers that are compared lie
in long runs. Max pooling commutes with adding a bias, with a scale above 0 and with ReLU, also under rounding, as all
of them are monotone; after the pool they touch a quarter of the numbers.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from fcnn.values.allocation import empty, scratch
from fcnn.values.arrays import Array, frozen

_LARGE = 1 << 17  # numbers of a part


InPlace: TypeAlias = Callable[[Array], object]  # what is done to a part in place, such as `rectify`


class Hits(NamedTuple):
    """Where the first maximum of each window was, as truth values: in the even column, and in the even row."""

    columns: Array  # (R, F, M)
    rows: Array  # (R / 2, F, M)


def by_channel(function: np.ufunc, part: Array, values: Array, out: Array) -> None:
    """function(part, the channel's value) into out, both (R, F, M), for values (F,).

    NumPy's loops take three times as long where one operand is a single number of an array: a large part is given each
    value many times.
    """
    rows, filters, length = part.shape
    if part.size < _LARGE:
        function(part, values[:, None], out=out)
        return
    run = next(length // count for count in range(max(1, length // 1024), length + 1) if length % count == 0)
    shape = (rows, filters, length // run, run)
    function(part.reshape(shape), np.repeat(values, run).reshape(filters, 1, run), out=out.reshape(shape))


def pool_part(part: Array, y: Array, keeps: bool = True) -> Hits | None:
    """Write the maxima, (R / 2, F, M), of a part (R, F, 2 * M), with even columns first, into y.

    Returns where they were, if `keeps`.
    """
    rows, filters, length = part.shape
    half = length // 2
    even, odd = part[:, :, :half], part[:, :, half:]
    across = np.maximum(even, odd, out=scratch((rows, filters, half), part.dtype))
    upper, lower = across[0::2], across[1::2]
    np.maximum(upper, lower, out=y)
    if not keeps:
        return None
    columns = frozen(np.greater_equal(even, odd, out=empty(across.shape, bool)))
    return Hits(columns, frozen(np.greater_equal(upper, lower, out=empty(y.shape, bool))))


def unpool_part(dy: Array, hits: Hits) -> Array:
    """The gradient (R, F, 2 * M) of a part, for that of its maxima (R / 2, F, M)."""
    rows, filters, half = hits.columns.shape
    down = scratch((rows, filters, half), dy.dtype)
    np.multiply(dy, hits.rows, out=down[0::2])
    np.subtract(dy, down[0::2], out=down[1::2])
    across = scratch((rows, filters, 2 * half), dy.dtype)
    even, odd = across[:, :, :half], across[:, :, half:]
    np.multiply(down, hits.columns, out=even)
    np.subtract(down, even, out=odd)
    return across


def rectify(part: Array) -> None:
    """max(part, 0) in place. A line of zeros instead of the number 0, for which NumPy has no vectorised loop."""
    np.maximum(part, np.zeros(part.shape[-1], part.dtype), out=part)


def where_positive(dy: Array, y: Array, out: Array | None = None) -> Array:
    """dy where y > 0, else 0."""
    mask = np.greater(y, np.zeros(y.shape[-1], y.dtype), out=scratch(y.shape, bool))
    return np.multiply(dy, mask, out=scratch(dy.shape, dy.dtype) if out is None else out)
