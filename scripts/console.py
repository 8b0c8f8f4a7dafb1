"""What scripts have in common at the terminal: how they stop, and bars for what takes long."""

from typing import Any

from tqdm import tqdm

import fcnn


class Stop(Exception):
    """The script can't go on; the message is what the user reads."""


def progress_bar(description: str, unit: str, total: int | None, done: int = 0) -> "tqdm[Any]":
    """A bar that vanishes when it is closed; none where the output is no terminal."""
    return tqdm(
        desc=description,
        unit=unit,
        total=total,
        initial=done,
        unit_scale=True,
        leave=False,
        dynamic_ncols=True,
        disable=None,
    )


def load_data(name: str, root: str | None) -> fcnn.Dataset:
    """Load a data set, with a bar for each download."""
    bars: dict[str, tqdm[Any]] = {}

    def progress(description: str, done: int, total: int | None) -> None:
        if description not in bars:
            bars[description] = progress_bar(description, "B", total)
        bars[description].update(done - bars[description].n)

    try:
        return fcnn.data.load(name, root, progress=progress)
    finally:
        for bar in bars.values():
            bar.close()
