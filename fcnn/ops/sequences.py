"""Convolution and pooling of sequences (N, C, L): those of images of one column.

A sequence's block (L, C, N) is, as it lies in memory, the block (L, C, 1, N) of an image of L rows and one column. So a
convolution of K numbers is one whose filters have K rows and one column, by the same kernels, and nothing is copied.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import attrs

from fcnn.ops.adaptive import global_avg_pool2d, global_avg_pool2d_backward
from fcnn.ops.conv import conv2d, conv2d_backward, expect_divided
from fcnn.ops.pool import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward, pool_window
from fcnn.ops.window import Pads, windows
from fcnn.values.arrays import Array
from fcnn.values.checks import MOST_PIXELS, boolean, cached, floats, integer, output_gradient, pair, told

Rows: TypeAlias = Pads | Literal["same"]  # that of the images
Ends: TypeAlias = int | tuple[int, int] | Literal["same"]  # how much padding there is: at both ends, (before, after)


@attrs.frozen
class SequenceCache:
    """What the backward functions here need: which function gave it, its y's shape, and the cache for images."""

    name: str
    out_shape: tuple[int, ...]
    images: Any


def conv1d(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: int = 1,
    padding: Ends = 0,
    dilation: int = 1,
    groups: int = 1,
) -> tuple[Array, SequenceCache]:
    """Cross-correlate sequences with filters.

        y[n, f, i] = b[f] + sum over c, k of w[f, c, k] * x_padded[n, c, i * stride + k * dilation]

    Args:
        x: sequences, (N, C, L).
        w: filters, (F, C / groups, K).
        b: biases, (F,), or None.
        stride, dilation, groups: as those of `conv2d`, along the one axis.
        padding: zeros at each end, an int, (before, after), or "same" for ceil(L / stride) places.

    Returns:
        y, (N, F, OL) with OL = (L + padding - (K - 1) * dilation - 1) // stride + 1; and the cache for
        `conv1d_backward`.

    Raises:
        ValueError: the shapes don't go together, or the filter doesn't fit into the padded sequence.

    >>> import numpy as np
    >>> conv1d(np.array([[[1.0, 2.0, 4.0]]]), np.array([[[-1.0, 1.0]]]))[0]
    array([[[1., 2.]]])
    """
    x, w = floats("conv1d's x", x), floats("conv1d's w", w)
    if x.ndim != 3 or w.ndim != 3 or x.shape[1] != w.shape[1] * integer("groups", groups, least=1) or 0 in w.shape:
        filters = "(F, C, K) with the same C" if groups == 1 else f"(F, C / groups, K) for {groups} groups"
        raise ValueError(
            f"conv1d expects x (N, C, L) and w {filters}, with no length of 0, got {x.shape} and {w.shape}"
        )
    expect_divided("conv1d", groups, x.shape[1], w.shape[0])
    if b is not None and (b := floats("conv1d's b", b)).shape != w.shape[:1]:
        raise ValueError(f"conv1d expects b ({len(w)},), one number for each filter of w, got {b.shape}")
    steps, apart, pads = places("stride", stride), places("dilation", dilation), pads_of_rows(padding)
    conv_length(x.shape[2], w.shape[2], steps, pads, apart)  # whose errors are in places
    options: dict[str, Any] = {"stride": (steps, 1), "padding": pads, "dilation": (apart, 1)}
    y, cache = conv2d(_image(x), _image(w), b, **options, groups=groups)
    return y[..., 0], SequenceCache("conv1d", y.shape[:3], cache)


