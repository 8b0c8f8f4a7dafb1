"""The plain baseline: LeNet-5 as textbooks write it in NumPy, with im2col in (N, C, H, W) and one big product.

Threads are those of BLAS within a product. Like the textbooks', it computes the first layer's input gradient too.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from threadpoolctl import threadpool_limits

from bench.cases import ALL, BOTH, FORWARD, WEIGHT, Conv, Epoch, Predict, Step
from bench.programs import Array, Inputs, Makers, Prepared, params_of, prepare_inference, prepare_training, sample

Named = dict[str, Array]
CONVOLUTIONS = {"conv1": 2, "conv2": 0}  # and their padding


@contextmanager
def opened(threads: int, form: str = "") -> Iterator[Makers]:
    """Cases with so many BLAS threads."""
    with threadpool_limits(threads, user_api="blas"):
        yield {Step: training, Epoch: training, Predict: predict, Conv: conv}


def im2col(x: Array, size: int, stride: int, padding: int) -> Array:
    """Each window of the images (N, C, H, W) as a row: (N * OH * OW, C * size * size)."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    n, c, h, w = x.shape
    oh, ow = (h - size) // stride + 1, (w - size) // stride + 1
    windows = np.empty((n, c, size, size, oh, ow), x.dtype)
    for i in range(size):
        for j in range(size):
            windows[:, :, i, j] = x[:, :, i : i + stride * oh : stride, j : j + stride * ow : stride]
    return windows.transpose(0, 4, 5, 1, 2, 3).reshape(n * oh * ow, -1)


def col2im(rows: Array, shape: tuple[int, ...], size: int, stride: int, padding: int) -> Array:
    """Each row added back to the pixels of its window: images (N, C, H, W) of that shape."""
    n, c, h, w = shape
    oh, ow = (h + 2 * padding - size) // stride + 1, (w + 2 * padding - size) // stride + 1
    windows = rows.reshape(n, oh, ow, c, size, size).transpose(0, 3, 4, 5, 1, 2)
    x = np.zeros((n, c, h + 2 * padding, w + 2 * padding), rows.dtype)
    for i in range(size):
        for j in range(size):
            x[:, :, i : i + stride * oh : stride, j : j + stride * ow : stride] += windows[:, :, i, j]
    return x[:, :, padding : padding + h, padding : padding + w]


def correlate(x: Array, w: Array, padding: int) -> tuple[Array, Array]:
    """The convolution (N, F, OH, OW), and the rows that its gradients need."""
    rows = im2col(x, w.shape[2], 1, padding)
    out = x.shape[2] + 2 * padding - w.shape[2] + 1
    return (rows @ w.reshape(len(w), -1).T).reshape(len(x), out, out, len(w)).transpose(0, 3, 1, 2), rows


def weight_gradient(dy: Array, rows: Array, w: Array) -> Array:
    """The gradient of a convolution's filters."""
    return (dy.transpose(1, 0, 2, 3).reshape(len(w), -1) @ rows).reshape(w.shape)


def input_gradient(dy: Array, w: Array, shape: tuple[int, ...], padding: int) -> Array:
    """The gradient of a convolution's images, of that shape."""
    return col2im(dy.transpose(0, 2, 3, 1).reshape(-1, len(w)) @ w.reshape(len(w), -1), shape, w.shape[2], 1, padding)


