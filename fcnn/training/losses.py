"""Losses: `loss(outputs, targets) -> (value, d_outputs)`, the value a Python float, the mean over the batch.

A loss is any such function. Those made here also print as the call that made them. What a loss is, and what it may tell
of itself besides, is in `fcnn.training.loss`. `fit` and `evaluate` give it targets as a `Split` has them, (N,) or
(N, K); a batch of one's own, for `fcnn.train_step`, holds any that the loss takes, such as maps (N, K, H, W).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fcnn.training.loss import Loss, WeightedLoss
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import array, floats, integer, number, single, told
from fcnn.values.configuration import prints_as_call

_Each = Callable[[Array, Array], tuple[Array, Array]]  # (outputs, targets) -> a loss for each number, and its slope


@prints_as_call
def softmax_cross_entropy(
    label_smoothing: float = 0.0, class_weights: Sequence[float] | Array | None = None, ignored: int | None = None
) -> Loss:
    """Cross-entropy of softmax(logits) against integer labels, the mean over the batch.

        value     = -sum over n, k of  q[n, k] * log softmax(logits[n])[k]  /  W
        d_logits  = (Q[n] * softmax(logits) - q) / W        with Q[n] = sum over k of q[n, k]

    with q = v[k] * ((1 - s) * onehot(label) + s / K) for label smoothing s (C. Szegedy et al., CVPR 2016, section 7)
    and a weight v[k] for each class, and W = sum over n of v[label[n]]. Without weights v is 1, Q is 1 and W is N. For
    logits (N, K) and integer labels all is as in PyTorch's `CrossEntropyLoss(weight, ignore_index=…,
    label_smoothing=…)`, which also takes labels of pixels (N, H, W) and probabilities (N, K): this doesn't. Where a
    recipe sums over N rows in place of the mean, rates times N and coefficients of L2 divided by N make the same steps
    of `sgd`.

    Args:
        label_smoothing: s, 0 to less than 1.
        class_weights: v, a number above 0 for each class, in a list or an array, such as one over how often it occurs;
            only their ratios matter. None: all alike.
        ignored: a label that counts for nothing, neither in the mean nor in an accuracy: -1, say, or 255 in a `Split`,
            whose labels are from 0 on. Where all labels are it, value and gradient are 0, so that a batch of which
            nothing is known trains nothing (PyTorch gives NaN).

    The loss takes logits (N, K) and labels (N,), integers in 0 … K - 1, and raises ValueError for others. It is right
    for any finite logits; a value is infinite only where a float64 can't hold the sum over the batch.

    >>> value, d_logits = softmax_cross_entropy()(np.zeros((1, 2)), np.array([0]))
    >>> round(value, 6), d_logits
    (0.693147, array([[-0.5,  0.5]]))
    >>> softmax_cross_entropy(class_weights=[1, 3], ignored=-1)(np.zeros((3, 2)), np.array([0, 1, -1]))[1]
    array([[-0.125,  0.125],
           [ 0.375, -0.375],
           [ 0.   ,  0.   ]])

    Of pixels it is that of as many rows. This loss is for `fcnn.train_step`, as a `Split` has no labels of pixels:

    >>> def of_pixels(logits, labels):  # (N, K, H, W) and (N, H, W)
    ...     rows = logits.transpose(0, 2, 3, 1)
    ...     value, d_rows = softmax_cross_entropy()(rows.reshape(-1, rows.shape[3]), labels.reshape(-1))
    ...     return value, d_rows.reshape(rows.shape).transpose(0, 3, 1, 2)
    >>> of_pixels(np.zeros((1, 2, 4, 4)), np.zeros((1, 4, 4), int))[1].shape
    (1, 2, 4, 4)
    """
    number("label_smoothing", label_smoothing, "[0, 1)")
    if ignored is not None:
        ignored = integer("ignored", ignored, least=-(1 << 63), most=(1 << 63) - 1)
    weights = None if class_weights is None else _numbers("class_weights", class_weights)
    if weights is not None:
        weights = weights / weights.max()  # so that no product with them overflows

    def mean(logits: Array, labels: Array) -> tuple[float, Array]:
        """The loss of labels all of which count."""
        n, classes = logits.shape
        rows = np.arange(n)
        with np.errstate(over="ignore"):  # a difference beyond all numbers is one of probability 0
            shifted = logits - logits.max(axis=1, keepdims=True)
        d_logits = np.exp(shifted)
        total = d_logits.sum(axis=1, keepdims=True)
        log_total = np.log(total)[:, 0]
        d_logits /= total
        whole: float = n
        right: Any = 1 - label_smoothing  # what a label's own class has of q,
        others: Any = label_smoothing / classes  # and what every class has
        if weights is not None:
            whole = float(weights[labels].sum())
            right = right * weights[labels].astype(logits.dtype)
            others = others * weights.astype(logits.dtype)
            q = right + others.sum()
            d_logits *= q[:, None]
            log_total *= q
        d_logits[rows, labels] -= right
        if label_smoothing:
            d_logits -= others
        d_logits *= 1 / whole
        with np.errstate(over="ignore"):
            value = np.add.reduce(log_total - right * shifted[rows, labels]) / whole
            if label_smoothing and weights is None:
                value -= others * shifted.sum(axis=1).mean()
            elif label_smoothing:
                value -= (others * shifted).sum() / whole
        if not np.isfinite(value) and logits.dtype == np.float32:
            value = mean(logits.astype(np.float64), labels)[0]
        return float(value), d_logits

    def loss(logits: Array, labels: Array) -> tuple[float, Array]:
        logits = floats("softmax_cross_entropy's logits", logits)
        labels = array("softmax_cross_entropy's labels", labels, "integers (N,)")
        _check_labels(logits, labels, ignored)
        if weights is not None and len(weights) != logits.shape[1]:
            raise ValueError(f"softmax_cross_entropy has {len(weights)} class_weights, got logits {logits.shape}")
        if ignored is None or (counts := labels != ignored).all():
            value, d_logits = mean(logits, labels)
        else:
            value, d_logits = 0.0, np.zeros_like(logits)
            if counts.any():
                value, d_logits[counts] = mean(logits[counts], labels[counts])
        return value, frozen(d_logits)

    def weights_of_rows(labels: Array) -> Array:
        labels = np.asarray(labels)
        counts = np.full(labels.shape, True) if ignored is None else np.asarray(labels != ignored)
        found = counts.astype(np.float64)
        if weights is not None:
            found[counts] = weights[labels[counts]]
        return found

    return loss if weights is None and ignored is None else WeightedLoss(loss, weights_of_rows)


@prints_as_call
def binary_cross_entropy(pos_weight: float | Sequence[float] | Array | None = None) -> Loss:
    """Cross-entropy of sigmoid(logits) against targets from 0 to 1, the mean over all numbers of

        -(w t log sigmoid(x) + (1 - t) log(1 - sigmoid(x)))        with the slope  (1 - t) sigmoid(x) - w t sigmoid(-x)

    for a logit x and its target t: 1 where the label is right, 0 where it is not, or how likely it is. Right for any
    finite logit, as no exponential of more than 0 is taken; as PyTorch's `BCEWithLogitsLoss`.

    Args:
        pos_weight: w, what a target of 1 counts more than one of 0, such as how many times rarer it is; one number, or
            one for each of D labels. The mean is over numbers all the same, not over the sum of weights.

    The loss takes logits and targets of one shape, such as (N, D) for D labels that an input may have at once; and of
    one output, (N, 1), also labels (N,). Others raise ValueError, and so do targets beyond 0 to 1.

    >>> value, d_logits = binary_cross_entropy()(np.array([[0.0], [0.0]]), np.array([0, 1]))
    >>> round(value, 6), d_logits.tolist()
    (0.693147, [[0.25], [-0.25]])
    """
    if pos_weight is None:
        weights = None
    else:
        is_one = not isinstance(pos_weight, (tuple, list, np.ndarray))
        weights = (
            np.array([single("pos_weight", pos_weight, "(0, inf)")]) if is_one else _numbers("pos_weight", pos_weight)
        )

    def each(logits: Array, targets: Array) -> tuple[Array, Array]:
        if targets.min() < 0 or not targets.max() <= 1:
            raise ValueError(
                f"binary_cross_entropy expects targets from 0 to 1, got {targets.min():g} to {targets.max():g}"
            )
        ones, zeros = targets, 1 - targets
        if weights is not None:
            if len(weights) > 1 and logits.shape[1:] != weights.shape:
                raise ValueError(f"binary_cross_entropy has {len(weights)} pos_weights, got logits {logits.shape}")
            ones = targets * weights.astype(logits.dtype)
        small = np.exp(-np.abs(logits))
        rest = np.log1p(small)
        values = ones * (np.maximum(-logits, 0) + rest) + zeros * (np.maximum(logits, 0) + rest)
        likely, unlikely = 1 / (1 + small), small / (1 + small)
        is_positive = logits > 0
        slopes = zeros * np.where(is_positive, likely, unlikely) - ones * np.where(is_positive, unlikely, likely)
        return values, slopes

    return _mean_over_numbers("binary_cross_entropy", each, of_one_output=True)


@prints_as_call
def mean_squared_error() -> Loss:
    """The mean over all numbers of (outputs - targets)²; d_outputs = 2 (outputs - targets) / outputs.size.

    Outputs and targets have one shape, any (in `fit` that of a `Split`'s targets); others raise ValueError. The value
    of float32 outputs is finite for all finite ones; that of float64 outputs is infinite where their squares are,
    beyond 1e154.

    >>> mean_squared_error()(np.array([[1.0, 3.0]]), np.array([[0.0, 0.0]]))
    (5.0, array([[1., 3.]]))
    """

    def each(outputs: Array, targets: Array) -> tuple[Array, Array]:
        difference = outputs - targets
        return difference * difference, 2 * difference

    return _mean_over_numbers("mean_squared_error", each)


@prints_as_call
def mean_absolute_error() -> Loss:
    """The mean over all numbers of |outputs - targets|; d_outputs = sign(outputs - targets) / outputs.size, 0 at 0.

    Outputs and targets have one shape, any (in `fit` that of a `Split`'s targets); others raise ValueError. One target
    that is far off counts no more than its distance, where in `mean_squared_error` it is squared.

    >>> mean_absolute_error()(np.array([[1.0, -3.0]]), np.array([[0.0, 0.0]]))
    (2.0, array([[ 0.5, -0.5]]))
    """

    def each(outputs: Array, targets: Array) -> tuple[Array, Array]:
        difference = outputs - targets
        return np.abs(difference), np.sign(difference)

    return _mean_over_numbers("mean_absolute_error", each)


@prints_as_call
def huber(delta: float = 1.0) -> Loss:
    """Squares near 0 and distances beyond (P. Huber, Annals of Mathematical Statistics 35, 1964), the mean over all
    numbers d = outputs - targets of

        d² / 2  where |d| <= delta,  else  delta (|d| - delta / 2)        with the slope d, held to -delta … delta

    as PyTorch's `HuberLoss`. Outputs and targets have one shape, any (in `fit` that of a `Split`'s targets); others
    raise ValueError.

    >>> huber(2.0)(np.array([1.0, -4.0]), np.array([0.0, 0.0]))
    (3.25, array([ 0.5, -1. ]))
    """
    delta = single("delta", delta, "(0, inf)")

    def each(outputs: Array, targets: Array) -> tuple[Array, Array]:
        difference = outputs - targets
        slopes = np.clip(difference, -delta, delta)
        return slopes * (difference - slopes / 2), slopes

    return _mean_over_numbers("huber", each)


def _mean_over_numbers(name: str, each: _Each, *, of_one_output: bool = False) -> Loss:
    """The loss that is the mean of what each number costs; of float32 finite where a float64 is.

    of_one_output: whether targets (N,) are also taken for outputs (N, 1).
    """

    def loss(outputs: Array, targets: Array) -> tuple[float, Array]:
        outputs = floats(f"{name}'s outputs", outputs)
        targets = array(f"{name}'s targets", targets, "real numbers of the outputs' shape")
        if np.iscomplexobj(targets):
            raise TypeError(f"{name}'s targets are real numbers, got {told(targets)}")
        if not outputs.size:
            raise ValueError(f"{name} got an empty batch")
        if of_one_output and outputs.shape == (*targets.shape, 1) and targets.ndim == 1:
            targets = targets[:, None]
        _check_shapes(name, outputs, targets)
        with np.errstate(over="ignore"):
            values, slopes = each(outputs, targets.astype(outputs.dtype, copy=False))
            value = float(values.mean())
            if not np.isfinite(value) and outputs.dtype == np.float32:
                value, wide = loss(outputs.astype(np.float64), targets)
                return value, frozen(wide.astype(np.float32))
        slopes *= 1 / outputs.size
        return value, frozen(slopes)

    return loss


def _check_shapes(name: str, outputs: Array, targets: Array) -> None:
    if outputs.shape != targets.shape:
        is_meant = np.squeeze(outputs).shape == np.squeeze(targets).shape
        shape = ", ".join(map(str, (-1, *outputs.shape[1:])))  # right of all targets, not of this batch only
        advice = f"; targets.reshape({shape}) has it" if is_meant else ""
        raise ValueError(f"{name} expects targets of shape {outputs.shape}, got {targets.shape}{advice}")


def _numbers(name: str, values: object) -> Array:
    """Numbers above 0 that are given as a list, or as an array of one axis."""
    if isinstance(values, np.ndarray) and values.ndim == 1 and not isinstance(values, np.ma.MaskedArray):
        values = values.tolist()
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"{name} is a list of numbers, got {told(values)}")
    if not values:
        raise ValueError(f"{name} is a list of numbers, got none")
    return np.array([single(f"{name}[{place}]", value, "(0, inf)") for place, value in enumerate(values)])


def _check_labels(logits: Array, labels: Array, ignored: int | None) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            "softmax_cross_entropy expects logits (N, K) and integer labels (N,), "
            f"got {logits.shape} and {labels.dtype} {labels.shape}{_how_to_make_labels(logits, labels)}"
        )
    if not labels.size:
        raise ValueError("softmax_cross_entropy got an empty batch")
    known = labels if ignored is None else labels[labels != ignored]
    if known.size and (known.min() < 0 or known.max() >= logits.shape[1]):
        but = "" if ignored is None else f", or {ignored}, which is ignored,"
        is_yes_or_no = logits.shape[1] == 1 and known.min() >= 0 and known.max() <= 1
        advice = "; for a yes or no there is fcnn.binary_cross_entropy()" if is_yes_or_no else ""
        raise ValueError(
            f"softmax_cross_entropy expects labels 0 to {logits.shape[1] - 1}{but} for logits {logits.shape}, "
            f"got {known.min()} to {known.max()}{advice}"
        )


def _how_to_make_labels(logits: Array, labels: Array) -> str:
    """Advice that is right for these labels, or none."""
    if logits.ndim > 2 and labels.shape == (*logits.shape[:1], *logits.shape[2:]):
        return "; help(fcnn.softmax_cross_entropy) has a loss for labels of pixels"
    if logits.ndim != 2 or not labels.size or labels.shape[:1] != logits.shape[:1]:
        return ""
    are_yes_or_no = labels.dtype.kind in "biuf" and bool(np.isin(labels, (0, 1)).all())
    if labels.shape == logits.shape and logits.shape[1] > 1:
        several = "for several labels an input there is fcnn.binary_cross_entropy()"
        if are_yes_or_no and (labels.sum(axis=1) == 1).all():
            return f"; rows with one 1 each (one-hot) become labels with labels.argmax(axis=1), {several}"
        are_numbers = labels.dtype.kind == "f" and not ((labels >= 0) & (labels <= 1)).all()
        for_numbers = "; for numbers there is fcnn.mean_squared_error()" if are_numbers else ""
        return f"; {several}" if are_yes_or_no else for_numbers
    if logits.shape[1] == 1 and labels.size == len(logits) and are_yes_or_no:
        return "; for a yes or no there is fcnn.binary_cross_entropy()"
    if labels.size != len(logits) or labels.dtype.kind not in "biuf":
        return ""
    flat = "" if labels.ndim == 1 else ".reshape(-1)"
    if labels.dtype.kind in "iu":
        return f"; labels{flat} are such"
    if logits.shape[1] == 1:
        return "; for numbers there is fcnn.mean_squared_error()"
    is_whole = np.isin(labels, np.arange(logits.shape[1])).all()
    return f"; labels{flat}.astype(np.int64) are such" if is_whole else ""
