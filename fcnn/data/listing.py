"""A folder of pictures, listed: which classes it has, which files, and what is left out, with the reason.

Every folder in it is a class, named by the folder; or `train/` and `test/` hold such folders. What else may lie
there is never taken for a class or a picture of one without a word.
"""

import itertools
import mimetypes
import os
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from fcnn.data.types import DataError
from fcnn.values.text import printable

_PARTS = ("train", "test")
_LIKE_PARTS = {"training", "testing", "val", "valid", "validation", "dev", "eval", *_PARTS}
_OF_SYSTEMS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"}
_MOST_FILES = 1 << 20
_MOST_DEEP = 32  # folders within one another
_MOST_CLASSES = 10_000


@attrs.frozen
class Found:
    """A file that may be a picture.

    name: its path below the folder, with "/", such as rose/one.jpg.
    stamp: its size in bytes, and when it was changed (nanoseconds: its contents, and whatever else of it).
    """

    name: str
    part: str  # "train", "test", or "" where the folder is not divided
    label: int
    stamp: tuple[int, int, int]


@attrs.frozen
class Listing:
    """A folder's classes in the order of their numbers, its files by name, and what is left out: names and reasons."""

    parts: tuple[str, ...]  # train and test, or "" alone
    classes: tuple[str, ...]
    files: tuple[Found, ...]
    left_out: Mapping[str, str]

    @property
    def divided(self) -> bool:
        """Whether it has train/ and test/."""
        return len(self.parts) > 1


def listed(root: Path) -> Listing:
    """List a folder. Classes are numbered by the order of their names.

    Raises DataError, which says what to do, where there is no such folder, or none that can be understood: fewer than
    two classes, names that differ only in ways that file systems don't all see, train/ and test/ of other classes.
    """
    left_out: dict[str, str] = {}
    try:
        real = Path(os.path.realpath(root, strict=True))
        if not real.is_dir():
            raise DataError(f"{_told(root)}: a file, not a folder; a folder of pictures holds a folder for each class")
        parts = _parts(root, left_out)
        found = {part: _classes(root / part, part, left_out) for part in parts}
        _expect_same(root, found)
        classes = tuple(sorted(found[parts[-1]]))
        _expect_classes(root, classes)
        files = [
            Found(name, part, classes.index(label), stamp)
            for part, labels in found.items()
            for label in labels
            for name, stamp in _files(root, real, f"{part}/{label}" if part else label, left_out)
        ]
    except FileNotFoundError as error:
        gone = root if not os.path.lexists(root) else error.filename
        raise DataError(f"{_told(gone)}: no such folder; a folder of pictures holds a folder for each class") from None
    except ValueError:  # a null character in the name
        raise DataError(f"{_told(root)}: no name of a folder") from None
    except OSError as error:
        raise DataError(f"{_told(error.filename or root)}: cannot be read ({error.strerror}); allow it") from None
    if len(files) > _MOST_FILES:
        raise DataError(f"{_told(root)}: more than {_MOST_FILES:,} files")
    return Listing(parts, classes, tuple(sorted(files, key=lambda file: file.name)), left_out)


def _parts(root: Path, left_out: dict[str, str]) -> tuple[str, ...]:
    """train and test, where there are both and they hold folders; else the folder itself, as ""."""
    folders = [entry.name for entry in _visible(root) if _is_folder(entry)]
    divided = {name for name in folders if name.lower() in _LIKE_PARTS and _holds_folders_only(root / name)}
    if divided >= set(_PARTS):
        for entry in _visible(root):
            if entry.name not in _PARTS and (_is_folder(entry) or _is_named_as_a_picture(entry.name)):
                left_out[_told(entry.name)] = "neither in train/ nor in test/"
        return _PARTS
    if divided:
        one = sorted(divided)[0]
        raise DataError(
            f"{_told(root)}: {one}/ holds folders, as a part of a data set does, and is no class; there must be both "
            f"train/ and test/ with the same classes. Rename the parts so, or name {_told(root / one)} alone, which is "
            "then split by itself"
        )
    return ("",)


