"""Constructors of layers, a file a family, in the order of `fcnn.ops`, where the mathematics stands.

Each is thin, and reads in one order: init, apply, backward.
"""

from fcnn.network.layers.activation import (
    clip,
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    leaky_relu,
    log_softmax,
    prelu,
    relu,
    relu6,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from fcnn.network.layers.conv import conv2d, conv_transpose2d
from fcnn.network.layers.linear import dense
from fcnn.network.layers.moving import mirror, shift
from fcnn.network.layers.norm import batch_norm, group_norm, layer_norm, normalize
from fcnn.network.layers.pool import adaptive_avg_pool2d, avg_pool2d, global_avg_pool2d, max_pool2d
from fcnn.network.layers.sequences import avg_pool1d, conv1d, global_avg_pool1d, max_pool1d
from fcnn.network.layers.shape import flatten, identity, reshape
from fcnn.network.layers.stochastic import dropout
from fcnn.network.layers.upsampling import upsample

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "clip",
    "conv1d",
    "conv2d",
    "conv_transpose2d",
    "dense",
    "dropout",
    "elu",
    "flatten",
    "gelu",
    "global_avg_pool1d",
    "global_avg_pool2d",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "identity",
    "layer_norm",
    "leaky_relu",
    "log_softmax",
    "max_pool1d",
    "max_pool2d",
    "mirror",
    "normalize",
    "prelu",
    "relu",
    "relu6",
    "reshape",
    "shift",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
    "upsample",
]
