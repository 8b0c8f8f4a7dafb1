"""Numbers at the edges: huge, tiny, infinite, constant, none. What comes out is finite and right, or a sentence.

Warnings are errors here as everywhere, so these also show that no NumPy warning reaches a user where the result is
right. Where NaN or infinity must come out, so that `fit` can stop at it, that is what is tested.

Tolerances are roundings: k * eps(dtype) where up to k of them lie on the way to a number of that size.
"""

import math

import numpy as np
import pytest

import fcnn
from fcnn import (
    binary_cross_entropy,
    freeze,
    huber,
    mean_absolute_error,
    mean_squared_error,
    ops,
    optim,
    softmax_cross_entropy,
)
from fcnn.network.initializers import Fan
from fcnn.ops import winograd
from fcnn.values.tree import EMPTY, flatten

FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])
HUGE = [(np.float32, 1e4), (np.float32, 1e38), (np.float32, 3e38), (np.float64, 1e4), (np.float64, 1e300)]


def eps(dtype):
    """The spacing of numbers at 1: what one rounding may be off."""
    return float(np.finfo(dtype).eps)


# Losses and softmax


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("dtype", "size"), HUGE)
def test_cross_entropy_of_huge_logits(dtype, size, smoothing):
    size = float(dtype(size))
    logits = np.array([[size, -size, 0.0], [size, -size, 0.0]], dtype)
    value, d_logits = softmax_cross_entropy(smoothing)(logits, np.array([0, 1]))
    # The greatest logit has all of the probability, so -log p is the distance to it: 0, 2 size and size. Label 0 costs
    # its smoothing alone, label 1 its distance as well; divided before they are added, as 6e38 is no float32.
    smoothed = smoothing / 3 * (2 * size + size)
    expected = (0 + smoothed) / 2 + ((1 - smoothing) * 2 * size + smoothed) / 2
    assert value == pytest.approx(expected, rel=4 * eps(dtype), abs=0)
    q = (1 - smoothing) * np.eye(3)[[0, 1]] + smoothing / 3
    np.testing.assert_allclose(d_logits, (np.array([1, 0, 0]) - q) / 2, rtol=0, atol=2 * eps(dtype))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("dtype", "size"), HUGE)
def test_cross_entropy_of_equal_logits_is_the_log_of_their_number(dtype, size, sign, smoothing):
    for classes in (1, 2, 10):
        logits = np.full((4, classes), sign * size, dtype)
        value, d_logits = softmax_cross_entropy(smoothing)(logits, np.zeros(4, int))
        assert value == pytest.approx(math.log(classes), rel=2 * eps(dtype), abs=0)
        q = (1 - smoothing) * np.eye(classes)[[0] * 4] + smoothing / classes
        np.testing.assert_allclose(d_logits, (1 / classes - q) / 4, rtol=0, atol=eps(dtype))


def test_cross_entropy_is_finite_where_the_sum_over_the_batch_is_no_float32():
    logits = np.tile(np.float32([1e38, -1e38]), (128, 1))
    value, d_logits = softmax_cross_entropy()(logits, np.ones(128, int))
    assert value == pytest.approx(2 * float(np.float32(1e38)), rel=1e-15, abs=0)  # summed in float64
    np.testing.assert_array_equal(d_logits, [[1 / 128, -1 / 128]] * 128)


def test_cross_entropy_beyond_all_floats_is_infinite_and_its_gradient_right():
    value, d_logits = softmax_cross_entropy()(np.array([[1.7e308, -1.7e308]]), np.array([1]))
    assert value == math.inf
    np.testing.assert_array_equal(d_logits, [[1, -1]])


def test_a_class_with_a_logit_of_minus_infinity_has_probability_0():
    logits = np.array([[0.0, -np.inf, 0.0]])
    np.testing.assert_array_equal(ops.softmax(logits)[0], [[0.5, 0, 0.5]])
    value, d_logits = softmax_cross_entropy()(logits, np.array([2]))
    assert value == pytest.approx(math.log(2), rel=1e-15, abs=0)
    np.testing.assert_array_equal(d_logits, [[0.5, 0, -0.5]])
    assert softmax_cross_entropy()(logits, np.array([1]))[0] == math.inf


@pytest.mark.parametrize("loss", [softmax_cross_entropy(), softmax_cross_entropy(0.1)], ids=str)
def test_a_nan_among_the_logits_is_seen_in_the_loss(loss):
    value, d_logits = loss(np.array([[0.0, np.nan], [0.0, 0.0]]), np.array([0, 0]))
    assert math.isnan(value)
    assert np.isnan(d_logits[0]).all()
    assert np.isfinite(d_logits[1]).all()


@pytest.mark.parametrize(("dtype", "size"), HUGE)
def test_softmax_of_huge_numbers(dtype, size):
    y, cache = ops.softmax(np.array([[size, -size, 0], [-size, -size, -size], [size, size, -size]], dtype))
    np.testing.assert_allclose(y, [[1, 0, 0], [1 / 3] * 3, [0.5, 0.5, 0]], rtol=eps(dtype))
    dx = ops.softmax_backward(np.array([[3, 1, 2]] * 3, dtype), cache)
    np.testing.assert_allclose(dx, [[0, 0, 0], [1 / 3, -1 / 3, 0], [0.5, -0.5, 0]], rtol=0, atol=2 * eps(dtype))


@FLOATS
def test_softmax_of_denormals_is_that_of_zeros(dtype):
    y, _ = ops.softmax(np.array([[1, 2, -3, 0]], dtype) * np.finfo(dtype).smallest_subnormal)
    np.testing.assert_array_equal(y, [[0.25] * 4])


def test_softmax_of_one_class_is_1():
    y, cache = ops.softmax(np.array([[-1e300], [7.0]]))
    np.testing.assert_array_equal(y, [[1], [1]])
    np.testing.assert_array_equal(ops.softmax_backward(np.array([[1e300], [2.0]]), cache), [[0], [0]])


