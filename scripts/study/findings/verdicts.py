"""The report's claims beside what we find. Every verdict and every reason is worked out from the numbers."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from study.findings.statistics import Effect, effect_of, t_quantile
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
    speed_interval,
    tiny,
)

Summary: TypeAlias = Mapping[str, Any]
Verdict = Literal["holds", "may hold", "partly", "does not hold", "cannot be told"]
Found = tuple[Verdict, str]

REPORTED_NUMPY, REPORTED_TORCH, REPORTED_GAP = 0.953, 0.922, 0.031
REPORTED_ACCURACY, REPORTED_F1, REPORTED_SECONDS = 0.947, 0.946, 66.57

# What an effect's interval, against 0 and the report's gap of 3.1 points, says about a claim.
FRAMEWORK: dict[Effect, Found] = {
    Effect.ABOVE: ("holds", "There fcnn is ahead, by more than 3.1 points."),
    Effect.MAY_EXPLAIN: ("may hold", "There fcnn is ahead, which may explain all of the 3.1 points or a part of them."),
    Effect.UNKNOWN: ("cannot be told", "Whether fcnn is ahead there cannot be told: the seeds are too few."),
    Effect.SMALLER: ("partly", "There fcnn is ahead, but by less than 3.1 points."),
    Effect.UNSEEN: ("does not hold", "No difference is seen there, and one of 3.1 points is outside the interval."),
    Effect.REVERSED: ("does not hold", "There PyTorch is ahead."),
}
INITIALISATION: dict[Effect, Found] = {
    Effect.ABOVE: ("holds", "That alone is more than the report's 3.1 points."),
    Effect.MAY_EXPLAIN: (
        "may hold",
        "That is a real effect, which may explain all of the 3.1 points or a part of them.",
    ),
    Effect.UNKNOWN: ("cannot be told", "Whether that explains 3.1 points cannot be told: the seeds are too few."),
    Effect.SMALLER: ("partly", "That is a real effect, but one of less than 3.1 points."),
    Effect.UNSEEN: ("does not hold", "No effect is seen, and one of 3.1 points is outside the interval."),
    Effect.REVERSED: ("does not hold", "That is an effect the other way round."),
}
LEFT: Found = (
    "cannot be told",
    "At least {left} of the 3.1 are left, which the settings that the report names do not explain. They may come from "
    "anything that it does not name: its subset, its pipeline, the chance of two single runs.",
)
PIPELINE: dict[Effect, Found] = {
    Effect.ABOVE: (
        "does not hold",
        "That is more than 3.1 points with no difference in the pipeline, so none is needed.",
    ),
    Effect.MAY_EXPLAIN: (
        "cannot be told",
        "That may explain all of the 3.1 points or a part of them, so a difference in the pipeline may not be needed.",
    ),
    Effect.UNKNOWN: ("cannot be told", "Whether that leaves anything of the 3.1 points cannot be told."),
    Effect.SMALLER: LEFT,
    Effect.UNSEEN: LEFT,
    Effect.REVERSED: LEFT,
}
NOT_RUN: Found = ("cannot be told", "Not run on MNIST at this scale; the default scale and `--full` do.")


def claims(summary: Summary) -> list[dict[str, str]]:
    """A row a claim: the claim, what the report says, what we find, and the verdict."""
    rows = []
    for claim, says, judge in CLAIMS:
        verdict, found = judge(summary)
        rows.append({"claim": claim, "report_says": says, "we_find": found, "verdict": verdict})
    return rows


def answer(summary: Summary) -> str:
    """The study's result in one paragraph."""
    main = summary["main"]
    head = summary["headline"].get(main)
    if not head or not head["frameworks"]:
        return "No training has finished yet."
    told = listed([f"{name_of(f)} reaches {estimate(row['accuracy'])}" for f, row in head["frameworks"].items()])
    sentences = [f"On {name_of(main)}, {count(head['train_size'])} training images, {head['epochs']} epochs: {told}."]
    if head["difference"]:
        sentences.append(f"fcnn minus PyTorch is {points_interval(head['difference'])} points, paired by seed.")
    for name, other in summary["headline"].items():
        if other["speed"]:
            where = f"On {name_of(name)}, " if len(summary["datasets"]) > 1 else ""
            sentences.append(f"{where}fcnn trains {speed_interval(other['speed'])}.")
    if main != "mnist":
        return " ".join([*sentences, "The report's claims are about MNIST, which this scale does not run."])
    for found in (_at_equal_settings(summary), _initialisation_alone(summary)):
        sentences += [found[1]] if found else []
    return " ".join(filter(None, [*sentences, _sizes(summary), _at_the_end(summary)]))


