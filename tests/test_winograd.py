"""The Winograd form of 3x3 convolutions against the definition, in float64, and its error in float32."""

import itertools
from typing import Any, get_args

import attrs
import numpy as np
import pytest
from by_parts import TABLE, by, direct, geometry, whole

from fcnn.ops import winograd
from fcnn.ops.processor import Product, trying
from fcnn.ops.window import Geometry, Pads
from fcnn.values.arrays import Array

# (N, C, F, H, W, ((top, bottom), (left, right)))
CASES: list[tuple[int, int, int, int, int, Pads]] = [
    (2, 3, 4, 8, 8, ((1, 1), (1, 1))),
    (3, 2, 5, 7, 7, ((1, 1), (1, 1))),
    (2, 4, 3, 15, 6, ((1, 1), (1, 1))),
    (2, 3, 2, 4, 4, ((0, 0), (0, 0))),  # one tile
    (1, 1, 1, 3, 3, ((0, 0), (0, 0))),  # one output
    (1, 2, 3, 1, 1, ((1, 1), (1, 1))),
    (1, 3, 1, 5, 9, ((0, 0), (1, 1))),
    (4, 1, 3, 6, 5, ((2, 2), (2, 2))),
    (2, 3, 3, 6, 7, ((0, 1), (2, 0))),
    (2, 2, 2, 5, 4, ((1, 2), (0, 1))),
    (2, 2, 3, 3, 4, ((3, 4), (5, 3))),
]


def problem(case: tuple[int, int, int, int, int, Pads], dtype: type) -> tuple[Array, Array, Array]:
    """Random images (N, C, H, W), filters (F, C, 3, 3) and output gradient (N, F, OH, OW)."""
    n, channels, filters, height, width, ((top, bottom), (left, right)) = case
    rng = np.random.default_rng(0)
    shapes = (
        (n, channels, height, width),
        (filters, channels, 3, 3),
        (n, filters, height + top + bottom - 2, width + left + right - 2),
    )
    x, w, dy = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return x, w, dy


def fast(x: Array, w: Array, dy: Array, around: Pads) -> tuple[Array, Array, Array]:
    """Output, input gradient and weight gradient by the functions under test."""
    g = geometry(x, w, pads=around)
    return by(winograd, x, w, dy, g, whole(g), [range(x.shape[2])], False)


def exact(x: Array, w: Array, dy: Array, around: Pads) -> tuple[Array, Array, Array]:
    """The same in float64, by the definition."""
    return direct(x, w, dy, geometry(x, w, pads=around))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_equals_the_definition(case: tuple[int, int, int, int, int, Pads], dtype: type) -> None:
    x, w, dy = problem(case, dtype)
    tolerance = 1e-12 if dtype is np.float64 else 2e-6
    for result, expected in zip(fast(x, w, dy, case[-1]), exact(x, w, dy, case[-1]), strict=True):
        assert result.dtype == dtype
        assert result.shape == expected.shape
        assert np.abs(result - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("case", [(8, 64, 96, 12, 12, ((1, 1), (1, 1))), (16, 160, 64, 7, 7, ((1, 1), (1, 1)))])
def test_float32_error_is_within_the_stated_bounds(case: tuple[int, int, int, int, int, Pads], positive: bool) -> None:
    x, w, dy = problem(case, np.float32)
    if positive:  # nothing cancels
        x, w, dy = np.abs(x), np.abs(w), np.abs(dy)
    n, channels, filters, height, width, around = case
    tiles = -(-height // 2) * -(-width // 2) * n
    size = [np.abs(array).max() for array in (x, w, dy)]
    largest = size[0] * size[1], size[2] * size[1], size[0] * size[2]
    results, expected = fast(x, w, dy, around), exact(x, w, dy, around)
    for result, right, terms, scale in zip(results, expected, (channels, filters, tiles), largest, strict=True):
        error = np.abs(result - right).max()
        assert error <= 64 * (terms + 20) * 2.0**-24 * terms * scale
        # what fcnn/ops/winograd.py states for these sizes
        assert error <= 1.1e-6 * np.abs(right).max()


@pytest.mark.parametrize("case", CASES[:3])
def test_pure(case: tuple[int, int, int, int, int, Pads]) -> None:
    inputs = problem(case, np.float32)
    for array in inputs:
        array.setflags(write=False)
    before = [array.copy() for array in inputs]
    first, second = fast(*inputs, case[-1]), fast(*inputs, case[-1])
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
    for array, copy in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    for one, two in itertools.combinations([*inputs, *first, *second], 2):
        assert not np.shares_memory(one, two)


def test_filters_of_any_strides() -> None:
    x, w, dy = problem(CASES[0], np.float64)
    around = CASES[0][-1]
    for result, expected in zip(fast(x, np.asfortranarray(w), dy, around), fast(x, w, dy, around), strict=True):
        np.testing.assert_array_equal(result, expected)


def suits(
    product: Any, w: tuple[int, ...], out: tuple[int, int], n: int, stride: tuple[int, int] = (1, 1), **row: int
) -> bool:
    """Whether it suits filters (F, C, KH, KW) that give images of this size; `row` is what differs in the table."""
    in_shape = (out[0] + w[2] - 1, w[1], out[1] + w[3] - 1, n)
    with trying(attrs.evolve(TABLE["OTHER"], **row)):
        return winograd.suits(Geometry(in_shape, w[0], w[2:], stride, ((0, 0), (0, 0)), out), product)


@pytest.mark.parametrize("product", get_args(Product))
def test_suits_wide_3x3_layers_only(product: Any) -> None:
    assert suits(product, (64, 64, 3, 3), (32, 32), 32)
    assert suits(product, (256, 256, 3, 3), (7, 7), 32)
    assert not suits(product, (64, 64, 5, 5), (32, 32), 32)
    assert not suits(product, (64, 64, 3, 3), (32, 32), 32, stride=(2, 1))
    assert not suits(product, (64, 3, 3, 3), (32, 32), 32)
    assert not suits(product, (32, 32, 3, 3), (32, 32), 32)
    assert suits(product, (32, 32, 3, 3), (32, 64), 32, winograd=32, winograd_weights=32)
    assert not suits(product, (64, 64, 3, 3), (8, 8), 32)  # too little work for a row of tiles
    assert not suits(product, (256, 256, 3, 3), (5, 5), 32)  # a third of the tiles' outputs would be waste
    assert not suits(product, (256, 256, 3, 3), (8, 8), 0)


def test_each_product_is_chosen_for_by_itself() -> None:
    few = {"winograd": 64, "winograd_weights": 128}
    wide = (64, 64, 3, 3), (32, 32), 32
    assert [suits(product, *wide, **few) for product in get_args(Product)] == [True, False, True]
    # Of few channels and many filters the input's gradient is of few rows and many columns.
    assert [suits(product, (256, 64, 3, 3), (32, 32), 32) for product in get_args(Product)] == [True, True, False]
    assert suits("input gradient", (128, 64, 3, 3), (32, 32), 32)
