"""Against PyTorch: every layer's values and gradients, batch norm's statistics, losses, initializers, whole networks.

Training is in `test_torch_training.py`.
"""

import math
from typing import Any

import numpy as np
import parity
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parity import F, assert_close, both_dtypes, compare, draw, one_thread, run, tensor, tensors, torch
from strategies import examples, networks, normal

import fcnn
from fcnn import ops, tree
from fcnn.network.initializers import Fan
from fcnn.values.tree import flatten

__all__ = ["one_thread"]  # a fixture of all tests here

# Every stride and padding with every kernel.
KERNELS = [1, 3, (2, 4), (5, 2)]
STRIDES = [1, 2, (2, 3)]
PADDINGS = [0, 1, (2, 1), "same"]


@both_dtypes
@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize("stride", STRIDES, ids=str)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_conv2d(kernel: Any, stride: Any, padding: Any, dtype: type) -> None:
    w = draw(4, 3, *parity.pair(kernel), dtype=dtype)
    for x, b in ((draw(2, 3, 9, 8, dtype=dtype), draw(4, dtype=dtype)), (draw(1, 3, 5, 6, dtype=dtype), None)):
        compare(
            lambda x, w, *b: ops.conv2d(x, w, *b, stride=stride, padding=padding),
            lambda dy, cache, b=b: ops.conv2d_backward(dy, cache)[: 2 if b is None else 3],
            lambda x, w, b=None: parity.conv2d(x, w, b, stride, padding),
            *((x, w) if b is None else (x, w, b)),
        )


