"""What the study found, as numbers: a pure function from the cells' results to all that page and figures show."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from study.experiment.cells import INITIALIZERS, Training
from study.findings.verdicts import REPORTED_NUMPY, REPORTED_TORCH, answer, claims

__all__ = ["answer", "claims", "summarise"]

Cell = Mapping[str, Any]
Stored = Mapping[str, Mapping[str, np.ndarray[Any, Any]]]
"""The arrays of the cells that keep any, by the cell's key and the array's name."""

Sweep = dict[int, dict[tuple[str, str], dict[int, float]]]
"""Accuracies by training size, then by framework and initialisation, then by seed."""

FRAMEWORKS = ("fcnn", "pytorch")
PLAIN = {"batch_norm": False, "dropout": 0.0, "optimizer": "adam", "lr": 1e-3, "batch_size": 128}
PROTOCOL_INIT: str = attrs.fields(Training).init.default
"""The initialisation of every run that doesn't vary it, in both frameworks."""
DEFAULT_INIT = "kaiming_uniform"  # PyTorch's own


def summarise(cells: Sequence[Cell], arrays: Stored) -> dict[str, Any]:
    """All derived numbers, ready for JSON. Accuracies are from 0 to 1, differences are shares too (0.01: one point).

    Whatever no cell was run for is None or empty.
    """
    training = [cell for cell in cells if cell["kind"] == "Training"]
    names = list(dict.fromkeys(cell["config"]["dataset"] for cell in training))
    grid = [_with(row, **row["at"]) for row in _grid(training)]
    main = names[0] if names else None
    found: dict[str, Any] = {
        "main": main,
        "init": PROTOCOL_INIT,
        "datasets": names,
        "frameworks": [f for f in FRAMEWORKS if any(cell["config"]["framework"] == f for cell in training)],
        "headline": {name: _headline(training, name) for name in names},
        "grid": [{key: value for key, value in row.items() if key not in ("at", "by_seed")} for row in grid],
        "effects": _effects(grid, main),
        "variance": _variance(grid, main),
        "reached": _reached(grid, main),
        "batch_sizes": _batch_sizes(training, main),
        "ablations": _ablations(training, main),
        "parting": _parting(cells),
        "gradient_checks": _gradient_checks(cells),
        "reliability": _per_detail(training, lambda cell: _reliability(arrays.get(cell["key"], {}))),
        "filter_change": _per_detail(training, lambda cell: _filter_change(arrays.get(cell["key"], {}))),
        "confused": _per_detail(training, lambda cell: _confused(cell["result"])),
    }
    return found | {"claims": claims(found), "answer": answer(found)}


# -- statistics ------------------------------------------------------------------------------------------------------


def t_quantile(degrees: int, level: float = 0.95) -> float:
    """The t such that Student's variable of `degrees` degrees of freedom is within ±t with probability `level`.

    Bisects the closed form for whole degrees: M. Abramowitz and I. Stegun, Handbook (1964), 26.7.3 and 26.7.4.

    >>> [round(t_quantile(n), 3) for n in (1, 2, 4, 9, 29)]
    [12.706, 4.303, 2.776, 2.262, 2.045]
    """

    def within(t: float) -> float:
        theta = math.atan(t / math.sqrt(degrees))
        cosine = math.cos(theta)
        odd = degrees % 2
        term = cosine if odd else 1.0
        total = 0.0
        for k in range(degrees // 2):
            total += term
            term *= cosine**2 * (2 * k + 1 + odd) / (2 * k + 2 + odd)
        return 2 / math.pi * (theta + math.sin(theta) * total) if odd else math.sin(theta) * total

    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) < level else (low, middle)
    return (low + high) / 2


