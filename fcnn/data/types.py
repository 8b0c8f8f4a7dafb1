"""The values that data is made of: splits, data sets, batches, and the one error that they raise."""

import math
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple, Self, TypeAlias

import attrs
import numpy as np

from fcnn.data.preprocessing import Preprocessing
from fcnn.values.arrays import NDArray, digest, keep, native
from fcnn.values.checks import array, instance, integer, texts, told
from fcnn.values.keys import Key


class DataError(RuntimeError):
    """A data set could not be had: not found, not downloaded, or not the bytes it should be.

    The message names the file or address, what was expected, what came, and what to do.
    """


class DataWarning(UserWarning):
    """Something of a data set was left out; the message names it and says why."""


class _Pair(NamedTuple):
    x: NDArray[Any]
    y: NDArray[Any]


class Batch(_Pair):
    """What a network is trained on: the pair of inputs `x`, floats (N, C, H, W), (N, C, L) or (N, D), and targets `y`.

    rows: which inputs of a split these are, int64 (N,); None where nobody said it.
    epoch: in which pass over the split, from 0 on.

    A batch is made and unpacked as the pair (x, y); `rows` and `epoch` are attributes, which `batches` gives and
    `batch._replace(x=…)` keeps: so a transform can know an image again in another epoch. Shards of a batch
    (`fcnn.parallel`) have x and y alone.

    >>> batch = Batch(np.zeros((2, 3)), np.array([1, 0]), rows=np.array([7, 4]), epoch=2)
    >>> x, y = batch
    >>> batch._replace(x=x + 1).rows, Batch(x, y).rows
    (array([7, 4]), None)
    """

    rows: NDArray[np.int64] | None = None
    epoch: int = 0

    def __new__(cls, x: NDArray[Any], y: NDArray[Any], rows: NDArray[np.int64] | None = None, epoch: int = 0) -> Self:
        """The pair, with what is known of it."""
        made = super().__new__(cls, x, y)
        made.__dict__.update(rows=rows, epoch=epoch)
        return made

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a batch is immutable; batch._replace(…) makes another")

    def _replace(self, **changes: Any) -> Self:
        return type(self)(**{"x": self.x, "y": self.y, "rows": self.rows, "epoch": self.epoch, **changes})

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.x, self.y, self.rows, self.epoch)

    def __repr__(self) -> str:
        known = "" if self.rows is None else f", rows={self.rows!r}, epoch={self.epoch}"
        return f"Batch(x={self.x!r}, y={self.y!r}{known})"


