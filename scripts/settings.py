"""What a run of scripts/train.py depends on, and what that makes: data, network, loss, optimizer, first state."""

import argparse
import contextlib
import itertools
import math
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from console import Stop, is_folder, load_data
from options import INITIALIZERS, MODELS, NORMALISING

import fcnn
from fcnn.training import runs
from fcnn.training.checkpoint import network_meta
from fcnn.values.checks import boolean, integer, number, one_of

OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")
SCHEDULES = ("constant", "step", "cosine", "warmup", "one-cycle")
_NAMES = {  # what settings can be: one of these,
    "model": MODELS, "init": INITIALIZERS, "optimizer": OPTIMIZERS, "schedule": SCHEDULES
}  # fmt: skip
_WHOLE = {  # or a whole number of at least
    "train_size": 0, "validation": 0, "epochs": 1, "batch_size": 1, "seed": 0, "ranks": 1, "shard_size": 0, "size": 1
}  # fmt: skip


@attrs.frozen(kw_only=True)
class Settings:
    """Everything that the result depends on; written into every checkpoint, so that --resume needs no option."""

    dataset: str = "mnist"  # or the whole path of one's own
    size: int = 32  # of a folder's pictures
    grey: bool = False
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
        return 0 if self.model in NORMALISING else 64

    def __attrs_post_init__(self) -> None:
        """Raise TypeError or ValueError for what no command line can say; a checkpoint may have been changed."""
        for name, names in _NAMES.items():
            one_of(name, getattr(self, name), tuple(names))
        for name, least in _WHOLE.items():
            integer(name, getattr(self, name), least=least)
        boolean("drop_last", self.drop_last)
        boolean("grey", self.grey)
        fcnn.data.is_own(self.dataset)
        for name in ("lr", "momentum", "weight_decay", "clip", "label_smoothing"):
            number(name, getattr(self, name), "[0, inf)")

    @property
    def data_name(self) -> str:
        """The data's name: of one's own, the last part of its path."""
        if not fcnn.data.is_own(self.dataset):
            return self.dataset
        return re.sub(r"[^\w.-]+", "-", Path(self.dataset).name.removesuffix(".npz")) or "pictures"

    @property
    def validation_name(self) -> str:
        """What the validation curve shows."""
        return f"validation ({self.validation:,} held out)" if self.validation else "validation (test set)"

    def resume_command(self, folder: Path) -> str:
        """The command that goes on with the run in a folder."""
        command = f"python scripts/train.py --resume {folder}"
        return f"mpiexec -n {self.ranks} {command} --mpi" if self.ranks > 1 else command

    def folders(self) -> Iterator[Path]:
        """runs/<dataset>-<model>-seed<seed>, and then …-2, …-3."""
        base = Path("runs") / f"{self.data_name}-{self.model}-seed{self.seed}"
        yield base
        yield from (base.with_name(f"{base.name}-{number}") for number in itertools.count(2))


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were named on the command line."""
    options = vars(arguments)
    names = [field.name for field in attrs.fields(Settings)]
    return {name: options[name] for name in names if options.get(name) is not None}


def choose(
    arguments: argparse.Namespace, rank_count: int, held: contextlib.ExitStack
) -> tuple[Path, Settings, Path | None]:
    """Which run it is: its folder and settings, and the checkpoint from which it goes on.

    The folder is claimed while the stack is open: before anything is loaded, so that no other run takes it meanwhile.
    """
    if not arguments.resume:
        named = given(arguments)
        if arguments.shards:
            named["shard_size"] = math.ceil(Settings(**named).batch_size / arguments.shards)
        settings = Settings(**named, ranks=rank_count)
        for folder in [Path(arguments.out)] if arguments.out else settings.folders():
            try:
                return held.enter_context(_claimed(folder, resume=False)), settings, None
            except runs.TakenError:
                if arguments.out:
                    raise
    folder = held.enter_context(_claimed(Path(arguments.resume), resume=True))
    path, meta = runs.furthest(folder)
    settings = settings_of(path, meta)
    if settings.ranks != rank_count:
        raise Stop(
            f"error: the run in {folder} has {settings.ranks} rank(s), on which its bits depend, and this is "
            f"{rank_count}; go on with: {settings.resume_command(folder)}"
        )
    return folder, attrs.evolve(settings, epochs=arguments.epochs or settings.epochs), path


def settings_of(path: Path, meta: Mapping[str, Any]) -> Settings:
    """The settings in a checkpoint's meta."""
    named = meta.get("settings")
    if not isinstance(named, dict):
        raise Stop(f"error: {path} was not written by this script: it has no settings")
    unknown = named.keys() - {field.name for field in attrs.fields(Settings)}
    try:
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        return Settings(**named)
    except (TypeError, ValueError) as error:
        raise Stop(f"error: {path}: its settings are not as this script writes them ({error})") from None


