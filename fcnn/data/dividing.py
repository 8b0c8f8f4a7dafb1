"""Inputs divided into a training and a test part, class by class."""

from collections.abc import Iterable, Sequence

from fcnn.data.types import DataError
from fcnn.values.keys import Key, fold_in


def order_of(names: Iterable[str], key: Key) -> list[int]:
    """The numbers that put names into an order drawn by each alone: other names change nothing in it.

    >>> from fcnn.values.keys import key
    >>> names = ["a", "b", "c", "d"]
    >>> [names[k] for k in order_of(names, key(0))], [names[:3][k] for k in order_of(names[:3], key(0))]
    (['b', 'c', 'a', 'd'], ['b', 'c', 'a'])
    """
    drawn = [(fold_in(key, name).value, name) for name in names]
    return sorted(range(len(drawn)), key=drawn.__getitem__)


def divided(
    order: Iterable[int], labels: Sequence[int], classes: Sequence[str], share: float
) -> tuple[list[int], list[int]]:
    """The numbers of the training and of the test inputs, both in the order given.

    Of each class the first in that order are for testing: the share, rounded, and at least one input for either part.
    So a class that grows keeps most of its inputs where they were.

    Raises DataError for a class with fewer than two inputs.

    >>> divided([3, 0, 1, 2], [0, 0, 0, 1, 1], ["a", "b"], 0.5)
    Traceback (most recent call last):
    fcnn.data.types.DataError: the class b has one input; it takes two at least, one to train on and one to test with
    """
    by_class: list[list[int]] = [[] for _ in classes]
    order = list(order)
    for k in order:
        by_class[labels[k]].append(k)
    test: set[int] = set()
    for name, members in zip(classes, by_class, strict=True):
        if len(members) < 2:
            raise DataError(
                f"the class {name} has {'one' if members else 'no'} input; it takes two at least, one to train on and "
                "one to test with"
            )
        test.update(members[: min(max(1, round(share * len(members))), len(members) - 1)])
    return [k for k in order if k not in test], [k for k in order if k in test]
