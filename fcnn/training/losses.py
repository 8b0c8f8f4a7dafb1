"""Losses: `loss(outputs, targets) -> (value, d_outputs)`, the value a Python float, the mean over the batch.

A loss is any such function. Those made here also print as the call that made them.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from fcnn.training.arguments import measured
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import array, floats, function, number, told
from fcnn.values.configuration import prints_as_call

Loss: TypeAlias = Callable[[Array, Any], tuple[float, Array]]


@prints_as_call
def softmax_cross_entropy(label_smoothing: float = 0.0) -> Loss:
    """Cross-entropy of softmax(logits) against integer labels, the mean over the batch.

        value     = -mean over n of  sum over k of  q[n, k] * log softmax(logits[n])[k]
        d_logits  = (softmax(logits) - q) / N

    with q = (1 - s) * onehot(label) + s / K for label smoothing s (C. Szegedy et al., CVPR 2016, section 7).

    The loss takes logits (N, K) and labels (N,), integers in 0 … K - 1, and raises ValueError for others. It is right
    for any finite logits; a value is infinite only where a float64 can't hold the sum over the batch.

    >>> value, d_logits = softmax_cross_entropy()(np.zeros((1, 2)), np.array([0]))
    >>> round(value, 6), d_logits
    (0.693147, array([[-0.5,  0.5]]))
    """
    number("label_smoothing", label_smoothing, "[0, 1)")

    def loss(logits: Array, labels: Array) -> tuple[float, Array]:
        logits = floats("softmax_cross_entropy's logits", logits)
        labels = _check_labels(logits, array("softmax_cross_entropy's labels", labels, "integers (N,)"))
        n, classes = logits.shape
        with np.errstate(over="ignore"):  # a difference beyond all numbers is one of probability 0
            shifted = logits - logits.max(axis=1, keepdims=True)
        d_logits = np.exp(shifted)
        total = d_logits.sum(axis=1, keepdims=True)
        rows = np.arange(n)
        log_total = np.log(total)[:, 0]
        d_logits /= total
        d_logits[rows, labels] -= 1 - label_smoothing
        if label_smoothing:
            d_logits -= label_smoothing / classes
        d_logits *= 1 / n
        with np.errstate(over="ignore"):
            value = np.add.reduce(log_total - (1 - label_smoothing) * shifted[rows, labels]) / n
            if label_smoothing:
                value -= label_smoothing / classes * shifted.sum(axis=1).mean()
        if not np.isfinite(value) and logits.dtype == np.float32:
            value = loss(logits.astype(np.float64), labels)[0]
        return float(value), frozen(d_logits)

    return loss


@prints_as_call
def mean_squared_error() -> Loss:
    """The mean over all numbers of (outputs - targets)²; d_outputs = 2 (outputs - targets) / outputs.size.

    Outputs and targets have one shape, any; others raise ValueError. The value of float32 outputs is finite for all
    finite ones; that of float64 outputs is infinite where their squares are, beyond 1e154.

    >>> mean_squared_error()(np.array([[1.0, 3.0]]), np.array([[0.0, 0.0]]))
    (5.0, array([[1., 3.]]))
    """

    def loss(outputs: Array, targets: Array) -> tuple[float, Array]:
        outputs = floats("mean_squared_error's outputs", outputs)
        targets = array("mean_squared_error's targets", targets, "real numbers of the outputs' shape")
        if np.iscomplexobj(targets):
            raise TypeError(f"mean_squared_error's targets are real numbers, got {told(targets)}")
        if not outputs.size:
            raise ValueError("mean_squared_error got an empty batch")
        if outputs.shape != targets.shape:
            is_meant = np.squeeze(outputs).shape == np.squeeze(targets).shape
            shape = ", ".join(map(str, (-1, *outputs.shape[1:])))  # right of all targets, not of this batch only
            advice = f"; targets.reshape({shape}) has it" if is_meant else ""
            raise ValueError(
                f"mean_squared_error expects targets of shape {outputs.shape}, got {targets.shape}{advice}"
            )
        with np.errstate(over="ignore"):
            difference = outputs - targets.astype(outputs.dtype, copy=False)
            value = float((difference * difference).mean())
            if not np.isfinite(value) and outputs.dtype == np.float32:
                value, wide = loss(outputs.astype(np.float64), targets)
                return value, frozen(wide.astype(np.float32))
        difference *= 2 / outputs.size
        return value, frozen(difference)

    return loss


def expect_loss(name: str, value: object) -> Loss:
    """`value`, if it can be a loss."""
    return function(name, value, "a function (outputs, targets), such as fcnn.softmax_cross_entropy() gives")


def loss_of(loss: Loss, outputs: Array, targets: Any) -> tuple[float, Array]:
    """What a loss says, in the outputs' dtype; anybody's function can be one, so it is looked at.

    Raises TypeError or ValueError unless it is a number and a gradient of the outputs' shape.
    """
    found = loss(outputs, targets)
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise TypeError(f"a loss gives a pair (value, d_outputs), {told(loss)} gave {told(found)}")
    value, d_outputs = found
    value, d_outputs = measured("a loss's value is", value), floats("a loss's d_outputs", d_outputs)
    if d_outputs.shape != outputs.shape:
        raise ValueError(
            f"a loss's d_outputs has the outputs' shape {outputs.shape}, {told(loss)} gave {d_outputs.shape}"
        )
    return value, d_outputs.astype(outputs.dtype, copy=False)


def _check_labels(logits: Array, labels: Array) -> Array:
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            "softmax_cross_entropy expects logits (N, K) and integer labels (N,), "
            f"got {logits.shape} and {labels.dtype} {labels.shape}{_how_to_make_labels(logits, labels)}"
        )
    if not labels.size:
        raise ValueError("softmax_cross_entropy got an empty batch")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"softmax_cross_entropy expects labels 0 to {logits.shape[1] - 1} for logits {logits.shape}, "
            f"got {labels.min()} to {labels.max()}"
        )
    return labels


def _how_to_make_labels(logits: Array, labels: Array) -> str:
    """Advice that is right for these labels, or none."""
    if logits.ndim != 2 or not labels.size or labels.shape[:1] != logits.shape[:1]:
        return ""
    if labels.shape == logits.shape and logits.shape[1] > 1:
        is_one_hot = np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()
        return "; rows with one 1 each (one-hot) become labels with labels.argmax(axis=1)" if is_one_hot else ""
    if labels.size != len(logits) or labels.dtype.kind not in "biuf":
        return ""
    flat = "" if labels.ndim == 1 else ".reshape(-1)"
    if labels.dtype.kind in "iu":
        return f"; labels{flat} are such"
    if logits.shape[1] == 1:
        return "; for numbers there is fcnn.mean_squared_error()"
    is_whole = np.isin(labels, np.arange(logits.shape[1])).all()
    return f"; labels{flat}.astype(np.int64) are such" if is_whole else ""
