"""The values of Keras networks, as NumPy's own files hold them."""

import math
import os
from collections.abc import Mapping
from pathlib import Path

import attrs
import numpy as np

from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.names import values_of
from fcnn.network.layer import Init, Layer, Shape
from fcnn.network.model import Model, expect_model
from fcnn.network.rewriting import leaves, rewrite_leaves
from fcnn.values.archives import Archive, DamagedFileError, opened_archive
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import FLOATS, file_path
from fcnn.values.keys import Key
from fcnn.values.keys import key as make_key
from fcnn.values.kinds import looks_like
from fcnn.values.text import printable
from fcnn.values.tree import Tree, flatten, unflatten

_MOST_TOLD = 1000  # differences


def load_keras(path: str | os.PathLike[str], like: Model) -> Model:
    """Read what `np.savez("w.npz", *model.get_weights())` wrote beside Keras, into a network that is built alike.

    The arrays are taken in order, layer by layer. Filters come from (KH, KW, C, F) to (F, C, KH, KW), also those of
    depthwise layers, (KH, KW, C, multiplier); dense weights from (in, out) to (out, in), and the inputs of one behind
    `flatten` from the order H, W, C to C, H, W, as Keras has channels last.

    The network must compute as Keras does: batch norm there has eps 1e-3 and a momentum of 0.99, which is
    `batch_norm(decay=0.99, eps=1e-3)`; and padding "same" with a stride of 2 pads an even image at its end alone.

    Args:
        path: the `.npz` file.
        like: the network with values of its own, which are replaced, and its `in_shape`.

    Raises:
        ExchangeError: it is no such file, or damaged, or its arrays are not those of the network: it lists which.
        OSError: the file can't be read.
    """
    path = file_path("path", path)
    expect_model("like", like)
    shapes = _in_shapes(like.network, like.in_shape)
    try:
        with opened_archive(path) as archive:
            if (seen := looks_like(path, "NumPy")) is not None:
                raise ExchangeError(f"{path}: no file of np.savez; {seen}")
            values = _read(path, archive, like, shapes)
    except DamagedFileError as error:
        seen = looks_like(path, "NumPy")
        raise ExchangeError(f"{path}: {f'no file of np.savez; {seen}' if seen else error}") from error

    def taken(tree: Tree) -> Tree:
        return unflatten({name: values[name] for name in flatten(tree)})

    return attrs.evolve(like, params=taken(like.params), state=taken(like.state))


def _in_shapes(network: Layer, in_shape: Shape) -> dict[str, Shape]:
    """What comes into each layer without children, by path."""
    found: dict[str, Shape] = {}

    def watched(path: str, layer: Layer) -> Layer:
        def init(key: Key, in_shape: Shape, /) -> Init:
            found[path] = in_shape
            return layer.init(key, in_shape)

        return attrs.evolve(layer, init=init, rewritten=True, origin=None)

    rewrite_leaves(network, watched).init(make_key(0), in_shape)
    return found


def _read(path: Path, archive: Archive, like: Model, shapes: Mapping[str, Shape]) -> dict[str, Array]:
    of_layer: dict[str, dict[str, Array]] = {}
    for place, leaf in values_of(like).items():
        of_layer.setdefault(place.rpartition("/")[0], {})[place] = leaf
    found: dict[str, Array] = {}
    problems: list[str] = []
    flattened: Shape | None = None  # the image of which the features are, in Keras's order
    for where, layer in leaves(like.network):
        if layer.kind == "flatten":
            flattened = shapes[where] if len(shapes[where]) == 3 else flattened
        for place, leaf in of_layer.pop(where, {}).items():
            name = f"arr_{len(found) + len(problems)}"
            is_bias = place.rpartition("/")[2] == "b"  # of the outputs
            array, problem = _array(archive, name, leaf, None if is_bias else flattened)
            if array is None:
                problems.append(f"{problem}: {place} ({name})")
            else:
                found[place] = array
        if layer.kind == "dense":
            flattened = None
    count = len(found) + len(problems)
    problems += [f"the network has no such value: {place}" for layer in of_layer.values() for place in layer]
    wanted = {f"arr_{number}" for number in range(count)}
    problems += [f"unexpected: {printable(name)}" for name in archive.names if name not in wanted]
    if problems:
        told = problems[:_MOST_TOLD] + [f"and {len(problems) - _MOST_TOLD:,} more"] * (len(problems) > _MOST_TOLD)
        raise ExchangeError(f"{path}: {len(problems)} difference(s) from the network\n  " + "\n  ".join(told))
    return found


def _array(archive: Archive, name: str, leaf: Array, flattened: Shape | None) -> tuple[Array | None, str]:
    """The array of the file as the network has it; or None, and what is wrong."""
    if name not in archive.names:
        return None, "missing"
    kind = archive.kind(name)
    if kind is None or (kind[1].type not in FLOATS and kind[1] != np.float16):
        return None, "not a plain array of floats"
    shape, dtype = kind
    axes = {4: (3, 2, 0, 1), 3: (2, 1, 0), 2: (1, 0)}.get(leaf.ndim, tuple(range(leaf.ndim)))
    is_depthwise = leaf.ndim == 4 and leaf.shape[1] == 1 and len(shape) == 4 and shape[2] * shape[3] == leaf.shape[0]
    if is_depthwise and shape[2] > 1:
        axes = (2, 3, 0, 1)
        wanted = (*leaf.shape[2:], *shape[2:])
    else:
        wanted = tuple(leaf.shape[axes.index(axis)] for axis in range(leaf.ndim))
    problem, array = archive.array(name, np.broadcast_to(np.zeros((), dtype), wanted))
    if array is None:
        return None, problem or "damaged"
    array = array.transpose(axes).reshape(leaf.shape)
    if flattened is not None and leaf.ndim in (1, 2) and leaf.shape[-1] == math.prod(flattened):
        channels, height, width = flattened
        images = array.reshape(*leaf.shape[:-1], height, width, channels)
        array = np.moveaxis(images, -1, -3).reshape(leaf.shape)
    return frozen(np.array(array, np.float32 if dtype == np.float16 else dtype, order="C")), ""
