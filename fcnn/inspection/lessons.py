"""What each layer computes, in a line, forward and back, and the lines of `fcnn.ops` that do it: for whoever learns."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import attrs


@attrs.frozen
class Line:
    """A line of the library: where it stands, and what it says."""

    where: str
    code: str


@attrs.frozen
class Lesson:
    """A layer's formulas, and where they are computed."""

    formula: str
    backward: str
    lines: tuple[Line, ...]


# Of each kind: forward, backward, and the file and the beginning of the line that does either.
_LESSONS: dict[str, tuple[str, str, str, str, str]] = {
    "conv2d": (
        "y[f, i, j] = b[f] + Σ w[f, c, k, l] · x[c, i·stride + k − padding, j·stride + l − padding]  over c, k, l",
        "∂w[f, c, k, l] = Σ ∂y[f, i, j] · x[c, …];  ∂x[c, …] = Σ ∂y[f, i, j] · w[f, c, k, l];  ∂b[f] = Σ ∂y[f, i, j]",
        "lowered.py", "np.matmul(weights, _rows(", "part = _products(_rows(",
    ),
    "dense": (
        "y[o] = b[o] + Σ w[o, i] · x[i]  over i",
        "∂w[o, i] = ∂y[o] · x[i];  ∂x[i] = Σ ∂y[o] · w[o, i];  ∂b[o] = ∂y[o]",
        "linear.py", "y = np.matmul(w, x.T)", "dw = frozen(np.matmul(out, cache.x))",
    ),
    "batch_norm": (
        "y = γ · (x − mean) / √(var + ε) + β,  each channel with its own; mean and var as training left them",
        "∂x = ∂y · γ / √(var + ε), as mean and var stay;  ∂γ = Σ ∂y · (x − mean) / √(var + ε);  ∂β = Σ ∂y",
        "norm.py", "by_channel(np.multiply, part, scale, part)", "dbeta, products = np.add.reduce(",
    ),
    "normalize": (
        "y = (x − mean) / std,  each channel with its own", "∂x = ∂y / std",
        "norm.py", "rows /= std[:, None]", "rows = channel_rows(memory) / cache.std",
    ),
    "relu": (
        "y = max(x, 0)", "∂x = ∂y where x > 0, else 0",
        "activation.py", "y = frozen(unblock(np.maximum(lines,", 'return frozen(output_gradient("relu_backward"',
    ),
    "leaky_relu": (
        "y = x where x > 0, else slope · x", "∂x = ∂y where x > 0, else slope · ∂y",
        "activation.py", "y *= slope", "dx = _where_positive_1(y, cache.slope)",
    ),
    "sigmoid": (
        "y = 1 / (1 + exp(−x))", "∂x = ∂y · y · (1 − y)",
        "activation.py", "y = frozen(_sigmoid(", 'return frozen(output_gradient("sigmoid_backward"',
    ),
    "tanh": (
        "y = tanh(x)", "∂x = ∂y · (1 − y²)",
        "activation.py", 'y = frozen(np.tanh(floats("tanh', 'return frozen(output_gradient("tanh_backward"',
    ),
    "gelu": (
        "y = x · Φ(x),  Φ the normal distribution", "∂x = ∂y · (Φ(x) + x · φ(x)),  φ its density",
        "gaussian.py", "return frozen(np.maximum(x, -40) * distribution)", "return frozen(dy * (_normal_cdf(x)",
    ),
    "softmax": (
        "y = exp(x) / Σ exp(x)  over the channels", "∂x = y · (∂y − Σ ∂y · y)",
        "activation.py", "y /= y.sum(axis=1, keepdims=True)", "return frozen(y * (dy - (dy * y).sum(",
    ),
    "max_pool2d": (
        "y = the greatest x of the window", "∂x = ∂y at the window's first greatest, else 0",
        "pool.py", "rows = frozen(_along(1, np.maximum, padded, plan))", "drows = to_first(memory, cache.y,",
    ),
    "avg_pool2d": (
        "y = the mean of the window", "∂x = ∂y / how many the window holds",
        "pool.py", "y = _along(0, np.add, _along(1, np.add,", "share = block(dy) * _share(cache",
    ),
    "global_avg_pool2d": (
        "y[c] = the mean of map c", "∂x[c, i, j] = ∂y[c] / how many pixels map c has",
        "adaptive.py", "y = block(x).sum(axis=0).sum(axis=1)", "dx[:] = (block(dy) * (1 / (h * w)))",
    ),
    "flatten": (
        "y = all numbers of x in one row: map by map, row by row", "∂x = ∂y, in maps again",
        "shape.py", "columns = np.ascontiguousarray(block(x).swapaxes(0, 1))", "rows = np.ascontiguousarray(block(dy)",
    ),
    "dropout": (
        "y = x here; in training each number is 0 at random, and the others are divided by 1 − rate",
        "∂x = ∂y here; in training ∂y where x was kept, divided by 1 − rate",
        "stochastic.py", "return frozen(unblock(memory * mask))", "return keep(dy) if mask is None",
    ),
}  # fmt: skip


@cache
def lesson_of(kind: str) -> Lesson | None:
    """What is to be learnt of a kind of layer; None of one that isn't the library's, or that has no lesson."""
    if kind == "identity":
        return Lesson("y = x", "∂x = ∂y", ())
    if kind not in _LESSONS:
        return None
    formula, backward, file, *beginnings = _LESSONS[kind]
    text = files("fcnn.ops").joinpath(file).read_text(encoding="utf-8").splitlines()
    return Lesson(formula, backward, tuple(_line(file, text, beginning) for beginning in beginnings))


def _line(file: str, text: Sequence[str], beginning: str) -> Line:
    """The first line that begins so."""
    number, code = next((at, line.strip()) for at, line in enumerate(text, 1) if line.strip().startswith(beginning))
    return Line(f"fcnn/ops/{file}, line {number}", code)
