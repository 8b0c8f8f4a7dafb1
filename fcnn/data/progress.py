"""How far reading or downloading is, as bars where somebody watches."""

import contextlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from fcnn.data.types import Progress
from fcnn.values.checks import instance


@contextlib.contextmanager
def bars(unit: str = "B") -> Iterator[Progress]:
    """What `load` and `folder` take as `progress`: a bar for each description, which vanishes at the block's end.

    In a terminal or a notebook; nothing in a file, or where tqdm is missing. `unit` is of what is counted: "B" for
    downloads, " pictures" for folders.

    >>> with bars(" pictures") as progress:
    ...     progress("pictures in flowers", 1, 2)
    """
    instance("unit", unit, str, "text")
    shown: dict[str, Any] = {}

    def progress(description: str, done: int, total: int | None) -> None:
        if description not in shown:
            shown[description] = _bar(description, unit, total)
        shown[description].update(done - shown[description].n)

    notebook = "ipykernel" in sys.modules
    if find_spec("tqdm") is None or not (notebook or (sys.stderr is not None and sys.stderr.isatty())):
        yield _nothing
        return
    try:
        yield progress
    finally:
        for bar in shown.values():
            bar.close()


def _bar(description: str, unit: str, total: int | None) -> Any:
    if "ipykernel" in sys.modules and find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm
    else:
        from tqdm import tqdm
    return tqdm(desc=description, unit=unit, total=total, unit_scale=True, leave=False, dynamic_ncols=True)


def _nothing(description: str, done: int, total: int | None) -> None:
    pass
