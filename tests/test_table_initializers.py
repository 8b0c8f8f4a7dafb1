"""Initialisers: a row each, with the law that its paper gives, and what all of them promise."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from memory import assert_handed_out, bits

import fcnn
from fcnn.network import initializers
from fcnn.network.initializers import Fan, Initializer


@dataclass(frozen=True)
class Row:
    init: Initializer
    variance: Callable[[int, int], float]  # for fan-in i and fan-out o
    uniform: bool = False
    value: float | None = None  # of those that draw nothing
    least_axes: int = 1
    is_drawn: bool = True  # whether each number is, by one law

    def __str__(self) -> str:
        return str(self.init)


ROWS = (
    Row(fcnn.he(), lambda i, o: 2 / i),
    Row(fcnn.he("uniform"), lambda i, o: 2 / i, uniform=True),
    Row(fcnn.xavier(), lambda i, o: 2 / (i + o)),
    Row(fcnn.xavier("uniform"), lambda i, o: 2 / (i + o), uniform=True),
    Row(fcnn.lecun(), lambda i, o: 1 / i),
    Row(fcnn.lecun("uniform"), lambda i, o: 1 / i, uniform=True),
    Row(fcnn.kaiming_uniform(), lambda i, o: 1 / (3 * i), uniform=True),
    Row(fcnn.zeros(), lambda i, o: 0, value=0.0),
    Row(initializers.unallocated(), lambda i, o: 0, value=0.0),
    Row(fcnn.constant(-1.5), lambda i, o: 0, value=-1.5),
    Row(fcnn.dirac(), lambda i, o: math.nan, least_axes=2, is_drawn=False),
    Row(fcnn.dirac(fcnn.constant(0.5)), lambda i, o: math.nan, least_axes=2, is_drawn=False),
)
DRAWN = [row for row in ROWS if row.value is None and row.is_drawn]
every_row = pytest.mark.parametrize("row", ROWS, ids=str)
FANS = [Fan(1, 1), Fan(24, 7), Fan(9, 400)]
every_fan = pytest.mark.parametrize("fan", FANS, ids=str)
SHAPES = [(1,), (7, 24), (4, 3, 5, 2)]


def test_the_table_has_every_initialiser() -> None:
    public = {**vars(initializers), **{name: getattr(fcnn, name) for name in fcnn.__all__}}
    made = {
        name
        for name, value in public.items()
        if getattr(value, "__annotations__", {}).get("return") is Initializer and hasattr(value, "__wrapped__")
    }
    assert {name for name in made if not name.startswith("_")} == {row.init.kind for row in ROWS}


@every_fan
@every_row
def test_shapes_dtype_ownership_and_keys(row: Row, fan: Fan) -> None:
    for shape in (shape for shape in SHAPES if len(shape) >= row.least_axes):
        drawn = row.init(fcnn.key(0), shape, fan)
        assert (drawn.shape, drawn.dtype) == (shape, np.float32)
        assert np.isfinite(drawn).all()
        assert_handed_out(drawn)
        assert bits(row.init(fcnn.key(0), shape, fan)) == bits(drawn)
        if row in DRAWN:
            assert not np.isin(row.init(fcnn.key(1), shape, fan), drawn).any()
        elif row.value is not None:
            assert (drawn == row.value).all()


@every_fan
@pytest.mark.parametrize("row", DRAWN, ids=str)
def test_the_law_of_the_formula(row: Row, fan: Fan) -> None:
    count = 40_000
    drawn = row.init(fcnn.key(2), (200, 200), fan).astype(np.float64)
    variance = row.variance(*fan)
    deviation = math.sqrt(variance)
    # Five standard deviations each. Of a sample's variance, in units of the variance, that is sqrt((k - 1) / n), with
    # the kurtosis k: 3 for the normal distribution, 9 / 5 for the uniform.
    kurtosis = 9 / 5 if row.uniform else 3
    assert abs(drawn.mean()) < 5 * deviation / math.sqrt(count)
    assert abs(np.square(drawn).mean() / variance - 1) < 5 * math.sqrt((kurtosis - 1) / count)
    if row.uniform:
        bound = math.sqrt(3) * deviation
        assert 0.999 * bound < np.abs(drawn).max() <= bound * (1 + 1e-7)  # one rounding to float32
    else:
        beyond = [np.mean(np.abs(drawn) > many * deviation) for many in (1, 2, 3)]
        expected = [math.erfc(many / math.sqrt(2)) for many in (1, 2, 3)]
        for share, p in zip(beyond, expected, strict=True):
            assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / count)


@every_row
def test_an_initialiser_is_made_again_from_what_it_prints_and_from_its_arguments(row: Row) -> None:
    fan = Fan(3, 4)
    drawn = row.init(fcnn.key(0), (4, 3), fan)
    for again in (eval(str(row.init), {**vars(initializers), **vars(fcnn)}), row.init.make(**row.init.config)):
        assert again == row.init
        assert bits(again(fcnn.key(0), (4, 3), fan)) == bits(drawn)


@pytest.mark.parametrize("row", DRAWN, ids=str)
def test_layers_pass_their_fans_on(row: Row) -> None:
    for make, in_shape, fan in (
        (functools.partial(fcnn.conv2d, 32, (3, 5)), (8, 9, 9), Fan(8 * 15, 32 * 15)),
        (functools.partial(fcnn.dense, 64), (100,), Fan(100, 64)),
    ):
        params = make(weights=row.init, biases=row.init).init(fcnn.key(0), in_shape).params
        for name in ("w", "b"):  # each from a key of its own
            own = fcnn.fold_in(fcnn.key(0), name)
            assert bits(params[name]) == bits(row.init(own, params[name].shape, fan))


@pytest.mark.parametrize("shape", [(7, 3, 5, 4), (3, 3, 3, 3), (2, 6, 1, 2), (5, 2), (2, 4, 3)], ids=str)
def test_dirac_hands_on_what_it_can_and_draws_the_rest(shape: tuple[int, ...]) -> None:
    fan = Fan(math.prod(shape[1:]), shape[0])
    drawn, rest = (init(fcnn.key(0), shape, fan) for init in (fcnn.dirac(fcnn.he()), fcnn.he()))
    count = min(shape[:2])
    middle = tuple(length // 2 for length in shape[2:])
    for k in range(count):
        assert drawn[(k, k, *middle)] == 1
    assert np.count_nonzero(drawn[:count]) == count
    assert bits(drawn[count:]) == bits(rest[count:])


def test_a_convolution_that_begins_as_dirac_hands_its_input_on() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 5)).astype(np.float32)
    layer = fcnn.conv2d(8, 3, padding="same", weights=fcnn.dirac())
    params = layer.init(fcnn.key(0), (3, 6, 5)).params
    y = layer.apply(params, fcnn.freeze({}), x, train=False).y
    np.testing.assert_array_equal(y[:, :3], x)
    assert fcnn.build(fcnn.describe(layer)).config == layer.config


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel", [1, 2, (3, 2)], ids=str)
def test_what_is_whitened_has_no_correlation(kernel: int | tuple[int, int], dtype: type) -> None:
    rng = np.random.default_rng(0)
    images = np.cumsum(rng.standard_normal((600, 2, 9, 8)) + 0.3, axis=3).astype(dtype)  # neighbours are alike
    filters = fcnn.whitening_filters(images, kernel, eps=1e-6)
    height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    half = 2 * height * width
    assert (filters.shape, filters.dtype) == ((2 * half, 2, height, width), dtype)
    assert_handed_out(filters)
    np.testing.assert_array_equal(filters[:half], -filters[half:])
    y = fcnn.ops.conv2d(images, filters[:half])[0].transpose(1, 0, 2, 3).reshape(half, -1).astype(np.float64)
    # Variances are v / (v + eps) for eigenvalues v of 0.5 or more; float32 has sums of a thousand numbers up to 30.
    np.testing.assert_allclose(y @ y.T / y.shape[1], np.eye(half), rtol=0, atol=1e-3 if dtype == np.float32 else 1e-5)
    greatest = [row[np.abs(row).argmax()] for row in filters[:half].reshape(half, -1)]
    assert min(greatest) > 0


def test_whitening_filters_begin_with_the_greatest_variance_and_know_their_noise() -> None:
    images = np.random.default_rng(1).standard_normal((50, 2, 4, 4)) * np.array([3.0, 0.01]).reshape(1, 2, 1, 1)
    filters = fcnn.whitening_filters(images, 1, eps=1.0)
    moments = np.square(images).mean(axis=(0, 2, 3))
    assert np.abs(filters[:2, :, 0, 0]).argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(filters[[0, 1], [0, 1], 0, 0], 1 / np.sqrt(moments + 1), rtol=1e-3)  # nearly diagonal
