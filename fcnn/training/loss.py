"""The contract of losses: `loss(outputs, targets) -> (value, d_outputs)`, the value a number, the mean over the batch.

A mean that weighs its rows, or leaves some out, is not the mean of the means of two halves. So a loss may tell their
weights, as `loss.weights(targets)`, which makes shards and ranks (`fcnn.parallel`), the loss of an epoch and accuracies
exact. One that doesn't is taken for a mean in which every row counts alike.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import numpy as np

from fcnn.training.arguments import measured
from fcnn.values.arrays import Array
from fcnn.values.checks import array, floats, function, told

Loss: TypeAlias = Callable[[Array, Any], tuple[float, Array]]


@attrs.frozen
class WeightedLoss:
    """A loss and the weights of its rows.

    loss: value = sum over n of (weight n) * (what row n costs) / sum over n of (weight n); 0 where that sum is 0.
    weights: of targets, the weight of each row, (N,), at least 0, up to a factor that all targets have in common. A row
        of weight 0 counts for nothing, in an accuracy neither.

    >>> def squares(outputs, targets):  # of one number each, where NaN stands for one that nobody knows
    ...     known = ~np.isnan(targets)
    ...     difference = np.where(known, outputs - targets, 0)
    ...     return float((difference**2).sum() / max(known.sum(), 1)), 2 * difference / max(known.sum(), 1)
    >>> loss = WeightedLoss(squares, lambda targets: ~np.isnan(targets))
    >>> loss(np.array([1.0, 2.0]), np.array([0.0, np.nan])), loss.weights(np.array([0.0, np.nan]))
    ((1.0, array([2., 0.])), array([ True, False]))
    """

    loss: Loss
    weights: Callable[[Any], Array]

    def __call__(self, outputs: Array, targets: Any) -> tuple[float, Array]:
        """What the loss says."""
        return self.loss(outputs, targets)


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


def weights_of(loss: Loss, targets: Any, count: int) -> Array | None:
    """The weights of so many rows in a loss's mean, float64; None where it doesn't tell any, so that all are alike."""
    tell = getattr(loss, "weights", None)
    if not callable(tell):
        return None
    found = array("a loss's weights", tell(targets), "numbers (N,)")
    if found.shape != (count,) or found.dtype.kind == "c" or not np.all((found >= 0) & (found < np.inf)):
        raise ValueError(
            f"a loss's weights are finite numbers (N,) of at least 0, one for each of {count} targets, "
            f"{told(loss)} gave {told(found)}"
        )
    return found.astype(np.float64, copy=False)
