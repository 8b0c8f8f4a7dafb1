"""The array-level functions of `fcnn.ops`: a row each, and what all of them promise.

The layers made of them are in `cases.py`; here they are called as a user of arrays alone would.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from memory import (
    FLOATS,
    ORDERS,
    OTHER_DTYPES,
    arrays_in,
    assert_close,
    assert_handed_out,
    bits,
    read_only,
    wrong_shapes,
)

import fcnn
from fcnn import ops

IMAGES, ROWS, FEATURES = (3, 2, 5, 4), (3, 2, 5), (3, 5)
IMAGES, SEQUENCES, FEATURES = (3, 2, 5, 4), (3, 8, 5), (3, 5)


@dataclass(frozen=True)
class Op:
    """A function of arrays: its arguments' shapes by name, and how many of its results come before the cache."""

    name: str
    shapes: dict[str, tuple[int, ...]]
    options: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    constants: tuple[str, ...] = ()  # arguments without a gradient
    label: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.label}".strip()

    def forward(self, arguments: dict[str, np.ndarray]) -> tuple[Any, ...]:
        """(y, further results …, cache)."""
        return getattr(ops, self.name)(**arguments, **self.options)

    def backward(self, dy: np.ndarray, cache: Any, **options: bool) -> tuple[Any, ...]:
        """The gradients, in the order of the arguments that have one."""
        grads = getattr(ops, f"{self.name}_backward")(dy, cache, **options)
        return grads if isinstance(grads, tuple) else (grads,)

    @property
    def differentiated(self) -> list[str]:
        return [name for name in self.shapes if name not in self.constants]


def norm(x: tuple[int, ...], label: str, train: bool) -> Op:
    channels = dict.fromkeys(("gamma", "beta", "mean", "var"), x[1:2])
    return Op("batch_norm", {"x": x, **channels}, {"train": train}, 3, ("mean", "var"), label)


def sample_norm(name: str, x: tuple[int, ...], own: tuple[int, ...], label: str, **options: Any) -> Op:
    return Op(name, {"x": x, "gamma": own, "beta": own}, options, label=f"{label} {x}")


ELEMENTWISE = (
    "relu", "leaky_relu", "sigmoid", "tanh", "gelu", "silu", "softplus", "elu", "relu6", "hardsigmoid", "hardswish",
    "softmax", "log_softmax",
)  # fmt: skip

