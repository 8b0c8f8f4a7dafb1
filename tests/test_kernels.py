"""Every kernel against `loops`, the definitions, and against the laws that follow from them.

Most inputs are small whole numbers: their sums and products are exact in either dtype, and halves and quarters of
them too, which is all that Winograd's form makes of them. So results are *equal*, whatever the order of the sums.
"""

import math
from typing import Any

import loops
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import FLOATS, arrays, examples, in_any_order, small, windows

import fcnn
from fcnn import ops
from fcnn.ops import lowered, winograd
from fcnn.ops.layout import block, unblock
from fcnn.ops.window import Pads, pad_block

Array = np.ndarray
IMAGES = st.tuples(st.integers(0, 3), small, st.integers(1, 7), st.integers(1, 7))  # batches of none and of one too
PIXELS = st.tuples(st.integers(0, 3), small, st.integers(1, 5), st.integers(1, 5))
FILTERS = st.sampled_from([1, 2, 3, 4, 5, 6, 9, 16])  # few and many: thin layers are worked on several rows at a time
FEATURES = st.tuples(st.integers(0, 4), st.integers(1, 6))
EITHER = st.one_of(IMAGES, FEATURES)


def same(found: Array, expected: Array, dtype: Any = np.float64) -> None:
    """Equal to the last bit but for the sign of zeros, in the dtype that was asked for, and read-only."""
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == dtype
    assert not found.flags.writeable


def inner_product(a: Array, b: Array) -> float:
    return float((a.astype(np.float64) * b).sum())


# Convolution.


@given(st.data(), IMAGES, FILTERS, FLOATS)
@examples(200)
def test_conv2d_and_its_gradients_are_the_loops(data: Any, shape: Any, filters: int, dtype: Any) -> None:
    draw = data.draw
    window = draw(windows(shape))
    kernel, options = window["kernel"], {name: window[name] for name in ("stride", "padding")}
    x, w = draw(arrays(shape, dtype, True)), draw(arrays((filters, shape[1], *kernel), dtype, True))
    b = draw(arrays((filters,), dtype, True))
    y, cache = ops.conv2d(x, w, b, **options)
    same(y, loops.conv2d(x, w, b, **options), dtype)
    same(ops.conv2d(x, w, **options)[0], y - b[:, None, None], dtype)
    dy = draw(arrays(y.shape, dtype, True))
    for found, expected in zip(ops.conv2d_backward(dy, cache), loops.conv2d_backward(dy, x, w, **options), strict=True):
        same(found, expected, dtype)


@given(st.data(), IMAGES, FILTERS)
@examples(80)
def test_conv2d_rounds_no_more_than_sums_of_products_do(data: Any, shape: Any, filters: int) -> None:
    draw = data.draw
    window = draw(windows(shape))
    kernel, options = window["kernel"], {name: window[name] for name in ("stride", "padding")}
    x, w, b = (draw(arrays(s)) for s in (shape, (filters, shape[1], *kernel), (filters,)))
    y, cache = ops.conv2d(x, w, b, **options)
    dy = draw(arrays(y.shape))
    size = [np.abs(array) for array in (x, w, b, dy)]
    found = (y, *ops.conv2d_backward(dy, cache))
    expected = loops.conv2d(x, w, b, **options), *loops.conv2d_backward(dy, x, w, **options)
    sizes = loops.conv2d(*size[:3], **options), *loops.conv2d_backward(size[3], *size[:2], **options)
    # A sum of K products is off by at most K u times the sum of their sizes, in whatever order: once here, once there.
    counts = w[0].size + 1, filters * kernel[0] * kernel[1], y[:, 0].size, y[:, 0].size
    for one, other, sum_of_sizes, count in zip(found, expected, sizes, counts, strict=True):
        assert (np.abs(one - other) <= 2 * (count + 1) * 2.0**-53 * sum_of_sizes).all()


