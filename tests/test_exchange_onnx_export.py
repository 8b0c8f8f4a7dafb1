"""`save_onnx`: what it writes passes ONNX's checker, computes what the network does, and reads well."""

import json
import os
import struct

import numpy as np
import pytest
from cases import CASES, Case

import fcnn
from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.onnx_nodes import RULES
from fcnn.network import layers

KEY = fcnn.key(0)
# Both sum up in an order of their own: some ten roundings of float32 (6e-8) of numbers about 1.
SINGLE = {"rtol": 1e-5, "atol": 1e-5}
# A number that is an attribute, such as a slope, is of float32 in any file: it is half of 2^-23 off.
DOUBLE = {"rtol": 1e-7, "atol": 1e-7}
# Adaptive pools whose windows differ in size, or overlap here and not there: ONNX has none; and what is for evaluation.
REFUSED = {"adaptive_avg_pool2d", "adaptive_avg_pool2d larger", "branch multiply rows and columns"}
VIEWS = {case.name for case in CASES if case.layer.kind in ("mirror", "shift", "averaged_views")}
WRITTEN = [case for case in CASES if case.name not in REFUSED | VIEWS]


def model_of(layer, in_shape, dtype="float32", **more):
    made = layer.init(KEY, in_shape)
    params, state = (fcnn.tree.astype(spread(values), dtype) for values in (made.params, made.state))
    return fcnn.Model(layer, params, state, in_shape=in_shape, **more)


def spread(values):
    """Values none of which is as it begins: zeros would hide that a bias was forgotten. Variances stay positive."""
    noise = fcnn.generator(KEY)
    return fcnn.tree.map(lambda leaf: leaf + (0.1 + 0.2 * noise.random(leaf.shape)).astype(leaf.dtype), values)


def images(model, count=3, dtype="float32"):
    return fcnn.generator(KEY).standard_normal((count, *model.in_shape)).astype(dtype)


def outputs(model, x):
    return model.network.apply(model.params, model.state, x, train=False).y


def in_onnxruntime(path, x):
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": x})[0]


def read(path):
    """The file as a model of the package onnx, which says that it is right: every shape in it, too."""
    onnx = pytest.importorskip("onnx")
    onnx.checker.check_model(path, full_check=True)
    return onnx.load(path)


@pytest.fixture
def path(tmp_path):
    return os.fspath(tmp_path / "net.onnx")


@pytest.mark.parametrize("case", WRITTEN, ids=lambda case: case.name)
def test_onnxruntime_computes_what_the_network_does(case: Case, path):
    model = model_of(case.layer, case.in_shape)
    fcnn.save_onnx(path, model)
    read(path)
    for count in (1, 5):
        x = images(model, count)
        np.testing.assert_allclose(in_onnxruntime(path, x), outputs(model, x), **SINGLE)


@pytest.mark.parametrize("case", WRITTEN, ids=lambda case: case.name)
def test_in_float64_it_is_the_same_network(case: Case, path):
    """By the package onnx's own evaluator: onnxruntime has hardly a kernel for float64."""
    if case.name == "conv_transpose2d groups":
        pytest.skip("onnx.reference takes it for one without groups")
    layer = fcnn.serial(first=fcnn.prelu(), then=case.layer)  # the parameters say of what dtype a network is
    model = model_of(layer, case.in_shape, "float64")
    fcnn.save_onnx(path, model)
    found = read(path)
    kinds = {array.name: array.data_type for array in found.graph.initializer}
    assert {kind for name, kind in kinds.items() if name != "then/scales"} <= {7, 11}  # scales are always float32
    x = images(model, 3, "float64")
    evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator(found)
    np.testing.assert_allclose(evaluator.run(None, {"x": x})[0], outputs(model, x), **DOUBLE)


def test_every_kind_of_layer_has_a_rule():
    combinators = {fcnn.serial, fcnn.residual, fcnn.branch, fcnn.averaged_views}
    kinds = {getattr(layers, name) for name in layers.__all__} | combinators
    assert kinds == RULES.keys()


