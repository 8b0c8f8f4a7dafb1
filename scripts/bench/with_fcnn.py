"""fcnn: steps and inference in shards over processes (or threads, in that form), single layers over threads.

In the form "plain" a step is what `fcnn.train_step` gives by itself, and nothing is set around it.
"""

import functools
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np

import fcnn
from bench.cases import ALL, BACKWARD, BOTH, FORWARD, WEIGHT, Conv, Epoch, Photo, Pool, Predict, RecordStep, Step
from bench.inputs import ORDER
from bench.networks import NETWORKS
from bench.programs import (
    Array,
    Inputs,
    Makers,
    Prepared,
    params_of,
    prepare_inference,
    prepare_photo,
    prepare_training,
    sample,
)
from fcnn import ops, parallel
from fcnn.network.description import build
from fcnn.ops.layout import block, unblock
from fcnn.values.arrays import frozen, keep
from fcnn.values.tree import unflatten

RECORD_STEPS = 200  # in which the rates fall
EVALUATED = 125  # images at most, in inference


@contextmanager
def opened(threads: int, form: str = "") -> Iterator[Makers]:
    """Cases on so many threads or processes, and BLAS on one; plain, on as many as the library takes."""
    if form == "plain":
        yield {Step: functools.partial(training, map_fn=None)}
        return
    workers = parallel.threads if form == "threads" else parallel.processes
    with workers(threads) as for_steps, parallel.threads(threads) as for_layers:
        maps = dict.fromkeys((Step, RecordStep, Epoch), (training, for_steps))
        maps |= {Predict: (predict, for_steps)}
        maps |= {Conv: (conv, for_layers), Pool: (pool, for_layers)}  # few long calls, whose results need not travel
        makers = {kind: functools.partial(function, map_fn=map_fn) for kind, (function, map_fn) in maps.items()}
        yield {**makers, Photo: photo}


def training(case: Step | Epoch, inputs: Inputs, map_fn: parallel.MapFn | None) -> Prepared:
    """Steps over shards; without a map, of whole batches."""
    network = NETWORKS[case.network]
    model, loss, optimizer = network.make(fcnn), fcnn.softmax_cross_entropy(), fcnn.adam(1e-3)
    if isinstance(case, RecordStep):
        from records import cifar10  # not at the top: what a script imports besides would count in every case's memory

        model, loss = cifar10.network(), fcnn.softmax_cross_entropy(cifar10.SMOOTHING)
        optimizer = cifar10.optimizer(RECORD_STEPS, RECORD_STEPS, case.batch)
    start = fcnn.init_state(model, optimizer, fcnn.key(0), network.in_shape)
    state = start = attrs.evolve(start, params=unflatten(params_of(inputs)))
    plain = train = fcnn.train_step(model, loss, optimizer)
    if map_fn is not None:
        gradient = parallel.sharded(fcnn.gradient(model, loss), network.shard, map_fn)
        train = fcnn.train_step(model, loss, optimizer, gradient)
    # With batch norm a shard is normalised by itself; checked is what the peers do, with the whole batch.
    checked = plain if start.layer_state else train
    split = fcnn.Split(frozen(inputs["x"]), frozen(inputs["y"]))
    steps = (case.steps if isinstance(case, Epoch) else None) or fcnn.data.steps_per_epoch(len(split), case.batch)

    def stream(start_step: int = 0) -> Iterator[fcnn.Batch]:
        return fcnn.batches(split, case.batch, ORDER, start_step=start_step, shuffle=isinstance(case, Epoch))

    def step(*batch: Array) -> float:
        nonlocal state
        state, record = train(state, batch)
        return record.loss

    def epoch() -> float:
        nonlocal state
        state, records = fcnn.fold(train, state, itertools.islice(stream(), steps))
        return float(np.mean([record.loss for record in records]))

    def check() -> Array:
        batches = [next(stream(number)) for number in (0, 1, steps - 1)]
        return np.array([record.loss for record in fcnn.fold(checked, start, batches)[1]])

    if isinstance(case, Epoch):
        return Prepared({"": epoch}, check)
    return prepare_training(case, inputs, step, fcnn.data.as_batch)._replace(check=check)


def predict(case: Predict, inputs: Inputs, map_fn: parallel.MapFn) -> Prepared:
    """Each batch in shards; a single image as it is."""
    model, params = NETWORKS[case.network].make(fcnn), unflatten(params_of(inputs))

    logits = fcnn.predictor(model, params)

    def outputs(x: Array) -> Array:
        return logits(fcnn.data.as_batch(x, np.zeros(len(x), np.int64)).x)

    def in_shards(x: Array) -> Array:
        size = min(EVALUATED, -(-len(x) // 2))
        return np.concatenate(list(map_fn(outputs, np.split(x, range(size, len(x), size)))))

    return prepare_inference(case, inputs, outputs if case.batch == 1 else in_shards)


def photo(case: Photo, inputs: Inputs) -> Prepared:
    """`fcnn.predictor` as it is, which shares a layer out over the threads that there are."""
    network, x = build(json.loads(str(inputs["network"]))), frozen(inputs["x"])
    state = network.init(fcnn.key(0), x.shape[1:]).state
    logits = fcnn.predictor(network, unflatten(params_of(inputs)), state)
    return prepare_photo(lambda: logits(x))


def conv(case: Conv, inputs: Inputs, map_fn: parallel.MapFn) -> Prepared:
    """`fcnn.ops.conv2d` over shards; their weight gradients are summed."""
    xs, dys, w = _shards(inputs["x"]), _shards(inputs["dy"]), keep(inputs["w"])
    forward = functools.partial(ops.conv2d, w=w, padding=case.padding)
    caches = [forward(x)[1] for x in xs]

    def everything(x: Array, dy: Array) -> tuple[Array | None, ...]:
        y, cache = forward(x)
        return y, *ops.conv2d_backward(dy, cache)[:2]

    def summed(shards: Any) -> tuple[Any, Array]:
        found = list(shards)
        return found, functools.reduce(np.add, (each[-1] for each in found))

    def gradients(need_dx: bool) -> Any:
        return summed(map_fn(lambda dy, cache: ops.conv2d_backward(dy, cache, need_dx=need_dx)[:2], dys, caches))

    calls = {
        FORWARD: lambda: list(map_fn(lambda x: forward(x)[0], xs)),
        WEIGHT: lambda: gradients(False),
        BOTH: lambda: gradients(True),
        ALL: lambda: summed(map_fn(everything, xs, dys)),
    }

    def check() -> Array:
        found, dw = calls[ALL]()
        return sample(*(np.concatenate([each[i] for each in found]) for i in (0, 1)), dw)

    return Prepared(calls, check)


def pool(case: Pool, inputs: Inputs, map_fn: parallel.MapFn) -> Prepared:
    """`fcnn.ops.max_pool2d` over shards."""
    xs, dys = _shards(inputs["x"]), _shards(inputs["dy"])
    caches = [ops.max_pool2d(x, 2)[1] for x in xs]
    calls = {
        FORWARD: lambda: [y for y, _ in map_fn(lambda x: ops.max_pool2d(x, 2), xs)],
        BACKWARD: lambda: list(map_fn(ops.max_pool2d_backward, dys, caches)),
    }
    return Prepared(calls, lambda: sample(*(np.concatenate(call()) for call in calls.values())))


def _shards(x: Array) -> list[Array]:
    """Two halves of a batch, 32 or 64 images each, batch-innermost as the layer before would hand them over."""
    return [unblock(block(part)) for part in np.split(x, 2)]