@both_dtypes
@pytest.mark.parametrize("groups", [1, 2, 4], ids="groups {}".format)
@pytest.mark.parametrize("multiplier", [1, 2], ids="multiplier {}".format)
@pytest.mark.parametrize("dilation", [1, 2, (1, 3)], ids="dilation {}".format)
@pytest.mark.parametrize("padding", [0, (2, 1), ((0, 2), (1, 3)), "same"], ids="padding {}".format)
@pytest.mark.parametrize("stride", STRIDES, ids="stride {}".format)
def test_conv2d_of_groups_and_dilation(
    stride: Any, padding: Any, dilation: Any, multiplier: int, groups: int, dtype: type
) -> None:
    """With 4 channels, 4 groups are depthwise; with one group, many filters, and few."""
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    filters = 4 * multiplier if groups > 1 else 1 + 5 * (multiplier - 1)
    arrays = draw(2, 4, 9, 8, dtype=dtype), draw(filters, 4 // groups, 3, 2, dtype=dtype), draw(filters, dtype=dtype)
    compare(
        lambda x, w, b: ops.conv2d(x, w, b, **options),
        ops.conv2d_backward,
        lambda x, w, b: parity.conv2d(x, w, b, **options),
        *arrays,
    )


@both_dtypes
@pytest.mark.parametrize("groups", [1, 2, 4], ids="groups {}".format)
@pytest.mark.parametrize("dilation", [1, 2, (1, 3)], ids="dilation {}".format)
@pytest.mark.parametrize(("stride", "more"), [(1, 0), (2, 1), ((2, 3), (0, 2)), (3, 0)], ids=str)
@pytest.mark.parametrize("padding", [0, (2, 1)], ids="padding {}".format)
def test_conv_transpose2d(padding: Any, stride: Any, more: Any, dilation: Any, groups: int, dtype: type) -> None:
    options = {
        "stride": stride, "padding": padding, "output_padding": more, "dilation": dilation, "groups": groups
    }  # fmt: skip
    arrays = draw(2, 4, 5, 6, dtype=dtype), draw(4, 8 // groups, 3, 4, dtype=dtype), draw(8, dtype=dtype)
    compare(
        lambda x, w, b: ops.conv_transpose2d(x, w, b, **options),
        ops.conv_transpose2d_backward,
        lambda x, w, b: F.conv_transpose2d(x, w, b, **options),
        *arrays,
    )


@pytest.mark.parametrize(
    ("layer", "module"),
    [
        (fcnn.conv2d(8, 3, groups=2), torch.nn.Conv2d(4, 8, 3, groups=2)),
        (fcnn.conv_transpose2d(6, 3, groups=2), torch.nn.ConvTranspose2d(4, 6, 3, groups=2)),
    ],
    ids=["conv2d", "conv_transpose2d"],
)
def test_fans_of_groups(layer: fcnn.Layer, module: Any) -> None:
    """Xavier's uniform bound is sqrt(6 / (fan_in + fan_out)) of PyTorch's fans; and the shapes are PyTorch's."""
    make = layer.make(**{**layer.config, "weights": fcnn.xavier("uniform"), "biases": fcnn.kaiming_uniform()})
    params = make.init(fcnn.key(0), (4, 9, 9)).params
    assert {name: leaf.shape for name, leaf in params.items()} == {
        "w": tuple(module.weight.shape), "b": tuple(module.bias.shape)
    }  # fmt: skip
    fan_in, fan_out = torch.nn.init._calculate_fan_in_and_fan_out(module.weight)
    bound = math.sqrt(6 / (fan_in + fan_out))
    assert 0.95 * bound < np.abs(params["w"]).max() <= bound
    assert np.abs(params["b"]).max() <= 1 / math.sqrt(fan_in)


@both_dtypes
def test_a_wide_conv2d(dtype: type) -> None:
    """Winograd's kernel. Its weight gradient sums 8,192 products, of which float32 loses 1e-5 of the greatest."""
    arrays = draw(32, 64, 16, 16, dtype=dtype), draw(64, 64, 3, 3, dtype=dtype), draw(64, dtype=dtype)
    compare(
        lambda x, w, b: ops.conv2d(x, w, b, padding=1),
        ops.conv2d_backward,
        lambda x, w, b: F.conv2d(x, w, b, padding=1),
        *arrays,
    )


def test_im2col_is_unfold_and_col2im_is_fold() -> None:
    x, c = draw(2, 3, 7, 6), draw(2, 3 * 3 * 2, 4 * 7)
    options = {"stride": (2, 1), "padding": 1}
    assert_close(ops.im2col(x, (3, 2), **options), F.unfold(tensor(x), (3, 2), **options))
    assert_close(ops.col2im(c, x.shape, (3, 2), **options), F.fold(tensor(c), (7, 6), (3, 2), **options))


@both_dtypes
@pytest.mark.parametrize("padding", [0, 1, (0, 1), (1, 0), "same"], ids=str)
@pytest.mark.parametrize("stride", [None, *STRIDES], ids=str)
@pytest.mark.parametrize("window", [2, 3, (3, 2), (2, 5)], ids=str)
def test_pools(window: Any, stride: Any, padding: Any, dtype: type) -> None:
    ties = np.random.default_rng(0).integers(0, 2, (2, 3, 9, 8)).astype(dtype)
    for x in (draw(2, 3, 9, 8, dtype=dtype), ties):
        for mine, back, theirs in (
            (ops.max_pool2d, ops.max_pool2d_backward, parity.max_pool2d),
            (ops.avg_pool2d, ops.avg_pool2d_backward, parity.avg_pool2d),
        ):
            compare(
                lambda x, op=mine: op(x, window, stride=stride, padding=padding),
                back,
                lambda x, op=theirs: op(x, window, stride, padding),
                x,
            )


@both_dtypes
@pytest.mark.parametrize("padding", [0, 1, (0, 1)], ids=str)
@pytest.mark.parametrize("stride", [None, 1, 2, (3, 2), (2, 5)], ids=str)
@pytest.mark.parametrize("window", [2, 3, (3, 2), (2, 5)], ids=str)
def test_edges_of_pools(window: Any, stride: Any, padding: Any, dtype: type) -> None:
    """What doesn't tile, and what counts: windows that begin in the last rows, in the padding, or not at all."""
    for size in ((9, 8), (7, 11), (4, 5)):
        x = draw(2, 3, *size, dtype=dtype)
        for ceil_mode in (True, False):
            compare(
                lambda x, ceil=ceil_mode: ops.max_pool2d(x, window, stride=stride, padding=padding, ceil_mode=ceil),
                ops.max_pool2d_backward,
                lambda x, ceil=ceil_mode: F.max_pool2d(x, window, stride, padding, ceil_mode=ceil),
                x,
            )
            for counted in (True, False):
                options = {"ceil_mode": ceil_mode, "count_include_pad": counted}
                compare(
                    lambda x, more=options: ops.avg_pool2d(x, window, stride=stride, padding=padding, **more),
                    ops.avg_pool2d_backward,
                    lambda x, more=options: F.avg_pool2d(x, window, stride, padding, **more),
                    x,
                )


@pytest.mark.parametrize("padding", [((1, 0), (0, 2)), ((0, 2), (1, 1)), ((0, 0), (2, 0))], ids=str)
def test_pools_with_padding_on_each_side(padding: Any) -> None:
    """PyTorch has none: it is put around before, and where it doesn't count the mean is of all by that of ones."""
    window, stride, x = (3, 4), (2, 3), draw(2, 3, 7, 8)
    options = {"stride": stride, "padding": padding}
    for ceil_mode in (False, padding[0][1] == padding[1][1] == 0):  # where windows don't begin in padding put around
        compare(
            lambda x, ceil=ceil_mode: ops.max_pool2d(x, window, **options, ceil_mode=ceil),
            ops.max_pool2d_backward,
            lambda x, ceil=ceil_mode: F.max_pool2d(
                parity.around(x, window, stride, padding, -math.inf), window, stride, ceil_mode=ceil
            ),
            x,
        )

        def mean(x: Any, ceil: bool = ceil_mode) -> Any:
            return F.avg_pool2d(parity.around(x, window, stride, padding, 0), window, stride, ceil_mode=ceil)

        for counted in (True, False):
            compare(
                lambda x, ceil=ceil_mode, counted=counted: ops.avg_pool2d(
                    x, window, **options, ceil_mode=ceil, count_include_pad=counted
                ),
                ops.avg_pool2d_backward,
                lambda x, mean=mean, counted=counted: mean(x) if counted else mean(x) / mean(torch.ones_like(x)),
                x,
            )


@pytest.mark.parametrize("size", [1, 2, 3, 7], ids=str)
def test_a_window_larger_than_the_image_is_as_pytorch_has_it(size: int) -> None:
    """In `ceil_mode` there is one window where it is too large by less than a step."""
    x = draw(1, 2, size, 4)
    for window, stride in ((3, 2), (3, 3), (4, 2), (8, 7)):
        options = {"stride": (stride, 1), "ceil_mode": True}
        try:
            F.max_pool2d(tensor(x), (window, 1), **options)
        except RuntimeError:
            with pytest.raises(ValueError, match=rf"^a window of {window}x1 does not fit into {size}x4 with padding"):
                ops.max_pool2d(x, (window, 1), **options)
            continue
        compare(
            lambda x, window=window, options=options: ops.max_pool2d(x, (window, 1), **options),
            ops.max_pool2d_backward,
            lambda x, window=window, options=options: F.max_pool2d(x, (window, 1), **options),
            x,
        )


@both_dtypes
@pytest.mark.parametrize("size", [1, 2, 3, (2, 5), (7, 1), (9, 8), (12, 11)], ids=str)
def test_adaptive_avg_pool2d(size: Any, dtype: type) -> None:
    for shape in ((2, 3, 9, 8), (1, 2, 5, 13), (2, 1, 1, 2)):
        compare(
            lambda x: ops.adaptive_avg_pool2d(x, size),
            ops.adaptive_avg_pool2d_backward,
            lambda x: F.adaptive_avg_pool2d(x, size),
            draw(*shape, dtype=dtype),
        )


@both_dtypes
@pytest.mark.parametrize(
    ("mode", "corners"), [("nearest", False), ("bilinear", False), ("bilinear", True)], ids=["nearest", "", "corners"]
)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, (2, 3), (1, 5)], ids=str)
def test_upsample(scale: Any, mode: Any, corners: bool, dtype: type) -> None:
    for shape in ((2, 3, 4, 5), (1, 2, 1, 1), (2, 1, 7, 1), (1, 1, 2, 9)):
        compare(
            lambda x: ops.upsample(x, scale, mode=mode, align_corners=corners),
            ops.upsample_backward,
            lambda x: parity.interpolate(x, scale, mode, corners),
            draw(*shape, dtype=dtype),
        )


