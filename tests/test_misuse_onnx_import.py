"""Files that `load_onnx` refuses, each with all that it must say after the file's name."""

import numpy as np
import pytest
from onnx_files import field, fields, graph, model, node, tensor, varint

import fcnn
from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.onnx_operators import OPERATORS

F = np.float32
DESCRIBED = "more than 1,073,741,824 bytes of constants that the file doesn't hold"
ELSEWHERE = "takes what flows in at another place than as its first input"
MATRIX = ("w", np.ones((3, 3), np.float32))
W = ("w", np.ones((4, 3, 3, 3), F))
RELU = node("Relu", "x", "y", name="act")
SHORT = fields(1, W[1].shape) + field(2, 1) + field(8, "w") + field(9, bytes(431))
KNOWN = f"known are {', '.join(sorted(OPERATORS))}"
MERGED = "read are graphs that are chains, and ways from one value that meet in one node (residuals, branches)"


def one(operator, *tensors, inputs=None, shape=("N", 3, 8, 8), opset=17, **attributes):
    """A model of one node `n`, which takes x and the tensors."""
    names = [name for name, _ in tensors]
    nodes = [node(operator, ["x", *names] if inputs is None else inputs, "y", name="n", **attributes)]
    return model(nodes, *tensors, opset=opset, inputs=(("x", shape),))


def ints(name, *values):
    return name, np.array(values, np.int64)


def deep(count):
    """A value to which it is added again and again: splits one within the other."""
    nodes = [node("Relu", "x" if i == 0 else f"a{i - 1}", f"r{i}", name=f"r{i}") for i in range(count)]
    pairs = [node("Add", f"r{i} x", f"a{i}", name=f"a{i}") for i in range(count)]
    found = [each for pair in zip(nodes, pairs, strict=True) for each in pair]
    return model([*found, node("Relu", f"a{count - 1}", "y")])


def border(*pads, operator="Conv", **attributes):
    """A model of a border, by the node `n`, and a layer of windows behind it."""
    inputs, more = ("a w", {}) if operator == "Conv" else ("a", {"kernel_shape": (3, 3)})
    nodes = [node("Pad", "x p", "a", name="n"), node(operator, inputs, "y", **more, **attributes)]
    return model(nodes, ints("p", *pads), W)


AXES = (
    "is read around what is computed with channels as the last axis alone: layer norms, products, biases and "
    "activations, until (0, 3, 1, 2) takes them back"
)
BORDERS = (
    "read are zeros around height and width right before a convolution, or an average pool that counts them, and -inf "
    "right before a max pool, both without ceil_mode"
)
BESIDE = "only files in the model's own folder are read"


def beside(**place):
    return model([node("Conv", "x w", "y", name="n")], tensor("w", W[1], "beside", **place))


