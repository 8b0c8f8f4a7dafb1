"""What the records have in common: one seed after another, each in a folder of its own, and what is told of them.

A run may be killed at any moment; it goes on when the script is called again, to the same bits, as its folder has a
checkpoint an epoch. Accuracies are those of the last epoch; the test images choose nothing.
"""

import argparse
import contextlib
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
from console import Stop, in_sentences, load_data
from machine import commit, described, machine, processor, slug
from options import whole

import fcnn
from fcnn.values.files import opened, replacing

KEPT = Path(__file__).resolve().parent / "results"
_LONGEST = 255  # characters of a file's name, as most file systems have it


@attrs.frozen
class Recipe:
    """What a script trains, and what it must reach.

    name: of its folder and its results.
    dataset: as `fcnn.data.load` calls it.
    target: the least mean of the seeds' test accuracies.
    seconds: the most that training one of them may take on two cores; told, as it depends on the machine.
    seeds: those that are run.
    train: from data, a seed and a folder to what `fcnn.fit` gave, once or in several goes on one another; it keeps its
        checkpoints in the folder and goes on from those that are there.
    views: the network as it looks at test images in the end, `fcnn.averaged_views` of it; None: as it is.
    """

    name: str
    dataset: str
    target: float
    seconds: float
    seeds: Sequence[int]
    train: Callable[[fcnn.Dataset, int, Path], Sequence[fcnn.Fitted]]
    views: Callable[[fcnn.Layer], fcnn.Layer] | None = None


def run(recipe: Recipe, about: str | None, argv: Sequence[str] | None = None) -> int:
    """Run the command line of a record's script; the exit code is 0 only where the target is reached."""
    arguments = _parser(recipe, about).parse_args(argv)
    return in_sentences(lambda: _run(recipe, arguments))


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean and standard deviation (of a sample) of the accuracies, and how long training took."""
    accuracies, seconds = [one["accuracy"] for one in runs], [one["seconds"] for one in runs]
    return {
        "mean": statistics.fmean(accuracies),
        "sd": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "seconds": statistics.fmean(seconds),
        "most_seconds": max(seconds),
    }


def in_words(results: Mapping[str, Any]) -> str:
    """The outcome in a line, as the scripts' docstrings have it."""
    runs, found = results["runs"], summary(results["runs"])
    one_view = statistics.fmean(one["one_view"] for one in runs)
    views = "" if one_view == found["mean"] else f"; {one_view:.2%} by one view"
    deviation = f", standard deviation {found['sd'] * 100:.2f}" if len(runs) > 1 else ""
    return (
        f"{found['mean']:.2%} (n = {len(runs)}{deviation}{views}), "
        f"{lasting(found['seconds'])} of training each, at most {lasting(found['most_seconds'])}"
    )


def verdict(recipe: Recipe, runs: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
    """Whether the mean reaches the target, and a line that says so, and whether the time was enough."""
    found = summary(runs)
    reached = found["mean"] > recipe.target - 1e-9  # rounded, the mean of numbers that are the target may be below it
    enough = found["most_seconds"] <= recipe.seconds
    return reached, (
        f"the target, a mean of {recipe.target:.2%}, is {'' if reached else 'not '}reached; {lasting(recipe.seconds)} "
        f"of training, the most that a seed should take on two cores, were {'' if enough else 'not '}enough"
    )


def lasting(seconds: float) -> str:
    """A time in the unit that it is read in. Of training it is that of the steps, without evaluation."""
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} minutes"


