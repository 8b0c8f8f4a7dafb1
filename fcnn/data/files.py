"""Arrays of one's own in an `.npz` file as a data set: read within bounds, and never unpickled."""

import os
from pathlib import Path

import numpy as np

from fcnn.data.dividing import divided
from fcnn.data.folders import MOST_BYTES
from fcnn.data.types import DataError, Dataset, Split
from fcnn.values.archives import Archive, DamagedFileError, opened_archive
from fcnn.values.arrays import Array
from fcnn.values.checks import file_path, integer, number
from fcnn.values.files import why_unreadable
from fcnn.values.keys import fold_in, generator, key
from fcnn.values.text import printable

_ALSO = {"x": "x_train", "y": "y_train"}
_KNOWN = ("x", "y", "x_test", "y_test", "classes")
_MOST_CLASSES = 10_000
_MUCH = 1 << 28  # bytes that are read without further ado;
_MOST_INFLATED = 64  # beyond, so many times the file's size: images don't compress as zeros do
_MOST_NAMES = 10_000_000  # bytes of the classes' names


def load_npz(path: str | os.PathLike[str], *, test: float = 0.2, seed: int = 0) -> Dataset:
    """Read arrays as `np.savez(path, x=x, y=y)` writes them.

    Which there are:
        x, y (or x_train, y_train): images or features, and targets, as `Split` takes them; grey images may lack their
            channel, so that (N, H, W) is such and not sequences, and images of floats are from 0 to 1, as pictures are
            when they are predicted from.
        x_test, y_test: the same to test with; without them, a share of each class (of all, where y is numbers) is.
        classes: the names of the classes, text (K,); without it, their numbers.

    The training inputs come in an order that the seed draws, so that their first and last are of all classes.

    Args:
        path: the file.
        test: the share for testing, where there is no x_test.
        seed: of that choice and of the order.

    Raises DataError where it is no such file, or its arrays are no data set; the message says what to do.
    """
    place = file_path("path", path).expanduser()
    share = number("test", test, "(0, 1)")
    rank = generator(fold_in(key(integer("seed", seed, least=0)), "split"))
    where = printable(os.fspath(place), None)
    if reason := why_unreadable(place):
        raise DataError(f"{where}: {reason}; it is an .npz file with arrays x and y")
    try:
        arrays, names = _arrays(place)
        for name in ("x", "x_test"):
            if name in arrays:
                arrays[name] = _with_channel(arrays[name])
                _expect_levels(arrays[name])
        train = Split(arrays["x"], arrays["y"])
        tests = Split(arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
        if tests is not None and tests.has_classes != train.has_classes:
            raise DataError(f"its y is {train.y.dtype} and its y_test {tests.y.dtype}: classes are integers in both")
        if train.has_classes:
            names = names or tuple(map(str, range(_count(arrays))))
        order = rank.permutation(len(train)).tolist()
        if tests is not None:
            rows, held_out = order, tests
        else:
            if train.has_classes and _count(arrays) > len(names):
                raise DataError(f"classes are {len(names)} names, and its y has classes up to {_count(arrays) - 1}")
            labels, classes = (train.y.tolist(), names) if train.has_classes else ([0] * len(train), ("all",))
            rows, test_rows = divided(order, labels, classes, share)
            held_out = train.take(sorted(test_rows))
        data = Dataset(train.take(rows), held_out, printable(place.stem, None), names)
    except (DataError, DamagedFileError, TypeError, ValueError, OverflowError, SystemError) as error:
        raise DataError(f"{where}: {error}") from None
    if not len(data.train) or not len(data.test):
        raise DataError(f"{where}: no input to {'test with' if len(data.train) else 'train on'}")
    return data


def _arrays(path: Path) -> tuple[dict[str, Array], tuple[str, ...]]:
    """The arrays by their names, and the classes' names."""
    with opened_archive(path) as archive:
        there = set(archive.names)
        places = {name: name if name in there else _ALSO.get(name, name) for name in _KNOWN}
        places = {name: place for name, place in places.items() if place in there}
        lacking = [name for name in ("x", "y") if name not in places]
        lacking += [name for name in ("x_test", "y_test") if name not in places and {"x_test", "y_test"} & {*places}]
        if lacking:
            has = ", ".join(printable(name, 40) for name in archive.names[:8]) or "nothing"
            raise DataError(f"it has no {' and no '.join(lacking)}, it has {has}; np.savez(path, x=x, y=y) writes such")
        unknown = there - {*places.values()}
        if unknown:
            more = ", ".join(sorted(printable(name, 40) for name in unknown)[:8])
            known = ", ".join((*_KNOWN, *_ALSO.values()))
            raise DataError(f"it has {more}, too, and nothing says what that is; names are {known}, each once")
        sizes = {}
        for name, place in places.items():
            kind = archive.kind(place)
            if kind is None:
                raise DataError(f"{place} in it is no plain array (of objects, perhaps, which are never unpickled)")
            sizes[name] = int(np.prod(kind[0], dtype=object)) * kind[1].itemsize
        if sizes.get("classes", 0) > _MOST_NAMES:
            raise DataError(f"classes in it is more than {_MOST_NAMES:,} bytes")
        if sum(sizes.values()) > MOST_BYTES:
            raise DataError(f"its arrays are more than {MOST_BYTES:,} bytes")
        if sum(sizes.values()) > max(_MUCH, _MOST_INFLATED * os.path.getsize(path)):
            raise DataError(
                f"its arrays would be {sum(sizes.values()):,} bytes, {_MOST_INFLATED} times the file and more"
            )
        found = {name: _array(archive, place) for name, place in places.items()}
    classes = found.pop("classes", None)
    if classes is None:
        return found, ()
    if classes.dtype.kind != "U" or classes.ndim != 1:
        raise DataError(f"classes are names, an array of text (K,), got {classes.dtype} {classes.shape}")
    names = tuple(map(str, classes))
    if len(set(names)) < len(names) or any(not name.isprintable() for name in names):
        raise DataError("classes are different names, of letters that can be printed")
    return found, names


def _array(archive: Archive, name: str) -> Array:
    kind = archive.kind(name)
    assert kind is not None
    problem, array = archive.array(name, np.broadcast_to(np.zeros((), kind[1]), kind[0]))
    if array is None:
        raise DataError(f"{name} in it: {problem}")
    return array


def _with_channel(x: Array) -> Array:
    """Grey images (N, H, W) as (N, 1, H, W); channels that come last are refused, as nobody can tell which is meant."""
    if x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        raise DataError(
            f"its images are (N, C, H, W), got {x.shape}; where channels come last, x.transpose(0, 3, 1, 2) is such"
        )
    return x[:, None] if x.ndim == 3 else x


def _expect_levels(x: Array) -> None:
    """Floats are finite, and those of images are from 0 to 1: pictures to predict from are prepared so."""
    if x.dtype.kind != "f" or not x.size:
        return
    least, most = float(x.min()), float(x.max())
    if not np.isfinite([least, most]).all():
        raise DataError("its x holds numbers that are not finite")
    if x.ndim == 4 and not 0 <= least <= most <= 1:
        raise DataError(
            f"its images are floats from {least:.3g} to {most:.3g}; give uint8, or floats from 0 to 1, as pictures to "
            "predict from are prepared so (what a network needs besides is a layer, fcnn.normalize)"
        )


def _count(arrays: dict[str, Array]) -> int:
    """How many classes there are, where they have no names."""
    highest = max(
        (int(arrays[name].max()) for name in ("y", "y_test") if name in arrays and arrays[name].size), default=-1
    )
    if highest >= _MOST_CLASSES:
        raise DataError(f"its classes are numbered below {_MOST_CLASSES:,}, got {highest}")
    return highest + 1