OPS = (
    *(Op(name, {"x": IMAGES}, label="images") for name in ELEMENTWISE),
    *(Op(name, {"x": FEATURES}, label="features") for name in ELEMENTWISE),
    Op("leaky_relu", {"x": FEATURES}, {"slope": 0.5}, label="slope"),
    Op("gelu", {"x": IMAGES}, {"approximate": "tanh"}, label="by tanh"),
    Op("elu", {"x": IMAGES}, {"alpha": 0.3}, label="alpha"),
    Op("hardsigmoid", {"x": IMAGES}, {"alpha": 0.9, "beta": 0.2}, label="alpha"),
    Op("clip", {"x": IMAGES}, {"low": -0.5, "high": 0.7}),
    Op("clip", {"x": FEATURES}, {"high": 0.7}, label="above"),
    Op("conv2d", {"x": IMAGES, "w": (4, 2, 3, 2), "b": (4,)}, {"stride": (2, 1), "padding": 1}),
    Op("conv2d", {"x": IMAGES, "w": (4, 2, 3, 3)}, {"padding": "same"}, label="no bias"),
    Op("conv2d", {"x": IMAGES, "w": (4, 1, 3, 3), "b": (4,)}, {"padding": 1, "groups": 2}, label="depthwise"),
    Op("conv2d", {"x": IMAGES, "w": (4, 2, 2, 2), "b": (4,)}, {"dilation": (2, 1), "stride": 2}, label="dilation"),
    Op("conv_transpose2d", {"x": IMAGES, "w": (2, 4, 3, 2), "b": (4,)}, {"stride": (2, 1), "padding": 1}),
    Op("conv_transpose2d", {"x": IMAGES, "w": (2, 3, 2, 2)}, {"groups": 2, "dilation": 2}, label="groups"),
    Op("dense", {"x": FEATURES, "w": (4, 5), "b": (4,)}),
    Op("dense", {"x": FEATURES, "w": (4, 5)}, label="no bias"),
    norm(IMAGES, "images train", True),
    norm(IMAGES, "images eval", False),
    norm(SEQUENCES, "sequences train", True),
    norm(SEQUENCES, "sequences eval", False),
    norm(FEATURES, "features train", True),
    norm(FEATURES, "features eval", False),
    *(sample_norm("layer_norm", x, x[1:], "all of") for x in (IMAGES, ROWS, FEATURES)),
    *(sample_norm("layer_norm", x, x[1:2], "channels of") for x in (IMAGES, ROWS)),
    *(sample_norm("group_norm", x, x[1:2], "groups of", groups=1) for x in (IMAGES, ROWS, FEATURES)),
    *(sample_norm("group_norm", x, x[1:2], "instances of", groups=2) for x in (IMAGES, ROWS)),
    Op("prelu", {"x": IMAGES, "slope": (1,)}, label="images"),
    Op("prelu", {"x": IMAGES, "slope": (2,)}, label="channels of images"),
    Op("prelu", {"x": ROWS, "slope": (2,)}, label="channels of rows"),
    Op("prelu", {"x": FEATURES, "slope": (5,)}, label="channels of features"),
    Op("normalize", {"x": IMAGES, "mean": (2,), "std": (2,)}, constants=("mean", "std"), label="images"),
    Op("normalize", {"x": SEQUENCES, "mean": (8,), "std": (8,)}, constants=("mean", "std"), label="sequences"),
    Op("normalize", {"x": FEATURES, "mean": (1,), "std": (1,)}, constants=("mean", "std"), label="features"),
    Op("max_pool2d", {"x": IMAGES}, {"window": 2}),
    Op("max_pool2d", {"x": IMAGES}, {"window": 3, "stride": 1, "padding": 1}, label="overlap"),
    Op("avg_pool2d", {"x": IMAGES}, {"window": 2}),
    Op("avg_pool2d", {"x": IMAGES}, {"window": (3, 2), "stride": (1, 3), "padding": "same"}, label="overlap"),
    Op("max_pool2d", {"x": IMAGES}, {"window": 3, "stride": (3, 2), "padding": 1, "ceil_mode": True}, label="ceil"),
    Op("avg_pool2d", {"x": IMAGES}, {"window": 2, "ceil_mode": True}, label="ceil"),
    Op("avg_pool2d", {"x": IMAGES}, {"window": 3, "padding": 1, "count_include_pad": False}, label="of pixels"),
    Op("adaptive_avg_pool2d", {"x": IMAGES}, {"size": (3, 2)}),
    Op("adaptive_avg_pool2d", {"x": IMAGES}, {"size": (1, 6)}, label="larger"),
    Op("global_avg_pool2d", {"x": IMAGES}),
    Op("upsample", {"x": IMAGES}, {"scale": (2, 1)}),
    Op("upsample", {"x": IMAGES}, {"scale": (3, 2), "mode": "bilinear"}, label="bilinear"),
    Op("upsample", {"x": IMAGES}, {"scale": 2, "mode": "bilinear", "align_corners": True}, label="corners"),
    Op("mirror", {"x": IMAGES}),
    Op("shift", {"x": IMAGES}, {"down": -2, "right": 3}),
    Op("shift", {"x": IMAGES}, {"down": 1, "right": -1, "mode": "zero"}, label="zero"),
    Op("shift", {"x": IMAGES}, {"down": 0, "right": 0}, label="nothing"),
    Op("conv1d", {"x": SEQUENCES, "w": (4, 8, 3), "b": (4,)}, {"stride": 2, "padding": (1, 2)}),
    Op("conv1d", {"x": SEQUENCES, "w": (4, 2, 2)}, {"padding": "same", "dilation": 2, "groups": 4}, label="no bias"),
    Op("max_pool1d", {"x": SEQUENCES}, {"window": 3, "stride": 1, "padding": 1}),
    Op("avg_pool1d", {"x": SEQUENCES}, {"window": 2, "ceil_mode": True}),
    Op("avg_pool1d", {"x": SEQUENCES}, {"window": 3, "padding": "same", "count_include_pad": False}, label="places"),
    Op("global_avg_pool1d", {"x": SEQUENCES}),
    Op("flatten", {"x": IMAGES}, label="images"),
    Op("flatten", {"x": SEQUENCES}, label="sequences"),
    Op("flatten", {"x": FEATURES}, label="features"),
    Op("reshape", {"x": IMAGES}, {"shape": (4, 5, -1)}, label="images"),
    Op("reshape", {"x": IMAGES}, {"shape": (5, 8)}, label="images to sequences"),
    Op("reshape", {"x": SEQUENCES}, {"shape": (5, 2, 4)}, label="sequences to images"),
    Op("reshape", {"x": FEATURES}, {"shape": (5,)}, label="features"),
    Op("dropout", {"x": IMAGES}, {"rate": 0.4, "train": True, "key": fcnn.key(3)}, label="train"),
    Op("dropout", {"x": FEATURES}, {"rate": 0.4, "train": False}, label="eval"),
)

