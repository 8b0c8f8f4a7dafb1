"""Batch norm in evaluation as a part of the weights of the layer before it.

With the running mean m and variance v, gamma * (w x + b - m) / sqrt(v + eps) + beta is w' x + b' with

    w' = w * gamma / sqrt(v + eps)          b' = beta + (b - m) * gamma / sqrt(v + eps)
"""

import numpy as np

from fcnn.values.arrays import Array, frozen


def folded(
    w: Array, b: Array | None, gamma: Array, beta: Array, mean: Array, var: Array, eps: float
) -> tuple[Array, Array]:
    """The weights (F, …) and biases (F,) of a convolution or a dense layer with batch norm behind it.

    Where gamma / sqrt(v + eps) is beyond the dtype's numbers, so is the result.

    >>> w, b = folded(np.ones((1, 2)), None, np.full(1, 3.0), np.ones(1), np.full(1, 5.0), np.full(1, 4.0), 0.0)
    >>> w, b
    (array([[1.5, 1.5]]), array([-6.5]))
    """
    factor = gamma / np.sqrt(var + eps)
    shift = beta - mean * factor if b is None else beta + (b - mean) * factor
    return frozen(w * factor.reshape(-1, *(1,) * (w.ndim - 1))), frozen(np.asarray(shift))
