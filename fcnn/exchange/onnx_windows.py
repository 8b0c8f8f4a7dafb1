"""Operators of ONNX that look at images through windows: convolutions, pools and scaling, as layers."""

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from fcnn.exchange.onnx_pieces import Piece, Pieces, Site
from fcnn.network import layers
from fcnn.network.layer import Layer
from fcnn.ops.window import Padding, pads_of
from fcnn.values.arrays import Array

WINDOW = {"kernel_shape": tuple, "strides": tuple, "pads": tuple, "dilations": tuple, "auto_pad": "NOTSET"}
POOL = {**WINDOW, "ceil_mode": 0}
RESIZE = {
    "mode": "nearest",
    "coordinate_transformation_mode": "half_pixel",
    "nearest_mode": "round_prefer_floor",
    "antialias": 0,
    "axes": tuple,
    "cubic_coeff_a": -0.75,
    "exclude_outside": 0,
    "extrapolation_value": 0.0,
    "keep_aspect_ratio_policy": "stretch",
}
Size = tuple[int, int]
_MOST_PIXELS = 1 << 20  # along an axis


def in_rows(pieces: Callable[[Site], Pieces]) -> Callable[[Site], Pieces]:
    """The same operator, which also takes sequences (C, L), as images of one row."""

    def of(site: Site) -> Pieces:
        if len(site.shape) != 2:
            return pieces(site)
        attributes, channels = {**site.attributes}, site.shape[0]
        for name, least in {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0}.items():
            if attributes.get(name) is not None:
                attributes[name] = (least, *attributes[name])
        if attributes.get("pads") is not None and len(attributes["pads"]) == 2:
            attributes["pads"] = (0, attributes["pads"][0], 0, attributes["pads"][1])
        constants = (one[:, :, None] if one is not None and one.ndim == 3 else one for one in site.constants)
        shape = (channels, 1, site.shape[1])
        found = pieces(attrs.evolve(site, shape=shape, attributes=attributes, constants=tuple(constants)))
        if all(isinstance(one, Piece) and one.layer.make in _OF_SEQUENCES for one in found):
            return [_of_sequences(one) for one in found if isinstance(one, Piece)]
        filters = [one.layer.config.get("filters", channels) for one in found if isinstance(one, Piece)]
        return [Piece(layers.reshape((channels, 1, -1))), *found, Piece(layers.reshape((*filters, -1)))]

    return of


_OF_SEQUENCES: dict[Any, Callable[..., Layer]] = {
    layers.conv2d: layers.conv1d,
    layers.max_pool2d: layers.max_pool1d,
    layers.avg_pool2d: layers.avg_pool1d,
}


def _of_sequences(piece: Piece) -> Piece:
    """The layer of sequences that does what one of images does with those of one row."""
    config = dict(piece.layer.config)
    for name in ("kernel", "window", "stride", "padding", "dilation"):
        if isinstance(config.get(name), tuple):
            config[name] = config[name][1]
    params = {name: leaf[:, :, 0] if name == "w" else leaf for name, leaf in piece.params.items()}
    return Piece.of(_OF_SEQUENCES[piece.layer.make](**config), params)


def conv(site: Site) -> Pieces:
    """Conv of images."""
    w, b = site.weights(1, "weights"), _bias(site)
    kernel = _kernel(site, w)
    steps, apart = _pair(site, "strides"), _pair(site, "dilations")
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, apart, strict=True))
    more = {"stride": (steps, (1, 1)), "dilation": (apart, (1, 1)), "groups": (site["group"], 1)}
    given = {name: _short(value) for name, (value, usual) in more.items() if value != usual}
    padding = _padding(site, _image(site), (reach[0], reach[1]), steps)
    layer = layers.conv2d(len(w), _short(kernel), padding=padding, bias=b is not None, **given)
    return [Piece.of(layer, {"w": w, "b": b})]


