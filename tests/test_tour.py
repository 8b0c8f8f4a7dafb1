"""scripts/tour.py: what it prints is what the library computes, and a wrong gradient is told."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tour
from running import SCRIPTS, runner

import fcnn

PARTS = ("x", "a", "r", "m", "q", "h", "s", "z")
WEIGHTS = {"w1": "conv/w", "b1": "conv/b", "w2": "fc1/w", "b2": "fc1/b", "w3": "fc2/w", "b3": "fc2/b"}


def started(*arguments):
    """The script as a learner runs it, where only ASCII can be printed: (exit code, output, errors)."""
    run = subprocess.run(
        [sys.executable, "-W", "error", SCRIPTS / "tour.py", *arguments],
        capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    return run.returncode, run.stdout, run.stderr


@pytest.fixture(scope="module")
def out():
    code, out, err = started()
    assert (code, err) == (0, "")
    return out


@pytest.fixture
def run(capsys):
    return runner(tour, capsys)


def numbers(out, beginning):
    """The numbers of the grid that stands below a paragraph, as (rows, all columns); blocks lie side by side."""
    paragraphs = out.split("\n\n")
    (found,) = [text for text in paragraphs if text.lstrip("\n").startswith(beginning)]
    rows = [line for line in found.splitlines() if re.fullmatch(r"[-\d. *]+", line)]
    return np.array([[float(cell) for cell in row.replace("*", " ").split()] for row in rows])


def side_by_side(array):
    """An array as the tour prints it: its channels beside each other."""
    return np.hstack(list(array.reshape(-1, *array.shape[-2:]))) if array.ndim > 1 else array[None]


def expected(seed=42):
    """What one step computes, by the symbols of the tour, from the layers one by one: values and gradients."""
    key, biases = fcnn.key(seed), fcnn.constant(0.1)
    split = fcnn.data.make_digits(fcnn.fold_in(key, "image"), 1)
    x = split.x[0, 0, 2:26, 2:26].reshape(6, 4, 6, 4).mean(axis=(1, 3))[None, None] / 255
    layers = (
        fcnn.conv2d(2, 3, biases=biases), fcnn.relu(), fcnn.max_pool2d(2), fcnn.flatten(),
        fcnn.dense(4, biases=biases), fcnn.relu(), fcnn.dense(10, biases=biases),
    )  # fmt: skip
    names = ("conv", "relu1", "pool", "flatten", "fc1", "relu2", "fc2")
    made = fcnn.serial(**dict(zip(names, layers, strict=True))).init(
        fcnn.fold_in(fcnn.fold_in(key, "network"), "init"), (1, 6, 6)
    )
    params = fcnn.tree.astype(made.params, np.float64)
    y, values, caches = x, {"x": x[0]}, []
    for symbol, name, layer in zip(PARTS[1:], names, layers, strict=True):
        y, _, cache = layer.apply(params.get(name, fcnn.freeze({})), fcnn.freeze({}), y, train=True)
        values[symbol], _ = y[0], caches.append(cache)
    loss, dy = fcnn.softmax_cross_entropy()(y, split.y)
    grads = {}
    for symbol, name, layer, cache in reversed(list(zip(PARTS[1:], names, layers, caches, strict=True))):
        grads["d" + symbol] = dy[0]
        dy, of_params = layer.backward(params.get(name, fcnn.freeze({})), cache, dy)
        grads |= {f"d{s}": of_params[p.split("/")[1]] for s, p in WEIGHTS.items() if p.split("/")[0] == name}
    return {**values, **grads, "dx": dy[0], "L": loss, "t": int(split.y[0]), "w2": params["fc1"]["w"]}


def test_what_is_printed_is_what_the_library_computes(out):
    want = expected()
    beginnings = {"x": "x, an image", "a": "a, the same", "r": "r = max", "m": "m, those", "q": "q, the same",
                  "h": "h = w2 q + b2: at", "s": "s = max(h, 0):", "z": "z = w3 s + b3, a logit"}  # fmt: skip
    for symbol, beginning in beginnings.items():
        np.testing.assert_allclose(numbers(out, beginning), side_by_side(want[symbol]), rtol=0, atol=5.1e-4)
    gradients = [symbol for symbol in want if symbol.startswith("d")]
    assert len(gradients) == 8 + 6
    for symbol in gradients:
        shape = re.escape(str(want[symbol].shape))
        assert re.search(rf"^{symbol} {shape} = ", out, re.MULTILINE)
        found = numbers(out, f"{symbol} (")
        np.testing.assert_allclose(found, side_by_side(want[symbol]), rtol=0, atol=5.1e-4, err_msg=symbol)
        assert np.abs(found).max() > 0.01  # the tour is of a network through which gradients come
    p = numbers(out, "p = exp(z)")
    np.testing.assert_allclose(p[0], fcnn.ops.softmax(want["z"][None])[0][0], rtol=0, atol=5.1e-4)
    assert f"an image of the digit t = {want['t']}:" in out
    assert f"L = {want['L']:.7f}" in out


def test_stars_stand_where_the_pool_takes_its_numbers_from(out):
    (found,) = [text for text in out.split("\n\n") if text.startswith("r = max")]
    starred = sorted(float(cell[:-1]) for cell in re.findall(r"[\d.]+\*", found))
    assert starred == sorted(np.round(expected()["m"].ravel(), 3))


def test_every_gradient_is_checked_number_by_number(out):
    checked = [int(count) for count in re.findall(r"checked (\d+): central difference", out)]
    want = expected()
    assert sorted(checked) == sorted(array.size for name, array in want.items() if name.startswith("d"))
    by_hand = len(re.findall(r"checked 1: .* vs. fcnn's", out))
    assert by_hand == 5
    assert out.rstrip().endswith(f"{sum(checked) + by_hand} numbers were checked, none of them wrong.")
    off = [float(number) for number in re.findall(r"off by ([-+.e\d]+)", out)]
    assert len(off) == len(checked) + by_hand
    assert max(off) < 1e-9
    assert "WRONG" not in out


def test_the_steps_go_downhill_as_the_library_takes_them(out):
    losses = [float(loss) for loss in re.findall(r"step +\d+:  L = ([\d.]+),", out)]
    assert len(losses) == 9
    assert losses == sorted(losses, reverse=True)
    made = tour.Tour(42, fcnn.sgd(0.1))
    state = made.start
    for loss in losses:
        state, record = made.step(state, made.batch)
        assert record.loss == pytest.approx(loss, rel=0, abs=5.1e-7)


def test_it_fits_a_terminal(out):
    assert max(map(len, out.splitlines())) <= 100
    assert out.isascii()


def test_options(run):
    code, out, err = run("--seed", 8, "--steps", 3, "--lr", 0.01)
    assert (code, err) == (0, "")
    assert len(re.findall(r"step +\d+:", out)) == 4
    assert "lr = 0.01. Of w1[1]" in out
    assert run("--steps", 0)[0] == 2
    assert run("--lr", -1)[0] == 2


def test_what_has_no_derivative_is_left_out_and_said(run):
    """With seed 3 all numbers of a pool's window are cut off by the ReLU, and tie."""
    code, out, _ = run("--seed", 3)
    assert code == 0
    assert "checked 28: central difference" in out
    assert "(4 are left out: where numbers in a pool tie, or a ReLU gets 0, L has a kink.)" in out


