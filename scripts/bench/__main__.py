"""Time fcnn against PyTorch, JAX, onnxruntime, a plain NumPy baseline and autograd, in turn and in one run.

    pip install torch==2.13.0 jax onnxruntime onnx autograd scipy      # what isn't there is left out, and named
    python scripts/bench                              # everything, half an hour and more
    python scripts/bench --only "training step" --peers torch
    python scripts/bench --tune                       # what fcnn's table of processors should say of this one
    python scripts/bench --profile                    # where the time of fcnn's step goes, layer by layer
    python scripts/bench --table                      # README's table, of all results that are kept
    pip install onnx; python scripts/bench --beside   # what fcnn does and doesn't beside others, each installed anew
    python scripts/bench --beside --table             # README's table of that

Numbers go to a .json and a .png in the folder --out, both named by the processor. Quote the ratios, not the
milliseconds: the programs take turns in rounds (A B C A B C …), so that a machine whose speed drifts slows all of them.
Runs worth keeping are in scripts/bench/results, one file a machine: none replaces another's.
"""

import sys
from pathlib import Path

# However this folder was started: scripts import one another by their places in the folder above.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import stopping

stopping.at_once(__name__)  # before the other imports, which take a second

import argparse
from importlib.util import find_spec

# What imports fcnn is imported in functions: a worker may run this file, too, and fcnn is not for every program.
from machine import cores

from bench.programs import PACKAGES


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    arguments = parse(argv)
    if arguments.profile:
        from bench.layers import NETWORKS, profile

        model, in_shape = NETWORKS[arguments.model]
        print(profile(model(), in_shape, arguments.shard_size, arguments.repetitions))
        return 0

    if arguments.tune:
        from bench.tuning import tune

        for line in tune(arguments.rounds):
            print(line, flush=True)
        return 0

    from bench import beside, beside_table, machines, report, session, table
    from fcnn.data import DataError

    if arguments.table:
        kept = machines.kept(arguments.beside)
        print(beside_table.table(kept) if arguments.beside else table.table(kept))
        return 0
    if arguments.beside and find_spec("onnx") is None:
        print(
            "error: --beside makes the files for planer and onnx.reference with onnx; pip install onnx", file=sys.stderr
        )
        return 1
    names = session.names_of(arguments)
    if arguments.list:
        print("\n".join(names))
        return 0
    if not names:
        print(f"error: --only {', '.join(arguments.only)} names no case; --list prints them", file=sys.stderr)
        return 2
    if arguments.data and not Path(arguments.data).is_dir():
        print(f"error: --data {arguments.data}: no such folder; name the one with MNIST and CIFAR-10", file=sys.stderr)
        return 1
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        if arguments.beside:
            print(beside_table.table({beside.path_of(arguments).stem: beside.run(arguments)}))
        else:
            print(report.ending(session.run(arguments)))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}; choose another --out, or for the inputs another TMPDIR", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        kept = f"the finished cases are in {(beside if arguments.beside else session).path_of(arguments)}"
        print(f"\n{stopping.word_for(interrupt)}; {kept}", file=sys.stderr)
        return stopping.code_of(interrupt)
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    from options import whole

    from bench.layers import NETWORKS

    peers = [package for package in PACKAGES if package != "fcnn"]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--only", action="append", default=[], metavar="TEXT", help="rows with this in their name; may be repeated")
    add("--list", action="store_true", help="print the names of the rows and end")
    add("--table", action="store_true", help="print README's table, of the results in scripts/bench/results, and end")
    add(
        "--beside", action="store_true", help="install other programs, each alone, and see what they do; --table prints"
    )
    add("--peers", nargs="*", choices=peers, default=peers, help="whom to compare with (default: all)")
    add("--threads", type=whole(1), default=cores(), help="of each program (default: all cores)")
    add("--rounds", type=whole(1), help="turns of each program (default 10, with --quick 2)")
    add("--epoch-rounds", type=whole(1), help="the same, for the epochs (default 3, with --quick 2)")
    add("--quick", action="store_true", help="small sizes, two short rounds: to see that it runs, not how fast")
    add("--data", metavar="FOLDER", help="of MNIST and CIFAR-10 (default: $FCNN_DATA, the cache, a download)")
    add("--out", type=Path, default=Path("runs/bench"), metavar="FOLDER", help="default runs/bench")
    add = parser.add_argument_group("where the time of a training step goes").add_argument
    add("--tune", action="store_true", help="measure each number of fcnn's table of processors on this one instead")
    add("--profile", action="store_true", help="time each layer instead, on one thread")
    add("--model", choices=NETWORKS, default="lenet5", help="default lenet5")
    add("--shard-size", type=whole(1), default=64, help="images (default 64)")
    add("--repetitions", type=whole(1), default=100, help="steps (default 100)")
    arguments = parser.parse_args(argv)
    arguments.rounds = arguments.rounds or (2 if arguments.quick else 10)
    arguments.epoch_rounds = arguments.epoch_rounds or (2 if arguments.quick else 3)
    return arguments


if __name__ == "__main__":
    from console import program

    sys.exit(program(main))
