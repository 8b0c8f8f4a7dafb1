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
import itertools
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import attrs
import numpy as np
from console import Stop, load_data, progress_bar
from options import INITIALIZERS, MODELS, number, whole
from ranks import TROUBLE, Ranks, explain, joined
from run_folder import (
    INTERRUPTED,
    Checkpoint,
    EpochTotals,
    History,
    Settings,
    epoch_file,
    epoch_files,
    free_folder,
    furthest,
    make_folder,
    resume_command,
    save_checkpoint,
    validation_name,
    write_history,
)

import fcnn
from fcnn import parallel

OPTIMIZERS = ("adam", "adamw", "sgd")
CONCURRENT = {"processes": parallel.processes, "threads": parallel.threads}
SCHEDULES = ("constant", "step", "cosine", "warmup", "one-cycle")


@attrs.frozen
class Setup:
    """What settings make: the data, the network and how it is trained."""

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
        return run(parse(argv), ranks)


def run(arguments: argparse.Namespace, ranks: Ranks) -> int:
    """Do what the options say; the exit code."""
    try:
        folder, settings, checkpoint = ranks.first_decides(choose, arguments, ranks.size)
        first = ranks.first_does(prepare, settings, arguments.data)  # so that a download happens once
        setup = ranks.all_do(lambda: first or prepare(settings, arguments.data))
        if checkpoint is None:
            ranks.first_does(make_folder, folder)
        # Not where MPI runs: a fork of a process that talks to others is a risk.
        workers = arguments.workers or ("processes" if sys.platform == "linux" and not arguments.mpi else "threads")
        concurrent = CONCURRENT[workers](arguments.threads or ranks.cores())
        train(setup, settings, folder, checkpoint, concurrent, attrs.evolve(ranks, timeout=arguments.timeout))
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


def choose(arguments: argparse.Namespace, rank_count: int) -> tuple[Path, Settings, Checkpoint | None]:
    """Which run it is: its folder and settings, and the checkpoint from which it goes on."""
    if arguments.resume:
        folder = Path(arguments.resume)
        checkpoint = furthest(folder)
        settings = checkpoint.settings
        if settings.ranks != rank_count:
            raise Stop(
                f"error: the run in {folder} has {settings.ranks} rank(s), on which its bits depend, and this is "
                f"{rank_count}; go on with: {resume_command(folder, settings)}"
            )
        return folder, settings, checkpoint
    named = given(arguments)
    if arguments.shards:
        named["shard_size"] = math.ceil(Settings(**named).batch_size / arguments.shards)
    settings = Settings(**named, ranks=rank_count)
    return Path(arguments.out) if arguments.out else free_folder(settings), settings, None


