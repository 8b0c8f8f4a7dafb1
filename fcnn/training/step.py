"""Training is a fold of a pure step over a stream of batches.

    step : (TrainState, Batch) -> (TrainState, Record)
    fold : (step, start, stream) -> (final, records)

A training state is a value that holds all there is: to resume is to fold on from a loaded state over the rest of the
stream, and gives the same bits as never having stopped. Progress bars, logs, checkpoints and early stop watch the
records from outside, through `scan`.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import attrs
import numpy as np

from fcnn.data.batching import batch_of
from fcnn.data.types import Split, as_split
from fcnn.network.fusing import fuse as fused
from fcnn.network.inference import predictor
from fcnn.network.layer import Layer, LayerError, Shape, expect_layer, expect_values
from fcnn.network.rewriting import held_paths, without_caches
from fcnn.training.arguments import (
    expect_map_fn,
    expect_metrics,
    how_to_shape_inputs,
    inputs_and_targets,
    inputs_of,
    mapped,
    measured,
)
from fcnn.training.loss import Loss, expect_loss, loss_of, weights_of
from fcnn.training.losses import softmax_cross_entropy
from fcnn.training.optim import apply_updates
from fcnn.training.transform import Transform, expect_transform, updated
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import FLOATS, MOST_STEPS, boolean, float_dtype, function, instance, integer, lengths, told
from fcnn.values.cores import each_of, one_blas_thread
from fcnn.values.keys import Key, expect_key, fold_in
from fcnn.values.tree import EMPTY, Tree, TreeError, astype, expect_tree, leaves, ravel, set_at


@attrs.frozen
class TrainState:
    """All that training needs to go on: parameters, layers' state, optimizer state, the 0-based step, and the key."""

    params: Tree
    layer_state: Tree
    opt_state: Tree
    step: int
    key: Key

    def __attrs_post_init__(self) -> None:
        are_trees = type(self.params) is type(self.layer_state) is type(self.opt_state) is Tree
        if are_trees and type(self.step) is int and 0 <= self.step <= MOST_STEPS and type(self.key) is Key:
            return  # every step passes here: the usual case is told fast
        expect_tree("params", self.params)
        expect_tree("layer_state", self.layer_state)
        expect_tree("opt_state", self.opt_state)
        integer("step", self.step, least=0, most=MOST_STEPS)
        expect_key("key", self.key)


class Record(NamedTuple):
    """What a step saw: its number, the batch's loss before the update, how many of its labels were right.

    `correct` is None where targets aren't integer labels. `weight` and `counted` are as in `Gradient`.
    """

    step: int
    loss: float
    correct: int | None
    size: int
    weight: float | None = None
    counted: int | None = None


class Gradient(NamedTuple):
    """The loss and the gradient of the parameters for one batch of `size` rows, and the layers' state after it.

    `weight` is the sum of the rows' weights in the loss's mean, and `counted` says of how many rows `correct` are
    right. None, as where every row counts alike, stands for `size`.
    """

    loss: float
    grads: Tree
    layer_state: Tree
    correct: int | None
    size: int
    weight: float | None = None
    counted: int | None = None


GradientFn: TypeAlias = Callable[[Tree, Tree, Key, Any], Gradient]
Step: TypeAlias = Callable[[TrainState, Any], tuple[TrainState, Record]]

_A_GRADIENT = "a function (params, state, key, batch), such as fcnn.gradient(…) gives"


def init_state(model: Layer, optimizer: Transform, key: Key, in_shape: Shape, dtype: Any = np.float32) -> TrainState:
    """The training state at step 0.

    Args:
        model, optimizer: what will be trained, and how.
        key: seeds the weights, and every random layer later.
        in_shape: one input's shape without the batch axis, such as (1, 28, 28).
        dtype: float32 or float64, of the parameters and everything computed from them.
    """
    expect_layer("model", model)
    expect_transform("optimizer", optimizer)
    expect_key("key", key)
    dtype = float_dtype("dtype", dtype)
    in_shape = lengths("in_shape", in_shape)
    try:
        made = model.init(fold_in(key, "init"), in_shape)
    except LayerError as error:
        if not (advice := how_to_shape_inputs(model, in_shape)):
            raise
        raise LayerError(error.message + advice, error.path) from error
    params = astype(made.params, dtype)
    return TrainState(params, astype(made.state, dtype), optimizer.init(params), 0, fold_in(key, "train"))


