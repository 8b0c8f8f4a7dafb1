"""Train a network on real images, watch it, and keep everything that is needed to go on or to look back.

    python scripts/train.py                                        # LeNet-5 on MNIST, as in the reproduced study
    python scripts/train.py --dataset cifar10 --model lenet5_bn --epochs 20 --schedule cosine
    python scripts/train.py --dataset digits                       # needs no network
    python scripts/train.py --resume runs/mnist-lenet5-seed0       # goes on to the same bits
    mpiexec -n 2 python scripts/train.py --mpi                     # over 2 processes, here or on several machines

A run's folder holds a checkpoint an epoch (epoch-01.npz, …), history.json and curves.png.
"""

import argparse
import contextlib
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import attrs
import numpy as np
from ranks import TROUBLE, Ranks, Stop, explain, joined
from tqdm import tqdm

import fcnn
from fcnn import parallel
from fcnn.values.files import replacing

MODELS = {"lenet5": fcnn.lenet5, "lenet5_bn": fcnn.lenet5_bn}
INITIALIZERS = {
    "he": (fcnn.he(), fcnn.zeros()),
    "xavier": (fcnn.xavier(), fcnn.zeros()),
    "lecun": (fcnn.lecun(), fcnn.zeros()),
    "kaiming_uniform": (fcnn.kaiming_uniform(), fcnn.kaiming_uniform()),
}
OPTIMIZERS = ("adam", "adamw", "sgd")
CONCURRENT = {"processes": parallel.processes, "threads": parallel.threads}
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
class Run:
    """What a set of settings makes: the data, the network and how it is trained."""

    train: fcnn.Split
    validation: fcnn.Split
    test: fcnn.Split
    classes: tuple[str, ...]
    model: fcnn.Layer
    loss: Any
    optimizer: fcnn.Transform
    start: fcnn.TrainState
    steps: int  # an epoch


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    # Before parsing, so that the ranks of a wrong command line say so once.
    with joined() if "--mpi" in argv else contextlib.nullcontext(Ranks()) as ranks:
        return go(parse(argv), ranks)


