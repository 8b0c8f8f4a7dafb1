"""Trees, training states and models as `.npz` files, which any NumPy reads: `np.load(path)["params/conv1/w"]`.

What is in a file. It is a zip of plain arrays, in the dtypes and shapes that they have here, named by section and path
(names match `[a-z][a-z0-9_]*`):

    params/conv1/w        parameters
    state/bn1/mean        what changes without a gradient, such as running means
    opt/adam/mu/conv1/w   the optimizer's state; with averages of values also opt/lookahead/params/conv1/w and the like
    step                  int64: how many steps were made
    key                   four uint32: the key of the training's random numbers, its lowest bits first
    meta                  a text, which is a JSON object

`save` writes `params` of a tree, `params` and `state` of an `Init`, and all of a training state. `meta` is whatever it
was given, with `format`, this format's version. Of a model, and of a checkpoint that `fcnn.fit` made, it also has
`network`, which is what `fcnn.describe` gives, `in_shape`, `classes`, and the model's own `meta`.

What is promised. What is loaded has the bits that were saved. A reader sees the old file or the new one, never half of
one, whatever stops the writer. A file of format 1 is read by every later fcnn that reads format 1, also where a layer
has got arguments since, as these have defaults.

What is refused. Nothing is unpickled, and nothing that a file names is called but this library's constructors and those
that the caller hands over. All paths of a template must be in the file, in its shapes and dtypes, and no others in its
sections: an error lists every difference. A newer format is refused, and so are a damaged member, two of one name, and
a model of another dtype than float32 and float64.

Limits. `meta` takes 40,000,000 bytes (10,000,000 characters) and holds 500,000 values. A description has 10,000 layers,
100 one within the other. A model's arrays take 1 GiB, or 16 times the file's bytes if that is more; against a template,
no array is read before its size is known to be the template's. Layers of one's own must be handed to `load_model`
(`layers=`): a file has but their names.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import attrs
import numpy as np

from fcnn.network.description import build, describe, expect_constructors, without_numbers
from fcnn.network.initializers import Initializer
from fcnn.network.layer import Init, Layer, LayerError, Shape
from fcnn.network.model import Model, expect_model
from fcnn.network.rewriting import every_layer as layers_of
from fcnn.network.rewriting import rewrite_leaves
from fcnn.training.step import TrainState
from fcnn.values.archives import Archive, DamagedFileError, opened_archive, write_archive
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import file_path, told
from fcnn.values.files import replacing
from fcnn.values.keys import Key
from fcnn.values.keys import key as make_key
from fcnn.values.kinds import looks_like
from fcnn.values.text import json_values, printable
from fcnn.values.tree import EMPTY, Tree, flatten, unflatten

FORMAT_VERSION = 1
_META_LIMIT = 40_000_000  # bytes, 4 a character: the history of 10,000 epochs, with 1,000 characters each
_META_VALUES = 500_000  # of it: each takes some hundred bytes, however short its text
_KEY_WORDS = 4
_MOST_CHANNELS = 1 << 22
_MOST_TOLD = 1000  # differences
_MODEL_LIMIT = 1 << 30  # bytes of a model's arrays that are read without further ado;
_MOST_INFLATED = 16  # beyond, so many times the file's size: weights hardly compress

T = TypeVar("T", Tree, Init, TrainState)


class CheckpointError(ValueError):
    """A file is not the checkpoint that was asked for; the message names the file and lists every difference."""


def save(
    path: str | os.PathLike[str], value: Tree | Init | TrainState, *, meta: Mapping[str, Any] | None = None
) -> None:
    """Write parameters (a tree), parameters with state (an `Init`) or a whole training state to `path`, atomically.

    Args:
        path: the file, by custom ending in `.npz`; an old one is replaced in one step and its mode kept. Of a symbolic
            link, what it points to is replaced.
        value: what to write.
        meta: anything that JSON can hold, given back by `load_meta`. The format's version is added.

    Raises:
        OSError: the folder can't be written or the disk is full (an old file is still there, whole), or the path is
            that of a read-only file, a folder, a pipe or a device.
    """
    path = file_path("path", path)
    text = _meta_text(meta)
    arrays = {**_arrays(value), "meta": text}
    with replacing(path) as file:
        write_archive(file, arrays)


def _meta_text(meta: Mapping[str, Any] | None) -> Array:
    """The meta as a checkpoint holds it, if JSON can, and if it is no more than is read again."""
    expected = "meta is a mapping of what JSON can hold: text, finite numbers, lists and mappings"
    if meta is not None and not isinstance(meta, Mapping):
        raise TypeError(f"{expected}, got {told(meta)}")
    try:
        words = json.dumps({**(meta or {}), "format": FORMAT_VERSION}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise (ValueError if isinstance(error, ValueError) else TypeError)(f"{expected}, got {told(meta)}") from None
    text = np.array(words)
    if text.nbytes > _META_LIMIT:
        raise ValueError(f"meta is at most {_META_LIMIT:,} bytes, got {text.nbytes:,}; write it to a file of its own")
    if json_values(words) > _META_VALUES:
        raise ValueError(f"meta is of at most {_META_VALUES:,} values, got more; write it to a file of its own")
    return text


def load(path: str | os.PathLike[str], *, like: T) -> T:
    """Read what `save` wrote, as a value like the template: same type, paths, shapes and dtypes.

    Args:
        path: the file.
        like: the template, such as the parameters that `init` makes, or the state that `init_state` makes. A file
            may hold more sections than the template asks for: parameters load from a whole checkpoint.

    Raises:
        CheckpointError: no checkpoint, damaged, of a newer format, or not like the template; then it lists every
            missing, unexpected, wrong-shape and wrong-dtype path.
        OSError: the file can't be read.
    """
    path, wanted = file_path("path", path), _arrays(like, "like is")
    with _opened(path) as archive:
        _read_meta(path, archive)
        sections = {name.partition("/")[0] for name in wanted} | _claimed(like)
        present = {name: None for name in archive.names if name.partition("/")[0] in sections}
        problems = [f"missing: {name}" for name in wanted if name not in present]
        problems += [f"unexpected: {printable(name)}" for name in present if name not in wanted]
        found: dict[str, Array] = {}
        for name, template in wanted.items():
            if name in present:
                problem, array = archive.array(name, template)
                if problem:
                    problems.append(f"{problem}: {name}")
                elif array is not None:
                    found[name] = array
        if not problems and found.get("step", np.zeros(())) < 0:
            problems.append(f"wrong value ({found['step']}, expected a count from 0 on): step")
    if problems:
        told_of = problems[:_MOST_TOLD]
        if len(problems) > _MOST_TOLD:
            told_of.append(f"and {len(problems) - _MOST_TOLD:,} more")
        raise CheckpointError(
            f"{os.fspath(path)}: {len(problems)} difference(s) from the template; was it saved from another model "
            "or optimizer?\n  " + "\n  ".join(told_of)
        )
    return _value(found, like)


def save_model(path: str | os.PathLike[str], model: Model) -> None:
    """Write a network with its values, so that `load_model` needs no code to read it.

    Raises as `save` does, and ValueError for what wouldn't come back: values that aren't the network's, say.
    """
    path = file_path("path", path)
    expect_model("model", model)
    meta = {**network_meta(model.network, model.in_shape, model.classes), "meta": dict(model.meta)}
    try:
        network = build(meta["network"], layers=_constructors(model.network))
        made = rewrite_leaves(network, lambda path, layer: without_numbers(layer)).init(make_key(0), model.in_shape)
    except LayerError as error:
        raise ValueError(f"the network can't be written so that it comes back: {error}") from None
    problems = []
    for (section, wanted), found in zip(_sections(made), (model.params, model.state), strict=True):
        problems += [f"{section}/{problem}" for problem in differences(found, wanted)]
        problems += [
            f"{section}/{path}: {leaf.dtype}, networks compute in float32 or float64"
            for path, leaf in flatten(found).items()
            if leaf.dtype not in (np.float32, np.float64)
        ]
    if problems:
        raise ValueError("the model's values are not its network's:\n  " + "\n  ".join(problems[:_MOST_TOLD]))
    save(path, Init(model.params, model.state, ()), meta=meta)


def _constructors(network: Layer) -> set[Any]:
    """Of its layers, and of the initializers among their arguments."""
    layers = list(layers_of(network))
    return {layer.make for layer in layers} | {make for layer in layers for make in _initializers(layer.config)}


def _initializers(config: Mapping[str, Any]) -> Iterator[Any]:
    """The constructors of initializers among arguments, and among those of such in turn."""
    for value in config.values():
        if isinstance(value, Initializer):
            yield value.make
            yield from _initializers(value.config)


def differences(found: Tree, wanted: Tree) -> list[str]:
    """In paths and shapes, of the values of a network from those that it makes itself."""
    theirs, ours = ({path: leaf.shape for path, leaf in flatten(one).items()} for one in (found, wanted))
    return [
        f"{path}: {theirs.get(path, 'missing')}, the network has {ours.get(path, 'none')}"
        for path in dict.fromkeys([*ours, *theirs])
        if theirs.get(path) != ours.get(path)
    ]


def network_meta(
    network: Layer, in_shape: Shape, classes: Iterable[str], meta: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a file says of its network: what `load_model` reads; `meta` in it is the model's, if it has any."""
    found = {"network": describe(network), "in_shape": list(in_shape), "classes": list(classes)}
    return {**found, "meta": dict(meta)} if meta else found


