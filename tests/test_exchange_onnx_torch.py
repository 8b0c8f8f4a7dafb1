"""Networks that PyTorch exports to ONNX, by both of its exporters, are read as what PyTorch computes, and train on."""

import functools
import importlib.util
import logging
import warnings

import numpy as np
import pytest

import fcnn

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
nn, F = torch.nn, torch.nn.functional
CLOSE = {"float32": 1e-5, "float64": 1e-12}  # of the largest output: sums of some hundred products, in other orders


class Block(nn.Module):
    """A residual block, with a convolution as its shortcut where the shape changes."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, filters, 3, stride, 1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.Conv2d(filters, filters, 3, 1, 1, bias=False),
            nn.BatchNorm2d(filters),
        )
        down = nn.Sequential(nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))
        self.down = nn.Identity() if (channels, stride) == (filters, 1) else down

    def forward(self, x):
        return F.relu(self.body(x) + self.down(x))


class Gate(nn.Module):
    """Squeeze-and-excitation, by convolutions and by dense layers: shapes are taken from the input's."""

    def __init__(self, channels):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)
        self.fc1, self.fc2 = nn.Linear(channels, 2), nn.Linear(2, channels)

    def forward(self, x):
        x = x * torch.sigmoid(self.conv2(F.relu(self.conv1(F.adaptive_avg_pool2d(x, 1)))))
        n, channels, _, _ = x.size()
        means = F.adaptive_avg_pool2d(x, 1).view(n, channels)
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(means)))).view(n, channels, 1, 1)


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.b = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1))
        self.c = nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.Conv2d(3, 2, 1))
        self.fc = nn.Linear(14 * 16, 5)

    def forward(self, x):
        x = F.relu(torch.cat([self.a(x), self.b(x), self.c(x), x], 1))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        return F.log_softmax(self.fc(x.view(x.size(0), -1)), dim=1)


class ConvNeXt(nn.Module):
    """Its block as torchvision writes it, or with the scale of each channel `first`, and only then the axes back."""

    def __init__(self, first):
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(3, 3, 7, padding=3, groups=3), nn.LayerNorm(3, eps=1e-6)
        self.dense1, self.dense2 = nn.Linear(3, 12), nn.Linear(12, 3)
        self.scale = nn.Parameter(torch.ones(3) if first else torch.ones(3, 1, 1))
        self.first = first

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.dense2(F.gelu(self.dense1(y)))
        y = (self.scale * y).permute(0, 3, 1, 2) if self.first else self.scale * y.permute(0, 3, 1, 2)
        return x + y


def activations():
    """Bounds are numbers of float32, as which the newer exporter writes them also for float64."""
    kinds = [nn.ReLU(), nn.LeakyReLU(0.2), nn.ReLU6(), nn.ELU(0.7), nn.SiLU(), nn.Hardswish(), nn.Hardsigmoid()]
    kinds += [nn.Softplus(), nn.GELU(), nn.GELU("tanh"), nn.Sigmoid(), nn.Tanh(), nn.Hardtanh(-0.75, 0.5), nn.Mish()]
    kinds += [nn.PReLU(), nn.PReLU(3)]
    return nn.Sequential(*(layer for kind in kinds for layer in (nn.Conv2d(3, 3, 1), kind)))


NETWORKS = {
    "lenet": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 10),
        nn.Dropout(0.3),
        nn.ReLU(),
        nn.Linear(10, 5),
        nn.Softmax(1),
    ),
    "residuals and gates": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        Block(8, 8, 1),
        Block(8, 12, 2),
        Gate(12),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    ),
    "inception": Inception,
    "depthwise, pools": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 1),
        nn.BatchNorm2d(6),
        nn.ReLU6(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Conv2d(6, 4, 3, padding=2, dilation=2, groups=2),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(2, 2, padding=1),
    ),
    "activations": activations,
    "norms": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True),
        nn.LayerNorm([4, 6, 6]),
        nn.Flatten(),
        nn.Linear(144, 6),
        nn.LayerNorm(6),
    ),
    "padding": lambda: nn.Sequential(
        nn.ZeroPad2d((1, 2, 3, 0)),
        nn.Conv2d(3, 4, 3),
        nn.ZeroPad2d((0, 1, 0, 1)),
        nn.Conv2d(4, 4, 3, 2, 1, groups=4),
        nn.ConstantPad2d(1, 0.0),
        nn.AvgPool2d(2),
        nn.ConstantPad2d((1, 0, 0, 1), float("-inf")),
        nn.MaxPool2d(3, 1),
    ),
    "ConvNeXt": lambda: nn.Sequential(ConvNeXt(first=False), ConvNeXt(first=True)),
    "larger": lambda: nn.Sequential(
        nn.ConvTranspose2d(3, 4, 3, 2, 1, output_padding=1),
        nn.Upsample(scale_factor=2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
    ),
}


