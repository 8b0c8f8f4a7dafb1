"""Where the time of a training step goes, layer by layer, forward and backward: on one thread, one shard."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np

import fcnn
from bench.networks import airbench, resnet8, vgg
from fcnn import parallel
from fcnn.network.layer import Shape
from fcnn.training.optim import apply_updates


def wide(widths: tuple[int, ...] = (64, 64, 128, 256)) -> fcnn.Layer:
    """Wide 3x3 convolutions without batch norm for CIFAR-10, a pool after all but the first."""
    layers: dict[str, fcnn.Layer] = {}
    for number, width in enumerate(widths, 1):
        layers |= {f"conv{number}": fcnn.conv2d(width, 3, padding=1), f"relu{number}": fcnn.relu()}
        layers |= {f"pool{number}": fcnn.max_pool2d(2)} if number > 1 else {}
    return fcnn.serial(**layers, pool=fcnn.global_avg_pool2d(), head=fcnn.dense(10))


def flat(network: fcnn.Layer) -> fcnn.Layer:
    """A serial of serials as one, so that each layer is a line."""
    layers: dict[str, fcnn.Layer] = {}
    for name, child in network.children.items():
        layers |= {f"{name}_{inner}": layer for inner, layer in child.children.items()} or {name: child}
    return fcnn.serial(**layers)


NETWORKS: dict[str, tuple[Callable[[], fcnn.Layer], Shape]] = {
    "lenet5": (fcnn.lenet5, (1, 28, 28)),
    "lenet5_bn": (lambda: fcnn.lenet5(batch_norm=True), (1, 28, 28)),
    "cifar": (wide, (3, 32, 32)),
    "vgg": (lambda: vgg(fcnn), (3, 32, 32)),
    "resnet8": (lambda: resnet8(fcnn), (3, 32, 32)),
    "airbench": (lambda: flat(airbench(fcnn)), (3, 32, 32)),
}


def profile(model: fcnn.Layer, in_shape: Shape, shard: int, repetitions: int) -> str:
    """A table of a serial network's training step: median milliseconds and GFLOP/s by layer, and the rest.

    Args:
        model: a network made by `fcnn.serial`; each of its children is a line.
        in_shape: an image's (C, H, W).
        shard: how many images.
        repetitions: how many steps are timed.
    """
    times: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = function(*args, **kwargs)
            times[name].append(1000 * (time.perf_counter() - began))
            return result

        return call

    children = {
        name: attrs.evolve(
            child, apply=timed(f"{name} forward", child.apply), backward=timed(f"{name} backward", child.backward)
        )
        for name, child in model.children.items()
    }
    network, loss = fcnn.serial(**children), timed("loss", fcnn.softmax_cross_entropy())
    adam = fcnn.adam(1e-3)
    optimizer = attrs.evolve(adam, update=timed("update", adam.update))
    of_shard = timed("one shard", fcnn.gradient(network, loss, fuse=False))  # fused, no layer could be timed
    gradient = timed("all shards", parallel.sharded(of_shard, shard))
    step = timed("whole step", fcnn.train_step(network, loss, optimizer, gradient))
    apply = timed("apply", apply_updates)  # the step's own can't be reached; this one adds trees of the same shapes

    rng = np.random.default_rng(0)
    images = fcnn.Split(rng.integers(0, 256, (shard, *in_shape), np.uint8), rng.integers(0, 10, shard))
    batch = next(fcnn.batches(images, shard, fcnn.key(0)))
    state = fcnn.init_state(model, adam, fcnn.key(0), in_shape)
    with parallel.threads(1):
        for repetition in range(repetitions + 2):
            if repetition == 2:  # warm now
                times.clear()
            after, _ = step(state, batch)
            apply(state.params, after.params)
            state = after
    medians = {name: statistics.median(values) for name, values in times.items()}
    medians["optimizer"] = medians["update"] + medians["apply"]
    medians["sharding and merging"] = medians["all shards"] - medians["one shard"]
    title = f"a training step on one shard of {shard} images, one thread, median of {repetitions}"
    return "\n".join([title, "", *_table(model, in_shape, shard, medians)])


def _table(model: fcnn.Layer, in_shape: Shape, shard: int, medians: dict[str, float]) -> Iterator[str]:
    line = "{:<22}{:<34}{:>11}{:>9}{:>13}{:>9}{:>8}".format
    yield line("path", "layer", "forward ms", "GFLOP/s", "backward ms", "GFLOP/s", "share")
    total, named = medians["whole step"], 0.0
    shape, first = in_shape, True
    for name, child in model.children.items():
        made = child.init(fcnn.key(0), shape)
        forward, backward = medians[f"{name} forward"], medians.get(f"{name} backward", 0.0)
        flops = 2 * shard * made.macs
        rates = [flops / forward / 1e6, (1 if first else 2) * flops / backward / 1e6] if flops else []
        first, shape, named = first and not made.params, made.out_shape, named + forward + backward
        cells = [f"{rate:.1f}" for rate in rates] or ["", ""]
        share, layer = f"{(forward + backward) / total:.1%}", " ".join(repr(child).split())[:33]
        yield line(name, layer, f"{forward:.3f}", cells[0], f"{backward:.3f}", cells[1], share)
    rest = {name: medians[name] for name in ("loss", "optimizer", "sharding and merging")}
    rest["everything else (freeing memory, making trees)"] = total - named - sum(rest.values())
    for name, ms in (*rest.items(), ("whole step", total)):
        yield f"{name:<56}{ms:>11.3f}{ms / total:>39.1%}"
