"""What scripts have in common at the terminal: how they start and stop, and how they load data.

Exit codes are those that shells use: 128 and the number of the signal where one ended the script, 130 for Ctrl-C, 143
for SIGTERM, and 141 where nobody reads the output any more, as of `… | head`; 2 for a wrong command line, 1 for all
else that goes wrong.
"""

import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import stopping

import fcnn
from fcnn.values.text import printable

UNREAD = 141  # 128 and SIGPIPE, which Python turns into a BrokenPipeError
_MOST_LEFT_OUT = 100  # pictures that are named


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
    except ModuleNotFoundError as error:
        advice = "" if "pip install" in str(error) else '; python -m pip install -e ".[full]" adds what scripts need'
        print(f"error: {error}{advice}", file=sys.stderr)
        return 1
    except OSError as error:  # the output's
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still in its buffer
        if isinstance(error, BrokenPipeError):
            return UNREAD
        print(f"error: the output can't be written ({error.strerror})", file=sys.stderr)
        return 1


def in_sentences(work: Callable[[], int]) -> int:
    """The exit code that a script's work gives; whatever stops it is said in a line on stderr."""
    try:
        return work()
    except BrokenPipeError:
        raise  # nobody reads the output any more, and nobody is told
    except (Stop, fcnn.data.DataError, ValueError, ImportError, OSError) as error:
        complain(str(error))
        return 1
    except MemoryError as error:
        complain(f"not enough memory ({error})" if str(error) else "not enough memory")
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"\n{stopping.word_for(interrupt)}", file=sys.stderr)
        return stopping.code_of(interrupt)


def is_folder(name: str) -> bool:
    """Whether data is a folder of pictures, as far as its name says."""
    return fcnn.data.is_own(name) and not name.endswith(".npz")


def load_data(name: str, root: str | None, **how: Any) -> fcnn.Dataset:
    """Load what is named, with a bar while it comes; what is left out of a folder of pictures is told on stderr."""
    unit = " pictures" if fcnn.data.is_own(name) else "B"
    with fcnn.data.bars(unit) as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", fcnn.data.DataWarning)  # it is told here, in full
        data = fcnn.data.load(name, root, progress=progress, **how)
    if isinstance(data, fcnn.data.PictureFolder):
        told = [f"left out: {file}: {reason}" for file, reason in data.left_out.items()]
        more = [f"left out: {len(told) - _MOST_LEFT_OUT:,} more"] if len(told) > _MOST_LEFT_OUT else []
        print(*told[:_MOST_LEFT_OUT], *more, sep="\n", end="\n" if told else "", file=sys.stderr)
    return data


def complain(message: str) -> None:
    """Say in one line on stderr what is wrong; of a list of differences the first three."""
    first, *others = message.split("\n  ")
    more = f"; and {len(others) - 3} more" if len(others) > 3 else ""
    print("error:", printable(" ".join(f"{first} {'; '.join(others[:3])}{more}".split()), None), file=sys.stderr)