def conv_transpose(site: Site) -> Pieces:
    """ConvTranspose of images."""
    w, b = site.weights(1, "weights"), _bias(site)
    kernel, groups = _kernel(site, w), site["group"]
    if site["output_shape"] or site["auto_pad"] not in ("NOTSET", "VALID"):
        raise site.refused("says what its output's shape is; only pads and output_padding are read")
    more = {"stride": "strides", "dilation": "dilations"}
    given = {ours: _short(_pair(site, theirs)) for ours, theirs in more.items() if _pair(site, theirs) != (1, 1)}
    extra = _pair(site, "output_padding", 0)
    given |= {"output_padding": _short(extra)} if any(extra) else {}
    given |= {"groups": groups} if groups != 1 else {}
    padding: Any = _padding(site, _image(site), kernel, (1, 1))
    layer = layers.conv_transpose2d(w.shape[1] * groups, _short(kernel), padding=padding, bias=b is not None, **given)
    return [Piece.of(layer, {"w": w, "b": b})]


def max_pool(site: Site) -> Pieces:
    """MaxPool of images."""
    return [Piece(_pool(site, layers.max_pool2d))]


def average_pool(site: Site) -> Pieces:
    """AveragePool of images."""
    # Without padding there is nothing that could count.
    counted = bool(site["count_include_pad"]) or not (any(site["pads"] or ()) or site["auto_pad"].startswith("SAME"))
    return [Piece(_pool(site, layers.avg_pool2d, **({} if counted else {"count_include_pad": False})))]


def _pool(site: Site, make: Callable[..., Layer], **more: Any) -> Layer:
    image, window, steps = _image(site), _pair(site, "kernel_shape", 0), _pair(site, "strides")
    if _pair(site, "dilations") != (1, 1):
        raise site.refused("is a pool with dilations; only pools without are read")
    more |= {"stride": _short(steps)} if steps != window else {}
    more |= {"ceil_mode": True} if site["ceil_mode"] else {}
    return make(_short(window), padding=_padding(site, image, window, steps), **more)


def global_average(site: Site) -> Pieces:
    """GlobalAveragePool: its means are images of one pixel, or sequences of one place."""
    if len(site.shape) == 2:
        return [Piece(layers.global_avg_pool1d()), Piece(layers.reshape((site.shape[0], 1)))]
    _image(site)
    return [Piece(layers.adaptive_avg_pool2d(1))]


def reduce_mean(site: Site) -> Pieces:
    """ReduceMean over height and width."""
    axes = site.axes()
    over = None if axes is None else sorted(axis % site.rank for axis in axes)
    if site.rank != 4 or over != [2, 3]:
        raise site.refused("is a mean over other axes than those of an image's height and width, (2, 3)")
    return [Piece(layers.adaptive_avg_pool2d(1) if site["keepdims"] else layers.global_avg_pool2d())]


def resize(site: Site) -> Pieces:
    """Resize and Upsample of images by whole numbers."""
    image, mode = _image(site), site["mode"]
    scale = _scale(site, image)
    newer = site.node.operator == "Resize" and site.opset > 10
    how = site["coordinate_transformation_mode"] if newer else "asymmetric"
    if mode == "nearest":
        nearest = site["nearest_mode"] if newer else "floor"
        for size, by in zip(image, scale, strict=True):
            if size * by > _MOST_PIXELS or not np.array_equal(
                _nearest(size, by, how, nearest), np.arange(size * by) // by
            ):
                raise site.refused(f"takes other pixels than those before ({how}, {nearest}), as no layer does")
        return [Piece(layers.upsample(_short(scale), mode="nearest"))]
    if mode in ("linear", "bilinear") and how in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        corners = {"align_corners": True} if how == "align_corners" else {}
        return [Piece(layers.upsample(_short(scale), mode="bilinear", **corners))]
    raise site.refused(f"scales by {mode}, {how}; nearest, and linear with half_pixel or align_corners, are read")


