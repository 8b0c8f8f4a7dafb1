"""The contract: what a layer is, what its three functions return, and how errors say where they happened.

A layer is one immutable record of three pure functions. A network is a layer too.

    init(key, in_shape)                          -> Init(params, state, out_shape)
    apply(params, state, x, *, train, key=None)  -> Out(y, state, cache)
    backward(params, cache, dy, *, need_dx=True) -> Grads(dx, params)

- Shapes at `init` have no batch axis: (C, H, W) for images, (D,) for features.
- `params` and `state` are immutable trees; `state` is what changes without a gradient, such as running means.
- `train` has no default. A stochastic layer needs `key` in training, and says so when it is missing.
- `cache` is opaque plain data for `backward`, which is the true derivative of `apply` in the mode that made the
  cache, for any dy. `Grads.params` has the structure of `params`; `dx` is None when it wasn't asked for.
- Nothing passed in is written to. What is handed out is read-only, and shares memory with what was passed in only
  where that is read-only too.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeAlias

import attrs
import numpy as np

from fcnn.arrays import Array
from fcnn.keys import Key, key
from fcnn.tree import EMPTY, Tree, check_name, size

Shape: TypeAlias = tuple[int, ...]
P = ParamSpec("P")


class Init(NamedTuple):
    """What `init` makes: parameters, state, and the output's shape without the batch axis."""

    params: Tree
    state: Tree
    out_shape: Shape


class Out(NamedTuple):
    """What `apply` gives: the output, the state after it, and the cache for `backward`."""

    y: Array
    state: Tree
    cache: Any


class Grads(NamedTuple):
    """What `backward` gives: the gradient of the input (or None), and a tree like the parameters."""

    dx: Array | None
    params: Tree


class InitFn(Protocol):
    """The type of `Layer.init`."""

    def __call__(self, key: Key, in_shape: Shape, /) -> Init: ...  # noqa: D102


class ApplyFn(Protocol):
    """The type of `Layer.apply`."""

    def __call__(self, params: Tree, state: Tree, x: Array, /, *, train: bool, key: Key | None = None) -> Out: ...  # noqa: D102


class BackwardFn(Protocol):
    """The type of `Layer.backward`."""

    def __call__(self, params: Tree, cache: Any, dy: Array, /, *, need_dx: bool = True) -> Grads: ...  # noqa: D102


class Config(Mapping[str, Any]):
    """A layer's arguments by name, in order; prints as the call would be typed, defaults left out."""

    def __init__(self, values: Mapping[str, Any], signature: inspect.Signature | None = None) -> None:
        self._values = {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
        self._signature = signature

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __str__(self) -> str:
        parts = []
        for name, value in self._values.items():
            default = self._signature.parameters[name].default if self._signature else None
            if self._signature and default is inspect.Parameter.empty:
                parts.append(repr(value))
            elif not self._signature or value != default:
                parts.append(f"{name}={value!r}")
        return ", ".join(parts)


def _children(children: Mapping[str, "Layer"]) -> Mapping[str, "Layer"]:
    for name in children:
        check_name(name)
    return MappingProxyType(dict(children))


def _config(config: Mapping[str, Any]) -> Config:
    return config if isinstance(config, Config) else Config(config)


@attrs.frozen(repr=False, eq=False)
class Layer:
    """One layer, or a network of them: `kind`, `config` and `children` to print, and the three functions.

    Make layers with the constructors of `fcnn.layers` and `fcnn.combinators`, or your own with `layer_constructor`.
    """

    kind: str
    config: Mapping[str, Any] = attrs.field(converter=_config)
    children: Mapping[str, "Layer"] = attrs.field(converter=_children)
    init: InitFn
    apply: ApplyFn
    backward: BackwardFn

    def __repr__(self) -> str:
        inner = [str(self.config)] if self.config and str(self.config) else []
        inner += [f"{name}={child!r}" for name, child in self.children.items()]
        line = f"{self.kind}({', '.join(inner)})"
        if len(line) <= 88 or not self.children:
            return line
        return f"{self.kind}(\n    " + ",\n".join(inner).replace("\n", "\n    ") + ",\n)"


class LayerError(ValueError):
    """Something doesn't fit in a network; the message begins with the path of the layer."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.message = message
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return LayerError, (self.message, self.path)


class at:
    """Put `name` before the path of any error from within: combinators wrap every call of a child in it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, LayerError):
            path = f"{self._name}/{error.path}" if error.path else self._name
            raise LayerError(error.message, path) from error.__cause__
        if isinstance(error, (ValueError, LookupError)):
            raise LayerError(str(error.args[0]) if error.args else repr(error), self._name) from error