def gradient(model: Layer, loss: Loss, *, fuse: bool = True) -> GradientFn:
    """The pure function (params, state, key, batch) -> Gradient of a model in training mode under a loss.

    It uses every core for kernels that are long enough, with BLAS held to one thread meanwhile, unless it is itself
    mapped (`fcnn.parallel`). The bits don't depend on the number of cores. (Without `threadpoolctl` BLAS can't be held:
    then one thread of Python computes, and the bits depend on BLAS's threads; `fcnn/values/cores.py` says more.)

    Args:
        model, loss: what is computed, and against what.
        fuse: whether `fcnn.fuse` makes it faster, which may change the last bits.
    """
    expect_layer("model", model)
    expect_loss("loss", loss)
    network = fused(model) if boolean("fuse", fuse) else model

    def compute(params: Tree, state: Tree, key: Key, batch: Any) -> Gradient:
        if not (type(params) is type(state) is Tree and type(key) is Key):
            expect_values("params", params)
            expect_values("state", state)
            expect_key("key", key)
        x, targets = inputs_and_targets(batch)
        with one_blas_thread():
            out = network.apply(params, state, x, train=True, key=key)
            value, dy = loss_of(loss, out.y, targets)
            grads = network.backward(params, out.cache, dy, need_dx=False).params
        weights = weights_of(loss, targets, len(x))
        weight = None if weights is None else float(weights.sum())
        counted = None if weights is None else int(np.count_nonzero(weights))
        return Gradient(value, grads, out.state, _correct(out.y, targets, weights), len(x), weight, counted)

    return compute


def train_step(
    model: Layer, loss: Loss, optimizer: Transform, gradient_fn: GradientFn | None = None, *, fuse: bool = True
) -> Step:
    """The pure function (TrainState, Batch) -> (TrainState, Record) of one optimizer step.

    Args:
        model, loss, optimizer: what is trained, against what, and how.
        gradient_fn: how gradients are computed; `gradient(model, loss, fuse=fuse)` when None.
        fuse: as `gradient` takes it.

    A step uses every core where kernels are long enough, with the same bits whatever their number, and small networks
    gain little by that: shards over processes gain more (`fcnn.parallel`). In `with fcnn.parallel.threads(1):` a step
    leaves the other cores alone.

    The step raises ValueError if the batch's dtype isn't that of the parameters, and TypeError if a gradient's isn't:
    either would turn all of them into float64 unnoticed, or a float16 gradient into numbers that are none.
    """
    expect_layer("model", model)
    expect_loss("loss", loss)
    expect_transform("optimizer", optimizer)
    if gradient_fn is not None:
        expect_gradient_fn("gradient_fn", gradient_fn)
    compute = gradient(model, loss, fuse=fuse) if gradient_fn is None else gradient_fn
    held = held_paths(model)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Record]:
        if type(state) is not TrainState:
            instance("state", state, TrainState, "a training state, as fcnn.init_state makes")
        x = inputs_of(batch)
        _check_dtype(state.params, x)
        batch = batch if x is batch[0] else (x, *batch[1:])
        found = gradient_of(compute, state.params, state.layer_state, fold_in(state.key, state.step), batch)
        _check_gradient(found.grads, x.dtype)
        updates, opt_state = updated(optimizer, found.grads, state.opt_state, state.params, state.step)
        params = _with_held(apply_updates(state.params, updates), state.params, held)
        record = Record(state.step, float(found.loss), found.correct, found.size, found.weight, found.counted)
        return TrainState(params, found.layer_state, opt_state, state.step + 1, state.key), record

    return step


