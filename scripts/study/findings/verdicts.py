"""The report's claims beside what we find. Every verdict and every reason is worked out from the numbers."""

from collections.abc import Mapping
from typing import Any, Literal

from study.findings.wording import (
    count,
    estimate,
    listed,
    name_of,
    percent,
    points_interval,
    rounded,
    seconds,
    size_of,
    tiny,
)

Summary = Mapping[str, Any]
Verdict = Literal["holds", "partly", "does not hold", "cannot be told"]

REPORTED_NUMPY, REPORTED_TORCH, REPORTED_GAP = 0.953, 0.922, 0.031
REPORTED_ACCURACY, REPORTED_F1, REPORTED_SECONDS = 0.947, 0.946, 66.57


def claims(summary: Summary) -> list[dict[str, str]]:
    """A row a claim: the claim, what the report says, what we find, and the verdict."""
    rows = [
        ("NumPy LeNet learns MNIST", "95.3 % accuracy on MNIST", _learns(summary)),
        (
            "PyTorch does worse under identical settings",
            "92.2 % with PyTorch's LeNet against 95.3 % with NumPy's: a gap of 3.1 points",
            _framework(summary),
        ),
        ("The classification report", "94.7 % accuracy, 94.6 % macro-F1", _report(summary)),
        (
            "One training, two accuracies",
            "95.3 % in the text, 94.7 % in the classification report",
            _two_accuracies(summary),
        ),
        ("Training time", "66.57 s, on a subset and a machine that are not named", _time(summary)),
        ("CIFAR-10 as a second data set", "shown, without figures", _cifar(summary)),
        ("Initialisation made the difference", "a guess", _initialisation(summary)),
        ("The data pipeline made the difference", "a guess", _pipeline(summary)),
    ]
    return [
        {"claim": claim, "report_says": says, "we_find": found, "verdict": verdict}
        for claim, says, (verdict, found) in rows
    ]


Found = tuple[Verdict, str]
NOT_RUN = "Not run on MNIST at this scale; the default scale and `--full` do."


def _mnist(summary: Summary) -> Mapping[str, Any] | None:
    return summary["headline"].get("mnist")


def _learns(summary: Summary) -> Found:
    head = _mnist(summary)
    if not head or "fcnn" not in head["frameworks"]:
        return "cannot be told", NOT_RUN
    accuracy = head["frameworks"]["fcnn"]["accuracy"]
    text = f"With {count(head['train_size'])} training images and {head['epochs']} epochs: {estimate(accuracy)}."
    if accuracy["mean"] < REPORTED_NUMPY:
        return "does not hold", f"{text} That is {size_of(accuracy['mean'] - REPORTED_NUMPY)} below the report."
    return "holds", f"{text} The reported accuracy is reached and passed.{_subset(summary)}"


def _subset(summary: Summary) -> str:
    """What the reported accuracy says about the size of the report's subset."""
    place = summary["reached"].get("fcnn", {}).get("0.953") if summary["main"] == "mnist" else None
    if not place or place["where"] == "above":
        return ""
    if place["where"] == "below":
        return " It is what fewer images give than the smallest subset that was run here."
    return f" It is what about {rounded(place['size'])} images give."


def _kind(effect: Mapping[str, Any] | None) -> str:
    """What an effect's interval says about the report's gap of 3.1 points.

    "all": above zero, and the gap is within it or below it; "some": above zero and at least a tenth of the gap; "none":
    below the gap, and not "some"; "unknown": it holds both zero and the gap, or there is no interval.
    """
    if effect is None or effect["low"] is None:
        return "unknown"
    if effect["low"] > 0 and effect["high"] >= REPORTED_GAP:
        return "all"
    if effect["low"] > 0 and effect["mean"] >= REPORTED_GAP / 10:
        return "some"
    return "none" if effect["high"] < REPORTED_GAP else "unknown"


def _framework(summary: Summary) -> Found:
    """The difference between the frameworks at equal initialisation, at every training size.

    The size that counts is the one at which accuracy is nearest to the report's; if it tells nothing, the largest.
    """
    if summary["main"] != "mnist":
        return "cannot be told", NOT_RUN
    head = _mnist(summary)
    tests = {row["train_size"]: row["framework"] for row in summary["effects"] if row["framework"]}
    if head and head["difference"] and head["train_size"] not in tests:
        tests[head["train_size"]] = head["difference"]
    if not tests:
        return "cannot be told", "PyTorch's half is missing, so nothing can be compared."
    told = "; ".join(f"{count(size)} images: {points_interval(effect)}" for size, effect in tests.items())
    text = f"fcnn minus PyTorch in points, with equal initialisation, batches and settings (95 % interval): {told}."
    nearest = _nearest(summary, (REPORTED_NUMPY + REPORTED_TORCH) / 2)
    candidates = [*([nearest["train_size"]] if nearest else []), max(tests)]
    known = [size for size in candidates if _kind(tests.get(size)) != "unknown"]
    if not known:
        return "cannot be told", f"{text} The seeds are too few to tell this from a gap of 3.1 points."
    size, kind = known[0], _kind(tests[known[0]])
    if nearest and size == nearest["train_size"]:
        text += f" Accuracy is nearest to the report's at {count(size)} images ({percent(nearest['mean'], 1)})."
    if kind == "all":
        return "holds", f"{text} fcnn is ahead there, and 3.1 points are not too much."
    if kind == "some":
        return "partly", f"{text} fcnn is ahead there, but by less than 3.1 points."
    return "does not hold", f"{text} Nothing like 3.1 points is there."


