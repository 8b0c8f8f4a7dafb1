"""What the study found, as numbers: a pure function from the cells' results to all that page and figures show."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from study.experiment.cells import Training
from study.experiment.plan import ABLATIONS, INITS
from study.findings.statistics import median_and_range, paired, spread
from study.findings.verdicts import REPORTED_NUMPY, REPORTED_TORCH, answer, claims

Cell = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray[Any, Any]]
Accuracies = Mapping[int, float]
"""By seed."""
Sweep = Mapping[int, Mapping[tuple[str, str], Accuracies]]
"""By training size, then by framework and initialisation."""

FRAMEWORKS = ("fcnn", "pytorch")
DEFAULTS = attrs.asdict(Training())
PROTOCOL_INIT: str = DEFAULTS["init"]
"""The initialisation of every run that doesn't vary it, in both frameworks."""
TORCH_INIT = "kaiming_uniform"
"""PyTorch's own."""
PLAIN = {name: DEFAULTS[name] for name in ("batch_norm", "dropout", "optimizer", "lr", "batch_size")}


def summarise(cells: Sequence[Cell], arrays: Mapping[str, Arrays]) -> dict[str, Any]:
    """All derived numbers, ready for JSON. Accuracies are from 0 to 1, differences are shares too (0.01: one point).

    Args:
        cells: the entries of results.json.
        arrays: the arrays of the cells that keep any, by the cell's key and the array's name.

    Whatever no cell was run for is None or empty.
    """
    training = [cell for cell in cells if cell["kind"] == "Training"]
    names = list(dict.fromkeys(cell["config"]["dataset"] for cell in training))
    main = names[0] if names else None
    grid = _grid(training)
    sweep = _sweep(row for row in grid if row["dataset"] == main)
    found: dict[str, Any] = {
        "main": main,
        "init": PROTOCOL_INIT,
        "datasets": names,
        "frameworks": [f for f in FRAMEWORKS if _chosen(training, framework=f)],
        "machines": _machines(cells),
        "headline": {name: _headline(training, _timing(cells, name), name) for name in names},
        "grid": [{key: value for key, value in row.items() if key != "by_seed"} for row in grid],
        "effects": [_effects(size, runs) for size, runs in sweep.items()],
        "variance": _variance(sweep),
        "reached": _reached(row for row in grid if (row["dataset"], row["init"]) == (main, PROTOCOL_INIT)),
        "batch_sizes": _batch_sizes(_chosen(training, dataset=main, init=PROTOCOL_INIT)),
        "ablations": _ablations(_chosen(training, dataset=main, framework="fcnn")),
        "parting": {cell["config"]["dtype"]: _parting(cell) for cell in cells if cell["kind"] == "Parting"},
        "gradient_checks": _gradient_checks(cells),
        "reliability": _per_detail(training, lambda cell: _reliability(arrays.get(cell["key"], {}))),
        "filter_change": _per_detail(training, lambda cell: _filter_change(arrays.get(cell["key"], {}))),
        "confused": _per_detail(training, lambda cell: _confused(cell["result"])),
    }
    return found | {"claims": claims(found), "answer": answer(found)}


def _chosen(training: Iterable[Cell], **wanted: Any) -> list[Cell]:
    return [cell for cell in training if all(cell["config"][name] == value for name, value in wanted.items())]


def _accuracies(cells: Iterable[Cell]) -> Accuracies:
    by_seed = {cell["config"]["seed"]: cell["result"]["test_accuracy"] for cell in cells}
    return {seed: by_seed[seed] for seed in sorted(by_seed)}


def _largest(cells: Iterable[Cell]) -> int:
    return max((cell["config"]["train_size"] for cell in cells), default=0)


def _timing(cells: Iterable[Cell], dataset: str) -> Cell | None:
    return next((cell for cell in cells if cell["kind"] == "Timing" and cell["config"]["dataset"] == dataset), None)


def _per_detail(training: Sequence[Cell], function: Callable[[Cell], Any]) -> dict[str, dict[str, Any]]:
    """`function` of each detailed cell, by data set and framework, where it gives something."""
    found: dict[str, dict[str, Any]] = {}
    for cell in _chosen(training, detail=True):
        if (value := function(cell)) is not None:
            found.setdefault(cell["config"]["dataset"], {})[cell["config"]["framework"]] = value
    return found


