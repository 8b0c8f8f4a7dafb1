"""The contract: what a layer is, what its three functions return, and how errors say where they happened.

A layer is one immutable record of three pure functions. A network is a layer too.

    init(key, in_shape)                          -> Init(params, state, out_shape, macs)
    apply(params, state, x, *, train, key=None)  -> Out(y, state, cache)
    backward(params, cache, dy, *, need_dx=True) -> Grads(dx, params)

- Shapes at `init` have no batch axis: (C, H, W) for images, (C, L) for sequences, (D,) for features.
- `params` and `state` are immutable trees; `state` is what changes without a gradient, such as running means.
- `train` has no default. A stochastic layer needs `key` in training, and says so when it is missing.
- `cache` is opaque plain data for `backward`, which is the true derivative of `apply` in the mode that made the
  cache, for any dy. `Grads.params` has the structure of `params`; `dx` is None when it wasn't asked for.
- Nothing passed in is written to. What is handed out is read-only, and shares memory with what was passed in only
  where that is read-only too.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from types import FunctionType, MappingProxyType
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeAlias

import attrs

from fcnn.values import html
from fcnn.values.arrays import Array
from fcnn.values.checks import boolean, instance, lengths, mapping, told
from fcnn.values.configuration import Config, as_call, constructor
from fcnn.values.keys import Key, expect_key
from fcnn.values.tree import EMPTY, Tree, check_name, expect_tree

Shape: TypeAlias = tuple[int, ...]
P = ParamSpec("P")

# How many layers may lie one within the other: printing, describing and running a network call themselves so often.
MOST_DEPTH = 100


class Init(NamedTuple):
    """What `init` makes: parameters, state, and the output's shape without the batch axis.

    `macs` is how many multiply-adds the layer's products (convolutions, dense layers) take for one input.
    """

    params: Tree
    state: Tree
    out_shape: Shape
    macs: int = 0


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


def _children(children: Mapping[str, "Layer"]) -> Mapping[str, "Layer"]:
    for name, child in mapping("a layer's children", children, "a mapping of names to layers").items():
        check_name(name)
        expect_layer(f"the layer's child {name}", child)
    return MappingProxyType(dict(children))


def _config(config: Mapping[str, Any]) -> Config:
    if isinstance(config, Config):
        return config
    return Config(mapping("a layer's config", config, "a mapping of names to arguments"))


@attrs.frozen(repr=False, eq=False)
class Layer:
    """One layer, or a network of them: how it was made, and the three functions.

    `layer.make(**layer.config, **layer.children)` is the layer again, so a network can be printed, described and
    rewritten. Make layers with the constructors of `fcnn.network.layers` and `fcnn.network.combinators`, or your own
    with `layer_constructor`. One whose functions are not those that its constructor gave is `rewritten`
    (`fcnn.network.rewriting`), and one that doesn't learn is `held`; of one that learns in part, `held_params` are the
    names of the parameters that don't. `origin` is, where it is known, the rule that
    rewrote it, and what it rewrote. `depth` is how many layers lie one within the other in it: at most 100.

    Layers pickle by their constructor's import name and its arguments; a copy is the layer itself.
    """

    kind: str
    config: Mapping[str, Any] = attrs.field(converter=_config)
    children: Mapping[str, "Layer"] = attrs.field(converter=_children)
    make: "Callable[..., Layer]"
    init: InitFn
    apply: ApplyFn
    backward: BackwardFn
    held: bool = False
    held_params: tuple[str, ...] = ()
    rewritten: bool = False
    origin: "tuple[Callable[[Layer], Layer], Layer] | None" = None
    depth: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        instance("a layer's kind", self.kind, str, 'text, such as "dense"')
        for name in ("make", "init", "apply", "backward"):
            if not callable(getattr(self, name)):
                raise TypeError(f"{self.kind}: a layer's {name} is a function, got {told(getattr(self, name))}")
        depth = 1 + max((child.depth for child in self.children.values()), default=-1)
        if depth > MOST_DEPTH:
            raise LayerError(f"{self.kind}: a network has at most {MOST_DEPTH} layers one within the other")
        object.__setattr__(self, "depth", depth)

    def __repr__(self) -> str:
        return as_call(self.kind, self.config, self.children)

    def _repr_html_(self) -> str:
        return html.view(html.outline(outline(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        # The three functions are closures, which don't pickle; what made them does.
        if self.origin is not None:
            rule, layer = self.origin
            return rule, (layer,)
        if self.rewritten:
            raise TypeError(f"{self.kind}: a rewritten layer does not pickle; pickle the network it was made of")
        return _made, (self.make, dict(self.config), dict(self.children))

    def __copy__(self) -> "Layer":
        return self

    def __deepcopy__(self, memo: object) -> "Layer":
        return self


def _made(make: Callable[..., Layer], config: Mapping[str, Any], children: Mapping[str, Layer]) -> Layer:
    return make(**config, **children)


def outline(layer: Layer, facts: Callable[[str], Sequence[str]] = lambda path: (), path: str = "") -> html.Line:
    """A layer and what it is made of as lines; `facts(path)` is what is known of the layer at a path."""
    code = as_call(layer.kind, layer.config) if layer.config or not layer.children else layer.kind
    inner = [outline(child, facts, f"{path}/{name}" if path else name) for name, child in layer.children.items()]
    held = ", held" if layer.held else f", {' and '.join(layer.held_params)} held" if layer.held_params else ""
    return html.Line(path.rpartition("/")[2], f"{code}{held}", facts(path), inner)


class LayerError(ValueError):
    """Something doesn't fit in a network; the message begins with the path of the layer."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.message = message
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return LayerError, (self.message, self.path)


