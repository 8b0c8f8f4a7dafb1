"""Small files of ONNX that ask for much: `load_onnx` counts before it takes memory, and makes nothing twice."""

import itertools
import tracemalloc

import numpy as np
import pytest
from onnx_files import attribute, field, fields, model, node, tensor

import fcnn
from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.protobuf import DamagedFileError, read

F = np.float32
MEGA = 1_000_000


def taken(path, data, refused=None):
    """The most memory that reading takes, in bytes, beside the file's own; `refused` is what it then says."""
    path.write_bytes(data)
    tracemalloc.start()
    try:
        if refused is None:
            fcnn.load_onnx(path)
        else:
            with pytest.raises(ExchangeError) as caught:
                fcnn.load_onnx(path)
            assert str(caught.value) == f"{path}: {refused}"
        return tracemalloc.get_traced_memory()[1] - len(data)
    finally:
        tracemalloc.stop()


def described(*parts):
    """A tensor 'c' of such fields, which is added to x."""
    return model([node("Add", "x c", "y", name="n")], b"".join([*parts, field(8, "c")]))


ONES = b"\1" * 3 * MEGA  # packed integers of one byte each
NINE = "the array 'c': an array of nine axes or more, which fcnn has none of"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (described(field(1, ONES), field(2, 1)), NINE),
        (described(field(1, 5), field(2, ONES)), "the array 'c': 0 numbers for the shape (5,)"),
        (described(field(1, 5), field(2, 10), field(5, ONES)), "the array 'c': 3,000,000 numbers for the shape (5,)"),
        (
            described(field(1, 3 * MEGA), field(2, 2), field(9, ONES)),
            "the array 'c': 3,000,000 numbers of uint8; at most 1,048,576 that are no floats are read",
        ),
        (
            model([node("Relu", "x", "y") + field(5, field(1, "a") + field(8, ONES) + field(20, 7))]),
            "an attribute of more than 65,536 numbers, which are read as a tensor alone",
        ),
        (
            model([node("Relu", "x", "y") + fields(5, [field(1, "a") + field(8, b"\1" * 50_000) + field(20, 7)] * 6)]),
            "more than 262,144 numbers in attributes",
        ),
        (
            model([node("Relu", "x", "y") + field(5, field(1, "a") + fields(9, [""] * 70_000) + field(20, 8))]),
            "an attribute of more than 65,536 numbers, which are read as a tensor alone",
        ),
        (
            model([node("Relu", "x", "y") + fields(5, [attribute("a", 1)] * 51)]),
            "a node Relu of more than 50 attributes",
        ),
        (model([node("Relu", "x", "y")], *[b""] * 30_001), "a graph of more than 30,000 initializers"),
        (model([node("Relu", "x", "y")], inputs=[b""] * 30_001), "a graph of more than 30,000 inputs"),
    ],
    ids=range(10),
)
def test_numbers_are_counted_before_they_are_read(data, text, tmp_path):
    # 3 MB of bytes are 24 MB once they are read, and as much again on the way; a field by itself takes some 400 bytes.
    assert taken(tmp_path / "m.onnx", data, text) < 40 * MEGA


def repeated(count, operator, inputs, **attributes):
    """A chain of nodes that all take the same beside what flows."""
    names = ["x", *(f"v{i}" for i in range(1, count)), "y"]
    return [node(operator, f"{a} {inputs}", b, **attributes) for a, b in itertools.pairwise(names)]


FEATURES = {"inputs": (("x", ("N", 300)),)}
MATRIX = ("w", np.ones((300, 300), F))  # 360 kB
MANY = {
    "transposed": model(repeated(100, "MatMul", "w"), MATRIX, **FEATURES),
    "transposed by Gemm": model(repeated(100, "Gemm", "w", transB=0), MATRIX, **FEATURES),
    "times a number": model(repeated(100, "Gemm", "w", transB=1, alpha=0.5), MATRIX, **FEATURES),
    "described": model(
        [node("ConstantOfShape", "s", "w"), *repeated(100, "Gemm", "w", transB=1)],
        ("s", np.array([300, 300])),
        **FEATURES,
    ),
    "described for channels": model(
        [node("ConstantOfShape", "s", "w"), *repeated(30, "BatchNormalization", "w w w w")],
        ("s", np.array([100_000])),
        inputs=(("x", ("N", 100_000, 1, 1)),),
    ),
    "left out": model(
        repeated(60, "LayerNormalization", "g"), ("g", np.ones(100_000, F)), inputs=(("x", ("N", 100_000)),)
    ),
    "for groups": model(
        repeated(30, "GroupNormalization", "w w", num_groups=2),
        ("w", np.ones(2, F)),
        inputs=(("x", ("N", 100_000, 1, 1)),),
        opset=18,
    ),
}


@pytest.mark.parametrize("name", MANY)
def test_what_many_nodes_share_is_copied_once(name, tmp_path):
    assert taken(tmp_path / "m.onnx", MANY[name]) < 4 * MEGA


