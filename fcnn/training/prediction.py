"""What a model says of inputs whose targets nobody knows."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import numpy as np

from fcnn.data import pictures
from fcnn.data.types import Split, check_inputs
from fcnn.network import layers
from fcnn.network.combinators import last_of
from fcnn.network.layer import Shape
from fcnn.network.model import Model, expect_model
from fcnn.ops import softmax
from fcnn.training.step import evaluate
from fcnn.values.arrays import Array, NDArray, frozen
from fcnn.values.checks import told
from fcnn.values.text import printable


@attrs.frozen(eq=False)
class Predictions:
    """What a model says of N inputs.

    outputs: the network's, (N, K): scores of K classes, or of a network that ends in a softmax their probabilities.
    probabilities: float64 (N, K): the softmax of scores, and otherwise the outputs.
    classes: the likeliest class of each, int64 (N,), 0 to K - 1.
    names: of the K classes; their numbers where the model has no names.
    """

    outputs: Array = attrs.field(repr=False)
    probabilities: NDArray[np.float64] = attrs.field(repr=False)
    classes: NDArray[np.int64]
    names: tuple[str, ...] = attrs.field(repr=False)


def predict(
    model: Model, x: Array, *, batch_size: int = 125, map_fn: Callable[..., Iterable[Any]] = map
) -> Predictions:
    """Tell the classes of inputs apart, in evaluation mode.

    For classes that exclude one another. Where an input may have several labels, or the outputs (N, K) are numbers,
    take `.outputs` alone: the softmax says nothing there. Networks of one output, and of maps (N, K, H, W), are
    refused; `fcnn.predictor` gives what they say.

    Args:
        model: a network whose outputs are scores as `softmax_cross_entropy` takes them; or whose last layer, whatever
            `serial` it lies in, is a `softmax`, so that they are probabilities already, or a `log_softmax`.
        x: images (N, C, H, W), sequences (N, C, L) or features (N, D) of the model's `in_shape`, at least one: floats
            as they are, or uint8 grey levels, of which floats 0 to 1 are made as in training.
        batch_size, map_fn: as `evaluate` takes them.

    Raises:
        TypeError: x is no array of uint8 or floats.
        ValueError: x has another shape; or the outputs are not the scores (N, K) of two classes or more, each with a
            name of its own if any has one; or they are not finite.

    >>> import fcnn
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32).reshape(64, 1)
    >>> split = fcnn.Split(x, (x[:, 0] > 0).astype(int))
    >>> data = fcnn.Dataset(split, split, classes=("below", "above"))
    >>> network = fcnn.serial(fcnn.dense(8), fcnn.relu(), fcnn.dense(2))
    >>> model = fcnn.fit(network, data, epochs=40, batch_size=8).model
    >>> found = predict(model, np.array([[-0.9], [0.5]], np.float32))
    >>> [found.names[k] for k in found.classes]
    ['below', 'above']
    """
    expect_model("model", model)
    if isinstance(x, np.ndarray) and (x.shape[1:] != model.in_shape or not len(x)):
        expected = ", ".join(["N", *map(str, model.in_shape)])
        raise ValueError(
            f"predict expects at least one input, in the shape that the network takes, ({expected}), got {x.shape}"
            f"{_how_to_shape(x, model.in_shape)}"
        )
    check_inputs("predict", x)
    split = Split(x, np.zeros(len(x), np.int64))  # labels, as evaluate asks for some
    with np.errstate(over="ignore", invalid="ignore"):  # it shows in the outputs, which are checked
        outputs = evaluate(
            model.network, model.params, model.state, split, batch_size=batch_size, loss=_none, map_fn=map_fn
        ).outputs
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        floats = "x.astype(np.float32) / 255" if x.dtype == np.uint8 else "x"
        raise ValueError(
            "predict expects a network whose outputs are the scores (N, K) of two classes or more, got "
            f"{outputs.shape}; fcnn.predictor(model.network, model.params, model.state)({floats}) gives the outputs"
        )
    names = model.classes or tuple(map(str, range(outputs.shape[1])))
    if len(names) != outputs.shape[1] or len(set(names)) < len(names):
        raise ValueError(f"predict expects different names for the network's {outputs.shape[1]} outputs, got {names}")
    if not np.isfinite(outputs).all():
        raise ValueError(
            "the network's outputs are not finite, its training diverged or its inputs are not finite either; "
            "use an earlier checkpoint, or look at the inputs"
        )
    probabilities = outputs.astype(np.float64)
    if not _are_probabilities(model, outputs):  # the softmax of a log_softmax's outputs is their exp
        probabilities = softmax(probabilities)[0]
    probabilities = frozen(probabilities)
    classes = frozen(probabilities.argmax(axis=1).astype(np.int64, copy=False))
    return Predictions(outputs, probabilities, classes, names)


def predict_pictures(
    model: Model,
    paths: Sequence[str | os.PathLike[str]],
    *,
    invert: bool | None = None,
    batch_size: int = 125,
    map_fn: Callable[..., Iterable[Any]] = map,
) -> Predictions:
    """Tell the classes of pictures apart that are in files, prepared as those that the model was trained on.

    How, is in the model's meta if it was trained on a `fcnn.data.folder`; otherwise it is that of the data set with a
    name which the model is like (`fcnn.data.pictures.prepared_as`).

    Args:
        model, batch_size, map_fn: as `predict` takes them.
        paths: at least one, of pictures as `fcnn.data.pictures.open_picture` reads them.
        invert: as `fcnn.data.pictures.prepare` takes it.

    Raises as `predict` does, and fcnn.data.pictures.PictureError, which names the file, for what is no picture.
    """
    expect_model("model", model)
    if isinstance(paths, (str, os.PathLike)) or not isinstance(paths, Sequence) or not paths:
        advice = "; put it into a list" if isinstance(paths, (str, os.PathLike)) else ""
        raise (ValueError if paths == [] else TypeError)(
            f"paths are names of files, at least one, got {told(paths)}{advice}"
        )
    how = pictures.prepared_as(model.in_shape, model.classes, model.meta)
    images = []
    for path in paths:
        try:
            images.append(pictures.read_picture(path, how, invert)[0])
        except pictures.PictureError as error:
            raise pictures.PictureError(f"{printable(os.fspath(path), None)}: {error}") from None
    return predict(model, np.stack(images), batch_size=batch_size, map_fn=map_fn)


def _are_probabilities(model: Model, outputs: Array) -> bool:
    """Whether the outputs are a softmax over all classes, and not one over the channels of maps laid end to end."""
    if last_of(model.network).make is not layers.softmax:
        return False
    return bool(np.allclose(outputs.sum(axis=1), 1, rtol=0, atol=0.5))  # of maps it is their number of pixels


def _how_to_shape(x: Array, in_shape: Shape) -> str:
    """Advice that is right for inputs of another shape, or none."""
    if x.shape == in_shape:
        return "; x[None] is a batch of one"
    if len(x) and (1, *x.shape[1:]) == in_shape:
        return "; x[:, None] is such"
    if x.ndim in (3, 4) and len(x) and (x.shape[-1], *x.shape[1:-1]) == in_shape:
        return f"; where channels come last, x.transpose{(0, 3, 1, 2) if x.ndim == 4 else (0, 2, 1)} is such"
    return ""


def _none(outputs: Array, targets: Any) -> tuple[float, Array]:
    """The loss of a network whose targets nobody knows."""
    return np.nan, outputs
