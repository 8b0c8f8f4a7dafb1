"""Packages that may be missing, and what is said then.

The library needs NumPy and attrs; anything else is imported in the function that uses it.
"""

from importlib.util import find_spec


def expect_package(module: str, use: str, name: str = "") -> None:
    """Raise ModuleNotFoundError, with what to do, unless a module can be imported.

    Args:
        module: what is imported.
        use: what it is for, in a sentence that ends in what people call it.
        name: as pip knows it, where that is another.

    >>> expect_package("numpy", "arrays are those of NumPy")
    >>> expect_package("tea_leaves", "fate is read by Tealeaves", "tealeaves")
    Traceback (most recent call last):
    ModuleNotFoundError: fate is read by Tealeaves, which is missing; add it with: python -m pip install tealeaves
    """
    if find_spec(module) is None:
        advice = f"add it with: python -m pip install {name or module}"
        raise ModuleNotFoundError(f"{use}, which is missing; {advice}", name=module)


def expect_pillow() -> None:
    """Raise ModuleNotFoundError without Pillow."""
    expect_package("PIL", "pictures are read by Pillow", "pillow")
