"""Files: written in one step, and opened only where they are files.

Writing is atomic: a reader sees the old file or the new one, never half of one. What a killed process has left half
written is told by a lock from what is being written, and removed.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fcnn.values.locks import hold, if_abandoned

_LEFTOVER = re.compile(r"\..*\.fcnn-[0-9a-f]{16}\.tmp", re.DOTALL)
_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # by the file system
_REFUSED = _UNSUPPORTED | {errno.EPERM, errno.EACCES, errno.EBADF}
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


@contextlib.contextmanager
def replacing(target: str | os.PathLike[str]) -> Iterator[Any]:
    """A binary file that replaces `target` in one step if the block succeeds, and leaves nothing if it doesn't.

    A symbolic link stays, and what it points to is replaced; the new file has the mode of the old one. What processes
    that were killed while they wrote into the same folder have left there is removed.

    Raises OSError, which names `target`, where it can't be written, and where there is something that isn't to be
    replaced: a folder, a pipe, a device, a socket, or a file that is read-only.
    """
    try:
        place = Path(os.path.realpath(target))
    except ValueError as error:  # a null character
        raise OSError(errno.EINVAL, f"no name of a file ({error})", os.fspath(target)) from None
    temporary = ""
    try:
        mode = _mode_to_replace(target)
        remove_leftovers(place.parent)
        handle, temporary = _made(place, mode)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            with _tolerated(_UNSUPPORTED):
                os.fsync(file.fileno())
            if mode is not None:
                with _tolerated(_REFUSED):
                    os.chmod(temporary, mode)
            if os.name == "posix":  # where it can be, it is replaced while it is held
                os.replace(temporary, place)
        if os.name != "posix":
            os.replace(temporary, place)
        temporary = ""
        if os.name == "posix":  # the new name is on disk only when the folder is
            with _tolerated(_REFUSED):
                _sync_folder(place.parent)
    except OSError as error:
        if error.errno is None or not _is_about(error, place):
            raise
        reason = error.strerror
        if error.errno == errno.ENOENT and not place.parent.exists():
            reason = f"there is no folder {place.parent}; make it first"
        raise OSError(error.errno, reason, os.fspath(target)) from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def is_leftover(name: str) -> bool:
    """Whether it is the name of a file into which `replacing` writes, or wrote as its process was killed."""
    return _LEFTOVER.fullmatch(name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove what `replacing` didn't come to remove in a folder as its process was killed; never what is in use."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if is_leftover(name):
                with contextlib.suppress(OSError), if_abandoned(folder / name) as free:
                    if free:
                        os.unlink(folder / name)


def why_unreadable(path: str | os.PathLike[str]) -> str | None:
    """Why a path can't be read as a file, without the path; None if it can. Nothing is waited for.

    >>> why_unreadable("missing.npz"), why_unreadable(os.curdir)
    ('no such file', 'a folder, not a file')
    """
    try:
        with opened(path):
            return None
    except FileNotFoundError:
        return "no such file"
    except IsADirectoryError:
        return "a folder, not a file"
    except OSError as error:
        reason = error.strerror or str(error)
        return reason if reason.endswith("not a file") else f"it can't be read ({reason})"


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """A file, opened for reading. Raises OSError for what is none: a pipe or device is never opened or waited for."""
    flags = os.O_RDONLY | _FLAGS | getattr(os, "O_NONBLOCK", 0)
    try:
        _expect_file(os.stat(path), path)
        handle = os.open(path, flags)
    except ValueError:  # a null character is in no file's name
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path)) from None
    try:
        _expect_file(os.fstat(handle), path)  # it may have become another since
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _expect_file(found: os.stat_result, path: str | os.PathLike[str], advice: str = "") -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR) + advice, os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise OSError(errno.EINVAL, f"{kind}, not a file{advice}", os.fspath(path))


def _mode_to_replace(target: str | os.PathLike[str]) -> int | None:
    """The mode of the file that is to be replaced; None where there is none yet."""
    try:
        found = os.stat(target)
    except FileNotFoundError:
        return None
    _expect_file(found, target, "; choose another name")
    if not found.st_mode & 0o222 or not os.access(target, os.W_OK):
        advice = "a read-only file; allow writing to it, or choose another name"
        raise PermissionError(errno.EACCES, advice, os.fspath(target))
    return stat.S_IMODE(found.st_mode)


def _made(place: Path, mode: int | None) -> tuple[int, str]:
    """A new file beside `place`, held so that nobody takes it for left over; never more readable than the old one."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS
    while True:
        # The beginning of the name alone: with all of a long one there would be no room for more.
        name = os.fspath(place.with_name(f".{place.name[:40]}.fcnn-{secrets.token_hex(8)}.tmp"))
        handle = os.open(name, flags, 0o666 if mode is None else mode & 0o666 | 0o600)
        if hold(handle, name):
            return handle, name
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _tolerated(errors: set[int]) -> Iterator[None]:
    """What a file system doesn't offer is done without: the file is whole all the same."""
    try:
        yield
    except OSError as error:
        if error.errno not in errors:
            raise


def _is_about(error: OSError, place: Path) -> bool:
    """Whether an error names the file that is written to, the temporary one beside it, or none."""
    name = error.filename
    return name is None or name == os.fspath(place) or is_leftover(os.path.basename(os.fsdecode(name)))
