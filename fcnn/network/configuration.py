"""What a constructor was called with, as a value: layers and initializers keep it, to be printed and made again."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")
Made = TypeVar("Made")

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

    def __str__(self) -> str:
        parts = []
        for name, value in self._values.items():
            default = self._signature.parameters[name].default if self._signature else None
            if self._signature and default is inspect.Parameter.empty:
                parts.append(repr(value))
            elif not self._signature or value != default:
                parts.append(f"{name}={value!r}")
        return ", ".join(parts)


def _immutable(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
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
        arguments = signature.bind(*args, **kwargs)
        arguments.apply_defaults()
        return record(body.__name__, Config(arguments.arguments, signature), construct, body(*args, **kwargs))

    return construct


def tells_new_names(function: Callable[P, R]) -> Callable[P, R]:
    """The same function; called with an argument's old name, it raises a TypeError that tells the new one."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        _refuse_old_names(signature, function.__name__, kwargs)
        return function(*args, **kwargs)

    return call


def _refuse_old_names(signature: inspect.Signature, name: str, kwargs: Mapping[str, Any]) -> None:
    for old, new in _RENAMED.items():
        if old in kwargs and old not in signature.parameters and new in signature.parameters:
            raise TypeError(f"{name}() got {old}=, which is now called {new}=")
