"""3x3 convolution at stride 1 with 2.25 times fewer multiplications: Winograd's minimal filtering F(2x2, 3x3).

After A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016 (arXiv 1509.09308), section
4.1, carried over to the batch-innermost layout of `fcnn.ops.layout`.

Two neighbouring outputs of a 3-tap filter g over four inputs d take 4 products in place of 6,

    y = A' [(G g) * (B' d)]       (* is elementwise, ' the transpose)

         [1  0 -1  0]        [ 1    0    0 ]
    B' = [0  1  1  0]    G = [1/2  1/2  1/2]    A' = [1  1  1  0]
         [0 -1  1  0]        [1/2 -1/2  1/2]         [0  1 -1 -1]
         [0  1  0 -1]        [ 0    0    1 ]

and nested along both axes, a 2x2 tile of outputs takes 16 in place of 36: Y = A' [(G g G') * (B' d B)] A. The sum over
channels goes inside the brackets, where for each of the 16 positions (a, b) of a transformed tile, and for one row of T
tiles at a time, it is a matrix product:

    forward            M[a, b]  = U[a, b] @ V[a, b]                      y = A' M A
    weight gradient    dU[a, b] = sum over rows of dM[a, b] @ V[a, b]'    dw = G' dU G
    input gradient     the forward pass of dy, with the filters flipped and transposed

    U = G w G'  (4, 4, F, C)      V = B' d B  (4, 4, C, T * N)      M, dM = A dy A'  (4, 4, F, T * N)

The tiles of an odd row or column hang over the edge, onto zeros.

B and A hold only 0, 1 and -1, so these transforms are sums and differences of whole matrices. Columns come first, and
once for each image row; the row of tiles y combines the image rows 2y … 2y + 3.

Accuracy. To first order in u, half the spacing of numbers at 1, every result obeys

    |error| <= 64 * (K + 20) * u * K * max|x| * max|w|

with K = C for the output, F for the input gradient (dy for x) and the number of tiles for the weight gradient (dy for
w): K products are summed, at most 20 more roundings lie on the way, and the absolute values of the three matrices
amplify by at most 8 along each axis, where direct summation has its 3 taps. Roundings mostly cancel: in float32, for
layers of 64 to 512 channels, nothing was off by more than 8e-7 of the greatest value; nor was it in direct summation.
An infinity in the image becomes NaN around it, as inf - inf.

The functions have the signatures of `fcnn.ops.lowered`; the stride is always (1, 1). They work on a few rows and columns
of tiles at a time, so that all of B' d B and M is in cache while it is needed.
"""

from collections.abc import Iterator

import numpy as np

from fcnn.ops.layout import pixels
from fcnn.ops.lowered import lower
from fcnn.ops.processor import tiles_a_product
from fcnn.ops.window import Geometry
from fcnn.values.allocation import scratch, scratch_space
from fcnn.values.arrays import Array

