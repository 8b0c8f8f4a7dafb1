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
once for each image row; the row of tiles y combines the image rows 2y … 2y + 3. All buffers belong to one call.

Accuracy. To first order in u, half the spacing of numbers at 1, every result obeys

    |error| <= 64 * (K + 20) * u * K * max|x| * max|w|

with K = C for the output, F for the input gradient (dy for x) and the number of tiles for the weight gradient (dy for
w): K products are summed, at most 20 more roundings lie on the way, and the absolute values of the three matrices
amplify by at most 8 along each axis, where direct summation has its 3 taps. Roundings mostly cancel: in float32, for
layers of 64 to 512 channels, nothing was off by more than 8e-7 of the greatest value; nor was it in direct summation.
An infinity in the image becomes NaN around it, as inf - inf.

The functions have the signatures of `fcnn.ops.lowered`; the stride is always (1, 1).
"""

from collections.abc import Iterator

import numpy as np

from fcnn.ops.window import Pads
from fcnn.values.arrays import Array

_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def suits(w_shape: tuple[int, ...], stride: tuple[int, int], out_size: tuple[int, int], n: int) -> bool:
    """Whether a layer with filters (F, C, KH, KW) and outputs (OH, OW), for a batch of n, is faster in this form.

    The padding doesn't matter.
    """
    if w_shape[2:] != (3, 3) or stride != (1, 1):
        return False
    # Measured with one thread against the width-lowered form, forward and both gradients together, it was 1.2 to 1.7
    # times as fast where this says yes. The products grow with F * C and the transforms with F + C: only 1.0 to 1.2 at
    # 32 channels. A row of tiles costs some 40 calls of NumPy: 0.9 to 1.3 for 2^19 products of numbers, 0.8 to 1.1 for
    # 2^18. Of tiles that hang over, a part is wasted: 0.8 to 1.1 for 5x5 images, 0.6 to 1.0 for 3x3.
    (filters, channels), (oh, ow) = w_shape[:2], out_size
    down, across = -(-oh // 2), -(-ow // 2)
    products = filters * channels * across * n
    return min(filters, channels) >= 64 and products >= 1 << 20 and oh * ow >= 3 * down * across


def correlate(padded: Array, w: Array, stride: tuple[int, int]) -> Array:
    """Cross-correlate a padded (H, C, W, N) block with filters (F, C, 3, 3); the (H - 2, F, W - 2, N) block."""
    height, _, width, _ = padded.shape
    return _correlate(padded, (0, 0), _transformed(w, _G), (height - 2, width - 2))


def input_gradient(out: Array, w: Array, in_shape: tuple[int, ...], stride: tuple[int, int], pads: Pads) -> Array:
    """The gradient of the unpadded (H, C, W, N) block of shape `in_shape`, for an output gradient (OH, F, OW, N).

    `pads` is the padding of the forward pass, ((top, bottom), (left, right)), of any size.
    """
    (top, _), (left, _) = pads
    flipped = _transformed(w, _G[:, ::-1]).swapaxes(2, 3)
    return _correlate(out, (2 - top, 2 - left), flipped, (in_shape[0], in_shape[2]))


def weight_gradient(padded: Array, out: Array, w_shape: tuple[int, ...], stride: tuple[int, int]) -> Array:
    """The gradient of filters (F, C, 3, 3), for a padded block (H, C, W, N) and an output gradient (OH, F, OW, N)."""
    oh, filters, ow, n = out.shape
    channels, tiles = padded.shape[1], -(-ow // 2)
    dtype = np.result_type(padded, out)
    even, odd = dy = np.zeros((2, 4, filters, tiles * n), out.dtype)  # dy A', the two image rows of a tile
    middle = np.empty_like(even)
    du, part = np.zeros((4, 4, filters, channels), dtype), np.empty((4, filters, channels), dtype)
    planes = (v.swapaxes(1, 2) for v in _planes(padded, (0, 0), (oh, ow)))
    for y in range(0, oh, 2):
        for i in range(2):
            if y + i < oh:
                _spread(out[y + i], dy[i])
            else:
                dy[i] = 0
        du[0] += np.matmul(even, next(planes), out=part)
        du[1] += np.matmul(np.add(even, odd, out=middle), next(planes), out=part)
        du[2] += np.matmul(np.subtract(even, odd, out=middle), next(planes), out=part)
        du[3] += np.matmul(odd, next(planes), out=part)
    # A's last row is (0, -1): its sign is left out above and made up for here.
    g = _G * np.array([[1], [1], [1], [-1]])
    dw: Array = du.reshape(16, -1).T @ np.kron(g, g).astype(dtype)
    return dw.reshape(filters, channels, 3, 3)


def _correlate(block: Array, origin: tuple[int, int], u: Array, size: tuple[int, int]) -> Array:
    """The (OH, F, OW, N) block of `size` (OH, OW), with transformed filters (4, 4, F, C).

    Its windows start `origin` rows and columns above and left of the block; beyond the block are zeros.
    """
    (oh, ow), filters, n = size, u.shape[2], block.shape[3]
    tiles = -(-ow // 2)
    y = np.empty((oh, filters, ow, n), np.result_type(block, u))
    even, odd = rows = np.empty((2, 4, filters, tiles * n), y.dtype)  # A' M, the two image rows of a tile
    part = np.empty_like(even)
    planes = _planes(block, origin, size)
    for top in range(0, oh, 2):
        np.matmul(u[0], next(planes), out=even)
        even += np.matmul(u[1], next(planes), out=odd)
        even += np.matmul(u[2], next(planes), out=part)
        odd -= part
        odd -= np.matmul(u[3], next(planes), out=part)
        for row, (m0, m1, m2, m3) in zip(y[top : top + 2], rows, strict=False):
            m0 += m1
            m0 += m2
            m1 -= m2
            m1 -= m3
            pixels = _pixels(row)
            pixels[:, ::2] = _pixels(m0.reshape(filters, tiles, n))
            pixels[:, 1::2] = _pixels(m1.reshape(filters, tiles, n))[:, : ow // 2]
    return y


def _planes(block: Array, origin: tuple[int, int], size: tuple[int, int]) -> Iterator[Array]:
    """V[a] = (B' d B)[a], (4, C, T * N), for a = 0 … 3 of one row of tiles after the other.

    All come in the same buffer: use one before taking the next. `origin` and `size` are those of `_correlate`.
    """
    (height, channels, width, n), (above, left), (oh, ow) = block.shape, origin, size
    tiles = -(-ow // 2)
    # Column j of tile t is column 2 t + j - left of the image; the tiles for which that isn't outside, for each j.
    spans = [(j, max(0, (left - j + 1) // 2), min(tiles, (width - 1 - j + left) // 2 + 1)) for j in range(4)]
    columns = np.zeros((4, channels, tiles, n), block.dtype)
    d0, d1, d2, d3 = columns.reshape(4, channels, tiles * n)
    image, tiled = _pixels(block), _pixels(columns)
    rows = np.empty((4, 4, channels, tiles * n), block.dtype)  # d B of the image rows 2 y … 2 y + 3, round and round
    v = np.empty_like(rows[0])
    for y in range(0, oh, 2):
        for at in range(y + 2 if y else 0, y + 4):
            row = rows[at % 4]
            if not 0 <= at - above < height:
                row.fill(0)
                continue
            for j, begin, end in spans:
                if begin < end:
                    tiled[j, :, begin:end] = image[at - above, :, 2 * begin + j - left : 2 * end + j - left - 1 : 2]
            np.subtract(d0, d2, out=row[0])
            np.add(d1, d2, out=row[1])
            np.subtract(d2, d1, out=row[2])
            np.subtract(d1, d3, out=row[3])
        r0, r1, r2, r3 = (rows[(y + i) % 4] for i in range(4))
        yield np.subtract(r0, r2, out=v)
        yield np.add(r1, r2, out=v)
        yield np.subtract(r2, r1, out=v)
        yield np.subtract(r1, r3, out=v)


def _spread(row: Array, out: Array) -> None:
    """dy A' without A's last sign, in `out`: even and odd columns of an (F, OW, N) row, their sum and difference."""
    filters, width, n = row.shape
    first, total, difference, last = out
    pixels = _pixels(row)
    _pixels(first.reshape(filters, -1, n))[...] = pixels[:, ::2]
    _pixels(last.reshape(filters, -1, n))[:, : width // 2] = pixels[:, 1::2]
    np.add(first, last, out=total)
    np.subtract(first, last, out=difference)


def _transformed(w: Array, g: Array) -> Array:
    """G w G', (4, 4, F, C), of filters (F, C, 3, 3), as one matrix product with the Kronecker square of G."""
    return (np.kron(g, g).astype(w.dtype) @ w.reshape(-1, 9).T).reshape(4, 4, *w.shape[:2])


def _pixels(block: Array) -> Array:
    """A view with the N numbers of a pixel as one opaque item, which NumPy copies in half the time."""
    return block.view(np.dtype((np.void, block.shape[-1] * block.itemsize)))[..., 0]
