"""What the contract of `fcnn.network.layer` promises, for every row of `cases.CASES`, in both modes and both dtypes."""

import functools
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import attrs
import numpy as np
import pytest
from cases import CASES, Case, descendants

import fcnn
from fcnn import Grads, Out, Tree
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


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def run(request: pytest.FixtureRequest, case: Case, train: bool) -> Run:
    return make_run(case, train, request.param)


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def arrays_in(value: Any) -> Iterator[np.ndarray]:
    """Every array in nested plain data; anything that isn't plain data is an error."""
    if isinstance(value, np.ndarray):
        yield value
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from arrays_in(getattr(value, field.name))
    elif isinstance(value, Tree):
        yield from flatten(value).values()
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from arrays_in(item)
    elif isinstance(value, dict):
        yield from arrays_in(list(value.values()))
    else:
        assert value is None or isinstance(value, (bool, int, float, str)), f"not plain data: {value!r}"


def assert_close(found: np.ndarray, expected: np.ndarray, factor: float = 1) -> None:
    """Equal but for the rounding of sums, which goes with the array's greatest number."""
    unit = 1e-5 if expected.dtype == np.float32 else 1e-13
    np.testing.assert_allclose(found, expected, rtol=0, atol=factor * unit * max(1, np.abs(expected).max()))


def bits(*values: Any) -> list[tuple[Any, ...]]:
    return [(a.dtype, a.shape, a.tobytes()) for a in arrays_in(values)]


def batch_innermost(array: np.ndarray) -> np.ndarray:
    """A writable copy laid out as `fcnn.ops.layout` describes, written without it."""
    order = (2, 1, 3, 0) if array.ndim == 4 else (1, 0)
    return np.array(array.transpose(order), order="C").transpose(np.argsort(order))


def sliced(array: np.ndarray) -> np.ndarray:
    """The same values as a view with gaps in the batch axis and the last axis reversed."""
    larger = np.full((2 * array.shape[0], *array.shape[1:]), np.nan, array.dtype)
    view = larger[1::2, ..., ::-1]
    view[...] = array
    return view


ORDERS = {
    "C": lambda a: np.array(a, order="C"),
    "Fortran": lambda a: np.array(a, order="F"),
    "batch innermost": batch_innermost,
    "sliced": sliced,
}


# They make networks of networks, or of data, and so are no constructors.
NO_CONSTRUCTORS = ("fcnn.network.rewriting", "fcnn.network.description")


def makes_layers(value: object) -> bool:
    module = getattr(value, "__module__", "")
    return getattr(value, "__annotations__", {}).get("return") is fcnn.Layer and module not in NO_CONSTRUCTORS


def test_table_has_every_constructor() -> None:
    made = {name for name in fcnn.__all__ if makes_layers(getattr(fcnn, name))}
    assert {"conv2d", "softmax", "serial", "branch", "lenet5"} <= made
    there = {layer.kind for case in CASES for _, layer in descendants(case.layer)} | {case.name for case in CASES}
    assert made <= there, f"no row in tests/cases.py for {made - there}"
    for found in pkgutil.walk_packages(fcnn.network.__path__, "fcnn.network."):
        module = importlib.import_module(found.name)
        own = {name: v for name, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__}
        constructors = {name for name, value in own.items() if makes_layers(value)}
        assert {name for name in constructors if not name.startswith("_")} <= made


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
    for array in arrays_in((run.out.y, run.out.state, *run.grads)):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        assert array.base is None or not array.base.flags.writeable


def test_cache_is_plain_data(run: Run) -> None:
    list(arrays_in(run.out.cache))


def test_same_call_gives_same_bits(run: Run) -> None:
    assert bits(run.apply()) == bits(run.out)
    assert bits(run.backward()) == bits(run.grads)


