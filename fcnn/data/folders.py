"""A folder of pictures, a folder a class, as a data set.

flowers = fcnn.data.folder("flowers")  # flowers/rose/1.jpg, flowers/tulip/2.png, …
fitted = fcnn.fit(fcnn.lenet5(flowers.train.in_shape, len(flowers.classes)), flowers, epochs=20)
fcnn.predict_pictures(fitted.model, ["new.jpg"])
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import attrs
import numpy as np

from fcnn.data import pictures, prepared
from fcnn.data.dividing import divided, order_of
from fcnn.data.listing import Found, Listing, listed
from fcnn.data.preprocessing import MOST_SIDE, Preprocessing
from fcnn.data.types import DataError, Dataset, DataWarning, Progress, Split
from fcnn.values.arrays import NDArray, digest
from fcnn.values.checks import boolean, file_path, function, integer, number, pair
from fcnn.values.keys import Key, fold_in, key
from fcnn.values.text import printable

MOST_BYTES = 4 << 30
"""Of all inputs of a data set of one's own together."""

_MOST_TOLD = 5


def _unchangeable(left_out: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(left_out))


@attrs.frozen(eq=False, repr=False)
class PictureFolder(Dataset):
    """A data set of pictures in a folder.

    train_files, test_files: the pictures' names below the folder, such as rose/one.jpg, in the order of the splits.
    left_out: what lies there and is in neither: its name, and why.
    """

    train_files: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    test_files: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    left_out: Mapping[str, str] = attrs.field(factory=dict, kw_only=True, converter=_unchangeable)

    def __repr__(self) -> str:
        parts = f"train={self.train!r}, test={self.test!r}, {len(self.classes)} classes"
        return f"PictureFolder({self.name!r}, {parts}, {len(self.left_out)} left out)"


def folder(
    root: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] = 32,
    grey: bool = False,
    test: float = 0.2,
    seed: int = 0,
    cache: bool = True,
    progress: Progress | None = None,
) -> PictureFolder:
    """Read pictures, of which each lies in the folder of its class, at any depth.

    With folders `train` and `test` in it, which hold the classes' folders, those are the splits. Otherwise a share of
    each class is for testing; which pictures, is decided by the seed and their names alone. Classes are numbered by the
    order of their names. A split's order is drawn by names, too: its first and its last pictures are of all classes.

    Nothing is taken for what it may not be. Left out, and named in `left_out` and in a DataWarning, are: what is no
    picture that can be read (any kind in `pictures.FORMATS`, whatever its name ends in), links that lead out of the
    folder, the same picture in two classes (as images to the bit; one of them is wrong), and a test picture that is one
    to train on as well. Hidden files, and those of systems such as Thumbs.db, are passed over.

    Args:
        root: the folder.
        size: pixels of an image's sides, or (height, width). `Preprocessing` says how pictures are made so.
        grey: one channel in place of red, green and blue.
        test: the share of each class that is for testing, where the folder isn't divided; at least one picture.
        seed: of that choice.
        cache: whether prepared images are kept in the user's cache folder. They are used again only if all names, sizes
            and times of files are as they were.
        progress: told of each picture as it is read: `fcnn.data.bars` gives one.

    Raises:
        DataError: no such folder, or one that can't be understood: fewer than two classes, a class with too few
            pictures or with almost the name of another, train/ and test/ with other classes. The message says what to
            do.
        ImportError: Pillow is missing.
    """
    place = file_path("root", root, "a folder, text or a pathlib.Path").expanduser()
    height, width = pair("size", size, least=1)
    integer("size", max(height, width), least=1, most=MOST_SIDE)
    how = Preprocessing(1 if boolean("grey", grey) else 3, height, width)
    share = number("test", test, "(0, 1)")
    chosen_by = fold_in(key(integer("seed", seed, least=0)), "split")
    boolean("cache", cache)
    if progress is not None:
        function("progress", progress, "a function (description, done, total)")

    listing = listed(place)
    if len(listing.files) * int(np.prod(how.shape)) > MOST_BYTES:
        raise DataError(
            f"{_told(place)}: {len(listing.files):,} files as images {how.shape} are more than {MOST_BYTES:,} bytes; "
            "choose a smaller size"
        )
    x, reasons = _images(place, listing, how, cache, progress)
    left_out = {**listing.left_out, **{_told(listing.files[k].name): reason for k, reason in reasons.items()}}
    files = [file for k, file in enumerate(listing.files) if k not in reasons]
    images = [_Image(file, row, digest(x[row])) for row, file in enumerate(files)]
    images = _without(images, _in_two_classes(images), left_out)
    _expect_all_classes(place, listing, images, left_out)
    train, tests = _divided(place, listing, images, share, chosen_by, left_out)
    tests = _without(tests, _trained_on(train, tests), left_out)
    if not tests:
        raise DataError(f"{_told(place)}: no picture to test with is left{_because(left_out)}")
    if left_out:
        warnings.warn(f"{_told(place)}: {_because(left_out)[2:]}", DataWarning, stacklevel=2)
    train_split, test_split = (
        Split(x[[image.row for image in part]], np.array([image.file.label for image in part]))
        for part in (train, tests)
    )
    train_files, test_files = (tuple(image.file.name for image in part) for part in (train, tests))
    return PictureFolder(
        train_split, test_split, _told(place.name or place.resolve().name), listing.classes, pictures=how,
        train_files=train_files, test_files=test_files, left_out=left_out,
    )  # fmt: skip