@pytest.mark.parametrize("size", [1e20, 1e38, 3e38])
def test_squares_that_are_no_float32_have_a_mean_all_the_same(size):
    outputs, targets = np.array([[size, 0, size, 1]], np.float32), np.array([[0, -size, -size, 1]], np.float32)
    value, d_outputs = mean_squared_error()(outputs, targets)
    size = float(np.float32(size))
    assert value == pytest.approx((1 + 1 + 4) * size**2 / 4, rel=1e-15, abs=0)
    expected = np.array([[2 * size / 4, 2 * size / 4, 4 * (size / 4), 0]])
    np.testing.assert_allclose(d_outputs, expected, rtol=eps(np.float32))
    assert d_outputs.dtype == np.float32


def test_squares_beyond_all_floats_are_infinite_and_their_gradient_right():
    value, d_outputs = mean_squared_error()(np.array([1e200, 1.0]), np.zeros(2))
    assert value == math.inf
    np.testing.assert_array_equal(d_outputs, [1e200, 1.0])
    assert math.isnan(mean_squared_error()(np.float32([np.nan, 1]), np.zeros(2, np.float32))[0])


@pytest.mark.parametrize(("dtype", "size"), HUGE)
def test_binary_cross_entropy_of_huge_logits_is_their_distance_from_what_is_right(dtype, size):
    size = float(dtype(size))
    logits = np.array([size, -size, size, -size], dtype)
    value, d_logits = binary_cross_entropy()(logits, np.array([1, 0, 0, 1]))
    assert value == pytest.approx(size / 2, rel=4 * eps(dtype), abs=0)  # two are right, two are off by size
    np.testing.assert_array_equal(d_logits, [0, 0, 0.25, -0.25])


@FLOATS
@pytest.mark.parametrize("logit", [20.0, 80.0])
def test_binary_cross_entropy_of_a_sure_and_right_logit_keeps_its_digits(dtype, logit):
    """-log(sigmoid(x)) is about exp(-x), far below the spacing of numbers at x."""
    for sign, target in ((1, 1), (-1, 0)):
        value, d_logits = binary_cross_entropy()(np.array([sign * logit], dtype), np.array([target]))
        assert value == pytest.approx(math.exp(-logit), rel=1e-8 + 2 * eps(dtype), abs=0)  # but for its square
        assert d_logits[0] == pytest.approx(-sign * math.exp(-logit), rel=1e-8 + 2 * eps(dtype), abs=0)


def test_a_nan_among_numbers_is_seen_in_the_loss():
    for loss in (binary_cross_entropy(), mean_absolute_error(), huber()):
        value, d_outputs = loss(np.array([np.nan, 0.5]), np.array([1.0, 1.0]))
        assert math.isnan(value)
        assert np.isnan(d_outputs).tolist() == [True, False]


@pytest.mark.parametrize("loss", [mean_absolute_error(), huber()], ids=str)
def test_distances_that_are_no_float32_have_a_mean_all_the_same(loss):
    outputs, targets = np.array([3e38, -3e38, 0.0], np.float32), np.array([-3e38, 3e38, 0.0], np.float32)
    value, d_outputs = loss(outputs, targets)
    assert value == pytest.approx(4 * float(np.float32(3e38)) / 3, rel=1e-15, abs=0)
    np.testing.assert_array_equal(d_outputs, np.array([1, -1, 0], np.float32) / np.float32(3))


@FLOATS
@pytest.mark.parametrize("smallest", [1e-30, 1e30])
def test_class_weights_of_any_size_count_by_their_ratios(dtype, smallest):
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((6, 3)).astype(dtype), np.array([0, 1, 2, 2, 1, 0])
    expected, d_expected = softmax_cross_entropy(0.1, [1, 2, 4])(logits, labels)
    value, d_logits = softmax_cross_entropy(0.1, [smallest, 2 * smallest, 4 * smallest])(logits, labels)
    assert value == pytest.approx(expected, rel=4 * eps(dtype), abs=0)
    np.testing.assert_allclose(d_logits, d_expected, rtol=0, atol=eps(dtype))


# Activations

ACTIVATIONS = {  # what -inf and inf give, and the slopes there
    "relu": (0, np.inf, (0, 1)),
    "leaky_relu": (-np.inf, np.inf, (0.01, 1)),
    "sigmoid": (0, 1, (0, 0)),
    "tanh": (-1, 1, (0, 0)),
    "gelu": (0, np.inf, (0, 1)),
    "silu": (0, np.inf, (0, 1)),
    "softplus": (0, np.inf, (0, 1)),
    "elu": (-1, np.inf, (0, 1)),
    "relu6": (0, 6, (0, 0)),
    "hardsigmoid": (0, 1, (0, 0)),
    "hardswish": (0, np.inf, (0, 1)),
}


@FLOATS
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_infinite_huge_and_no_numbers(name, dtype):
    low, high, slopes = ACTIVATIONS[name]
    forward, backward = getattr(ops, name), getattr(ops, f"{name}_backward")
    y, cache = forward(np.array([-np.inf, np.inf], dtype))
    np.testing.assert_array_equal(y, [low, high])
    np.testing.assert_allclose(backward(np.ones(2, dtype), cache), slopes, rtol=eps(dtype))

    huge = float(np.finfo(dtype).max)
    y, cache = forward(np.array([-huge, huge], dtype))
    expected = [low if abs(low) < np.inf else -0.01 * huge, high if high < np.inf else huge]
    np.testing.assert_allclose(y, expected, rtol=eps(dtype))
    np.testing.assert_allclose(backward(np.ones(2, dtype), cache), slopes, rtol=eps(dtype))

    assert np.isnan(forward(np.array([np.nan, 1], dtype))[0]).tolist() == [True, False]


# At 0, from the left and from the right; the value is a constant, or multiples of the number.
SLOPES = {
    "relu": (0, 1), "leaky_relu": (0.01, 1), "sigmoid": (0.25, 0.25), "tanh": (1, 1), "gelu": (0.5, 0.5),
    "silu": (0.5, 0.5), "softplus": (0.5, 0.5), "elu": (1, 1), "relu6": (0, 1), "hardsigmoid": (1 / 6, 1 / 6),
    "hardswish": (0.5, 0.5),
}  # fmt: skip
VALUES = {
    "relu": (0, 1), "leaky_relu": (-0.01, 1), "sigmoid": 0.5, "tanh": (-1, 1), "gelu": (-0.5, 0.5),
    "silu": (-0.5, 0.5), "softplus": math.log(2), "elu": (-1, 1), "relu6": (0, 1), "hardsigmoid": 0.5,
    "hardswish": (-0.5, 0.5),
}  # fmt: skip


