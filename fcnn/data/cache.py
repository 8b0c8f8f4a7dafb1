"""Where the library keeps downloads, and pictures that were prepared."""

import os
import sys
from pathlib import Path

from fcnn.data.types import DataError


def cache_folder() -> Path:
    """The folder `fcnn` in `$XDG_CACHE_HOME`, else in the system's usual folder for caches."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "fcnn"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise DataError(f"there is no home folder to keep data in ({error}); set XDG_CACHE_HOME or FCNN_DATA") from None
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "fcnn"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "fcnn"
    return home / ".cache" / "fcnn"
