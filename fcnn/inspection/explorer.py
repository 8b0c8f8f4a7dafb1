"""A page on which one sees a network think: the whole network in one HTML file, computed there as one draws.

    page = explore(model, mnist.test)          # text: write it to a file, and open that in a browser

The page needs no server and no network. Its parts are files beside this one, in `page/`: `layers.js` and
`engine.js` compute, forward and back, and a test holds them to the library's numbers; the others draw.
"""

import base64
import html
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import attrs
import numpy as np

from fcnn.data.pictures import CLASSES, SHAPES
from fcnn.data.types import Split
from fcnn.inspection.lessons import lesson_of
from fcnn.inspection.tracing import cam_path
from fcnn.network.combinators import last_of, serial
from fcnn.network.description import inits
from fcnn.network.layer import Init, Layer, LayerError, Shape
from fcnn.network.model import Model, expect_model
from fcnn.ops.pool import pool_window
from fcnn.ops.window import windows
from fcnn.training.prediction import predict
from fcnn.values.arrays import NDArray
from fcnn.values.checks import instance, integer, pair
from fcnn.values.configuration import as_call
from fcnn.values.tree import EMPTY, Tree, size

SCRIPTS = ("paint.js", "dom.js", "paper.js", "unit.js", "cards.js", "explorer.js")
_POOLS = ("max_pool2d", "avg_pool2d")
# How a drawn figure is centred, where the network knows one of these data sets (`fcnn.data.pictures.prepare`).
_FITS = {"mnist": {"box": 20, "by_mass": True}, "fashion_mnist": {"box": 28, "by_mass": False}}
_MOST_PREDICTED = 10_000  # images that are looked through for examples


def explore(model: Model, examples: Split | None = None, *, title: str | None = None, count: int = 50) -> str:
    """The page, as HTML: draw a picture, or drop or pick one, and see each layer's numbers and gradients, live.

    Args:
        model: a network of the library's layers one after the other (`serial`, also within `serial`), from grey or
            coloured images (C, H, W) to the scores of two classes or more.
        examples: test images, of which some are put on the page to pick from; None for none.
        title: the page's heading.
        count: how many of the examples: as many wrong ones as there are up to half of them, all classes alike.

    Raises:
        LayerError: the page can't compute the network; the message names the layer.
        ValueError: the examples don't fit the network, or it gives no finite scores of classes.
    """
    expect_model("model", model)
    if title is not None:
        instance("title", title, str, "text")
    if examples is not None:
        instance("examples", examples, Split, "a Split of images and their classes, such as mnist.test")
    integer("count", count, least=0)
    layers = list(_in_order(model.network, ""))
    made = inits(model.network, model.in_shape)
    in_shapes = [model.in_shape, *(made[path].out_shape for path, _ in layers)]
    records = [
        _record(path, layer, in_shape, made[path], model)
        for (path, layer), in_shape in zip(layers, in_shapes, strict=False)
    ]
    _expect_classifier(model, made[""].out_shape)
    shapes = {path: made[path].out_shape for path, _ in layers}
    cam = cam_path(model.params, model.in_shape, shapes)
    data = {
        "title": title or "See it think",
        "lead": f"One real network: {len(layers)} layers, {size(model.params):,} parameters. This page holds all of "
        "it, and computes it here as you draw: every number of every layer, forward and back.",
        "in_shape": model.in_shape,
        "classes": model.classes or tuple(map(str, range(made[""].out_shape[0]))),
        "layers": records,
        "fit": _fit(model),
        "cam": None if cam is None else list(shapes).index(cam),
        "examples": [] if examples is None else _examples(model, examples, made[""].out_shape[0], count),
        "examples_note": "Spread over the classes, with more of the hard ones than there are among test images."
        if examples is not None and len(examples) > count
        else "All test images.",
    }
    # Within a script element text ends at "</script", whatever a model's file calls its classes.
    return _page(
        str(data["title"]).encode("utf-8", "replace").decode(),
        json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
    )


def page_part(name: str) -> str:
    """One of the files that pages are made of, such as "base.css", which the study's report shares."""
    return files("fcnn.inspection").joinpath("page", name).read_text(encoding="utf-8")


def _page(title: str, data: str) -> str:
    parts = {
        "title": html.escape(title),
        "data": data,
        "style": page_part("base.css") + page_part("explorer.css"),
        "engine": page_part("layers.js") + page_part("engine.js"),
        "script": "\n".join(map(page_part, SCRIPTS)),
    }
    # In one go, as a part may hold what looks like a place for another.
    return re.sub(r"@@([a-z]+)@@", lambda found: parts[found[1]], page_part("page.html"))


def _in_order(layer: Layer, path: str) -> Iterator[tuple[str, Layer]]:
    """The layers of a network that computes one after the other."""
    if not layer.children:
        yield path, layer
        return
    if layer.make is not serial:
        raise LayerError(
            f"the explorer's page computes layers one after the other, not {layer.kind}; explore a part of the network",
            path,
        )
    for name, child in layer.children.items():
        yield from _in_order(child, f"{path}/{name}" if path else name)


