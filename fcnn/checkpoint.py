"""Trees and training states as `.npz` files that any NumPy can read.

A checkpoint is a zip of plain arrays named by path: `params/conv1/w`, `state/bn1/mean`, `opt/adam/mu/conv1/w`,
`step`, `key`, and `meta`, a JSON text. A file of parameters only holds `params/…` and `meta`, so parameters can be
loaded from either.

Loading goes against a template, never unpickles, and reads no array before its size is known to be the template's.
Writing is atomic: a reader sees the old file or the new one, never half of one.
"""

import contextlib
import io
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fcnn.arrays import Array, frozen
from fcnn.keys import Key
from fcnn.layer import Init
from fcnn.train import TrainState
from fcnn.tree import Tree, flatten, unflatten

if TYPE_CHECKING:
    import zipfile  # at run time where it is used: it costs start-up time

FORMAT_VERSION = 1
_META_LIMIT = 4_000_000  # bytes; the JSON text is a few thousand
_HEADER_LIMIT = 10_000  # bytes; NumPy's own limit for an .npy header
_KEY_WORDS = 4

T = TypeVar("T", Tree, Init, TrainState)


class CheckpointError(ValueError):
    """A file is not the checkpoint that was asked for; the message names the file and lists every difference."""


def save(
    path: str | os.PathLike[str], value: Tree | Init | TrainState, *, meta: Mapping[str, Any] | None = None
) -> None:
    """Write parameters (a tree), parameters with state (an `Init`) or a whole training state to `path`, atomically.

    Args:
        path: the file, by custom ending in `.npz`; an old one is replaced in one step.
        value: what to write.
        meta: anything that JSON can hold, given back by `load_meta`. The format's version is added.

    Raises:
        OSError: the folder can't be written or the disk is full; an old file is still there, whole.
    """
    target = Path(path)
    text = np.array(json.dumps({**(meta or {}), "format": FORMAT_VERSION}, allow_nan=False))
    if text.nbytes > _META_LIMIT:
        raise ValueError(f"meta is at most {_META_LIMIT:,} bytes, got {text.nbytes:,}; write it to a file of its own")
    arrays = {**_arrays(value), "meta": text}
    with replacing(target) as file:
        np.savez(file, allow_pickle=False, **arrays)


def load(path: str | os.PathLike[str], *, like: T) -> T:
    """Read what `save` wrote, as a value like the template: same type, paths, shapes and dtypes.

    Args:
        path: the file.
        like: the template, such as the parameters that `init` makes, or the state that `init_state` makes. A file
            may hold more sections than the template asks for: parameters load from a whole checkpoint.

    Raises:
        CheckpointError: no checkpoint, damaged, of a newer format, or not like the template; then it lists every
            missing, unexpected, wrong-shape and wrong-dtype path.
        OSError: the file can't be read.
    """
    wanted = _arrays(like)
    with _opened(path) as archive:
        _check_format(path, _read_meta(path, archive))
        sections = {name.partition("/")[0] for name in wanted} | _claimed(like)
        present = {name: info for name, info in _members(path, archive).items() if name.partition("/")[0] in sections}
        problems = [f"missing: {name}" for name in wanted if name not in present]
        problems += [f"unexpected: {name}" for name in present if name not in wanted]
        found: dict[str, Array] = {}
        for name, template in wanted.items():
            if name in present:
                problem, array = _read(archive, present[name], template)
                if problem:
                    problems.append(f"{problem}: {name}")
                elif array is not None:
                    found[name] = array
    if problems:
        raise CheckpointError(
            f"{os.fspath(path)}: {len(problems)} difference(s) from the template; was it saved from another model "
            "or optimizer?\n  " + "\n  ".join(problems)
        )
    return _value(found, like)


def load_meta(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object that was given to `save` as `meta`, with `format`, the format's version."""
    with _opened(path) as archive:
        meta = _read_meta(path, archive)
    _check_format(path, meta)
    return meta


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Any]:
    """A binary file that replaces `target` in one step if the block succeeds, and leaves nothing if it doesn't."""
    import tempfile

    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())  # mkstemp's files are private, a result is as readable as any other file
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    if os.name == "posix":  # the new name is on disk only when the folder is
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _arrays(value: Tree | Init | TrainState) -> dict[str, Array]:
    sections: dict[str, Tree] = {}
    plain: dict[str, Array] = {}
    if isinstance(value, TrainState):
        sections = {"params": value.params, "state": value.state, "opt": value.opt_state}
        words = [value.key.value >> 32 * i & 0xFFFFFFFF for i in range(_KEY_WORDS)]
        plain = {"step": np.array(value.step, np.int64), "key": np.array(words, np.uint32)}
    elif isinstance(value, Init):
        sections = {"params": value.params, "state": value.state}
    elif isinstance(value, Tree):
        sections = {"params": value}
    else:
        raise TypeError(f"a checkpoint holds a tree, an Init or a TrainState, got {type(value).__name__}")
    leaves = {f"{name}/{path}": leaf for name, tree in sections.items() for path, leaf in flatten(tree).items()}
    return {**leaves, **plain}


