"""scripts/convert.py, and the library's functions beneath it: models from any format to any other."""

import json

import attrs
import convert as script
import numpy as np
import pytest
from PIL import Image
from running import runner

import fcnn
from fcnn.exchange import formats
from fcnn.exchange.names import values_of
from fcnn.exchange.torchvision import torchvision_names

IN_SHAPE = (1, 28, 28)
ENDINGS = [".npz", ".pt", ".pth", ".safetensors", ".onnx"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the script in this process, in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    return runner(script, capsys)


def lenet(seed=0, classes=()):
    network = fcnn.lenet5_bn(IN_SHAPE, 10)
    made = network.init(fcnn.key(seed), IN_SHAPE)
    return fcnn.Model(network, made.params, made.state, in_shape=IN_SHAPE, classes=classes)


def squeezenet(classes=4, in_shape=(3, 40, 40)):
    network = fcnn.squeezenet1_1(classes)
    made = network.init(fcnn.key(1), in_shape)
    return fcnn.Model(network, made.params, made.state, in_shape=in_shape)


def assert_same_values(found, expected):
    found, expected = values_of(found), values_of(expected)
    assert [*found] == [*expected]
    for path, leaf in expected.items():
        assert found[path].dtype == leaf.dtype
        np.testing.assert_array_equal(found[path], leaf)


@pytest.mark.parametrize("target", ENDINGS)
@pytest.mark.parametrize("source", ENDINGS)
def test_any_format_to_any_other(run, source, target):
    """Twice on the way: values are equal to the bit, and of networks the outputs, too."""
    model = lenet()
    formats.export_model(f"first{source}", model)
    options = ["--model", "lenet5_bn"] if formats.FORMATS[source] in formats.HAVE_NAMES else []
    code, out, err = run(f"first{source}", f"second{target}", *options)
    assert (code, err) == (0, "")
    assert "22 arrays" in out
    if formats.FORMATS[target] in formats.HAVE_NAMES:
        values = [*formats.load_arrays(f"second{target}").values()]
        assert {leaf.tobytes() for leaf in values} == {leaf.tobytes() for leaf in values_of(model).values()}
        if source != ".onnx":  # whose layers have other names
            assert_same_values(formats.import_model(f"second{target}", model.network, in_shape=IN_SHAPE).model, model)
        return
    found = formats.import_model(f"second{target}").model
    x = np.random.default_rng(0).random((3, *IN_SHAPE), np.float32)
    expected = model.network.apply(model.params, model.state, x, train=False).y
    np.testing.assert_array_equal(found.network.apply(found.params, found.state, x, train=False).y, expected)


def test_values_are_found_by_torchvisions_names_in_any_order(run):
    model = squeezenet()
    names = torchvision_names("squeezenet1_1", model)
    fcnn.save_torch("theirs.pt", model, names=names)
    shuffled = dict(sorted(fcnn.load_torch("theirs.pt").items(), key=lambda item: hash(item[0])))
    fcnn.save_safetensors("shuffled.safetensors", shuffled)
    options = ["--model", "squeezenet1_1", "--classes", "4", "--in-shape", "3x40x40"]
    for file in ("theirs.pt", "shuffled.safetensors"):
        assert_same_values(formats.import_model(file, model.network, in_shape=(3, 40, 40)).model, model)
        code, out, err = run(file, "ours.npz", *options)
        assert (code, err) == (0, "")
        assert "features/fire2/squeeze/w  " in out
        assert "features.3.squeeze.weight" in out
        assert_same_values(fcnn.load_model("ours.npz"), model)
    # The names that they came with are written again; from a file without any, those that are asked for.
    assert run("theirs.pt", "again.safetensors", *options)[0] == 0
    assert fcnn.load_safetensors("again.safetensors").keys() == set(names.values())
    fcnn.save("values.npz", model.params)
    assert run("values.npz", "back.pt", *options, "--names", "torchvision")[0] == 0
    assert fcnn.load_torch("back.pt").keys() == set(names.values())
    assert run("values.npz", "ours.pt", *options)[0] == 0
    assert fcnn.load_torch("ours.pt").keys() == set(fcnn.torch_names(model).values())


def test_values_go_from_one_file_to_another_without_a_network(run):
    mine = {"a.weight": np.ones((2, 3), np.float32), "steps": np.array(7), "half": np.ones(3, np.float16)}
    fcnn.save_torch("some.pt", mine)
    code, out, err = run("some.pt", "some.safetensors")
    assert (code, err) == (0, "")
    assert "3 arrays, 10 numbers" in out
    assert run("some.safetensors", "again.pth")[0] == 0
    found = fcnn.load_torch("again.pth")
    assert {name: (leaf.dtype, leaf.tobytes()) for name, leaf in found.items()} == {
        name: (leaf.dtype, leaf.tobytes()) for name, leaf in mine.items()
    }


def test_names_of_ones_own(run):
    model = lenet()
    names = {path: f"x.{path.replace('/', '-')}" for path in reversed([*values_of(model)])}
    fcnn.save_safetensors("odd.safetensors", model, names=names)
    with open("names.json", "w") as file:
        json.dump(names, file)
    assert run("odd.safetensors", "found.npz", "--model", "lenet5_bn", "--names", "names.json")[0] == 0
    assert_same_values(fcnn.load_model("found.npz"), model)


def test_alone_a_file_is_listed(run):
    fcnn.save_torch("some.pt", {"a.weight": np.ones((2, 3), np.float32), "a.bias": np.zeros(2, np.int64)})
    code, out, err = run("some.pt")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "in the file  shape   dtype",
        "a.weight     (2, 3)  float32",
        "a.bias       (2,)    int64",
        "2 arrays, 8 numbers, 0.0 MB",
    ]
    formats.export_model("lenet.onnx", lenet())
    assert "22 arrays" in run("lenet.onnx")[1]