BatchTransform: TypeAlias = Callable[[Key, Batch], Batch]
"""A pure function of a key and a batch, such as an augmentation."""

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""`progress(description, done, total)`: `done` of `total` bytes have arrived, None where the total is unknown; or
pictures were read."""


_INPUTS = (np.uint8, np.float32, np.float64)


def check_inputs(owner: str, x: Any) -> None:
    """Raise TypeError or ValueError unless `x` is what networks take: images, sequences or features."""
    expected = (
        f"{owner}'s x is an array, images (N, C, H, W) or features (N, D) of uint8 or of floats, "
        "or sequences (N, C, L) of floats"
    )
    if not isinstance(x, np.ndarray) or isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{expected}, got {told(x)}{_how_to_make_an_array(x)}")
    if x.ndim not in (2, 3, 4) or 0 in x.shape[1:]:
        raise ValueError(f"{expected}, none of them empty, got {told(x)}")
    if x.ndim == 3 and x.dtype == np.uint8:
        # Of grey levels these are images that lack their channel, far more often than sequences.
        advice = "x[:, None] gives grey images (N, H, W) their channel, x.astype(np.float32) makes sequences of it"
        raise ValueError(f"{expected}, got {told(x)}; {advice}")
    if x.dtype.type not in _INPUTS:
        raise TypeError(f"{expected}, got {x.dtype}{_how_to_make_inputs(x)}")


def check_targets(owner: str, y: Any, count: int) -> None:
    """Raise TypeError or ValueError unless `y` is a class or numbers for each of `count` inputs."""
    expected = f"{owner}'s y is classes, integers (N,), or numbers, floats (N,) or (N, K)"
    if not isinstance(y, np.ndarray) or isinstance(y, np.ma.MaskedArray):
        raise TypeError(f"{expected}, got {told(y)}{_how_to_make_an_array(y)}")
    if y.dtype.kind not in "iuf" or y.dtype.itemsize not in (1, 2, 4, 8) or y.dtype.type is np.float16:
        raise TypeError(f"{expected}, got {y.dtype}{_how_to_make_targets(y)}")
    if y.ndim == 2 and y.dtype.kind in "iu":
        raise TypeError(f"{expected}, got {y.dtype} {y.shape}{_how_to_make_targets(y)}")
    if y.ndim not in (1, 2):
        advice = "; for targets that are maps, fold fcnn.train_step over batches (x, y) of your own" if y.ndim else ""
        advice = "; y.reshape(-1) is such" if y.ndim and y.size == len(y) else advice
        raise ValueError(f"{expected}, got shape {y.shape}{advice}")
    if len(y) != count:
        raise ValueError(f"{owner} has one target for each input, got {count} inputs and {len(y)} targets")
    if len(y) and y.dtype.kind in "iu" and (y.min() < 0 or y.max() > np.iinfo(np.int64).max):
        raise ValueError(f"{owner}'s labels are class numbers from 0 on, got {y.min()} to {y.max()}")


def _how_to_make_inputs(x: NDArray[Any]) -> str:
    """Advice that is right for these numbers, or none."""
    if x.dtype.kind in "iu" and x.size and 0 <= x.min() <= x.max() <= 255:
        levels = "grey images (N, H, W) of levels" if x.ndim == 3 else "grey levels"
        return (
            f"; {levels} from 0 to 255 become uint8 with x{'[:, None]' if x.ndim == 3 else ''}.astype(np.uint8), "
            "any other numbers floats with x.astype(np.float32)"
        )
    return "; x.astype(np.float32) makes floats of it" if x.dtype.kind in "biuf" else ""


def _how_to_make_targets(y: NDArray[Any]) -> str:
    """Advice that is right for these targets, or none."""
    if y.ndim == 1 and y.dtype.kind in "US":
        return "; names, y = np.unique(y, return_inverse=True) makes classes of names"
    if y.dtype.type is np.float16 and y.ndim in (1, 2):
        return "; y.astype(np.float32) makes numbers of it"
    if y.dtype.kind not in "biu" or y.ndim not in (1, 2):
        return ""
    classes = ""
    if y.ndim == 1:
        classes = "y.astype(np.int64)"
    elif y.shape[1] == 1:
        classes = "y.reshape(-1)" if y.dtype.kind in "iu" else "y.reshape(-1).astype(np.int64)"
    elif np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all():
        return (
            "; rows with one 1 each (one-hot) become classes with y.argmax(axis=1), "
            "several labels an input floats with y.astype(np.float32)"
        )
    else:
        return "; several labels an input become floats with y.astype(np.float32)"
    return f"; {classes} makes classes of it, y.astype(np.float32) numbers"


def _how_to_make_an_array(value: Any) -> str:
    """Advice that is right for this value, or none."""
    if isinstance(value, np.ma.MaskedArray):
        return "; .filled(0) makes an array of it, with 0 where it is masked"
    if not isinstance(value, (list, tuple)) and (isinstance(value, np.generic) or not hasattr(value, "__array__")):
        return ""
    try:
        array("it", value, "")
    except TypeError:
        return ""
    return "; np.asarray(…) makes an array of it"


@attrs.frozen(eq=False, repr=False)
class Split:
    """Inputs `x` with what is to be learnt of them, `y`.

    x: images (N, C, H, W), sequences (N, C, L) or features (N, D); as floats, which stay as they are (in a batch as
        float32), or, but for sequences, as uint8 grey levels 0 to 255, of which training makes floats 0 to 1.
    y: classes, integers (N,) from 0 on; or numbers, floats (N,) or (N, K): targets of a regression, or 0 and 1 for
        each of K labels that an input may have at once. Not maps: a network that gives those is trained on batches of
        one's own, pairs (x, y) with any y that the loss takes, by `fcnn.train_step`.

    Both are C-ordered and read-only: a writeable or differently ordered array is copied, any other is kept; classes
    become int64. Raises TypeError for another dtype, ValueError for another shape or range.

    >>> split = Split(np.zeros((5, 1, 28, 28), np.uint8), np.arange(5))
    >>> split, len(split), split.take(2), split.take([4, 0]).y
    (Split(5 images of 1x28x28), 5, Split(2 images of 1x28x28), array([4, 0]))
    >>> Split(np.zeros((5, 3)), np.zeros((5, 2)))
    Split(5 rows of 3 features, 2 targets each)
    >>> Split(np.zeros((5, 2, 100)), np.arange(5))
    Split(5 sequences of 2x100)
    """

    x: NDArray[Any] = attrs.field()
    y: NDArray[Any] = attrs.field()

    @x.validator
    def _inputs(self, _: object, x: Any) -> None:
        check_inputs("a split", x)

    @y.validator
    def _targets(self, _: object, y: Any) -> None:
        check_targets("a split", y, len(self.x))

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "x", keep(np.ascontiguousarray(native(self.x))))
        y = self.y.astype(np.int64, copy=False) if self.has_classes else native(self.y)
        object.__setattr__(self, "y", keep(np.ascontiguousarray(y)))

    @property
    def has_classes(self) -> bool:
        """Whether `y` is classes, and not numbers."""
        return self.y.dtype.kind in "iu"

    @property
    def in_shape(self) -> tuple[int, ...]:
        """One input's shape: (C, H, W), (C, L) or (D,)."""
        return tuple(self.x.shape[1:])

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        size = "x".join(map(str, self.in_shape))
        kind = {2: f"rows of {size} features", 3: f"sequences of {size}", 4: f"images of {size}"}[self.x.ndim]
        what = f"{len(self)} {kind}"
        return f"Split({what})" if self.has_classes else f"Split({what}, {math.prod(self.y.shape[1:])} targets each)"

    def take(self, which: int | NDArray[Any] | list[int]) -> "Split":
        """The first `which` images, or those at the indices `which`, in that order.

        Raises ValueError for more images than there are, IndexError for an index out of range.
        """
        if isinstance(which, (int, np.integer)) and not isinstance(which, bool):
            if not 0 <= which <= len(self):
                raise ValueError(f"take(n) expects 0 to {len(self)}, the number of images, got {which}")
            return Split(self.x[:which], self.y[:which])
        expected = "take expects a number of images or a list of indices"
        try:
            indices = np.asarray(which)
        except ValueError:  # lists of unequal length
            indices = np.empty((), object)
        if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            advice = "; np.flatnonzero(mask) are such" if indices.dtype.kind == "b" and indices.ndim == 1 else ""
            raise TypeError(f"{expected}, got {told(which)}{advice}")
        if indices.size and not -len(self) <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"{expected} below {len(self)}, got {indices.min()} to {indices.max()}")
        indices = indices.astype(np.intp)
        return Split(self.x[indices], self.y[indices])

    def hold_out(self, count: int) -> tuple["Split", "Split"]:
        """All but the last `count` images, and those. Raises ValueError for more images than there are."""
        if integer("hold_out's count", count, least=0) > len(self):
            raise ValueError(f"hold_out(n) expects 0 to {len(self)}, the number of images, got {count}")
        rest = self.take(len(self) - count)
        return rest, self.take(np.arange(len(rest), len(self)))


