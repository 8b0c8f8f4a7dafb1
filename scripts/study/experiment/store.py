"""The results of cells as files, so that a study goes on where it was stopped.

A cell's result is `cells/<key>.json`, with `cells/<key>.npz` beside it where it has arrays. Both are written
atomically and the JSON last, with checksums of both: what is there is whole, and is not run again. What is damaged, or
is another cell's, is.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from fcnn.values.archives import write_archive
from fcnn.values.files import replacing
from study.experiment.cells import Arrays, Cell, key_of, settings_of
from study.experiment.run import Outcome


class StudyError(Exception):
    """The study can't go on; the message is what the user reads."""


class _Damaged(ValueError):
    """A file of a cell is not what was written; the message says which and how."""


@attrs.frozen
class Store:
    """The folder with the results of cells."""

    folder: Path

    def load(self, cell: Cell) -> dict[str, Any] | None:
        """A cell's entry for results.json, or None where the cell hasn't been run, or what is there can't be used.

        Then a line says so. Raises StudyError where a file can't be read.
        """
        path = self._path(cell)
        try:
            return _entry(path, *settings_of(cell))
        except FileNotFoundError:
            return None
        except _Damaged as error:
            print(f"{error}; the cell is run again", flush=True)
            return None
        except OSError as error:
            raise StudyError(f"error: {error.filename or path} can't be read ({error.strerror})") from None

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
        arrays = path.with_suffix(".npz")
        if outcome.arrays:
            with replacing(arrays) as file:
                write_archive(file, outcome.arrays, compressed=True)
        checksums = {"entry": _digest(_text(entry)), "arrays": _digest(arrays.read_bytes()) if outcome.arrays else None}
        with replacing(path) as file:
            file.write(json.dumps({**entry, "sha256": checksums}, allow_nan=False).encode())
        return entry

    def arrays(self, key: str) -> Arrays:
        """The arrays by name of a cell that was loaded or saved; empty where it has none."""
        path = self.folder / f"{key}.npz"
        if not path.exists():
            return {}
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        except Exception as error:  # it was whole when the cell was loaded
            raise StudyError(f"error: {path} was changed meanwhile ({error}); start the study again") from None

    def _path(self, cell: Cell) -> Path:
        return self.folder / f"{key_of(*settings_of(cell))}.json"


def _entry(path: Path, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """The entry of a cell in a file. Raises _Damaged, or OSError."""
    try:
        entry = json.loads(path.read_bytes())
        checksums = entry.pop("sha256")
        found, expected = entry["kind"], entry["config"]
        whole = checksums["entry"] == _digest(_text(entry))
        arrays = checksums["arrays"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _Damaged(f"{path} is damaged, or of an earlier version") from None
    if not whole:
        raise _Damaged(f"{path} is damaged: its checksum is another")
    if (found, expected) != (kind, config):
        raise _Damaged(f"{path} is the result of another cell")
    if arrays is not None:
        beside = path.with_suffix(".npz")
        try:
            same = _digest(beside.read_bytes()) == arrays
        except FileNotFoundError:
            raise _Damaged(f"{beside} is missing") from None
        if not same:
            raise _Damaged(f"{beside} is damaged, or of another cell: its checksum is another")
    return dict(entry)


def _text(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, sort_keys=True).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
