"""What the contract of `fcnn.network.layer` promises, for every row of `cases.CASES`, in both modes and both dtypes."""

import functools
import importlib
import pkgutil
import re
from typing import Any, NamedTuple

import numpy as np
import pytest
from cases import CASES, Case, descendants
from memory import (
    FLOATS,
    ORDERS,
    OTHER_DTYPES,
    arrays_in,
    assert_close,
    assert_handed_out,
    batch_innermost,
    bits,
    read_only,
    repeated,
    wrong_shapes,
)

import fcnn
from fcnn import Grads, Out, Tree
from fcnn.network import combinators
from fcnn.values.tree import EMPTY, astype, flatten, freeze, unflatten

N = 3


class Run(NamedTuple):
    """One forward and backward pass; everything in it is read-only."""

    case: Case
    train: bool
    params: Tree
    state: Tree
    x: np.ndarray
    dy: np.ndarray
    out: Out
    grads: Grads

    def apply(self, x: np.ndarray | None = None, **changes: Any) -> Out:
        options = {"train": self.train, "key": fcnn.key(2), **changes}
        return self.case.layer.apply(self.params, self.state, self.x if x is None else x, **options)

    def backward(self, dy: np.ndarray | None = None, cache: Any = None, need_dx: bool = True) -> Grads:
        cache = self.out.cache if cache is None else cache
        return self.case.layer.backward(self.params, cache, self.dy if dy is None else dy, need_dx=need_dx)


