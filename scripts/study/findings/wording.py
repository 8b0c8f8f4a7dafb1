"""How the study writes numbers and names: the one place where a result becomes text."""

from collections.abc import Mapping, Sequence
from typing import Any

NAMES = {
    "fcnn": "fcnn (NumPy)",
    "pytorch": "PyTorch",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "digits": "embedded digits",
    "he": "He",
    "xavier": "Xavier",
    "kaiming_uniform": "PyTorch's default",
    "train_size": "training size",
    "framework": "framework",
    "init": "initialisation",
    "seeds": "seed (chance)",
    "interactions": "interactions",
    "adam": "Adam",
    "sgd": "SGD with momentum",
}
NOTHING = "–"


def name_of(word: str) -> str:
    """What readers call it.

    >>> name_of("cifar10")
    'CIFAR-10'
    """
    return NAMES.get(word, word)


def percent(share: float | None, digits: int = 2) -> str:
    """A share as a percentage.

    >>> percent(0.98765), percent(None)
    ('98.77 %', '–')
    """
    return NOTHING if share is None else f"{100 * share:.{digits}f} %"


def points(share: float | None, digits: int = 2) -> str:
    """A difference of shares in percentage points, signed.

    >>> points(-0.0312), points(0.001)
    ('−3.12', '+0.10')
    """
    return NOTHING if share is None else f"{100 * share:+.{digits}f}".replace("-", "−")


def size_of(share: float, digits: int = 2) -> str:
    """The same without a sign, with its unit.

    >>> size_of(-0.0312)
    '3.12 points'
    """
    return f"{abs(100 * share):.{digits}f} points"


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """A 95 % interval in per cent.

    >>> interval(0.98, 0.991)
    '98.00 to 99.10'
    """
    return NOTHING if low is None or high is None else f"{100 * low:.{digits}f} to {100 * high:.{digits}f}"


def points_interval(spread: Mapping[str, Any] | None) -> str:
    """A difference and its 95 % interval, in points.

    >>> points_interval({"mean": 0.01, "low": 0.002, "high": 0.018})
    '+1.00 (+0.20 to +1.80)'
    """
    if spread is None:
        return NOTHING
    if spread["low"] is None:
        return f"{points(spread['mean'])} (one pair)"
    return f"{points(spread['mean'])} ({points(spread['low'])} to {points(spread['high'])})"


def estimate(spread: Mapping[str, Any]) -> str:
    """A mean accuracy, with what is known about its uncertainty.

    >>> estimate({"mean": 0.987, "low": 0.986, "high": 0.988, "n": 5})
    '98.70 % (mean of 5 seeds; 95 % interval 98.60 to 98.80)'
    """
    if spread["low"] is None:
        return f"{percent(spread['mean'])} (one seed)"
    limits = interval(spread["low"], spread["high"])
    return f"{percent(spread['mean'])} (mean of {spread['n']} seeds; 95 % interval {limits})"


def count(number: float | None) -> str:
    """A whole number with commas.

    >>> count(60000.2)
    '60,000'
    """
    return NOTHING if number is None else f"{number:,.0f}"


def rounded(number: float) -> str:
    """A number that is only roughly known: two figures.

    >>> rounded(3217), rounded(12345)
    ('3,200', '12,000')
    """
    return f"{float(f'{number:.2g}'):,.0f}"


def seconds(number: float | None) -> str:
    """Seconds with three figures or so.

    >>> seconds(66.574), seconds(3.0421)
    ('66.6 s', '3.04 s')
    """
    return NOTHING if number is None else f"{number:.{1 if number >= 10 else 2}f} s"


def times_as_fast(speed: float) -> str:
    """A ratio of speeds, above 1 for faster.

    >>> times_as_fast(1.524), times_as_fast(0.91)
    ('1.52 times as fast', '0.91 times as fast')
    """
    return f"{speed:.2f} times as fast"


def speed_interval(speed: Mapping[str, Any]) -> str:
    """How fast fcnn is beside PyTorch, with the least and the most of the pairs of epochs.

    >>> speed_interval({"median": 1.52, "least": 1.48, "most": 1.6, "n": 3})
    '1.52 times as fast as PyTorch (1.48 to 1.60 over three epochs each)'
    """
    n = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}.get(speed["n"], str(speed["n"]))
    pairs = f"{speed['least']:.2f} to {speed['most']:.2f} over {n} epochs each" if speed["n"] > 1 else "one epoch each"
    return f"{times_as_fast(speed['median'])} as PyTorch ({pairs})"


def tiny(number: float | None) -> str:
    """An error or a gap, as a power of ten.

    >>> tiny(1.23e-10)
    '1.2e-10'
    """
    return NOTHING if number is None else f"{number:.1e}"


def listed(words: Sequence[str]) -> str:
    """Words with commas and a last "and".

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
