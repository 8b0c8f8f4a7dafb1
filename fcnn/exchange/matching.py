"""Which value of a file is which of a network: by names, or in order with shapes; all that doesn't fit is told."""

import contextlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.names import Like, T, names_by_path, torch_name, torch_names, values_of
from fcnn.exchange.torchvision import NETWORKS, torchvision_names
from fcnn.network.layer import Init
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import FLOATS, mapping
from fcnn.values.text import meant, printable
from fcnn.values.tree import Tree, flatten, unflatten

_MOST_TOLD = 1000  # differences
_PASSED_OVER = "num_batches_tracked"  # PyTorch counts them, and needs it only for a momentum of None
_STATE = ("running_mean", "running_var")

Groups = dict[str, dict[str, str]]  # each layer's values: its words for them, such as "weight", with their whole names


class Match(NamedTuple):
    """The file's name for each path that has one, and what is wrong with it."""

    names: dict[str, str]
    problems: list[str]


def match(arrays: Mapping[str, Array], like: Like, *, ordered: bool = True) -> dict[str, str]:
    """The name of each value of a network among named arrays, such as `load_torch` gives; to be used for `names`.

    Names that `torch_names` gives are recognised, and torchvision's of its networks (`torchvision_names`). Others are
    matched layer by layer in order, and the shapes must agree; `num_batches_tracked` is passed over.

    Args:
        arrays: arrays by name.
        like: a `Model`, an `Init` or a tree of parameters.
        ordered: whether the arrays are in the order in which the network has its layers. If they are not, as in
            safetensors files, layers are told by their shapes, and those of equal shapes by the numbers in their
            names, which must not differ in anything else.

    Raises ExchangeError, which lists every difference.

    >>> import numpy as np
    >>> from fcnn import freeze
    >>> found = {"features.0.weight": np.ones((2, 3)), "features.0.bias": np.ones(2)}
    >>> match(found, freeze({"fc": {"w": np.ones((2, 3)), "b": np.ones(2)}}))
    {'fc/w': 'features.0.weight', 'fc/b': 'features.0.bias'}
    """
    found = _matched(mapping("arrays", arrays, "a mapping of names to arrays"), like, ordered)
    _expect_none("the arrays", found.problems)
    return found.names


def filled(
    path: Path, arrays: Mapping[str, Array], like: T, names: Mapping[str, str] | None, *, ordered: bool = True
) -> T:
    """A value like `like` with a file's arrays; `names` as in `load_torch`; raises ExchangeError."""
    found = found_names(path, arrays, like, names, ordered=ordered)
    values = {path: _as_floats(arrays[name]) for path, name in found.items()}

    def taken(tree: Tree) -> Tree:
        return unflatten({path: values[path] for path in flatten(tree)})

    if isinstance(like, Tree):
        return taken(like)
    if isinstance(like, Init):
        return like._replace(params=taken(like.params), state=taken(like.state))
    return attrs.evolve(like, params=taken(like.params), state=taken(like.state))


def found_names(
    path: Path, arrays: Mapping[str, Array], like: Like, names: Mapping[str, str] | None, *, ordered: bool = True
) -> dict[str, str]:
    """The file's name for each path, as `filled` takes them; raises ExchangeError."""
    if names is None:
        found = _matched(arrays, like, ordered)
    else:
        wanted = names_by_path(names, like)
        found = _compared(arrays, like, {path: name for path, name in wanted.items() if name in arrays}, wanted)
    _expect_none(str(path), found.problems)
    return found.names


def _as_floats(array: Array) -> Array:
    """Halves as float32, which holds all their numbers; all else as it is."""
    return frozen(array.astype("f4")) if array.dtype == "f2" else array


def _expect_none(where: str, problems: list[str]) -> None:
    if problems:
        told = problems[:_MOST_TOLD]
        more = [f"and {len(problems) - _MOST_TOLD:,} more"] if len(problems) > _MOST_TOLD else []
        raise ExchangeError(
            f"{where}: {len(problems)} difference(s) from the network; is it another's, or are its names to be given "
            "with names=…?\n  " + "\n  ".join(told + more)
        )


