"""Which network a file holds, and on which data set it was trained: for every script that takes one."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from console import Stop
from options import MODELS, USUAL

import fcnn
from fcnn.data import pictures
from fcnn.data.pictures import CLASSES, SHAPES
from fcnn.exchange import formats
from fcnn.training.undescribed import load_undescribed
from fcnn.values.files import why_unreadable


def load_network(
    path: str, model_name: str | None, dataset: str | None, in_shape: tuple[int, ...] | None = None
) -> tuple[fcnn.Model, str | None]:
    """The model in a file, and the data set that it was trained on, where the file or the option says it.

    in_shape: an image's, where the file leaves that open.
    """
    if dataset is not None and dataset not in SHAPES and fcnn.data.is_own(dataset):  # else it guesses what was meant
        raise Stop(f"--dataset {dataset}: only {', '.join(SHAPES)} have a name; leave it out for pictures of your own")
    if model_name is not None and model_name not in MODELS:
        raise Stop(f"unknown model {model_name!r}; there are {', '.join(MODELS)}")
    if reason := why_unreadable(path):
        raise Stop(f"{path}: {reason}; MODEL is a checkpoint of scripts/train.py or fcnn.fit, or another model")
    if is_foreign(path):
        shape, classes = (SHAPES[dataset], CLASSES[dataset]) if dataset else (in_shape, ())
        return import_as(path, model_name, shape, len(classes) or None, classes).model, dataset
    meta = fcnn.load_meta(path)
    held = "a network of its own" if "network" in meta else model_name
    if "settings" in meta:
        held = known_name(path, meta["settings"], "model", MODELS)
        if "data" not in meta:  # it says what somebody's own was, which has no name
            dataset = known_name(path, meta["settings"], "dataset", SHAPES)
    if model_name not in (None, held):
        raise Stop(f"{path}: it holds {held}, not {model_name}; leave out --model")
    if "network" in meta:
        model = fcnn.load_model(path)
        if dataset and pictures.preprocessing_of(model.meta):
            raise Stop(f"{path}: it was trained on pictures of somebody's own; leave out --dataset {dataset}")
    elif held and dataset:
        shape, classes, name = SHAPES[dataset], CLASSES[dataset], f"{held} for {dataset}"
        network = MODELS[held](shape, len(classes))
        model = load_undescribed(path, network, in_shape=shape, classes=classes, name=name)
    else:
        raise Stop(
            f"{path}: the file doesn't say which network it holds (its meta neither describes one nor has settings of "
            "scripts/train.py); name it, such as --model lenet5 --dataset mnist"
        )
    return model, dataset


def is_foreign(path: str) -> bool:
    """Whether the ending of a file's name is that of another format than fcnn's own."""
    return formats.FORMATS.get(Path(path).suffix.lower(), "fcnn") != "fcnn"


def import_as(
    path: str,
    model_name: str | None = None,
    in_shape: tuple[int, ...] | None = None,
    count: int | None = None,
    classes: Iterable[str] = (),
    names: Mapping[str, str] | None = None,
) -> formats.Imported:
    """The model in a file of any format, and what its values are called there.

    Args:
        path: the file.
        model_name: of MODELS, what the values are for, where the file doesn't say it.
        in_shape, count: an image's shape, and how many classes; by default those that the network was made for.
        classes: their names.
        names: the file's name for each path; by default they are found.
    """
    kind = formats.format_of(path)
    if model_name is None:
        if kind in formats.HAVE_NAMES:
            raise Stop(
                f"{path}: a file of {kind} holds values by name, and no network; name it with --model, one of "
                f"{', '.join(MODELS)}"
            )
        with at_the_terminal():
            return formats.import_model(path, in_shape=in_shape, classes=classes)
    if model_name not in MODELS:
        raise Stop(f"unknown model {model_name!r}; there are {', '.join(MODELS)}")
    if kind == "ONNX":
        raise Stop(f"{path}: a file of ONNX holds its network; leave out --model")
    usual_shape, usual_count = USUAL[model_name]
    shape = in_shape or usual_shape
    network = MODELS[model_name](shape, count or usual_count)
    with at_the_terminal():
        return formats.import_model(path, network, in_shape=shape, classes=classes, names=names)


@contextlib.contextmanager
def at_the_terminal() -> Iterator[None]:
    """Name options instead of arguments in what the library advises."""
    try:
        yield
    except fcnn.ExchangeError as error:
        text = re.sub(r"in_shape=\((3, 224, 224|…)\)", "--in-shape 3x224x224", str(error))
        text = text.replace("with names=…", "with --names")
        raise Stop(text) from None


def known_name(path: str, settings: Any, what: str, known: Iterable[str]) -> str:
    """One of the names that a checkpoint's settings give."""
    name = settings.get(what) if isinstance(settings, dict) else None
    if isinstance(name, str) and name in known:
        return name
    raise Stop(
        f"{path}: its settings name the {what} {name!r}, this script knows {', '.join(known)}; "
        "was it written by another version of scripts/train.py?"
    )
