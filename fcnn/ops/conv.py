"""2-D convolution (cross-correlation): the layer's mathematics, and which kernel does it.

A kernel is a module with the functions of `Kernel`, on parts of blocks (`fcnn.ops.layout`, `fcnn.ops.parts`):
`fcnn.ops.lowered` takes every shape, `fcnn.ops.winograd` is faster for wide 3x3 layers, `fcnn.ops.dilated` is for
dilation alone, and `fcnn.ops.grouped` for groups and any dilation.
"""

from collections.abc import Callable
from typing import Any, Protocol

import attrs
import numpy as np

from fcnn.ops import dilated, grouped, lowered, winograd
from fcnn.ops.layout import block, unblock
from fcnn.ops.parts import each_part, lines, parts_of, total, work
from fcnn.ops.passes import Hits, InPlace, by_channel, pool_part
from fcnn.ops.processor import Product
from fcnn.ops.window import Geometry, Padding, pad_block
from fcnn.values.allocation import empty, scratch
from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import Pair, boolean, cached, floats, integer, output_gradient


@attrs.frozen
class ConvCache:
    """What `conv2d_backward` needs: the input block (H, C, W, N), the weights, and where the windows lie."""

    block: Array
    w: Array
    has_bias: bool
    geometry: Geometry


def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> tuple[Array, ConvCache]:
    """Cross-correlate images with filters.

        y[n, f, i, j] = b[f] + sum over c, k, l of
                        w[f, c, k, l] * x_padded[n, c, i * stride + k * dilation, j * stride + l * dilation]

    With groups, the first F / groups filters see the first C / groups channels, and so on; with as many groups as
    channels, each filter sees one ("depthwise").

    Args:
        x: images, (N, C, H, W).
        w: filters, (F, C / groups, KH, KW).
        b: biases, (F,), or None.
        stride: step of the window in pixels, an int or (vertical, horizontal).
        padding: zeros on each side in pixels, an int, (vertical, horizontal), ((top, bottom), (left, right)), or "same"
            for ceil(H / stride) rows.
        dilation: how far apart in the image a filter's numbers stand, in pixels, an int or (vertical, horizontal).
        groups: a divisor of C and F.

    Returns:
        y, (N, F, OH, OW) with OH = (H + padding - (KH - 1) * dilation - 1) // stride + 1; and the cache for
        `conv2d_backward`.

    Raises:
        ValueError: the shapes don't go together, or the filter doesn't fit into the padded image.

    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> delta = np.zeros((1, 1, 3, 3)); delta[0, 0, 1, 1] = 1       # a delta kernel crops
    >>> conv2d(x, delta)[0]
    array([[[[ 5.,  6.], [ 9., 10.]]]])
    """
    x, w = floats("conv2d's x", x), floats("conv2d's w", w)
    if integer("groups", groups, least=1) > 1 and x.ndim == w.ndim == 4:
        expect_divided("conv2d", groups, x.shape[1], w.shape[0])
    if x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1] * groups:
        advice = how_to_make_images(x.shape, w.shape[1] * groups) if w.ndim == 4 else ""
        filters = "(F, C, KH, KW) with the same C" if groups == 1 else f"(F, C / groups, KH, KW) for {groups} groups"
        raise ValueError(f"conv2d expects x (N, C, H, W) and w {filters}, got {x.shape} and {w.shape}{advice}")
    if 0 in w.shape:
        raise ValueError(f"conv2d expects w (F, C, KH, KW) with no length of 0, got {w.shape}")
    if b is not None and (b := floats("conv2d's b", b)).shape != w.shape[:1]:
        raise ValueError(f"conv2d expects b ({len(w)},), one number for each filter of w, got {b.shape}")
    g, memory = Geometry.of(x.shape, w.shape, stride, padding, dilation, groups), keep(block(x))
    inner = with_border(g)
    weights = kernel_for(inner, "forward").forward_weights(w, inner)
    y, _ = forward(pad_for(g, memory), weights, b, g, inner, after=None, pool=False, keeps=False)
    return frozen(unblock(y)), ConvCache(memory, keep(w), b is not None, g)