def expect_names(params: Tree, names: Collection[str]) -> None:
    """Raise LayerError unless the parameters have just these names."""
    if len(params) != len(names) or any(name not in params for name in names):
        raise LayerError(f"the parameters have {', '.join(params) or 'nothing'}, the layer has {', '.join(names)}")


class Functions(NamedTuple):
    """The three functions of a layer, as a constructor's body returns them."""

    init: InitFn
    apply: ApplyFn
    backward: BackwardFn


def layer_constructor(body: Callable[P, Functions]) -> Callable[P, Layer]:
    """Turn a function from arguments to `Functions` into a constructor of layers.

    The layer's kind is the function's name, its config the arguments with which it was called. This is how every
    layer without children is made, and how to add one of your own:

    >>> from fcnn.tree import EMPTY
    >>> @layer_constructor
    ... def scale(factor: float) -> Functions:
    ...     def init(key, in_shape):
    ...         return Init(EMPTY, EMPTY, in_shape)
    ...     def apply(params, state, x, *, train, key=None):
    ...         return Out(factor * x, EMPTY, None)
    ...     def backward(params, cache, dy, *, need_dx=True):
    ...         return Grads(factor * dy, EMPTY)
    ...     return Functions(init, apply, backward)
    >>> scale(2.0)
    scale(2.0)
    """
    signature = inspect.signature(body)

    @functools.wraps(body)
    def construct(*args: P.args, **kwargs: P.kwargs) -> Layer:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return Layer(body.__name__, Config(bound.arguments, signature), {}, *body(*args, **kwargs))

    construct.__annotations__ = {**body.__annotations__, "return": Layer}
    return construct


def describe(layer: Layer) -> dict[str, Any]:
    """A layer as plain data for JSON: kind, config and children."""

    def plain(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)

    return {
        "kind": layer.kind,
        "config": {name: plain(value) for name, value in layer.config.items()},
        "children": {name: describe(child) for name, child in layer.children.items()},
    }


def summary(layer: Layer, in_shape: Shape) -> str:
    """A table of every layer inside `layer`: path, layer, output shape without the batch axis, parameters.

    Raises LayerError, with the path, where the shapes don't fit.
    """
    rows = [("path", "layer", "output", "parameters"), *_rows(layer, tuple(in_shape), "")]
    made = layer.init(key(0), tuple(in_shape))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]:>10}".rstrip() for row in rows
    ]
    rule = "-" * max(len(line) for line in lines)
    total = f"input {tuple(in_shape)}, {size(made.params):,} parameters"
    if made.state:
        total += f", {size(made.state):,} numbers of state"
    return "\n".join([lines[0], rule, *lines[1:], rule, total])


def _rows(layer: Layer, in_shape: Shape, path: str) -> Iterator[tuple[str, str, str, str]]:
    # The children of `serial` follow one another; those of every other combinator all see its input.
    if not layer.children:
        made = layer.init(key(0), in_shape)
        count = size(made.params)
        yield path or layer.kind, repr(layer), str(made.out_shape), f"{count:,}" if count else ""
    shape = in_shape
    for name, child in layer.children.items():
        with at(name):
            yield from _rows(child, shape, f"{path}/{name}" if path else name)
            if layer.kind == "serial":
                shape = child.init(key(0), shape).out_shape


def no_state(params: Tree, out_shape: Shape) -> Init:
    """An Init without state."""
    return Init(params, EMPTY, out_shape)