def _class_names(classes: Any) -> tuple[str, ...]:
    return texts("classes", classes, "names, one for each class")


def expect_split(name: str, value: Any) -> Split:
    """`value`, if it is a split; of a pair of arrays or a data set the error says how one is had."""
    advice = "; fcnn.Split(x, y) makes one" if isinstance(value, (tuple, list)) and len(value) == 2 else ""
    advice = "; take its .train or .test" if isinstance(value, Dataset) else advice
    if not isinstance(value, Split):
        raise TypeError(f"{name} is a Split, got {told(value)}{advice}")
    return value


@attrs.frozen(eq=False, repr=False)
class Dataset:
    """A training and a test split of inputs of one shape, with the names of the classes where they are known.

    pictures: how pictures were made into its images, where they were: then `fit` puts it into the model's meta, and
        `predict_pictures` prepares others in the same way.

    >>> split = Split(np.zeros((5, 1, 28, 28), np.uint8), np.arange(5))
    >>> Dataset(split, split.take(1), name="toy")
    Dataset('toy', train=Split(5 images of 1x28x28), test=Split(1 images of 1x28x28))
    """

    train: Split = attrs.field()
    test: Split = attrs.field()
    name: str = attrs.field(default="")
    classes: tuple[str, ...] = attrs.field(default=(), converter=_class_names)
    pictures: Preprocessing | None = attrs.field(default=None, kw_only=True)

    @train.validator
    def _is_split(self, _: object, train: Split) -> None:
        expect_split("train", train)

    @name.validator
    def _is_text(self, _: object, name: str) -> None:
        instance("a data set's name", name, str, "text")

    @pictures.validator
    def _of_this_shape(self, _: object, pictures: Any) -> None:
        if pictures is None:
            return
        expected = "pictures is a fcnn.data.Preprocessing, such as fcnn.data.folder(root).pictures"
        if instance("pictures", pictures, Preprocessing, expected[len("pictures is ") :]).shape != self.train.in_shape:
            raise ValueError(f"{expected} that makes images {self.train.in_shape}, got {pictures}")

    @test.validator
    def _same_shape(self, _: object, test: Split) -> None:
        expect_split("test", test)
        if test.x.shape[1:] != self.train.x.shape[1:]:
            raise ValueError(f"train and test have inputs of one shape, got {self.train!r} and {test!r}")
        if test.has_classes != self.train.has_classes or test.y.shape[1:] != self.train.y.shape[1:]:
            raise ValueError(f"train and test have targets of one kind, got {self.train!r} and {test!r}")

    @classes.validator
    def _known_classes(self, _: object, classes: tuple[str, ...]) -> None:
        if not self.train.has_classes:
            return
        highest = max((int(split.y.max()) for split in (self.train, self.test) if len(split)), default=-1)
        if classes and highest >= len(classes):
            raise ValueError(f"labels are below {len(classes)}, the number of classes, got {highest}")

    @property
    def meta(self) -> dict[str, Any]:
        """What a model that is trained on it has to know beside its classes: the `meta` for `fcnn.Model`."""
        return {} if self.pictures is None else self.pictures.meta()

    def fingerprint(self) -> str:
        """What tells this data from any other: a digest of all inputs, targets and classes, in their order."""
        splits = [(repr(split), str(split.x.dtype), digest(split.x, split.y)) for split in (self.train, self.test)]
        text = repr((self.classes, self.pictures, splits))
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, train={self.train!r}, test={self.test!r})"


def as_split(data: Any, name: str = "data", expected: str = "a Split, or a pair of arrays (x, y)") -> Split:
    """A split as it is, and a pair of arrays (x, y) as a split."""
    if isinstance(data, Split):
        return data
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return Split(*data)
    advice = "; take its .train or .test" if isinstance(data, Dataset) else ""
    raise TypeError(f"{name} is {expected}, got {told(data)}{advice}")
