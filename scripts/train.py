"""Train a network on real images, watch it, and keep everything that is needed to go on or to look back.

    python scripts/train.py                                        # LeNet-5 on MNIST, as in the reproduced study
    python scripts/train.py --dataset cifar10 --model lenet5_bn --epochs 20 --schedule cosine
    python scripts/train.py --dataset digits                       # needs no network
    python scripts/train.py --dataset ./flowers --epochs 20        # pictures of yours: flowers/rose/1.jpg, …
    python scripts/train.py --resume runs/mnist-lenet5-seed0       # goes on to the same bits
    mpiexec -n 2 python scripts/train.py --mpi                     # over 2 processes, here or on several machines

A run's folder holds a checkpoint an epoch (epoch-01.npz, …), history.json and curves.png.
"""

import stopping

stopping.at_once(__name__)  # before the other imports, which take a second

import argparse
import contextlib
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import attrs
import numpy as np
from console import UNREAD, Stop, is_folder, program
from options import INITIALIZERS, MODELS, data_set, number, whole
from ranks import TROUBLE, Ranks, joined
from settings import OPTIMIZERS, SCHEDULES, Settings, Setup, choose, given, longer, prepare, settings_of

import fcnn
from fcnn import parallel
from fcnn.training import runs
from fcnn.training.epochs import History, epoch_line, epoch_stream
from fcnn.training.progress import display
from fcnn.training.runs import Progress, RunFolder
from fcnn.training.signals import interruptible
from fcnn.values.files import replacing

CONCURRENT = {"processes": parallel.processes, "threads": parallel.threads}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    # Before parsing, so that the ranks of a wrong command line say so once.
    with joined() if "--mpi" in argv else contextlib.nullcontext(Ranks()) as ranks:
        return run(parse(argv), ranks)


def run(arguments: argparse.Namespace, ranks: Ranks) -> int:
    """Do what the options say; the exit code."""
    folder, settings = None, Settings()

    def way_on() -> str:
        """How the run goes on, where there is something to go on from."""
        if folder is None or not runs.has_checkpoint(folder):
            return ""
        return f"; the checkpoints in {folder} are whole\ngo on with: {settings.resume_command(folder)}"

    try:
        with contextlib.ExitStack() as stack:
            folder, settings, checkpoint = ranks.first_decides(choose, arguments, ranks.size, stack)
            ranks = attrs.evolve(ranks, way_on=way_on)
            how = settings, arguments.data, checkpoint is not None
            first = ranks.first_does(prepare, *how)  # so that a download happens once
            setup = ranks.all_do(lambda: first or prepare(*how))
            # Not where MPI runs: a fork of a process that talks to others is a risk.
            workers = arguments.workers or ("processes" if sys.platform == "linux" and not arguments.mpi else "threads")
            concurrent = CONCURRENT[workers](arguments.threads or ranks.cores())
            ranks = attrs.evolve(ranks, timeout=arguments.timeout)
            train(setup, settings, folder, checkpoint, concurrent, ranks, arguments.check_finite)
    except Stop as stop:
        print(f"\n{stop}", file=sys.stderr)
        return stop.code
    except BrokenPipeError:
        return ranks.fail(f"nobody reads the output any more{way_on()}", UNREAD)
    except TROUBLE as error:
        return ranks.fail(ranks.explain(error))
    except KeyboardInterrupt as interrupt:
        told = f"{stopping.word_for(interrupt)}{way_on() or ' before the first checkpoint; nothing is kept'}"
        return ranks.fail(told, stopping.code_of(interrupt))
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options; nonsense ends here, with a sentence."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument_group("what is trained").add_argument
    add(
        "--dataset",
        type=data_set,
        metavar="NAME",
        help=f"the images: {', '.join(fcnn.data.DATASETS)}, a folder of pictures, a folder for each class (or train/ "
        "and test/ with those), or an .npz file with arrays x, y, perhaps x_test, y_test, classes (default mnist)",
    )
    add("--size", type=whole(1), help="pixels of the sides of a folder's pictures (default 32)")
    add("--grey", action="store_true", default=None, help="a folder's pictures without colour")
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
    add(
        "--drop-last",
        action="store_true",
        default=None,
        help="leave out an epoch's last batch where it is smaller: batch norm can't learn from one image "
        "(default: it is learnt from)",
    )
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
    add(
        "--check-finite",
        action="store_true",
        help="end with the layer whose output or gradient is not finite first (layer by layer: other last bits)",
    )
    add(
        "--data",
        metavar="FOLDER",
        help="where the data set is (default: $FCNN_DATA, the cache, a download); with --resume also where your own "
        "is, if it has moved",
    )
    add("--out", metavar="FOLDER", help="the run's folder (default runs/<dataset>-<model>-seed<seed>)")
    add("--resume", metavar="FOLDER", help="go on with the run in FOLDER, with its own settings; --epochs may be more")
    arguments = parser.parse_args(argv)
    named = [*given(arguments), *(name for name in ("shards", "out") if getattr(arguments, name))]
    named = [name for name in named if name != "epochs"]
    if arguments.resume and named:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in named)
        parser.error(f"--resume goes on with the run's own settings; leave out {options}")
    folder = arguments.dataset is not None and is_folder(arguments.dataset)
    if not folder and (arguments.size or arguments.grey):
        parser.error("--size and --grey are of a folder of pictures; add --dataset FOLDER, or leave them out")
    if arguments.data and arguments.dataset and fcnn.data.is_own(arguments.dataset):
        parser.error("--data is where a data set with a name is; --dataset names your own itself, so leave it out")
    if arguments.momentum is not None and arguments.optimizer != "sgd":
        parser.error(
            f"--momentum is of sgd, not of {arguments.optimizer or 'adam'}; add --optimizer sgd, or leave it out"
        )
    return arguments