def _report(summary: Summary) -> Found:
    head = _mnist(summary)
    row = head["frameworks"].get("fcnn") if head else None
    if not row or row["macro_f1"] is None:
        return "cannot be told", NOT_RUN
    accuracy, f1 = row["detail_accuracy"], row["macro_f1"]
    text = f"{percent(accuracy)} accuracy, {percent(f1)} macro-F1 (seed {row['seed']})."
    above = [accuracy >= REPORTED_ACCURACY, f1 >= REPORTED_F1]
    if all(above):
        return "holds", f"{text} Both are reached; macro-F1 lies {size_of(accuracy - f1)} from accuracy here too."
    return ("partly" if any(above) else "does not hold"), f"{text} The report's values are not both reached."


def _nearest(summary: Summary, level: float) -> Mapping[str, Any] | None:
    """The training size of the sweep at which accuracy is nearest to a level."""
    rows = summary["effects"] if summary["main"] == "mnist" else []
    return min(rows, key=lambda row: abs(row["mean"] - level), default=None)


def _two_accuracies(summary: Summary) -> Found:
    gap = REPORTED_NUMPY - REPORTED_ACCURACY
    row = _nearest(summary, REPORTED_NUMPY)
    if row is None or not row["seed_sd"]:
        return "cannot be told", "Needs several seeds on MNIST subsets."
    usual = 1.96 * 2**0.5 * row["seed_sd"]
    text = (
        f"One trained network has one accuracy on one test set. Two runs that differ in their seed only, with "
        f"{count(row['train_size'])} images ({percent(row['mean'], 1)} on average), differ by up to {size_of(usual)} "
        "in "
        f"19 of 20 cases; the report's two figures are {size_of(gap)} apart."
    )
    if gap <= usual:
        return "partly", f"{text} They can be two runs of the same settings, not one."
    return "does not hold", f"{text} So they are not even two runs of the same settings."


def _time(summary: Summary) -> Found:
    head = _mnist(summary)
    rows = {name: row for name, row in head["frameworks"].items() if row["train_seconds"]} if head else {}
    if not head or not rows:
        return "cannot be told", NOT_RUN
    told = listed([f"{name_of(name)} {seconds(row['train_seconds'])}" for name, row in rows.items()])
    text = f"Here {head['epochs']} epochs of {count(head['train_size'])} images take {told}."
    name, first = next(iter(rows.items()))
    images = first["images_per_second"] * REPORTED_SECONDS / head["epochs"]
    text += f" In 66.57 s {name_of(name)} here trains {head['epochs']} epochs of {rounded(images)} images."
    return "cannot be told", f"{text} Without the report's machine and subset the two cannot be compared."


def _cifar(summary: Summary) -> Found:
    head = summary["headline"].get("cifar10")
    if not head:
        return "cannot be told", "Not run at this scale; `--full` does. The report gives nothing to compare with."
    told = "; ".join(f"{name_of(name)} {estimate(row['accuracy'])}" for name, row in head["frameworks"].items())
    text = f"{count(head['train_size'])} training images, {head['epochs']} epochs: {told}."
    if head["difference"]:
        text += f" fcnn minus PyTorch: {points_interval(head['difference'])} points."
    return "cannot be told", f"{text} The report gives nothing to compare with."


def _initialisation(summary: Summary) -> Found:
    """Does He against PyTorch's default, all else equal, make a gap like the report's where accuracy is like its?"""
    row = _nearest(summary, (REPORTED_NUMPY + REPORTED_TORCH) / 2)
    if row is None or row["init"] is None:
        return "cannot be told", "Needs several initialisations on MNIST subsets."
    effect, kind = row["init"], _kind(row["init"])
    text = (
        f"Where accuracy is nearest to the report's ({count(row['train_size'])} images, {percent(row['mean'], 1)} on "
        f"average), He instead of PyTorch's default initialisation, in the same framework on the same batches, makes "
        f"{points_interval(effect)} points."
    )
    largest = summary["effects"][-1]
    if largest is not row and largest["init"]:
        text += f" With {count(largest['train_size'])} images it makes {points_interval(largest['init'])}."
    if kind == "all":
        return "holds", f"{text} That is as much as the report's 3.1 points."
    if kind == "some":
        return (
            "partly",
            f"{text} A real effect, {percent(effect['mean'] / REPORTED_GAP, 0)} of the report's 3.1 points.",
        )
    if kind == "none":
        return "does not hold", f"{text} No effect that could lift the one accuracy to the other."
    return "cannot be told", f"{text} The seeds are too few to tell."


