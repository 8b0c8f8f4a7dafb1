"""How far training is: a bar in a terminal or a notebook, lines where tqdm is missing, nothing in a file."""

import contextlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from fcnn.training.epochs import Display, EpochTotals
from fcnn.training.step import Record


@contextlib.contextmanager
def display(total: int, wanted: bool) -> Iterator[Display]:
    """How training over `total` inputs an epoch is shown where this runs."""
    notebook = "ipykernel" in sys.modules
    if not wanted or not (notebook or (sys.stderr is not None and sys.stderr.isatty())):
        yield _Nothing()
    elif find_spec("tqdm") is None:
        yield _Lines()
    else:
        bars = _Bars(total, in_widgets=notebook and find_spec("ipywidgets") is not None)
        try:
            yield bars
        finally:
            bars.close()


class _Nothing:
    def begin(self, epoch: int, of: int, done: int) -> None:
        pass

    def step(self, record: Record, totals: EpochTotals) -> None:
        pass

    def end(self, line: str) -> None:
        pass


class _Lines(_Nothing):
    def end(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class _Bars:
    def __init__(self, total: int, in_widgets: bool) -> None:
        self._total = total
        self._in_widgets = in_widgets
        self._bar: Any = None

    def begin(self, epoch: int, of: int, done: int) -> None:
        if self._in_widgets:
            from tqdm.notebook import tqdm
        else:
            from tqdm import tqdm
        self._bar = tqdm(
            desc=f"epoch {epoch}/{of}", unit=" inputs", total=self._total, initial=done, unit_scale=True, leave=False,
            dynamic_ncols=True,
        )  # fmt: skip

    def step(self, record: Record, totals: EpochTotals) -> None:
        right = "" if totals.accuracy is None else f", accuracy {totals.accuracy:.2%}"
        self._bar.update(record.size)
        self._bar.set_postfix_str(f"loss {record.loss:.3f}{right}", refresh=False)

    def end(self, line: str) -> None:
        self._bar.write(line, file=sys.stderr)
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
