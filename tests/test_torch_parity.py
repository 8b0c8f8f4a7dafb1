"""Against PyTorch: every op's values and gradients, batch norm's statistics, losses, optimizers, and training LeNet."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import fcnn
from fcnn import ops
from fcnn.training.optim import apply_updates
from fcnn.values.tree import Tree, flatten, freeze

torch = pytest.importorskip("torch")
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


def assert_close(found: np.ndarray, expected: Any) -> None:
    """Equal but for the rounding of sums, which goes with the array's greatest number."""
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else np.asarray(expected)
    assert found.dtype == expected.dtype
    unit = 1e-5 if found.dtype == np.float32 else 1e-13
    np.testing.assert_allclose(found, expected, rtol=0, atol=unit * max(1, np.abs(expected).max()))


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


CONVOLUTIONS = [
    ((2, 3, 9, 8), (4, 3, 3, 3), {}),
    ((2, 3, 9, 8), (4, 3, 5, 2), {"stride": (2, 3), "padding": (2, 1)}),
    ((3, 2, 7, 7), (4, 2, 1, 1), {"stride": 2}),
    ((2, 2, 6, 5), (3, 2, 3, 3), {"padding": "same"}),
    ((2, 1, 5, 5), (3, 1, 5, 5), {}),
]


@both_dtypes
@pytest.mark.parametrize(("x", "w", "options"), CONVOLUTIONS, ids=str)
def test_conv2d(x: Any, w: Any, options: dict[str, Any], dtype: type) -> None:
    arrays = draw(*x, dtype=dtype), draw(*w, dtype=dtype), draw(w[0], dtype=dtype)
    compare(
        lambda x, w, b: ops.conv2d(x, w, b, **options),
        ops.conv2d_backward,
        lambda x, w, b: F.conv2d(x, w, b, **options),
        *arrays,
    )


def test_same_padding_of_even_kernels_puts_the_odd_pixel_after() -> None:
    x, w = draw(2, 3, 6, 7), draw(2, 3, 4, 2)
    padded = F.pad(tensor(x), (0, 1, 1, 2))  # torch's padding="same" does this, with a warning
    assert_close(ops.conv2d(x, w, padding="same")[0], F.conv2d(padded, tensor(w)))


def test_im2col_is_unfold_and_col2im_is_fold() -> None:
    x, c = draw(2, 3, 7, 6), draw(2, 3 * 3 * 2, 4 * 7)
    options = {"stride": (2, 1), "padding": 1}
    assert_close(ops.im2col(x, (3, 2), **options), F.unfold(tensor(x), (3, 2), **options))
    assert_close(ops.col2im(c, x.shape, (3, 2), **options), F.fold(tensor(c), (7, 6), (3, 2), **options))


POOLS = [
    {"window": 2},
    {"window": 3, "stride": 2, "padding": 1},
    {"window": (3, 2), "stride": (1, 2)},
    {"window": 2, "stride": 3},
]


@both_dtypes
@pytest.mark.parametrize("options", POOLS, ids=str)
def test_pools(options: dict[str, Any], dtype: type) -> None:
    x = draw(2, 3, 9, 8, dtype=dtype)
    named = {"kernel_size": options["window"], **{k: v for k, v in options.items() if k != "window"}}
    for mine, back, theirs in (
        (ops.max_pool2d, ops.max_pool2d_backward, F.max_pool2d),
        (ops.avg_pool2d, ops.avg_pool2d_backward, F.avg_pool2d),
    ):
        compare(lambda x, op=mine: op(x, **options), back, lambda x, op=theirs: op(x, **named), x)


def test_max_pool_ties() -> None:
    x = np.random.default_rng(0).integers(0, 2, (2, 3, 6, 6)).astype(np.float64)
    compare(
        lambda x: ops.max_pool2d(x, 3, stride=1), ops.max_pool2d_backward, lambda x: F.max_pool2d(x, 3, stride=1), x
    )


