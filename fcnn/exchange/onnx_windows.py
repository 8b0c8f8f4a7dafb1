"""Operators of ONNX that look at images through windows: convolutions, pools and scaling, as layers."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from fcnn.exchange.onnx_pieces import Piece, Pieces, Site
from fcnn.network import layers
from fcnn.network.layer import Layer
from fcnn.ops.window import pads_of
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
Size: TypeAlias = tuple[int, int]
Sizes: TypeAlias = tuple[int, ...]
_MOST_PIXELS = 1 << 20  # along an axis


def conv(site: Site) -> Pieces:
    """Conv of images, or of sequences."""
    w, b = site.weights(1, "weights"), _bias(site)
    size, kernel = _size(site), _kernel(site, w)
    steps, apart = _numbers(site, "strides"), _numbers(site, "dilations")
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, apart, strict=True))
    more = {"stride": _short(steps), "dilation": _short(apart), "groups": site["group"]}
    given = {name: value for name, value in more.items() if value != 1}
    make: Callable[..., Layer] = layers.conv2d if len(size) == 2 else layers.conv1d
    layer = make(len(w), _short(kernel), padding=_padding(site, size, reach, steps), bias=b is not None, **given)
    return [Piece.of(layer, {"w": w, "b": b})]


def conv_transpose(site: Site) -> Pieces:
    """ConvTranspose of images."""
    w, b = site.weights(1, "weights"), _bias(site)
    _image(site)
    kernel, groups = _kernel(site, w), site["group"]
    if site["output_shape"] or site["auto_pad"] not in ("NOTSET", "VALID"):
        raise site.refused("says what its output's shape is; only pads and output_padding are read")
    more = {"stride": _numbers(site, "strides"), "dilation": _numbers(site, "dilations"), "groups": groups}
    given = {name: _short(value) for name, value in more.items() if _short(value) != 1}
    extra = _numbers(site, "output_padding", 0)
    given |= {"output_padding": _short(extra)} if any(extra) else {}
    padding: Any = _padding(site, _image(site), kernel, (1, 1))
    layer = layers.conv_transpose2d(w.shape[1] * groups, _short(kernel), padding=padding, bias=b is not None, **given)
    return [Piece.of(layer, {"w": w, "b": b})]


def max_pool(site: Site) -> Pieces:
    """MaxPool of images, or of sequences."""
    return [Piece(_pool(site, layers.max_pool2d, layers.max_pool1d))]


def average_pool(site: Site) -> Pieces:
    """AveragePool of images, or of sequences."""
    # Without padding there is nothing that could count.
    counted = bool(site["count_include_pad"]) or not (any(site["pads"] or ()) or site["auto_pad"].startswith("SAME"))
    more = {} if counted else {"count_include_pad": False}
    return [Piece(_pool(site, layers.avg_pool2d, layers.avg_pool1d, **more))]


def _pool(site: Site, of_images: Callable[..., Layer], of_sequences: Callable[..., Layer], **more: Any) -> Layer:
    size, window, steps = _size(site), _numbers(site, "kernel_shape", 0), _numbers(site, "strides")
    if {*_numbers(site, "dilations")} != {1}:
        raise site.refused("is a pool with dilations; only pools without are read")
    more |= {"stride": _short(steps)} if steps != window else {}
    more |= {"ceil_mode": True} if site["ceil_mode"] else {}
    make = of_images if len(size) == 2 else of_sequences
    return make(_short(window), padding=_padding(site, size, window, steps), **more)


def global_average(site: Site) -> Pieces:
    """GlobalAveragePool of images, or of sequences: its means have one pixel, or one place."""
    return _means(site, len(_size(site)), keep=True)


def _means(site: Site, axes: int, *, keep: bool) -> Pieces:
    if axes == 1:
        means = Piece(layers.global_avg_pool1d())
        return [means, Piece(layers.reshape((site.shape[0], 1)))] if keep else [means]
    return [Piece(layers.adaptive_avg_pool2d(1) if keep else layers.global_avg_pool2d())]


def reduce_mean(site: Site) -> Pieces:
    """ReduceMean over height and width, or over a sequence's places."""
    axes = site.axes()
    over = None if axes is None else sorted(axis % site.rank for axis in axes)
    if site.rank not in (3, 4) or over != [*range(2, site.rank)]:
        raise site.refused(
            "is a mean over other axes than those of an image's height and width, or a sequence's places"
        )
    return _means(site, site.rank - 2, keep=bool(site["keepdims"]))


