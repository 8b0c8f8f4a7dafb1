"""Say what a trained network sees in pictures, or in rows of a data set.

    python scripts/predict.py runs/mnist-lenet5-seed0/epoch-05.npz seven.png photo.jpg
    python scripts/predict.py epoch-05.npz --rows 0:10,42          # of the data set that it was trained on
    python scripts/predict.py lenet.npz --model lenet5 --dataset mnist seven.png --json

MODEL is a checkpoint of scripts/train.py, which says itself which network it is and what it was trained on. A file
that doesn't, such as one of parameters only (fcnn.save("lenet.npz", params)), needs --model and --dataset.

A picture may have any size and be grey, coloured, transparent (it is laid over white) or of 16 bits. It is made into
what the network was trained on:
- digits as MNIST was made: light on dark (a picture whose border is light is inverted), the background black and the
  strongest ink white; the digit's bounding box scaled into 20x20, keeping its aspect ratio, with anti-aliasing; its
  centre of mass put at the centre of 28x28. A picture of 28x28 is taken as it is, except that it may be inverted;
- clothes as Fashion-MNIST: the same, but the box scaled into the whole of 28x28 and put in its middle;
- cifar10: the middle square scaled to 32x32, with anti-aliasing.
--save-prepared FOLDER shows the result. A picture that can't be read is reported, the others are still predicted, and
the exit code is 1.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from console import Stop, load_data
from machine import cores
from options import MODELS, whole

import fcnn
from fcnn import parallel
from fcnn.data.pictures import FORMATS, SHAPES, PictureError, Pixels, as_picture, open_picture, prepare
from fcnn.data.sources import SOURCES
from fcnn.ops import softmax
from fcnn.values.arrays import NDArray
from fcnn.values.tree import astype

INVERT = {"auto": None, "yes": True, "no": False}


@attrs.frozen
class Network:
    """A model with its values, and what it was trained on."""

    model: fcnn.Layer
    params: fcnn.Tree
    state: fcnn.Tree
    dataset: str

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of what it tells apart."""
        return classes_of(self.dataset)


@attrs.frozen(eq=False)
class Example:
    """One image as the network gets it, uint8 (C, H, W); where it is from, its label if known, and what was done."""

    source: str
    pixels: Pixels
    truth: int | None = None
    preparation: tuple[str, ...] = ()


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    arguments = parse(argv)
    try:
        network = load_network(arguments.checkpoint, arguments.model, arguments.dataset)
        rows = read_rows(arguments, network)
        pictures, failed = read_pictures(arguments.images, network.dataset, INVERT[arguments.invert])
        examples = pictures + rows
        probabilities = predict(network, examples, arguments.checkpoint)
        saved = save_prepared(examples, arguments.save_prepared) if arguments.save_prepared else []
        if arguments.json:
            print(json.dumps(as_objects(examples, probabilities, network.classes, saved), indent=1, allow_nan=False))
        elif examples:
            print(as_table(examples, probabilities, network.classes, arguments.top))
            if saved:
                print(f"what the network saw is in {printable(arguments.save_prepared)}")
    except Stop as stop:
        print(f"error: {stop}", file=sys.stderr)
        return 1
    except (fcnn.data.DataError, ValueError, ImportError, OSError) as error:
        print(f"error: {one_sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 1 if failed else 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options; nonsense ends here, with a sentence."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "checkpoint", metavar="MODEL.npz", help="the network, as saved by scripts/train.py or fcnn.save"
    )
    parser.add_argument("images", metavar="IMAGE", nargs="*", help=f"pictures: {', '.join(FORMATS)}")
    add = parser.add_argument_group("rows of a data set, with their true labels").add_argument
    add("--rows", metavar="0:10,42", help="which, counted from 0; of 0:10 the 10 is left out")
    add("--split", choices=("test", "train"), default="test", help="whose rows (default test)")
    add("--dataset", metavar="NAME", help=f"{', '.join(SHAPES)} (default: what the network was trained on)")
    add("--data", metavar="FOLDER", help="where the data set is (default: $FCNN_DATA, the cache, a download)")
    add = parser.add_argument_group("how").add_argument
    add("--model", metavar="NAME", help=f"{', '.join(MODELS)}; for a file that doesn't say it")
    add(
        "--invert",
        choices=INVERT,
        default="auto",
        help="swap light and dark; auto: greyscale pictures whose border's median is nearer to the lightest pixel than "
        "to the darkest, colour pictures never (default auto)",
    )
    add = parser.add_argument_group("what is written").add_argument
    add("--top", type=whole(1), default=3, help="classes shown in the table: the prediction and runners-up (default 3)")
    add("--json", action="store_true", help="a list of objects, with the probability of every class")
    add("--save-prepared", metavar="FOLDER", help="write what the network saw as PNG, to check it")
    arguments = parser.parse_intermixed_args(argv)
    if not arguments.images and arguments.rows is None:
        parser.error("name pictures, or rows of a data set with --rows 0:10")
    return arguments


