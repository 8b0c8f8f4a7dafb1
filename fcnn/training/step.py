"""Training is a fold of a pure step over a stream of batches.

    step : (TrainState, Batch) -> (TrainState, Record)
    fold : (step, start, stream) -> (final, records)

A training state is a value that holds all there is: to resume is to fold on from a loaded state over the rest of the
stream, and gives the same bits as never having stopped. Progress bars, logs, checkpoints and early stop watch the
records from outside, through `scan`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import attrs
import numpy as np

from fcnn.data.batching import as_batch
from fcnn.data.types import Split
from fcnn.network.layer import Layer, Shape
from fcnn.training.losses import Loss, softmax_cross_entropy
from fcnn.training.optim import Transform, apply_updates
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import integer
from fcnn.values.keys import Key, fold_in
from fcnn.values.tree import Tree, astype, leaves


@attrs.frozen
class TrainState:
    """All that training needs to go on: parameters, layers' state, optimizer state, the 0-based step, and the key."""

    params: Tree
    layer_state: Tree
    opt_state: Tree
    step: int
    key: Key


class Record(NamedTuple):
    """What a step saw: its number, the batch's loss before the update, how many of its `size` labels were right.

    `correct` is None where targets aren't integer labels.
    """

    step: int
    loss: float
    correct: int | None
    size: int


class Gradient(NamedTuple):
    """The loss and the gradient of the parameters for one batch, and the layers' state after it."""

    loss: float
    grads: Tree
    layer_state: Tree
    correct: int | None
    size: int


GradientFn: TypeAlias = Callable[[Tree, Tree, Key, Any], Gradient]
Step: TypeAlias = Callable[[TrainState, Any], tuple[TrainState, Record]]


def init_state(model: Layer, optimizer: Transform, key: Key, in_shape: Shape, dtype: Any = np.float32) -> TrainState:
    """The training state at step 0.

    Args:
        model, optimizer: what will be trained, and how.
        key: seeds the weights, and every random layer later.
        in_shape: one input's shape without the batch axis, such as (1, 28, 28).
        dtype: float32 or float64, of the parameters and everything computed from them.
    """
    made = model.init(fold_in(key, "init"), tuple(in_shape))
    params = astype(made.params, dtype)
    return TrainState(params, astype(made.state, dtype), optimizer.init(params), 0, fold_in(key, "train"))


def gradient(model: Layer, loss: Loss) -> GradientFn:
    """The pure function (params, state, key, batch) -> Gradient of a model in training mode under a loss."""

    def compute(params: Tree, state: Tree, key: Key, batch: Any) -> Gradient:
        x, targets = batch
        out = model.apply(params, state, x, train=True, key=key)
        value, dy = loss(out.y, targets)
        grads = model.backward(params, out.cache, dy, need_dx=False).params
        return Gradient(value, grads, out.state, _correct(out.y, targets), len(x))

    return compute


def train_step(model: Layer, loss: Loss, optimizer: Transform, gradient_fn: GradientFn | None = None) -> Step:
    """The pure function (TrainState, Batch) -> (TrainState, Record) of one optimizer step.

    Args:
        model, loss, optimizer: what is trained, against what, and how.
        gradient_fn: how gradients are computed; `gradient(model, loss)` when None.

    The step raises ValueError if the batch's dtype isn't that of the parameters, which would turn all of them into
    float64 unnoticed.
    """
    compute = gradient(model, loss) if gradient_fn is None else gradient_fn

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Record]:
        _check_dtype(state.params, batch[0])
        found = compute(state.params, state.layer_state, fold_in(state.key, state.step), batch)
        updates, opt_state = optimizer.update(found.grads, state.opt_state, state.params, state.step)
        params = apply_updates(state.params, updates)
        record = Record(state.step, found.loss, found.correct, found.size)
        return TrainState(params, found.layer_state, opt_state, state.step + 1, state.key), record

    return step


def scan(step: Step, start: TrainState, stream: Iterable[Any]) -> Iterator[tuple[TrainState, Record]]:
    """Fold `step` over the stream, yielding (state, record) after each batch."""
    state = start
    for batch in stream:
        state, record = step(state, batch)
        yield state, record


def fold(step: Step, start: TrainState, stream: Iterable[Any]) -> tuple[TrainState, list[Record]]:
    """Fold `step` over the whole stream: the final state, and every record."""
    state, records = start, []
    for state, record in scan(step, start, stream):  # noqa: B007 (the last state is the result)
        records.append(record)
    return state, records


@attrs.frozen
class Evaluation:
    """Mean loss, accuracy (0 to 1), predicted classes int64 (N,), and the network's outputs (N, K)."""

    loss: float
    accuracy: float
    predictions: Array = attrs.field(repr=False)
    outputs: Array = attrs.field(repr=False)


def evaluate(
    model: Layer,
    params: Tree,
    state: Tree,
    split: Split,
    *,
    batch_size: int = 125,
    loss: Loss | None = None,
    map_fn: Callable[..., Iterable[Any]] = map,
) -> Evaluation:
    """Run a classifier over a split in evaluation mode.

    Args:
        model, params, state: the network and its values.
        split: images and labels.
        batch_size: images at a time, few enough that they stay in cache; the predictions don't depend on it.
        loss: `softmax_cross_entropy()` when None.
        map_fn: how the batches are mapped, such as an executor's `map`.
    """
    if not len(split):
        raise ValueError("evaluate expects at least one image, got an empty split")
    integer("batch_size", batch_size, least=1)
    dtype = next(leaves(params))[1].dtype if params else np.dtype(np.float32)

    def outputs_at(start: int) -> Array:
        x = as_batch(split.x[start : start + batch_size], split.y[start : start + batch_size]).x
        return model.apply(params, state, x.astype(dtype, copy=False), train=False).y

    outputs = np.concatenate(list(map_fn(outputs_at, range(0, len(split), batch_size))))
    value, _ = (softmax_cross_entropy() if loss is None else loss)(outputs, split.y)
    predictions = outputs.argmax(axis=1).astype(np.int64, copy=False)
    return Evaluation(value, float(np.mean(predictions == split.y)), frozen(predictions), frozen(outputs))


def _correct(outputs: Array, targets: Any) -> int | None:
    targets = np.asarray(targets)
    if not np.issubdtype(targets.dtype, np.integer) or targets.ndim != 1 or outputs.ndim != 2:
        return None
    return int(np.count_nonzero(outputs.argmax(axis=1) == targets))


def _check_dtype(params: Tree, x: Array) -> None:
    for path, leaf in leaves(params):
        if leaf.dtype != x.dtype:
            raise ValueError(
                f"train_step expects one dtype: {path} is {leaf.dtype}, the batch's x is {x.dtype}; "
                f"cast x with x.astype({leaf.dtype}), or make the state with init_state(..., dtype={x.dtype})"
            )
        return  # parameters have one dtype