def test_reshape() -> None:
    shapes = [(2, 3, 4, 5), (2, 5, 12), (2, 60), (2, 1, 60, 1), (2, 60, 1)]
    for shape in shapes:
        for new in [other[1:] for other in shapes] + [(4, 3, -1), (-1, 6), (-1,)]:
            x = draw(*shape)
            compare(
                lambda x, new=new: ops.reshape(x, new), ops.reshape_backward, lambda x, new=new: x.reshape(2, *new), x
            )


@both_dtypes
@pytest.mark.parametrize("padding", [0, 1, (2, 0), "same"], ids=str)
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (1, 3, 1), (3, 2, 4)], ids=str)
def test_conv1d(stride: int, dilation: int, groups: int, padding: Any, dtype: type) -> None:
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    for kernel in (1, 2, 3):
        compare(
            lambda x, w, b: ops.conv1d(x, w, b, **options),
            ops.conv1d_backward,
            lambda x, w, b: parity.conv1d(x, w, b, **options),
            draw(2, 4, 11, dtype=dtype),
            draw(8, 4 // groups, kernel, dtype=dtype),
            draw(8, dtype=dtype),
        )


@both_dtypes
@pytest.mark.parametrize("padding", [0, 1], ids=str)
@pytest.mark.parametrize(("window", "stride"), [(2, None), (3, 1), (3, 2), (4, 3)], ids=str)
def test_pools_of_sequences(window: int, stride: int | None, padding: int, dtype: type) -> None:
    for length in (11, 12):
        x = draw(2, 3, length, dtype=dtype)
        for ceil in (False, True):
            options = {"stride": stride, "padding": padding, "ceil_mode": ceil}
            compare(
                lambda x, options=options: ops.max_pool1d(x, window, **options),
                ops.max_pool1d_backward,
                lambda x, options=options: F.max_pool1d(x, window, **options),
                x,
            )
            for counted in (True, False):
                compare(
                    lambda x, more=options | {"count_include_pad": counted}: ops.avg_pool1d(x, window, **more),
                    ops.avg_pool1d_backward,
                    lambda x, more=options | {"count_include_pad": counted}: F.avg_pool1d(x, window, **more),
                    x,
                )
        compare(ops.global_avg_pool1d, ops.global_avg_pool1d_backward, lambda x: x.mean(dim=2), x)


def test_max_pool_of_minus_infinity() -> None:
    x = np.full((1, 1, 2, 2), -np.inf)
    y, cache = ops.max_pool2d(x, 3, stride=1, padding=1)
    theirs = tensor(x, grad=True)
    F.max_pool2d(theirs, 3, stride=1, padding=1).backward(torch.ones(1, 1, 2, 2, dtype=torch.float64))
    dx = ops.max_pool2d_backward(np.ones_like(y), cache)
    assert dx.sum() == 4
    np.testing.assert_array_equal(dx, theirs.grad.numpy())


@both_dtypes
def test_dense_and_global_pool(dtype: type) -> None:
    arrays = draw(5, 7, dtype=dtype), draw(4, 7, dtype=dtype), draw(4, dtype=dtype)
    compare(ops.dense, ops.dense_backward, F.linear, *arrays)
    compare(ops.dense, lambda dy, cache: ops.dense_backward(dy, cache)[:2], F.linear, *arrays[:2])
    for shape in ((2, 3, 4, 5), (1, 2, 1, 1)):
        x = draw(*shape, dtype=dtype)
        compare(ops.global_avg_pool2d, ops.global_avg_pool2d_backward, lambda x: x.mean(dim=(2, 3)), x)
        compare(ops.flatten, ops.flatten_backward, lambda x: x.flatten(1), x)


ACTIVATIONS = {
    "relu": (ops.relu, ops.relu_backward, F.relu),
    "leaky_relu": (ops.leaky_relu, ops.leaky_relu_backward, F.leaky_relu),
    "leaky_relu 0.2": (lambda x: ops.leaky_relu(x, 0.2), ops.leaky_relu_backward, lambda x: F.leaky_relu(x, 0.2)),
    "sigmoid": (ops.sigmoid, ops.sigmoid_backward, torch.sigmoid),
    "tanh": (ops.tanh, ops.tanh_backward, torch.tanh),
    "gelu": (ops.gelu, ops.gelu_backward, F.gelu),
    "gelu tanh": (lambda x: ops.gelu(x, "tanh"), ops.gelu_backward, lambda x: F.gelu(x, approximate="tanh")),
    "silu": (ops.silu, ops.silu_backward, F.silu),
    "softplus": (ops.softplus, ops.softplus_backward, parity.softplus),
    "elu": (ops.elu, ops.elu_backward, F.elu),
    "elu 0.3": (lambda x: ops.elu(x, 0.3), ops.elu_backward, lambda x: F.elu(x, 0.3)),
    "clip": (lambda x: ops.clip(x, -0.5, 2), ops.clip_backward, lambda x: F.hardtanh(x, -0.5, 2)),
    "relu6": (ops.relu6, ops.relu6_backward, F.relu6),
    "hardsigmoid": (ops.hardsigmoid, ops.hardsigmoid_backward, parity.hardsigmoid),
    "hardsigmoid 0.2": (
        lambda x: ops.hardsigmoid(x, 0.2), ops.hardsigmoid_backward, lambda x: parity.hardsigmoid(x, 0.2)
    ),
    "hardswish": (ops.hardswish, ops.hardswish_backward, F.hardswish),
    "softmax": (ops.softmax, ops.softmax_backward, lambda x: F.softmax(x, dim=1)),
    "log_softmax": (ops.log_softmax, ops.log_softmax_backward, lambda x: F.log_softmax(x, dim=1)),
}  # fmt: skip


@both_dtypes
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3, 2)], ids=["features", "images"])
def test_activations(shape: tuple[int, ...], name: str, dtype: type) -> None:
    for scale in (0, 1, 3, 30):
        compare(*ACTIVATIONS[name], scale * draw(*shape, dtype=dtype))


