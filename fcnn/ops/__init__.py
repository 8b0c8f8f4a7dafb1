"""Array-level forward and backward functions, usable alone: `y, cache = conv2d(x, w, b)`, then
`dx, dw, db = conv2d_backward(dy, cache)`.

They are pure: nothing passed in is written to, and what they return is read-only. Images are (N, C, H, W), sequences
(N, C, L), features (N, D); float32 gives float32, float64 gives float64. How arrays lie in memory is explained in
`fcnn.ops.layout`.
"""

from fcnn.ops.activation import (
    elu,
    elu_backward,
    leaky_relu,
    leaky_relu_backward,
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softmax,
    softmax_backward,
    softplus,
    softplus_backward,
    tanh,
    tanh_backward,
)
from fcnn.ops.adaptive import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
)
from fcnn.ops.conv import conv2d, conv2d_backward
from fcnn.ops.gaussian import erf, gelu, gelu_backward
from fcnn.ops.linear import dense, dense_backward
from fcnn.ops.moving import mirror, mirror_backward, shift, shift_backward
from fcnn.ops.norm import batch_norm, batch_norm_backward, normalize, normalize_backward
from fcnn.ops.parametric import prelu, prelu_backward
from fcnn.ops.piecewise import (
    clip,
    clip_backward,
    hardsigmoid,
    hardsigmoid_backward,
    hardswish,
    hardswish_backward,
    relu6,
    relu6_backward,
)
from fcnn.ops.pool import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward
from fcnn.ops.sample_norm import group_norm, group_norm_backward, layer_norm, layer_norm_backward
from fcnn.ops.sequences import (
    avg_pool1d,
    avg_pool1d_backward,
    conv1d,
    conv1d_backward,
    global_avg_pool1d,
    global_avg_pool1d_backward,
    max_pool1d,
    max_pool1d_backward,
)
from fcnn.ops.shape import flatten, flatten_backward, reshape, reshape_backward
from fcnn.ops.stochastic import dropout, dropout_backward
from fcnn.ops.transposed import conv_transpose2d, conv_transpose2d_backward
from fcnn.ops.unfold import col2im, im2col
from fcnn.ops.upsampling import upsample, upsample_backward

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "clip",
    "clip_backward",
    "col2im",
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "dense",
    "dense_backward",
    "dropout",
    "dropout_backward",
    "elu",
    "elu_backward",
    "erf",
    "flatten",
    "flatten_backward",
    "gelu",
    "gelu_backward",
    "global_avg_pool1d",
    "global_avg_pool1d_backward",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "group_norm",
    "group_norm_backward",
    "hardsigmoid",
    "hardsigmoid_backward",
    "hardswish",
    "hardswish_backward",
    "im2col",
    "layer_norm",
    "layer_norm_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "log_softmax",
    "log_softmax_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "mirror",
    "mirror_backward",
    "normalize",
    "normalize_backward",
    "prelu",
    "prelu_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "reshape",
    "reshape_backward",
    "shift",
    "shift_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softplus",
    "softplus_backward",
    "tanh",
    "tanh_backward",
    "upsample",
    "upsample_backward",
]