def _pipeline(summary: Summary) -> Found:
    """What is left of the report's gap once both frameworks share their batches and differ in initialisation only."""
    row = _nearest(summary, (REPORTED_NUMPY + REPORTED_TORCH) / 2)
    exact = summary["parting"].get("float64")
    same = ""
    if exact:
        same = (
            f"From equal weights and batches in float64 the two losses stay within {tiny(exact['max_loss_gap'])} over "
            f"{count(exact['steps'])} steps{': the arithmetic is the same' if exact['max_loss_gap'] < 1e-9 else ''}. "
        )
    if row is None or row["both"] is None or row["both"]["low"] is None:
        return "cannot be told", f"{same}Needs both frameworks and several seeds on MNIST subsets."
    both = row["both"]
    text = (
        f"{same}With one pipeline for both, fcnn with He is {points_interval(both)} points from PyTorch with its "
        f"default at {count(row['train_size'])} images."
    )
    if _kind(both) == "all":
        return "does not hold", f"{text} That reaches 3.1 points with no difference in the pipeline."
    if both["high"] >= REPORTED_GAP:
        return "cannot be told", f"{text} The seeds are too few to tell whether anything is left of the 3.1 points."
    left = REPORTED_GAP - both["mean"]
    return "cannot be told", (
        f"{text} {size_of(left)} of the 3.1 are left, which the settings that the report names do not explain: they "
        f"must come from what it does not name, such as its subset and its pipeline.{_ratio_of_sizes(summary)}"
    )


def _ratio_of_sizes(summary: Summary) -> str:
    """How much smaller a training set lowers 95.3 % to 92.2 %, all else equal."""
    places = summary["reached"].get("fcnn", {})
    more, fewer = (places.get(f"{level:.3f}", {}).get("size") for level in (REPORTED_NUMPY, REPORTED_TORCH))
    if not more or not fewer:
        return ""
    return (
        f" fcnn itself falls from 95.3 % to 92.2 % when it is given {rounded(fewer)} instead of {rounded(more)} images."
    )


def answer(summary: Summary) -> str:
    """The study's result in one paragraph."""
    name = summary["main"]
    head = summary["headline"].get(name) if name else None
    if not head or not head["frameworks"]:
        return "No training has finished yet."
    told = listed([f"{name_of(f)} reaches {estimate(row['accuracy'])}" for f, row in head["frameworks"].items()])
    text = f"On {name_of(name)}, {count(head['train_size'])} training images, {head['epochs']} epochs: {told}."
    if head["overlap"] is not None:
        text += f" The intervals {'overlap' if head['overlap'] else 'do not overlap'}."
    if head["speed_ratio"]:
        ratio = head["speed_ratio"]
        text += f" fcnn trains {max(ratio, 1 / ratio):.2f} times as {'fast' if ratio >= 1 else 'slowly'} as PyTorch."
    if name != "mnist":
        return f"{text} The report's claims are about MNIST, which this scale does not run."
    rows = {row["claim"]: row for row in claims(summary)}
    verdict = rows["PyTorch does worse under identical settings"]["verdict"]
    text += {
        "holds": " The report's gap between the frameworks is real: it is there at equal settings.",
        "partly": " The report's gap between the frameworks is there, but smaller than it says.",
        "does not hold": " The report's gap of 3.1 points between the frameworks is not there when settings are equal.",
        "cannot be told": " Whether the report's gap between the frameworks is real cannot be told from these runs.",
    }[verdict]
    place = _nearest(summary, (REPORTED_NUMPY + REPORTED_TORCH) / 2)
    if place and place["init"] and rows["Initialisation made the difference"]["verdict"] != "cannot be told":
        text += (
            f" Initialisation alone (He instead of PyTorch's default) makes {points_interval(place['init'])} points "
            "where "
            f"accuracy is nearest to the report's, at {count(place['train_size'])} images."
        )
    sizes = _ratio_of_sizes(summary)
    return text + sizes + _at_the_end(summary)


def _at_the_end(summary: Summary) -> str:
    """What is left of all effects at the largest training size, if that is little."""
    row = summary["effects"][-1] if summary["effects"] else None
    if row is None or not row["seed_sd"] or not row["framework"]:
        return ""
    greatest = max(row["init_range"], abs(row["framework"]["mean"]), row["seed_sd"])
    if greatest > REPORTED_GAP / 10:
        return ""
    return (
        f" With {count(row['train_size'])} images neither framework nor initialisation nor seed moves accuracy by more "
        f"than {size_of(greatest)}, a deviation between seeds included."
    )