@both_dtypes
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if "softmax" not in name])
def test_activations_where_they_are_bent(name: str, dtype: type) -> None:
    bends = np.array([[-3, -0.5, 0, 2, 3, 6]], dtype)
    compare(*ACTIVATIONS[name], bends)


@both_dtypes
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5, 2)], ids=["features", "images"])
def test_dropout_with_the_same_mask_and_normalize(shape: tuple[int, ...], dtype: type) -> None:
    x, key = draw(*shape, dtype=dtype), fcnn.key(0)
    kept = ops.dropout(np.ones(shape, dtype), 0.3, train=True, key=key)[0] > 0
    compare(
        lambda x: ops.dropout(x, 0.3, train=True, key=key),
        ops.dropout_backward,
        lambda x: torch.where(tensor(kept), x / (1 - 0.3), 0),
        x,
    )
    mean, std = draw(3), np.exp(draw(3, seed=1))
    wide = [tensor(a.astype(dtype)).reshape(1, 3, *[1] * (len(shape) - 2)) for a in (mean, std)]
    compare(lambda x: ops.normalize(x, mean, std), ops.normalize_backward, lambda x: (x - wide[0]) / wide[1], x)


@both_dtypes
@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(6, 3), (5, 3, 4), (4, 3, 5, 2)], ids=["features", "sequences", "images"])
def test_batch_norm_over_several_steps(shape: tuple[int, ...], decay: float, eps: float, dtype: type) -> None:
    """Five steps in training, whose statistics run on, and then evaluation by them."""
    layer = fcnn.batch_norm(decay=decay, eps=eps)
    made = layer.init(fcnn.key(0), shape[1:])
    params = fcnn.freeze({"gamma": draw(3, dtype=dtype), "beta": draw(3, dtype=dtype, seed=1)})
    state = tree.astype(made.state, dtype)
    module = (torch.nn.BatchNorm1d if len(shape) < 4 else torch.nn.BatchNorm2d)(3, eps=eps, momentum=1 - decay)
    module = module.to(tensor(params["gamma"]).dtype)
    with torch.no_grad():
        module.weight.copy_(tensor(params["gamma"]))
        module.bias.copy_(tensor(params["beta"]))
    for step in range(7):
        module.train(step < 5)
        x, dy = (1 + step) * draw(*shape, dtype=dtype, seed=step) + step, draw(*shape, dtype=dtype, seed=99 + step)
        out = layer.apply(params, state, x, train=step < 5)
        grads = layer.backward(params, out.cache, dy)
        theirs = tensor(x, grad=True)
        expected = module(theirs)
        module.zero_grad()
        expected.backward(tensor(dy))
        assert_close(out.y, expected)
        assert_close(grads.dx, theirs.grad)
        assert_close(grads.params["gamma"], module.weight.grad)
        assert_close(grads.params["beta"], module.bias.grad)
        state = out.state
        assert_close(state["mean"], module.running_mean)
        assert_close(state["var"], module.running_var)


