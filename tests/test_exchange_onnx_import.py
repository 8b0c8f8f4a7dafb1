"""`load_onnx`: each operator beside onnxruntime, networks that PyTorch exports, and the onnx package's own models."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import onnx_files as files
import pytest
from onnx_files import model, node, tensor

import fcnn
from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.protobuf import read

F = np.float32
RNG = np.random.default_rng(0)


def floats(*shape, dtype=F):
    return RNG.standard_normal(shape).astype(dtype)


def positive(*shape):
    return RNG.uniform(0.5, 2, shape).astype(F)


def ints(*values):
    return np.array(values, np.int64)


def loaded(data, folder, **options):
    path = folder / "m.onnx"
    path.write_bytes(data)
    return fcnn.load_onnx(path, **options)


def outputs(model, x):
    return model.network.apply(model.params, model.state, x, train=False).y


def one(operator, *constants, x=(2, 4, 6, 5), opset=21, inputs=None, **attributes):
    """A model of one node, and an input for it."""
    names = [f"c{i}" for i in range(len(constants))]
    tensors = [files.tensor(name, array) for name, array in zip(names, constants, strict=True) if array is not None]
    given = ["" if array is None else name for name, array in zip(names, constants, strict=True)]
    nodes = [node(operator, ["x", *given] if inputs is None else inputs, "y", **attributes)]
    return model(nodes, *tensors, opset=opset, inputs=(("x", ("N", *x[1:])),)), x


def chain(*nodes, x=(2, 4, 6, 5), opset=21, **tensors):
    return model(list(nodes), *tensors.items(), opset=opset, inputs=(("x", ("N", *x[1:])),)), x


def batch_norm():
    return floats(4), floats(4), floats(4), positive(4)


# Each with what it becomes.
OPERATORS = {
    "Conv": (
        one("Conv", floats(6, 4, 3, 3), floats(6), pads=(1, 0, 1, 0), strides=(2, 2)),
        "conv2d(6, 3, stride=2, padding=(1, 0))",
    ),
    "Conv without bias": (one("Conv", floats(6, 4, 3, 2)), "conv2d(6, (3, 2), bias=False)"),
    "Conv in groups": (one("Conv", floats(6, 2, 3, 3), group=2), "conv2d(6, 3, groups=2, bias=False)"),
    "Conv by channel": (one("Conv", floats(8, 1, 3, 3), floats(8), group=4), "conv2d(8, 3, groups=4)"),
    "Conv dilated": (one("Conv", floats(6, 4, 2, 2), dilations=(2, 3)), "conv2d(6, 2, dilation=(2, 3), bias=False)"),
    "Conv, pads of each side": (
        one("Conv", floats(6, 4, 3, 3), pads=(0, 1, 2, 1)),
        "conv2d(6, 3, padding=((0, 2), (1, 1)), bias=False)",
    ),
    "Conv, same": (
        one("Conv", floats(6, 4, 4, 4), auto_pad="SAME_UPPER", strides=(2, 2)),
        "conv2d(6, 4, stride=2, padding='same', bias=False)",
    ),
    "Conv, same from below": (
        one("Conv", floats(6, 4, 4, 4), auto_pad="SAME_LOWER"),
        "conv2d(6, 4, padding=((2, 1), (2, 1)), bias=False)",
    ),
    "Conv, valid": (one("Conv", floats(6, 4, 4, 4), auto_pad="VALID"), "conv2d(6, 4, bias=False)"),
    "Conv of sequences": (
        one("Conv", floats(6, 2, 3), floats(6), x=(2, 4, 9), group=2, pads=(2, 0), strides=(2,)),
        "conv1d(6, 3, stride=2, padding=(2, 0), groups=2)",
    ),
    "ConvTranspose": (
        one("ConvTranspose", floats(4, 3, 3, 3), floats(3), strides=(2, 2), pads=(1, 1, 1, 1), output_padding=(1, 0)),
        None,
    ),
    "ConvTranspose in groups": (one("ConvTranspose", floats(4, 3, 3, 3), group=2, dilations=(2, 1)), None),
    "MaxPool": (
        one("MaxPool", kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
        "max_pool2d(3, stride=2, padding=1)",
    ),
    "MaxPool, step 1": (one("MaxPool", kernel_shape=(2, 2)), "max_pool2d(2, stride=1)"),
    "MaxPool, rounded up": (
        one("MaxPool", kernel_shape=(2, 2), strides=(2, 2), ceil_mode=1),
        "max_pool2d(2, ceil_mode=True)",
    ),
    "MaxPool, pads of each side": (
        one("MaxPool", kernel_shape=(3, 3), pads=(0, 0, 1, 1)),
        "max_pool2d(3, stride=1, padding=((0, 1), (0, 1)))",
    ),
    "MaxPool, same": (
        one("MaxPool", kernel_shape=(3, 3), strides=(2, 2), auto_pad="SAME_UPPER"),
        "max_pool2d(3, stride=2, padding='same')",
    ),
    "Conv of sequences, same from below": (
        one("Conv", floats(6, 4, 4), x=(2, 4, 9), auto_pad="SAME_LOWER"),
        "conv1d(6, 4, padding=(2, 1), bias=False)",
    ),
    "MaxPool of sequences": (
        one("MaxPool", x=(2, 4, 9), kernel_shape=(3,), strides=(2,)),
        "max_pool1d(3, stride=2)",
    ),
    "AveragePool of sequences": (
        one("AveragePool", x=(2, 4, 9), kernel_shape=(3,), pads=(1, 1)),
        "avg_pool1d(3, stride=1, padding=1, count_include_pad=False)",
    ),
    "BatchNormalization of sequences": (one("BatchNormalization", *batch_norm(), x=(3, 4, 5)), "batch_norm()"),
    "GlobalAveragePool of sequences": (one("GlobalAveragePool", x=(2, 4, 9)), "reshape((4, 1))"),
    "GlobalAveragePool of sequences, flattened": (
        chain(node("GlobalAveragePool", "x", "a"), node("Flatten", "a", "y"), x=(2, 4, 9)),
        "global_avg_pool1d()",
    ),
    "ReduceMean of sequences": (one("ReduceMean", ints(-1), x=(2, 4, 9), keepdims=0), "global_avg_pool1d()"),
    "Mul by channel of sequences": (
        chain(node("Relu", "x", "a"), node("Mul", "a s", "y"), x=(2, 4, 9), s=floats(4, 1)),
        "conv1d(4, 1, groups=4, bias=False)",
    ),
    "AveragePool": (one("AveragePool", kernel_shape=(2, 3), strides=(2, 3)), "avg_pool2d((2, 3))"),
    "AveragePool, pads don't count": (
        one("AveragePool", kernel_shape=(3, 3), pads=(1, 1, 1, 1)),
        "avg_pool2d(3, stride=1, padding=1, count_include_pad=False)",
    ),
    "AveragePool, pads count": (
        one("AveragePool", kernel_shape=(3, 3), pads=(1, 1, 1, 1), count_include_pad=1),
        "avg_pool2d(3, stride=1, padding=1)",
    ),
    "AveragePool, rounded up": (
        one("AveragePool", kernel_shape=(2, 2), strides=(2, 2), ceil_mode=1),
        "avg_pool2d(2, ceil_mode=True)",
    ),
    "GlobalAveragePool": (one("GlobalAveragePool"), "adaptive_avg_pool2d(1)"),
    "GlobalAveragePool, flattened": (
        chain(node("GlobalAveragePool", "x", "a"), node("Flatten", "a", "y")),
        "global_avg_pool2d()",
    ),
    "GlobalAveragePool, squeezed": (
        chain(node("GlobalAveragePool", "x", "a"), node("Squeeze", "a s", "y"), s=ints(2, -1)),
        "global_avg_pool2d()",
    ),
    "ReduceMean": (one("ReduceMean", axes=(2, 3), opset=13), "adaptive_avg_pool2d(1)"),
    "ReduceMean of an input": (one("ReduceMean", ints(-1, -2), keepdims=0), "global_avg_pool2d()"),
    "Resize": (one("Resize", None, F([1, 1, 2, 3])), "upsample((2, 3))"),
    "Resize to a size": (
        one(
            "Resize", None, None, ints(2, 4, 12, 10), coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        ),
        "upsample(2)",
    ),
    "Resize, linear": (one("Resize", None, F([1, 1, 2, 2]), mode="linear"), "upsample(2, mode='bilinear')"),
    "Resize, linear by corners": (
        one("Resize", None, F([1, 1, 2, 2]), mode="linear", coordinate_transformation_mode="align_corners"),
        "upsample(2, mode='bilinear', align_corners=True)",
    ),
    "Resize in operator set 10": (one("Resize", F([1, 1, 2, 2]), opset=10), "upsample(2)"),
    "Upsample": (one("Upsample", F([1, 1, 2, 2]), opset=9), "upsample(2)"),
    "Gemm": (one("Gemm", floats(5, 3), floats(3), x=(2, 5)), "dense(3)"),
    "Gemm, scaled": (one("Gemm", floats(3, 5), floats(1, 3), x=(2, 5), transB=1, alpha=0.5, beta=2.0), "dense(3)"),
    "Gemm, one number for a bias": (one("Gemm", floats(5, 3), floats(), x=(2, 5)), "dense(3)"),
    "Gemm without bias": (one("Gemm", floats(5, 3), floats(3), x=(2, 5), beta=0.0), "dense(3, bias=False)"),
    "MatMul": (one("MatMul", floats(5, 3), x=(2, 5)), "dense(3, bias=False)"),
    "MatMul and Add": (
        chain(node("MatMul", "x w", "a"), node("Add", "b a", "y"), x=(2, 5), w=floats(5, 3), b=floats(3)),
        "dense(3)",
    ),
    "BatchNormalization": (
        one("BatchNormalization", *batch_norm(), epsilon=1e-3, momentum=0.8),
        "batch_norm(decay=0.8, eps=0.001)",
    ),
    "BatchNormalization of features": (one("BatchNormalization", *batch_norm(), x=(3, 4)), "batch_norm()"),
    "BatchNormalization, scaled": (
        chain(
            node("BatchNormalization", "x a b c d", "e"),
            node("Mul", "e s", "f"),
            node("Add", "f t", "y"),
            **dict(zip("abcd", batch_norm(), strict=True)),
            s=floats(4, 1, 1),
            t=floats(1, 4, 1, 1),
        ),
        "batch_norm()",
    ),
    "LayerNormalization": (one("LayerNormalization", floats(4, 6, 5), floats(4, 6, 5), axis=1, epsilon=1e-3), None),
    "LayerNormalization of features": (one("LayerNormalization", floats(5), x=(3, 5)), None),
    "GroupNormalization": (one("GroupNormalization", floats(4), floats(4), num_groups=2), "group_norm(2)"),
    "InstanceNormalization": (
        one("InstanceNormalization", floats(4), floats(4), epsilon=1e-3),
        "group_norm(4, eps=0.001)",
    ),
    "groups as PyTorch has them": (
        chain(
            node("Reshape", "x s", "a"),
            node("InstanceNormalization", "a g b", "c"),
            node("Shape", "x", "z"),
            node("Reshape", "c z", "d"),
            node("Mul", "d m", "e"),
            node("Add", "e n", "y"),
            s=ints(0, 2, -1),
            g=np.ones(2, F),
            b=np.zeros(2, F),
            m=floats(4, 1, 1),
            n=floats(4, 1, 1),
        ),
        "group_norm(2)",
    ),
    "Relu": (one("Relu"), "relu()"),
    "LeakyRelu": (one("LeakyRelu", alpha=0.2), "leaky_relu(slope=0.2)"),
    "PRelu": (one("PRelu", floats(1)), None),
    "PRelu by channel": (one("PRelu", floats(4, 1, 1)), None),
    "Elu": (one("Elu", alpha=0.7), "elu(alpha=0.7)"),
    "Clip": (one("Clip", F(-0.5), F(0.25)), "clip(low=-0.5, high=0.25)"),
    "Clip from above": (one("Clip", None, F(0.25)), "clip(high=0.25)"),
    "Clip by attributes": (one("Clip", min=-0.5, max=0.5, opset=9), "clip(low=-0.5, high=0.5)"),
    "Clip from 0 to 6": (one("Clip", F(0), F(6)), "relu6()"),
    "Sigmoid": (one("Sigmoid"), "sigmoid()"),
    "HardSigmoid": (one("HardSigmoid"), "hardsigmoid(alpha=0.2)"),
    "HardSwish": (one("HardSwish"), "hardswish()"),
    "Tanh": (one("Tanh"), "tanh()"),
    "Softplus": (one("Softplus"), "softplus()"),
    "Gelu": (one("Gelu"), "gelu()"),
    "Gelu by tanh": (one("Gelu", approximate="tanh"), "gelu(approximate='tanh')"),
    "Mish": (one("Mish"), None),
    "Softmax": (one("Softmax", x=(3, 5)), "softmax()"),
    "Softmax of channels": (one("Softmax", axis=1), "softmax()"),
    "Softmax of all": (one("Softmax", x=(3, 5, 1, 1), opset=11), "softmax()"),
    "LogSoftmax": (one("LogSoftmax", x=(3, 5)), "log_softmax()"),
    "Flatten": (one("Flatten"), "flatten()"),
    "Reshape": (one("Reshape", ints(-1, 120)), "flatten()"),
    "Reshape to images": (one("Reshape", ints(0, 2, -1, 5)), "reshape((2, 12, 5))"),
    "Unsqueeze": (one("Unsqueeze", ints(2, -1), x=(3, 5)), "reshape((5, 1, 1))"),
    "Identity": (one("Identity"), "identity()"),
    "Dropout": (one("Dropout", F(0.3)), "dropout(0.3)"),
    "Dropout by attribute": (one("Dropout", ratio=0.3, opset=9), "dropout(0.3)"),
    "Sub and Div": (
        chain(
            node("Sub", "x m", "a"),
            node("Div", "a s", "y"),
            x=(2, 3, 4, 4),
            m=F([0.485, 0.456, 0.406]).reshape(3, 1, 1),
            s=F([0.229, 0.224, 0.225]).reshape(3, 1, 1),
        ),
        "normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))",
    ),
    "Mul": (one("Mul", F([[[[0.25]]]])), "normalize(0.0, 4.0)"),
    "Mul by channel": (chain(node("Relu", "x", "a"), node("Mul", "a s", "y"), s=floats(4, 1, 1)), None),
    "Mul and Add by channel": (
        chain(
            node("Relu", "x", "a"),
            node("Mul", "s a", "b"),
            node("Add", "b t", "y"),
            s=floats(4, 1, 1),
            t=floats(4, 1, 1),
        ),
        None,
    ),
    "Add to a convolution": (
        chain(node("Conv", "x w", "a"), node("Add", "a b", "y"), w=floats(3, 4, 2, 2), b=floats(3, 1, 1)),
        "conv2d(3, 2)",
    ),
    "x * sigmoid(x)": (chain(node("Sigmoid", "x", "a"), node("Mul", "x a", "y")), "silu()"),
    "x * hardsigmoid(x)": (chain(node("HardSigmoid", "x", "a", alpha=1 / 6), node("Mul", "a x", "y")), "hardswish()"),
    "hard-swish in parts": (
        chain(
            node("Add", "x c", "a"),
            node("Clip", "a l h", "b"),
            node("Div", "b h", "d"),
            node("Mul", "d x", "y"),
            c=F(3),
            l=F(0),
            h=F(6),
        ),
        "hardswish()",
    ),
    "GELU by erf": (
        chain(
            node("Div", "x r", "a"),
            node("Erf", "a", "b"),
            node("Add", "b i", "c"),
            node("Mul", "x c", "d"),
            node("Mul", "d h", "y"),
            r=F(2**0.5),
            i=F(1),
            h=F(0.5),
        ),
        "gelu()",
    ),
    "GELU by erf of halves": (
        chain(
            node("Div", "x r", "a"),
            node("Erf", "a", "b"),
            node("Add", "b i", "c"),
            node("Mul", "x h", "d"),
            node("Mul", "d c", "y"),
            r=F(2**0.5),
            i=F(1),
            h=F(0.5),
        ),
        "gelu()",
    ),
    "Pad before a convolution": (
        chain(node("Pad", "x p", "a"), node("Conv", "a w", "y"), p=ints(0, 0, 0, 2, 0, 0, 3, 1), w=floats(3, 4, 3, 3)),
        "conv2d(3, 3, padding=((0, 3), (2, 1)), bias=False)",
    ),
    "Pad of two axes before a strided convolution that pads": (
        chain(
            node("Pad", "x p z i", "a", mode="constant"),
            node("Conv", "a w", "y", pads=(1, 1, 1, 1), strides=(2, 2)),
            p=ints(0, 1, 0, 1),
            z=F(0),
            i=ints(-2, 3),
            w=floats(3, 4, 3, 3),
            opset=21,
        ),
        "conv2d(3, 3, stride=2, padding=(1, 2), bias=False)",
    ),
    "Pad by attributes, and once more": (
        chain(
            node("Pad", "x", "a", pads=(0, 0, 1, 0, 0, 0, 0, 1)),
            node("Pad", "a", "b", pads=(0, 0, 0, 1, 0, 0, 1, 0), value=0.0),
            node("Conv", "b w", "y", auto_pad="VALID"),
            w=floats(3, 4, 3, 3),
            opset=9,
        ),
        "conv2d(3, 3, padding=1, bias=False)",
    ),
    "Pad of nothing": (
        chain(node("Pad", "x p", "a", mode="reflect"), node("Relu", "a", "y"), p=ints(0, 0, 0, 0, 0, 0, 0, 0)),
        "relu()",
    ),
    "Pad before a mean": (
        chain(
            node("Pad", "x p", "a"),
            node("AveragePool", "a", "y", kernel_shape=(3, 3), strides=(2, 2)),
            p=ints(0, 0, 1, 0, 0, 0, 1, 1),
        ),
        "avg_pool2d(3, stride=2, padding=((1, 1), (0, 1)))",
    ),
    "Pad before a mean that counts its own": (
        chain(
            node("Pad", "x p", "a"),
            node("AveragePool", "a", "y", kernel_shape=(3, 3), pads=(0, 1, 0, 0), count_include_pad=1),
            p=ints(0, 0, 1, 0, 0, 0, 1, 1),
        ),
        "avg_pool2d(3, stride=1, padding=1)",
    ),
    "Pad of -inf before a maximum": (
        chain(
            node("Pad", "x p z", "a"),
            node("MaxPool", "a", "y", kernel_shape=(3, 3)),
            p=ints(0, 0, 1, 1, 0, 0, 0, 1),
            z=F(np.finfo(F).min),
        ),
        "max_pool2d(3, stride=1, padding=((1, 0), (1, 1)))",
    ),
    "Transpose that changes nothing": (one("Transpose", perm=(0, 1, 2, 3)), "identity()"),
    "channels as the last axis": (
        chain(
            node("Transpose", "x", "a", perm=(0, 2, 3, 1)),
            node("LayerNormalization", "a g", "b"),
            node("MatMul", "b w", "c"),
            node("Add", "d c", "e"),
            node("Relu", "e", "f"),
            node("Sub", "f d", "h"),
            node("Div", "h s", "i"),
            node("MatMul", "i v", "j"),
            node("Mul", "j d2", "k"),
            node("Transpose", "k", "y", perm=(0, 3, 1, 2)),
            g=floats(4),
            w=floats(4, 6),
            d=floats(6),
            s=F(2),
            v=floats(6, 3),
            d2=floats(1, 3),
        ),
        "conv2d(3, 1, groups=3, bias=False)",
    ),
    "sequences with channels as the last axis": (
        chain(
            node("Transpose", "x", "a", perm=(0, 2, 1)),
            node("MatMul", "a w", "b"),
            node("Sigmoid", "b", "s"),
            node("Mul", "b s", "c"),
            node("Transpose", "c", "y", perm=(0, 2, 1)),
            x=(2, 4, 9),
            w=floats(4, 6),
        ),
        "silu()",
    ),
    "softplus of two": (
        chain(node("Greater", "x t", "a"), node("Softplus", "x", "b"), node("Where", "a x b", "y"), t=F(20)),
        "softplus()",
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_gives_what_onnxruntime_gives(name, tmp_path):
    (data, shape), expected = OPERATORS[name]
    ours = loaded(data, tmp_path)
    *_, layer = ours.network.children.values()
    assert expected is None or repr(layer) == expected
    runtime = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(1).standard_normal(shape).astype(F)
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"x": x})
    # float32: sums of up to a hundred products, in other orders; onnxruntime's own GELU and tanh are approximations.
    np.testing.assert_allclose(outputs(ours, x), theirs, rtol=1e-5, atol=1e-5)


# Values.


@pytest.mark.parametrize("how", ["raw", "numbers", "packed"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_weights_in_every_way_that_a_file_holds_them(dtype, how, tmp_path):
    w = floats(3, 5, dtype=dtype)
    data = model([node("Gemm", "x w", "y", transB=1)], tensor("w", w, how), inputs=(("x", ("N", 5)),))
    found = loaded(data, tmp_path).params["dense1"]["w"]
    assert found.dtype == (np.float64 if dtype == "float64" else F)
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, w)


def test_weights_of_bfloat16(tmp_path):
    w = F([[1.5, -2, 3e38, 2e-38]])
    head = files.fields(1, w.shape) + files.field(2, 16) + files.field(8, "w")
    for body in (
        files.field(9, (w.view(np.uint32) >> 16).astype("<u2").tobytes()),
        files.packed(5, (w.view(np.uint32) >> 16).reshape(-1).tolist()),
    ):
        data = model([node("Gemm", "x w", "y", transB=1)], head + body, inputs=(("x", ("N", 4)),))
        found = loaded(data, tmp_path).params["dense1"]["w"]
        np.testing.assert_allclose(found, w, rtol=2**-8)
        assert found.dtype == F


def test_weights_in_another_file_and_twice_in_the_network(tmp_path):
    w = floats(4, 4)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "w.bin").write_bytes(b"before" + w.tobytes() + b"after")
    place = {"location": "inner/w.bin", "offset": 6, "length": 64}
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "b"), node("MatMul", "b v", "y")]
    tensors = [tensor(name, w, "beside", **place) for name in "wv"]
    found = loaded(model(nodes, *tensors, inputs=(("x", ("N", 4)),)), tmp_path)
    np.testing.assert_array_equal(found.params["dense1"]["w"], w.T)
    np.testing.assert_array_equal(found.params["dense2"]["w"], w.T)


def test_weights_that_nodes_make(tmp_path):
    w = floats(5, 3)
    nodes = [
        node("Constant", [], "w", value=tensor("", w)),
        node("Transpose", "w", "v", perm=(1, 0)),
        node("ConstantOfShape", "three", "b", value=tensor("", F([0.5]))),
        node("Identity", "b", "c"),
        node("Gemm", "x v c", "y", transB=1),
    ]
    found = loaded(model(nodes, ("three", ints(3)), inputs=(("x", ("N", 5)),)), tmp_path)
    np.testing.assert_array_equal(found.params["dense1"]["w"], w.T)
    np.testing.assert_array_equal(found.params["dense1"]["b"], F([0.5, 0.5, 0.5]))


def test_integers_of_every_size():
    numbers = [0, 1, -1, 127, 128, 2**31, -(2**31), 2**63 - 1, -(2**63)]
    for write in (files.packed, files.fields):
        found = read(memoryview(write(3, numbers)), "message", {3}).integers(3)
        assert found.tolist() == numbers
    many = np.random.default_rng(0).integers(-(2**62), 2**62, 70_000)
    found = read(memoryview(files.packed(3, many.tolist())), "message", {3}).integers(3)
    np.testing.assert_array_equal(found, many)


# Graphs.


def chained(names, operators=("Relu", "Tanh", "Sigmoid", "Softplus")):
    """Nodes from the first name to the last, each an activation."""
    pairs = itertools.pairwise(names)
    return [node(operators[i % len(operators)], a, b) for i, (a, b) in enumerate(pairs)]


NETWORKS = {
    "an identity beside": (
        [node("Relu", "x", "a"), node("Add", "x a", "y")],
        "residual(body=relu(), shortcut=identity())",
    ),
    "body first": (
        [*chained("xab"), node("Sigmoid", "x", "c"), node("Add", "b c", "y")],
        "residual(body=serial(relu1=relu(), tanh1=tanh()), shortcut=sigmoid())",
    ),
    "shortcut first": (
        [*chained("xab"), node("Sigmoid", "x", "c"), node("Add", "c b", "y")],
        "branch(merge='sum', sigmoid1=sigmoid(), serial1=serial(relu1=relu(), tanh1=tanh()))",
    ),
    "a sum of three": (
        [node("Relu", "x", "a"), node("Tanh", "x", "b"), node("Sum", "b x a", "y")],
        "branch(merge='sum', tanh1=tanh(), identity1=identity(), relu1=relu())",
    ),
    "side by side": (
        [node("Relu", "x", "a"), node("Tanh", "x", "b"), node("Concat", "b x a", "y", axis=-3)],
        "branch(merge='concat', tanh1=tanh(), identity1=identity(), relu1=relu())",
    ),
    "a dense block": (
        [
            node("Concat", "x", "z", axis=1),
            node("Relu", "z", "a"),
            node("Concat", "x a", "b", axis=1),
            node("Tanh", "b", "c"),
            node("Concat", "x a c", "y", axis=1),
        ],
        "branch(merge='concat', identity1=identity(), tanh1=tanh())",
    ),
    "a gate": (
        [node("GlobalAveragePool", "x", "a"), node("Sigmoid", "a", "b"), node("Mul", "b x", "y")],
        "branch(\n    merge='multiply',\n"
        "    serial1=serial(adaptive_avg_pool2d1=adaptive_avg_pool2d(1), sigmoid1=sigmoid()),\n"
        "    identity1=identity(),\n)",
    ),
    "itself twice": (
        [node("Relu", "x", "a"), node("Concat", "a a", "b", axis=1), node("Conv", "b w", "y")],
        "conv2d(2, 1, bias=False)",
    ),
    "itself": ([node("Relu", "x", "a"), node("Mul", "a a", "y")], None),
    "a split within a split, of one value": (
        [node("Tanh", "x", "a"), node("Mul", "a x", "b"), node("Add", "b x", "y")],
        "residual(\n    body=branch(merge='multiply', tanh1=tanh(), identity1=identity()),\n"
        "    shortcut=identity(),\n)",
    ),
    "what isn't asked for": ([node("Relu", "x", "y"), node("NoSuch", "x", "z")], "relu()"),
    "sizes on the way": (
        [node("Shape", "x", "s"), node("Gather", "s i", "n", axis=0), node("Concat", "n m", "t", axis=0),
         node("Reshape", "x t", "y")],
        "flatten()",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_as_combinators(name, tmp_path):
    nodes, expected = NETWORKS[name]
    data = model(nodes, ("i", ints(0)), ("m", ints(-1)), ("w", floats(2, 6, 1, 1)))
    ours = loaded(data, tmp_path)
    assert expected is None or repr([*ours.network.children.values()][-1]) == expected
    runtime = pytest.importorskip("onnxruntime")
    if "NoSuch" in data.decode("latin1"):
        return
    x = floats(2, 3, 8, 8)
    (theirs,) = runtime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.testing.assert_allclose(outputs(ours, x), theirs, rtol=1e-5, atol=1e-6)  # other orders of sums


def test_a_chain_of_thousands_of_nodes(tmp_path):
    names = ["x", *(f"v{i}" for i in range(4_998)), "y"]
    ours = loaded(model(chained(names, ["Relu"]), inputs=(("x", ("N", 2)),)), tmp_path)
    assert len(ours.network.children) == 4_999


def test_where_the_file_leaves_lengths_open(tmp_path):
    data = model([node("GlobalAveragePool", "x", "y")], inputs=(("x", ("N", 3, "h", "w")),))
    ours = loaded(data, tmp_path, in_shape=(3, 5, 7))
    assert ours.in_shape == (3, 5, 7)
    assert outputs(ours, floats(1, 3, 9, 9)).shape == (1, 3, 1, 1)


PLACES = {
    "asymmetric": lambda out, size, by: out / by,
    "half_pixel": lambda out, size, by: (out + 0.5) / by - 0.5,
    "pytorch_half_pixel": lambda out, size, by: (out + 0.5) / by - 0.5,
    "align_corners": lambda out, size, by: out * ((size - 1) / max(size * by - 1, 1)),
}
ROUNDED = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda place: np.ceil(place - 0.5),
    "round_prefer_ceil": lambda place: np.floor(place + 0.5),
}


@pytest.mark.parametrize("how", PLACES)
@pytest.mark.parametrize("rounding", ROUNDED)
def test_a_nearest_resize_is_read_where_its_formula_repeats_pixels(how, rounding, tmp_path):
    for size, by in itertools.product((1, 2, 3, 8), (1, 2, 3, 7)):
        out = np.arange(size * by)
        taken = np.clip(ROUNDED[rounding](PLACES[how](out, size, by)), 0, size - 1)
        scales = ("s", F([1, 1, 1, by]))
        formula = {"mode": "nearest", "coordinate_transformation_mode": how, "nearest_mode": rounding}
        data = model([node("Resize", ["x", "", "s"], "y", **formula)], scales, inputs=(("x", ("N", 1, 1, size)),))
        if (taken == out // by).all():
            y = outputs(loaded(data, tmp_path), np.arange(size, dtype=F).reshape(1, 1, 1, size))
            assert y.reshape(-1).tolist() == taken.tolist()
        else:
            with pytest.raises(ExchangeError, match="takes other pixels than those before"):
                loaded(data, tmp_path)


# What others wrote.


def data_folder():
    """The models in the onnx package, if there is one."""
    found = importlib.util.find_spec("onnx")
    return Path(found.origin).parent / "backend" / "test" / "data" if found else Path("none")


def array_of(path):
    onnx = pytest.importorskip("onnx")
    return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


REAL = sorted(path.parent for path in data_folder().glob("*/*/model.onnx"))


def test_the_models_of_the_onnx_package():
    pytest.importorskip("onnx")
    right, refused = [], {}
    for folder in REAL:
        try:
            ours = fcnn.load_onnx(folder / "model.onnx")
        except ExchangeError as error:
            refused[folder / "model.onnx"] = str(error)
            continue
        x, y = (array_of(folder / "test_data_set_0" / f"{name}_0.pb") for name in ("input", "output"))
        # The tolerances of the package's own tests.
        np.testing.assert_allclose(outputs(ours, x), y, rtol=1e-3, atol=1e-7, err_msg=folder.name)
        right.append(folder.name)
    assert all(text.startswith(f"{path}: ") and len(text) < 900 for path, text in refused.items())
    assert len(right) + len(refused) == len(REAL)
    assert {"test_Conv2d_depthwise_padded", "test_ConvTranspose2d", "test_PReLU_2d_multiparam"} <= set(right)
    assert len(right) >= 54, sorted(right)


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "inception_v2", "squeezenet"])
def test_large_models_of_the_onnx_package(name):
    pytest.importorskip("onnx")
    ours = fcnn.load_onnx(data_folder() / "light" / f"light_{name}.onnx")
    theirs = array_of(data_folder() / "light" / f"light_{name}_output_0.pb")
    # Their weights are all alike, so the classes are too, as far as sums in the millions are exact: in float64.
    x = (np.arange(3 * 224 * 224) / (3 * 224 * 224)).reshape(1, 3, 224, 224)
    wide = [fcnn.tree.map(lambda leaf: leaf.astype(np.float64), tree) for tree in (ours.params, ours.state)]
    y = ours.network.apply(*wide, x, train=False).y
    np.testing.assert_allclose(y, theirs, rtol=1e-3, atol=1e-7)