def _claimed(like: Tree | Init | TrainState) -> set[str]:
    """The sections that a template speaks for even where its own are empty: nothing may be left over in them."""
    if isinstance(like, TrainState):
        return {"params", "state", "opt"}
    return {"params", "state"} if isinstance(like, Init) else {"params"}


def _value(arrays: Mapping[str, Array], like: T) -> T:
    def section(name: str) -> Tree:
        prefix = f"{name}/"
        return unflatten({path[len(prefix) :]: leaf for path, leaf in arrays.items() if path.startswith(prefix)})

    if isinstance(like, TrainState):
        words = arrays["key"].tolist()
        key = Key(sum(word << 32 * i for i, word in enumerate(words)))
        return TrainState(section("params"), section("state"), section("opt"), int(arrays["step"]), key)
    if isinstance(like, Init):
        return Init(section("params"), section("state"), like.out_shape)
    return section("params")


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> "Iterator[zipfile.ZipFile]":
    import lzma
    import zipfile
    import zlib

    damage = (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError)
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (*damage, zlib.error, lzma.LZMAError) as error:
        raise CheckpointError(
            f"{os.fspath(path)}: not a whole .npz file ({error}); use an earlier checkpoint"
        ) from error


def _members(path: str | os.PathLike[str], archive: "zipfile.ZipFile") -> "dict[str, zipfile.ZipInfo]":
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name in members:
            raise CheckpointError(f"{os.fspath(path)}: {name} is in the file twice; use an earlier checkpoint")
        members[name] = info
    return members


def _read_meta(path: str | os.PathLike[str], archive: "zipfile.ZipFile") -> dict[str, Any]:
    info = _members(path, archive).get("meta")
    if info is None:
        raise CheckpointError(f"{os.fspath(path)}: no checkpoint of fcnn: it holds no `meta`")
    meta = None
    data, whole = _bytes(archive, info, _META_LIMIT)
    header = _header(data)
    if whole and header is not None and header[0] == () and header[1].kind == "U":
        with contextlib.suppress(ValueError):
            meta = json.loads(str(np.frombuffer(data, header[1], count=1, offset=header[3])[0]))
    if not isinstance(meta, dict):
        raise CheckpointError(f"{os.fspath(path)}: its `meta` is not a JSON object; use an earlier checkpoint")
    return meta


def _check_format(path: str | os.PathLike[str], meta: Mapping[str, Any]) -> None:
    if meta.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{os.fspath(path)}: format {meta.get('format')!r}, this fcnn reads {FORMAT_VERSION}; "
            "use the fcnn that wrote it"
        )


def _read(archive: "zipfile.ZipFile", info: "zipfile.ZipInfo", template: Array) -> tuple[str | None, Array | None]:
    """The array, or what is wrong with it."""
    data, whole = _bytes(archive, info, template.nbytes)
    header = _header(data)
    if header is None:
        return "not a plain array", None
    shape, dtype, fortran, start = header
    if shape != template.shape:
        return f"wrong shape ({shape}, expected {template.shape})", None
    if dtype != template.dtype:
        return f"wrong dtype ({dtype}, expected {template.dtype})", None
    if not whole or len(data) != start + template.nbytes:
        return "wrong length", None
    return None, frozen(np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if fortran else "C"))


def _bytes(archive: "zipfile.ZipFile", info: "zipfile.ZipInfo", most: int) -> tuple[bytes, bool]:
    """What a member holds, up to a header and `most` bytes, and whether that is all of it."""
    with archive.open(info) as file:
        data = file.read(most + _HEADER_LIMIT)
        whole = not file.read(1)  # the zip's checksum is verified at the end
        return data, whole and len(data) == info.file_size


def _header(data: bytes) -> tuple[tuple[int, ...], np.dtype[Any], bool, int] | None:
    """Shape, dtype, Fortran order and the length of an .npy header; None where it is damaged or tells of objects."""
    stream = io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy mends headers that Python 2 wrote, and says so
            version = np.lib.format.read_magic(stream)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, fortran, dtype = read(stream, max_header_size=_HEADER_LIMIT)
    except Exception:  # a damaged header makes NumPy's parser raise almost anything
        return None
    return None if dtype.hasobject else (shape, dtype, fortran, stream.tell())
