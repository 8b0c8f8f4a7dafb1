"""The array-level pairs of `fcnn.ops`: examples, accuracy and refusals. `test_kernels.py` compares them with loops."""

import math

import numpy as np
import pytest

import fcnn
from fcnn import ops

Array = np.ndarray


def integers(*shape: int, seed: int = 0) -> Array:
    """Small whole numbers as float64: their sums and products have no rounding."""
    return np.random.default_rng([seed, *shape]).integers(-4, 5, shape).astype(np.float64)


def test_conv2d_is_cross_correlation_and_a_delta_crops() -> None:
    x = integers(2, 1, 5, 6)
    for row, column in np.ndindex(3, 2):
        delta = np.zeros((1, 1, 3, 2))
        delta[0, 0, row, column] = 1
        np.testing.assert_array_equal(ops.conv2d(x, delta)[0], x[:, :, row : row + 3, column : column + 5])


def test_padding_never_wins_a_max_pool() -> None:
    x = -1 - np.abs(integers(1, 2, 3, 3))
    y, cache = ops.max_pool2d(x, 3, stride=2, padding=1)
    assert (y <= -1).all()
    assert ops.max_pool2d_backward(np.ones(y.shape), cache).sum() == y.size  # no gradient is lost in the border


@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_the_border_of_a_max_pool_takes_no_gradient_whatever_the_pixels_are(value: float) -> None:
    x = np.full((1, 1, 2, 2), value)
    _, cache = ops.max_pool2d(x, 3, stride=1, padding=1)
    np.testing.assert_array_equal(ops.max_pool2d_backward(np.ones((1, 1, 2, 2)), cache)[0, 0], [[4, 0], [0, 0]])


def test_nan_is_the_maximum_of_a_max_pool_as_for_argmax() -> None:
    x = np.array([[[[1.0, np.nan, 9.0, 2.0]]]])
    y, cache = ops.max_pool2d(x, (1, 4))
    assert np.isnan(y).all()
    np.testing.assert_array_equal(ops.max_pool2d_backward(np.ones((1, 1, 1, 1)), cache)[0, 0, 0], [0, 1, 0, 0])


def test_max_pool_tie_goes_to_the_first_in_reading_order() -> None:
    x = np.array([[[[1.0, 2.0, 2.0], [2.0, 2.0, 2.0]]]])
    _, cache = ops.max_pool2d(x, (2, 3))
    dx = ops.max_pool2d_backward(np.full((1, 1, 1, 1), 5.0), cache)
    np.testing.assert_array_equal(dx, [[[[0, 5, 0], [0, 0, 0]]]])


def test_avg_pool_counts_padding() -> None:
    y, _ = ops.avg_pool2d(np.ones((1, 1, 2, 2)), 2, stride=1, padding=1)
    np.testing.assert_array_equal(y[0, 0], np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4)


def test_batch_norm_of_large_numbers_keeps_its_digits() -> None:
    x = (1000 + np.random.default_rng(0).standard_normal((64, 2, 8, 8))).astype(np.float32)
    one, zero = np.ones(2, np.float32), np.zeros(2, np.float32)
    y = ops.batch_norm(x, one, zero, zero, one, train=True)[0]
    exact = x.astype(np.float64) - x.mean(axis=(0, 2, 3), dtype=np.float64, keepdims=True)
    exact /= exact.std(axis=(0, 2, 3), keepdims=True)
    np.testing.assert_allclose(y, exact, rtol=0, atol=2e-3)  # E[x²] - E[x]² would be wrong in the first digit


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropout_statistics(dtype: type) -> None:
    x = np.random.default_rng(0).uniform(1, 2, (100, 3, 20, 20)).astype(dtype)
    y, mask = ops.dropout(x, 0.3, train=True, key=fcnn.key(0))
    kept = y != 0
    assert abs(kept.mean() - 0.7) < 5 * math.sqrt(0.3 * 0.7 / x.size)
    np.testing.assert_allclose(y[kept], x[kept] / 0.7, rtol=1e-6)
    for axis in range(4):  # neighbours are dropped independently
        a, b = (np.take(kept, range(start, kept.shape[axis] - 1 + start), axis) for start in (0, 1))
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / math.sqrt(a.size)
    np.testing.assert_array_equal(ops.dropout_backward(x, mask), y)
    for other in (np.asfortranarray(x), x.astype(np.float64)):  # the mask depends on key and shape only
        np.testing.assert_array_equal(ops.dropout(other, 0.3, train=True, key=fcnn.key(0))[0] != 0, kept)


GRID = np.concatenate([np.linspace(-7, 7, 4001), [-1e4, -30.0, -1e-8, 1e-300, 30.0, 1e4]])


def reference_gelu(v: float) -> float:
    return v * math.erfc(-v / math.sqrt(2)) / 2


def reference_gelu_slope(v: float) -> float:
    return math.erfc(-v / math.sqrt(2)) / 2 + v * math.exp(-v * v / 2) / math.sqrt(2 * math.pi)


