"""Layers that change an array's shape, or nothing; the mathematics stands in `fcnn.ops.shape`."""

from collections.abc import Sequence

import numpy as np

from fcnn import ops
from fcnn.network.layer import Functions, Init, LayerError, Shape, layer_constructor
from fcnn.network.layers.common import same_shape, without_weights
from fcnn.ops.shape import new_shape, resolved
from fcnn.values.arrays import Array, keep
from fcnn.values.checks import cached_shape, floats, output_gradient
from fcnn.values.keys import Key
from fcnn.values.tree import EMPTY


@layer_constructor
def flatten() -> Functions:
    """Images (C, H, W) or sequences (C, L) to features, in C, H, W order; features stay as they are."""

    def init(key: Key, in_shape: Shape, /) -> Init:
        if len(in_shape) > 3:
            raise LayerError(f"flatten() expects (C, H, W), (C, L) or (D,), got {in_shape}")
        return Init(EMPTY, EMPTY, (int(np.prod(in_shape)),))

    return without_weights(init, ops.flatten, ops.flatten_backward)


@layer_constructor
def reshape(shape: Sequence[int]) -> Functions:
    """The same numbers, in C, H, W order, in another shape.

    Args:
        shape: (C, H, W), (C, L) or (D,), without the batch axis; one length may be -1, for what is left.

    >>> from fcnn import key
    >>> reshape((16, -1)).init(key(0), (4, 8, 8)).out_shape
    (16, 16)
    """
    wanted = new_shape(shape)

    def init(key: Key, in_shape: Shape, /) -> Init:
        if len(in_shape) > 3:
            raise LayerError(f"reshape({wanted}) expects (C, H, W), (C, L) or (D,), got {in_shape}")
        return Init(EMPTY, EMPTY, resolved(in_shape, wanted))

    return without_weights(init, lambda x: ops.reshape(x, wanted), ops.reshape_backward)


@layer_constructor
def identity() -> Functions:
    """The input, unchanged: the usual shortcut of `residual`."""

    def op(x: Array) -> tuple[Array, tuple[int, ...]]:
        return keep(floats("identity's x", x)), x.shape

    def op_backward(dy: Array, cache: tuple[int, ...]) -> Array:
        shape = cached_shape("identity", cache, range(1, 65))
        return keep(output_gradient("identity's backward", dy, shape))

    return without_weights(same_shape, op, op_backward)
