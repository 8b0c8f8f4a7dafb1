"""How the outputs of layers on one input become one output, and how its gradient becomes theirs."""

import functools
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np

from fcnn.network.layer import LayerError, Shape
from fcnn.ops.layout import block, unblock
from fcnn.values.arrays import Array, frozen

Merge: TypeAlias = Literal["sum", "concat", "multiply"]


def merged_shape(kind: str, merge: Merge, shapes: Mapping[str, Shape], axis: int) -> Shape:
    """The output's shape from those of the children, whose channels, or features, are on `axis`.

    Raises LayerError where they don't go together.
    """
    first = next(iter(shapes.values()))
    if merge == "sum":
        expected, fit = "the same shape", all(shape == first for shape in shapes.values())
    elif merge == "multiply":
        expected, fit = "the same shape, but for lengths of 1", _broadcast(list(shapes.values()), axis)
    else:
        expected = "the same shape after the first axis" if axis == 0 else "the same shape but for the channels"
        fit = len(first) > axis and all(
            len(shape) == len(first) and (shape[:axis], shape[axis + 1 :]) == (first[:axis], first[axis + 1 :])
            for shape in shapes.values()
        )
    if not fit:
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        advice = _how_to_fit(shapes, axis) if (kind, merge) == ("branch", "multiply") else ""
        raise LayerError(f"{kind} expects children of {expected}, got {got}{advice}")
    if merge == "sum":
        return first
    if merge == "multiply":
        return np.broadcast_shapes(*shapes.values())
    return (*first[:axis], sum(shape[axis] for shape in shapes.values()), *first[axis + 1 :])


def _broadcast(shapes: Sequence[Shape], axis: int) -> bool:
    """Whether they have as many axes and, from `axis` on, on each the same length or 1."""
    if len({len(shape) for shape in shapes}) > 1 or len({shape[:axis] for shape in shapes}) > 1:
        return False
    return all(len({*lengths} - {1}) <= 1 for lengths in zip(*shapes, strict=True))


def _how_to_fit(shapes: Mapping[str, Shape], axis: int) -> str:
    """Advice that is right for factors of these shapes, or none: a number for each channel scales that."""
    most = max((shape[axis:] for shape in shapes.values()), key=len)
    gate = (*most[:1], *[1] * len(most[1:]))
    gates = [name for name, shape in shapes.items() if shape[axis:] == most[:1] != most]
    longer = [(*shape[:axis], *gate) if name in gates else shape for name, shape in shapes.items()]
    if not gates or not _broadcast(longer, axis):
        return ""
    return f"; put reshape({gate}) after {' and '.join(gates)} to scale channels by it"


def merged(merge: Merge, ys: Sequence[Array]) -> Array:
    """The output of children with these outputs, whose shapes go together; a new array."""
    if merge == "sum":
        return added(ys)
    if merge == "concat":
        return frozen(np.concatenate(ys, axis=1))
    blocks = [block(y) for y in ys]
    return frozen(unblock(functools.reduce(np.multiply, blocks) if len(blocks) > 1 else np.array(blocks[0])))


def added(arrays: Sequence[Array]) -> Array:
    """The sum of arrays of one shape."""
    dtype = np.result_type(*arrays)
    if len(arrays) == 1:
        return frozen(np.array(arrays[0], order="K"))
    total = np.add(arrays[0], arrays[1], out=np.empty_like(arrays[0], dtype))  # in the memory order of the first
    for array in arrays[2:]:
        total += array
    return frozen(total)


def parted(merge: Merge, dy: Array, widths: Sequence[int], factors: Sequence[Array], count: int) -> Sequence[Array]:
    """The gradients of the outputs of so many children, from that of the merged output.

    Args:
        merge: how they were merged.
        dy: the gradient of what they became.
        widths: of "concat", how many channels each has.
        factors: of "multiply", the outputs.
    """
    if merge == "sum":
        return [dy] * count
    if merge == "concat":
        return np.split(dy, np.cumsum(widths)[:-1], axis=1)
    return _shares(dy, factors)


def _shares(dy: Array, factors: Sequence[Array]) -> list[Array]:
    """Of each factor: dy times the others, summed where its length of 1 met a greater one.

    The others are multiplied, from the first on and from the last on, as a product divided by a factor of 0 is nothing.
    """
    blocks = [block(factor) for factor in factors]
    before = blocks[:1]  # the products of the first one, two, …
    for one in blocks[1:-1]:
        before.append(before[-1] * one)
    shares, rest = [], block(dy)  # dy times the factors after
    for k in range(len(blocks) - 1, 0, -1):
        shares.append(_summed(rest * before[k - 1], blocks[k].shape))
        rest = rest * blocks[k]
    shares.append(_summed(rest, blocks[0].shape))
    return [frozen(unblock(share)) for share in reversed(shares)]


def _summed(share: Array, shape: tuple[int, ...]) -> Array:
    for axis, length in enumerate(shape):
        if length != share.shape[axis]:
            share = share.sum(axis=axis, keepdims=True)
    return share
