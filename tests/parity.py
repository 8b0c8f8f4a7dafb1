"""PyTorch beside fcnn: the same numbers in both, and a network of fcnn run by PyTorch's functions."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from fcnn import Key, Layer, Tree, fold_in, ops
from fcnn.ops.piecewise import clip_bounds
from fcnn.values.tree import flatten

torch = pytest.importorskip("torch")
from bench.torch_recipe import Muon  # noqa: E402, F401 (it imports PyTorch; others take it from here)

F = torch.nn.functional


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two libraries with a thread pool each get in each other's way; these arrays are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


both_dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])


def draw(*shape: int, dtype: type = np.float64, seed: int = 0) -> np.ndarray:
    array = np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)
    array.flags.writeable = False
    return array


def tensor(array: np.ndarray, grad: bool = False) -> Any:
    return torch.tensor(np.array(array), requires_grad=grad)


def assert_close(found: np.ndarray, expected: Any, unit: float | None = None) -> None:
    """Equal but for the rounding of sums, which goes with the array's greatest number.

    Sums here have at most some hundred numbers around 1, whose order differs: 100 times half a unit in the last place,
    1.1e-16 or 6e-8, is 1e-14 or 6e-6.
    """
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else np.asarray(expected)
    assert found.dtype == expected.dtype
    if unit is None:
        unit = 1e-5 if found.dtype == np.float32 else 1e-13
    np.testing.assert_allclose(found, expected, rtol=0, atol=unit * max(1, np.abs(expected).max(initial=0)))


def compare(
    forward: Callable[..., tuple[np.ndarray, Any]],
    backward: Callable[..., Any],
    reference: Callable[..., Any],
    *inputs: np.ndarray,
) -> None:
    """Values, and gradients of all inputs under a random dy."""
    y, cache = forward(*inputs)
    tensors = [tensor(array, grad=True) for array in inputs]
    expected = reference(*tensors)
    assert_close(y, expected)
    dy = draw(*y.shape, dtype=y.dtype, seed=9)
    expected.backward(tensor(dy))
    grads = backward(dy, cache)
    for found, one in zip(grads if isinstance(grads, tuple) else (grads,), tensors, strict=True):
        assert_close(found, one.grad)


def pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def around(x: Any, kernel: Any, stride: Any, padding: Any, value: float) -> Any:
    """x with the padding around it; PyTorch's own functions know "same" at stride 1 and in convolutions only.

    And each side's padding they don't know at all.
    """
    if is_per_side(padding):
        (top, bottom), (left, right) = padding
    elif padding == "same":
        totals = [
            max((math.ceil(n / s) - 1) * s + k - n, 0)
            for n, k, s in zip(x.shape[2:], pair(kernel), pair(stride), strict=True)
        ]
        (top, left), (bottom, right) = (t // 2 for t in totals), (t - t // 2 for t in totals)
    else:
        (top, left) = (bottom, right) = pair(padding)
    return F.pad(x, (left, right, top, bottom), value=value)


def is_per_side(padding: Any) -> bool:
    return isinstance(padding, tuple) and isinstance(padding[0], tuple)


def conv2d(x: Any, w: Any, b: Any, stride: Any, padding: Any, dilation: Any = 1, groups: int = 1) -> Any:
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    if not is_per_side(padding) and (pair(stride) == (1, 1) or padding != "same"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using padding='same' with even kernel lengths")  # it makes a copy
            return F.conv2d(x, w, b, padding=padding, **options)
    window = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], pair(dilation), strict=True)]
    return F.conv2d(around(x, tuple(window), stride, padding, 0), w, b, **options)


def conv_transpose2d(x: Any, w: Any, b: Any, config: Mapping[str, Any]) -> Any:
    names = ("stride", "padding", "output_padding", "dilation", "groups")
    return F.conv_transpose2d(x, w, b, **{name: config[name] for name in names})


def max_pool2d(x: Any, window: Any, stride: Any, padding: Any, **options: bool) -> Any:
    if is_known_to_pools(window, padding):
        return F.max_pool2d(x, window, stride, padding, **options)
    stride = window if stride is None else stride
    return F.max_pool2d(around(x, window, stride, padding, -math.inf), window, stride)


def avg_pool2d(x: Any, window: Any, stride: Any, padding: Any, **options: bool) -> Any:
    if is_known_to_pools(window, padding):
        return F.avg_pool2d(x, window, stride, padding, **options)
    stride = window if stride is None else stride
    return F.avg_pool2d(around(x, window, stride, padding, 0), window, stride)


def conv1d(x: Any, w: Any, b: Any, stride: int, padding: Any, dilation: int, groups: int) -> Any:
    """PyTorch's own, with zeros put around before."""
    if padding == "same":
        total = max((-(-x.shape[2] // stride) - 1) * stride + (w.shape[2] - 1) * dilation + 1 - x.shape[2], 0)
        padding = total // 2, total - total // 2
    return F.conv1d(F.pad(x, pair(padding)), w, b, stride=stride, dilation=dilation, groups=groups)


def pool1d(pool: Any, x: Any, window: int, stride: int | None, padding: Any, **options: bool) -> Any:
    """By the pools of images of one row: what PyTorch's own of sequences lack, they have."""
    along = padding if padding == "same" else (0, padding) if isinstance(padding, int) else ((0, 0), padding)
    return pool(x[:, :, None], (1, window), (1, stride or window), along, **options)[:, :, 0]


def is_known_to_pools(window: Any, padding: Any) -> bool:
    """Whether PyTorch's pools take the padding; where they don't, it is put around before, and counts as pixels."""
    return (
        padding != "same"
        and not is_per_side(padding)
        and all(2 * p <= k for p, k in zip(pair(padding), pair(window), strict=True))
    )


def hardsigmoid(x: Any, alpha: float = 1 / 6, beta: float = 0.5) -> Any:
    """PyTorch's own has a gradient of 1 / 6 in float32, also for float64."""
    if (alpha, beta) == (1 / 6, 0.5):
        return F.hardsigmoid(x) if x.dtype == torch.float32 else F.relu6(x + 3) / 6
    return F.hardtanh(alpha * x + beta, 0, 1)


def softplus(x: Any) -> Any:
    return F.softplus(x, threshold=50)  # where it becomes x; by default it is wrong by 2e-9 at 20


def layer_norm(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    if gamma.shape == x.shape[1:]:
        return F.layer_norm(x, gamma.shape, gamma, beta, eps)
    return F.layer_norm(x.movedim(1, -1), gamma.shape, gamma, beta, eps).movedim(-1, 1)


def interpolate(x: Any, scale: Any, mode: str, align_corners: bool) -> Any:
    corners = {} if mode == "nearest" else {"align_corners": align_corners}
    return F.interpolate(x, scale_factor=tuple(map(float, pair(scale))), mode=mode, **corners)


def moved(x: Any, down: int, right: int, mode: str) -> Any:
    """A crop of the padded images."""
    edges = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    padded = F.pad(x, edges, mode="reflect") if mode == "reflect" else F.pad(x, edges)
    rows, columns = (slice(max(-by, 0), max(-by, 0) + n) for by, n in zip((down, right), x.shape[2:], strict=True))
    return padded[:, :, rows, columns]


def tensors(*trees: Tree, grad: bool = False) -> dict[str, Any]:
    """Leaves by path, as tensors."""
    return {path: tensor(leaf, grad) for one in trees for path, leaf in flatten(one).items()}


def run(layer: Layer, values: Mapping[str, Any], x: Any, *, train: bool, key: Key | None = None, path: str = "") -> Any:
    """The output of a network by PyTorch's functions, of parameters and running statistics by path.

    Running statistics are changed in place, as PyTorch does. Dropout takes the mask that fcnn draws with the key.
    """

    def child(name: str, x: Any) -> Any:
        below = f"{path}/{name}" if path else name
        key_below = None if key is None else fold_in(key, name)
        return run(layer.children[name], values, x, train=train, key=key_below, path=below)

    def value(name: str) -> Any:
        return values.get(f"{path}/{name}" if path else name)

    config = layer.config
    match layer.kind:
        case "serial":
            for name in layer.children:
                x = child(name, x)
            return x
        case "residual":
            return child("body", x) + child("shortcut", x)
        case "branch":
            parts = [child(name, x) for name in layer.children]
            if config["merge"] == "multiply":
                return math.prod(parts[1:], start=parts[0])
            return torch.cat(parts, dim=1) if config["merge"] == "concat" else sum(parts[1:], parts[0])
        case "averaged_views":
            if train:
                return child("network", x)
            names = [*layer.children][1:]
            weights = config.get("weights", (1,) * len(names))
            return sum(w * child("network", child(n, x)) for n, w in zip(names, weights, strict=True)) / sum(weights)
        case "mirror":
            return x.flip(3)
        case "shift":
            return moved(x, **config)
        case "conv2d":
            names = ("stride", "padding", "dilation", "groups")
            return conv2d(x, value("w"), value("b"), *(config[name] for name in names))
        case "conv_transpose2d":
            return conv_transpose2d(x, value("w"), value("b"), config)
        case "dense":
            return F.linear(x, value("w"), value("b"))
        case "batch_norm":
            momentum, eps = 1 - config["decay"], config["eps"]
            return F.batch_norm(x, value("mean"), value("var"), value("gamma"), value("beta"), train, momentum, eps)
        case "layer_norm":
            return layer_norm(x, value("gamma"), value("beta"), config["eps"])
        case "group_norm":
            return F.group_norm(x, config["groups"], value("gamma"), value("beta"), config["eps"])
        case "prelu":
            return F.prelu(x, value("slope"))
        case "normalize":
            wide = (1, -1, *[1] * (x.ndim - 2))
            mean, std = (torch.tensor(config[name], dtype=x.dtype).reshape(wide) for name in ("mean", "std"))
            return (x - mean) / std
        case "dropout":
            if not train:
                return x
            ones = np.ones(x.shape, x.detach().numpy().dtype)
            return x * tensor(ops.dropout(ones, config["rate"], train=True, key=key)[0])
        case "max_pool2d" | "avg_pool2d":
            function = max_pool2d if layer.kind == "max_pool2d" else avg_pool2d
            return function(x, **config)
        case "adaptive_avg_pool2d":
            return F.adaptive_avg_pool2d(x, config["size"])
        case "global_avg_pool2d":
            return x.mean(dim=(2, 3))
        case "conv1d":
            names = ("stride", "padding", "dilation", "groups")
            return conv1d(x, value("w"), value("b"), *(config[name] for name in names))
        case "max_pool1d" | "avg_pool1d":
            return pool1d(max_pool2d if layer.kind == "max_pool1d" else avg_pool2d, x, **config)
        case "global_avg_pool1d":
            return x.mean(dim=2)
        case "upsample":
            return interpolate(x, **config)
        case "reshape":
            return x.reshape(-1, *config["shape"]) if -1 not in config["shape"] else x.reshape(len(x), *config["shape"])
        case "flatten":
            return x.flatten(1)
        case "identity":
            return x
        case "leaky_relu":
            return F.leaky_relu(x, config["slope"])
        case "gelu":
            return F.gelu(x, approximate=config["approximate"])
        case "elu":
            return F.elu(x, config["alpha"])
        case "clip":
            return F.hardtanh(x, *clip_bounds(config["low"], config["high"]))
        case "hardsigmoid":
            return hardsigmoid(x, config["alpha"], config["beta"])
        case "softplus":
            return softplus(x)
        case "softmax" | "log_softmax":
            return getattr(F, layer.kind)(x, dim=1)
        case "relu" | "sigmoid" | "tanh" | "silu" | "relu6" | "hardswish":
            return getattr(F, layer.kind)(x)
    raise AssertionError(f"PyTorch has no {layer.kind}, or this table lacks it")
