"""The results of cells as files, so that a study goes on where it was stopped.

A cell's result is `cells/<key>.json`, with `cells/<key>.npz` beside it where it has arrays. Both are written
atomically and the JSON last: what is there is whole, and is not run again.
"""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from fcnn.values.files import replacing
from study.experiment.cells import Arrays, Cell, Training, key_of, settings_of
from study.experiment.run import Outcome


class StudyError(Exception):
    """The study can't go on; the message is what the user reads."""


@attrs.frozen
class Store:
    """The folder with the results of cells."""

    folder: Path

    def load(self, cell: Cell) -> dict[str, Any] | None:
        """A cell's entry for results.json, or None where the cell hasn't been run."""
        kind, config = settings_of(cell)
        path = self._path(cell)
        try:
            entry: dict[str, Any] = json.loads(path.read_text())
            found = entry["kind"], entry["config"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StudyError(f"error: {path} can't be read ({error}); delete it, and the cell is run again") from None
        if found != (kind, config):
            raise StudyError(f"error: {path} is the result of another cell; delete it, and this one's is run again")
        if isinstance(cell, Training) and cell.detail and not path.with_suffix(".npz").exists():
            return None
        return entry

    def save(self, cell: Cell, outcome: Outcome) -> dict[str, Any]:
        """Write what a cell gave; gives its entry."""
        kind, config = settings_of(cell)
        path = self._path(cell)
        entry = {
            "kind": kind,
            "key": path.stem,
            "config": config,
            "result": outcome.result,
            "machine": outcome.machine,
        }
        if outcome.arrays:
            with replacing(path.with_suffix(".npz")) as file:
                np.savez_compressed(file, allow_pickle=False, **outcome.arrays)
        with replacing(path) as file:
            file.write(json.dumps(entry, allow_nan=False).encode())
        return entry

    def arrays(self, key: str) -> Arrays:
        """A cell's arrays by name; empty where it has none."""
        path = self.folder / f"{key}.npz"
        if not path.exists():
            return {}
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise StudyError(f"error: {path} can't be read ({error}); delete it, and the cell is run again") from None

    def _path(self, cell: Cell) -> Path:
        return self.folder / f"{key_of(*settings_of(cell))}.json"