def test_what_is_subtracted_from_pixels_becomes_a_layer(run):
    model = squeezenet()
    fcnn.save_torch("theirs.pt", model)
    options = ["--model", "squeezenet1_1", "--classes", "4", "--in-shape", "3x40x40"]
    mean, std = [0.5, 0.25, 0.75], [0.5, 0.25, 2.0]
    numbers = [",".join(map(str, some)) for some in (mean, std)]
    x = np.random.default_rng(0).random((2, 3, 40, 40), np.float32)
    centred = (x - np.array(mean, np.float32)[:, None, None]) / np.array(std, np.float32)[:, None, None]
    expected = model.network.apply(model.params, model.state, centred, train=False).y
    for file in ("whole.npz", "whole.onnx"):
        assert run("theirs.pt", file, *options, "--mean", numbers[0], "--std", numbers[1])[0] == 0
        found = formats.import_model(file).model
        np.testing.assert_array_equal(found.network.apply(found.params, found.state, x, train=False).y, expected)


def test_weights_of_keras(run):
    network = fcnn.serial(conv=fcnn.conv2d(2, 3), flatten=fcnn.flatten(), fc=fcnn.dense(3))
    kernel, dense = np.arange(36.0).reshape(3, 3, 2, 2), np.arange(24.0).reshape(8, 3)
    np.savez("w.npz", kernel, np.zeros(2), dense, np.ones(3))
    found = formats.import_model("w.npz", network, in_shape=(2, 4, 4)).model
    np.testing.assert_array_equal(found.params["conv"]["w"], kernel.transpose(3, 2, 0, 1))


def test_classes_are_kept_and_given(tmp_path):
    model = lenet(classes=list("0123456789"))
    for ending in (".npz", ".onnx"):
        formats.export_model(tmp_path / f"net{ending}", model)
        assert formats.import_model(tmp_path / f"net{ending}").model.classes == tuple("0123456789")
        formats.export_model(tmp_path / f"bare{ending}", attrs.evolve(model, classes=()))
        assert formats.import_model(tmp_path / f"bare{ending}", classes=list("abcdefghij")).model.classes[0] == "a"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["in.pt", "out.onnx"], "in.pt: a file of PyTorch holds values by name, and no network; name it with --model"),
        (["in.onnx", "out.pt", "--model", "lenet5"], "in.onnx: a file of ONNX holds its network; leave out --model"),
        (["in.pt", "out.tf"], "out.tf: the ending of a model's file is one of .npz, .pt, .pth, .safetensors, .onnx"),
        (["in", "out.pt"], "in: the ending of a model's file is one of .npz"),
        (["missing.pt", "out.npz", "--model", "lenet5"], "No such file or directory: 'missing.pt'"),
        (["in.pt", "out.npz", "--model", "lenet5"], "in.pt: 20 difference(s) from the network"),
        (["in.pt", "out.npz", "--model", "lenet5_bn", "--classes", "9"], "wrong shape ((10, 84), expected (9, 84))"),
        (["in.pt", "out.npz", "--model", "lenet5_bn", "--names", "none.json"], "No such file or directory"),
        (["in.pt", "out.npz", "--model", "lenet5_bn", "--names", "list.json"], "list.json: names are a JSON object"),
        (["in.pt", "out.npz", "--model", "lenet5_bn", "--names", "in.pt"], "in.pt: no JSON ("),
        (["in.pt", "out.npz", "--model", "lenet5_bn", "--names", "few.json"], "names lacks "),
        (
            ["in.pt", "out.pt", "--model", "lenet5_bn", "--mean", "0.5", "--std", "1"],
            "a file of values alone holds non",
        ),
        (["in.pt", "out.npz", "--model", "lenet5_bn", "--names", "/dev/zero"], "a device, not a file: '/dev/zero'"),
        (["in.pt", "out.npz", "--model", "lenet5_bn", "--names", "numbers.json"], "names are a JSON object"),
        (["in.npz", "folder.onnx"], "folder.onnx"),
        (["open.onnx", "out.npz"], "say them: --in-shape 3x224x224"),
    ],
)
def test_what_does_not_go_gets_one_sentence(run, tmp_path, arguments, sentence):
    for ending in (".pt", ".onnx", ".npz"):
        formats.export_model(f"in{ending}", lenet())
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "numbers.json").write_text('{"conv1/w": 1}')
    write_open(tmp_path / "open.onnx")
    (tmp_path / "few.json").write_text('{"conv1/w": "conv1.weight"}')
    code, _, err = run(*arguments)
    assert code == 1
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert not (tmp_path / arguments[1]).is_file()