def weighed(found: Gradient | Record) -> tuple[float, int]:
    """By what the mean of a loss was divided, and of how many rows `correct` are right."""
    weight = found.size if found.weight is None else found.weight
    return weight, found.size if found.counted is None else found.counted


def expect_gradient_fn(name: str, value: object) -> GradientFn:
    """`value`, if it can be a gradient function."""
    if value is gradient:
        raise TypeError(f"{name} is {_A_GRADIENT}, got the function gradient; call it: gradient(…)")
    return function(name, value, _A_GRADIENT)


def gradient_of(gradient_fn: GradientFn, params: Tree, state: Tree, key: Key, batch: Any) -> Gradient:
    """What anybody's gradient function gives, if it is a gradient."""
    found = gradient_fn(params, state, key, batch)
    if type(found) is Gradient:
        return found
    return instance("what gradient_fn gives", found, Gradient, "a Gradient, as fcnn.gradient(…) gives it")


def scan(step: Step, start: TrainState, stream: Iterable[Any]) -> Iterator[tuple[TrainState, Record]]:
    """Fold `step` over the stream, yielding (state, record) after each batch."""
    function("step", step, "a function (state, batch), such as fcnn.train_step(…) gives")
    if not isinstance(stream, Iterable) or (isinstance(stream, np.ndarray) and not stream.ndim):
        raise TypeError(f"stream is batches, such as fcnn.batches(split, 128, key) gives, got {told(stream)}")

    def steps() -> Iterator[tuple[TrainState, Record]]:
        state = start
        for batch in stream:
            found = step(state, batch)
            if not isinstance(found, tuple) or len(found) != 2:
                raise TypeError(f"a step gives a pair (state, record), {told(step)} gave {told(found)}")
            state, record = found
            yield state, record

    return steps()


def fold(step: Step, start: TrainState, stream: Iterable[Any]) -> tuple[TrainState, list[Record]]:
    """Fold `step` over the whole stream: the final state, and every record."""
    state, records = start, []
    for state, record in scan(step, start, stream):  # noqa: B007 (the last state is the result)
        records.append(record)
    return state, records