@FLOATS
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_denormals_are_their_tangent(name, dtype):
    tiny = np.finfo(dtype).smallest_normal / 1024
    y, cache = getattr(ops, name)(np.array([-tiny, tiny], dtype))
    value = VALUES[name]
    expected = np.array(value) * float(tiny) if isinstance(value, tuple) else [dtype(value)] * 2
    step = float(np.finfo(dtype).smallest_subnormal)  # the spacing there, however small the number
    np.testing.assert_allclose(y, expected, rtol=0, atol=step)
    np.testing.assert_allclose(
        getattr(ops, f"{name}_backward")(np.ones(2, dtype), cache), SLOPES[name], rtol=eps(dtype)
    )


@FLOATS
def test_what_has_no_bound_is_not_clipped(dtype):
    x = np.array([-np.inf, -1, 0, 1, np.inf, np.nan], dtype)
    np.testing.assert_array_equal(ops.clip(x)[0], x)
    np.testing.assert_array_equal(ops.clip(x, 0)[0], [0, 0, 0, 1, np.inf, np.nan])
    np.testing.assert_array_equal(ops.clip(x, None, 0)[0], [-np.inf, -1, 0, 0, 0, np.nan])


@FLOATS
def test_gelu_by_tanh_at_both_ends(dtype):
    huge, tiny = np.finfo(dtype).max, np.finfo(dtype).smallest_normal
    y, cache = ops.gelu(np.array([-np.inf, -huge, -tiny, tiny, huge, np.inf, np.nan], dtype), "tanh")
    np.testing.assert_array_equal(y, np.array([0, 0, -tiny / 2, tiny / 2, huge, np.inf, np.nan], dtype))
    dx = ops.gelu_backward(np.ones(7, dtype), cache)
    np.testing.assert_allclose(dx, [0, 0, 0.5, 0.5, 1, 1, np.nan], rtol=eps(dtype))


@pytest.mark.parametrize(("dtype", "size"), HUGE)
def test_log_softmax_of_huge_numbers(dtype, size):
    y, cache = ops.log_softmax(np.array([[size, size / 2, 0], [-size, -size, -size], [0, -np.inf, 0]], dtype))
    size = float(dtype(size))
    expected = [[0, -size / 2, -size], [-math.log(3)] * 3, [-math.log(2), -np.inf, -math.log(2)]]
    np.testing.assert_allclose(y, expected, rtol=2 * eps(dtype))
    dx = ops.log_softmax_backward(np.array([[3, 1, 2]] * 3, dtype), cache)
    np.testing.assert_allclose(dx, [[-3, 1, 2], [1, -1, 0], [0, 1, -1]], rtol=0, atol=8 * eps(dtype))


@FLOATS
def test_erf_at_both_ends(dtype):
    tiny, huge = np.finfo(dtype).smallest_normal / 16, np.finfo(dtype).max
    x = np.array([-np.inf, -huge, -0.0, tiny, huge, np.inf, np.nan], dtype)
    expected = [-1, -1, -0.0, 2 / math.sqrt(math.pi) * float(tiny), 1, 1, np.nan]
    # the quotient of two polynomials near 1/64 loses six bits of a denormal's
    np.testing.assert_allclose(ops.erf(x), expected, rtol=0, atol=128 * float(np.finfo(dtype).smallest_subnormal))


# Batch norm and normalize


def batch_norm(x, train, var=1.0):
    """y, the new running mean and variance, and dx, dgamma, dbeta for dy = 0, 1, 2, …; gamma is 2, beta 0.5."""
    channels = x.shape[1]
    values = [np.full(channels, value, x.dtype) for value in (2, 0.5, 0, var)]
    y, mean, new_var, cache = ops.batch_norm(x, *values, train=train)
    return y, mean, new_var, *ops.batch_norm_backward(np.arange(x.size, dtype=x.dtype).reshape(x.shape), cache)


@FLOATS
@pytest.mark.parametrize("value", [0.0, 0.1, -255.1, 12345.678, 1e6 + 0.1, 1e-40, 1e30])
@pytest.mark.parametrize("shape", [(128, 1), (16, 1, 28, 28)], ids=["features", "images"])
def test_batch_norm_of_a_constant_is_beta(shape, value, dtype):
    x = np.full(shape, value, dtype)
    y, mean, var, dx, dgamma, dbeta = batch_norm(x, train=True)
    np.testing.assert_array_equal(y, np.full(shape, 0.5, dtype))
    np.testing.assert_allclose(mean, [0.1 * float(x.flat[0])], rtol=2 * eps(dtype), atol=1e-45)
    np.testing.assert_allclose(var, [0.9], rtol=eps(dtype))
    assert dgamma == [0]
    count = x.size
    assert dbeta == pytest.approx(count * (count - 1) / 2, rel=count * eps(dtype), abs=0)
    centred = np.arange(count).reshape(shape) - (count - 1) / 2
    np.testing.assert_allclose(dx, 2 / math.sqrt(1e-5) * centred, rtol=0, atol=1e3 * count * eps(dtype))


@FLOATS
def test_batch_norm_of_a_constant_in_evaluation(dtype):
    y, mean, var, dx, dgamma, dbeta = batch_norm(np.full((3, 1), 7, dtype), train=False, var=0.0)
    std = math.sqrt(1e-5)  # a running variance of 0 leaves eps alone
    np.testing.assert_allclose(y, [[2 * 7 / std + 0.5]] * 3, rtol=4 * eps(dtype))
    assert (mean, var) == ([0], [0])
    np.testing.assert_allclose(dx, [[0], [2 / std], [4 / std]], rtol=4 * eps(dtype))
    np.testing.assert_allclose(dgamma, [3 * 7 / std], rtol=4 * eps(dtype))
    assert dbeta == [3]