def _claimed(folder: Path, resume: bool) -> contextlib.AbstractContextManager[Path]:
    way_on = f"go on with --resume {folder}"
    choose = "name another" if resume else "choose another with --out"
    return runs.claimed(folder, resume=resume, go_on=way_on, choose=choose)


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
    data: fcnn.Dataset

    def meta(self, settings: Settings) -> dict[str, Any]:
        """What a checkpoint says beside the training state and the history; of data of one's own what it was, too."""
        named = network_meta(self.network, self.train.in_shape, self.classes, self.data.meta)
        own = {"data": self._known()} if fcnn.data.is_own(settings.dataset) else {}
        return {"settings": attrs.asdict(settings), **own, **named}

    def expect_same_data(self, settings: Settings, meta: Mapping[str, Any]) -> None:
        """Stop unless one's own data is what a run was trained on, to the bit; a data set with a name always is."""
        before, now = meta.get("data"), self._known()
        if not fcnn.data.is_own(settings.dataset) or before == now:
            return
        before = before if isinstance(before, dict) else {}
        changes = [f"{name}: {before.get(name)}, now {now[name]}" for name in now if before.get(name) != now[name]]
        changes = [line for line in changes if not line.startswith("digest")] or [
            "as many inputs, but not the same ones"
        ]
        raise Stop(
            f"error: {settings.dataset} is not any more what the run was trained on ({'; '.join(changes)}); "
            "put it back as it was, or begin a new run"
        )

    def _known(self) -> dict[str, Any]:
        """What tells the data from other data."""
        counts = {"training inputs": len(self.data.train), "test inputs": len(self.data.test)}
        return {**counts, "classes": len(self.data.classes), "digest": self.data.fingerprint()}

    def announcement(self, settings: Settings, folder: Path) -> str:
        """What will be done, in two lines."""
        count = fcnn.tree.size(self.start.params)
        ranks = f", {settings.ranks} ranks" if settings.ranks > 1 else ""
        return (
            f"{settings.model} ({count:,} parameters) on {settings.data_name}: "
            f"{len(self.train):,} training images, {len(self.test):,} test images\n"
            f"{settings.epochs} epochs, batch {settings.batch_size}, {settings.optimizer}, rate {settings.lr:g} "
            f"({settings.schedule}), seed {settings.seed}{ranks}; results in {folder}"
        )


def prepare(settings: Settings, root: str | None, resumed: bool) -> Setup:
    """Load the data and make the network; of one's own data, what normalises it is the network's first layer."""
    how = {"size": settings.size, "grey": settings.grey} if is_folder(settings.dataset) else {}
    try:
        data = load_data(settings.dataset, root, **how)
    except fcnn.data.DataError as error:
        if fcnn.data.is_own(settings.dataset) and resumed:
            raise Stop(f"error: {error}; if it has moved, name its place with --data") from None
        raise
    train, validation = data.train, data.test
    if not train.has_classes:
        raise Stop(
            f"error: {settings.dataset}: its targets are numbers, and this script tells classes apart; use fcnn.fit"
        )
    if settings.train_size > len(train):
        raise Stop(
            f"error: --train-size {settings.train_size} is more than the {len(train)} images of {settings.data_name}"
        )
    if settings.train_size:
        train = train.take(settings.train_size)
    if settings.validation:
        if settings.validation >= len(train):
            raise Stop(f"error: --validation {settings.validation} leaves no image of {len(train)} to train on")
        train, validation = train.hold_out(settings.validation)
    weights, biases = INITIALIZERS[settings.init]
    network = MODELS[settings.model](train.in_shape, len(data.classes), weights=weights, biases=biases)
    if fcnn.data.is_own(settings.dataset):
        network = fcnn.serial(norm=fcnn.normalize(*fcnn.data.channel_statistics(train)), **network.children)
    optimizer = make_optimizer(settings, fcnn.data.steps_per_epoch(len(train), settings.batch_size, settings.drop_last))
    start = fcnn.init_state(network, optimizer, fcnn.fold_in(fcnn.key(settings.seed), "model"), train.in_shape)
    loss = fcnn.softmax_cross_entropy(settings.label_smoothing)
    return Setup(train, validation, data.test, data.classes, network, loss, optimizer, start, data)


def make_rate(settings: Settings, steps: int) -> Any:
    """The learning rate over the whole run, of so many steps an epoch."""
    total, peak = settings.epochs * steps, settings.lr
    return {
        "constant": lambda: fcnn.constant_schedule(peak),
        "step": lambda: fcnn.step_decay(peak, every=math.ceil(total / 3)),
        "cosine": lambda: fcnn.cosine(peak, steps=total),
        "warmup": lambda: fcnn.linear_warmup(peak, steps=steps),
        "one-cycle": lambda: fcnn.one_cycle(
            peak, steps=total, rising=0.25, start=peak / 5, end=peak / 20, shape="linear"
        ),
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
