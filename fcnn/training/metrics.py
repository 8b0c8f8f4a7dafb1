"""Accuracy, the confusion matrix, and the classification report as scikit-learn's users know it."""

from collections.abc import Sequence

import attrs
import numpy as np

from fcnn.values.arrays import Array, frozen


def accuracy(predictions: Array, labels: Array) -> float:
    """The share of predictions, (N,), that equal the labels, (N,): 0 to 1.

    >>> accuracy(np.array([1, 2, 3, 4]), np.array([1, 2, 0, 4]))
    0.75
    """
    predictions, labels = _check(predictions, labels)
    return float(np.mean(predictions == labels))


def confusion_matrix(predictions: Array, labels: Array, classes: int | None = None) -> Array:
    """How often each class, in rows, was taken for each class, in columns: int64 (K, K).

    K is `classes`, or one more than the greatest number seen.

    >>> confusion_matrix(predictions=np.array([0, 1, 1]), labels=np.array([0, 0, 1]))
    array([[1, 1],
           [0, 1]])
    """
    predictions, labels = _check(predictions, labels)
    least, most = min(predictions.min(), labels.min()), max(predictions.max(), labels.max())
    k = int(most) + 1 if classes is None else classes
    if least < 0 or most >= k:
        raise ValueError(f"classes are 0 to {k - 1}, got {least} to {most}")
    return frozen(np.bincount(labels * k + predictions, minlength=k * k).reshape(k, k).astype(np.int64))


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
    table = confusion_matrix(predictions, labels, None if class_names is None else len(class_names))
    if class_names is None:
        names = [str(k) for k in range(len(table))]
        seen = table.sum(axis=0) + table.sum(axis=1) > 0  # a number in between that never occurs is no class
        table, names = table[seen][:, seen], [name for name, here in zip(names, seen, strict=True) if here]
    else:
        names = list(class_names)
        if len(set(names)) < len(names):
            raise ValueError(f"class_names are different names, got {names}")
    right, predicted, support = np.diag(table), table.sum(axis=0), table.sum(axis=1)
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
        classes, float(right.sum() / support.sum()), average(np.ones(len(table))), average(support)
    )


def _ratio(top: Array, bottom: Array) -> Array:
    return np.divide(top, bottom, out=np.zeros(len(top)), where=bottom > 0)


def _check(predictions: Array, labels: Array) -> tuple[Array, Array]:
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    for name, array in (("predictions", predictions), ("labels", labels)):
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"{name} are classes, integers (N,), got {array.dtype} {array.shape}")
    if predictions.shape != labels.shape or not labels.size:
        raise ValueError(f"as many predictions as labels, and at least one; got {predictions.size} and {labels.size}")
    return predictions.astype(np.int64, copy=False), labels.astype(np.int64, copy=False)
