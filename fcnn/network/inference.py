"""`predictor`: a network prepared once to be run often.

Batch norm becomes a part of the weights before it (`fcnn.ops.folding`), convolutions and what follows them are computed
as one (`fcnn.ops.fused`), weights are laid out for their kernel once for each shape of input, and nothing is kept for a
backward pass.
"""

import threading
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from fcnn.network import layers
from fcnn.network.combinators import branch, residual, serial
from fcnn.network.groups import Role, are_norms, are_trees, geometry, groups, own_weights
from fcnn.network.layer import Layer, expect_layer, expect_values
from fcnn.network.merging import Merge, merged, merged_shape
from fcnn.network.rewriting import without_caches
from fcnn.ops import planned
from fcnn.ops.conv import forward, kernel_for, pad_for, with_border
from fcnn.ops.folding import folded
from fcnn.ops.layout import block, unblock
from fcnn.ops.passes import rectify
from fcnn.ops.pool import max_pool2d
from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import floats
from fcnn.values.cores import each_of, one_blas_thread
from fcnn.values.tree import EMPTY, Tree

_SHARD = 32  # inputs at a time, few enough that what lies between layers stays near the core
_MOST_PLANS = 8  # shapes of input for which weights stay laid out
Fast = Callable[[Array], Array]


def predictor(network: Layer, params: Tree, state: Tree = EMPTY) -> Callable[[Array], Array]:
    """The function from inputs (N, …) to outputs (N, …) of a network in evaluation mode, as fast as it can be.

    More than 32 inputs are taken 32 at a time, on every core. The outputs are those of `network.apply` but for
    rounding, as batch norm is multiplied into the weights before it; they depend on N in their last bits alone, and not
    on the number of cores.

    Args:
        network, params, state: the network and its values; what is prepared of them is kept.

    The function raises what `network.apply` raises; inputs are of the parameters' dtype.

    >>> from fcnn import dense, key, relu, serial
    >>> network = serial(dense(4), relu(), dense(2))
    >>> predict = predictor(network, network.init(key(0), (3,)).params)
    >>> predict(np.zeros((5, 3), np.float32)).shape
    (5, 2)
    """
    expect_layer("network", network)
    expect_values("params", params)
    expect_values("state", state)
    fast, plain = _prepared(network, params, state), without_caches(network)

    def run(x: Array) -> Array:
        try:
            return fast(x)
        except (LookupError, TypeError, ValueError):  # the layers say what is wrong, and where
            return plain.apply(params, state, x, train=False).y

    def predict(x: Array) -> Array:
        x = keep(floats("the predictor's x", x))
        with one_blas_thread():
            if x.ndim < 2 or len(x) <= _SHARD:
                return frozen(np.array(run(x), order="K"))  # of a buffer, it may be
            shards = range(0, len(x), _SHARD)
            found = each_of(len(shards), lambda k: np.array(run(x[shards[k] : shards[k] + _SHARD]), order="K"), 1e6)
            return frozen(np.concatenate(found))

    return predict


def _prepared(layer: Layer, params: Tree, state: Tree) -> Fast:
    trees = type(params) is type(state) is Tree
    if trees and layer.make is layers.flatten and not layer.rewritten and not params:
        return _flat
    known = trees and not params.keys() - layer.children.keys()
    if not known or layer.rewritten or layer.make not in (serial, residual, branch):
        plain = without_caches(layer)
        # A layer may keep its x, which must not be a buffer that the next call writes to.
        return lambda x: plain.apply(params, state, keep(x), train=False).y
    if layer.make is serial:
        return _chained([*_runs(layer.children, params, state)])
    children = {
        name: _prepared(child, params.get(name, EMPTY), state.get(name, EMPTY))
        for name, child in layer.children.items()
    }
    return _parallel(layer.kind, layer.config.get("merge", "sum"), children)


