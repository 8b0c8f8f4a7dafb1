"""One training from the first weights to the tested network: the same loop for both frameworks."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import attrs
import numpy as np

import fcnn
from study.experiment import fcnn_lenet
from study.experiment.cells import Arrays, Framework, Training
from study.experiment.protocol import Array, Network, dataset, epoch_batches

WAYS: dict[Framework, str] = {"fcnn": "threads", "pytorch": "channels_last"}
"""How a framework trains on one thread."""


def opener(framework: Framework) -> Callable[[Training, fcnn.Dataset, str, int], AbstractContextManager[Network]]:
    """A framework's `opened`; PyTorch is imported only for its own."""
    if framework == "pytorch":
        from study.experiment import torch_lenet

        return torch_lenet.opened
    return fcnn_lenet.opened


def run_training(cell: Training) -> tuple[dict[str, Any], Arrays]:
    """Train, and test after the last epoch (after each one, if the cell is detailed).

    Training loss and accuracy of an epoch are means over it, while the weights change; its seconds are those of the
    training steps alone.
    """
    data = dataset(cell.dataset, cell.train_size)
    history, logits = [], np.empty(0)
    with opener(cell.framework)(cell, data, WAYS[cell.framework], 1) as network:
        state = network.start
        filters = [network.filters(state)]
        for epoch in range(1, cell.epochs + 1):
            began = time.perf_counter()
            state, records = fcnn.fold(network.step, state, epoch_batches(cell, data.train, epoch - 1))
            item = {
                "epoch": epoch,
                "train_loss": sum(record.loss * record.size for record in records) / len(data.train),
                "train_accuracy": sum(record.correct or 0 for record in records) / len(data.train),
                "seconds": time.perf_counter() - began,
            }
            if cell.detail or epoch == cell.epochs:
                logits = network.logits(state, data.test)
                item |= _tested(logits, data.test.y)
            history.append(item)
            filters.append(network.filters(state))
        maps = network.maps(state, data.test) if cell.detail else {}

    predictions, labels = logits.argmax(axis=1), data.test.y
    report = fcnn.classification_report(predictions, labels, data.classes)
    result = {
        "history": history,
        "test_accuracy": history[-1]["validation_accuracy"],
        "macro_f1": report.macro.f1,
    }
    if not cell.detail:
        return result, {}
    result["report"] = attrs.asdict(report)
    result["confusion"] = fcnn.confusion_matrix(predictions, labels, len(data.classes)).tolist()
    confidence = fcnn.ops.softmax(logits.astype(np.float64))[0].max(axis=1)
    arrays = {"predictions": predictions.astype(np.int64), "confidence": confidence, "labels": labels}
    return result, {"filters": np.stack(filters), **maps, **arrays}


def _tested(logits: Array, labels: Array) -> dict[str, float]:
    loss, _ = fcnn.softmax_cross_entropy()(logits, labels)
    return {"validation_loss": loss, "validation_accuracy": float(np.mean(logits.argmax(axis=1) == labels))}
