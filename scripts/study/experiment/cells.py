"""Cells: values that say all that a result depends on. Equal cells have equal results, times apart.

A cell can be run in any process, by any `concurrent.futures` executor, in any order.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

import attrs
import numpy as np

Framework = Literal["fcnn", "pytorch"]
Arrays = dict[str, np.ndarray[Any, Any]]


@attrs.frozen(kw_only=True)
class Training:
    """One LeNet-5 trained and tested, on one thread: everything that its accuracy depends on."""

    framework: Framework = "fcnn"
    dataset: str = "mnist"
    train_size: int = 60_000
    init: str = "xavier"
    batch_norm: bool = False
    dropout: float = 0.0
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = 1e-3
    batch_size: int = 128
    epochs: int = 5
    seed: int = 0
    detail: bool = False  # test after every epoch; keep predictions, filters and feature maps for the figures


@attrs.frozen(kw_only=True)
class Timing:
    """Each framework in its fastest way on the whole machine, whole epochs in turn: how fast do they train?"""

    dataset: str = "mnist"
    train_size: int = 60_000
    batch_size: int = 128
    epochs: int = 3
    threads: int = 1
    frameworks: tuple[Framework, ...] = ("fcnn", "pytorch")


@attrs.frozen(kw_only=True)
class Parting:
    """Both frameworks from the same weights on the same batches for one epoch: how far do they part?"""

    dataset: str = "mnist"
    train_size: int = 60_000
    dtype: Literal["float32", "float64"] = "float32"
    batch_size: int = 128
    lr: float = 1e-3
    seed: int = 0


@attrs.frozen(kw_only=True)
class GradientChecks:
    """Every layer against central differences in float64, in both modes."""

    seed: int = 0


Cell = Training | Timing | Parting | GradientChecks


def settings_of(cell: Cell) -> tuple[str, dict[str, Any]]:
    """A cell as plain data: its kind and its settings, as they come back from JSON."""
    return type(cell).__name__, json.loads(json.dumps(attrs.asdict(cell)))


def key_of(kind: str, config: Mapping[str, Any]) -> str:
    """A file name for a cell's result: the same for equal cells, different for different ones."""
    text = json.dumps([kind, config], sort_keys=True)
    return f"{kind.lower()}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
