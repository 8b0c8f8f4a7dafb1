"""Results are kept one file a machine, called as `machine.slug` says: what there is."""

import json
from pathlib import Path
from typing import Any

KEPT = Path(__file__).resolve().parent / "results"
BESIDE = "beside-"  # what the names of `bench.beside`'s files begin with


def kept(beside: bool = False) -> dict[str, dict[str, Any]]:
    """The results in the repository, by the names of their files: of speed, or those of `bench.beside`."""
    found = [path for path in sorted(KEPT.glob("*.json")) if path.stem.startswith(BESIDE) == beside]
    return {path.stem: json.loads(path.read_text("utf-8")) for path in found}
