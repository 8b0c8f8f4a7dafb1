"""HIPS autograd: LeNet-5 in its NumPy, derivatives by tracing. Threads are those of BLAS within a product."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import autograd
import autograd.numpy as anp
import numpy as np
from autograd.scipy.signal import convolve
from threadpoolctl import threadpool_limits

from bench.cases import Step
from bench.programs import Array, Makers
from bench.with_numpy import Named, training


@contextmanager
def opened(threads: int, form: str = "") -> Iterator[Makers]:
    """Training steps with so many BLAS threads."""
    with threadpool_limits(threads, user_api="blas"):
        yield {Step: functools.partial(training, compute=autograd.value_and_grad(loss_of))}


def loss_of(params: Named, x: Array, y: Array) -> float:
    """The mean cross-entropy of LeNet-5."""
    x = anp.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    for name in ("conv1", "conv2"):
        w = params[f"{name}/w"][:, :, ::-1, ::-1]  # a convolution flips its filter, the networks' doesn't
        x = convolve(x, w, axes=([2, 3], [2, 3]), dot_axes=([1], [1]), mode="valid")
        x = anp.maximum(x + params[f"{name}/b"][:, None, None], 0)
        n, c, h, w = x.shape
        x = anp.max(anp.reshape(x, (n, c, h // 2, 2, w // 2, 2)), axis=(3, 5))
    x = anp.reshape(x, (len(y), -1))
    for name in ("fc1", "fc2"):
        x = anp.maximum(anp.dot(x, params[f"{name}/w"].T) + params[f"{name}/b"], 0)
    x = anp.dot(x, params["fc3/w"].T) + params["fc3/b"]
    shifted = x - anp.max(x, axis=1, keepdims=True)
    log_softmax = shifted - anp.log(anp.sum(anp.exp(shifted), axis=1, keepdims=True))
    return -anp.mean(log_softmax[np.arange(len(y)), y])  # type: ignore[no-any-return]
