"""What a run keeps in its folder, and where one that was stopped goes on.

A checkpoint after each epoch (epoch-01.npz, …), one more where it was interrupted within an epoch (interrupted.npz),
and history.json. A checkpoint says by itself all that is needed to go on from it.

A folder belongs to one run at a time. Who works in it holds a lock on a file in it, .lock, which the system lets go of
when the process ends, however it ends. Where files can't be locked, that the file is there is the claim.
"""

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs

from fcnn.training.checkpoint import CheckpointError, load, load_meta, save
from fcnn.training.epochs import Epoch, EpochTotals, History, Item
from fcnn.training.step import TrainState
from fcnn.values.files import is_leftover, remove_leftovers, replacing
from fcnn.values.locks import is_at, lock

INTERRUPTED = "interrupted.npz"
_LOCK = ".lock"
_LATER = {"weight", "counted"}  # of an epoch's totals, which files from before don't have: each input counted alike
T = TypeVar("T")
_TEMPORARY: int = getattr(os, "O_TEMPORARY", 0)  # Windows removes such a file when its process ends, however it ends
_HELD: set[int] = set()  # the handles of the locks that this process has


class RunError(ValueError):
    """A folder is not the run that was asked for, or belongs to another; the message says what to do."""


class TakenError(RunError):
    """A folder belongs to another run, or holds something."""


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
        with self._still_there(), replacing(self.path / "history.json") as file:
            file.write(text.encode())

    def _save(self, path: Path, progress: Progress) -> None:
        seen = attrs.asdict(progress.totals)
        with self._still_there():
            save(path, progress.state, meta={**self.meta, "history": list(progress.history), "seen": seen})

    @contextlib.contextmanager
    def _still_there(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            if self.path.is_dir():
                raise
            message = f"{self.path} was removed or renamed while the run went on, and what it had written with it"
            raise RunError(message) from None


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

    Raises RunError where there is none; CheckpointError where one that may be it is damaged, with the way on.
    """
    found = [*folder.glob(INTERRUPTED), *checkpoints(folder)[-1:]]
    if not found:
        raise RunError(f"{folder} holds no checkpoint (epoch-01.npz, …) to go on from; start a run without resume")
    metas = {path: _with_way_on(path, meta_of) for path in found}
    path = max(found, key=lambda path: (len(metas[path]["history"]), metas[path]["seen"]["images"]))
    return path, metas[path]


def meta_of(path: Path) -> dict[str, Any]:
    """What a checkpoint of a run says beside the training state.

    Raises CheckpointError where it is damaged, of something else than a run, or was changed.
    """
    meta = load_meta(path)
    if "history" not in meta or "seen" not in meta:
        raise CheckpointError(f"{path} was not written by a run: it has no history")
    history = meta["history"]
    items = isinstance(history, list) and all(map(_is_item, history)) and _follow(history)
    if not (items and _are_totals(meta["seen"])):
        raise CheckpointError(f"{path}: its history is not as a run writes it; use an earlier checkpoint")
    return meta


def progress_of(path: Path, meta: Mapping[str, Any], like: TrainState) -> Progress:
    """How far a run had come at a checkpoint, of which the meta is known; `like` is the state at its start.

    Raises CheckpointError where it is damaged, with the way on.
    """

    def read(path: Path) -> TrainState:
        meta_of(path)
        return load(path, like=like)

    seen = dict.fromkeys(_LATER, meta["seen"]["images"]) | meta["seen"]
    return Progress(_with_way_on(path, read), tuple(meta["history"]), EpochTotals(**seen))


def _with_way_on(path: Path, read: Callable[[Path], T]) -> T:
    """What `read` makes of a checkpoint; where it is damaged, the error also says which others can be read."""
    try:
        return read(path)
    except CheckpointError as error:
        bad = [path.name]
        for other in [*path.parent.glob(INTERRUPTED), *reversed(checkpoints(path.parent))]:
            if other != path:
                try:
                    read(other)
                except (CheckpointError, OSError):
                    bad.append(other.name)
                else:
                    # Not to delete it: a disk that fails for a moment looks like a damaged file.
                    advice = f"rename {' and '.join(bad)}, and the run goes on from {other.name}"
                    raise CheckpointError(f"{error}: {advice}") from error
        raise


def _is_item(item: Any) -> bool:
    """Whether it is an epoch's item of a history, with all that is read of one later."""
    if not isinstance(item, dict) or type(item.get("epoch")) is not int:
        return False
    metrics = item.get("metrics", {})
    known = [item.get(name) for name in ("train_loss", "seconds", "images_per_second")]
    perhaps = [item.get(name, "") for name in ("train_accuracy", "validation_loss", "validation_accuracy")]
    perhaps += metrics.values() if isinstance(metrics, dict) else [""]
    return all(map(_is_number, known)) and all(value is None or _is_number(value) for value in perhaps)


def _follow(history: Sequence[Item]) -> bool:
    """Whether the items are of epochs one after the other, the first of any number as a run may begin with a state."""
    numbers = [item["epoch"] for item in history]
    return not numbers or (numbers[0] >= 1 and numbers == [*range(numbers[0], numbers[0] + len(numbers))])


def _are_totals(seen: Any) -> bool:
    names = {field.name for field in attrs.fields(EpochTotals)}
    if not isinstance(seen, dict) or not names - _LATER <= seen.keys() <= names:
        return False
    values = [value for name, value in seen.items() if name != "correct" or value is not None]
    return all(map(_is_number, values)) and min(seen[name] for name in seen.keys() - {"loss", "correct"}) >= 0


def _is_number(value: object) -> bool:
    # Compared, as neither NaN nor an int beyond all floats is made a float so.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


@contextlib.contextmanager
def claimed(
    path: Path, *, resume: bool, go_on: str = "go on with resume", choose: str = "choose another folder"
) -> Iterator[Path]:
    """Make or open a run's folder and hold it while the block runs; what a killed run left half written is removed.

    Raises TakenError if another run holds it, or if it isn't empty and `resume` is false, as no run is overwritten;
    RunError if it can't be made or written. They end with `choose`, and with `go_on` where that can be done.
    """

    def refuse_if_used() -> None:
        if not resume and path.is_dir() and not all(map(_is_of_no_run, path.iterdir())):
            can_go_on = has_checkpoint(path)
            way = f"; {go_on}, or {choose}" if can_go_on else f", and holds no checkpoint of a run; {choose}"
            raise TakenError(f"{path} is not empty{way}")

    try:
        if not (path / _LOCK).exists():
            refuse_if_used()  # before anything is written to somebody's folder
    except OSError as error:
        raise RunError(f"can't look into the folder {path} ({error.strerror}); {choose}") from None
    new, handle = _locked(path, choose)
    try:
        remove_leftovers(path)
        refuse_if_used()
        yield path
    finally:
        if handle in _HELD:  # not in a process that was forked meanwhile
            _HELD.remove(handle)
            with contextlib.suppress(OSError):
                if is_at(handle, path / _LOCK):
                    (path / _LOCK).unlink()  # before it is let go, so that it isn't the next one's
            os.close(handle)
            with contextlib.suppress(OSError):
                for folder in new:  # a run that came to nothing leaves nothing behind
                    folder.rmdir()


def _is_of_no_run(path: Path) -> bool:
    return path.name == _LOCK or is_leftover(path.name)


def _locked(path: Path, choose: str) -> tuple[list[Path], int]:
    """Make the folder and lock it: which folders are new, and the lock's handle."""
    for _ in range(100):
        new = [folder for folder in (path, *path.parents) if not folder.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise TakenError(f"can't make the folder {path} (there is a file of that name); {choose}") from None
        except OSError as error:
            raise RunError(f"can't make the folder {path} ({error.strerror}); {choose}") from None
        try:
            handle = _claim(path / _LOCK, choose)
        except FileNotFoundError:
            continue  # the end of another run removed the folder meanwhile
        except OSError as error:
            raise RunError(f"can't write to the folder {path} ({error.strerror}); {choose}") from None
        if handle is not None:
            return new, handle
    raise TakenError(f"{path} is made and removed by other runs all the time; {choose}")


def _claim(file: Path, choose: str) -> int | None:
    """The handle of a file that this process has locked; None if the end of another run removed it meanwhile."""
    message = f"{file.parent} belongs to a run that is going on; {choose}, or wait for its end"
    made = True
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | _TEMPORARY, 0o666)
    except FileExistsError:
        if _TEMPORARY:
            raise TakenError(message) from None
        made = False
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        free = lock(handle)
        if free is False:
            raise TakenError(message)
        if free is None and not made:
            raise TakenError(f"{message}; if a run was killed and none is going on, delete {file}")
        if not is_at(handle, file):
            os.close(handle)
            return None
    except BaseException:
        os.close(handle)
        raise
    _HELD.add(handle)
    return handle


def _let_go() -> None:
    """Close a forked process's copies of locks, which would outlive the run that holds them."""
    while _HELD:
        os.close(_HELD.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
