"""Make a page on which one sees a trained network think: draw, and look at every number, forward and back.

    python scripts/explore.py runs/mnist-lenet5-seed0/epoch-05.npz          # explorer.html beside the model
    python scripts/explore.py mine.npz --dataset fashion_mnist --out page.html
    python scripts/explore.py runs/flowers-lenet5-seed0/epoch-20.npz        # trained on a folder of pictures

MODEL is what scripts/predict.py takes. The page is one file for any browser: it needs no server and no network, and
holds the whole network, which computes on the page as one draws. Some test images lie beside the paper; without the
data set there are none.
"""

import stopping

stopping.at_once(__name__)  # before the other imports, which take a second

import argparse
import sys
from pathlib import Path

from console import Stop, in_sentences, is_folder, load_data, program
from model_files import is_foreign, load_network
from options import whole

import fcnn
from fcnn.values.files import replacing
from fcnn.values.text import printable


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    arguments = parse(argv)
    return in_sentences(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> int:
    """Write the page; the exit code."""
    own = arguments.dataset is not None and fcnn.data.is_own(arguments.dataset)
    model, trained_on = load_network(arguments.model_file, arguments.model, None if own else arguments.dataset)
    name = arguments.dataset or trained_on
    if name is None and arguments.examples and (name := own_data(arguments.model_file)):
        note(f"the test images are those of {name}, as the file says")
    examples = test_images(model, name, arguments.data) if arguments.examples else None
    page = fcnn.explore(model, examples, title=arguments.title, count=arguments.examples)
    out = Path(arguments.out or Path(arguments.model_file).with_name("explorer.html"))
    with replacing(out) as file:
        file.write(page.encode())
    print(f"{printable(str(out), None)} ({len(page.encode()) / 1e6:.1f} MB): open it in a browser")
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options; nonsense ends here, with a sentence."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("model_file", metavar="MODEL", help="the network")
    add("--out", metavar="PAGE.html", help="the page (default: explorer.html beside the model)")
    add("--title", help="the page's heading")
    add("--examples", type=whole(0), default=50, help="how many test images to pick from (default 50)")
    add("--dataset", metavar="NAME", help="whose test images (default: what the network was trained on)")
    add("--data", metavar="FOLDER", help="where the data set is (default: $FCNN_DATA, the cache, a download)")
    add("--model", metavar="NAME", help="for a file that doesn't describe its network")
    return parser.parse_args(argv)


def note(sentence: str) -> None:
    """Say on stderr what the page lacks."""
    print("note:", printable(sentence, None), file=sys.stderr)


def own_data(path: str) -> str | None:
    """Where the data was that scripts/train.py trained a network on, if it was somebody's own."""
    settings = None if is_foreign(path) else fcnn.load_meta(path).get("settings")
    name = settings.get("dataset") if isinstance(settings, dict) else None
    return name if isinstance(name, str) and fcnn.data.is_own(name) else None


def test_images(model: fcnn.Model, name: str | None, root: str | None) -> fcnn.Split | None:
    """The test images of a data set; None, and a sentence, where there are none for the network."""
    if name is None:
        note("the file doesn't say what the network was trained on, so the page has no test images; --dataset names it")
        return None
    of_images = is_folder(name) and len(model.in_shape) == 3
    how = {"size": model.in_shape[1:], "grey": model.in_shape[0] == 1} if of_images else {}
    try:
        data = load_data(name, root, **how)
    except (fcnn.data.DataError, ImportError) as error:
        note(f"{' '.join(str(error).split())}; the page has no test images")
        return None
    if data.test.in_shape != model.in_shape:
        raise Stop(f"the images of {name} are {data.test.in_shape}, the network takes {model.in_shape}")
    if model.classes and model.classes != data.classes:
        raise Stop(
            f"the classes of {name} are {', '.join(data.classes)}, those of the network {', '.join(model.classes)}"
        )
    return data.test


if __name__ == "__main__":
    sys.exit(program(main))
