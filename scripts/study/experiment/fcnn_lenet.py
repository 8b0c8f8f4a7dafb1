"""LeNet-5 in fcnn, in several ways to use the machine."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from options import INITIALIZERS

import fcnn
from fcnn import parallel
from study.experiment.cells import Arrays, Training
from study.experiment.protocol import Array, Network

MAPS = {"processes": parallel.processes, "threads": parallel.threads}
SHARD_SIZE = 64  # images; two shards of them fill two cores, and each stays in cache


@contextmanager
def opened(cell: Training, data: fcnn.Dataset, variant: str, threads: int) -> Iterator[Network]:
    """The network of a cell, trained in shards over `threads` processes or threads, or in whole batches."""
    if variant in MAPS:
        with MAPS[variant](threads) as map_fn:
            yield _network(cell, data, map_fn)
    else:  # "whole batches": the threads are BLAS's
        from threadpoolctl import threadpool_limits

        with threadpool_limits(threads, user_api="blas"):
            yield _network(cell, data, None)


def _network(cell: Training, data: fcnn.Dataset, map_fn: parallel.MapFn | None) -> Network:
    in_shape = data.train.x.shape[1:]
    weights, biases = INITIALIZERS[cell.init]
    model = fcnn.lenet5(
        in_shape, len(data.classes), batch_norm=cell.batch_norm, dropout=cell.dropout, weights=weights, biases=biases
    )
    loss = fcnn.softmax_cross_entropy()
    optimizer = fcnn.adam(cell.lr) if cell.optimizer == "adam" else fcnn.sgd(cell.lr, momentum=0.9)
    gradient = fcnn.gradient(model, loss)
    if map_fn is not None and not cell.batch_norm:  # batch norm sees whole batches, as in PyTorch
        gradient = parallel.sharded(gradient, SHARD_SIZE, map_fn)
    train = fcnn.train_step(model, loss, optimizer, gradient)

    def step(state: fcnn.TrainState, batch: tuple[Array, Array]) -> tuple[fcnn.TrainState, fcnn.Record]:
        return train(state, fcnn.data.as_batch(*batch))

    def logits(state: fcnn.TrainState, split: fcnn.Split) -> Array:
        return fcnn.evaluate(model, state.params, state.layer_state, split).outputs

    return Network(
        start=fcnn.init_state(model, optimizer, fcnn.fold_in(fcnn.key(cell.seed), "model"), in_shape),
        step=step,
        logits=logits,
        filters=lambda state: state.params["conv1"]["w"],
        maps=lambda state, split: _feature_maps(model, state, split) | _values(state),
    )


def _values(state: fcnn.TrainState) -> Arrays:
    """The network's own numbers by path, for the page on which it can be tried."""
    trees = {"params": state.params, "state": state.layer_state}
    return {f"{name}/{path}": array for name, tree in trees.items() for path, array in fcnn.tree.flatten(tree).items()}


def _feature_maps(model: fcnn.Layer, state: fcnn.TrainState, split: fcnn.Split) -> Arrays:
    """The first image, and the outputs of all layers that give images of it."""
    x = fcnn.data.as_batch(split.x[:1], split.y[:1]).x
    outputs = fcnn.trace(model, state.params, state.layer_state, x).outputs
    maps = {f"map_{path}": np.ascontiguousarray(y[0]) for path, y in outputs.items() if y.ndim == 4}
    return {"digit": split.x[0], **maps}
