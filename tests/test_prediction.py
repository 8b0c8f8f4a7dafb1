"""What a model says of inputs, and models from files that don't describe their network."""

import numpy as np
import pytest

import fcnn
from fcnn import parallel
from fcnn.training.undescribed import load_undescribed
from fcnn.values.tree import astype

NETWORK = fcnn.serial(
    conv=fcnn.conv2d(4, 3), norm=fcnn.batch_norm(), act=fcnn.relu(), drop=fcnn.dropout(0.5), flat=fcnn.flatten(),
    out=fcnn.dense(3),
)  # fmt: skip
IMAGES = np.random.default_rng(0).integers(0, 256, (300, 1, 6, 6), np.uint8)


def model_of(network, in_shape=(1, 6, 6), classes=(), dtype=np.float32):
    made = network.init(fcnn.key(0), in_shape)
    params, state = astype(made.params, dtype), astype(made.state, dtype)
    return fcnn.Model(network, params, state, in_shape=in_shape, classes=classes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions_are_the_softmax_of_what_evaluation_gives(dtype):
    model = model_of(NETWORK, dtype=dtype)
    found = fcnn.predict(model, IMAGES)
    expected = fcnn.evaluate(model.network, model.params, model.state, (IMAGES, np.zeros(300, int)))
    np.testing.assert_array_equal(found.outputs, expected.outputs)
    np.testing.assert_array_equal(found.classes, expected.predictions)
    exact = np.exp(expected.outputs.astype(np.float64))
    # float64: an exp passes on the rounding of its argument, 1e-15 for scores up to 10; the rest rounds by 1.1e-16
    np.testing.assert_allclose(found.probabilities, exact / exact.sum(axis=1, keepdims=True), rtol=1e-12)
    assert (found.outputs.dtype, found.probabilities.dtype, found.classes.dtype) == (dtype, np.float64, np.int64)
    assert not any(array.flags.writeable for array in (found.outputs, found.probabilities, found.classes))
    assert found.names == ("0", "1", "2")


ENDINGS = {
    "softmax": lambda: fcnn.serial(end=fcnn.softmax()),
    "log_softmax": lambda: fcnn.serial(end=fcnn.log_softmax()),
    "nested": lambda: fcnn.serial(a=fcnn.serial(b=fcnn.serial(end=fcnn.softmax()))),
    "what is not there in evaluation": lambda: fcnn.serial(
        end=fcnn.softmax(), same=fcnn.serial(a=fcnn.identity(), b=fcnn.dropout(0.5), c=fcnn.flatten())
    ),
    "images of one pixel": lambda: fcnn.serial(
        image=fcnn.reshape((3, 1, 1)), end=fcnn.softmax(), flat=fcnn.reshape((3,))
    ),
}


@pytest.mark.parametrize("rule", [lambda net: net, lambda net: fcnn.hold(net, "*"), fcnn.checked, fcnn.fuse])
@pytest.mark.parametrize("ending", ENDINGS)
def test_of_a_network_that_ends_in_a_softmax_the_outputs_are_the_probabilities(ending, rule):
    model = model_of(NETWORK)
    longer = model_of(fcnn.serial(net=NETWORK, ending=ENDINGS[ending]()))
    ending = fcnn.Model(rule(longer.network), longer.params, longer.state, in_shape=longer.in_shape)
    inner = fcnn.Model(NETWORK, longer.params["net"], longer.state["net"], in_shape=model.in_shape)
    found, scores = fcnn.predict(ending, IMAGES), fcnn.predict(inner, IMAGES)
    # float32, rounded by 6e-8 in scores of at most 10
    np.testing.assert_allclose(found.probabilities, scores.probabilities, rtol=1e-5)
    np.testing.assert_array_equal(found.classes, scores.classes)


def test_the_probabilities_of_each_pixel_are_scores_of_none():
    maps = fcnn.serial(end=fcnn.softmax(), flat=fcnn.flatten())  # of two channels, over four pixels
    found = fcnn.predict(model_of(maps, (2, 2, 2)), np.random.default_rng(0).random((5, 2, 2, 2)))
    # float64: sums of eight shares of 1
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-12)


