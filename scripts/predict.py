"""Say what a trained network sees in pictures, or in rows of a data set.

    python scripts/predict.py runs/mnist-lenet5-seed0/epoch-05.npz seven.png photo.jpg
    python scripts/predict.py epoch-05.npz --rows 0:10,42          # of the data set that it was trained on
    python scripts/predict.py mine.npz shirt.png --dataset fashion_mnist --json
    python scripts/predict.py lenet.npz seven.png --model lenet5 --dataset mnist
    python scripts/predict.py resnet18.onnx cat.jpg                # trained elsewhere: so are .pt and .safetensors
    python scripts/predict.py epoch-05.npz sheet.jpg --find        # each of several digits, in a copy with boxes

MODEL is a checkpoint of scripts/train.py or fcnn.fit, a model of fcnn.save_model, or a network from elsewhere as .onnx;
each describes its network. A file of parameters alone (fcnn.save("lenet.npz", params)) doesn't, and needs --model and
--dataset; nor does one of PyTorch's (.pt, .pth) or .safetensors, which needs --model.

A network that was trained on a folder of pictures says how they are prepared. Of the others only scripts/train.py notes
which data set they were trained on; else --dataset says it: rows need it, and without it pictures are prepared as for
the data set that has the network's classes, or else as for mnist where the network's inputs are 1x28x28, and as for
cifar10 where they are 3x32x32.

A picture that can't be read is reported, the others are still predicted, and the exit code is 1.
"""

import stopping

stopping.at_once(__name__)  # before the other imports, which take a second

import argparse
import json
import re
import sys
from collections.abc import Sequence
from typing import Any, TypeAlias

import finding
import numpy as np
from console import Stop, complain, in_sentences, load_data, program
from machine import cores
from model_files import load_network
from options import MODELS, image_shape, whole

import fcnn
from fcnn import parallel
from fcnn.data import pictures
from fcnn.data.cleaning import SEVERAL
from fcnn.data.pictures import CLASSES, SHAPES
from fcnn.values.text import printable

INVERT = {"auto": None, "yes": True, "no": False}