def _record(path: str, layer: Layer, in_shape: Shape, made: Init, model: Model) -> dict[str, Any]:
    """What the page needs to know of a layer."""
    lesson = lesson_of(layer.kind)
    if lesson is None or layer.config.get("approximate", "none") != "none":
        unknown = layer if lesson else layer.kind
        raise LayerError(f"the explorer's page doesn't know how to compute {unknown}", path)
    if layer.held_params:
        raise LayerError("the explorer's page shows layers that are held whole, or not at all", path)
    record: dict[str, Any] = {
        "path": path,
        "kind": layer.kind,
        "call": _rounded(as_call(layer.kind, layer.config)),
        "in_shape": in_shape,
        "out_shape": made.out_shape,
        "params": _arrays(path, _at(model.params, path)),
        "state": _arrays(path, _at(model.state, path)),
        "parameters": size(made.params),
        "held": layer.held,
        "lesson": attrs.asdict(lesson),
    }
    config = layer.config
    if layer.kind == "conv2d":
        if config["groups"] > 1 or pair("dilation", config["dilation"], least=1) != (1, 1):
            raise LayerError("the explorer's page computes conv2d without groups and dilation only", path)
        kernel = pair("kernel", config["kernel"], least=1)
        stride, pads, _ = windows(_image(in_shape), kernel, config["stride"], config["padding"])
        record |= {"kernel": kernel, "stride": stride, "pads": pads}
    elif layer.kind in _POOLS:
        if config["ceil_mode"] or not config.get("count_include_pad", True):
            call = as_call(layer.kind, config)
            raise LayerError(
                f"the explorer's page computes pools without ceil_mode, and means that count padding, not {call}", path
            )
        kernel = pair("window", config["window"], least=1)
        stride = kernel if config["stride"] is None else pair("stride", config["stride"], least=1)
        pads, _ = pool_window(layer.kind, _image(in_shape), kernel, stride, config["padding"])
        record |= {"kernel": kernel, "stride": stride, "pads": pads}
    elif layer.kind == "batch_norm":
        record["eps"] = float(config["eps"])
    elif layer.kind == "normalize":
        record |= {name: np.atleast_1d(np.asarray(config[name], float)).tolist() for name in ("mean", "std")}
    elif layer.kind == "leaky_relu":
        record["slope"] = float(config["slope"])
    return record


def _rounded(call: str) -> str:
    """A call with at most five digits a number, as it is to be read."""
    return re.sub(r"\d+\.\d{5,}", lambda found: f"{float(found[0]):.5g}", call)


def _image(shape: Shape) -> tuple[int, int]:
    return shape[1], shape[2]


def _at(tree: Tree, path: str) -> Tree:
    for name in path.split("/"):
        found = tree.get(name, EMPTY)
        tree = found if isinstance(found, Tree) else EMPTY
    return tree


def _arrays(path: str, tree: Tree) -> dict[str, dict[str, Any]]:
    for name, array in tree.items():
        if array.dtype not in (np.float32, np.float64):
            raise ValueError(f"{path}/{name}: the explorer's page takes float32 or float64, got {array.dtype}")
        if not np.isfinite(array).all():
            raise ValueError(f"{path}/{name}: not all of it is finite; use a model whose training did not diverge")
    return {name: _array(array) for name, array in tree.items()}


def _array(array: NDArray[Any]) -> dict[str, Any]:
    """An array as JSON holds it: its bytes, little-endian, in base64."""
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    text = base64.b64encode(plain.tobytes()).decode("ascii")
    return {"shape": plain.shape, "dtype": array.dtype.name, "data": text}


def _expect_classifier(model: Model, out_shape: Shape) -> None:
    if len(model.in_shape) != 3 or model.in_shape[0] not in (1, 3):
        taken = "the explorer's page takes pictures, (1, H, W) or (3, H, W)"
        raise ValueError(f"{taken}; the network takes {model.in_shape}")
    are_probabilities = last_of(model.network).kind == "softmax"
    if len(out_shape) != 1 or out_shape[0] < 2 or are_probabilities:
        given = "probabilities" if are_probabilities else f"outputs of shape {out_shape}"
        raise ValueError(f"the explorer's page expects a network that gives scores of two classes or more, not {given}")
    if model.classes and len(model.classes) != out_shape[0]:
        raise ValueError(f"the model has names for {len(model.classes)} classes, and {out_shape[0]} outputs")


def _examples(model: Model, split: Split, outputs: int, count: int) -> list[dict[str, Any]]:
    """Some of the images, uint8, with their labels and what the network says of them."""
    if split.x.shape[1:] != model.in_shape or not len(split):
        expected = ", ".join(["N", *map(str, model.in_shape)])
        raise ValueError(f"examples are images, ({expected}), at least one, got {split.x.shape}")
    if split.x.dtype != np.uint8 and not (split.x.min() >= 0 and split.x.max() <= 1):
        raise ValueError("examples are images of uint8, or of floats from 0 to 1")
    labels = np.asarray(split.y)
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= outputs:
        raise ValueError(f"examples' labels are classes from 0 to {outputs - 1}, as the network has {outputs} outputs")
    split = split.take(min(len(split), _MOST_PREDICTED))
    said = predict(model, split.x).classes
    chosen = np.sort(_evenly(np.asarray(split.y), said, count))
    return [{"x": _array(split.x[i]), "label": int(split.y[i]), "said": int(said[i])} for i in chosen]


def _evenly(labels: NDArray[Any], said: NDArray[Any], count: int) -> NDArray[np.intp]:
    """The places of wrong ones, at most half, and of right ones, of both as many of each class as of the others."""
    # Each one's number among those of its class, wrong and right ones counted apart.
    rank, right = np.zeros(len(labels), np.intp), labels == said
    for label in np.unique(labels):
        for kind in (right, ~right):
            group = np.flatnonzero((labels == label) & kind)
            rank[group] = np.arange(len(group))
    order = np.lexsort((labels, rank))
    wrong = order[~right[order]][: count // 2]
    return np.concatenate([wrong, order[right[order]][: count - len(wrong)]])


def _fit(model: Model) -> dict[str, Any] | None:
    return next(
        (_FITS[name] for name in _FITS if SHAPES[name] == model.in_shape and CLASSES[name] == model.classes), None
    )