def spread(values: Iterable[float], floor: float = 0.0) -> dict[str, Any]:
    """Mean, standard deviation (n - 1), n, range and 95 % t-interval; no deviation or interval of fewer than two.

    The interval ends at `floor` and at 1, between which shares (floor 0) or their differences (floor -1) lie.
    """
    x = np.array(list(values), np.float64)
    n = len(x)
    mean = float(x.mean())
    sd = float(x.std(ddof=1)) if n > 1 else None
    half = None if sd is None else t_quantile(n - 1) * sd / math.sqrt(n)
    low, high = (None, None) if half is None else (max(mean - half, floor), min(mean + half, 1.0))
    return {"mean": mean, "sd": sd, "n": n, "low": low, "high": high, "least": float(x.min()), "most": float(x.max())}


def paired(first: Mapping[Any, float], second: Mapping[Any, float]) -> dict[str, Any] | None:
    """The spread of first - second over the keys that both have (runs with the same seed and so the same batches)."""
    common = [key for key in first if key in second]
    return spread((first[key] - second[key] for key in common), floor=-1.0) if common else None


# -- which cells belong together -------------------------------------------------------------------------------------


def _chosen(training: Iterable[Cell], **wanted: Any) -> list[Cell]:
    return [cell for cell in training if all(cell["config"][name] == value for name, value in wanted.items())]


def _by_seed(cells: Iterable[Cell]) -> dict[int, Cell]:
    """One run a seed. Where a seed was also run for its speed, with more threads, the run among the others counts."""
    return {cell["config"]["seed"]: cell for cell in sorted(cells, key=lambda cell: not cell["timed"])}


def _accuracies(runs: Mapping[int, Cell]) -> dict[int, float]:
    return {seed: runs[seed]["result"]["test_accuracy"] for seed in sorted(runs)}


def _largest(cells: Iterable[Cell]) -> int:
    return max((cell["config"]["train_size"] for cell in cells), default=0)


def _with(row: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**more, **row}


def _detail(training: Iterable[Cell], **wanted: Any) -> Cell | None:
    return next((cell for cell in _chosen(training, **wanted) if cell["config"]["detail"]), None)


def _per_detail(training: Sequence[Cell], function: Any) -> dict[str, dict[str, Any]]:
    """`function` of each detailed cell, by data set and framework, where it gives something."""
    found: dict[str, dict[str, Any]] = {}
    for cell in training:
        value = function(cell) if cell["config"]["detail"] else None
        if value is not None:
            found.setdefault(cell["config"]["dataset"], {})[cell["config"]["framework"]] = value
    return found


# -- the parts -------------------------------------------------------------------------------------------------------


def _headline(training: Sequence[Cell], name: str) -> dict[str, Any]:
    cells = _chosen(training, dataset=name, init=PROTOCOL_INIT, **PLAIN)
    size = _largest(cells)
    cells = _chosen(cells, train_size=size)
    frameworks, accuracies = {}, {}
    for framework in FRAMEWORKS:
        runs = _by_seed(_chosen(cells, framework=framework))
        if not runs:
            continue
        accuracies[framework] = _accuracies(runs)
        timed = next((c for c in _chosen(cells, framework=framework) if c["timed"]), None)
        detail = _detail(cells, framework=framework)
        row: dict[str, Any] = {"accuracy": spread(accuracies[framework].values())}
        for key in ("train_seconds", "images_per_second", "peak_memory_mib"):
            row[key] = timed["result"][key] if timed else None
        row["detail_accuracy"] = detail["result"]["test_accuracy"] if detail else None
        row["macro_f1"] = detail["result"]["macro_f1"] if detail else None
        row["seed"] = detail["config"]["seed"] if detail else None
        frameworks[framework] = row
    both = len(frameworks) == len(FRAMEWORKS)
    a, b = (frameworks.get(name, {}) for name in FRAMEWORKS)
    speeds = [row.get("images_per_second") for row in (a, b)]
    return {
        "train_size": size,
        "epochs": cells[0]["config"]["epochs"] if cells else None,
        "frameworks": frameworks,
        "difference": paired(*(accuracies[f] for f in FRAMEWORKS)) if both else None,
        "overlap": _overlap(a["accuracy"], b["accuracy"]) if both else None,
        "speed_ratio": speeds[0] / speeds[1] if all(speeds) else None,
    }


