"""Normalisation; the mathematics stands in `fcnn.ops.norm`."""

from typing import Any

import numpy as np

from fcnn import ops
from fcnn.network.layer import Functions, Grads, Init, LayerError, Out, Shape, expect_names, layer_constructor
from fcnn.values.arrays import Array
from fcnn.values.checks import number
from fcnn.values.keys import Key
from fcnn.values.tree import Tree, freeze


@layer_constructor
def batch_norm(*, decay: float = 0.9, eps: float = 1e-5) -> Functions:
    """Batch normalisation of features (D,) or of each channel of images (C, H, W); see `fcnn.ops.batch_norm`.

    Parameters: `gamma` (C,), ones, and `beta` (C,), zeros. State: running `mean` (C,) and unbiased `var` (C,).

    Args:
        decay: the weight of the *old* running value (PyTorch's `momentum` is 1 - decay).
        eps: added to the variance.
    """
    number("batch_norm's decay", decay, "[0, 1]")
    number("batch_norm's eps", eps, "(0, inf)")

    def init(key: Key, in_shape: Shape, /) -> Init:
        if len(in_shape) not in (1, 3):
            raise LayerError(f"batch_norm() expects (D,) or (C, H, W), got {in_shape}")
        one, zero = np.ones(in_shape[0], np.float32), np.zeros(in_shape[0], np.float32)
        return Init(freeze({"gamma": one, "beta": zero}), freeze({"mean": zero, "var": one}), in_shape)

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        expect_names(params, ("gamma", "beta"))
        y, mean, var, cache = ops.batch_norm(
            x, params["gamma"], params["beta"], state["mean"], state["var"], train=train, decay=decay, eps=eps
        )
        return Out(y, freeze({"mean": mean, "var": var}) if train else state, cache)

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        dx, dgamma, dbeta = ops.batch_norm_backward(dy, cache)
        return Grads(dx if need_dx else None, freeze({"gamma": dgamma, "beta": dbeta}))

    return Functions(init, apply, backward)
