"""Convolution and max pooling of few images, channel by channel, and `predictor`, which computes large networks so."""

import math
from typing import Any
from unittest import mock

import numpy as np
import pytest
from by_parts import direct, geometry
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import FLOATS, arrays, examples, networks, small, windows

import fcnn
from fcnn import ops, tree
from fcnn.network import inference
from fcnn.ops import few
from fcnn.ops.passes import rectify
from fcnn.ops.pool import pool_window

Array = np.ndarray
pytestmark = pytest.mark.usefixtures("one_thread")
FEW = st.sampled_from([1, 2, 3, 4])
SIZE = st.integers(1, 9)


def by_channel(x: Array) -> Array:
    """Images (N, C, H, W) as (C, H, W, N) in memory."""
    return np.ascontiguousarray(x.transpose(1, 2, 3, 0))


@given(
    data=st.data(),
    shape=st.tuples(FEW, small, SIZE, SIZE),
    filters=st.sampled_from([1, 2, 3, 5, 70]),
    groups=small,
    dtype=FLOATS,
    sizes=st.sampled_from([(1, 1, 1, 1), (600, 20, 1, 100), (1 << 18, 256, 1, 100), (1 << 18, 256, 1 << 24, 1 << 18)]),
)
@examples(150)
def test_a_convolution_of_few_images_is_the_definition_however_it_is_cut(
    data: Any, shape: Any, filters: int, groups: int, dtype: Any, sizes: Any
) -> None:
    draw = data.draw
    kernel, stride, dilation = (draw(st.tuples(small, small)) for _ in range(3))
    pads = draw(st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2))
    shape, filters = (shape[0], shape[1] * groups, *shape[2:]), filters * groups
    window = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    assume(all(n + sum(pad) >= k for n, pad, k in zip(shape[2:], pads, window, strict=True)))
    x, w = draw(arrays(shape, dtype, True)), draw(arrays((filters, shape[1] // groups, *kernel), dtype, True))
    b = draw(st.one_of(st.none(), arrays((filters,), dtype, True)))
    g = geometry(x, w, stride, pads, dilation)
    expected = direct(x, w, np.zeros((shape[0], filters, *g.out)), g)[0]
    expected = expected if b is None else expected + b[:, None, None]
    after, expected = draw(st.sampled_from([(None, expected), (rectify, np.maximum(expected, 0))]))
    names = ("_TOGETHER", "_COLUMNS", "_WORTH_HALVES", "_OUTPUTS")
    with mock.patch.multiple(few, **dict(zip(names, sizes, strict=True))):
        y = few.convolution(g, w, b, after)(by_channel(x))
    np.testing.assert_array_equal(y.transpose(3, 0, 1, 2), expected)
    assert y.dtype == dtype


@given(st.data(), st.tuples(FEW, small, SIZE, SIZE), FLOATS, st.sampled_from([1.0, np.nan, -np.inf]))
@examples(80)
def test_max_pooling_of_few_images_is_that_of_many(data: Any, shape: Any, dtype: Any, special: float) -> None:
    window = data.draw(windows(shape, pool=True))
    kernel = window.pop("kernel")
    x = np.array(data.draw(arrays(shape, dtype, True)))
    x[x > 2] = special
    pads, out = pool_window("max_pool2d", shape[2:], kernel, window["stride"], window["padding"])
    y = few.max_pool(by_channel(x), kernel, window["stride"], pads, out)
    np.testing.assert_array_equal(y.transpose(3, 0, 1, 2), ops.max_pool2d(x, kernel, **window)[0])


@given(networks(), st.integers(1, 5), st.booleans(), st.integers(0, 10**6))
@examples(150, shrink=False)
def test_random_networks_are_predicted_as_they_compute(network: Any, n: int, large: bool, seed: int) -> None:
    layer, shape = network
    made = layer.init(fcnn.key(seed), shape)
    params, state = tree.astype(made.params, np.float64), tree.astype(made.state, np.float64)
    x = np.random.default_rng(seed).standard_normal((n, *shape))
    expected = layer.apply(params, state, x, train=False).y
    with mock.patch.object(inference, "_MANY", 0 if large else math.inf):
        predict = fcnn.predictor(layer, params, state)
        found = [predict(x), predict(x)]
    for y in found:
        assert not y.flags.writeable
        # Batch norm's factors are up to 1 / sqrt(eps) = 3; layers of some hundred sums each, some 30 of them.
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12 * max(1, np.abs(expected).max(initial=0)))


ACTS = [
    fcnn.relu(), fcnn.relu6(), fcnn.clip(-0.5, 0.7), fcnn.clip(high=0.3), fcnn.leaky_relu(0.2), fcnn.silu(), fcnn.elu(),
    fcnn.hardswish(), fcnn.hardsigmoid(), fcnn.sigmoid(), fcnn.tanh(), fcnn.softplus(), fcnn.gelu(),
    fcnn.gelu("tanh"),
]  # fmt: skip


@pytest.mark.parametrize("many", [0, math.inf], ids=["by channel", "by row"])
@pytest.mark.parametrize("act", ACTS, ids=repr)
def test_any_activation_follows_a_convolution_and_batch_norm(act: fcnn.Layer, many: float) -> None:
    """Also before a pool, which commutes with ReLU alone; in groups; after a dense layer; and after neither."""
    convolutions = {
        f"block{k}": fcnn.serial(conv=conv, norm=fcnn.batch_norm(), act=act, pool=fcnn.max_pool2d(2))
        for k, conv in enumerate([fcnn.conv2d(6, 3, padding=1), fcnn.conv2d(12, 3, padding=1, groups=6)])
    }
    network = fcnn.serial(
        **convolutions,
        res=fcnn.residual(fcnn.conv2d(12, 1)),
        act=act,
        flat=fcnn.flatten(),
        fc=fcnn.dense(5),
        norm=fcnn.batch_norm(),
        last=act,
    )
    made = network.init(fcnn.key(0), (3, 8, 12))
    rng = np.random.default_rng(0)
    params, state = (
        tree.map(lambda leaf: leaf + 0.1 + 0.05 * rng.random(leaf.shape), values)  # no gamma of 1, no mean of 0
        for values in (tree.astype(made.params, np.float64), tree.astype(made.state, np.float64))
    )
    x = rng.standard_normal((3, 3, 8, 12))
    expected = network.apply(params, state, x, train=False).y
    with mock.patch.object(inference, "_MANY", many):
        found = fcnn.predictor(network, params, state)(x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * max(1, np.abs(expected).max()))
    # What was prepared computed it, and not the network, which would where that fails.
    np.testing.assert_array_equal(inference._prepared(network, params, state, many == 0)(x), found)


def test_few_images_of_a_large_network_are_computed_channel_by_channel() -> None:
    network = fcnn.serial(fcnn.conv2d(4, 3), fcnn.relu(), fcnn.flatten(), fcnn.dense(2))
    params = network.init(fcnn.key(0), (1, 6, 6)).params
    for many, batch, called in ((0, 1, True), (0, 4, True), (0, 5, False), (math.inf, 1, False)):
        with mock.patch.object(inference, "_MANY", many), mock.patch.object(few, "convolution") as convolution:
            convolution.side_effect = ValueError  # then the network computes
            fcnn.predictor(network, params)(np.zeros((batch, 1, 6, 6), np.float32))
        assert convolution.called == called