Example: TypeAlias = tuple[pictures.Pixels, dict[str, Any]]
"""An image as the network gets it, uint8 (C, H, W), and what JSON says of it beside the prediction."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    arguments = parse(argv)
    return in_sentences(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> int:
    """Predict, and print it; the exit code."""
    model, trained_on = load_network(arguments.checkpoint, arguments.model, arguments.dataset, arguments.in_shape)
    if arguments.rows is not None and pictures.preprocessing_of(model.meta):
        raise Stop("--rows are of a data set with a name, and the network was trained on pictures; name pictures")
    rows = read_rows(arguments, trained_on)
    prepared_as = trained_on or pictures.prepared_as(model.in_shape, model.classes, model.meta)
    if arguments.find:
        finding.check(model, prepared_as)
        examples, found, many = finding.read(model, arguments, INVERT[arguments.invert])
    else:
        readable = read_pictures(arguments.images, prepared_as, INVERT[arguments.invert])
        examples, many = readable + rows, len(readable)
        found = predict(model, examples)
    if arguments.save_prepared:
        for number, ((pixels, _), item) in enumerate(zip(examples, found, strict=True), 1):
            seen, folder = pictures.as_picture(pixels), arguments.save_prepared
            item["prepared"] = finding.save(seen, folder, number, item["source"], "seen", "--save-prepared")
    if arguments.json:
        print(json.dumps(found, indent=1, allow_nan=False))
    elif found:
        print(as_table(found, arguments.top))
        if arguments.find:
            print(f"boxes are drawn into copies in {printable(arguments.boxed, None)}")
        if arguments.save_prepared:
            print(f"what the network saw is in {printable(arguments.save_prepared, None)}")
    return 1 if many < len(arguments.images) else 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options; nonsense ends here, with a sentence."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=pictures.RECIPES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("checkpoint", metavar="MODEL", help="the network")
    parser.add_argument("images", metavar="IMAGE", nargs="*", help=f"pictures: {', '.join(pictures.FORMATS)}")
    add = parser.add_argument_group("rows of a data set, with their true labels").add_argument
    add("--rows", metavar="0:10,42", help="which, counted from 0; of 0:10 the 10 is left out")
    add("--split", choices=("test", "train"), default="test", help="whose rows (default test)")
    add("--data", metavar="FOLDER", help="where the data set is (default: $FCNN_DATA, the cache, a download)")
    add = parser.add_argument_group("several digits in one picture").add_argument
    add("--find", action="store_true", help="find each, in reading order, and tell it or that it is none")
    add("--boxed", metavar="FOLDER", default="boxed", help="where copies with boxes and labels go (default boxed)")
    add = parser.add_argument_group("how").add_argument
    add("--dataset", metavar="NAME", help=f"{', '.join(SHAPES)} (default: what the network was trained on)")
    add("--model", metavar="NAME", help=f"{', '.join(MODELS)}; for a file that doesn't describe its network")
    add("--in-shape", type=image_shape, metavar="CxHxW", help="an image, where a file of ONNX leaves that open")
    add("--invert", choices=INVERT, default="auto", help="swap light and dark (default auto: as is said below)")
    add = parser.add_argument_group("what is written").add_argument
    add("--top", type=whole(1), default=3, help="classes shown in the table: the prediction and runners-up (default 3)")
    add("--json", action="store_true", help="a list of objects, with the probability of every class")
    add("--save-prepared", metavar="FOLDER", help="write what the network saw as PNG, to check it")
    arguments = parser.parse_intermixed_args(argv)
    if not arguments.images and arguments.rows is None:
        parser.error("name pictures, or rows of a data set with --rows 0:10")
    if arguments.find and (arguments.rows is not None or not arguments.images):
        parser.error("--find looks for digits in pictures; leave out --rows, and name a picture")
    return arguments


def read_rows(arguments: argparse.Namespace, trained_on: str | None) -> list[Example]:
    """The rows of a data set that were asked for."""
    text = arguments.rows
    if text is None and arguments.dataset in (None, trained_on):
        return []
    if trained_on is None:
        raise Stop(
            f"{arguments.checkpoint}: the file doesn't say what the network was trained on; "
            "name the data set whose rows are meant, such as --dataset mnist"
        )
    name = arguments.dataset or trained_on
    if CLASSES[name] != CLASSES[trained_on]:
        raise Stop(f"the network was trained on {trained_on}, whose classes are not those of {name}")
    if text is None:
        raise Stop(f"the network was trained on {trained_on}; --dataset {name} needs --rows, such as 0:10")
    spans = [span_of(part, text) for part in text.split(",")]
    split: fcnn.Split = getattr(load_data(name, arguments.data), arguments.split)
    for start, stop in spans:
        if stop > len(split):
            beyond, last = max(start, len(split)), len(split) - 1
            raise Stop(f"--rows {text}: no row {beyond}; the {arguments.split} rows of {name} are 0 to {last}")
    examples = []
    for row in [row for start, stop in spans for row in range(start, stop)]:
        label, source = int(split.y[row]), f"{name} {arguments.split} {row}"
        examples.append((split.x[row], {"source": source, "truth": label, "truth_label": CLASSES[name][label]}))
    return examples


def span_of(part: str, text: str) -> tuple[int, int]:
    """Turn "0:10" into (0, 10), and "42" into (42, 43)."""
    found = re.fullmatch(r"\s*([0-9]{1,12})(?::([0-9]{1,12}))?\s*", part)
    if found is None:
        raise Stop(f"--rows takes rows and ranges from 0 on, such as 0:10,42, got {text!r}")
    start = int(found[1])
    stop = int(found[2] or start + 1)
    if stop <= start:
        raise Stop(f"--rows {text}: the range {part.strip()} holds no row; of 0:10 the 10 is left out")
    return start, stop


def read_pictures(paths: Sequence[str], dataset: str | fcnn.data.Preprocessing, invert: bool | None) -> list[Example]:
    """Read and prepare the pictures; those that can't be are reported on stderr, and left out."""
    examples: list[Example] = []
    for path in paths:
        try:
            pixels, steps = pictures.read_picture(path, dataset, invert)
            examples.append((pixels, {"source": path, "preparation": steps}))
            if SEVERAL in steps:
                name = printable(path, None)
                print(f"note: {name}: several figures are on it, taken for one; --find tells each", file=sys.stderr)
        except pictures.PictureError as error:
            complain(f"{printable(path, None)}: {error}")
    return examples


def predict(model: fcnn.Model, examples: Sequence[Example]) -> list[dict[str, Any]]:
    """What the network says of each, ready for JSON."""
    if not examples:
        return []
    with parallel.threads(cores()) as map_fn:
        found = fcnn.predict(model, np.stack([pixels for pixels, _ in examples]), map_fn=map_fn)
    items = []
    for (_, notes), best, row in zip(examples, found.classes.tolist(), found.probabilities.tolist(), strict=True):
        item = {**notes, "prediction": best, "label": found.names[best], "probability": row[best]}
        item["probabilities"] = dict(zip(found.names, row, strict=True))
        if "truth" in item:
            item["right"] = item["truth"] == best
        items.append(item)
    return items


def as_table(found: Sequence[dict[str, Any]], top: int) -> str:
    """The results for people, and the accuracy over rows."""
    table = [["source", "figure", "box", "prediction", "probability", "runners-up", "truth", "prepared", "why none"]]
    for item in found:
        (best, share), *others = sorted(item["probabilities"].items(), key=lambda pair: -pair[1])[:top]
        runners_up = ", ".join(f"{name} {probability:.2%}" for name, probability in others)
        truth = item.get("truth_label", "") + ("" if item.get("right", True) else "  wrong")
        steps = ", ".join(item.get("preparation", ()))
        figure, box = str(item.get("figure", "")), ", ".join(map(str, item.get("box", ())))
        best, reason = ("none", item["reason"]) if item.get("reason") else (best, "")
        cells = item["source"], figure, box, best, f"{share:>11.2%}", runners_up, truth, steps, reason
        table.append([printable(cell, None) for cell in cells])
    columns = [column for column in zip(*table, strict=True) if any(column[1:]) or column[0] == "runners-up"]
    widths = [max(map(len, column)) for column in columns]
    lines = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in zip(*columns, strict=True)]
    if right := [item["right"] for item in found if "right" in item]:
        lines += ["", f"{sum(right):,} of {len(right):,} rows right: accuracy {sum(right) / len(right):.2%}"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(program(main))
