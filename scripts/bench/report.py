"""The results in words and tables."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from machine import described

NOTES = (
    "float32; same weights, images and batches, in memory; each program in a process of its own, in turn",
    "ratio: fcnn's median / the program's in each round; its median over the rounds, with quartiles",
    "* marks the best form of PyTorch; x floor: times what direct products take at sgemm's rate, Winograd needs less",
    "PyTorch, compiled: channels_last, Adam fused; convolutions and pools alone are compared in eager form",
    "fcnn has glibc keep freed memory, which saves page faults; so it is here for all programs but those 'as it comes'",
    "compilers work before the timing; when their first results came is listed; JAX's thread pool is sized by NPROC",
    "peak memory of training: import, load the images, 100 steps, each process's greatest resident size added up",
    "peak memory of a step, of inference: the greatest proportional set size over all processes of a program, read "
    "every 5 ms in a run of its own, less what it has after its imports",
    "import times: a fresh interpreter's, less an empty one's",
    "fcnn takes LeNet-5 in shards of 64 images (125 in inference), the record's network in shards of 125 and the "
    "others of 32 over forked processes, and layers in halves over threads; so its batch norm is over a shard, the "
    "peers' over a batch",
    "one image 224x224: numbers at random, by fcnn.predictor with nothing set around it but the count of threads; "
    "onnxruntime takes the file that fcnn.save_onnx writes",
    "plain train_step: fcnn without shards, processes or threads set around it; batch norm over the batch",
    "NumPy, im2col and autograd: threads are those of BLAS; im2col has the first layer's input gradient too",
)
RANDOM_IMAGES = "in place of {} images drawn at random: a quick run, or it can't be had"


def measured_on(machine: Mapping[str, Any]) -> str:
    """The machine in a line, with the threads that each program had."""
    return f"{described(machine)}; threads of each program: {machine['threads']}"


def at_commit(results: Mapping[str, Any]) -> str:
    """Of which commit the results are."""
    return f"commit {results.get('commit') or 'not known'}"


def heading(results: Mapping[str, Any]) -> str:
    """What it was measured on, and how."""
    about = f"{measured_on(results['machine'])}; {at_commit(results)}"
    return "\n".join([about, "", *(f"- {note}" for note in results["notes"])])


def section(title: str, found: Mapping[str, Any]) -> str:
    """The table of one case, of peak memory or of import times."""
    lines = ["", title]
    if "rows" in found:
        lines.append(_line("", "median ms", "quartiles", "fcnn / program", "x floor"))
        lines += [line for row in found["rows"] for line in _row(row)]
        if rate := found["rows"][0]["sgemm_gflops"]:
            lines.append(f"  sgemm: {spread(rate, 0)} GFLOP/s")
        first = found["first_results_s"][title]
        lines += [
            f"  first results of {name} after {seconds:.1f} s" for name, seconds in first.items() if seconds > 0.1
        ]
    memory = {**found.get("memory_mib", {}), **found.get("peaks_mib", {}).get(title, {})}
    lines += [f"  {name:<38}{mib:>9,.0f} MiB" for name, mib in memory.items()]
    lines += [f"  {name:<38}{spread(seconds, 3):>26} s" for name, seconds in found.get("import_s", {}).items()]
    return "\n".join(lines)


def ending(results: Mapping[str, Any]) -> str:
    """The ratio to the best form of PyTorch in each row, and what could not be compared."""
    lines = [f"\nNote: {note}" for note in results["notes"][len(NOTES) :]]
    compared = [row for row in results["rows"] if row["best_pytorch"] in row["ratios"]]
    if compared:
        lines += ["", "Ratio in one run, fcnn / best form of PyTorch; in brackets that of all calls' medians:"]
    for row in compared:
        ratio = row["ratios"][row["best_pytorch"]]
        both_ratios = f"{spread(ratio)} [{ratio['of_medians']:.2f}]"
        lines.append(f"  {name_of(row):<68}{both_ratios:<34}{row['best_pytorch']}")
    missing = sorted((program, reason, where) for program, where, reason in results["not_compared"])
    lines += ["", "Could not be compared:"] if missing else []
    for (program, reason), group in groupby(missing, key=lambda one: one[:2]):
        lines.append(f"  {program}: {reason} ({'; '.join(where for _, _, where in group)})")
    return "\n".join(lines)


def name_of(row: Mapping[str, Any]) -> str:
    """A row's name."""
    return f"{row['case']}, {row['part']}" if row["part"] else str(row["case"])


def spread(value: Mapping[str, Any], digits: int = 2) -> str:
    """A median with its quartiles."""
    return f"{value['median']:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"


def _row(row: Mapping[str, Any]) -> Iterator[str]:
    if row["part"]:
        yield f"  {row['part']}"
    for name, ms in row["ms"].items():
        ratio, floor = row["ratios"].get(name), row["times_floor"] if name in ("fcnn", "fcnn, plain") else None
        yield _line(
            f"{name} *" if name == row["best_pytorch"] else name,
            f"{ms['median']:.3f}",
            f"{ms['low']:.3f} to {ms['high']:.3f}",
            spread(ratio) if ratio else "",
            f"{floor['median']:.1f}" if floor else "",
        )


def _line(program: str, median: str, quartiles: str, ratio: str, floor: str) -> str:
    return f"    {program:<38}{median:>11}{quartiles:>24}{ratio:>24}{floor:>9}".rstrip()
