"""A convolution and what follows it, computed as one, against the layers one by one."""

import functools
from typing import Any, NamedTuple

import loops
import numpy as np
import pytest
from by_parts import TABLE, direct, geometry
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import FLOATS, arrays, examples, windows
from test_kernels import ROWS, WIDE, same

from fcnn import ops
from fcnn.ops.fused import fused, fused_backward
from fcnn.ops.fused_norm import Norm, fused_norm, fused_norm_backward
from fcnn.ops.processor import trying
from fcnn.ops.window import Geometry
from fcnn.values.arrays import keep

Array = np.ndarray
pytestmark = pytest.mark.usefixtures("one_thread")
FILTERS = st.sampled_from([1, 2, 3, 6, 13])
IMAGES = st.tuples(st.sampled_from([1, 2, 3, 33]), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))


class Case(NamedTuple):
    """What is computed as one: arrays, where the windows lie, and what follows."""

    x: Array
    w: Array
    b: Array | None
    g: Geometry
    relu: bool
    pool: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the output, (N, F, OH, OW)."""
        oh, filters, ow, n = self.g.out_shape
        return (n, filters, oh // 2, ow // 2) if self.pool else (n, filters, oh, ow)

    def alone(self, norm: Norm | None = None, dtype: Any = None) -> tuple[list[Array], Any]:
        """The outputs of the layers one by one, and their gradients as a function of dy."""
        as_dtype = (lambda a: None if a is None else a.astype(dtype)) if dtype else (lambda a: a)
        x, w, b = map(as_dtype, (self.x, self.w, self.b))
        found: list[Array] = []
        (top, bottom), (left, right) = self.g.pads
        padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        y, conv = ops.conv2d(padded, w, b, stride=self.g.stride)
        if norm is not None:
            own = {name: as_dtype(getattr(norm, name)) for name in ("gamma", "beta", "mean", "var")}
            y, *found, normed = ops.batch_norm(y, **own, train=True, decay=norm.decay, eps=norm.eps)
        if self.relu:
            y, relu = ops.relu(y)
        if self.pool:
            y, pool = ops.max_pool2d(y, 2)

        def backward(dy: Array) -> list[Array | None]:
            d, others = as_dtype(dy), []
            if self.pool:
                d = ops.max_pool2d_backward(d, pool)
            if self.relu:
                d = ops.relu_backward(d, relu)
            if norm is not None:
                d, *others = ops.batch_norm_backward(d, normed)
            dx, dw, db = ops.conv2d_backward(d, conv)
            height, width = x.shape[2:]
            return [dx[:, :, top : top + height, left : left + width], dw, db, *others]

        return [y, *found], backward


@st.composite
def cases(draw: st.DrawFn, dtype: Any, whole: bool) -> Case:
    """Any geometry of a few pixels; a pool where the output is even."""
    shape, filters = draw(IMAGES), draw(FILTERS)
    window = draw(windows(shape))
    x, w = (keep(draw(arrays(s, dtype, whole))) for s in (shape, (filters, shape[1], *window["kernel"])))
    b = draw(st.none() | arrays((filters,), dtype, whole))
    g = geometry(x, w, window["stride"], loops.pads_of(shape[2:], *window.values()))
    return Case(x, w, b, g, draw(st.booleans()), g.out[0] % 2 == g.out[1] % 2 == 0 and draw(st.booleans()))


def expect_the_layers(case: Case, dy: Array, dtype: Any) -> None:
    """Outputs and gradients equal to the bit, with and without dx."""
    (y,), backward = case.alone()
    found, cache = fused(*case[:4], relu=case.relu, pool=case.pool)
    same(found, y, dtype)
    grads = fused_backward(dy, cache, need_dx=True)
    for one, other in zip(grads, backward(dy), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            same(one, other, dtype)
    nothing, dw, db = fused_backward(dy, cache, need_dx=False)
    assert nothing is None
    same(dw, grads[1], dtype)
    assert db is None or db.tobytes() == grads[2].tobytes()


@given(st.data(), ROWS, FLOATS)
@examples(150)
def test_of_whole_numbers_outputs_and_gradients_are_those_of_the_layers(data: Any, row: Any, dtype: Any) -> None:
    case = data.draw(cases(dtype, True))
    dy = data.draw(arrays(case.shape, dtype, True))
    with trying(row):
        expect_the_layers(case, dy, dtype)


@given(st.data(), ROWS, FLOATS)
@examples(100)
def test_outputs_are_those_of_the_layers_but_for_the_rounding_of_sums(data: Any, row: Any, dtype: Any) -> None:
    case = data.draw(cases(dtype, False))
    with trying(row):
        (y,), _ = case.alone()
        found, _ = fused(*case[:4], relu=case.relu, pool=case.pool)
    size = Case(*(keep(np.abs(a)) for a in case[:2]), case.b if case.b is None else np.abs(case.b), *case[3:])
    (sizes,), _ = size.alone(dtype=np.float64)
    # K products and a bias, summed in another order: (K + 1) u of the sum of their sizes at most, here and there.
    assert (np.abs(found - y) <= (case.w[0].size + 1) * np.finfo(dtype).eps * sizes).all()


def wide(layer: Any, dtype: Any, whole: bool, pool: bool, seed: int = 3) -> tuple[Case, Array]:
    channels, filters, oh, ow, n, padding = layer
    size = 5 if channels <= 6 and filters <= 16 else 3
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        return keep((rng.integers(-4, 5, shape) if whole else rng.standard_normal(shape)).astype(dtype))

    x = draw(n, channels, oh + size - 1 - 2 * padding, ow + size - 1 - 2 * padding)
    w, b, pads = draw(filters, channels, size, size), draw(filters), ((padding, padding), (padding, padding))
    case = Case(x, w, b, geometry(x, w, pads=pads), True, pool)
    return case, draw(*case.shape)


@pytest.mark.parametrize("row", TABLE)
@pytest.mark.parametrize("layer", WIDE, ids=str)
def test_layers_as_networks_have_them_are_those_of_the_layers(layer: Any, row: str) -> None:
    case, dy = wide(layer, np.float32, True, layer[2] % 2 == layer[3] % 2 == 0)
    with trying(TABLE[row]):
        expect_the_layers(case, dy, np.float32)


@functools.cache
def rounds_columns_alike(dtype: Any) -> bool:
    """Whether BLAS, in groups of 64 columns, gives each the same bits whichever columns stand beside it.

    OpenBLAS does with its own settings; OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE may set it to cut products elsewhere.
    """
    rng = np.random.default_rng(0)
    for rows, depth, columns in ((6, 25, 28), (24, 30, 28), (16, 150, 10), (64, 300, 10), (32, 27, 16), (32, 45, 16)):
        w = rng.standard_normal((rows, depth)).astype(dtype)
        x = rng.standard_normal((depth, columns, 64)).astype(dtype)
        whole = (w @ x.reshape(depth, -1)).reshape(rows, columns, 64)
        for part in (x[:, 0::2], x[:, 1::2], x[:, : columns // 2], x[:, :3], x[:, 3:4]):
            alone = (w @ np.ascontiguousarray(part).reshape(depth, -1)).reshape(rows, -1, 64)
            place = next(i for i in range(columns) if np.array_equal(x[:, i], part[:, 0]))
            if not np.array_equal(alone[:, 0], whole[:, place]):
                return False
    return True


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("row", TABLE)
@pytest.mark.parametrize("layer", WIDE, ids=str)
def test_outputs_of_batches_of_64_are_those_of_the_layers_to_the_bit(layer: Any, row: str, dtype: Any) -> None:
    if not rounds_columns_alike(dtype):
        pytest.skip("this BLAS rounds a column of a product by where it stands")
    case, _ = wide((*layer[:4], 64, layer[5]), dtype, False, layer[2] % 2 == layer[3] % 2 == 0)
    with trying(TABLE[row]):
        (y,), _ = case.alone()
        same(fused(*case[:4], relu=True, pool=case.pool)[0], y, dtype)


def test_a_bias_that_rounds_two_numbers_to_one_makes_a_tie_for_the_layers_only() -> None:
    """As the docstring says: their gradient goes to the first of the two, here to the greater one."""
    x = np.array([1, 1 + 2**-20, 0, 1], np.float32).reshape(1, 1, 2, 2)
    w, b = np.ones((1, 1, 1, 1), np.float32), np.array([1 << 10], np.float32)
    case = Case(keep(x), w, b, geometry(x, w), False, True)
    (y,), backward = case.alone()
    found, cache = fused(*case[:4], relu=False, pool=True)
    same(found, y, np.float32)
    dy = np.full((1, 1, 1, 1), 3, np.float32)
    assert backward(dy)[0].ravel().tolist() == [3, 0, 0, 0]
    assert fused_backward(dy, cache, need_dx=True)[0].ravel().tolist() == [0, 3, 0, 0]


# With batch norm.


def normed(case: Case, rng: Any, **given: Any) -> Norm:
    """Batch norm's numbers; gammas of both signs, and 0 among them only if given."""
    count, dtype = len(case.w), case.w.dtype
    values = {
        "gamma": rng.choice([-1, 1], count) * rng.uniform(0.3, 2, count), "beta": rng.standard_normal(count),
        "mean": rng.standard_normal(count), "var": rng.uniform(0.5, 2, count), **given,
    }  # fmt: skip
    return Norm(**{name: keep(np.array(value, dtype)) for name, value in values.items()}, decay=0.7, eps=1e-3)


