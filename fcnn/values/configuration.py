"""What a constructor was called with, as a value that prints as the call.

Layers and initializers keep it, to be made again; losses, schedules and optimizers, to say what they are.
"""

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import attrs
import numpy as np

P = ParamSpec("P")
R = TypeVar("R")
Made = TypeVar("Made")
F = TypeVar("F", bound=Callable[..., Any])

_BY_NAME = inspect.Parameter.KEYWORD_ONLY

# Old names of arguments: whoever still uses one is told the new one.
_RENAMED = {"init": "weights", "bias_init": "biases"}


class Config(Mapping[str, Any]):
    """Arguments by name, in order; prints as the call would be typed, defaults left out."""

    def __init__(self, values: Mapping[str, Any], signature: inspect.Signature | None = None) -> None:
        self._values = {name: _immutable(value) for name, value in values.items()}
        self._signature = signature

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def remaking(self, make: Callable[..., R]) -> tuple[Callable[..., R], tuple[Any, ...]]:
        """`make` called so again, as `__reduce__` gives it: pickles by the constructor's import name."""
        if self._signature is None:
            return functools.partial(make, **self._values), ()
        bound = inspect.BoundArguments(self._signature, OrderedDict(self._values))
        return functools.partial(make, **bound.kwargs), bound.args

    def without_arrays(self) -> "Config":
        """The same with tuples of numbers for arrays of one axis."""
        values = {
            name: tuple(value.tolist()) if isinstance(value, np.ndarray) and value.ndim == 1 else value
            for name, value in self._values.items()
        }
        return Config(values, self._signature)

    def __str__(self) -> str:
        parts: list[str] = []
        for name, value in self._values.items():
            parameter = self._signature.parameters[name] if self._signature else None
            if parameter is not None and parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                parts += map(repr, value)
            elif parameter is not None and parameter.default is parameter.empty and parameter.kind is not _BY_NAME:
                parts.append(repr(value))
            elif parameter is None or value != parameter.default:
                parts.append(f"{name}={value!r}")
        return ", ".join(parts)


def _immutable(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return dict(value)
    return tuple(map(_immutable, value)) if isinstance(value, (list, tuple)) else value


def as_call(name: str, config: Mapping[str, Any], parts: Mapping[str, Any] | None = None) -> str:
    """A constructor's call as it would be typed; what has parts and doesn't fit in a line takes one for each."""
    inner = [str(config)] if str(config) else []
    inner += [f"{part}={value!r}" for part, value in (parts or {}).items()]
    line = f"{name}({', '.join(inner)})"
    if len(line) <= 88 or not parts:
        return line
    return f"{name}(\n    " + ",\n".join(inner).replace("\n", "\n    ") + ",\n)"


def constructor(body: Callable[P, Made], record: Callable[[str, Config, Callable[..., R], Made], R]) -> Callable[P, R]:
    """A function called as `body` is, that gives `record(body's name, the arguments, itself, what body returns)`."""
    signature = inspect.signature(body)

    @functools.wraps(body)
    def construct(*args: P.args, **kwargs: P.kwargs) -> R:
        _refuse_old_names(signature, body.__name__, kwargs)
        try:
            arguments = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{body.__name__}() {error}; it takes {_parameters(signature)}") from None
        arguments.apply_defaults()
        made = body(*args, **kwargs)  # which refuses what is no argument
        return record(body.__name__, Config(arguments.arguments, signature), construct, made)

    return construct


def _parameters(signature: inspect.Signature) -> str:
    """What can be passed: without `=` what is needed, and after `*` by name only."""
    found: list[str] = []
    for name, parameter in signature.parameters.items():
        if parameter.kind is _BY_NAME and not any(one.startswith("*") for one in found):
            found.append("*")
        several = parameter.kind is inspect.Parameter.VAR_POSITIONAL
        found.append(f"*{name}" if several else name if parameter.default is parameter.empty else f"{name}=")
    return f"({', '.join(found)})"


def prints_as_call(body: Callable[P, F]) -> Callable[P, F]:
    """A function called as `body` is; the function that it returns prints as the call that made it.

    >>> @prints_as_call
    ... def constant_rate(value: float):
    ...     return lambda step: value
    >>> constant_rate(0.1), constant_rate(0.1)(7)
    (constant_rate(0.1), 0.1)
    """

    def printed(kind: str, config: Config, make: Callable[..., F], made: F) -> F:
        plain = config.without_arrays()
        return cast(F, _Printed(as_call(kind, plain), made, make, plain))

    return constructor(body, printed)


@attrs.frozen(repr=False, eq=False)
class _Printed:
    text: str
    function: Callable[..., Any]
    make: Callable[..., Any]
    config: Config

    def __reduce__(self) -> tuple[Any, ...]:  # the function is a closure, which doesn't pickle; what made it does
        return self.config.remaking(self.make)

    def __copy__(self) -> "_Printed":
        return self

    def __deepcopy__(self, memo: object) -> "_Printed":
        return self

    def __getattr__(self, name: str) -> Any:  # what the function has besides, such as a loss's weights
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.function, name)

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __repr__(self) -> str:
        return self.text


def tells_new_names(function: Callable[P, R]) -> Callable[P, R]:
    """The same function; called with an argument's old name, it raises a TypeError that tells the new one."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        _refuse_old_names(signature, function.__name__, kwargs)
        return function(*args, **kwargs)

    return call


def one_by_one(name: str, what: str, arguments: Sequence[object]) -> None:
    """Raise TypeError where what a function takes as so many arguments is in a list, as other libraries take it.

    >>> one_by_one("serial", "layers", [["a", "b"]])
    Traceback (most recent call last):
    ...
    TypeError: serial takes its layers one by one, got a list of them; write serial(*layers)
    """
    only = arguments[0] if len(arguments) == 1 else None
    if isinstance(only, (list, tuple, dict)):
        stars = "**" if isinstance(only, dict) else "*"
        raise TypeError(
            f"{name} takes its {what} one by one, got a {type(only).__name__} of them; write {name}({stars}{what})"
        )


def _refuse_old_names(signature: inspect.Signature, name: str, kwargs: Mapping[str, Any]) -> None:
    for old, new in _RENAMED.items():
        if old in kwargs and old not in signature.parameters and new in signature.parameters:
            raise TypeError(f"{name}() got {old}=, which is now called {new}=")
