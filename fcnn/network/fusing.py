"""`fuse`: the same network, computed in fewer passes over memory.

In a `serial`, a convolution and what follows it (batch norm, ReLU and a 2x2 max pool, as far as they are there) are
computed as one in training, by `fcnn.ops.fused` and `fcnn.ops.fused_norm`. Children are recognised by the constructors
that made them; those that were rewritten, such as held ones, are left as they are.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from fcnn.network.combinators import Run, in_runs, one_after_another, serial
from fcnn.network.groups import Role, are_norms, are_trees, geometry, groups, own_weights
from fcnn.network.layer import Layer, error_path, expect_params
from fcnn.network.rewriting import rewrite
from fcnn.ops.fused import fused, fused_backward
from fcnn.ops.fused_norm import Norm, fused_norm, fused_norm_backward
from fcnn.ops.layout import unblock
from fcnn.ops.window import Geometry
from fcnn.values.arrays import Array, keep
from fcnn.values.checks import output_gradient
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
    for roles in groups(children):
        members = {name: children[name] for name in roles.values()}
        if "conv" in roles and len(members) > 1:
            yield _together(members, roles)
        else:
            yield from (one_after_another({name: child}) for name, child in members.items())


def _together(members: Mapping[str, Layer], roles: Mapping[Role, str]) -> Run:
    plain, names = one_after_another(members), tuple(members)
    conv, norm = roles["conv"], roles.get("norm")
    config = members[conv].config
    relu, pool = "relu" in roles, "pool" in roles
    leaves: dict[str, tuple[str, ...]] = dict.fromkeys(names, ()) | {conv: ("w", "b") if config["bias"] else ("w",)}
    if norm is not None:
        leaves[norm] = ("gamma", "beta")

    def where(params: Tree, state: Tree, x: Any) -> Geometry | None:
        """Where the windows lie; None unless all is as it must be: then the layers say what isn't."""
        if not are_trees(names, params, state):
            return None
        found = own_weights(params.get(conv, EMPTY), config["bias"])
        g = None if found is None else geometry(x, found[0], config)
        if g is None or any(params.get(name, EMPTY) for name in names if name not in (conv, norm)):
            return None
        if norm is not None:
            own = params.get(norm, EMPTY), state.get(norm, EMPTY)
            if not are_norms(*own, params[conv]["w"]) or len(x) * g.out[0] * g.out[1] < 2:
                return None
        return None if pool and (g.out[0] % 2 or g.out[1] % 2) else g

    def apply(
        params: Tree, state: Tree, x: Array, train: bool, key: Key | None
    ) -> tuple[Array, Mapping[str, Tree], Any]:
        g = where(params, state, x) if train else None
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