def _at_equal_settings(summary: Summary) -> Found | None:
    """The frameworks' difference at equal initialisation; without a sweep, that of the headline."""
    row, head = _nearest(summary), summary["headline"]["mnist"]
    effect = row["framework"] if row else head["difference"]
    if effect is None:
        return None
    where = _where(row) if row else f"{count(head['train_size'])} images"
    verdict, why = FRAMEWORK[effect_of(effect, REPORTED_GAP)]
    return verdict, f"At equal settings with {where}, fcnn minus PyTorch is {points_interval(effect)} points. {why}"


def _initialisation_alone(summary: Summary) -> Found | None:
    """What He against PyTorch's default makes, all else equal."""
    row = _nearest(summary)
    if row is None or row["init"] is None:
        return None
    verdict, why = INITIALISATION[effect_of(row["init"], REPORTED_GAP)]
    return verdict, (
        "He instead of PyTorch's default initialisation, in the same framework on the same batches, makes "
        f"{points_interval(row['init'])} points with {_where(row)}. {why}"
    )


def _where(row: Mapping[str, Any]) -> str:
    return f"{count(row['train_size'])} images, where accuracy is nearest to the report's ({percent(row['mean'], 1)})"


def _sizes(summary: Summary) -> str:
    """How much smaller a training set lowers 95.3 % to 92.2 %, all else equal."""
    places = summary["reached"].get("fcnn", {})
    more, fewer = (places.get(f"{level:.3f}", {}).get("size") for level in (REPORTED_NUMPY, REPORTED_TORCH))
    if not more or not fewer:
        return ""
    return f"fcnn itself falls from 95.3 % to 92.2 % with about {rounded(fewer)} instead of {rounded(more)} images."


def _at_the_end(summary: Summary) -> str:
    """What the effects come to at the largest training size."""
    row = summary["effects"][-1] if summary["effects"] else None
    if row is None or row is _nearest(summary) or None in (row["framework"], row["init"], row["seed_sd"]):
        return ""
    return (
        f"With {count(row['train_size'])} images the framework makes {points_interval(row['framework'])} points, the "
        f"initialisation {points_interval(row['init'])}; two seeds deviate by {size_of(row['seed_sd'])}."
    )


def _learns(summary: Summary) -> Found:
    head = summary["headline"].get("mnist")
    if not head or "fcnn" not in head["frameworks"]:
        return NOT_RUN
    accuracy = head["frameworks"]["fcnn"]["accuracy"]
    low, high = (accuracy["mean"] if accuracy[end] is None else accuracy[end] for end in ("low", "high"))
    text = f"With {count(head['train_size'])} training images and {head['epochs']} epochs: {estimate(accuracy)}."
    if high < REPORTED_NUMPY:
        return "does not hold", f"{text} That is {size_of(accuracy['mean'] - REPORTED_NUMPY)} below the report."
    if low < REPORTED_NUMPY:
        return "may hold", f"{text} The reported accuracy is within the interval."
    place = summary["reached"].get("fcnn", {}).get(f"{REPORTED_NUMPY:.3f}", {"where": "above"})
    subset = {
        "below": " It is what fewer images give than the smallest subset that was run here.",
        "between": f" It is what about {rounded(place.get('size') or 0)} images give.",
        "above": "",
    }[place["where"]]
    return "holds", f"{text} The reported accuracy is reached and passed.{subset}"


def _framework(summary: Summary) -> Found:
    if summary["main"] != "mnist":
        return NOT_RUN
    found, head = _at_equal_settings(summary), summary["headline"]["mnist"]
    if found is None:
        return "cannot be told", "PyTorch's half is missing, so nothing can be compared."
    effects = {head["train_size"]: head["difference"]} if head["difference"] else {}
    effects |= {row["train_size"]: row["framework"] for row in summary["effects"]}
    told = "; ".join(f"{count(size)} images: {points_interval(effects[size])}" for size in sorted(effects))
    return found[0], f"{found[1]} By training size, in points with 95 % intervals: {told}."


def _report(summary: Summary) -> Found:
    head = summary["headline"].get("mnist")
    row = head["frameworks"].get("fcnn") if head else None
    if not row or row["macro_f1"] is None:
        return NOT_RUN
    accuracy, f1 = row["detail_accuracy"], row["macro_f1"]
    text = f"{percent(accuracy)} accuracy, {percent(f1)} macro-F1 (seed {row['seed']})."
    above = [accuracy >= REPORTED_ACCURACY, f1 >= REPORTED_F1]
    if all(above):
        return "holds", f"{text} Both are reached; macro-F1 lies {size_of(accuracy - f1)} from accuracy here too."
    return ("partly" if any(above) else "does not hold"), f"{text} The report's values are not both reached."


def _nearest(summary: Summary, level: float = (REPORTED_NUMPY + REPORTED_TORCH) / 2) -> Mapping[str, Any] | None:
    """The training size of the sweep at which accuracy is nearest to a level: the middle of the report's two."""
    rows = summary["effects"] if summary["main"] == "mnist" else []
    return min(rows, key=lambda row: abs(row["mean"] - level), default=None)


