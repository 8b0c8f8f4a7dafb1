"""The values that data is made of: splits, data sets, batches, and the one error that they raise."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import attrs
import numpy as np

from fcnn.values.arrays import NDArray, keep
from fcnn.values.keys import Key


class DataError(RuntimeError):
    """A data set could not be had: not found, not downloaded, or not the bytes it should be.

    The message names the file or address, what was expected, what came, and what to do.
    """


class Batch(NamedTuple):
    """What a network is trained on: images `x`, floats (N, C, H, W), and labels `y`, int64 (N,)."""

    x: NDArray[Any]
    y: NDArray[Any]


BatchTransform: TypeAlias = Callable[[Key, Batch], Batch]
"""A pure function of a key and a batch, such as an augmentation."""

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""`progress(description, done, total)`: `done` of `total` bytes have arrived; None where the total is unknown."""


@attrs.frozen(eq=False, repr=False)
class Split:
    """Labelled images: `x` is uint8 (N, C, H, W), grey levels 0 to 255; `y` is int64 (N,), not negative.

    Both are C-ordered and read-only: a writeable or differently ordered array is copied, any other is kept.
    Raises TypeError for another dtype, ValueError for another shape.

    >>> split = Split(np.zeros((5, 1, 28, 28), np.uint8), np.arange(5))
    >>> split, len(split), split.take(2), split.take([4, 0]).y
    (Split(5 images of 1x28x28), 5, Split(2 images of 1x28x28), array([4, 0]))
    """

    x: NDArray[np.uint8] = attrs.field()
    y: NDArray[np.int64] = attrs.field()

    @x.validator
    def _images(self, _: object, x: Any) -> None:
        _expect("x", x, np.uint8, "(N, C, H, W)", 4)
        if 0 in x.shape[1:]:
            raise ValueError(f"a split's x is uint8 (N, C, H, W) with no empty image, got shape {x.shape}")

    @y.validator
    def _labels(self, _: object, y: Any) -> None:
        _expect("y", y, np.int64, "(N,)", 1)
        if len(y) != len(self.x):
            raise ValueError(f"a split has one label for each image, got {len(self.x)} images and {len(y)} labels")
        if len(y) and y.min() < 0:
            raise ValueError(f"a split's labels are class numbers from 0 on, got {y.min()}")

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "x", keep(np.ascontiguousarray(self.x)))
        object.__setattr__(self, "y", keep(np.ascontiguousarray(self.y)))

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"Split({len(self)} images of {'x'.join(map(str, self.x.shape[1:]))})"

    def take(self, which: int | NDArray[Any] | list[int]) -> "Split":
        """The first `which` images, or those at the indices `which`, in that order.

        Raises ValueError for more images than there are, IndexError for an index out of range.
        """
        if isinstance(which, (int, np.integer)) and not isinstance(which, bool):
            if not 0 <= which <= len(self):
                raise ValueError(f"take(n) expects 0 to {len(self)}, the number of images, got {which}")
            return Split(self.x[:which], self.y[:which])
        indices = np.asarray(which)
        if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            raise TypeError(f"take expects a number of images or a list of indices, got {which!r}")
        indices = indices.astype(np.intp)
        return Split(self.x[indices], self.y[indices])


@attrs.frozen(eq=False, repr=False)
class Dataset:
    """A training and a test split of the same image shape, with the names of the classes where they are known.

    >>> split = Split(np.zeros((5, 1, 28, 28), np.uint8), np.arange(5))
    >>> Dataset(split, split.take(1), name="toy")
    Dataset('toy', train=Split(5 images of 1x28x28), test=Split(1 images of 1x28x28))
    """

    train: Split
    test: Split = attrs.field()
    name: str = ""
    classes: tuple[str, ...] = attrs.field(default=())

    @test.validator
    def _same_shape(self, _: object, test: Split) -> None:
        if test.x.shape[1:] != self.train.x.shape[1:]:
            raise ValueError(f"train and test have images of one shape, got {self.train!r} and {test!r}")

    @classes.validator
    def _known_classes(self, _: object, classes: tuple[str, ...]) -> None:
        highest = max((int(split.y.max()) for split in (self.train, self.test) if len(split)), default=-1)
        if classes and highest >= len(classes):
            raise ValueError(f"labels are below {len(classes)}, the number of classes, got {highest}")

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, train={self.train!r}, test={self.test!r})"


def _expect(name: str, array: Any, dtype: type, shape: str, ndim: int) -> None:
    expected = f"a split's {name} is an array of {np.dtype(dtype)} {shape}"
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{expected}, got {type(array).__name__}")
    if array.dtype != dtype:
        raise TypeError(f"{expected}, got {array.dtype}; convert it with .astype(np.{np.dtype(dtype)})")
    if array.ndim != ndim:
        raise ValueError(f"{expected}, got shape {array.shape}")
