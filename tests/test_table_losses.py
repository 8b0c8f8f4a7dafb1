"""Losses: a row each, and what all of them promise."""

import copy
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from constructors import constructors
from memory import FLOATS, ORDERS, OTHER_DTYPES, assert_close, assert_handed_out, bits, read_only

import fcnn
from fcnn.training.loss import Loss, weights_of

every_float = pytest.mark.parametrize("dtype", FLOATS)


@dataclass(frozen=True)
class LossRow:
    loss: Loss
    outputs: tuple[int, ...]
    targets: Callable[[np.random.Generator], np.ndarray]
    target_dtypes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.loss} of {self.outputs}"


def labels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 4, 5)


def some_ignored(rng: np.random.Generator) -> np.ndarray:
    return rng.permutation([0, 1, 2, 3, 3, 3, 0, 1, 2])


LOSSES = (
    LossRow(fcnn.softmax_cross_entropy(), (5, 4), labels, ("uint8", "int32", ">i8")),
    LossRow(fcnn.softmax_cross_entropy(0.2), (5, 4), labels, ("uint8", "int32", ">i8")),
    LossRow(fcnn.softmax_cross_entropy(0.1), (5, 1), lambda rng: np.zeros(5, int), ("uint8", ">u2")),
    LossRow(fcnn.softmax_cross_entropy(class_weights=[1, 0.5, 3, 20]), (5, 4), labels, ("uint8", "int32", ">i8")),
    LossRow(fcnn.softmax_cross_entropy(ignored=3), (9, 4), some_ignored, ("uint8", "int32", ">i8")),
    LossRow(
        fcnn.softmax_cross_entropy(0.2, (1, 0.5, 3), ignored=255),
        (9, 3),
        lambda rng: np.where(some_ignored(rng) == 3, 255, some_ignored(rng) % 3),
        ("uint8", "int32", ">i8"),
    ),
    LossRow(fcnn.binary_cross_entropy(), (5,), lambda rng: rng.integers(0, 2, 5), ("bool", "uint8", "f4", ">f8")),
    LossRow(fcnn.binary_cross_entropy(3), (5, 1), lambda rng: rng.integers(0, 2, (5, 1)), ("bool", "int32", ">f4")),
    LossRow(fcnn.binary_cross_entropy([0.5, 3]), (5, 2), lambda rng: rng.random((5, 2)), (">f8",)),
    LossRow(fcnn.mean_absolute_error(), (5, 2), lambda rng: rng.integers(-3, 4, (5, 2)), ("int16", "f4", ">f8")),
    LossRow(fcnn.huber(), (5, 2), lambda rng: rng.integers(-3, 4, (5, 2)), ("int16", "f4", ">f8")),
    LossRow(fcnn.huber(0.1), (5,), lambda rng: rng.standard_normal(5), (">f8",)),
    LossRow(fcnn.mean_squared_error(), (5,), lambda rng: rng.integers(-3, 4, 5), ("int16", "f4", ">f8")),
    LossRow(fcnn.mean_squared_error(), (5, 1), lambda rng: rng.integers(-3, 4, (5, 1)), ("int16", "f4", ">f8")),
    LossRow(fcnn.mean_squared_error(), (5, 2, 3, 2), lambda rng: rng.standard_normal((5, 2, 3, 2)), (">f8",)),
)
every_loss = pytest.mark.parametrize("row", LOSSES, ids=str)


def loss_inputs(row: LossRow, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return read_only(rng.standard_normal(row.outputs).astype(dtype)), read_only(row.targets(rng))


def test_the_table_has_every_loss() -> None:
    assert constructors(Loss) == {str(row.loss).partition("(")[0] for row in LOSSES}


def test_a_constructor_without_a_row_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcnn.losses, "novel", fcnn.mean_squared_error, raising=False)
    with pytest.raises(AssertionError, match="novel"):
        test_the_table_has_every_loss()


@every_float
@every_loss
def test_a_loss_gives_a_number_and_a_gradient_like_the_outputs(row: LossRow, dtype: type) -> None:
    outputs, targets = loss_inputs(row, dtype)
    value, d_outputs = row.loss(outputs, targets)
    assert type(value) is float
    assert (d_outputs.shape, d_outputs.dtype) == (outputs.shape, outputs.dtype)
    assert_handed_out(d_outputs)
    again, d_again = row.loss(outputs, targets)
    assert (again, bits(d_again)) == (value, bits(d_outputs))