_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def suits(g: Geometry) -> bool:
    """Whether a convolution is faster in this form."""
    if g.kernel != (3, 3) or g.stride != (1, 1):
        return False
    (oh, ow), channels = g.out, g.in_shape[1]
    down, across = -(-oh // 2), -(-ow // 2)
    products = g.filters * channels * across * g.in_shape[3]
    return min(g.filters, channels) >= 64 and products >= 1 << 20 and oh * ow >= 3 * down * across


def forward_weights(w: Array, g: Geometry) -> Array:
    """Filters (F, C, 3, 3) as `correlate` takes them: G w G', (4, 4, F, C)."""
    return _transformed(w, _G)


def correlate(x: Array, weights: Array, g: Geometry, rows: range, columns: range, split: bool, out: Array) -> None:
    """Some rows and columns of the output, into `out`, (rows, F, columns, N).

    `split` puts the even columns before the odd ones. Rows and columns begin at even numbers.
    """
    half = -(-len(columns) // 2)
    for y, x0, tiles in _groups(rows, columns, g):
        with scratch_space():
            m, at = _products(x, weights, g, y, x0, tiles), (x0 - columns.start) // 2
            for i in range(2):
                for j in range(2):
                    even = slice(at + half * j, min(at + tiles + half * j, len(columns)))
                    line = even if split else slice(2 * at + j, 2 * (at + tiles), 2)
                    target = pixels(out[y.start - rows.start + i : y.stop - rows.start : 2, :, line])
                    target[...] = pixels(m[i, j])[: len(target), :, : target.shape[2]]


def weight_gradient(x: Array, dy: Array, g: Geometry, rows: range, columns: range, split: bool) -> Array:
    """What some rows and columns of the output, with the gradient (rows, F, columns, N), add to the weights' gradient.

    Sums of it are what `weights_of` takes.
    """
    dtype, half = np.result_type(x, dy), -(-len(columns) // 2)
    total = np.zeros((4, 4, g.filters, g.in_shape[1]), dtype)
    for y, x0, tiles in _groups(rows, columns, g):
        at, lines = (x0 - columns.start) // 2, dy[y.start - rows.start : y.stop - rows.start]
        if split:
            parts = [lines[:, :, at : at + tiles], lines[:, :, half + at : min(half + at + tiles, len(columns))]]
        else:
            begin, end = x0 - columns.start, x0 - columns.start + 2 * tiles
            parts = [lines[:, :, begin:end:2], lines[:, :, begin + 1 : end : 2]]
        with scratch_space():
            spread = _spread(parts, tiles)  # dy A' without A's last sign: it is made up for in `weights_of`
            even, odd, planes = spread[:, 0], spread[:, 1], _planes(x, g, y, x0, tiles)
            middle = scratch(even.shape, even.dtype)
            total[0] += _product(even, next(planes))
            total[1] += _product(np.add(even, odd, out=middle), next(planes))
            total[2] += _product(np.subtract(even, odd, out=middle), next(planes))
            total[3] += _product(odd, next(planes))
    return total


def _product(spread: Array, plane: Array) -> Array:
    shape = (*spread.shape[:3], plane.shape[2])
    with scratch_space():
        products = np.matmul(spread, plane.swapaxes(2, 3), out=scratch(shape, spread.dtype))
        return np.asarray(np.add.reduce(products, axis=1))


def weights_of(total: Array, g: Geometry) -> Array:
    """The gradient of filters (F, C, 3, 3) from the sum of what `weight_gradient` gave."""
    signed = _G * np.array([[1], [1], [1], [-1]])
    dw: Array = total.reshape(16, -1).T @ np.kron(signed, signed).astype(total.dtype)
    return dw.reshape(g.filters, g.in_shape[1], 3, 3)


def backward_weights(w: Array, g: Geometry) -> Array:
    """Filters (F, C, 3, 3) as `input_gradient` takes them: flipped, transposed and transformed, (4, 4, C, F)."""
    return np.ascontiguousarray(_transformed(w, _G[:, ::-1]).swapaxes(2, 3))


def input_gradient(dy: Array, weights: Array, g: Geometry, rows: range, out: Array) -> None:
    """Some rows of the gradient of the input block, into `out`, (rows, C, W, N), for an output gradient (OH, F, OW, N)."""
    correlate(dy, weights, g.transposed(), rows, range(g.in_shape[2]), False, out)


def _groups(rows: range, columns: range, g: Geometry) -> Iterator[tuple[range, int, int]]:
    """A few rows, the first column of a few tiles, and their number: what is worked on at a time."""
    high, most = tiles_a_product(g.filters, g.in_shape[1], g.in_shape[3])
    tiles = -(-len(columns) // 2)
    wide = -(-tiles // -(-tiles // most))
    for begin in range(0, len(rows), 2 * high):
        for tile in range(0, tiles, wide):
            yield rows[begin : begin + 2 * high], columns.start + 2 * tile, min(wide, tiles - tile)


def _products(x: Array, u: Array, g: Geometry, rows: range, column: int, tiles: int) -> Array:
    """Y = A' [sum over channels of U * V] A, as (2, 2, rows / 2, F, tiles, N): even and odd rows, even and odd columns."""
    n, down = x.shape[3], -(-len(rows) // 2)
    even, odd = m = scratch((2, 4, down, g.filters, tiles * n), np.result_type(x, u))
    part = scratch(even.shape, m.dtype)
    planes = _planes(x, g, rows, column, tiles)
    u = u[:, :, None]
    np.matmul(u[0], next(planes), out=even)
    even += np.matmul(u[1], next(planes), out=odd)
    even += np.matmul(u[2], next(planes), out=part)
    odd -= part
    odd -= np.matmul(u[3], next(planes), out=part)
    m[:, 0] += m[:, 1]
    m[:, 0] += m[:, 2]
    m[:, 1] -= m[:, 2]
    m[:, 1] -= m[:, 3]
    return m[:, :2].reshape(2, 2, down, g.filters, tiles, n)


def _planes(x: Array, g: Geometry, rows: range, column: int, tiles: int) -> Iterator[Array]:
    """V[a] = (B' d B)[a], (4, rows / 2, C, tiles * N), for a = 0 … 3; all in one buffer: use one before the next."""
    (_, channels, _, n), down = x.shape, -(-len(rows) // 2)
    first = rows.start - g.pads[0][0]
    start = column - g.pads[1][0]
    lines = lower(x, first, 2 * down + 2, start, 2, 2, tiles + 1)  # (2 down + 2, C, even and odd, tiles + 1, N)
    lines = lines.reshape(*lines.shape[:3], (tiles + 1) * n)
    d0, d1 = lines[:, :, 0, : tiles * n], lines[:, :, 1, : tiles * n]
    d2, d3 = lines[:, :, 0, n:], lines[:, :, 1, n:]
    across = scratch((4, *d0.shape), x.dtype)
    np.subtract(d0, d2, out=across[0])
    np.add(d1, d2, out=across[1])
    np.subtract(d2, d1, out=across[2])
    np.subtract(d1, d3, out=across[3])
    r0, r1, r2, r3 = (across[:, i : i + 2 * down - 1 : 2] for i in range(4))
    v = scratch((4, down, channels, tiles * n), x.dtype)
    yield np.subtract(r0, r2, out=v)
    yield np.add(r1, r2, out=v)
    yield np.subtract(r2, r1, out=v)
    yield np.subtract(r1, r3, out=v)


def _spread(parts: list[Array], tiles: int) -> Array:
    """dy A' without A's last sign, (4, 2, rows / 2, F, tiles * N): even, sum, difference and odd columns, by rows."""
    rows, filters, _, n = parts[0].shape
    down = -(-rows // 2)
    spread = scratch((4, 2, down, filters, tiles, n), parts[0].dtype)
    for to, part in zip((0, 3), parts, strict=True):
        for i in range(2):
            target, source = pixels(spread[to, i]), pixels(part[i::2])
            target[: len(source), :, : source.shape[2]] = source
            spread[to, i, len(source) :] = 0
            spread[to, i, :, :, source.shape[2] :] = 0
    np.add(spread[0], spread[3], out=spread[1])
    np.subtract(spread[0], spread[3], out=spread[2])
    return spread.reshape(4, 2, down, filters, tiles * n)


def _transformed(w: Array, g: Array) -> Array:
    """G w G', (4, 4, F, C), of filters (F, C, 3, 3), as one matrix product with the Kronecker square of G."""
    return (np.kron(g, g).astype(w.dtype) @ w.reshape(-1, 9).T).reshape(4, 4, *w.shape[:2])
