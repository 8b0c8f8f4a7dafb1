"""JAX on the CPU: plain functions, jit'ed whole; images are (N, H, W, C), as XLA prefers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench.cases import ALL, BACKWARD, BOTH, FORWARD, WEIGHT, Conv, Epoch, Pool, Predict, Step
from bench.programs import Array, Inputs, Makers, Prepared, params_of, prepare_inference, prepare_training, sample

Params = dict[str, dict[str, Any]]


@contextmanager
def opened(threads: int, form: str = "") -> Iterator[Makers]:
    """Cases on so many threads."""
    os.environ["NPROC"] = str(threads)  # what XLA makes its thread pool of, when the first array is made
    jax.config.update("jax_platforms", "cpu")
    yield {Step: training, Epoch: training, Predict: predict, Conv: conv, Pool: pool}


def parameters(inputs: Inputs) -> Params:
    """fcnn's parameters in this program's order: filters (KH, KW, C, F), dense weights (in, out) for (H, W, C)."""
    params: Params = {}
    for path, value in params_of(inputs).items():
        name, leaf = path.split("/")
        if name == "fc1" and leaf == "w":
            value = value.reshape(-1, 16, 5, 5).transpose(0, 2, 3, 1).reshape(-1, 400)
        params.setdefault(name, {})[leaf] = jnp.asarray(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T)
    return params


def lenet(params: Params, x: Any) -> Any:
    """Logits for images (N, 28, 28, 1)."""
    for name, padding in (("conv1", 2), ("conv2", 0)):
        x = max_pool(jax.nn.relu(correlate(x, params[name]["w"], padding) + params[name]["b"]))
    x = x.reshape(len(x), -1)
    for name in ("fc1", "fc2"):
        x = jax.nn.relu(x @ params[name]["w"] + params[name]["b"])
    return x @ params["fc3"]["w"] + params["fc3"]["b"]


def correlate(x: Any, w: Any, padding: int) -> Any:
    """Cross-correlation of (N, H, W, C) with (KH, KW, C, F)."""
    return lax.conv_general_dilated(x, w, (1, 1), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def max_pool(x: Any) -> Any:
    """A 2x2 max pool."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def loss_of(params: Params, x: Any, y: Any) -> Any:
    """The mean cross-entropy."""
    return -jnp.take_along_axis(jax.nn.log_softmax(lenet(params, x)), y[:, None], axis=1).mean()


@jax.jit
def adam_step(state: tuple[Any, ...], x: Any, y: Any) -> tuple[tuple[Any, ...], Any]:
    """(parameters, both moments, steps done) and a batch to those after it, and the loss."""
    params, mu, nu, count = state
    loss, grads = jax.value_and_grad(loss_of)(params, x, y)
    count = count + 1
    mu = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mu, grads)
    nu = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, nu, grads)
    first, second = 1 - 0.9**count, 1 - 0.999**count
    params = jax.tree.map(lambda p, m, v: p - 1e-3 * (m / first) / (jnp.sqrt(v / second) + 1e-8), params, mu, nu)
    return (params, mu, nu, count), loss


@jax.jit
def floats(x: Any) -> Any:
    """Images from 0 to 1, from bytes."""
    return x.astype(jnp.float32) / 255


def training(case: Step | Epoch, inputs: Inputs) -> Prepared:
    """Steps, each one jit'ed function."""
    params = parameters(inputs)
    zeros = jax.tree.map(jnp.zeros_like, params)
    state: tuple[Any, ...] = (params, zeros, zeros, jnp.float32(0))

    def step(x: Any, y: Any) -> float:
        nonlocal state
        state, loss = adam_step(state, x, y)
        return float(loss)  # waits for it

    return prepare_training(case, inputs, step, lambda x, y: (floats(_nhwc(x)), jnp.asarray(y, jnp.int32)))


def predict(case: Predict, inputs: Inputs) -> Prepared:
    """Logits, one jit'ed function."""
    params = parameters(inputs)
    outputs = jax.jit(lambda params, x: lenet(params, floats(x)))
    return prepare_inference(case, inputs, lambda x: np.asarray(outputs(params, _nhwc(x))))


def conv(case: Conv, inputs: Inputs) -> Prepared:
    """XLA's convolution and the gradients that JAX derives; what a part doesn't give, the compiler leaves out."""
    x, w, dy = _nhwc(inputs["x"]), inputs["w"].transpose(2, 3, 1, 0), _nhwc(inputs["dy"])

    def everything(x: Any, w: Any, dy: Any) -> tuple[Any, ...]:
        y, pull = jax.vjp(lambda x, w: correlate(x, w, case.padding), x, w)
        return y, *pull(dy)

    calls = {
        FORWARD: _compiled(lambda *arrays: everything(*arrays)[0], x, w, dy),
        WEIGHT: _compiled(lambda *arrays: everything(*arrays)[2], x, w, dy),
        BOTH: _compiled(lambda *arrays: everything(*arrays)[1:], x, w, dy),
        ALL: _compiled(everything, x, w, dy),
    }

    def check() -> Array:
        y, dx, dw = calls[ALL]()
        return sample(_nchw(y), _nchw(dx), np.asarray(dw).transpose(3, 2, 0, 1))

    return Prepared(calls, check)


def pool(case: Pool, inputs: Inputs) -> Prepared:
    """XLA's windowed maximum, and its gradient."""
    x, dy = _nhwc(inputs["x"]), _nhwc(inputs["dy"])
    calls = {
        FORWARD: _compiled(max_pool, x),
        BACKWARD: _compiled(lambda x, dy: jax.vjp(max_pool, x)[1](dy)[0], x, dy),
    }
    return Prepared(calls, lambda: sample(*(_nchw(call()) for call in calls.values())))


def _compiled(function: Any, *arrays: Array) -> Any:
    jitted, there = jax.jit(function), [jnp.asarray(array) for array in arrays]
    return lambda: jax.block_until_ready(jitted(*there))


def _nhwc(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def _nchw(x: Any) -> Array:
    return np.asarray(x).transpose(0, 3, 1, 2)