# Functions of one array that have no backward of that name: im2col and col2im are each other's.
ALONE: dict[str, tuple[tuple[int, ...], Callable[[np.ndarray], np.ndarray]]] = {
    "erf": (IMAGES, ops.erf),
    "im2col": (IMAGES, lambda x: ops.im2col(x, 2, stride=(1, 2), padding=1)),
    "col2im": ((3, 8, 12), lambda columns: ops.col2im(columns, IMAGES, 2)),
}

every_op = pytest.mark.parametrize("op", OPS, ids=str)
every_float = pytest.mark.parametrize("dtype", FLOATS)
every_alone = pytest.mark.parametrize("name", ALONE)


def arguments_of(op: Op, dtype: Any) -> dict[str, np.ndarray]:
    """Read-only arrays; variances and deviations are positive, and no two numbers of x are equal."""
    rng = np.random.default_rng(7)
    made = {name: rng.standard_normal(shape) for name, shape in op.shapes.items()}
    return {
        name: read_only((np.abs(array) + 0.5 if name in ("var", "std") else array).astype(dtype))
        for name, array in made.items()
    }


def dy_of(y: np.ndarray, seed: int = 8) -> np.ndarray:
    return read_only(np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype))


def test_the_table_has_every_function_of_ops() -> None:
    public = {name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))}
    assert public == set(ops.__all__)
    forward = {name for name in public if f"{name}_backward" in public}
    assert public - forward - {f"{name}_backward" for name in forward} == set(ALONE)
    assert forward == {op.name for op in OPS}
    for name in forward:  # a module's other pairs are public too
        module = inspect.getmodule(getattr(ops, name))
        assert {other for other in vars(module) if other.endswith("_backward") and other[0] != "_"} <= public


def test_rows_are_distinct() -> None:
    assert len({str(op) for op in OPS}) == len(OPS)


@every_float
@every_op
def test_shapes_dtypes_and_ownership(op: Op, dtype: type) -> None:
    arguments = arguments_of(op, dtype)
    *results, cache = op.forward(arguments)
    dy = dy_of(results[0])
    grads = op.backward(dy, cache)
    assert len(results) == op.outputs
    expected = [op.shapes[name] for name in op.differentiated]
    assert [grad.shape for grad in grads if grad is not None] == expected
    assert all(grad is None for grad in grads[len(expected) :])  # db without a bias
    assert {array.dtype for array in arrays_in((results, grads))} == {np.dtype(dtype)}
    assert_handed_out((results, cache, grads))
    assert bits(op.forward(arguments)) == bits((*results, cache))
    assert bits(op.backward(dy, cache)) == bits(grads)