def resize(site: Site) -> Pieces:
    """Resize and Upsample of images by whole numbers."""
    image, mode = _image(site), site["mode"]
    scale = _scale(site, image)
    if any(size * by > _MOST_PIXELS for size, by in zip(image, scale, strict=True)):
        raise site.refused(f"scales to more than {_MOST_PIXELS:,} pixels along an axis")
    newer = site.node.operator == "Resize" and site.opset > 10
    how = site["coordinate_transformation_mode"] if newer else "asymmetric"
    if mode == "nearest":
        nearest = site["nearest_mode"] if newer else "floor"
        for size, by in zip(image, scale, strict=True):
            if not _are_repeated(size, by, how, nearest):
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
    scales = np.asarray(site["scales"] or (() if site.constant(place) is None else site.constant(place)))
    found: list[float] = []
    axes = 2 if site["axes"] else 4  # those that are scaled, of which the batch and the channels stay as they are
    if sizes is not None:
        if len(sizes) == axes and sizes[1:-2] in ([], [site.shape[0]]):
            found = [0 if size is None else size / length for size, length in zip(sizes[-2:], image, strict=True)]
    elif scales.size == axes:
        numbers = scales.reshape(-1).tolist()
        found = numbers[-2:] if numbers[:-2] in ([], [1, 1]) else []
    if len(found) != 2 or any(not 1 <= one <= _MOST_PIXELS or one != int(one) for one in found):
        raise site.refused(f"scales {image[0]}x{image[1]} by other than whole numbers {tuple(found)}")
    return int(found[0]), int(found[1])


def _are_repeated(size: int, by: int, how: str, nearest: str) -> bool:
    """Whether each of `size` pixels becomes the next `by` of `size * by`, by ONNX's formulas.

    What `out` takes never decreases with it, so those of one pixel are right if the first and the last are; and how far
    from the right one these are before rounding is the same for all pixels, or a line from the first to the last
    (align_corners). So the last pixel's first and the first one's last say it of all.
    """
    first, last = (_nearest(out, size, by, how, nearest) for out in ((size - 1) * by, by - 1))
    return (first, last) == (size - 1, 0)


def _nearest(out: int, size: int, by: int, how: str, nearest: str) -> int | None:
    """Which of `size` pixels the one at `out` of `size * by` takes; None for formulas that aren't read."""
    places = {
        "asymmetric": out / by,
        "half_pixel": (out + 0.5) / by - 0.5,
        "pytorch_half_pixel": (out + 0.5) / by - 0.5,
        "align_corners": out * ((size - 1) / max(size * by - 1, 1)),
    }
    place = places.get(how, math.nan)
    rounded = {
        "floor": np.floor(place),
        "ceil": np.ceil(place),
        "round_prefer_ceil": np.floor(place + 0.5),
        "round_prefer_floor": np.ceil(place - 0.5),
    }.get(nearest, math.nan)
    return None if math.isnan(rounded) else int(min(max(rounded, 0), size - 1))


def _image(site: Site) -> Size:
    """The height and width of what flows in."""
    if len(site.shape) != 3:
        raise site.refused(f"takes {site.shape} for each input; its layer takes images (C, H, W)")
    return site.shape[1], site.shape[2]


def _size(site: Site) -> Sizes:
    """The height and width, or the length, of what flows in."""
    if len(site.shape) not in (2, 3):
        raise site.refused(f"takes {site.shape} for each input; its layers take images (C, H, W) or sequences (C, L)")
    return site.shape[1:]


def _bias(site: Site) -> Array | None:
    return site.weights(2, "bias") if site.has(2) else None


def _kernel(site: Site, w: Array) -> Sizes:
    axes = len(site.shape) - 1
    if w.ndim != 2 + axes or site["kernel_shape"] not in (None, w.shape[2:]):
        kernels = f", and kernels {site['kernel_shape']}" if site["kernel_shape"] else ""
        raise site.refused(f"has weights {w.shape} for inputs {site.shape}{kernels}")
    kernel: Sizes = w.shape[2:]
    return kernel


def _numbers(site: Site, name: str, usual: int = 1) -> Sizes:
    """An attribute that is a number for each axis of an image, or of a sequence."""
    axes = len(site.shape) - 1
    found: Sizes = (usual,) * axes if site[name] is None else site[name]
    if len(found) != axes:
        raise site.refused(f"has {name} {found} for inputs {site.shape}; they are as many as axes after the channels")
    return found


def _padding(site: Site, size: Sizes, window: Sizes, steps: Sizes) -> Any:
    """The padding of windows of so many pixels, or places, as short as it can be said."""
    axes, how = len(size), site["auto_pad"]
    pads = site["pads"] or (0,) * 2 * axes
    if len(pads) != 2 * axes:
        raise site.refused(
            f"has pads {pads} for inputs {site.shape}; they are those before, then those after, of each axis"
        )
    before, after = pads[:axes], pads[axes:]
    if how == "SAME_UPPER":
        return "same"
    if how == "SAME_LOWER":  # as "same", but with the greater part before
        padded = [pads_of((n, 1), (k, 1), (step, 1), "same")[0] for n, k, step in zip(size, window, steps, strict=True)]
        after, before = zip(*padded, strict=True)
    elif how == "VALID":
        return 0
    elif how != "NOTSET":
        raise site.refused(f"has auto_pad {how}, which is none")
    if before == after:
        return _short(before)
    return tuple(zip(before, after, strict=True)) if axes == 2 else (before[0], after[0])


def _short(value: Any) -> Any:
    """The same numbers as one number."""
    return value[0] if isinstance(value, tuple) and len({*value}) == 1 else value
