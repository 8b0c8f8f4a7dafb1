"""Schedules: a row each, and what all of them promise."""

import copy
import math
import pickle
import re

import numpy as np
import pytest
from constructors import constructors

import fcnn
from fcnn.training.schedules import Schedule

SCHEDULES: dict[Schedule, int] = {  # and the step after which they stay as they are
    fcnn.constant_schedule(0.3): 0,
    fcnn.constant_schedule(0.0): 0,
    fcnn.step_decay(0.1, every=7): 400 * 7,  # 1e-400 is 0
    fcnn.step_decay(0.1, every=3, factor=0.0): 3,
    fcnn.step_decay(0.1, every=3, factor=1.0): 0,
    fcnn.cosine(0.1, steps=50): 50,
    fcnn.cosine(0.0, steps=50, end=0.7): 50,
    fcnn.cosine(0.1, steps=1): 1,
    fcnn.linear_warmup(0.1, steps=5): 4,
    fcnn.linear_warmup(fcnn.cosine(0.1, steps=50, end=0.01), steps=5): 50,
    fcnn.piecewise_linear([(5, 0.7)]): 5,
    fcnn.piecewise_linear([(3, 0.0), (10, 1.0), (40, 0.5)]): 40,
    fcnn.one_cycle(0.1, steps=40): 39,
    fcnn.one_cycle(0.1, steps=5, rising=0.5, start=0.0, end=0.0, shape="linear"): 4,
    fcnn.one_cycle(0.1, steps=3): 2,  # too few to rise in
    fcnn.one_cycle(0.1, steps=1): 0,
    fcnn.ramp(0.7, steps=20): 20,
    fcnn.ramp(0.7, steps=20, power=3.0): 20,
    fcnn.until(0.1, steps=4): 4,
    fcnn.until(fcnn.cosine(0.1, steps=50, end=0.01), steps=20): 20,
}
every_schedule = pytest.mark.parametrize(("schedule", "last"), SCHEDULES.items(), ids=map(str, SCHEDULES))


def test_the_table_has_every_schedule() -> None:
    assert constructors(Schedule) == {str(schedule).partition("(")[0] for schedule in SCHEDULES}


@every_schedule
def test_rates_are_finite_and_stay_in_the_end(schedule: Schedule, last: int) -> None:
    rates = [schedule(step) for step in range(60)]
    end = schedule(last)
    assert all(type(rate) is float and 0 <= rate < math.inf for rate in [*rates, end])
    for beyond in (last + 1, last + 7, 10**6, 10**18, 10**300):
        assert schedule(beyond) == end
    assert type(schedule(10**300)) is float


@every_schedule
def test_schedules_are_pure(schedule: Schedule, last: int) -> None:
    steps = [*range(12), last, last + 1]
    once = {step: schedule(step) for step in steps}
    assert {step: schedule(step) for step in reversed(steps)} == once
    assert {step: schedule(np.int64(step)) for step in steps} == once


@every_schedule
def test_a_schedule_prints_as_the_call_that_makes_it_again_and_pickles(schedule: Schedule, last: int) -> None:
    for again in (eval(str(schedule), vars(fcnn).copy()), pickle.loads(pickle.dumps(schedule))):
        assert str(again) == str(schedule)
        assert [again(step) for step in range(60)] == [schedule(step) for step in range(60)]
    assert copy.deepcopy(schedule) is copy.copy(schedule) is schedule


@every_schedule
def test_a_schedule_refuses_what_is_no_step(schedule: Schedule, last: int) -> None:
    for step in (-1, math.nan, "1", None):
        with pytest.raises((TypeError, ValueError), match=f"^step is .*, got {re.escape(repr(step))}"):
            schedule(step)


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (fcnn.constant_schedule(np.float32(0.5)), fcnn.constant_schedule(0.5)),
        (fcnn.step_decay(np.float32(0.5), every=np.int8(2), factor=np.float32(0.5)),
         fcnn.step_decay(0.5, every=2, factor=0.5)),
        (fcnn.step_decay(1, every=2, factor=2), fcnn.step_decay(1.0, every=2, factor=2.0)),
        (fcnn.cosine(np.float32(0.5), steps=np.int8(9)), fcnn.cosine(0.5, steps=9)),
        (fcnn.cosine(1, steps=9, end=1), fcnn.cosine(1.0, steps=9, end=1.0)),
        (fcnn.linear_warmup(np.float32(0.5), steps=np.int8(9)), fcnn.linear_warmup(0.5, steps=9)),
        (fcnn.piecewise_linear([(np.int8(0), 1), (np.int8(9), np.float32(0.5))]),
         fcnn.piecewise_linear([(0, 1.0), (9, 0.5)])),
        (fcnn.one_cycle(np.float32(0.5), steps=np.int8(9), rising=np.float32(0.25), start=0, end=1),
         fcnn.one_cycle(0.5, steps=9, rising=0.25, start=0.0, end=1.0)),
        (fcnn.ramp(np.float32(0.5), steps=np.int8(9), power=2), fcnn.ramp(0.5, steps=9, power=2.0)),
        (fcnn.until(np.float32(0.5), steps=np.int8(9)), fcnn.until(0.5, steps=9)),
    ],
    ids=lambda schedule: str(schedule).partition("(")[0],
)  # fmt: skip
def test_a_rate_is_a_python_float_in_double_precision_whatever_numbers_it_is_made_of(
    given: Schedule, plain: Schedule
) -> None:
    for step in range(12):
        for kind in (int, np.int8, np.int64):
            assert type(given(kind(step))) is float
            assert given(kind(step)) == plain(step)


@pytest.mark.parametrize("one", [1, 1.0, np.float64(1)])
def test_a_rate_beyond_all_floats_is_refused_whatever_numbers_it_is_made_of(one: float) -> None:
    message = r"^step_decay\(1\.0, every=1, factor=10\.0\) is too great for a float at step 400"
    with pytest.raises(ValueError, match=message):
        fcnn.step_decay(one, every=np.int64(1), factor=10 * one)(400)
