"""When a signal may interrupt: between two steps of training, or after a block in which a process would be lost.

Python runs the handlers of signals in the main thread only, there between any two instructions.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

_HANDLED = [  # for which programs have handlers that raise
    int(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
]  # fmt: skip


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], int]]:
    """Let Ctrl-C (or a scheduler's SIGTERM) wait for the end of the step; a second one stops at once.

    So that what is kept is always the state after a whole step, with the numbers that belong to it. Gives a function
    that says which signal came, 0 while none has; if the block ends as if none had, the signal comes after it. In
    another thread than the main one, where Python hands out no signals, none ever does.
    """
    received = 0

    def handle(number: int, frame: Any) -> None:
        nonlocal received
        if received:
            at_once = before.get(number)
            if not callable(at_once):
                raise KeyboardInterrupt
            at_once(number, frame)  # as it would have been without this
            return
        received = number

    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, handle)
        yield lambda: received
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that wasn't set by Python
                signal.signal(number, handler)
    if received:
        signal.raise_signal(received)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let signals wait for the end of the block, in which an exception would lose a process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    holding, came = True, []
    before: dict[int, Any] = {}

    def handle(number: int, frame: Any) -> None:
        if holding:
            came.append(number)
        else:  # another signal's handler raised before this one's was put back
            signal.signal(number, before[number])
            before[number](number, frame)

    try:
        for number in _HANDLED:
            if callable(handler := signal.getsignal(number)):
                before[number] = handler
                signal.signal(number, handle)
        yield
    finally:
        holding = False
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)
