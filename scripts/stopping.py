"""How scripts stop when a signal tells them to: Ctrl-C's SIGINT, or SIGTERM; and how their processes stop with them.

One sentence on stderr, no traceback, and the exit code that shells use: 128 and the number of the signal. While a
script imports what it needs, which takes a second, a signal ends it there and then; later it raises, so that what was
begun is cleared up. Only this module may be imported before that.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 2.0  # seconds that clearing up may take before one more signal ends the process in the middle of it

_ending_since: float | None = None
_holding, _held = False, 0  # whether a signal has to wait, and the one that does


class Terminated(KeyboardInterrupt):
    """SIGTERM: it stops a script as Ctrl-C does."""


def code_of(interrupt: BaseException) -> int:
    """The exit code of a script that was interrupted."""
    return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


def word_for(interrupt: BaseException) -> str:
    """What happened to it."""
    return "terminated" if isinstance(interrupt, Terminated) else "interrupted"


def at_once(module: str) -> None:
    """Let a signal end the program at once, if `module` is the name of the script that was started."""
    if module == "__main__":
        _install(lambda number, frame: _exit(_interrupt(number)))


def raising() -> None:
    """Let the first signal raise KeyboardInterrupt or Terminated; more of them change nothing for some time."""
    global _ending_since
    _ending_since = None
    _install(_raise)
    # What interrupts a finalizer is dropped there, and the program would go on.
    sys.unraisablehook = _end_if_interrupted


def ending() -> None:
    """Say that the script is about to end anyway."""
    global _ending_since
    _ending_since = time.monotonic()
    if hasattr(signal, "setitimer"):  # a signal that waits for an import would kill a Python that is ending
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def sparing_children() -> Iterator[None]:
    """Keep signals from the processes that are started in the block, until they call `as_child`.

    What this one gets waits for the end of the block, so that no process is started and then forgotten.
    """
    global _holding, _held
    mask = None
    _holding = True
    try:
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            from multiprocessing import resource_tracker

            resource_tracker.ensure_running()  # which would let signals through again
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _holding, number, _held = False, _held, 0
        if number:
            _raise(number, None)


def as_child() -> None:
    """What a process that multiprocessing started does first: leave signals to its parent, and end when that ends."""
    for number in SIGNALS:  # Ctrl-C reaches the whole group
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _install(handler: Any) -> None:
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as a shell does for what it starts in the background
            signal.signal(number, handler)


def _raise(number: int, frame: Any) -> None:
    global _held
    if _holding:  # another thread may get what this one doesn't
        _held = number
        return
    if _ending_since is None and hasattr(signal, "setitimer") and _in_an_import(frame):
        # Compiled modules turn what is raised while they begin into an ImportError, or crash: it waits for them.
        signal.signal(signal.SIGALRM, lambda _, later: _raise(number, later))
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        return
    if _ending_since is None:
        ending()
        raise _interrupt(number)
    if time.monotonic() - _ending_since > PATIENCE:
        os._exit(128 + number)


def _in_an_import(frame: Any) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            return True
        frame = frame.f_back
    return False


def _interrupt(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def _exit(interrupt: BaseException) -> None:
    for number in SIGNALS:  # one more would say the same once more
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.write(2, f"\n{word_for(interrupt)}\n".encode())
    os._exit(code_of(interrupt))


def _end_if_interrupted(unraisable: Any) -> None:
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        _exit(unraisable.exc_value)
    sys.__unraisablehook__(unraisable)
