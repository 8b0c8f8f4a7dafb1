"""Carry a network from one format to another, and show what was taken.

    python scripts/convert.py weights.pt                                    # only list what is in it
    python scripts/convert.py resnet18.pt resnet18.onnx --model resnet18
    python scripts/convert.py resnet18.onnx resnet18.npz
    python scripts/convert.py runs/mnist-lenet5-seed0/epoch-05.npz lenet.onnx
    python scripts/convert.py lenet.pt lenet.npz --model lenet5 --classes 10 --in-shape 1x28x28

The endings of the names say the formats: .npz (fcnn), .pt and .pth (PyTorch), .safetensors, .onnx. PyTorch's and
safetensors' hold values by name and no network, so --model names it (but from one of them to the other all is taken as
it is); those of fcnn and ONNX hold their network.

Values are found by their names where these are fcnn's own or torchvision's, and else in the file's order, layer by
layer, where all shapes agree. Else --names says which is which: a JSON object of paths in the network and names in the
file. A file of PyTorch's or of safetensors is written with the names that the values came with, or with --names
torchvision with those of torchvision's network.

torchvision's trained networks want images from which a mean is subtracted: --mean 0.485,0.456,0.406 --std
0.229,0.224,0.225 puts that into the network, as its first layer, so that whoever runs it needs not know.
"""

import stopping

stopping.at_once(__name__)  # before the other imports, which take a second

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
from console import Stop, in_sentences, program
from model_files import import_as
from options import MODELS, image_shape, whole

import fcnn
from fcnn.exchange import formats
from fcnn.exchange.names import values_of
from fcnn.exchange.torchvision import NETWORKS, torchvision_names
from fcnn.values.arrays import Array
from fcnn.values.files import opened
from fcnn.values.text import printable
from fcnn.values.tree import freeze

_MOST_NAMES = 10_000_000  # bytes of a file of names


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    arguments = parse(argv)
    return in_sentences(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> int:
    """Read, show and write; the exit code."""
    to_names = arguments.out is not None and has_names(
        arguments.out
    )  # what is written is known before anything is read
    plain = arguments.model is arguments.names is arguments.mean is None  # nothing asks for a network
    if plain and has_names(arguments.file) and (arguments.out is None or to_names):
        arrays = formats.load_arrays(arguments.file)
        table = {name: (name, leaf) for name, leaf in arrays.items()}
        if to_names:
            formats.save_arrays(arguments.out, arrays)
    else:
        names = None if arguments.names in (None, "torchvision") else read_names(arguments.names)
        given = names if has_names(arguments.file) else None
        found = import_as(arguments.file, arguments.model, arguments.in_shape, arguments.classes, names=given)
        table = {path: (found.names[path], leaf) for path, leaf in values_of(found.model).items()}
        if arguments.out is not None:
            write(arguments, found, names)
    print(as_table(table))
    if arguments.out is not None:
        print(f"{printable(arguments.out, None)}: {Path(arguments.out).stat().st_size:,} bytes")
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options; nonsense ends here, with a sentence."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("file", metavar="IN", help="the network, or its values")
    add("out", metavar="OUT", nargs="?", help="what to write (default: nothing; what is in the file is listed)")
    add("--in-shape", type=image_shape, metavar="CxHxW", help="an image, where the file leaves that open (3x224x224)")
    add = parser.add_argument_group("what the values are for, where the file holds no network").add_argument
    add("--model", choices=MODELS, help="the network")
    add("--classes", type=whole(1), help="how many (default: as the network was made for, 10 or 1000)")
    add("--names", metavar="torchvision|FILE.json", help="what values are called in a file that has no network")
    add = parser.add_argument_group("what goes before the network").add_argument
    add("--mean", type=numbers, metavar="0.485,0.456,0.406", help="of each channel, where pixels go from 0 to 1")
    add("--std", type=numbers, metavar="0.229,0.224,0.225", help="the deviations, by which they are divided")
    arguments = parser.parse_args(argv)
    if (arguments.mean is None) != (arguments.std is None):
        parser.error("--mean and --std go together")
    if arguments.names == "torchvision" and arguments.model not in NETWORKS:
        parser.error(f"--names torchvision needs --model, one of {', '.join(NETWORKS)}")
    return arguments


def numbers(text: str) -> list[float]:
    """The numbers in a text with commas between them."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between them, got {text!r}") from None


def has_names(path: str) -> bool:
    """Whether a file holds values by name, and no network."""
    return formats.format_of(path) in formats.HAVE_NAMES


def read_names(path: str) -> dict[str, str]:
    """The names in a JSON file, by path."""
    with opened(path) as file:
        text = file.read(_MOST_NAMES + 1)
    if len(text) > _MOST_NAMES:
        raise Stop(f"{path}: more than {_MOST_NAMES:,} bytes; no file of names")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Stop(f"{path}: no JSON ({error})") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise Stop(f'{path}: names are a JSON object, such as {{"conv1/w": "features.0.weight"}}')
    return found


def write(arguments: argparse.Namespace, found: formats.Imported, names: Mapping[str, str] | None) -> None:
    """Write the model, with what goes before it, and the names that its values came with."""
    model = found.model
    if not has_names(arguments.out):
        names = None
    elif arguments.names == "torchvision":
        names = torchvision_names(arguments.model, model)
    elif names is None and has_names(arguments.file):
        names = found.names
    if arguments.mean is not None:
        if has_names(arguments.out):
            raise Stop("--mean and --std are a layer, and a file of values alone holds none; write an .npz or an .onnx")
        model = normalized(model, arguments.mean, arguments.std)
    formats.export_model(arguments.out, model, names=names)


def normalized(model: fcnn.Model, mean: list[float], std: list[float]) -> fcnn.Model:
    """The model with a layer before it that subtracts a mean from each channel, and divides by a deviation."""
    network = fcnn.serial(norm=fcnn.normalize(mean, std), network=model.network)
    params, state = (freeze({"network": tree} if tree else {}) for tree in (model.params, model.state))
    return attrs.evolve(model, network=network, params=params, state=state)


def as_table(values: Mapping[str, tuple[str, Array]]) -> str:
    """Each value with its name in the file, shape and dtype, and how many numbers there are."""
    rows = [("path", "in the file", "shape", "dtype")]
    rows += [(path, name, str(leaf.shape), str(leaf.dtype)) for path, (name, leaf) in values.items()]
    if all(path == name for path, name, *_ in rows[1:]):
        rows = [row[1:] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, map(printable, row), widths)).rstrip() for row in rows]
    arrays = [leaf for _, leaf in values.values()]
    count, size = sum(leaf.size for leaf in arrays), sum(leaf.nbytes for leaf in arrays)
    return "\n".join([*lines, f"{len(arrays):,} arrays, {count:,} numbers, {size / 1e6:,.1f} MB"])


if __name__ == "__main__":
    sys.exit(program(main))
