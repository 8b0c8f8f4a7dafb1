"""The loss and the optimizer of scripts/records/cifar10.py as a script for PyTorch has them: Muon, and SGD beside it.

K. Jordan's airbench94_muon; losses are summed over a batch. Its numbers are written again, as no fcnn may be imported
here: the benchmark compares the losses of first steps.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

STEPS = 200  # in which the rates fall to 0


def loss_of(outputs: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy with smoothed labels, summed."""
    return functional.cross_entropy(outputs, y, label_smoothing=0.2, reduction="sum")


class Muon:
    """K. Jordan et al., "Muon: An optimizer for hidden layers", 2024; in the dtype of the weights."""

    def __init__(self, weights: Sequence[Tensor], lr: float, momentum: float, steps: int, rescale: bool) -> None:
        self.weights, self.lr, self.momentum, self.steps, self.rescale = weights, lr, momentum, steps, rescale
        self.buffers = [torch.zeros_like(w) for w in weights]

    @torch.no_grad()
    def step(self) -> None:
        """Change the weights, whose gradients are there."""
        for w, buffer in zip(self.weights, self.buffers, strict=True):
            assert w.grad is not None
            buffer.mul_(self.momentum).add_(w.grad)
            update = self.orthogonal(w.grad.add(buffer, alpha=self.momentum).reshape(len(w), -1))
            if self.rescale:
                w.mul_(len(w) ** 0.5 / w.norm())
            w.add_(update.view(w.shape), alpha=-self.lr)

    def orthogonal(self, g: Tensor) -> Tensor:
        """Newton-Schulz steps towards singular values of 1."""
        x = g / (g.norm() + 1e-7)
        if len(g) > g.shape[1]:
            x = x.T
        for _ in range(self.steps):
            a = x @ x.T
            b = -4.7750 * a + 2.0315 * a @ a
            x = 3.4445 * x + b @ x
        return x.T if len(g) > g.shape[1] else x


class Optimizer:
    """The recipe's: the whitening filters and batch norm's scales stay as they are."""

    def __init__(self, model: nn.Module, batch: int) -> None:
        parameters = dict(model.named_parameters())
        for name, parameter in parameters.items():
            parameter.requires_grad_(name != "whiten.weight" and not (".bn" in name and name.endswith(".weight")))
        filters = [each for name, each in parameters.items() if ".conv" in name]
        groups = [
            {"params": [each for name, each in parameters.items() if name.endswith(end)], "lr": lr, "rate": lr}
            | {"weight_decay": 2e-6 * batch / lr}
            for end, lr in (("bias", 0.053), ("head.weight", 0.67))
        ]
        self.sgd = torch.optim.SGD(groups, momentum=0.85, nesterov=True)
        self.muon, self.at = Muon(filters, 0.24, 0.6, 3, rescale=True), 0

    def step(self) -> None:
        """Change all that learns, at rates that fall with the steps."""
        left = max(0.0, 1 - self.at / STEPS)
        for group in self.sgd.param_groups:
            group["lr"] = group["rate"] * left
        self.muon.lr = 0.24 * left
        self.sgd.step()
        self.muon.step()
        self.at += 1
