"""Training as a stream of epochs: the fold of a step over each epoch's batches, and what an epoch adds up to."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

import attrs

from fcnn.data.batching import batches, steps_per_epoch
from fcnn.data.types import BatchTransform, Split
from fcnn.training.step import Evaluation, Record, Step, TrainState, scan, weighed
from fcnn.values import html
from fcnn.values.keys import Key

Item: TypeAlias = Mapping[str, Any]  # what is known of a finished epoch, ready for JSON
History: TypeAlias = tuple[Item, ...]

_COLUMNS = {  # of a table of epochs: what each key of an item is called, and how its values are written
    "epoch": ("epoch", "d"),
    "train_loss": ("training loss", ".4g"),
    "train_accuracy": ("training accuracy", ".2%"),
    "validation_loss": ("validation loss", ".4g"),
    "validation_accuracy": ("validation accuracy", ".2%"),
    "seconds": ("seconds", ".1f"),
    "images_per_second": ("inputs a second", ",.0f"),
}


class DivergedError(ArithmeticError):
    """The loss is not finite any more; `state` is the last one whose loss was."""

    def __init__(self, message: str, state: TrainState) -> None:
        super().__init__(message)
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:  # else it would end the pool whose worker raises it
        return DivergedError, (self.args[0], self.state)


@attrs.frozen
class EpochTotals:
    """What the steps of an epoch add up to so far."""

    loss: float = 0.0  # summed over the inputs, each as often as it weighs
    correct: int | None = 0  # predictions, each made before its input was learnt from; None where there are none
    images: int = 0
    seconds: float = 0.0
    weight: float = 0.0  # of the inputs in the loss
    counted: int = 0  # inputs of which `correct` are right

    def after(self, record: Record, seconds: float) -> "EpochTotals":
        """With one more step, which ended `seconds` after the epoch began."""
        correct = None if record.correct is None or self.correct is None else self.correct + record.correct
        weight, counted = weighed(record)
        return EpochTotals(
            self.loss + record.loss * weight,
            correct,
            self.images + record.size,
            seconds,
            self.weight + weight,
            self.counted + counted,
        )

    @property
    def accuracy(self) -> float | None:
        """The share of right predictions."""
        return None if self.correct is None or not self.counted else self.correct / self.counted

    def item(self, epoch: int, validation: Evaluation | None) -> dict[str, Any]:
        """The item of a finished epoch in the history, with what was found on the validation split after it."""
        found = {
            "epoch": epoch,
            "train_loss": self.loss / self.weight if self.weight else 0.0,
            "train_accuracy": self.accuracy,
            "validation_loss": None if validation is None else validation.loss,
            "validation_accuracy": None if validation is None else validation.accuracy,
            "seconds": self.seconds,
            "images_per_second": self.images / self.seconds,
        }
        return found | (
            {"metrics": _for_json(validation.metrics)} if validation is not None and validation.metrics else {}
        )


def _for_json(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """What is not finite, and so no JSON, as None."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


class Display(Protocol):
    """What `fit` tells of."""

    def begin(self, epoch: int, of: int, done: int) -> None:
        """An epoch begins, with `done` inputs behind it."""

    def step(self, record: Record, totals: EpochTotals) -> None:
        """A step is done."""

    def end(self, line: str) -> None:
        """An epoch is done; `line` is what there is to say of it."""


@attrs.frozen
class Epoch:
    """Where the stream of epochs is: after epoch `number`, or within it where it was asked to stop (`item` is None)."""

    number: int
    state: TrainState
    totals: EpochTotals
    item: Mapping[str, Any] | None


def epoch_stream(
    step: Step,
    start: TrainState,
    split: Split,
    order: Key,
    *,
    count: int,
    batch_size: int = 128,
    drop_last: bool = False,
    transform: BatchTransform | None = None,
    validate: Callable[[TrainState], Evaluation] | None = None,
    totals: EpochTotals = EpochTotals(),
    stop: Callable[[], int] | None = None,
    display: Display | None = None,
) -> Iterator[Epoch]:
    """Fold a step over the epochs that are left until `count`, handing out the state after each.

    Args:
        step: of `train_step`.
        start: the state to go on from; its step says in which epoch that is.
        split, order, batch_size, drop_last, transform: what `fcnn.batches` makes the stream of batches of.
        count: how many epochs there are in all, from the first one on.
        validate: evaluates the state after an epoch, for the item of the history.
        totals: what was seen already of the epoch in which `start` is.
        stop: asked after every step but an epoch's last; where it says yes, the stream ends with a part of an epoch.
        display: is told how far it is.

    Raises DivergedError where a loss is not finite.
    """
    per_epoch = steps_per_epoch(len(split), batch_size, drop_last)
    state, reached = start, min(start.step, count * per_epoch)
    stream = batches(
        split, batch_size, order, epochs=count, start_step=reached, transform=transform, drop_last=drop_last
    )
    for number in range(state.step // per_epoch + 1, count + 1):
        began = time.perf_counter() - totals.seconds
        if display is not None:
            display.begin(number, count, totals.images)
        for new, record in scan(step, state, itertools.islice(stream, number * per_epoch - state.step)):
            if not math.isfinite(record.loss):
                raise DivergedError(f"the loss is not finite at step {record.step} (epoch {number})", state)
            state, totals = new, totals.after(record, time.perf_counter() - began)
            if display is not None:
                display.step(record, totals)
            if stop is not None and state.step < number * per_epoch and stop():
                yield Epoch(number, state, totals, None)
                return
        found = None if validate is None else validate(state)
        if found is not None and not math.isfinite(found.loss):
            raise DivergedError(f"the validation loss is not finite after epoch {number}", state)
        item = totals.item(number, found)
        if display is not None:
            display.end(epoch_line(item, count))
        yield Epoch(number, state, totals, item)
        totals = EpochTotals()


def epoch_line(item: Item, of: int | None = None, validation_name: str = "validation") -> str:
    """An epoch's item in a line."""

    def told(name: str, kind: str) -> str:
        loss, accuracy = item[f"{kind}_loss"], item[f"{kind}_accuracy"]
        if loss is None:
            return ""
        return f"{name} loss {loss:.4f}" + ("" if accuracy is None else f", accuracy {accuracy:.2%}")

    parts = [told("training", "train"), told(validation_name, "validation")]
    metrics = {name: "not finite" if v is None else f"{v:.4g}" for name, v in item.get("metrics", {}).items()}
    parts += [", ".join(f"{name} {value}" for name, value in metrics.items())]
    parts += [f"{item['seconds']:.1f} s, {item['images_per_second']:,.0f} inputs/s"]
    number = f"{item['epoch']:>2}/{of}" if of else str(item["epoch"])
    return f"epoch {number}: " + "; ".join(filter(None, parts))


def epochs_table(history: History) -> html.Markup:
    """The items of a history as a table, without the columns of which nothing is known."""
    keys = [key for key in _COLUMNS if any(item.get(key) is not None for item in history)]
    metrics = list(dict.fromkeys(name for item in history for name in item.get("metrics", {})))

    def cells(item: Item) -> list[str]:
        known = [(item.get(key), _COLUMNS[key][1]) for key in keys]
        known += [(item.get("metrics", {}).get(name), ".4g") for name in metrics]
        return ["" if value is None else format(value, form) for value, form in known]

    return html.table([*(_COLUMNS[key][0] for key in keys), *metrics], history, cells)