# fmt: off
REFUSED = {
    # bytes
    "nothing": (b"", "no ONNX model: it has no graph"),
    "text": (b"hello, this is no model\n", "no ONNX model; it looks like text"),
    "a cut file": (model([RELU])[:-9], "a field of its model ends beyond it"),
    "a number cut": (b"\x08", "its model ends within a number"),
    "a number without an end": (b"\x08" + b"\xff" * 11, "its model has a number of more than ten bytes"),
    "a field without a number": (b"\x00\x00", "a field of its model has no number"),
    "a huge size": (varint(7 << 3 | 2) + varint(1 << 62), "a field of its model ends beyond it"),
    "a name that is no text": (model([node("Relu", "x", "y").replace(b"Relu", b"Re\xfflu"[:4])]),
                               "its node has a text that is none: b'Re\\xffl'"),
    "a number for a graph": (field(7, 5) + field(8, field(2, 17)),
                             "field 7 of its model is a number, where ONNX has none"),
    "fixed bytes for integers": (field(7, graph([RELU])) + field(8, varint(2 << 3 | 5) + b"1234"),
                                 "field 2 of its operator set is a number of another kind than ONNX has there"),
    "too many fields": (field(7, fields(1, [b""] * 100_001)) + field(8, field(2, 17)),
                        "its graph has more than 100,000 fields"),

    # models
    "training": (model([RELU], more=field(20, b"")),
                 "a graph for training, with its optimizer in it; export the network alone"),
    "no operator set": (model([RELU], domain="com.microsoft"),
                        "no ONNX model of a kind that is known: it names no set of ONNX's own operators"),
    "an old operator set": (model([RELU], opset=5),
                            "operator set 5; 6 to 28 are read: bring it up with onnx.version_converter"),
    "a new operator set": (model([RELU], opset=29), "operator set 29; 6 to 28 are read: export it with an older one"),
    "sparse arrays": (field(7, graph([RELU]) + field(15, b"")) + field(8, field(2, 17)),
                      "some of its arrays are sparse, which are not read; export it with dense ones"),
    "too many nodes": (model([b""] * 5_001), "a graph of 5,001 nodes; at most 5,000 are read"),
    "no output": (model([RELU], outputs=()), "a graph of no output; a network has one"),
    "five outputs": (model([RELU], outputs="abcde"), "a graph of 5 outputs: 'a', 'b', 'c', …; a network has one"),
    "two inputs": (model([RELU], inputs=(("x", ("N", 3)), ("z", ("N", 3)))),
                   "a graph of 2 inputs: 'x', 'z'; a network has one"),
    "an input that is a sequence": (model([RELU], inputs=(field(1, "x") + field(2, field(4, b"")),)),
                                    "its input 'x' is no tensor"),
    "an input of integers": (model([RELU], inputs=(("x", ("N", 3), 7),)),
                             "its input 'x' is of int64; a network takes floats: cut the graph's beginning off"),
    "an input of something new": (model([RELU], inputs=(("x", ("N", 3), 99),)),
                                  "its input 'x' is of the type 99; a network takes floats: cut the graph's beginning "
                                  "off"),
    "an input without a batch": (model([RELU], inputs=(("x", (5,)),)),
                                 "its input's shape is (5); the first axis is the batch's, and another one is needed"),
    "nine axes of an input": (model([RELU], inputs=(("x", ("N", *[1] * 8)),)),
                              "its input has 9 axes; at most 8 are read"),
    "open lengths": (model([RELU], inputs=(("x", ("N", 3, "height", None)),)),
                     "its input's shape is (?, 3, ?, ?), which leaves lengths open; say them: in_shape=(…)"),
    "no shape": (model([RELU], inputs=(field(1, "x") + field(2, field(1, field(1, 1))),)),
                 "it doesn't say what shape its inputs have; say it: in_shape=(3, 224, 224), for example"),
    "channels beyond all": (model([RELU], inputs=(("x", ("N", 1 << 40)),)),
                            "its input's shape is (?, 1099511627776); at most 1,048,576 channels or features, "
                            "and 1,099,511,627,776 numbers, are read"),
    "many inputs of all nodes": (
        model([node("Sum", ["x" if i == 0 else f"v{i}"] * 999, f"v{i + 1}") for i in range(31)], outputs=("v31",)),
        "a graph of more than 30,000 inputs and outputs of nodes"),
    "many inputs of a node": (model([node("Sum", ["x"] * 1_001, "y")]),
                              "a node Sum of more than 1,000 inputs or outputs"),

    # graphs
    "an unknown operator": (one("LRN", size=5), f"LRN 'n' is no operator that is known; {KNOWN}"),
    "control flow": (one("If"), f"If 'n' is control flow, no layer; {KNOWN}"),
    "another domain": (model([node("Relu", "x", "y", domain="com.microsoft", name="n")]),
                       f"com.microsoft.Relu 'n' is no operator that is known; {KNOWN}"),
    "an unknown attribute": (one("Relu", wide=1), "Relu 'n': its attribute 'wide' is none that is known there"),
    "an attribute of another type": (one("Elu", alpha=1), "Elu 'n': its attribute 'alpha' is none that is known there"),
    "a value from nowhere": (model([node("Relu", "z", "y", name="n")]),
                             "Relu 'n' takes 'z', which nothing before it gives"),
    "a circle": (model([node("Add", "x b", "y", name="n"), node("Relu", "y", "b")]),
                 "Add 'n' takes 'b', which nothing before it gives"),
    "a circle of sizes": (model([node("Shape", "t", "t", name="n"), node("Reshape", "x t", "y")]),
                          "Shape 'n' takes 't', which nothing before it gives"),
    "a value made twice": (model([RELU, RELU]), "Relu 'act' gives 'y', which there is already"),
    "an output from nowhere": (model([RELU], outputs=("z",)), "its output 'z' isn't computed of its input"),
    "an output that is constant": (model([node("Identity", "w", "y")], W),
                                   "its output 'y' isn't computed of its input"),
    "a second output": (model([node("Split", "x", "a b", name="n"), node("Relu", "b", "y")]),
                        "Split 'n': its output 'b' is used, and no layer has a second output"),
    "a second output of a constant": (
        model([node("Constant", [], "a b", name="n", value=tensor("", F(2))), node("Add", "x b", "y")]),
        "Constant 'n': its output 'b' is used, and no layer has a second output"),
    "the second output of a constant alone": (
        model([node("Identity", "c", "", name="n") + field(2, "") + field(2, "b"), node("Add", "x b", "y")],
              ("c", F([2]))),
        "Identity 'n': its output 'b' is used, and no layer has a second output"),
    "a second output of a shape": (model([node("Shape", "x", "a b", name="n"), node("Reshape", "x b", "y")]),
                                   "Shape 'n': its output 'b' is used, and no layer has a second output"),
    "a norm over channels whose axes are no list": (
        model([node("Transpose", "x", "a", perm=5, name="n"), node("LayerNormalization", "a g", "b"),
               node("Transpose", "b", "y", perm=(0, 3, 1, 2))], ("g", np.ones(3, F))),
        "Transpose 'n': its attribute 'perm' is none that is known there"),
    **{f"a norm over channels with epsilon {epsilon}": (
        model([node("Transpose", "x", "a", perm=(0, 2, 3, 1)),
               node("LayerNormalization", "a g", "b", name="n", epsilon=epsilon),
               node("Transpose", "b", "y", perm=(0, 3, 1, 2))], ("g", np.ones(3, F))),
        f"LayerNormalization 'n': {text}")
       for epsilon, text in ((-1.0, "layer_norm's eps is a number in (0, inf), got -1.0"),
                             (np.nan, "layer_norm's eps is a number in (0, inf), got nan"),
                             ("x", "its attribute 'epsilon' is none that is known there"))},
    "noise": (model([node("RandomNormal", [], "a", name="n"), node("Add", "x a", "y")]),
              "RandomNormal 'n' takes nothing that is computed of the input, and is no constant that is known"),
    "ways that don't meet": (
        model([node("Relu", "x", "a", name="first"), node("Tanh", "a", "b"), node("Sigmoid", "a", "c"),
               node("Relu", "x", "d"), node("Add", "b d", "e"), node("Add", "e c", "y")]),
        f"what Relu 'first' gives is taken on several ways that don't meet in one node; {MERGED}"),
    "splits without end": (deep(105), "Relu 'r4': more than 100 splits one within the other"),
    "two computed values": (model([node("Tanh", "x", "a"), node("MatMul", "x a", "y", name="n")]),
                            "MatMul 'n' takes several computed values; of those Add, Sum, Mul, Concat are known"),
    "a sum of unequal shapes": (
        model([node("GlobalAveragePool", "x", "a"), node("Add", "x a", "y", name="n")]),
        "Add 'n': Add expects children of the same shape, got input 1 (3, 8, 8), input 2 (3, 1, 1)"),
    "a concatenation of rows": (model([node("Relu", "x", "a"), node("Concat", "x a", "y", name="n", axis=2)]),
                                "Concat 'n' is along axis 2; a branch joins channels or features, axis 1"),
    "a sum with a constant": (model([node("Relu", "x", "a"), node("Sum", "x a c", "y", name="n")], ("c", F([1]))),
                              "Sum 'n' takes something else beside what is computed; only either is read"),

    # arrays
    "an array cut": (model([node("Conv", "x w", "y")], SHORT),
                     "the array 'w': 431 bytes for float32 (4, 3, 3, 3)"),
    "numbers that are too few": (model([node("Conv", "x w", "y")], tensor("w", W[1], "packed") + field(1, 2)),
                                 "the array 'w': 108 numbers for the shape (4, 3, 3, 3, 2)"),
    "a part of a number": (model([node("Conv", "x w", "y")], tensor("w", F([]), "packed") + field(4, b"123")),
                           "the array 'w' can't be computed of its constants: field 4 of its tensor is 3 bytes, no "
                           "whole "
                           "numbers"),
    "a negative length": (model([node("Conv", "x w", "y")], fields(1, [-1, 4]) + field(2, 1) + field(8, "w")),
                          "the array 'w': an array of the shape (-1, 4), which fcnn has none of"),
    "nine axes": (model([node("Conv", "x w", "y")], tensor("w", np.ones((1,) * 9, F))),
                  "the array 'w': an array of nine axes or more, which fcnn has none of"),
    "numbers of text": (model([node("Conv", "x w", "y")], field(1, 1) + field(2, 8) + field(8, "w")),
                        "the array 'w': numbers of text, which are not read"),
    "segments": (model([node("Conv", "x w", "y")], tensor(*W) + field(3, b"")),
                 "the array 'w': it is stored in segments, which are not read"),
    "outside": (beside(location="../w.bin"), f"the array 'w': it lies in ../w.bin; {BESIDE}"),
    "at the root": (beside(location="/etc/passwd"), f"the array 'w': it lies in /etc/passwd; {BESIDE}"),
    "on another drive": (beside(location="C:w.bin"), f"the array 'w': it lies in C:w.bin; {BESIDE}"),
    "outside by backslash": (beside(location="a\\..\\w.bin"), f"the array 'w': it lies in a\\..\\w.bin; {BESIDE}"),
    "nowhere": (beside(), f"the array 'w': it lies in no file; {BESIDE}"),
    "a null character": (beside(location="a\0b"), f"the array 'w': it lies in a\\x00b; {BESIDE}"),
    "a missing file": (beside(location="w.bin"), "the array 'w': it lies in w.bin: no such file; put that file beside "
                       "the model"),
    "the folder": (beside(location="."), "the array 'w': it lies in .: a folder, not a file; put that file beside the "
                   "model"),
    "another length": (beside(location="w.bin", length=5), "the array 'w': 5 bytes for float32 (4, 3, 3, 3)"),
    "no offset": (beside(location="w.bin", offset="-1"), "the array 'w': its place in a file is '-1', no number"),
    "constants without an array": (model([node("Constant", [], "c", name="n"), node("Add", "x c", "y")]),
                                   "Constant 'n': it has no array"),
    "a constant without end": (
        model([node("ConstantOfShape", "s", "c", name="n"), node("Add", "x c", "y")], ints("s", 1 << 40)),
        "ConstantOfShape 'n': an array of the shape (1099511627776,), which is none or too large"),
    "constants without end": (
        model([node("ConstantOfShape", "s", "c"), node("ConstantOfShape", "s", "d"), node("Conv", "x c d", "y")],
              ints("s", (1 << 27) + 1)),
        "ConstantOfShape 'd': more than 1,073,741,824 bytes of constants that the file doesn't hold"),
    "a cast of a constant without end": (
        model([node("ConstantOfShape", "s", "c", value=tensor("", np.ones(1, bool))),
               node("Cast", "c", "d", name="n", to=11), node("Gemm", "x d", "y")], ints("s", 1 << 15, 1 << 15)),
        f"Cast 'n': {DESCRIBED}"),
    "channels without end": (
        model([*(node("Concat", ["x" if i == 0 else f"c{i - 1}"] * 8, f"c{i}", axis=1) for i in range(10)),
               node("GroupNormalization", "c9 g g", "y", name="n", num_groups=1)], ("g", F([1])), opset=18),
        f"GroupNormalization 'n': {DESCRIBED}"),
    "much to add": (
        model([node("Mul", ["x" if i == 0 else f"m{i}", "c"], f"m{i + 1}", name="n") for i in range(140)],
              ("c", np.ones((1 << 20, 1, 1), np.float16)), inputs=(("x", ("N", 1 << 20, 1, 1)),), outputs=("m140",)),
        f"Mul 'n': {DESCRIBED}"),
    "many numbers as arguments": (
        model([node("Mul", "x c", "y", name="n")], ("c", np.ones(300_000, F)), inputs=(("x", ("N", 300_000)),)),
        "Mul 'n': more than 262,144 numbers as arguments of layers"),
    "numbers without end": (one("Mul", ("c", F([np.inf]))), "Mul 'n' adds or multiplies by numbers that aren't finite"),
    "numbers that grow without end": (
        model([node("Mul", "x c", "a", name="n"), node("Mul", "a c", "y")], ("c", F([1e30]))),
        "Mul 'n' adds or multiplies by numbers that aren't finite"),
    "a norm over channels with a scale of integers": (
        model([node("Transpose", "x", "a", perm=(0, 2, 3, 1)), node("LayerNormalization", "a g", "b", name="n"),
               node("Transpose", "b", "y", perm=(0, 3, 1, 2))], ints("g", 1, 1, 1)),
        "LayerNormalization 'n' takes numbers of int64; only floats are read"),
    "groups of other numbers": (
        one("GroupNormalization", ("g", F([1])), ("b", F([1, 2])), opset=18, num_groups=1),
        "GroupNormalization 'n' has scale (1,) and bias (2,) for 1 groups"),
    "much to compute": (
        model([node("ConstantOfShape", "s", "c"), node("Mul", "c c", "d", name="n"), node("Add", "x d", "y")],
              ints("s", 1 << 21)),
        "Mul 'n': more than 1,048,576 numbers to be computed; simplify the file with onnxslim or onnxsim"),
    "constants that don't fit": (
        model([node("Mul", "c d", "e", name="n"), node("Add", "x e", "y")], ("c", F([1, 2])), ("d", F([1, 2, 3]))),
        "Mul 'n' can't be computed of its constants: shape mismatch: objects cannot be broadcast to a single shape. "
        "Mismatch is between arg 0 with shape (2,) and arg 1 with shape (3,)."),
    "a constant without inputs": (model([node("Cast", [""], "c", name="n", to=1), node("Add", "x c", "y")]),
                                  "Cast 'n': its input 1 is missing"),
    "a cast to text": (model([node("Cast", "c", "d", name="n", to=8), node("Add", "x d", "y")], ("c", F([1]))),
                       "Cast 'n': a cast to something that isn't read"),
    "an axis that is none": (
        model([node("Concat", "c c", "d", name="n", axis=0.5), node("Add", "x d", "y")], ("c", F([1]))),
        "Concat 'n': its axis is no integer"),
    "sizes of the batch": (
        model([node("Shape", "x", "s"), node("Mul", "s s", "t"), node("Reshape", "x t", "y", name="n")]),
        "'t' is computed of the batch's length, and isn't that length"),
    "sizes of what comes later": (
        model([node("Relu", "x", "a"), node("Tanh", "a", "b"), node("Shape", "b", "s", name="s"),
               node("Reshape", "a s", "y")]),
        "Shape 's' is of a value that is computed later, or not at all"),
    "a shape of numbers": (
        model([node("Cast", "x", "i", to=7), node("Reshape", "x i", "y", name="n")]),
        "Reshape 'n' takes several computed values; of those Add, Sum, Mul, Concat are known"),

    "a long list for a shape": (
        model([node("ConstantOfShape", "s", "c", name="n"), node("Add", "x c", "y")], ints("s", *[1] * 65)),
        "ConstantOfShape 'n': a list of 65 numbers of int64 for a shape"),
    "a long attribute": (one("Conv", W, pads=[1] * 65_537),
                         "an attribute of more than 65,536 numbers, which are read as a tensor alone"),
    "no target for a shape": (one("Reshape"), "Reshape 'n': its input 2 is missing"),

    # operators that are read in certain places
    "axes elsewhere": (one("Transpose", perm=(0, 2, 3, 1)),
                       f"Transpose 'n' of the axes (0, 2, 3, 1) {AXES}"),
    "axes the other way round": (one("Transpose"), f"Transpose 'n' of the axes (3, 2, 1, 0) {AXES}"),
    "axes around a convolution": (
        model([node("Transpose", "x", "a", name="n", perm=(0, 2, 3, 1)), node("Conv", "a w", "b"),
               node("Transpose", "b", "y", perm=(0, 3, 1, 2))], ("w", np.ones((4, 8, 1, 1), F))),
        f"Transpose 'n' of the axes (0, 2, 3, 1) {AXES}"),
    "axes twice": (
        model([node("Transpose", "x", "a", name="n", perm=(0, 2, 3, 1)), node("Transpose", "a", "b", perm=(0, 2, 3, 1)),
               node("MatMul", "b w", "c"),
               node("Transpose", "c", "d", perm=(0, 3, 1, 2)), node("Transpose", "d", "y", perm=(0, 3, 1, 2))],
              ("w", np.ones((8, 8), F))),
        f"Transpose 'n' of the axes (0, 2, 3, 1) {AXES}"),
    "a norm over no layer's channels": (
        model([node("Transpose", "x", "a", perm=(0, 2, 3, 1)),
               node("LayerNormalization", "a g", "b", name="n", epsilon=-1.0),
               node("Transpose", "b", "y", perm=(0, 3, 1, 2))], ("g", np.ones(3, F))),
        "LayerNormalization 'n': layer_norm's eps is a number in (0, inf), got -1.0"),
    "a border by reflection": (one("Pad", ints("p", 0, 0, 1, 1, 0, 0, 1, 1), mode="reflect"),
                               f"Pad 'n' pads by mode reflect; {BORDERS}"),
    "a border before no window": (one("Pad", ints("p", 0, 0, 1, 1, 0, 0, 1, 1)),
                                  f"Pad 'n' pads 0 around (3, 8, 8), [0, 0, 1, 1, 0, 0, 1, 1]; {BORDERS}"),
    "a border of ones": (
        model([node("Pad", "x", "a", name="n", pads=(0, 0, 1, 1, 0, 0, 1, 1), value=1.0), node("Conv", "a w", "y")], W,
              opset=9),
        f"Pad 'n' pads 1 around (3, 8, 8), [0, 0, 1, 1, 0, 0, 1, 1]; {BORDERS}"),
    "a border that takes away": (border(0, 0, -1, 0, 0, 0, 0, 0),
                                 f"Pad 'n' pads 0 around (3, 8, 8), [0, 0, -1, 0, 0, 0, 0, 0]; {BORDERS}"),
    "a border of channels": (border(0, 1, 0, 0, 0, 0, 0, 0),
                             f"Pad 'n' pads 0 around (3, 8, 8), [0, 1, 0, 0, 0, 0, 0, 0]; {BORDERS}"),
    "zeros that could win": (border(0, 0, 1, 1, 0, 0, 1, 1, operator="MaxPool"),
                             f"Pad 'n' pads 0 around (3, 8, 8), [0, 0, 1, 1, 0, 0, 1, 1]; {BORDERS}"),
    "zeros that count beside some that don't": (
        border(0, 0, 1, 1, 0, 0, 1, 1, operator="AveragePool", pads=(1, 1, 1, 1)),
        f"Pad 'n' pads 0 around (3, 8, 8), [0, 0, 1, 1, 0, 0, 1, 1]; {BORDERS}"),
    "a border before windows that hang over": (
        border(0, 0, 1, 1, 0, 0, 1, 1, operator="AveragePool", ceil_mode=1),
        f"Pad 'n' pads 0 around (3, 8, 8), [0, 0, 1, 1, 0, 0, 1, 1]; {BORDERS}"),
    "part of what flows": (one("Slice", ints("s", 0), ints("e", 1), ints("a", 1)),
                           "Slice 'n' is read where it is of sizes and constants alone"),
    "another type": (one("Cast", to=1), "Cast 'n' is read where it is of sizes and constants alone"),
    "an error function": (one("Erf"), "Erf 'n' is read in GELU, x * (1 + erf(x / sqrt 2)) / 2, alone"),
    "a choice": (model([node("Tanh", "x", "a"), node("Greater", "x t", "b"), node("Where", "b x a", "y", name="n")],
                       ("t", F([1]))),
                 "Where 'n' is read in softplus, as PyTorch writes it for float64, alone"),

    # operators
    "computed weights": (one("Conv", inputs=["x", "x"]), "Conv 'n' takes several computed values; of those Add, Sum, "
                         "Mul, Concat are known"),
    "no weights": (one("Conv"), "Conv 'n' has no constant weights; only those that the file holds are read"),
    "weights of integers": (one("Conv", ints("w", 1)), "Conv 'n' has weights of int64; only floats are read"),
    "a convolution of volumes": (
        one("Conv", ("w", np.ones((4, 3, 3, 3, 3), F)), shape=("N", 3, 8, 8, 8)),
        "Conv 'n' takes (3, 8, 8, 8) for each input; its layers take images (C, H, W) or sequences (C, L)"),
    "another kernel": (one("Conv", W, kernel_shape=(5, 5)),
                       "Conv 'n' has weights (4, 3, 3, 3) for inputs (3, 8, 8), and kernels (5, 5)"),
    "weights of other channels": (one("Conv", ("w", np.ones((4, 2, 3, 3), F))),
                                  "Conv 'n': its values don't fit inputs (3, 8, 8): w: (4, 2, 3, 3), the network has "
                                  "(4, 3, 3, 3)"),
    "three strides": (
        one("Conv", W, strides=(1, 1, 1)),
        "Conv 'n' has strides (1, 1, 1) for inputs (3, 8, 8); they are as many as axes after the channels"),
    "two pads": (
        one("Conv", W, pads=(1, 1)),
        "Conv 'n' has pads (1, 1) for inputs (3, 8, 8); they are those before, then those after, of each axis"),
    "automatic pads": (one("Conv", W, auto_pad="SOME"), "Conv 'n' has auto_pad SOME, which is none"),
    "a convolution of features": (
        one("Conv", W, shape=("N", 5)),
        "Conv 'n' takes (5,) for each input; its layers take images (C, H, W) or sequences (C, L)"),
    "a transposed convolution of sequences": (
        one("ConvTranspose", ("w", np.ones((3, 4, 3), F)), shape=("N", 3, 8)),
        "ConvTranspose 'n' takes (3, 8) for each input; its layer takes images (C, H, W)"),
    "a transposed convolution's shape": (one("ConvTranspose", ("w", np.ones((3, 4, 3, 3), F)), output_shape=(9, 9)),
                                         "ConvTranspose 'n' says what its output's shape is; only pads and "
                                         "output_padding are read"),
    "a window too large": (one("MaxPool", kernel_shape=(9, 9)),
                           "MaxPool 'n': a window of 9x9 does not fit into 8x8 with padding (0, 0) x (0, 0); use a "
                           "smaller window or more padding"),
    "dilations of a pool": (one("MaxPool", kernel_shape=(2, 2), dilations=(2, 2)),
                            "MaxPool 'n' is a pool with dilations; only pools without are read"),
    "a mean of channels": (
        one("ReduceMean", axes=(1,)),
        "ReduceMean 'n' is a mean over other axes than those of an image's height and width, or a sequence's places"),
    "scales that aren't whole": (one("Resize", ("r", F([])), ("s", F([1, 1, 1.5, 2]))),
                                 "Resize 'n' scales 8x8 by other than whole numbers (1.5, 2.0)"),
    "scales of channels": (one("Resize", ("r", F([])), ("s", F([1, 2, 2, 2]))),
                           "Resize 'n' scales 8x8 by other than whole numbers ()"),
    "pixels between": (one("Resize", ("r", F([])), ("s", F([1, 1, 2, 2])), nearest_mode="ceil"),
                       "Resize 'n' takes other pixels than those before (half_pixel, ceil), as no layer does"),
    "cubic": (one("Resize", ("r", F([])), ("s", F([1, 1, 2, 2])), mode="cubic"),
              "Resize 'n' scales by cubic, half_pixel; nearest, and linear with half_pixel or align_corners, are read"),
    "scaling of some axes": (one("Resize", ("r", F([])), ("s", F([2])), axes=(2,)),
                             "Resize 'n' scales in a way that no layer does (antialias, axes or "
                             "keep_aspect_ratio_policy)"),
    "what flows in transposed": (one("Gemm", ("w", np.ones((4, 3), F)), shape=("N", 3), transA=1),
                                "Gemm 'n' transposes what flows in, as no layer does"),
    "a vector for a matrix": (one("Gemm", ("w", np.ones(3, F)), shape=("N", 3)),
                              "Gemm 'n' has weights (3,), no matrix"),
    "a product from the left": (one("Gemm", MATRIX, shape=("N", 3), inputs=["w", "x"]), f"Gemm 'n' {ELSEWHERE}"),
    "a product from the left of nothing else": (one("MatMul", MATRIX, shape=("N", 3), inputs=["w", "x"]),
                                                f"MatMul 'n' {ELSEWHERE}"),
    "a rate for what flows": (one("Dropout", ("r", F(0.5)), inputs=["r", "x"]), f"Dropout 'n' {ELSEWHERE}"),
    "inputs left out before": (one("Elu", inputs=["", "", "x"]), "Elu 'n' takes 3 inputs, where the operator has 1"),
    "an input more": (one("MatMul", MATRIX, ("b", np.ones(3, F)), shape=("N", 3)),
                      "MatMul 'n' takes 3 inputs, where the operator has 2"),
    "a sum of five by Add": (one("Add", inputs=["x"] * 5), "Add 'n' takes 5 inputs, where the operator has 2"),
    "a sum with nothing": (one("Sum", inputs=["x", "", "x"]),
                           "Sum 'n' takes something else beside what is computed; only either is read"),
    "five scales": (one("Resize", ("r", F([])), ("s", F([1, 1, 2, 2, 2]))),
                    "Resize 'n' scales 8x8 by other than whole numbers ()"),
    "five scales of an old set": (one("Upsample", ("s", F([1, 1, 2, 2, 2])), opset=9),
                                  "Upsample 'n' scales 8x8 by other than whole numbers ()"),
    "a size of other channels": (one("Resize", ("r", F([])), ("s", F([])), ints("z", 1, 6, 16, 16)),
                                 "Resize 'n' scales 8x8 by other than whole numbers ()"),
    "scales that are none": (one("Resize", ("r", F([])), ("s", F([1, 1, np.nan, 2]))),
                             "Resize 'n' scales 8x8 by other than whole numbers (nan, 2.0)"),
    "pixels without end": (one("Resize", ("r", F([])), ("s", F([1, 1, 1 << 18, 2]))),
                           "Resize 'n' scales to more than 1,048,576 pixels along an axis"),
    "pixels by another formula": (one("Resize", ("r", F([])), ("s", F([1, 1, 1, 1])),
                                      coordinate_transformation_mode="tf_crop_and_resize"),
                                  "Resize 'n' takes other pixels than those before (tf_crop_and_resize, "
                                  "round_prefer_floor), as no layer does"),
    "two lengths to be found": (one("Reshape", ints("s", -1, -1)),
                                "Reshape 'n' makes the shape [-1, -1] of what flows in, as no layer does"),
    "a bias of rows": (one("Gemm", ("w", np.ones((3, 4), F)), ("b", np.ones((4, 1), F)), shape=("N", 3)),
                       "Gemm 'n' has a bias (4, 1), not one number for each of 4 outputs"),
    "a product of images": (one("MatMul", ("w", np.ones((8, 4), F))),
                            "MatMul 'n' multiplies (3, 8, 8) by (8, 4); a dense layer takes features (D,), and a "
                            "matrix"),
    "batch norm in training": (one("BatchNormalization", training_mode=1),
                               "BatchNormalization 'n' is in training; export the network in evaluation mode"),
    "batch norm of pixels": (one("BatchNormalization", spatial=0, opset=8),
                             "BatchNormalization 'n' has a mean for each pixel (spatial=0), as no layer has"),
    "batch norm of other channels": (one("BatchNormalization", *((name, np.ones(2, F)) for name in "abcd")),
                                     "BatchNormalization 'n' has scale (2,) for 3 channels"),
    "layer norm of the last axis": (one("LayerNormalization", ("g", np.ones(8, F))),
                                    "LayerNormalization 'n' is over the axes from 3 on; read are those over all of an "
                                    "input, (3, 8, 8)"),
    "an axis beyond": (one("LayerNormalization", ("g", np.ones(8, F)), axis=4),
                       "LayerNormalization 'n' has the axis 4, where there are 4"),
    "groups of channels": (one("GroupNormalization", ("g", np.ones(3, F)), ("b", np.ones(3, F)),
                               num_groups=2, opset=21),
                           "GroupNormalization 'n' has 2 groups of 3 channels"),
    "a bound that is computed": (
        model([node("Shape", "x", "s"), node("Cast", "s", "f", to=1), node("Clip", "x f", "y", name="n")]),
        "Clip 'n' has a bound that is computed of its input; only constants are read"),
    "bounds of several numbers": (one("Clip", ("low", F([1, 2]))),
                                  "Clip 'n' takes one number as its input 2, got an array (2,)"),
    "slopes of pixels": (one("PRelu", ("s", np.ones((8, 8), F))),
                         "PRelu 'n' has slopes (8, 8), not one for all or one for each of 3 channels"),
    "softmax of rows": (one("Softmax"), "Softmax 'n' is over the axes [3]; a layer's is over the classes or channels, "
                        "axis 1"),
    "softmax of all": (one("Softmax", opset=11),
                       "Softmax 'n' is over the axes [1, 2, 3]; a layer's is over the classes "
                       "or channels, axis 1"),
    "dropout in training": (one("Dropout", ("r", F(0.5)), ("t", np.array(True))),
                            "Dropout 'n' is in training; export the network in evaluation mode"),
    "rows flattened": (one("Flatten", axis=2),
                       "Flatten 'n' flattens from axis 2 on; a layer keeps the batch's axis, and flattens from 1 on"),
    "no shape to reshape to": (one("Reshape", ints("s")),
                               "Reshape 'n' makes the shape [] of what flows in, as no layer "
                               "does"),
    "the batch reshaped": (one("Reshape", ints("s", 3, -1)),
                           "Reshape 'n' makes (3, -1) of (N, 3, 8, 8); a layer keeps the batch's axis"),
    "the batch squeezed": (one("Squeeze", ints("a", 0)),
                           "Squeeze 'n' drops the batch's axis, axes that it doesn't say, or some longer than 1"),
    "an axis before the batch": (one("Unsqueeze", ints("a", 0)),
                                 "Unsqueeze 'n' adds an axis before the batch's, or none"),
    "nothing but the batch": (one("Squeeze", ints("a", 1), shape=("N", 1)),
                              "Squeeze 'n' leaves the batch's axis alone"),
    "a number for each pixel": (one("Add", ("c", np.ones((8, 8), F))),
                                "Add 'n' is of (3, 8, 8) and a constant (8, 8); read are x + c, x - c, x * c and x / c "
                                "of one number, or of one for each channel"),
    "a constant less something": (one("Sub", ("c", F([1])), inputs=["c", "x"]),
                                  "Sub 'n' is of (3, 8, 8) and a constant (1,); read are x + c, x - c, x * c and x / c "
                                  "of one number, or of one for each channel"),
    "features times negative numbers": (one("Mul", ("c", F([-1])), shape=("N", 3)),
                                        "Mul 'n' multiplies features by numbers below 0 or one by one, as no layer "
                                        "does"),
    "a division by 0": (one("Div", ("c", F([0]))), "Div 'n' divides by 0"),
    "a layer's own refusal": (one("Dropout", ratio=1.5, opset=9),
                              "Dropout 'n': dropout's rate, the probability of dropping, is a number in [0, 1), got "
                              "1.5"),
}
# fmt: on


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, tmp_path):
    data, text = REFUSED[name]
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(ExchangeError) as caught:
        fcnn.load_onnx(path)
    assert str(caught.value) == f"{path}: {text}"


