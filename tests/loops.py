"""What every kernel computes, as a textbook writes it: plain loops over the indices of the formula above them.

Nothing here is of `fcnn`, nothing is fast, and all is in float64. Images are (N, C, H, W), features (N, D).
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray
Pads = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))


def pads_of(size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: Any) -> Pads:
    """How many zeros stand around the image.

    "same": so many that there are ceil(size / stride) windows; of an odd number the greater part comes after.
    """
    if isinstance(padding, tuple) and isinstance(padding[0], tuple):
        return padding
    if padding != "same":
        rows, columns = padding if isinstance(padding, tuple) else (padding, padding)
        return (rows, rows), (columns, columns)
    sides = []
    for n, k, s in zip(size, kernel, stride, strict=True):
        total = max((math.ceil(n / s) - 1) * s + k - n, 0)
        sides.append((total // 2, total - total // 2))
    return sides[0], sides[1]


def padded(x: Array, pads: Pads) -> Array:
    """x with zeros around it."""
    (top, bottom), (left, right) = pads
    n, c, h, w = x.shape
    y = np.zeros((n, c, top + h + bottom, left + w + right))
    y[:, :, top : top + h, left : left + w] = x
    return y


def inner(y: Array, pads: Pads) -> Array:
    """What `padded` was made of."""
    (top, bottom), (left, right) = pads
    return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]


def positions(shape: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
    """(OH, OW): how often the window fits into a padded image, floor((P - K) / s) + 1 along each axis."""
    return (shape[2] - kernel[0]) // stride[0] + 1, (shape[3] - kernel[1]) // stride[1] + 1


def taps(
    w: Array, f: int, i: int, j: int, stride: tuple[int, int], dilation: tuple[int, int], groups: int
) -> tuple[slice, slice, slice]:
    """The channels, rows and columns of x_padded that filter f sees at (i, j): its group's, and every d-th pixel.

    Channel g * C / groups + c, row i * sh + k * dh, column j * sw + l * dw, for all c, k, l; and g the filter's group.
    """
    channels, kh, kw = w.shape[1:]
    first, (top, left) = f // (len(w) // groups) * channels, (i * stride[0], j * stride[1])
    rows = slice(top, top + (kh - 1) * dilation[0] + 1, dilation[0])
    return slice(first, first + channels), rows, slice(left, left + (kw - 1) * dilation[1] + 1, dilation[1])


def extent(kernel: tuple[int, ...], dilation: tuple[int, int]) -> tuple[int, int]:
    """How many rows and columns lie from a window's first tap to its last one."""
    return (kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1


def conv2d(
    x: Array,
    w: Array,
    b: Array,
    stride: tuple[int, int],
    padding: Any,
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Array:
    """y[n, f, i, j] = b[f] + sum over c, k, l of  w[f, c, k, l] * x_padded[n, taps(f, i, j)[c, k, l]]."""
    window = extent(w.shape[2:], dilation)
    p = padded(x, pads_of(x.shape[2:], window, stride, padding))
    y = np.zeros((len(x), len(w), *positions(p.shape, window, stride)))
    for n, f, i, j in np.ndindex(y.shape):
        y[n, f, i, j] = b[f] + np.sum(w[f] * p[n, *taps(w, f, i, j, stride, dilation, groups)])
    return y


def conv2d_backward(
    dy: Array,
    x: Array,
    w: Array,
    stride: tuple[int, int],
    padding: Any,
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """dx, dw, db: each product w * x of `conv2d` hands dy[n, f, i, j] times one factor to the other, and b gets dy."""
    pads = pads_of(x.shape[2:], extent(w.shape[2:], dilation), stride, padding)
    p = padded(x, pads)
    dp, dw, db = np.zeros(p.shape), np.zeros(w.shape), np.zeros(len(w))
    for n, f, i, j in np.ndindex(dy.shape):
        seen = taps(w, f, i, j, stride, dilation, groups)
        dp[n, *seen] += w[f] * dy[n, f, i, j]
        dw[f] += p[n, *seen] * dy[n, f, i, j]
        db[f] += dy[n, f, i, j]
    return inner(dp, pads), dw, db


def conv_transpose2d(
    x: Array,
    w: Array,
    b: Array,
    stride: tuple[int, int],
    pads: Pads,
    more: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Array:
    """y_padded[n, taps(c, i, j)[f, k, l]] += w[c, f, k, l] * x[n, c, i, j]; y is b and the inside of y_padded."""
    size = [
        (length - 1) * step + window + extra
        for length, step, window, extra in zip(x.shape[2:], stride, extent(w.shape[2:], dilation), more, strict=True)
    ]
    p = np.zeros((len(x), w.shape[1] * groups, *size))
    for n, c, i, j in np.ndindex(x.shape):
        p[n, *taps(w, c, i, j, stride, dilation, groups)] += w[c] * x[n, c, i, j]
    return b[:, None, None] + inner(p, pads)


def im2col(x: Array, kernel: tuple[int, int], stride: tuple[int, int], padding: Any) -> Array:
    """columns[n, (c, k, l), (i, j)] = x_padded[n, c, i * sh + k, j * sw + l]."""
    (kh, kw), (sh, sw) = kernel, stride
    p = padded(x, pads_of(x.shape[2:], kernel, stride, padding))
    channels, (oh, ow) = x.shape[1], positions(p.shape, kernel, stride)
    columns = np.zeros((len(x), channels * kh * kw, oh * ow))
    for n, c, k, j, y, z in np.ndindex(len(x), channels, kh, kw, oh, ow):
        columns[n, (c * kh + k) * kw + j, y * ow + z] = p[n, c, y * sh + k, z * sw + j]
    return columns


def col2im(
    columns: Array, shape: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int], padding: Any
) -> Array:
    """x[n, c, …] = sum of all the columns' numbers that `im2col` takes from there."""
    (kh, kw), (sh, sw) = kernel, stride
    pads = pads_of(shape[2:], kernel, stride, padding)
    p = padded(np.zeros(shape), pads)
    oh, ow = positions(p.shape, kernel, stride)
    for n, c, k, j, y, z in np.ndindex(*shape[:2], kh, kw, oh, ow):
        p[n, c, y * sh + k, z * sw + j] += columns[n, (c * kh + k) * kw + j, y * ow + z]
    return inner(p, pads)


def pixels(
    shape: tuple[int, ...], window: tuple[int, int], stride: tuple[int, int], padding: Any
) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """(i, j, the pixels of the image itself in window (i, j), in reading order); the border has none."""
    pads = pads_of(shape[2:], window, stride, padding)
    (top, bottom), (left, right) = pads
    height, width = shape[2:]
    oh, ow = positions((0, 0, top + height + bottom, left + width + right), window, stride)
    for i, j in np.ndindex(oh, ow):
        offsets = np.ndindex(*window)
        all_of_it = [(i * stride[0] + k - top, j * stride[1] + m - left) for k, m in offsets]
        yield i, j, [(h, w) for h, w in all_of_it if 0 <= h < height and 0 <= w < width]


def max_pool2d(
    x: Array, dy: Array, window: tuple[int, int], stride: tuple[int, int], padding: Any
) -> tuple[Array, Array]:
    """y[n, c, i, j] = max over the window's pixels of x; dx gets dy at the first pixel that is the maximum.

    NaN counts as greater than all numbers, as for `np.argmax`.
    """
    y, dx = np.zeros(dy.shape), np.zeros(x.shape)
    for i, j, inside in pixels(x.shape, window, stride, padding):
        for n, c in np.ndindex(x.shape[:2]):
            best = inside[0]
            for pixel in inside[1:]:
                value, most = x[n, c, *pixel], x[n, c, *best]
                if value > most or (np.isnan(value) and not np.isnan(most)):
                    best = pixel
            y[n, c, i, j] = x[n, c, *best]
            dx[n, c, *best] += dy[n, c, i, j]
    return y, dx


def avg_pool2d(
    x: Array, dy: Array, window: tuple[int, int], stride: tuple[int, int], padding: Any
) -> tuple[Array, Array]:
    """y[n, c, i, j] = sum over the window's pixels of x / (KH * KW); dx gets dy / (KH * KW) at each of them."""
    y, dx, area = np.zeros(dy.shape), np.zeros(x.shape), window[0] * window[1]
    for i, j, inside in pixels(x.shape, window, stride, padding):
        for n, c in np.ndindex(x.shape[:2]):
            for pixel in inside:
                y[n, c, i, j] += x[n, c, *pixel] / area
                dx[n, c, *pixel] += dy[n, c, i, j] / area
    return y, dx


def global_avg_pool2d(x: Array, dy: Array) -> tuple[Array, Array]:
    """y[n, c] = sum over h, w of x[n, c, h, w] / (H * W); dx[n, c, h, w] = dy[n, c] / (H * W)."""
    y, dx, area = np.zeros(x.shape[:2]), np.zeros(x.shape), x.shape[2] * x.shape[3]
    for n, c, h, w in np.ndindex(x.shape):
        y[n, c] += x[n, c, h, w] / area
        dx[n, c, h, w] = dy[n, c] / area
    return y, dx


def dense(x: Array, w: Array, b: Array) -> Array:
    """y[n, f] = b[f] + sum over d of  w[f, d] * x[n, d]."""
    y = np.zeros((len(x), len(w)))
    for n, f in np.ndindex(y.shape):
        y[n, f] = b[f] + sum(w[f, d] * x[n, d] for d in range(x.shape[1]))
    return y


def dense_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    """dx[n, d] = sum over f of dy w;   dw[f, d] = sum over n of dy x;   db[f] = sum over n of dy."""
    dx, dw, db = np.zeros(x.shape), np.zeros(w.shape), np.zeros(len(w))
    for n, f in np.ndindex(dy.shape):
        db[f] += dy[n, f]
        for d in range(x.shape[1]):
            dx[n, d] += dy[n, f] * w[f, d]
            dw[f, d] += dy[n, f] * x[n, d]
    return dx, dw, db


def flatten(x: Array) -> Array:
    """y[n, (c * H + h) * W + w] = x[n, c, h, w]."""
    _, channels, height, width = x.shape
    y = np.zeros((len(x), channels * height * width))
    for n, c, h, w in np.ndindex(x.shape):
        y[n, (c * height + h) * width + w] = x[n, c, h, w]
    return y


def batch_norm(
    x: Array, gamma: Array, beta: Array, mean: Array, var: Array, *, train: bool, decay: float, eps: float
) -> tuple[Array, Array, Array]:
    """y, and the running mean and variance after it, for each channel c of M numbers x[c]:

    m = sum of x[c] / M;   v = sum of (x[c] - m)² / M;   y = gamma (x - m) / sqrt(v + eps) + beta
    mean = decay mean + (1 - decay) m;   var = decay var + (1 - decay) v M / (M - 1)

    In evaluation m and v are the running ones, which stay.
    """
    y, new_mean, new_var = np.zeros(x.shape), mean.copy(), var.copy()
    for c in range(x.shape[1]):
        m, v = mean[c], var[c]
        if train:
            numbers = [float(number) for number in x[:, c].ravel()]
            m = math.fsum(numbers) / len(numbers)
            v = math.fsum((number - m) ** 2 for number in numbers) / len(numbers)
            new_mean[c] = decay * mean[c] + (1 - decay) * m
            new_var[c] = decay * var[c] + (1 - decay) * v * len(numbers) / (len(numbers) - 1)
        y[:, c] = gamma[c] * (x[:, c] - m) / math.sqrt(v + eps) + beta[c]
    return y, new_mean, new_var


def batch_norm_backward(
    dy: Array, x: Array, gamma: Array, mean: Array, var: Array, *, train: bool, eps: float
) -> tuple[Array, Array, Array]:
    """dx, dgamma, dbeta by the chain rule, as the paper writes it (arXiv 1502.03167, section 3).

    dx_hat = dy gamma
    dv = sum of dx_hat (x - m) * -1/2 (v + eps)^(-3/2)
    dm = -sum of dx_hat / sqrt(v + eps) - dv 2 sum of (x - m) / M
    dx = dx_hat / sqrt(v + eps) + dv 2 (x - m) / M + dm / M
    """
    dx, dgamma, dbeta = np.zeros(x.shape), np.zeros(len(gamma)), np.zeros(len(gamma))
    for c in range(x.shape[1]):
        numbers, slopes = x[:, c], dy[:, c]
        m = numbers.mean() if train else mean[c]
        v = ((numbers - m) ** 2).mean() if train else var[c]
        dgamma[c] = (slopes * (numbers - m) / math.sqrt(v + eps)).sum()
        dbeta[c] = slopes.sum()
        dx_hat = slopes * gamma[c]
        dx[:, c] = dx_hat / math.sqrt(v + eps)
        if train:
            dv = (dx_hat * (numbers - m)).sum() * -0.5 * (v + eps) ** -1.5
            dm = -dx_hat.sum() / math.sqrt(v + eps) - dv * 2 * (numbers - m).sum() / numbers.size
            dx[:, c] += dv * 2 * (numbers - m) / numbers.size + dm / numbers.size
    return dx, dgamma, dbeta


def normalize(x: Array, mean: Array, std: Array) -> Array:
    """y[n, c] = (x[n, c] - mean[c]) / std[c]."""
    y = np.zeros(x.shape)
    for c in range(x.shape[1]):
        y[:, c] = (x[:, c] - mean[c % len(mean)]) / std[c % len(std)]
    return y


def softmax(x: Array) -> Array:
    """y[n, k] = exp(x[n, k]) / sum over j of exp(x[n, j])."""
    y = np.zeros(x.shape)
    for k in range(x.shape[1]):
        y[:, k] = 1 / sum(np.exp(x[:, j] - x[:, k]) for j in range(x.shape[1]))
    return y


def softmax_backward(dy: Array, y: Array) -> Array:
    """dx[n, k] = sum over j of dy[n, j] J[j, k] with the Jacobian J[j, k] = y[j] (δ[j, k] - y[k])."""
    dx = np.zeros(dy.shape)
    for j, k in np.ndindex(y.shape[1], y.shape[1]):
        dx[:, k] += dy[:, j] * y[:, j] * ((j == k) - y[:, k])
    return dx


def dropout(x: Array, kept: Array, rate: float) -> Array:
    """y = x / (1 - rate) where it is kept, else 0; dx is the same of dy."""
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        if kept[index]:
            y[index] = x[index] / (1 - rate)
    return y
