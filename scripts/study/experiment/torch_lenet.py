"""The PyTorch baseline: the same network, trained by the usual loop. Only this file and `parting` import PyTorch."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

import fcnn
from study.experiment.cells import Training
from study.experiment.protocol import Array, Network

FORMATS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}


@contextmanager
def opened(cell: Training, data: fcnn.Dataset, variant: str, threads: int) -> Iterator[Network]:
    """The network of a cell in the memory format `variant`, with PyTorch on so many threads."""
    torch.set_num_threads(threads)
    yield _network(cell, data, FORMATS[variant])


def _network(cell: Training, data: fcnn.Dataset, memory_format: torch.memory_format) -> Network:
    if cell.batch_norm or cell.dropout:
        raise ValueError("the PyTorch baseline has neither batch norm nor dropout")
    torch.manual_seed(cell.seed)
    model = lenet(data.train.x.shape[1:], len(data.classes))
    initialise(model, cell.init)
    model = model.to(memory_format=memory_format)  # type: ignore[call-overload]
    loss_fn = nn.CrossEntropyLoss()
    optimizer: torch.optim.Optimizer
    if cell.optimizer == "adam":
        optimizer = torch.optim.Adam(model.parameters(), cell.lr)
    else:
        optimizer = torch.optim.SGD(model.parameters(), cell.lr, momentum=0.9)

    def floats(x: Array) -> torch.Tensor:
        return torch.tensor(x).to(torch.float32).div_(255).contiguous(memory_format=memory_format)

    # The state is the number of steps; everything else PyTorch keeps in the model and the optimizer.
    def step(state: int, batch: tuple[Array, Array]) -> tuple[int, fcnn.Record]:
        x, y = floats(batch[0]), torch.tensor(batch[1])
        optimizer.zero_grad()
        outputs = model(x)
        loss = loss_fn(outputs, y)
        loss.backward()
        optimizer.step()
        correct = int((outputs.argmax(dim=1) == y).sum())
        return state + 1, fcnn.Record(state, loss.item(), correct, len(y))

    def logits(state: int, split: fcnn.Split) -> Array:
        model.eval()
        with torch.no_grad():
            parts = [model(floats(split.x[first : first + 500])) for first in range(0, len(split), 500)]
        model.train()
        return torch.cat(parts).numpy()

    def filters(state: int) -> Array:
        return np.array(model.get_submodule("conv1").weight.detach().numpy())

    return Network(start=0, step=step, logits=logits, filters=filters)


def lenet(in_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """LeNet-5 layer by layer as `fcnn.lenet5` has it, with the same names."""
    layers = {
        "conv1": nn.Conv2d(in_shape[0], 6, 5, padding=2 if in_shape[1] == 28 else 0),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(6, 16, 5),
        "relu2": nn.ReLU(),
        "pool2": nn.MaxPool2d(2),
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(400, 120),
        "relu3": nn.ReLU(),
        "fc2": nn.Linear(120, 84),
        "relu4": nn.ReLU(),
        "fc3": nn.Linear(84, classes),
    }
    return nn.Sequential(OrderedDict(layers))


def initialise(model: nn.Module, init: str) -> None:
    """Draw the weights as `init` says; PyTorch's own default for `kaiming_uniform`."""
    if init == "kaiming_uniform":
        return
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            if init == "he":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            else:
                nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