SHAPES = pytest.mark.parametrize("shape", [(5, 6), (4, 6, 5), (4, 6, 5, 3), (1, 6, 1, 1)], ids=str)


@both_dtypes
@pytest.mark.parametrize("eps", [1e-5, 0.1])
@SHAPES
def test_norms_of_samples(shape: tuple[int, ...], eps: float, dtype: type) -> None:
    x = 3 + draw(*shape, dtype=dtype)
    for own in {shape[1:], shape[1:2]}:
        gamma, beta = (draw(*own, dtype=dtype, seed=seed) for seed in (1, 2))
        compare(
            lambda x, gamma, beta: ops.layer_norm(x, gamma, beta, eps=eps),
            ops.layer_norm_backward,
            lambda x, gamma, beta: parity.layer_norm(x, gamma, beta, eps),
            *(x, gamma, beta),
        )
    gamma, beta = (draw(shape[1], dtype=dtype, seed=seed) for seed in (1, 2))
    for groups in [1, 2] if math.prod(shape[2:]) == 1 else [1, 2, 6]:  # PyTorch refuses groups of one number
        compare(
            lambda x, gamma, beta, groups=groups: ops.group_norm(x, gamma, beta, groups, eps=eps),
            ops.group_norm_backward,
            lambda x, gamma, beta, groups=groups: F.group_norm(x, groups, gamma, beta, eps),
            *(x, gamma, beta),
        )