@functools.cache
def make_run(case: Case, train: bool, dtype: type) -> Run:
    """Parameters and state are moved off 0 and 1, which hide mistakes."""
    rng = np.random.default_rng(5)
    made = case.layer.init(fcnn.key(1), case.in_shape)
    moved = {path: leaf + 0.1 * rng.random(leaf.shape) for path, leaf in flatten(made.params).items()}
    state = {path: leaf + 0.1 * rng.random(leaf.shape) for path, leaf in flatten(made.state).items()}
    params, state = astype(unflatten(moved), dtype), astype(unflatten(state), dtype)
    x, dy = (read_only(rng.standard_normal((N, *shape)).astype(dtype)) for shape in (case.in_shape, made.out_shape))
    out = case.layer.apply(params, state, x, train=train, key=fcnn.key(2))
    return Run(case, train, params, state, x, dy, out, case.layer.backward(params, out.cache, dy))


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(params=[True, False], ids=["train", "eval"])
def train(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(params=FLOATS, ids=["float32", "float64"])
def run(request: pytest.FixtureRequest, case: Case, train: bool) -> Run:
    return make_run(case, train, request.param)


# They make networks of networks, of data, or of how a `serial` is computed, and so are no constructors.
NO_CONSTRUCTORS = ("fcnn.network.rewriting", "fcnn.network.fusing", "fcnn.network.description")


def makes_layers(value: object) -> bool:
    if getattr(value, "__module__", "") in NO_CONSTRUCTORS or value in (combinators.in_runs, combinators.last_of):
        return False
    return getattr(value, "__annotations__", {}).get("return") is fcnn.Layer


def test_table_has_every_constructor() -> None:
    made = {name for name in fcnn.__all__ if makes_layers(getattr(fcnn, name))}
    assert {"conv2d", "softmax", "serial", "branch", "lenet5"} <= made
    there = {layer.kind for case in CASES for _, layer in descendants(case.layer)} | {case.name for case in CASES}
    large = set(fcnn.models.__all__) - there  # networks of rows: tests/test_named_networks.py is of them
    assert made <= there | large, f"no row in tests/cases.py for {made - there - large}"
    for found in pkgutil.walk_packages(fcnn.network.__path__, "fcnn.network."):
        module = importlib.import_module(found.name)
        own = {name: v for name, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__}
        constructors = {name for name, value in own.items() if makes_layers(value)}
        assert {name for name in constructors if not name.startswith("_")} <= made


def test_a_constructor_without_a_row_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    @fcnn.layer_constructor
    def scale(factor: float) -> fcnn.Functions:
        return fcnn.Functions(fcnn.relu().init, fcnn.relu().apply, fcnn.relu().backward)

    monkeypatch.setattr(fcnn, "scale", scale, raising=False)
    monkeypatch.setattr(fcnn, "__all__", [*fcnn.__all__, "scale"])
    with pytest.raises(AssertionError, match=r"no row in tests/cases.py for \{'scale'\}"):
        test_table_has_every_constructor()


def test_names_in_table_are_distinct() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_shapes_and_dtypes(run: Run) -> None:
    made = run.case.layer.init(fcnn.key(0), run.case.in_shape)
    assert run.out.y.shape == (N, *made.out_shape)
    assert run.grads.dx.shape == run.x.shape
    for tree, like in ((run.out.state, made.state), (run.grads.params, made.params)):
        assert isinstance(tree, Tree)
        assert [(p, a.shape) for p, a in flatten(tree).items()] == [(p, a.shape) for p, a in flatten(like).items()]
    assert {a.dtype for a in arrays_in((run.out.y, run.out.state, *run.grads))} == {run.x.dtype}
    assert all(np.isfinite(a).all() for a in arrays_in((run.out.y, run.out.state, *run.grads)))


def test_what_is_handed_out_is_read_only(run: Run) -> None:
    assert_handed_out((*run.out, *run.grads))


def test_cache_is_plain_data(run: Run) -> None:
    list(arrays_in(run.out.cache))


def test_same_call_gives_same_bits(run: Run) -> None:
    assert bits(run.apply()) == bits(run.out)
    assert bits(run.backward()) == bits(run.grads)


@pytest.mark.parametrize("order", ORDERS)
def test_any_order_of_memory_and_bytes_gives_the_same_and_is_neither_written_nor_kept(run: Run, order: str) -> None:
    x, dy = ORDERS[order](run.x), ORDERS[order](run.dy)
    before = x.tobytes(), dy.tobytes()
    out = run.apply(x)
    cached = bits(out.cache)
    grads = run.backward(dy, out.cache)
    assert (x.tobytes(), dy.tobytes(), bits(out.cache)) == (*before, cached)
    assert_handed_out((out.y, out.state, *grads), x, dy)
    assert not any(np.shares_memory(array, passed) for array in arrays_in(out.cache) for passed in (x, dy))
    found, expected = arrays_in((out.y, out.state, *grads)), arrays_in((run.out.y, run.out.state, *run.grads))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.dtype.isnative
        assert_close(a, b)


def test_views_that_repeat_one_row_are_as_good_as_copies(run: Run) -> None:
    x, dy = repeated(run.x), repeated(run.dy)
    results = []
    for a, b in ((x, dy), (np.array(x), np.array(dy))):
        out = run.apply(a)
        results.append((out.y, out.state, *run.backward(b, out.cache)))
    for found, expected in zip(*map(arrays_in, results), strict=True):
        assert_close(found, expected, factor=20)  # batch norm divides what little is left by sqrt(eps)


def test_changing_inputs_afterwards_changes_nothing(run: Run) -> None:
    x = batch_innermost(run.x)
    out = run.apply(x)
    handed_out = bits(out)
    x[...] = np.nan
    assert bits(out) == handed_out
    dy = batch_innermost(run.dy)
    grads = run.backward(dy, out.cache)
    assert_close(grads.dx, run.grads.dx)
    found = bits(*grads)
    dy[...] = np.nan
    assert bits(*grads) == found


def test_batch_innermost_in_gives_batch_innermost_out(run: Run) -> None:
    out = run.apply(read_only(batch_innermost(run.x)))
    dx = run.backward(read_only(batch_innermost(run.dy)), out.cache).dx
    for array in (out.y, dx):
        assert array.strides == batch_innermost(array).strides or 1 in array.shape


def test_without_dx(run: Run) -> None:
    grads = run.backward(need_dx=False)
    assert grads.dx is None
    assert bits(grads.params) == bits(run.grads.params)


def test_backward_is_linear_in_dy(run: Run) -> None:
    other = np.random.default_rng(6).standard_normal(run.dy.shape).astype(run.dy.dtype)
    combined = run.backward((2 * run.dy - 3 * other).astype(run.dy.dtype))
    for whole, a, b in zip(*(arrays_in(tuple(g)) for g in (combined, run.grads, run.backward(other))), strict=True):
        assert_close(whole, 2 * a - 3 * b, factor=20)


@pytest.mark.parametrize("dtype", FLOATS)
def test_batched_is_unbatched_in_evaluation(case: Case, dtype: type) -> None:
    run = make_run(case, False, dtype)
    one_by_one = [run.apply(x[None]) for x in run.x]
    assert_close(np.concatenate([out.y for out in one_by_one]), run.out.y)
    grads = [run.backward(dy[None], out.cache) for dy, out in zip(run.dy, one_by_one, strict=True)]
    assert_close(np.concatenate([g.dx for g in grads]), run.grads.dx)
    for path, whole in flatten(run.grads.params).items():
        parts = sum(flatten(g.params)[path] for g in grads)
        assert_close(parts, whole)


SEVERAL = r"batch_norm needs at least two numbers a channel in training, got x "


@pytest.mark.parametrize("dtype", FLOATS)
def test_batch_of_one(case: Case, train: bool, dtype: type) -> None:
    run = make_run(case, train, dtype)
    if train and case.norms_features:
        with pytest.raises(ValueError, match=SEVERAL + r"\(1, "):
            run.apply(run.x[:1])
        return
    out = run.apply(run.x[:1])
    grads = run.backward(run.dy[:1], out.cache)
    assert (out.y.shape, grads.dx.shape) == ((1, *run.out.y.shape[1:]), (1, *case.in_shape))
    assert all(array.dtype == dtype and np.isfinite(array).all() for array in arrays_in((out.y, out.state, *grads)))


@pytest.mark.parametrize("dtype", FLOATS)
def test_empty_batch(case: Case, train: bool, dtype: type) -> None:
    run = make_run(case, train, dtype)
    if train and case.stateful:
        with pytest.raises(ValueError, match=SEVERAL + r"\(0, "):
            run.apply(run.x[:0])
        return
    out = run.apply(run.x[:0])
    grads = run.backward(run.dy[:0], out.cache)
    assert (out.y.shape, grads.dx.shape) == ((0, *run.out.y.shape[1:]), (0, *case.in_shape))
    assert bits(out.state) == bits(run.state)
    for path, gradient in flatten(grads.params).items():
        assert bits(gradient) == bits(np.zeros_like(flatten(run.params)[path])), path
    assert {array.dtype for array in arrays_in((out.y, *grads))} == {np.dtype(dtype)}


REFUSED = (TypeError, fcnn.LayerError)  # within a network the message begins with the layer's path


@pytest.mark.parametrize("dtype", OTHER_DTYPES)
def test_other_dtypes_are_refused(case: Case, train: bool, dtype: str) -> None:
    run = make_run(case, train, np.float32)
    for call, array in ((run.apply, run.x), (run.backward, run.dy)):
        other = np.zeros(array.shape, dtype)
        expected = rf"is an array of float32 or float64, got {re.escape(str(other.dtype))} \("
        with pytest.raises(REFUSED, match=expected):
            call(other)


WITH_PARAMS = [case for case in CASES if case.layer.init(fcnn.key(0), case.in_shape).params]


@pytest.mark.parametrize("case", WITH_PARAMS, ids=lambda case: case.name)
def test_parameters_of_other_dtypes_are_refused(case: Case, train: bool) -> None:
    run = make_run(case, train, np.float32)
    for dtype in ("float16", "int32"):
        params = fcnn.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), run.params)
        with pytest.raises(REFUSED, match=rf"is an array of float32 or float64, got {dtype} \("):
            case.layer.apply(params, run.state, run.x, train=train, key=fcnn.key(2))


