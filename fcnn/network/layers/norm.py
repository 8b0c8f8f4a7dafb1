"""Normalisation; the mathematics stands in `fcnn.ops.norm` and `sample_norm`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fcnn import ops
from fcnn.network.layer import (
    BackwardFn,
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
from fcnn.values.checks import MOST_COUNT, boolean, integer, number, one_of, single, told
from fcnn.values.keys import Key
from fcnn.values.tree import EMPTY, Tree, freeze


@layer_constructor
def batch_norm(*, decay: float = 0.9, eps: float = 1e-5) -> Functions:
    """Batch normalisation of features (D,) or of each channel of sequences or images; see `fcnn.ops.batch_norm`.

    Parameters: `gamma` (C,), ones, and `beta` (C,), zeros. State: running `mean` (C,) and unbiased `var` (C,).

    Args:
        decay: the weight of the *old* running value (PyTorch's `momentum` is 1 - decay).
        eps: added to the variance.
    """
    number("batch_norm's decay", decay, "[0, 1]")
    single("batch_norm's eps", eps, "(0, inf)")

    def init(key: Key, in_shape: Shape, /) -> Init:
        if len(in_shape) > 3:
            raise LayerError(f"batch_norm() expects (D,), (C, L) or (C, H, W), got {in_shape}")
        one, zero = np.ones(in_shape[0], np.float32), np.zeros(in_shape[0], np.float32)
        return Init(freeze({"gamma": one, "beta": zero}), freeze({"mean": zero, "var": one}), in_shape)

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        expect_call(params, state, train, key)
        expect_params(("gamma", "beta"), params)
        y, mean, var, cache = ops.batch_norm(
            x, params["gamma"], params["beta"], state["mean"], state["var"], train=train, decay=decay, eps=eps
        )
        return Out(y, freeze({"mean": mean, "var": var}) if train else state, cache)

    return Functions(init, apply, _backward(ops.batch_norm_backward))


@layer_constructor
def layer_norm(*, over: str = "all", eps: float = 1e-5) -> Functions:
    """Normalisation of each sample, (D,), (C, L) or (C, H, W), by its own numbers; see `fcnn.ops.layer_norm`.

    Parameters: `gamma`, ones, and `beta`, zeros; of the sample's shape, or (C,) over channels. For features there is no
    difference.

    Args:
        over: "all" for all of a sample's numbers, as PyTorch's `LayerNorm(in_shape)`; "channels" for each pixel over
            its channels.
        eps: added to the variance.
    """
    all_numbers = one_of("layer_norm's over", over, ("all", "channels")) == "all"
    single("layer_norm's eps", eps, "(0, inf)")

    def op(x: Array, gamma: Array, beta: Array) -> tuple[Array, Any]:
        return ops.layer_norm(x, gamma, beta, eps=eps)

    return _of_samples("layer_norm()", lambda shape: shape if all_numbers else shape[:1], op, ops.layer_norm_backward)


@layer_constructor
def group_norm(groups: int, *, eps: float = 1e-5) -> Functions:
    """Normalisation of each group of channels of each sample by its own numbers; see `fcnn.ops.group_norm`.

    Of features (D,), (C, L) or images (C, H, W). Parameters: `gamma` (C,), ones, and `beta` (C,), zeros.

    Args:
        groups: how many, a divisor of C; as many as channels for instance norm.
        eps: added to the variance.
    """
    integer("group_norm's groups", groups, least=1, most=MOST_COUNT)
    single("group_norm's eps", eps, "(0, inf)")

    def own(in_shape: Shape) -> Shape:
        if in_shape[0] % groups:
            raise LayerError(f"group_norm({groups}) expects channels in groups of equal size, got {in_shape}")
        return in_shape[:1]

    def op(x: Array, gamma: Array, beta: Array) -> tuple[Array, Any]:
        return ops.group_norm(x, gamma, beta, groups, eps=eps)

    return _of_samples(f"group_norm({groups})", own, op, ops.group_norm_backward)


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
        if len(in_shape) > 3 or count not in (1, in_shape[0]):
            channels = "(D,), (C, L) or (C, H, W)" if count == 1 else f"({count},), ({count}, L) or ({count}, H, W)"
            raise LayerError(f"normalize({mean}, {std}) expects {channels}, got {in_shape}")
        return Init(EMPTY, EMPTY, tuple(in_shape))

    return without_weights(init, lambda x: ops.normalize(x, means, stds), ops.normalize_backward)


def _of_samples(
    call: str,
    own: Callable[[Shape], Shape],
    op: Callable[[Array, Array, Array], tuple[Array, Any]],
    op_backward: Callable[[Array, Any], tuple[Array, Array, Array]],
) -> Functions:
    """The functions of a norm without state, whose gamma and beta have the shape that `own` gives of a sample's."""

    def init(key: Key, in_shape: Shape, /) -> Init:
        if len(in_shape) > 3:
            raise LayerError(f"{call} expects (D,), (C, L) or (C, H, W), got {in_shape}")
        shape = own(in_shape)
        return Init(freeze({"gamma": np.ones(shape, np.float32), "beta": np.zeros(shape, np.float32)}), EMPTY, in_shape)

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        expect_call(params, state, train, key)
        expect_params(("gamma", "beta"), params)
        y, cache = op(x, params["gamma"], params["beta"])
        return Out(y, EMPTY, cache)

    return Functions(init, apply, _backward(op_backward))


def _backward(op_backward: Callable[[Array, Any], tuple[Array, Array, Array]]) -> BackwardFn:
    """The backward function of a layer with `gamma` and `beta`, from one of `fcnn.ops`."""

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        expect_params(("gamma", "beta"), params)
        need_dx = boolean("need_dx", need_dx)
        dx, dgamma, dbeta = op_backward(dy, cache)
        return Grads(dx if need_dx else None, freeze({"gamma": dgamma, "beta": dbeta}))

    return backward


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
