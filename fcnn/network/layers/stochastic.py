"""Layers that draw random numbers in training; the mathematics stands in `fcnn.ops.stochastic`."""

from fcnn import ops
from fcnn.network.layer import Functions, Out, expect_call, expect_params, layer_constructor
from fcnn.network.layers.common import only_dx, same_shape
from fcnn.ops.stochastic import check_rate
from fcnn.values.arrays import Array
from fcnn.values.keys import Key
from fcnn.values.tree import EMPTY, Tree


@layer_constructor
def dropout(rate: float) -> Functions:
    """In training drop each number with probability `rate` and scale the others up; see `fcnn.ops.dropout`."""
    check_rate(rate)

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        expect_call(params, state, train, key)
        expect_params((), params)
        y, cache = ops.dropout(x, rate, train=train, key=key)
        return Out(y, EMPTY, cache)

    return Functions(same_shape, apply, only_dx(ops.dropout_backward))
