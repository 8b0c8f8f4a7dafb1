"""Files: written in one step, asked whether they can be read, and archives of arrays read within bounds.

Writing is atomic: a reader sees the old file or the new one, never half of one. Reading an `.npz` never unpickles, and
takes no more memory than the caller allows for each array, whatever the file claims.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import numpy as np

from fcnn.values.arrays import Array, frozen

if TYPE_CHECKING:
    import zipfile  # at run time where it is used: it costs start-up time

_HEADER_LIMIT = 10_000  # bytes; NumPy's own limit for an .npy header


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


def why_unreadable(path: str | os.PathLike[str]) -> str | None:
    """Why a path can't be read as a file, without the path; None if it can.

    Asked before a file is opened, this keeps a pipe from being waited for.

    >>> why_unreadable("missing.npz"), why_unreadable(os.curdir)
    ('no such file', 'a folder, not a file')
    """
    try:
        if Path(path).is_dir():
            return "a folder, not a file"
        if not Path(path).exists():
            return "no such file"
        if not Path(path).is_file():
            return "not a file"
        with open(path, "rb"):
            return None
    except (OSError, ValueError) as error:
        return f"it can't be read ({getattr(error, 'strerror', None) or error})"


class DamagedFileError(ValueError):
    """A file is not what its kind of file should be; the message says how, without the file's name."""


@attrs.frozen
class Archive:
    """The arrays of an opened `.npz`, none of which is read before it is asked for."""

    _zip: "zipfile.ZipFile"
    _members: "dict[str, zipfile.ZipInfo]"

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays' names, in the file's order."""
        return tuple(self._members)

    @property
    def size(self) -> int:
        """How many bytes the arrays take when they are read."""
        return sum(info.file_size for info in self._members.values())

    @property
    def largest(self) -> int:
        """How many bytes the greatest array takes."""
        return max((info.file_size for info in self._members.values()), default=0)

    def kind(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
        """An array's shape and dtype by its header, which alone is read; None where that is damaged."""
        with self._zip.open(self._members[name]) as file:
            header = _header(file.read(_HEADER_LIMIT))
        return None if header is None else (header.shape, header.dtype)

    def text(self, name: str, most: int) -> str | None:
        """The text that is the whole of an array; None where it is none, or takes more than `most` bytes."""
        data, whole = self._bytes(name, most)
        header = _header(data)
        if not whole or header is None or header.shape != () or header.dtype.kind != "U":
            return None
        try:
            return str(np.frombuffer(data, header.dtype, count=1, offset=header.length)[0])
        except ValueError:
            return None

    def array(self, name: str, like: Array) -> tuple[str | None, Array | None]:
        """The array, which must have the shape and dtype of `like`; or None, and first what is wrong with it."""
        data, whole = self._bytes(name, like.nbytes)
        header = _header(data)
        if header is None:
            return "not a plain array", None
        shape, dtype, order, start = header
        if shape != like.shape:
            return f"wrong shape ({shape}, expected {like.shape})", None
        if dtype != like.dtype:
            return f"wrong dtype ({dtype}, expected {like.dtype})", None
        if not whole or len(data) != start + like.nbytes:
            return "wrong length", None
        return None, frozen(np.frombuffer(data, dtype, offset=start).reshape(shape, order=order))

    def _bytes(self, name: str, most: int) -> tuple[bytes, bool]:
        """What a member holds, up to a header and `most` bytes, and whether that is all of it."""
        info = self._members[name]
        with self._zip.open(info) as file:
            # No more than it says it has: inflating goes as far as is asked for.
            data = file.read(min(most + _HEADER_LIMIT, info.file_size + 1))
            whole = not file.read(1)  # the zip's checksum is verified at the end
            return data, whole and len(data) == info.file_size


@contextlib.contextmanager
def opened_archive(path: str | os.PathLike[str]) -> Iterator[Archive]:
    """The arrays of an `.npz` file. Raises DamagedFileError, also within the block, where it isn't a whole one."""
    import lzma
    import zipfile
    import zlib

    damage = (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError)
    try:
        with zipfile.ZipFile(path) as file:
            members: dict[str, zipfile.ZipInfo] = {}
            for info in file.infolist():
                name = info.filename.removesuffix(".npy")
                if name in members:
                    raise DamagedFileError(f"{name} is in the file twice")
                members[name] = info
            yield Archive(file, members)
    except (*damage, zlib.error, lzma.LZMAError) as error:
        raise DamagedFileError(f"not a whole .npz file ({error})") from error


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Any  # "C" or "F"
    length: int


def _header(data: bytes) -> _Header | None:
    """An .npy header; None where it is damaged or tells of objects."""
    stream = io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy mends headers that Python 2 wrote, and says so
            version = np.lib.format.read_magic(stream)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, fortran, dtype = read(stream, max_header_size=_HEADER_LIMIT)
    except Exception:  # a damaged header makes NumPy's parser raise almost anything
        return None
    return None if dtype.hasobject else _Header(shape, dtype, "F" if fortran else "C", stream.tell())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
