"""What the layers of several families share."""

from collections.abc import Callable, Collection
from typing import Any

from fcnn.network.initializers import Fan, Initializer
from fcnn.network.layer import (
    BackwardFn,
    Functions,
    Grads,
    Init,
    InitFn,
    LayerError,
    Out,
    Shape,
    expect_call,
    expect_params,
)
from fcnn.values.arrays import Array
from fcnn.values.checks import boolean
from fcnn.values.keys import Key, fold_in
from fcnn.values.tree import EMPTY, Tree, freeze


def without_weights(
    init: InitFn, op: Callable[[Array], tuple[Array, Any]], op_backward: Callable[..., Array]
) -> Functions:
    """The functions of a layer without parameters, the same in both modes, from a pair of `fcnn.ops`."""

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        expect_call(params, state, train, key)
        expect_params((), params)
        y, cache = op(x)
        return Out(y, EMPTY, cache)

    return Functions(init, apply, only_dx(op_backward))


def only_dx(op_backward: Callable[..., Array]) -> BackwardFn:
    """The backward function of a layer without parameters, from one of `fcnn.ops`."""

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        expect_params((), params)
        return Grads(op_backward(dy, cache) if boolean("need_dx", need_dx) else None, EMPTY)

    return backward


def with_weights(
    init: InitFn,
    op: Callable[[Array, Array, Array | None], tuple[Array, Any]],
    op_backward: Callable[..., tuple[Array | None, Array | None, Array | None]],
    bias: bool,
) -> Functions:
    """The functions of a layer with `w`, and `b` if `bias`, from a pair of `fcnn.ops`."""
    names = ("w", "b") if bias else ("w",)

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        expect_call(params, state, train, key)
        expect_params(names, params)
        y, cache = op(x, params["w"], params["b"] if bias else None)
        return Out(y, EMPTY, cache)

    def backward(
        params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True, need_params: bool | Collection[str] = True
    ) -> Grads:
        expect_params(names, params)
        needed = (names if need_params else ()) if isinstance(need_params, bool) else need_params
        dx, dw, db = op_backward(dy, cache, need_dx=need_dx, need_dw="w" in needed, need_db="b" in needed)
        return Grads(dx, freeze({name: found for name, found in (("w", dw), ("b", db)) if found is not None}))

    return Functions(init, apply, backward)


def draw_weights(key: Key, shape: Shape, fan: Fan, bias: int | None, weights: Initializer, biases: Initializer) -> Tree:
    """`w` of that shape, and `b` of so many numbers as `bias` says, if any; each from a key of its own."""
    drawn = {"w": weights(fold_in(key, "w"), shape, fan)}
    if bias:
        drawn["b"] = biases(fold_in(key, "b"), (bias,), fan)
    return freeze(drawn)


def same_shape(key: Key, in_shape: Shape, /) -> Init:
    """The `init` of a layer that has no parameters and keeps its input's shape."""
    return Init(EMPTY, EMPTY, tuple(in_shape))


def images(call: str, in_shape: Shape) -> Shape:
    """The shape, if it is one of images (C, H, W)."""
    if len(in_shape) != 3:
        advice = {1: "; put it before flatten", 4: "; leave out the batch axis"}.get(len(in_shape), "")
        raise LayerError(f"{call} expects (C, H, W), got {in_shape}{advice}")
    return in_shape


def sequences(call: str, in_shape: Shape) -> Shape:
    """The shape, if it is one of sequences (C, L)."""
    if len(in_shape) != 2:
        advice = "; put reshape((1, -1)) before it" if len(in_shape) == 1 else ""
        raise LayerError(f"{call} expects (C, L), got {in_shape}{advice}")
    return in_shape


def features(call: str, in_shape: Shape) -> Shape:
    """The shape, if it is one of features (D,)."""
    if len(in_shape) != 1:
        batch = "; put flatten() before it, or, of features, leave out the batch axis"
        advice = {2: batch, 3: "; put flatten() before it"}.get(len(in_shape), "")
        raise LayerError(f"{call} expects (D,), got {in_shape}{advice}")
    return in_shape