@pytest.mark.parametrize("order", ["C", "batch innermost"])
def test_writable_inputs_are_neither_written_nor_kept(run: Run, order: str) -> None:
    x, dy = ORDERS[order](run.x), ORDERS[order](run.dy)
    out = run.apply(x)
    cached = bits(out.cache)
    grads = run.backward(dy, out.cache)
    assert (bits(x), bits(dy), bits(out.cache)) == (bits(run.x), bits(run.dy), cached)
    for array in arrays_in((out.y, out.state, out.cache, *grads)):
        assert not np.shares_memory(array, x)
        assert not np.shares_memory(array, dy)


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


@pytest.mark.parametrize("order", ORDERS)
def test_memory_order_does_not_matter(run: Run, order: str) -> None:
    out = run.apply(ORDERS[order](run.x))
    grads = run.backward(ORDERS[order](run.dy), out.cache)
    found, expected = arrays_in((out.y, out.state, *grads)), arrays_in((run.out.y, run.out.state, *run.grads))
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b)


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batched_is_unbatched_in_evaluation(case: Case, dtype: type) -> None:
    run = make_run(case, False, dtype)
    one_by_one = [run.apply(x[None]) for x in run.x]
    assert_close(np.concatenate([out.y for out in one_by_one]), run.out.y)
    grads = [run.backward(dy[None], out.cache) for dy, out in zip(run.dy, one_by_one, strict=True)]
    assert_close(np.concatenate([g.dx for g in grads]), run.grads.dx)
    for path, whole in flatten(run.grads.params).items():
        parts = sum(flatten(g.params)[path] for g in grads)
        assert_close(parts, whole)


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
    if case.layer.kind not in ("residual", "branch"):
        assert str(made.out_shape) in lines[-3]


INITIALIZERS = {  # variance for fan-in i and fan-out o
    fcnn.he(): lambda i, o: 2 / i,
    fcnn.he("uniform"): lambda i, o: 2 / i,
    fcnn.xavier(): lambda i, o: 2 / (i + o),
    fcnn.lecun("uniform"): lambda i, o: 1 / i,
    fcnn.kaiming_uniform(): lambda i, o: 1 / (3 * i),
}


@pytest.mark.parametrize("init", INITIALIZERS, ids=str)
def test_weights_begin_with_the_variance_of_their_fans(init: fcnn.initializers.Initializer) -> None:
    for make, in_shape, fans in (
        (functools.partial(fcnn.conv2d, 32, (3, 5)), (8, 9, 9), (8 * 15, 32 * 15)),
        (functools.partial(fcnn.dense, 64), (100,), (100, 64)),
    ):
        params = make(weights=init, biases=init).init(fcnn.key(0), in_shape).params
        variance = INITIALIZERS[init](*fans)
        assert np.var(params["w"], dtype=np.float64) == pytest.approx(variance, rel=0.15)
        assert 0.3 * variance < np.var(params["b"], dtype=np.float64) < 3 * variance
        assert not np.isin(params["b"], params["w"]).any()  # b has a key of its own


@pytest.mark.parametrize("layer", [fcnn.identity(), fcnn.gelu(), fcnn.dense(2)], ids=str)
def test_read_only_windows_of_a_writable_array_are_not_kept(layer: fcnn.Layer) -> None:
    x = np.arange(6.0)
    windows = np.lib.stride_tricks.sliding_window_view(x, 3)  # read-only, but x is not
    out = layer.apply(layer.init(fcnn.key(0), (3,)).params, EMPTY, windows, train=True)
    assert not any(np.shares_memory(array, x) for array in arrays_in(out))


def test_empty_batch() -> None:
    net = fcnn.lenet5()
    x = np.zeros((0, 1, 28, 28), np.float32)
    assert net.apply(net.init(fcnn.key(0), (1, 28, 28)).params, EMPTY, x, train=False).y.shape == (0, 10)


def test_lenet5_has_the_published_number_of_parameters() -> None:
    sizes = [fcnn.tree.size(fcnn.lenet5(s).init(fcnn.key(0), s).params) for s in ((1, 28, 28), (3, 32, 32))]
    assert sizes == [61_706, 62_006]
    with pytest.raises(ValueError, match=r"LeNet-5 takes images \(C, 28, 28\) or \(C, 32, 32\), got \(1, 30, 30\)"):
        fcnn.lenet5((1, 30, 30))
