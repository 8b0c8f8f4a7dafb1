"""onnxruntime on the CPU: inference of the network as an ONNX file, which it optimises when it is opened."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import onnxruntime

from bench import onnx_kit
from bench.cases import Predict
from bench.networks import NETWORKS
from bench.programs import Inputs, Makers, Prepared, params_of, prepare_inference


@contextmanager
def opened(threads: int, form: str = "") -> Iterator[Makers]:
    """Inference on so many threads."""
    yield {Predict: functools.partial(predict, threads=threads)}


def predict(case: Predict, inputs: Inputs, threads: int) -> Prepared:
    """Logits; bytes become numbers from 0 to 1 in the graph."""
    network, options = NETWORKS[case.network], onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    file = onnx_kit.model(network.make(onnx_kit), params_of(inputs), network.in_shape)
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return prepare_inference(case, inputs, lambda x: session.run(None, {"x": x})[0])
