"""Immutable trees of arrays: parameters, state, gradients and optimizer state.

A tree is a read-only mapping from names to arrays or to further trees. A *path* is the names joined by `/`, such as
`conv1/w`. Nothing here knows of layers: a tree is plain data, and every change makes a new one.
"""

import functools
import re
from collections.abc import Callable, Iterator, KeysView, Mapping
from typing import Any, TypeAlias, final

import numpy as np

from fcnn.values import html
from fcnn.values.arrays import NUMBERS, Array, frozen, keep
from fcnn.values.checks import float_dtype, how_to_make_floats, instance, mapping, told
from fcnn.values.checks import function as expect_function

Nested: TypeAlias = Mapping[str, Any]  # names to arrays, or to further mappings of the same kind
# Each name with its size and its array's shape, or with its size, None, and its subtree's layout.
Layout: TypeAlias = tuple[tuple[str, int, tuple[int, ...] | None, Any], ...]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_MOST_DEPTH = 200  # of what is frozen: a network's hundred levels, and what an optimizer and a file put around them


class TreeError(ValueError):
    """A tree is not what it should be; the message names the path."""


@final
class Tree(Mapping[str, Any]):
    """A read-only mapping of names to read-only arrays or further trees. Make one with `freeze`."""

    __slots__ = ("_flat", "_made")
    _flat: "tuple[Array, Layout] | None"  # all its numbers, and where they belong, once they are known
    _made: "dict[str, Array | Tree] | None"  # None as long as nobody asked for the parts of `_flat`

    def __init__(self, *, _flat: "tuple[Array, Layout] | None" = None, _made: Any = None) -> None:
        _set_flat(self, _flat)
        _set_made(self, {} if _flat is _made is None else _made)

    @property
    def _items(self) -> "dict[str, Array | Tree]":
        made = self._made
        if made is None:
            assert self._flat is not None
            made = _parts(*self._flat)
            _set_made(self, made)
        return made

    def __getitem__(self, name: str) -> Any:
        try:
            return self._items[name]
        except (KeyError, TypeError):  # TypeError: a list, say, is no key of any mapping
            raise KeyError(f"no {told(name)} in this tree; it has {', '.join(self._items) or 'nothing'}") from None

    def keys(self) -> KeysView[str]:
        """The names, in order; as a view of a plain dict, which is compared with other sets faster than Mapping's."""
        return self._items.keys()

    def get(self, name: str, default: Any = None) -> Any:
        """The array or subtree of that name, or `default`."""
        return self._items.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __bool__(self) -> bool:
        return self._flat is not None or bool(self._items)  # without making the parts

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
        shown = {k: repr(v) if isinstance(v, Tree) else f"{v.dtype}{list(v.shape)}" for k, v in self._items.items()}
        return "{" + ", ".join(f"{name}: {value}" for name, value in shown.items()) + "}"

    def _repr_html_(self) -> str:
        found = [*leaves(self)]
        heading = f"Tree: {html.counted(len(found), 'array')}, {html.counted(size(self), 'number')}"
        return html.view(html.fold(heading, html.arrays(found)))

    def __reduce__(self) -> tuple[Any, ...]:
        # So that process pools can carry trees; as one array, which is many times faster than leaf by leaf.
        flat, layout = _ravelled(self)
        return (freeze, (dict(self._items),)) if flat is None else (_unpickled, (flat, layout))


# The fastest way past `__setattr__`: a step of training makes many trees.
_set_flat, _set_made = (vars(Tree)[slot].__set__ for slot in Tree.__slots__)
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
    return _freeze(mapping("freeze's argument", nested, "a mapping of names to arrays or mappings"), "", 0)


def _freeze(nested: Nested, parents: str, depth: int) -> Tree:
    if isinstance(nested, Tree):
        return nested
    if depth == _MOST_DEPTH:
        raise TreeError(f"{parents[:40]}…: a tree has at most {_MOST_DEPTH} levels")
    items: dict[str, Array | Tree] = {}
    for name, value in nested.items():
        if not isinstance(name, str) or not _is_name(name):
            check_name(name, parents + (name if isinstance(name, str) else told(name)))
        if type(value) is Tree:  # told fast, as `isinstance` asks a Mapping's subclass
            items[name] = value
        elif not isinstance(value, np.ndarray) and isinstance(value, Mapping):
            items[name] = _freeze(value, f"{parents}{name}/", depth + 1)
        else:
            items[name] = _leaf(value, f"{parents}{name}")
    return Tree(_made=items)


def _leaf(value: object, path: str) -> Array:
    if type(value) is np.ndarray and value.dtype.kind in NUMBERS:
        return keep(value)  # the usual case, told fast
    expected = f"{path}: a leaf is a NumPy array of numbers, got"
    if isinstance(value, np.ma.MaskedArray):  # what is masked would be forgotten
        raise TreeError(f"{expected} a masked one; .filled(0) makes one of it, with 0 where it is masked")
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in NUMBERS:
        return keep(np.asarray(value))
    raise TreeError(f"{expected} {told(value)}{how_to_make_floats(value)}")


