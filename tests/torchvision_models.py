"""torchvision's networks, which are pure Python: its wheel is for PyTorch's build with CUDA, and lacks operators here.

Without torchvision, `pip install --no-deps torchvision==0.28.0` for PyTorch 2.13, tests that import this are skipped.
"""

import functools
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")


@functools.cache
def models() -> Any:
    """The module `torchvision.models`."""
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        pytest.skip("torchvision is not installed")
    text = Path(found.origin).with_name("_meta_registrations.py").read_text()
    names = {*re.findall(r'register_meta\("(\w+)"', text), *re.findall(r"torchvision::(\w+)", text)}
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in names:
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor x) -> Tensor")
    models.library = library  # type: ignore[attr-defined]  # what it defines lives as long as it does
    return pytest.importorskip("torchvision.models")


def made(name: str, seed: int = 0) -> Any:
    """A network in evaluation mode, with random weights and running statistics that are not those of the beginning."""
    torch.manual_seed(seed)
    network = getattr(models(), name)()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    return network.eval()