@every_float
@pytest.mark.parametrize("order", ORDERS)
@every_op
def test_any_order_of_memory_and_bytes_gives_the_same_and_is_neither_written_nor_kept(
    op: Op, order: str, dtype: type
) -> None:
    plain = arguments_of(op, dtype)
    *results, cache = op.forward(plain)
    dy = dy_of(results[0])
    expected = (results, op.backward(dy, cache))
    arguments = {name: ORDERS[order](array) for name, array in plain.items()}
    other_dy = ORDERS[order](dy)
    passed = [*arguments.values(), other_dy]
    before = [array.tobytes() for array in passed]
    *results, cache = op.forward(arguments)
    cached = bits(cache)
    found = (results, op.backward(other_dy, cache))
    assert [array.tobytes() for array in passed] == before
    assert bits(cache) == cached
    assert_handed_out(found, *passed)
    assert not any(np.shares_memory(array, one) for array in arrays_in(cache) for one in passed)
    for a, b in zip(arrays_in(found), arrays_in(expected), strict=True):
        assert a.dtype == b.dtype
        assert a.dtype.isnative
        assert_close(a, b)


@every_op
def test_changing_what_was_passed_in_changes_no_gradient(op: Op) -> None:
    arguments = {name: np.array(array) for name, array in arguments_of(op, np.float64).items()}
    *results, cache = op.forward(arguments)
    dy = dy_of(results[0])
    expected = bits((results, op.backward(dy, cache)))
    for array in arguments.values():
        array[...] = np.nan
    assert bits((results, op.backward(dy, cache))) == expected


@every_op
def test_gradients_match_central_differences(op: Op) -> None:
    arguments = arguments_of(op, np.float64)
    y, *_, cache = op.forward(arguments)
    dy = dy_of(y)
    grads = dict(zip(op.differentiated, op.backward(dy, cache), strict=False))
    rng = np.random.default_rng(9)
    for name in op.differentiated:
        u, h = rng.standard_normal(op.shapes[name]), 1e-6

        def value(t: float, name: str = name, u: np.ndarray = u) -> float:
            return float((op.forward({**arguments, name: arguments[name] + t * u})[0] * dy).sum())

        slope = (value(h) - value(-h)) / (2 * h)
        # Values of some tens have roundings of 1e-14 each, which h makes 1e-8.
        assert float((grads[name] * u).sum()) == pytest.approx(slope, rel=1e-7, abs=1e-7), name


@every_float
@every_op
def test_backward_is_linear_in_dy(op: Op, dtype: type) -> None:
    y, *_, cache = op.forward(arguments_of(op, dtype))
    one, other = dy_of(y), dy_of(y, 10)
    combined = op.backward((2 * one - 3 * other).astype(dtype), cache)
    for whole, a, b in zip(
        *map(arrays_in, (combined, op.backward(one, cache), op.backward(other, cache))), strict=True
    ):
        assert_close(whole, 2 * a - 3 * b, factor=20)


@every_float
@every_op
def test_a_dy_of_another_shape_is_refused(op: Op, dtype: type) -> None:
    y, *_, cache = op.forward(arguments_of(op, dtype))
    for shape in wrong_shapes(y.shape):
        text = f"{op.name}_backward expects dy of the output's shape {y.shape}, got {shape}"
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            op.backward(np.ones(shape, dtype), cache)


@pytest.mark.parametrize("dtype", OTHER_DTYPES)
@every_op
def test_other_dtypes_are_refused_in_one_place(op: Op, dtype: str) -> None:
    arguments = arguments_of(op, np.float32)
    y, *_, cache = op.forward(arguments)
    for name in op.shapes:
        other = np.zeros(op.shapes[name], dtype)
        expected = f"{op.name}'s {name} is an array of float32 or float64, got {other.dtype} {other.shape}"
        with pytest.raises(TypeError, match=f"^{re.escape(expected)}"):
            op.forward({**arguments, name: other})
    other = np.zeros(y.shape, dtype)
    expected = f"{op.name}_backward's dy is an array of float32 or float64, got {other.dtype} {other.shape}"
    with pytest.raises(TypeError, match=f"^{re.escape(expected)}"):
        op.backward(other, cache)