def go(arguments: argparse.Namespace, ranks: Ranks) -> int:
    """Do what the options say; the exit code."""
    try:
        folder, settings, checkpoint, history = ranks.first_decides(choose, arguments, ranks.size)
        first = ranks.first_does(prepare, settings, arguments.data)  # so that a download happens once
        run = ranks.all_do(lambda: first or prepare(settings, arguments.data))
        if checkpoint is None:
            ranks.first_does(make_folder, folder)
        # Not where MPI runs: a fork of a process that talks to others is a risk.
        workers = arguments.workers or ("processes" if sys.platform == "linux" and not arguments.mpi else "threads")
        concurrent = CONCURRENT[workers](arguments.threads or ranks.cores())
        ranks = attrs.evolve(ranks, timeout=arguments.timeout)
        train(run, settings, folder, checkpoint, history, concurrent, ranks)
    except Stop as stop:
        print(f"\n{stop}", file=sys.stderr)
        return 1
    except TROUBLE as error:
        return ranks.fail(explain(error))
    except KeyboardInterrupt:
        return ranks.fail("interrupted before training began", 130)
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options; nonsense ends here, with a sentence."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument_group("what is trained").add_argument
    add("--dataset", choices=fcnn.data.DATASETS, help="the images (default mnist)")
    add("--model", choices=MODELS, help="the network (default lenet5)")
    add("--init", choices=INITIALIZERS, help="how weights begin (default xavier)")
    add("--train-size", type=whole(0), help="the first so many training images (default 0: all)")
    add(
        "--validation",
        type=whole(0),
        help="hold out the last so many training images for the validation curve "
        "(default 0: the curve shows the test set; nothing is ever selected by it)",
    )
    add_how = parser.add_argument_group("how")
    add = add_how.add_argument
    add("--epochs", type=whole(1), help="passes over the training images (default 5)")
    add("--batch-size", type=whole(1), help="images a step (default 128)")
    add("--optimizer", choices=OPTIMIZERS, help="default adam")
    add("--lr", type=number, help="learning rate, or its peak (default 0.001)")
    add("--momentum", type=number, help="of sgd (default 0.9)")
    add("--weight-decay", type=number, help="L2; decoupled with adamw (default 0)")
    add("--clip", type=number, help="greatest joint norm of the gradients (default 0: no limit)")
    add(
        "--schedule",
        choices=SCHEDULES,
        help="step: a tenth after each third; cosine: to 0; warmup: linear in the first epoch; "
        "one-cycle: up for a quarter, then down (default constant)",
    )
    add("--label-smoothing", type=number, help="0 to less than 1 (default 0)")
    add("--seed", type=whole(0), help="of weights, order and dropout (default 0)")
    add = add_how.add_mutually_exclusive_group().add_argument
    add(
        "--shard-size",
        type=whole(0),
        help="images that a thread takes at a time; the bits depend on it, and batch norm sees one shard at a time "
        "(default 64, or whole batches with batch norm; 0: whole batches)",
    )
    add("--shards", type=whole(1), help="the same as a number of shards: --shard-size is the batch size over it")
    add = parser.add_argument_group("where").add_argument
    add(
        "--threads",
        type=whole(1),
        help="how many shards at once; the bits do not depend on it (default: every core, shared with other ranks)",
    )
    add(
        "--workers",
        choices=CONCURRENT,
        help="what runs them: forked processes, or threads, which wait for Python's lock; the bits do not depend on it "
        "(default: processes on Linux without --mpi, otherwise threads)",
    )
    add(
        "--mpi",
        action="store_true",
        help="train on the ranks that mpiexec started, each on its share of every batch; the bits depend on how many "
        "they are, and batch norm sees one share at a time (needs mpi4py)",
    )
    add(
        "--timeout",
        type=number,
        default=60.0,
        help="seconds that a rank waits for the others before it ends the run (default 60)",
    )
    add("--data", metavar="FOLDER", help="where the data set is (default: $FCNN_DATA, the cache, a download)")
    add("--out", metavar="FOLDER", help="the run's folder (default runs/<dataset>-<model>-seed<seed>)")
    add("--resume", metavar="FOLDER", help="go on with the run in FOLDER, with its own settings")
    arguments = parser.parse_args(argv)
    named = [*given(arguments), *(name for name in ("shards", "out") if getattr(arguments, name))]
    if arguments.resume and named:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in named)
        parser.error(f"--resume goes on with the run's own settings; leave out {options}")
    return arguments


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were named on the command line."""
    options = vars(arguments)
    names = [field.name for field in attrs.fields(Settings)]
    return {name: options[name] for name in names if options.get(name) is not None}


def choose(arguments: argparse.Namespace, rank_count: int) -> tuple[Path, Settings, Path | None, list[dict[str, Any]]]:
    """Which run it is: its folder and settings, and the checkpoint and history from which it goes on."""
    if arguments.resume:
        folder = Path(arguments.resume)
        checkpoint, settings, history = latest(folder)
        if settings.ranks != rank_count:
            raise Stop(
                f"error: the run in {folder} has {settings.ranks} rank(s), on which its bits depend, and this is "
                f"{rank_count}; go on with: {resume_command(folder, settings)}"
            )
        return folder, settings, checkpoint, history
    named = given(arguments)
    if arguments.shards:
        named["shard_size"] = math.ceil(Settings(**named).batch_size / arguments.shards)
    settings = Settings(**named, ranks=rank_count)
    return Path(arguments.out) if arguments.out else free_folder(settings), settings, None, []


def prepare(settings: Settings, root: str | None) -> Run:
    """Load the data and make the network."""
    data = load_data(settings.dataset, root)
    train, validation = data.train, data.test
    if settings.train_size:
        train = train.take(settings.train_size)
    if settings.validation:
        if settings.validation >= len(train):
            raise Stop(f"--validation {settings.validation} leaves no image of {len(train)} to train on")
        rows = np.arange(len(train))
        validation = train.take(rows[-settings.validation :])
        train = train.take(rows[: -settings.validation])
    in_shape = train.x.shape[1:]
    weights, biases = INITIALIZERS[settings.init]
    model = MODELS[settings.model](in_shape, len(data.classes), weights=weights, biases=biases)
    steps = fcnn.data.steps_per_epoch(len(train), settings.batch_size)
    optimizer = make_optimizer(settings, steps)
    start = fcnn.init_state(model, optimizer, fcnn.fold_in(fcnn.key(settings.seed), "model"), in_shape)
    loss = fcnn.softmax_cross_entropy(settings.label_smoothing)
    return Run(train, validation, data.test, data.classes, model, loss, optimizer, start, steps)


def make_optimizer(settings: Settings, steps: int) -> fcnn.Transform:
    """The optimizer with its schedule over the whole run."""
    total, peak = settings.epochs * steps, settings.lr
    rate = {
        "constant": lambda: peak,
        "step": lambda: fcnn.step_decay(peak, every=math.ceil(total / 3)),
        "cosine": lambda: fcnn.cosine(peak, steps=total),
        "warmup": lambda: fcnn.linear_warmup(peak, steps=steps),
        "one-cycle": lambda: fcnn.piecewise_linear([(0, peak / 5), (0.25 * total, peak), (total, peak / 20)]),
    }[settings.schedule]()
    if settings.optimizer == "sgd":
        optimizer = fcnn.sgd(rate, momentum=settings.momentum, weight_decay=settings.weight_decay)
    else:
        optimizer = getattr(fcnn, settings.optimizer)(rate, weight_decay=settings.weight_decay)
    return fcnn.chain(fcnn.clip_by_global_norm(settings.clip), optimizer) if settings.clip else optimizer


def train(
    run: Run,
    settings: Settings,
    folder: Path,
    checkpoint: Path | None,
    history: list[dict[str, Any]],
    concurrent: contextlib.AbstractContextManager[parallel.MapFn],
    ranks: Ranks,
) -> None:
    """Fold the step over the epochs that are left, watching from outside."""
    state, seen = run.start, Seen()
    if checkpoint is not None:
        state = ranks.all_do(lambda: fcnn.load(checkpoint, like=run.start))
        seen = Seen(**ranks.all_do(fcnn.load_meta, checkpoint)["seen"])
        print(f"going on from {checkpoint}, step {state.step} of {settings.epochs * run.steps}")
    announce(run, settings, folder)
    stream = fcnn.batches(
        run.train,
        settings.batch_size,
        fcnn.fold_in(fcnn.key(settings.seed), "batches"),
        epochs=settings.epochs,
        start_step=state.step,
    )
    # An overflow shows in the loss, which is checked at every step.
    with (
        concurrent as map_fn,
        interruptible() as asked,
        np.errstate(over="ignore", invalid="ignore"),
    ):
        gradient = fcnn.gradient(run.model, run.loss)
        if settings.shard_size:
            gradient = parallel.sharded(gradient, settings.shard_size, map_fn)
        step = fcnn.train_step(run.model, run.loss, run.optimizer, ranks.gradient(gradient))
        for epoch in range(state.step // run.steps + 1, settings.epochs + 1):
            began = time.perf_counter() - seen.seconds
            rest = (next(stream) for _ in range(epoch * run.steps - state.step))
            with progress_bar(len(run.train), seen.images, f"epoch {epoch}/{settings.epochs}") as bar:
                for new, record in fcnn.scan(step, state, rest):
                    if not math.isfinite(record.loss):
                        diverged(folder, record.step, epoch)
                    state, seen = new, seen.add(record, time.perf_counter() - began)
                    bar.update(record.size)
                    bar.set_postfix_str(f"loss {record.loss:.3f}, accuracy {seen.accuracy:.2%}", refresh=False)
                    if state.step < epoch * run.steps and ranks.any(asked()):
                        path = folder / "interrupted.npz"
                        ranks.first_does(save, path, state, run, settings, history, seen)
                        stopped(path, state, settings)
            ranks.check_equal(state.params, state.step)
            found = fcnn.evaluate(run.model, state.params, state.layer_state, run.validation, map_fn=map_fn)
            if not math.isfinite(found.loss):
                diverged(folder, state.step - 1, epoch)
            history = [*history, summary(epoch, seen, found)]
            seen = Seen()
            path = folder / f"epoch-{epoch:02d}.npz"
            ranks.first_does(save, path, state, run, settings, history, seen)
            ranks.first_does((folder / "interrupted.npz").unlink, True)
            ranks.first_does(write_history, folder, settings, history)
            print(epoch_line(history[-1], settings), flush=True)
            if epoch < settings.epochs and ranks.any(asked()):
                stopped(path, state, settings)
        result = fcnn.evaluate(run.model, state.params, state.layer_state, run.test, map_fn=map_fn)
    report(run, settings, folder, history, result)


@attrs.frozen
class Seen:
    """What was seen of an epoch so far."""

    loss: float = 0.0  # summed over the images
    correct: int = 0
    images: int = 0
    seconds: float = 0.0

    def add(self, record: fcnn.Record, seconds: float) -> "Seen":
        """With one more step, `seconds` after the epoch began."""
        correct = self.correct + (record.correct or 0)
        return Seen(self.loss + record.loss * record.size, correct, self.images + record.size, seconds)

    @property
    def accuracy(self) -> float:
        """The share of right predictions, each made before its image was learnt from."""
        return self.correct / self.images


def summary(epoch: int, seen: Seen, found: fcnn.Evaluation) -> dict[str, Any]:
    """An epoch's item in the history."""
    return {
        "epoch": epoch,
        "train_loss": seen.loss / seen.images,
        "train_accuracy": seen.accuracy,
        "validation_loss": found.loss,
        "validation_accuracy": found.accuracy,
        "seconds": seen.seconds,
        "images_per_second": seen.images / seen.seconds,
    }


