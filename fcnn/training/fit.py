"""Training for everyday use: the fold of `fcnn.training.step`, watched epoch by epoch.

`fit` watches the stream of epochs (`fcnn.training.epochs`): it evaluates, saves, stops early and shows how far it is,
and changes no bit of what the fold by hand would give.
"""

import contextlib
import os
import re
from collections.abc import Sequence
from signal import SIGINT
from typing import Any

import attrs
import numpy as np

from fcnn.data.augmentation import expect_batch_transform
from fcnn.data.batching import steps_per_epoch
from fcnn.data.types import BatchTransform, Dataset, Split, as_split
from fcnn.network.layer import Layer, expect_layer
from fcnn.network.model import Model
from fcnn.network.rewriting import held_paths
from fcnn.training import parallel, runs
from fcnn.training.arguments import expect_map_fn, expect_metrics
from fcnn.training.averaging import Averaging, averaged_values, begun, expect_averaging
from fcnn.training.checkpoint import CheckpointError, differences, load, network_meta
from fcnn.training.epochs import History, epoch_line, epoch_stream, epochs_table
from fcnn.training.loss import Loss, expect_loss
from fcnn.training.losses import softmax_cross_entropy
from fcnn.training.optim import adam
from fcnn.training.progress import display
from fcnn.training.runs import Progress, RunError, RunFolder
from fcnn.training.signals import interruptible
from fcnn.training.step import (
    Evaluation,
    GradientFn,
    Metric,
    TrainState,
    evaluate,
    expect_gradient_fn,
    init_state,
    train_step,
)
from fcnn.training.step import gradient as plain_gradient
from fcnn.training.transform import Transform, expect_transform
from fcnn.values import html, tree
from fcnn.values.arrays import digest
from fcnn.values.checks import boolean, file_path, instance, integer, told
from fcnn.values.cores import cores
from fcnn.values.keys import fold_in, key

_SHARD = 64  # inputs a thread takes at a time: few enough that a small network's arrays stay in cache


class InterruptedFit(KeyboardInterrupt):
    """Ctrl-C, or SIGTERM.

    fitted: what was reached, to the end of the step.
    signal: its number; `sys.exit(128 + error.signal)` is what shells expect of a script.
    """

    def __init__(self, message: str, fitted: "Fitted", signal: int = SIGINT) -> None:
        super().__init__(message)
        self.fitted = fitted
        self.signal = signal

    def __reduce__(self) -> tuple[Any, ...]:
        return InterruptedFit, (self.args[0], self.fitted, self.signal)


@attrs.frozen(repr=False)
class Fitted:
    """What `fit` gives.

    state: the training state after the last epoch, or with `patience` after the best one; fold on from it, or give it
        to `fit` as its `start`.
    history: an item an epoch, ready for JSON: `epoch`, `train_loss`, `train_accuracy` (means over the epoch, while the
        weights change), `validation_loss`, `validation_accuracy`, `metrics`, `seconds` (of the steps alone) and
        `images_per_second`; None where there is nothing to say. `fcnn.inspection.plots.curves(history)` draws it.
    model: the network with the state's values, or with `average` their averages, to evaluate, to predict with, and to
        save.
    best_epoch: with `patience`, after which epoch `state` is: the one with the least validation loss. None without.
    """

    state: TrainState
    history: History
    model: Model
    best_epoch: int | None = None

    def __repr__(self) -> str:
        best = f", the best after epoch {self.best_epoch}" if self.best_epoch is not None else ""
        last = epoch_line(self.history[-1]) if self.history else "no epoch finished"
        return f"Fitted({len(self.history)} epochs{best}; {last})"

    def _repr_html_(self) -> str:
        reached = f"after epoch {self.history[-1]['epoch']}" if self.history else "no epoch finished"
        if self.best_epoch is not None:
            reached = f"after epoch {self.best_epoch}, the best of {len(self.history)}"
        return html.view(html.fold(f"Fitted: {reached}", epochs_table(self.history)))


