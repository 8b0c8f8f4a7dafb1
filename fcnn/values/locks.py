"""Locks on files and folders, which tell what is in use from what a killed process left.

The system lets go of a lock when its process ends, however it ends. Some file systems, and Windows, have none.
"""

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

_DAY = 86_400.0  # seconds


def lock(handle: int) -> bool | None:
    """Lock an open file or folder until it is closed; False where another has, None where there are no locks."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # Windows, and some network file systems
        return None
    return True


def is_at(handle: int, path: str | os.PathLike[str]) -> bool:
    """Whether an open file or folder is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def hold(handle: int, path: str | os.PathLike[str]) -> bool:
    """Hold what was opened as `path` until it is closed; False where it was taken for abandoned before."""
    return lock(handle) is not False and is_at(handle, path)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold a temporary folder within the block, so that nobody takes it for abandoned; False where somebody did."""
    if os.name != "posix":
        yield True
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        yield hold(handle, folder)
    finally:
        os.close(handle)


@contextlib.contextmanager
def if_abandoned(path: Path) -> Iterator[bool]:
    """Whether nobody holds a temporary file or folder any more; then nobody can take hold of it within the block.

    Where there are no locks, it is what was left a day ago.
    """
    found = os.lstat(path)
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        yield False
        return
    free = None
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW) if os.name == "posix" else None
    try:
        if handle is not None:
            free = lock(handle)
        yield time.time() - found.st_mtime > _DAY if free is None else free
    finally:
        if handle is not None:
            os.close(handle)
