"""What hypothesis draws for the tests of properties: arrays in any memory order, windows that fit, trees, networks."""

import string
from typing import Any

import numpy as np
from hypothesis import Phase, settings
from hypothesis import strategies as st
from profiles import MORE

import fcnn
from fcnn import Layer, freeze

FLOATS = st.sampled_from([np.float32, np.float64])


def examples(number: int, shrink: bool = True) -> settings:
    """The settings of a property: so many examples, and `MORE` times as many in the long profile.

    One that fails is made simpler if `shrink`, which takes minutes for whole networks.
    """
    phases = [
        phase for phase in Phase if phase in (Phase.explicit, Phase.generate) or (shrink and phase == Phase.shrink)
    ]
    return settings(max_examples=number * MORE, phases=phases)


# Arrays.


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...], dtype: Any = np.float64, whole: bool = False) -> np.ndarray:
    """Numbers from -4 to 4 if `whole`, whose sums and products have no rounding, else normal ones; in any order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.integers(-4, 5, shape) if whole else rng.standard_normal(shape)
    return draw(in_any_order(values.astype(dtype)))


@st.composite
def in_any_order(draw: st.DrawFn, values: np.ndarray) -> np.ndarray:
    """The same array with its axes in any order in memory, forwards or backwards, with or without gaps."""
    axes = range(values.ndim)
    order = draw(st.permutations(axes))
    steps = [draw(st.sampled_from([1, 1, -1, 2])) for _ in axes]
    room = np.empty([values.shape[axis] * abs(steps[axis]) for axis in order], values.dtype)
    there = room.transpose(np.argsort(order))[(*(slice(None, None, step) for step in steps), ...)]
    there[...] = values
    there.flags.writeable = draw(st.booleans())
    return there


# Windows.

small = st.integers(1, 3)
pairs = st.tuples(small, small)


@st.composite
def windows(draw: st.DrawFn, shape: tuple[int, ...], pool: bool = False) -> dict[str, Any]:
    """A kernel of at most 4x4, its stride and its padding (an int, a pair or "same") that fit images (N, C, H, W).

    A pool's padding is less than its window, so that every window holds a pixel.
    """
    sizes = st.tuples(*(st.integers(1, min(4, size + 2)) for size in shape[2:]))
    kernel, stride = draw(sizes), draw(pairs)
    least = [max(0, -(-(k - n) // 2)) for k, n in zip(kernel, shape[2:], strict=True)]
    most = [max(low, k - 1 if pool else 2) for low, k in zip(least, kernel, strict=True)]
    either = [st.just("same"), st.tuples(*(st.integers(low, high) for low, high in zip(least, most, strict=True)))]
    if max(least) <= min(most):
        either.append(st.integers(max(least), min(most)))
    return {"kernel": kernel, "stride": stride, "padding": draw(st.one_of(either))}


@st.composite
def grouped(draw: st.DrawFn, shape: tuple[int, ...]) -> dict[str, Any]:
    """A window that fits images (N, C, H, W), with dilation, groups, and padding on each side; and how many filters."""
    groups = draw(st.sampled_from([g for g in range(1, shape[1] + 1) if shape[1] % g == 0]))
    dilation, stride = draw(pairs), draw(pairs)
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    pads = []
    for size, k, apart in zip(shape[2:], kernel, dilation, strict=True):
        before = draw(st.integers(0, 3))
        pads.append((before, max(draw(st.integers(0, 3)), (k - 1) * apart + 1 - size - before)))
    padding = draw(st.sampled_from([tuple(pads), "same"]))
    filters = groups * draw(st.sampled_from([1, 2, 3, 5]))
    return {
        "kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
        "filters": filters,
    }  # fmt: skip


# Trees.

NAMES = st.one_of(
    st.sampled_from(["a", "b", "w", "conv1", "fc_2"]),
    st.text(string.ascii_lowercase + string.digits + "_", max_size=5).map(lambda text: f"k{text}"),
)
DTYPES = [f"{order}{kind}" for order in "<>" for kind in ("f2", "f4", "f8", "c8", "c16", "i2", "i4", "i8", "u4", "u8")]
SHAPES = st.lists(st.integers(0, 3), max_size=4).map(tuple)


@st.composite
def leaves(draw: st.DrawFn, dtypes: Any = None) -> np.ndarray:
    """Arrays of any dtype, shape (0-d and empty too), order, and bits: NaNs of every kind, -0.0 and denormals."""
    dtype, shape = (
        np.dtype(draw(st.sampled_from([*DTYPES, "i1", "u1", "?"]) if dtypes is None else dtypes)),
        draw(SHAPES),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = int(np.prod(shape))
    if dtype.kind == "b":
        values = rng.integers(0, 2, count).astype(bool)
    else:
        values = np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).copy()
        if dtype.kind in "fc" and count:
            values[0] = draw(st.sampled_from([0.0, -0.0, np.nan, np.inf, -np.inf, float(values[0].real)]))
    return draw(in_any_order(values.reshape(shape)))


def trees(leaf: Any = None, min_size: int = 0) -> Any:
    """Trees of such leaves, of any depth, with empty subtrees too."""
    inner = st.recursive(
        leaves() if leaf is None else leaf, lambda one: st.dictionaries(NAMES, one, max_size=3), max_leaves=8
    )
    return st.dictionaries(NAMES, inner, min_size=min_size, max_size=4).map(freeze)


# Networks.


def _out(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    return layer.init(fcnn.key(0), shape).out_shape


class Grower:
    """Draws layers that fit onto a shape.

    `sure` leaves out what draws random numbers or averages over the batch, `linear` all that isn't linear in x.
    """

    def __init__(self, draw: st.DrawFn, sure: bool, linear: bool) -> None:
        self.draw = draw
        self.sure = sure
        self.linear = linear

    def one_of(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))()

    def pool(self) -> Any:
        return fcnn.avg_pool2d if self.linear else self.draw(st.sampled_from([fcnn.max_pool2d, fcnn.avg_pool2d]))

    def pooling(self, kernel: tuple[int, int], window: dict[str, Any]) -> Layer:
        """A pool, with any treatment of its edges where PyTorch has one: for padding of half a window at most."""
        pool, plain = self.pool(), window["padding"]
        if plain == "same" or any(2 * p > k for p, k in zip(np.broadcast_to(plain, 2), kernel, strict=True)):
            return pool(kernel, **window)
        means = {"count_include_pad": self.draw(st.booleans())} if pool is fcnn.avg_pool2d else {}
        return pool(kernel, **window, ceil_mode=self.draw(st.booleans()), **means)

    def upsample(self) -> Layer:
        mode = self.draw(st.sampled_from(["nearest", "bilinear"]))
        corners = mode == "bilinear" and self.draw(st.booleans())
        return fcnn.upsample(self.draw(st.sampled_from([(1, 2), (2, 1), (3, 1)])), mode=mode, align_corners=corners)

    def elementwise(self, shape: tuple[int, ...]) -> Layer:
        """A layer that keeps the shape and has no window."""
        draw = self.draw
        if self.linear:
            return self.one_of(fcnn.identity, lambda: fcnn.normalize(0.0, 2.0), lambda: fcnn.dropout(0.5))
        options = [
            fcnn.relu, fcnn.sigmoid, fcnn.tanh, fcnn.gelu, fcnn.softmax, fcnn.identity,
            fcnn.silu, fcnn.softplus, fcnn.relu6, fcnn.hardsigmoid, fcnn.hardswish, fcnn.log_softmax,
            lambda: fcnn.gelu("tanh"),
            lambda: fcnn.elu(draw(st.sampled_from([0.3, 1.0, 2.0]))),
            lambda: fcnn.prelu(shared=draw(st.booleans()), slope=draw(st.sampled_from([-0.5, 0.25]))),
            lambda: fcnn.layer_norm(over=draw(st.sampled_from(["all", "channels"])), eps=0.1),
            lambda: fcnn.group_norm(draw(st.sampled_from([1, shape[0]])), eps=0.1),
            lambda: fcnn.clip(draw(st.sampled_from([None, -0.5])), draw(st.sampled_from([0.5, None]))),
            lambda: fcnn.leaky_relu(draw(st.sampled_from([0.01, 0.2, 1.0]))),
            lambda: fcnn.normalize(draw(st.sampled_from([0.5, (0.1,) * shape[0]])), 0.5),
        ]  # fmt: skip
        if not self.sure:
            options += [
                lambda: fcnn.batch_norm(decay=draw(st.sampled_from([0.0, 0.5, 0.9])), eps=0.1),
                lambda: fcnn.dropout(draw(st.sampled_from([0.0, 0.3, 0.5]))),
            ]
        return self.one_of(*options)

    def into(self, shape: tuple[int, ...], channels: int) -> Layer:
        """A layer from the shape to one of so many channels or features, with the same image size."""
        weights = self.draw(st.sampled_from([fcnn.he(), fcnn.xavier("uniform"), fcnn.lecun(), fcnn.kaiming_uniform()]))
        bias = not self.linear and self.draw(st.booleans())
        if len(shape) == 1:
            return fcnn.dense(channels, bias=bias, weights=weights, biases=fcnn.constant(0.1))
        groups = self.draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == shape[0] % g == 0]))
        if len(shape) == 2:
            kernel, apart = self.draw(pairs)
            return fcnn.conv1d(
                channels, kernel, padding="same", dilation=apart, groups=groups, bias=bias, weights=weights
            )
        kernel = self.draw(pairs)
        return fcnn.conv2d(
            channels, kernel, padding="same", dilation=self.draw(small), groups=groups, bias=bias, weights=weights
        )

    def convolution(self, kernel: tuple[int, int], window: dict[str, Any]) -> Layer:
        """A convolution with that window, or a transposed one."""
        filters, bias = self.draw(small), not self.linear
        return self.one_of(
            lambda: fcnn.conv2d(filters, kernel, **window, bias=bias),
            lambda: fcnn.conv_transpose2d(filters, kernel, stride=self.draw(small), bias=bias),
        )

    def view(self, shape: tuple[int, ...]) -> Layer:
        """A layer without values that keeps the shape, and is linear."""
        if len(shape) < 3:
            return fcnn.identity()
        by = [self.draw(st.integers(1 - size, size - 1)) for size in shape[1:]]
        mode = self.draw(st.sampled_from(["reflect", "zero"]))
        return self.one_of(fcnn.identity, fcnn.mirror, lambda: fcnn.shift(*by, mode=mode))

    def keeping(self, shape: tuple[int, ...], depth: int) -> Layer:
        """A network that keeps the shape."""
        options = [lambda: self.elementwise(shape), lambda: self.into(shape, shape[0]), lambda: self.view(shape)]
        if len(shape) == 3:
            options.append(lambda: self.pool()(self.draw(pairs), stride=1, padding="same"))
        if depth:
            options.append(lambda: fcnn.residual(self.keeping(shape, depth - 1)))
            options.append(lambda: fcnn.serial(*(self.keeping(shape, depth - 1) for _ in range(self.draw(small)))))
        return self.one_of(*options)

    def changing(self, shape: tuple[int, ...]) -> Layer:
        """A layer that may change the shape."""
        if len(shape) == 1:
            return self.one_of(
                lambda: self.into(shape, self.draw(st.integers(1, 5))),
                fcnn.flatten,
                lambda: fcnn.reshape(self.draw(st.permutations([1, 1, -1]))),
            )
        if len(shape) == 2:
            return self.of_sequences(shape)
        window = self.draw(windows((1, *shape), pool=True))
        kernel = window.pop("kernel")
        return self.one_of(
            lambda: self.convolution(kernel, window),
            lambda: self.convolution(kernel, window),  # of two kinds, so twice as often as the others
            lambda: self.pooling(kernel, window),
            lambda: fcnn.adaptive_avg_pool2d(self.draw(pairs)),
            self.upsample,
            fcnn.global_avg_pool2d,
            fcnn.flatten,
            lambda: fcnn.reshape(self.draw(st.permutations([*shape[1:], -1]))),
            lambda: fcnn.reshape((shape[0], -1)),
        )

    def of_sequences(self, shape: tuple[int, ...]) -> Layer:
        """A layer from sequences that may change the shape."""
        window = self.draw(st.integers(1, min(3, shape[1])))
        ends = self.draw(st.tuples(st.integers(0, window - 1), st.integers(0, window - 1)))
        options = {"stride": self.draw(small), "padding": self.draw(st.sampled_from([ends, ends[0], "same"]))}
        return self.one_of(
            lambda: fcnn.conv1d(self.draw(small), window, **options, bias=not self.linear),
            lambda: fcnn.avg_pool1d(window, **options),
            lambda: (fcnn.avg_pool1d if self.linear else fcnn.max_pool1d)(window, **options),
            fcnn.global_avg_pool1d,
            fcnn.flatten,
            lambda: fcnn.reshape((*shape, 1)),
        )

    def network(self, shape: tuple[int, ...], depth: int) -> Layer:
        """Anything that fits onto the shape, combinators within combinators `depth` deep."""
        if not depth:
            return self.one_of(lambda: self.changing(shape), lambda: self.elementwise(shape))

        def serial() -> Layer:
            made, here = [], shape
            for _ in range(self.draw(st.integers(1, 4))):
                made.append(self.network(here, depth - 1))
                here = _out(made[-1], here)
            return fcnn.serial(*made)

        def residual() -> Layer:
            channels = self.draw(small)
            return fcnn.residual(
                fcnn.serial(self.into(shape, channels), self.keeping((channels, *shape[1:]), depth - 1)),
                self.into(shape, channels),
            )

        def total() -> Layer:
            return fcnn.branch(*(self.keeping(shape, depth - 1) for _ in range(self.draw(small))), merge="sum")

        def beside() -> Layer:
            parts = [
                fcnn.serial(self.keeping(shape, depth - 1), into=self.into(shape, self.draw(small)))
                for _ in range(self.draw(small))
            ]
            return fcnn.branch(*parts, merge="concat", whole=self.keeping(shape, depth - 1))

        def product() -> Layer:
            return fcnn.branch(*(self.keeping(shape, depth - 1) for _ in range(self.draw(small))), merge="multiply")

        def gated() -> Layer:
            squeezed = fcnn.adaptive_avg_pool2d((self.draw(st.sampled_from([1, shape[1]])), 1))
            gate = fcnn.serial(squeezed, self.into((shape[0], 1, 1), self.draw(st.sampled_from([1, shape[0]]))))
            return fcnn.branch(merge="multiply", x=self.keeping(shape, depth - 1), gate=gate)

        def viewed() -> Layer:
            views = [self.view(shape) for _ in range(self.draw(small))]
            weights = self.draw(st.sampled_from([None, [1.0, 2.5, 0.5][: len(views)]]))
            return fcnn.averaged_views(self.network(shape, depth - 1), *views, weights=weights)

        several = [serial, residual, total, beside, viewed]
        if not self.linear:
            several += [product, gated] if len(shape) == 3 else [product]
        return self.one_of(*several)


KINDS_OF_SHAPES = (
    st.tuples(small, st.integers(1, 5), st.integers(1, 5)),
    st.tuples(small, st.just(4), st.just(4)),
    st.tuples(small, st.integers(1, 6)),
    st.tuples(small),
)
IN_SHAPES = st.one_of(KINDS_OF_SHAPES)


@st.composite
def networks(
    draw: st.DrawFn, sure: bool = False, linear: bool = False, shapes: Any = IN_SHAPES
) -> tuple[Layer, tuple[int, ...]]:
    """A network of networks with its input's shape; `sure` and `linear` as in `Grower`."""
    shape = draw(shapes)
    grower = Grower(draw, sure, linear)
    parts = {"a": grower.network(shape, draw(st.integers(1, 3)))}
    parts["b"] = grower.network(_out(parts["a"], shape), draw(st.integers(0, 2)))
    return fcnn.serial(**parts), shape


def normal(seed: int, shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)
