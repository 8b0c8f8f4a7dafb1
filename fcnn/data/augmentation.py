"""Augmentation: pure functions of a key and a batch, to be given to `batches` as its `transform`.

Each takes x as floats (N, C, H, W) of any strides, leaves it untouched, and returns a new read-only batch of the same
shape and dtype, batch-innermost in memory, with the same labels.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np

from fcnn.data.types import Batch, BatchTransform
from fcnn.ops.layout import block, unblock
from fcnn.values.arrays import NDArray, frozen, keep, native
from fcnn.values.checks import function, integer, number, one_of, single, told
from fcnn.values.configuration import one_by_one
from fcnn.values.keys import Key, expect_key, fold_in, generator

Array = NDArray[Any]

_MOST_PIXELS = 1 << 20  # that images are moved by; far more can't be added to a place in an image


@attrs.frozen(repr=False, eq=False)
class Augment:
    """A named transform of batches, `augment(key, batch)`; its repr is the call that makes it."""

    name: str
    config: Mapping[str, object]
    apply: Callable[[Key, Array], Array]
    make: "Callable[..., Augment] | None" = None

    def __call__(self, key: Key, batch: Batch) -> Batch:
        """The transformed batch; raises ValueError for x that is not floats (N, C, H, W)."""
        expect_key("key", key)
        if not isinstance(batch, tuple) or len(batch) != 2:
            raise TypeError(f"{self.name} expects a batch, as fcnn.batches gives them, got {told(batch)}")
        x, y = batch
        if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
            raise TypeError(f"{self.name} expects a batch of two arrays, got {told(x)} and {told(y)}")
        if x.ndim != 4 or x.dtype.type not in (np.float32, np.float64):
            raise ValueError(f"{self.name} expects float images (N, C, H, W), got {x.dtype} {x.shape}")
        return Batch(frozen(self.apply(key, native(x))), keep(y))

    def __reduce__(self) -> tuple[Any, ...]:
        if self.make is not None:  # what it applies is a closure, which doesn't pickle; what made it does
            return functools.partial(self.make, **self.config), ()
        return Augment, (self.name, self.config, self.apply)

    def __copy__(self) -> "Augment":
        return self

    def __deepcopy__(self, memo: object) -> "Augment":
        return self

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.config.items())})"


def random_shift(pixels: int, mode: str = "reflect") -> Augment:
    """Move each image by up to `pixels` whole pixels down or up and right or left, all equally likely.

    What comes in at the edge is the image mirrored at its edge pixels (`mode="reflect"`, as `np.pad` means it) or
    black (`"zero"`). The same as padding and cropping at random.
    Raises ValueError for an unknown mode, and in use for images no larger than the shift when reflecting.

    >>> random_shift(2)
    random_shift(pixels=2, mode='reflect')
    """
    if integer("pixels", pixels, least=0) > _MOST_PIXELS:
        raise ValueError(f"pixels is at most {_MOST_PIXELS:,}, got {told(pixels)}")
    one_of("random_shift's mode", mode, ("reflect", "zero"))

    def apply(key: Key, x: Array) -> Array:
        n, _, h, w = x.shape
        if mode == "reflect" and pixels >= min(h, w):
            raise ValueError(f"random_shift({pixels}) reflects within images larger than {pixels}, got {h}x{w}")
        down, right = generator(key).integers(-pixels, pixels + 1, (2, n))
        rows, columns = np.arange(h)[:, None] - down, np.arange(w)[:, None] - right
        if mode == "reflect":
            return unblock(_gather(block(x), _reflected(rows, h)[:, None], _reflected(columns, w)[None]))
        outside = _outside(rows, h)[:, None] | _outside(columns, w)[None]
        shifted = _gather(block(x), np.clip(rows, 0, h - 1)[:, None], np.clip(columns, 0, w - 1)[None])
        np.copyto(shifted, 0, where=outside[:, None])
        return unblock(shifted)

    return Augment("random_shift", {"pixels": pixels, "mode": mode}, apply, random_shift)


def random_flip() -> Augment:
    """Mirror each image left to right with probability 1/2.

    >>> random_flip()
    random_flip()
    """

    def apply(key: Key, x: Array) -> Array:
        n, _, h, w = x.shape
        flip = generator(key).random(n) < 0.5
        across = np.arange(w)[:, None]
        columns = np.where(flip, w - 1 - across, across)
        return unblock(_gather(block(x), np.arange(h)[:, None, None], columns[None]))

    return Augment("random_flip", {}, apply, random_flip)


def random_affine(degrees: float = 10.0, scale: float = 0.1, shift: float = 2.0) -> Augment:
    """Turn, scale and move each image about its centre, all drawn uniformly; bilinear, black outside.

    By up to `degrees` either way, by a factor from 1 - `scale` to 1 + `scale`, and by up to `shift` pixels along each
    axis. Output pixel p, as (row, column), takes the value at centre + R(angle) (p - centre - shift) / factor with
    R(a) = [[cos a, -sin a], [sin a, cos a]].

    >>> random_affine(degrees=5)
    random_affine(degrees=5.0, scale=0.1, shift=2.0)
    """
    degrees, shift = single("degrees", degrees, "[0, inf)"), single("shift", shift, "[0, inf)")
    scale = number("scale", scale, "[0, 1)")

    def apply(key: Key, x: Array) -> Array:
        n, _, h, w = x.shape
        rng = generator(key)
        angle = np.deg2rad(rng.uniform(-degrees, degrees, n))
        factor = rng.uniform(1 - scale, 1 + scale, n)
        move_down, move_right = rng.uniform(-shift, shift, (2, n))
        down = np.arange(h)[:, None, None] - (h - 1) / 2 - move_down
        right = np.arange(w)[None, :, None] - (w - 1) / 2 - move_right
        cos, sin = np.cos(angle) / factor, np.sin(angle) / factor
        rows = cos * down - sin * right + (h - 1) / 2
        columns = sin * down + cos * right + (w - 1) / 2
        return unblock(_bilinear(block(x), rows, columns))

    return Augment("random_affine", {"degrees": degrees, "scale": scale, "shift": shift}, apply, random_affine)


def compose(*transforms: BatchTransform) -> BatchTransform:
    """One transform that does several in turn.

    Each gets a key derived from its name and its place among those of that name (`random_flip1`), so putting another
    kind before it changes none of its draws.

    >>> compose(random_shift(2), random_flip())
    compose(random_shift(pixels=2, mode='reflect'), random_flip())
    """
    one_by_one("compose", "transforms", transforms)
    return _Composed(tuple(expect_batch_transform("what is composed", transform) for transform in transforms))


def expect_batch_transform(name: str, value: Any) -> BatchTransform:
    """`value`, if it can transform batches."""
    expected = "a function (key, batch), such as fcnn.data.random_flip() gives"
    if any(value is one for one in (random_shift, random_flip, random_affine, compose)):
        raise TypeError(f"{name} is {expected}, got {told(value)}; call it: {value.__name__}(…)")
    if isinstance(value, (list, tuple)) and value and all(map(callable, value)):
        raise TypeError(f"{name} is {expected}, got {told(value)}; fcnn.data.compose(*transforms) makes one of several")
    return function(name, value, expected)


@attrs.frozen(repr=False)
class _Composed:
    transforms: tuple[BatchTransform, ...]

    def __call__(self, key: Key, batch: Batch) -> Batch:
        count: dict[str, int] = {}
        expect_key("key", key)
        for transform in self.transforms:
            name = _name(transform)
            count[name] = count.get(name, 0) + 1
            batch = transform(fold_in(key, f"{name}{count[name]}"), batch)
        return batch

    def __repr__(self) -> str:
        return f"compose({', '.join(map(repr, self.transforms))})"


def _name(transform: BatchTransform) -> str:
    if isinstance(transform, Augment):
        return transform.name
    return str(getattr(transform, "__name__", type(transform).__name__))


def _gather(images: Array, rows: Array, columns: Array) -> Array:
    """images[rows, :, columns] of each image, for an (H, C, W, N) block: a new (H', C, W', N) block.

    `rows` and `columns` hold whole numbers and broadcast to (H', W', N).
    """
    _, c, w, n = images.shape
    # One index into flat memory serves all channels: it is moved on by a channel's stride.
    at = (rows * (c * w) + columns) * n + np.arange(n)
    at = at[:, None] + (np.arange(c) * (w * n))[:, None, None]
    # "clip" only tells take that it need not check: no index is out of range.
    gathered: Array = images.reshape(-1).take(at, mode="clip")
    return gathered


def _bilinear(images: Array, rows: Array, columns: Array) -> Array:
    """`images` at fractional positions (H, W, N), zero outside, for an (H, C, W, N) block."""
    h, c, w, n = images.shape
    # With a rim of zeros around it, an image is zero at every position that is moved to the rim.
    rimmed = np.zeros((h + 2, c, w + 2, n), images.dtype)
    rimmed[1:-1, :, 1:-1] = images
    rows, columns = np.clip(rows, -1, h) + 1, np.clip(columns, -1, w) + 1
    top, left = np.minimum(rows.astype(np.intp), h), np.minimum(columns.astype(np.intp), w)
    below = (rows - top).astype(images.dtype)[:, None]
    beside = (columns - left).astype(images.dtype)[:, None]
    upper = _gather(rimmed, top, left) * (1 - beside) + _gather(rimmed, top, left + 1) * beside
    lower = _gather(rimmed, top + 1, left) * (1 - beside) + _gather(rimmed, top + 1, left + 1) * beside
    blended: Array = upper * (1 - below) + lower * below
    return blended


def _reflected(index: Array, size: int) -> Array:
    mirrored: Array = (size - 1) - np.abs((size - 1) - np.abs(index))
    return mirrored


def _outside(index: Array, size: int) -> Array:
    outside: Array = (index < 0) | (index >= size)
    return outside
