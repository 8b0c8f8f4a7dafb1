"""The study's experiments as cells: values that say all that a result depends on, and pure functions of them.

A cell can be run in any process, by any `concurrent.futures` executor, in any order. Both frameworks see the same
images in the same batches; each draws its weights with its own generator, from the same distribution.
"""

import functools
import hashlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np

import fcnn
from fcnn import parallel

Framework = Literal["fcnn", "pytorch"]
INITIALIZERS = {
    "he": (fcnn.he(), fcnn.zeros()),
    "xavier": (fcnn.xavier(), fcnn.zeros()),
    "kaiming_uniform": (fcnn.kaiming_uniform(), fcnn.kaiming_uniform()),
}
SHARD_SIZE = 64


@attrs.frozen(kw_only=True)
class Training:
    """One LeNet-5 trained and tested: everything that its accuracy depends on, and on how many threads it runs."""

    framework: Framework = "fcnn"
    dataset: str = "mnist"
    train_size: int = 60_000
    init: str = "xavier"
    batch_norm: bool = False
    dropout: float = 0.0
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = 1e-3
    batch_size: int = 128
    epochs: int = 5
    seed: int = 0
    threads: int = 1
    detail: bool = False  # keep predictions, filters and feature maps for the figures


@attrs.frozen(kw_only=True)
class Parting:
    """Both frameworks from the same weights on the same batches for one epoch: how far do they part?"""

    dataset: str = "mnist"
    train_size: int = 60_000
    dtype: Literal["float32", "float64"] = "float32"
    batch_size: int = 128
    lr: float = 1e-3
    seed: int = 0


@attrs.frozen(kw_only=True)
class GradientChecks:
    """Every layer against central differences in float64, in both modes."""

    seed: int = 0


Cell = Training | Parting | GradientChecks
Arrays = dict[str, np.ndarray[Any, Any]]


def key_of(cell: Cell) -> str:
    """A file name for a cell's result: the same for equal cells, different for different ones."""
    text = json.dumps([type(cell).__name__, attrs.asdict(cell)], sort_keys=True)
    return f"{type(cell).__name__.lower()}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def run(cell: Cell) -> tuple[dict[str, Any], Arrays]:
    """A cell's numbers, ready for JSON, and its arrays."""
    if isinstance(cell, Training):
        return run_training(cell)
    if isinstance(cell, Parting):
        from study.experiment.parting import run_parting

        return run_parting(cell), {}
    return run_gradient_checks(cell), {}


def run_training(cell: Training) -> tuple[dict[str, Any], Arrays]:
    """Train, evaluate after each epoch, test at the end."""
    if cell.framework == "pytorch":
        from study.experiment.torch_lenet import train_pytorch as train
    else:
        train = train_fcnn
    data = dataset(cell.dataset, cell.train_size)
    history, outputs, arrays = train(cell, data)
    labels = data.test.y
    predictions = outputs.argmax(axis=1)
    report = fcnn.classification_report(predictions, labels, data.classes)
    seconds = sum(item["seconds"] for item in history)
    result = {
        "history": history,
        "test_accuracy": history[-1]["validation_accuracy"],
        "test_loss": history[-1]["validation_loss"],
        "macro_f1": report.macro.f1,
        "train_seconds": seconds,
        "images_per_second": cell.epochs * len(data.train) / seconds,
        "peak_memory_mib": peak_memory_mib(),
    }
    if cell.detail:
        result["report"] = attrs.asdict(report)
        result["confusion"] = fcnn.confusion_matrix(predictions, labels, len(data.classes)).tolist()
        probabilities = fcnn.ops.softmax(outputs.astype(np.float64))[0]
        arrays |= {"predictions": predictions.astype(np.int64), "confidence": probabilities.max(axis=1)}
        arrays |= {"labels": labels}
    return result, (arrays if cell.detail else {})


def train_fcnn(cell: Training, data: fcnn.Dataset) -> tuple[list[dict[str, Any]], fcnn.ops.layout.Array, Arrays]:
    """LeNet-5 in fcnn: the history, the logits of the test images after the last epoch, and arrays for figures."""
    in_shape = data.train.x.shape[1:]
    weights, biases = INITIALIZERS[cell.init]
    model = fcnn.lenet5(
        in_shape, len(data.classes), batch_norm=cell.batch_norm, dropout=cell.dropout, weights=weights, biases=biases
    )
    loss = fcnn.softmax_cross_entropy()
    optimizer = fcnn.adam(cell.lr) if cell.optimizer == "adam" else fcnn.sgd(cell.lr, momentum=0.9)
    state = fcnn.init_state(model, optimizer, fcnn.fold_in(fcnn.key(cell.seed), "model"), in_shape)
    history: list[dict[str, Any]] = []
    filters = [state.params["conv1"]["w"]]
    with parallel.threads(cell.threads) as map_fn:
        gradient = fcnn.gradient(model, loss)
        if not cell.batch_norm:  # batch norm sees whole batches, as in PyTorch
            gradient = parallel.sharded(gradient, SHARD_SIZE, map_fn)
        step = fcnn.train_step(model, loss, optimizer, gradient)
        for epoch in range(cell.epochs):
            began = time.perf_counter()
            state, records = fcnn.fold(step, state, epoch_batches(cell, data, epoch))
            seconds = time.perf_counter() - began
            found = fcnn.evaluate(model, state.params, state.layer_state, data.test, map_fn=map_fn)
            total = sum(record.loss * record.size for record in records)
            correct = sum(record.correct or 0 for record in records)
            history.append(epoch_item(epoch, total, correct, len(data.train), found.loss, found.accuracy, seconds))
            filters.append(state.params["conv1"]["w"])
    arrays: Arrays = {"filters": np.stack(filters)}
    if cell.detail:
        arrays |= feature_maps(model, state, data.test)
    return history, found.outputs, arrays


