"""What a network's values are called elsewhere."""

from collections import Counter
from collections.abc import Mapping
from typing import TypeAlias, TypeVar

import numpy as np

from fcnn.network.layer import Init
from fcnn.network.model import Model
from fcnn.values.arrays import NUMBERS, Array
from fcnn.values.checks import how_to_make_floats, mapping, told
from fcnn.values.text import MOST_OF_A_NAME, is_name
from fcnn.values.tree import Tree, leaves

Like: TypeAlias = Tree | Init | Model
T = TypeVar("T", Tree, Init, Model)

_TORCH = {
    **{"w": "weight", "b": "bias", "gamma": "weight", "beta": "bias", "slope": "weight"},
    **{"mean": "running_mean", "var": "running_var"},
}


def torch_names(value: Like) -> dict[str, str]:
    """What `save_torch` and `save_safetensors` call each value of a network, by its path.

    The path with dots, and at its end PyTorch's word: `weight` for w and gamma, `bias` for b and beta, `running_mean`
    and `running_var` for batch norm's mean and var. So a module whose parts have the layers' names loads them strictly.

    Args:
        value: a `Model`, an `Init` as a network's `init` makes it, or a tree of parameters.

    >>> import numpy as np
    >>> from fcnn import freeze
    >>> torch_names(freeze({"fc": {"w": np.ones((2, 3)), "b": np.ones(2)}}))
    {'fc/w': 'fc.weight', 'fc/b': 'fc.bias'}
    """
    names = {path: torch_name(path) for path in values_of(value)}
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:  # of a layer of one's own
        raise ValueError(f"two values of a layer would be called {twice[0]}; give names=… for all")
    return names


def torch_name(path: str) -> str:
    """PyTorch's name for the value at a path."""
    *layers, leaf = path.split("/")
    return ".".join([*layers, _TORCH.get(leaf, leaf)])


def values_of(value: Like, name: str = "value") -> dict[str, Array]:
    """The values of a network by path, parameters and state together, layer by layer in the network's order."""
    if isinstance(value, Tree):
        trees = [value]
    elif isinstance(value, (Init, Model)):
        trees = [value.params, value.state]
    else:
        advice = "; fcnn.freeze makes a tree of a dict of arrays" if isinstance(value, dict) else ""
        advice = "; take its .model" if isinstance(getattr(value, "model", None), Model) else advice
        raise TypeError(f"{name} is a Model, an Init or a tree of parameters, got {told(value)}{advice}")
    found: dict[str, dict[str, Array]] = {}
    for tree in trees:
        for path, leaf in leaves(tree):
            layer = found.setdefault(path.rpartition("/")[0], {})
            if path in layer:
                raise ValueError(f"{path} is both a parameter and state, which have one name elsewhere")
            layer[path] = leaf
    return {path: leaf for layer in found.values() for path, leaf in layer.items()}


def names_by_path(names: Mapping[str, str] | None, like: Like) -> dict[str, str]:
    """A name for each value of `like`: those given, if they are for all its paths, or PyTorch's."""
    if names is None:
        return torch_names(like)
    expected = "names is a mapping of paths to a file's names, such as {'conv1/w': 'features.0.weight'}"
    found = dict(mapping("names", names, expected.removeprefix("names is ")))
    for path, name in found.items():
        if not isinstance(path, str) or not isinstance(name, str):
            raise TypeError(f"{expected}, got {told(path)}: {told(name)} in it")
        _expect_name(name)
    paths = values_of(like)
    for wrong, what in ((paths.keys() - found, "lacks"), (found.keys() - paths, "has, and the network lacks,")):
        if wrong:
            raise ValueError(f"names {what} {', '.join(sorted(wrong)[:10])}")
    twice = [name for name, count in Counter(found.values()).items() if count > 1]
    if twice:
        raise ValueError(f"names has {told(twice[0])} for several paths")
    return {path: found[path] for path in paths}


def named_values(value: Like | dict[str, Array], names: Mapping[str, str] | None) -> dict[str, Array]:
    """What is to be written, by the names that it gets: those of `names`, or else PyTorch's; those of a plain dict."""
    if isinstance(value, dict):
        expected = "value is a Model, an Init, a tree of parameters, or a dict of arrays by name"
        for name, leaf in value.items():
            if not isinstance(name, str) or not isinstance(leaf, np.ndarray) or leaf.dtype.kind not in NUMBERS:
                raise TypeError(f"{expected}, got {told(name)}: {told(leaf)} in it")
            if isinstance(leaf, np.ma.MaskedArray):  # what is masked would be forgotten
                raise TypeError(f"{expected}, got {told(name)}: {told(leaf)} in it{how_to_make_floats(leaf)}")
            _expect_name(name)
        if names is not None:
            raise ValueError("names are of the paths of a network; a dict has its own")
        return dict(value)
    found = values_of(value)
    called = names_by_path(names, value)
    return {called[path]: leaf for path, leaf in found.items()}


def _expect_name(name: str) -> None:
    if not is_name(name):
        most = f"at most {MOST_OF_A_NAME:,} characters, and no half of one (a surrogate)"
        raise ValueError(f"a value's name in a file has {most}, got {told(name)}")


def expect_template(like: object, names: object) -> None:
    """Raise for what no file's values can be put into, and for names without that whose paths they are for."""
    if like is not None:
        values_of(like, "like")  # type: ignore[arg-type]
    elif names is not None:
        raise ValueError("names are of the paths of like=…, which is missing")
