"""Both frameworks from the same weights on the same batches: their losses, and how far their weights part."""

from typing import Any

import numpy as np
import torch
from torch import nn

import fcnn
from study.experiment.cells import Parting, dataset, epoch_batches
from study.experiment.torch_lenet import lenet


def run_parting(cell: Parting) -> dict[str, Any]:
    """One epoch of LeNet-5 in both, step by step.

    Gives each step's losses, and the distance of all weights relative to their norm, |w_fcnn - w_torch| / |w_torch|.
    """
    torch.set_num_threads(1)
    data = dataset(cell.dataset, cell.train_size)
    in_shape, dtype = data.train.x.shape[1:], np.dtype(cell.dtype)
    model, loss, optimizer = fcnn.lenet5(in_shape, len(data.classes)), fcnn.softmax_cross_entropy(), fcnn.adam(cell.lr)
    state = fcnn.init_state(model, optimizer, fcnn.fold_in(fcnn.key(cell.seed), "model"), in_shape, dtype)
    step = fcnn.train_step(model, loss, optimizer)

    theirs = lenet(in_shape, len(data.classes)).to(getattr(torch, cell.dtype))
    names = {"weight": "w", "bias": "b"}
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            layer, kind = name.split(".")
            parameter.copy_(torch.tensor(np.array(state.params[layer][names[kind]])))
    their_optimizer, their_loss = torch.optim.Adam(theirs.parameters(), cell.lr), nn.CrossEntropyLoss()

    rows = []
    for batch in epoch_batches(cell, data, 0):
        x = batch.x.astype(dtype)
        state, record = step(state, (x, batch.y))
        their_optimizer.zero_grad()
        value = their_loss(theirs(torch.tensor(np.ascontiguousarray(x))), torch.tensor(batch.y))
        value.backward()
        their_optimizer.step()
        apart, size = 0.0, 0.0
        for name, parameter in theirs.named_parameters():
            layer, kind = name.split(".")
            weights = parameter.detach().numpy().astype(np.float64)
            apart += float(((state.params[layer][names[kind]] - weights) ** 2).sum())
            size += float((weights**2).sum())
        rows.append({"fcnn_loss": record.loss, "pytorch_loss": value.item(), "distance": (apart / size) ** 0.5})
    gaps = [abs(row["fcnn_loss"] - row["pytorch_loss"]) for row in rows]
    return {"steps": rows, "max_loss_gap": max(gaps), "final_distance": rows[-1]["distance"]}