def prepare(settings: Settings, root: str | None) -> Setup:
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
    return Setup(train, validation, data.test, data.classes, model, loss, optimizer, start, steps)


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
    setup: Setup,
    settings: Settings,
    folder: Path,
    checkpoint: Checkpoint | None,
    concurrent: contextlib.AbstractContextManager[parallel.MapFn],
    ranks: Ranks,
) -> None:
    """Fold the step over the epochs that are left, watching from outside."""
    state, history, totals = setup.start, [], EpochTotals()
    if checkpoint is not None:
        state = ranks.all_do(lambda: fcnn.load(checkpoint.path, like=setup.start))
        history, totals = checkpoint.history, checkpoint.totals
        print(f"going on from {checkpoint.path}, step {state.step} of {settings.epochs * setup.steps}")
    announce(setup, settings, folder)
    stream = fcnn.batches(
        setup.train,
        settings.batch_size,
        fcnn.fold_in(fcnn.key(settings.seed), "batches"),
        epochs=settings.epochs,
        start_step=state.step,
    )
    # An overflow shows in the loss, which is checked at every step.
    with concurrent as map_fn, interruptible() as is_interrupted, np.errstate(over="ignore", invalid="ignore"):
        gradient = fcnn.gradient(setup.model, setup.loss)
        if settings.shard_size:
            gradient = parallel.sharded(gradient, settings.shard_size, map_fn)
        step = fcnn.train_step(setup.model, setup.loss, setup.optimizer, ranks.gradient(gradient))
        for epoch in range(state.step // setup.steps + 1, settings.epochs + 1):
            last_step = epoch * setup.steps
            began = time.perf_counter() - totals.seconds
            description = f"epoch {epoch}/{settings.epochs}"
            with progress_bar(description, " images", len(setup.train), totals.images) as bar:
                for after, record in fcnn.scan(step, state, itertools.islice(stream, last_step - state.step)):
                    if not math.isfinite(record.loss):
                        diverged(folder, record.step, epoch)
                    state, totals = after, totals.after(record, time.perf_counter() - began)
                    bar.update(record.size)
                    bar.set_postfix_str(f"loss {record.loss:.3f}, accuracy {totals.accuracy:.2%}", refresh=False)
                    if state.step < last_step and ranks.any(is_interrupted()):
                        path = folder / INTERRUPTED
                        ranks.first_does(save_checkpoint, path, state, setup.model, settings, history, totals)
                        stopped(path, state, settings)
            ranks.check_equal(state.params, state.step)
            found = fcnn.evaluate(setup.model, state.params, state.layer_state, setup.validation, map_fn=map_fn)
            if not math.isfinite(found.loss):
                diverged(folder, state.step - 1, epoch)
            history, totals = [*history, totals.history_item(epoch, found)], EpochTotals()
            path = epoch_file(folder, epoch)
            ranks.first_does(save_checkpoint, path, state, setup.model, settings, history, totals)
            ranks.first_does((folder / INTERRUPTED).unlink, True)
            ranks.first_does(write_history, folder, settings, history)
            print(epoch_line(history[-1], settings), flush=True)
            if epoch < settings.epochs and ranks.any(is_interrupted()):
                stopped(path, state, settings)
        result = fcnn.evaluate(setup.model, state.params, state.layer_state, setup.test, map_fn=map_fn)
    report(setup, settings, folder, history, result)


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


def stopped(path: Path, state: fcnn.TrainState, settings: Settings) -> NoReturn:
    """End a run that was interrupted; nothing is lost."""
    raise Stop(
        f"interrupted after step {state.step}; everything is in {path}\n"
        f"go on with: {resume_command(path.parent, settings)}"
    )


def diverged(folder: Path, step: int, epoch: int) -> NoReturn:
    """End a run whose loss is no number any more."""
    kept = epoch_files(folder)
    last = f"the last good checkpoint is {kept[-1]}" if kept else "no epoch was finished, so there is no checkpoint"
    raise Stop(
        f"error: the loss is not finite at step {step} (epoch {epoch}); {last}.\n"
        "Try a smaller --lr, --schedule warmup, or --clip 1."
    )


def announce(setup: Setup, settings: Settings, folder: Path) -> None:
    """Say what will be done."""
    count = fcnn.tree.size(setup.start.params)
    ranks = f", {settings.ranks} ranks" if settings.ranks > 1 else ""
    print(
        f"{settings.model} ({count:,} parameters) on {settings.dataset}: "
        f"{len(setup.train):,} training images, {len(setup.test):,} test images\n"
        f"{settings.epochs} epochs, batch {settings.batch_size}, {settings.optimizer}, rate {settings.lr:g} "
        f"({settings.schedule}), seed {settings.seed}{ranks}; results in {folder}"
    )


def epoch_line(item: dict[str, Any], settings: Settings) -> str:
    """The line an epoch."""
    return (
        f"epoch {item['epoch']:>2}/{settings.epochs}: "
        f"training loss {item['train_loss']:.4f}, accuracy {item['train_accuracy']:.2%}; "
        f"{validation_name(settings)} loss {item['validation_loss']:.4f}, accuracy {item['validation_accuracy']:.2%}; "
        f"{item['seconds']:.1f} s, {item['images_per_second']:,.0f} images/s"
    )


def report(setup: Setup, settings: Settings, folder: Path, history: History, result: fcnn.Evaluation) -> None:
    """Say how it ended."""
    seconds = sum(item["seconds"] for item in history)
    print(f"\n{fcnn.classification_report(result.predictions, setup.test.y, setup.classes)}\n")
    print(
        f"test accuracy after epoch {settings.epochs}: {result.accuracy:.2%} of {len(setup.test):,} images "
        f"(loss {result.loss:.4f}); {seconds:.1f} s of training"
    )
    print(f"in {folder}: {epoch_file(folder, settings.epochs).name}, history.json, curves.png")


if __name__ == "__main__":
    sys.exit(main())