def _two_accuracies(summary: Summary) -> Found:
    gap = REPORTED_NUMPY - REPORTED_ACCURACY
    row = _nearest(summary, REPORTED_NUMPY)
    if row is None or not row["seed_sd"]:
        return "cannot be told", "Needs several seeds on MNIST subsets."
    usual = t_quantile(row["seed_freedom"]) * 2**0.5 * row["seed_sd"]
    text = (
        "One trained network has one accuracy on one test set. Two runs that differ in their seed only, with "
        f"{count(row['train_size'])} images ({percent(row['mean'], 1)} on average), differ by up to {size_of(usual)} "
        f"in 19 of 20 cases; the report's two figures are {size_of(gap)} apart."
    )
    if gap <= usual:
        return "partly", f"{text} They can be two runs of the same settings, not one."
    return "does not hold", f"{text} Two runs of the same settings would seldom be so far apart."


def _time(summary: Summary) -> Found:
    head = summary["headline"].get("mnist")
    rows = {f: row for f, row in head["frameworks"].items() if row["seconds_per_epoch"]} if head else {}
    if not head or not rows:
        return NOT_RUN
    epochs = head["epochs"]
    told = listed([f"{name_of(f)} {seconds(epochs * row['seconds_per_epoch']['median'])}" for f, row in rows.items()])
    name, first = next(iter(rows.items()))
    images = first["images_per_second"] * REPORTED_SECONDS / epochs
    return "cannot be told", (
        f"At the median speed of the timed epochs, {epochs} epochs of {count(head['timed_size'])} images take {told} "
        f"here. In 66.57 s {name_of(name)} here trains {epochs} epochs of {rounded(images)} images. Without the "
        "report's machine and subset the two cannot be compared."
    )


def _cifar(summary: Summary) -> Found:
    head = summary["headline"].get("cifar10")
    if not head:
        return "cannot be told", "Not run at this scale. The report gives nothing to compare with."
    told = "; ".join(f"{name_of(name)} {estimate(row['accuracy'])}" for name, row in head["frameworks"].items())
    text = f"{count(head['train_size'])} training images, {head['epochs']} epochs: {told}."
    if head["difference"]:
        text += f" fcnn minus PyTorch: {points_interval(head['difference'])} points."
    return "cannot be told", f"{text} The report gives nothing to compare with."


def _initialisation(summary: Summary) -> Found:
    found = _initialisation_alone(summary)
    if found is None:
        return "cannot be told", "Needs several initialisations on MNIST subsets."
    told = "; ".join(f"{count(row['train_size'])} images: {points_interval(row['init'])}" for row in summary["effects"])
    return found[0], f"{found[1]} By training size: {told}."


def _pipeline(summary: Summary) -> Found:
    """What is left of the report's gap once both frameworks share their batches and differ in initialisation only."""
    row, exact = _nearest(summary), summary["parting"].get("float64")
    same = ""
    if exact:
        equal = ": the arithmetic is the same" if exact["max_loss_gap"] < 1e-9 else ""
        same = (
            f"From equal weights and batches in float64 the two losses stay within {tiny(exact['max_loss_gap'])} over "
            f"{count(exact['steps'])} steps{equal}. "
        )
    if row is None or row["both"] is None or row["both"]["low"] is None:
        return "cannot be told", f"{same}Needs both frameworks and several seeds on MNIST subsets."
    verdict, why = PIPELINE[effect_of(row["both"], REPORTED_GAP)]
    left = size_of(REPORTED_GAP - max(row["both"]["high"], 0))
    return verdict, (
        f"{same}With one pipeline for both, fcnn with He is {points_interval(row['both'])} points from PyTorch with "
        f"its default at {count(row['train_size'])} images. {why.format(left=left)}"
    )


CLAIMS: tuple[tuple[str, str, Callable[[Summary], Found]], ...] = (
    ("NumPy LeNet learns MNIST", "95.3 % accuracy on MNIST", _learns),
    (
        "PyTorch does worse under identical settings",
        "92.2 % with PyTorch's LeNet against 95.3 % with NumPy's: a gap of 3.1 points",
        _framework,
    ),
    ("The classification report", "94.7 % accuracy, 94.6 % macro-F1", _report),
    ("One training, two accuracies", "95.3 % in the text, 94.7 % in the classification report", _two_accuracies),
    ("Training time", "66.57 s, on a subset and a machine that are not named", _time),
    ("CIFAR-10 as a second data set", "shown, without figures", _cifar),
    ("Initialisation made the difference", "a guess", _initialisation),
    ("The data pipeline made the difference", "a guess", _pipeline),
)
"""Each claim of the report, what it says, and who judges it."""