def feature_maps(model: fcnn.Layer, state: fcnn.TrainState, test: fcnn.Split) -> Arrays:
    """One digit on its way through the network: the output of every layer up to `flatten`, and the digit."""
    x = fcnn.data.as_batch(test.x[:1], test.y[:1]).x
    maps: Arrays = {"digit": test.x[0]}
    for name, layer in model.children.items():
        if name == "flatten":
            break
        empty = fcnn.tree.EMPTY
        x = layer.apply(state.params.get(name, empty), state.layer_state.get(name, empty), x, train=False).y
        maps[f"map_{name}"] = np.ascontiguousarray(x[0])
    return maps


def epoch_batches(cell: Training | Parting, data: fcnn.Dataset, epoch: int) -> Any:
    """The batches of one epoch, the same for both frameworks."""
    steps = fcnn.data.steps_per_epoch(len(data.train), cell.batch_size)
    key = fcnn.fold_in(fcnn.key(cell.seed), "batches")
    return fcnn.batches(data.train, cell.batch_size, key, epochs=epoch + 1, start_step=epoch * steps)


def epoch_item(
    epoch: int, loss: float, correct: int, count: int, test_loss: float, test_accuracy: float, seconds: float
) -> dict[str, Any]:
    """An epoch's numbers; training loss and accuracy are means over the epoch, while the weights change."""
    return {
        "epoch": epoch + 1,
        "train_loss": loss / count,
        "train_accuracy": correct / count,
        "validation_loss": test_loss,
        "validation_accuracy": test_accuracy,
        "seconds": seconds,
    }


def run_gradient_checks(cell: GradientChecks) -> dict[str, Any]:
    """The worst relative error of every layer, combinator and loss, in training and in evaluation mode."""
    conv = functools.partial(fcnn.conv2d, 3, 3)
    layers: dict[str, tuple[fcnn.Layer, tuple[int, ...]]] = {
        "conv2d": (conv(padding=1), (2, 6, 6)),
        "conv2d, stride 2": (conv(stride=2), (2, 7, 7)),
        "dense": (fcnn.dense(4), (6,)),
        "batch_norm, features": (fcnn.batch_norm(), (5,)),
        "batch_norm, images": (fcnn.batch_norm(), (3, 5, 5)),
        "dropout": (fcnn.dropout(0.4), (12,)),
        "max_pool2d": (fcnn.max_pool2d(2), (2, 6, 6)),
        "avg_pool2d": (fcnn.avg_pool2d(3, stride=2, padding=1), (2, 6, 6)),
        "global_avg_pool2d": (fcnn.global_avg_pool2d(), (3, 4, 4)),
        "flatten": (fcnn.flatten(), (2, 3, 4)),
        "relu": (fcnn.relu(), (12,)),
        "leaky_relu": (fcnn.leaky_relu(), (12,)),
        "sigmoid": (fcnn.sigmoid(), (12,)),
        "tanh": (fcnn.tanh(), (12,)),
        "gelu": (fcnn.gelu(), (12,)),
        "softmax": (fcnn.softmax(), (6,)),
        "residual": (fcnn.residual(fcnn.serial(conv(padding=1), fcnn.batch_norm(), fcnn.relu())), (3, 5, 5)),
        "branch, concat": (fcnn.branch(merge="concat", a=fcnn.conv2d(2, 1), b=conv(padding=1)), (2, 5, 5)),
        "LeNet-5": (fcnn.lenet5(), (1, 28, 28)),
        "LeNet-5 with batch norm and dropout": (fcnn.lenet5(batch_norm=True, dropout=0.25), (1, 28, 28)),
    }
    key = fcnn.key(cell.seed)
    rows = []
    for name, (layer, in_shape) in layers.items():
        errors = {}
        for mode, train in (("train", True), ("eval", False)):
            report = fcnn.gradcheck(layer, in_shape, train=train, key=key)
            errors[mode] = report.worst.error
            comparisons = len(report.checks)
        rows.append({"name": name, **errors, "comparisons": comparisons})
    logits = fcnn.generator(key).standard_normal((4, 5))
    labels = np.array([0, 3, 4, 1])
    for name, loss, targets in (
        ("softmax_cross_entropy", fcnn.softmax_cross_entropy(), labels),
        ("softmax_cross_entropy, smoothing 0.1", fcnn.softmax_cross_entropy(0.1), labels),
        ("mean_squared_error", fcnn.mean_squared_error(), np.zeros((4, 5))),
    ):
        report = fcnn.gradcheck_loss(loss, logits, targets, key=key)
        rows.append({"name": name, "train": report.worst.error, "eval": None, "comparisons": len(report.checks)})
    return {"rows": rows}


@functools.lru_cache(maxsize=2)
def dataset(name: str, train_size: int) -> fcnn.Dataset:
    """A data set with its first `train_size` training images; loaded once a process."""
    data = fcnn.data.load(name)
    return fcnn.Dataset(data.train.take(min(train_size, len(data.train))), data.test, data.name, data.classes)


def peak_memory_mib() -> float:
    """The greatest resident size of this process so far."""
    try:
        # Not ru_maxrss: on Linux that begins with what the parent process had.
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**10
    except (OSError, IndexError):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
