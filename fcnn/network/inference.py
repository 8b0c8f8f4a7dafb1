"""`predictor`: a network prepared once to be run often.

Batch norm becomes a part of the weights before it (`fcnn.ops.folding`), convolutions and what follows them are computed
as one (`fcnn.ops.fused`), weights are laid out for their kernel once for each shape of input, and nothing is kept for a
backward pass.

Few images go through a network of many weights channel by channel (`fcnn.ops.few`). What its steps hand on are images
(N, C, H, W) as everywhere, which lie as (C, H, W, N); a step that knows nothing of it finds another order of memory.
"""

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fcnn.network import layers
from fcnn.network.combinators import branch, residual, serial
from fcnn.network.groups import Role, are_norms, are_trees, geometry, groups, own_weights
from fcnn.network.layer import Layer, expect_layer, expect_values
from fcnn.network.merging import Merge, added, merged, merged_shape
from fcnn.network.rewriting import without_caches
from fcnn.network.views import averaged_views, view_shares
from fcnn.ops import few as channelwise
from fcnn.ops import planned
from fcnn.ops.conv import forward, kernel_for, pad_for, with_border
from fcnn.ops.folding import folded
from fcnn.ops.layout import block, unblock
from fcnn.ops.parts import lines
from fcnn.ops.passes import InPlace, rectify
from fcnn.ops.piecewise import clip_bounds
from fcnn.ops.pool import max_pool2d, pool_window
from fcnn.ops.window import Geometry
from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import floats, pair
from fcnn.values.cores import each_of, one_blas_thread
from fcnn.values.tree import EMPTY, Tree, size

_SHARD = 32  # inputs at a time, few enough that what lies between layers stays near the core
_MOST_PLANS = 8  # shapes of input for which weights stay laid out
_FEW = 4  # inputs, and
_MANY = 1 << 20  # numbers of parameters, with which channel by channel is faster
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
    large, plain = size(params) >= _MANY, without_caches(network)

    @functools.cache
    def fast(few: bool) -> Fast:
        return _prepared(network, params, state, few)

    def run(x: Array) -> Array:
        try:
            return fast(large and len(x) <= _FEW)(x)
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


def _prepared(layer: Layer, params: Tree, state: Tree, few: bool) -> Fast:
    trees = type(params) is type(state) is Tree
    bare = trees and not layer.rewritten and not params
    if bare and layer.make is layers.flatten:
        return _flat
    if bare and few and layer.make is layers.relu:
        return _relu
    if bare and few and layer.make is layers.max_pool2d:
        return _max_pool(layer.config)
    known = trees and not params.keys() - layer.children.keys()
    if not known or layer.rewritten or layer.make not in (serial, residual, branch, averaged_views):
        plain = without_caches(layer)
        # A layer may keep its x, which must not be a buffer that the next call writes to.
        return lambda x: plain.apply(params, state, keep(x), train=False).y
    if layer.make is serial:
        return _chained([*_runs(layer.children, params, state, few)])
    children = {
        name: _prepared(child, params.get(name, EMPTY), state.get(name, EMPTY), few)
        for name, child in layer.children.items()
    }
    if layer.make is averaged_views:
        shares = view_shares(layer.config.get("weights"), [*children][1:])
        return _averaged(children["network"], [(children[name], share) for name, share in shares.items()])
    return _parallel(layer.kind, layer.config.get("merge", "sum"), children)


def _flat(x: Array) -> Array:
    """`fcnn.ops.flatten` without its checks."""
    if x.ndim not in (3, 4):
        raise ValueError("no images")
    return unblock(np.ascontiguousarray(np.moveaxis(x, 0, -1)).reshape(-1, len(x)))


def _relu(x: Array) -> Array:
    """`fcnn.ops.relu` of an array that lies in any order, of images channel by channel for one."""
    memory = np.moveaxis(x, 0, -1)
    lines = memory.reshape(len(memory), -1) if memory.flags.c_contiguous and memory.size else memory
    y = np.maximum(lines, np.zeros(lines.shape[-1:], x.dtype)).reshape(memory.shape)
    return frozen(np.moveaxis(y, -1, 0))


def _max_pool(config: Mapping[str, Any]) -> Fast:
    window = pair("window", config["window"], least=1)
    stride = window if config["stride"] is None else pair("stride", config["stride"], least=1)

    def run(x: Array) -> Array:
        if x.ndim != 4 or not x.size:
            raise ValueError("no images")
        shape = x.shape[2], x.shape[3]
        pads, out = pool_window("max_pool2d", shape, window, stride, config["padding"], config["ceil_mode"])
        y = channelwise.max_pool(np.ascontiguousarray(x.transpose(1, 2, 3, 0)), window, stride, pads, out)
        return frozen(y.transpose(3, 0, 1, 2))

    return run


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


