"""2-D convolution (cross-correlation), lowered along the width only.

After M. Cho and D. Brand, "MEC: Memory-efficient Convolution for Deep Neural Network", ICML 2017 (arXiv
1706.06873), carried over to the batch-innermost layout of `fcnn.ops.layout`.

`im2col` copies every pixel KH * KW times. Here the padded (H, C, W, N) block is copied KW times only,

    L[h, c, j, x, n] = block[h, c, j + x * stride, n]                    shape (H, C, KW, OW, N)

because the KH rows that output row y needs, L[y : y + KH], already lie one behind the other: the GEMM operand of that
row, (KH * C * KW, OW * N), is a *view*. Output row y is W @ rows[y] with the weights as (F, KH * C * KW), and comes out
as (F, OW * N), which is row y of the output block. With f the flattened (KH, C, KW) index:

    forward            y[y]           =  W @ rows[y]  + b
    weight gradient    dW             =  sum over y of  dy[y] @ rows[y].T
    input gradient     dL[y : y + KH] += (W.T @ dy[y]);   dblock[h, c, j + x * stride] += dL[h, c, j, x]
"""

import attrs
import numpy as np
from numpy.lib.stride_tricks import as_strided

from fcnn.ops.layout import Array, block, frozen, keep, unblock
from fcnn.ops.window import NO_PADS, Padding, Pads, Pair, check_dy, crop_block, out_size, pad_block, pads, pair

# Up to so many numbers (4 MB of float32) all products of a layer are made in one call and then added; beyond that,
# one at a time, so that the sum stays in cache.
_BATCHED = 1 << 20


@attrs.frozen
class ConvCache:
    """What `conv2d_backward` needs: the padded input block (H, C, W, N), the weights, and the window."""

    padded: Array
    w: Array
    has_bias: bool
    stride: tuple[int, int]
    around: Pads


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
    if x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1]:
        raise ValueError(f"conv2d expects x (N, C, H, W) and w (F, C, KH, KW) with one C, got {x.shape} and {w.shape}")
    filters, _, kh, kw = w.shape
    if b is not None and b.shape != (filters,):
        raise ValueError(f"conv2d expects b ({filters},), one number for each filter of w, got {b.shape}")
    steps = pair("stride", stride, least=1)
    around = pads((x.shape[2], x.shape[3]), (kh, kw), steps, padding)
    oh, ow = out_size((x.shape[2], x.shape[3]), (kh, kw), steps, around)

    padded = pad_block(block(x), around)
    rows = _rows(padded, (kh, kw), steps, (oh, ow))
    y = np.matmul(_matrix(w), rows)  # (OH, F, OW * N)
    if b is not None:
        y += b[:, None]
    y = y.reshape(oh, filters, ow, x.shape[0])
    return frozen(unblock(y)), ConvCache(keep(padded), keep(w), b is not None, steps, around)


def conv2d_backward(dy: Array, cache: ConvCache, *, need_dx: bool = True) -> tuple[Array | None, Array, Array | None]:
    """The gradients of `conv2d` for any dy, (N, F, OH, OW).

    Returns:
        dx (N, C, H, W), None unless `need_dx`; dw (F, C, KH, KW); db (F,), None without a bias.
    """
    w, padded = cache.w, cache.padded
    filters, channels, kh, kw = w.shape
    height, _, width, n = padded.shape
    oh, ow = out_size((height, width), (kh, kw), cache.stride, NO_PADS)
    check_dy("conv2d_backward", dy, (n, filters, oh, ow))
    out = block(dy).reshape(oh, filters, ow * n)

    rows = _rows(padded, (kh, kw), cache.stride, (oh, ow))
    dw = _sum_of_products(out, rows)
    dw = np.ascontiguousarray(dw.reshape(filters, kh, channels, kw).transpose(0, 2, 1, 3))
    db = frozen(out.sum(axis=2).sum(axis=0)) if cache.has_bias else None
    if not need_dx:
        return None, frozen(dw), db

    # One output row at a time, so that the product is still in cache when it is added.
    sh, sw = cache.stride
    back = _matrix(w).T
    dtype = np.result_type(out, w)
    lowered = np.zeros((height, channels, kw, ow, n), dtype)
    product = np.empty((kh * channels * kw, ow * n), dtype)
    for y in range(oh):
        target = lowered[y * sh : y * sh + kh]
        target += np.matmul(back, out[y], out=product).reshape(target.shape)
    dpadded = np.zeros(padded.shape, dtype)
    for j in range(kw):
        dpadded[:, :, j : j + (ow - 1) * sw + 1 : sw] += lowered[:, :, j]
    return frozen(unblock(crop_block(dpadded, cache.around))), frozen(dw), db


def _sum_of_products(out: Array, rows: Array) -> Array:
    """The sum over y of out[y] @ rows[y].T, (F, KH * C * KW)."""
    if out.shape[0] * out.shape[1] * rows.shape[1] <= _BATCHED:
        return np.asarray(np.matmul(out, rows.transpose(0, 2, 1)).sum(axis=0))
    total: Array = np.matmul(out[0], rows[0].T)
    part = np.empty_like(total)
    for y in range(1, len(out)):
        total += np.matmul(out[y], rows[y].T, out=part)
    return total


def _matrix(w: Array) -> Array:
    """Filters (F, C, KH, KW) as the (F, KH * C * KW) matrix that goes with `_rows`."""
    return w.transpose(0, 2, 1, 3).reshape(w.shape[0], -1)


def _rows(padded: Array, kernel: tuple[int, int], stride: tuple[int, int], out: tuple[int, int]) -> Array:
    """Lower a padded (H, C, W, N) block along its width; the (OH, KH * C * KW, OW * N) overlapping view of its rows."""
    (kh, kw), (sh, sw), (oh, ow) = kernel, stride, out
    height, channels, _, n = padded.shape
    if kw == 1 and sw == 1:
        lowered = padded  # a column is lowered to itself
    else:
        lowered = np.empty((height, channels, kw, ow, n), padded.dtype)
        for j in range(kw):
            lowered[:, :, j] = padded[:, :, j : j + (ow - 1) * sw + 1 : sw]
    row, item = lowered.strides[0], lowered.itemsize
    shape = (oh, kh * channels * kw, ow * n)
    return as_strided(lowered, shape, (row * sh, ow * n * item, item), writeable=False)
