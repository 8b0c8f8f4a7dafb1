"""What a run of scripts/train.py keeps in its folder, and where a run that was stopped goes on.

A checkpoint after each epoch (epoch-01.npz, …), one more where the run was interrupted within an epoch
(interrupted.npz), history.json and curves.png. A checkpoint says by itself all that is needed to go on from it.
"""

import json
from pathlib import Path
from typing import Any

import attrs
from console import Stop

import fcnn
from fcnn.values.files import replacing

INTERRUPTED = "interrupted.npz"

History = list[dict[str, Any]]  # an item an epoch


@attrs.frozen(kw_only=True)
class Settings:
    """Everything that the result depends on; written into every checkpoint, so that --resume needs no option."""

    dataset: str = "mnist"
    model: str = "lenet5"
    init: str = "xavier"
    train_size: int = 0
    validation: int = 0
    epochs: int = 5
    batch_size: int = 128
    optimizer: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float = 0.0
    schedule: str = "constant"
    label_smoothing: float = 0.0
    seed: int = 0
    ranks: int = 1  # no option: as many as mpiexec started
    shard_size: int = attrs.field()

    @shard_size.default
    def _whole_batches_for_batch_norm(self) -> int:
        return 0 if self.model.endswith("_bn") else 64


@attrs.frozen
class EpochTotals:
    """What the steps of an epoch add up to so far."""

    loss: float = 0.0  # summed over the images
    correct: int = 0  # predictions, each made before its image was learnt from
    images: int = 0
    seconds: float = 0.0

    def after(self, record: fcnn.Record, seconds: float) -> "EpochTotals":
        """With one more step, which ended `seconds` after the epoch began."""
        correct = self.correct + (record.correct or 0)
        return EpochTotals(self.loss + record.loss * record.size, correct, self.images + record.size, seconds)

    @property
    def accuracy(self) -> float:
        """The share of right predictions."""
        return self.correct / self.images

    def history_item(self, epoch: int, validation: fcnn.Evaluation) -> dict[str, Any]:
        """The item of a finished epoch, with what was found on the validation images after it."""
        return {
            "epoch": epoch,
            "train_loss": self.loss / self.images,
            "train_accuracy": self.accuracy,
            "validation_loss": validation.loss,
            "validation_accuracy": validation.accuracy,
            "seconds": self.seconds,
            "images_per_second": self.images / self.seconds,
        }


@attrs.frozen
class Checkpoint:
    """What a checkpoint says beside the training state: of which run it is, and how far that had come."""

    path: Path
    settings: Settings
    history: History
    totals: EpochTotals  # of the epoch that had begun


def epoch_file(folder: Path, epoch: int) -> Path:
    """The checkpoint after an epoch, counted from 1."""
    return folder / f"epoch-{epoch:02d}.npz"


def epoch_files(folder: Path) -> list[Path]:
    """The checkpoints after epochs that are there, in order."""
    return sorted(folder.glob("epoch-*.npz"), key=lambda path: (len(path.name), path.name))


def furthest(folder: Path) -> Checkpoint:
    """The checkpoint of a run that is furthest on. Raises Stop where there is none."""
    found = [*epoch_files(folder), *folder.glob(INTERRUPTED)]
    if not found:
        raise Stop(f"error: {folder} holds no checkpoint (epoch-01.npz, …) to go on from; start a run without --resume")
    metas = {path: fcnn.load_meta(path) for path in found}
    try:
        checkpoints = [
            Checkpoint(path, Settings(**meta["settings"]), meta["history"], EpochTotals(**meta["seen"]))
            for path, meta in metas.items()
        ]
        return max(checkpoints, key=lambda checkpoint: (len(checkpoint.history), checkpoint.totals.images))
    except (KeyError, TypeError) as error:
        raise Stop(f"error: the checkpoints in {folder} were not written by this script ({error})") from None


def save_checkpoint(
    path: Path, state: fcnn.TrainState, model: fcnn.Layer, settings: Settings, history: History, totals: EpochTotals
) -> None:
    """Write a checkpoint with all that --resume needs."""
    meta = {
        "settings": attrs.asdict(settings),
        "history": history,
        "seen": attrs.asdict(totals),  # the name by which runs of earlier versions are gone on with
        "network": fcnn.describe(model),
    }
    fcnn.save(path, state, meta=meta)


def write_history(folder: Path, settings: Settings, history: History) -> None:
    """history.json and curves.png, each replaced in one step."""
    from fcnn.inspection.plots import curves

    text = json.dumps({"settings": attrs.asdict(settings), "epochs": history}, indent=1)
    with replacing(folder / "history.json") as file:
        file.write(text.encode())
    title = f"{settings.model} on {settings.dataset}: {settings.optimizer}, rate {settings.lr:g}, seed {settings.seed}"
    with replacing(folder / "curves.png") as file:
        curves(history, title, validation_name(settings)).savefig(file, format="png")


def validation_name(settings: Settings) -> str:
    """What the validation curve shows."""
    return f"validation ({settings.validation:,} held out)" if settings.validation else "validation (test set)"


def resume_command(folder: Path, settings: Settings) -> str:
    """The command that goes on with a run."""
    command = f"python scripts/train.py --resume {folder}"
    return f"mpiexec -n {settings.ranks} {command} --mpi" if settings.ranks > 1 else command


def free_folder(settings: Settings) -> Path:
    """runs/<dataset>-<model>-seed<seed>, or the first of …-2, …-3 that isn't there."""
    base = Path("runs") / f"{settings.dataset}-{settings.model}-seed{settings.seed}"
    folder, number = base, 1
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


def make_folder(folder: Path) -> None:
    """Make the run's folder, which must be new or empty, so that no earlier run is overwritten."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Stop(f"error: can't make the folder {folder} ({error.strerror}); choose another with --out") from None
    if any(folder.iterdir()):
        raise Stop(f"error: {folder} is not empty; go on with --resume {folder}, or choose another with --out")