@pytest.mark.parametrize("dtype", [F, np.float64])
def test_what_is_shared_is_still_right(dtype, tmp_path):
    w = np.random.default_rng(0).normal(size=(5, 5)).astype(dtype)
    nodes = [node("MatMul", "x w", "a"), node("Gemm", "a w", "b", transB=1), node("Gemm", "b w", "c", alpha=0.5)]
    nodes += [node("Gemm", "c w", "d", alpha=0.25), node("Gemm", "d w", "y", alpha=0.5, transB=1)]
    path = tmp_path / "m.onnx"
    path.write_bytes(model(nodes, tensor("w", w), inputs=(("x", ("N", 5)),)))
    found = fcnn.load_onnx(path)
    x = np.eye(5, dtype=dtype)
    y = found.network.apply(found.params, found.state, x, train=False).y
    np.testing.assert_allclose(y, w @ w.T @ (w / 2) @ (w / 4) @ (w.T / 2), rtol=0, atol=1e-12 if dtype != F else 1e-5)


class Ways:
    """A random graph of chains and splits one within the other, with what it computes of `x`."""

    def __init__(self, seed, x):
        self.rng, self.nodes, self.values = np.random.default_rng(seed), [], {"x": x}

    def node(self, operator, inputs, value):
        name = f"v{len(self.nodes)}"
        self.nodes.append(node(operator, inputs, name))
        self.values[name] = value
        return name

    def way(self, begin, depth):
        for _ in range(self.rng.integers(1, 16)):
            begin = self.node("Tanh", [begin], np.tanh(self.values[begin]))
            if depth and self.rng.random() < 0.15:
                ends = [self.way(begin, depth - 1) for _ in range(self.rng.integers(1, 4))]
                ends += [begin] * (self.rng.random() < 0.5 or len(ends) == 1)
                begin = self.node("Sum", ends, sum(self.values[end] for end in ends))
        return begin


@pytest.mark.parametrize("seed", range(5))
def test_splits_at_any_depth_meet_where_they_do(seed, tmp_path):
    x = np.linspace(-1, 1, 6).reshape(2, 3)
    ways = Ways(seed, x)
    end = ways.way("x", 3)
    path = tmp_path / "m.onnx"
    path.write_bytes(model(ways.nodes, inputs=(("x", ("N", 3)),), outputs=(end,)))
    found = fcnn.load_onnx(path)
    y = found.network.apply(found.params, found.state, x, train=False).y
    np.testing.assert_allclose(y, ways.values[end], rtol=1e-12)


def test_an_input_many_times_is_one_layer(tmp_path):
    assert taken(tmp_path / "m.onnx", model([node("Sum", ["x"] * 999, "y")])) < 2 * MEGA


def test_what_is_left_out_is_nobodys_output(tmp_path):
    """Neither an output without a name nor an array without one is what an input without a name takes."""
    constant = node("Constant", [], "", value=tensor("", F(2))) + field(2, "") + field(2, "b")
    path = tmp_path / "m.onnx"
    path.write_bytes(model([constant, node("Clip", ["x", "", "c"], "y")], tensor("", F(3)), ("c", F(6))))
    found = fcnn.load_onnx(path)
    assert repr(found.network) == repr(fcnn.serial(fcnn.clip(None, 6.0)))


def test_numbers_of_16_bits_that_stand_one_by_one_become_their_array_at_once(tmp_path):
    numbers = np.full(MEGA, 1.5, np.float16)
    nodes = [node("Add", "x c", "y")]
    data = model(nodes, tensor("c", numbers.reshape(MEGA, 1, 1), "packed"), inputs=(("x", ("N", MEGA, 1, 1)),))
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    found = fcnn.load_onnx(path)
    assert found.network.apply(found.params, found.state, np.zeros((1, MEGA, 1, 1), F), train=False).y.mean() == 1.5


@pytest.mark.parametrize("count", [0, 1, 65_535, 65_536, 65_537, 200_000])
def test_integers_in_parts_are_the_integers(count):
    numbers = np.random.default_rng(count).integers(-(1 << 63), (1 << 63) - 1, count) >> np.arange(count) % 64
    content = b"".join(field(0, int(one))[1:] for one in numbers)
    message = read(memoryview(field(3, content)), "example", {3})
    assert message.count(3) == count
    np.testing.assert_array_equal(message.integers(3), numbers)
    assert message.integer(3, 7) == (numbers[-1] if count else 7)


@pytest.mark.parametrize(
    ("content", "text"), [(b"\xff" * 70_000 + b"\1", "ends within"), (b"\xff" * 11 + b"\1", "ten")]
)
def test_integers_that_are_none(content, text):
    message = read(memoryview(field(3, content)), "example", {3})
    for ask in (message.integers, message.integer):
        with pytest.raises(DamagedFileError, match=text if ask == message.integers else "ten"):
            ask(3)
