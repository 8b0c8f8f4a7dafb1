"""Every derivative in fcnn against central differences."""

from typing import Any

import numpy as np

import fcnn
from study.experiment.cells import GradientChecks


def run_gradient_checks(cell: GradientChecks) -> dict[str, Any]:
    """The worst relative error of every layer, combinator and loss, in training and in evaluation mode."""
    key = fcnn.key(cell.seed)
    rows = []
    for name, (layer, in_shape) in _layers().items():
        train, evaluation = (fcnn.gradcheck(layer, in_shape, train=train, key=key) for train in (True, False))
        errors = {"train": train.worst.error, "eval": evaluation.worst.error}
        rows.append({"name": name, **errors, "comparisons": len(evaluation.checks)})
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


def _layers() -> dict[str, tuple[fcnn.Layer, tuple[int, ...]]]:
    """What is checked: a layer and the shape of its input."""
    same = fcnn.conv2d(3, 3, padding=1)
    return {
        "conv2d": (same, (2, 6, 6)),
        "conv2d, stride 2": (fcnn.conv2d(3, 3, stride=2), (2, 7, 7)),
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
        "residual": (fcnn.residual(fcnn.serial(same, fcnn.batch_norm(), fcnn.relu())), (3, 5, 5)),
        "branch, concat": (fcnn.branch(merge="concat", a=fcnn.conv2d(2, 1), b=same), (2, 5, 5)),
        "LeNet-5": (fcnn.lenet5(), (1, 28, 28)),
        "LeNet-5 with batch norm and dropout": (fcnn.lenet5(batch_norm=True, dropout=0.25), (1, 28, 28)),
    }
