"""What `fcnn.ops.processor` says of this machine, measured: each number of its row against its neighbours.

The candidates of a number take turns on the layers that it concerns, so that a machine whose speed drifts slows all
alike. A number is worth changing where another is faster by more than 5 % in the median; nothing is changed here.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

import attrs
import numpy as np

from fcnn import ops, parallel
from fcnn.ops.layout import block, unblock
from fcnn.ops.processor import Tuning, trying, tuning
from fcnn.values.arrays import Array, frozen

GAIN = 0.95  # of the time that the present number takes

Layer = tuple[int, int, int, int]  # channels, filters, taps, size
THIN: Sequence[Layer] = ((1, 6, 5, 28), (6, 16, 5, 14), (3, 32, 3, 32))
MIDDLE: Sequence[Layer] = ((32, 32, 3, 32), (64, 64, 3, 16))
WIDE: Sequence[Layer] = ((64, 64, 3, 32), (128, 128, 3, 8))
# Of each number the candidates beside its own, the layers that it concerns, and what of them.
ROWS: Mapping[str, tuple[Sequence[int], Sequence[Layer], str]] = {
    "product": ((0, 400_000, 800_000), THIN, "forward"),
    "part": ((1 << 16, 1 << 17, 1 << 18, 1 << 19), (*MIDDLE, *WIDE), "both"),
    "tiles": ((1 << 13, 1 << 14, 1 << 15, 1 << 16), WIDE, "both"),
    "winograd": ((32, 64, 128), (*MIDDLE, *WIDE), "forward"),
    "winograd_weights": ((64, 128, 256), WIDE, "weights"),
    "forward_rows": ((1, 12, 16), THIN[:2], "forward"),
    "weight_rows": ((1, 12, 16), THIN[:2], "weights"),
}


def tune(rounds: int, batch: int = 64) -> Iterator[str]:
    """Lines of a report: each number of the table, the candidates' times relative to it, and what they speak for."""
    now = tuning()
    yield f"{now}"
    with parallel.threads(1):
        for name, (candidates, layers, part) in ROWS.items():
            own = getattr(now, name)
            values = sorted({own, *candidates})
            rows = {value: attrs.evolve(now, **{name: value}) for value in values}
            ratios = relative(rows, own, [call for layer in layers for call in calls(layer, part, batch)], rounds)
            best = min(ratios, key=lambda value: ratios[value])
            verdict = f"-> {best}" if ratios[best] < GAIN else "stays"
            told = ", ".join(f"{value}: {ratio:.2f}" for value, ratio in ratios.items())
            yield f"{name} (now {own}; {part}): {told}   {verdict}"


def relative(
    rows: Mapping[int, Tuning], own: int, calls: Sequence[Callable[[], object]], rounds: int
) -> dict[int, float]:
    """The time of all calls by each row, relative to the row `own` in the same turn: the median of the turns."""
    found: dict[int, list[float]] = {value: [] for value in rows}
    for turn in range(rounds + 1):
        times = {}
        for value, row in rows.items():
            with trying(row):
                began = time.perf_counter()
                for call in calls:
                    call()
                times[value] = time.perf_counter() - began
        for value in rows if turn else ():  # the first turn warms up
            found[value].append(times[value] / times[own])
    return {value: median(ratios) for value, ratios in found.items()}


def calls(layer: Layer, part: str, batch: int) -> list[Callable[[], object]]:
    """The calls of `fcnn.ops` for a layer: "forward", its gradient of the "weights", or "both"."""
    channels, filters, taps, size = layer
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Array:
        numbers = rng.standard_normal(shape, np.float32)
        return frozen(unblock(block(numbers))) if len(shape) == 4 and shape[0] == batch else frozen(numbers)

    x, w = draw(batch, channels, size, size), draw(filters, channels, taps, taps)
    padding = 1 if taps == 3 else 2 if channels == 1 else 0
    y, cache = ops.conv2d(x, w, padding=padding)
    dy = draw(*y.shape)
    # Short layers are called more often, so that each weighs about as much.
    times = max(1, 300_000_000 // (y.size * channels * taps * taps))
    forward = [lambda: ops.conv2d(x, w, padding=padding)] * times
    weights = [lambda: ops.conv2d_backward(dy, cache, need_dx=False)] * times
    return {"forward": forward, "weights": weights, "both": [*forward, *weights]}[part]
