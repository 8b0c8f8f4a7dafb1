"""How arrays lie in memory: the batch innermost. The one clever idea of the library, kept in this file.

What a user sees is PyTorch's convention: images are `(N, C, H, W)`, features are `(N, D)`. What lies in memory is
the same numbers in another order, with the *batch* running fastest:

    logical index   x[n, c, h, w]          the shape a user reads and writes with
    memory          block[h, c, w, n]      one C-contiguous block of shape (H, C, W, N)

    row h = 0:  channel 0: w=0 [n0 n1 n2 … nN]  w=1 [n0 n1 n2 … nN]  …
                channel 1: w=0 [n0 n1 n2 … nN]  w=1 [n0 n1 n2 … nN]  …
    row h = 1:  …

Why. A convolution needs, for each output row, all channels of KH neighbouring input rows: here that is *one
contiguous piece of memory*. Any slice along C, H or W still has runs of N numbers, so shifted adds, pooling windows
and strides run at memory speed. The result of the matrix product comes out in the very order that the next layer
wants, so nothing is ever transposed between layers. Features lie likewise, as a (D, N) block, and a dense layer is
`W @ X`; sequences (N, C, L) as a (L, C, N) block.

Any other order is accepted everywhere and gives the same values: `block` copies it into place once. NumPy's own
elementwise functions, `np.where` and `astype` keep the order of their operands, so most layers need not know of it.
"""

import functools

import numpy as np

from fcnn.values.arrays import Array, frozen


def block(x: Array) -> Array:
    """The C-contiguous (H, C, W, N) block of images (N, C, H, W), (L, C, N) of sequences, or (D, N) of features (N, D).

    A view where `x` already lies batch-innermost, otherwise a copy, which is read-only.
    """
    memory = _physical(x)
    return memory if memory.flags.c_contiguous else frozen(np.ascontiguousarray(memory))


def unblock(block: Array) -> Array:
    """The logical (N, C, H, W), (N, C, L) or (N, D) view of a block; the inverse of `block`."""
    return _logical(block)


def channel_rows(block: Array) -> Array:
    """A view (R, C, M), channel c having R rows of M numbers.

    Of images (N, C, H, W) that is (H, C, W * N), of (N, C, L) it is (L, C, N), and of features (N, D) it is (1, D, N).
    """
    if block.ndim < 4:
        return block[None] if block.ndim == 2 else block
    return block.reshape(*block.shape[:2], block.shape[2] * block.shape[3])


def strided(block: Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """A view of a C-contiguous block with other strides, in bytes; it may overlap itself, so it is only to be read.

    As NumPy's `as_strided`, but at a tenth of its cost, and it can't reach beyond the block.
    """
    return np.ndarray(shape, block.dtype, block, strides=strides)


def pixels(block: Array) -> Array:
    """A view with the N numbers of a pixel as one opaque item, which NumPy copies in half the time."""
    return block.view(opaque(block.shape[-1] * block.itemsize))[..., 0]


@functools.cache
def opaque(size: int) -> np.dtype[np.void]:
    """The dtype of items of so many bytes with nothing known of what is in them."""
    return np.dtype((np.void, size))


def _physical(x: Array) -> Array:
    return x.transpose(2, 1, 3, 0) if x.ndim == 4 else x.T


def _logical(block: Array) -> Array:
    return block.transpose(3, 1, 0, 2) if block.ndim == 4 else block.T