@FLOATS
def test_batch_norm_of_a_constant_channel_beside_another(dtype):
    """The other is what it is without the constant one, to the bit."""
    x = np.random.default_rng(0).standard_normal((64, 2)).astype(dtype)
    x[:, 0] = 12345.678
    both, alone = batch_norm(x, train=True), batch_norm(x[:, 1:], train=True)
    assert (both[0][:, 0] == 0.5).all()
    np.testing.assert_array_equal(both[0][:, 1:], alone[0])
    assert (both[1][1], both[2][1]) == (alone[1][0], alone[2][0])


def test_batch_norm_of_what_float32_can_hardly_tell_from_a_constant():
    steps = np.random.default_rng(0).integers(-3, 4, (256, 1))
    x = (np.float32(12345.678) + steps * np.spacing(np.float32(12345.678))).astype(np.float32)
    y = batch_norm(x, train=True)[0]
    exact = x.astype(np.float64) - x.mean(dtype=np.float64)
    exact *= 2 / math.sqrt(np.square(exact).mean() + 1e-5)
    np.testing.assert_allclose(y - 0.5, exact, rtol=0, atol=2 * eps(np.float32))  # to the last digit of 0.5 + y


@pytest.mark.parametrize(
    ("dtype", "size"), [(np.float32, 1e19), (np.float32, 1e30), (np.float32, 1e38), (float, 1e150)]
)
def test_batch_norm_of_numbers_whose_squares_overflow(dtype, size):
    x = np.array([[-size], [size], [-size], [size]], dtype)
    y, mean, var, dx, dgamma, dbeta = batch_norm(x, train=True)
    np.testing.assert_allclose(y, [[-1.5], [2.5], [-1.5], [2.5]], rtol=2 * eps(dtype))
    assert mean == [0]
    expected = 0.1 * 4 / 3 * size**2  # beyond float32 it is infinite: what evaluates with it gives beta
    np.testing.assert_allclose(
        var, [expected if expected < float(np.finfo(dtype).max) else np.inf], rtol=4 * eps(dtype)
    )
    assert (dgamma, dbeta) == (pytest.approx(2, rel=4 * eps(dtype), abs=0), [6])
    # dx = gamma / std (dy - 1.5 - x_hat * 2 / 4), where 1e-38 is a denormal float32 of few digits
    np.testing.assert_allclose(dx.ravel() * dtype(size), [-2, -2, 2, 2], rtol=1e-6 if dtype == np.float32 else 1e-14)
    y = batch_norm(x, train=False, var=var[0])[0]
    assert np.isfinite(y).all()


@pytest.mark.parametrize(
    ("dtype", "size"), [(np.float32, 1e-30), (np.float32, 1e-40), (float, 1e-200), (float, 1e-310)]
)
def test_batch_norm_of_tiny_numbers_scales_them_by_eps_alone(dtype, size):
    x = np.array([[-size], [size]], dtype)
    y, _, var, *_ = batch_norm(x, train=True)
    exact = 0.5 + 2 * x.astype(np.float64) / math.sqrt(1e-5)
    np.testing.assert_allclose(y, exact, rtol=eps(dtype))
    np.testing.assert_allclose(var, [0.9], rtol=eps(dtype))


def test_batch_norm_beyond_what_float64_can_square_gives_beta_as_it_says():
    y, mean, var, dx, *_ = batch_norm(np.array([[-1e200], [1e200]]), train=True)
    np.testing.assert_array_equal(y, [[0.5], [0.5]])
    assert (mean, var) == ([0], [np.inf])
    assert not dx.any()


def test_batch_norm_does_not_hide_a_nan_or_an_infinity():
    for value in (np.nan, np.inf):
        x = np.ones((4, 2), np.float32)
        x[0, 0] = value
        y, mean, var, *_ = batch_norm(x, train=True)
        assert not np.isfinite(y[:, 0]).any()
        assert (y[:, 1] == 0.5).all()
        assert not np.isfinite(mean[0])
        assert np.isnan(var[0])


# Norms of samples: over all of a sample, over a pixel's channels, and in groups


SAMPLE_NORMS = {  # of x: gamma's shape, and what is normalised with it
    "all": (lambda x: x.shape[1:], lambda x, *own: ops.layer_norm(x, *own), ops.layer_norm_backward),
    "channels": (lambda x: x.shape[1:2], lambda x, *own: ops.layer_norm(x, *own), ops.layer_norm_backward),
    "groups": (lambda x: x.shape[1:2], lambda x, *own: ops.group_norm(x, *own, 1), ops.group_norm_backward),
}
EVERY_SAMPLE_NORM = pytest.mark.parametrize("name", SAMPLE_NORMS)


def sample_norm(name, x):
    """y, and dx, dgamma, dbeta for dy = 0, 1, 2, …; gamma is 2, beta 0.5."""
    own, forward, backward = SAMPLE_NORMS[name]
    y, cache = forward(x, *(np.full(own(x), value, x.dtype) for value in (2, 0.5)))
    return y, *backward(np.arange(x.size, dtype=x.dtype).reshape(x.shape), cache)


def exactly_normalised(name, x):
    """x minus its mean, by its deviation with eps, in float64; without infinities on the way."""
    axes = 1 if name == "channels" else tuple(range(1, x.ndim))
    x = x.astype(np.float64)
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(axis=axes, keepdims=True) + 1e-5)


@FLOATS
@pytest.mark.parametrize("value", [0.0, 0.1, -255.1, 12345.678, 1e6 + 0.1, 1e-40, 1e-20, 1e30])
@pytest.mark.parametrize("shape", [(2, 7), (2, 3, 5), (2, 3, 28, 28), (2, 1, 3, 3)], ids=str)
@EVERY_SAMPLE_NORM
def test_sample_norms_of_a_constant_are_beta(name, shape, value, dtype):
    """One sample is constant; the other is what it is beside any other, to the bit."""
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    alone = sample_norm(name, x)
    x[0] = value
    y, dx, dgamma, dbeta = sample_norm(name, x)
    np.testing.assert_array_equal(y[0], np.full(shape[1:], 0.5, dtype))
    np.testing.assert_array_equal(y[1], alone[0][1])
    np.testing.assert_array_equal(dx[1], alone[1][1])
    dy = np.arange(x.size).reshape(shape)[0]
    centred = dy - dy.mean(axis=0 if name == "channels" else None)
    np.testing.assert_allclose(dx[0], 2 / math.sqrt(1e-5) * centred, rtol=0, atol=1e3 * dy.size * eps(dtype))
    assert np.isfinite(dgamma).all()
    assert np.isfinite(dbeta).all()


