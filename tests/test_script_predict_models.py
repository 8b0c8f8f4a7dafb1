"""scripts/predict.py on models that describe their network: of scripts/train.py, fcnn.fit and fcnn.save_model."""

import numpy as np
import predict as script
import pytest
from picture_files import enlarged
from PIL import Image
from running import json_objects, runner

import fcnn
from fcnn.data.pictures import CLASSES, as_picture, read_picture
from fcnn.training.checkpoint import network_meta

NETWORK = fcnn.serial(
    fcnn.normalize(0.2, 0.3),
    fcnn.conv2d(6, 5, stride=2),
    fcnn.batch_norm(),
    fcnn.relu(),
    fcnn.flatten(),
    fcnn.dense(10),
)
TRAIN, TEST = (fcnn.data.make_digits(fcnn.key(seed), n) for seed, n in ((1, 1500), (2, 100)))
DIGITS = fcnn.Dataset(TRAIN, TEST, "digits", CLASSES["digits"])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A network of one's own, and the folder in which fit keeps it."""
    folder = tmp_path_factory.mktemp("run")
    run = fcnn.fit(NETWORK, DIGITS, epochs=4, batch_size=32, folder=folder / "own", workers=1, progress=False)
    return run, folder / "own" / "epoch-04.npz"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the script in this process, in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        fcnn.data, "load", lambda name, *_, real=fcnn.data.load, **__: DIGITS if name == "digits" else real(name)
    )
    return runner(script, capsys)


@pytest.fixture
def found(run):
    """The objects that --json gives, of a run without a complaint."""

    return json_objects(run)


def probabilities(items):
    return [list(item["probabilities"].values()) for item in items]


def save_untrained(path, last, in_shape=(1, 28, 28), classes=()):
    network = fcnn.serial(fcnn.flatten(), last)
    made = network.init(fcnn.key(3), in_shape)
    fcnn.save_model(path, fcnn.Model(network, made.params, made.state, in_shape=in_shape, classes=classes))


def test_a_network_of_ones_own_that_fit_trained(run, found, fitted):
    kept, path = fitted
    expected = fcnn.predict(kept.model, TEST.x)
    rows = found(path, "--dataset", "digits", "--rows", "0:100")
    assert [item["prediction"] for item in rows] == expected.classes.tolist()
    # float32 scores, which another batch size changes by 1e-6 of 10; an exp passes that on
    np.testing.assert_allclose(probabilities(rows), expected.probabilities, rtol=1e-4, atol=1e-9)
    assert [item["right"] for item in rows] == (expected.classes == TEST.y).tolist()
    assert np.mean(expected.classes == TEST.y) > 0.8
    assert list(rows[0]["probabilities"]) == list("0123456789")
    assert "accuracy" in run(path, "--dataset", "digits", "--rows", "0:100")[1]


def test_a_file_whose_network_ends_in_a_softmax_gives_its_probabilities(found, fitted):
    model = fitted[0].model
    network = fcnn.serial(net=model.network, end=fcnn.softmax())
    params, state = fcnn.freeze({"net": model.params}), fcnn.freeze({"net": model.state})
    fcnn.save_model("scores.npz", model)
    fcnn.save_onnx("ended.onnx", fcnn.Model(network, params, state, in_shape=model.in_shape, classes=model.classes))
    as_picture(TEST.x[0]).save("digit.png")
    scores, ended = (found(path, "digit.png") for path in ("scores.npz", "ended.onnx"))
    # float32, rounded by 6e-8 in scores of at most 10
    np.testing.assert_allclose(probabilities(ended), probabilities(scores), rtol=1e-4)


def test_a_checkpoint_of_the_training_script_needs_no_option(found, fitted):
    kept, _ = fitted
    meta = {
        "settings": {"model": "lenet5", "dataset": "digits"},
        **network_meta(NETWORK, (1, 28, 28), CLASSES["digits"]),
    }
    fcnn.save("epoch.npz", kept.state, meta=meta)
    rows = found("epoch.npz", "--rows", "0:20")
    # as above: float32 scores in batches of another size
    np.testing.assert_allclose(
        probabilities(rows), fcnn.predict(kept.model, TEST.x[:20]).probabilities, rtol=1e-4, atol=1e-9
    )
    assert found("epoch.npz", "--rows", "0:20", "--model", "lenet5", "--dataset", "digits") == rows