def _matched(arrays: Mapping[str, Array], like: Like, ordered: bool) -> Match:
    wanted = torch_names(like)
    has_state = any(name.endswith(_STATE) for name in wanted.values())
    skipped = (_PASSED_OVER,) if has_state or not isinstance(like, Tree) else (_PASSED_OVER, *_STATE)
    names = [name for name in arrays if name.rpartition(".")[2] not in skipped]
    by_name = {path: name for path, name in wanted.items() if name in arrays}
    named = _compared(arrays, like, by_name, wanted, names)
    if not named.problems:
        return named
    for kind in NETWORKS:
        with contextlib.suppress(ValueError):  # it has another number of layers
            theirs = torchvision_names(kind, like)
            if set(theirs.values()) == set(names):
                return _compared(arrays, like, theirs, theirs, names)
    layers = _groups({path: torch_name(path) for path in wanted}, "/")
    shapes = {path: leaf.shape for path, leaf in values_of(like).items()}
    groups = _groups({name: name for name in names}, ".")
    pairs = list(zip(layers.items(), groups.items(), strict=False))
    unclear: list[str] = []
    if not ordered:
        pairs, unclear = _told_by_shapes(layers, groups, lambda path: shapes[path], lambda name: arrays[name].shape)
    found: dict[str, str] = {}
    for (_, layer), (_, group) in pairs:
        if len(layer) == len(group) and not layer.keys() <= group.keys():
            found.update(zip(layer.values(), group.values(), strict=True))
        else:
            found.update({path: group[word] for word, path in layer.items() if word in group})
    in_order = _compared(arrays, like, found, dict.fromkeys(wanted, ""), names)
    in_order.problems[:0] = unclear
    return min(named, in_order, key=lambda match: len(match.problems))


def _compared(
    arrays: Mapping[str, Array],
    like: Like,
    found: dict[str, str],
    wanted: Mapping[str, str],
    all_names: list[str] | None = None,
) -> Match:
    """What was found, in the network's order, and all that is wrong with it; `all_names` are to be used up."""
    problems: list[str] = []
    for path, leaf in values_of(like).items():
        name = found.get(path)
        if name is None:
            is_typed = all_names is None and len(problems) < 10  # of more the names are other ones altogether
            near = meant(wanted[path], arrays.keys() - found.values()) if is_typed else ""
            problems.append(f"missing: {path}" + (f" ({printable(wanted[path])}{near})" if wanted[path] else ""))
            continue
        array, what = arrays[name], f"{path} ({printable(name)})"
        if array.shape != leaf.shape:
            problems.append(f"wrong shape ({array.shape}, expected {leaf.shape}): {what}")
        elif array.dtype.type not in FLOATS and array.dtype != "f2":
            problems.append(f"wrong dtype ({array.dtype}, expected floats): {what}")
    used = set(found.values())
    problems += [f"unexpected: {printable(name)}" for name in all_names or () if name not in used]
    return Match({path: found[path] for path in wanted if path in found}, problems)


def _groups(names: Mapping[str, str], separator: str) -> Groups:
    """Values by their layers, both in order."""
    found: Groups = {}
    for place, name in names.items():
        found.setdefault(place.rpartition(separator)[0], {})[name.rpartition(".")[2]] = place
    return found


Pairs = list[tuple[tuple[str, dict[str, str]], tuple[str, dict[str, str]]]]


def _told_by_shapes(
    layers: Groups, groups: Groups, shape_of: Callable[[str], Any], shape_in_file: Callable[[str], Any]
) -> tuple[Pairs, list[str]]:
    """Layers with the groups that have their shapes; and those of which it isn't clear which is which."""
    alike: dict[Any, list[str]] = {}
    for prefix, group in groups.items():
        alike.setdefault(frozenset((word, shape_in_file(name)) for word, name in group.items()), []).append(prefix)
    for prefixes in alike.values():
        prefixes.sort(key=lambda prefix: [int(number) for number in re.findall(r"[0-9]{1,9}", prefix)])
    pairs: Pairs = []
    taken: dict[Any, int] = {}
    for path, layer in layers.items():
        kind = frozenset((word, shape_of(place)) for word, place in layer.items())
        place = taken.get(kind, 0)
        if place < len(alike.get(kind, ())):
            prefix = alike[kind][place]
            pairs.append(((path, layer), (prefix, groups[prefix])))
            taken[kind] = place + 1
    unclear = [
        f"of equal shapes, and in no order: {', '.join(printable(prefix) for prefix in sorted(prefixes)[:10])}"
        for kind, prefixes in alike.items()
        if kind in taken and len({re.sub(r"[0-9]{1,9}", "#", prefix) for prefix in prefixes}) > 1
    ]
    return pairs, unclear