def save(
    path: Path, state: fcnn.TrainState, run: Run, settings: Settings, history: list[dict[str, Any]], seen: Seen
) -> None:
    """Write a checkpoint with all that --resume needs."""
    meta = {
        "settings": attrs.asdict(settings),
        "history": history,
        "seen": attrs.asdict(seen),
        "network": fcnn.describe(run.model),
    }
    fcnn.save(path, state, meta=meta)


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C (or a scheduler's SIGTERM) wait for the end of the step; a second one stops at once.

    So that what is saved is always the state after a whole step, with the numbers that belong to it.
    """
    received = False

    def handle(number: int, frame: object) -> None:
        nonlocal received
        if received:
            raise KeyboardInterrupt
        received = True

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def progress_bar(total: int, done: int, description: str) -> "tqdm[Any]":
    """A bar of images a second; none where the output is no terminal."""
    return tqdm(
        total=total,
        initial=done,
        desc=description,
        unit=" images",
        unit_scale=True,
        leave=False,
        dynamic_ncols=True,
        disable=None,
    )


def stopped(path: Path, state: fcnn.TrainState, settings: Settings) -> NoReturn:
    """End a run that was interrupted; nothing is lost."""
    raise Stop(
        f"interrupted after step {state.step}; everything is in {path}\n"
        f"go on with: {resume_command(path.parent, settings)}"
    )


def resume_command(folder: Path, settings: Settings) -> str:
    """The command that goes on with a run."""
    command = f"python scripts/train.py --resume {folder}"
    return f"mpiexec -n {settings.ranks} {command} --mpi" if settings.ranks > 1 else command


def diverged(folder: Path, step: int, epoch: int) -> NoReturn:
    """End a run whose loss is no number any more."""
    kept = sorted(folder.glob("epoch-*.npz"))
    last = f"the last good checkpoint is {kept[-1]}" if kept else "no epoch was finished, so there is no checkpoint"
    raise Stop(
        f"error: the loss is not finite at step {step} (epoch {epoch}); {last}.\n"
        "Try a smaller --lr, --schedule warmup, or --clip 1."
    )


def latest(folder: Path) -> tuple[Path, Settings, list[dict[str, Any]]]:
    """The checkpoint of a run that is furthest on, its settings and its history."""
    found = [*folder.glob("epoch-*.npz"), *folder.glob("interrupted.npz")]
    if not found:
        raise Stop(f"error: {folder} holds no checkpoint (epoch-01.npz, …) to go on from; start a run without --resume")
    metas = {path: fcnn.load_meta(path) for path in found}
    try:
        path = max(found, key=lambda path: (len(metas[path]["history"]), metas[path]["seen"]["images"]))
        return path, Settings(**metas[path]["settings"]), metas[path]["history"]
    except (KeyError, TypeError) as error:
        raise Stop(f"error: the checkpoints in {folder} were not written by this script ({error})") from None


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


def load_data(name: str, root: str | None) -> fcnn.Dataset:
    """Load a data set, with a bar for a download."""
    bars: dict[str, tqdm[Any]] = {}

    def progress(description: str, done: int, total: int | None) -> None:
        if description not in bars:
            bars[description] = tqdm(
                desc=description, total=total, unit="B", unit_scale=True, leave=False, disable=None, dynamic_ncols=True
            )
        bars[description].update(done - bars[description].n)

    try:
        return fcnn.data.load(name, root, progress=progress)
    finally:
        for bar in bars.values():
            bar.close()


def write_history(folder: Path, settings: Settings, history: list[dict[str, Any]]) -> None:
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


def announce(run: Run, settings: Settings, folder: Path) -> None:
    """Say what will be done."""
    count = fcnn.tree.size(run.start.params)
    ranks = f", {settings.ranks} ranks" if settings.ranks > 1 else ""
    print(
        f"{settings.model} ({count:,} parameters) on {settings.dataset}: {len(run.train):,} training images, "
        f"{len(run.test):,} test images\n"
        f"{settings.epochs} epochs, batch {settings.batch_size}, {settings.optimizer}, rate {settings.lr:g} "
        f"({settings.schedule}), seed {settings.seed}{ranks}; results in {folder}"
    )


def epoch_line(item: dict[str, Any], settings: Settings) -> str:
    """The line an epoch."""
    return (
        f"epoch {item['epoch']:>2}/{settings.epochs}: training loss {item['train_loss']:.4f}, "
        f"accuracy {item['train_accuracy']:.2%}; {validation_name(settings)} loss {item['validation_loss']:.4f}, "
        f"accuracy {item['validation_accuracy']:.2%}; {item['seconds']:.1f} s, "
        f"{item['images_per_second']:,.0f} images/s"
    )


def report(run: Run, settings: Settings, folder: Path, history: list[dict[str, Any]], result: fcnn.Evaluation) -> None:
    """Say how it ended."""
    seconds = sum(item["seconds"] for item in history)
    print(f"\n{fcnn.classification_report(result.predictions, run.test.y, run.classes)}\n")
    print(
        f"test accuracy after epoch {settings.epochs}: {result.accuracy:.2%} of {len(run.test):,} images "
        f"(loss {result.loss:.4f}); {seconds:.1f} s of training"
    )
    print(f"in {folder}: epoch-{settings.epochs:02d}.npz, history.json, curves.png")


def whole(least: int) -> Any:
    """A parser of whole numbers of at least `least`."""

    def convert(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text}")
        return value

    convert.__name__ = "whole number"
    return convert


def number(text: str) -> float:
    """A parser of finite numbers of at least 0."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a finite number of at least 0, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