@attrs.frozen
class Evaluation:
    """What a network makes of a split.

    loss: the mean, as the loss weighs the targets of the whole split.
    accuracy: the share of right classes among those that count in the loss, 0 to 1; None where outputs are not scores
        of several classes, or no target counts.
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
    fuse: bool = True,
) -> Evaluation:
    """Run a network over a split in evaluation mode, keeping nothing for a backward pass.

    Args:
        model, params, state: the network and its values.
        split: inputs and targets; a pair of arrays (x, y) does as well.
        batch_size: inputs at a time, few enough that they stay in cache; the outputs depend on it in their last bits
            alone.
        loss: `softmax_cross_entropy()` when None.
        metrics: functions of all outputs and targets, found by their names in the result.
        map_fn: how the batches are mapped, such as an executor's `map`. The built-in `map` uses every core as well.
        fuse: whether `predictor` makes the network faster, which may change the outputs' last bits.
    """
    expect_layer("model", model)
    expect_values("params", params)
    expect_values("state", state)
    split = as_split(split, "split")
    if not len(split):
        raise ValueError("evaluate expects at least one image, got an empty split")
    integer("batch_size", batch_size, least=1)
    measure = softmax_cross_entropy() if loss is None else expect_loss("loss", loss)
    metrics, map_fn = expect_metrics(metrics), expect_map_fn(map_fn)
    dtype = _dtype_of(params)
    if boolean("fuse", fuse):
        run = predictor(model, params, state)
    else:
        plain = without_caches(model)

        def run(x: Array) -> Array:
            return plain.apply(params, state, x, train=False).y

    def outputs_of(number: int) -> tuple[int, Array]:
        rows = slice(number * batch_size, (number + 1) * batch_size)
        x = batch_of(split.x[rows], split.y[rows]).x.astype(dtype, copy=False)
        return number, run(x)

    count = -(-len(split) // batch_size)
    with one_blas_thread():
        share = functools.partial(_over_cores, count) if map_fn is map else map_fn
        outputs = frozen(np.concatenate(mapped(share, outputs_of, range(count), np.ndarray)))
    value, _ = loss_of(measure, outputs, split.y)
    found: dict[str, float] = {}
    for metric in metrics:
        name = str(getattr(metric, "__name__", metric))
        alike = sum(other.partition(" ")[0] == name for other in found)
        value_of = measured(f"the metric {name} gives", metric(outputs, split.y))
        found[f"{name} {alike + 1}" if alike else name] = value_of
    if not _are_scores(outputs, split.y):
        return Evaluation(value, None, None, outputs, found)
    predictions = frozen(outputs.argmax(axis=1).astype(np.int64, copy=False))
    weights = weights_of(measure, split.y, len(split))
    right = (predictions == split.y)[slice(None) if weights is None else weights > 0]
    return Evaluation(value, float(np.mean(right)) if right.size else None, predictions, outputs, found)


def _over_cores(count: int, function: Callable[[int], Any], numbers: Iterable[int]) -> list[Any]:
    """As `map`, of the numbers from 0 to `count`."""
    return each_of(count, function, 1e6)


def _are_scores(outputs: Array, targets: Array) -> bool:
    """Whether the outputs are scores of several classes, of which the targets name the right one."""
    return np.issubdtype(targets.dtype, np.integer) and targets.ndim == 1 and outputs.ndim == 2 and outputs.shape[1] > 1


def _correct(outputs: Array, targets: Any, weights: Array | None) -> int | None:
    """How many rows are right of those that count."""
    targets = np.asarray(targets)
    if not _are_scores(outputs, targets):
        return None
    right = outputs.argmax(axis=1) == targets
    return int(np.count_nonzero(right if weights is None else right & (weights > 0)))


def _with_held(params: Tree, before: Tree, held: Sequence[str]) -> Tree:
    """The parameters with what is held as it was, layers and single ones, whatever the optimizer did."""
    for path in held:
        here: Any = before
        for name in path.split("/") if path else ():
            here = here.get(name, EMPTY)
        if here is not EMPTY:
            params = set_at(params, path, here) if path else before
    return params


def _dtype_of(params: Tree) -> np.dtype[Any]:
    """The one dtype of parameters, float32 or float64."""
    dtypes = {leaf.dtype for _, leaf in leaves(params)} or {np.dtype(np.float32)}
    if len(dtypes) > 1 or next(iter(dtypes)).type not in FLOATS:
        raise TypeError(
            f"params are all of float32 or all of float64, got {', '.join(sorted(map(str, dtypes)))}; "
            "fcnn.tree.astype(params, np.float32) makes such"
        )
    return dtypes.pop()


def _check_dtype(params: Tree, x: Array) -> None:
    for path, leaf in leaves(params):
        if leaf.dtype != x.dtype:
            _dtype_of(params)
            raise ValueError(
                f"train_step expects one dtype: {path} is {leaf.dtype}, the batch's x is {x.dtype}; "
                f"cast x with x.astype(np.{leaf.dtype}), or make the state with init_state(…, dtype=np.{x.dtype})"
            )
        return  # parameters have one dtype


def _check_gradient(grads: Tree, dtype: np.dtype[Any]) -> None:
    """Raise TypeError unless the gradients are of the parameters' dtype: anybody's function can give them."""
    if type(grads) is not Tree or not grads:
        return
    with contextlib.suppress(TreeError):  # of several dtypes
        if ravel(grads).dtype == dtype:  # laid end to end, which is done once, and the optimizer asks for too
            return
    path, leaf = next((path, leaf) for path, leaf in leaves(grads) if leaf.dtype != dtype)
    raise TypeError(f"gradients are of {dtype}, as the parameters are, got {path} as {leaf.dtype}")
