"""`averaged_views`: a network that looks at its input in several ways when it is evaluated."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from fcnn.network.children import (
    apply_child,
    backward_child,
    expect_children,
    gradients_of,
    init_child,
    joined,
    named_children,
    no_cache,
    states_of,
)
from fcnn.network.layer import (
    Functions,
    Grads,
    Init,
    Layer,
    LayerError,
    Out,
    Shape,
    expect_call,
    expect_layer,
)
from fcnn.network.merging import added
from fcnn.values import tree
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import boolean, lengths, number, output_gradient, told
from fcnn.values.keys import Key, expect_key
from fcnn.values.tree import Tree


def averaged_views(network: Layer, *views: Layer, weights: Sequence[float] | None = None, **named: Layer) -> Layer:
    """In evaluation the mean of a network's outputs over several views of its input; in training the network alone.

        y = sum over views v of w_v network(v(x)) / sum of w_v  in evaluation,  y = network(x) in training

    Known as test-time augmentation: evaluation takes as many runs as there are views. A view is a layer without values
    that keeps the shape, such as `mirror()`, `shift(1, 1)`, or `identity()` for the input itself, which is seen only if
    it is among them. `backward` is the derivative of what was computed, in either mode.

    The network's values are those of the child `network`: a network that was trained by itself gets views by
    `averaged_views(network, …)` with `freeze({"network": params})`.

    Args:
        network: any network.
        views, named: the views, named as in `serial`.
        weights: how much each view counts, numbers of at least 0; None: all alike.

    Views of views multiply. Of airbench (K. Jordan, arXiv 2404.00498, section 3.5), the image and its mirror image,
    each at three places:

    >>> from fcnn import dense, flatten, identity, key, mirror, serial, shift
    >>> both = averaged_views(serial(flatten(), dense(10)), identity(), mirror())
    >>> six = averaged_views(both, identity(), shift(1, 1), shift(-1, -1), weights=(2, 1, 1))
    >>> six.init(key(0), (3, 4, 4)).params
    {network: {network: {dense1: {w: float32[10, 48], b: float32[10]}}}}
    """
    expect_layer("averaged_views's network", network)
    children = {"network": network, **named_children("averaged_views", views, named)}
    shares = view_shares(weights, [*children][1:])
    config = {} if weights is None else {"weights": tuple(map(float, weights))}
    return Layer("averaged_views", config, children, averaged_views, *_averaged(children, shares))


def view_shares(weights: Sequence[float] | None, views: Sequence[str]) -> Mapping[str, float]:
    """How much each view counts of the mean, by its name."""
    expected = "averaged_views's weights are numbers of at least 0, one for each view and one of them above it"
    if weights is None:
        return dict.fromkeys(views, 1 / len(views))
    if not isinstance(weights, (tuple, list)):
        raise TypeError(f"{expected}, got {told(weights)}")
    numbers = [number("averaged_views's weight", weight, "[0, inf)") for weight in weights]
    if len(numbers) != len(views) or not 0 < sum(numbers) < math.inf:
        raise ValueError(f"{expected}, got {told(weights)} for {', '.join(views)}")
    return {name: one / sum(numbers) for name, one in zip(views, numbers, strict=True)}


@attrs.frozen
class ViewsCache:
    """What the backward pass of `averaged_views` needs.

    caches: of each view, by its name, and of the network that saw it; in training of the network alone, by "".
    shape: the output's.
    """

    caches: Mapping[str, tuple[Any, Any]]
    shape: Shape


def _averaged(children: Mapping[str, Layer], shares: Mapping[str, float]) -> Functions:
    network = children["network"]

    def init(key: Key, in_shape: Shape) -> Init:
        expect_key("key", key)
        shape = lengths("in_shape", in_shape)
        for name in shares:
            made = init_child(name, children[name], key, shape)
            if made.params or made.state or made.out_shape != shape:
                got = "one with values" if made.params or made.state else made.out_shape
                raise LayerError(f"a view is a layer without values that keeps the shape {shape}, got {got}", name)
        made = init_child("network", network, key, shape)
        return joined({"network": made}, made.out_shape)

    def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
        expect_call(params, state, train, key)
        expect_children(params, children)
        if train:
            out = apply_child("network", network, params, state, x, train, key)
            return Out(out.y, states_of({"network": out.state}), ViewsCache({"": (None, out.cache)}, out.y.shape))
        ys, caches = [], {}
        for name, share in shares.items():
            view = apply_child(name, children[name], params, state, x, train, None)
            out = apply_child("network", network, params, state, view.y, train, None)
            ys.append(frozen(share * out.y))
            caches[name] = view.cache, out.cache
        return Out(added(ys), states_of({"network": out.state}), ViewsCache(caches, out.y.shape))

    def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
        need_dx = boolean("need_dx", need_dx)
        expect_children(params, children)
        if type(cache) is not ViewsCache or not cache.caches.keys() <= {"", *shares}:
            raise no_cache("averaged_views", cache)
        dy = output_gradient("averaged_views's backward", dy, cache.shape)
        dxs, grads = [], []
        for name, (of_view, of_network) in cache.caches.items():
            part = frozen(shares[name] * dy) if name else dy
            dx, own = backward_child("network", network, params, {"network": of_network}, part, need_dx)
            if name and dx is not None:
                dx, _ = backward_child(name, children[name], params, {name: of_view}, dx, True)
            dxs.append(dx)
            grads.append(own)
        found = grads[0] if len(grads) == 1 else tree.map_elementwise(lambda *leaves: added(leaves), *grads)
        dx = added([dx for dx in dxs if dx is not None]) if need_dx else None
        return Grads(dx, gradients_of(params, {"network": found}))

    return Functions(init, apply, backward)
