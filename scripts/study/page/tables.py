"""The page's tables, each from a part of the results; None where nothing was run for it.

Columns stand as what they are called and what they say of a row.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import itemgetter
from typing import Any

from study.figures.plot import Study
from study.findings.wording import (
    NOTHING,
    count,
    interval,
    listed,
    name_of,
    percent,
    points_interval,
    rounded,
    seconds,
    tiny,
)
from study.page.blocks import Table

Columns = dict[str, Callable[[Any], str]]


def _table(caption: str, columns: Columns, rows: Iterable[Any], words: Iterable[int] = (0,)) -> Table | None:
    """None without rows. All columns but those in `words` hold numbers."""
    cells = tuple(tuple(says(row) for says in columns.values()) for row in rows)
    numbers = frozenset(range(len(columns))).difference(words)
    return Table(caption, tuple(columns), cells, numbers) if cells else None


def headline(study: Study, dataset: str) -> Table | None:
    """Accuracy, speed and memory of both frameworks, on every data set."""
    heads = study.summary["headline"]
    about = [
        f"{name_of(name)}: {count(head['train_size'])} training images, {head['epochs']} epochs"
        for name, head in heads.items()
    ]
    rows = [
        {"framework": framework, "dataset": name, **row}
        for name, head in heads.items()
        for framework, row in head["frameworks"].items()
    ]
    columns: Columns = {
        "LeNet-5 in": _place,
        "Test accuracy": lambda row: percent(row["accuracy"]["mean"]),
        "95 % interval (%)": lambda row: _limits(row["accuracy"]),
        "Seeds": lambda row: count(row["accuracy"]["n"]),
        "Macro-F1": lambda row: percent(row["macro_f1"]),
        "Seconds an epoch": lambda row: seconds((row["seconds_per_epoch"] or {}).get("median")),
        "Images/s": lambda row: count(row["images_per_second"]),
        "Peak memory": lambda row: _mebibytes(row["peak_memory_mib"]),
        "How it ran": lambda row: name_of(row["variant"] or NOTHING),
    }
    return _table(f"{'; '.join(about)}. Batches of 128, Adam, learning rate 0.001", columns, rows, words=(0, 8))


def claims(study: Study, dataset: str) -> Table | None:
    """The report's claims beside what is found."""
    columns: Columns = {
        "Claim": itemgetter("claim"),
        "The report says": itemgetter("report_says"),
        "We find": itemgetter("we_find"),
        "Verdict": itemgetter("verdict"),
    }
    return _table("Claim by claim", columns, study.summary["claims"], words=range(4))


def effects(study: Study, dataset: str) -> Table | None:
    """What a change of framework, of initialisation and of both makes, by training size."""
    columns: Columns = {
        "Training images": lambda row: count(row["train_size"]),
        "Mean accuracy": lambda row: percent(row["mean"]),
        "Framework: fcnn − PyTorch": lambda row: points_interval(row["framework"]),
        "Initialisation: He − PyTorch's default": lambda row: points_interval(row["init"]),
        "Both": lambda row: points_interval(row["both"]),
        "Deviation between seeds": lambda row: _deviation(row["seed_sd"]),
    }
    caption = (
        "What one change makes, in points of test accuracy, with 95 % intervals over seeds. The report's gap is 3.1"
    )
    return _table(caption, columns, study.summary["effects"], words=())


def variance(study: Study, dataset: str) -> Table | None:
    """How much of the variance of accuracy each factor makes."""
    found = study.summary["variance"]
    if not found:
        return None
    row = {"": "share"} | {name_of(name).capitalize(): percent(share, 1) for name, share in found["shares"].items()}
    caption = f"Shares of the variance of accuracy over all {count(found['runs'])} runs of the sweep"
    return _table(caption, {name: itemgetter(name) for name in row}, [row])


def reached(study: Study, dataset: str) -> Table | None:
    """At how many images each framework reaches the report's two accuracies."""

    def images(place: Mapping[str, Any]) -> str:
        if place["where"] == "between":
            return f"about {rounded(place['size'])}"
        return {"below": "fewer than were tried", "above": "more than were tried"}[place["where"]]

    def others(place: Mapping[str, Any]) -> str:
        return listed([f"{name_of(other)}: {percent(value, 1)}" for other, value in place["others"].items()])

    rows = [
        {"framework": framework, "level": float(level), **place}
        for framework, places in study.summary["reached"].items()
        for level, place in places.items()
    ]
    columns: Columns = {
        "Framework": lambda row: name_of(row["framework"]),
        "Accuracy": lambda row: percent(row["level"], 1),
        "Training images": images,
        "The other framework there": lambda row: others(row) or NOTHING,
    }
    weights = f"{name_of(study.summary['init'])} weights"
    caption = f"How many training images give the report's accuracies ({weights}, interpolated)"
    return _table(caption, columns, rows if study.summary["main"] == "mnist" else [])