@EVERY_SAMPLE_NORM
def test_sample_norms_of_what_float32_can_hardly_tell_from_a_constant(name):
    steps = np.random.default_rng(0).integers(-3, 4, (2, 64, 2, 2))
    x = (np.float32(12345.678) + steps * np.spacing(np.float32(12345.678))).astype(np.float32)
    y = sample_norm(name, x)[0]
    np.testing.assert_allclose(y - 0.5, 2 * exactly_normalised(name, x), rtol=0, atol=2 * eps(np.float32))


@EVERY_SAMPLE_NORM
def test_sample_norms_of_large_numbers_keep_their_digits(name):
    x = (1000 + np.random.default_rng(0).standard_normal((4, 64, 8, 8))).astype(np.float32)
    y = sample_norm(name, x)[0]
    # 64 numbers around 1000 are summed with a rounding of up to 2e-3 each, so their mean is off by some 1e-3 at most
    np.testing.assert_allclose(y - 0.5, 2 * exactly_normalised(name, x), rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("dtype", "size"), [(np.float32, 1e19), (np.float32, 1e30), (np.float32, 1e38), (float, 1e150)]
)
@EVERY_SAMPLE_NORM
def test_sample_norms_of_numbers_whose_squares_overflow(name, dtype, size):
    y, dx, dgamma, dbeta = sample_norm(name, np.array([[-size, size, -size, size]], dtype))
    np.testing.assert_allclose(y, [[-1.5, 2.5, -1.5, 2.5]], rtol=2 * eps(dtype))
    np.testing.assert_allclose(dgamma, [0, 1, -2, 3], rtol=2 * eps(dtype))
    np.testing.assert_array_equal(dbeta, [0, 1, 2, 3])
    # dx = gamma / std (dy - 1.5 - x_hat * 2 / 4), where 1e-38 is a denormal float32 of few digits
    np.testing.assert_allclose(dx[0] * dtype(size), [-2, -2, 2, 2], rtol=1e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize(
    ("dtype", "size"), [(np.float32, 1e-30), (np.float32, 1e-40), (float, 1e-200), (float, 1e-310)]
)
@EVERY_SAMPLE_NORM
def test_sample_norms_of_tiny_numbers_scale_them_by_eps_alone(name, dtype, size):
    x = np.array([[-size, size]], dtype)
    y = sample_norm(name, x)[0]
    np.testing.assert_allclose(y, 0.5 + 2 * x.astype(np.float64) / math.sqrt(1e-5), rtol=eps(dtype))


@EVERY_SAMPLE_NORM
def test_sample_norms_beyond_what_float64_can_square_give_beta(name):
    y, dx, *_ = sample_norm(name, np.array([[-1e200, 1e200]]))
    np.testing.assert_array_equal(y, [[0.5, 0.5]])
    assert not dx.any()


@EVERY_SAMPLE_NORM
def test_sample_norms_do_not_hide_a_nan_or_an_infinity(name):
    for value in (np.nan, np.inf):
        x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
        fine = sample_norm(name, x)[0]
        x[0, 0, 0, 0] = value
        y, dx, *_ = sample_norm(name, x)
        assert not np.isfinite(y[0, :, 0, 0]).any()
        assert not np.isfinite(dx[0, :, 0, 0]).any()
        np.testing.assert_array_equal(y[1], fine[1])


@FLOATS
def test_prelu_at_both_ends(dtype):
    huge, tiny = np.finfo(dtype).max, np.finfo(dtype).smallest_normal
    x, slope = np.array([[-np.inf, -huge, -tiny, -0.0, tiny, huge, np.inf, np.nan]], dtype), np.array([0.5], dtype)
    y, cache = ops.prelu(x, slope)
    expected = np.array([[-np.inf, -huge / 2, -tiny / 2, 0, tiny, huge, np.inf, np.nan]], dtype)
    np.testing.assert_array_equal(y, expected)
    dx, _ = ops.prelu_backward(np.ones_like(x), cache)
    np.testing.assert_array_equal(dx[:, :-1], [[0.5, 0.5, 0.5, 0.5, 1, 1, 1]])


@pytest.mark.parametrize("number", [1e-50, 1e-38, 1e39, 1e300])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("normalize's std", lambda number: fcnn.normalize(0.0, number)),
        ("normalize's mean", lambda number: fcnn.normalize([0.0, number], 1.0)),
        ("batch_norm's eps", lambda number: fcnn.batch_norm(eps=number)),
        ("leaky_relu's slope", lambda number: fcnn.leaky_relu(number)),
        ("layer_norm's eps", lambda number: fcnn.layer_norm(eps=number)),
        ("group_norm's eps", lambda number: fcnn.group_norm(1, eps=number)),
        ("prelu's slope", lambda number: fcnn.prelu(slope=-number)),
        ("elu's alpha", lambda number: fcnn.elu(number)),
        ("clip's low", lambda number: fcnn.clip(-number, 2.0)),
        ("clip's high", lambda number: fcnn.clip(-1.0, number)),
        ("hardsigmoid's alpha", lambda number: fcnn.hardsigmoid(number)),
        ("hardsigmoid's beta", lambda number: fcnn.hardsigmoid(beta=number)),
        ("constant's value", lambda number: fcnn.constant(-number if number > 1 else number)),
        ("eps", lambda number: fcnn.adam(0.1, eps=number)),
        ("eps", lambda number: fcnn.adamw(0.1, eps=number)),
        ("eps", lambda number: fcnn.rmsprop(0.1, eps=number)),
    ],
)
def test_a_setting_that_would_be_0_or_infinite_in_float32_is_refused(name, make, number):
    with pytest.raises(
        ValueError, match=rf"^{name} is a number in .* that float32 can hold, got -?{number:g}".replace("+", r"\+")
    ):
        make(number)