@both_dtypes
def test_dense_and_global_pool(dtype: type) -> None:
    arrays = draw(5, 7, dtype=dtype), draw(4, 7, dtype=dtype), draw(4, dtype=dtype)
    compare(ops.dense, ops.dense_backward, F.linear, *arrays)
    x = draw(2, 3, 4, 5, dtype=dtype)
    compare(ops.global_avg_pool2d, ops.global_avg_pool2d_backward, lambda x: x.mean(dim=(2, 3)), x)
    compare(ops.flatten, ops.flatten_backward, lambda x: x.flatten(1), x)


ACTIVATIONS = {
    "relu": (ops.relu, ops.relu_backward, F.relu),
    "leaky_relu": (lambda x: ops.leaky_relu(x, 0.2), ops.leaky_relu_backward, lambda x: F.leaky_relu(x, 0.2)),
    "sigmoid": (ops.sigmoid, ops.sigmoid_backward, torch.sigmoid),
    "tanh": (ops.tanh, ops.tanh_backward, torch.tanh),
    "gelu": (ops.gelu, ops.gelu_backward, F.gelu),
    "softmax": (ops.softmax, ops.softmax_backward, lambda x: F.softmax(x, dim=1)),
}


@both_dtypes
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str, dtype: type) -> None:
    x = 3 * draw(4, 5, 3, 2, dtype=dtype)
    compare(*ACTIVATIONS[name], x)
    compare(*ACTIVATIONS[name], np.zeros_like(x))


@both_dtypes
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5, 2)], ids=["features", "images"])
@pytest.mark.parametrize("train", [True, False])
def test_batch_norm(shape: tuple[int, ...], train: bool, dtype: type) -> None:
    arrays = 2 * draw(*shape, dtype=dtype) + 1, draw(3, dtype=dtype), draw(3, dtype=dtype, seed=1)
    mean, var = draw(3, dtype=dtype, seed=2), np.exp(draw(3, dtype=dtype, seed=3))
    torch_mean, torch_var = tensor(mean), tensor(var)
    updated = []

    def forward(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, Any]:
        y, new_mean, new_var, cache = ops.batch_norm(x, gamma, beta, mean, var, train=train, decay=0.7)
        updated.extend((new_mean, new_var))
        return y, cache

    compare(
        forward,
        ops.batch_norm_backward,
        lambda x, g, b: F.batch_norm(x, torch_mean, torch_var, g, b, training=train, momentum=0.3),
        *arrays,
    )
    assert_close(updated[0], torch_mean)
    assert_close(updated[1], torch_var)


@both_dtypes
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses(smoothing: float, dtype: type) -> None:
    logits, labels = 3 * draw(6, 5, dtype=dtype), np.array([0, 4, 2, 2, 1, 3])
    for loss, targets, reference in (
        (fcnn.softmax_cross_entropy(smoothing), labels, lambda o, t: F.cross_entropy(o, t, label_smoothing=smoothing)),
        (fcnn.mean_squared_error(), draw(6, 5, dtype=dtype, seed=1), F.mse_loss),
    ):
        value, d_outputs = loss(logits, targets)
        outputs = tensor(logits, grad=True)
        expected = reference(outputs, tensor(targets))
        expected.backward()
        assert_close(np.asarray(value, dtype), expected)
        assert_close(d_outputs, outputs.grad)