def grid(study: Study, dataset: str) -> Table | None:
    """All means over seeds: a row a training size and framework, a column an initialisation."""
    found = study.summary["grid"]
    inits = list(dict.fromkeys(row["init"] for row in found))
    rows: dict[tuple[str, int, str], dict[str, Any]] = {}
    for one in found:
        place = {key: one[key] for key in ("dataset", "train_size", "framework")}
        row = rows.setdefault(tuple(place.values()), {**place, "seeds": set(), **dict.fromkeys(inits, NOTHING)})
        row["seeds"].add(one["n"])
        row[one["init"]] = percent(one["mean"]) + ("" if one["low"] is None else f" ({_limits(one)})")
    columns: Columns = {
        "LeNet-5 in": _place,
        "Training images": lambda row: count(row["train_size"]),
        "Seeds": lambda row: " to ".join(map(str, sorted({min(row["seeds"]), max(row["seeds"])}))),
        **{name_of(init): itemgetter(init) for init in inits},
    }
    caption = "Test accuracy after the last epoch, with 95 % intervals over seeds, by training size and initialisation"
    return _table(caption, columns, rows.values())


def parting(study: Study, dataset: str) -> Table | None:
    """How far losses and weights of the frameworks are apart from the same start on the same batches."""
    columns: Columns = {
        "Precision": itemgetter("dtype"),
        "Steps": lambda row: count(row["steps"]),
        "Loss gap, 10 steps": lambda row: tiny(row["gap_10"]),
        "100 steps": lambda row: tiny(row["gap_100"]),
        "All steps": lambda row: tiny(row["max_loss_gap"]),
        "Distance of the weights": lambda row: tiny(row["final_distance"]),
    }
    rows = [{"dtype": dtype, **row} for dtype, row in study.summary["parting"].items()]
    return _table("From equal weights on equal batches: how far the frameworks part within an epoch", columns, rows)


def classification(study: Study, dataset: str) -> Table | None:
    """The classification report of the detailed run of each framework, side by side."""
    reports = {framework: _lines(cell["result"]["report"]) for framework, cell in study.details(dataset).items()}
    first = next(iter(reports.values()), {})
    columns: Columns = {"Class": str}
    for framework, lines in reports.items():
        for heading, score in (("precision", "precision"), ("recall", "recall"), ("F1", "f1")):
            columns[f"{name_of(framework).removesuffix(' (NumPy)')} {heading}"] = partial(_score, lines, score)
    columns["Images"] = lambda name: count(first[name]["support"])
    return _table(f"Classification report, {name_of(dataset)} test set, one run each", columns, first)


def _lines(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """A classification report by line. Accuracy is one number: it stands under precision, with nothing beside it."""
    averages = {f"{kind} average": report[kind] for kind in ("macro", "weighted")}
    accuracy = {**report["macro"], "precision": report["accuracy"], "recall": None, "f1": None}
    return {**report["classes"], **averages, "accuracy": accuracy}


def _score(lines: Mapping[str, Mapping[str, Any]], score: str, name: str) -> str:
    return percent(lines[name][score])


def batch_sizes(study: Study, dataset: str) -> Table | None:
    """Accuracy and time by batch size."""
    found = study.summary["batch_sizes"]
    if not found:
        return None
    columns: Columns = {
        "LeNet-5 in": lambda row: name_of(row["framework"]),
        "Batch size": lambda row: count(row["batch_size"]),
        "Validation accuracy": lambda row: percent(row["mean"]),
        "Deviation": lambda row: _deviation(row["sd"]),
        "95 % interval (%)": _limits,
        "Seeds": lambda row: count(row["n"]),
        "Seconds an epoch": lambda row: seconds(row["seconds_per_epoch"]),
    }
    caption = f"Batch sizes, {count(found['train_size'])} training images; times of runs that shared the machine"
    return _table(caption, columns, found["rows"])


def gradient_checks(study: Study, dataset: str) -> Table | None:
    """The worst relative error of every layer and loss."""
    found = study.summary["gradient_checks"]
    if not found:
        return None
    columns: Columns = {
        "Layer or loss": itemgetter("name"),
        "Training mode": lambda row: tiny(row["train"]),
        "Evaluation mode": lambda row: tiny(row["eval"]),
        "Arrays compared": lambda row: count(row["comparisons"]),
    }
    return _table("Gradient checks: worst relative error", columns, found["rows"])


def ablations(study: Study, dataset: str) -> Table | None:
    """What one change to fcnn's LeNet-5 makes."""
    found = study.summary["ablations"]
    if not found:
        return None
    columns: Columns = {
        "Change": itemgetter("name"),
        "Learning rate": lambda row: f"{row['settings']['lr']:g}",
        "Accuracy": lambda row: percent(row["mean"]),
        "Deviation": lambda row: _deviation(row["sd"]),
        "Seeds": lambda row: count(row["n"]),
        "Difference in points (95 % interval)": lambda row: points_interval(row["difference"]),
    }
    images = f"{count(found['train_size'])} training images"
    caption = f"Ablations of fcnn's LeNet-5, {images}; differences paired by seed"
    return _table(caption, columns, found["rows"])


def _place(row: Mapping[str, Any]) -> str:
    return f"{name_of(row['framework'])}, {name_of(row['dataset'])}"


def _limits(row: Mapping[str, Any]) -> str:
    return interval(row["low"], row["high"])


def _deviation(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.2f}"


def _mebibytes(number: float | None) -> str:
    return NOTHING if number is None else f"{count(number)} MiB"
