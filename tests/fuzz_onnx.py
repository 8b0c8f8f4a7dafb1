"""ONNX files for `fuzz.py`: as they are, blindly damaged, and with changes at any depth."""

import contextlib
import random
from pathlib import Path

import damage
import numpy as np
import onnx_files
from fuzz_case import Case

import fcnn
from fcnn.network.description import inits
from fcnn.training.checkpoint import differences

MOST_DESCRIBED = 1 << 30  # bytes of constants that a file only describes


class Onnx:
    """`load_onnx`, with weights in the file and beside it."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        shapes = {"w": (4, 3, 3, 3), "b": (4,), "g": (4,), "v": (4,), "d": (2, 4)}
        arrays = {name: rng.uniform(0.5, 1, shape).astype(np.float32) for name, shape in shapes.items()}
        (folder / "w.bin").write_bytes(arrays["w"].tobytes())
        place = {"location": "w.bin", "offset": 0, "length": 432}
        held = [
            onnx_files.tensor("w", arrays["w"], "beside", **place),
            onnx_files.tensor("b", arrays["b"], "packed"),
            onnx_files.tensor("d", arrays["d"].astype(np.float16), "packed"),
            *((name, arrays[name]) for name in "gv"),
            ("s", np.array([0, -1])),
            ("n", np.array([4])),
        ]
        node = onnx_files.node
        conv = node("Conv", "x w b", "c", pads=(1, 1, 1, 1), kernel_shape=(3, 3))
        norm = node("BatchNormalization", "c g b b v", "n1", epsilon=1e-3)
        means = node("GlobalAveragePool", "a", "p")
        chain = [conv, norm, node("Clip", "n1", "a"), means, node("Reshape", "p s", "f")]
        chain += [node("Gemm", "f d", "h", transB=1), node("Softmax", "h", "y", axis=-1)]
        shape = [node("Shape", "p", "z"), node("Gather", "z i", "m", axis=0), node("Concat", "m j", "t", axis=0)]
        split = [conv, node("Relu", "c", "r"), node("Add", "r c", "e"), node("Sigmoid", "e", "q")]
        split += [node("Mul", "q e", "a"), means, *shape, node("Reshape", "p t", "y")]
        held += [("i", np.array([0])), ("j", np.array([-1]))]
        held += [("axes", np.array([1, 2]))]
        filled = node("ConstantOfShape", "n", "u", value=onnx_files.tensor("", np.float32([0.5])))
        whole = node("Constant", [], "k", value=onnx_files.tensor("", arrays["w"]))
        parts = [filled, whole, node("Identity", "k", "l"), node("Conv", "x l", "c"), node("Unsqueeze", "u axes", "e")]
        parts += [node("Add", "c e", "a"), node("Tanh", "a", "o"), node("Concat", "o a", "y", axis=1)]
        last = [node("Pad", "x q4", "r"), node("Conv", "r w", "c"), node("Transpose", "c", "t1", perm=(0, 2, 3, 1))]
        last += [node("LayerNormalization", "t1 g b", "l1", axis=-1), node("MatMul", "l1 d4", "m1")]
        last += [node("Add", "m1 b", "a1"), node("Gelu", "a1", "h1"), node("Mul", "h1 g", "s1")]
        last += [node("Transpose", "s1", "y", perm=(0, 3, 1, 2))]
        held += [("q4", np.array([0, 0, 1, 0, 0, 0, 1, 2])), ("d4", rng.uniform(0.5, 1, (4, 4)).astype(np.float32))]
        self.files = [onnx_files.model(nodes, *held) for nodes in (chain, split, parts, last)]
        self.x = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
        self.outputs = []
        for data in self.files:
            (folder / "corpus").write_bytes(data)
            self.outputs.append(self.output(fcnn.load_onnx(folder / "corpus")))

    def output(self, model: fcnn.Model) -> bytes:
        return bytes(model.network.apply(model.params, model.state, self.x, train=False).y.tobytes())

    def case(self, rng: random.Random) -> Case:
        which = rng.randrange(len(self.files))
        data, other = self.files[which], rng.choice(self.files)
        if rng.random() < 0.3:
            data = damage.blind(rng, data, other)
        elif rng.random() < 0.95:
            for _ in range(rng.choice((1, 1, 2))):
                with contextlib.suppress(ValueError):  # it was no message any more
                    data = damage.protobuf_mutated(rng, data, other)

        def check(model: fcnn.Model) -> bool:
            if data == self.files[which]:
                return self.output(model) == self.outputs[which]
            made = inits(model.network, model.in_shape)[""]
            return not differences(model.params, made.params) and not differences(model.state, made.state)

        # Copies of what the file has; what it only describes may have its own limit.
        allowed = 2 * len(data) + (MOST_DESCRIBED if b"ConstantOfShape" in data else 0)
        return Case(data, fcnn.load_onnx, check, (fcnn.ExchangeError,), allowed)


KINDS = {"onnx": Onnx}
