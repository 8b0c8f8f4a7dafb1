"""The study's statistics, summary and verdicts, on made-up results: whatever is said follows from the numbers."""

import copy
import json

import pytest
from study.findings.statistics import Effect, effect_of, spread, t_quantile
from study.findings.summary import crossing, summarise
from study.findings.verdicts import FRAMEWORK, INITIALISATION, PIPELINE, REPORTED_GAP, answer, claims
from study.findings.wording import times_as_fast
from study_results import SIZES, machine, make

GAP_CLAIM = "PyTorch does worse under identical settings"
INIT_CLAIM = "Initialisation made the difference"
PIPELINE_CLAIM = "The data pipeline made the difference"
INTERVALS = {
    Effect.ABOVE: (0.0357, 0.0632),
    Effect.MAY_EXPLAIN: (0.0053, 0.0424),
    Effect.UNKNOWN: (-0.01, 0.05),
    Effect.SMALLER: (0.001, 0.02),
    Effect.UNSEEN: (-0.002, 0.003),
    Effect.REVERSED: (-0.02, -0.001),
}


def summary_of(**how):
    results, arrays = make(**how)
    return summarise(results["cells"], arrays)


def verdict(claim, **how):
    return next(row for row in summary_of(**how)["claims"] if row["claim"] == claim)


def with_effect(name, low, high, mean=None):
    """A summary whose effect of that name, where accuracy is nearest to the report's, has such an interval."""
    summary = copy.deepcopy(summary_of(datasets=("mnist",)))
    (row,) = [row for row in summary["effects"] if row["train_size"] == 10_000]
    row[name] = {"mean": (low + high) / 2 if mean is None else mean, "low": low, "high": high, "n": 3}
    return summary


def found(summary, claim):
    return next(row for row in claims(summary) if row["claim"] == claim)


@pytest.mark.parametrize("effect", Effect)
def test_an_interval_is_placed_against_zero_and_the_gap(effect):
    low, high = INTERVALS[effect]
    assert effect_of({"low": low, "high": high}, REPORTED_GAP) is effect


def test_the_ends_of_an_interval_belong_to_it():
    gap = REPORTED_GAP
    assert effect_of({"low": gap, "high": 1.0}, gap) is Effect.MAY_EXPLAIN
    assert effect_of({"low": 0.01, "high": gap}, gap) is Effect.MAY_EXPLAIN
    assert effect_of({"low": 0.0, "high": gap}, gap) is Effect.UNKNOWN
    assert effect_of({"low": 0.0, "high": 0.01}, gap) is Effect.UNSEEN
    assert effect_of({"low": -0.01, "high": 0.0}, gap) is Effect.UNSEEN
    assert effect_of({"low": None, "high": None}, gap) is Effect.UNKNOWN


@pytest.mark.parametrize("effect", Effect)
@pytest.mark.parametrize(
    ("name", "claim", "words"),
    [
        ("framework", GAP_CLAIM, FRAMEWORK),
        ("init", INIT_CLAIM, INITIALISATION),
        ("both", PIPELINE_CLAIM, PIPELINE),
    ],
)
def test_every_case_has_words_which_claim_and_answer_share(name, claim, words, effect):
    summary = with_effect(name, *INTERVALS[effect])
    expected, why = words[effect]
    row = found(summary, claim)
    assert row["verdict"] == expected
    assert why.split("{left}")[-1] in row["we_find"]
    assert (why in answer(summary)) == (name != "both")


def test_an_interval_around_the_gap_is_not_called_as_much_as_the_gap():
    """With 5,000 images "+2.38 (+0.53 to +4.24)" was once called "as much as the report's 3.1 points"."""
    summary = with_effect("init", 0.0053, 0.0424, mean=0.0238)
    row = found(summary, INIT_CLAIM)
    assert row["verdict"] == "may hold"
    assert "+2.38 (+0.53 to +4.24) points" in row["we_find"]
    for text in (row["we_find"], answer(summary)):
        assert "a real effect, which may explain all of the 3.1 points or a part of them" in text
        assert "as much as" not in text


def test_what_is_left_for_the_pipeline_is_what_the_interval_leaves():
    assert (
        "At least 1.10 points of the 3.1 are left" in found(with_effect("both", 0.001, 0.02), PIPELINE_CLAIM)["we_find"]
    )
    assert (
        "At least 3.10 points of the 3.1 are left"
        in found(with_effect("both", -0.02, -0.01), PIPELINE_CLAIM)["we_find"]
    )