@given(st.data(), IMAGES, FILTERS, FLOATS)
@examples(100)
def test_the_gradients_of_conv2d_are_its_adjoints(data: Any, shape: Any, filters: int, dtype: Any) -> None:
    """<conv(x, w), dy> = <x, dx> = <w, dw>, and in b: <1 b, dy> = <b, db>; so conv2d is linear in each."""
    draw = data.draw
    window = draw(windows(shape))
    kernel, options = window["kernel"], {name: window[name] for name in ("stride", "padding")}
    x, u = draw(arrays(shape, dtype, True)), draw(arrays(shape, dtype, True))
    w, b = draw(arrays((filters, shape[1], *kernel), dtype, True)), draw(arrays((filters,), dtype, True))
    y, cache = ops.conv2d(x, w, b, **options)
    dy = draw(arrays(y.shape, dtype, True))
    dx, dw, db = ops.conv2d_backward(dy, cache)
    without_b = inner_product(y - b[:, None, None], dy)
    assert inner_product(x, dx) == inner_product(w, dw) == without_b
    assert inner_product(b, db) == inner_product(y, dy) - without_b
    same(ops.conv2d(x + 2 * u, w, b, **options)[0], y + 2 * ops.conv2d(u, w, **options)[0], dtype)
    same(ops.conv2d(x, 3 * w, 3 * b, **options)[0], 3 * y, dtype)


@given(st.data(), IMAGES, FILTERS)
@examples(100)
def test_windows_see_their_pixels_only(data: Any, shape: Any, filters: int) -> None:
    """An image that begins k steps later gives the windows from the k-th on; images and channels don't mix."""
    draw = data.draw
    window = draw(windows(shape))
    kernel, stride = window["kernel"], window["stride"]
    assume(all(k <= n for k, n in zip(kernel, shape[2:], strict=True)))
    x, w = draw(arrays(shape, whole=True)), draw(arrays((filters, shape[1], *kernel), whole=True))
    y, *pools = whole = [function(x) for function in _window_functions(w, kernel, stride)]
    down, across = (draw(st.integers(0, size - 1)) for size in y.shape[2:])
    later = x[:, :, down * stride[0] :, across * stride[1] :]
    for function, one in zip(_window_functions(w, kernel, stride), whole, strict=True):
        same(function(later), one[:, :, down:, across:])
        if len(x):
            same(function(x[-1:]), one[-1:])
    if len(x):
        same(ops.conv2d(x, w[-1:], stride=stride)[0], y[:, -1:])
        for function, one in zip(_window_functions(w, kernel, stride)[1:], pools, strict=True):
            same(function(x[:, -1:]), one[:, -1:])


def _window_functions(w: Array, kernel: Any, stride: Any) -> list[Any]:
    return [
        lambda x: ops.conv2d(x, w, stride=stride)[0],
        lambda x: ops.max_pool2d(x, kernel, stride=stride)[0],
        lambda x: ops.avg_pool2d(x, kernel, stride=stride)[0],
    ]