def _flat(x: Array) -> Array:
    """`fcnn.ops.flatten` without its checks."""
    if x.ndim not in (3, 4):
        raise ValueError("no images")
    memory = block(x)
    return unblock(np.ascontiguousarray(memory.swapaxes(0, 1)).reshape(-1, memory.shape[-1]))


def _chained(steps: list[Fast]) -> Fast:
    def run(x: Array) -> Array:
        for step in steps:
            x = step(x)
        return x

    return run


def _parallel(kind: str, merge: Merge, children: Mapping[str, Fast]) -> Fast:
    def run(x: Array) -> Array:
        ys = {name: child(x) for name, child in children.items()}
        merged_shape(kind, merge, {name: y.shape for name, y in ys.items()}, 1)  # others NumPy might broadcast
        return merged(merge, [*ys.values()])

    return run


def _runs(children: Mapping[str, Layer], params: Tree, state: Tree) -> Iterator[Fast]:
    for roles in groups(children):
        weights = None if "other" in roles else _weights(children, roles, params, state)
        if weights is None:
            for name in roles.values():
                yield _prepared(children[name], params.get(name, EMPTY), state.get(name, EMPTY))
        elif "conv" in roles:
            yield _convolution(children[roles["conv"]], *weights, relu="relu" in roles, pool="pool" in roles)
        else:
            yield _dense(*weights, relu="relu" in roles)


def _weights(
    children: Mapping[str, Layer], roles: Mapping[Role, str], params: Tree, state: Tree
) -> tuple[Array, Array | None] | None:
    """w and b of a group, with its batch norm in them; None unless all is as it must be."""
    if not are_trees(roles.values(), params, state):
        return None
    name = roles.get("conv") or roles["dense"]
    found = own_weights(params.get(name, EMPTY), children[name].config["bias"])
    if found is None or found[0].ndim != (4 if "conv" in roles else 2):
        return None
    if any(params.get(other, EMPTY) for role, other in roles.items() if role in ("relu", "pool")):
        return None
    if "norm" in roles:
        norm = params.get(roles["norm"], EMPTY), state.get(roles["norm"], EMPTY)
        if not are_norms(*norm, found[0]):
            return None
        eps = children[roles["norm"]].config["eps"]
        return folded(*found, norm[0]["gamma"], norm[0]["beta"], norm[1]["mean"], norm[1]["var"], eps)
    return found


def _convolution(layer: Layer, w: Array, b: Array | None, *, relu: bool, pool: bool) -> Fast:
    local = threading.local()  # as plans have buffers

    def plan(x: Array) -> Fast:
        g = geometry(x, w, layer.config)
        if g is None:
            raise ValueError("x doesn't go with the weights")
        if planned.suits(g, pool):
            small = planned.planned(g, w, b, relu=relu, pool=pool)
            return lambda x: unblock(small(block(x)))
        inner = with_border(g)
        weights, even = kernel_for(inner, "forward").forward_weights(w, inner), g.out[0] % 2 == g.out[1] % 2 == 0

        def run(x: Array) -> Array:
            y, _ = forward(pad_for(g, block(x)), weights, b, g, inner, relu=relu, pool=pool and even, keeps=False)
            return unblock(y) if even or not pool else max_pool2d(frozen(unblock(y)), 2)[0]

        return run

    def run(x: Array) -> Array:
        if x.dtype != w.dtype:
            raise ValueError("x doesn't go with the weights")  # where a plan of this shape would cast it
        plans: dict[tuple[int, ...], Fast] = local.__dict__.setdefault("plans", {})
        found = plans.get(x.shape)
        if found is None:
            if len(plans) >= _MOST_PLANS:
                plans.clear()
            found = plans[x.shape] = plan(x)
        return found(x)

    return run


def _dense(w: Array, b: Array | None, *, relu: bool) -> Fast:
    def run(x: Array) -> Array:
        if x.ndim != 2 or x.dtype != w.dtype:
            raise ValueError("x doesn't go with the weights")
        y = np.matmul(w, x.T)
        if b is not None:
            y += b[:, None]
        if relu:
            rectify(y)
        return unblock(y)

    return run
