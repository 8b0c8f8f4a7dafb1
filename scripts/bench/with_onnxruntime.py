"""onnxruntime on the CPU: inference of the network as an ONNX file, which it optimises when it is opened."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnxruntime

from bench import onnx_kit
from bench.cases import Photo, Predict
from bench.networks import NETWORKS
from bench.programs import Inputs, Makers, Prepared, params_of, prepare_inference, prepare_photo


@contextmanager
def opened(threads: int, form: str = "") -> Iterator[Makers]:
    """Inference on so many threads."""
    made = {Predict: predict, Photo: photo}
    yield {kind: functools.partial(function, threads=threads) for kind, function in made.items()}


def predict(case: Predict, inputs: Inputs, threads: int) -> Prepared:
    """Logits; bytes become numbers from 0 to 1 in the graph."""
    network = NETWORKS[case.network]
    file = onnx_kit.model(network.make(onnx_kit), params_of(inputs), network.in_shape)
    session = _session(file, threads)
    return prepare_inference(case, inputs, lambda x: session.run(None, {"x": x})[0])


def photo(case: Photo, inputs: Inputs, threads: int) -> Prepared:
    """Logits, by the file that fcnn writes."""
    session, x = _session(inputs["onnx"].tobytes(), threads), inputs["x"]
    return prepare_photo(lambda: session.run(None, {"x": x})[0])


def _session(file: bytes, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
