"""Images mirrored or moved; the mathematics stands in `fcnn.ops.moving`."""

from fcnn import ops
from fcnn.network.layer import Functions, Init, Shape, layer_constructor
from fcnn.network.layers.common import images, same_shape, without_weights
from fcnn.ops.moving import Edge, expect_to_reflect, shift_by
from fcnn.values.keys import Key


@layer_constructor
def mirror() -> Functions:
    """Images (C, H, W) mirrored left to right: a view of them for `averaged_views`."""

    def init(key: Key, in_shape: Shape, /) -> Init:
        return same_shape(key, images("mirror()", in_shape))

    return without_weights(init, ops.mirror, ops.mirror_backward)


@layer_constructor
def shift(down: int, right: int, *, mode: Edge = "reflect") -> Functions:
    """Images (C, H, W) moved by whole pixels: a view of them for `averaged_views`. See `fcnn.ops.shift`.

    Args:
        down, right: by how many pixels; below 0 up and left.
        mode: what comes in at the edges: "reflect" the image mirrored at its edge pixels, "zero" black.
    """
    by = shift_by(down, right, mode)

    def init(key: Key, in_shape: Shape, /) -> Init:
        call = f"shift{by}"
        expect_to_reflect(call, by, images(call, in_shape)[1:], mode)
        return same_shape(key, in_shape)

    return without_weights(init, lambda x: ops.shift(x, *by, mode=mode), ops.shift_backward)
