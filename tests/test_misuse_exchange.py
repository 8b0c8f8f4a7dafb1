"""Misuse of files of other programs: each call is wrong in its own way, and says so in a sentence."""

import io
import pickle
import zipfile

import numpy as np
import onnx_files
import pytest
import torch_files
from misuse import Misuse, check

import fcnn
from fcnn.exchange import keras, matching, torchvision
from fcnn.exchange.errors import ExchangeError

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
A = np.ones(1)
A_NAME = "a value's name in a file has at most 10,000 characters, and no half of one (a surrogate), got "
LONG = "'wwwwwwwwwwww...wwwwwwwwwwwww'"
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
                "masked",
                lambda save=save: save("a", {"w": np.ma.masked_array(np.ones(2, np.float32), [True, False])}),
                TypeError,
                f"{A_DICT}'w': MaskedArray of float32 (2,) in it; value.filled(0) makes an array of it, with 0 where "
                "it is masked",
            ),
            ("half", lambda save=save: save("a", {"w\ud800": np.ones(1)}), ValueError, rf"{A_NAME}'w\ud800'"),
            (
                "long",
                lambda save=save: save("a", {"w" * 10_001: A}),
                ValueError,
                f"{A_NAME}{LONG}",
            ),
            (
                "half in names",
                lambda save=save: save("a", TREE, names={"fc/w": "\udfff", "fc/b": "b"}),
                ValueError,
                rf"{A_NAME}'\udfff'",
            ),
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
        "save_safetensors half",
        lambda: fcnn.save_safetensors("a", TREE, metadata={"a": "\ud800"}),
        ValueError,
        r"metadata has no halves of characters (surrogates), got 'a': '\ud800'",
    ),
    row(
        "save_safetensors long",
        lambda: fcnn.save_safetensors("a", {}, metadata={"a": "\U0001f600" * (1 << 20)}),
        ValueError,
        "names and metadata are 4,194,336 bytes, more than 4,194,304, which are read again",
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


# What is in files of PyTorch, and can't be read.

ALONE = "torch.save(model.state_dict(), path)"
PLAIN = (
    "float16, bfloat16, float32, float64, complex64, complex128, int8 to int64, uint8 to uint64 and bool are read: "
    "where PyTorch is, save value.float()"
)
DENSE = (
    "which isn't known; dense ones of plain numbers are read: where PyTorch is, save those, such as value.to_dense() "
    "or value.dequantize()"
)
WHOLE = "to be run, as networks do that were pickled whole; where PyTorch is, save its values alone"
BESIDE = "beside its values, and nothing that a file names is run here; where PyTorch is, save the values alone"
NAMED = {
    "torch float8_e4m3fn": f"it has numbers of torch.float8_e4m3fn, which aren't read; {PLAIN}",
    "torch bits1x8": f"it has numbers of torch.bits1x8, which aren't read; {PLAIN}",
    "torch._utils _rebuild_qtensor": f"it has tensors that need torch._utils._rebuild_qtensor, {DENSE}",
    "torch QInt8Storage": f"it has tensors that need torch.QInt8Storage, {DENSE}",
    "torch.nn.modules.linear Linear": f"it needs torch.nn.modules.linear.Linear {WHOLE}: {ALONE}",
    "uuid UUID": f"it holds something of uuid.UUID {BESIDE}: {ALONE}",
    "mine Config": f"it holds something of mine.Config {BESIDE}: {ALONE}",
}


@pytest.mark.parametrize("form", [torch_files.zipped, torch_files.legacy])
@pytest.mark.parametrize("name", NAMED)
def test_what_a_file_of_pytorch_names_is_told(name, form, tmp_path):
    path, named = tmp_path / "a.pt", f"c{name.replace(' ', chr(10))}\n".encode()
    for data, text in (
        (torch_files.pickled({"w": named}), NAMED[name]),
        (b"\x80\2cmine\nNet\n.", f"it needs mine.Net {WHOLE}: {ALONE}"),
    ):
        path.write_bytes(form(data))
        with pytest.raises(ExchangeError) as caught:
            fcnn.load_torch(path)
        assert str(caught.value) == f"{path}: {text}"


# Names of a file that was given by hand.


def test_a_name_that_the_file_lacks_is_told_with_the_one_that_is_most_like_it(tmp_path):
    path = tmp_path / "a.safetensors"
    fcnn.save_safetensors(path, {"features.0.weight": np.ones((2, 3)), "head.bias": np.ones(2), "x" * 999: np.ones(1)})
    beginning = (
        f"{path}: 2 difference(s) from the network; is it another's, or are its names to be given with names=…?\n"
        "  missing: fc/w (features.0.w; did you mean features.0.weight?)\n  missing: fc/b "
    )
    for name, said in (
        ("haed.bias", "(haed.bias; did you mean head.bias?)"),
        ("running_mean", "(running_mean)"),
        ("x" * 998, f"({'x' * 80}…{'x' * 19})"),
    ):
        with pytest.raises(ExchangeError) as caught:
            fcnn.load_safetensors(path, TREE, names={"fc/w": "features.0.w", "fc/b": name})
        assert str(caught.value) == beginning + said


def test_a_name_that_another_value_has_is_none_that_was_meant(tmp_path):
    path = tmp_path / "a.safetensors"
    fcnn.save_safetensors(path, {"fc.weight": np.ones((2, 3))})
    with pytest.raises(ExchangeError, match=r"missing: fc/b \(fc\.weights\)$"):
        fcnn.load_safetensors(path, TREE, names={"fc/w": "fc.weight", "fc/b": "fc.weights"})


# Files of another kind than the one that is to be read.


def _zip(*names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"{}")
    return stream.getvalue()


def _npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


KERAS = "beside Keras, np.savez('w.npz', *model.get_weights()) makes a file for fcnn.load_keras"
TORCH_ZIP = torch_files.zipped(torch_files.pickled({}))
KINDS_OF_FILES = {
    "fcnn": (_npz(meta=np.array("{}")), "a checkpoint of fcnn: use fcnn.load_model, or fcnn.load"),
    "NumPy": (_npz(a=np.ones(2)), "arrays of NumPy: use np.load, or fcnn.load_keras for Keras's weights"),
    "PyTorch": (TORCH_ZIP, "a file of PyTorch: use fcnn.load_torch"),
    "PyTorch before 1.6": (torch_files.legacy(torch_files.pickled({})), "a file of PyTorch: use fcnn.load_torch"),
    "TorchScript": (_zip("m/code/a.py", "m/data.pkl"), "a file of PyTorch: use fcnn.load_torch"),
    "safetensors": (b"\2\0\0\0\0\0\0\0{}", "a file of safetensors: use fcnn.load_safetensors"),
    "ONNX": (onnx_files.model([]), "a model of ONNX: use fcnn.load_onnx"),
    "ONNX of PyTorch": (b"\x08\t\x12\x07pytorch", "a model of ONNX: use fcnn.load_onnx"),
    "Keras": (_zip("metadata.json", "config.json", "model.weights.h5"), f"a file of Keras: {KERAS}"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), f"HDF5, as Keras writes it: {KERAS}"),
    "zip": (_zip("a.txt"), "a zip of something else"),
    "npy": (b"\x93NUMPY\1\0", "one array of NumPy (.npy): use np.load"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(99), "a picture (PNG)"),
    "JPEG": (b"\xff\xd8\xff\xe0" + bytes(99), "a picture (JPEG)"),
    "GIF": (b"GIF89a" + bytes(99), "a picture (GIF)"),
    "TIFF": (b"MM\0*" + bytes(99), "a picture (TIFF)"),
    "WebP": (b"RIFF\4\0\0\0WEBP" + bytes(99), "a picture (WebP)"),
    "gzip": (b"\x1f\x8b" + bytes(99), "a file of gzip: unpack it first"),
    "pickle": (pickle.dumps([1]), "a pickle, of which nothing is run here: save its arrays with np.savez"),
    "git lfs": (
        b"version https://git-lfs.github.com/spec/v1\n",
        "a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`",
    ),
    "page": (b"\n<!DOCTYPE html><p>", "a web page, not what was to be downloaded from there: download it again"),
    "source": (b"import torch\n\nnetwork = 1  # \xc3\xa9\n", "text"),
    "text cut within a character": (("é" * 999).encode()[1:], None),
    "long text": (b"a" + ("é" * 999).encode(), "text"),
}
NO_CHECKPOINT = "no checkpoint of fcnn: it holds no `meta`"
LOADERS = {
    "load_torch": (fcnn.load_torch, "no PyTorch file", ("PyTorch", "TorchScript", "pickle")),
    "load_safetensors": (fcnn.load_safetensors, "no safetensors file", ("safetensors",)),
    "load_onnx": (fcnn.load_onnx, "no ONNX model", ("ONNX",)),
    "load_keras": (lambda path: keras.load_keras(path, MODEL), "no file of np.savez", ("NumPy",)),
    "load_model": (fcnn.load_model, "no checkpoint of fcnn", ("fcnn",)),
    "load": (lambda path: fcnn.load(path, like=TREE), "no checkpoint of fcnn", ("fcnn",)),
    "load_meta": (fcnn.load_meta, "no checkpoint of fcnn", ("fcnn",)),
}
WRONG_KINDS = [
    (loader, kind)
    for loader, (_, _, own) in LOADERS.items()
    for kind, (_, seen) in KINDS_OF_FILES.items()
    if seen is not None and not kind.startswith(own)
]