@given(st.data(), IMAGES, FLOATS)
@examples(100)
def test_im2col_and_col2im_are_the_loops_and_adjoint(data: Any, shape: Any, dtype: Any) -> None:
    draw = data.draw
    window = draw(windows(shape))
    x = draw(arrays(shape, dtype, True))
    columns = ops.im2col(x, **window)
    same(columns, loops.im2col(x, **window), dtype)
    c = draw(arrays(columns.shape, dtype, True))
    image = ops.col2im(c, shape, **window)
    same(image, loops.col2im(c, shape, **window), dtype)
    assert inner_product(columns, c) == inner_product(x, image)
    # And convolution is one matrix product of them.
    kernel, options = window.pop("kernel"), window
    w = draw(arrays((2, shape[1], *kernel), dtype, True))
    y, cache = ops.conv2d(x, w, **options)
    dy = draw(arrays(y.shape, dtype, True))
    dx, dw, _ = ops.conv2d_backward(dy, cache)
    matrix, slopes = w.reshape(2, -1), dy.reshape(len(x), 2, columns.shape[2])
    np.testing.assert_array_equal((matrix @ columns).reshape(y.shape), y)
    same(ops.col2im(matrix.T @ slopes, shape, kernel, **options), dx, dtype)
    np.testing.assert_array_equal((slopes @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(w.shape), dw)


# Both kernels of convolution.

PADS = st.tuples(st.tuples(st.integers(0, 4), st.integers(0, 4)), st.tuples(st.integers(0, 4), st.integers(0, 4)))


def by(kernel: Any, x: Array, w: Array, dy: Array, pads: Pads) -> tuple[Array, Array, Array]:
    """y, dx and dw by one of the kernels' three functions."""
    padded = pad_block(block(x), pads)
    return (
        unblock(kernel.correlate(padded, w, (1, 1))),
        unblock(kernel.input_gradient(block(dy), w, block(x).shape, (1, 1), pads)),
        kernel.weight_gradient(padded, block(dy), w.shape, (1, 1)),
    )


@given(st.data(), st.tuples(small, st.integers(1, 5), st.integers(1, 7), st.integers(1, 7)), small, PADS, FLOATS)
@examples(100)
def test_both_kernels_are_the_loops_for_any_padding(
    data: Any, shape: Any, filters: int, pads: Pads, dtype: Any
) -> None:
    """Winograd's too where `conv2d` would not take it, and padding that differs on all four sides."""
    size = [n + sum(pad) - 2 for n, pad in zip(shape[2:], pads, strict=True)]
    assume(min(size) >= 1)
    x, w, dy = (
        data.draw(arrays(s, dtype, True)) for s in (shape, (filters, shape[1], 3, 3), (shape[0], filters, *size))
    )
    y = loops.conv2d(x, w, np.zeros(filters), (1, 1), pads)
    expected = y, *loops.conv2d_backward(dy, x, w, (1, 1), pads)[:2]
    for kernel in (winograd, lowered):
        for found, exact in zip(by(kernel, x, w, dy, pads), expected, strict=True):
            np.testing.assert_array_equal(found, exact)
            assert found.dtype == dtype


@given(st.data(), st.sampled_from([(128, 2, 2, 64), (64, 2, 7, 64), (96, 5, 4, 64)]), FLOATS, st.integers(0, 1))
@examples(6)
def test_wide_layers_are_the_loops_too(data: Any, size: Any, dtype: Any, padding: int) -> None:
    """`conv2d` takes Winograd's kernel for them, and says nothing of it."""
    channels, height, width, n = size
    filters = data.draw(st.integers(channels, channels + 8))
    shape = (n, channels, height + 2 - 2 * padding, width + 2 - 2 * padding)
    w = data.draw(arrays((filters, channels, 3, 3), dtype, True))
    assert winograd.suits(w.shape, (1, 1), (height, width), n)
    x, b = data.draw(arrays(shape, dtype, True)), data.draw(arrays((filters,), dtype, True))
    y, cache = ops.conv2d(x, w, b, padding=padding)
    dy = data.draw(arrays(y.shape, dtype, True))
    few = slice(0, 2)  # images; the sums over the batch are compared with the other kernel's, which the loops prove
    same(y[few], loops.conv2d(x[few], w, b, (1, 1), padding), dtype)
    dx, dw, db = ops.conv2d_backward(dy, cache)
    same(dx[few], loops.conv2d_backward(dy[few], x[few], w, (1, 1), padding)[0], dtype)
    pads = ((padding, padding), (padding, padding))
    for found, other in zip((y - b[:, None, None], dx, dw), by(lowered, x, w, dy, pads), strict=True):
        np.testing.assert_array_equal(found, other)
    same(db, dy.sum(axis=(0, 2, 3)), dtype)


# Pools.


@given(st.data(), PIXELS, FLOATS)
@examples(150)
def test_pools_are_the_loops_and_their_gradients_adjoint(data: Any, shape: Any, dtype: Any) -> None:
    draw = data.draw
    window = draw(windows(shape, pool=True))
    kernel, options = window.pop("kernel"), window
    x = draw(arrays(shape, dtype, True))  # few values, so many ties
    y, cache = ops.max_pool2d(x, kernel, **options)
    dy = draw(arrays(y.shape, dtype, True))
    expected = loops.max_pool2d(x, dy, kernel, **options)
    same(y, expected[0], dtype)
    dx = ops.max_pool2d_backward(dy, cache)
    same(dx, expected[1], dtype)
    assert dx.sum() == dy.sum()
    assert inner_product(x, dx) == inner_product(y, dy)  # y is linear in x as long as the maxima stay where they are

    y, plan = ops.avg_pool2d(x, kernel, **options)
    expected = loops.avg_pool2d(x, dy, kernel, **options)
    # Up to 16 sums and a division of numbers of at most 4, here and in the loops.
    close = {"rtol": 0, "atol": 4 * 2 * 17 * np.finfo(dtype).eps * 16}
    np.testing.assert_allclose(y, expected[0], **close)
    dx = ops.avg_pool2d_backward(dy, plan)
    np.testing.assert_allclose(dx, expected[1], **close)
    assert y.dtype == dx.dtype == dtype
    area = kernel[0] * kernel[1]  # times which all are whole numbers again
    assert round(area * inner_product(x, dx)) == round(area * inner_product(y, dy))


@given(st.data(), PIXELS)
@examples(80)
def test_a_pool_moves_as_its_gradient_says(data: Any, shape: Any) -> None:
    """Of distinct whole numbers, moved by less than a half, the maxima stay where they are."""
    draw = data.draw
    window = draw(windows(shape, pool=True))
    kernel, options = window.pop("kernel"), window
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = draw(in_any_order(rng.permutation(math.prod(shape)).astype(np.float64).reshape(shape)))
    u = rng.integers(-3, 4, shape) / 8
    y, cache = ops.max_pool2d(x, kernel, **options)
    dy = draw(arrays(y.shape, whole=True))
    moved = ops.max_pool2d(x + u, kernel, **options)[0]
    assert inner_product(moved - y, dy) == inner_product(u, ops.max_pool2d_backward(dy, cache))


@given(st.data(), PIXELS, st.sampled_from([-np.inf, np.inf, np.nan]))
@examples(80)
def test_infinite_pixels_win_or_lose_as_others_do(data: Any, shape: Any, special: float) -> None:
    """An image of nothing but -inf or NaN too: its border of padding never wins."""
    draw = data.draw
    window = draw(windows(shape, pool=True))
    kernel, options = window.pop("kernel"), window
    x = np.array(draw(arrays(shape, whole=True)))
    x[x > draw(st.integers(-5, 4))] = special
    y, cache = ops.max_pool2d(x, kernel, **options)
    dy = draw(arrays(y.shape, whole=True))
    expected = loops.max_pool2d(x, dy, kernel, **options)
    same(y, expected[0])
    same(ops.max_pool2d_backward(dy, cache), expected[1])


@given(st.data(), IMAGES)
@examples(50)
def test_global_avg_pool_is_the_loop_and_adjoint(data: Any, shape: Any) -> None:
    x, dy = data.draw(arrays(shape)), data.draw(arrays(shape[:2]))
    y, cache = ops.global_avg_pool2d(x)
    dx = ops.global_avg_pool2d_backward(dy, cache)
    expected = loops.global_avg_pool2d(x, dy)
    np.testing.assert_allclose(y, expected[0], rtol=0, atol=1e-14)  # a sum of 49 numbers below 5, divided by 49
    np.testing.assert_allclose(dx, expected[1], rtol=1e-15)
    np.testing.assert_allclose(inner_product(x, dx), inner_product(y, dy), rtol=0, atol=1e-13)


# Layers without windows.


@given(st.data(), FEATURES, small, FLOATS)
@examples(80)
def test_dense_is_the_loop_and_adjoint(data: Any, shape: Any, units: int, dtype: Any) -> None:
    x, w, b, dy = (data.draw(arrays(s, dtype, True)) for s in (shape, (units, shape[1]), (units,), (shape[0], units)))
    y, cache = ops.dense(x, w, b)
    same(y, loops.dense(x, w, b), dtype)
    dx, dw, db = grads = ops.dense_backward(dy, cache)
    for found, expected in zip(grads, loops.dense_backward(dy, x, w), strict=True):
        same(found, expected, dtype)
    assert inner_product(x, dx) == inner_product(w, dw) == inner_product(y, dy) - inner_product(b, db)


@given(st.data(), IMAGES, FLOATS)
@examples(50)
def test_flatten_is_the_loop_and_undone_by_its_gradient(data: Any, shape: Any, dtype: Any) -> None:
    x = data.draw(arrays(shape, dtype))
    y, cache = ops.flatten(x)
    same(y, loops.flatten(x), dtype)
    same(ops.flatten_backward(data.draw(in_any_order(np.array(y))), cache), x, dtype)


@given(st.data(), EITHER, st.floats(0, 0.9), FLOATS)
@examples(80)
def test_dropout_is_the_loop_given_its_mask(data: Any, shape: Any, rate: float, dtype: Any) -> None:
    x, dy = data.draw(arrays(shape, dtype)), data.draw(arrays(shape, dtype))
    key = fcnn.key(data.draw(st.integers(0, 999)))
    y, cache = ops.dropout(x, rate, train=True, key=key)
    kept = ops.dropout(np.ones(shape), rate, train=True, key=key)[0] != 0
    # The factor 1 / (1 - rate) and the product are rounded once each.
    close = {"rtol": 2 * np.finfo(dtype).eps, "atol": 0}
    np.testing.assert_allclose(y, loops.dropout(x, kept, rate), **close)
    np.testing.assert_allclose(ops.dropout_backward(dy, cache), loops.dropout(dy, kept, rate), **close)
    assert y.dtype == dtype
    same(ops.dropout(x, rate, train=False)[0], x, dtype)


@given(st.data(), EITHER)
@examples(80)
def test_softmax_is_the_loop_and_its_gradient_the_whole_jacobian(data: Any, shape: Any) -> None:
    x, dy = data.draw(arrays(shape)), data.draw(arrays(shape))
    y, cache = ops.softmax(x)
    close = {"rtol": 0, "atol": 1e-14}  # numbers up to 1, and sums of at most 6 such
    np.testing.assert_allclose(y, loops.softmax(x), **close)
    np.testing.assert_allclose(y.sum(axis=1), 1, **close)
    np.testing.assert_allclose(ops.softmax(x + 4)[0], y, **close)
    dx = ops.softmax_backward(dy, cache)
    np.testing.assert_allclose(dx, loops.softmax_backward(dy, y), **close)
    np.testing.assert_allclose(dx.sum(axis=1), 0, **close)  # a shift of all logits changes nothing
    np.testing.assert_allclose(
        inner_product(x, dx), inner_product(ops.softmax_backward(x, cache), dy), rtol=0, atol=1e-12
    )


# Batch norm.


@st.composite
def normed(draw: st.DrawFn, train: bool) -> dict[str, Any]:
    shape = draw(EITHER)
    assume(not train or shape[0] * math.prod(shape[2:]) >= 2)
    return {
        "x": 3 + 2 * draw(arrays(shape)), "dy": draw(arrays(shape)),
        "gamma": draw(arrays(shape[1:2])), "beta": draw(arrays(shape[1:2])),
        "mean": draw(arrays(shape[1:2])), "var": np.exp(draw(arrays(shape[1:2]))),
        "decay": draw(st.sampled_from([0.0, 0.3, 0.9, 1.0])), "eps": draw(st.sampled_from([1e-3, 0.1, 1.0])),
    }  # fmt: skip


# With eps >= 1e-3 the greatest factor is 1 / sqrt(eps) = 32, three of which meet in dx, of at most 150 numbers up to
# 20: 150 * 20 * 32³ u is 1e-8 at worst, where channels vary by less than sqrt(eps); typical are 1e-13. What a formula
# gets wrong it gets wrong in the first digits.
NORM = {"rtol": 1e-10, "atol": 1e-10}


@given(st.data(), st.booleans())
@examples(150)
def test_batch_norm_and_its_gradients_are_the_loops(data: Any, train: bool) -> None:
    it = data.draw(normed(train))
    forward = {name: it[name] for name in ("x", "gamma", "beta", "mean", "var", "decay", "eps")}
    *found, cache = ops.batch_norm(**forward, train=train)
    for one, expected in zip(found, loops.batch_norm(**forward, train=train), strict=True):
        np.testing.assert_allclose(one, expected, **NORM)
    if not train:
        np.testing.assert_array_equal(found[1:], (it["mean"], it["var"]))
    backward = {name: it[name] for name in ("x", "gamma", "mean", "var", "eps")}
    expected = loops.batch_norm_backward(it["dy"], **backward, train=train)
    for one, exact in zip(ops.batch_norm_backward(it["dy"], cache), expected, strict=True):
        np.testing.assert_allclose(one, exact, **NORM)


@given(st.data(), st.sampled_from([-2.0, 0.5, 4.0]), st.floats(-3, 3))
@examples(80)
def test_batch_norm_takes_out_shift_and_scale(data: Any, scale: float, shift: float) -> None:
    it = data.draw(normed(True))
    one, zero = np.ones(len(it["gamma"])), np.zeros(len(it["gamma"]))
    rest = {"mean": zero, "var": one, "train": True}
    y, mean, var, cache = ops.batch_norm(it["x"], it["gamma"], it["beta"], eps=it["eps"], **rest)
    # Of scaled numbers the variance is scaled too, and with eps scaled likewise nothing is left of it.
    other = ops.batch_norm(
        scale * it["x"] + shift, np.sign(scale) * it["gamma"], it["beta"], eps=scale**2 * it["eps"], **rest
    )
    np.testing.assert_allclose(other[0], y, **NORM)
    np.testing.assert_allclose(other[1], 0.1 * shift + scale * mean, **NORM)
    np.testing.assert_allclose(other[2] - 0.9, scale**2 * (var - 0.9), **NORM)
    axes = (0, 2, 3)[: y.ndim - 1]
    np.testing.assert_allclose(y.mean(axis=axes), it["beta"], **NORM)
    v = it["x"].var(axis=axes)
    np.testing.assert_allclose(y.var(axis=axes), it["gamma"] ** 2 * v / (v + it["eps"]), **NORM)
    # A shift of x changes nothing, so its derivative is 0; nor does a scale, but for eps.
    dx, dgamma, _ = ops.batch_norm_backward(it["dy"], cache)
    np.testing.assert_allclose(dx.sum(axis=axes), 0, **NORM)
    left = it["gamma"] * dgamma * it["eps"] / (v + it["eps"])
    np.testing.assert_allclose((it["x"] * dx).sum(axis=axes), left, **NORM)


@given(st.data(), EITHER)
@examples(50)
def test_normalize_is_the_loop_and_adjoint(data: Any, shape: Any) -> None:
    count = data.draw(st.sampled_from([1, shape[1]]))
    x, dy, mean = (data.draw(arrays(s)) for s in (shape, shape, (count,)))
    std = np.exp(data.draw(arrays((count,))))
    y, cache = ops.normalize(x, mean, std)
    np.testing.assert_allclose(y, loops.normalize(x, mean, std), rtol=1e-14)  # a difference and a quotient
    np.testing.assert_allclose(ops.normalize_backward(dy, cache), loops.normalize(dy, 0 * mean, std), rtol=1e-14)


# What is smooth is measured by its secants: any shape, batch, mode and point.


SMOOTH = [
    fcnn.sigmoid, fcnn.tanh, fcnn.gelu, fcnn.softmax, fcnn.flatten, lambda: fcnn.dense(3, biases=fcnn.constant(0.5)),
    lambda: fcnn.batch_norm(eps=0.1), lambda: fcnn.dropout(0.4), lambda: fcnn.normalize(0.3, 0.5), fcnn.identity,
]  # fmt: skip


@given(st.sampled_from(SMOOTH), FEATURES, st.booleans(), st.integers(0, 10**6))
@examples(100)
def test_secants_agree_with_gradients(make: Any, shape: Any, train: bool, seed: int) -> None:
    layer, batch = make(), max(shape[0], 2)
    assert fcnn.gradcheck(layer, shape[1:], train=train, batch=batch, key=fcnn.key(seed)).ok