@both_dtypes
@SHAPES
def test_prelu(shape: tuple[int, ...], dtype: type) -> None:
    for count in (1, shape[1]):
        for x in (draw(*shape, dtype=dtype), np.zeros(shape, dtype)):
            compare(ops.prelu, ops.prelu_backward, F.prelu, x, draw(count, dtype=dtype))


@both_dtypes
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("shape", [(6, 5), (1, 3), (4, 1)], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_losses(smoothing: float, shape: tuple[int, int], scale: float, dtype: type) -> None:
    logits = scale * draw(*shape, dtype=dtype)
    labels = np.random.default_rng(0).integers(0, shape[1], shape[0])
    weights = np.random.default_rng(1).uniform(0.1, 9, shape[1])
    some_ignored = labels.copy()
    some_ignored[1::3] = -1
    numbers = draw(*shape, dtype=dtype, seed=1)
    shares = np.random.default_rng(2).random(shape).astype(dtype)

    def cross_entropy(**options: Any) -> Any:
        return lambda o, t: F.cross_entropy(o, t, label_smoothing=smoothing, **options)

    for loss, targets, reference in (
        (fcnn.softmax_cross_entropy(smoothing), labels, cross_entropy()),
        (
            fcnn.softmax_cross_entropy(smoothing, weights.tolist()),
            labels,
            cross_entropy(weight=tensor(weights.astype(dtype))),
        ),
        (fcnn.softmax_cross_entropy(smoothing, ignored=-1), some_ignored, cross_entropy(ignore_index=-1)),
        (
            fcnn.softmax_cross_entropy(smoothing, weights.tolist(), ignored=-1),
            some_ignored,
            cross_entropy(weight=tensor(weights.astype(dtype)), ignore_index=-1),
        ),
        (fcnn.binary_cross_entropy(), shares, F.binary_cross_entropy_with_logits),
        (
            fcnn.binary_cross_entropy(weights.tolist()),
            shares.round(),
            lambda o, t: F.binary_cross_entropy_with_logits(o, t, pos_weight=tensor(weights.astype(dtype))),
        ),
        (fcnn.mean_squared_error(), numbers, F.mse_loss),
        (fcnn.mean_absolute_error(), numbers, F.l1_loss),
        (fcnn.huber(), numbers, F.huber_loss),
        (fcnn.huber(0.3), numbers, lambda o, t: F.huber_loss(o, t, delta=0.3)),
    ):
        value, d_outputs = loss(logits, targets)
        outputs = tensor(logits, grad=True)
        expected = reference(outputs, tensor(targets))
        expected.backward()
        assert_close(np.asarray(value, dtype), expected)
        assert_close(d_outputs, outputs.grad)


@given(networks(), st.booleans(), st.integers(0, 10**6))
@examples(150, shrink=False)
def test_random_networks(network: Any, train: bool, seed: int) -> None:
    """Outputs, all gradients and running statistics, in both modes."""
    layer, shape = network
    made = layer.init(fcnn.key(seed), shape)
    params, state = tree.astype(made.params, np.float64), tree.astype(made.state, np.float64)
    x, key = normal(seed, (4, *shape)), fcnn.key(seed)
    out = layer.apply(params, state, x, train=train, key=key)
    dy = normal(seed + 1, out.y.shape)
    grads = layer.backward(params, out.cache, dy)
    weights, statistics, theirs = tensors(params, grad=True), tensors(state), tensor(x, grad=True)
    expected = run(layer, weights | statistics, theirs, train=train, key=key)
    expected.backward(tensor(dy))
    # A thousand times the rounding of a layer: what networks of some 30 layers add up to, batch norms among them.
    assert_close(out.y, expected, 1e-12)
    assert_close(grads.dx, theirs.grad, 1e-12)
    for path, leaf in flatten(grads.params).items():
        assert_close(leaf, weights[path].grad, 1e-12)
    for path, leaf in flatten(out.state).items():
        assert_close(leaf, statistics[path], 1e-12)


@both_dtypes
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    ("network", "shape"),
    [(fcnn.lenet5(), (1, 28, 28)), (fcnn.lenet5_bn((3, 32, 32), 7), (3, 32, 32))],
    ids=["lenet5", "lenet5_bn"],
)
def test_ready_made_networks(network: fcnn.Layer, shape: tuple[int, ...], train: bool, dtype: type) -> None:
    made = network.init(fcnn.key(0), shape)
    params, state = tree.astype(made.params, dtype), tree.astype(made.state, dtype)
    x, key = draw(8, *shape, dtype=dtype), fcnn.key(1)
    out = network.apply(params, state, x, train=train, key=key)
    dy = draw(*out.y.shape, dtype=dtype, seed=1)
    grads = network.backward(params, out.cache, dy)
    weights, statistics, theirs = tensors(params, grad=True), tensors(state), tensor(x, grad=True)
    expected = run(network, weights | statistics, theirs, train=train, key=key)
    expected.backward(tensor(dy))
    # Sums of up to 6,000 numbers: half a unit in the last place each, 6e-8 or 1.1e-16, of which most cancel.
    unit = 1e-4 if dtype == np.float32 else 1e-12
    for found, other in ((out.y, expected), (grads.dx, theirs.grad)):
        assert_close(found, other, unit)
    for path, leaf in flatten(grads.params).items():
        assert_close(leaf, weights[path].grad, unit)
    for path, leaf in flatten(out.state).items():
        assert_close(leaf, statistics[path], unit)