def classes_of(dataset: str) -> tuple[str, ...]:
    """The names of a data set's classes, without loading it."""
    return SOURCES[dataset].classes if dataset in SOURCES else tuple("0123456789")


def load_network(path: str, model_name: str | None, dataset: str | None) -> Network:
    """Read a model: what it is comes from its own meta, or from the options where it has none."""
    if dataset is not None and dataset not in SHAPES:
        fcnn.data.load(dataset)  # its error guesses what was meant
    if model_name is not None and model_name not in MODELS:
        raise Stop(f"unknown model {model_name!r}; there are {', '.join(MODELS)}")
    if reason := unreadable(path):
        raise Stop(f"{printable(path)}: {reason}; MODEL.npz is a checkpoint of scripts/train.py")
    settings = fcnn.load_meta(path).get("settings")
    if settings is None:
        if model_name is None or dataset is None:
            raise Stop(
                f"{printable(path)}: the file doesn't say which network it holds (its meta has no settings of "
                "scripts/train.py); name it, such as --model lenet5 --dataset mnist"
            )
        own_model, own_dataset = model_name, dataset
    else:
        own_model = known_name(settings, "model", MODELS, path)
        own_dataset = known_name(settings, "dataset", SHAPES, path)
        if model_name not in (None, own_model):
            raise Stop(f"{printable(path)}: it holds {own_model}, not {model_name}; leave out --model")
    in_shape = SHAPES[own_dataset]
    model: fcnn.Layer = MODELS[own_model](in_shape, len(classes_of(own_dataset)))
    values = load_values(path, model.init(fcnn.key(0), in_shape), f"{own_model} for {own_dataset}")
    return Network(model, values.params, values.state, own_dataset)


def known_name(settings: Any, what: str, known: Iterable[str], path: str) -> str:
    """One of the names that a checkpoint's settings give."""
    name = settings.get(what) if isinstance(settings, dict) else None
    if not isinstance(name, str) or name not in known:
        raise Stop(
            f"{printable(path)}: its settings name the {what} {name!r}, this script knows {', '.join(known)}; "
            "was it written by another version of scripts/train.py?"
        )
    return name


def load_values(path: str, template: fcnn.Init, name: str) -> fcnn.Init:
    """The parameters and the state, of whatever precision they are."""
    try:
        return fcnn.load(path, like=template)
    except fcnn.CheckpointError as error:
        double = fcnn.Init(astype(template.params, np.float64), astype(template.state, np.float64), template.out_shape)
        try:
            return fcnn.load(path, like=double)
        except fcnn.CheckpointError:
            _, *problems = str(error).split("\n  ")
            if not problems:
                raise error from None
            if all(problem.startswith("missing: state/") for problem in problems):
                raise Stop(
                    f"{printable(path)}: it has the parameters of {name}, but not the means and variances that batch "
                    "norm needs; save them too, such as fcnn.save(path, training_state)"
                ) from None
            raise Stop(f"{printable(path)}: it doesn't hold {name}: {shortened(problems)}") from None


def read_rows(arguments: argparse.Namespace, network: Network) -> list[Example]:
    """The rows of a data set that were asked for."""
    name = arguments.dataset or network.dataset
    if classes_of(name) != classes_of(network.dataset):
        raise Stop(f"the network was trained on {network.dataset}, whose classes are not those of {name}")
    if arguments.rows is None:
        if name != network.dataset:
            raise Stop(f"the network was trained on {network.dataset}; --dataset {name} needs --rows, such as 0:10")
        return []
    spans = parse_rows(arguments.rows)
    split: fcnn.Split = getattr(load_data(name, arguments.data), arguments.split)
    for start, stop in spans:
        if stop > len(split):
            beyond = max(start, len(split))
            raise Stop(
                f"--rows {arguments.rows}: no row {beyond}; the {arguments.split} rows of {name} are "
                f"0 to {len(split) - 1}"
            )
    rows = [row for start, stop in spans for row in range(start, stop)]
    return [Example(f"{name} {arguments.split} {row}", split.x[row], int(split.y[row])) for row in rows]


def parse_rows(text: str) -> list[tuple[int, int]]:
    """Turn "0:10,42" into [(0, 10), (42, 43)].

    >>> parse_rows("0:10, 42")
    [(0, 10), (42, 43)]
    """
    spans = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,12})(?::([0-9]{1,12}))?\s*", part)
        if found is None:
            raise Stop(f"--rows takes rows and ranges from 0 on, such as 0:10,42, got {text!r}")
        start = int(found[1])
        stop = start + 1 if found[2] is None else int(found[2])
        if stop <= start:
            raise Stop(f"--rows {text}: the range {part.strip()} holds no row; of 0:10 the 10 is left out")
        spans.append((start, stop))
    return spans