def load_model(path: str | os.PathLike[str], *, layers: Iterable[Callable[..., Layer]] = ()) -> Model:
    """Read a network with its values: what `save_model` wrote, or a checkpoint of `fcnn.fit` or `scripts/train.py`.

    The file may come from anywhere. Its network is made of known constructors only (`fcnn.build`), and layer by layer
    the shapes that it declares are compared with those that the file holds, before memory is taken for them.

    Args:
        path: the file.
        layers: constructors of layers, combinators and initializers of one's own that the network may have.

    Raises:
        CheckpointError: no model, damaged, of a newer format, or not one whose values fit its network.
        OSError: the file can't be read.
    """
    path = file_path("path", path)
    where, layers = os.fspath(path), expect_constructors("layers", layers)
    with _opened(path) as archive:
        meta = _read_meta(path, archive)
        if "network" not in meta or "in_shape" not in meta:
            raise CheckpointError(
                f"{where}: it doesn't describe its network; load its parameters with fcnn.load(path, like=…)"
            )
        if archive.size > max(_MODEL_LIMIT, _MOST_INFLATED * os.path.getsize(path)):
            raise CheckpointError(f"{where}: {archive.size:,} bytes in a file of {os.path.getsize(path):,}; no model")
        try:
            model = Model(
                build(meta["network"], layers=layers),
                EMPTY,
                in_shape=meta["in_shape"],
                classes=meta.get("classes", ()),
                meta=meta.get("meta", {}),
            )
            template = _held_by(archive, model.network, model.in_shape)
        except (LayerError, TypeError, ValueError) as error:
            raise CheckpointError(f"{where}: its network: {error}") from error
    values = load(path, like=template)
    return attrs.evolve(model, params=values.params, state=values.state)


