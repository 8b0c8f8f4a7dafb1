"""What `save_onnx` wrote, `load_onnx` reads as a network that computes the same bits."""

import numpy as np
import pytest
from test_exchange_onnx_export import KEY, MODELS, WRITTEN, images, model_of, outputs

import fcnn


def assert_comes_back(model, path, dtype="float32"):
    fcnn.save_onnx(path, model)
    again = fcnn.load_onnx(path)
    assert again.in_shape == model.in_shape
    assert fcnn.tree.size(again.params) == fcnn.tree.size(model.params)
    x = images(model, 3, dtype)
    found = outputs(again, x)
    assert (found.dtype, found.shape) == (np.dtype(dtype), outputs(model, x).shape)
    assert found.tobytes() == outputs(model, x).tobytes()


@pytest.mark.parametrize("case", WRITTEN, ids=lambda case: case.name)
def test_every_layer_comes_back_to_the_bit(case, tmp_path):
    assert_comes_back(model_of(case.layer, case.in_shape), tmp_path / "net.onnx")


@pytest.mark.parametrize("case", WRITTEN, ids=lambda case: case.name)
def test_in_float64_too(case, tmp_path):
    """Settings are float32 in the file, and read as the shortest decimal that these are: 1e-5 is 1e-5 again."""
    layer = fcnn.serial(first=fcnn.prelu(), then=case.layer)
    assert_comes_back(model_of(layer, case.in_shape, "float64"), tmp_path / "net.onnx", "float64")


@pytest.mark.parametrize("name", MODELS)
def test_models_come_back_to_the_bit(name, tmp_path):
    made = MODELS[name].init(KEY, (3, 37, 40))
    assert_comes_back(fcnn.Model(MODELS[name], made.params, made.state, in_shape=(3, 37, 40)), tmp_path / "net.onnx")


def test_adaptive_pools_come_back_to_rounding(tmp_path):
    model = model_of(fcnn.serial(first=fcnn.prelu(), then=fcnn.adaptive_avg_pool2d(2)), (4, 4, 6), "float64")
    fcnn.save_onnx(tmp_path / "net.onnx", model)
    x = images(model, 3, "float64")
    found = outputs(fcnn.load_onnx(tmp_path / "net.onnx"), x)
    # Means of six numbers of about 1, added in another order.
    np.testing.assert_allclose(found, outputs(model, x), rtol=0, atol=6 * np.finfo(np.float64).eps)