@attrs.frozen
class _Image:
    """A file that is a picture, where its image is among all, and what tells that image from others."""

    file: Found
    row: int
    content: str


def _images(
    root: Path, listing: Listing, how: Preprocessing, cache: bool, progress: Progress | None
) -> tuple[NDArray[np.uint8], prepared.Reasons]:
    """The images of all files that can be read, and why the others can't, by their numbers."""
    settings = f"{how}, {pictures.decoder()}"
    place = prepared.place_of(root, settings) if cache else None
    signature = prepared.signature_of(listing.files, settings)
    if place is not None and (found := prepared.kept(place, signature, len(listing.files), how.shape)):
        return found
    x = np.empty((len(listing.files), *how.shape), np.uint8)
    reasons: dict[int, str] = {}
    for k, file in enumerate(listing.files):
        try:
            x[k - len(reasons)], _ = pictures.read_picture(root / file.name, how)
        except pictures.PictureError as error:
            reasons[k] = str(error)
        if progress is not None:
            progress(f"pictures in {printable(root.name)}", k + 1, len(listing.files))
    x = x[: len(listing.files) - len(reasons)]
    if place is not None and prepared.signature_of(listed(root).files, settings) == signature:
        prepared.keep(place, signature, listing.files, x, reasons)
    return x, reasons


def _without(images: Sequence[_Image], reasons: Mapping[int, str], left_out: dict[str, str]) -> list[_Image]:
    """The images but for those of these rows, whose names and reasons are added to what is left out."""
    left_out |= {_told(image.file.name): reasons[image.row] for image in images if image.row in reasons}
    return [image for image in images if image.row not in reasons]


def _in_two_classes(images: Sequence[_Image]) -> dict[int, str]:
    """Which pictures are in another class, too, and there the first; at least one of the classes is wrong."""
    first: dict[str, dict[int, _Image]] = {}
    for image in images:
        first.setdefault(image.content, {}).setdefault(image.file.label, image)
    found = {}
    for image in images:
        others = [other for label, other in first[image.content].items() if label != image.file.label]
        if others:
            other = _told(others[0].file.name)
            found[image.row] = f"the same picture as {other}, and one of the two classes is wrong"
    return found


def _trained_on(train: Sequence[_Image], tests: Sequence[_Image]) -> dict[int, str]:
    """Which pictures to test with are to train on as well: to know those is no merit."""
    by_name = sorted(train, key=lambda image: image.file.name, reverse=True)  # so that of several the first is told
    known = {image.content: image.file.name for image in by_name}
    same = {image.row: known[image.content] for image in tests if image.content in known}
    return {row: f"the same picture as {_told(name)}, which is one to train on" for row, name in same.items()}


def _divided(
    root: Path, listing: Listing, images: Sequence[_Image], share: float, key: Key, left_out: Mapping[str, str]
) -> tuple[list[_Image], list[_Image]]:
    """The pictures to train on and to test with."""
    order = order_of((image.file.name for image in images), key)
    if listing.divided:
        train, tests = ([k for k in order if images[k].file.part == part] for part in listing.parts)
    else:
        try:
            train, tests = divided(order, [image.file.label for image in images], listing.classes, share)
        except DataError as error:
            raise DataError(f"{_told(root)}: {error}{_because(left_out)}") from None
    return [images[k] for k in train], [images[k] for k in tests]


def _expect_all_classes(root: Path, listing: Listing, images: Sequence[_Image], left_out: Mapping[str, str]) -> None:
    """Raise DataError for a class without a picture, in train/ and in test/ where there are those."""
    have = {(image.file.part, image.file.label) for image in images}
    for part in listing.parts:
        for label, name in enumerate(listing.classes):
            if (part, label) not in have:
                where = _told(f"{part}/{name}/".lstrip("/"))
                ours = {k: why for k, why in left_out.items() if k.startswith(where)}
                raise DataError(
                    f"{_told(root / part / name)}: no picture of this class; add some, or remove the folder"
                    f"{_because(ours)}"
                )


def _because(left_out: Mapping[str, str]) -> str:
    """What was left out, as the end of a sentence."""
    if not left_out:
        return ""
    first = [f"{name} ({reason})" for name, reason in list(left_out.items())[:_MOST_TOLD]]
    more = f" and {len(left_out) - _MOST_TOLD:,} more" if len(left_out) > _MOST_TOLD else ""
    return f"; left out: {', '.join(first)}{more}"


def _told(name: str | os.PathLike[str]) -> str:
    return printable(os.fspath(name), None)
