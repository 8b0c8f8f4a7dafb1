"""Which cells each scale of the study runs: the scales as data, and the cells that follow from one."""

from collections.abc import Sequence
from typing import Any

import attrs

from study.experiment.cells import Cell, Framework, GradientChecks, Parting, Timing, Training

INITS = ("he", "xavier", "kaiming_uniform")
ABLATIONS: dict[str, dict[str, Any]] = {
    "baseline: Adam, Xavier initialisation": {},
    "SGD with momentum instead of Adam": {"optimizer": "sgd", "lr": 0.05},
    "He initialisation": {"init": "he"},
    "PyTorch's default initialisation": {"init": "kaiming_uniform"},
    "with batch norm": {"batch_norm": True},
    "with dropout": {"dropout": 0.25},
    "with batch norm and dropout": {"batch_norm": True, "dropout": 0.25},
}


@attrs.frozen(kw_only=True)
class Scale:
    """How much is run. Sizes are training images; seeds are so many, from 0 on."""

    headline: dict[str, tuple[int, int]]  # the comparison itself: size and seeds by data set, the main one first
    timed: dict[str, int]  # the size of the timed epochs by data set
    sweep: tuple[int, ...]  # sizes, each with every initialisation
    seeds: int  # of the sweep and of the ablations
    batch_sizes: tuple[int, ...]
    batch_seeds: int
    varied: int  # the size with which batch sizes and ablations are run
    parting: int
    epochs: int = 5


SCALES = {
    "quick": Scale(
        headline={"digits": (1_000, 2)},
        timed={"digits": 1_000},
        sweep=(250, 500),
        seeds=2,
        batch_sizes=(32, 128),
        batch_seeds=2,
        varied=1_000,
        parting=1_000,
        epochs=2,
    ),
    "default": Scale(
        headline={"mnist": (60_000, 3), "cifar10": (10_000, 3)},
        timed={"mnist": 60_000, "cifar10": 10_000},
        sweep=(1_000, 5_000),
        seeds=3,  # with two, an interval of 95 % says next to nothing
        batch_sizes=(32, 128, 512),
        batch_seeds=3,
        varied=1_000,
        parting=6_400,
    ),
    "full": Scale(
        headline={"mnist": (60_000, 5), "cifar10": (50_000, 4)},
        timed={"mnist": 60_000, "cifar10": 50_000},
        sweep=(1_000, 3_000, 10_000, 30_000, 60_000),
        seeds=5,
        batch_sizes=(16, 32, 64, 128, 256, 512, 1024),
        batch_seeds=3,
        varied=10_000,
        parting=60_000,
    ),
}


def plan(scale: Scale, frameworks: Sequence[Framework], threads: int) -> tuple[Cell, ...]:
    """The cells of a scale, each once, for the frameworks that are installed; timed ones are on so many threads."""
    main = next(iter(scale.headline))
    base = {"dataset": main, "epochs": scale.epochs}

    def each(seeds: int, **settings: Any) -> list[Training]:
        return [Training(framework=name, seed=k, **{**base, **settings}) for k in range(seeds) for name in frameworks]

    timed = [
        Timing(dataset=name, train_size=size, threads=threads, frameworks=tuple(frameworks))
        for name, size in scale.timed.items()
    ]
    partings = [Parting(dataset=main, train_size=scale.parting, dtype=dtype) for dtype in ("float32", "float64")]
    trainings = [
        cell for name, (size, seeds) in scale.headline.items() for cell in each(seeds, dataset=name, train_size=size)
    ]
    detailed = {attrs.evolve(cell, detail=True) for cell in trainings if cell.seed == 0}
    for size in scale.sweep:
        for init in INITS:
            trainings += each(scale.seeds, train_size=size, init=init)
    for batch_size in scale.batch_sizes:
        trainings += each(scale.batch_seeds, train_size=scale.varied, batch_size=batch_size)
    for change in ABLATIONS.values():
        trainings += [Training(train_size=scale.varied, seed=k, **{**base, **change}) for k in range(scale.seeds)]
    # A detailed training is the same one, with more kept.
    trainings = [twin if (twin := attrs.evolve(cell, detail=True)) in detailed else cell for cell in trainings]
    both = len(frameworks) > 1
    return tuple(dict.fromkeys((*timed, GradientChecks(), *(partings if both else ()), *trainings)))
