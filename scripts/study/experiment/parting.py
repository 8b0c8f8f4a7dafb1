"""Both frameworks from the same weights on the same batches: their losses, and how far their weights part."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

import fcnn
from study.experiment.cells import Parting
from study.experiment.protocol import Array, dataset, epoch_batches
from study.experiment.torch_lenet import lenet


def run_parting(cell: Parting) -> dict[str, Any]:
    """One epoch of LeNet-5 in both, step by step, on one thread.

    Gives each step's losses, and the distance of all weights relative to their norm, |w_fcnn - w_torch| / |w_torch|.
    """
    torch.set_num_threads(1)
    data = dataset(cell.dataset, cell.train_size)
    in_shape, dtype = data.train.x.shape[1:], np.dtype(cell.dtype)
    model, loss, optimizer = fcnn.lenet5(in_shape, len(data.classes)), fcnn.softmax_cross_entropy(), fcnn.adam(cell.lr)
    state = fcnn.init_state(model, optimizer, fcnn.fold_in(fcnn.key(cell.seed), "model"), in_shape, dtype)
    step = fcnn.train_step(model, loss, optimizer)

    theirs = lenet(in_shape, len(data.classes)).to(getattr(torch, cell.dtype))
    their_optimizer, their_loss = torch.optim.Adam(theirs.parameters(), cell.lr), nn.CrossEntropyLoss()
    with torch.no_grad():
        for ours, parameter in _pairs(state, theirs):
            parameter.copy_(torch.tensor(ours))

    rows = []
    with fcnn.parallel.threads(1):
        for images, labels in epoch_batches(cell, data.train, 0):
            x = fcnn.data.as_batch(images, labels).x.astype(dtype)
            state, record = step(state, (x, labels))
            their_optimizer.zero_grad()
            value = their_loss(theirs(torch.tensor(np.ascontiguousarray(x))), torch.tensor(labels))
            value.backward()
            their_optimizer.step()
            apart, size = 0.0, 0.0
            for ours, parameter in _pairs(state, theirs):
                weights = parameter.detach().numpy().astype(np.float64)
                apart += float(((ours - weights) ** 2).sum())
                size += float((weights**2).sum())
            rows.append({"fcnn_loss": record.loss, "pytorch_loss": value.item(), "distance": (apart / size) ** 0.5})
    gaps = [abs(row["fcnn_loss"] - row["pytorch_loss"]) for row in rows]
    return {"steps": rows, "max_loss_gap": max(gaps), "final_distance": rows[-1]["distance"]}


def _pairs(state: fcnn.TrainState, theirs: nn.Module) -> Iterator[tuple[Array, nn.Parameter]]:
    """Each parameter of fcnn beside PyTorch's: `weight` and `bias` are called `w` and `b`."""
    for name, parameter in theirs.named_parameters():
        layer, kind = name.split(".")
        yield state.params[layer][kind[0]], parameter