def _classes(folder: Path, part: str, left_out: dict[str, str]) -> list[str]:
    """The names of the folders in a folder."""
    found = []
    for entry in _visible(folder):
        name = f"{part}/{entry.name}" if part else entry.name
        leads_nowhere = entry.is_symlink() and not os.path.exists(entry.path)  # to a class that isn't there now, say
        if _is_folder(entry) or (leads_nowhere and not _is_named_as_a_picture(entry.name)):
            if not entry.name.isprintable():  # nor is what isn't UTF-8
                raise DataError(
                    f"{_told(entry.path)}: a class is named by its folder, and this name can't be printed; rename it"
                )
            found.append(entry.name)
        elif _is_named_as_a_picture(entry.name):
            left_out[_told(name)] = "not in the folder of a class"
        if len(found) > _MOST_CLASSES:
            raise DataError(f"{_told(folder)}: more than {_MOST_CLASSES:,} folders, and each would be a class")
    return found


def _files(root: Path, real: Path, start: str, left_out: dict[str, str]) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """The files of a class, in folders of any depth, with their stamps."""
    if (root / start).is_symlink():
        raise DataError(
            f"{_told(root / start)}: a link to a folder; those aren't followed, so put the folder itself there"
        )
    folders, count = [(start, 1)], 0
    while folders:
        folder, depth = folders.pop()
        for entry in _visible(root / folder):
            name, count = f"{folder}/{entry.name}", count + 1
            if count > _MOST_FILES:
                raise DataError(f"{_told(root / start)}: more than {_MOST_FILES:,} files")
            if entry.is_symlink() and _is_folder(entry):
                left_out[_told(name)] = "a link to a folder; those aren't followed"
            elif entry.is_symlink() and real not in Path(os.path.realpath(entry.path)).parents:
                left_out[_told(name)] = "a link that leads out of the folder; put the picture itself there"
            elif _is_folder(entry) and depth == _MOST_DEEP:
                left_out[_told(name)] = f"more than {_MOST_DEEP} folders deep"
            elif _is_folder(entry):
                folders.append((name, depth + 1))
            else:
                try:
                    stat = entry.stat()
                except OSError as error:
                    left_out[_told(name)] = f"it can't be read ({error.strerror})"
                else:
                    yield name, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _visible(folder: Path) -> list["os.DirEntry[str]"]:
    """What lies in a folder, by name, but for what systems and programs hide there."""
    with os.scandir(folder) as entries:
        shown = (e for e in entries if not e.name.startswith(".") and e.name.lower() not in _OF_SYSTEMS)
        found = list(itertools.islice(shown, _MOST_FILES + 1))
    if len(found) > _MOST_FILES:
        raise DataError(f"{_told(folder)}: more than {_MOST_FILES:,} files")
    return sorted(found, key=lambda entry: entry.name)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder, or a link to one; unlike the entry's own method it raises nothing, whatever a link is."""
    return os.path.isdir(entry.path)


def _holds_folders_only(folder: Path) -> bool:
    """Whether there are folders in it, and no pictures."""
    entries = _visible(folder)
    return any(map(_is_folder, entries)) and not any(
        not _is_folder(entry) and _is_named_as_a_picture(entry.name) for entry in entries
    )


def _is_named_as_a_picture(name: str) -> bool:
    return (mimetypes.guess_type(name, strict=False)[0] or "").startswith("image/")


def _expect_same(root: Path, found: Mapping[str, list[str]]) -> None:
    """Raise DataError unless train/ and test/ have the same classes: each with numbers of its own would be wrong."""
    if len(found) < 2:
        return
    only = {part: sorted({*found[part]} - {*found[other]}) for part, other in (_PARTS, _PARTS[::-1])}
    if any(only.values()):
        lines = [f"only in {part}/: {_several(names)}" for part, names in only.items() if names]
        raise DataError(f"{_told(root)}: train/ and test/ have other classes; {'; '.join(lines)}")


def _expect_classes(root: Path, classes: tuple[str, ...]) -> None:
    if len(classes) < 2:
        there = f"one class only, {_told(classes[0])}" if classes else "no folder in it"
        raise DataError(
            f"{_told(root)}: {there}; a folder of pictures holds a folder for each class, such as rose/ and tulip/"
        )
    seen: dict[str, str] = {}
    for name in classes:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()
        if folded in seen:
            raise DataError(
                f"{_told(root)}: the classes {seen[folded]!a} and {name!a} have the same name but for case, "
                "spaces or how letters are encoded; put them together, or rename one"
            )
        seen[folded] = name


def _several(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(map(_told, names[:5]))}{more}"


def _told(name: str | os.PathLike[str]) -> str:
    return printable(os.fspath(name), None)