@FLOATS
@pytest.mark.parametrize("std", [2e-38, 1e-30, 1e30, 1e38])
def test_normalize_by_tiny_and_huge_deviations(std, dtype):
    layer = fcnn.normalize(0.0, std)
    out = layer.apply(EMPTY, EMPTY, np.array([[1, 0, -2]], dtype), train=True)
    expected = np.array([[1, 0, -2]]) / std
    np.testing.assert_allclose(out.y, expected, rtol=2 * eps(dtype), atol=1e-45)
    np.testing.assert_allclose(
        layer.backward(EMPTY, out.cache, np.array([[1, 0, -2]], dtype)).dx, expected, rtol=2 * eps(dtype), atol=1e-45
    )


# Dropout, pools, convolution


@FLOATS
def test_dropout_of_rate_0_drops_nothing_and_of_nearly_1_nearly_all(dtype):
    x = np.full((1000, 100), 3, dtype)
    np.testing.assert_array_equal(ops.dropout(x, 0.0, train=True, key=fcnn.key(0))[0], x)
    np.testing.assert_allclose(ops.dropout(x, 1e-12, train=True, key=fcnn.key(0))[0], x, rtol=2e-12)  # scaled up
    rate = 0.999
    y, mask = ops.dropout(x, rate, train=True, key=fcnn.key(0))
    assert abs(np.count_nonzero(y) - 100) < 50  # five standard deviations of the binomial distribution
    np.testing.assert_allclose(np.unique(y), [0, 3 / (1 - rate)], rtol=eps(dtype))
    np.testing.assert_array_equal(ops.dropout_backward(x, mask), y)
    for rate in (1 - 2e-8, math.nextafter(1, 0)):  # beyond the 24 bits that are drawn
        y, mask = ops.dropout(x, rate, train=True, key=fcnn.key(0))
        assert not y.any()
        assert not ops.dropout_backward(x, mask).any()


@FLOATS
def test_max_pool_of_nan_and_infinities(dtype):
    x = np.array([[[[1, np.nan, 3, 4], [5, 6, np.inf, -np.inf], [-np.inf] * 4, [-np.inf] * 4]]], dtype)
    y, cache = ops.max_pool2d(x, 2)
    np.testing.assert_array_equal(y, [[[[np.nan, np.inf], [-np.inf, -np.inf]]]])
    dx = ops.max_pool2d_backward(np.array([[[[1, 2], [3, 4]]]], dtype), cache)
    assert dx[0, 0, :2, :2].sum() == 1  # somewhere in the window whose maximum is NaN
    np.testing.assert_array_equal(dx[0, 0, :2, 2:], [[0, 0], [2, 0]])
    np.testing.assert_array_equal(dx[0, 0, 2:], [[3, 0, 4, 0], [0, 0, 0, 0]])  # the first of equal infinities


AVERAGES = {
    "window": lambda x: ops.avg_pool2d(x, 2),
    "global": ops.global_avg_pool2d,
    "adaptive": lambda x: ops.adaptive_avg_pool2d(x, 1),
}


@pytest.mark.parametrize("pool", AVERAGES.values(), ids=AVERAGES)
def test_average_pools_add_up_what_they_can(pool):
    size = float(np.finfo(np.float32).max) / 8
    assert pool(np.full((1, 1, 2, 2), size, np.float32))[0].item() == size
    with pytest.warns(RuntimeWarning, match="overflow"):
        assert pool(np.full((1, 1, 2, 2), 8 * size, np.float32))[0].item() == math.inf


@pytest.mark.parametrize("count", [1, 2, 9])
def test_the_mean_of_a_large_constant_image_is_the_constant(count):
    images = np.full((count, 2, 600, 500), 0.1, np.float32)
    y, cache = ops.global_avg_pool2d(images)
    # 1,100 roundings of sums that grow to the whole, half a unit each at most, which mostly cancel: a tenth of that
    np.testing.assert_allclose(y, np.full((count, 2), 0.1), rtol=1100 * eps(np.float32) / 20)
    dx = ops.global_avg_pool2d_backward(y, cache)
    np.testing.assert_allclose(dx, np.full(images.shape, 0.1 / 300_000), rtol=1100 * eps(np.float32) / 20)


@pytest.mark.parametrize("pool", AVERAGES.values(), ids=AVERAGES)
def test_average_pools_pass_infinities_on(pool):
    assert pool(np.array([[[[np.inf, 1], [2, 3]]]]))[0].item() == math.inf
    assert math.isnan(pool(np.full((1, 1, 2, 2), np.nan))[0].item())


@FLOATS
def test_an_infinity_is_interpolated_as_far_as_its_neighbours(dtype):
    x = np.array([[[[1, 2, np.inf, 4]]]], dtype)
    y = ops.upsample(x, (1, 3), mode="bilinear")[0].ravel()
    np.testing.assert_array_equal(np.isfinite(y), np.repeat([True, False, True], [5, 5, 2]))
    assert (y[4], y[-2]) == (2, 4)  # in the middle of a pixel
    corners = ops.upsample(x, (1, 2), mode="bilinear", align_corners=True)[0].ravel()
    assert (corners[0], corners[-1]) == (1, 4)
    assert not np.isnan([*y, *corners]).any()


@FLOATS
def test_the_border_that_ceil_mode_adds_never_wins_and_never_counts(dtype):
    x = np.full((1, 1, 3, 3), -np.inf, dtype)
    y, cache = ops.max_pool2d(x, 2, ceil_mode=True)
    dx = ops.max_pool2d_backward(np.arange(1, 5, dtype=dtype).reshape(1, 1, 2, 2), cache)
    np.testing.assert_array_equal(y, np.full((1, 1, 2, 2), -np.inf))
    np.testing.assert_array_equal(dx[0, 0], [[1, 0, 2], [0, 0, 0], [3, 0, 4]])
    np.testing.assert_array_equal(ops.avg_pool2d(np.full((1, 1, 3, 3), 7, dtype), 2, ceil_mode=True)[0], 7)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # inf - inf, as `winograd` explains
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_an_infinity_in_a_wide_3x3_layer_spreads_as_far_as_its_windows_and_no_further(value):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((64, 64, 12, 12), (64, 64, 3, 3)))
    x[3, 5, 6, 7] = value
    y, cache = ops.conv2d(x, w, padding=1)
    assert winograd.suits(cache.geometry, "forward")
    spread = np.zeros(y.shape, bool)
    spread[3, :, 5:8, 6:9] = True
    np.testing.assert_array_equal(~np.isfinite(y), spread)
    _, dw, _ = ops.conv2d_backward(np.ones_like(y), cache)
    np.testing.assert_array_equal(~np.isfinite(dw), np.broadcast_to((np.arange(64) == 5)[:, None, None], dw.shape))


