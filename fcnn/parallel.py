"""Scaling out is a function on functions: gradients are pure, so a batch can be split and the parts summed.

`sharded` splits a batch into shards of a *fixed* size, maps the gradient over them and adds the results in a fixed
order. So the result depends on the shard size, never on how many threads ran it. Shards of 32 to 64 images also keep
a small network's arrays in the processor's cache, so sharding pays off on one thread already.

Batch norm under sharding sees one shard at a time: "ghost" batch norm (E. Hoffer et al., NeurIPS 2017, arXiv
1705.08741). Its running statistics become the mean of what the shards found, weighted by their size.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeAlias

from fcnn.arrays import Array, frozen
from fcnn.keys import Key, fold_in
from fcnn.train import Gradient, GradientFn
from fcnn.tree import Tree
from fcnn.tree import map as tree_map

MapFn: TypeAlias = Callable[..., Iterable[Any]]


@contextmanager
def threads(count: int) -> Iterator[MapFn]:
    """A `map` that runs on `count` threads, with BLAS held to one thread a call while the block runs.

    NumPy leaves Python's lock in its kernels, so threads over shards use all cores, and better than threads within
    one matrix product do. The limit on BLAS holds for the whole process until the block ends.

    >>> with threads(2) as map_fn:
    ...     list(map_fn(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    from threadpoolctl import threadpool_limits  # here, because it costs start-up time

    if count < 1:
        raise ValueError(f"threads expects a count of at least 1, got {count}")
    with threadpool_limits(1, user_api="blas"):
        if count == 1:
            yield map
        else:
            with ThreadPoolExecutor(count) as pool:

                def map_fn(function: Callable[..., Any], *arguments: Iterable[Any]) -> Iterable[Any]:
                    # Each call sees the caller's context, in which NumPy keeps its error state.
                    contexts = iter(copy_context, None)
                    return pool.map(lambda context, *each: context.run(function, *each), contexts, *arguments)

                yield map_fn


def sharded(gradient_fn: GradientFn, shard_size: int, map_fn: MapFn = map) -> GradientFn:
    """The same gradient, computed a shard at a time.

    Args:
        gradient_fn: the gradient of one batch, as `fcnn.gradient` makes it. Its loss must be a *mean* over the batch.
        shard_size: images a shard; the last may be smaller.
        map_fn: how the shards are mapped, such as the one that `threads` gives.

    Returns:
        A gradient function for `fcnn.train_step`. Shard i's key is `fold_in(key, i)`.
    """
    if shard_size < 1:
        raise ValueError(f"sharded expects a shard_size of at least 1, got {shard_size}")

    def compute(params: Tree, state: Tree, key: Key, batch: Any) -> Gradient:
        x, targets = batch
        total = len(x)
        if not total:
            raise ValueError("sharded got an empty batch")

        def shard(index: int) -> Gradient:
            rows = slice(index * shard_size, (index + 1) * shard_size)
            return gradient_fn(params, state, fold_in(key, index), (x[rows], targets[rows]))

        found = list(map_fn(shard, range(-(-total // shard_size))))
        weights = [one.size / total for one in found]

        def mean(*leaves: Array) -> Array:
            value = leaves[0] * weights[0]
            for leaf, weight in zip(leaves[1:], weights[1:], strict=True):
                value += leaf * weight
            return frozen(value)

        counts = [one.correct for one in found if one.correct is not None]
        return Gradient(
            sum(one.loss * weight for one, weight in zip(found, weights, strict=True)),
            tree_map(mean, *(one.grads for one in found)),
            tree_map(mean, *(one.state for one in found)),
            sum(counts) if counts else None,
            total,
        )

    return compute