def conv1d_backward(
    dy: Array, cache: SequenceCache, *, need_dx: bool = True, need_dw: bool = True, need_db: bool | None = None
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of `conv1d` for any dy, (N, F, OL).

    Returns:
        dx (N, C, L), None unless `need_dx`; dw (F, C / groups, K), None unless `need_dw`; db (F,), None without a bias,
        and unless `need_db`, which is as `need_dw` when None.
    """
    dy, images = _expected("conv1d", dy, cache)
    dx, dw, db = conv2d_backward(_image(dy), images, need_dx=need_dx, need_dw=need_dw, need_db=need_db)
    return None if dx is None else dx[..., 0], None if dw is None else dw[..., 0], db


def max_pool1d(
    x: Array, window: int, *, stride: int | None = None, padding: Ends = 0, ceil_mode: bool = False
) -> tuple[Array, SequenceCache]:
    """The greatest number in each window.

    Args:
        x: sequences, (N, C, L).
        window, stride, ceil_mode: as those of `max_pool2d`, along the one axis.
        padding: at each end, an int, (before, after), or "same"; it never wins.

    Returns:
        y, (N, C, OL); and the cache for `max_pool1d_backward`.

    >>> import numpy as np
    >>> max_pool1d(np.array([[[1.0, 3.0, 2.0, 0.0]]]), 2)[0]
    array([[[3., 2.]]])
    """
    return _pool("max_pool1d", max_pool2d, x, window, stride, padding, ceil_mode)


def max_pool1d_backward(dy: Array, cache: SequenceCache) -> Array:
    """The gradient of `max_pool1d` for any dy, (N, C, OL): it goes to the *first* maximum of each window."""
    dy, images = _expected("max_pool1d", dy, cache)
    return max_pool2d_backward(_image(dy), images)[..., 0]


def avg_pool1d(
    x: Array,
    window: int,
    *,
    stride: int | None = None,
    padding: Ends = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Array, SequenceCache]:
    """The mean of each window; arguments and shapes as those of `max_pool1d` and `avg_pool2d`.

    >>> import numpy as np
    >>> avg_pool1d(np.array([[[1.0, 3.0, 2.0, 0.0]]]), 2)[0]
    array([[[2., 1.]]])
    """
    return _pool("avg_pool1d", avg_pool2d, x, window, stride, padding, ceil_mode, count_include_pad=count_include_pad)


def avg_pool1d_backward(dy: Array, cache: SequenceCache) -> Array:
    """The gradient of `avg_pool1d` for any dy, (N, C, OL): each place of a window gets an equal share."""
    dy, images = _expected("avg_pool1d", dy, cache)
    return avg_pool2d_backward(_image(dy), images)[..., 0]


def global_avg_pool1d(x: Array) -> tuple[Array, SequenceCache]:
    """The mean of each channel: sequences (N, C, L) to features (N, C).

    >>> import numpy as np
    >>> global_avg_pool1d(np.ones((2, 3, 4)))[0].shape
    (2, 3)
    """
    x = _sequences("global_avg_pool1d", x)
    if not x.shape[2]:
        raise ValueError(f"global_avg_pool1d expects sequences of at least one place, got {x.shape}")
    y, cache = global_avg_pool2d(_image(x))
    return y, SequenceCache("global_avg_pool1d", y.shape, cache)


def global_avg_pool1d_backward(dy: Array, cache: SequenceCache) -> Array:
    """The gradient of `global_avg_pool1d` for any dy, (N, C)."""
    dy, images = _expected("global_avg_pool1d", dy, cache)
    return global_avg_pool2d_backward(dy, images)[..., 0]


def pads_of_rows(padding: Ends) -> Rows:
    """The padding of the images, whose one column has none."""
    if isinstance(padding, str):
        if padding != "same":
            raise ValueError(f'padding is an integer, a pair (before, after) or "same", got {told(padding)}')
        return padding
    return pair("padding", padding, least=0, sides="(before, after)"), (0, 0)


def places(name: str, value: object) -> int:
    """A window's size, its step, or how far apart its places stand."""
    return integer(name, value, least=1, most=MOST_PIXELS)


def conv_length(length: int, size: int, steps: int, pads: Rows, apart: int) -> int:
    """How many places of a padded sequence a filter has. Raises ValueError if it doesn't fit."""
    try:
        return windows((length, 1), (size, 1), (steps, 1), pads, (apart, 1))[2][0]
    except ValueError:
        raise _too_short(length, (size - 1) * apart + 1, pads) from None


def pool_length(name: str, length: int, size: int, steps: int, pads: Rows, ceil_mode: bool) -> int:
    """How many windows of a padded sequence there are. Raises ValueError if none fits, or one would hold no place."""
    try:
        return pool_window(name, (length, 1), (size, 1), (steps, 1), pads, ceil_mode)[1][0]
    except ValueError:
        if pads != "same" and max(pads[0]) >= size:
            raise ValueError(
                f"{name}: padding {pads[0]} leaves windows of {size} that hold no place of the sequence"
            ) from None
        raise _too_short(length, size, pads) from None


def _too_short(length: int, window: int, pads: Rows) -> ValueError:
    assert pads != "same"  # with which any window fits
    return ValueError(
        f"a window of {window} does not fit into {length} with padding {pads[0]}; use a smaller window or more padding"
    )


def _image(x: Array) -> Array:
    return x[..., None]


def _sequences(name: str, x: Array) -> Array:
    x = floats(f"{name}'s x", x)
    if x.ndim != 3:
        raise ValueError(f"{name} expects sequences (N, C, L), got {x.shape}")
    return x


def _pool(
    name: str,
    pool: Callable[..., tuple[Array, Any]],
    x: Array,
    window: int,
    stride: int | None,
    padding: Ends,
    ceil_mode: bool,
    **options: bool,
) -> tuple[Array, SequenceCache]:
    x, size = _sequences(name, x), places("window", window)
    steps = size if stride is None else places("stride", stride)
    pads = pads_of_rows(padding)
    pool_length(name, x.shape[2], size, steps, pads, boolean("ceil_mode", ceil_mode))  # whose errors say the name
    y, cache = pool(_image(x), (size, 1), stride=(steps, 1), padding=pads, ceil_mode=ceil_mode, **options)
    return y[..., 0], SequenceCache(name, y.shape[:3], cache)


def _expected(name: str, dy: Array, cache: SequenceCache) -> tuple[Array, Any]:
    """dy, if it is of the output's shape, and the cache for images, if it is that of this function."""
    if cached(name, cache, SequenceCache).name != name:
        raise TypeError(f"{name}_backward's cache is the one that {name} gave, got that of {cache.name}")
    return output_gradient(f"{name}_backward", dy, cache.out_shape), cache.images