def test_a_convolution_of_huge_numbers_is_exact_where_nothing_is_added():
    x, w = np.full((1, 1, 3, 3), 3e38, np.float32), np.zeros((1, 1, 3, 3), np.float32)
    w[0, 0, 1, 1] = 1
    np.testing.assert_array_equal(ops.conv2d(x, w, padding=1)[0], x)


# Optimizers


def steps(optimizer, gradient, count=3, start=1.0):
    """Parameters, updates and state after some steps with one gradient."""
    params = freeze({"x": np.full_like(gradient, start)})
    state = optimizer.init(params)
    for step in range(count):
        updates, state = optimizer.update(freeze({"x": gradient}), state, params, step)
        params = optim.apply_updates(params, updates)
    return params["x"], updates["x"], state


@FLOATS
@pytest.mark.parametrize(
    "optimizer",
    [
        fcnn.sgd(0.0),
        fcnn.sgd(0.0, momentum=0.9, nesterov=True, weight_decay=0.1),
        fcnn.adam(0.0),
        fcnn.adamw(0.0),
        fcnn.rmsprop(0.0),
        fcnn.rmsprop(0.0, momentum=0.9, centered=True),
    ],
    ids=str,
)
def test_a_learning_rate_of_0_changes_nothing(optimizer, dtype):
    gradient = (
        np.array([0, -3, 1e30, 1e-30], dtype) if "sgd" in repr(optimizer) else np.array([0, -3, 1e15, 1e-30], dtype)
    )
    params, *_ = steps(optimizer, gradient, start=0.3)
    assert params.tobytes() == np.full(4, 0.3, dtype).tobytes()


@FLOATS
@pytest.mark.parametrize(
    "optimizer",
    [fcnn.sgd(0.1), fcnn.sgd(0.1, momentum=0.9), fcnn.adam(0.1), fcnn.rmsprop(0.1), fcnn.rmsprop(0.1, centered=True)],
    ids=str,
)
def test_gradients_of_0_change_nothing(optimizer, dtype):
    params, updates, state = steps(optimizer, np.zeros(3, dtype))
    assert (params == 1).all()
    assert not updates.any()
    assert not any(leaf.any() for leaf in flatten(state).values())


@FLOATS
def test_denormal_gradients(dtype):
    tiny = float(np.finfo(dtype).smallest_normal) / 16
    gradient = np.array([tiny, -tiny], dtype)
    _, updates, state = steps(fcnn.sgd(1.0, momentum=0.5), gradient, 2)  # v = g, then 1.5 g; step 0 flushes it to 0
    np.testing.assert_array_equal(updates, -gradient)
    assert (np.abs(state["momentum"]["velocity"]["x"]) == tiny).all()
    # Adam's second moment is 0, so a step is lr * m / eps: as small as the gradient, and no NaN
    _, updates, state = steps(fcnn.adam(0.1), gradient, 2)
    assert np.isfinite(updates).all()
    assert (np.abs(updates) <= 0.1 * tiny / 1e-8 * (1 + 4 * eps(dtype))).all()
    assert not state["adam"]["nu"]["x"].any()
    params, *_ = steps(fcnn.adam(0.1), gradient)
    assert (params == 1).all()


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e18), (np.float64, 1e150)])
def test_adams_step_is_the_rate_also_for_huge_gradients(dtype, size):
    _, updates, _ = steps(fcnn.adam(0.1), np.array([size, -size], dtype))
    np.testing.assert_allclose(updates, [-0.1, 0.1], rtol=8 * eps(dtype))


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e20), (np.float64, 1e160)])
def test_beyond_adam_stands_still_as_it_says_and_clipping_helps(dtype, size):
    gradient = np.array([size, -size, 1], dtype)
    params, updates, state = steps(fcnn.adam(0.1), gradient)
    assert updates[:2].tolist() == [0, 0]
    assert (params[:2] == 1).all()
    assert updates[2] == pytest.approx(-0.1, rel=1e-6, abs=0)
    assert np.isfinite(state["adam"]["mu"]["x"]).all()
    _, updates, _ = steps(fcnn.chain(fcnn.clip_by_global_norm(1.0), fcnn.adam(0.1)), gradient)
    np.testing.assert_allclose(updates[:2], [-0.1, 0.1], rtol=1e-6)


def clipped(*gradient, dtype=np.float64, max_norm=1.0):
    clip = fcnn.clip_by_global_norm(max_norm)
    return clip.update(
        freeze({"a": np.array(gradient[:1], dtype), "b": np.array(gradient[1:], dtype)}), EMPTY, EMPTY, 0
    )


@FLOATS
def test_clipping_of_zeros_and_denormals_leaves_them(dtype):
    assert not any(leaf.any() for leaf in flatten(clipped(0, 0, 0, dtype=dtype).updates).values())
    tiny = float(np.finfo(dtype).smallest_subnormal)
    assert clipped(tiny, tiny, dtype=dtype).updates["a"] == [tiny]


@pytest.mark.parametrize(
    ("dtype", "size"), [(np.float32, 1e20), (np.float32, 5e37), (np.float64, 1e160), (np.float64, 2e307)]
)
def test_clipping_of_gradients_whose_squares_overflow(dtype, size):
    found = clipped(3 * size, 0, -4 * size, dtype=dtype).updates
    np.testing.assert_allclose(found["a"], [0.6], rtol=2 * eps(dtype))
    np.testing.assert_allclose(found["b"], [0, -0.8], rtol=2 * eps(dtype))
    assert optim.global_norm(freeze({"x": np.array([3 * size, -4 * size], dtype)})) == pytest.approx(
        5 * size, rel=2 * eps(dtype), abs=0
    )


