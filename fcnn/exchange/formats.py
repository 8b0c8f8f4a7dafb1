"""A model from a file of any format, and into one; the ending of the file's name says which."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.keras import load_keras
from fcnn.exchange.matching import filled, found_names
from fcnn.exchange.names import values_of
from fcnn.exchange.onnx_export import save_onnx
from fcnn.exchange.onnx_import import load_onnx
from fcnn.exchange.safetensors import load_safetensors, save_safetensors
from fcnn.exchange.torch_reading import load_torch
from fcnn.exchange.torch_writing import save_torch
from fcnn.network.description import inits
from fcnn.network.layer import Layer, Shape
from fcnn.network.model import Model, expect_model
from fcnn.training.checkpoint import load_model, save_model
from fcnn.training.undescribed import load_undescribed
from fcnn.values.archives import DamagedFileError, opened_archive
from fcnn.values.arrays import Array
from fcnn.values.checks import file_path
from fcnn.values.text import printable

FORMATS = {".npz": "fcnn", ".pt": "PyTorch", ".pth": "PyTorch", ".safetensors": "safetensors", ".onnx": "ONNX"}
"""The format by the ending of a file's name."""

HAVE_NAMES = ("PyTorch", "safetensors")  # and nothing else: they hold values by name, and no network


@attrs.frozen
class Imported:
    """A model, and what each of its values is called in the file that it came from, by path."""

    model: Model
    names: Mapping[str, str]


def format_of(path: str | os.PathLike[str]) -> str:
    """The format of a file, a value of `FORMATS`, by the ending of its name. Raises ExchangeError for another.

    >>> format_of("resnet18.PTH")
    'PyTorch'
    """
    path = file_path("path", path)
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        known = ", ".join(FORMATS)
        raise ExchangeError(f"{printable(str(path))}: the ending of a model's file is one of {known}")
    return found


def load_arrays(path: str | os.PathLike[str]) -> dict[str, Array]:
    """What a file of PyTorch's or of safetensors holds, by its own names."""
    return load_torch(path) if _named_format(path) == "PyTorch" else load_safetensors(path)


def save_arrays(path: str | os.PathLike[str], arrays: dict[str, Array]) -> None:
    """Write arrays by name as a file of PyTorch's or of safetensors, atomically."""
    (save_torch if _named_format(path) == "PyTorch" else save_safetensors)(path, arrays)


def _named_format(path: str | os.PathLike[str]) -> str:
    """The format, if it is one that holds values by name."""
    kind = format_of(path)
    if kind not in HAVE_NAMES:
        raise ExchangeError(f"{path}: a file of {kind} is a network, and not arrays by name alone")
    return kind


def import_model(
    path: str | os.PathLike[str],
    network: Layer | None = None,
    *,
    in_shape: Shape | None = None,
    classes: Iterable[str] = (),
    names: Mapping[str, str] | None = None,
) -> Imported:
    """Read a model from a file of any format, which may come from anywhere: nothing of it is run.

    Args:
        path: the file.
        network, in_shape: what the values are for, where the file doesn't say it: one of PyTorch's or of safetensors,
            or an `.npz` of parameters alone or of Keras's weights. Of a file of ONNX, `in_shape` alone, where it leaves
            lengths open.
        classes: the names of the outputs, where the file has none.
        names: the file's name for each path of the network, as in `load_torch`.

    Raises:
        ExchangeError, CheckpointError: what `load_torch`, `load_safetensors`, `load_onnx` and `load_model` raise.
        ValueError: the network is missing, or is given for a file that has its own.
        OSError: the file can't be read.
    """
    path, kind = file_path("path", path), format_of(path)
    if kind in HAVE_NAMES:
        if network is None or in_shape is None:
            raise ValueError(f"{path}: a file of {kind} holds values and no network; give network=… and in_shape=…")
        empty = _empty(network, in_shape, classes)
        arrays, ordered = load_arrays(path), kind == "PyTorch"
        found = found_names(path, arrays, empty, names, ordered=ordered)
        return Imported(filled(path, arrays, empty, found), found)
    if names is not None:
        raise ValueError(f"{path}: names=… are of files of values by name, this one is of {kind}")
    if kind == "ONNX":
        if network is not None:
            raise ValueError(f"{path}: a file of ONNX has its own network; leave out network=…")
        model = load_onnx(path, in_shape=in_shape)
    elif network is None:
        model = load_model(path)
    elif in_shape is None:
        raise ValueError(f"{path}: network=… needs in_shape=…, one input's shape, such as (1, 28, 28)")
    elif _is_of_keras(path):
        model = load_keras(path, _empty(network, in_shape, classes))
    else:
        model = load_undescribed(path, network, in_shape=in_shape, classes=classes)
    if not model.classes:
        model = attrs.evolve(model, classes=tuple(classes))
    return Imported(model, {path: path for path in values_of(model)})


def _empty(network: Layer, in_shape: Shape, classes: Iterable[str]) -> Model:
    """The model whose values take no memory, for asking it what values it has."""
    made = inits(network, in_shape)[""]
    return Model(network, made.params, made.state, in_shape=in_shape, classes=tuple(classes))


def _is_of_keras(path: Path) -> bool:
    """Whether an archive's arrays are numbered, as `np.savez("w.npz", *model.get_weights())` does it."""
    try:
        with opened_archive(path) as archive:
            return "arr_0" in archive.names
    except DamagedFileError:
        return False  # who reads it says what is wrong


def export_model(path: str | os.PathLike[str], model: Model, *, names: Mapping[str, str] | None = None) -> None:
    """Write a model into a file of the format that its name's ending says, atomically.

    Args:
        path: the file. One of PyTorch's or of safetensors holds the values alone.
        model: what to write.
        names: what each path of the network is called in such a file; by default as `torch_names` gives it.

    Raises what `save_model`, `save_torch`, `save_safetensors` and `save_onnx` raise.
    """
    kind, model = format_of(path), expect_model("model", model)
    if kind == "PyTorch":
        save_torch(path, model, names=names)
    elif kind == "safetensors":
        save_safetensors(path, model, names=names)
    elif names is not None:
        raise ValueError(f"{path}: names=… are for files of values by name, a file of {kind} is a network")
    elif kind == "ONNX":
        save_onnx(path, model)
    else:
        save_model(path, model)