def train(
    setup: Setup,
    settings: Settings,
    folder: Path,
    checkpoint: Path | None,
    concurrent: contextlib.AbstractContextManager[parallel.MapFn],
    ranks: Ranks,
    check_finite: bool,
) -> None:
    """Take the epochs that are left from their stream, and keep each."""
    at = Progress(setup.start)
    steps = fcnn.data.steps_per_epoch(len(setup.train), settings.batch_size, settings.drop_last)
    if checkpoint is not None:
        meta = ranks.all_do(runs.meta_of, checkpoint)
        ranks.all_do(setup.expect_same_data, settings, meta)
        at = ranks.all_do(lambda: runs.progress_of(checkpoint, meta, setup.start))
        longer(settings_of(checkpoint, meta), settings.epochs, at.state.step, steps)
        print(f"going on from {checkpoint}, step {at.state.step} of {settings.epochs * steps}")
    print(setup.announcement(settings, folder))
    if not can_draw():
        print("no curves.png: matplotlib is missing; add it with: python -m pip install matplotlib")
    kept = RunFolder(folder, setup.meta(settings))
    if at.history:  # a run that was killed may have left them an epoch short
        ranks.first_does(kept.write_history, at.history)
        ranks.first_does(draw_curves, folder, settings, at.history)
    network = fcnn.checked(setup.network) if check_finite else setup.network
    # An overflow shows in the loss, which is checked at every step.
    with (
        concurrent as map_fn,
        display(len(setup.train), wanted=ranks.first) as shown,
        np.errstate(over="ignore", invalid="ignore"),
    ):

        def validate(state: fcnn.TrainState, split: fcnn.Split = setup.validation) -> fcnn.Evaluation:
            return fcnn.evaluate(setup.network, state.params, state.layer_state, split, map_fn=map_fn)

        gradient = fcnn.gradient(network, setup.loss)
        if settings.shard_size:
            gradient = parallel.sharded(gradient, settings.shard_size, map_fn)
        step = fcnn.train_step(setup.network, setup.loss, setup.optimizer, ranks.gradient(gradient))
        try:
            with interruptible() as which_signal:
                stream = epoch_stream(
                    step,
                    at.state,
                    setup.train,
                    fcnn.fold_in(fcnn.key(settings.seed), "batches"),
                    count=settings.epochs,
                    batch_size=settings.batch_size,
                    drop_last=settings.drop_last,
                    totals=at.totals,
                    validate=validate,
                    stop=lambda: ranks.greatest(which_signal()),
                    display=shown,
                )
                for epoch in stream:
                    at = at.after(epoch)
                    if epoch.item is None:
                        path = ranks.first_does(kept.save_interrupted, at)
                        stopped(path, at, settings, folder, ranks.greatest(which_signal()))
                    ranks.check_equal(at.state.params, at.state.step)
                    path = ranks.first_does(kept.save_epoch, at)
                    ranks.first_does(draw_curves, folder, settings, at.history)
                    print(epoch_line(epoch.item, settings.epochs, settings.validation_name), flush=True)
                    if number := ranks.greatest(which_signal()):
                        stopped(path, at, settings, folder, number)
        except fcnn.DivergedError as error:
            diverged(folder, error)
        except fcnn.LayerError as error:
            if "drop_last" not in error.message:
                raise
            raise fcnn.LayerError(f"{error.message}; here that is --drop-last", error.path) from None
        report(setup, settings, folder, at, validate(at.state, setup.test))


def can_draw() -> bool:
    """Whether there is what draws curves."""
    return find_spec("matplotlib") is not None


def draw_curves(folder: Path, settings: Settings, history: History) -> None:
    """curves.png, replaced in one step; none without matplotlib."""
    if not can_draw():
        return
    from fcnn.inspection.plots import curves

    title = (
        f"{settings.model} on {settings.data_name}: {settings.optimizer}, rate {settings.lr:g}, seed {settings.seed}"
    )
    with replacing(folder / "curves.png") as file:
        figure = curves(history, title, settings.validation_name, loss_name="cross-entropy (nats)")
        figure.savefig(file, format="png")


def stopped(path: Path | None, at: Progress, settings: Settings, folder: Path, number: int) -> NoReturn:
    """End a run that was interrupted by a signal; nothing is lost."""
    stopping.ending()
    raise Stop(
        f"interrupted after step {at.state.step}; everything is in {path}\n"
        f"go on with: {settings.resume_command(folder)}",
        128 + number,
    )


def diverged(folder: Path, error: fcnn.DivergedError) -> NoReturn:
    """End a run whose loss is no number any more."""
    kept = runs.checkpoints(folder)
    last = f"the last good checkpoint is {kept[-1]}" if kept else "no epoch was finished, so there is no checkpoint"
    raise Stop(f"error: {error}; {last}.\nTry a smaller --lr, --schedule warmup, or --clip 1.") from None


def report(setup: Setup, settings: Settings, folder: Path, at: Progress, result: fcnn.Evaluation) -> None:
    """Say how it ended."""
    seconds = sum(item["seconds"] for item in at.history)
    print(f"\n{fcnn.classification_report(result.predictions, setup.test.y, setup.classes)}\n")
    print(
        f"test accuracy after epoch {settings.epochs}: {result.accuracy:.2%} of {len(setup.test):,} images "
        f"(loss {result.loss:.4f}); {seconds:.1f} s of training"
    )
    curves = ", curves.png" if can_draw() else ""
    print(f"in {folder}: {RunFolder(folder).epoch_file(settings.epochs).name}, history.json{curves}")


if __name__ == "__main__":
    sys.exit(program(main))
