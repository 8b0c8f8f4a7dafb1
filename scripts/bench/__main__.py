"""Time fcnn against PyTorch, JAX, a plain NumPy baseline and autograd, in turn and in one run.

    pip install torch==2.13.0 jax autograd scipy      # what isn't there is left out, and named
    python scripts/bench.py                           # everything, about half an hour
    python scripts/bench.py --only "training step" --peers torch
    python scripts/bench.py --profile                 # where the time of fcnn's step goes, layer by layer

Numbers go to results.json and ratios.png in the folder --out. Quote the ratios, not the milliseconds: the programs take
turns in rounds (A B C A B C …), so that a machine whose speed drifts slows all of them.
"""

import argparse
import os
import sys
from pathlib import Path

# However this folder was started: scripts import one another by their places in the folder above.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

MODELS = ("lenet5", "lenet5_bn", "cifar")
PEERS = ("torch", "jax", "numpy", "autograd")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    arguments = parse(argv)
    if arguments.profile:
        from bench.layers import NETWORKS, profile

        model, in_shape = NETWORKS[arguments.model]
        print(profile(model(), in_shape, arguments.shard_size, arguments.repetitions))
        return 0

    from bench import report, session
    from fcnn.data import DataError

    settings = session.Settings(
        threads=arguments.threads,
        rounds=arguments.rounds or (2 if arguments.quick else 10),
        epoch_rounds=arguments.epoch_rounds or (2 if arguments.quick else 3),
        peers=tuple(arguments.peers),
        only=tuple(arguments.only),
        quick=arguments.quick,
        data=arguments.data,
        out=arguments.out,
    )
    names = session.names_of(settings)
    if arguments.list:
        print("\n".join(names))
        return 0
    if not names:
        print(f"error: --only {', '.join(arguments.only)} names no case; --list prints them", file=sys.stderr)
        return 2
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"error: can't make the folder {settings.out} ({error.strerror}); choose another --out", file=sys.stderr)
        return 1
    try:
        print(report.ending(session.run(settings)))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ninterrupted; the finished cases are in {settings.out / 'results.json'}", file=sys.stderr)
        return 130
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--only", action="append", default=[], metavar="TEXT", help="rows with this in their name; may be repeated")
    add("--list", action="store_true", help="print the names of the rows and end")
    add("--peers", nargs="*", choices=PEERS, default=PEERS, help="whom to compare with (default: all)")
    add("--threads", type=whole, default=cores(), help="of each program (default: all cores)")
    add("--rounds", type=whole, help="turns of each program (default 10)")
    add("--epoch-rounds", type=whole, help="the same, for the epochs (default 3)")
    add("--quick", action="store_true", help="small sizes, two short rounds: to see that it runs, not how fast")
    add("--data", metavar="FOLDER", help="where MNIST is (default: $FCNN_DATA, the cache, a download)")
    add("--out", type=Path, default=Path("runs/bench"), metavar="FOLDER", help="default runs/bench")
    add = parser.add_argument_group("where the time of a training step goes").add_argument
    add("--profile", action="store_true", help="time each layer instead, on one thread")
    add("--model", choices=MODELS, default="lenet5", help="default lenet5")
    add("--shard-size", type=whole, default=64, help="images (default 64)")
    add("--repetitions", type=whole, default=100, help="steps (default 100)")
    return parser.parse_args(argv)


def whole(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return value


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
