"""Misuse of `save_onnx`: each call is wrong in its own way, and says so in a sentence."""

import numpy as np
import pytest
from misuse import Misuse, check

import fcnn
from fcnn import Functions, Init, Layer, LayerError, Out, layer_constructor
from fcnn.exchange.errors import ExchangeError
from fcnn.values.arrays import frozen
from fcnn.values.tree import EMPTY

IN = (2, 6, 5)
NET = fcnn.serial(conv1=fcnn.conv2d(2, 3), pool1=fcnn.max_pool2d(2), flatten=fcnn.flatten(), fc1=fcnn.dense(3))
PARAMS = NET.init(fcnn.key(0), IN).params
NORM = fcnn.batch_norm().init(fcnn.key(0), IN)


@layer_constructor
def relu() -> Functions:
    """A layer of the user's own, which is not the library's of that name."""

    def apply(params, state, x, *, train, key=None):
        return Out(x, EMPTY, None)

    return Functions(lambda key, in_shape: Init(EMPTY, EMPTY, in_shape), apply, lambda *a, **k: None)


def pair(one: Layer) -> Layer:
    """A combinator of the user's own."""
    inner = fcnn.serial(one=one)
    return Layer("pair", {}, {"one": one}, pair, inner.init, inner.apply, inner.backward)


def save(network=NET, params=PARAMS, state=EMPTY, in_shape=IN, **more):
    return lambda: fcnn.save_onnx("net.onnx", fcnn.Model(network, params, state, in_shape=in_shape, **more))


def named(**layers):
    return fcnn.serial(stem=fcnn.serial(**layers))


UP = named(up=fcnn.conv_transpose2d(2, 3, dilation=(3, 1), output_padding=(1, 0)))

# fmt: off
MISUSES = [
    Misuse("no path", lambda: fcnn.save_onnx(3, fcnn.Model(NET, PARAMS, in_shape=IN)), TypeError,
           "path is the name of a file, text or a pathlib.Path, got 3"),
    Misuse("no model", lambda: fcnn.save_onnx("net.onnx", NET), TypeError,
           "model is a Model, such as fitted.model, got serial(conv1=conv2d(2, 3), pool1=max_pool2d(2), "
           "flatten=flatten(), fc1=dense(3)); fcnn.Model(network, params, state, in_shape=…) makes one"),
    Misuse("a layer of one's own", save(named(act=relu()), EMPTY), ExchangeError,
           "stem/act: relu() has no form in ONNX, as it is none of fcnn's own layers; put such in its place with "
           "fcnn.rewrite"),
    Misuse("a layer of one's own alone", save(relu(), EMPTY), ExchangeError,
           "the network: relu() has no form in ONNX, as it is none of fcnn's own layers; put such in its place with "
           "fcnn.rewrite"),
    Misuse("a combinator of one's own", save(named(two=pair(fcnn.tanh())), EMPTY), ExchangeError,
           "stem/two: pair(one=tanh()) has no form in ONNX, as it is none of fcnn's own layers; put such in its place "
           "with fcnn.rewrite"),
    Misuse("windows that differ", save(named(pool=fcnn.adaptive_avg_pool2d((2, 3))), EMPTY), ExchangeError,
           "stem/pool: ONNX has no pool of 6x5 pixels to 2x3, whose windows differ; choose an in_shape, or a size, so "
           "that one divides the other"),
    Misuse("more rows than a step", save(UP, UP.init(fcnn.key(0), IN).params), ExchangeError,
           "stem/up: onnxruntime runs no transposed convolution whose output_padding (1, 0) isn't less than the stride "
           "(1, 1); choose a smaller one"),
    Misuse("a mean that hangs over along one axis",
           save(named(pool=fcnn.avg_pool2d(3, stride=(3, 2), padding=1, ceil_mode=True)), EMPTY, in_shape=(1, 5, 4)),
           ExchangeError, "stem/pool: ONNX has no mean with padding whose windows hang over in height or width alone; "
           "choose count_include_pad=False, or another padding"),
    Misuse("no values", save(params=EMPTY), ExchangeError,
           "the model's values are not its network's:\n  params/conv1/w: missing, the network has (2, 2, 3, 3)\n  "
           "params/conv1/b: missing, the network has (2,)\n  params/fc1/w: missing, the network has (3, 4)\n  "
           "params/fc1/b: missing, the network has (3,)"),
    Misuse("no state", save(fcnn.batch_norm(), NORM.params), ExchangeError,
           "the model's values are not its network's:\n  state/mean: missing, the network has (2,)\n  "
           "state/var: missing, the network has (2,)"),
    Misuse("two dtypes", save(params=fcnn.tree.set_at(PARAMS, "fc1/b", np.zeros(3))), ExchangeError,
           "the values of a file of ONNX are all float32 or all float64, got float32 (params/conv1/w) and float64 "
           "(params/fc1/b); fcnn.tree.astype makes them so"),
    Misuse("half a float", save(params=fcnn.tree.map(lambda leaf: leaf.astype(np.float16), PARAMS)), ExchangeError,
           "the values of a file of ONNX are all float32 or all float64, got float16 (params/conv1/w); "
           "fcnn.tree.astype makes them so"),
    Misuse("inputs that don't fit", save(in_shape=(2, 2, 2)), LayerError,
           "conv1: a window of 3x3 does not fit into 2x2 with padding (0, 0) x (0, 0); use a smaller window or more "
           "padding"),
    Misuse("no shape", lambda: fcnn.save_onnx("net.onnx", fcnn.Model(NET, PARAMS, in_shape=IN), (2, 6.5, 5)),
           TypeError, "in_shape is a tuple of lengths, such as (1, 28, 28), each at least 1, got (2, 6.5, 5)"),
    Misuse("meta that JSON can't hold", save(meta={"a": np.zeros(2)}), ExchangeError,
           "meta is a mapping of what JSON can hold, got {'a': array([0., 0.])}"),
    Misuse("values beyond what a file holds", save(fcnn.dense(1 << 15, bias=False), fcnn.freeze({"w": np.broadcast_to(
        frozen(np.zeros((), np.float32)), (1 << 15, 1 << 14))}), in_shape=(1 << 14,)), ExchangeError,
           "a file of ONNX is less than 2 GiB, these values take 2,147,483,648 bytes"),
]
# fmt: on


@pytest.mark.parametrize("misuse", MISUSES, ids=lambda misuse: misuse.name)
def test_it_says_what_is_wrong(misuse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(misuse)
    assert not list(tmp_path.iterdir())
