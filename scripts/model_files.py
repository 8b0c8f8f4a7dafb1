"""Which network a file holds, and on which data set it was trained: for every script that takes one."""

from collections.abc import Iterable
from typing import Any

from console import Stop
from options import MODELS

import fcnn
from fcnn.data import pictures
from fcnn.data.pictures import CLASSES, SHAPES
from fcnn.training.undescribed import load_undescribed
from fcnn.values.files import why_unreadable


def load_network(path: str, model_name: str | None, dataset: str | None) -> tuple[fcnn.Model, str | None]:
    """The model in a file, and the data set that it was trained on, where the file or the option says it."""
    if dataset is not None and dataset not in SHAPES and fcnn.data.is_own(dataset):  # else it guesses what was meant
        raise Stop(f"--dataset {dataset}: only {', '.join(SHAPES)} have a name; leave it out for pictures of your own")
    if model_name is not None and model_name not in MODELS:
        raise Stop(f"unknown model {model_name!r}; there are {', '.join(MODELS)}")
    if reason := why_unreadable(path):
        raise Stop(f"{path}: {reason}; MODEL.npz is a checkpoint of scripts/train.py or fcnn.fit, or a saved model")
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


def known_name(path: str, settings: Any, what: str, known: Iterable[str]) -> str:
    """One of the names that a checkpoint's settings give."""
    name = settings.get(what) if isinstance(settings, dict) else None
    if isinstance(name, str) and name in known:
        return name
    raise Stop(
        f"{path}: its settings name the {what} {name!r}, this script knows {', '.join(known)}; "
        "was it written by another version of scripts/train.py?"
    )
