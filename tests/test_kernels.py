"""Every kernel against `loops`, the definitions, and against the laws that follow from them.

Most inputs are small whole numbers: their sums and products are exact in either dtype, and halves and quarters of
them too, which is all that Winograd's form makes of them. So results are *equal*, whatever the order of the sums.
"""

import itertools
import math
from typing import Any, get_args

import attrs
import loops
import numpy as np
import pytest
from by_parts import TABLE, by, direct, geometry
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import FLOATS, arrays, examples, grouped, in_any_order, small, windows

import fcnn
from fcnn import ops
from fcnn.ops import dilated, lowered, winograd
from fcnn.ops import grouped as in_groups
from fcnn.ops.conv import kernel_for
from fcnn.ops.layout import block
from fcnn.ops.parts import Part, parts_of
from fcnn.ops.processor import Product, Tuning, columns_a_product, tile, trying
from fcnn.ops.window import Geometry, Pads
from fcnn.values.allocation import scratch_space

Array = np.ndarray
pytestmark = pytest.mark.usefixtures("one_thread")
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


GROUPS = st.tuples(st.integers(0, 3), st.sampled_from([1, 2, 3, 4, 6]), st.integers(1, 6), st.integers(1, 6))


@given(st.data(), GROUPS, FLOATS)
@examples(150)
def test_conv2d_of_groups_and_dilation_and_its_gradients_are_the_loops(data: Any, shape: Any, dtype: Any) -> None:
    draw = data.draw
    options = draw(grouped(shape))
    kernel, filters = options.pop("kernel"), options.pop("filters")
    x, b = draw(arrays(shape, dtype, True)), draw(arrays((filters,), dtype, True))
    w = draw(arrays((filters, shape[1] // options["groups"], *kernel), dtype, True))
    y, cache = ops.conv2d(x, w, b, **options)
    same(y, loops.conv2d(x, w, b, **options), dtype)
    dy = draw(arrays(y.shape, dtype, True))
    for found, expected in zip(ops.conv2d_backward(dy, cache), loops.conv2d_backward(dy, x, w, **options), strict=True):
        same(found, expected, dtype)


@given(st.data(), GROUPS, FLOATS)
@examples(100)
def test_conv_transpose2d_is_the_loops_and_adjoint_to_conv2d(data: Any, shape: Any, dtype: Any) -> None:
    draw = data.draw
    options = draw(grouped(shape))
    kernel, filters, groups = options.pop("kernel"), options.pop("filters"), options["groups"]
    more = tuple(
        draw(st.integers(0, max(pair) - 1)) for pair in zip(options["stride"], options["dilation"], strict=True)
    )
    x, b = draw(arrays(shape, dtype, True)), draw(arrays((filters,), dtype, True))
    w = draw(arrays((shape[1], filters // groups, *kernel), dtype, True))
    size = zip(shape[2:], options["stride"], loops.extent(kernel, options["dilation"]), more, strict=True)
    whole = [(length - 1) * step + window + extra for length, step, window, extra in size]
    pads = tuple(draw(st.tuples(*[st.integers(0, (length - 1) // 2)] * 2)) for length in whole)
    options["padding"] = pads
    y, cache = ops.conv_transpose2d(x, w, b, output_padding=more, **options)
    expected = loops.conv_transpose2d(x, w, b, options["stride"], pads, more, options["dilation"], groups)
    same(y, expected, dtype)
    dy = draw(arrays(y.shape, dtype, True))
    dx, dw, db = ops.conv_transpose2d_backward(dy, cache)
    without_b = inner_product(y - b[:, None, None], dy)
    assert inner_product(x, dx) == inner_product(w, dw) == without_b
    assert inner_product(b, db) == inner_product(y, dy) - without_b
    back = loops.conv2d(dy, w, np.zeros(len(w)), **options)[:, :, : shape[2], : shape[3]]
    same(dx, back, dtype)
    same(dw, loops.conv2d_backward(np.pad(x, fit(x, dy, w, options)), dy, w, **options)[1], dtype)


def fit(x: Array, dy: Array, w: Array, options: Any) -> Any:
    """How many zeros x lacks below and on the right to be what `conv2d` makes of dy."""
    whole = loops.conv2d(dy[:1], w, np.zeros(len(w)), **options).shape[2:]
    return ((0, 0), (0, 0), *((0, most - size) for most, size in zip(whole, x.shape[2:], strict=True)))


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


# All kernels of convolution.

PADS = st.tuples(st.tuples(st.integers(0, 4), st.integers(0, 4)), st.tuples(st.integers(0, 4), st.integers(0, 4)))
KERNELS = {"lowered": lowered, "winograd": winograd, "grouped": in_groups, "dilated": dilated}
# Rows of the tuning table as no processor has them: every branch of the kernels is taken by images of a few pixels.
ROWS = st.builds(
    Tuning,
    product=st.sampled_from([0, 1, 500, 3000, 20_000, 800_000]),
    part=st.sampled_from([1, 200, 1 << 17]),
    tiles=st.sampled_from([1, 100, 1 << 15]),
    winograd=st.just(1),
    winograd_weights=st.just(1),
    forward_rows=st.sampled_from([1, 4, 12]),
    weight_rows=st.sampled_from([1, 6, 16]),
)


@st.composite
def cuts(draw: st.DrawFn, length: int, by: int) -> list[range]:
    """A length in parts that begin at multiples of `by`."""
    inner = draw(st.sets(st.integers(1, max(1, (length - 1) // by)).map(lambda at: at * by), max_size=3))
    ends = [0, *sorted(at for at in inner if at < length), length]
    return [range(*pair) for pair in itertools.pairwise(ends)]


@given(st.data(), IMAGES, FILTERS)
@examples(60)
def test_what_wide_layers_are_compared_with_is_the_loops(data: Any, shape: Any, filters: int) -> None:
    window = data.draw(windows(shape))
    kernel, options = window["kernel"], {name: window[name] for name in ("stride", "padding")}
    x, w = data.draw(arrays(shape, whole=True)), data.draw(arrays((filters, shape[1], *kernel), whole=True))
    y = loops.conv2d(x, w, np.zeros(filters), **options)
    dy = data.draw(arrays(y.shape, whole=True))
    g = geometry(x, w, window["stride"], loops.pads_of(shape[2:], kernel, **options))
    for found, expected in zip(direct(x, w, dy, g), (y, *loops.conv2d_backward(dy, x, w, **options)), strict=False):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kernel", KERNELS)
@given(
    data=st.data(),
    shape=st.tuples(st.sampled_from([1, 3, 33, 64, 70]), small, st.integers(1, 11), st.integers(1, 9)),
    row=ROWS,
    filters=FILTERS,
    pads=PADS,
    split=st.booleans(),
    dtype=FLOATS,
)
@examples(100)
def test_a_kernel_is_the_definition_on_any_parts_with_any_tuning(
    kernel: str, data: Any, shape: Any, row: Tuning, filters: int, pads: Pads, split: bool, dtype: Any
) -> None:
    """Any batch and padding, and what else each takes; parts as `parts_of` may cut them, and others."""
    draw = data.draw
    window, stride, dilation, groups = (3, 3), (1, 1), (1, 1), 1
    if kernel != "winograd":
        window = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    if kernel in ("lowered", "grouped"):
        stride = draw(st.tuples(small, small))
    if kernel == "dilated":
        dilation = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    if kernel == "grouped":
        dilation, groups = draw(st.tuples(small, small)), draw(small)
        shape, filters = (shape[0], shape[1] * groups, *shape[2:]), filters * groups
    extent = loops.extent(window, dilation)
    assume(all(n + sum(pad) >= k for n, pad, k in zip(shape[2:], pads, extent, strict=True)))
    x, w = draw(arrays(shape, dtype, True)), draw(arrays((filters, shape[1] // groups, *window), dtype, True))
    g = geometry(x, w, stride, pads, dilation)
    split = split and g.out[1] % 2 == 0  # which only a pool asks for, and only of whole windows
    dy = draw(arrays((shape[0], filters, *g.out), dtype, True))
    parts = [Part(r, c) for r in draw(cuts(g.out[0], 4)) for c in draw(cuts(g.out[1], 2))]
    lines = draw(cuts(shape[2], 4))
    expected = direct(x, w, dy, g)
    with trying(row):
        found = by(KERNELS[kernel], x, w, dy, g, parts, lines, split)
    for one, exact in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, exact)
        assert one.dtype == dtype


def test_a_product_may_be_of_one_column() -> None:
    """So may `columns_a_product` say, and the groups of columns then are that."""
    x, w = np.ones((64, 2, 6, 9), np.float32), np.ones((3, 2, 2, 2), np.float32)
    g = geometry(x, w)
    with trying(attrs.evolve(TABLE["AVX512"], product=64 * 24, forward_rows=1)):
        weights = lowered.forward_weights(w, g)
        assert columns_a_product(weights.size, 64) == 1
        assert [len(group) for group, _ in lowered._groups(range(8), True, 1)] == [1] * 8
        y = np.empty(g.out_shape, np.float32)
        lowered.correlate(block(x), weights, g, range(5), range(8), False, y)
    assert (y == 8).all()


@given(
    data=st.data(),
    shape=st.tuples(small, small, st.integers(1, 7), st.integers(1, 7)),
    taps=st.integers(1, 4),
    step=small,
    count=st.integers(1, 6),
    split=st.booleans(),
    inside=st.booleans(),
)
@examples(200)
def test_lowering_takes_each_column_and_zeros_beyond_the_image(
    data: Any, shape: Any, taps: int, step: int, count: int, split: bool, inside: bool
) -> None:
    """In all four ways: with the image's border or without, even columns first or in order."""
    draw = data.draw
    count += split and count % 2
    n, channels, height, width = shape
    first, rows = draw(st.integers(-3, 8)), draw(st.integers(1, 9))
    start = draw(st.integers(-4, 8))
    if inside:
        width = max(width, (count - 1) * step + taps)
        first, start = draw(st.integers(0, height - 1)), draw(st.integers(0, width - (count - 1) * step - taps))
        rows = draw(st.integers(1, height - first))
    x = draw(arrays((n, channels, height, width)))
    memory = block(x)
    with scratch_space():
        found = np.array(lowered.lower(memory, first, rows, start, step, taps, count, split))
    outputs = [*range(0, count, 2), *range(1, count, 2)] if split else [*range(count)]
    for h, j, i in np.ndindex(rows, taps, count):
        row, column = first + h, start + j + outputs[i] * step
        there = 0 <= row < height and 0 <= column < width
        np.testing.assert_array_equal(found[h, :, j, i], memory[row, :, column] if there else 0)


def test_strides_of_axes_of_length_1_say_nothing() -> None:
    """An array (N, 1, 1, 1) in C order counts as one in any other: its strides are of no use."""
    x = np.arange(1.0, 5).reshape(4, 1, 1, 1)
    for padding in (0, "same"):
        y, cache = ops.conv2d(x, np.full((2, 1, 1, 1), 3.0), padding=padding)
        np.testing.assert_array_equal(y, np.repeat(3 * x, 2, axis=1))
        dx, dw, _ = ops.conv2d_backward(np.ascontiguousarray(y), cache)
        np.testing.assert_array_equal(dx, 18 * x)
        np.testing.assert_array_equal(dw.ravel(), [3 * 30, 3 * 30])


@pytest.mark.parametrize("product", [("forward_rows", "forward"), ("weight_rows", "weight gradient")])
def test_rows_computed_together_divide_the_height_and_part_and_are_enough(product: tuple[str, str]) -> None:
    name, which = product
    for row, filters, height in itertools.product(TABLE.values(), (1, 3, 6, 16, 64), range(1, 13)):
        with trying(row):
            high = tile(which, filters, height)
        enough = [t for t in (1, 2, 4) if height % t == 0 and t * filters >= getattr(row, name)]
        assert high == (min(enough) if enough else 1)


@given(
    st.tuples(st.integers(1, 40), st.sampled_from([1, 6, 64, 130]), st.integers(1, 70)),
    ROWS,
    st.sampled_from([1, 7, 32, 128, 600]),
    st.booleans(),
)
@examples(200)
def test_parts_cover_an_output_once_and_begin_where_kernels_can(
    shape: Any, row: Tuning, n: int, whole_rows: bool
) -> None:
    with trying(row):
        parts = parts_of((*shape, n), whole_rows)
    count = np.zeros((shape[0], shape[2]), int)
    for part in parts:
        count[part.rows.start : part.rows.stop, part.columns.start : part.columns.stop] += 1
        assert part.rows.start % 4 == part.columns.start % 2 == 0
        assert len(part.rows) > 0 < len(part.columns)
        if whole_rows:
            assert part.columns == range(shape[2])
    assert (count == 1).all()


def test_a_large_output_is_cut_for_two_cores_at_least() -> None:
    for row, n in itertools.product(TABLE.values(), (1, 32, 128, 1000)):
        with trying(row):
            for height, filters in ((8, 64), (28, 6), (32, 128)):
                if height * height * filters * n > row.part // 2:
                    assert len(parts_of((height, filters, height, n))) > 1


WIDE = [
    # channels, filters, OH, OW, N, padding
    (1, 6, 28, 28, 40, 2), (6, 16, 10, 10, 70, 0), (3, 32, 16, 16, 33, 1), (64, 70, 8, 8, 64, 1),
    (128, 130, 2, 2, 64, 0), (64, 68, 2, 7, 64, 1), (96, 100, 5, 4, 64, 0), (130, 64, 6, 9, 40, 1),
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", WIDE, ids=str)
def test_layers_as_networks_have_them_are_the_definition_with_every_row_of_the_table(
    case: Any, dtype: Any, row: str
) -> None:
    """`conv2d` takes Winograd's kernel for some of their products, and says nothing of it."""
    channels, filters, oh, ow, n, padding = case
    size = 5 if channels <= 6 and filters <= 16 else 3
    rng = np.random.default_rng(1)
    shapes = (n, channels, oh + size - 1 - 2 * padding, ow + size - 1 - 2 * padding), (filters, channels, size, size)
    x, w = (rng.integers(-4, 5, shape).astype(dtype) for shape in shapes)
    b, dy = (rng.integers(-4, 5, shape).astype(dtype) for shape in ((filters,), (n, filters, oh, ow)))
    g = geometry(x, w, pads=((padding, padding),) * 2)
    with trying(TABLE[row]):
        y, cache = ops.conv2d(x, w, b, padding=padding)
        dx, dw, db = ops.conv2d_backward(dy, cache)
    expected = direct(x, w, dy, g)
    for found, exact in zip(
        (y, dx, dw, db), (expected[0] + b[:, None, None], *expected[1:], dy.sum((0, 2, 3))), strict=True
    ):
        same(found, exact, dtype)


def test_what_layers_as_networks_have_them_take_is_both_kernels() -> None:
    for row, product in itertools.product(TABLE.values(), get_args(Product)):
        taken = set()
        for channels, filters, oh, ow, n, _ in WIDE:
            with trying(row):
                g = Geometry((oh + 2, channels, ow + 2, n), filters, (3, 3), (1, 1), ((0, 0), (0, 0)), (oh, ow))
                taken.add(kernel_for(g, product))
        assert taken == {lowered, winograd}


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
    fcnn.sigmoid, fcnn.tanh, fcnn.gelu, lambda: fcnn.gelu("tanh"), fcnn.silu, fcnn.softplus, fcnn.softmax,
    fcnn.log_softmax, fcnn.flatten, lambda: fcnn.dense(3, biases=fcnn.constant(0.5)),
    lambda: fcnn.batch_norm(eps=0.1), lambda: fcnn.layer_norm(eps=0.1), lambda: fcnn.group_norm(1, eps=0.1),
    lambda: fcnn.layer_norm(over="channels", eps=0.1), lambda: fcnn.dropout(0.4), lambda: fcnn.normalize(0.3, 0.5),
    fcnn.identity,
]  # fmt: skip


@given(st.sampled_from(SMOOTH), FEATURES, st.booleans(), st.integers(0, 10**6))
@examples(100)
def test_secants_agree_with_gradients(make: Any, shape: Any, train: bool, seed: int) -> None:
    layer, batch = make(), max(shape[0], 2)
    assert fcnn.gradcheck(layer, shape[1:], train=train, batch=batch, key=fcnn.key(seed)).ok
