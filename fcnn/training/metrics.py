"""Accuracies, the confusion matrix, and the classification report as scikit-learn's users know it."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import array, floats, integer, texts, told

_MOST_CLASSES = 1 << 14  # of a confusion matrix, which then takes 2 GiB
_GREATEST = np.iinfo(np.int64).max


def accuracy(predictions: Array, labels: Array) -> float:
    """The share of predictions, (N,), that equal the labels, (N,): 0 to 1.

    >>> accuracy(np.array([1, 2, 3, 4]), np.array([1, 2, 0, 4]))
    0.75
    """
    predictions, labels = _check(predictions, labels, advise=_how_to_compare)
    return float(np.mean(predictions == labels))


def binary_accuracy(outputs: Array, targets: Array) -> float:
    """The share of labels that are right, 0 to 1, where an output above 0 says 1 and any other says 0.

    A metric for `fit` and `evaluate`, beside `binary_cross_entropy`: as there, outputs are logits. (Those of a network
    that ends in a sigmoid, which are probabilities, are to be compared with a half: give `outputs - 0.5`.)

    Args:
        outputs: logits (N, K) of K labels that an input may have at once, or of one output, (N, 1) or (N,).
        targets: 0 and 1, of the same shape; for outputs (N, 1) also (N,).

    Raises ValueError for other shapes, other targets, and where there are none.

    >>> binary_accuracy(np.array([[2.0, -1.0], [0.5, 0.5]]), np.array([[1, 0], [1, 0]]))
    0.75
    """
    outputs = floats("binary_accuracy's outputs", outputs)
    targets = array("binary_accuracy's targets", targets, "0 and 1")
    if outputs.shape == (*targets.shape, 1) and targets.ndim == 1:
        targets = targets[:, None]
    if outputs.shape != targets.shape or not targets.size:
        raise ValueError(
            "binary_accuracy expects targets of the outputs' shape, at least one, "
            f"got outputs {outputs.shape} and targets {targets.shape}"
        )
    if not np.isin(targets, (0, 1)).all():
        raise ValueError(f"binary_accuracy expects targets 0 and 1, got {targets.min():g} to {targets.max():g}")
    return float(np.mean((outputs > 0) == targets))


def confusion_matrix(predictions: Array, labels: Array, classes: int | None = None) -> Array:
    """How often each class, in rows, was taken for each class, in columns: int64 (K, K).

    K is `classes`, or one more than the greatest number seen; at most 16,384.

    >>> confusion_matrix(predictions=np.array([0, 1, 1]), labels=np.array([0, 0, 1]))
    array([[1, 1],
           [0, 1]])
    """
    predictions, labels = _check(predictions, labels)
    k = _count(predictions, labels, None if classes is None else integer("classes", classes, least=1))
    if k > _MOST_CLASSES:
        raise ValueError(
            f"confusion_matrix makes a table of at most {_MOST_CLASSES:,} classes, got {k:,}; where few of them occur, "
            "number those with np.unique(…, return_inverse=True)"
        )
    return frozen(np.bincount(labels * k + predictions, minlength=k * k).reshape(k, k).astype(np.int64, copy=False))


@attrs.frozen
class Scores:
    """Precision, recall and F1, 0 to 1, and the support: how many examples."""

    precision: float
    recall: float
    f1: float
    support: int


@attrs.frozen
class ClassificationReport:
    """Scores a class, their macro and weighted averages, and the accuracy. `str()` is scikit-learn's table."""

    classes: dict[str, Scores]
    accuracy: float
    macro: Scores
    weighted: Scores

    def __str__(self) -> str:
        width = max([len(name) for name in self.classes] + [len("weighted avg")])

        def row(name: str, scores: Scores) -> str:
            return (
                f"{name:>{width}}  {scores.precision:>9.4f} {scores.recall:>9.4f} {scores.f1:>9.4f} {scores.support:>9}"
            )

        head = f"{'':>{width}}  {'precision':>9} {'recall':>9} {'f1-score':>9} {'support':>9}"
        body = [row(name, scores) for name, scores in self.classes.items()]
        total = f"{'accuracy':>{width}}  {'':>9} {'':>9} {self.accuracy:>9.4f} {self.macro.support:>9}"
        return "\n".join([head, "", *body, "", total, row("macro avg", self.macro), row("weighted avg", self.weighted)])


