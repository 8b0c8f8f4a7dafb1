"""Archives: `.npz`, written the same by every NumPy, and read within bounds, as other zip files are.

Nothing is ever unpickled, and no more memory is taken than the caller allows for each array, whatever the file claims.
"""

import contextlib
import errno
import io
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import attrs
import numpy as np

from fcnn.values.arrays import Array, frozen
from fcnn.values.files import opened
from fcnn.values.text import printable

if TYPE_CHECKING:
    import zipfile  # at run time where it is used: it costs start-up time

_HEADER_LIMIT = 10_000  # bytes; NumPy's own limit for an .npy header
_DIRECTORY_LIMIT = 6_000_000  # bytes; an array takes some hundred, and some thousand in memory


class DamagedFileError(ValueError):
    """A file is not what its kind of file should be; the message says how, without the file's name."""


def write_archive(file: IO[bytes], arrays: Mapping[str, Array], *, compressed: bool = False) -> None:
    """Write arrays as `np.savez(file, **arrays)` does, or `np.savez_compressed`, but for objects: they are refused.

    NumPy's own functions are told so by `allow_pickle=False`, which those before 2.1 take for one more array.
    """
    import zipfile

    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


@attrs.frozen
class Archive:
    """The arrays of an opened `.npz`, or the members of another zip; none is read before it is asked for."""

    _zip: "zipfile.ZipFile"
    _members: "dict[str, zipfile.ZipInfo]"
    _kind: str

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

    @property
    def compressed(self) -> str | None:
        """The name of a member that is compressed, and so may claim more bytes than the file has; None without one."""
        return next((name for name, info in self._members.items() if info.compress_type), None)

    def size_of(self, name: str) -> int:
        """How many bytes a member takes."""
        return self._members[name].file_size

    def content(self, name: str) -> bytes:
        """All bytes of a member."""
        with self._member(name) as file:
            data: bytes = file.read()
        if len(data) != self.size_of(name):
            raise DamagedFileError(f"{printable(name)} in it is cut short")
        return data

    def kind(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
        """An array's shape and dtype by its header, which alone is read; None where that is damaged."""
        with self._member(name) as file:
            header = _header(file.read(_HEADER_LIMIT))
        return None if header is None else (header.shape, header.dtype)

    def text(self, name: str, most: int) -> str | None:
        """The text that is the whole of an array; None where it is none, or takes more than `most` bytes."""
        data, whole = self._bytes(name, most)
        header = _header(data)
        if not whole or header is None or header.shape != () or header.dtype.kind != "U":
            return None
        try:
            text = str(np.frombuffer(data, header.dtype, count=1, offset=header.length)[0])
            text.encode()  # what is no character can't be written or printed
        except (ValueError, SystemError):
            return None
        return text

    def array(self, name: str, like: Array) -> tuple[str | None, Array | None]:
        """The array, which must have the shape and dtype of `like`; or None, and first what is wrong with it."""
        data, whole = self._bytes(name, like.nbytes)
        header = _header(data)
        if header is None:
            return "not a plain array", None
        shape, dtype, order, start = header
        if shape != like.shape:
            return f"wrong shape ({_shown(shape)}, expected {like.shape})", None
        if dtype != like.dtype:
            return f"wrong dtype ({_shown(dtype)}, expected {like.dtype})", None
        if not whole or len(data) != start + like.nbytes:
            return "wrong length", None
        return None, frozen(np.frombuffer(data, dtype, offset=start).reshape(shape, order=order))

    def _bytes(self, name: str, most: int) -> tuple[bytes, bool]:
        """What a member holds, up to a header and `most` bytes, and whether that is all of it."""
        size = self._members[name].file_size
        with self._member(name) as file:
            # No more than it says it has: inflating goes as far as is asked for.
            data = file.read(min(most + _HEADER_LIMIT, size + 1))
            whole = not file.read(1)  # the zip's checksum is verified at the end
            return data, whole and len(data) == size

    @contextlib.contextmanager
    def _member(self, name: str) -> Iterator[Any]:
        with _damage_told(self._kind, f"{printable(name)} in it"), self._zip.open(self._members[name]) as file:
            yield file


@contextlib.contextmanager
def opened_archive(path: str | os.PathLike[str], kind: str = ".npz") -> Iterator[Archive]:
    """The arrays of an `.npz` file, or the members of a zip of another kind.

    Raises DamagedFileError, also when they are read, where it isn't a whole one.
    """
    import zipfile

    with opened(path) as raw:
        file = Bounded(raw)  # type: ignore[arg-type]  # anything that reads into a buffer will do
        file.most = _DIRECTORY_LIMIT
        with _damage_told(kind, "its directory"):
            archive = zipfile.ZipFile(file)
        file.most = None
        with archive:
            members: dict[str, zipfile.ZipInfo] = {}
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if name in members:
                    raise DamagedFileError(f"{printable(name)} is in the file twice")
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    # Others take as much memory as they like, whatever is asked for.
                    way = f"in the way {info.compress_type}, which {kind} files are not"
                    raise DamagedFileError(f"{printable(name)} is compressed {way}")
                members[name] = info
            yield Archive(archive, members, kind)


class Bounded(io.BufferedReader):
    """A file that takes no memory for bytes that it doesn't have, however many are asked for.

    Where there is a `most`, to ask for more is an error: `zipfile` reads a directory at once, of any size.
    """

    most: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        """So many bytes, or all, of those that there are."""
        if size is None or size < 0:
            return super().read()
        if self.most is not None and size > self.most:
            raise DamagedFileError(f"its directory is {size:,} bytes; at most {self.most:,} are read")
        # What is asked for is taken at once, also where the file has less.
        return super().read(min(size, max(os.fstat(self.fileno()).st_size - self.tell(), 0)))


@contextlib.contextmanager
def _damage_told(kind: str, what: str) -> Iterator[None]:
    """Say in a sentence what `zipfile` raises for damaged files, which is almost anything."""
    try:
        yield
    except DamagedFileError:
        raise
    except Exception as error:
        told = _shown(error)
        for fault in (error, error.__context__):  # `zipfile` says of a failing disk, too, that it is no zip file
            if isinstance(fault, OSError) and fault.errno == errno.EINVAL:
                told = "its place is outside of the file"
            elif isinstance(fault, OSError) and fault.errno is not None:
                raise fault from None
        raise DamagedFileError(f"not a whole {kind} file ({what}: {told})") from error


def _shown(value: object) -> str:
    try:
        text = str(value)
    except ValueError:  # a number of thousands of digits
        text = "too large"
    return printable(" ".join(text.split()) or type(value).__name__)


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
