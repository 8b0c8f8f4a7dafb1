"""A row of the tables of misuses (`test_misuse_*.py`): a call that is wrong, and all that it must say."""

from collections.abc import Callable
from typing import NamedTuple

import pytest


class Misuse(NamedTuple):
    """`call` raises an `error` of just that class with just that text: where, what was expected, what came."""

    name: str
    call: Callable[[], object]
    error: type[Exception]
    text: str


def check(misuse: Misuse) -> None:
    with pytest.raises(misuse.error) as caught:
        misuse.call()
    assert type(caught.value) is misuse.error
    assert str(caught.value) == misuse.text
