"""Transposed 2-D convolution: the adjoint of a convolution, whose input's gradient it computes.

Where `conv2d` with filters w takes images y to images x, `conv_transpose2d` with the same w takes x to y; so its
forward pass is `conv2d`'s input gradient, its input's gradient a `conv2d`, and its weights' gradient that of `conv2d`
with x and the output's gradient in each other's place. There is no kernel of its own.
"""

import attrs
import numpy as np

from fcnn.ops.conv import (
    bias_gradient,
    expect_divided,
    forward,
    how_to_make_images,
    input_gradient,
    kernel_for,
    pad_for,
    weight_gradient,
    with_border,
)
from fcnn.ops.layout import block, unblock
from fcnn.ops.window import Geometry, Padding, Pads, extent, pads_of
from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import Pair, boolean, cached, floats, integer, output_gradient, pair, told


@attrs.frozen
class ConvTransposeCache:
    """What `conv_transpose2d_backward` needs: the input block, the weights, and the geometry of the adjoint."""

    block: Array
    w: Array
    has_bias: bool
    geometry: Geometry


def conv_transpose2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Pair | Pads = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> tuple[Array, ConvTransposeCache]:
    """Add a filter to the output for each pixel of the images, as many times as the pixel says.

        y_padded[n, f, i * stride + k * dilation, j * stride + l * dilation] += w[c, f, k, l] * x[n, c, i, j]

    for all c, i, j, k, l, and b[f] once; y is y_padded without `padding` (V. Dumoulin and F. Visin, "A guide to
    convolution arithmetic for deep learning", 2016, arXiv 1603.07285, chapter 4). With groups, the first C / groups
    channels make the first F / groups outputs, and so on.

    Args:
        x: images, (N, C, H, W).
        w: filters, (C, F / groups, KH, KW).
        b: biases, (F,), or None.
        stride: step in the output for each pixel of x, an int or (vertical, horizontal).
        padding: what is left out on each side, in pixels, an int, (vertical, horizontal), or ((top, bottom),
            (left, right)).
        output_padding: rows and columns more below and on the right, less than the stride or the dilation, an int or
            (vertical, horizontal): where a convolution with a stride takes images of several sizes to one, which it is.
        dilation: how far apart in the output a filter's numbers stand, in pixels, an int or (vertical, horizontal).
        groups: a divisor of C and F.

    Returns:
        y, (N, F, OH, OW) with OH = (H - 1) * stride - padding + (KH - 1) * dilation + 1 + output_padding; and the cache
        for `conv_transpose2d_backward`.

    Raises:
        ValueError: the shapes don't go together, or nothing of the output is left.

    >>> x = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> conv_transpose2d(x, np.ones((1, 1, 2, 2)), stride=2)[0]          # each pixel four times
    array([[[[0., 0., 1., 1.], [0., 0., 1., 1.], [2., 2., 3., 3.], [2., 2., 3., 3.]]]])
    """
    x, w = floats("conv_transpose2d's x", x), floats("conv_transpose2d's w", w)
    integer("groups", groups, least=1)
    if x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[0]:
        expected = "conv_transpose2d expects x (N, C, H, W) and w (C, F / groups, KH, KW) with the same C"
        advice = how_to_make_images(x.shape, w.shape[0]) if w.ndim == 4 else ""
        raise ValueError(f"{expected}, got {x.shape} and {w.shape}{advice}")
    if 0 in w.shape:
        raise ValueError(f"conv_transpose2d expects w (C, F / groups, KH, KW) with no length of 0, got {w.shape}")
    filters = w.shape[1] * groups
    expect_divided("conv_transpose2d", groups, x.shape[1], filters)
    if b is not None and (b := floats("conv_transpose2d's b", b)).shape != (filters,):
        raise ValueError(f"conv_transpose2d expects b ({filters},), one number for each output channel, got {b.shape}")
    (n, channels, height, width), kernel = x.shape, (w.shape[2], w.shape[3])
    steps, pads, apart, out = transposed_windows((height, width), kernel, stride, padding, output_padding, dilation)
    g = Geometry((out[0], filters, out[1], n), channels, kernel, steps, pads, (height, width), apart, groups)
    memory = keep(block(x))
    y = input_gradient(g, memory, w)
    if b is not None:
        y = np.add(y, b[:, None, None], dtype=np.result_type(y, b))
    return frozen(unblock(y)), ConvTransposeCache(memory, keep(w), b is not None, g)


def conv_transpose2d_backward(
    dy: Array, cache: ConvTransposeCache, *, need_dx: bool = True, need_dw: bool = True, need_db: bool | None = None
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of `conv_transpose2d` for any dy, (N, F, OH, OW).

    Returns:
        dx (N, C, H, W), None unless `need_dx`; dw (C, F / groups, KH, KW), None unless `need_dw`; db (F,), None without
        a bias, and unless `need_db`, which is as `need_dw` when None.
    """
    w, g = cached("conv_transpose2d", cache, ConvTransposeCache).w, cache.geometry
    oh, filters, ow, n = g.in_shape
    out = block(output_gradient("conv_transpose2d_backward", dy, (n, filters, oh, ow)))
    boolean("need_dx", need_dx)
    boolean("need_dw", need_dw)
    need_db = need_dw if need_db is None else boolean("need_db", need_db)
    dx = dw = db = None
    if need_db and cache.has_bias:
        db = frozen(bias_gradient(out))
    if need_dw:
        dw = frozen(weight_gradient(g, out, cache.block, w))
    if need_dx:
        inner = with_border(g)
        weights = kernel_for(inner, "forward").forward_weights(w, inner)
        found, _ = forward(pad_for(g, out), weights, None, g, inner, after=None, pool=False, keeps=False)
        dx = frozen(unblock(found))
    return dx, dw, db


def transposed_windows(
    in_size: tuple[int, int],
    kernel: tuple[int, int],
    stride: Pair,
    padding: Padding,
    output_padding: Pair,
    dilation: Pair,
) -> tuple[tuple[int, int], Pads, tuple[int, int], tuple[int, int]]:
    """The stride as a pair, what is left out on each side, the dilation as a pair, and (OH, OW).

    Raises ValueError where nothing is left, and for an `output_padding` that is not less than stride or dilation.
    """
    steps, apart = pair("stride", stride, least=1), pair("dilation", dilation, least=1)
    more, window = pair("output_padding", output_padding, least=0), extent(kernel, apart)
    if isinstance(padding, str):
        raise ValueError(
            "conv_transpose2d's padding is an integer, a pair (height, width) or ((top, bottom), (left, right)), got "
            f"{told(padding)}"
        )
    if any(extra >= max(step, far) for extra, step, far in zip(more, steps, apart, strict=True)):
        raise ValueError(
            f"output_padding is less than the stride {steps} or the dilation {apart}, got {told(output_padding)}"
        )
    pads = pads_of(in_size, window, steps, padding)
    oh, ow = (
        (size - 1) * step + length - sum(pad) + extra
        for size, step, length, pad, extra in zip(in_size, steps, window, pads, more, strict=True)
    )
    if min(oh, ow) < 1:
        raise ValueError(
            f"conv_transpose2d leaves nothing of {in_size[0]}x{in_size[1]} images with a window of "
            f"{window[0]}x{window[1]} and padding {pads[0]} x {pads[1]}; use less padding"
        )
    return steps, pads, apart, (oh, ow)