def _machines(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Each machine with how many cells ran on it, and how many of these measured time; the busiest first."""
    found: list[dict[str, Any]] = []
    for machine in [cell["machine"] for cell in cells]:
        if machine not in [row["machine"] for row in found]:
            mine = [cell["kind"] for cell in cells if cell["machine"] == machine]
            found.append({"machine": machine, "cells": len(mine), "timed": mine.count("Timing")})
    return sorted(found, key=lambda row: -row["cells"])


def _headline(training: Sequence[Cell], timing: Cell | None, name: str) -> dict[str, Any]:
    """The comparison itself, with the most training images that plain runs of a data set had."""
    cells = _chosen(training, dataset=name, init=PROTOCOL_INIT, **PLAIN)
    size = _largest(cells)
    cells = _chosen(cells, train_size=size)
    accuracies = {f: found for f in FRAMEWORKS if (found := _accuracies(_chosen(cells, framework=f)))}
    timed = timing["result"]["frameworks"] if timing else {}
    rows: dict[str, dict[str, Any]] = {}
    for framework, by_seed in accuracies.items():
        detail = next(iter(_chosen(cells, framework=framework, detail=True)), None)
        speed = timed.get(framework)
        rows[framework] = {
            "accuracy": spread(by_seed.values()),
            "macro_f1": detail["result"]["macro_f1"] if detail else None,
            "detail_accuracy": detail["result"]["test_accuracy"] if detail else None,
            "seed": detail["config"]["seed"] if detail else None,
            "seconds_per_epoch": median_and_range(speed["seconds"]) if speed else None,
            "images_per_second": speed["images_per_second"] if speed else None,
            "peak_memory_mib": speed["peak_memory_mib"] if speed else None,
            "variant": speed["variant"] if speed else None,
        }
    both = len(rows) == len(FRAMEWORKS)
    seconds = [timed[framework]["seconds"] for framework in FRAMEWORKS if framework in timed]
    ratios = [theirs / ours for ours, theirs in zip(*seconds, strict=True)] if len(seconds) > 1 else []
    return {
        "train_size": size,
        "timed_size": timing["config"]["train_size"] if timing else None,
        "epochs": cells[0]["config"]["epochs"] if cells else None,
        "frameworks": rows,
        "difference": paired(*(accuracies[f] for f in FRAMEWORKS)) if both else None,
        "overlap": _overlap(*(rows[f]["accuracy"] for f in FRAMEWORKS)) if both else None,
        "speed": median_and_range(ratios) if ratios else None,
    }


def _overlap(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool | None:
    if a["n"] < 3 or b["n"] < 3:  # the interval of two seeds is wider than anything that could be found
        return None
    return bool(a["low"] <= b["high"] and b["low"] <= a["high"])


def _grid(training: Sequence[Cell]) -> list[dict[str, Any]]:
    """Accuracy by data set, framework, initialisation and training size, over seeds."""

    def position(place: tuple[str, str, str, int]) -> tuple[Any, ...]:
        dataset, framework, init, size = place
        return dataset != "mnist", dataset, size, INITS.index(init), FRAMEWORKS.index(framework)

    names = ("dataset", "framework", "init", "train_size")
    plain = _chosen(training, **PLAIN)
    rows = []
    for place in sorted({tuple(cell["config"][name] for name in names) for cell in plain}, key=position):
        at = dict(zip(names, place, strict=True))
        by_seed = _accuracies(_chosen(plain, **at))
        rows.append({**at, "by_seed": by_seed, **spread(by_seed.values())})
    return rows


def _sweep(grid: Iterable[Mapping[str, Any]]) -> Sweep:
    """The runs of the complete training sizes."""
    sizes: dict[int, dict[tuple[str, str], Accuracies]] = {}
    for row in grid:
        sizes.setdefault(row["train_size"], {})[row["framework"], row["init"]] = row["by_seed"]
    most = max(map(len, sizes.values()), default=0)  # a size at which only some were run would compare unlike things
    several = len({init for runs in sizes.values() for _, init in runs}) > 1
    return {size: sizes[size] for size in sorted(sizes) if several and len(sizes[size]) == most}


def _effects(size: int, runs: Mapping[tuple[str, str], Accuracies]) -> dict[str, Any]:
    """What one change makes at a training size, all else equal: framework, initialisation, both, another seed."""
    inits, frameworks = sorted({init for _, init in runs}), sorted({framework for framework, _ in runs})
    deviations = [spread(by_seed.values()) for by_seed in runs.values() if len(by_seed) > 1]
    squares = sum((s["n"] - 1) * s["sd"] ** 2 for s in deviations)
    freedom = sum(s["n"] - 1 for s in deviations)
    return {
        "train_size": size,
        "mean": float(np.mean([value for by_seed in runs.values() for value in by_seed.values()])),
        "framework": _change(runs, [(("fcnn", init), ("pytorch", init)) for init in inits]),
        "init": _change(runs, [((name, "he"), (name, TORCH_INIT)) for name in frameworks]),
        "both": _change(runs, [(("fcnn", "he"), ("pytorch", TORCH_INIT))]),
        "seed_sd": math.sqrt(squares / freedom) if freedom else None,
        "seed_freedom": freedom,
    }


def _change(
    runs: Mapping[tuple[str, str], Accuracies], pairs: Sequence[tuple[tuple[str, str], tuple[str, str]]]
) -> dict[str, Any] | None:
    """The spread over seeds of the mean difference of all pairs of (framework, initialisation) that were run.

    Runs of one seed share their batches and are not independent, so each seed counts as one observation.
    """
    there = [(runs[first], runs[second]) for first, second in pairs if first in runs and second in runs]
    seeds = set.intersection(*(set(side) for pair in there for side in pair)) if there else set()
    values = [float(np.mean([first[seed] - second[seed] for first, second in there])) for seed in sorted(seeds)]
    return spread(values, floor=-1.0) if values else None


def _variance(sweep: Sweep) -> dict[str, Any] | None:
    """Shares of the variance of all runs' accuracies by factor: an analysis of variance of the balanced grid.

    Sums of squares of the main effects, of all interactions together, and of seeds within cells, over the total.
    None where the grid is not balanced (unfinished, or made of other cells).
    """
    cells: dict[tuple[Any, ...], list[float]] = {
        (size, *place): list(runs[place].values()) for size, runs in sweep.items() for place in runs
    }
    factors = [list(dict.fromkeys(key[k] for key in cells)) for k in range(3)]
    n = {len(values) for values in cells.values()}
    if len(n) != 1 or set(itertools.product(*factors)) != set(cells) or max(n) < 2:
        return None
    x = np.array([cells[key] for key in itertools.product(*factors)]).reshape(*map(len, factors), -1)
    total = float(((x - x.mean()) ** 2).sum())
    if total == 0:
        return None
    parts = {}
    for axis, name in enumerate(("train_size", "framework", "init")):
        others = tuple(k for k in range(x.ndim) if k != axis)
        parts[name] = float(((x.mean(axis=others) - x.mean()) ** 2).mean()) * x.size / total
    parts["seeds"] = float(((x - x.mean(axis=3, keepdims=True)) ** 2).sum()) / total
    parts["interactions"] = max(0.0, 1 - sum(parts.values()))
    return {"shares": parts, "runs": x.size, "sizes": factors[0]}


def _reached(grid: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each framework with the protocol's initialisation: the training sizes at which the reported accuracies
    are reached, by linear interpolation over log(size); and what the other framework has at that size. Between sizes
    more than ten times apart the curve bends too much for a line, and an accuracy that lies there is left out.
    """
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in grid:
        lines.setdefault(row["framework"], []).append((row["train_size"], row["mean"]))
    found: dict[str, dict[str, Any]] = {framework: {} for framework in lines}
    for framework, reported in itertools.product(lines, (REPORTED_NUMPY, REPORTED_TORCH)):
        size, where = crossing(lines[framework], reported)
        if where == "unknown":
            continue
        others = {
            other: float(np.interp(math.log(size), np.log([p[0] for p in line]), [p[1] for p in line]))
            for other, line in lines.items()
            if size is not None and other != framework and line[0][0] <= size <= line[-1][0]
        }
        found[framework][f"{reported:.3f}"] = {"size": size, "where": where, "others": others}
    return found


def crossing(points: Sequence[tuple[int, float]], level: float) -> tuple[float | None, str]:
    """Where the line through (size, accuracy) first reaches a level: (size, "between"), or no size and why not.

    >>> crossing([(1_000, 0.9), (4_000, 1.0)], 0.8), crossing([(1_000, 0.9)], 0.95)
    ((None, 'below'), (None, 'above'))
    >>> crossing([(1_000, 0.9), (60_000, 1.0)], 0.95)  # too far apart
    (None, 'unknown')
    """
    if points[0][1] >= level:
        return None, "below"
    for (n, y), (more, higher) in itertools.pairwise(points):
        if higher >= level:
            if more > 10 * n:
                return None, "unknown"
            return n * (more / n) ** ((level - y) / (higher - y)), "between"
    return None, "above"


def _batch_sizes(training: Sequence[Cell]) -> dict[str, Any] | None:
    cells = _chosen(training, **{name: value for name, value in PLAIN.items() if name != "batch_size"})
    size = _largest(cell for cell in cells if cell["config"]["batch_size"] != PLAIN["batch_size"])
    cells = _chosen(cells, train_size=size)
    rows = []
    for framework, batch in itertools.product(FRAMEWORKS, sorted({cell["config"]["batch_size"] for cell in cells})):
        if runs := _chosen(cells, framework=framework, batch_size=batch):
            seconds = [item["seconds"] for cell in runs for item in cell["result"]["history"]]
            row = {"framework": framework, "batch_size": batch, **spread(_accuracies(runs).values())}
            rows.append(row | {"seconds_per_epoch": float(np.median(seconds))})
    return {"train_size": size, "rows": rows} if rows else None


def _ablations(training: Sequence[Cell]) -> dict[str, Any] | None:
    """fcnn with one thing changed at a time, and the difference to the baseline, paired by seed."""
    size = _largest(_chosen(training, optimizer="sgd"))
    settings = {name: {**PLAIN, "init": PROTOCOL_INIT, **change} for name, change in ABLATIONS.items()}
    runs = {name: _accuracies(_chosen(training, train_size=size, **changed)) for name, changed in settings.items()}
    base, *changed = runs.values()
    if not base or not any(changed):
        return None
    rows = []
    for name, found in runs.items():
        if found:
            difference = None if found is base else paired(found, base)
            rows.append({"name": name, "settings": settings[name], **spread(found.values()), "difference": difference})
    return {"train_size": size, "rows": rows}


def _parting(cell: Cell) -> dict[str, Any]:
    """How far the frameworks' losses and weights are apart after 10, 100 and all steps."""
    steps = cell["result"]["steps"]
    gaps = [abs(step["fcnn_loss"] - step["pytorch_loss"]) for step in steps]
    return {
        "dataset": cell["config"]["dataset"],
        "steps": len(steps),
        "gap_10": max(gaps[:10]),
        "gap_100": max(gaps[:100]) if len(gaps) >= 100 else None,
        "max_loss_gap": max(gaps),
        "final_distance": steps[-1]["distance"],
    }


def _gradient_checks(cells: Sequence[Cell]) -> dict[str, Any] | None:
    rows = [row for cell in cells if cell["kind"] == "GradientChecks" for row in cell["result"]["rows"]]
    if not rows:
        return None
    errors = {row["name"]: max(row[mode] for mode in ("train", "eval") if row[mode] is not None) for row in rows}
    worst = max(errors, key=lambda name: errors[name])
    return {"rows": rows, "worst": errors[worst], "worst_name": worst, "count": len(rows)}


def _reliability(arrays: Arrays, bins: int = 10) -> dict[str, Any] | None:
    """Accuracy by confidence in equal bins; the expected calibration error, sum of (n / N) |accuracy - confidence|."""
    if "confidence" not in arrays:
        return None
    confidence, right = arrays["confidence"], arrays["predictions"] == arrays["labels"]
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    rows: list[dict[str, Any]] = []
    for k in range(bins):
        inside = place == k
        n = int(inside.sum())
        mean = float(confidence[inside].mean()) if n else None
        share = float(right[inside].mean()) if n else None
        rows.append({"from": k / bins, "to": (k + 1) / bins, "count": n, "confidence": mean, "accuracy": share})
    error = sum(row["count"] * abs(row["accuracy"] - row["confidence"]) for row in rows if row["count"]) / len(right)
    return {"bins": rows, "error": float(error), "confidence": float(confidence.mean()), "count": len(right)}


def _filter_change(arrays: Arrays) -> float | None:
    """How far the first layer's weights are from their start after one epoch, as a share of how far at the end."""
    if "filters" not in arrays:
        return None
    filters = arrays["filters"].astype(np.float64)
    whole = float(np.linalg.norm(filters[-1] - filters[0]))
    return float(np.linalg.norm(filters[1] - filters[0])) / whole if whole else None


def _confused(result: Mapping[str, Any], most: int = 5) -> dict[str, Any]:
    """The classes that were most often taken for another, and how many mistakes there are."""
    table = np.array(result["confusion"])
    names = list(result["report"]["classes"])
    wrong = table - np.diag(np.diag(table))
    pairs = Counter({(i, j): int(wrong[i, j]) for i, j in np.argwhere(wrong)}).most_common(most)
    return {
        "classes": names,
        "mistakes": int(wrong.sum()),
        "count": int(table.sum()),
        "pairs": [{"true": names[i], "predicted": names[j], "count": n} for (i, j), n in pairs],
    }
