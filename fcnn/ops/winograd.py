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
channels goes inside the brackets, where for each of the 16 positions (a, b) of a transformed tile, and for one tile at
a time, it is a matrix product of N columns:

    forward            M[a, b]  = U[a, b] @ V[a, b]                      y = A' M A
    weight gradient    dU[a, b] = sum over tiles of dM[a, b] @ V[a, b]'   dw = G' dU G
    input gradient     the forward pass of dy, with the filters flipped and transposed

    U = G w G'  (4, 4, F, C)      V = B' d B  (4, 4, C, N)      M, dM = A dy A'  (4, 4, F, N)

The tiles of an odd row or column hang over the edge, onto zeros.

B and A hold only 0, 1 and -1, so these transforms are sums and differences of whole matrices. Columns come first, and
once for each image row; the row of tiles y combines the image rows 2y … 2y + 3. Within a row of tiles, the C * N
numbers of a tile lie together, before those of the next: so each difference is one of long runs, and each product, of
(F, C) with (C, N), so small that all of it is in cache. Where small products are no faster (`fcnn.ops.processor`), and
in the weight gradient, whose products are of (F, tiles * N) with (tiles * N, C), each channel's numbers lie together.

Accuracy. To first order in u, half the spacing of numbers at 1, every result obeys

    |error| <= 64 * (K + 20) * u * K * max|x| * max|w|

with K = C for the output, F for the input gradient (dy for x) and the number of tiles for the weight gradient (dy for
w): K products are summed, at most 20 more roundings lie on the way, and the absolute values of the three matrices
amplify by at most 8 along each axis, where direct summation has its 3 taps. Roundings mostly cancel: in float32, for
layers of 64 to 512 channels, nothing was off by more than 1.1e-6 of the greatest value, in direct summation by more
than 8e-7. An infinity in the image becomes NaN around it, as inf - inf.

