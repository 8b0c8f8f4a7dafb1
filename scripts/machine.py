"""The machine that something is measured on: processor, memory, versions. Nothing names a host or a folder."""

import contextlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def machine(packages: Sequence[str] = ("numpy",)) -> dict[str, Any]:
    """What a result depends on beside its settings, as plain data; versions of those `packages` that are installed."""
    import fcnn  # not at the top: the benchmark's other programs take `peak_memory_mib` from here, without fcnn

    np.ones((2, 2)) @ np.ones((2, 2))  # loads BLAS
    blas: dict[str, Any] = {}
    with contextlib.suppress(ModuleNotFoundError):
        from threadpoolctl import threadpool_info

        blas = next((pool for pool in threadpool_info() if pool["user_api"] == "blas"), {})
    versions = {"Python": platform.python_version(), "fcnn": fcnn.__version__}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "processor": processor(),
        "cores": cores(),
        "memory_gib": _memory_gib(),
        "system": platform.system(),
        "versions": versions,
        "blas": " ".join(str(blas[key]) for key in ("internal_api", "version", "architecture") if key in blas),
    }


def described(found: Mapping[str, Any]) -> str:
    """The machine in a line."""
    memory = f", {found['memory_gib']:g} GiB" if found.get("memory_gib") else ""
    versions = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
    return f"{found['cores']} cores of {found['processor']}{memory}, {found['system']}; {versions}, {found['blas']}"


def processor() -> str:
    """Its name, and where Linux tells them, family and model, since names such as "AMD EPYC" span generations."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    notes = [f"family {fields['cpu family']}, model {fields['model']}"] if "cpu family" in fields else []
    notes += ["AVX-512"] if "avx512f" in fields.get("flags", "").split() else []
    return f"{fields['model name']} ({', '.join(notes)})" if notes else fields["model name"]


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


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_mib() -> float:
    """The greatest resident size of this process so far, and of each that it forked, added up; NaN on Windows."""
    with contextlib.suppress(OSError, IndexError):
        # Not ru_maxrss: on Linux that begins with what the parent process had.
        pids = ["self", *forked()]
        status = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
        return sum(int(text.partition("VmHWM:")[2].split()[0]) for text in status) / 2**10
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def proportional_memory_mib(pid: int) -> float:
    """What a process and those that it forked have in memory now, where several share a page each its part.

    Linux calls it the proportional set size. NaN where it isn't told.
    """
    total = float("nan")
    for number in (pid, *forked(pid)):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            kib = int(Path(f"/proc/{number}/smaps_rollup").read_text().partition("\nPss:")[2].split()[0])
            total = kib / 2**10 + (0 if number == pid else total)
    return total


def forked(by: int | str = "self") -> list[int]:
    """The living processes that one forked, without another program in them, where Linux tells of them."""
    found = []
    with contextlib.suppress(OSError):  # one has ended meanwhile
        for children in Path(f"/proc/{by}/task").glob("*/children"):
            for pid in children.read_text().split():
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/cmdline").read_bytes() == Path(f"/proc/{by}/cmdline").read_bytes():
                        found.append(int(pid))
    return found


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
