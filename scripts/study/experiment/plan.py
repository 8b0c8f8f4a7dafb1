"""Which cells each scale of the study runs, by experiment."""

from typing import Any, Literal

import attrs

from study.experiment.cells import Cell, GradientChecks, Parting, Training

Scale = Literal["quick", "default", "full"]
INITS = ("he", "xavier", "kaiming_uniform")


@attrs.frozen
class Plan:
    """The cells of one scale. `timed` cells run alone, each in a process of its own; the others fill all cores."""

    timed: tuple[Training, ...]
    others: tuple[Cell, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((*self.timed, *self.others)))


def plan(scale: Scale, frameworks: tuple[str, ...], threads: int) -> Plan:
    """The cells of a scale, for the frameworks that are installed.

    quick: a minute, embedded digits.  default: about five minutes, MNIST.  full: MNIST and CIFAR-10, all seeds.
    """
    both = "pytorch" in frameworks

    def each(**settings: Any) -> list[Training]:
        return [Training(framework=name, **settings) for name in frameworks]  # type: ignore[arg-type]

    if scale == "quick":
        base = {"dataset": "digits", "train_size": 1_000, "epochs": 2}
        timed = each(**base, threads=threads, detail=True)
        seeds, sizes, inits = range(2), (250, 500), INITS
        sweep = [
            cell for size in sizes for init in inits for seed in seeds
            for cell in each(**{**base, "train_size": size}, init=init, seed=seed)
        ]  # fmt: skip
        batches = [cell for b in (32, 128) for seed in seeds for cell in each(**base, batch_size=b, seed=seed)]
        ablations = [Training(**base, **change, seed=s) for change in ABLATIONS for s in seeds]
        parting = [Parting(dataset="digits", train_size=1_000, dtype=d) for d in ("float32", "float64")]
    elif scale == "default":
        timed = each(threads=threads, detail=True)
        seeds = range(3)  # with two, an interval of 95 % says next to nothing
        sweep = [
            cell for size in (1_000, 5_000) for init in INITS for seed in seeds
            for cell in each(train_size=size, init=init, seed=seed)
        ]  # fmt: skip
        batches = [
            cell for b in (16, 128, 1024) for seed in seeds
            for cell in each(train_size=5_000, batch_size=b, seed=seed)
        ]  # fmt: skip
        ablations = [Training(train_size=5_000, **change, seed=s) for change in ABLATIONS for s in seeds]
        parting = [Parting(train_size=12_800, dtype=d) for d in ("float32", "float64")]
    else:
        timed = each(threads=threads, detail=True)
        timed += each(dataset="cifar10", train_size=50_000, threads=threads, detail=True)
        seeds = range(5)
        sweep = [
            cell for size in (1_000, 3_000, 10_000, 30_000, 60_000) for init in INITS for seed in seeds
            for cell in each(train_size=size, init=init, seed=seed)
        ]  # fmt: skip
        sweep += [cell for seed in range(1, 4) for cell in each(dataset="cifar10", train_size=50_000, seed=seed)]
        batches = [
            cell for b in (16, 32, 64, 128, 256, 512, 1024) for seed in range(3)
            for cell in each(train_size=10_000, batch_size=b, seed=seed)
        ]  # fmt: skip
        ablations = [Training(train_size=10_000, **change, seed=s) for change in ABLATIONS for s in seeds]
        parting = [Parting(dtype=d) for d in ("float32", "float64")]
    return Plan(tuple(timed), (GradientChecks(), *(parting if both else ()), *sweep, *batches, *ablations))


ABLATIONS: tuple[dict[str, Any], ...] = (
    {},
    {"optimizer": "sgd", "lr": 0.05},
    {"init": "he"},
    {"init": "kaiming_uniform"},
    {"batch_norm": True},
    {"dropout": 0.25},
    {"batch_norm": True, "dropout": 0.25},
)
