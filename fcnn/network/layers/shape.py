"""Layers that change an array's shape, or nothing; the mathematics stands in `fcnn.ops.shape`."""

import numpy as np

from fcnn import ops
from fcnn.network.layer import Functions, Init, LayerError, Shape, layer_constructor
from fcnn.network.layers.common import same_shape, without_weights
from fcnn.values.arrays import Array, keep
from fcnn.values.checks import cached_shape, floats, output_gradient
from fcnn.values.keys import Key
from fcnn.values.tree import EMPTY


@layer_constructor
def flatten() -> Functions:
    """Images (C, H, W) to features (C * H * W,), in C, H, W order; features stay as they are."""

    def init(key: Key, in_shape: Shape, /) -> Init:
        if len(in_shape) not in (1, 3):
            raise LayerError(f"flatten() expects (C, H, W) or (D,), got {in_shape}")
        return Init(EMPTY, EMPTY, (int(np.prod(in_shape)),))

    return without_weights(init, ops.flatten, ops.flatten_backward)


@layer_constructor
def identity() -> Functions:
    """The input, unchanged: the usual shortcut of `residual`."""

    def op(x: Array) -> tuple[Array, tuple[int, ...]]:
        return keep(floats("identity's x", x)), x.shape

    def op_backward(dy: Array, cache: tuple[int, ...]) -> Array:
        shape = cached_shape("identity", cache, range(1, 65))
        return keep(output_gradient("identity's backward", dy, shape))

    return without_weights(same_shape, op, op_backward)