class error_path:
    """Put `name` before the path of any error from within: combinators wrap every call of a child in it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, LayerError):
            path = f"{self._name}/{error.path}" if error.path else self._name
            raise LayerError(error.message, path) from error.__cause__
        if isinstance(error, (TypeError, ValueError, LookupError)):
            raise LayerError(str(error.args[0]) if error.args else repr(error), self._name) from error


def expect_layer(name: str, value: object) -> None:
    """Raise TypeError unless it is a layer, and not the constructor of one that somebody forgot to call."""
    instance(name, value, Layer, "a layer, such as fcnn.serial(…) or fcnn.relu()")


def expect_call(params: Tree, state: Tree, train: bool, key: Key | None) -> None:
    """Raise TypeError unless these are what every `apply` takes."""
    if (  # every call of every layer passes here: the usual case is told fast
        (train is True or train is False) and (key is None or type(key) is Key) and type(params) is type(state) is Tree
    ):
        return
    expect_values("params", params)
    expect_values("state", state)
    boolean("train", train)
    if key is not None:
        expect_key("key", key)


def expect_params(names: Collection[str], params: Tree) -> None:
    """Raise unless it is a tree with just these names: LayerError where it has others."""
    if params is EMPTY and not names:
        return
    if type(params) is not Tree:
        expect_values("params", params)
    if params.keys() != set(names):
        had, has = (", ".join(some) or "nothing" for some in (params, names))
        raise LayerError(f"the parameters have {had}, the layer has {has}")


def expect_values(name: str, value: object) -> None:
    """Raise TypeError unless it is a tree, and not all of what `init` or a training state holds."""
    if type(value) is Tree:
        return
    if hasattr(value, name):
        raise TypeError(f"{name} is a tree, got {told(value)}; its .{name} is one")
    expect_tree(name, value)


class Functions(NamedTuple):
    """The three functions of a layer, as a constructor's body returns them."""

    init: InitFn
    apply: ApplyFn
    backward: BackwardFn


def layer_constructor(body: Callable[P, Functions]) -> Callable[P, Layer]:
    """Turn a function from arguments to `Functions` into a constructor of layers.

    The layer's kind is the function's name, its config the arguments with which it was called. This is how every
    layer without children is made, and how to add one of your own:

    >>> from fcnn.values.tree import EMPTY
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

    def made(kind: str, config: Config, make: Callable[P, Layer], functions: Functions) -> Layer:
        if not isinstance(functions, tuple) or len(functions) != len(Functions._fields):
            raise TypeError(f"{kind} returns Functions(init, apply, backward), got {told(functions)}")
        init, apply, backward = functions
        return Layer(kind, config, {}, make, _checked(init), apply, backward)

    construct = constructor(
        instance("layer_constructor's argument", body, FunctionType, "a function that returns Functions"), made
    )
    construct.__annotations__ = {**body.__annotations__, "return": Layer}
    return construct


def _checked(init: InitFn) -> InitFn:
    """The same function for a key and a shape that are ones: it is called rarely, and checks for all layers."""

    @functools.wraps(init)
    def call(key: Key, in_shape: Shape, /) -> Init:
        expect_key("key", key)
        shape = lengths("in_shape", in_shape)
        try:
            return init(key, shape)
        except MemoryError as error:
            raise LayerError(
                f"the values for inputs {shape} don't fit into memory: {error or 'all is taken'}"
            ) from None

    return call