@pytest.mark.parametrize(("loader", "kind"), WRONG_KINDS)
def test_a_file_of_another_kind_is_told_by_what_it_looks_like(loader, kind, tmp_path):
    (load, none_of_them, _), (data, seen) = LOADERS[loader], KINDS_OF_FILES[kind]
    path = tmp_path / "a"
    path.write_bytes(data)
    with pytest.raises((ExchangeError, fcnn.CheckpointError)) as caught:
        load(path)
    beginnings = (none_of_them, NO_CHECKPOINT) if none_of_them == "no checkpoint of fcnn" else (none_of_them,)
    assert str(caught.value) in [f"{path}: {beginning}; it looks like {seen}" for beginning in beginnings]


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("data", [b"", bytes(99), KINDS_OF_FILES["text cut within a character"][0], b"\xff" * 600])
def test_of_bytes_that_look_like_nothing_nothing_is_said(loader, data, tmp_path):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises((ExchangeError, fcnn.CheckpointError)) as caught:
        LOADERS[loader][0](tmp_path / "a")
    assert "looks like" not in str(caught.value)


def test_a_zip_that_is_not_whole(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(TORCH_ZIP[:-30])
    with pytest.raises(ExchangeError) as caught:
        fcnn.load_onnx(path)
    assert str(caught.value) == f"{path}: no ONNX model; it looks like a zip that isn't whole"
    with pytest.raises(ExchangeError, match="not a whole PyTorch file"):
        fcnn.load_torch(path)
