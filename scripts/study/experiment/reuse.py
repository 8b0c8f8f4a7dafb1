"""Runs of an earlier study, taken from its results.json instead of being run again."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fcnn.values.text import printable
from study.experiment.cells import Cell, key_of, settings_of
from study.experiment.run import Outcome
from study.experiment.store import Store, StudyError

NEEDED = {"Training": ("history", "test_accuracy", "macro_f1"), "Parting": ("steps",), "GradientChecks": ("rows",)}


def reuse(path: Path, wanted: Sequence[Cell], store: Store) -> str:
    """Put those runs of the wanted cells that aren't in the store yet into it; gives a sentence about them.

    Timed runs are left out, as they belong to their machine, and runs whose arrays a figure needs, as results.json
    has none. Raises StudyError where the file is damaged or isn't the results.json of a study.
    """
    try:
        found = json.loads(path.read_text("utf-8"), parse_constant=_refuse, parse_float=_finite, parse_int=_whole)
        keys = [_key(entry) for entry in found["cells"]]
        cells = {key_of(*settings_of(cell)): cell for cell in wanted}
        taken = [
            (cells[key], _outcome(entry, found["meta"]))
            for entry, key in zip(found["cells"], keys, strict=True)
            if key in cells
        ]
    except OSError as error:
        raise StudyError(f"error: {path} can't be read ({error.strerror}); --reuse expects a results.json") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        what = printable(f"{type(error).__name__}: {error}", 200)
        raise StudyError(f"error: {path} is not the whole results.json of a study ({what})") from None
    for cell, outcome in taken:
        if store.load(cell) is None:
            store.save(cell, outcome)
    again = keys.count(None)
    return (
        f"{len(taken)} of {len(keys)} runs in {path} are reused; {again} were timed or are needed with their arrays, "
        f"and {len(keys) - again - len(taken)} are no cells of this study"
    )


def _key(entry: Mapping[str, Any]) -> str | None:
    """The key of an entry's cell; None for a run that is not to be reused."""
    kind, config = entry["kind"], dict(entry["config"])
    if kind == "Timing" or entry.get("timed") or config.get("detail"):
        return None
    if config.get("threads") == 1:  # a setting of earlier studies
        del config["threads"]
    return key_of(kind, config)


def _outcome(entry: Mapping[str, Any], meta: Mapping[str, Any]) -> Outcome:
    result, machine = entry["result"], entry["machine"] if "machine" in entry else _machine(meta)
    if not isinstance(result, dict) or not isinstance(machine, dict):
        raise TypeError("a run's result and machine are no objects")
    missing = set(NEEDED[entry["kind"]]) - set(result)
    if missing:
        raise ValueError(f"a run without {', '.join(sorted(missing))}")
    return Outcome(result, {}, machine)


def _machine(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The machine of an earlier study, which told of it once for all cells, as `machine.machine` tells it."""
    versions = {"Python": meta["versions"]["python"]}
    versions |= {name: meta["versions"][name] for name in ("fcnn", "numpy", "torch") if meta["versions"][name]}
    hardware = {name: meta["hardware"][name] for name in ("processor", "cores", "memory_gib", "system")}
    return {**hardware, "versions": versions, "blas": "BLAS not recorded"}


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse(text)
    return number


def _whole(text: str) -> int:
    number = int(text)
    _finite(text)  # statistics are made of it as a float
    return number


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
