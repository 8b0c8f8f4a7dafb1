"""Normalisation; the mathematics stands in `fcnn.ops.norm`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fcnn import ops
from fcnn.network.layer import (
    Functions,
    Grads,
    Init,
    LayerError,
    Out,
    Shape,
    expect_call,
    expect_params,
    layer_constructor,
)
from fcnn.network.layers.common import without_weights
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import boolean, number, single, told
from fcnn.values.keys import Key
from fcnn.values.tree import EMPTY, Tree, freeze


@layer_constructor
def batch_norm(*, decay: float = 0.9, eps: float = 1e-5) -> Functions:
    """Batch normalisation of features (D,) or of each channel of images (C, H, W); see `fcnn.ops.batch_norm`.

    Parameters: `gamma` (C,), ones, and `beta` (C,), zeros. State: running `mean` (C,) and unbiased `var` (C,).

    Args:
        decay: the weight of the *old* running value (PyTorch's `momentum` is 1 - decay).
        eps: added to the variance.
    """
    number("batch_norm's decay", decay, "[0, 1]")
    single("batch_norm's eps", eps, "(0, inf)")

    def init(key: Key, in_shape: Shape, /) -> Init:
        if len(in_shape) not in (1, 3):
            raise LayerError(f"batch_norm() expects (D,) or (C, H, W), got {in_shape}")
        one, zero = np.ones(in_shape[0], np.float32), np.zeros(in_shape[0], np.float32)
        return Init(freeze({"gamma": one, "beta": zero}), freeze({"mean": zero, "var": one}), in_shape)

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        expect_call(params, state, train, key)
        expect_params(("gamma", "beta"), params)
        y, mean, var, cache = ops.batch_norm(
            x, params["gamma"], params["beta"], state["mean"], state["var"], train=train, decay=decay, eps=eps
        )
        return Out(y, freeze({"mean": mean, "var": var}) if train else state, cache)

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        expect_params(("gamma", "beta"), params)
        need_dx = boolean("need_dx", need_dx)
        dx, dgamma, dbeta = ops.batch_norm_backward(dy, cache)
        return Grads(dx if need_dx else None, freeze({"gamma": dgamma, "beta": dbeta}))

    return Functions(init, apply, backward)


@layer_constructor
def normalize(mean: float | Sequence[float], std: float | Sequence[float]) -> Functions:
    """(x - mean) / std with given numbers: what a network needs of its input belongs to the network.

    So it is in its checkpoint, and in all that evaluates, predicts or exports it. See `fcnn.ops.normalize`.

    Args:
        mean, std: one number for all channels, or one for each, in units of x: images come as numbers from 0 to 1.

    >>> normalize(0.1307, 0.3081)
    normalize(0.1307, 0.3081)
    """
    means, stds = _per_channel("mean", mean, "(-inf, inf)"), _per_channel("std", std, "(0, inf)")
    count = max(len(means), len(stds))
    if {len(means), len(stds)} - {1, count}:
        raise ValueError(f"normalize expects as many means as deviations, got {len(means)} and {len(stds)}")
    means, stds = frozen(np.resize(means, count)), frozen(np.resize(stds, count))

    def init(key: Key, in_shape: Shape, /) -> Init:
        if len(in_shape) not in (1, 3) or count not in (1, in_shape[0]):
            channels = "(D,) or (C, H, W)" if count == 1 else f"({count},) or ({count}, H, W)"
            raise LayerError(f"normalize({mean}, {std}) expects {channels}, got {in_shape}")
        return Init(EMPTY, EMPTY, tuple(in_shape))

    return without_weights(init, lambda x: ops.normalize(x, means, stds), ops.normalize_backward)


def _per_channel(name: str, values: float | Sequence[float], interval: str) -> Array:
    if isinstance(values, np.ndarray) and values.ndim:
        advice = "; .tolist() makes one of it" if values.ndim == 1 and values.dtype.kind in "iuf" else ""
        raise TypeError(
            f"normalize's {name} is a number, or a list of one for each channel, got {told(values)}{advice}"
        )
    several = values if isinstance(values, (tuple, list)) else (values,)
    if not several:
        raise ValueError(f"normalize's {name} is a number, or a list of one for each channel, got {told(values)}")
    return np.array([single(f"normalize's {name}", value, interval) for value in several])