@pytest.mark.parametrize("case", WITH_PARAMS, ids=lambda case: case.name)
def test_parameters_in_any_order_of_memory_and_bytes(case: Case, train: bool) -> None:
    run = make_run(case, train, np.float32)
    for order in ("Fortran", "backwards", "swapped bytes"):
        params, state = (fcnn.tree.map(ORDERS[order], values) for values in (run.params, run.state))
        out = case.layer.apply(params, state, run.x, train=train, key=fcnn.key(2))
        grads = case.layer.backward(params, out.cache, run.dy)
        new_state = out.state if train else run.state  # in evaluation the state is handed through as it came
        found = arrays_in((out.y, new_state, *grads))
        for a, b in zip(found, arrays_in((run.out.y, run.out.state, *run.grads)), strict=True):
            assert a.dtype == b.dtype
            assert a.dtype.isnative
            assert_close(a, b)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_dy_of_another_shape_is_refused(case: Case, train: bool, dtype: type) -> None:
    run = make_run(case, train, dtype)
    for shape in wrong_shapes(run.dy.shape):
        expected = re.escape(f"expects dy of the output's shape {run.dy.shape}, got {shape}")
        with pytest.raises(ValueError, match=expected):
            run.backward(np.ones(shape, dtype))


def test_gradients_match_central_differences(case: Case, train: bool) -> None:
    assert fcnn.gradcheck(case.layer, case.in_shape, train=train).ok


def test_train_has_no_default(case: Case) -> None:
    run = make_run(case, False, np.float32)
    with pytest.raises(TypeError, match="train"):
        case.layer.apply(run.params, run.state, run.x)


@pytest.mark.parametrize("case", [case for case in CASES if case.stochastic], ids=lambda case: case.name)
def test_random_layers_need_a_key_in_training_only(case: Case) -> None:
    run = make_run(case, True, np.float32)
    paths = [path for path, layer in descendants(case.layer) if layer.kind == "dropout"]
    with pytest.raises(ValueError, match="needs a key in training") as error:
        run.apply(key=None)
    assert str(error.value).startswith(f"{paths[0]}: dropout(" if paths[0] else "dropout(")
    assert bits(run.apply(key=fcnn.key(3)).y) != bits(run.out.y)
    calm = run.apply(train=False, key=None)
    assert bits(calm) == bits(run.apply(train=False, key=fcnn.key(3)))


