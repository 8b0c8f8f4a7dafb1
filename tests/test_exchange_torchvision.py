"""torchvision's networks with random weights, by every format, there and back: outputs, and every tensor to the bit."""

import importlib
from importlib.util import find_spec

import numpy as np
import pytest
from profiles import LONG
from test_exchange_onnx_torch import export

import fcnn
from fcnn.exchange.torchvision import NETWORKS, torchvision_names
from fcnn.network.description import inits

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("one_thread")
IN_SHAPE = (3, 224, 224)
# Of the greatest output. float32 rounds each of some thousand sums by 1e-7, of either sign; float64 by 1e-16.
CLOSE = {"float32": 1e-5, "float64": 1e-12}
CASES = [(name, dtype) for name in NETWORKS for dtype in CLOSE if name != "vgg11"]
if LONG:
    CASES.append(("vgg11", "float32"))  # half a gigabyte of weights


@pytest.fixture(scope="module", params=CASES, ids=" ".join)
def network(request):
    """Its name, torchvision's network, one image, and what it gives."""
    import torchvision_models

    name, dtype = request.param
    theirs = torchvision_models.made(name).to(getattr(torch, dtype))
    x = torch.randn(1, *IN_SHAPE, dtype=getattr(torch, dtype))
    with torch.inference_mode():
        return name, theirs, x, theirs(x).numpy()


def assert_gives(model, x, y):
    found = model.network.apply(model.params, model.state, x.numpy(), train=False).y
    assert found.dtype == y.dtype
    np.testing.assert_allclose(found, y, rtol=0, atol=CLOSE[str(y.dtype)] * np.abs(y).max())


def assert_is_theirs(path, theirs):
    """In PyTorch again, every float tensor is equal to the bit, and the network loads strictly."""
    loads = torch.load if path.suffix == ".pt" else importlib.import_module("safetensors.torch").load_file
    again, expected = loads(path), theirs.state_dict()
    assert again.keys() == {name for name in expected if not name.endswith("num_batches_tracked")}
    for name, value in again.items():
        assert value.dtype == expected[name].dtype
        assert torch.equal(value, expected[name])
    theirs.load_state_dict(again, strict=True)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_values_come_and_go(network, kind, tmp_path):
    name, theirs, x, y = network
    source = tmp_path / ("theirs.safetensors" if kind == "safetensors" else "theirs.pt")
    if kind == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(theirs.state_dict(), source)
    else:
        torch.save(theirs.state_dict(), source, _use_new_zipfile_serialization=kind == "zip")
    ours = getattr(fcnn, name)()
    empty = inits(ours, IN_SHAPE)[""]
    names = torchvision_names(name, empty) if kind == "safetensors" else None  # its order is not the network's
    found = fcnn.import_model(source, ours, in_shape=IN_SHAPE, names=names)
    assert found.names == torchvision_names(name, empty)
    assert_gives(found.model, x, y)
    back = source.with_stem("ours")
    fcnn.export_model(back, found.model, names=found.names)
    assert_is_theirs(back, theirs)


@pytest.mark.parametrize("dynamo", [False, True], ids=["older exporter", "newer exporter"])
def test_onnx_comes(network, dynamo, tmp_path):
    _, theirs, x, y = network
    if dynamo and find_spec("onnxscript") is None:
        pytest.skip("the newer exporter needs onnxscript")
    export(theirs, x, tmp_path / "theirs.onnx", dynamo=dynamo)
    model = fcnn.load_onnx(tmp_path / "theirs.onnx")
    assert_gives(model, x, y)
    fcnn.save_onnx(tmp_path / "ours.onnx", model)
    again = fcnn.load_onnx(tmp_path / "ours.onnx")
    found, expected = (one.network.apply(one.params, one.state, x.numpy(), train=False).y for one in (again, model))
    assert found.tobytes() == expected.tobytes()