def channels(array: Array) -> Array:
    """The greatest size in each channel of (N, F, OH, OW), as (F, 1, 1)."""
    return np.abs(array).max(axis=(0, 2, 3))[:, None, None]


class Bounds:
    """How far fused batch norm may be off, in units u of half the spacing at 1, from the layers in float64.

    With K products in a number z of the convolution, off by K u times the sum S of their sizes, M numbers a channel,
    sums of which round by M u of the sum of sizes at most, m and s their mean and deviation, c = z - m, x_hat = c / s,
    and each capital the greatest of a channel:

        dz <= (K + 1) u S      dm <= dz + (M + 2) u Z      dc <= dz + dm + 2 u Z
        ds / s = r <= (2 C dc + dc² + (M + 2) u C²) / 2 s² + 3 u
        dy <= |gamma| / s (dc + C (r + 6 u)) + 2 u |beta|            dx_hat <= (dc + C (r + 2 u)) / s

    ReLU and a pool of maxima take no more from it. Backwards each sum is off by what its terms are and M u of their
    sizes, and each product of the convolution likewise.
    """

    def __init__(self, case: Case, norm: Norm) -> None:
        u = float(np.finfo(case.x.dtype).eps)  # twice half the spacing: in float64 the layers round as much
        self.case, self.norm, self.u = case, norm, u
        x, w = case.x.astype(np.float64), case.w.astype(np.float64)
        nothing = np.zeros((len(x), len(w), *case.g.out))
        z, s = direct(x, w, nothing, case.g)[0], direct(np.abs(x), np.abs(w), nothing, case.g)[0]
        self.count = z[:, 0].size
        self.products = w[0].size
        self.gamma, self.beta = (np.abs(a.astype(np.float64))[:, None, None] for a in (norm.gamma, norm.beta))
        m = z.mean(axis=(0, 2, 3), keepdims=True)[0]
        centred = z - m
        self.mean, self.var = m.ravel(), centred.var(axis=(0, 2, 3))
        self.sigma = np.sqrt(self.var + norm.eps)[:, None, None]
        self.c, self.z = channels(centred), channels(z)
        off_z = (self.products + 1) * u * channels(s)
        self.off_mean = off_z + (self.count + 2) * u * self.z
        self.off_c = off_z + self.off_mean + 2 * u * self.z
        self.off_var = 2 * self.c * self.off_c + self.off_c**2 + (self.count + 2) * u * self.c**2
        self.r = self.off_var / (2 * self.sigma**2) + 3 * u
        self.before_relu = norm.gamma.astype(np.float64)[:, None, None] * centred / self.sigma
        self.before_relu += norm.beta.astype(np.float64)[:, None, None]
        self.x_hat = centred / self.sigma
        self.y = self.gamma / self.sigma * (self.off_c + self.c * (self.r + 6 * u)) + 2 * u * self.beta
        self.off_x_hat = (self.off_c + self.c * (self.r + 2 * u)) / self.sigma

    def decided(self) -> bool:
        """Whether no rounding decides what ReLU or a pool lets through."""
        y, sure = self.before_relu, 2 * self.y
        if self.case.relu and (np.abs(y) <= sure).any():
            return False
        if self.case.pool:
            (n, f, oh, ow) = y.shape
            windows = y.reshape(n, f, oh // 2, 2, ow // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, f, -1, 4)
            second, first = np.moveaxis(np.sort(windows, axis=-1)[..., 2:], -1, 0)
            return bool((first - second > sure[:, :, 0]).all())
        return True

    def running(self) -> tuple[Array, Array]:
        """Of the new running mean and variance."""
        u, part, many = self.u, 1 - self.norm.decay, self.count / (self.count - 1)
        off_mean, off_var = (off.ravel() for off in (self.off_mean, self.off_var))
        bias = 0 if self.case.b is None else np.abs(self.case.b.astype(np.float64))
        mean = part * (off_mean + 3 * u * (np.abs(self.mean) + bias)) + 4 * u * np.abs(self.norm.mean)
        return mean, part * many * (off_var + 4 * u * self.var) + 4 * u * self.norm.var

    def gradients(self, d: Array) -> tuple[Array, Array, Array, Array]:
        """Of dx, dw, dgamma and dbeta, for the gradient d of batch norm's output."""
        u, m, axes = self.u, self.count, (0, 2, 3)
        size, x_hat = np.abs(d), np.abs(self.x_hat)
        total, products = (a.sum(axis=axes)[:, None, None] for a in (size, size * x_hat))
        off_beta = (m + 1) * u * total
        off_gamma = total * self.off_x_hat + (m + 4) * u * products
        factor = self.gamma / self.sigma
        terms = size + total / m + x_hat * products / m
        off = (self.r + 10 * u) * terms + off_beta / m + self.off_x_hat * products / m + x_hat * off_gamma / m
        x, w, g = np.abs(self.case.x.astype(np.float64)), np.abs(self.case.w.astype(np.float64)), self.case.g
        (_, dx, dw), (_, sizes_x, sizes_w) = (direct(x, w, factor * a, g) for a in (off, terms))
        taps = self.case.w[:, 0].size
        return dx + (taps + 4) * u * sizes_x, dw + (m + 4) * u * sizes_w, off_gamma.ravel(), off_beta.ravel()


def expect_close_to_the_layers(case: Case, norm: Norm, dy: Array) -> None:
    bounds = Bounds(case, norm)
    (y, mean, var), backward = case.alone(norm, np.float64)
    *found, cache = fused_norm(*case[:3], norm, case.g, relu=case.relu, pool=case.pool)
    for one, exact, bound in zip(found, (y, mean, var), (bounds.y, *bounds.running()), strict=True):
        assert (one.dtype, one.shape, one.flags.writeable) == (case.x.dtype, exact.shape, False)
        assert (np.abs(one - exact) <= bound).all()
    grads = fused_norm_backward(dy, cache, need_dx=True)
    dx, dw, db, dgamma, dbeta = grads
    d = dy.astype(np.float64)
    if case.pool:
        d = ops.max_pool2d_backward(
            d, ops.max_pool2d(np.maximum(bounds.before_relu, 0 if case.relu else -np.inf), 2)[1]
        )
    if case.relu:
        d = d * (bounds.before_relu > 0)
    exact = backward(dy)
    for one, other, bound in zip((dx, dw, dgamma, dbeta), (*exact[:2], *exact[3:]), bounds.gradients(d), strict=True):
        assert (one.dtype, one.shape, one.flags.writeable) == (case.x.dtype, other.shape, False)
        assert (np.abs(one - other) <= bound).all()
    assert (db is None) == (case.b is None)
    assert db is None or (not db.any() and db.dtype == case.x.dtype and not db.flags.writeable)
    nothing, *others = fused_norm_backward(dy, cache, need_dx=False)
    assert nothing is None
    for one, other in zip(others, grads[1:], strict=True):
        assert one is other is None or one.tobytes() == other.tobytes()


@given(st.data(), ROWS, FLOATS, st.integers(0, 10**6))
@examples(150)
def test_with_batch_norm_all_is_that_of_the_layers_but_for_rounding(data: Any, row: Any, dtype: Any, seed: int) -> None:
    case = data.draw(cases(dtype, False))
    assume(case.g.out[0] * case.g.out[1] * len(case.x) >= 2)
    norm = normed(case, np.random.default_rng(seed))
    dy = data.draw(arrays(case.shape, dtype))
    with trying(row):
        assume(Bounds(case, norm).decided())
        expect_close_to_the_layers(case, norm, dy)


@pytest.mark.parametrize("row", TABLE)
@pytest.mark.parametrize("layer", WIDE, ids=str)
def test_layers_as_networks_have_them_with_batch_norm(layer: Any, row: str) -> None:
    """In float64, where no rounding decides anything. Winograd's worst case, 64 / 9 times as much, doesn't come."""
    case, dy = wide(layer, np.float64, False, layer[2] % 2 == layer[3] % 2 == 0)
    norm = normed(case, np.random.default_rng(4))
    with trying(TABLE[row]):
        expect_close_to_the_layers(case, norm, dy)


def one_pixel_filters(x: Array, w: Any, pool: bool, relu: bool = True) -> Case:
    """A convolution that multiplies each pixel of one channel by a number a filter, so that nothing is added up."""
    weights = keep(np.array(w, x.dtype).reshape(-1, 1, 1, 1))
    return Case(keep(x), weights, None, geometry(x, weights), relu, pool)


@pytest.mark.parametrize("pool", [True, False])
def test_a_gamma_of_0_gives_beta_and_its_gradient_to_the_greatest_where_the_layers_take_the_first(pool: bool) -> None:
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    case = one_pixel_filters(x, [1, 1], pool)
    norm = normed(case, np.random.default_rng(0), gamma=[0, 1], beta=[0.5, 20])
    y, *_, cache = fused_norm(*case[:3], norm, case.g, relu=True, pool=pool)
    (expected, *_), backward = case.alone(norm)
    assert (y[:, 0] == 0.5).all()
    np.testing.assert_allclose(y, expected, rtol=1e-14)
    dy = np.arange(1.0, 1 + y.size).reshape(y.shape)
    dx, dw, _, dgamma, dbeta = fused_norm_backward(dy, cache, need_dx=True)
    exact = backward(dy)
    np.testing.assert_allclose(dx, exact[0], rtol=0, atol=1e-13)  # of gamma 0 nothing comes back
    np.testing.assert_allclose(dw, exact[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(dbeta, exact[4], rtol=1e-14)
    # dgamma of gamma 0: dy times the normalised number that was taken, the last of each window, or the first.
    x_hat = (x - x.mean()) / np.sqrt(x.var() + norm.eps)
    taken = x_hat[:, :, 1::2, 1::2] if pool else x_hat
    np.testing.assert_allclose(dgamma[0], (dy[:, 0] * taken[:, 0]).sum(), rtol=1e-13)
    assert (abs(dgamma[0] - exact[3][0]) > 1) == pool
    np.testing.assert_allclose(dgamma[1], exact[3][1], rtol=1e-13)


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("value", [0.0, 0.1, -255.1, 12345.678, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_channel_is_beta(value: float, pool: bool, dtype: Any) -> None:
    """Also beside one that isn't, which is what it is without it."""
    x = np.random.default_rng(0).standard_normal((16, 2, 8, 8)).astype(dtype)
    x[:, 0] = value
    w = keep(np.eye(2, dtype=dtype)[:, :, None, None].repeat(1, 2))
    case = Case(keep(x), w, None, geometry(x, w), False, pool)
    norm = normed(case, np.random.default_rng(1), gamma=[-2, 2], beta=[0.5, 0.5])
    y, mean, var, cache = fused_norm(*case[:3], norm, case.g, relu=False, pool=pool)
    np.testing.assert_array_equal(y[:, 0], np.full_like(y[:, 0], 0.5))
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(mean[0], 0.7 * norm.mean[0] + 0.3 * x[0, 0, 0, 0], rtol=4 * eps)
    np.testing.assert_allclose(var[0], 0.7 * norm.var[0], rtol=4 * eps)
    (expected, *_), _ = case.alone(norm, np.float64)
    np.testing.assert_allclose(y[:, 1], expected[:, 1], rtol=0, atol=1100 * eps)  # 1,024 numbers a sum
    dy = np.random.default_rng(2).standard_normal(y.shape).astype(dtype)
    dx, dw, _, dgamma, dbeta = fused_norm_backward(dy, cache, need_dx=True)
    assert dgamma[0] == 0
    np.testing.assert_allclose(dbeta, dy.sum(axis=(0, 2, 3), dtype=np.float64), rtol=0, atol=2000 * eps)
    # dx = gamma / sqrt(eps) (dy - mean of dy), whose sum times the constant is dw: 0 but for rounding
    assert np.isfinite(dx).all()
    assert abs(dw[0, 0, 0, 0]) <= 1100 * eps * np.abs(dx[:, 0]).sum() * abs(float(x[0, 0, 0, 0]))


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e19), (np.float32, 1e37), (float, 1e150)])
def test_numbers_whose_squares_overflow(dtype: Any, size: float, pool: bool) -> None:
    x = np.array([-size, size] * 8, dtype).reshape(2, 1, 2, 4)
    case = one_pixel_filters(x, [1, -1], pool, relu=False)
    norm = normed(case, np.random.default_rng(0), gamma=[2, 2], beta=[0.5, 0.5], mean=[0, 0], var=[1, 1])
    found = fused_norm(*case[:3], norm, case.g, relu=False, pool=pool)
    (y, mean, var), backward = case.alone(norm)
    close = 4 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(found[0], y, rtol=close)
    np.testing.assert_allclose(found[1], mean, rtol=0, atol=close * size)
    np.testing.assert_allclose(found[2], var, rtol=close)
    dy = np.arange(1.0, 1 + y.size).reshape(y.shape).astype(dtype)
    dx, _, _, dgamma, dbeta = fused_norm_backward(dy, found[-1], need_dx=True)
    exact = backward(dy)
    # Of a window's equal maxima both take the first. 1e-37 is a float32 of few digits.
    np.testing.assert_allclose(dx * dtype(size), exact[0] * dtype(size), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dgamma, exact[3], rtol=1e-6)
    np.testing.assert_allclose(dbeta, exact[4], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("pool", [True, False])
def test_a_nan_or_an_infinity_is_not_hidden(value: float, pool: bool) -> None:
    x = np.ones((2, 1, 4, 4), np.float32)
    x[0, 0, 1, 2] = value
    case = one_pixel_filters(x, [1, 0.5], pool)
    norm = normed(case, np.random.default_rng(0))
    y, mean, var, _ = fused_norm(*case[:3], norm, case.g, relu=True, pool=pool)
    assert not np.isfinite(y).any()
    assert not np.isfinite(mean).any()
    assert np.isnan(var).all()
    y, _ = fused(*case[:4], relu=True, pool=pool)
    (expected,), _ = case.alone()
    np.testing.assert_array_equal(y, expected)
