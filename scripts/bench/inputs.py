"""What goes into a case, the same for every program: images, labels, their order, first weights, random arrays."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import fcnn
from bench.cases import Case, Conv, Epoch, Photo, Pool, Predict, Step, Whole
from bench.networks import NETWORKS, PUBLISHED
from bench.programs import Array
from fcnn.network.description import describe
from fcnn.values.tree import Tree, flatten

ORDER = fcnn.key(1)  # of an epoch's shuffling


def load_images(data: str, root: str | None, quick: bool) -> fcnn.Dataset:
    """MNIST or CIFAR-10; in a quick run, and where nothing was said and it can't be had, random images of its shape.

    Raises DataError if it isn't in the folder `root`.
    """
    if not quick:
        try:
            return fcnn.data.load(data, root)
        except fcnn.data.DataError:
            if root is not None:
                raise
    rng = np.random.default_rng(0)
    shape = next(network.in_shape for network in NETWORKS.values() if network.data == data)

    def draw(count: int) -> fcnn.Split:
        return fcnn.Split(rng.integers(0, 256, (count, *shape), np.uint8), rng.integers(0, 10, count))

    train_size, test_size = (1280, 200) if quick else (60_000, 10_000)
    return fcnn.Dataset(draw(train_size), draw(test_size), name="random")


def make_inputs(case: Case, images: Callable[[str], fcnn.Dataset]) -> dict[str, Array]:
    """A case's arrays by name; parameters are `params/conv1/w` and so on. `images` is called only where needed."""
    if isinstance(case, Whole):
        network = NETWORKS[case.network]
        params = network.make(fcnn).init(fcnn.key(0), network.in_shape).params
        found = images(network.data)
        split = found.test if isinstance(case, Predict) else found.train
        count = case.batch * case.batches if isinstance(case, Step) else case.images
        arrays: dict[str, Array] = {"x": split.x[:count], "y": split.y[:count]}
        if isinstance(case, Epoch):
            arrays["order"] = _order(count, case.batch)[: (case.steps or count) * case.batch]
        return {**arrays, **_by_path(params)}
    if isinstance(case, Photo):
        return _photo(case)
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape, np.float32)

    if isinstance(case, Conv):
        return {
            "x": draw(case.batch, case.channels, case.size, case.size),
            "w": draw(case.filters, case.channels, case.kernel, case.kernel) * np.float32(0.1),
            "dy": draw(case.batch, case.filters, case.out_size, case.out_size),
        }
    if isinstance(case, Pool):
        shape = (case.batch, case.channels, case.size, case.size)
        return {"x": draw(*shape), "dy": draw(*shape[:2], case.size // 2, case.size // 2)}
    return {}


def _photo(case: Photo) -> dict[str, Array]:
    """The image and the weights, and for other programs the network: in words, and as a file of ONNX."""
    network, in_shape = getattr(fcnn, PUBLISHED[case.network].constructor)(), (3, case.size, case.size)
    made = network.init(fcnn.key(0), in_shape)
    with tempfile.TemporaryDirectory(prefix="fcnn-bench-") as folder:
        file = Path(folder) / "network.onnx"
        fcnn.save_onnx(file, fcnn.Model(network, made.params, made.state, in_shape=in_shape))
        onnx = np.fromfile(file, np.uint8)
    x = np.random.default_rng(0).random((1, *in_shape), np.float32)
    return {"x": x, "network": np.array(json.dumps(describe(network))), "onnx": onnx, **_by_path(made.params)}


def _by_path(params: Tree) -> dict[str, Array]:
    return {f"params/{path}": leaf for path, leaf in flatten(params).items()}


def _order(count: int, batch: int) -> Array:
    """The rows in the order in which `fcnn.batches` goes through them: the labels of images numbered through."""
    numbered = fcnn.Split(np.zeros((count, 1, 1, 1), np.uint8), np.arange(count))
    return np.concatenate([y for _, y in fcnn.batches(numbered, batch, ORDER)])