def drawn(initialize: Any, shape: tuple[int, ...]) -> np.ndarray:
    torch.manual_seed(0)
    made = torch.empty(shape)
    initialize(made)
    return made.numpy()


INIT = torch.nn.init
INITIALIZERS = {
    "he": (fcnn.he(), lambda t: INIT.kaiming_normal_(t, nonlinearity="relu")),
    "he uniform": (fcnn.he("uniform"), lambda t: INIT.kaiming_uniform_(t, nonlinearity="relu")),
    "xavier": (fcnn.xavier(), INIT.xavier_normal_),
    "xavier uniform": (fcnn.xavier("uniform"), INIT.xavier_uniform_),
    "lecun": (fcnn.lecun(), lambda t: INIT.kaiming_normal_(t, nonlinearity="linear")),
    "lecun uniform": (fcnn.lecun("uniform"), lambda t: INIT.kaiming_uniform_(t, nonlinearity="linear")),
    "kaiming_uniform": (fcnn.kaiming_uniform(), lambda t: INIT.kaiming_uniform_(t, a=math.sqrt(5))),
    "zeros": (fcnn.zeros(), INIT.zeros_),
    "constant": (fcnn.constant(0.3), lambda t: INIT.constant_(t, 0.3)),
}


@pytest.mark.parametrize("shape", [(64, 128), (48, 16, 3, 5)], ids=["dense", "conv2d"])
@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers_draw_from_the_same_distribution(name: str, shape: tuple[int, ...]) -> None:
    """The same fans and gains; not the same bits."""
    mine, theirs = INITIALIZERS[name]
    area = math.prod(shape[2:])
    a, b = np.sort(mine(fcnn.key(0), shape, Fan(shape[1] * area, shape[0] * area)).ravel()), drawn(theirs, shape)
    b = np.sort(b.ravel())
    assert a.dtype == np.float32
    if name in ("zeros", "constant"):
        np.testing.assert_array_equal(a, b)
        return
    # Kolmogorov and Smirnov: of two samples of n from one distribution, so far apart are one in ten thousand pairs.
    n = a.size
    everywhere = np.concatenate([a, b])
    apart = np.abs(np.searchsorted(a, everywhere, "right") - np.searchsorted(b, everywhere, "right")) / n
    assert apart.max() < 2.23 * math.sqrt(2 / n)
    assert a.std() == pytest.approx(
        b.std(), rel=4 * math.sqrt(2 / n), abs=0
    )  # four deviations of a ratio of deviations
    if "uniform" in name:
        gain = {"he": math.sqrt(2), "xavier": 1, "lecun": 1, "kaiming": math.sqrt(1 / 3)}[name.split("_")[0].split()[0]]
        fan_in, fan_out = INIT._calculate_fan_in_and_fan_out(torch.empty(shape))
        fan = (fan_in + fan_out) / 2 if name.startswith("xavier") else fan_in
        bound = gain * math.sqrt(3 / fan)
        for sample in (a, b):
            assert 0.999 * bound < np.abs(sample).max() <= bound * (1 + 1e-6)


