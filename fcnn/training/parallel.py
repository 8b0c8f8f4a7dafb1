"""Scaling out is a function on functions: gradients are pure, so a batch can be split and the parts summed.

`sharded` splits a batch into shards of a *fixed* size, maps the gradient over them and adds the results in a fixed
order. So the result depends on the shard size, never on how many threads or processes ran it. Shards of 32 to 64
images also keep a small network's arrays in the processor's cache, so sharding pays off on one thread already.

What maps is `threads` or `processes`. Threads of one Python process share its lock, for which they wait between two
NumPy calls: they are for large layers and large batches. Processes wait for nothing: they are for the many short calls
of a small network, where `os.fork` is to be had.

`over_ranks` does the same over the processes of an MPI job, with one Allreduce a step. The two compose: each rank's
share in shards.

Batch norm under either sees one shard at a time: "ghost" batch norm (E. Hoffer et al., NeurIPS 2017, arXiv
1705.08741). Its running statistics become the mean of what the shards found, weighted by their size.
"""

import atexit
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fcnn.network.layer import expect_values
from fcnn.training.arguments import expect_map_fn, inputs_and_targets, mapped
from fcnn.training.mapping import MapFn, expect_mapping
from fcnn.training.step import Gradient, GradientFn, expect_gradient_fn, gradient_of, weighed
from fcnn.training.workers import WorkerError, processes
from fcnn.values.arrays import NUMBERS, Array, frozen, zeros_like
from fcnn.values.checks import integer, number, told
from fcnn.values.cores import alone, as_here, at_most, one_blas_thread, threads_compute
from fcnn.values.keys import Key, expect_key, fold_in
from fcnn.values.tree import Tree, flatten, freeze, leaves, map_elementwise, unravel
from fcnn.values.tree import map as tree_map
from fcnn.values.tree import size as tree_size

__all__ = [
    "MapFn",
    "RankError",
    "WorkerError",
    "over_ranks",
    "processes",
    "sharded",
    "sum_over_ranks",
    "threads",
]


class RankError(RuntimeError):
    """Another rank didn't come: it has died, hangs, or took another way. The job can't go on."""


@contextmanager
def threads(count: int) -> Iterator[MapFn]:
    """A `map` that runs on `count` threads, with BLAS held to one thread a call while the block runs.

    NumPy leaves Python's lock in its kernels, so threads over shards use all cores, and better than threads within
    one matrix product do. The limit on BLAS holds for the whole process until the block ends.

    Where BLAS can't be held, because `threadpoolctl` is missing, the calls come one after the other: several at once
    may be wrong (`fcnn/values/cores.py` says which BLAS and why).

    >>> with threads(2) as map_fn:
    ...     list(map_fn(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    from concurrent.futures import ThreadPoolExecutor  # here, because it costs start-up time

    integer("count", count, least=1)
    with one_blas_thread(), at_most(count):
        if count == 1 or not threads_compute():
            yield map
            return
        ended = False
        with ThreadPoolExecutor(count) as pool:

            def one(function: Callable[..., Any], *each: Any) -> Any:
                with alone():
                    return function(*each)

            def map_fn(function: Callable[..., Any], *arguments: Iterable[Any]) -> Iterable[Any]:
                expect_mapping(arguments, ended)
                calls = iter(lambda: as_here(one), None)  # another for each item
                return pool.map(lambda call, *each: call(function, *each), calls, *arguments)

            try:
                yield map_fn
            finally:
                ended = True


def sharded(gradient_fn: GradientFn, shard_size: int, map_fn: MapFn = map) -> GradientFn:
    """The same gradient, computed a shard at a time.

    Args:
        gradient_fn: the gradient of one batch, as `fcnn.gradient` makes it. Its loss must be a *mean* over the batch.
            Shards count by the sum of their rows' weights if the loss tells them (`fcnn.training.loss`), as those of
            `fcnn.losses` do, and else by their sizes.
        shard_size: images a shard; the last may be smaller.
        map_fn: how the shards are mapped, such as the one that `processes` or `threads` gives.

    Returns:
        A gradient function for `fcnn.train_step`. Shard i's key is `fold_in(key, i)`.
    """
    integer("shard_size", shard_size, least=1)
    expect_gradient_fn("gradient_fn", gradient_fn)
    expect_map_fn(map_fn)

    def of_shard(arguments: tuple[int, Tree, Tree, Key, Any, int]) -> tuple[int, Gradient]:
        # One function for all steps: `processes` forks new workers for another.
        number, *others, total = arguments
        found = gradient_of(gradient_fn, *others)
        if found.size == total:
            return number, found
        # Here, where shards run side by side, so that nothing is left but to add.
        share = weighed(found)[0] / total
        grads, state = _scaled(found.grads, share), _scaled(found.layer_state, found.size / total)
        return number, found._replace(loss=found.loss * share, grads=grads, layer_state=state)

    def compute(params: Tree, state: Tree, key: Key, batch: Any) -> Gradient:
        x, targets = _rows_of("sharded", params, state, key, batch)
        total = len(x)
        shards = [slice(first, first + shard_size) for first in range(0, total, shard_size)]
        parts = [(i, params, state, fold_in(key, i), (x[rows], targets[rows]), total) for i, rows in enumerate(shards)]
        found = mapped(map_fn, of_shard, parts, Gradient)
        if len(found) == 1:
            return found[0]
        counts = [one.correct for one in found if one.correct is not None]
        weights, counted = zip(*map(weighed, found), strict=True)
        return _of_mean(
            sum(one.loss for one in found),
            map_elementwise(_sum, *(one.grads for one in found)),
            map_elementwise(_sum, *(one.layer_state for one in found)),
            sum(counts) if counts else None,
            total,
            sum(weights),
            sum(counted),
        )

    return compute


def _of_mean(
    loss: float, grads: Tree, state: Tree, correct: int | None, total: int, weight: float, counted: int
) -> Gradient:
    """The gradient of a mean, of sums in which each row's weight was divided by how many rows there are."""
    if weight == counted == total:
        return Gradient(loss, grads, state, correct, total)
    factor = total / weight if weight else 0.0
    return Gradient(loss * factor, _scaled(grads, factor), state, correct, total, weight, counted)


