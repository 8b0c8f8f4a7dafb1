"""Models from files that don't describe their network: parameters alone, and checkpoints older than descriptions."""

import os
from collections.abc import Iterable

import numpy as np

from fcnn.network.layer import Init, Layer, Shape, expect_layer
from fcnn.network.model import Model
from fcnn.training.checkpoint import CheckpointError, load
from fcnn.values.checks import file_path, instance, lengths, texts
from fcnn.values.keys import key
from fcnn.values.tree import astype


def load_undescribed(
    path: str | os.PathLike[str],
    network: Layer,
    *,
    in_shape: Shape,
    classes: Iterable[str] = (),
    name: str = "this network",
) -> Model:
    """Read the values of a network, float32 or float64 as the file has them; what else it holds is left unread.

    Args:
        path: the file, as `fcnn.save` writes it.
        network, in_shape, classes: what the values are for, as `Model` takes it.
        name: what errors call the network.

    Raises:
        CheckpointError: no checkpoint, damaged, of a newer format, or of another network: then with every difference.
        OSError: the file can't be read.
    """
    path = file_path("path", path)
    expect_layer("network", network)
    classes = texts("classes", classes, "names of the outputs")
    instance("name", name, str, "text")
    single = network.init(key(0), lengths("in_shape", in_shape))
    double = Init(astype(single.params, np.float64), astype(single.state, np.float64), single.out_shape)
    differences: list[str] = []
    for template in (double, single):
        try:
            values = load(path, like=template)
        except CheckpointError as error:
            _, *differences = str(error).split("\n  ")
            if not differences:
                raise
        else:
            return Model(network, values.params, values.state, in_shape=in_shape, classes=classes)
    where = os.fspath(path)
    if all(difference.startswith("missing: state/") for difference in differences):
        raise CheckpointError(
            f"{where}: it has the parameters of {name}, but not the means and variances that batch norm needs; "
            "save them too, such as fcnn.save(path, training_state)"
        )
    raise CheckpointError("\n  ".join([f"{where}: it doesn't hold {name}:", *differences]))