def test_kaiming_uniform_is_how_pytorch_layers_begin() -> None:
    """The bound 1 / sqrt(fan in), for weights and biases."""
    for module, shape in ((torch.nn.Linear(128, 640), (640,)), (torch.nn.Conv2d(16, 640, 3), (640,))):
        fan = math.prod(module.weight.shape[1:])
        b = fcnn.kaiming_uniform()(fcnn.key(0), shape, Fan(fan, 1))
        for sample in (module.weight.detach().numpy(), module.bias.detach().numpy(), b):
            assert 0.99 / math.sqrt(fan) < np.abs(sample).max() <= 1 / math.sqrt(fan)


@pytest.mark.parametrize("shape", [(5, 3, 3, 3), (3, 5, 2, 5), (6, 4, 3), (4, 4, 1, 1)], ids=str)
def test_dirac_filters_are_pytorchs(shape: tuple[int, ...]) -> None:
    count = min(shape[:2])
    made = fcnn.dirac()(fcnn.key(0), shape, Fan(math.prod(shape[1:]), 1))
    np.testing.assert_array_equal(made[:count], drawn(INIT.dirac_, (count, *shape[1:])))


def test_whitening_filters_are_those_of_the_patches_by_pytorch() -> None:
    images = draw(40, 3, 8, 7)
    patches = tensor(images).unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    expected = (vectors / torch.sqrt(values + 5e-4)).T.flip(0).reshape(12, 3, 2, 2).numpy()
    found = fcnn.whitening_filters(images)
    signs = np.sign(np.sum(found[:12] * expected, axis=(1, 2, 3)))[:, None, None, None]
    assert_close(found, np.concatenate([signs * expected, -signs * expected]), 1e-12)  # through an eigendecomposition