def expect_tree(name: str, value: object) -> Tree:
    """`value`, if it is a tree."""
    return instance(name, value, Tree, "a tree, such as fcnn.freeze(…) makes of a dict")


@functools.lru_cache(maxsize=4096)
def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def check_name(name: object, path: str | None = None) -> None:
    """Raise TreeError unless `name` may be a key: a small letter, then small letters, digits and underscores."""
    if not isinstance(name, str) or not _is_name(name):
        where = path if isinstance(path, str) else name if isinstance(name, str) else told(name)
        raise TreeError(
            f"{where}{': ' if where else ''}the name {told(name)} does not match [a-z][a-z0-9_]*; "
            "use small letters, digits and underscores, a letter first"
        )


def map(function: Callable[..., Array], tree: Tree, *rest: Tree) -> Tree:
    """Apply `function` to every leaf of `tree`, together with the leaves at the same path of `rest`.

    Raises TreeError, naming the path, if the trees differ in structure.

    >>> map(np.add, freeze({"w": np.ones(2)}), freeze({"w": np.full(2, 3.0)}))["w"]
    array([4., 4.])
    """
    _expect_trees("map", function, (tree, *rest))
    return _map(function, (tree, *rest), "")


def _expect_trees(name: str, function: object, trees: tuple[object, ...]) -> None:
    expect_function(f"{name}'s function", function, "one from arrays to an array, such as np.add")
    for tree in trees:
        expect_tree(f"every tree of {name}", tree)


def _map(function: Callable[..., Array], trees: tuple[Tree, ...], path: str, of_one_shape: bool = False) -> Tree:
    first = trees[0]
    for other in trees[1:]:
        if other._items.keys() != first._items.keys():
            ours, theirs = (", ".join(t) or "nothing" for t in (first, other))
            raise TreeError(f"{path or 'top of the tree'}: the trees differ: one has {ours}, another {theirs}")
    items: dict[str, Array | Tree] = {}
    for name, value in first._items.items():
        here = f"{path}/{name}" if path else name
        values: tuple[Any, ...] = tuple(tree._items[name] for tree in trees)
        if any(isinstance(v, Tree) is not isinstance(value, Tree) for v in values):
            kinds = ("a subtree", "an array") if isinstance(value, Tree) else ("an array", "a subtree")
            raise TreeError(f"{here}: the trees differ: {' in one, '.join(kinds)} in another")
        if isinstance(value, Tree):
            items[name] = _map(function, values, here, of_one_shape)
        elif of_one_shape and len({v.shape for v in values}) > 1:  # NumPy would broadcast them, or fail
            raise TreeError(f"{here}: the trees differ: {' and '.join(str(v.shape) for v in values)}")
        elif of_one_shape and not value.shape:  # NumPy 1.26 makes a float64 of a lone float32 times a Python number
            items[name] = _result(function(*(v.reshape(1) for v in values)), here).reshape(())
        else:
            items[name] = _result(function(*values), here)
    return Tree(_made=items)


def _result(value: Any, path: str) -> Array:
    """What a user's function gave for the leaf at `path`, if it is an array or a number."""
    try:
        return _leaf(np.asanyarray(value), path)
    except (TreeError, ValueError) as error:  # ValueError: lists of several lengths
        raise TreeError(f"{path}: the function gives an array or a number, got {told(value)}") from error


def map_elementwise(function: Callable[..., Array], tree: Tree, *rest: Tree) -> Tree:
    """As `map`, for a `function` that treats all numbers alike, such as `np.add`, and faster where leaves are many.

    It is called once, on all numbers of each tree laid end to end; the leaves of the result are parts of what it
    returns. Only where leaves differ in dtype it is called leaf by leaf.
    """
    _expect_trees("map_elementwise", function, (tree, *rest))
    (flat, layout), *others = (_ravelled(each) for each in (tree, *rest))
    if flat is None or any(other is None or theirs != layout for other, theirs in others):
        return _map(function, (tree, *rest), "", of_one_shape=True)
    made = _result(function(flat, *(other for other, _ in others)), "all leaves")
    if made.shape != flat.shape:
        raise TreeError(f"map_elementwise expects a function that keeps the shape {flat.shape}, it gave {made.shape}")
    return _unravelled(made, layout)


def ravel(tree: Tree) -> Array:
    """All numbers of the tree in one flat read-only array, in the tree's order; the leaves have one dtype.

    >>> ravel(freeze({"fc": {"w": np.ones((2, 2)), "b": np.zeros(2)}}))
    array([1., 1., 1., 1., 0., 0.])
    """
    flat, _ = _ravelled(expect_tree("tree", tree))
    if flat is None:
        kinds = ", ".join(f"{path} {leaf.dtype}" for path, leaf in leaves(tree)) or "none"
        raise TreeError(f"ravel expects leaves of one dtype, got {kinds}")
    return flat


