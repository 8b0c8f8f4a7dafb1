"""The programs that are compared, and what their files share.

Each file has `opened(threads, form)`, a context that gives a function for each kind of case it can do: it makes the
case ready from its inputs, so that nothing but the work itself is timed.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import attrs
import numpy as np
from machine import cores

from bench.cases import Epoch, Predict, Step

Array: TypeAlias = np.ndarray[Any, Any]
Inputs: TypeAlias = Mapping[str, Array]


class Prepared(NamedTuple):
    """A case made ready: the call to time for each part; `check`: numbers that must be the same in every program."""

    calls: Mapping[str, Callable[[], Any]]
    check: Callable[[], Array]


Makers: TypeAlias = Mapping[type, Callable[[Any, Inputs], Prepared]]


@attrs.frozen
class Program:
    """One column of the comparison: its file, the package it needs, and how to get that."""

    name: str
    module: str
    package: str
    install: str = ""
    form: str = ""
    threads: int | None = None  # None: as many as the run has
    all_cores: bool = False  # takes them unasked, so that a run with fewer threads leaves it out
    keeps_memory: bool = True  # as importing fcnn makes it; False: as the C library's allocator comes

    def suits(self, threads: int) -> bool:
        """Whether it is a program of its own in a run with so many threads."""
        return (self.threads or 0) < threads and (not self.all_cores or threads == cores())


_TORCH = ("with_torch", "torch", "pip install torch==2.13.0")
PROGRAMS = (
    Program("fcnn", "with_fcnn", "fcnn"),
    Program("fcnn, plain", "with_fcnn", "fcnn", form="plain", all_cores=True),
    Program("fcnn, threads", "with_fcnn", "fcnn", form="threads"),
    Program("fcnn, 1 thread", "with_fcnn", "fcnn", threads=1),
    Program("PyTorch, NCHW", *_TORCH, form="NCHW"),
    Program("PyTorch, channels_last", *_TORCH, form="channels_last"),
    Program("PyTorch, compiled", *_TORCH, form="compiled"),
    Program("PyTorch, NCHW, as it comes", *_TORCH, form="NCHW", keeps_memory=False),
    Program("PyTorch, channels_last, as it comes", *_TORCH, form="channels_last", keeps_memory=False),
    Program("JAX", "with_jax", "jax", "pip install jax"),
    Program("onnxruntime", "with_onnxruntime", "onnxruntime", "pip install onnxruntime onnx"),
    Program("NumPy, im2col", "with_numpy", "numpy"),
    Program("autograd", "with_autograd", "autograd", "pip install autograd scipy"),
)
SGEMM = Program("sgemm", "with_sgemm", "numpy")
PACKAGES = tuple(dict.fromkeys(program.package for program in PROGRAMS))


def prepare_training(
    case: Step | Epoch, inputs: Inputs, step: Callable[[Any, Any], float], to_batch: Callable[[Array, Array], Any]
) -> Prepared:
    """Training steps, or whole epochs, of a program.

    Args:
        case, inputs: what is trained on.
        step: trains on a batch (x, y) and gives its loss.
        to_batch: makes a batch of images, uint8 (N, C, H, W), and labels, int64 (N,). In an epoch this is timed.
    """
    x, y = inputs["x"], inputs["y"]
    order = inputs["order"] if isinstance(case, Epoch) else np.arange(len(x))
    batches = np.split(order, range(case.batch, len(order), case.batch))

    def train(rows: Array) -> float:
        return step(*to_batch(x[rows], y[rows]))

    def check() -> Array:  # the last one may be smaller, and be compiled for itself
        return np.array([train(rows) for rows in (*batches[:2], batches[-1])])

    if isinstance(case, Epoch):
        return Prepared({"": lambda: float(np.mean([train(rows) for rows in batches]))}, check)
    turn = itertools.cycle([to_batch(x[rows], y[rows]) for rows in batches])
    return Prepared({"": lambda: step(*next(turn))}, check)


def prepare_inference(case: Predict, inputs: Inputs, outputs: Callable[[Array], Array]) -> Prepared:
    """Passes over all images, or with batch 1 single images; `outputs` gives the logits of uint8 (N, C, H, W)."""
    x = inputs["x"]
    batches = np.split(x, range(case.batch, len(x), case.batch))
    turn = itertools.cycle(batches)
    call = (
        (lambda: outputs(next(turn)))
        if case.batch == 1
        else lambda: np.concatenate([outputs(each) for each in batches])
    )
    return Prepared({"": call}, lambda: sample(outputs(batches[0])))


def prepare_photo(outputs: Callable[[], Array]) -> Prepared:
    """One image, again and again; `outputs` gives its logits."""
    return Prepared({"": outputs}, lambda: sample(outputs()))


def params_of(inputs: Inputs) -> dict[str, Array]:
    """The parameters among the inputs, by path."""
    return {name.removeprefix("params/"): array for name, array in inputs.items() if name.startswith("params/")}


def sample(*arrays: Array) -> Array:
    """A few hundred numbers of each array, at equal distances in C order, scaled to a greatest of 1; and the scales."""
    parts: list[Any] = []
    for array in arrays:
        flat = np.asarray(array, np.float64).ravel()
        greatest = float(np.abs(flat).max()) or 1.0
        parts += [flat[:: math.ceil(flat.size / 300)] / greatest, [math.log(greatest)]]
    return np.concatenate(parts)


def differs(found: Array, expected: Array, tolerance: float) -> bool:
    """Whether the greatest difference is more than `tolerance` of the greatest number, or something isn't finite."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return True
    return bool(np.abs(found - expected).max() > tolerance * np.abs(expected).max())
