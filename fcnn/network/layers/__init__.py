"""Constructors of layers, a file a family, in the order of `fcnn.ops`, where the mathematics stands.

Each is thin, and reads in one order: init, apply, backward.
"""

from fcnn.network.layers.activation import gelu, leaky_relu, relu, sigmoid, softmax, tanh
from fcnn.network.layers.conv import conv2d
from fcnn.network.layers.linear import dense
from fcnn.network.layers.norm import batch_norm, normalize
from fcnn.network.layers.pool import adaptive_avg_pool2d, avg_pool2d, global_avg_pool2d, max_pool2d
from fcnn.network.layers.shape import flatten, identity
from fcnn.network.layers.stochastic import dropout

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "dense",
    "dropout",
    "flatten",
    "gelu",
    "global_avg_pool2d",
    "identity",
    "leaky_relu",
    "max_pool2d",
    "normalize",
    "relu",
    "sigmoid",
    "softmax",
    "tanh",
]
