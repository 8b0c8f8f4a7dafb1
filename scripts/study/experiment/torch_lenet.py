"""The PyTorch baseline: the same network, trained by the usual loop. Only this file and `parting` import PyTorch."""

import time
from typing import Any

import numpy as np
import torch
from torch import nn

import fcnn
from study.experiment.cells import Arrays, Training, epoch_batches, epoch_item


def lenet(in_shape: tuple[int, ...], classes: int, *, batch_norm: bool = False, dropout: float = 0.0) -> nn.Sequential:
    """LeNet-5 layer by layer as `fcnn.lenet5` has it, with the same names."""
    from collections import OrderedDict

    def norm(layer: nn.Module) -> list[nn.Module]:
        return [layer] if batch_norm else []

    def drop() -> list[nn.Module]:
        return [nn.Dropout(dropout)] if dropout else []

    padding = 2 if in_shape[1] == 28 else 0
    bias = not batch_norm
    layers: dict[str, list[nn.Module]] = {
        "conv1": [nn.Conv2d(in_shape[0], 6, 5, padding=padding, bias=bias)],
        "bn1": norm(nn.BatchNorm2d(6)),
        "act1": [nn.ReLU(), nn.MaxPool2d(2)],
        "conv2": [nn.Conv2d(6, 16, 5, bias=bias)],
        "bn2": norm(nn.BatchNorm2d(16)),
        "act2": [nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()],
        "fc1": [nn.Linear(400, 120, bias=bias)],
        "bn3": norm(nn.BatchNorm1d(120)),
        "act3": [nn.ReLU(), *drop()],
        "fc2": [nn.Linear(120, 84, bias=bias)],
        "bn4": norm(nn.BatchNorm1d(84)),
        "act4": [nn.ReLU(), *drop()],
        "fc3": [nn.Linear(84, classes)],
    }
    named = {
        name if number == 0 else f"{name}_{number}": layer
        for name, group in layers.items()
        for number, layer in enumerate(group)
    }
    return nn.Sequential(OrderedDict(named))


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
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def train_pytorch(cell: Training, data: fcnn.Dataset) -> tuple[list[dict[str, Any]], np.ndarray[Any, Any], Arrays]:
    """As `cells.train_fcnn`, in PyTorch, with images in the faster of its two memory formats."""
    torch.set_num_threads(cell.threads)
    torch.manual_seed(cell.seed)
    in_shape = data.train.x.shape[1:]
    model = lenet(in_shape, len(data.classes), batch_norm=cell.batch_norm, dropout=cell.dropout)
    initialise(model, cell.init)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss_fn = nn.CrossEntropyLoss()
    optimizer: torch.optim.Optimizer
    if cell.optimizer == "adam":
        optimizer = torch.optim.Adam(model.parameters(), cell.lr)
    else:
        optimizer = torch.optim.SGD(model.parameters(), cell.lr, momentum=0.9)
    test_x = tensor(fcnn.data.as_batch(data.test.x, data.test.y).x)
    test_y = torch.tensor(data.test.y)

    history: list[dict[str, Any]] = []
    filters = [first_filters(model)]
    for epoch in range(cell.epochs):
        began = time.perf_counter()
        model.train()
        total, correct = 0.0, 0
        for batch in epoch_batches(cell, data, epoch):
            x, y = tensor(batch.x), torch.tensor(batch.y)
            optimizer.zero_grad()
            outputs = model(x)
            loss = loss_fn(outputs, y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
            correct += int((outputs.argmax(dim=1) == y).sum())
        seconds = time.perf_counter() - began
        logits = predict(model, test_x)
        test_loss = nn.functional.cross_entropy(logits, test_y).item()
        accuracy = (logits.argmax(dim=1) == test_y).double().mean().item()
        history.append(epoch_item(epoch, total, correct, len(data.train), test_loss, accuracy, seconds))
        filters.append(first_filters(model))
    return history, logits.numpy(), {"filters": np.stack(filters)}


def predict(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Logits in evaluation mode."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(part) for part in x.split(500)])


def first_filters(model: nn.Sequential) -> np.ndarray[Any, Any]:
    """A copy of the first layer's weights."""
    return np.array(model.get_submodule("conv1").weight.detach().numpy())  # type: ignore[union-attr]


def tensor(x: np.ndarray[Any, Any]) -> torch.Tensor:
    """Images as a tensor in channels_last order."""
    return torch.tensor(np.ascontiguousarray(x)).to(memory_format=torch.channels_last)