def unravel(flat: Array, like: Tree) -> Tree:
    """The tree with the structure and shapes of `like` and the numbers of `flat`; the inverse of `ravel`."""
    instance("unravel's flat", flat, np.ndarray, "an array, such as fcnn.tree.ravel(…) gives")
    expect_tree("unravel's like", like)
    if flat.shape != (size(like),):
        raise TreeError(f"unravel expects ({size(like)},), as many numbers as the tree has, got {flat.shape}")
    return _unravelled(_leaf(flat, "unravel's flat"), _layout(like))


def _layout(tree: Tree) -> Layout:
    if tree._flat is not None:
        return tree._flat[1]
    return tuple(
        (name, size(value), None, _layout(value)) if type(value) is Tree else (name, value.size, value.shape, None)
        for name, value in tree._items.items()
    )


def _ravelled(tree: Tree) -> tuple[Array | None, Layout]:
    """All numbers of a tree, None unless its leaves are of one dtype, and where they belong."""
    if tree._flat is not None:
        return tree._flat
    arrays, layout = _leaves(tree), _layout(tree)
    if len({array.dtype for array in arrays}) != 1:
        return None, layout
    flat = frozen(np.concatenate(arrays, axis=None))
    _set_flat(tree, (flat, layout))  # others will ask, too
    return flat, layout


def _leaves(tree: Tree) -> list[Array]:
    found: list[Array] = []
    for value in tree._items.values():
        found += _leaves(value) if type(value) is Tree else [value]
    return found


def _unravelled(flat: Array, layout: Layout) -> Tree:
    if not flat.size:  # without leaves it has no dtype
        return Tree(_made=_parts(flat, layout))
    return Tree(_flat=(flat, layout))  # its parts are made when somebody looks


def _parts(flat: Array, layout: Layout) -> dict[str, Array | Tree]:
    parts: dict[str, Array | Tree] = {}
    begin = 0
    for name, count, shape, inner in layout:
        part = flat[begin : begin + count]
        parts[name] = _unravelled(part, inner) if shape is None else part.reshape(shape)
        begin += count
    return parts


def _unpickled(flat: Array, layout: Layout) -> Tree:
    return _unravelled(keep(flat), layout)


def flatten(tree: Tree) -> dict[str, Array]:
    """All leaves by path, in the tree's order.

    >>> list(flatten(freeze({"conv1": {"w": np.ones(1), "b": np.ones(1)}, "fc": {"w": np.ones(1)}})))
    ['conv1/w', 'conv1/b', 'fc/w']
    """
    return dict(leaves(tree))


def leaves(tree: Tree) -> Iterator[tuple[str, Array]]:
    """Every leaf with its path, in the tree's order."""
    return _paths(expect_tree("tree", tree))


def _paths(tree: Tree) -> Iterator[tuple[str, Array]]:
    for name, value in tree._items.items():
        if isinstance(value, Tree):
            yield from ((f"{name}/{path}", leaf) for path, leaf in _paths(value))
        else:
            yield name, value


def unflatten(leaves: Mapping[str, Array]) -> Tree:
    """The tree with these leaves; the inverse of `flatten`.

    Raises TreeError if one path is both an array and the beginning of another path.
    """
    nested: dict[str, Any] = {}
    for path, leaf in mapping("unflatten's leaves", leaves, "a mapping of paths to arrays").items():
        instance("unflatten's path", path, str, 'text, such as "conv1/w"')
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
    expect_tree("tree", tree)
    return _set_at(tree, instance("set_at's path", path, str, 'text, such as "conv1/w"'), value, path)


def _set_at(tree: Tree, rest: str, value: Array | Nested, path: str) -> Tree:
    name, _, rest = rest.partition("/")
    if name not in tree._items:
        raise TreeError(f"{path}: no such path; at {name!r} the tree has {', '.join(tree) or 'nothing'}")
    old = tree._items[name]
    if not rest:
        new: Array | Tree = _freeze({name: value}, path[: len(path) - len(name)], 0)._items[name]
    elif isinstance(old, Tree):
        new = _set_at(old, rest, value, path)
    else:
        raise TreeError(f"{path}: no such path; {name!r} is an array")
    return Tree(_made={**tree._items, name: new})


def size(tree: Tree) -> int:
    """How many numbers the tree holds.

    >>> size(freeze({"w": np.ones((2, 3)), "b": np.ones(2)}))
    8
    """
    return sum(leaf.size for leaf in _leaves(expect_tree("tree", tree)))


def astype(tree: Tree, dtype: Any) -> Tree:
    """The same tree with every leaf cast to `dtype`, float32 or float64."""
    to = float_dtype("astype's dtype", dtype)
    return map(lambda leaf: leaf.astype(to, copy=False), expect_tree("tree", tree))


def _same_bits(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
