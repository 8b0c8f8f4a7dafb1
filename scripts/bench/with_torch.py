"""PyTorch on the CPU in three forms: eager in either memory format, and compiled in the faster one."""

import functools
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench import torch_kit, torch_recipe
from bench.cases import ALL, BACKWARD, BOTH, FORWARD, WEIGHT, Conv, Epoch, Photo, Pool, Predict, RecordStep, Step, Whole
from bench.networks import NETWORKS, described
from bench.programs import (
    Array,
    Inputs,
    Makers,
    Prepared,
    params_of,
    prepare_inference,
    prepare_photo,
    prepare_training,
    sample,
)


@contextmanager
def opened(threads: int, form: str) -> Iterator[Makers]:
    """Cases in one form: "NCHW", "channels_last" or "compiled"."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # that of earlier runs would hide how long compiling takes
        made = {
            Step: training,
            RecordStep: record,
            Epoch: training,
            Predict: predict,
            Photo: photo,
            Conv: conv,
            Pool: pool,
        }
        yield {kind: functools.partial(function, form=form) for kind, function in made.items()}


def network(case: Whole, inputs: Inputs, form: str) -> nn.Module:
    """The case's network with the given weights."""
    model: nn.Module = NETWORKS[case.network].make(torch_kit)(params_of(inputs), "")
    return model.to(memory_format=_format(form))  # type: ignore[call-overload, no-any-return]


def training(case: Step | Epoch, inputs: Inputs, form: str) -> Prepared:
    """The usual loop; compiled, model and loss are one graph and Adam is one kernel."""
    model = network(case, inputs, form)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True if form == "compiled" else None)

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(model(x), y)

    compute = _compiled(loss_of, form)

    def step(x: Tensor, y: Tensor) -> float:
        optimizer.zero_grad()
        loss = compute(x, y)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return prepare_training(case, inputs, step, lambda x, y: (_floats(x, form), torch.from_numpy(y)))


def record(case: RecordStep, inputs: Inputs, form: str) -> Prepared:
    """The step of the record's recipe; compiled, model and loss are one graph."""
    model = network(case, inputs, form)
    optimizer = torch_recipe.Optimizer(model, case.batch)
    compute = _compiled(lambda x, y: torch_recipe.loss_of(model(x), y), form)

    def step(x: Tensor, y: Tensor) -> float:
        model.zero_grad()
        loss = compute(x, y)
        loss.backward()
        optimizer.step()
        return float(loss.item()) / case.batch

    return prepare_training(case, inputs, step, lambda x, y: (_floats(x, form), torch.from_numpy(y)))


def predict(case: Predict, inputs: Inputs, form: str) -> Prepared:
    """The model in evaluation mode."""
    model = network(case, inputs, form).eval()
    compute = _compiled(model, form)

    def outputs(x: Array) -> Array:
        with torch.inference_mode():
            return compute(_floats(x, form)).numpy()  # type: ignore[no-any-return]

    return prepare_inference(case, inputs, outputs)


def photo(case: Photo, inputs: Inputs, form: str) -> Prepared:
    """The model in evaluation mode."""
    model = described(torch_kit, json.loads(str(inputs["network"])))(params_of(inputs), "")
    compute = _compiled(model.to(memory_format=_format(form)).eval(), form)
    x = _tensor(inputs["x"], form)

    def outputs() -> Array:
        with torch.inference_mode():
            return compute(x).numpy()  # type: ignore[no-any-return]

    return prepare_photo(outputs)


def conv(case: Conv, inputs: Inputs, form: str) -> Prepared:
    """`conv2d`, and the function that autograd calls for its gradients."""
    x, w, dy = (_tensor(inputs[name], form) for name in ("x", "w", "dy"))
    geometry = ([1, 1], [case.padding] * 2, [1, 1], False, [0, 0], 1)

    def forward() -> Tensor:
        with torch.no_grad():
            return functional.conv2d(x, w, padding=case.padding)

    def backward(need_dx: bool) -> Any:
        return torch.ops.aten.convolution_backward(dy, x, w, None, *geometry, [need_dx, True, False])[:2]

    calls = {
        FORWARD: forward,
        WEIGHT: lambda: backward(False),
        BOTH: lambda: backward(True),
        ALL: lambda: (forward(), *backward(True)),
    }
    return Prepared(calls, lambda: sample(*(tensor.numpy() for tensor in calls[ALL]())))


def pool(case: Pool, inputs: Inputs, form: str) -> Prepared:
    """The max pool with the indices that training keeps, and its gradient."""
    x, dy = (_tensor(inputs[name], form) for name in ("x", "dy"))
    window = ([2, 2], [2, 2], [0, 0], [1, 1], False)
    _, indices = torch.ops.aten.max_pool2d_with_indices(x, *window)
    calls = {
        FORWARD: lambda: torch.ops.aten.max_pool2d_with_indices(x, *window)[0],
        BACKWARD: lambda: torch.ops.aten.max_pool2d_with_indices_backward(dy, x, *window, indices),
    }
    return Prepared(calls, lambda: sample(*(call().numpy() for call in calls.values())))


def _compiled(function: Any, form: str) -> Any:
    if form != "compiled":
        return function
    torch.compiler.reset()  # what was compiled for another case would hide how long this one takes
    return torch.compile(function, dynamic=False)


def _format(form: str) -> torch.memory_format:
    return torch.contiguous_format if form == "NCHW" else torch.channels_last


def _tensor(x: Array, form: str) -> Tensor:
    return torch.tensor(x).contiguous(memory_format=_format(form))


def _floats(x: Array, form: str) -> Tensor:
    """Images from 0 to 1 in the form's memory format, from bytes."""
    return torch.from_numpy(x).to(torch.float32).div_(255).contiguous(memory_format=_format(form))
