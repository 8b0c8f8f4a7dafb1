"""A network with its values: all that it takes to use it."""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

from fcnn.network.description import inits
from fcnn.network.layer import Layer, LayerError, Shape, expect_values, outline
from fcnn.values import html
from fcnn.values.checks import lengths, mapping, texts, told
from fcnn.values.tree import EMPTY, Tree, size


def _shape(shape: Any) -> Shape:
    return lengths("in_shape", shape)


def _names(names: Any) -> tuple[str, ...]:
    return texts("classes", names, "names, one for each output")


def _meta(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(mapping("meta", meta, "a mapping that JSON can hold")))


@attrs.frozen(eq=False, repr=False)
class Model:
    """A network, its parameters and state, what goes in, and what comes out.

    network: the layers.
    params, state: trees as `network.init` makes them.
    in_shape: one input's shape without the batch axis, such as (1, 28, 28).
    classes: the names of the outputs, in order; empty where they have none.
    meta: anything else that JSON can hold.
    """

    network: Layer
    params: Tree
    state: Tree = EMPTY
    in_shape: Shape = attrs.field(converter=_shape, kw_only=True)
    classes: tuple[str, ...] = attrs.field(converter=_names, default=(), kw_only=True)
    meta: Mapping[str, Any] = attrs.field(converter=_meta, factory=dict, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.network, Layer):
            raise LayerError(f"a model is of a network, got {told(self.network)}")
        expect_values("params", self.params)
        expect_values("state", self.state)

    def __reduce__(self) -> tuple[Any, ...]:
        more: dict[str, Any] = {"in_shape": self.in_shape, "classes": self.classes, "meta": dict(self.meta)}
        return functools.partial(Model, **more), (self.network, self.params, self.state)

    def __repr__(self) -> str:
        named = f", {len(self.classes)} classes" if self.classes else ""
        return f"Model({self.network.kind}, {size(self.params):,} parameters, inputs {self.in_shape}{named})"

    def _repr_html_(self) -> str:
        """The layers with their output shapes, parameters and multiply-adds for one input."""
        notes = [f"classes: {', '.join(self.classes)}"] if self.classes else []
        notes += [f"meta: {dict(self.meta)}"] if self.meta else []
        try:
            made = inits(self.network, self.in_shape)
        except ValueError as error:
            made = {}
            notes += [f"It takes no inputs of this shape: {error}"]

        def facts(path: str) -> list[str]:
            if path not in made:
                return []
            params, _, shape, macs = made[path]
            counts = ((size(params), "parameter"), (macs, "multiply-add"))
            return [f"→ {shape}", *(html.counted(number, noun) if number else "" for number, noun in counts)]

        heading = f"Model: inputs {self.in_shape}, {html.counted(size(self.params), 'parameter')}"
        lines = html.outline(outline(self.network, facts))
        return html.view(html.fold(heading, *map(html.paragraph, notes), lines))


def expect_model(name: str, value: object) -> Model:
    """`value`, if it is a model; of what holds one, or is a part of one, the error says how one is had."""
    if isinstance(value, Model):
        return value
    advice = "; take its .model" if isinstance(getattr(value, "model", None), Model) else ""
    advice = "; fcnn.Model(network, params, state, in_shape=…) makes one" if isinstance(value, Layer) else advice
    raise TypeError(f"{name} is a Model, such as fitted.model, got {told(value)}{advice}")
