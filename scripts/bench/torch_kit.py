"""PyTorch's layers under fcnn's names. Each constructor gives a function that makes the module with given weights.

make(params, path) -> module     # params: arrays by path, such as conv1/w; path: of the layer, such as "conv1/"
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from bench.programs import Array

Make: TypeAlias = Callable[[Mapping[str, Array], str], nn.Module]


def serial(**children: Make) -> Make:
    """One layer after the other."""
    return lambda params, path: nn.Sequential(
        OrderedDict((name, child(params, f"{path}{name}/")) for name, child in children.items())
    )


class Residual(nn.Module):
    """body(x) + shortcut(x)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Both of x, added."""
        return self.body(x) + self.shortcut(x)  # type: ignore[no-any-return]


def identity() -> Make:
    """The input as it is."""
    return lambda params, path: nn.Identity()


def residual(body: Make, shortcut: Make | None = None) -> Make:
    """Two layers on one input, their outputs added; the second is the identity by default."""
    beside = shortcut or identity()
    return lambda params, path: Residual(body(params, f"{path}body/"), beside(params, f"{path}shortcut/"))


def conv2d(
    filters: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
) -> Make:
    """A convolution of as many channels as its weights have, in all groups."""

    def make(params: Mapping[str, Array], path: str) -> nn.Module:
        channels = groups * params[f"{path}w"].shape[1]
        conv = nn.Conv2d(channels, filters, kernel, stride, padding, dilation, groups, bias)
        return _filled(conv, params, path, "w", "b")

    return make


def dense(units: int, *, bias: bool = True) -> Make:
    """A dense layer of as many inputs as its weights have."""
    return lambda params, path: _filled(
        nn.Linear(params[f"{path}w"].shape[1], units, bias=bias), params, path, "w", "b"
    )


class BatchNorm(nn.BatchNorm2d):
    """Batch norm of images, and of features."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Nothing: PyTorch has a class for each, which differ in this check alone."""


def batch_norm(*, decay: float = 0.9, eps: float = 1e-5) -> Make:
    """Batch norm of as many channels as its weights have."""

    def make(params: Mapping[str, Array], path: str) -> nn.Module:
        return _filled(BatchNorm(len(params[f"{path}gamma"]), eps, 1 - decay), params, path, "gamma", "beta")

    return make


def relu() -> Make:
    """The greater of x and 0."""
    return lambda params, path: nn.ReLU()


def relu6() -> Make:
    """The greater of x and 0, and 6 at most."""
    return lambda params, path: nn.ReLU6()


def gelu() -> Make:
    """By erf, not an approximation."""
    return lambda params, path: nn.GELU()


class Normalize(nn.Module):
    """(x - mean) / std, a number each or one a channel."""

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("std", std)):
            tensor = torch.tensor(value)
            self.register_buffer(name, tensor.reshape(-1, 1, 1) if tensor.ndim else tensor)

    def forward(self, x: Tensor) -> Tensor:
        """x, moved and scaled."""
        return (x - self.mean) / self.std  # type: ignore[no-any-return]


def normalize(mean: float | Sequence[float], std: float | Sequence[float]) -> Make:
    """(x - mean) / std."""
    return lambda params, path: Normalize(mean, std)


def dropout(rate: float) -> Make:
    """Nothing, in evaluation."""
    return lambda params, path: nn.Dropout(rate)


def max_pool2d(window: int, *, stride: int | None = None, padding: int = 0, ceil_mode: bool = False) -> Make:
    """The greatest of each window."""
    return lambda params, path: nn.MaxPool2d(window, stride, padding, ceil_mode=ceil_mode)


def global_avg_pool2d() -> Make:
    """The mean of each channel."""
    return lambda params, path: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def flatten() -> Make:
    """Images as features."""
    return lambda params, path: nn.Flatten()


def _filled(module: nn.Module, params: Mapping[str, Array], path: str, weight: str, bias: str) -> nn.Module:
    with torch.no_grad():
        for name, leaf in (("weight", weight), ("bias", bias)):
            if (parameter := getattr(module, name)) is not None:
                parameter.copy_(torch.tensor(params[f"{path}{leaf}"]))
    return module