The functions have the signatures of `fcnn.ops.lowered`; the stride is always (1, 1). They work on a few rows and
columns of tiles at a time, so that all of B' d B and M is in cache while it is needed.
"""

from collections.abc import Iterator

import numpy as np

from fcnn.ops.layout import pixels
from fcnn.ops.processor import DEEP, Product, rows_a_product, tuning
from fcnn.ops.window import Geometry
from fcnn.values.allocation import scratch, scratch_space
from fcnn.values.arrays import Array

_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def suits(g: Geometry, product: Product) -> bool:
    """Whether this form is faster for one of a convolution's products."""
    if g.kernel != (3, 3) or g.stride != (1, 1):
        return False
    (oh, ow), channels = g.out, g.in_shape[1]
    down, across = -(-oh // 2), -(-ow // 2)
    products = g.filters * channels * across * g.in_shape[3]
    least = tuning().winograd_weights if product == "weight gradient" else tuning().winograd
    if product == "input gradient" and g.filters > max(channels, DEEP):
        return False  # its products are of few rows and many columns
    return min(g.filters, channels) >= least and products >= 1 << 20 and oh * ow >= 3 * down * across


def forward_weights(w: Array, g: Geometry) -> Array:
    """Filters (F, C, 3, 3) as `correlate` takes them: G w G', (4, 4, F, C)."""
    return _transformed(w, _G)


def correlate(x: Array, weights: Array, g: Geometry, rows: range, columns: range, split: bool, out: Array) -> None:
    """Some rows and columns of the output, into `out`, (rows, F, columns, N).

    `split` puts the even columns before the odd ones. Rows and columns begin at even numbers.
    """
    half = -(-len(columns) // 2)
    for y, first, tiles in _groups(rows, columns, g):
        with scratch_space():
            m, at = _products(x, weights, g, y, columns.start + 2 * first, tiles), y.start - rows.start
            for i in range(2):
                for j in range(2):
                    even = slice(first + half * j, min(first + tiles + half * j, len(columns)))
                    line = even if split else slice(2 * first + j, 2 * (first + tiles), 2)
                    target = pixels(out[at + i : at + len(y) : 2, :, line])
                    target[...] = pixels(m[i, j].swapaxes(1, 2))[: len(target), :, : target.shape[2]]


def weight_gradient(x: Array, dy: Array, g: Geometry, rows: range, columns: range, split: bool) -> Array:
    """What some rows and columns of the output, with the gradient (rows, F, columns, N), add to the weights' gradient.

    Sums of it are what `weights_of` takes.
    """
    half, n = -(-len(columns) // 2), x.shape[3]
    total = np.zeros((4, 4, g.filters, g.in_shape[1]), np.result_type(x, dy))
    # Here the contraction runs over tiles and batch: the more of them lie in one run, the better for BLAS.
    high = 2 * max(1, tuning().tiles // (g.in_shape[1] * n * half))
    for begin in range(0, len(rows), high):
        y, lines = rows[begin : begin + high], dy[begin : begin + high]
        parts = (lines[:, :, :half], lines[:, :, half:]) if split else (lines[:, :, 0::2], lines[:, :, 1::2])
        with scratch_space():
            even, odd = _spread(parts, half)
            planes = (plane.swapaxes(1, 2) for plane in _long_planes(x, g, y, columns.start, half))
            middle, part = scratch(even.shape, even.dtype), scratch(total.shape[1:], total.dtype)
            total[0] += np.matmul(even, next(planes), out=part)
            total[1] += np.matmul(np.add(even, odd, out=middle), next(planes), out=part)
            total[2] += np.matmul(np.subtract(even, odd, out=middle), next(planes), out=part)
            total[3] += np.matmul(odd, next(planes), out=part)
    return total


def weights_of(total: Array, g: Geometry) -> Array:
    """The gradient of filters (F, C, 3, 3) from the sum of what `weight_gradient` gave."""
    signed = _G * np.array([[1], [1], [1], [-1]])  # A's last sign, which `_spread` leaves out
    dw: Array = total.reshape(16, -1).T @ np.kron(signed, signed).astype(total.dtype)
    return dw.reshape(g.filters, g.in_shape[1], 3, 3)


def backward_weights(w: Array, g: Geometry) -> Array:
    """Filters (F, C, 3, 3) as `input_gradient` takes them: flipped, transposed and transformed, (4, 4, C, F)."""
    return _transformed(w.swapaxes(0, 1)[:, :, ::-1, ::-1], _G)


def input_gradient(dy: Array, weights: Array, g: Geometry, rows: range, out: Array) -> None:
    """Some rows of the input block's gradient, into `out`, (rows, C, W, N), for an output gradient (OH, F, OW, N)."""
    correlate(dy, weights, g.transposed(), rows, range(g.in_shape[2]), False, out)


def _groups(rows: range, columns: range, g: Geometry) -> Iterator[tuple[range, int, int]]:
    """A few rows, the number of the first tile in them, and that of tiles: what is worked on at a time."""
    most = tuning().tiles * (1 if rows_a_product(g.filters, g.in_shape[1], g.in_shape[3]) else 4)
    tiles, wide = -(-len(columns) // 2), max(1, most // (g.in_shape[1] * g.in_shape[3]))
    high = 2 if wide > 1 else 1
    wide = -(-tiles // -(-tiles * high // wide))  # as even as can be
    for begin in range(0, len(rows), 2 * high):
        for first in range(0, tiles, wide):
            yield rows[begin : begin + 2 * high], first, min(wide, tiles - first)


def _products(x: Array, u: Array, g: Geometry, rows: range, column: int, tiles: int) -> Array:
    """Y = A' [sum over channels of U * V] A, (2, 2, rows / 2, tiles, F, N): even and odd rows, even and odd columns."""
    n, down, filters = x.shape[3], -(-len(rows) // 2), g.filters
    few = rows_a_product(filters, g.in_shape[1], n)
    if few:
        by_tile = _planes(_across(x, g, rows, column, tiles))
        planes: Iterator[Array] = (plane[:, :, :, None] for plane in by_tile)
        u = u.reshape(4, 4, 1, 1, filters // few, few, -1)
        m = scratch((2, 4, down, tiles, filters // few, few, n), np.result_type(x, u))
    else:
        planes = _long_planes(x, g, rows, column, tiles)
        m = scratch((2, 4, filters, down * tiles * n), np.result_type(x, u))
    (even, odd), part = m, scratch(m.shape[1:], m.dtype)
    np.matmul(u[0], next(planes), out=even)
    even += np.matmul(u[1], next(planes), out=odd)
    even += np.matmul(u[2], next(planes), out=part)
    odd -= part
    odd -= np.matmul(u[3], next(planes), out=part)
    m[:, 0] += m[:, 1]
    m[:, 0] += m[:, 2]
    m[:, 1] -= m[:, 2]
    m[:, 1] -= m[:, 3]
    if few:
        return m[:, :2].reshape(2, 2, down, tiles, filters, n)
    return m[:, :2].reshape(2, 2, filters, down, tiles, n).transpose(0, 1, 3, 4, 2, 5)


def _across(x: Array, g: Geometry, rows: range, column: int, tiles: int) -> Array:
    """d B of the image's rows that these rows of the output need, (4, rows + 2, tiles, C, N)."""
    (_, channels, _, n), height = x.shape, 2 * -(-len(rows) // 2) + 2
    across = scratch((4, height, tiles, channels, n), x.dtype)
    with scratch_space():
        lines = scratch((height, 2, tiles + 1, channels, n), x.dtype)
        _gather(x, rows.start - g.pads[0][0], column - g.pads[1][0], lines)
        _differences(lines, across)
    return across


def _planes(across: Array) -> Iterator[Array]:
    """V[a] = (B' d B)[a], (4, rows / 2, tiles, C, N), for a = 0 … 3; all in one buffer: use one before the next."""
    down = across.shape[1] // 2 - 1
    v = scratch((4, down, *across.shape[2:]), across.dtype)
    yield from _of_rows(across, v, v)


def _long_planes(x: Array, g: Geometry, rows: range, column: int, tiles: int) -> Iterator[Array]:
    """V[a], (4, C, rows / 2 * tiles * N), for a = 0 … 3; as `_planes`, but with the channels' numbers in long runs."""
    (_, channels, _, n), down = x.shape, -(-len(rows) // 2)
    across = scratch((4, 2 * down + 2, channels, tiles, n), x.dtype).swapaxes(2, 3)
    with scratch_space():
        lines = scratch((2 * down + 2, 2, channels, tiles + 1, n), x.dtype).swapaxes(2, 3)
        _gather(x, rows.start - g.pads[0][0], column - g.pads[1][0], lines)
        _differences(lines, across)
    v = scratch((4, channels, down, tiles, n), x.dtype)
    yield from _of_rows(across, v.transpose(0, 2, 3, 1, 4), v.reshape(4, channels, -1))


def _gather(x: Array, top: int, left: int, lines: Array) -> None:
    """The image's rows from `top` on in pairs of columns from `left` on, zeros beyond it: (height, 2, pairs, C, N)."""
    (image_height, _, width, _), (height, _, pairs, _, _) = x.shape, lines.shape
    begin = min(max(0, -top), height)
    end = max(begin, min(height, image_height - top))
    lines[:begin] = 0
    lines[end:] = 0
    inside, source = pixels(lines[begin:end]), pixels(x[top + begin : top + end]).swapaxes(1, 2)
    for j in range(2):
        first, last = max(0, -((left + j) // 2)), min(pairs, (width - 1 - left - j) // 2 + 1)
        lines[begin:end, j, :first] = 0
        lines[begin:end, j, max(first, last) :] = 0
        if first < last:
            inside[:, j, first:last] = source[:, left + j + 2 * first : left + j + 2 * last - 1 : 2]


def _differences(lines: Array, across: Array) -> None:
    """d B, (4, height, tiles, C, N), of rows in pairs of columns (height, 2, tiles + 1, C, N)."""
    d0, d1, d2, d3 = lines[:, 0, :-1], lines[:, 1, :-1], lines[:, 0, 1:], lines[:, 1, 1:]
    np.subtract(d0, d2, out=across[0])
    np.add(d1, d2, out=across[1])
    np.subtract(d2, d1, out=across[2])
    np.subtract(d1, d3, out=across[3])


def _of_rows(across: Array, v: Array, handed: Array) -> Iterator[Array]:
    """Write B' (d B) into v, a row of B' after the other, and hand out the same memory in another shape."""
    down = across.shape[1] // 2 - 1
    r0, r1, r2, r3 = (across[:, i : i + 2 * down - 1 : 2] for i in range(4))
    np.subtract(r0, r2, out=v)
    yield handed
    np.add(r1, r2, out=v)
    yield handed
    np.subtract(r2, r1, out=v)
    yield handed
    np.subtract(r1, r3, out=v)
    yield handed


def _spread(parts: tuple[Array, Array], tiles: int) -> tuple[Array, Array]:
    """dy A' without A's last sign, (4, F, rows / 2 * tiles * N), of even rows and of odd ones.

    Four: the even columns, their sums with the odd ones, the differences, and the odd columns.
    """
    rows, filters, _, n = parts[0].shape
    down = -(-rows // 2)
    spread = scratch((2, 4, filters, down, tiles, n), parts[0].dtype)
    for to, part in zip((0, 3), parts, strict=True):
        for i in range(2):
            target, source = spread[i, to], part[i::2].swapaxes(0, 1)
            if source.shape[1:3] != (down, tiles):
                target.fill(0)
            pixels(target)[:, : source.shape[1], : source.shape[2]] = pixels(source)
    np.add(spread[:, 0], spread[:, 3], out=spread[:, 1])
    np.subtract(spread[:, 0], spread[:, 3], out=spread[:, 2])
    even, odd = spread.reshape(2, 4, filters, -1)
    return even, odd


def _transformed(w: Array, g: Array) -> Array:
    """G w G', (4, 4, F, C), of filters (F, C, 3, 3), as one matrix product with the Kronecker square of G."""
    return (np.kron(g, g).astype(w.dtype) @ w.reshape(-1, 9).T).reshape(4, 4, *w.shape[:2])
