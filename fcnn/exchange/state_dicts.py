"""Which of what PyTorch saved are a network's values: all, or those in a part of a checkpoint."""

from collections.abc import Mapping
from typing import Any

import attrs

from fcnn.values.pickles import PickleError, kind_of
from fcnn.values.text import is_name, printable

_WRAPPERS = ("model", "state_dict", "model_state_dict")  # where a checkpoint has a network's values
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
_MOST_LISTED = 10


@attrs.frozen
class Storage:
    """Numbers that lie in the file under a key; what a tensor says of them."""

    key: str
    dtype: str | None  # None where only a tensor knows it
    numel: int  # or bytes, without a dtype
    begin: int = 0  # of a view of it, as PyTorch 0.2 had them


@attrs.frozen
class Tensor:
    """Where a tensor's numbers lie in its storage; offset and strides count numbers."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def chosen(root: object, part: str | None) -> dict[str, Tensor]:
    """The tensors of a state_dict by name, without prefixes that all names have.

    Raises PickleError where there are none, where it isn't clear which are meant, and for a name that is none.
    """
    if not isinstance(root, dict):
        what = "one tensor" if isinstance(root, Tensor) else kind_of(root)
        raise PickleError(f"it holds {what}, no values by name; save a state_dict")
    found = _tensors(_part(root, part))
    if not found:
        raise PickleError(f"it holds no tensors by name; it has {_listed(root)}")
    for name in found:
        if not is_name(name):
            raise PickleError(f"{printable(name)} is the name of a tensor, and no text that can be one")
    for prefix in _PREFIXES * 2:
        if all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def _part(root: dict[str, Any], part: str | None) -> object:
    """Where in the root the values are; the root itself where no part of it has tensors."""
    looked: dict[int, bool] = {}  # by identity: many names may stand for one part
    for value in root.values():
        if id(value) not in looked:
            looked[id(value)] = bool(_tensors(value))
    parts = {name: value for name, value in root.items() if isinstance(name, str) and looked[id(value)]}
    if part is not None:
        if part not in parts:
            raise PickleError(f"it has no part {printable(part)} of tensors by name; it has {_listed(parts)}")
        return parts[part]
    wrapped = [name for name in _WRAPPERS if name in parts] or list(parts)
    if len(wrapped) > 1:
        raise PickleError(f"it has several parts with tensors: {_listed(parts)}; say which with part=…")
    return parts[wrapped[0]] if wrapped else root


def _tensors(value: object) -> dict[str, Tensor]:
    items = value.items() if isinstance(value, dict) else ()
    return {name: one for name, one in items if isinstance(name, str) and isinstance(one, Tensor)}


def _listed(names: Mapping[Any, object]) -> str:
    shown = [printable(name) for name in names if isinstance(name, str)]
    more = [f"{len(shown) - _MOST_LISTED} more"] if len(shown) > _MOST_LISTED else []
    return ", ".join(shown[:_MOST_LISTED] + more) or "none"