OPTIMIZERS = {
    "sgd": (fcnn.sgd(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (fcnn.sgd(0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "nesterov and decay": (
        fcnn.sgd(0.1, momentum=0.8, nesterov=True, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, nesterov=True, weight_decay=0.01),
    ),
    "adam": (fcnn.adam(0.01), lambda p: torch.optim.Adam(p, 0.01)),
    "adam with L2": (
        fcnn.adam(0.01, 0.8, 0.99, 1e-6, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.99), 1e-6, weight_decay=0.1),
    ),
    "adamw": (fcnn.adamw(0.01, weight_decay=0.1), lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_follow_the_same_path(name: str) -> None:
    optimizer, make = OPTIMIZERS[name]
    params = freeze({"fc": {"w": draw(4, 3), "b": draw(4)}})
    theirs = {path: tensor(leaf, grad=True) for path, leaf in flatten(params).items()}
    reference, state = make(list(theirs.values())), optimizer.init(params)
    for step in range(20):
        grads = fcnn.tree.map(lambda p, step=step: p + draw(*p.shape, seed=step), params)
        for path, leaf in flatten(grads).items():
            theirs[path].grad = tensor(leaf)
        reference.step()
        updates, state = optimizer.update(grads, state, params, step)
        params = apply_updates(params, updates)
        for path, leaf in flatten(params).items():
            np.testing.assert_allclose(leaf, theirs[path].detach().numpy(), rtol=1e-12, atol=1e-12)


class LeNet(torch.nn.Module):
    """The study's network as a PyTorch user writes it."""

    def __init__(self, params: Tree) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterDict(
            {path.replace("/", "_"): tensor(leaf) for path, leaf in flatten(params).items()}
        )

    def forward(self, x: Any) -> Any:
        p = self.weights
        x = F.max_pool2d(F.relu(F.conv2d(x, p["conv1_w"], p["conv1_b"], padding=2)), 2)
        x = F.max_pool2d(F.relu(F.conv2d(x, p["conv2_w"], p["conv2_b"])), 2)
        x = F.relu(F.linear(x.flatten(1), p["fc1_w"], p["fc1_b"]))
        x = F.relu(F.linear(x, p["fc2_w"], p["fc2_b"]))
        return F.linear(x, p["fc3_w"], p["fc3_b"])


def training_split() -> fcnn.Split:
    """MNIST where $FCNN_DATA has it, else noisy copies of ten random pictures."""
    if folder := os.environ.get("FCNN_DATA"):
        with contextlib.suppress(fcnn.data.DataError):
            return fcnn.data.load("mnist", folder).train
    rng = np.random.default_rng(0)
    pictures = np.kron(rng.integers(0, 200, (10, 1, 7, 7)), np.ones((4, 4), int))
    labels = rng.integers(0, 10, 640)
    noisy = pictures[labels] + rng.integers(0, 56, (640, 1, 28, 28))
    return fcnn.Split(noisy.astype(np.uint8), labels)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-10), (np.float32, 1e-4)], ids=["float64", "float32"])
def test_lenet_has_the_same_losses_for_a_hundred_steps_of_adam(dtype: type, bound: float) -> None:
    model, loss, optimizer = fcnn.lenet5(), fcnn.softmax_cross_entropy(), fcnn.adam(1e-3)
    start = fcnn.init_state(model, optimizer, fcnn.key(0), (1, 28, 28), dtype)
    stream = [
        fcnn.Batch(b.x.astype(dtype), b.y)
        for _, b in zip(range(100), fcnn.batches(training_split(), 32, fcnn.key(1), epochs=5), strict=False)
    ]
    assert len(stream) == 100

    reference = LeNet(start.params)
    logits = model.apply(start.params, start.layer_state, stream[0].x, train=False).y
    assert_close(logits, reference(tensor(stream[0].x)))

    _, records = fcnn.fold(fcnn.train_step(model, loss, optimizer), start, stream)
    theirs = []
    adam = torch.optim.Adam(reference.parameters(), 1e-3)
    for batch in stream:
        adam.zero_grad()
        value = F.cross_entropy(reference(tensor(batch.x)), tensor(batch.y))
        value.backward()
        adam.step()
        theirs.append(value.item())
    assert theirs[-1] < 0.5 * theirs[0]
    np.testing.assert_allclose([record.loss for record in records], theirs, rtol=0, atol=bound)
