"""Batches: a split, an order and a key in; the same stream of training batches out, from any step on."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fcnn.data.augmentation import expect_batch_transform
from fcnn.data.types import Batch, BatchTransform, Split, check_inputs, check_targets, expect_split
from fcnn.ops.layout import block, unblock
from fcnn.values.arrays import NDArray, frozen, keep, native
from fcnn.values.checks import MOST_STEPS, boolean, integer, told
from fcnn.values.keys import Key, expect_key, fold_in, generator

_GREATEST = float(np.finfo(np.float32).max)


def batches(
    split: Split,
    batch_size: int,
    key: Key,
    *,
    epochs: int = 1,
    start_step: int = 0,
    transform: BatchTransform | None = None,
    shuffle: bool = True,
    drop_last: bool = False,
) -> "Batches":
    """The batches of `epochs` passes over `split`, each in an order of its own.

    A batch has x, float32 (batch_size, C, H, W), (batch_size, C, L) or (batch_size, D), of uint8 images in [0, 1], and
    y, the targets; both are read-only, x is batch-innermost in memory; its `rows` and `epoch` say which inputs of the
    split it holds, and of which epoch, from 0 on. The last batch of an epoch is smaller where the batch size does not
    divide the split, or is left out with `drop_last`. The stream has a length, `len(stream)`: the batches left.

    A pure function of its arguments: epoch e's order is drawn from `fold_in(fold_in(key, "epoch"), e)`, step s's
    `transform(key, batch)` gets `fold_in(fold_in(key, "transform"), s)`, and so step s is the same batch wherever the
    stream starts. `start_step=n` leaves out the first n steps, without reading their images.

    Raises TypeError or ValueError, at once, for sizes that are not whole numbers in range, and for a stream without
    a batch or a start beyond its end.

    >>> from fcnn.values.keys import key
    >>> split = Split(np.zeros((5, 1, 2, 2), np.uint8), np.arange(5))
    >>> [batch.x.shape for batch in batches(split, 2, key(0))]
    [(2, 1, 2, 2), (2, 1, 2, 2), (1, 1, 2, 2)]
    >>> whole = [batch.y.tolist() for batch in batches(split, 2, key(0), epochs=2)]
    >>> whole[4:] == [batch.y.tolist() for batch in batches(split, 2, key(0), epochs=2, start_step=4)]
    True
    """
    expect_split("split", split)
    expect_key("key", key)
    boolean("shuffle", shuffle)
    if transform is not None:
        expect_batch_transform("transform", transform)
    per_epoch = steps_per_epoch(len(split), batch_size, drop_last=drop_last)
    total = per_epoch * integer("epochs", epochs, least=0, most=MOST_STEPS // per_epoch)
    if integer("start_step", start_step, least=0) > total:
        raise ValueError(f"start_step is at most {total}, {epochs} epochs of {per_epoch} steps, got {start_step}")

    def batches_from() -> Iterator[Batch]:
        order, order_of = np.empty(0, np.int64), -1
        for step in range(start_step, total):
            epoch, k = divmod(step, per_epoch)
            if epoch != order_of:
                order, order_of = _order(len(split), key, epoch, shuffle), epoch
            rows = order[k * batch_size : (k + 1) * batch_size]
            batch = batch_of(split.x[rows], split.y[rows])._replace(rows=rows, epoch=epoch)
            yield batch if transform is None else transformed(fold_in(fold_in(key, "transform"), step), batch)

    def transformed(key: Key, batch: Batch) -> Batch:
        assert transform is not None
        found = transform(key, batch)
        if not isinstance(found, tuple) or len(found) != 2:
            raise TypeError(f"a transform gives a batch (x, y), {told(transform)} gave {told(found)}")
        return found

    return Batches(batches_from(), total - start_step)


class Batches(Iterator[Batch]):
    """A stream of batches that knows how many are left: `len(stream)`."""

    def __init__(self, stream: Iterator[Batch], left: int) -> None:
        self._stream = stream
        self._left = left

    def __next__(self) -> Batch:
        batch = next(self._stream)
        self._left -= 1
        return batch

    def __len__(self) -> int:
        return self._left


def steps_per_epoch(split_len: int, batch_size: int, drop_last: bool = False) -> int:
    """The number of batches in one pass over `split_len` images.

    Raises ValueError if there is none.

    >>> steps_per_epoch(60_000, 128), steps_per_epoch(60_000, 128, drop_last=True)
    (469, 468)
    """
    integer("batch_size", batch_size, least=1)
    boolean("drop_last", drop_last)
    if integer("split_len", split_len, least=0) == 0:
        raise ValueError("there are no batches in a split of 0 images")
    if drop_last and split_len < batch_size:
        raise ValueError(f"with drop_last, {split_len} images give no batch of {batch_size}; take a smaller batch_size")
    return split_len // batch_size if drop_last else -(-split_len // batch_size)


def as_batch(x: NDArray[Any], y: NDArray[Any]) -> Batch:
    """Turn inputs (N, C, H, W), (N, C, L) or (N, D), and their targets, as a `Split` has them, into a batch.

    x becomes float32, batch-innermost; uint8 is divided by 255. Raises TypeError or ValueError as `Split` does.

    >>> as_batch(np.full((1, 1, 1, 2), 51, np.uint8), np.array([3]))
    Batch(x=array([[[[0.2, 0.2]]]], dtype=float32), y=array([3]))
    """
    check_inputs("a batch", x)
    check_targets("a batch", y, len(x))
    return batch_of(native(x), native(y))


def batch_of(x: NDArray[Any], y: NDArray[Any]) -> Batch:
    """`as_batch` of what is known to be inputs and their targets, such as rows of a split."""
    # Reordering the bytes first moves a quarter of what reordering floats would.
    memory = block(x)
    if x.dtype == np.uint8:
        floats = np.divide(memory, np.float32(255))
    else:
        try:
            with np.errstate(over="raise"):
                floats = memory.astype(np.float32)
        except FloatingPointError:
            raise ValueError(
                f"x holds finite numbers beyond {_GREATEST:.2g}, the greatest in a batch, of float32; scale them"
            ) from None
    return Batch(frozen(unblock(floats)), keep(y))


def _order(n: int, key: Key, epoch: int, shuffle: bool) -> NDArray[np.int64]:
    order = generator(fold_in(fold_in(key, "epoch"), epoch)).permutation(n) if shuffle else np.arange(n)
    return frozen(order.astype(np.int64, copy=False))