def test_places_in_other_files(tmp_path):
    folder, outside = tmp_path / "models", tmp_path / "outside"
    folder.mkdir()
    outside.write_bytes(bytes(4_000))
    (folder / "w.bin").write_bytes(bytes(500))
    (folder / "link").symlink_to(outside)
    path = folder / "m.onnx"
    conv = [node("Conv", "x a", "b"), node("Conv", "b c", "y")]
    overlapping = [
        tensor(name, np.ones(shape, np.float32), "beside", location="w.bin", offset=offset)
        for name, shape, offset in (("a", (4, 3, 3, 3), 0), ("c", (2, 4, 3, 3), 200))
    ]
    for data, text in (
        (
            beside(location="link"),
            "the array 'w': it lies in link, a link out of the model's own folder, which isn't followed",
        ),
        (beside(location="w.bin", offset=100), "the array 'w': bytes 100 to 532 of w.bin, which has 500"),
        (model(conv, *overlapping), "the array 'c': its place in w.bin overlaps others"),
    ):
        path.write_bytes(data)
        with pytest.raises(ExchangeError) as caught:
            fcnn.load_onnx(path)
        assert str(caught.value) == f"{path}: {text}"


@pytest.mark.parametrize(
    ("in_shape", "error", "text"),
    [
        (8, TypeError, "in_shape is a tuple of lengths, such as (1, 28, 28), each at least 1, got 8"),
        (
            (3, 9, 8),
            ExchangeError,
            "its input's shape is (?, 3, 8, ?), with the batch axis; in_shape=(3, 9, 8) isn't that",
        ),
        ((3, 8), ExchangeError, "its input's shape is (?, 3, 8, ?), with the batch axis; in_shape=(3, 8) isn't that"),
    ],
)
def test_in_shape(in_shape, error, text, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(model([RELU], inputs=(("x", ("N", 3, 8, "W")),)))
    with pytest.raises(error) as caught:
        fcnn.load_onnx(path, in_shape=in_shape)
    assert str(caught.value).removeprefix(f"{path}: ") == text
    assert fcnn.load_onnx(path, in_shape=(3, 8, 5)).in_shape == (3, 8, 5)


def test_a_path_that_is_none_and_a_file_that_is_none(tmp_path):
    with pytest.raises(TypeError, match=r"^path is the name of a file, text or a pathlib.Path, got 3$"):
        fcnn.load_onnx(3)
    with pytest.raises(FileNotFoundError):
        fcnn.load_onnx(tmp_path / "none.onnx")
