"""Training is a fold of a pure step over a stream of batches.

    step : (TrainState, Batch) -> (TrainState, Record)
    fold : (step, start, stream) -> (final, records)

A training state is a value that holds all there is: to resume is to fold on from a loaded state over the rest of the
stream, and gives the same bits as never having stopped. Progress bars, logs, checkpoints and early stop watch the
records from outside, through `scan`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import attrs
import numpy as np

from fcnn.data.batching import as_batch
from fcnn.data.types import Split, as_split
from fcnn.network.layer import Layer, Shape
from fcnn.network.rewriting import leaves as layers_of
from fcnn.network.rewriting import without_caches
from fcnn.training.losses import Loss, softmax_cross_entropy
from fcnn.training.optim import Transform, apply_updates
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import integer
from fcnn.values.keys import Key, fold_in
from fcnn.values.tree import EMPTY, Tree, astype, leaves, set_at


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

    BLAS computes each step on every core, unless `gradient_fn` maps shards (`fcnn.parallel`). Two such programs on the
    same cores wait for each other, and take ten times as long as with one thread of BLAS each: let each run in
    `with fcnn.parallel.threads(1):`, or with OPENBLAS_NUM_THREADS=1. `fit` does so by itself.

    The step raises ValueError if the batch's dtype isn't that of the parameters, which would turn all of them into
    float64 unnoticed.
    """
    compute = gradient(model, loss) if gradient_fn is None else gradient_fn
    held = tuple(path for path, layer in layers_of(model) if layer.held)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Record]:
        _check_dtype(state.params, batch[0])
        found = compute(state.params, state.layer_state, fold_in(state.key, state.step), batch)
        updates, opt_state = optimizer.update(found.grads, state.opt_state, state.params, state.step)
        params = _with_held(apply_updates(state.params, updates), state.params, held)
        record = Record(state.step, float(found.loss), found.correct, found.size)
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
    """What a network makes of a split.

    loss: the mean.
    accuracy: the share of right classes, 0 to 1; None where outputs are not scores of several classes.
    predictions: the classes, int64 (N,); None likewise.
    outputs: the network's, (N, …).
    metrics: what each function given as a metric found, by its name.
    """

    loss: float
    accuracy: float | None
    predictions: Array | None = attrs.field(repr=False)
    outputs: Array = attrs.field(repr=False)
    metrics: Mapping[str, float] = attrs.field(factory=dict)


Metric: TypeAlias = Callable[[Array, Array], float]
"""`metric(outputs, targets)` of a whole split, such as `lambda outputs, targets: np.abs(outputs - targets).max()`."""


def evaluate(
    model: Layer,
    params: Tree,
    state: Tree,
    split: Split | tuple[Array, Array],
    *,
    batch_size: int = 125,
    loss: Loss | None = None,
    metrics: Sequence[Metric] = (),
    map_fn: Callable[..., Iterable[Any]] = map,
) -> Evaluation:
    """Run a network over a split in evaluation mode, keeping nothing for a backward pass.

    Args:
        model, params, state: the network and its values.
        split: inputs and targets; a pair of arrays (x, y) does as well.
        batch_size: inputs at a time, few enough that they stay in cache; the outputs don't depend on it.
        loss: `softmax_cross_entropy()` when None.
        metrics: functions of all outputs and targets, found by their names in the result.
        map_fn: how the batches are mapped, such as an executor's `map`.
    """
    split = as_split(split)
    if not len(split):
        raise ValueError("evaluate expects at least one image, got an empty split")
    integer("batch_size", batch_size, least=1)
    dtype = next(leaves(params))[1].dtype if params else np.dtype(np.float32)
    network = without_caches(model)

    def outputs_at(start: int) -> Array:
        x = as_batch(split.x[start : start + batch_size], split.y[start : start + batch_size]).x
        return network.apply(params, state, x.astype(dtype, copy=False), train=False).y

    outputs = frozen(np.concatenate(list(map_fn(outputs_at, range(0, len(split), batch_size)))))
    value = float((softmax_cross_entropy() if loss is None else loss)(outputs, split.y)[0])
    found: dict[str, float] = {}
    for metric in metrics:
        name = _name_of(metric)
        alike = sum(other.partition(" ")[0] == name for other in found)
        found[f"{name} {alike + 1}" if alike else name] = float(metric(outputs, split.y))
    if not _are_scores(outputs, split.y):
        return Evaluation(value, None, None, outputs, found)
    predictions = frozen(outputs.argmax(axis=1).astype(np.int64, copy=False))
    return Evaluation(value, float(np.mean(predictions == split.y)), predictions, outputs, found)


def _name_of(metric: Metric) -> str:
    return str(getattr(metric, "__name__", metric))


def _are_scores(outputs: Array, targets: Array) -> bool:
    """Whether the outputs are scores of several classes, of which the targets name the right one."""
    return np.issubdtype(targets.dtype, np.integer) and targets.ndim == 1 and outputs.ndim == 2 and outputs.shape[1] > 1


def _correct(outputs: Array, targets: Any) -> int | None:
    targets = np.asarray(targets)
    if not _are_scores(outputs, targets):
        return None
    return int(np.count_nonzero(outputs.argmax(axis=1) == targets))


def _with_held(params: Tree, before: Tree, held: Sequence[str]) -> Tree:
    """The parameters with those of held layers as they were, whatever the optimizer did."""
    for path in held:
        here: Any = before
        for name in path.split("/") if path else ():
            here = here.get(name, EMPTY)
        if here:
            params = set_at(params, path, here) if path else before
    return params


def _check_dtype(params: Tree, x: Array) -> None:
    for path, leaf in leaves(params):
        if leaf.dtype != x.dtype:
            raise ValueError(
                f"train_step expects one dtype: {path} is {leaf.dtype}, the batch's x is {x.dtype}; "
                f"cast x with x.astype({leaf.dtype}), or make the state with init_state(..., dtype={x.dtype})"
            )
        return  # parameters have one dtype
