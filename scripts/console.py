"""What scripts have in common at the terminal: how they start and stop, and bars for what takes long.

Exit codes are those that shells use: 128 and the number of the signal where one ended the script, 130 for Ctrl-C, 143
for SIGTERM, and 141 where nobody reads the output any more, as of `… | head`; 2 for a wrong command line, 1 for all
else that goes wrong.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import stopping
from tqdm import tqdm

import fcnn

UNREAD = 141  # 128 and SIGPIPE, which Python turns into a BrokenPipeError


class Stop(Exception):
    """The script can't go on; the message is what the user reads."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def program(main: Callable[[], int]) -> int:
    """Run a script's `main`, whatever its output is: closed, a pipe that nobody reads, or of few characters."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream: Any = getattr(sys, name)
        if stream is None:  # closed: a file would get its number, and what is written there for the user
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 (for good)
        elif number:
            stream.reconfigure(errors="backslashreplace")
    stopping.raising()
    try:
        try:
            return main()
        except KeyboardInterrupt as interrupt:
            print(f"\n{stopping.word_for(interrupt)}", file=sys.stderr)
            return stopping.code_of(interrupt)
        finally:
            stopping.ending()
            sys.stdout.flush()
    except OSError as error:  # the output's
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still in its buffer
        if isinstance(error, BrokenPipeError):
            return UNREAD
        print(f"error: the output can't be written ({error.strerror})", file=sys.stderr)
        return 1


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