def _scaled(values: Tree, factor: float) -> Tree:
    return map_elementwise(lambda leaf: frozen(leaf * factor), values)


def _sum(*leaves: Array) -> Array:
    if len(leaves) == 1:
        return leaves[0]
    value = leaves[0] + leaves[1]
    for leaf in leaves[2:]:
        value += leaf
    return frozen(value)


def over_ranks(gradient_fn: GradientFn, comm: Any, *, timeout: float = 60.0) -> GradientFn:
    """The same gradient, computed by all ranks of an MPI communicator together, each from its share of the batch.

        result = sum over ranks r of  W_r / W * gradient_fn(params, state, fold_in(key, r), rows of rank r)

    Every rank calls it with the same arguments, the whole batch of N rows included (`fcnn.batches` is pure, so each
    rank makes it for itself), and gets the same result. Rank r of R takes the rows from N r // R to N (r + 1) // R,
    which may be none. W_r is the sum of its rows' weights as for `sharded`, and N_r where the loss tells none; the
    layers' state counts by N_r. One Allreduce a call, on one flat buffer of the parameters' dtype: state, gradients,
    loss, weight and counts; so loss and weight are rounded to that dtype.

    The bits depend on the number of ranks (and, with more than two, on the order in which the MPI library adds) and
    on what `gradient_fn` depends on, such as the shard size in `over_ranks(sharded(gradient_fn, 64, map_fn), comm)`.

    Args:
        gradient_fn: the gradient of one batch, as for `sharded`; its loss must be a *mean* over the batch.
        comm: a communicator of mpi4py, such as `MPI.COMM_WORLD`, which nothing else uses meanwhile. Its `rank`,
            `size`, `Iallreduce` and `Abort` are all that is used; mpi4py isn't imported here.
        timeout: the longest that a rank waits for the others, in seconds; see `sum_over_ranks`.

    Raises, besides what `gradient_fn` raises:
        RankError: the others didn't come in time.
        ValueError: the batch is empty, or the ranks' batches differ in size.

    One rank, without MPI:

    >>> class OneRank:
    ...     rank, size = 0, 1
    ...     def Iallreduce(self, sent, received):
    ...         received[:] = sent
    ...         return self
    ...     def Test(self):
    ...         return True
    >>> def mean(params, state, key, batch):
    ...     return Gradient(0.5, freeze({"w": np.mean(batch[0], axis=0)}), state, None, len(batch[0]))
    >>> batch = np.array([[1.0, 2.0], [3.0, 6.0]]), np.zeros(2)
    >>> over_ranks(mean, OneRank())(freeze({"w": np.zeros(2)}), freeze({}), Key(0), batch).grads["w"]
    array([2., 4.])
    """
    number("timeout, in seconds,", timeout, "(0, inf]")
    expect_gradient_fn("gradient_fn", gradient_fn)
    _expect_comm(comm)

    def compute(params: Tree, state: Tree, key: Key, batch: Any) -> Gradient:
        x, targets = _rows_of("over_ranks", params, state, key, batch)
        total, rank = len(x), comm.rank
        rows = slice(total * rank // comm.size, total * (rank + 1) // comm.size)
        size = rows.stop - rows.start
        like = freeze({"state": state, "grads": params})
        if size:
            found = gradient_of(gradient_fn, params, state, fold_in(key, rank), (x[rows], targets[rows]))
        else:
            found = Gradient(0.0, tree_map(zeros_like, params), tree_map(zeros_like, state), 0, 0)
        values = freeze({"state": found.layer_state, "grads": found.grads})
        values = tree_map(lambda _, leaf: leaf, like, values)  # in the one order that all ranks have
        weight, counted = weighed(found)
        numbers = [found.loss, math.nan if found.correct is None else found.correct, size, weight, counted]
        dtype = next((leaf.dtype for _, leaf in leaves(like)), x.dtype)
        sent = np.concatenate([*flatten(values).values(), numbers], axis=None, dtype=dtype)
        of_state = tree_size(state)
        sent[:of_state] *= size / total
        sent[of_state:-4] *= weight / total
        received = sum_over_ranks(sent, comm, timeout=timeout)
        sums, (loss, correct, size, weight, counted) = unravel(received[:-5], like), received[-5:].tolist()
        if size != total:
            raise ValueError(
                f"over_ranks expects the same batch on every rank: the ranks' shares have {size:g} rows together, "
                f"the batch of rank {rank} has {total}"
            )
        right = None if math.isnan(correct) else int(correct)  # a NaN stays one in a sum
        return _of_mean(loss, sums["grads"], sums["state"], right, total, weight, int(counted))

    return compute


def sum_over_ranks(values: Array, comm: Any, *, timeout: float = 60.0) -> Array:
    """The sum of the arrays that all ranks of an MPI communicator pass in, the same read-only array on every rank.

    One Allreduce; `values` is contiguous, of the same shape and dtype on every rank.

    Raises RankError if the others don't come within `timeout` seconds (`math.inf`: wait for ever). As MPI can't shut
    down without them, the process that raised then ends the whole job, with `comm.Abort(1)`, when it exits.
    """
    number("timeout, in seconds,", timeout, "(0, inf]")
    _expect_comm(comm)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in NUMBERS or not values.flags.c_contiguous:
        raise TypeError(f"sum_over_ranks adds arrays of numbers in C order, got {told(values)}")
    received = np.empty_like(values)
    request = comm.Iallreduce(values, received)
    began = time.monotonic()
    while not request.Test():
        waited = time.monotonic() - began
        if waited > timeout:
            # MPI may still write to the buffers: the request, which holds them, is kept until then.
            atexit.register(_abort, comm, request)
            raise RankError(
                f"rank {comm.rank} waited {timeout:g} s for the other {comm.size - 1} rank(s) to join its Allreduce: "
                "one has died, hangs, or took fewer steps, and may have said why; "
                "start the job again, with a greater timeout if a step may take that long"
            )
        if waited < 0.005:
            _let_others_run()  # a rank on the same core, for one
        else:
            time.sleep(min(waited / 50, 0.01))  # late by 2 % at most, and the core is free
    return frozen(received)


def _expect_comm(comm: Any) -> None:
    lacks = [name for name in ("rank", "size", "Iallreduce") if not hasattr(comm, name)]
    if lacks or isinstance(comm, np.ndarray):
        raise TypeError(f"comm is a communicator of mpi4py, such as MPI.COMM_WORLD, got {told(comm)}")


def _rows_of(name: str, params: Tree, state: Tree, key: Key, batch: Any) -> tuple[Array, Any]:
    """The inputs and targets of a batch that can be taken apart, at least one row."""
    expect_values("params", params)
    expect_values("state", state)
    expect_key("key", key)
    x, targets = inputs_and_targets(batch)
    if not _has_rows(targets) or len(targets) != len(x):
        raise ValueError(f"{name} expects a target for each of {len(x)} inputs, got {told(targets)}")
    if not len(x):
        raise ValueError(f"{name} got an empty batch")
    return x, targets


def _has_rows(targets: Any) -> bool:
    return bool(targets.ndim) if isinstance(targets, np.ndarray) else isinstance(targets, (list, tuple))


def _abort(comm: Any, _: Any) -> None:
    time.sleep(0.5)  # mpiexec hands on what was printed, and would drop it when it ends
    comm.Abort(1)


_let_others_run: Callable[[], object] = getattr(os, "sched_yield", lambda: time.sleep(0))