def test_what_is_not_written_is_refused(path):
    found = [case for case in CASES if case.name in REFUSED]
    assert len(found) == len(REFUSED)
    for case in found:
        with pytest.raises(ExchangeError, match="windows differ"):
            fcnn.save_onnx(path, model_of(case.layer, case.in_shape))
    for case in CASES:
        if case.name in VIEWS:
            network = fcnn.serial(first=fcnn.relu(), then=case.layer)
            text = (
                f"then: {case.layer.kind} has no form in ONNX; write the network that averaged_views was given, without"
            )
            with pytest.raises(ExchangeError, match=f"^{text} views$"):
                fcnn.save_onnx(path, model_of(network, case.in_shape))


MODELS = {
    "resnet18": fcnn.resnet18(10),
    "resnet_cifar": fcnn.resnet_cifar(8),
    "mobilenet_v2": fcnn.mobilenet_v2(10),
    "squeezenet1_1": fcnn.squeezenet1_1(10),
    "airbench": fcnn.airbench((8, 16, 16)),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_people_have(name, path):
    shape = (3, 37, 40)  # which no pool tiles
    made = MODELS[name].init(KEY, shape)
    state = spread(made.state) if made.state else made.state
    model = fcnn.Model(MODELS[name], made.params, state, in_shape=shape)
    fcnn.save_onnx(path, model)
    read(path)
    x = images(model, 2)
    expected = outputs(model, x)
    # Weights as they begin let outputs grow: 1e-5 is meant of numbers about 1.
    np.testing.assert_allclose(in_onnxruntime(path, x), expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("number", range(60))
def test_pools_of_any_windows_are_those_of_onnxruntime(number, path):
    """With every kind of windows that hang over, begin in the padding, or leave pixels out."""
    rng = np.random.default_rng(number)
    window, stride = ([int(v) for v in rng.integers(1, most, 2)] for most in (5, 6))
    common = {"stride": stride, "padding": [int(rng.integers(0, size)) for size in window], "ceil_mode": True}
    shape = (2, *(max(int(rng.integers(1, 9)), size) for size in window))
    for pool in (fcnn.max_pool2d(window, **common), fcnn.avg_pool2d(window, **common, count_include_pad=False)):
        model = model_of(pool, shape)
        fcnn.save_onnx(path, model)
        read(path)
        x = images(model)
        np.testing.assert_allclose(in_onnxruntime(path, x), outputs(model, x), **SINGLE)


BLOCK = fcnn.residual(
    fcnn.serial(conv1=fcnn.conv2d(4, 3, padding=1), bn1=fcnn.batch_norm(), relu1=fcnn.relu()), fcnn.conv2d(4, 1)
)
NESTED = fcnn.serial(
    norm=fcnn.normalize((0.4, 0.5, 0.6), 0.25),
    layer1=fcnn.serial(block1=BLOCK, block2=BLOCK),
    mix=fcnn.branch(merge="concat", left=fcnn.conv2d(2, 1), right=fcnn.identity()),
    pool=fcnn.global_avg_pool2d(),
    head=fcnn.dense(3),
)


def test_nodes_are_named_by_the_paths_of_layers_and_arrays_by_those_of_parameters(path):
    model = model_of(NESTED, (3, 6, 5))
    fcnn.save_onnx(path, model)
    graph = decoded(path)[7][0]
    nodes = [(text(node[4][0]), text(node[3][0])) for node in graph[1]]
    block = [("Conv", "conv1"), ("BatchNormalization", "bn1"), ("Relu", "relu1")]
    assert nodes == [
        ("Sub", "norm/sub"),
        ("Div", "norm"),
        *(
            found
            for name in ("layer1/block1", "layer1/block2")
            for found in [
                ("Conv", f"{name}/shortcut"),
                *((operator, f"{name}/body/{inner}") for operator, inner in block),
                ("Add", name),
            ]
        ),
        ("Conv", "mix/left"),
        ("Identity", "mix/right"),
        ("Concat", "mix"),
        ("GlobalAveragePool", "pool/mean"),
        ("Flatten", "pool"),
        ("Gemm", "head"),
    ]
    values = {**fcnn.tree.flatten(model.params), **fcnn.tree.flatten(model.state)}
    arrays = {text(tensor[8][0]): tensor for tensor in graph[5]}
    assert arrays.keys() == values.keys() | {"norm/mean", "norm/std"}
    for name, leaf in values.items():
        assert arrays[name][1] == list(leaf.shape)
        assert arrays[name][9] == [leaf.astype("<f4").tobytes("C")]
    given = [text(node[2][0]) for node in graph[1]]
    assert given == [*(f"{name}/y" for _, name in nodes[:-1]), "y"]


def test_what_the_file_says_of_the_model(path):
    model = model_of(fcnn.lenet5(), (1, 28, 28), classes=tuple("0123456789"), meta={"trained": "today"})
    fcnn.save_onnx(path, model)
    file = decoded(path)
    assert (file[1], file[2], file[8]) == ([10], [b"fcnn"], [{2: [21]}])
    facts = {text(entry[1][0]): json.loads(text(entry[2][0])) for entry in file[14]}
    assert facts == {"in_shape": [1, 28, 28], "classes": list("0123456789"), "meta": {"trained": "today"}}
    (given,), (made,) = file[7][0][11], file[7][0][12]
    assert shape_of(given) == ("x", 1, ["N", 1, 28, 28])
    assert shape_of(made) == ("y", 1, ["N", 10])
    # The other values' shapes, which Netron draws beside the arrows.
    assert shape_of(file[7][0][13][1]) == ("relu1/y", 1, ["N", 6, 28, 28])


def test_another_in_shape(path):
    model = model_of(NESTED, (3, 6, 5))
    fcnn.save_onnx(path, model, (3, 9, 4))
    found = read(path)
    assert [dim.dim_value for dim in found.graph.input[0].type.tensor_type.shape.dim] == [0, 3, 9, 4]
    x = images(model_of(NESTED, (3, 9, 4)))
    np.testing.assert_allclose(in_onnxruntime(path, x), outputs(model, x), **SINGLE)


@pytest.mark.parametrize(
    "change",
    [fcnn.fuse, lambda net: fcnn.hold(net, "*"), fcnn.checked, fcnn.without_caches],
    ids=["fused", "held", "checked", "without caches"],
)
def test_a_changed_network_is_written_as_what_it_was_made_of(change, tmp_path):
    model = model_of(NESTED, (3, 6, 5))
    changed = fcnn.Model(change(NESTED), model.params, model.state, in_shape=model.in_shape)
    for name, one in (("plain", model), ("changed", changed)):
        fcnn.save_onnx(tmp_path / name, one)
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "changed").read_bytes()


def test_arrays_may_lie_in_any_order_of_memory(tmp_path):
    model = model_of(NESTED, (3, 6, 5))
    other = fcnn.tree.map(lambda leaf: np.array(leaf.T, order="C").T, model.params)
    for name, params in (("plain", model.params), ("other", other)):
        fcnn.save_onnx(tmp_path / name, fcnn.Model(NESTED, params, model.state, in_shape=model.in_shape))
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path):
    model = model_of(NESTED, (3, 6, 5))
    file = tmp_path / "net.onnx"
    fcnn.save_onnx(file, model)
    before = file.read_bytes()
    mixed = fcnn.tree.set_at(model.params, "head/b", np.zeros(3))
    with pytest.raises(ExchangeError):
        fcnn.save_onnx(file, fcnn.Model(NESTED, mixed, model.state, in_shape=(3, 6, 5)))
    with pytest.raises(OSError, match="there is no folder"):
        fcnn.save_onnx(tmp_path / "none" / "net.onnx", model)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["net.onnx"]


def decoded(path):
    """A file of ONNX without the package: fields by number; what a message is, is known by number alone."""
    with open(path, "rb") as file:
        return message(file.read(), MODEL)


def message(data, inner):
    found, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            value = varint()
        elif kind == 5:
            (value,) = struct.unpack("<f", data[at : at + 4])
            at += 4
        else:
            assert kind == 2
            length = varint()
            value = data[at : at + length]
            assert len(value) == length
            at += length
            value = message(value, inner[number]) if number in inner else value
        found.setdefault(number, []).append(value)
    return found


VALUE = {2: {1: {2: {1: {}}}}}
MODEL = {7: {1: {5: {}}, 5: {}, 11: VALUE, 12: VALUE, 13: VALUE}, 8: {}, 14: {}}


def text(value):
    return value.decode()


def shape_of(value):
    (tensor,) = value[2][0][1]
    dims = [dim[1][0] if 1 in dim else text(dim[2][0]) for dim in tensor[2][0][1]]
    return text(value[1][0]), tensor[1][0], dims
