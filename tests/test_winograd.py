"""The Winograd form of 3x3 convolutions against the definition, in float64, and its error in float32."""

import itertools

import numpy as np
import pytest

from fcnn.ops import winograd
from fcnn.ops.window import Pads, pad_block
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
    """Random image (H, C, W, N), filters (F, C, 3, 3) and output gradient (OH, F, OW, N)."""
    n, channels, filters, height, width, ((top, bottom), (left, right)) = case
    rng = np.random.default_rng(0)
    shapes = (
        (height, channels, width, n),
        (filters, channels, 3, 3),
        (height + top + bottom - 2, filters, width + left + right - 2, n),
    )
    x, w, dy = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return x, w, dy


def direct(x: Array, w: Array, dy: Array, around: Pads) -> tuple[Array, Array, Array]:
    """Output, input gradient and weight gradient in float64, tap by tap."""
    x, w, dy = (array.astype(np.float64) for array in (x, w, dy))
    padded = pad_block(x, around)
    oh, _, ow, _ = dy.shape
    y, dw, dpadded = np.zeros_like(dy), np.zeros_like(w), np.zeros_like(padded)
    for i, j in itertools.product(range(3), range(3)):
        window = (slice(i, i + oh), slice(None), slice(j, j + ow))
        y += np.einsum("hcwn,fc->hfwn", padded[window], w[:, :, i, j], optimize=True)
        dw[:, :, i, j] = np.einsum("hcwn,hfwn->fc", padded[window], dy, optimize=True)
        dpadded[window] += np.einsum("hfwn,fc->hcwn", dy, w[:, :, i, j], optimize=True)
    (top, _), (left, _) = around
    return y, dpadded[top : top + x.shape[0], :, left : left + x.shape[2]], dw


def fast(x: Array, w: Array, dy: Array, around: Pads) -> tuple[Array, Array, Array]:
    """The same by the functions under test."""
    padded = pad_block(x, around)
    return (
        winograd.correlate(padded, w, (1, 1)),
        winograd.input_gradient(dy, w, x.shape, (1, 1), around),
        winograd.weight_gradient(padded, dy, w.shape, (1, 1)),
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_equals_the_definition(case: tuple[int, int, int, int, int, Pads], dtype: type) -> None:
    x, w, dy = problem(case, dtype)
    tolerance = 1e-12 if dtype is np.float64 else 2e-6
    for result, expected in zip(fast(x, w, dy, case[-1]), direct(x, w, dy, case[-1]), strict=True):
        assert result.dtype == dtype
        assert result.shape == expected.shape
        assert result.flags.c_contiguous
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
    results, expected = fast(x, w, dy, around), direct(x, w, dy, around)
    for result, exact, terms, scale in zip(results, expected, (channels, filters, tiles), largest, strict=True):
        error = np.abs(result - exact).max()
        assert error <= 64 * (terms + 20) * 2.0**-24 * terms * scale
        # what fcnn/ops/winograd.py states for these sizes
        assert error <= 1e-6 * np.abs(exact).max()


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


def test_suits_wide_3x3_layers_only() -> None:
    assert winograd.suits((64, 64, 3, 3), (1, 1), (32, 32), 32)
    assert winograd.suits((256, 256, 3, 3), (1, 1), (7, 7), 32)
    assert not winograd.suits((64, 64, 5, 5), (1, 1), (32, 32), 32)
    assert not winograd.suits((64, 64, 3, 3), (2, 1), (32, 32), 32)
    assert not winograd.suits((64, 3, 3, 3), (1, 1), (32, 32), 32)
    assert not winograd.suits((32, 32, 3, 3), (1, 1), (32, 32), 32)
    assert not winograd.suits((64, 64, 3, 3), (1, 1), (8, 8), 32)  # too little work for a row of tiles
    assert not winograd.suits((256, 256, 3, 3), (1, 1), (5, 5), 32)  # a third of the tiles' outputs would be waste
    assert not winograd.suits((256, 256, 3, 3), (1, 1), (8, 8), 0)
