"""Which constructors there are: for the tests that a table has a row for each."""

import importlib
import pkgutil
from typing import Any

import fcnn


def constructors(kind: Any) -> set[str]:
    """The names of all public functions of `fcnn` and of `fcnn.training` that make something of this kind."""
    found = pkgutil.walk_packages(fcnn.training.__path__, "fcnn.training.")
    modules = [fcnn, *(importlib.import_module(module.name) for module in found)]
    return {
        name
        for module in modules
        for name, value in vars(module).items()
        if not name.startswith("_") and hasattr(value, "__wrapped__") and value.__annotations__.get("return") == kind
    }