def reference_sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v)) if v > -700 else 0.0


ACTIVATIONS = {  # name: forward, function, derivative
    "relu": (ops.relu, ops.relu_backward, lambda v: max(v, 0.0), lambda v: float(v > 0)),
    "leaky_relu": (
        lambda x: ops.leaky_relu(x, 0.25), ops.leaky_relu_backward,
        lambda v: v if v > 0 else v / 4, lambda v: 1.0 if v > 0 else 0.25,
    ),
    "sigmoid": (
        ops.sigmoid, ops.sigmoid_backward,
        reference_sigmoid, lambda v: reference_sigmoid(v) * reference_sigmoid(-v),
    ),
    "tanh": (ops.tanh, ops.tanh_backward, math.tanh, lambda v: 1 - math.tanh(v) ** 2),
    "gelu": (ops.gelu, ops.gelu_backward, reference_gelu, reference_gelu_slope),
    "silu": (
        ops.silu, ops.silu_backward,
        lambda v: v * reference_sigmoid(v),
        lambda v: reference_sigmoid(v) * (1 + v * reference_sigmoid(-v)) if abs(v) < 700 else float(v > 0),
    ),
    "softplus": (
        ops.softplus, ops.softplus_backward,
        lambda v: max(v, 0) + math.log1p(math.exp(-abs(v))), reference_sigmoid,
    ),
    "elu": (
        lambda x: ops.elu(x, 0.25), ops.elu_backward,
        lambda v: v if v > 0 else math.expm1(v) / 4, lambda v: 1.0 if v > 0 else math.exp(v) / 4,
    ),
    "clip": (
        lambda x: ops.clip(x, -1.5, 2.5), ops.clip_backward,
        lambda v: min(max(v, -1.5), 2.5), lambda v: float(-1.5 < v < 2.5),
    ),
    "relu6": (ops.relu6, ops.relu6_backward, lambda v: min(max(v, 0), 6), lambda v: float(0 < v < 6)),
    "hardsigmoid": (
        lambda x: ops.hardsigmoid(x, 0.25, 0.5), ops.hardsigmoid_backward,
        lambda v: min(max(v / 4 + 0.5, 0), 1), lambda v: float(-2 < v < 2) / 4,
    ),
    "hardswish": (
        ops.hardswish, ops.hardswish_backward,
        lambda v: v * min(max(v + 3, 0), 6) / 6, lambda v: v / 3 + 0.5 if -3 < v < 3 else float(v > 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("dtype", "unit"), [(np.float32, 1e-6), (np.float64, 2e-15)])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_against_math(name: str, dtype: type, unit: float) -> None:
    forward, backward, function, slope = ACTIVATIONS[name]
    x = GRID.astype(dtype)
    y, cache = forward(x)
    # `unit` is absolute for small x (gelu's tail loses its relative digits to 1 + erf) and relative for large.
    np.testing.assert_allclose(y, [function(float(v)) for v in x], rtol=unit, atol=4 * unit)
    dx = backward(np.full(x.shape, 2, dtype), cache)
    np.testing.assert_allclose(dx, [2 * slope(float(v)) for v in x], rtol=unit, atol=8 * unit)
    assert y.dtype == dx.dtype == dtype


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 5e-7), (np.float64, 1e-15)])
def test_erf_is_within_its_stated_bound(dtype: type, bound: float) -> None:
    x = np.concatenate([np.linspace(-7, 7, 20001), np.geomspace(1e-30, 1, 200)]).astype(dtype)
    error = np.array([float(v) - math.erf(float(u)) for u, v in zip(x, ops.erf(x), strict=True)])
    assert np.abs(error).max() <= bound
    near_zero = ops.erf(x[-200:]) / np.array([math.erf(float(v)) for v in x[-200:]])
    np.testing.assert_allclose(near_zero, 1, rtol=2 * bound)  # relative digits are kept where erf is small
    np.testing.assert_array_equal(ops.erf(-x), -ops.erf(x))
    np.testing.assert_array_equal(ops.erf(np.array([np.inf, -np.inf, np.nan, 0.0], dtype)), [1, -1, np.nan, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_is_stable(dtype: type) -> None:
    y, cache = ops.softmax(np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4]], dtype))
    # float32: an exp, a sum and a quotient, 6e-8 each
    np.testing.assert_allclose(y, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)
    assert np.isfinite(ops.softmax_backward(np.ones((2, 3), dtype), cache)).all()
    x = np.random.default_rng(0).standard_normal((2, 5, 3, 2)).astype(dtype)
    # float32: an exp of numbers up to 4, which passes on the rounding of its argument (2.4e-7), and sums of five
    np.testing.assert_allclose(ops.softmax(x)[0], np.exp(x) / np.exp(x).sum(axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(ops.softmax(x + 1)[0], ops.softmax(x)[0], rtol=1e-5)


def test_columns_of_no_images() -> None:
    columns = ops.im2col(np.zeros((0, 2, 5, 4)), 3)
    assert columns.shape == (0, 18, 6)
    assert ops.col2im(columns, (0, 2, 5, 4), 3).shape == (0, 2, 5, 4)


def test_images_without_pixels_go_through_what_is_elementwise() -> None:
    for op in (
        ops.relu, ops.tanh, ops.sigmoid, ops.gelu, ops.leaky_relu, ops.flatten, ops.softmax, ops.silu, ops.softplus,
        ops.elu, ops.relu6, ops.hardsigmoid, ops.hardswish, ops.log_softmax,
    ):  # fmt: skip
        assert op(np.zeros((2, 3, 0, 4)))[0].size == 0


def test_the_widest_dtype_is_that_of_the_result() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    wide = ops.batch_norm(x, *np.ones((4, 3)), train=True)
    exact = ops.batch_norm(x.astype(np.float64), *np.ones((4, 3)), train=True)
    assert [array.tobytes() for array in wide[:3]] == [array.tobytes() for array in exact[:3]]
    for op, shapes in ((ops.layer_norm, [(3,), (3,)]), (ops.prelu, [(3,)])):
        wide = op(x, *map(np.ones, shapes))[0]
        assert wide.tobytes() == op(x.astype(np.float64), *map(np.ones, shapes))[0].tobytes()
    both = fcnn.residual(fcnn.identity(), fcnn.dense(3))
    params = fcnn.tree.astype(both.init(fcnn.key(0), (3,)).params, np.float64)
    assert both.apply(params, fcnn.freeze({}), x, train=False).y.dtype == np.float64


def test_a_list_is_as_good_as_a_pair_and_true_is_no_number():
    x, w = np.arange(50.0).reshape(1, 2, 5, 5), np.ones((1, 2, 3, 3))
    assert np.array_equal(ops.conv2d(x, w, stride=[2, 1])[0], ops.conv2d(x, w, stride=(2, 1))[0])
    assert np.array_equal(ops.max_pool2d(x, [2, 1])[0], ops.max_pool2d(x, (2, 1))[0])
    for wrong in (True, 1.0, (1.0, 1.0), [True, 1]):  # also where the same arguments with 1 were seen before
        for seen in (1, (1, 1)):
            ops.conv2d(x, w, stride=seen)
            ops.max_pool2d(x, 1, stride=seen)
        with pytest.raises(TypeError, match="stride is an integer"):
            ops.conv2d(x, w, stride=wrong)
        with pytest.raises(TypeError, match="stride is an integer"):
            ops.max_pool2d(x, 1, stride=wrong)


def test_wide_3x3_layers_take_another_kernel_with_the_same_results():
    rng = np.random.default_rng(0)
    shapes = (16, 64, 32, 32), (64, 64, 3, 3), (64,), (16, 64, 32, 32)
    x, w, b, dy = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    whole, cache = ops.conv2d(x, w, b, padding=1)
    dx, dw, db = ops.conv2d_backward(dy, cache)
    before = [array.copy() for array in (whole, dx, dw)]
    parts = []  # with four images at a time, and so by the other kernel
    for rows in (slice(at, at + 4) for at in range(0, 16, 4)):
        y, cache = ops.conv2d(x[rows], w, b, padding=1)
        parts.append((y, *ops.conv2d_backward(dy[rows], cache)))
    expected = [np.concatenate([part[i] for part in parts]) for i in (0, 1)] + [sum(part[2] for part in parts)]
    for found, other in zip((whole, dx, dw), expected, strict=True):
        assert not np.array_equal(found, other)
        # as Winograd's form promises (fcnn/ops/winograd.py), and sums of 600 products in either
        assert np.abs(found - other).max() <= 2e-6 * np.abs(other).max()
    # float32 sums of 16,384 numbers that mostly cancel, in another order
    np.testing.assert_allclose(db, sum(part[3] for part in parts), rtol=1e-4)
    # No workspace is seen from outside: what was handed out first has not changed, and shares nothing with the rest.
    assert all(np.array_equal(old, now) for old, now in zip(before, (whole, dx, dw), strict=True))
    made = [whole, dx, dw, *(array for part in parts for array in part)]
    assert not any(np.may_share_memory(a, b) for i, a in enumerate(made) for b in made[:i])


@pytest.mark.parametrize(("window", "stride"), [(2, 3), (1, 2), (2, 2), (3, 2)])
def test_the_gradient_of_a_max_pool_holds_nothing_of_what_was_in_memory_before(window, stride):
    x = np.arange(36.0).reshape(1, 1, 6, 6)
    y, cache = ops.max_pool2d(x, window, stride=stride)
    for _ in range(3):
        np.full((6, 1, 6, 1), np.nan)  # what is freed is what the next array of that size is made in
        assert ops.max_pool2d_backward(np.ones_like(y), cache).sum() == y.size
