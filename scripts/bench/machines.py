"""Results are kept one file a machine: what it is called, of which commit it is, and what there is."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KEPT = Path(__file__).resolve().parent / "results"
BESIDE = "beside-"  # what the names of `bench.beside`'s files begin with


def slug(processor: str) -> str:
    """The name of a processor's files, from what `machine.processor` tells.

    >>> slug("Intel(R) Xeon(R) Processor (family 6, model 207, AVX-512)")
    'intel-xeon-6-207'
    >>> slug("AMD EPYC 7763 64-Core Processor (family 25, model 1)")
    'amd-epyc-7763-25-1'
    >>> slug("Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz (family 6, model 158)")
    'intel-core-i7-8700-6-158'
    >>> slug("arm")
    'arm'
    """
    name, _, notes = processor.partition(" (family")
    name = re.sub(r"\((R|TM)\)|@.*|\b(Processor|CPU|\d+-Core)\b", " ", name, flags=re.IGNORECASE)
    numbers = re.match(r" (\d+), model (\d+)", notes)
    return "-".join([*re.findall(r"[a-z0-9]+", name.lower()), *(numbers.groups() if numbers else ())])


def commit(root: Path = ROOT) -> str | None:
    """The commit that is checked out, with "+changes" where files differ from it; None where that isn't known."""

    def git(*arguments: str) -> str:
        # By this folder's own repository: one around it would tell of something else.
        command = ["git", f"--git-dir={root / '.git'}", f"--work-tree={root}", *arguments]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def kept(beside: bool = False) -> dict[str, dict[str, Any]]:
    """The results in the repository, by the names of their files: of speed, or those of `bench.beside`."""
    found = [path for path in sorted(KEPT.glob("*.json")) if path.stem.startswith(BESIDE) == beside]
    return {path.stem: json.loads(path.read_text("utf-8")) for path in found}
