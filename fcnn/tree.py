"""Immutable trees of arrays: parameters, state, gradients and optimizer state.

A tree is a read-only mapping from names to arrays or to further trees. A *path* is the names joined by `/`, such as
`conv1/w`. Nothing here knows of layers: a tree is plain data, and every change makes a new one.
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from fcnn.arrays import Array, keep

Nested: TypeAlias = Mapping[str, Any]  # names to arrays, or to further mappings of the same kind

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class TreeError(ValueError):
    """A tree is not what it should be; the message names the path."""


class Tree(Mapping[str, Any]):
    """A read-only mapping of names to read-only arrays or further trees. Make one with `freeze`."""

    __slots__ = ("_items",)
    _items: dict[str, "Array | Tree"]

    def __init__(self) -> None:
        object.__setattr__(self, "_items", {})

    def __getitem__(self, name: str) -> Any:
        try:
            return self._items[name]
        except KeyError:
            raise KeyError(f"no {name!r} in this tree; it has {', '.join(self._items) or 'nothing'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError("a tree is immutable; fcnn.tree.set_at(tree, path, value) makes a changed one")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    __setitem__, __delitem__ = __setattr__, __delattr__

    def __eq__(self, other: object) -> bool:
        """Same paths, and arrays equal in dtype, shape and every bit (so NaN equals the same NaN)."""
        if not isinstance(other, Tree):
            return NotImplemented
        mine, theirs = flatten(self), flatten(other)
        return mine.keys() == theirs.keys() and all(_same_bits(mine[path], theirs[path]) for path in mine)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        def show(value: "Array | Tree") -> str:
            return repr(value) if isinstance(value, Tree) else f"{value.dtype}{list(value.shape)}"

        return "{" + ", ".join(f"{name}: {show(value)}" for name, value in self._items.items()) + "}"

    def __reduce__(self) -> tuple[Any, ...]:
        return freeze, (dict(self._items),)  # so that process pools can carry trees


EMPTY = Tree()


def freeze(nested: Nested) -> Tree:
    """Make an immutable tree of nested mappings of arrays.

    Read-only arrays are shared, writable ones are copied. Raises TreeError for a name that doesn't match
    `[a-z][a-z0-9_]*` and for a leaf that is no array.

    >>> params = freeze({"fc": {"w": np.ones((2, 3)), "b": np.zeros(2)}})
    >>> params
    {fc: {w: float64[2, 3], b: float64[2]}}
    >>> params["fc"]["w"][0, 0] = 5.0
    Traceback (most recent call last):
    ...
    ValueError: assignment destination is read-only
    """
    return _freeze(nested, "")


def _freeze(nested: Nested, path: str) -> Tree:
    if isinstance(nested, Tree):
        return nested
    items: dict[str, Array | Tree] = {}
    for name, value in nested.items():
        here = f"{path}/{name}" if path else str(name)
        check_name(name, here)
        if isinstance(value, Tree):
            items[name] = value
        elif isinstance(value, Mapping):
            items[name] = _freeze(value, here)
        elif isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
            items[name] = keep(np.asarray(value))
        else:
            raise TreeError(f"{here}: a leaf is a NumPy array of numbers, got {type(value).__name__}")
    return _tree(items)


@functools.lru_cache(maxsize=4096)
def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def check_name(name: object, path: str | None = None) -> None:
    """Raise TreeError unless `name` may be a key: a small letter, then small letters, digits and underscores."""
    if not isinstance(name, str) or not _is_name(name):
        raise TreeError(
            f"{name if path is None else path}: the name {name!r} does not match [a-z][a-z0-9_]*; "
            "use small letters, digits and underscores, a letter first"
        )


def _tree(items: dict[str, Array | Tree]) -> Tree:
    tree = Tree()
    tree._items.update(items)
    return tree


def map(function: Callable[..., Array], tree: Tree, *rest: Tree) -> Tree:
    """Apply `function` to every leaf of `tree`, together with the leaves at the same path of `rest`.

    Raises TreeError, naming the path, if the trees differ in structure.

    >>> map(np.add, freeze({"w": np.ones(2)}), freeze({"w": np.full(2, 3.0)}))["w"]
    array([4., 4.])
    """
    return _map(function, (tree, *rest), "")


def _map(function: Callable[..., Array], trees: tuple[Tree, ...], path: str) -> Tree:
    first = trees[0]
    for other in trees[1:]:
        if other._items.keys() != first._items.keys():
            ours, theirs = (", ".join(t) or "nothing" for t in (first, other))
            raise TreeError(f"{path or 'top of the tree'}: the trees differ: one has {ours}, another {theirs}")
    items: dict[str, Array | Tree] = {}
    for name, value in first._items.items():
        here = f"{path}/{name}" if path else name
        values = tuple(tree._items[name] for tree in trees)
        if isinstance(value, Tree):
            if not all(isinstance(v, Tree) for v in values):
                raise TreeError(f"{here}: the trees differ: a subtree in one, an array in another")
            items[name] = _map(function, values, here)  # type: ignore[arg-type]
        else:
            if any(isinstance(v, Tree) for v in values):
                raise TreeError(f"{here}: the trees differ: an array in one, a subtree in another")
            items[name] = keep(np.asarray(function(*values)))
    return _tree(items)


def flatten(tree: Tree) -> dict[str, Array]:
    """All leaves by path, in the tree's order.

    >>> list(flatten(freeze({"conv1": {"w": np.ones(1), "b": np.ones(1)}, "fc": {"w": np.ones(1)}})))
    ['conv1/w', 'conv1/b', 'fc/w']
    """
    leaves: dict[str, Array] = {}
    for name, value in tree._items.items():
        if isinstance(value, Tree):
            leaves.update((f"{name}/{path}", leaf) for path, leaf in flatten(value).items())
        else:
            leaves[name] = value
    return leaves


def unflatten(leaves: Mapping[str, Array]) -> Tree:
    """The tree with these leaves; the inverse of `flatten`.

    Raises TreeError if one path is both an array and the beginning of another path.
    """
    nested: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        here = nested
        for depth, parent in enumerate(parents, 1):
            here = here.setdefault(parent, {})
            if not isinstance(here, dict):
                raise TreeError(f"{'/'.join(parents[:depth])}: both an array and the beginning of {path}")
        if name in here:
            raise TreeError(f"{path}: both an array and the beginning of another path")
        here[name] = leaf
    return freeze(nested)


def set_at(tree: Tree, path: str, value: Array | Nested) -> Tree:
    """A tree like `tree` with the array or subtree at `path` replaced; the path must exist.

    >>> tree = freeze({"fc": {"b": np.zeros(2)}})
    >>> set_at(tree, "fc/b", np.ones(2))["fc"]["b"], tree["fc"]["b"]
    (array([1., 1.]), array([0., 0.]))
    """
    name, _, rest = path.partition("/")
    return _set_at(tree, name, rest, value, path)


def _set_at(tree: Tree, name: str, rest: str, value: Array | Nested, path: str) -> Tree:
    if name not in tree._items:
        raise TreeError(f"{path}: no such path; at {name!r} the tree has {', '.join(tree) or 'nothing'}")
    old = tree._items[name]
    if rest:
        if not isinstance(old, Tree):
            raise TreeError(f"{path}: no such path; {name!r} is an array")
        head, _, tail = rest.partition("/")
        new: Array | Tree = _set_at(old, head, tail, value, path)
    else:
        new = freeze({name: value})._items[name]
    return _tree({**tree._items, name: new})


def size(tree: Tree) -> int:
    """How many numbers the tree holds.

    >>> size(freeze({"w": np.ones((2, 3)), "b": np.ones(2)}))
    8
    """
    return sum(leaf.size for leaf in flatten(tree).values())


def astype(tree: Tree, dtype: Any) -> Tree:
    """The same tree with every leaf cast to `dtype`."""
    return map(lambda leaf: leaf.astype(dtype, copy=False), tree)


def _same_bits(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
