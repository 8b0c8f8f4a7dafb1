"""Layers of a chain that are one layer: what exporters take apart, put together again.

Numbers that are added or multiplied become a bias, part of a normalisation, or layers of their own; means of one pixel
that are flattened become features.
"""

from collections.abc import Callable
from itertools import takewhile

import attrs
import numpy as np

from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.onnx_limits import Allowance
from fcnn.exchange.onnx_pieces import Affine, Piece, as_floats, repeated
from fcnn.network import layers
from fcnn.network.layer import Layer, Shape
from fcnn.values.arrays import Array, frozen
from fcnn.values.tree import Tree, freeze

_BIASED = (layers.conv1d, layers.conv2d, layers.conv_transpose2d, layers.dense)
_MOST_CHANNELS = 1 << 20  # for which a filter is made of one number
_MOST_ARGUMENTS = 10_000  # of one layer, where values do as well
_SCALED = (layers.batch_norm, layers.group_norm)


@np.errstate(all="ignore")
def settled(before: Piece | None, affines: list[Affine], shape: Shape, arguments: Allowance) -> list[Piece]:
    """The layers of what is added and multiplied, in place of the one before, if there is one.

    shape: of what it is done to; arguments: how many numbers may become arguments of layers.

    Raises ExchangeError where no layer does it.
    """
    operators = [one.operator for one in affines]
    scale, shift = _together(affines)
    width, dtype = (shape[0],), affines[0].constant.dtype
    if not all(np.isfinite(one.astype(dtype)).all() for one in (scale, shift)):
        raise ExchangeError(f"{affines[0].node} adds or multiplies by numbers that aren't finite")
    added = [*takewhile(lambda one: one.operator in ("Add", "Sub"), affines)]
    is_whole = len(added) == len(affines)
    # Zeros before a factor, as of a mean that is subtracted, need no bias.
    if before is not None and before.layer.make in _BIASED and added and (is_whole or _together(added)[1].any()):
        layer = before.layer.make(**{**before.layer.config, "bias": True})
        b = before.params.get("b", 0) + np.broadcast_to(_together(added)[1], width)
        biased = Piece(layer, _with(before.params, b=b))
        return [biased] if is_whole else settled(biased, affines[len(added) :], shape, arguments)
    if before is not None and before.layer.make in _SCALED:
        gamma, beta = before.params["gamma"] * scale, before.params["beta"] * scale + shift
        return [attrs.evolve(before, params=_with(before.params, gamma=gamma, beta=beta))]
    is_first, is_plain = before is None, {*operators} <= {"Sub", "Div"} or scale.size == shift.size == 1
    given = [before] if before is not None else []
    has_filter = len(shape) in (2, 3) and shape[0] <= _MOST_CHANNELS
    count = sum(one.constant.size for one in affines)
    if (is_first or is_plain) and scale.min() > 0 and not (has_filter and count > _MOST_ARGUMENTS):
        arguments.take(count, affines[0].node)
        if operators == ["Sub", "Div"]:
            mean, std = (as_floats(one.constant) for one in affines)
        else:
            mean, std = (as_floats((number / scale).astype(dtype)) for number in (0 - shift, np.ones(())))
        return [*given, Piece(layers.normalize(_fewest(mean), _fewest(std)))]
    if has_filter:  # a filter of one pixel for each channel
        w = np.broadcast_to(scale, width).astype(dtype).reshape(-1, *[1] * len(shape))
        b = np.broadcast_to(shift, width).astype(dtype) if shift.any() else None
        make: Callable[..., Layer] = layers.conv2d if len(shape) == 3 else layers.conv1d
        layer = make(shape[0], 1, groups=shape[0], bias=b is not None)
        return [*given, Piece.of(layer, {"w": frozen(w), "b": b})]
    raise ExchangeError(f"{affines[0].node} multiplies features by numbers below 0 or one by one, as no layer does")


def _together(affines: list[Affine]) -> tuple[Array, Array]:
    """scale and shift of x * scale + shift, in float64, each one number or one for each channel."""
    scale, shift = np.ones(()), np.zeros(())
    for one in affines:
        c = one.constant.astype(np.float64)
        if one.operator == "Div" and not c.all():
            raise ExchangeError(f"{one.node} divides by 0")
        if one.operator in ("Mul", "Div"):
            scale, shift = (number * c if one.operator == "Mul" else number / c for number in (scale, shift))
        else:
            shift = shift + c if one.operator == "Add" else shift - c
    return np.asarray(scale), np.asarray(shift)


def _with(params: Tree, **changed: Array) -> Tree:
    """The parameters with some in the place of others, in their dtype."""
    dtype = next(iter(params.values())).dtype
    return freeze({**params, **{name: frozen(np.asarray(one, dtype)) for name, one in changed.items()}})


def _fewest(numbers: list[float]) -> float | list[float]:
    return numbers[0] if len({*numbers}) == 1 else numbers


def join(pieces: list[tuple[Piece, Shape]], piece: Piece, shape: Shape, out: Shape) -> None:
    """Put a layer at the end of a chain, or one layer in the place of the last ones and of it.

    pieces: each with the shape of what flows into it; shape, out: of what flows into and out of the new one.
    """
    kinds = [one.layer.make for one, _ in pieces[-2:]] + [piece.layer.make]
    if kinds[-2:] == [layers.adaptive_avg_pool2d, layers.flatten] and pieces[-1][0].layer.config["size"] == 1:
        pieces[-1:] = [(Piece(layers.global_avg_pool2d()), pieces[-1][1])]
    elif kinds == [layers.reshape, layers.group_norm, layers.reshape] and _are_groups(pieces[-1], pieces[-2][1], out):
        # Groups of channels, made channels of their own: so PyTorch exports GroupNorm.
        norm, dtype = pieces[-1][0], pieces[-1][0].params["gamma"].dtype
        layer = layers.group_norm(norm.layer.config["groups"], eps=norm.layer.config["eps"])
        values: dict[str, Array | None] = {"gamma": repeated(1, dtype, out[0]), "beta": repeated(0, dtype, out[0])}
        pieces[-2:] = [(Piece.of(layer, values), out)]
    elif kinds[-2:] in ([layers.reshape, layers.reshape], [layers.reshape, layers.flatten]):
        before = pieces.pop()[1]
        if before != out:
            pieces.append((piece, before))
    else:
        pieces.append((piece, shape))


def _are_groups(norm: tuple[Piece, Shape], before: Shape, after: Shape) -> bool:
    """Whether a normalisation, each channel by itself and without values, is of the groups of a shape's channels."""
    (piece, shape), count = norm, norm[1][0]
    alone = piece.layer.config["groups"] == count and before == after and before[0] % count == 0
    return alone and len(shape) == 2 and bool((piece.params["gamma"] == 1).all()) and not piece.params["beta"].any()
