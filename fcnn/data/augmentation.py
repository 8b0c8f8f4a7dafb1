"""Augmentation: pure functions of a key and a batch, to be given to `batches` as its `transform`.

Each takes x as floats (N, C, H, W) of any strides, leaves it untouched, and returns a new read-only batch of the same
shape and dtype, batch-innermost in memory, with the same labels, `rows` and `epoch`. N may be a whole split: images are
taken so many at a time that what is computed of them stays in cache.

One core of an AMD EPYC (Zen 5) mirrors 430,000 images of 3x32x32 a second in batches of 1,024, shifts 230,000, and
turns and scales 26,000; of images of 1x28x28 it is 2,000,000, 670,000 and 98,000.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np

from fcnn.data.types import Batch, BatchTransform
from fcnn.ops.layout import block, unblock
from fcnn.ops.moving import MOST_PIXELS, reflected
from fcnn.values.arrays import NDArray, frozen, keep, native
from fcnn.values.checks import array, function, integer, number, one_of, single, told
from fcnn.values.configuration import one_by_one
from fcnn.values.keys import Key, expect_key, fold_in, generator

Array = NDArray[Any]

_AT_ONCE = 128  # images, of whose pixels the places stay in cache


@attrs.frozen(repr=False, eq=False)
class Augment:
    """A named transform of batches, `augment(key, batch)`; its repr is the call that makes it."""

    name: str
    config: Mapping[str, object]
    apply: Callable[[Key, Batch], Array]
    make: "Callable[..., Augment] | None" = None

    def __call__(self, key: Key, batch: Batch) -> Batch:
        """The transformed batch; raises ValueError for x that is not floats (N, C, H, W)."""
        expect_key("key", key)
        if not isinstance(batch, tuple) or len(batch) != 2:
            raise TypeError(f"{self.name} expects a batch, as fcnn.batches gives them, got {told(batch)}")
        batch = batch if isinstance(batch, Batch) else Batch(*batch)
        x, y = batch
        if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
            raise TypeError(f"{self.name} expects a batch of two arrays, got {told(x)} and {told(y)}")
        if x.ndim != 4 or x.dtype.type not in (np.float32, np.float64):
            raise ValueError(f"{self.name} expects float images (N, C, H, W), got {x.dtype} {x.shape}")
        return batch._replace(x=frozen(self.apply(key, batch._replace(x=native(x)))), y=keep(y))

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
    if integer("pixels", pixels, least=0) > MOST_PIXELS:
        raise ValueError(f"pixels is at most {MOST_PIXELS:,}, got {told(pixels)}")
    one_of("random_shift's mode", mode, ("reflect", "zero"))

    def apply(key: Key, batch: Batch) -> Array:
        x, (n, _, h, w) = batch.x, batch.x.shape
        if mode == "reflect" and pixels >= min(h, w):
            raise ValueError(f"random_shift({pixels}) reflects within images larger than {pixels}, got {h}x{w}")
        down, right = generator(key).integers(-pixels, pixels + 1, (2, n))

        def of_part(images: Array, part: slice) -> Array:
            rows, columns = np.arange(h)[:, None] - down[part], np.arange(w)[:, None] - right[part]
            if mode == "reflect":
                return _gather(images, reflected(rows, h)[:, None], reflected(columns, w)[None])
            shifted = _gather(images, np.clip(rows, 0, h - 1)[:, None], np.clip(columns, 0, w - 1)[None])
            np.copyto(shifted, 0, where=(_outside(rows, h)[:, None] | _outside(columns, w)[None])[:, None])
            return shifted

        return unblock(_in_parts(block(x), of_part))

    return Augment("random_shift", {"pixels": pixels, "mode": mode}, apply, random_shift)


def random_flip() -> Augment:
    """Mirror each image left to right with probability 1/2.

    >>> random_flip()
    random_flip()
    """

    def apply(key: Key, batch: Batch) -> Array:
        return _mirrored(batch.x, generator(key).random(len(batch.x)) < 0.5)

    return Augment("random_flip", {}, apply, random_flip)


def alternating_flip(key: Key) -> Augment:
    """Mirror each image left to right in every other epoch; which half of them in the even ones, is drawn once.

    So each two epochs that follow one another show every image once as it is and once mirrored, where `random_flip`
    shows a quarter of them mirrored twice, and a quarter never (K. Jordan, arXiv 2404.00498, section 3.6).

    Image i of the split is mirrored in epoch e if e is odd or the i-th draw from `key` says so, and not both: a pure
    function of key, i and e, whatever the batches' size and order. So it needs batches that say which images of which
    epoch they hold, as `fcnn.batches` gives them; in use it raises ValueError for others.

    >>> from fcnn.values.keys import key
    >>> flip, y = alternating_flip(key(0)), np.arange(3)
    >>> x = np.broadcast_to(np.array([0, 1], np.float32), (3, 1, 1, 2))
    >>> [flip(key(1), Batch(x, y, rows=y, epoch=epoch)).x[:, 0, 0, 0].tolist() for epoch in range(3)]
    [[0.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    expect_key("alternating_flip's key", key)

    def apply(_: Key, batch: Batch) -> Array:
        rows = _rows("alternating_flip", batch)
        odd = integer("a batch's epoch", batch.epoch, least=0) % 2 == 1
        at_first = generator(key).integers(0, 2, int(rows.max(initial=0)) + 1, dtype=bool)  # draw i is that of image i
        return _mirrored(batch.x, at_first[rows] != odd)

    return Augment("alternating_flip", {"key": key}, apply, alternating_flip)


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

    def apply(key: Key, batch: Batch) -> Array:
        n, _, h, w = batch.x.shape
        rng = generator(key)
        angle = np.deg2rad(rng.uniform(-degrees, degrees, n))
        factor = rng.uniform(1 - scale, 1 + scale, n)
        move_down, move_right = rng.uniform(-shift, shift, (2, n))
        cos, sin = np.cos(angle) / factor, np.sin(angle) / factor

        def of_part(images: Array, part: slice) -> Array:
            down = np.arange(h)[:, None, None] - (h - 1) / 2 - move_down[part]
            right = np.arange(w)[None, :, None] - (w - 1) / 2 - move_right[part]
            rows = cos[part] * down - sin[part] * right + (h - 1) / 2
            columns = sin[part] * down + cos[part] * right + (w - 1) / 2
            return _bilinear(images, rows, columns)

        return unblock(_in_parts(block(batch.x), of_part))

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
    if any(value is one for one in (random_shift, random_flip, alternating_flip, random_affine, compose)):
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


def _rows(name: str, batch: Batch) -> Array:
    """Which images of a split a batch holds, if it says so."""
    if batch.rows is None:
        raise ValueError(
            f"{name} expects a batch that says which images it holds, as fcnn.batches gives them, got one without "
            "rows; a transform keeps them with batch._replace(x=…)"
        )
    expected = "integers from 0 on, one for each image"
    rows = array("a batch's rows", batch.rows, expected)
    if rows.dtype.kind not in "iu":
        raise TypeError(f"a batch's rows are {expected}, got {told(rows)}")
    if rows.shape != (len(batch.x),) or rows.min(initial=0) < 0:
        least = f" from {rows.min()} on" if rows.size else ""
        raise ValueError(f"a batch's rows are {expected} of {len(batch.x)}, got {told(rows)}{least}")
    return rows


def _mirrored(x: Array, which: Array) -> Array:
    """Images (N, C, H, W), those left to right of which `which` (N,) is true."""
    memory = block(x)
    return unblock(np.where(which, memory[:, :, ::-1], memory))


def _in_parts(images: Array, of_part: Callable[[Array, slice], Array]) -> Array:
    """What `of_part(images, part)` makes of the images `part` of an (H, C, W, N) block, part by part: a new block."""
    n = images.shape[3]
    moved = np.empty_like(images)
    for first in range(0, n, _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        moved[..., part] = of_part(np.ascontiguousarray(images[..., part]), part)
    return moved


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


def _outside(index: Array, size: int) -> Array:
    outside: Array = (index < 0) | (index >= size)
    return outside
