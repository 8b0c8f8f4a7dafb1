"""Fully connected layers; the mathematics stands in `fcnn.ops.linear`."""

from fcnn import ops
from fcnn.network.initializers import Fan, Initializer, check_initializers, xavier, zeros
from fcnn.network.layer import Functions, Init, Shape, layer_constructor
from fcnn.network.layers.common import draw_weights, features, with_weights
from fcnn.values.checks import MOST_COUNT, boolean, integer
from fcnn.values.keys import Key
from fcnn.values.tree import EMPTY


@layer_constructor
def dense(
    units: int,
    *,
    bias: bool = True,
    weights: Initializer = xavier(),  # noqa: B008
    biases: Initializer = zeros(),  # noqa: B008
) -> Functions:
    """Fully connected: features (D,) to (units,); see `fcnn.ops.dense`.

    Parameters: `w` (units, D), and `b` (units,) with `bias`.

    Args:
        units: how many output features.
        bias: whether to add a bias.
        weights, biases: how they begin; for deep networks of ReLUs `he()` keeps the variance.
    """
    count = integer("units", units, least=1, most=MOST_COUNT)
    bias = boolean("bias", bias)
    check_initializers(weights=weights, biases=biases)

    def init(key: Key, in_shape: Shape, /) -> Init:
        (inputs,) = features(f"dense({units})", in_shape)
        params = draw_weights(key, (count, inputs), Fan(inputs, count), count if bias else None, weights, biases)
        return Init(params, EMPTY, (count,), inputs * count)

    return with_weights(init, ops.dense, ops.dense_backward, bias)