@functools.cache
def made(name, dtype):
    """A network that has seen some batches, inputs, and what it gives."""
    torch.manual_seed(0)
    network = NETWORKS[name]().to(getattr(torch, dtype)).train()
    x = torch.randn(3, 3, 8, 8, dtype=getattr(torch, dtype))
    with torch.no_grad():
        for one in network.parameters():
            one += 0.1 * torch.rand_like(one)  # no bias of zeros, which would not be missed
        network(x)
        network.eval()
        return network, x, network(x).numpy()


def export(network, x, path, *, dynamo):
    """By the older exporter with an open batch; by the newer one for three, with the weights in a second file."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each says that the other is better
        if dynamo:
            torch.onnx.export(network, (x,), path, dynamo=True, verbose=False)
        else:
            torch.onnx.export(network, (x,), path, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}})


def outputs(model, x):
    return model.network.apply(model.params, model.state, x, train=False).y


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_older_exporter(name, dtype, tmp_path):
    network, x, y = made(name, dtype)
    export(network, x, tmp_path / "m.onnx", dynamo=False)
    found = outputs(fcnn.load_onnx(tmp_path / "m.onnx"), x.numpy())
    assert found.dtype == dtype
    np.testing.assert_allclose(found, y, rtol=0, atol=CLOSE[dtype] * abs(y).max())


@pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="the newer exporter needs onnxscript")
@pytest.mark.parametrize("name", NETWORKS)
def test_the_newer_exporter(name, tmp_path):
    network, x, y = made(name, "float64")
    export(network, x, tmp_path / "m.onnx", dynamo=True)
    assert (tmp_path / "m.onnx.data").exists()
    found = outputs(fcnn.load_onnx(tmp_path / "m.onnx"), x.numpy())
    np.testing.assert_allclose(found, y, rtol=0, atol=CLOSE["float64"] * abs(y).max())


def test_what_is_read_trains_on_as_in_pytorch(tmp_path):
    """One step of SGD, in evaluation mode: PyTorch's batch norms are parts of the convolutions before them."""
    network, x, _ = made("residuals and gates", "float64")
    export(network, x, tmp_path / "m.onnx", dynamo=False)
    model = fcnn.load_onnx(tmp_path / "m.onnx")
    labels = np.array([0, 3, 1])
    out = model.network.apply(model.params, model.state, x.numpy(), train=True, key=fcnn.key(0))
    value, dy = fcnn.softmax_cross_entropy()(out.y, labels)
    gradients = model.network.backward(model.params, out.cache, dy)
    params = fcnn.tree.map(lambda leaf, by: leaf - 0.01 * by, model.params, gradients.params)
    after, _ = fcnn.softmax_cross_entropy()(
        outputs(fcnn.Model(model.network, params, in_shape=(3, 8, 8)), x.numpy()), labels
    )
    assert after < value
    theirs = x.clone().requires_grad_()
    F.cross_entropy(network(theirs), torch.from_numpy(labels)).backward()
    np.testing.assert_allclose(gradients.dx, theirs.grad.numpy(), rtol=0, atol=1e-12)
    weights = [one.grad.numpy() for name, one in network.named_parameters() if name == "6.weight"]
    np.testing.assert_allclose(gradients.params["dense1"]["w"], weights[0], rtol=0, atol=1e-12)