def _averaged(network: Fast, views: list[tuple[Fast, float]]) -> Fast:
    def run(x: Array) -> Array:
        # Each product is a new array, as the network's next run may write where this one's output is.
        return added([share * network(view(x)) for view, share in views])

    return run


def _runs(children: Mapping[str, Layer], params: Tree, state: Tree, few: bool) -> Iterator[Fast]:
    for roles in groups(children, acts=True):
        weights = None if "conv" not in roles and "dense" not in roles else _weights(children, roles, params, state)
        after = None if weights is None else _after(children, roles)
        if weights is None:
            for name in roles.values():
                yield _prepared(children[name], params.get(name, EMPTY), state.get(name, EMPTY), few)
        elif "conv" in roles:
            yield _convolution(children[roles["conv"]], *weights, after, "pool" in roles, few)
        else:
            yield _dense(*weights, after)


def _after(children: Mapping[str, Layer], roles: Mapping[Role, str]) -> InPlace | None:
    """A group's activation, done in place."""
    if "act" not in roles:
        return rectify if "relu" in roles else None
    layer = children[roles["act"]]
    if layer.make in (layers.clip, layers.relu6):
        low, high = (0.0, 6.0) if layer.make is layers.relu6 else clip_bounds(**layer.config)
        return lambda part: np.clip(part, low, high, out=part)
    plain = without_caches(layer)

    def after(part: Array) -> None:
        part[...] = plain.apply(EMPTY, EMPTY, part, train=False).y

    return after


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
    if any(params.get(other, EMPTY) for role, other in roles.items() if role in ("relu", "pool", "act")):
        return None
    if "norm" in roles:
        norm = params.get(roles["norm"], EMPTY), state.get(roles["norm"], EMPTY)
        if not are_norms(*norm, found[0]):
            return None
        eps = children[roles["norm"]].config["eps"]
        return folded(*found, norm[0]["gamma"], norm[0]["beta"], norm[1]["mean"], norm[1]["var"], eps)
    return found


def _convolution(layer: Layer, w: Array, b: Array | None, after: InPlace | None, pool: bool, few: bool) -> Fast:
    local = threading.local()  # as plans have buffers

    def plan(x: Array) -> Fast:
        g = geometry(x, w, layer.config)
        if g is None:
            raise ValueError("x doesn't go with the weights")
        if few:
            return _of_few(g, w, b, after, pool)
        return _small(g, w, b, after, pool) if planned.suits(g, pool) else _of_many(g, w, b, after, pool)

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


def _small(g: Geometry, w: Array, b: Array | None, after: InPlace | None, pool: bool) -> Fast:
    compute = planned.planned(g, w, b, relu=after is rectify, pool=pool)

    def run(x: Array) -> Array:
        y = compute(block(x))
        if after is not None and after is not rectify:
            after(lines(y))
        return unblock(y)

    return run


def _of_many(g: Geometry, w: Array, b: Array | None, after: InPlace | None, pool: bool) -> Fast:
    inner, even = with_border(g), g.out[0] % 2 == g.out[1] % 2 == 0
    weights = kernel_for(inner, "forward").forward_weights(w, inner)

    def run(x: Array) -> Array:
        y, _ = forward(pad_for(g, block(x)), weights, b, g, inner, after=after, pool=pool and even, keeps=False)
        done = frozen(unblock(y))
        return done if even or not pool else max_pool2d(done, 2)[0]

    return run


def _of_few(g: Geometry, w: Array, b: Array | None, after: InPlace | None, pool: bool) -> Fast:
    compute = channelwise.convolution(g, w, b, after)

    def run(x: Array) -> Array:
        y = compute(np.ascontiguousarray(x.transpose(1, 2, 3, 0)))
        if pool:
            y = channelwise.max_pool(y, (2, 2), (2, 2), ((0, 0), (0, 0)), (g.out[0] // 2, g.out[1] // 2))
        return frozen(y.transpose(3, 0, 1, 2))

    return run


def _dense(w: Array, b: Array | None, after: InPlace | None) -> Fast:
    def run(x: Array) -> Array:
        if x.ndim != 2 or x.dtype != w.dtype:
            raise ValueError("x doesn't go with the weights")
        y = np.matmul(w, x.T)
        if b is not None:
            y += b[:, None]
        if after is not None:
            after(y)
        return unblock(y)

    return run