def kept() -> dict[str, dict[str, Any]]:
    """The results in the repository, by the names of their files."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(KEPT.glob("*.json"))}


def _parser(recipe: Recipe, about: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    seeds, add = " ".join(map(str, recipe.seeds)), parser.add_argument
    add("--seeds", type=whole(0), nargs="+", default=[*recipe.seeds], metavar="SEED", help=f"default {seeds}")
    add("--data", metavar="FOLDER", help=f"where {recipe.dataset} is (default: $FCNN_DATA, the cache, a download)")
    add("--out", type=Path, default=Path("runs/records"), metavar="FOLDER", help="default runs/records")
    add("--train-size", type=whole(1), help="the first so many images alone: to see that it runs, not what it reaches")
    return parser


def _run(recipe: Recipe, arguments: argparse.Namespace) -> int:
    data = load_data(recipe.dataset, arguments.data)
    name = f"{recipe.name}-{slug(processor())}"  # of a processor's own: bits and times are its own, too
    if arguments.train_size:
        if arguments.train_size > len(data.train):
            raise Stop(f"--train-size {arguments.train_size} is more than the {len(data.train)} images of {data.name}")
        data, name = attrs.evolve(data, train=data.train.take(arguments.train_size)), f"{name}-{arguments.train_size}"
    seeds, folder, runs = [*dict.fromkeys(arguments.seeds)], arguments.out / name, []
    path = arguments.out / f"{name}{_of_others(recipe, seeds)}.json"
    if len(path.name) > _LONGEST:  # told before the training, not after it
        raise Stop(f"--seeds makes a file's name of {len(path.name)} characters; take fewer or a row, such as 0 1 2")
    now = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": commit(), "machine": machine(("numpy",))}
    for seed in seeds:
        print(f"seed {seed} …", flush=True)
        began = _began(folder / f"seed-{seed}.json", now)
        try:
            goes = recipe.train(data, seed, folder / f"seed-{seed}")
        except fcnn.InterruptedFit as stop:
            print(f"\n{stop}; called again the script does so", file=sys.stderr)
            return 128 + stop.signal
        except fcnn.DivergedError as error:
            raise Stop(f"seed {seed}: {error}") from None
        runs.append({"seed": seed, **began, **_outcome(recipe, data.test, goes)})
        print(f"seed {seed}: {runs[-1]['accuracy']:.2%}, {lasting(runs[-1]['seconds'])} of training", flush=True)
    results = {
        "format": 1,
        "record": recipe.name,
        "target": recipe.target,
        "train_size": len(data.train),
        "runs": runs,
    }
    _write(path, results)
    reached, line = verdict(recipe, runs)
    if arguments.train_size:
        line = f"a trial, of the first {arguments.train_size:,} images: it says nothing of the target"
    print(in_words(results), line, f"{described(runs[0]['machine'])}; in {path}", sep="\n")
    _draw(results, path.with_suffix(".png"))
    return 0 if reached else 1


def _began(path: Path, now: dict[str, Any]) -> dict[str, Any]:
    """When, where and with what a seed's run began, as the file says; where it begins, it is now, which is written."""
    try:
        with contextlib.suppress(FileNotFoundError), opened(path) as file:
            return _as_it_began(path, file.read(), now)
        run = path.with_suffix("")
        if any(run.rglob("*.npz")):
            raise Stop(
                f"{path} is missing: it says with what the run in {run} began; without that folder, it begins anew"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, now)
    except OSError as error:
        raise Stop(f"no run can begin or go on with {path} ({error.strerror}); choose another --out") from None
    return now


def _as_it_began(path: Path, content: bytes, now: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says, if the run can go on with what there is now."""
    try:
        began = json.loads(content)
    except (ValueError, RecursionError):
        began = None
    if not _is_like(began, now):
        raise Stop(f"{path} is damaged: it says with what a run began; without it and the run's folder, it begins anew")

    def facts(one: Mapping[str, Any]) -> dict[str, Any]:  # on which the bits depend
        found = one["machine"]
        return {"processor": found["processor"], "BLAS": found["blas"], "NumPy": found["versions"]["numpy"]}

    then, here = facts(began), facts(now)
    different = [f"{what} {then[what]}, now {here[what]}" for what in then if then[what] != here[what]]
    if different:
        raise Stop(f"the run of {path} began with {'; '.join(different)}; go on with that, or choose another --out")
    found: dict[str, Any] = began
    return found


def _is_like(value: object, example: object) -> bool:
    """Whether a value has all that the example has, of the same types; None is what isn't known."""
    if isinstance(example, Mapping):
        return isinstance(value, Mapping) and all(
            key in value and _is_like(value[key], example[key]) for key in example
        )
    return value is None or example is None or type(value) is type(example)


def _write(path: Path, value: Mapping[str, Any]) -> None:
    with replacing(path) as file:
        file.write(json.dumps(value, indent=1).encode())


def _of_others(recipe: Recipe, seeds: Sequence[int]) -> str:
    """What the name of results has besides where the seeds are not the recipe's, whose results they don't replace."""
    if {*seeds} == {*recipe.seeds}:
        return ""
    first, last = seeds[0], seeds[-1]
    in_a_row = last > first and [*seeds] == [*range(first, last + 1)]
    return f"-seeds-{first}-to-{last}" if in_a_row else f"-seeds-{'-'.join(map(str, seeds))}"


def _outcome(recipe: Recipe, test: fcnn.Split, goes: Sequence[fcnn.Fitted]) -> dict[str, Any]:
    model, history = goes[-1].model, [item for fitted in goes for item in fitted.history]
    one_view = accuracy = history[-1]["validation_accuracy"]
    if recipe.views is not None:
        params, state = (
            fcnn.freeze({"network": values}) if values else values for values in (model.params, model.state)
        )
        accuracy = fcnn.evaluate(recipe.views(model.network), params, state, test).accuracy
    seconds = sum(item["seconds"] for item in history)
    return {"accuracy": accuracy, "one_view": one_view, "seconds": seconds, "history": history}


def _draw(results: Mapping[str, Any], path: Path) -> None:
    try:
        from records.draw import figure
    except ImportError as error:
        path.unlink(missing_ok=True)  # of an earlier call
        print(f'no {path.name}: {error}; python -m pip install -e ".[full]" adds what it needs')
        return
    with replacing(path) as file:
        figure(results).savefig(file, format="png")