def test_clipping_hides_no_infinity_and_no_nan():
    assert np.isnan(clipped(np.inf, 1).updates["a"]).all()
    assert np.isnan(clipped(1, np.nan).updates["b"]).all()
    assert optim.global_norm(freeze({"x": np.array([-np.inf, 1])})) == math.inf
    assert math.isnan(optim.global_norm(freeze({"x": np.array([-np.inf, np.nan])})))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@FLOATS
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(
    "optimizer",
    [
        fcnn.sgd(0.1),
        fcnn.sgd(0.1, momentum=0.9),
        fcnn.adam(0.1),
        fcnn.adamw(0.1),
        fcnn.rmsprop(0.1),
        fcnn.rmsprop(0.1, centered=True),
    ],
    ids=str,
)
def test_a_gradient_that_is_no_number_reaches_its_parameter_and_no_other(optimizer, value, dtype):
    params, *_ = steps(optimizer, np.array([value, 1], dtype))
    assert np.isfinite(params).tolist() == [False, True]


@FLOATS
def test_a_variance_of_equal_gradients_is_not_below_0(dtype):
    """Rounded, the mean of squares less the square of the mean is sometimes negative, and its root NaN."""
    params, updates, state = steps(
        fcnn.rmsprop(1e-9, decay=0.5, centered=True), np.linspace(0.1, 7, 97, dtype=dtype), 200
    )
    nu, mu = state["rms"]["nu"]["x"], state["rms"]["mu"]["x"]
    assert (nu - mu * mu < 0).any()
    assert np.isfinite(params).all()
    assert np.isfinite(updates).all()


def test_a_growing_rate_ends_with_a_sentence():
    growing = fcnn.step_decay(0.1, every=10, factor=2.0)
    assert growing(30) == 0.8
    message = r"^step_decay\(0\.1, every=10, factor=2\.0\) is too great for a float at step 20000; a factor below 1"
    with pytest.raises(ValueError, match=message):
        growing(20_000)
    with pytest.raises(ValueError, match="too great"):
        fcnn.step_decay(1e300, every=1, factor=1e300)(1)


# Metrics, initialisers, gradcheck


def test_a_report_of_one_example():
    report = fcnn.classification_report(np.array([0]), np.array([0]))
    assert report.classes == {"0": fcnn.metrics.Scores(1.0, 1.0, 1.0, 1)}
    assert (report.accuracy, report.macro, report.weighted) == (1.0, *[fcnn.metrics.Scores(1.0, 1.0, 1.0, 1)] * 2)
    wrong = fcnn.classification_report(np.array([1]), np.array([0]))
    assert (wrong.accuracy, wrong.macro, wrong.weighted) == (0.0, *[fcnn.metrics.Scores(0.0, 0.0, 0.0, 1)] * 2)


def test_a_report_of_an_empty_class_and_of_one_class():
    zeros = np.zeros(3, int)
    report = fcnn.classification_report(zeros, zeros, ["here", "never"])
    assert report.classes["never"] == fcnn.metrics.Scores(0.0, 0.0, 0.0, 0)
    assert (report.accuracy, report.macro.f1, report.weighted.f1) == (1.0, 0.5, 1.0)
    one = fcnn.classification_report(zeros, zeros, ["only"])
    assert one.classes == {"only": fcnn.metrics.Scores(1.0, 1.0, 1.0, 3)}
    assert fcnn.confusion_matrix(zeros, zeros).tolist() == [[3]]


def test_of_equal_scores_the_first_class_is_the_guess():
    split = fcnn.Split(np.zeros((4, 1, 2, 2), np.uint8), np.array([0, 1, 2, 0]))
    network = fcnn.serial(fcnn.flatten(), fcnn.dense(3, weights=fcnn.zeros()))
    params = network.init(fcnn.key(0), (1, 2, 2)).params
    found = fcnn.evaluate(network, params, EMPTY, split)
    assert found.predictions.tolist() == [0, 0, 0, 0]
    assert found.accuracy == 0.5
    assert found.loss == pytest.approx(math.log(3), rel=2 * eps(np.float32), abs=0)


@pytest.mark.parametrize(
    "init", [fcnn.he(), fcnn.he("uniform"), fcnn.xavier(), fcnn.lecun(), fcnn.kaiming_uniform(), fcnn.zeros()], ids=str
)
def test_initialisers_of_fans_of_1_and_of_none(init):
    drawn = init(fcnn.key(0), (4, 4), Fan(1, 1))
    assert np.isfinite(drawn).all()
    assert np.abs(drawn).max() < 6 * math.sqrt(2)  # six deviations of the greatest variance, 2
    for fan, name in ((Fan(0, 1), "inputs"), (Fan(1, 0), "outputs")):
        with pytest.raises(ValueError, match=rf"^fan's {name} is an integer of at least 1, got 0$"):
            init(fcnn.key(0), (2, 2), fan)


def test_gradcheck_at_constants():
    for layer in (fcnn.batch_norm(), fcnn.tanh(), fcnn.softmax(), fcnn.dense(2)):
        assert fcnn.gradcheck(layer, (2,), train=True, x=np.full((3, 2), 5.0)).ok
    assert fcnn.gradcheck(fcnn.leaky_relu(0.0), (2,), train=True, x=np.full((3, 2), -1.0)).ok
    report = fcnn.gradcheck(fcnn.relu(), (2,), train=True, x=np.zeros((3, 2)), raises=False)
    assert report.kinks  # at 0 there is no derivative, and it says so
    assert fcnn.gradcheck_loss(softmax_cross_entropy(), np.ones((3, 1)), np.zeros(3, int)).ok


@pytest.mark.parametrize("value", [1e7, 1e300, np.inf, np.nan])
def test_gradcheck_says_where_nothing_can_be_measured(value):
    message = (
        r"x holds (1e\+07|1e\+300|inf|nan), where steps of 0\.0001 measure nothing; choose a point of numbers around 1"
    )
    with pytest.raises(fcnn.GradientError, match=message):
        fcnn.gradcheck(fcnn.identity(), (2,), train=True, x=np.full((3, 2), value))
    with pytest.raises(fcnn.GradientError, match="outputs holds"):
        fcnn.gradcheck_loss(mean_squared_error(), np.full(2, value), np.zeros(2))