def write_open(path):
    """A network of ONNX whose file doesn't say how large its images are."""
    network = fcnn.serial(fcnn.conv2d(2, 3), fcnn.global_avg_pool2d())
    made = network.init(fcnn.key(0), (3, 17, 19))
    fcnn.save_onnx(path, fcnn.Model(network, made.params, in_shape=(3, 17, 19), classes=("a", "b")))
    shape = b"".join(bytes([0x0A, 0x02, 0x08, length]) for length in (3, 17, 19))  # each {dim_value: length}
    data = path.read_bytes()
    assert data.count(shape) == 1
    path.write_bytes(data.replace(shape, bytes([0x0A, 0x02, 0x08, 3, 0x0A, 0x02, 0x08, 0, 0x0A, 0x02, 0x08, 0])))


def test_images_of_any_size_that_a_file_leaves_open(run, tmp_path, capsys):
    import predict

    write_open(tmp_path / "open.onnx")
    Image.effect_mandelbrot((60, 50), (-2, -1.5, 1, 1.5), 100).convert("RGB").save("picture.png")
    assert run("open.onnx", "closed.npz", "--in-shape", "3x30x40")[0] == 0
    assert fcnn.load_model("closed.npz").in_shape == (3, 30, 40)
    tell = runner(predict, capsys)
    code, out, err = tell("open.onnx", "picture.png", "--in-shape", "3x30x40")
    assert (code, err) == (0, "")
    assert out == tell("closed.npz", "picture.png")[1].replace("closed.npz", "open.onnx")


def test_options_that_make_no_sense(run):
    for arguments, sentence in (
        (["a.pt", "b.npz", "--mean", "1"], "--mean and --std go together"),
        (["a.pt", "b.npz", "--mean", "1,x", "--std", "1,2"], "expected numbers with commas between them, got '1,x'"),
        (["a.pt", "b.npz", "--model", "lenet5", "--names", "torchvision"], "--names torchvision needs --model, one of"),
        (["a.pt", "b.npz", "--model", "lenet5", "--in-shape", "28x28"], "expected channels, height and width"),
        (["a.pt", "b.npz", "--model", "lenet6"], "invalid choice: 'lenet6'"),
    ):
        code, _, err = run(*arguments)
        assert code == 2
        assert sentence in err


def test_pictures_are_predicted_by_a_network_from_elsewhere(tmp_path, monkeypatch, capsys):
    import predict

    monkeypatch.chdir(tmp_path)
    model = squeezenet()
    Image.effect_mandelbrot((60, 50), (-2, -1.5, 1, 1.5), 100).convert("RGB").save("picture.png")
    fcnn.save_model("net.npz", model)
    fcnn.save_onnx("net.onnx", model)
    tell = runner(predict, capsys)
    code, expected, err = tell("net.npz", "picture.png", "--json")
    assert (code, err) == (0, "")
    assert json.loads(expected)[0]["preparation"] == ["scaled to 40x40"]
    assert tell("net.onnx", "picture.png", "--json") == (0, expected, "")
    digits = lenet(classes=list("0123456789"))
    fcnn.save_model("digits.npz", digits)
    rows = ["--dataset", "digits", "--rows", "0:5", "--json"]
    monkeypatch.setattr(fcnn.data, "load", lambda *_, **__: few_rows())
    code, expected, err = tell("digits.npz", *rows)
    assert (code, err) == (0, "")
    for ending, options in (
        (".pt", ["--model", "lenet5_bn"]),
        (".safetensors", ["--model", "lenet5_bn"]),
        (".onnx", []),
    ):
        formats.export_model(f"digits{ending}", digits)
        assert tell(f"digits{ending}", *options, *rows) == (0, expected, "")


def few_rows():
    test = fcnn.data.make_digits(fcnn.key(0), 5)
    return fcnn.Dataset(test, test, "digits", tuple("0123456789"))
