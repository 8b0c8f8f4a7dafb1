"""The array-level pairs of `fcnn.ops` against slow, obvious references. Integers make most comparisons exact."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fcnn
from fcnn import ops

Array = np.ndarray
modest = settings(derandomize=True, deadline=None, max_examples=60)


def integers(*shape: int, seed: int = 0) -> Array:
    """Small whole numbers as float64: their sums and products have no rounding."""
    return np.random.default_rng([seed, *shape]).integers(-4, 5, shape).astype(np.float64)


def around(padding: Any, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]) -> list[Any]:
    """Padding as np.pad takes it; "same" from its definition: ceil(size / stride) windows, the odd pixel after."""
    if padding == "same":
        total = [max((math.ceil(n / s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride, strict=True)]
        sides = [(t // 2, t - t // 2) for t in total]
    else:
        sides = [(p, p) for p in padding]
    return [(0, 0), (0, 0), *sides]


def windows(height: int, width: int, kernel: tuple[int, int], stride: tuple[int, int]) -> Any:
    """(i, j, the slices of output pixel (i, j)) over a padded image."""
    for i, top in enumerate(range(0, height - kernel[0] + 1, stride[0])):
        for j, left in enumerate(range(0, width - kernel[1] + 1, stride[1])):
            yield i, j, np.s_[:, :, top : top + kernel[0], left : left + kernel[1]]


def inner(padded: Array, pad: list[Any]) -> Array:
    return padded[tuple(slice(before, size - after) for size, (before, after) in zip(padded.shape, pad, strict=True))]


def naive_conv(x: Array, w: Array, dy: Array, stride: Any, padding: Any) -> tuple[Array, Array, Array]:
    """y without bias, dx and dw, window by window."""
    kernel = w.shape[2:]
    pad = around(padding, x.shape[2:], kernel, stride)
    padded = np.pad(x, pad)
    y, dpadded, dw = np.zeros(dy.shape), np.zeros(padded.shape), np.zeros(w.shape)
    for i, j, at in windows(*padded.shape[2:], kernel, stride):
        y[:, :, i, j] = np.tensordot(padded[at], w, axes=([1, 2, 3], [1, 2, 3]))
        dpadded[at] += np.tensordot(dy[:, :, i, j], w, axes=1)
        dw += np.tensordot(dy[:, :, i, j].T, padded[at], axes=1)
    return y, inner(dpadded, pad), dw


def naive_max_pool(x: Array, dy: Array, window: Any, stride: Any, padding: Any) -> tuple[Array, Array]:
    """y and dx, number by number; np.argmax gives the first maximum, of ranks, in which the border is below -inf."""
    pad = around(padding, x.shape[2:], window, stride)
    padded = np.pad(x, pad)
    ranks = np.pad(np.unique(x, return_inverse=True)[1].reshape(x.shape), pad, constant_values=-1)
    y, dpadded = np.zeros(dy.shape), np.zeros(padded.shape)
    for n, c in np.ndindex(x.shape[:2]):
        for i, j, at in windows(*padded.shape[2:], window, stride):
            here = ranks[at][n, c]
            best = np.unravel_index(here.argmax(), here.shape)
            y[n, c, i, j] = padded[at][n, c][best]
            dpadded[at][n, c][best] += dy[n, c, i, j]
    return y, inner(dpadded, pad)


def naive_avg_pool(x: Array, dy: Array, window: Any, stride: Any, padding: Any) -> tuple[Array, Array]:
    pad = around(padding, x.shape[2:], window, stride)
    padded = np.pad(x, pad)
    y, dpadded = np.zeros(dy.shape), np.zeros(padded.shape)
    for i, j, at in windows(*padded.shape[2:], window, stride):
        y[:, :, i, j] = padded[at].mean(axis=(2, 3))
        dpadded[at] += dy[:, :, i, j][:, :, None, None] / math.prod(window)
    return y, inner(dpadded, pad)


small = st.integers(1, 3)
pairs = st.tuples(small, small)
images = st.tuples(small, small, st.integers(1, 7), st.integers(1, 7))
paddings = st.one_of(st.just("same"), st.tuples(st.integers(0, 2), st.integers(0, 2)))


def fits(shape: tuple[int, ...], kernel: tuple[int, int], padding: Any) -> bool:
    return padding == "same" or all(n + 2 * p >= k for n, p, k in zip(shape[2:], padding, kernel, strict=True))


@given(images, small, st.tuples(st.integers(1, 4), st.integers(1, 4)), pairs, paddings)
@modest
def test_conv2d_is_the_naive_loop(shape: Any, filters: int, kernel: Any, stride: Any, padding: Any) -> None:
    assume(fits(shape, kernel, padding))
    x, w, b = integers(*shape), integers(filters, shape[1], *kernel), integers(filters)
    y, cache = ops.conv2d(x, w, b, stride=stride, padding=padding)
    dy = integers(*y.shape, seed=1)
    dx, dw, db = ops.conv2d_backward(dy, cache)
    expected = naive_conv(x, w, dy, stride, padding)
    np.testing.assert_array_equal(y, expected[0] + b[:, None, None])
    np.testing.assert_array_equal(dx, expected[1])
    np.testing.assert_array_equal(dw, expected[2])
    np.testing.assert_array_equal(db, dy.sum(axis=(0, 2, 3)))
    assert (ops.conv2d(x, w, stride=stride, padding=padding)[0] * dy).sum() == (x * dx).sum()  # adjoint


@given(images, st.tuples(st.integers(1, 4), st.integers(1, 4)), pairs, paddings)
@modest
def test_im2col_and_col2im(shape: Any, kernel: Any, stride: Any, padding: Any) -> None:
    assume(fits(shape, kernel, padding))
    x, w = integers(*shape), integers(2, shape[1], *kernel)
    options = {"stride": stride, "padding": padding}
    columns = ops.im2col(x, kernel, **options)
    c = integers(*columns.shape, seed=1)
    assert (columns * c).sum() == (x * ops.col2im(c, x.shape, kernel, **options)).sum()  # adjoint
    y, cache = ops.conv2d(x, w, **options)
    dy = integers(*y.shape, seed=2)
    dx, dw, _ = ops.conv2d_backward(dy, cache)
    matrix, dy = w.reshape(2, -1), dy.reshape(len(x), 2, -1)
    np.testing.assert_array_equal(y, (matrix @ columns).reshape(y.shape))
    np.testing.assert_array_equal(dx, ops.col2im(matrix.T @ dy, x.shape, kernel, **options))
    np.testing.assert_array_equal(dw.reshape(2, -1), (dy @ columns.transpose(0, 2, 1)).sum(axis=0))


@given(images, pairs, pairs, paddings, st.sampled_from([0.0, -np.inf, np.inf, np.nan]))
@modest
def test_pools_are_the_naive_loops(shape: Any, window: Any, stride: Any, padding: Any, special: float) -> None:
    assume(fits(shape, window, padding))
    assume(all(max(p) < k for p, k in zip(around(padding, shape[2:], window, stride)[2:], window, strict=True)))
    x = integers(*shape)  # few values, so many ties
    for values in (x, np.where(x < 3, special, x), np.full(shape, special)):
        y, cache = ops.max_pool2d(values, window, stride=stride, padding=padding)
        dy = integers(*y.shape, seed=1)
        expected = naive_max_pool(values, dy, window, stride, padding)
        np.testing.assert_array_equal(y, expected[0])
        np.testing.assert_array_equal(ops.max_pool2d_backward(dy, cache), expected[1])
    y, plan = ops.avg_pool2d(x, window, stride=stride, padding=padding)
    expected = naive_avg_pool(x, dy, window, stride, padding)
    np.testing.assert_allclose(y, expected[0], rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(ops.avg_pool2d_backward(dy, plan), expected[1], rtol=1e-14, atol=1e-14)


def test_conv2d_is_cross_correlation_and_a_delta_crops() -> None:
    x = integers(2, 1, 5, 6)
    for row, column in np.ndindex(3, 2):
        delta = np.zeros((1, 1, 3, 2))
        delta[0, 0, row, column] = 1
        np.testing.assert_array_equal(ops.conv2d(x, delta)[0], x[:, :, row : row + 3, column : column + 5])


def test_dense_and_flatten() -> None:
    x, w, b, dy = integers(3, 4), integers(2, 4), integers(2), integers(3, 2)
    y, cache = ops.dense(x, w, b)
    np.testing.assert_array_equal(y, x @ w.T + b)
    for found, expected in zip(ops.dense_backward(dy, cache), (dy @ w, dy.T @ x, dy.sum(axis=0)), strict=True):
        np.testing.assert_array_equal(found, expected)
    images = integers(2, 3, 4, 5)
    y, shape = ops.flatten(images)
    np.testing.assert_array_equal(y, images.reshape(2, 60))
    np.testing.assert_array_equal(ops.flatten_backward(y, shape), images)


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


def test_global_avg_pool() -> None:
    x, dy = integers(2, 3, 4, 5), integers(2, 3)
    y, shape = ops.global_avg_pool2d(x)
    np.testing.assert_allclose(y, x.mean(axis=(2, 3)), rtol=1e-14)
    shares = np.broadcast_to(dy[..., None, None] / 20, x.shape)
    np.testing.assert_allclose(ops.global_avg_pool2d_backward(dy, shape), shares)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4, 5), (1, 3, 1, 2)])
def test_batch_norm_formulas(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, dy = 3 + 2 * rng.standard_normal(shape), rng.standard_normal(shape)
    gamma, beta, mean, var = rng.standard_normal((4, 3)) + 2
    axes, wide = ((0,), np.s_[None, :]) if len(shape) == 2 else ((0, 2, 3), np.s_[None, :, None, None])
    m, v = x.mean(axis=axes), x.var(axis=axes)
    y, new_mean, new_var, cache = ops.batch_norm(x, gamma, beta, mean, var, train=True, decay=0.8, eps=1e-3)
    x_hat = (x - m[wide]) / np.sqrt(v[wide] + 1e-3)
    np.testing.assert_allclose(y, gamma[wide] * x_hat + beta[wide], rtol=1e-12)
    np.testing.assert_allclose(new_mean, 0.8 * mean + 0.2 * m, rtol=1e-12)
    np.testing.assert_allclose(new_var, 0.8 * var + 0.2 * x.var(axis=axes, ddof=1), rtol=1e-12)
    _, dgamma, dbeta = ops.batch_norm_backward(dy, cache)
    np.testing.assert_allclose(dgamma, (dy * x_hat).sum(axis=axes), rtol=1e-10)
    np.testing.assert_allclose(dbeta, dy.sum(axis=axes), rtol=1e-10)

    y, same_mean, same_var, cache = ops.batch_norm(x, gamma, beta, mean, var, train=False, eps=1e-3)
    scale = (gamma / np.sqrt(var + 1e-3))[wide]
    np.testing.assert_allclose(y, (x - mean[wide]) * scale + beta[wide], rtol=1e-12)
    np.testing.assert_array_equal((same_mean, same_var), (mean, var))
    np.testing.assert_allclose(ops.batch_norm_backward(dy, cache)[0], dy * scale, rtol=1e-12)


def test_batch_norm_of_large_numbers_keeps_its_digits() -> None:
    x = (1000 + np.random.default_rng(0).standard_normal((64, 2, 8, 8))).astype(np.float32)
    one, zero = np.ones(2, np.float32), np.zeros(2, np.float32)
    y = ops.batch_norm(x, one, zero, zero, one, train=True)[0]
    exact = x.astype(np.float64) - x.mean(axis=(0, 2, 3), dtype=np.float64, keepdims=True)
    exact /= exact.std(axis=(0, 2, 3), keepdims=True)
    np.testing.assert_allclose(y, exact, atol=2e-3)  # E[x²] - E[x]² would be wrong in the first digit


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
    np.testing.assert_allclose(y, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)
    assert np.isfinite(ops.softmax_backward(np.ones((2, 3), dtype), cache)).all()
    x = np.random.default_rng(0).standard_normal((2, 5, 3, 2)).astype(dtype)
    np.testing.assert_allclose(ops.softmax(x)[0], np.exp(x) / np.exp(x).sum(axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(ops.softmax(x + 1)[0], ops.softmax(x)[0], rtol=1e-5)


def test_softmax_backward_is_the_whole_jacobian() -> None:
    y, cache = ops.softmax(np.array([[0.3, -1.0, 2.0]]))
    jacobian = np.vstack([ops.softmax_backward(row[None], cache) for row in np.eye(3)])
    np.testing.assert_allclose(jacobian, np.diag(y[0]) - np.outer(y[0], y[0]), atol=1e-16)


def test_columns_of_no_images() -> None:
    columns = ops.im2col(np.zeros((0, 2, 5, 4)), 3)
    assert columns.shape == (0, 18, 6)
    assert ops.col2im(columns, (0, 2, 5, 4), 3).shape == (0, 2, 5, 4)


def test_images_without_pixels_go_through_what_is_elementwise() -> None:
    for op in (ops.relu, ops.tanh, ops.sigmoid, ops.gelu, ops.leaky_relu, ops.flatten, ops.softmax):
        assert op(np.zeros((2, 3, 0, 4)))[0].size == 0


def test_the_widest_dtype_is_that_of_the_result() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    wide = ops.batch_norm(x, *np.ones((4, 3)), train=True)
    exact = ops.batch_norm(x.astype(np.float64), *np.ones((4, 3)), train=True)
    assert [array.tobytes() for array in wide[:3]] == [array.tobytes() for array in exact[:3]]
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
        assert np.abs(found - other).max() <= 2e-6 * np.abs(other).max()
    np.testing.assert_allclose(db, sum(part[3] for part in parts), rtol=1e-4)
    # No workspace is seen from outside: what was handed out first has not changed, and shares nothing with the rest.
    assert all(np.array_equal(old, now) for old, now in zip(before, (whole, dx, dw), strict=True))
    made = [whole, dx, dw, *(array for part in parts for array in part)]
    assert not any(np.may_share_memory(a, b) for i, a in enumerate(made) for b in made[:i])