def test_neither_batches_nor_threads_change_an_output():
    model, whole = model_of(NETWORK), fcnn.predict(model_of(NETWORK), IMAGES, batch_size=300)
    with parallel.threads(2) as map_fn:
        parts = fcnn.predict(model, IMAGES, batch_size=7, map_fn=map_fn)
    # float32: for batches of another size BLAS adds in another order
    np.testing.assert_allclose(parts.outputs, whole.outputs, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(parts.classes, whole.classes)


def test_floats_stay_as_they_are_and_features_have_no_shape_of_images():
    found = fcnn.predict(model_of(NETWORK), (IMAGES / 255).astype(np.float32))
    # float32: shares of 255 are rounded once more on their way
    np.testing.assert_allclose(found.outputs, fcnn.predict(model_of(NETWORK), IMAGES).outputs, rtol=1e-4, atol=1e-6)
    rows = np.random.default_rng(1).standard_normal((5, 4))
    found = fcnn.predict(model_of(fcnn.dense(2), (4,), classes=("no", "yes")), rows)
    assert found.outputs.shape == (5, 2)
    assert found.names == ("no", "yes")


def test_what_predict_refuses_the_advised_predictor_gives():
    model = model_of(fcnn.serial(conv=fcnn.conv2d(2, 3, padding=1)))
    with pytest.raises(ValueError, match=r"predictor\(model\.network, .*\)\(x\.astype\(np\.float32\) / 255\) gives"):
        fcnn.predict(model, IMAGES)
    maps = fcnn.predictor(model.network, model.params, model.state)(IMAGES.astype(np.float32) / 255)
    said = fcnn.evaluate(
        model.network, model.params, model.state, (IMAGES, np.zeros(300)), loss=lambda outputs, _: (0.0, outputs)
    )
    assert maps.shape == (300, 2, 6, 6)
    # float32: batches of another size are added up in another order
    np.testing.assert_allclose(maps, said.outputs, rtol=1e-5, atol=1e-6)


def test_great_scores_give_probabilities_nonetheless():
    model = model_of(fcnn.identity(), (3,))
    found = fcnn.predict(model, np.array([[1e30, 0, -1e30], [5, 5, 5]]))
    # 1/3, rounded by 5e-17 and once more
    np.testing.assert_allclose(found.probabilities, [[1, 0, 0], [1 / 3] * 3], rtol=0, atol=1e-15)
    assert found.classes.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("network", "shape", "x", "classes", "sentence"),
    [
        (fcnn.relu(), (1, 6, 6), IMAGES, (), r"scores \(N, K\) of two classes or more, got \(300, 1, 6, 6\)"),
        (fcnn.dense(2), (2,), np.ones((3, 2)), ("a",), r"different names for the network's 2 outputs, got \('a',\)"),
        (fcnn.dense(2), (2,), np.ones((3, 2)), ("a", "a"), r"for the network's 2 outputs, got \('a', 'a'\)"),
        (fcnn.dense(2), (2,), np.array([[0, np.nan]]), (), "outputs are not finite, its training diverged or"),
        (fcnn.dense(2), (2,), np.full((1, 2), 3e38), (), "or its inputs are not finite either; use an earlier"),
    ],
)  # fmt: skip
def test_what_can_not_be_predicted_gets_a_sentence(network, shape, x, classes, sentence):
    model = model_of(network, shape, classes)
    if "not finite" in sentence:
        model = fcnn.Model(network, fcnn.tree.map(lambda leaf: leaf * 10, model.params), in_shape=shape)
    with pytest.raises(ValueError, match=sentence):
        fcnn.predict(model, x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_file_that_does_not_describe_its_network_is_read_for_one(tmp_path, dtype):
    model = model_of(NETWORK, dtype=dtype)
    fcnn.save(tmp_path / "a.npz", fcnn.Init(model.params, model.state, ()))
    found = load_undescribed(tmp_path / "a.npz", NETWORK, in_shape=(1, 6, 6), classes=("a", "b", "c"))
    assert (found.network, found.in_shape, found.classes) == (NETWORK, (1, 6, 6), ("a", "b", "c"))
    np.testing.assert_array_equal(fcnn.predict(found, IMAGES).outputs, fcnn.predict(model, IMAGES).outputs)
    assert {leaf.dtype for _, leaf in fcnn.tree.leaves(found.params)} == {np.dtype(dtype)}


def test_a_whole_training_state_is_read_too(tmp_path):
    start = fcnn.init_state(NETWORK, fcnn.adam(1e-3), fcnn.key(1), (1, 6, 6))
    fcnn.save(tmp_path / "a.npz", start)
    found = load_undescribed(tmp_path / "a.npz", NETWORK, in_shape=(1, 6, 6))
    assert fcnn.tree.flatten(found.params).keys() == fcnn.tree.flatten(start.params).keys()
    np.testing.assert_array_equal(fcnn.tree.ravel(found.params), fcnn.tree.ravel(start.params))


def test_a_file_of_another_network_gets_every_difference(tmp_path):
    path, model = tmp_path / "a.npz", model_of(NETWORK)
    fcnn.save(path, model.params)
    with pytest.raises(fcnn.CheckpointError, match=r"a\.npz: it has the parameters of mine, but not the means and var"):
        load_undescribed(path, NETWORK, in_shape=(1, 6, 6), name="mine")
    with pytest.raises(fcnn.CheckpointError) as caught:
        load_undescribed(path, fcnn.serial(conv=fcnn.conv2d(5, 3)), in_shape=(1, 6, 6))
    first, *differences = str(caught.value).split("\n  ")
    assert first == f"{path}: it doesn't hold this network:"
    assert "wrong shape ((4, 1, 3, 3), expected (5, 1, 3, 3)): params/conv/w" in differences
    assert "unexpected: params/out/b" in differences
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(fcnn.CheckpointError, match=r"a\.npz: not a whole \.npz file"):
        load_undescribed(path, NETWORK, in_shape=(1, 6, 6))
    with pytest.raises(FileNotFoundError):
        load_undescribed(tmp_path / "b.npz", NETWORK, in_shape=(1, 6, 6))
