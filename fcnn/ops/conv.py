"""2-D convolution (cross-correlation): the layer's mathematics, and which kernel does it.

A kernel is a module with three functions on blocks (`fcnn.ops.layout`), `correlate`, `weight_gradient` and
`input_gradient`: `fcnn.ops.lowered` takes every shape, `fcnn.ops.winograd` is faster for wide 3x3 layers.
"""

from types import ModuleType

import attrs
import numpy as np

from fcnn.ops import lowered, winograd
from fcnn.ops.layout import block, unblock
from fcnn.ops.window import Padding, Pads, pad_block, windows
from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import Pair, boolean, cached, floats, output_gradient


@attrs.frozen
class ConvCache:
    """What `conv2d_backward` needs: the padded input block (H, C, W, N), the weights, and the window."""

    padded: Array
    w: Array
    has_bias: bool
    stride: tuple[int, int]
    pads: Pads


def conv2d(
    x: Array, w: Array, b: Array | None = None, *, stride: Pair = 1, padding: Padding = 0
) -> tuple[Array, ConvCache]:
    """Cross-correlate images with filters.

        y[n, f, i, j] = b[f] + sum over c, k, l of  w[f, c, k, l] * x_padded[n, c, i * stride + k, j * stride + l]

    Args:
        x: images, (N, C, H, W).
        w: filters, (F, C, KH, KW).
        b: biases, (F,), or None.
        stride: step of the window in pixels, an int or (vertical, horizontal).
        padding: zeros on each side in pixels, an int, (vertical, horizontal), or "same" for ceil(H / stride) rows.

    Returns:
        y, (N, F, OH, OW) with OH = (H + padding - KH) // stride + 1; and the cache for `conv2d_backward`.

    Raises:
        ValueError: the shapes don't go together, or the filter doesn't fit into the padded image.

    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> delta = np.zeros((1, 1, 3, 3)); delta[0, 0, 1, 1] = 1       # a delta kernel crops
    >>> conv2d(x, delta)[0]
    array([[[[ 5.,  6.], [ 9., 10.]]]])
    """
    x, w = floats("conv2d's x", x), floats("conv2d's w", w)
    if x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1]:
        expected = "conv2d expects x (N, C, H, W) and w (F, C, KH, KW) with the same C"
        raise ValueError(f"{expected}, got {x.shape} and {w.shape}{_how_to_make_images(x.shape, w.shape)}")
    filters, _, kh, kw = w.shape
    if 0 in w.shape:
        raise ValueError(f"conv2d expects w (F, C, KH, KW) with no length of 0, got {w.shape}")
    if b is not None and (b := floats("conv2d's b", b)).shape != (filters,):
        raise ValueError(f"conv2d expects b ({filters},), one number for each filter of w, got {b.shape}")
    steps, pads, (oh, ow) = windows((x.shape[2], x.shape[3]), (kh, kw), stride, padding)
    padded = pad_block(block(x), pads)
    y = _kernel(w, steps, (oh, ow), len(x)).correlate(padded, w, steps)
    if b is not None:
        y += b[:, None, None]
    return frozen(unblock(y)), ConvCache(keep(padded), keep(w), b is not None, steps, pads)


def conv2d_backward(
    dy: Array, cache: ConvCache, *, need_dx: bool = True, need_dw: bool = True
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of `conv2d` for any dy, (N, F, OH, OW).

    Returns:
        dx (N, C, H, W), None unless `need_dx`; dw (F, C, KH, KW), None unless `need_dw`; db (F,), None without that or
        a bias.
    """
    w, padded = cached("conv2d", cache, ConvCache).w, cache.padded
    filters = w.shape[0]
    height, channels, width, n = padded.shape
    _, _, (oh, ow) = windows((height, width), (w.shape[2], w.shape[3]), cache.stride, 0)
    out = block(output_gradient("conv2d_backward", dy, (n, filters, oh, ow)))
    boolean("need_dx", need_dx)
    boolean("need_dw", need_dw)
    dw = db = None
    if need_dw and cache.has_bias:
        db = frozen(np.add.reduce(np.add.reduce(out.reshape(oh, filters, ow * n), axis=2), axis=0))
    kernel = _kernel(w, cache.stride, (oh, ow), n)
    if need_dw:
        dw = frozen(kernel.weight_gradient(padded, out, w.shape, cache.stride))
    if not need_dx:
        return None, dw, db
    (top, bottom), (left, right) = cache.pads
    in_shape = height - top - bottom, channels, width - left - right, n
    return frozen(unblock(kernel.input_gradient(out, w, in_shape, cache.stride, cache.pads))), dw, db


def _how_to_make_images(x: tuple[int, ...], w: tuple[int, ...]) -> str:
    """Advice that is right for an array of this shape, or none."""
    if len(w) == len(x) == 4 and x[3] == w[1]:
        return "; where channels come last, x.transpose(0, 3, 1, 2) is such"
    return "; x[None] is a batch of one image" if len(w) == 4 and len(x) == 3 and x[0] == w[1] else ""


def _kernel(w: Array, stride: tuple[int, int], out_size: tuple[int, int], n: int) -> ModuleType:
    """The kernel for filters (F, C, KH, KW), outputs (OH, OW) and a batch of n: all choice between kernels is here."""
    return winograd if winograd.suits(w.shape, stride, out_size, n) else lowered
