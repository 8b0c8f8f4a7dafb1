"""Networks that have a name: their sizes, and outputs and gradients beside torchvision's own."""

from typing import Any

import numpy as np
import pytest

import fcnn
from fcnn.exchange.torchvision import NETWORKS, torchvision_names
from fcnn.network.description import inits
from fcnn.values.tree import flatten, unflatten

# Parameters as torchvision counts them, and multiply-adds of one image of 224x224.
SIZES = {
    "resnet18": (11_689_512, 1_814_073_344),
    "vgg11": (132_863_336, 7_609_090_048),
    "mobilenet_v2": (3_504_872, 300_774_272),
    "squeezenet1_1": (1_235_496, 349_151_936),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_are_those_that_are_known(name: str) -> None:
    made = inits(getattr(fcnn, name)(), (3, 224, 224))[""]
    assert (fcnn.tree.size(made.params), made.macs, made.out_shape) == (*SIZES[name], (1000,))
    assert inits(getattr(fcnn, name)(classes=5), (3, 64, 48))[""].out_shape == (5,)


def test_residual_networks_for_small_images_are_those_of_the_paper() -> None:
    """Table 6 there, in millions: 0.27, 0.46, 0.66, 0.85, 1.7; 1x1 shortcuts add some thousand."""
    for depth, millions in {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}.items():
        made = inits(fcnn.resnet_cifar(depth), (3, 32, 32))[""]
        assert made.out_shape == (10,)
        assert fcnn.tree.size(made.params) / 1e6 == pytest.approx(millions, abs=0.04)
        weights = [path for path in flatten(made.params) if path.endswith("/w") and "shortcut" not in path]
        assert len(weights) == depth


def test_narrow_and_wide_mobilenets_have_multiples_of_eight_filters() -> None:
    for width in (0.35, 0.5, 0.75, 1.4):
        made = inits(fcnn.mobilenet_v2(10, width=width), (3, 32, 32))[""]
        assert all(leaf.shape[0] % 8 == 0 for path, leaf in flatten(made.params).items() if "/conv/w" in path)


def test_airbench_is_of_the_papers_size() -> None:
    """0.36 PFLOP for 476 steps of 1,024 images, twice as many backwards as forwards; 93: 0.185, 95: 1.39 (table 2)."""
    for widths, images, petaflops in (
        ((64, 256, 256), 9.9 * 48 * 1024, 0.36),
        ((64, 128, 128), 11 * 48 * 1024, 0.185),
        ((128, 384, 384), 15 * 48 * 1024, 1.39),
    ):
        made = inits(fcnn.airbench(widths), (3, 32, 32))[""]
        assert made.out_shape == (10,)
        assert 6 * made.macs * images / 1e15 == pytest.approx(petaflops, rel=0.1)
    made = inits(fcnn.airbench(), (3, 32, 32))[""]
    assert (fcnn.tree.size(made.params), made.macs) == (1_972_792, 118_147_360)
    assert inits(fcnn.airbench(classes=5, channels=1), (1, 28, 28))[""].out_shape == (5,)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fcnn.resnet_cifar(21), ValueError,
         "resnet_cifar's depth is 6 n + 2, such as 20, 32, 44, 56 or 110, got 21"),
        (lambda: fcnn.resnet_cifar(2), ValueError, "depth is an integer of at least 8, got 2"),
        (lambda: fcnn.resnet18(0), ValueError, "classes is an integer of at least 1, got 0"),
        (lambda: fcnn.mobilenet_v2(width=0), ValueError, "width is a number in (0, 8], got 0"),
        (lambda: fcnn.vgg11(dropout=1), ValueError, "dropout is a number in [0, 1), got 1"),
        (lambda: fcnn.airbench((64, 256)), ValueError,
         "widths is the filters of three groups, such as (64, 256, 256), got (64, 256)"),
        (lambda: fcnn.airbench(64), TypeError,
         "widths is the filters of three groups, such as (64, 256, 256), each at least 1, got 64"),
        (lambda: fcnn.airbench(divisor=0), ValueError, "divisor is a number in (0, inf), got 0"),
        (lambda: fcnn.squeezenet1_1(10, dropout="much"), TypeError, "dropout is a number in [0, 1), got 'much'"),
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message


def with_torchvisions_values(name: str, theirs: Any, in_shape: tuple[int, ...]) -> tuple[fcnn.Layer, fcnn.Init]:
    """The network, and torchvision's values in it, in their dtype."""
    network = getattr(fcnn, name)()
    made = inits(network, in_shape)[""]
    values = {path: theirs[there].numpy() for path, there in torchvision_names(name, made).items()}
    assert {there for there in theirs if "num_batches" not in there} == set(torchvision_names(name, made).values())
    for tree in (made.params, made.state):
        for path, leaf in flatten(tree).items():
            assert values[path].shape == leaf.shape
    params, state = (unflatten({path: values[path] for path in flatten(tree)}) for tree in (made.params, made.state))
    return network, made._replace(params=params, state=state)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "vgg11"])
def test_outputs_and_gradients_are_torchvisions(name: str) -> None:
    """In float64, with batch norm's own statistics and with running ones; sums are of up to ten thousand numbers."""
    import torchvision_models
    from torchvision_models import torch

    theirs = torchvision_models.made(name).double()
    network, made = with_torchvisions_values(name, theirs.state_dict(), (3, 64, 64))
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 3, 64, 64)), rng.standard_normal((2, 1000))
    for train in (False, True):
        theirs.train(train)
        for module in theirs.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        plain = fcnn.rewrite(network, lambda path, layer: fcnn.identity() if layer.kind == "dropout" else layer)
        given = torch.tensor(x, requires_grad=True)
        theirs.zero_grad()
        expected = theirs(given)
        expected.backward(torch.tensor(dy))
        out = plain.apply(made.params, made.state, x, train=train)
        close(out.y, expected.detach().numpy())
        grads = plain.backward(made.params, out.cache, dy)
        close(grads.dx, given.grad.numpy())
        slopes = {there: value.grad.numpy() for there, value in theirs.named_parameters()}
        names = torchvision_names(name, made)
        for path, leaf in flatten(grads.params).items():
            close(leaf, slopes[names[path]])
    after = {there: value.numpy() for there, value in theirs.state_dict().items()}
    for path, leaf in flatten(out.state).items():
        close(leaf, after[names[path]])


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", NETWORKS)
def test_one_image_predicted_is_torchvisions(name: str) -> None:
    """In float32, whose sums of some thousand numbers of either sign round by 1e-7 each."""
    import torchvision_models
    from torchvision_models import torch

    theirs = torchvision_models.made(name)
    network, made = with_torchvisions_values(name, theirs.state_dict(), (3, 224, 224))
    x = np.random.default_rng(1).standard_normal((1, 3, 224, 224)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.tensor(x)).numpy()
    found = fcnn.predictor(network, made.params, made.state)(x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def close(found: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * max(1, np.abs(expected).max()))
