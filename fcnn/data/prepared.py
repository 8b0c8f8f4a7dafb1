"""Pictures that were prepared once, kept in the cache folder: reading them again takes no decoding.

A file for each folder and its settings. It says of which files, sizes and times it was made, and its contents' digest;
where anything is otherwise now, or the file is damaged, the pictures are read again.
"""

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from fcnn.data.cache import cache_folder
from fcnn.data.listing import Found
from fcnn.data.types import DataError
from fcnn.values.archives import DamagedFileError, opened_archive, write_archive
from fcnn.values.arrays import NDArray, digest
from fcnn.values.files import replacing

Reasons = Mapping[int, str]
"""Why files were left out, by their numbers."""

_VERSION = 1  # of what the files hold, and of how pictures are prepared
_MOST_TEXT = 100_000_000  # bytes of what a file says beside its pixels
_SETTLED = 2.0  # seconds; what was changed just now may be changed again at the same time, as clocks are coarse


def place_of(root: Path, settings: str) -> Path | None:
    """Where the pictures of a folder are kept, prepared with some settings; None where there is no cache folder."""
    with contextlib.suppress(DataError, OSError):
        name = blake2b(repr((str(root.resolve()), settings)).encode("utf-8", "surrogatepass"), digest_size=16)
        return cache_folder() / "pictures" / f"{name.hexdigest()}.npz"
    return None


def signature_of(files: Sequence[Found], settings: str) -> str:
    """What tells some files, at some time, with some settings from any others."""
    text = repr((_VERSION, settings, [(file.name, file.stamp) for file in files]))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


def kept(
    place: Path, signature: str, count: int, shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], Reasons] | None:
    """The images of `count` files but for those left out, and why they were; None where there is nothing to rely on."""
    try:
        with opened_archive(place) as archive:
            if set(archive.names) != {"about", "x"}:
                return None
            about = json.loads(archive.text("about", _MOST_TEXT) or "null")
            if not isinstance(about, dict) or about.get("signature") != signature:
                return None
            reasons = {int(k): str(reason) for k, reason in about["reasons"].items()}
            like = np.broadcast_to(np.zeros((), np.uint8), (count - len(reasons), *shape))
            _, x = archive.array("x", like)
            if x is None or about["digest"] != _digest(signature, reasons, x):
                return None
            return x, reasons
    except (OSError, DamagedFileError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def keep(place: Path, signature: str, files: Sequence[Found], x: NDArray[np.uint8], reasons: Reasons) -> None:
    """Keep images for the next time, in place of those of before; where that can't be done, do without."""
    changed = 2 if os.name == "posix" else 1  # elsewhere the last of a stamp is when the file was made
    if any(file.stamp[changed] / 1e9 > time.time() - _SETTLED for file in files):
        return
    about: dict[str, Any] = {"signature": signature, "reasons": reasons, "digest": _digest(signature, reasons, x)}
    text = np.array(json.dumps(about))
    if text.nbytes > _MOST_TEXT:
        return
    with contextlib.suppress(OSError):
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # pictures may be private
        with replacing(place) as file:
            write_archive(file, {"about": text, "x": x})


def _digest(signature: str, reasons: Reasons, x: NDArray[np.uint8]) -> str:
    return digest(x, np.frombuffer(json.dumps([signature, sorted(reasons.items())]).encode(), np.uint8))
