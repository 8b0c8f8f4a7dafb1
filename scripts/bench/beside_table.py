"""README's table of `beside.py`'s results: a column for each program, a row for each thing that was tried."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from machine import described

from bench.report import at_commit, spread

Found: TypeAlias = Mapping[str, Any]

NOTHING = "Not measured yet: `python scripts/bench --beside` does it."
MISSING = "–"


def table(machines: Mapping[str, Mapping[str, Any]]) -> str:
    """A table in Markdown for each machine, and below it what it was measured on.

    Args:
        machines: results by the names of their files.
    """
    return "\n\n".join(_of_machine(name, results) for name, results in machines.items()) or NOTHING


def _of_machine(name: str, results: Mapping[str, Any]) -> str:
    programs: Mapping[str, Found] = results["programs"]
    lines = [f"| LeNet-5, float32 | {' | '.join(programs)} |", "| --- |" + " --- |" * len(programs)]
    for label, cell in ROWS.items():
        cells = [_cell(cell, found).replace("|", "\\|") for found in programs.values()]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    about = f"{described(results['machine'])}; {at_commit(results)}; {results['settings']['rounds']} rounds"
    return "\n".join([*lines, "", f"- {name} ([all numbers](scripts/bench/results/{name}.json)): {about}"])


def _cell(cell: Callable[[Found], str], found: Found) -> str:
    try:
        return cell(found)
    except KeyError:  # what can't be installed, or computes something else, has no more
        return MISSING


def _alone(found: Found) -> str:
    parts = [f"{found['alone']}; here {found['remedy']}"] if "alone" in found else []
    parts += [found["failed"]] if "failed" in found else []
    return f"no: {'; '.join(parts)}" if parts else "yes"


def _trains(found: Found) -> str:
    if "error" in found["train"]:
        return f"no: {found['train']['error']}"
    before, after = found["train"]["losses"]
    return f"{'yes' if after < before else 'no'}: loss from {before:.4f} to {after:.4f}"


def _peak(found: Found) -> str:
    return found["peak"].get("error") or f"{found['peak']['mib']:.0f} MiB"


def _loaded(found: Found) -> str:
    """By the forward pass, and where it has one, by the training step."""
    parts = [found["peak"]["compiled"], found["train"].get("compiled", [])]
    return ", ".join(sorted({name for part in parts for name in part})) or "none"


ROWS: dict[str, Callable[[Found], str]] = {
    "runs as `pip install` leaves it": _alone,
    "versions": lambda found: ", ".join(f"{name} {found['versions'][name]}" for name in found["chosen"]),
    "installed, with all dependencies": lambda found: f"{found['size_mb']:.0f} MB, {len(found['versions'])} packages",
    "compiled packages beside NumPy": lambda found: ", ".join(found["compiled"]) or "none",
    "– loaded to run it": _loaded,
    "import": lambda found: f"{spread(found['import_s'])} s",
    "forward pass, one image": lambda found: f"{spread(found['one_ms'])} ms",
    "– 128 images": lambda found: f"{spread(found['all_ms'])} ms",
    "– 128 images, peak memory of the process": _peak,
    "a training step": _trains,
}
