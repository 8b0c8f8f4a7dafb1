"""What goes into a case, the same for every program: images, labels, their order, first weights, random arrays."""

from collections.abc import Callable

import numpy as np

import fcnn
from bench.cases import Case, Conv, Epoch, Pool, Predict, Step
from bench.programs import Array
from fcnn.values.tree import flatten

ORDER = fcnn.key(1)  # of an epoch's shuffling


def load_images(root: str | None, quick: bool) -> fcnn.Dataset:
    """MNIST; in a quick run, and where nothing was said and it can't be had, images of its shape drawn at random.

    Raises DataError if it isn't in the folder `root`.
    """
    if not quick:
        try:
            return fcnn.data.load("mnist", root)
        except fcnn.data.DataError:
            if root is not None:
                raise
    rng = np.random.default_rng(0)

    def draw(count: int) -> fcnn.Split:
        return fcnn.Split(rng.integers(0, 256, (count, 1, 28, 28), np.uint8), rng.integers(0, 10, count))

    train_size, test_size = (1280, 200) if quick else (60_000, 10_000)
    return fcnn.Dataset(draw(train_size), draw(test_size), name="random")


def make_inputs(case: Case, images: Callable[[], fcnn.Dataset]) -> dict[str, Array]:
    """A case's arrays by name; parameters are `params/conv1/w` and so on. `images` is called only where needed."""
    if isinstance(case, (Step, Epoch, Predict)):
        model = fcnn.lenet5(batch_norm=isinstance(case, Step) and case.batch_norm)
        params = fcnn.init_state(model, fcnn.adam(1e-3), fcnn.key(0), (1, 28, 28)).params
        split = images().test if isinstance(case, Predict) else images().train
        count = case.batch * case.batches if isinstance(case, Step) else case.images
        arrays: dict[str, Array] = {"x": split.x[:count], "y": split.y[:count]}
        if isinstance(case, Epoch):
            arrays["order"] = _order(count, case.batch)[: (case.steps or count) * case.batch]
        return {**arrays, **{f"params/{path}": leaf for path, leaf in flatten(params).items()}}
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


def _order(count: int, batch: int) -> Array:
    """The rows in the order in which `fcnn.batches` goes through them: the labels of images numbered through."""
    numbered = fcnn.Split(np.zeros((count, 1, 1, 1), np.uint8), np.arange(count))
    return np.concatenate([y for _, y in fcnn.batches(numbered, batch, ORDER)])