def _scale(site: Site, image: Size) -> Size:
    """By which whole numbers height and width are multiplied."""
    if site["antialias"] or site["axes"] not in (None, (2, 3)) or site["keep_aspect_ratio_policy"] != "stretch":
        raise site.refused("scales in a way that no layer does (antialias, axes or keep_aspect_ratio_policy)")
    sizes = site.lengths(3) if site.has(3) else None
    place = 1 if len(site.node.inputs) == 2 else 2
    scales = site["scales"] if site["scales"] else site.constant(place)
    found: list[float] = []
    if sizes is not None:
        found = [0 if size is None else size / length for size, length in zip(sizes[-2:], image, strict=True)]
    elif scales is not None:
        numbers = np.asarray(scales, np.float64).reshape(-1)
        found = numbers[-2:].tolist() if site["axes"] or numbers[:2].tolist() == [1, 1] else []
    if len(found) != 2 or any(one < 1 or one != int(one) for one in found):
        raise site.refused(f"scales {image[0]}x{image[1]} by other than whole numbers {tuple(found)}")
    return int(found[0]), int(found[1])


def _nearest(size: int, by: int, how: str, nearest: str) -> Array:
    """Which of `size` pixels each of `size * by` takes, by ONNX's formulas."""
    out = np.arange(size * by)
    place = {
        "asymmetric": out / by,
        "half_pixel": (out + 0.5) / by - 0.5,
        "pytorch_half_pixel": (out + 0.5) / by - 0.5,
        "align_corners": out * ((size - 1) / max(size * by - 1, 1)),
    }.get(how, out)
    rounded = {
        "floor": np.floor(place),
        "ceil": np.ceil(place),
        "round_prefer_ceil": np.floor(place + 0.5),
    }.get(nearest, np.ceil(place - 0.5))
    return np.asarray(np.clip(rounded, 0, size - 1))


def _image(site: Site) -> Size:
    """The height and width of what flows in."""
    if len(site.shape) != 3:
        raise site.refused(f"takes {site.shape} for each input; layers with windows take images (C, H, W) or (C, L)")
    return site.shape[1], site.shape[2]


def _bias(site: Site) -> Array | None:
    return site.weights(2, "bias") if site.has(2) else None


def _kernel(site: Site, w: Array) -> Size:
    if w.ndim != 4 or site["kernel_shape"] not in (None, w.shape[2:]):
        raise site.refused(f"has weights {w.shape}, and kernels {site['kernel_shape'] or 'of two dimensions'}")
    return w.shape[2], w.shape[3]


def _pair(site: Site, name: str, usual: int = 1) -> Size:
    found: tuple[int, ...] = (usual, usual) if site[name] is None else site[name]
    if len(found) != 2:
        raise site.refused(f"has {name} {found}; they are two numbers, of height and width")
    return found[0], found[1]


def _padding(site: Site, image: Size, window: Size, steps: Size) -> Padding:
    """The padding of windows of so many pixels, as short as it can be said."""
    how, pads = site["auto_pad"], site["pads"] or (0, 0, 0, 0)
    if len(pads) != 4:
        raise site.refused(f"has pads {pads}; they are four numbers: top, left, bottom, right")
    if how == "SAME_UPPER":
        return "same"
    if how == "SAME_LOWER":  # as "same", but with the greater part before
        ((top, bottom), (left, right)) = pads_of(image, window, steps, "same")
        pads = (bottom, right, top, left)
    elif how == "VALID":
        pads = (0, 0, 0, 0)
    elif how != "NOTSET":
        raise site.refused(f"has auto_pad {how}, which is none")
    top, left, bottom, right = pads
    return _short((top, left)) if (top, left) == (bottom, right) else ((top, bottom), (left, right))


def _short(value: Any) -> Any:
    """A pair of the same numbers as one number."""
    return value[0] if isinstance(value, tuple) and value[0] == value[1] else value
