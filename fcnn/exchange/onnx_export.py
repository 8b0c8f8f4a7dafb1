"""`save_onnx`: a model as a file of ONNX, with NumPy alone."""

import json
import os
from typing import Any

import numpy as np

from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.onnx_nodes import Place, write
from fcnn.exchange.onnx_writing import INPUT, Graph, model_pieces
from fcnn.network.description import inits
from fcnn.network.layer import Init, Shape
from fcnn.network.model import Model, expect_model
from fcnn.training.checkpoint import differences
from fcnn.values.checks import file_path, lengths, told
from fcnn.values.files import replacing
from fcnn.values.tree import leaves

_MOST_BYTES = (1 << 31) - (1 << 20)  # a message of protobuf is less than 2 GiB; what isn't an array takes some of it
_MOST_TOLD = 1000


def save_onnx(path: str | os.PathLike[str], model: Model, in_shape: Shape | None = None) -> None:
    """Write a model to `path` as a file of ONNX that holds its weights, atomically.

    The network is written as it is in evaluation, in operators of ONNX alone (opset 21, which onnxruntime reads from
    1.18 on), one to three for each layer; a node has the path of its layer as its name, and an array the path of its
    parameter. Held, fused and checked layers are written as what they were made of. The input is `x` (N, …), the output
    `y` (N, …), both in the dtype of the parameters, with any number N of rows; `classes`, `in_shape` and `meta` are in
    the file's metadata, as JSON. `load_onnx` reads the same outputs again, to the bit; but for `adaptive_avg_pool2d` to
    several windows, which comes back as an `avg_pool2d` that adds along the width first, and rounds otherwise.

    Args:
        path: the file, by custom ending in `.onnx`; an old one is replaced in one step and its mode kept.
        model: what to write.
        in_shape: one input's shape without the batch axis, where it is to be another than the model's.

    Raises:
        ExchangeError: a layer has no form in ONNX (one of the user's own has none), with its path; the values aren't
            the network's, or not all float32 or all float64; or they take 2 GiB and more.
        LayerError: the network takes no inputs of that shape.
        OSError: the file can't be written, as in `fcnn.save`.

    >>> import os, tempfile
    >>> from fcnn import dense, key, relu, serial
    >>> network = serial(fc1=dense(4), relu1=relu(), fc2=dense(2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_onnx(f"{folder}/net.onnx", Model(network, network.init(key(0), (3,)).params, in_shape=(3,)))
    ...     os.listdir(folder)
    ['net.onnx']
    """
    path, model = file_path("path", path), expect_model("model", model)
    shape = model.in_shape if in_shape is None else lengths("in_shape", in_shape)
    made = inits(model.network, shape)
    graph = Graph(_dtype(model, made[""]))
    write(graph, Place("", model.network, model.params, model.state, shape, made), INPUT)
    pieces = model_pieces(graph, shape, made[""].out_shape, _facts(model, shape))
    with replacing(path) as file:
        file.writelines(pieces)


def _dtype(model: Model, made: Init) -> np.dtype[Any]:
    """That of the model's values, if they are its network's, of one dtype, and not too many."""
    problems = [
        f"{section}/{problem}"
        for section in ("params", "state")
        for problem in differences(getattr(model, section), getattr(made, section))
    ]
    if problems:
        raise ExchangeError("the model's values are not its network's:\n  " + "\n  ".join(problems[:_MOST_TOLD]))
    values = [
        (f"{section}/{path}", leaf) for section in ("params", "state") for path, leaf in leaves(getattr(model, section))
    ]
    found: dict[np.dtype[Any], str] = {}
    for path, leaf in values:
        found.setdefault(leaf.dtype, path)
    if len(found) > 1 or not found.keys() <= {np.dtype(np.float32), np.dtype(np.float64)}:
        came = " and ".join(f"{dtype} ({path})" for dtype, path in found.items())
        raise ExchangeError(
            f"the values of a file of ONNX are all float32 or all float64, got {came}; fcnn.tree.astype makes them so"
        )
    size = sum(leaf.nbytes for _, leaf in values)
    if size > _MOST_BYTES:
        raise ExchangeError(f"a file of ONNX is less than 2 GiB, these values take {size:,} bytes")
    return next(iter(found), np.dtype(np.float32))


def _facts(model: Model, in_shape: Shape) -> dict[str, str]:
    """What the file says of the model beside its graph, as JSON."""
    facts = {"in_shape": list(in_shape), "classes": list(model.classes), "meta": dict(model.meta)}
    try:
        return {name: json.dumps(fact, allow_nan=False) for name, fact in facts.items() if fact}
    except (TypeError, ValueError, RecursionError):
        raise ExchangeError(f"meta is a mapping of what JSON can hold, got {told(dict(model.meta))}") from None
