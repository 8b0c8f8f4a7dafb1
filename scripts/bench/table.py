"""README's table: a row for what matters most, a column for each machine whose results are kept."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from bench.cases import (
    ALL,
    AS_IT_COMES,
    BACKWARD,
    PEAK,
    PLAIN,
    WIDE,
    Conv,
    Epoch,
    Photo,
    Pool,
    Predict,
    RecordStep,
    Step,
    footprints,
    name_of,
)
from bench.networks import LENET, LENET_BN, PUBLISHED, RESNET, VGG
from bench.report import at_commit, measured_on, spread

Results: TypeAlias = Mapping[str, Any]
Cell: TypeAlias = Callable[[Results], str | None]  # None: these results don't have it

MISSING = "–"


def table(machines: Mapping[str, Results]) -> str:
    """The table in Markdown, and below it what each column was measured on.

    Args:
        machines: results by the names of their files.
    """
    title = "fcnn / best form of PyTorch, one run: median (quartiles)"
    lines = [f"| {title} | {' | '.join(machines)} |", "| --- |" + " --- |" * len(machines)]
    for label, cell in ROWS.items():
        cells = [cell(results) or MISSING for results in machines.values()]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    lines.append("")
    for name, results in machines.items():
        place = f"scripts/bench/results/{name}"
        about = f"{measured_on(results['machine'])}; {at_commit(results)}"
        lines.append(f"- {name} ([all rows and peers]({place}.json), [figure]({place}.png)): {about}")
    return "\n".join(lines)


def _pytorch(case: str, part: str = "") -> Cell:
    """The ratio to the best form of PyTorch."""

    def cell(results: Results) -> str | None:
        row = _row(results, case, part)
        return spread(row["ratios"][row["best_pytorch"]]) if row and row["best_pytorch"] in row["ratios"] else None

    return cell


def _fastest(case: str, *programs: str) -> Cell:
    """The ratio to the fastest of these programs."""

    def cell(results: Results) -> str | None:
        row = _row(results, case)
        there = [program for program in programs if row and program in row["ratios"]]
        best = min(there, key=lambda program: row["ms"][program]["median"], default=None)
        return spread(row["ratios"][best]) if best else None

    return cell


def _times_one_core(case: str) -> Cell:
    """How many times as fast as fcnn on one thread."""

    def cell(results: Results) -> str | None:
        row = _row(results, case)
        if not row or "fcnn, 1 thread" not in row["ratios"]:
            return None
        times = row["ratios"]["fcnn, 1 thread"]  # the greatest of them is the least of speeds
        return spread({"median": 1 / times["median"], "low": 1 / times["high"], "high": 1 / times["low"]})

    return cell


def _memory(of: Callable[[Results], Mapping[str, float]], ours: str = "fcnn") -> Cell:
    """MiB against those of the form of PyTorch that takes least."""

    def cell(results: Results) -> str | None:
        mib = of(results)
        theirs = [value for name, value in mib.items() if name.startswith("PyTorch")]
        return f"{mib[ours]:.0f} against {min(theirs):.0f} MiB" if ours in mib and theirs else None

    return cell


def _peak(title: str) -> Callable[[Results], Mapping[str, float]]:
    return lambda results: results.get("peaks_mib", {}).get(title, {})


def _imports(results: Results) -> str | None:
    seconds = results["import_s"]
    there = "fcnn" in seconds and "torch" in seconds
    return f"{seconds['fcnn']['median']:.2f} against {seconds['torch']['median']:.2f} s" if there else None


def _row(results: Results, case: str, part: str = "") -> Any:
    return next((row for row in results["rows"] if (row["case"], row["part"]) == (case, part)), None)


def _rows() -> dict[str, Cell]:
    steps = {network: name_of(Step(programs=(), network=network)) for network in (LENET, LENET_BN, VGG, RESNET)}
    step_peak, predict_peak = (_peak(name_of(case, PEAK)) for case in footprints(quick=False))
    by_thousand, single = (name_of(Predict(programs=(), batch=batch)) for batch in (1000, 1))
    rows = {
        "LeNet-5 on MNIST, training step, batch 128": _pytorch(steps[LENET]),
        "– plain `train_step`": _pytorch(steps[LENET], PLAIN),
        "– against PyTorch as it comes": _fastest(steps[LENET], *AS_IT_COMES),
        "– times the speed of one core": _times_one_core(steps[LENET]),
        "– with batch norm": _pytorch(steps[LENET_BN]),
        "– with batch norm, plain": _pytorch(steps[LENET_BN], PLAIN),
        "– epoch, shuffled": _pytorch(name_of(Epoch(programs=()))),
        "– peak memory, training": _memory(lambda results: results["memory_mib"]),
        "LeNet-5, inference, 10,000 images by 1,000": _pytorch(by_thousand),
        "– by 1,000, against onnxruntime": _fastest(by_thousand, "onnxruntime"),
        "– by 1,000, peak memory beyond imports": _memory(predict_peak),
        "– one image": _pytorch(single),
        "– one image, against onnxruntime": _fastest(single, "onnxruntime"),
        "VGG-like on CIFAR-10, training step, batch 128": _pytorch(steps[VGG]),
        "– VGG-like, plain `train_step`": _pytorch(steps[VGG], PLAIN),
        "– VGG-like, times the speed of one core": _times_one_core(steps[VGG]),
        "– VGG-like, peak memory beyond imports": _memory(step_peak),
        "– VGG-like, plain, peak memory beyond imports": _memory(step_peak, "fcnn, plain"),
        "ResNet-8 on CIFAR-10, training step, batch 128": _pytorch(steps[RESNET]),
        "– ResNet-8, plain `train_step`": _pytorch(steps[RESNET], PLAIN),
        "– ResNet-8, times the speed of one core": _times_one_core(steps[RESNET]),
    }
    record = name_of(RecordStep(programs=()))
    rows["CIFAR-10 at 94 %, a step of the recipe, batch 2,000"] = _pytorch(record)
    rows["– the recipe, times the speed of one core"] = _times_one_core(record)
    for network in PUBLISHED:
        photo = name_of(Photo(programs=(), network=network))
        rows[f"{network}, one image of 224x224"] = _pytorch(photo)
        rows[f"– {network}, against onnxruntime"] = _fastest(photo, "onnxruntime")
    for c, f, size in WIDE:
        case = name_of(Conv(programs=(), channels=c, filters=f, size=size))
        rows[f"3x3 convolution, {c} to {f} @ {size}x{size}, batch 64, {ALL}"] = _pytorch(case, ALL)
    pool = name_of(Pool(programs=(), channels=64, size=32))
    return {**rows, "2x2 max pool, 64 channels @ 32x32, backward": _pytorch(pool, BACKWARD), "`import`": _imports}


ROWS = _rows()