def conv2d_backward(
    dy: Array, cache: ConvCache, *, need_dx: bool = True, need_dw: bool = True, need_db: bool | None = None
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of `conv2d` for any dy, (N, F, OH, OW).

    Returns:
        dx (N, C, H, W), None unless `need_dx`; dw (F, C / groups, KH, KW), None unless `need_dw`; db (F,), None without
        a bias, and unless `need_db`, which is as `need_dw` when None.
    """
    w, g = cached("conv2d", cache, ConvCache).w, cache.geometry
    oh, filters, ow, n = g.out_shape
    out = block(output_gradient("conv2d_backward", dy, (n, filters, oh, ow)))
    boolean("need_dx", need_dx)
    boolean("need_dw", need_dw)
    need_db = need_dw if need_db is None else boolean("need_db", need_db)
    dx = dw = db = None
    if need_db and cache.has_bias:
        db = frozen(bias_gradient(out))
    if need_dw:
        dw = frozen(weight_gradient(g, cache.block, out, w))
    if need_dx:
        dx = frozen(unblock(input_gradient(g, out, w)))
    return dx, dw, db


def forward(
    x: Array,
    weights: Any,
    b: Array | None,
    g: Geometry,
    inner: Geometry,
    *,
    after: InPlace | None,
    pool: bool,
    keeps: bool,
) -> tuple[Array, list[Hits]]:
    """The output block, after a 2x2 max pool if asked for; and if `keeps`, where the maxima were.

    `after` is done to each part (R, F, M) in place; with a pool it is ReLU (`fcnn.ops.passes.rectify`). x is a block of
    geometry `inner`, as `with_border` gives it, and the weights are its kernel's.
    """
    oh, filters, ow, n = g.out_shape
    kernel, parts = kernel_for(inner, "forward"), parts_of(g.out_shape)
    dtype = np.result_type(x, weights)
    y = empty((oh // 2, filters, ow // 2, n) if pool else g.out_shape, dtype)
    if not y.size:
        return y, []

    def one(number: int) -> Hits | None:
        part, hits = parts[number], None
        target = part.of(y, pool)
        z = scratch((len(part.rows), filters, len(part.columns), n), dtype) if pool else target
        kernel.correlate(x, weights, inner, part.rows, part.columns, pool, z)
        target = lines(target)
        if pool:
            hits = pool_part(lines(z), target, keeps)
        if b is not None:
            by_channel(np.add, target, b, target)
        if after is not None:
            after(target)
        return hits

    found = each_part(len(parts), one, work(g, passes=4))
    return y, [each for each in found if each is not None]


def bias_gradient(dy: Array) -> Array:
    """The gradient of biases (F,), for an output block's, (OH, F, OW, N)."""
    oh, filters, ow, n = dy.shape
    return np.asarray(np.add.reduce(np.add.reduce(dy.reshape(oh, filters, ow * n), axis=2), axis=0))


def weight_gradient(g: Geometry, x: Array, dy: Array, w: Array) -> Array:
    """The gradient of filters (F, C / groups, KH, KW)."""
    if not dy.size:
        return np.zeros(w.shape, np.result_type(x, dy))
    x, g = pad_for(g, x), with_border(g)
    kernel, parts = kernel_for(g, "weight gradient"), parts_of(g.out_shape)

    def one(number: int) -> Array:
        part = parts[number]
        return kernel.weight_gradient(x, part.of(dy), g, part.rows, part.columns, False)

    return kernel.weights_of(total(each_part(len(parts), one, work(g))), g)


def input_gradient(g: Geometry, dy: Array, w: Array) -> Array:
    """The gradient of the input block (H, C, W, N)."""
    dx = empty(g.in_shape, np.result_type(dy, w))
    if not dx.size:
        return dx
    kernel, parts = kernel_for(g, "input gradient"), parts_of(g.in_shape, whole_rows=True)
    weights = kernel.backward_weights(w, g)

    def one(number: int) -> None:
        part = parts[number]
        kernel.input_gradient(dy, weights, g, part.rows, part.of(dx))

    each_part(len(parts), one, work(g))
    return dx


def pad_for(g: Geometry, x: Array) -> Array:
    """The block, with its padding if `with_border` says so."""
    return x if with_border(g) is g else pad_block(x, g.pads)


def with_border(g: Geometry) -> Geometry:
    """The same convolution of a block that has its padding already, as `pad_block` makes it, where channels are few.

    Then that copy takes less time than minding the border in each of KW copies. Where they aren't, g itself.
    """
    if g.in_shape[1] > 4 or g.pads == ((0, 0), (0, 0)):
        return g
    (top, bottom), (left, right), (height, channels, width, n) = *g.pads, g.in_shape
    shape = (height + top + bottom, channels, width + left + right, n)
    return attrs.evolve(g, in_shape=shape, pads=((0, 0), (0, 0)))


def expect_divided(name: str, groups: int, channels: int, filters: int) -> None:
    """Raise ValueError unless channels and filters can be shared out over so many groups."""
    if channels % groups or filters % groups:
        raise ValueError(
            f"{name}'s groups divide its channels and its filters, got {groups} groups of {channels} channels and "
            f"{filters} filters"
        )


def how_to_make_images(shape: tuple[int, ...], channels: int) -> str:
    """Advice that is right for an array of this shape in place of images with so many channels, or none."""
    if len(shape) == 4 and shape[3] == channels:
        return "; where channels come last, x.transpose(0, 3, 1, 2) is such"
    return "; x[None] is a batch of one image" if len(shape) == 3 and shape[0] == channels else ""


class Kernel(Protocol):
    """The functions of a kernel's module, of parts of blocks; `fcnn.ops.lowered` says what each does."""

    forward_weights: Callable[[Array, Geometry], Array]
    correlate: Callable[[Array, Array, Geometry, range, range, bool, Array], None]
    weight_gradient: Callable[[Array, Array, Geometry, range, range, bool], Array]
    weights_of: Callable[[Array, Geometry], Array]
    backward_weights: Callable[[Array, Geometry], Any]
    input_gradient: Callable[[Array, Any, Geometry, range, Array], None]


def kernel_for(g: Geometry, product: Product) -> Kernel:
    """The kernel for one of a convolution's products: all choice between kernels is here."""
    sparse = dilated if dilated.suits(g) else grouped
    return sparse if grouped.suits(g) else winograd if winograd.suits(g, product) else lowered
