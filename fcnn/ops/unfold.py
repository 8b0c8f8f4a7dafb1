"""`im2col` and `col2im`: convolution as one matrix product, as textbooks and the reproduced study teach it.

The layers of this library lower along the width only (`fcnn.ops.conv`); these two are public for teaching and as the
reference that the fast convolution is tested against.
"""

import numpy as np

from fcnn.ops.window import Padding, out_size, pads_of
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import Pair, floats, lengths, pair


def im2col(x: Array, kernel: Pair, *, stride: Pair = 1, padding: Padding = 0) -> Array:
    """Every window of the images as a column.

    Args:
        x: images, (N, C, H, W).
        kernel: window in pixels, an int or (height, width); `stride` and `padding` as in `fcnn.ops.conv2d`.

    Returns:
        (N, C * KH * KW, OH * OW), ordered as PyTorch's `unfold`. With w (F, C, KH, KW), the convolution is
        `(w.reshape(F, -1) @ im2col(x, (KH, KW))).reshape(N, F, OH, OW)`.

    >>> im2col(np.arange(9.0).reshape(1, 1, 3, 3), 2)[0]
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
    x = floats("im2col's x", x)
    if x.ndim != 4:
        raise ValueError(f"im2col expects images (N, C, H, W), got {x.shape}")
    n, c, h, w = x.shape
    size, steps = pair("kernel", kernel, least=1), pair("stride", stride, least=1)
    pads = pads_of((h, w), size, steps, padding)
    oh, ow = out_size((h, w), size, steps, pads)
    padded = np.pad(x, ((0, 0), (0, 0), *pads))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(2, 3))[:, :, :: steps[0], :: steps[1]]
    return frozen(np.array(windows.transpose(0, 1, 4, 5, 2, 3), order="C").reshape(n, c * size[0] * size[1], oh * ow))


def col2im(columns: Array, in_shape: tuple[int, ...], kernel: Pair, *, stride: Pair = 1, padding: Padding = 0) -> Array:
    """Add every column back to the pixels that it came from: the adjoint of `im2col`.

    For all x and c, `sum(im2col(x) * c) == sum(x * col2im(c))`; it is not an inverse, because windows overlap.

    Args:
        columns: (N, C * KH * KW, OH * OW).
        in_shape: the images' shape (N, C, H, W); `kernel`, `stride` and `padding` as for `im2col`.

    Returns:
        (N, C, H, W).

    >>> col2im(np.ones((1, 4, 4)), (1, 1, 3, 3), 2)[0, 0]          # how many windows hold each pixel
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    columns = floats("col2im's columns", columns)
    in_shape = lengths("col2im's in_shape", in_shape, "the images' shape (N, C, H, W)", least=0)
    if len(in_shape) != 4:
        raise ValueError(f"col2im's in_shape is the images' shape (N, C, H, W), got {in_shape}")
    n, c, h, w = in_shape
    (kh, kw), (sh, sw) = pair("kernel", kernel, least=1), pair("stride", stride, least=1)
    pads = pads_of((h, w), (kh, kw), (sh, sw), padding)
    oh, ow = out_size((h, w), (kh, kw), (sh, sw), pads)
    if columns.shape != (n, c * kh * kw, oh * ow):
        raise ValueError(
            f"col2im expects columns {(n, c * kh * kw, oh * ow)} for images {in_shape}, got {columns.shape}"
        )
    (top, bottom), (left, right) = pads
    windows = columns.reshape(n, c, kh, kw, oh, ow)
    padded = np.zeros((n, c, h + top + bottom, w + left + right), columns.dtype)
    for k in range(kh):
        for j in range(kw):
            padded[:, :, k : k + (oh - 1) * sh + 1 : sh, j : j + (ow - 1) * sw + 1 : sw] += windows[:, :, k, j]
    return frozen(padded[:, :, top : top + h, left : left + w])
