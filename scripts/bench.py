"""Time a LeNet-5 training step of fcnn against PyTorch's, in turn and in one process.

    pip install torch==2.13.0        # once; without it only fcnn is timed
    python scripts/bench.py

Same images, same batches, float32, Adam, the same number of threads. The programs take turns in rounds (A B C A B C …),
so that a machine whose speed drifts slows all of them; quote the ratios, not the milliseconds.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np

import fcnn
from fcnn import parallel

Step = Callable[[int], object]  # runs the step with the batch of that number
Program = Callable[[], AbstractContextManager[Step]]  # what holds while the program has its turn


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=128, help="images a step (default 128)")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="for each program (default: all cores)"
    )
    parser.add_argument("--shard-size", type=int, default=64, help="of fcnn (default 64)")
    parser.add_argument("--rounds", type=int, default=12, help="how often each program gets its turn (default 12)")
    parser.add_argument("--steps", type=int, default=20, help="steps a turn (default 20)")
    arguments = parser.parse_args()

    images = fcnn.data.make_digits(fcnn.key(0), arguments.batch_size * 10)
    batches = list(fcnn.batches(images, arguments.batch_size, fcnn.key(1)))
    programs = {"fcnn": fcnn_step(batches, arguments.shard_size, arguments.threads)}
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed, so there is nothing to compare with: pip install torch==2.13.0")
    else:
        torch.set_num_threads(arguments.threads)
        programs["PyTorch eager, NCHW"] = torch_step(batches, torch.contiguous_format)
        programs["PyTorch eager, channels_last"] = torch_step(batches, torch.channels_last)

    times: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(arguments.rounds + 1):
        for name, program in programs.items():
            with program() as step:
                for number in range(arguments.steps):
                    began = time.perf_counter()
                    step(number % len(batches))
                    if turn:  # the first round warms up
                        times[name].append(1000 * (time.perf_counter() - began))
    report(times, arguments)


def fcnn_step(batches: list[fcnn.Batch], shard_size: int, threads: int) -> Program:
    """fcnn's step, over shards on threads."""
    model, loss, optimizer = fcnn.lenet5(), fcnn.softmax_cross_entropy(), fcnn.adam(1e-3)
    state = fcnn.init_state(model, optimizer, fcnn.key(2), (1, 28, 28))

    @contextmanager
    def enter() -> Iterator[Step]:
        with parallel.threads(threads) as map_fn:
            gradient = parallel.sharded(fcnn.gradient(model, loss), shard_size, map_fn)
            train = fcnn.train_step(model, loss, optimizer, gradient)

            def step(number: int) -> None:
                nonlocal state
                state, _ = train(state, batches[number])

            yield step

    return enter


def torch_step(batches: list[fcnn.Batch], memory_format: object) -> Program:
    """PyTorch's step, eager, with the images already in its memory format."""
    import torch
    from torch import nn

    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    ).to(memory_format=memory_format)
    loss, optimizer = nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), 1e-3)
    pairs = [
        (torch.tensor(np.ascontiguousarray(batch.x)).to(memory_format=memory_format), torch.tensor(batch.y))
        for batch in batches
    ]

    def step(number: int) -> float:
        x, y = pairs[number]
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        return value.item()  # fcnn's step gives the loss as a number, too

    @contextmanager
    def enter() -> Iterator[Step]:
        yield step

    return enter


def report(times: dict[str, list[float]], arguments: argparse.Namespace) -> None:
    """Print medians with quartiles, and the ratio to the fastest peer."""
    print(
        f"LeNet-5 training step, batch {arguments.batch_size}, float32, {arguments.threads} threads; "
        f"NumPy {np.__version__}, Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    )
    print(f"{'program':<32}{'median ms':>10}{'quartiles':>18}{'steps':>8}")
    medians = {}
    for name, values in times.items():
        low, medians[name], high = statistics.quantiles(values, n=4)
        print(f"{name:<32}{medians[name]:>10.2f}{f'{low:.2f} to {high:.2f}':>18}{len(values):>8}")
    peers = {name: value for name, value in medians.items() if name != "fcnn"}
    if peers:
        best = min(peers, key=lambda name: peers[name])
        print(f"ratio in one run, fcnn / {best}: {medians['fcnn'] / peers[best]:.2f}")


if __name__ == "__main__":
    main()
