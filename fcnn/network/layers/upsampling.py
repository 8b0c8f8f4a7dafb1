"""Images made larger; the mathematics stands in `fcnn.ops.upsampling`."""

from fcnn import ops
from fcnn.network.layer import Functions, Init, Shape, layer_constructor
from fcnn.network.layers.common import images, without_weights
from fcnn.ops.upsampling import Mode, upsample_scale
from fcnn.values.checks import Pair
from fcnn.values.keys import Key
from fcnn.values.tree import EMPTY


@layer_constructor
def upsample(scale: Pair, *, mode: Mode = "nearest", align_corners: bool = False) -> Functions:
    """Images (C, H, W) with `scale` times as many rows and columns; see `fcnn.ops.upsample`.

    Args:
        scale: an int or (vertical, horizontal).
        mode: "nearest" repeats each pixel; "bilinear" is linear between them.
        align_corners: of "bilinear": whether the corners' middles stay where they are, or else the corners.
    """
    scales = upsample_scale(scale, mode, align_corners)

    def init(key: Key, in_shape: Shape, /) -> Init:
        channels, height, width = images(f"upsample({scale})", in_shape)
        return Init(EMPTY, EMPTY, (channels, height * scales[0], width * scales[1]))

    return without_weights(
        init, lambda x: ops.upsample(x, scales, mode=mode, align_corners=align_corners), ops.upsample_backward
    )
