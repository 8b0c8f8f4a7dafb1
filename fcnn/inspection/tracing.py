"""What a network computes on its way, forward and back: outputs and gradients by path, and pictures made of them."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np

from fcnn.network.layer import Grads, Layer, LayerError, Out, Shape, expect_layer, expect_values
from fcnn.network.rewriting import rewrite
from fcnn.values import html
from fcnn.values.arrays import Array, frozen, keep
from fcnn.values.checks import array, boolean, floats, instance, output_gradient
from fcnn.values.keys import Key, expect_key
from fcnn.values.tree import Tree, flatten


@attrs.frozen(eq=False, repr=False)
class Trace:
    """The arrays by the path of their layer, "" for the network itself, in the order in which they were computed.

    outputs: each layer's output, as (N, …).
    gradients: of sum(dy * y) with respect to each layer's output; empty without a dy.
    dx: of the same with respect to the input; None without a dy.
    grads: of the same with respect to the parameters, a tree like them; None without a dy.
    """

    outputs: Mapping[str, Array]
    gradients: Mapping[str, Array]
    dx: Array | None
    grads: Tree | None

    def __repr__(self) -> str:
        back = f", gradients of {len(self.gradients)}" if self.gradients else ""
        return f"Trace(outputs of {len(self.outputs)} layers{back})"

    def _repr_html_(self) -> str:
        """The shapes and the spread of what was noted."""
        parts = [("outputs", self.outputs), ("gradients of the outputs", self.gradients)]
        parts += [("gradient of the input", {"dx": self.dx})] if self.dx is not None else []
        parts += [("gradients of the parameters", flatten(self.grads))] if self.grads else []
        folds = [
            html.fold(heading, html.arrays([(path or "the network", array) for path, array in found.items()]))
            for heading, found in parts
            if found
        ]
        return html.view(html.fold(f"Trace: {html.counted(len(self.outputs), 'layer')}", *folds))


def trace(
    network: Layer,
    params: Tree,
    state: Tree,
    x: Array,
    *,
    dy: Array | Callable[[Array], Array] | None = None,
    train: bool = False,
    key: Key | None = None,
) -> Trace:
    """Run a network and note every layer's output, and with `dy` every gradient.

    Args:
        network, params, state: a network and its values.
        x: the input, (N, C, H, W), (N, C, L) or (N, D).
        dy: the gradient of the network's output, or a function that gives it for the output, such as
            `lambda y: loss(y, targets)[1]`; None for the forward pass alone.
        train: the mode; with batch norm and dropout it makes a difference.
        key: for random layers in training.

    >>> from fcnn import dense, freeze, relu, serial
    >>> network = serial(fc1=dense(1), relu1=relu())
    >>> params = freeze({"fc1": {"w": np.array([[2.0]]), "b": np.array([1.0])}})
    >>> found = trace(network, params, freeze({}), np.array([[3.0]]), dy=np.array([[1.0]]))
    >>> dict(found.outputs)
    {'fc1': array([[7.]]), 'relu1': array([[7.]]), '': array([[7.]])}
    >>> found.dx
    array([[2.]])
    """
    expect_layer("network", network)
    expect_values("params", params)
    expect_values("state", state)
    boolean("train", train)
    if key is not None:
        expect_key("key", key)
    if isinstance(x, np.ndarray) and x.dtype == np.uint8 and x.ndim in (2, 4):
        raise TypeError("trace's x is an array of float32 or float64, got uint8; fcnn.data.as_batch(x, y).x is such")
    x = floats("trace's x", x)
    if dy is not None and not callable(dy):
        floats("trace's dy", dy)
    outputs: dict[str, Array] = {}
    gradients: dict[str, Array] = {}

    def noting(path: str, layer: Layer) -> Layer:
        def apply(params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out:
            out = layer.apply(params, state, x, train=train, key=key)
            if path in outputs:
                raise LayerError("the layer runs once for each view; trace the network that averaged_views was given")
            outputs[path] = out.y
            return out

        def backward(params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads:
            gradients[path] = dy
            return layer.backward(params, cache, dy, need_dx=need_dx)

        return attrs.evolve(layer, apply=apply, backward=backward, rewritten=True, origin=None)

    noted = rewrite(network, noting)
    out = noted.apply(params, state, x, train=train, key=key)
    if dy is None:
        return Trace(outputs, {}, None, None)
    dy = output_gradient("trace", dy(out.y) if callable(dy) else dy, out.y.shape)
    found = noted.backward(params, out.cache, keep(dy.astype(out.y.dtype, copy=False)))  # it is among the gradients
    return Trace(outputs, dict(reversed(gradients.items())), found.dx, found.params)


def saliency(network: Layer, params: Tree, state: Tree, x: Array, *, classes: Array | None = None) -> Array:
    """How much each pixel moves the score of a class: the greatest |d score / d x| over the channels, (N, H, W); of
    sequences how much each place does, (N, L).

    K. Simonyan, A. Vedaldi and A. Zisserman, ICLR 2014 workshop (arXiv 1312.6034), section 3.

    Args:
        network, params, state: a classifier, whose outputs (N, K) are scores, and its values.
        x: images (N, C, H, W) or sequences (N, C, L).
        classes: of which class each input's map is, integers (N,); the predicted one when None.
    """
    if isinstance(x, np.ndarray) and (x.ndim not in (3, 4) or not x.size):
        raise ValueError(f"saliency expects images (N, C, H, W) or sequences (N, C, L), got {x.shape}")
    dx = trace(network, params, state, x, dy=lambda y: _one_score(y, classes)).dx
    assert dx is not None
    return frozen(np.abs(dx).max(axis=1))


def grad_cam(
    network: Layer, params: Tree, state: Tree, x: Array, *, classes: Array | None = None, path: str | None = None
) -> Array:
    """Where a network looks for a class, as a map in [0, 1] of the images' size, (N, H, W).

    R. Selvaraju et al., ICCV 2017 (arXiv 1610.02391), equations 1 and 2: with A the outputs (N, C, h, w) of a layer and
    a_c the mean over its pixels of d score / d A_c, the map is relu(sum over c of a_c A_c); here it is scaled to the
    images' size, bilinearly, and to a greatest value of 1 (a map without anything positive stays 0). Convolutions
    without padding look at the image's middle only, and their map is spread over all of it: what is warm there lies a
    little further out than what was looked at.

    Args:
        network, params, state: a classifier of images, whose outputs (N, K) are scores, and its values.
        x: images, (N, C, H, W).
        classes: of which class each image's map is, integers (N,); the predicted one when None.
        path: the layer; when None the last one with parameters whose outputs, images, divide the image evenly, so that
            each of their pixels looks where it lies. A convolution without padding crops what it looks at, and its
            map, scaled to the whole image, lies too far out by up to half of what was cropped.

    Raises ValueError for a path without images; it lists those that there are.
    """
    if isinstance(x, np.ndarray) and (x.ndim != 4 or not x.size):
        raise ValueError(f"grad_cam expects images (N, C, H, W), got {x.shape}")
    if path is not None:
        instance("path", path, str, "a layer's path, such as 'conv2'")
    found = trace(network, params, state, x, dy=lambda y: _one_score(y, classes))
    places = [name for name, y in found.outputs.items() if y.ndim == 4 and name in found.gradients]
    if path is None:
        path = cam_path(params, x.shape[1:], {name: found.outputs[name].shape[1:] for name in places})
    if path is None:
        raise ValueError(f"grad_cam: no layer with parameters divides the images evenly; choose path= of {places}")
    if path not in places:
        raise ValueError(f"grad_cam: no images come out of {path!r}; they do of {', '.join(map(repr, places))}")
    weights = found.gradients[path].mean(axis=(2, 3), keepdims=True)
    maps = np.maximum((weights * found.outputs[path]).sum(axis=1), 0)
    greatest = maps.max(axis=(1, 2), keepdims=True)
    maps = np.divide(maps, greatest, out=np.zeros_like(maps), where=greatest > 0)
    return frozen(_resized(_resized(maps, 1, x.shape[2]), 2, x.shape[3]))


def cam_path(params: Tree, in_shape: Shape, out_shapes: Mapping[str, Shape]) -> str | None:
    """The last layer with parameters whose outputs are images that divide the input evenly; None without one.

    Args:
        params: the network's.
        in_shape: of one input, (C, H, W).
        out_shapes: of each layer's output without the batch axis, by path and in order.
    """
    for path in reversed(list(out_shapes)):
        shape = out_shapes[path]
        if len(shape) == 3 and in_shape[1] % shape[1] == in_shape[2] % shape[2] == 0 and _has(params, path):
            return path
    return None


def _one_score(y: Array, classes: Array | None) -> Array:
    """The gradient of each input's score for its class, which is 1 there and 0 elsewhere."""
    if y.ndim != 2:
        raise ValueError(f"expected a classifier with outputs (N, K), got outputs {y.shape}")
    chosen = y.argmax(axis=1) if classes is None else array("classes", classes, f"integers ({len(y)},) from 0 on")
    if chosen.shape != y.shape[:1] or chosen.dtype.kind not in "iu" or chosen.min(initial=0) < 0:
        raise ValueError(f"classes are integers ({len(y)},) from 0 on, got {chosen.dtype} {chosen.shape}")
    if chosen.max(initial=0) >= y.shape[1]:
        raise ValueError(f"classes are below {y.shape[1]}, the number of outputs, got {chosen.max()}")
    dy = np.zeros_like(y)
    dy[np.arange(len(y)), chosen] = 1
    return dy


def _has(params: Tree, path: str) -> bool:
    here: Any = params
    for name in path.split("/"):
        here = here.get(name) if isinstance(here, Tree) else None
    return here is not None


def _resized(maps: Array, axis: int, size: int) -> Array:
    """Linear interpolation along an axis between pixels' centres, level at the ends."""
    old = maps.shape[axis]
    at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
    low = np.minimum(at.astype(np.intp), max(old - 2, 0))
    share = (at - low).astype(maps.dtype)
    share = share[:, None] if axis == 1 else share
    upper = np.minimum(low + 1, old - 1)
    below: Array = maps.take(low, axis) * (1 - share) + maps.take(upper, axis) * share
    return below