def test_a_dead_layer_is_told(run):
    code, out, _ = run("--seed", 0)
    assert code == 0
    assert "All are 0, so no gradient will come through here" in out


def doubled(function):
    """A backward function whose first gradient is twice too large, where there is one."""

    def wrong(*args, **kwargs):
        found = function(*args, **kwargs)
        return (2 * found[0], *found[1:]) if isinstance(found, tuple) else 2 * found

    return wrong


@pytest.mark.parametrize(
    ("name", "symbols"),
    [
        ("relu_backward", {"da", "dh"}),
        ("dense_backward", {"dq", "ds"}),
        ("conv2d_backward", {"dx"}),
        ("max_pool2d_backward", {"dr"}),
    ],
)
def test_a_planted_wrong_gradient_is_found_where_it_is(run, monkeypatch, name, symbols):
    monkeypatch.setattr(fcnn.ops, name, doubled(getattr(fcnn.ops, name)))
    code, out, err = run()
    assert code == 1
    wrong = re.findall(r"^(\w+) \([^=]*\) = [^\n]*\n(?:[^\n]+\n)*?  WRONG", out, re.MULTILINE)
    assert symbols <= set(wrong)
    assert wrong[0] in symbols  # before it all is right, behind it nothing
    count = sum(int(count) for count in re.findall(r"WRONG, (\d+) of", out))
    assert err == f"error: {count} of 245 numbers are wrong, where it says WRONG\n"
    assert f"numbers were checked, {count} of them wrong." in out


def test_a_wrong_loss_gradient_is_found(run, monkeypatch):
    real = fcnn.softmax_cross_entropy

    def wrong():
        def loss(z, labels):
            value, dz = real()(z, labels)
            return value, dz + 1e-4 * (dz == dz.max())

        return loss

    monkeypatch.setattr(fcnn, "softmax_cross_entropy", wrong)
    code, out, _ = run()
    assert code == 1
    assert "WRONG, 1 of 10: central difference" in out
