"""`fuse`: the same network, computed in fewer passes over memory.

In a `serial`, a convolution and what follows it (batch norm, ReLU and a 2x2 max pool, as far as they are there) are
computed as one in training, by `fcnn.ops.fused` and `fcnn.ops.fused_norm`. Children are recognised by the constructors
that made them; those that were rewritten, such as held ones, are left as they are.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np

from fcnn.network import layers
from fcnn.network.combinators import Run, in_runs, one_after_another, serial
from fcnn.network.layer import Layer, error_path, expect_params
from fcnn.network.rewriting import rewrite
from fcnn.ops.fused import fused, fused_backward
from fcnn.ops.fused_norm import Norm, fused_norm, fused_norm_backward
from fcnn.ops.layout import block, unblock
from fcnn.ops.window import Geometry, windows
from fcnn.values.arrays import Array, keep
from fcnn.values.checks import FLOATS, output_gradient, pair
from fcnn.values.keys import Key
from fcnn.values.tree import EMPTY, Tree, freeze


def fuse(network: Layer) -> Layer:
    """The network with its convolutions and what follows each of them computed as one.

    It has the same children, parameters, paths and checkpoints, and is described, printed and rewritten as before;
    rewriting it undoes this. Outputs and gradients are the same but for rounding (`fcnn.ops.fused`,
    `fcnn.ops.fused_norm` say where). `gradient`, and so `train_step` and `fit`, do it by themselves.

    >>> from fcnn import conv2d, max_pool2d, relu, serial
    >>> fuse(serial(conv2d(6, 5), relu(), max_pool2d(2)))
    serial(conv2d1=conv2d(6, 5), relu1=relu(), max_pool2d1=max_pool2d(2))
    """
    return rewrite(network, lambda path, layer: _fused(layer))


def _fused(layer: Layer) -> Layer:
    if layer.make is not serial:
        return layer
    runs = [*_runs(layer.children)]
    if len(runs) == len(layer.children):
        return layer
    return attrs.evolve(in_runs(layer.children, runs), origin=(_fused, layer))


def _runs(children: Mapping[str, Layer]) -> Iterator[Run]:
    names = list(children)
    while names:
        group = _group(names, children)
        members = {name: children[name] for name in names[: max(1, len(group))]}
        yield one_after_another(members) if len(group) < 2 else _together(members, group)
        names = names[len(members) :]


def _group(names: list[str], children: Mapping[str, Layer]) -> dict[str, str]:
    """By role, the first names that can be computed as one; fewer than two can't."""
    found: dict[str, str] = {}
    left = iter(names)
    name = next(left, None)
    for role in ("conv", "norm", "relu", "pool"):
        if name is not None and _is(role, children[name]):
            found[role] = name
            name = next(left, None)
        elif role == "conv":
            return {}
    return found


def _is(role: str, layer: Layer) -> bool:
    if layer.rewritten:
        return False
    if role == "pool":
        config = layer.config
        return layer.make is layers.max_pool2d and (
            pair("window", config["window"], least=1) == (2, 2)
            and (config["stride"] is None or pair("stride", config["stride"], least=1) == (2, 2))
            and config["padding"] in (0, (0, 0))
        )
    return layer.make is {"conv": layers.conv2d, "norm": layers.batch_norm, "relu": layers.relu}[role]


def _together(members: Mapping[str, Layer], roles: Mapping[str, str]) -> Run:
    plain, names = one_after_another(members), tuple(members)
    conv, norm = roles["conv"], roles.get("norm")
    config = members[conv].config
    relu, pool = "relu" in roles, "pool" in roles
    leaves: dict[str, tuple[str, ...]] = dict.fromkeys(names, ()) | {conv: ("w", "b") if config["bias"] else ("w",)}
    if norm is not None:
        leaves[norm] = ("gamma", "beta")

    def geometry(params: Tree, state: Tree, x: Any) -> Geometry | None:
        """Where the windows lie; None unless all is as it must be: then the layers say what isn't."""
        own = params.get(conv, EMPTY)
        if type(own) is not Tree or own.keys() != ({"w", "b"} if config["bias"] else {"w"}):
            return None
        found = [*own.values()]
        if norm is not None:
            trees = params.get(norm, EMPTY), state.get(norm, EMPTY)
            if any(type(t) is not Tree for t in trees) or [{*t} for t in trees] != [{"gamma", "beta"}, {"mean", "var"}]:
                return None
            found += [*trees[0].values(), *trees[1].values()]
        if any(type(array) is not np.ndarray for array in (x, *found)):
            return None
        w = own["w"]
        if x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1] or not x.size:
            return None
        channels = w.shape[:1]
        if x.dtype.type not in FLOATS or any(array.dtype != x.dtype for array in found):
            return None
        if any(array.shape != channels for array in found if array is not w) or 0 in w.shape:
            return None
        if any(params.get(name, EMPTY) for role, name in roles.items() if role in ("relu", "pool")):
            return None
        try:
            steps, pads, out = windows(x.shape[2:], w.shape[2:], config["stride"], config["padding"])
        except ValueError:
            return None
        if (pool and (out[0] % 2 or out[1] % 2)) or (norm is not None and len(x) * out[0] * out[1] < 2):
            return None
        return Geometry(block(x).shape, len(w), w.shape[2:], steps, pads, out)

    def apply(
        params: Tree, state: Tree, x: Array, train: bool, key: Key | None
    ) -> tuple[Array, Mapping[str, Tree], Any]:
        g = geometry(params, state, x) if train else None
        if g is None:
            return plain.apply(params, state, x, train, key)
        w, b = params[conv]["w"], params[conv].get("b")
        if norm is None:
            done, kept = fused(keep(x), w, b, g, relu=relu, pool=pool)
            return done, {}, kept
        own, old, settings = params[norm], state[norm], members[norm].config
        numbers = Norm(own["gamma"], own["beta"], old["mean"], old["var"], settings["decay"], settings["eps"])
        y, mean, var, cache = fused_norm(keep(x), w, b, numbers, g, relu=relu, pool=pool)
        return y, {norm: freeze({"mean": mean, "var": var})}, cache

    def backward(params: Tree, cache: Any, dy: Array, need_dx: bool) -> tuple[Array | None, Mapping[str, Tree]]:
        if type(cache) is dict:
            return plain.backward(params, cache, dy, need_dx)
        for name in reversed(names):  # what the layers refuse, with what they say
            with error_path(name):
                expect_params(leaves[name], params.get(name, EMPTY))
                if name == names[-1]:
                    dy = output_gradient(f"{members[name].kind}_backward", dy, unblock(cache.y).shape)
        dy = dy.astype(cache.y.dtype, copy=False)  # as everything in the cache is
        own: dict[str, Tree] = {}
        if norm is None:
            dx, dw, db = fused_backward(dy, cache, need_dx=need_dx)
        else:
            dx, dw, db, dgamma, dbeta = fused_norm_backward(dy, cache, need_dx=need_dx)
            own[norm] = freeze({"gamma": dgamma, "beta": dbeta})
        own[conv] = freeze({"w": dw} if db is None else {"w": dw, "b": db})
        return dx, own

    return Run(names, apply, backward)