@pytest.mark.parametrize("case", [case for case in CASES if not case.stochastic], ids=lambda case: case.name)
def test_other_layers_ignore_the_key(case: Case) -> None:
    run = make_run(case, True, np.float32)
    assert bits(run.apply(key=None)) == bits(run.out)


def test_state_changes_in_training_only(case: Case) -> None:
    assert bits(make_run(case, False, np.float32).out.state) == bits(make_run(case, False, np.float32).state)
    run = make_run(case, True, np.float32)
    changed = {path for path, leaf in flatten(run.out.state).items() if bits(leaf) != bits(flatten(run.state)[path])}
    assert changed == (set(flatten(run.state)) if case.stateful else set())


def test_init_is_a_function_of_the_key(case: Case) -> None:
    first, again, other = (case.layer.init(fcnn.key(seed), case.in_shape) for seed in (7, 7, 8))
    assert first == again
    assert {leaf.dtype for leaf in arrays_in((first.params, first.state))} <= {np.dtype(np.float32)}
    drawn = [path for path, leaf in flatten(first.params).items() if path.split("/")[-1] == "w"]
    assert all(bits(flatten(first.params)[path]) != bits(flatten(other.params)[path]) for path in drawn)


def test_inserting_a_layer_reseeds_no_other() -> None:
    short = fcnn.serial(a=fcnn.dense(5), drop=fcnn.dropout(0.5), b=fcnn.dense(5))
    long = fcnn.serial(a=fcnn.dense(5), new=fcnn.dense(5), drop=fcnn.dropout(0.5), b=fcnn.dense(5))
    params = [net.init(fcnn.key(0), (5,)).params for net in (short, long)]
    assert [params[0][name] == params[1][name] for name in ("a", "b")] == [True, True]
    eye = {"w": np.eye(5), "b": np.zeros(5)}
    ys = [
        net.apply(freeze(dict.fromkeys(p, eye)), EMPTY, np.ones((4, 5)), train=True, key=fcnn.key(1)).y
        for net, p in zip((short, long), params, strict=True)
    ]
    np.testing.assert_array_equal(*ys)


def test_repr_evaluates_to_the_same_layer(case: Case) -> None:
    again = eval(repr(case.layer), vars(fcnn).copy())
    assert repr(again) == repr(case.layer)
    assert fcnn.describe(again) == fcnn.describe(case.layer)
    assert again.init(fcnn.key(0), case.in_shape) == case.layer.init(fcnn.key(0), case.in_shape)


def test_summary_has_a_line_for_every_layer(case: Case) -> None:
    lines = fcnn.summary(case.layer, case.in_shape).splitlines()
    made = case.layer.init(fcnn.key(0), case.in_shape)
    for path, layer in descendants(case.layer):
        if not layer.children:
            assert sum(line.startswith(f"{path or layer.kind} ") and repr(layer) in line for line in lines) == 1
    assert f"{fcnn.tree.size(made.params):,} parameters" in lines[-1]
    if case.layer.kind not in ("residual", "branch", "averaged_views"):
        assert str(made.out_shape) in lines[-3]


@pytest.mark.parametrize("layer", [fcnn.identity(), fcnn.gelu(), fcnn.dense(2)], ids=str)
def test_read_only_windows_of_a_writable_array_are_not_kept(layer: fcnn.Layer) -> None:
    x = np.arange(6.0)
    windows = np.lib.stride_tricks.sliding_window_view(x, 3)  # read-only, but x is not
    out = layer.apply(layer.init(fcnn.key(0), (3,)).params, EMPTY, windows, train=True)
    assert not any(np.shares_memory(array, x) for array in arrays_in(out))


def test_lenet5_has_the_published_number_of_parameters() -> None:
    sizes = [fcnn.tree.size(fcnn.lenet5(s).init(fcnn.key(0), s).params) for s in ((1, 28, 28), (3, 32, 32))]
    assert sizes == [61_706, 62_006]
    with pytest.raises(
        ValueError, match=r"LeNet-5 takes images \(C, H, W\) of at least 16x16 pixels, got \(1, 40, 15\)"
    ):
        fcnn.lenet5((1, 40, 15))


@pytest.mark.parametrize(("shape", "count"), [((1, 16, 16), 15_626), ((3, 17, 40), 27_446), ((3, 64, 64), 338_486)])
def test_lenet5_takes_images_of_any_size(shape: tuple[int, ...], count: int) -> None:
    made = fcnn.lenet5(shape).init(fcnn.key(0), shape)
    assert (made.out_shape, fcnn.tree.size(made.params)) == ((10,), count)
