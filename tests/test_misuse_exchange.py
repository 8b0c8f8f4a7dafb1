"""Misuse of files of other programs: each call is wrong in its own way, and says so in a sentence."""

import numpy as np
import pytest
from misuse import Misuse, check

import fcnn
from fcnn.exchange import keras, matching, torchvision

TREE = fcnn.freeze({"fc": {"w": np.ones((2, 3)), "b": np.ones(2)}})
NAMES = {"fc/w": "a", "fc/b": "b"}
A_PATH = "path is the name of a file, text or a pathlib.Path, got "
A_LIKE = "like is a Model, an Init or a tree of parameters, got "
A_VALUE = "value is a Model, an Init or a tree of parameters, got "
A_DICT = "value is a Model, an Init, a tree of parameters, or a dict of arrays by name, got "
A_TABLE = "names is a mapping of paths to a file's names, such as {'conv1/w': 'features.0.weight'}, got "
NO_LIKE = "names are of the paths of like=…, which is missing"
MODEL = fcnn.Model(fcnn.dense(2), fcnn.dense(2).init(fcnn.key(0), (3,)).params, in_shape=(3,))
FITTED = type("Fitted", (), {"model": MODEL, "__repr__": lambda self: "Fitted(…)"})()
TWICE = fcnn.freeze({"mine": {"w": np.ones(1), "gamma": np.ones(1)}})
CLASH = fcnn.Init(fcnn.freeze({"w": np.ones(1)}), fcnn.freeze({"w": np.ones(1)}), (1,))
KINDS = '"resnet18", "vgg11", "mobilenet_v2" or "squeezenet1_1"'


def row(name, call, error, text):
    return Misuse(name, call, error, text)


MISUSES = [
    *(
        row(f"{load.__name__} {name}", call, error, text)
        for load in (fcnn.load_torch, fcnn.load_safetensors)
        for name, call, error, text in (
            ("path", lambda load=load: load(3), TypeError, f"{A_PATH}3"),
            (
                "dict",
                lambda load=load: load("a", {"w": 1}),
                TypeError,
                f"{A_LIKE}{{'w': 1}}; fcnn.freeze makes a tree of a dict of arrays",
            ),
            ("fitted", lambda load=load: load("a", FITTED), TypeError, f"{A_LIKE}Fitted(…); take its .model"),
            ("names", lambda load=load: load("a", names=NAMES), ValueError, NO_LIKE),
        )
    ),
    row(
        "load_torch part",
        lambda: fcnn.load_torch("a", part=3),
        TypeError,
        'part is text, such as "state_dict", got 3',
    ),
    *(
        row(f"{save.__name__} {name}", call, error, text)
        for save in (fcnn.save_torch, fcnn.save_safetensors)
        for name, call, error, text in (
            ("path", lambda save=save: save(3, TREE), TypeError, f"{A_PATH}3"),
            ("list", lambda save=save: save("a", [1]), TypeError, f"{A_VALUE}[1]"),
            ("fitted", lambda save=save: save("a", FITTED), TypeError, f"{A_VALUE}Fitted(…); take its .model"),
            ("dict", lambda save=save: save("a", {"w": [1]}), TypeError, f"{A_DICT}'w': [1] in it"),
            (
                "dict with names",
                lambda save=save: save("a", {"w": np.ones(1)}, names=NAMES),
                ValueError,
                "names are of the paths of a network; a dict has its own",
            ),
            ("names", lambda save=save: save("a", TREE, names=["a"]), TypeError, f"{A_TABLE}['a']"),
            (
                "number",
                lambda save=save: save("a", TREE, names={"fc/w": 1}),
                TypeError,
                f"{A_TABLE}'fc/w': 1 in it",
            ),
            ("lacks", lambda save=save: save("a", TREE, names={"fc/w": "a"}), ValueError, "names lacks fc/b"),
            (
                "more",
                lambda save=save: save("a", TREE, names={**NAMES, "conv/w": "c"}),
                ValueError,
                "names has, and the network lacks, conv/w",
            ),
            (
                "twice",
                lambda save=save: save("a", TREE, names={"fc/w": "a", "fc/b": "a"}),
                ValueError,
                "names has 'a' for several paths",
            ),
            (
                "two words",
                lambda save=save: save("a", TWICE),
                ValueError,
                "two values of a layer would be called mine.weight; give names=… for all",
            ),
            (
                "params and state",
                lambda save=save: save("a", CLASH),
                ValueError,
                "w is both a parameter and state, which have one name elsewhere",
            ),
        )
    ),
    row(
        "save_torch dtype",
        lambda: fcnn.save_torch("a", {"w": np.ones(1, np.uint16)}),
        TypeError,
        "w: uint16, for which PyTorch has no storage; .astype(np.float32) makes one",
    ),
    row(
        "save_safetensors dtype",
        lambda: fcnn.save_safetensors("a", {"w": np.ones(1, complex)}),
        TypeError,
        "a safetensors file holds arrays of numbers by name, got w: complex128, which it doesn't have",
    ),
    row(
        "save_safetensors name",
        lambda: fcnn.save_safetensors("a", {"__metadata__": np.ones(1)}),
        TypeError,
        "a safetensors file holds arrays of numbers by name, got __metadata__: which is the name of its metadata",
    ),
    row(
        "save_safetensors metadata",
        lambda: fcnn.save_safetensors("a", TREE, metadata={"a": 1}),
        TypeError,
        "metadata is a mapping of texts to texts, got {'a': 1}",
    ),
    row("torch_names", lambda: fcnn.torch_names([1]), TypeError, f"{A_VALUE}[1]"),
    row("match", lambda: matching.match([1], TREE), TypeError, "arrays is a mapping of names to arrays, got [1]"),
    row(
        "torchvision_names",
        lambda: torchvision.torchvision_names("resnet50", TREE),
        ValueError,
        f"kind is {KINDS}, got 'resnet50'",
    ),
    row(
        "torchvision_names of others",
        lambda: torchvision.torchvision_names("vgg11", TREE),
        ValueError,
        "vgg11 has 11 layers with weights, the network 1",
    ),
    row(
        "load_keras",
        lambda: keras.load_keras("a", TREE),
        TypeError,
        "like is a Model, such as fitted.model, got {fc: {w: float64[2, 3], b: float64[2]}}",
    ),
]


@pytest.mark.parametrize("misuse", MISUSES, ids=lambda misuse: misuse.name)
def test_says_what_is_wrong(misuse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(misuse)
    assert not list(tmp_path.iterdir())