def classification_report(
    predictions: Array, labels: Array, class_names: Sequence[str] | None = None
) -> ClassificationReport:
    """Precision, recall and F1 of each class. Where a number would be 0 / 0, it is 0, as in scikit-learn.

    Args:
        predictions, labels: classes, integers (N,).
        class_names: their names, in order; the numbers when None.

    >>> report = classification_report(np.array([0, 1, 1]), np.array([0, 0, 1]))
    >>> report.classes["0"]
    Scores(precision=1.0, recall=0.5, f1=0.6666666666666666, support=2)
    """
    predictions, labels = _check(predictions, labels)
    if class_names is None:
        _count(predictions, labels, None)
        # A number in between that never occurs is no class, so a great one takes no memory.
        seen, codes = np.unique(np.concatenate([predictions, labels]), return_inverse=True)
        names = list(map(str, seen))
        predictions, labels = np.split(codes.reshape(-1), 2)
    else:
        names = list(texts("class_names", class_names, "names, one for each class"))
        if len(set(names)) < len(names):
            raise ValueError(f"class_names are different names, got {told(names)}")
        _count(predictions, labels, len(names))
    right, predicted, support = (
        np.bincount(which, minlength=len(names)) for which in (labels[predictions == labels], predictions, labels)
    )
    precision, recall = _ratio(right, predicted), _ratio(right, support)
    f1 = _ratio(2 * right, predicted + support)

    def average(weights: Array) -> Scores:
        p, r, f = (float(np.average(values, weights=weights)) for values in (precision, recall, f1))
        return Scores(p, r, f, int(support.sum()))

    classes = {
        name: Scores(float(precision[k]), float(recall[k]), float(f1[k]), int(support[k]))
        for k, name in enumerate(names)
    }
    return ClassificationReport(
        classes, float(right.sum() / support.sum()), average(np.ones(len(names))), average(support)
    )


def _ratio(top: Array, bottom: Array) -> Array:
    return np.divide(top, bottom, out=np.zeros(len(top)), where=bottom > 0)


def _count(predictions: Array, labels: Array, classes: int | None) -> int:
    """How many classes there are: one more than the greatest number where `classes` doesn't say. Raises for others."""
    least, most = min(predictions.min(), labels.min()), max(predictions.max(), labels.max())
    count = int(most) + 1 if classes is None else classes
    if least < 0 or most >= count:
        raise ValueError(f"classes are 0 to {count - 1}, got {least} to {most}")
    return count


def _how_to_choose(numbers: Array, labels: Any) -> str:
    """Advice that is right for what is no class, or none."""
    are_scores = numbers.ndim == 2 and numbers.dtype.kind in "fiu" and numbers.shape[1] > 1
    return "; of scores (N, K), .argmax(axis=1) is the class" if are_scores else ""


def _how_to_compare(numbers: Array, labels: Any) -> str:
    """The same, for an accuracy: of logits, there is another."""
    advice = _how_to_choose(numbers, labels)
    try:
        binary_accuracy(numbers, labels)
    except (TypeError, ValueError):
        return advice
    another = "fcnn.binary_accuracy takes logits, of which those above 0 say 1"
    return f"{advice}; of several labels an input, {another}" if advice else f"; {another}"


def _check(
    predictions: Array, labels: Array, advise: Callable[[Array, Any], str] = _how_to_choose
) -> tuple[Array, Array]:
    found = []
    for name, value in (("predictions", predictions), ("labels", labels)):
        numbers = array(name, value, "classes, integers (N,)")
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise ValueError(f"{name} are classes, integers (N,), got {told(numbers)}{advise(numbers, labels)}")
        if numbers.dtype == np.uint64 and numbers.max(initial=0) > _GREATEST:
            raise ValueError(f"{name} are classes, numbers of at most 63 bits, got {numbers.max()}")
        found.append(numbers.astype(np.int64, copy=False))
    predictions, labels = found
    if predictions.shape != labels.shape or not labels.size:
        raise ValueError(f"as many predictions as labels, and at least one; got {predictions.size} and {labels.size}")
    return predictions, labels
