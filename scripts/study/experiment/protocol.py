"""What is the same for both frameworks: the images, their batches, and what the study does to a network."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import attrs
import numpy as np

import fcnn
from study.experiment.cells import Arrays, Parting, Training

Array: TypeAlias = np.ndarray[Any, Any]


@attrs.frozen
class Network:
    """A framework's LeNet-5. `start` is its state before training; what a state is, only the framework knows."""

    start: Any
    step: Callable[[Any, tuple[Array, Array]], tuple[Any, fcnn.Record]]
    """(state, batch) -> (state, record): one optimizer step. A batch is uint8 images (N, C, H, W) and labels (N,)."""
    logits: Callable[[Any, fcnn.Split], Array]
    """(state, split) -> outputs (N, classes) in evaluation mode."""
    filters: Callable[[Any], Array]
    """state -> a copy of the first layer's weights."""
    maps: Callable[[Any, fcnn.Split], Arrays] = lambda state, split: {}
    """(state, split) -> the first image on its way through the network, for a figure; fcnn alone has it."""


_loaded = functools.lru_cache(maxsize=2)(fcnn.data.load)


def dataset(name: str, train_size: int) -> fcnn.Dataset:
    """A data set with its first `train_size` training images; loaded once a process."""
    data = _loaded(name)
    return fcnn.Dataset(data.train.take(min(train_size, len(data.train))), data.test, data.name, data.classes)


def epoch_batches(cell: Training | Parting, split: fcnn.Split, epoch: int) -> Iterator[tuple[Array, Array]]:
    """The batches of one epoch as `fcnn.batches` orders them, in bytes: each framework makes floats in its own way."""
    rows = fcnn.Split(np.zeros((len(split), 1, 1, 1), np.uint8), np.arange(len(split)))
    key = fcnn.fold_in(fcnn.key(cell.seed), "batches")
    first = epoch * fcnn.data.steps_per_epoch(len(split), cell.batch_size)
    for batch in fcnn.batches(rows, cell.batch_size, key, epochs=epoch + 1, start_step=first):
        yield split.x[batch.y], split.y[batch.y]