@every_float
@every_loss
def test_a_loss_is_the_mean_over_the_batch_as_it_weighs_its_rows(row: LossRow, dtype: type) -> None:
    outputs, targets = loss_inputs(row, dtype)
    value, d_outputs = row.loss(outputs, targets)
    each = [row.loss(outputs[k : k + 1], targets[k : k + 1]) for k in range(len(outputs))]
    weights = weights_of(row.loss, targets, len(outputs))
    shares = np.full(len(outputs), 1 / len(outputs)) if weights is None else weights / weights.sum()
    # each loss and the whole one round as often as there are rows, 9 at most
    assert math.fsum(share * one for share, (one, _) in zip(shares, each, strict=True)) == pytest.approx(
        value, rel=float(9 * np.finfo(dtype).eps), abs=0
    )
    apart = np.concatenate([d * dtype(share) for share, (_, d) in zip(shares, each, strict=True)])
    assert_close(apart, d_outputs)


@every_loss
def test_a_loss_has_its_gradient(row: LossRow) -> None:
    assert fcnn.gradcheck_loss(row.loss, *loss_inputs(row, np.float64)).ok


@every_float
@every_loss
def test_a_loss_takes_any_order_of_memory_and_bytes_and_writes_to_nothing(row: LossRow, dtype: type) -> None:
    outputs, targets = loss_inputs(row, dtype)
    value, d_outputs = row.loss(outputs, targets)
    for order in ORDERS.values():
        passed = order(outputs), order(targets)
        before = [array.tobytes() for array in passed]
        found, d_found = row.loss(*passed)
        assert [array.tobytes() for array in passed] == before
        # sums of the same rows in another order, as above
        assert found == pytest.approx(value, rel=float(8 * np.finfo(dtype).eps), abs=0)
        assert d_found.dtype == outputs.dtype
        assert d_found.dtype.isnative
        assert_close(d_found, d_outputs)
        assert_handed_out(d_found, *passed)
    for target_dtype in row.target_dtypes:
        found, d_found = row.loss(outputs, targets.astype(target_dtype))
        assert (found, bits(d_found)) == (value, bits(d_outputs))


@every_loss
def test_a_loss_refuses_other_dtypes_shapes_and_nothing(row: LossRow) -> None:
    outputs, targets = loss_inputs(row, np.float64)
    name = str(row.loss).partition("(")[0]
    for dtype in OTHER_DTYPES:
        with pytest.raises(TypeError, match=rf"^{name}'s \w+ is an array of float32 or float64, got "):
            row.loss(np.zeros(outputs.shape, dtype), targets)
    for wrong in (targets[:1], targets[:-1], targets[None], targets[..., None]):
        with pytest.raises(ValueError, match=rf"^{name} expects .*, got "):
            row.loss(outputs, wrong)
    with pytest.raises(ValueError, match=f"^{name} got an empty batch"):
        row.loss(outputs[:0], targets[:0])


def test_weights_may_come_in_an_array_and_are_kept_as_numbers() -> None:
    weights = np.array([1, 2.5, 4])
    for make, name in ((fcnn.softmax_cross_entropy, "class_weights="), (fcnn.binary_cross_entropy, "pos_weight=")):
        loss = make(**{name[:-1]: weights})
        assert str(loss) == f"{make.__name__}({name}(1.0, 2.5, 4.0))"
        assert str(pickle.loads(pickle.dumps(loss))) == str(loss)
        outputs, targets = (
            np.array([[0.5, -1.0, 2.0]]),
            np.array([2]) if make is fcnn.softmax_cross_entropy else np.eye(3)[:1],
        )
        assert bits(loss(outputs, targets)[1]) == bits(make(**{name[:-1]: [1, 2.5, 4]})(outputs, targets)[1])


@every_loss
def test_a_loss_prints_as_the_call_that_makes_it_again_and_pickles(row: LossRow) -> None:
    inputs = loss_inputs(row, np.float32)
    for again in (eval(str(row.loss), vars(fcnn).copy()), pickle.loads(pickle.dumps(row.loss))):
        assert str(again) == str(row.loss)
        assert bits(again(*inputs)[1]) == bits(row.loss(*inputs)[1])
    assert copy.deepcopy(row.loss) is copy.copy(row.loss) is row.loss
