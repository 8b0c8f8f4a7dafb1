"""What a run of scripts/train.py depends on, and what that makes: data, network, loss, optimizer, first state."""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import attrs
from console import Stop, load_data
from options import INITIALIZERS, MODELS

import fcnn
from fcnn.training import runs
from fcnn.training.checkpoint import network_meta

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "step", "cosine", "warmup", "one-cycle")


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
    drop_last: bool = False
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

    @property
    def validation_name(self) -> str:
        """What the validation curve shows."""
        return f"validation ({self.validation:,} held out)" if self.validation else "validation (test set)"

    def resume_command(self, folder: Path) -> str:
        """The command that goes on with the run in a folder."""
        command = f"python scripts/train.py --resume {folder}"
        return f"mpiexec -n {self.ranks} {command} --mpi" if self.ranks > 1 else command

    def free_folder(self) -> Path:
        """runs/<dataset>-<model>-seed<seed>, or the first of …-2, …-3 that isn't there."""
        base = Path("runs") / f"{self.dataset}-{self.model}-seed{self.seed}"
        folder, number = base, 1
        while folder.exists():
            number += 1
            folder = base.with_name(f"{base.name}-{number}")
        return folder


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were named on the command line."""
    options = vars(arguments)
    names = [field.name for field in attrs.fields(Settings)]
    return {name: options[name] for name in names if options.get(name) is not None}


def choose(arguments: argparse.Namespace, rank_count: int) -> tuple[Path, Settings, Path | None]:
    """Which run it is: its folder and settings, and the checkpoint from which it goes on."""
    if not arguments.resume:
        named = given(arguments)
        if arguments.shards:
            named["shard_size"] = math.ceil(Settings(**named).batch_size / arguments.shards)
        settings = Settings(**named, ranks=rank_count)
        return Path(arguments.out) if arguments.out else settings.free_folder(), settings, None
    folder = Path(arguments.resume)
    path, meta = runs.furthest(folder)
    try:
        settings = Settings(**meta["settings"])
    except (KeyError, TypeError) as error:
        raise Stop(f"error: the checkpoints in {folder} were not written by this script ({error})") from None
    if settings.ranks != rank_count:
        raise Stop(
            f"error: the run in {folder} has {settings.ranks} rank(s), on which its bits depend, and this is "
            f"{rank_count}; go on with: {settings.resume_command(folder)}"
        )
    return folder, attrs.evolve(settings, epochs=arguments.epochs or settings.epochs), path


@attrs.frozen
class Setup:
    """What settings make: the data, the network and how it is trained."""

    train: fcnn.Split
    validation: fcnn.Split
    test: fcnn.Split
    classes: tuple[str, ...]
    network: fcnn.Layer
    loss: Any
    optimizer: fcnn.Transform
    start: fcnn.TrainState

    def meta(self, settings: Settings) -> dict[str, Any]:
        """What a checkpoint says beside the training state and the history."""
        return {"settings": attrs.asdict(settings), **network_meta(self.network, self.train.in_shape, self.classes)}

    def announcement(self, settings: Settings, folder: Path) -> str:
        """What will be done, in two lines."""
        count = fcnn.tree.size(self.start.params)
        ranks = f", {settings.ranks} ranks" if settings.ranks > 1 else ""
        return (
            f"{settings.model} ({count:,} parameters) on {settings.dataset}: "
            f"{len(self.train):,} training images, {len(self.test):,} test images\n"
            f"{settings.epochs} epochs, batch {settings.batch_size}, {settings.optimizer}, rate {settings.lr:g} "
            f"({settings.schedule}), seed {settings.seed}{ranks}; results in {folder}"
        )


def prepare(settings: Settings, root: str | None) -> Setup:
    """Load the data and make the network."""
    data = load_data(settings.dataset, root)
    train, validation = data.train, data.test
    if settings.train_size:
        train = train.take(settings.train_size)
    if settings.validation:
        if settings.validation >= len(train):
            raise Stop(f"--validation {settings.validation} leaves no image of {len(train)} to train on")
        train, validation = train.hold_out(settings.validation)
    weights, biases = INITIALIZERS[settings.init]
    network = MODELS[settings.model](train.in_shape, len(data.classes), weights=weights, biases=biases)
    optimizer = make_optimizer(settings, fcnn.data.steps_per_epoch(len(train), settings.batch_size, settings.drop_last))
    start = fcnn.init_state(network, optimizer, fcnn.fold_in(fcnn.key(settings.seed), "model"), train.in_shape)
    loss = fcnn.softmax_cross_entropy(settings.label_smoothing)
    return Setup(train, validation, data.test, data.classes, network, loss, optimizer, start)


def make_rate(settings: Settings, steps: int) -> Any:
    """The learning rate over the whole run, of so many steps an epoch."""
    total, peak = settings.epochs * steps, settings.lr
    return {
        "constant": lambda: fcnn.constant_schedule(peak),
        "step": lambda: fcnn.step_decay(peak, every=math.ceil(total / 3)),
        "cosine": lambda: fcnn.cosine(peak, steps=total),
        "warmup": lambda: fcnn.linear_warmup(peak, steps=steps),
        "one-cycle": lambda: fcnn.piecewise_linear([(0, peak / 5), (0.25 * total, peak), (total, peak / 20)]),
    }[settings.schedule]()


def make_optimizer(settings: Settings, steps: int) -> fcnn.Transform:
    """The optimizer with its schedule over the whole run."""
    rate = make_rate(settings, steps)
    if settings.optimizer == "sgd":
        optimizer = fcnn.sgd(rate, momentum=settings.momentum, weight_decay=settings.weight_decay)
    else:
        optimizer = getattr(fcnn, settings.optimizer)(rate, weight_decay=settings.weight_decay)
    return fcnn.chain(fcnn.clip_by_global_norm(settings.clip), optimizer) if settings.clip else optimizer


def longer(settings: Settings, epochs: int, step: int, steps: int) -> Settings:
    """The settings of a run that goes on for more epochs than it had, and on stderr what that does to its schedule."""
    if epochs < settings.epochs:
        raise Stop(f"error: the run has {settings.epochs} epochs already; --epochs {epochs} is less")
    more = attrs.evolve(settings, epochs=epochs)
    before, after = (make_rate(one, steps)(step) for one in (settings, more))
    if epochs > settings.epochs and before != after:
        print(
            f"the schedule {settings.schedule} now spans {epochs} epochs in place of {settings.epochs}: at step {step} "
            f"the rate is {after:.3g}, and would have been {before:.3g}",
            file=sys.stderr,
        )
    return more
