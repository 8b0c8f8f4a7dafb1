"""The contract of optimizers and of what they are made of: a pure transform of updates, with a state of its own."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, ParamSpec

import attrs

from fcnn.values import tree
from fcnn.values.checks import FLOATS, MOST_STEPS, function, instance, integer, told
from fcnn.values.configuration import Config, as_call, constructor
from fcnn.values.tree import EMPTY, Tree, expect_tree

P = ParamSpec("P")


class Updated(NamedTuple):
    """What `Transform.update` gives."""

    updates: Tree
    state: Tree


@attrs.frozen(repr=False)
class Transform:
    """`init(params) -> state` and `update(updates, state, params, step) -> (updates, state)`.

    `parts` are the transforms of a chain, so that a chain within a chain lies flat. `text` is how it prints: those made
    here print as the call that made them.
    """

    name: str
    init: Callable[[Tree], Tree]
    update: Callable[[Tree, Tree, Tree, int], Updated]
    parts: "tuple[Transform, ...]" = ()
    text: str = ""
    _maker: "Maker | None" = attrs.field(default=None, eq=False)

    def __attrs_post_init__(self) -> None:
        instance("a transform's name", self.name, str, 'text, such as "sgd"')
        function("a transform's init", self.init, "a function of parameters that gives a state")
        function("a transform's update", self.update, "a function (updates, state, params, step)")

    def __repr__(self) -> str:
        return self.text or f"{self.name}()"

    def __reduce__(self) -> tuple[Any, ...]:
        # Both functions are closures, which don't pickle; what made them does.
        if self._maker is not None and self._maker.update is self.update:
            return self._maker.config.remaking(self._maker.make)
        return Transform, (self.name, self.init, self.update, self.parts, self.text)

    def __copy__(self) -> "Transform":
        return self

    def __deepcopy__(self, memo: object) -> "Transform":
        return self


class Maker(NamedTuple):
    """The constructor of a transform, its arguments, and the update that it made: a changed one has another."""

    make: Callable[..., Transform]
    config: Config
    update: Callable[[Tree, Tree, Tree, int], Updated]


def expect_transform(name: str, value: object) -> Transform:
    """`value`, if it is an optimizer or a part of one."""
    return instance(name, value, Transform, "a transform, such as fcnn.adam(1e-3)")


def transform_constructor(body: Callable[P, Transform]) -> Callable[P, Transform]:
    """A function called as `body` is; its transform prints as the call that made it, and looks at what it is given."""

    def record(kind: str, config: Config, make: Callable[..., Transform], transform: Transform) -> Transform:
        of = transform.update

        def init(params: Tree) -> Tree:
            for path, leaf in tree.leaves(expect_tree("params", params)):
                if leaf.dtype.type not in FLOATS:
                    raise TypeError(
                        f"{kind} learns parameters of float32 or float64, got {path} as {leaf.dtype}"
                        + ("; fcnn.tree.astype(params, np.float32) makes such" if leaf.dtype.kind in "biuf" else "")
                    )
            return transform.init(params)

        def update(updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
            if not (
                type(updates) is type(state) is type(params) is Tree and type(step) is int and 0 <= step <= MOST_STEPS
            ):
                expect_tree("updates", updates)
                expect_tree("state", state)
                expect_tree("params", params)
                step = integer("step", step, least=0, most=MOST_STEPS)
            return of(updates, state, params, step)

        return attrs.evolve(
            transform, init=init, update=update, text=as_call(kind, config), maker=Maker(make, config, update)
        )

    return constructor(body, record)


def stateless(params: Tree) -> Tree:
    """The `init` of a transform that keeps nothing."""
    return EMPTY


def updated(transform: Transform, updates: Tree, state: Tree, params: Tree, step: int) -> Updated:
    """What anybody's transform gives, if it is two trees."""
    found = transform.update(updates, state, params, step)
    if type(found) is Updated and type(found[0]) is type(found[1]) is Tree:
        return found  # every step passes here several times: the usual case is told fast
    if not isinstance(found, tuple) or len(found) != 2 or not all(isinstance(part, Tree) for part in found):
        raise TypeError(f"a transform's update gives two trees (updates, state), {transform} gave {told(found)}")
    return Updated(*found)


def expect_state(state: Tree, names: Mapping[str, None], *, all_of_them: bool = False) -> None:
    """Raise ValueError if the state has other names, and so is another optimizer's."""
    if not state.keys() <= names.keys() or (all_of_them and len(state) != len(names)):
        ours = f"{'keeps' if all_of_them else 'is made of'} {', '.join(names) or 'nothing'}"
        raise ValueError(
            f"the state is another optimizer's: it has {', '.join(state) or 'nothing'}, this one {ours}; "
            "optimizer.init(params) makes a new one"
        )