@every_float
@every_op
def test_empty_batch(op: Op, dtype: type) -> None:
    arguments = arguments_of(op, dtype)
    arguments["x"] = arguments["x"][:0]
    if op.name == "batch_norm" and op.options["train"]:
        with pytest.raises(
            ValueError, match=r"batch_norm needs at least two numbers a channel in training, got x \(0, "
        ):
            op.forward(arguments)
        return
    y, *_, cache = op.forward(arguments)
    whole = op.forward(arguments_of(op, dtype))[0]
    assert y.shape == (0, *whole.shape[1:])
    dx, *others = op.backward(np.zeros(y.shape, dtype), cache)
    assert dx.shape == (0, *op.shapes["x"][1:])
    assert not any(gradient.any() for gradient in arrays_in(others))
    assert {array.dtype for array in arrays_in((y, dx, others))} == {np.dtype(dtype)}


@every_op
def test_images_one_by_one_give_the_same(op: Op) -> None:
    if op.options.get("train"):
        return  # a batch's statistics, and a mask for the whole batch
    arguments = arguments_of(op, np.float64)
    y, *_, cache = op.forward(arguments)
    dy = dy_of(y)
    grads = op.backward(dy, cache)
    parts = []
    for k in range(len(y)):
        one, *_, cache = op.forward({**arguments, "x": arguments["x"][k : k + 1]})
        parts.append((one, op.backward(dy[k : k + 1], cache)))
    assert_close(np.concatenate([one for one, _ in parts]), y)
    assert_close(np.concatenate([found[0] for _, found in parts]), grads[0])
    for number, whole in enumerate(grads[1:], 1):
        if whole is not None:
            assert_close(sum(found[number] for _, found in parts), whole)


@pytest.mark.parametrize(
    "op", [op for op in OPS if op.name in ("conv1d", "conv2d", "conv_transpose2d", "dense")], ids=str
)
def test_what_is_not_needed_is_none_and_changes_nothing_else(op: Op) -> None:
    y, *_, cache = op.forward(arguments_of(op, np.float64))
    dy = dy_of(y)
    dx, dw, db = op.backward(dy, cache)
    assert bits(op.backward(dy, cache, need_dx=False)) == bits((dw, db))
    assert op.backward(dy, cache, need_dx=False)[0] is None
    assert op.backward(dy, cache, need_dw=False)[1:] == (None, None)
    assert bits(op.backward(dy, cache, need_dw=False)) == bits(dx)
    assert bits(op.backward(dy, cache, need_dw=False, need_db=True)) == bits((dx, db))
    assert op.backward(dy, cache, need_dw=False, need_db=True)[1] is None
    assert bits(op.backward(dy, cache, need_db=False)) == bits((dx, dw))
    assert op.backward(dy, cache, need_db=False)[2] is None


@every_float
@every_alone
def test_functions_without_a_backward(name: str, dtype: type) -> None:
    shape, function = ALONE[name]
    x = read_only(np.random.default_rng(0).standard_normal(shape).astype(dtype))
    y = function(x)
    assert y.dtype == dtype
    assert_handed_out(y)
    assert bits(function(x)) == bits(y)
    for order in ORDERS.values():
        other = order(x)
        before = other.tobytes()
        found = function(other)
        assert other.tobytes() == before
        assert_handed_out(found, other)
        assert found.dtype == dtype
        assert found.dtype.isnative
        assert_close(found, y)
    if name != "col2im":
        assert function(x[:0]).shape == (0, *y.shape[1:])


@pytest.mark.parametrize("dtype", OTHER_DTYPES)
@every_alone
def test_functions_without_a_backward_refuse_other_dtypes(name: str, dtype: str) -> None:
    shape, function = ALONE[name]
    with pytest.raises(TypeError, match=rf"^{name}'s \w+ is an array of float32 or float64, got "):
        function(np.zeros(shape, dtype))
