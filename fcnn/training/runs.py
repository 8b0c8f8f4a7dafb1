"""What a run keeps in its folder, and where one that was stopped goes on.

A checkpoint after each epoch (epoch-01.npz, …), one more where it was interrupted within an epoch (interrupted.npz),
and history.json. A checkpoint says by itself all that is needed to go on from it. A folder belongs to one run at a
time: who works in it holds a lock, which the system lets go of when the process ends, however it ends.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from fcnn.training.checkpoint import load, load_meta, save
from fcnn.training.epochs import Epoch, EpochTotals, History, Item
from fcnn.training.step import TrainState
from fcnn.values.files import replacing

INTERRUPTED = "interrupted.npz"


class RunError(ValueError):
    """A folder is not the run that was asked for, or belongs to another; the message says what to do."""


@attrs.frozen
class Progress:
    """How far a run has come: all that a checkpoint holds."""

    state: TrainState
    history: History = ()
    totals: EpochTotals = attrs.field(factory=EpochTotals)  # of the epoch that has begun

    def after(self, epoch: Epoch) -> "Progress":
        """Where a run is with one more epoch, or a part of one, from the stream of epochs."""
        if epoch.item is None:
            return Progress(epoch.state, self.history, epoch.totals)
        return Progress(epoch.state, (*self.history, epoch.item))


@attrs.frozen
class RunFolder:
    """A run's folder, claimed with `claimed`.

    meta: what each checkpoint also says, beside the history: for one, the settings of the run.
    """

    path: Path
    meta: Mapping[str, Any] = attrs.field(factory=dict)

    def save_epoch(self, progress: Progress) -> Path:
        """Write the checkpoint after a finished epoch, and history.json; an interrupted.npz from before goes."""
        path = self.epoch_file(progress.history[-1]["epoch"])
        self._save(path, progress)
        (self.path / INTERRUPTED).unlink(missing_ok=True)
        self.write_history(progress.history)
        return path

    def epoch_file(self, epoch: int) -> Path:
        """The checkpoint after an epoch, counted from 1."""
        return self.path / f"epoch-{epoch:02d}.npz"

    def save_interrupted(self, progress: Progress) -> Path:
        """Write a checkpoint from within an epoch."""
        path = self.path / INTERRUPTED
        self._save(path, progress)
        return path

    def write_history(self, history: Sequence[Item]) -> None:
        """Write history.json, in one step."""
        text = json.dumps({**self.meta, "epochs": list(history)}, indent=1)
        with replacing(self.path / "history.json") as file:
            file.write(text.encode())

    def _save(self, path: Path, progress: Progress) -> None:
        seen = attrs.asdict(progress.totals)
        save(path, progress.state, meta={**self.meta, "history": list(progress.history), "seen": seen})


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints after epochs that are there, in order."""
    found = {path: re.fullmatch(r"epoch-([0-9]+)\.npz", path.name) for path in folder.glob("epoch-*.npz")}
    return sorted(
        (path for path, name in found.items() if name), key=lambda path: int(path.stem.removeprefix("epoch-"))
    )


def has_checkpoint(folder: Path) -> bool:
    """Whether there is anything to go on from."""
    return bool(checkpoints(folder)) or (folder / INTERRUPTED).exists()


def furthest(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The checkpoint of a run that is furthest on, and what it says beside the training state.

    Raises RunError where there is none; CheckpointError where one that may be it is damaged.
    """
    found = [*checkpoints(folder)[-1:], *folder.glob(INTERRUPTED)]
    if not found:
        raise RunError(f"{folder} holds no checkpoint (epoch-01.npz, …) to go on from; start a run without resume")
    metas = {path: load_meta(path) for path in found}
    try:
        path = max(found, key=lambda path: (len(metas[path]["history"]), metas[path]["seen"]["images"]))
    except (KeyError, TypeError) as error:
        raise RunError(f"the checkpoints in {folder} were not written by a run (no {error})") from None
    return path, metas[path]


def progress_of(path: Path, meta: Mapping[str, Any], like: TrainState) -> Progress:
    """How far a run had come at a checkpoint; `like` is the state at its start."""
    return Progress(load(path, like=like), tuple(meta["history"]), EpochTotals(**meta["seen"]))


@contextlib.contextmanager
def claimed(path: Path, *, resume: bool, advice: str = "go on with resume, or choose another folder") -> Iterator[Path]:
    """Make or open a run's folder and hold it while the block runs.

    Raises RunError if another process holds it, or if it isn't empty and `resume` is false, as no run is overwritten;
    then with the `advice`.
    """
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"can't make the folder {path} ({error.strerror}); choose another") from None
    with _locked(path):
        try:
            if not resume and any(_others(path)):
                raise RunError(f"{path} is not empty; {advice}")
            yield path
        finally:
            with contextlib.suppress(OSError):
                for folder in new:  # a run that came to nothing leaves nothing behind
                    folder.rmdir()


def _others(path: Path) -> Iterator[Path]:
    """What is in the folder, but for what a killed process may have left half written."""
    return (one for one in path.iterdir() if not one.name.endswith(".tmp"))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a folder, where the system has such."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = not os.path.samestat(os.fstat(handle), os.stat(path))  # another run's end removed it meanwhile
        except (BlockingIOError, FileNotFoundError):
            gone = True
        except OSError:  # some network file systems have no locks
            gone = False
        if gone:
            message = f"{path} belongs to a run that is going on; choose another folder, or wait for its end"
            raise RunError(message)
        yield
    finally:
        os.close(handle)