def read_pictures(paths: Sequence[str], dataset: str, invert: bool | None) -> tuple[list[Example], bool]:
    """Read and prepare every picture; those that can't be are reported on stderr, and the flag is set."""
    examples, failed = [], False
    for path in paths:
        try:
            if reason := unreadable(path):
                raise PictureError(reason)
            pixels, steps = prepare(open_picture(path), dataset, invert)
            examples.append(Example(path, pixels, preparation=steps))
        except PictureError as error:
            print(f"error: {printable(path)}: {error}", file=sys.stderr)
            failed = True
    return examples, failed


def predict(network: Network, examples: Sequence[Example], path: str) -> NDArray[np.float64]:
    """The probability of each class, (N, K)."""
    if not examples:
        return np.empty((0, len(network.classes)))
    split = fcnn.Split(np.stack([example.pixels for example in examples]), np.zeros(len(examples), np.int64))
    # An overflow shows in the outputs, which are checked.
    with parallel.threads(cores()) as map_fn, np.errstate(over="ignore", invalid="ignore"):
        outputs = fcnn.evaluate(network.model, network.params, network.state, split, map_fn=map_fn).outputs
    if not np.isfinite(outputs).all():
        raise Stop(
            f"{printable(path)}: the network's outputs are not finite, its training diverged; use an earlier one"
        )
    return softmax(outputs.astype(np.float64))[0]


def save_prepared(examples: Sequence[Example], folder: str) -> list[str]:
    """Write what the network saw, as 001-seven-seen.png and so on; the files' paths."""
    paths = []
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for number, example in enumerate(examples, 1):
            stem = example.source.replace(" ", "-") if example.truth is not None else Path(example.source).stem
            path = Path(folder) / f"{number:03d}-{stem}-seen.png"
            as_picture(example.pixels).save(path)
            paths.append(str(path))
    except OSError as error:
        raise Stop(f"can't write to {printable(folder)} ({error.strerror}); choose another --save-prepared") from None
    return paths


def as_objects(
    examples: Sequence[Example], probabilities: NDArray[np.float64], classes: Sequence[str], saved: Sequence[str]
) -> list[dict[str, Any]]:
    """The results for JSON."""
    objects = []
    for number, (example, row) in enumerate(zip(examples, probabilities, strict=True)):
        best = int(row.argmax())
        result: dict[str, Any] = {
            "source": example.source,
            "prediction": best,
            "label": classes[best],
            "probability": float(row[best]),
            "probabilities": dict(zip(classes, row.tolist(), strict=True)),
        }
        if example.truth is None:
            result["preparation"] = list(example.preparation)
        else:
            result |= {"truth": example.truth, "truth_label": classes[example.truth], "right": example.truth == best}
        if saved:
            result["prepared"] = saved[number]
        objects.append(result)
    return objects


def as_table(examples: Sequence[Example], probabilities: NDArray[np.float64], classes: Sequence[str], top: int) -> str:
    """The results for people, and the accuracy over rows."""
    known = [
        (example.truth, int(row.argmax()))
        for example, row in zip(examples, probabilities, strict=True)
        if example.truth is not None
    ]
    prepared = any(example.preparation for example in examples)
    header = ["source", "prediction", "probability", "runners-up"]
    header += (["truth"] if known else []) + (["prepared"] if prepared else [])
    lines = [header]
    for example, row in zip(examples, probabilities, strict=True):
        best, *others = np.argsort(-row, kind="stable")[:top].tolist()
        line = [printable(example.source), classes[best], f"{row[best]:>11.2%}"]
        line.append(", ".join(f"{classes[k]} {row[k]:.2%}" for k in others))
        if known:
            mark = "" if example.truth in (None, best) else "  wrong"
            line.append("" if example.truth is None else classes[example.truth] + mark)
        if prepared:
            line.append(", ".join(example.preparation))
        lines.append(line)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    if known:
        right = sum(truth == best for truth, best in known)
        text += ["", f"{right:,} of {len(known):,} rows right: accuracy {right / len(known):.2%}"]
    return "\n".join(text)


def unreadable(path: str) -> str | None:
    """Why a path can't be read as a file; None if it can."""
    try:
        if Path(path).is_dir():
            return "a folder, not a file"
        if not Path(path).exists():
            return "no such file"
        if not Path(path).is_file():  # reading a pipe might wait forever
            return "not a file"
        with open(path, "rb"):
            return None
    except (OSError, ValueError) as error:
        return f"it can't be read ({getattr(error, 'strerror', None) or error})"


def one_sentence(error: Exception) -> str:
    """An error's text in one line; of a list of differences the first."""
    first, *problems = str(error).split("\n  ")
    return " ".join(f"{first} {shortened(problems)}".split()) if problems else " ".join(first.split())


def shortened(problems: Sequence[str]) -> str:
    """The first three, and how many more."""
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    return "; ".join(problems[:3]) + more


def printable(text: str) -> str:
    """A file's name without what would break a line or a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


if __name__ == "__main__":
    sys.exit(main())