def _held_by(archive: Archive, network: Layer, in_shape: Shape) -> Init:
    """The values of a network as a template, which takes no memory to speak of: all are found in the archive."""

    def compared(path: str, layer: Layer) -> Layer:
        shapeless = without_numbers(layer)

        def init(key: Key, in_shape: Shape, /) -> Init:
            if in_shape[0] > max(_MOST_CHANNELS, archive.largest):  # a layer may make something for each by itself
                raise LayerError(f"the file holds nothing for so many channels or features: {in_shape}")
            made = shapeless.init(key, in_shape)
            trees = [_like(archive, f"{section}/{path}/", values) for section, values in _sections(made)]
            return made._replace(params=trees[0], state=trees[1])

        return attrs.evolve(layer, init=init, rewritten=True, origin=None)

    return rewrite_leaves(network, compared).init(make_key(0), in_shape)


def _sections(made: Init) -> tuple[tuple[str, Tree], tuple[str, Tree]]:
    return ("params", made.params), ("state", made.state)


def _like(archive: Archive, place: str, values: Tree) -> Tree:
    """The tree with the dtypes that the archive has, if it has its shapes."""
    found = {}
    for name, leaf in flatten(values).items():
        member = f"{place}{name}".replace("//", "/")  # a network of one layer has no path
        kind = archive.kind(member) if member in archive.names else None
        if kind is None:
            raise LayerError(f"it has {name} of shape {leaf.shape}, the file has no {member}")
        if kind[0] != leaf.shape or kind[1] not in (np.float32, np.float64):
            raise LayerError(f"it has {name} of shape {leaf.shape}, the file's {member} is {kind[1]} {kind[0]}")
        found[name] = np.broadcast_to(frozen(np.zeros((), kind[1])), leaf.shape)
    return unflatten(found)