def max_pool(x: Array) -> tuple[Array, Array]:
    """A 2x2 max pool, and where in its window each maximum is."""
    n, c, h, w = x.shape
    windows = im2col(x, 2, 2, 0).reshape(-1, 4)
    where = windows.argmax(axis=1)
    return windows[np.arange(len(where)), where].reshape(n, h // 2, w // 2, c).transpose(0, 3, 1, 2), where


def max_pool_gradient(dy: Array, where: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of the pool's images, of that shape."""
    windows = np.zeros((where.size, 4), dy.dtype)
    windows[np.arange(where.size), where] = dy.transpose(0, 2, 3, 1).ravel()
    return col2im(windows, shape, 2, 2, 0)


def forward(params: Named, x: Array) -> tuple[Array, Named]:
    """Logits of LeNet-5, and what the backward pass needs."""
    kept: Named = {}
    for name, padding in CONVOLUTIONS.items():
        kept[f"{name}/x"] = x
        y, kept[f"{name}/rows"] = correlate(x, params[f"{name}/w"], padding)
        kept[f"{name}/y"] = np.maximum(y + params[f"{name}/b"][:, None, None], 0)
        x, kept[f"{name}/where"] = max_pool(kept[f"{name}/y"])
    x = x.reshape(len(x), -1)
    for name in ("fc1", "fc2", "fc3"):
        kept[f"{name}/x"] = x
        x = x @ params[f"{name}/w"].T + params[f"{name}/b"]
        x = x if name == "fc3" else np.maximum(x, 0)
    return x, kept


def gradient(params: Named, x: Array, y: Array) -> tuple[float, Named]:
    """The mean cross-entropy of LeNet-5, and the gradient of each parameter."""
    logits, kept = forward(params, x)
    softmax = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax /= softmax.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = -np.log(softmax[rows, y]).mean()
    softmax[rows, y] -= 1
    dy, grads = softmax / len(y), {}
    for name in ("fc3", "fc2", "fc1"):
        grads |= {f"{name}/w": dy.T @ kept[f"{name}/x"], f"{name}/b": dy.sum(axis=0)}
        dy = dy @ params[f"{name}/w"]
        dy = dy if name == "fc1" else dy * (kept[f"{name}/x"] > 0)
    dy = dy.reshape(-1, 16, 5, 5)
    for name, padding in reversed(CONVOLUTIONS.items()):
        w, active = params[f"{name}/w"], kept[f"{name}/y"]
        dy = max_pool_gradient(dy, kept[f"{name}/where"], active.shape) * (active > 0)
        grads |= {f"{name}/w": weight_gradient(dy, kept[f"{name}/rows"], w), f"{name}/b": dy.sum(axis=(0, 2, 3))}
        dy = input_gradient(dy, w, kept[f"{name}/x"].shape, padding)
    return loss, grads


def training(
    case: Step | Epoch, inputs: Inputs, compute: Callable[[Named, Array, Array], tuple[float, Named]] = gradient
) -> Prepared:
    """Steps of Adam, changing parameters and moments in place; `compute` gives the loss and the gradients."""
    params = {name: np.array(value) for name, value in params_of(inputs).items()}
    mu, nu = ({name: np.zeros_like(value) for name, value in params.items()} for _ in range(2))
    numbers = itertools.count(1)

    def step(x: Array, y: Array) -> float:
        loss, grads = compute(params, x, y)
        count = next(numbers)
        for name, g in grads.items():
            mu[name] += 0.1 * (g - mu[name])
            nu[name] += 0.001 * (g * g - nu[name])
            params[name] -= 1e-3 * (mu[name] / (1 - 0.9**count)) / (np.sqrt(nu[name] / (1 - 0.999**count)) + 1e-8)
        return float(loss)

    return prepare_training(case, inputs, step, lambda x, y: (_floats(x), y))


def predict(case: Predict, inputs: Inputs) -> Prepared:
    """Logits."""
    params = params_of(inputs)
    return prepare_inference(case, inputs, lambda x: forward(params, _floats(x))[0])


def conv(case: Conv, inputs: Inputs) -> Prepared:
    """The convolution and its gradients."""
    x, w, dy, padding = inputs["x"], inputs["w"], inputs["dy"], case.padding
    _, kept = correlate(x, w, padding)

    def both(rows: Array) -> tuple[Array, Array]:
        return input_gradient(dy, w, x.shape, padding), weight_gradient(dy, rows, w)

    def everything() -> tuple[Array, ...]:
        y, rows = correlate(x, w, padding)
        return y, *both(rows)

    calls = {
        FORWARD: lambda: correlate(x, w, padding),
        WEIGHT: lambda: weight_gradient(dy, kept, w),
        BOTH: lambda: both(kept),
        ALL: everything,
    }
    return Prepared(calls, lambda: sample(*everything()))


def _floats(x: Array) -> Array:
    return x.astype(np.float32) / np.float32(255)