def test_verdicts_follow_the_numbers():
    assert verdict(GAP_CLAIM, gap=0.0)["verdict"] == "does not hold"
    assert verdict(GAP_CLAIM, gap=0.01)["verdict"] == "partly"
    assert verdict(GAP_CLAIM, gap=0.035)["verdict"] == "holds"
    assert verdict(GAP_CLAIM, gap=-0.01)["verdict"] == "does not hold"
    assert verdict(GAP_CLAIM, frameworks=("fcnn",))["verdict"] == "cannot be told"
    assert verdict("NumPy LeNet learns MNIST")["verdict"] == "holds"
    assert verdict("NumPy LeNet learns MNIST", gap=-0.05)["verdict"] == "does not hold"
    assert verdict("NumPy LeNet learns MNIST", gap=-0.0354)["verdict"] == "may hold"
    assert verdict("The classification report")["verdict"] == "holds"
    assert verdict("The classification report", gap=-0.05)["verdict"] == "does not hold"
    assert verdict(INIT_CLAIM, init_effect=0.0)["verdict"] == "does not hold"
    assert verdict(INIT_CLAIM, init_effect=0.015)["verdict"] == "partly"
    assert verdict(INIT_CLAIM, init_effect=0.04)["verdict"] == "holds"
    assert verdict(INIT_CLAIM, seeds=1)["verdict"] == "cannot be told"
    assert "left" in verdict(PIPELINE_CLAIM, init_effect=0.0)["we_find"]
    assert verdict(PIPELINE_CLAIM, init_effect=0.04)["verdict"] == "does not hold"


def test_speed_is_of_the_timed_epochs_pair_by_pair():
    head = summary_of()["headline"]["mnist"]
    assert head["speed"] == {"median": 1.5, "least": 1.4, "most": pytest.approx(1.6), "n": 3}  # a quotient
    assert head["timed_size"] == SIZES[-1]
    ours = head["frameworks"]["fcnn"]
    assert ours["seconds_per_epoch"] == {"median": 2.0, "least": 1.6, "most": 2.5, "n": 3}
    assert (ours["images_per_second"], ours["peak_memory_mib"], ours["variant"]) == (30_000, 256.0, "processes")
    assert set(ours) == {"accuracy", "macro_f1", "detail_accuracy", "seed", "seconds_per_epoch", "images_per_second",
                         "peak_memory_mib", "variant"}  # fmt: skip


def test_the_answer_tells_speed_as_times_as_fast():
    told = "fcnn trains 1.50 times as fast as PyTorch (1.40 to 1.60 over three epochs each)."
    assert f" {told}" in summary_of(datasets=("mnist",))["answer"]
    both = summary_of()["answer"]
    assert f"On MNIST, {told} On CIFAR-10, {told}" in both
    assert times_as_fast(0.912) == "0.91 times as fast"


def test_only_timed_cells_are_quoted_as_speed():
    results, arrays = make(datasets=("mnist",))
    cells = [cell for cell in results["cells"] if cell["kind"] != "Timing"]
    summary = summarise(cells, arrays)
    head = summary["headline"]["mnist"]
    assert head["frameworks"]["fcnn"]["seconds_per_epoch"] is None
    assert (head["speed"], head["timed_size"]) == (None, None)
    assert "times as fast" not in summary["answer"]
    alone = summary_of(frameworks=("fcnn",))["headline"]["mnist"]
    assert (alone["speed"], alone["frameworks"]["fcnn"]["variant"]) == (None, "processes")


def test_machines_are_told_apart():
    results, arrays = make()
    rows = summarise(results["cells"], arrays)["machines"]
    count = len(results["cells"])
    assert rows == [
        {"machine": machine(), "cells": count - 1, "timed": 2},
        {"machine": machine("an older one"), "cells": 1, "timed": 0},
    ]


def test_a_summary_is_plain_data_however_little_was_run():
    for how in ({}, {"frameworks": ("fcnn",), "datasets": ("mnist",), "seeds": 1}):
        json.dumps(summary_of(**how), allow_nan=False)
    empty = summarise([], {})
    assert (empty["main"], empty["answer"], empty["ablations"]) == (None, "No training has finished yet.", None)


def test_ablations_are_paired_with_the_baseline():
    rows = summary_of()["ablations"]["rows"]
    assert [row["difference"] is None for row in rows] == [True] + 6 * [False]
    changed = {key: value for key, value in rows[1]["settings"].items() if value != rows[0]["settings"][key]}
    assert changed == {"optimizer": "sgd", "lr": 0.05}


def test_statistics():
    found = spread([0.67, 0.68, 0.69])
    # decimal fractions that floats hold to 1e-16; Student's quantiles are tabulated to six digits
    assert found["mean"] == pytest.approx(0.68)
    assert found["high"] - found["mean"] == pytest.approx(4.30265 * 0.01 / 3**0.5, rel=1e-5, abs=0)
    assert spread([0.9])["low"] is None
    assert spread([0.99, 1.0])["high"] == 1.0
    assert t_quantile(1000) == pytest.approx(1.96234, rel=1e-5, abs=0)
    assert crossing([(1_000, 0.9), (4_000, 1.0)], 0.95) == (pytest.approx(2_000), "between")
    assert crossing([(1_000, 0.9)], 0.5) == (None, "below")
    assert crossing([(1_000, 0.9)], 0.95) == (None, "above")


def test_variance_shares_add_up():
    shares = summary_of(datasets=("mnist",), gap=0.01)["variance"]["shares"]
    # they are rounded by 1e-16 each; approx allows 1e-6
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["train_size"] > 0.9 > shares["framework"] > shares["init"]