def _overlap(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool | None:
    if a["n"] < 3 or b["n"] < 3:  # the interval of two seeds is wider than anything that could be found
        return None
    return bool(a["low"] <= b["high"] and b["low"] <= a["high"])


def _grid(training: Sequence[Cell]) -> list[dict[str, Any]]:
    """Accuracy by data set, framework, initialisation and training size, over seeds."""
    places = {
        tuple(cell["config"][name] for name in ("dataset", "framework", "init", "train_size"))
        for cell in _chosen(training, **PLAIN)
    }
    rows = []
    for dataset, framework, init, size in sorted(places, key=_position):
        at = {"dataset": dataset, "framework": framework, "init": init, "train_size": size}
        by_seed = _accuracies(_by_seed(_chosen(training, **at, **PLAIN)))
        rows.append({"at": at, "by_seed": by_seed, **spread(by_seed.values())})
    return rows


def _position(place: tuple[str, str, str, int]) -> tuple[Any, ...]:
    dataset, framework, init, size = place
    return dataset != "mnist", dataset, size, list(INITIALIZERS).index(init), FRAMEWORKS.index(framework)


def _sweep(
    grid: Iterable[Mapping[str, Any]], dataset: str | None
) -> dict[int, dict[tuple[str, str], dict[int, float]]]:
    """The runs of the complete training sizes."""
    sizes: Sweep = {}
    for row in grid:
        if row["dataset"] == dataset:
            sizes.setdefault(row["train_size"], {})[row["framework"], row["init"]] = row["by_seed"]
    most = max(map(len, sizes.values()), default=0)  # a size at which only some were run would compare unlike things
    several = len({init for runs in sizes.values() for _, init in runs}) > 1
    return {size: sizes[size] for size in sorted(sizes) if several and len(sizes[size]) == most}


def _effects(grid: Sequence[Mapping[str, Any]], dataset: str | None) -> list[dict[str, Any]]:
    """What one change makes at each training size, all else equal: framework, initialisation, both, another seed."""
    rows = []
    for size, runs in _sweep(grid, dataset).items():
        accuracies = [value for by_seed in runs.values() for value in by_seed.values()]
        deviations = [spread(by_seed.values()) for by_seed in runs.values() if len(by_seed) > 1]
        squares = sum((s["n"] - 1) * s["sd"] ** 2 for s in deviations)
        freedom = sum(s["n"] - 1 for s in deviations)
        inits, frameworks = sorted({init for _, init in runs}), sorted({framework for framework, _ in runs})

        ours, theirs = runs.get(("fcnn", "he"), {}), runs.get(("pytorch", DEFAULT_INIT), {})
        means = {place: float(np.mean(list(by_seed.values()))) for place, by_seed in runs.items()}
        rows.append(
            {
                "train_size": size,
                "mean": float(np.mean(accuracies)),
                "framework": _change(runs, [(("fcnn", init), ("pytorch", init)) for init in inits]),
                "init": _change(runs, [((name, "he"), (name, DEFAULT_INIT)) for name in frameworks]),
                "both": paired(ours, theirs),
                "init_range": max(np.ptp([means[f, i] for i in inits if (f, i) in means]).item() for f in frameworks),
                "seed_sd": math.sqrt(squares / freedom) if freedom else None,
            }
        )
    return rows


def _change(
    runs: Mapping[tuple[str, str], Mapping[int, float]], pairs: Sequence[tuple[tuple[str, str], tuple[str, str]]]
) -> dict[str, Any] | None:
    """The spread over seeds of the mean difference of all pairs of (framework, initialisation) that were run.

    Runs of one seed share their batches and are not independent, so each seed counts as one observation.
    """
    there = [(runs[first], runs[second]) for first, second in pairs if first in runs and second in runs]
    seeds = set.intersection(*(set(side) for pair in there for side in pair)) if there else set()
    values = [float(np.mean([first[seed] - second[seed] for first, second in there])) for seed in sorted(seeds)]
    return spread(values, floor=-1.0) if values else None


def _variance(grid: Sequence[Mapping[str, Any]], dataset: str | None) -> dict[str, Any] | None:
    """Shares of the variance of all runs' accuracies by factor: an analysis of variance of the balanced grid.

    Sums of squares of the main effects, of all interactions together, and of seeds within cells, over the total.
    None where the grid is not balanced (unfinished, or made of other cells).
    """
    sweep = _sweep(grid, dataset)
    cells = {
        (str(size), *place): list(by_seed.values()) for size, runs in sweep.items() for place, by_seed in runs.items()
    }
    factors = [list(dict.fromkeys(key[k] for key in cells)) for k in range(3)]
    n = {len(values) for values in cells.values()}
    if not cells or len(n) > 1 or set(itertools.product(*factors)) != set(cells) or max(n) < 2:
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
    return {"shares": parts, "runs": x.size, "sizes": [int(size) for size in factors[0]]}


def _reached(grid: Sequence[Mapping[str, Any]], dataset: str | None) -> dict[str, dict[str, Any]]:
    """For each framework with the protocol's initialisation: the training sizes at which the reported accuracies
    are reached, by linear interpolation over log(size); and what the other framework has at that size.
    """
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in grid:
        if row["dataset"] == dataset and row["init"] == PROTOCOL_INIT:
            lines.setdefault(row["framework"], []).append((row["train_size"], row["mean"]))
    found: dict[str, dict[str, Any]] = {}
    for framework, points in lines.items():
        found[framework] = {}
        for reported in (REPORTED_NUMPY, REPORTED_TORCH):
            size, where = _crossing(points, reported)
            others = {
                other: float(np.interp(math.log(size), np.log([p[0] for p in line]), [p[1] for p in line]))
                for other, line in lines.items()
                if size is not None and other != framework and line[0][0] <= size <= line[-1][0]
            }
            found[framework][f"{reported:.3f}"] = {"size": size, "where": where, "others": others}
    return found


def _crossing(points: Sequence[tuple[int, float]], level: float) -> tuple[float | None, str]:
    """Where the line through (size, accuracy) first reaches a level: (size, "between"), or below or above all sizes."""
    if points[0][1] >= level:
        return None, "below"
    for (n, y), (more, higher) in itertools.pairwise(points):
        if higher >= level:
            return n * (more / n) ** ((level - y) / (higher - y)), "between"
    return None, "above"


def _batch_sizes(training: Sequence[Cell], dataset: str | None) -> dict[str, Any] | None:
    at = {"dataset": dataset, "init": PROTOCOL_INIT, **{k: v for k, v in PLAIN.items() if k != "batch_size"}}
    cells = _chosen(training, **at)
    size = _largest(cell for cell in cells if cell["config"]["batch_size"] != PLAIN["batch_size"])
    cells = [cell for cell in _chosen(cells, train_size=size) if not cell["timed"]]
    rows = []
    for framework, batch in itertools.product(FRAMEWORKS, sorted({cell["config"]["batch_size"] for cell in cells})):
        runs = _by_seed(_chosen(cells, framework=framework, batch_size=batch))
        if runs:
            seconds = [item["seconds"] for cell in runs.values() for item in cell["result"]["history"]]
            row = {"framework": framework, "batch_size": batch, **spread(_accuracies(runs).values())}
            rows.append(row | {"seconds_per_epoch": float(np.median(seconds))})
    return {"train_size": size, "rows": rows} if rows else None


ABLATED: dict[str, dict[str, Any]] = {
    "baseline: Adam, Xavier initialisation": {},
    "SGD with momentum instead of Adam": {"optimizer": "sgd"},
    "He initialisation": {"init": "he"},
    "PyTorch's default initialisation": {"init": "kaiming_uniform"},
    "with batch norm": {"batch_norm": True},
    "with dropout": {"dropout": True},
    "with batch norm and dropout": {"batch_norm": True, "dropout": True},
}


def _ablations(training: Sequence[Cell], dataset: str | None) -> dict[str, Any] | None:
    """fcnn with one thing changed at a time, and the difference to the baseline, paired by seed."""
    cells = _chosen(training, framework="fcnn", dataset=dataset, batch_size=PLAIN["batch_size"])

    def variant(cell: Cell) -> str | None:
        config = cell["config"]
        change: dict[str, Any] = {}
        change |= {"optimizer": "sgd"} if config["optimizer"] == "sgd" else {}
        change |= {"init": config["init"]} if config["init"] != PROTOCOL_INIT else {}
        change |= {"batch_norm": True} if config["batch_norm"] else {}
        change |= {"dropout": True} if config["dropout"] else {}
        return next((name for name, value in ABLATED.items() if value == change), None)

    size = _largest(cell for cell in cells if cell["config"]["optimizer"] == "sgd")
    groups: dict[str, list[Cell]] = {name: [] for name in ABLATED}
    for cell in _chosen(cells, train_size=size):
        if (name := variant(cell)) is not None and not cell["timed"]:
            groups[name].append(cell)
    runs = {name: _by_seed(group) for name, group in groups.items() if group}
    first = next(iter(ABLATED))
    if first not in runs or len(runs) < 2:
        return None
    base = _accuracies(runs[first])
    rows = []
    for name, group in runs.items():
        config = next(iter(group.values()))["config"]
        accuracies = _accuracies(group)
        difference = None if name == first else paired(accuracies, base)
        settings = {key: config[key] for key in ("optimizer", "lr", "init", "batch_norm", "dropout")}
        rows.append({"name": name, "settings": settings, **spread(accuracies.values()), "difference": difference})
    return {"train_size": size, "rows": rows}


def _parting(cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    """How far the frameworks' losses and weights are apart after 10, 100 and all steps, for each dtype."""
    found = {}
    for cell in cells:
        if cell["kind"] == "Parting":
            steps = cell["result"]["steps"]
            gaps = [abs(step["fcnn_loss"] - step["pytorch_loss"]) for step in steps]
            found[cell["config"]["dtype"]] = {
                "dataset": cell["config"]["dataset"],
                "steps": len(steps),
                "gap_10": max(gaps[:10]),
                "gap_100": max(gaps[:100]) if len(gaps) >= 100 else None,
                "max_loss_gap": max(gaps),
                "final_distance": cell["result"]["final_distance"],
            }
    return found


def _gradient_checks(cells: Sequence[Cell]) -> dict[str, Any] | None:
    rows = [row for cell in cells if cell["kind"] == "GradientChecks" for row in cell["result"]["rows"]]
    errors = {row["name"]: max(row[mode] for mode in ("train", "eval") if row[mode] is not None) for row in rows}
    if not rows:
        return None
    worst = max(errors, key=lambda name: errors[name])
    return {"rows": rows, "worst": errors[worst], "worst_name": worst, "count": len(rows)}


def _reliability(arrays: Mapping[str, np.ndarray[Any, Any]], bins: int = 10) -> dict[str, Any] | None:
    """Accuracy by confidence in equal bins; the expected calibration error, sum of (n / N) |accuracy - confidence|."""
    if "confidence" not in arrays:
        return None
    confidence, right = arrays["confidence"], arrays["predictions"] == arrays["labels"]
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = []
    for k in range(bins):
        inside = place == k
        n = int(inside.sum())
        mean = float(confidence[inside].mean()) if n else None
        share = float(right[inside].mean()) if n else None
        rows.append({"from": k / bins, "to": (k + 1) / bins, "count": n, "confidence": mean, "accuracy": share})
    error = sum(row["count"] * abs(row["accuracy"] - row["confidence"]) for row in rows if row["count"]) / len(right)
    return {"bins": rows, "error": float(error), "confidence": float(confidence.mean()), "count": len(right)}


def _filter_change(arrays: Mapping[str, np.ndarray[Any, Any]]) -> float | None:
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