def load_meta(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object that was given to `save` as `meta`, with `format`, the format's version."""
    path = file_path("path", path)
    with _opened(path) as archive:
        return _read_meta(path, archive)


def _arrays(value: Tree | Init | TrainState, expected: str = "a checkpoint holds") -> dict[str, Array]:
    sections: dict[str, Tree] = {}
    plain: dict[str, Array] = {}
    if isinstance(value, TrainState):
        sections = {"params": value.params, "state": value.layer_state, "opt": value.opt_state}
        words = [value.key.value >> 32 * i & 0xFFFFFFFF for i in range(_KEY_WORDS)]
        plain = {"step": np.array(value.step, np.int64), "key": np.array(words, np.uint32)}
    elif isinstance(value, Init):
        sections = {"params": value.params, "state": value.state}
    elif isinstance(value, Tree):
        sections = {"params": value}
    else:
        advice = "; fcnn.freeze makes a tree of a dict of arrays" if isinstance(value, dict) else ""
        advice = "; fcnn.save_model and fcnn.load_model take one" if isinstance(value, Model) else advice
        advice = "; take its .state or .model" if isinstance(getattr(value, "model", None), Model) else advice
        raise TypeError(f"{expected} a tree, an Init or a TrainState, got {told(value)}{advice}")
    leaves = {f"{name}/{path}": leaf for name, tree in sections.items() for path, leaf in flatten(tree).items()}
    return {**leaves, **plain}


def _claimed(like: Tree | Init | TrainState) -> set[str]:
    """The sections that a template speaks for even where its own are empty: nothing may be left over in them."""
    if isinstance(like, TrainState):
        return {"params", "state", "opt"}
    return {"params", "state"} if isinstance(like, Init) else {"params"}


def _value(arrays: Mapping[str, Array], like: T) -> T:
    def section(name: str) -> Tree:
        prefix = f"{name}/"
        return unflatten({path[len(prefix) :]: leaf for path, leaf in arrays.items() if path.startswith(prefix)})

    if isinstance(like, TrainState):
        words = arrays["key"].tolist()
        key = Key(sum(word << 32 * i for i, word in enumerate(words)))
        return TrainState(section("params"), section("state"), section("opt"), int(arrays["step"]), key)
    if isinstance(like, Init):
        return Init(section("params"), section("state"), like.out_shape, like.macs)
    return section("params")


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Archive]:
    try:
        with opened_archive(path) as archive:
            yield archive
    except DamagedFileError as error:
        seen = looks_like(path, "fcnn")
        what = f"no checkpoint of fcnn; {seen}" if seen else f"{error}; use an earlier checkpoint"
        raise CheckpointError(f"{os.fspath(path)}: {what}") from error


def _read_meta(path: str | os.PathLike[str], archive: Archive) -> dict[str, Any]:
    """The meta of a checkpoint in a format that is known."""
    if "meta" not in archive.names:
        seen = looks_like(path, "fcnn")
        raise CheckpointError(
            f"{os.fspath(path)}: no checkpoint of fcnn: it holds no `meta`" + (f"; {seen}" if seen else "")
        )
    meta, text = None, archive.text("meta", _META_LIMIT)
    if text is not None and json_values(text) > _META_VALUES:
        raise CheckpointError(f"{os.fspath(path)}: its `meta` is of more than {_META_VALUES:,} values")
    with contextlib.suppress(ValueError, RecursionError):
        meta = json.loads(text or "")
    if not isinstance(meta, dict):
        raise CheckpointError(f"{os.fspath(path)}: its `meta` is not a JSON object; use an earlier checkpoint")
    if meta.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{os.fspath(path)}: format {told(meta.get('format'))}, this fcnn reads {FORMAT_VERSION}; "
            "use the fcnn that wrote it"
        )
    return meta
