"""scripts/one_file.py: it is short, stands alone, agrees with the library, and learns."""

import ast
import gzip
import re
import subprocess
import sys

import numpy as np
import one_file
import pytest
from running import SCRIPTS

import fcnn

NETWORK = fcnn.serial(
    conv1=fcnn.conv2d(8, 5),
    relu1=fcnn.relu(),
    pool1=fcnn.max_pool2d(2),
    conv2=fcnn.conv2d(16, 5),
    relu2=fcnn.relu(),
    pool2=fcnn.max_pool2d(2),
    flatten=fcnn.flatten(),
    fc1=fcnn.dense(64),
    relu3=fcnn.relu(),
    fc2=fcnn.dense(10),
)
SCRIPT = SCRIPTS / "one_file.py"


@pytest.fixture(scope="module")
def digits():
    return fcnn.data.make_digits(fcnn.key(1), 400)


def test_it_can_be_read_in_one_sitting_and_stands_alone():
    text = SCRIPT.read_text("utf-8")
    assert len(text.splitlines()) <= 150
    assert text.isascii() or all(ord(c) < 128 or c == "…" for c in text)
    tree = ast.parse(text)
    imported = {name.split(".")[0] for node in ast.walk(tree) for name in names_of(node)}
    assert imported - set(sys.stdlib_module_names) == {"numpy", "fcnn"}
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "fcnn"]
    assert len(uses) == 1  # fcnn.data.load: the mathematics is its own


def names_of(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) else []


def assert_close(mine, its):
    """Equal within 1e-12, and the same arrays by name."""
    assert mine.keys() == its.keys()
    for name, array in mine.items():
        assert array.dtype == its[name].dtype == np.float64
        np.testing.assert_allclose(array, its[name], rtol=0, atol=1e-12, err_msg=name)


def test_from_the_same_weights_it_agrees_with_the_library(digits):
    """Loss, gradients and parameters over steps in float64."""
    loss, optimizer = fcnn.softmax_cross_entropy(), fcnn.sgd(0.02, momentum=0.9)
    params = one_file.init(np.random.default_rng(3), np.float64)
    velocity = {name: np.zeros_like(w) for name, w in params.items()}
    state = fcnn.init_state(NETWORK, optimizer, fcnn.key(0), (1, 28, 28), np.float64)
    state = fcnn.TrainState(fcnn.tree.unflatten(params), state.layer_state, state.opt_state, 0, state.key)
    slope = fcnn.gradient(NETWORK, loss)
    train_step = fcnn.train_step(NETWORK, loss, optimizer)
    for begin in range(0, 320, 32):
        x, y = digits.x[begin : begin + 32] / 255.0, digits.y[begin : begin + 32]
        mine, d = one_file.gradients(params, x, y)
        its = slope(state.params, state.layer_state, state.key, fcnn.Batch(x, y))
        assert mine == pytest.approx(its.loss, rel=0, abs=1e-12)
        assert_close(d, fcnn.tree.flatten(its.grads))
        assert max(np.abs(array).max() for array in d.values()) > 1e-3  # and not all of it is 0
        params, velocity = one_file.step(params, velocity, d)
        state, _ = train_step(state, fcnn.Batch(x, y))
        assert_close(params, fcnn.tree.flatten(state.params))
    logits = one_file.forward(params, x)[0]
    np.testing.assert_allclose(
        logits, NETWORK.apply(state.params, state.layer_state, x, train=False).y, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("shape", [(2, 3, 7, 6), (1, 1, 5, 5)])
def test_convolution_agrees_also_on_other_shapes(shape):
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal(shape), rng.standard_normal((4, shape[1], 3, 3)), rng.standard_normal(4)
    y, rows = one_file.conv(x, w, b)
    its, cache = fcnn.ops.conv2d(x, w, b)
    np.testing.assert_allclose(y, its, rtol=0, atol=1e-12)
    dy = rng.standard_normal(y.shape)
    for mine, other in zip(one_file.conv_backward(dy, x, w, rows), fcnn.ops.conv2d_backward(dy, cache), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-12)


def test_of_equal_pixels_the_same_one_wins_a_pool():
    rng = np.random.default_rng(0)
    x, dy = rng.integers(0, 3, (2, 3, 6, 8)).astype(np.float64), rng.standard_normal((2, 3, 3, 4))
    y, winner = one_file.pool(x)
    its, cache = fcnn.ops.max_pool2d(x, 2)
    assert np.array_equal(y, its)
    assert np.array_equal(one_file.pool_backward(dy, winner), fcnn.ops.max_pool2d_backward(dy, cache))


def test_large_logits_overflow_nothing():
    logits, labels = np.array([[1e4, 0.0], [0.0, -1e4]]), np.array([1, 0])
    loss, d_logits = one_file.cross_entropy(logits, labels)
    assert (loss, d_logits.tolist()) == (5e3, [[0.5, -0.5], [0.0, 0.0]])


def test_it_learns_and_tells_each_epoch(digits, capsys):
    x, y = digits.x, digits.y
    params = one_file.train(x[:300], y[:300], x[300:], y[300:], epochs=6, size=20)
    assert params["conv1/w"].dtype == np.float32
    pattern = r"epoch (\d): loss (\d\.\d{4}), accuracy on test images (\d+\.\d\d)%"
    told = [re.fullmatch(pattern, line).groups() for line in capsys.readouterr().out.splitlines()]
    assert [int(epoch) for epoch, _, _ in told] == [1, 2, 3, 4, 5, 6]
    assert float(told[-1][1]) < 0.5 * float(told[0][1])
    answers = one_file.forward(params, x[300:] / np.float32(255))[0].argmax(axis=1)
    assert float(told[-1][2]) == pytest.approx(100 * (answers == y[300:]).mean(), abs=0.005)
    assert float(told[-1][2]) > 70  # guessing has 10


def test_it_runs_on_the_files_of_mnist(tmp_path, digits):
    for part, rows in (("train", slice(0, 200)), ("t10k", slice(200, 240))):
        for kind, header, array in (("images-idx3", 16, digits.x[rows]), ("labels-idx1", 8, digits.y[rows])):
            data = bytes(header) + array.astype(np.uint8).tobytes()
            (tmp_path / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(data))
    x, y, x_test, y_test = one_file.load(tmp_path)
    assert np.array_equal(x, digits.x[:200])
    assert np.array_equal(y, digits.y[:200])
    assert np.array_equal(x_test, digits.x[200:240])
    assert np.array_equal(y_test, digits.y[200:240])
    run = subprocess.run(
        [sys.executable, "-W", "error", SCRIPT, tmp_path], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert [line.split(":")[0] for line in run.stdout.splitlines()] == [f"epoch {k}" for k in range(1, 6)]


def test_without_a_folder_the_digits_of_the_library_are_taken(monkeypatch, digits):
    dataset = fcnn.Dataset(digits.take(30), digits.take(20), "digits", tuple("0123456789"))
    monkeypatch.setattr(fcnn.data, "load", lambda name: {"digits": dataset}[name])
    assert [len(array) for array in one_file.load(None)] == [30, 30, 20, 20]