def test_a_saved_model_has_classes_of_its_own(run, found, fitted):
    kept, _ = fitted
    classes = ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "ne\x1b[2Jun")
    model = fcnn.Model(NETWORK, kept.model.params, kept.model.state, in_shape=(1, 28, 28), classes=classes)
    fcnn.save_model("named.npz", model)
    paths = [f"{i}.png" for i in range(10)]
    for path, image in zip(paths, TEST.x, strict=False):
        Image.fromarray(image[0]).save(path)
    expected = fcnn.predict(kept.model, TEST.x[:10])
    drawn = found("named.npz", *paths)
    rows = found("named.npz", "--dataset", "digits", "--rows", "0:10")
    for items in (drawn, rows):
        assert [item["label"] for item in items] == [classes[k] for k in expected.classes]
        assert all(tuple(item["probabilities"]) == classes for item in items)
        # as above: float32 scores in batches of another size
        np.testing.assert_allclose(probabilities(items), expected.probabilities, rtol=1e-4, atol=1e-9)
    assert [item["preparation"] for item in drawn] == [[]] * 10
    assert [(item["truth"], item["truth_label"]) for item in rows] == [(label, str(label)) for label in TEST.y[:10]]
    assert [item["right"] for item in rows] == (expected.classes == TEST.y[:10]).tolist()
    code, out, _ = run("named.npz", *paths, "--top", "10")
    assert code == 0
    assert out.count(r"ne\x1b[2Jun") == 10
    assert "\x1b" not in out


def test_a_network_of_fewer_classes_is_wrong_about_the_rest(found):
    save_untrained("two.npz", fcnn.dense(2))
    rows = found("two.npz", "--dataset", "digits", "--rows", "0:50")
    assert [item["truth"] for item in rows] == TEST.y[:50].tolist()
    assert {item["label"] for item in rows} <= {"0", "1"}
    assert not any(item["right"] for item in rows if item["truth"] > 1)


@pytest.mark.parametrize(
    ("in_shape", "classes", "options", "dataset"),
    [
        ((1, 28, 28), CLASSES["fashion_mnist"], [], "fashion_mnist"),
        ((1, 28, 28), CLASSES["fashion_mnist"], ["--dataset", "mnist"], "mnist"),
        ((1, 28, 28), CLASSES["mnist"], [], "mnist"),
        ((1, 28, 28), (), [], "mnist"),
        ((1, 28, 28), (), ["--dataset", "fashion_mnist"], "fashion_mnist"),
        ((3, 32, 32), (), [], "cifar10"),
    ],
)
def test_how_pictures_are_prepared_where_the_file_names_no_data_set(found, in_shape, classes, options, dataset):
    save_untrained("own.npz", fcnn.dense(10), in_shape, classes)
    enlarged(TEST.x[0, 0]).save("a.png")
    item = found("own.npz", "a.png", "--save-prepared", "seen", *options)[0]
    expected, steps = read_picture("a.png", dataset)
    with Image.open(item["prepared"]) as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(as_picture(expected)))
    assert item["preparation"] == list(steps)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["own.npz", "--model", "lenet5"], "own.npz: it holds a network of its own, not lenet5; leave out --model"),
        (
            ["own.npz", "--rows", "0"],
            "own.npz: the file doesn't say what the network was trained on; name the data set",
        ),
        (["own.npz", "--dataset", "mnits"], "unknown data set 'mnits', did you mean 'mnist'?"),
        (["own.npz", "--dataset", "cifar10"], "the shape that the network takes, (N, 1, 28, 28), got (1, 3, 32, 32)"),
        (
            ["small.npz"],
            "pictures are prepared as images (1, 28, 28) or (3, 32, 32), the network takes (1, 8, 8); make",
        ),
        (["score.npz"], "the scores (N, K) of two classes or more, got (1, 1)"),
        (["twins.npz"], "different names for the network's 2 outputs, got ('one', 'one')"),
        (["strange.npz"], "strange.npz: its network: "),
        (["other.npz"], "its settings name the dataset 'imagenet', this script knows mnist"),
    ],
)
def test_what_a_model_is_not_for_gets_one_sentence(run, arguments, sentence):
    save_untrained("own.npz", fcnn.dense(2))
    save_untrained("small.npz", fcnn.dense(2), (1, 8, 8))
    save_untrained("score.npz", fcnn.dense(1))
    save_untrained("twins.npz", fcnn.dense(2), classes=("one", "one"))
    made = fcnn.dense(2).init(fcnn.key(0), (784,))
    strange = {**fcnn.describe(fcnn.dense(2)), "kind": "ein\x1bsum\n  "}
    fcnn.save("strange.npz", made.params, meta={"network": strange, "in_shape": [1, 28, 28]})
    known = network_meta(fcnn.dense(2), (784,), ())
    fcnn.save("other.npz", made.params, meta={**known, "settings": {"model": "lenet5", "dataset": "imagenet"}})
    enlarged(TEST.x[0, 0]).save("a.png")
    code, out, err = run(arguments[0], "a.png", *arguments[1:])
    assert (code, out) == (1, "")
    assert sentence in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "\x1b" not in err