def fit(
    network: Layer,
    data: Dataset | Split | tuple[Any, Any],
    *,
    epochs: int,
    batch_size: int = 128,
    drop_last: bool = False,
    optimizer: Transform = adam(1e-3),  # noqa: B008 (an immutable value)
    loss: Loss = softmax_cross_entropy(),  # noqa: B008
    average: Averaging | None = None,
    metrics: Sequence[Metric] = (),
    seed: int = 0,
    start: Model | TrainState | None = None,
    transform: BatchTransform | None = None,
    validation: Split | tuple[Any, Any] | int | None = None,
    patience: int | None = None,
    gradient: GradientFn | None = None,
    workers: int | contextlib.AbstractContextManager[parallel.MapFn] | None = None,
    shard_size: int | None = None,
    fuse: bool = True,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Fitted:
    """Train a network.

    The same bits whatever the number of workers, and the same as the fold by hand with the same gradient function: the
    state begins as `init_state(network, optimizer, fold_in(key(seed), "model"), in_shape)`, and the batches are those
    of `batches(train, batch_size, fold_in(key(seed), "batches"), …)`.

    Args:
        network: what to train.
        data: a Dataset, a Split, or a pair of arrays (x, y): images (N, C, H, W), sequences (N, C, L) or features
            (N, D), uint8 or floats, with classes (N,) or numbers (N, K); `fcnn.Split` says more.
        epochs: passes over the training inputs, in all: what a resumed or continued state has behind it counts.
        batch_size, drop_last: inputs a step, and whether an epoch's last, smaller batch is left out.
        optimizer, loss: how it learns, and from what.
        average: how values are averaged on the way, such as `moving_average(0.999)`. The averages are what is evaluated
            and what the model has; the state, and checkpoints in their `params`, have the values that learn.
        metrics: functions of (outputs, targets), evaluated on the validation split after each epoch.
        seed: of the weights, the order and dropout.
        start: a Model or a training state to go on from, in place of first weights; a Model begins at step 0, a state
            has as many epochs behind it as its steps are at this batch size.
        transform: a pure function of a key and a batch, such as an augmentation; for training only. What the network
            needs of its input, in evaluation too, is a layer (`normalize`).
        validation: what is evaluated after each epoch: a Split, a pair of arrays, or how many of the last training
            inputs are held out for it. None: the test split of a Dataset, by which nothing is ever chosen.
        patience: stop when the validation loss has not become less for so many epochs, and give the best state. Needs
            a validation split of its own.
        gradient: how gradients are computed, such as `parallel.over_ranks(…)` makes them; then `workers` and
            `shard_size` are for evaluation only.
        workers: a number of threads (None: every core), or what maps shards, such as `parallel.processes(2)`, which
            forks and so is never chosen for you.
        shard_size: inputs that a worker takes at a time, on which the bits depend; 0: whole batches. None: 64, and
            whole batches where a layer has state, as batch norm sees one shard at a time.
        fuse: whether convolutions and what follows them are computed as one (`fcnn.fuse`), which may change last bits.
        folder: keeps a checkpoint an epoch and history.json, for one run at a time.
        resume: go on with the run in `folder`, to the bits that an uninterrupted run would have ended with; from the
            beginning if there is none yet. Call it as before, `epochs` aside, which may be more. Functions of your own
            are told apart by their names only.
        progress: show a bar in a terminal or a notebook, and a line an epoch where tqdm is missing; nothing in a file.

    Raises:
        DivergedError: the loss is not finite any more.
        InterruptedFit: Ctrl-C (in the main thread), once the step is done; nothing is lost.
        RunError: the folder is another's, not empty, or of a run with other settings; the message has the difference.
        CheckpointError: the checkpoint to go on from is damaged; the message says which one can be gone on from.
        OSError: a checkpoint can't be written; those before are whole.

    >>> from fcnn import Split, dense, relu, serial
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32).reshape(64, 1)
    >>> found = fit(serial(dense(8), relu(), dense(2)), (x, (x[:, 0] > 0).astype(int)), epochs=40, batch_size=8)
    >>> found.history[-1]["train_accuracy"] > 0.9
    True
    """
    expect_layer("network", network)
    expect_transform("optimizer", optimizer)
    expect_loss("loss", loss)
    expect_metrics(metrics)
    if average is not None:
        expect_averaging("average", average)
    integer("epochs", epochs, least=0)
    boolean("resume", resume)
    boolean("fuse", fuse)
    boolean("progress", progress)
    if patience is not None:
        integer("patience", patience, least=1)
    if transform is not None:
        expect_batch_transform("transform", transform)
    if gradient is not None:
        expect_gradient_fn("gradient", gradient)
    if folder is not None:
        folder = file_path("folder", folder, "a folder, text or a pathlib.Path")
    elif resume:
        raise ValueError("resume=True goes on with the run in a folder; name it, folder=…, or leave resume out")
    workers = _workers(workers)
    train, held_out, classes = _splits(data, validation, patience)
    meta = data.meta if isinstance(data, Dataset) else {}
    steps_per_epoch(len(train), batch_size, drop_last)
    seeded = fold_in(key(integer("seed", seed, least=0)), "model")
    first = begun(average, init_state(network, optimizer, seeded, train.in_shape))
    first = first if start is None else _first_state(start, first, optimizer, average)
    shard = _shard_size(shard_size, first)
    settings = {
        "loss": _text(loss), "optimizer": _text(optimizer), "average": _text(average),
        "batch_size": batch_size, "drop_last": drop_last, "seed": seed, "shard_size": shard,
        "transform": _text(transform), "train": repr(train), "validation": _text(held_out), "gradient": _text(gradient),
        "held": held_paths(network), "fuse": fuse,
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        run, at = None, Progress(first)
        if folder is not None:
            place = stack.enter_context(runs.claimed(folder, resume=resume))
            settings |= {"data": digest(train.x, train.y)}
            settings |= {"validation_data": None if held_out is None else digest(held_out.x, held_out.y)}
            settings |= {"start": None if start is None else digest(*dict(tree.leaves(first.params)).values())}
            run = RunFolder(place, {**network_meta(network, train.in_shape, classes, meta), "fit": settings})
            at = _furthest(run, at) if resume else at
            if at.history and at.history[-1]["epoch"] > epochs:
                raise RunError(f"{place} has {at.history[-1]['epoch']} epochs behind it already, more than {epochs}")
        map_fn = expect_map_fn(stack.enter_context(workers))
        asked = stack.enter_context(interruptible())
        shown = stack.enter_context(display(len(train), progress))
        stack.enter_context(np.errstate(over="ignore", invalid="ignore"))  # it shows in the loss, which is checked
        if gradient is None:
            gradient = plain_gradient(network, loss, fuse=fuse)
            gradient = parallel.sharded(gradient, shard, map_fn) if shard else gradient

        def validated(state: TrainState) -> Evaluation:
            assert held_out is not None
            return evaluate(
                network,
                *averaged_values(average, state),
                held_out,
                loss=loss,
                metrics=metrics,
                map_fn=map_fn,
                fuse=fuse,
            )

        def fitted(state: TrainState, best_epoch: int | None = None) -> Fitted:
            model = Model(
                network, *averaged_values(average, state), in_shape=train.in_shape, classes=classes, meta=meta
            )
            return Fitted(state, at.history, model, best_epoch)

        kept = _kept(run, at, first) if patience is not None else at.state  # after the best epoch so far
        step = train_step(network, loss, optimizer, gradient)
        stream = epoch_stream(
            step if average is None else average.step(step), at.state, train, fold_in(key(seed), "batches"),
            count=epochs, batch_size=batch_size, drop_last=drop_last, transform=transform, totals=at.totals,
            validate=None if held_out is None else validated, stop=asked, display=shown,
        )  # fmt: skip
        for epoch in () if _has_waited(at.history, patience) else stream:
            at = at.after(epoch)
            if epoch.item is not None and patience is not None and _best(at.history) == at.history[-1]["epoch"]:
                kept = epoch.state
            if run is not None:
                try:
                    saved = run.save_interrupted(at) if epoch.item is None else run.save_epoch(at)
                except OSError as error:
                    error.add_note(f"the checkpoints in {run.path} from before are whole; go on with resume=True")
                    raise
            if number := asked():
                where = f"everything is in {saved}; go on with resume=True" if run else "it is in this error's `fitted`"
                raise InterruptedFit(f"interrupted after step {at.state.step}; {where}", fitted(at.state), number)
            if _has_waited(at.history, patience):
                break
        if patience is None or not at.history:
            return fitted(at.state)
        best = _best(at.history)
        return fitted(at.state if best == at.history[-1]["epoch"] else kept, best)


def _splits(data: Any, validation: Any, patience: int | None) -> tuple[Split, Split | None, tuple[str, ...]]:
    """The training split, what is evaluated after each epoch, and the classes' names."""
    train, test, classes = (data.train, data.test, data.classes) if isinstance(data, Dataset) else (data, None, ())
    train = as_split(train, "data", "a Dataset, a Split, or a pair of arrays (x, y)")
    if validation is None:
        if patience is not None:
            raise ValueError("patience needs a validation split of its own, as nothing is chosen by the test split")
        if test is not None and not len(test):
            raise ValueError("the data's test split is empty, so nothing can be evaluated; give fit its .train alone")
        return train, test, classes
    if isinstance(validation, (int, np.integer)):
        count = integer("validation", validation, least=1)
        if count >= len(train):
            raise ValueError(f"validation {count} leaves none of {len(train)} inputs to train on")
        return *train.hold_out(count), classes
    held_out = as_split(validation, "validation", "a Split, a pair of arrays (x, y), or how many inputs to hold out")
    if not len(held_out):
        raise ValueError("validation is at least one input, got an empty split")
    for what, ours, theirs in (
        ("inputs of another shape", train.in_shape, held_out.in_shape),
        (
            "targets of another kind",
            (train.has_classes, train.y.shape[1:]),
            (held_out.has_classes, held_out.y.shape[1:]),
        ),
    ):
        if ours != theirs:
            raise ValueError(f"validation has {what} than the data: {held_out!r}, and {train!r}")
    return train, held_out, classes


def _first_state(
    start: Model | TrainState, first: TrainState, optimizer: Transform, average: Averaging | None
) -> TrainState:
    """The state to go on from; `first` is the one without a start."""
    if not isinstance(start, (Model, TrainState)):
        advice = "; take its .model or .state" if isinstance(start, Fitted) else ""
        raise TypeError(f"start is a Model or a TrainState, got {told(start)}{advice}")
    state = start.layer_state if isinstance(start, TrainState) else start.state
    _expect_like("parameters", start.params, first.params)
    _expect_like("state", state, first.layer_state)
    if isinstance(start, TrainState):
        _expect_like("optimizer's state", start.opt_state, first.opt_state)
        return start
    own = attrs.evolve(first, params=start.params, layer_state=state, opt_state=optimizer.init(start.params))
    return begun(average, own)


def _expect_like(what: str, theirs: tree.Tree, ours: tree.Tree) -> None:
    """Raise ValueError, with every path, unless a start's tree has the paths and shapes that the network has."""
    different = differences(theirs, ours)
    if different:
        advice = "; fcnn.tree.set_at puts what is new into what is old" if what == "parameters" else ""
        raise ValueError(f"the start's {what} are not the network's{advice}:\n  " + "\n  ".join(different))


def _shard_size(shard_size: int | None, state: TrainState) -> int:
    if shard_size is None:
        return 0 if state.layer_state else _SHARD
    return integer("shard_size", shard_size, least=0)


def _workers(workers: Any) -> contextlib.AbstractContextManager[parallel.MapFn]:
    """What maps shards, once it is entered."""
    if workers is None:
        return parallel.threads(cores())
    if isinstance(workers, (int, float, np.integer)):
        return parallel.threads(integer("workers", workers, least=1))
    kind: Any = contextlib.AbstractContextManager
    return instance("workers", workers, kind, "a number of threads, or what maps, such as parallel.processes(2)")


def _text(value: Any) -> str:
    """A value as a checkpoint keeps it: how it prints, without where in memory it is."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _furthest(run: RunFolder, start: Progress) -> Progress:
    """How far the run in the folder has come, if it is one with the same settings; the start if there is none."""
    if not runs.has_checkpoint(run.path):
        return start
    path, meta = runs.furthest(run.path)
    settings = meta.get("fit")
    # A run from before there were averages had none.
    theirs = {"average": "None", **(settings if isinstance(settings, dict) else {}), "network": meta.get("network")}
    mine = {**run.meta["fit"], "network": run.meta["network"]}
    different = [name for name in mine if mine[name] != theirs.get(name)]
    if different:
        lines = [f"{name}: {theirs.get(name)!r}, now {mine[name]!r}" for name in different if name != "network"]
        lines += ["network: another one"] if "network" in different else []
        raise RunError(
            f"{run.path} is a run with other settings:\n  " + "\n  ".join([*lines, "take those, or another folder"])
        )
    at = runs.progress_of(path, meta, start.state)
    if mine["validation"] != "None" and any(item["validation_loss"] is None for item in at.history):
        raise RunError(f"{path}: its history was changed, an epoch has no validation loss; use an earlier checkpoint")
    run.write_history(at.history)  # a run that was killed may have left it an epoch short
    return at


def _best(history: History) -> int:
    """The number of the epoch with the least validation loss, the first of several."""
    return int(min(history, key=lambda item: item["validation_loss"])["epoch"])


def _has_waited(history: History, patience: int | None) -> bool:
    """Whether the validation loss has not become less for `patience` epochs."""
    return patience is not None and bool(history) and history[-1]["epoch"] - _best(history) >= patience


def _kept(run: RunFolder | None, at: Progress, first: TrainState) -> TrainState:
    """The state after the best epoch of a run that goes on."""
    within = at.totals.images > 0  # an epoch that was interrupted
    if run is None or not at.history or (_best(at.history) == at.history[-1]["epoch"] and not within):
        return at.state
    path = run.epoch_file(_best(at.history))
    try:
        return load(path, like=first)
    except (CheckpointError, OSError) as error:
        raise RunError(
            f"{path} is needed, as the best epoch so far is {_best(at.history)}, and it can't be read ({error}); "
            "leave out patience, or start again in another folder"
        ) from error
