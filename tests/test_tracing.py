"""Outputs and gradients by path, against central differences; saliency and Grad-CAM."""

import numpy as np
import pytest
from cases import CASES, descendants

import fcnn
from fcnn import Out
from fcnn.values.tree import astype, flatten

KEY = fcnn.key(0)


def nested():
    return fcnn.serial(
        norm=fcnn.normalize(0.1, 0.5),
        conv1=fcnn.conv2d(3, 3, padding=1),
        bn1=fcnn.batch_norm(),
        act=fcnn.tanh(),
        res1=fcnn.residual(fcnn.serial(conv=fcnn.conv2d(3, 3, padding=1), drop=fcnn.dropout(0.3))),
        mix=fcnn.branch(merge="concat", a=fcnn.conv2d(2, 1), b=fcnn.serial(fcnn.avg_pool2d(3, stride=1, padding=1))),
        pool=fcnn.global_avg_pool2d(),
        fc=fcnn.dense(4),
    )


@pytest.fixture
def values():
    made = nested().init(KEY, (2, 5, 4))
    x = fcnn.generator(fcnn.key(1)).standard_normal((3, 2, 5, 4))
    return astype(made.params, np.float64), astype(made.state, np.float64), x


def in_training(layer, path=""):
    """The paths of a network's layers but for views, which training doesn't look at."""
    yield path
    for name, child in layer.children.items():
        if layer.kind != "averaged_views" or name == "network":
            yield from in_training(child, f"{path}/{name}" if path else name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_layer_is_there_and_nothing_changes(case):
    made = case.layer.init(KEY, case.in_shape)
    x = fcnn.generator(fcnn.key(1)).standard_normal((3, *case.in_shape)).astype(np.float32)
    plain = fcnn.rewrite(case.layer, lambda path, layer: layer)  # which undoes `fuse`, as tracing does
    out = plain.apply(made.params, made.state, x, train=True, key=KEY)
    grads = plain.backward(made.params, out.cache, out.y)
    found = fcnn.trace(case.layer, made.params, made.state, x, dy=lambda y: y, train=True, key=KEY)
    assert set(found.outputs) == set(found.gradients) == set(in_training(case.layer))
    assert found.outputs[""].tobytes() == out.y.tobytes()
    assert found.dx.tobytes() == grads.dx.tobytes()
    assert found.grads == grads.params
    assert all(found.gradients[path].shape == y.shape for path, y in found.outputs.items())
    forward = fcnn.trace(case.layer, made.params, made.state, x, train=True, key=KEY)
    assert (dict(forward.gradients), forward.dx, forward.grads) == ({}, None, None)


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("path", [path for path, _ in descendants(nested())])
def test_gradients_are_those_of_central_differences(values, path, train):
    params, state, x = values
    rng = np.random.default_rng(0)
    dy = rng.standard_normal((3, 4))
    found = fcnn.trace(nested(), params, state, x, dy=dy, train=train, key=KEY)
    direction = rng.standard_normal(found.outputs[path].shape)

    def moved(step):
        """sum(dy * y) of the network in which the output at the path is moved."""

        def rule(here, layer):
            if here != path:
                return layer

            def apply(params, state, x, *, train, key=None):
                out = layer.apply(params, state, x, train=train, key=key)
                return Out(out.y + step * direction, out.state, out.cache)

            return attrs_evolve(layer, apply)

        y = fcnn.rewrite(nested(), rule).apply(params, state, x, train=train, key=KEY).y
        return float((dy * y).sum())

    h = 1e-5
    measured = (moved(h) - moved(-h)) / (2 * h)
    # central differences: h² = 1e-10 times a third derivative, and roundings of 1e-16 / h
    assert float((found.gradients[path] * direction).sum()) == pytest.approx(measured, rel=1e-6, abs=1e-9)


def attrs_evolve(layer, apply):
    import attrs

    return attrs.evolve(layer, apply=apply, rewritten=True)


@pytest.fixture(scope="module")
def lenet():
    digits = fcnn.data.make_digits(fcnn.key(5), 3000)
    return fcnn.fit(fcnn.lenet5(), digits, epochs=3, progress=False).model, digits


def images_of(split, count=20):
    return fcnn.data.as_batch(split.x[:count], split.y[:count]).x


@pytest.mark.parametrize("picture", [fcnn.saliency, fcnn.grad_cam])
def test_pictures_are_warm_on_the_strokes(lenet, picture):
    model, digits = lenet
    x = images_of(digits)
    maps = picture(model.network, model.params, model.state, x)
    assert maps.shape == (20, 28, 28)
    assert (maps >= 0).all()
    assert not maps.flags.writeable
    ink = x[:, 0] > 0.3
    near = np.zeros_like(ink)  # the strokes and two pixels around them
    for down in range(-2, 3):
        for right in range(-2, 3):
            near |= np.roll(ink, (down, right), axis=(1, 2))
    warmth = [maps[k][near[k]].mean() / maps[k].mean() for k in range(len(maps)) if maps[k].any()]
    assert np.median(warmth) > 1.5


def test_grad_cam_is_the_formula(lenet):
    model, digits = lenet
    x, classes = images_of(digits, 4), np.array([3, 1, 4, 1])
    one_hot = np.eye(10, dtype=np.float32)[classes]
    found = fcnn.trace(model.network, model.params, model.state, x, dy=one_hot)
    for path, side in (("conv1", 28), ("relu1", 28)):  # of the images' size, so nothing is scaled
        weights = found.gradients[path].mean(axis=(2, 3))
        expected = np.maximum(np.einsum("nc,nchw->nhw", weights, found.outputs[path]), 0)
        maps = fcnn.grad_cam(model.network, model.params, model.state, x, classes=classes, path=path)
        assert maps.shape == (4, side, side)
        # float32, rounded by 6e-8: sums of six products in another order, which may cancel
        np.testing.assert_allclose(maps, expected / expected.max(axis=(1, 2), keepdims=True), rtol=0, atol=1e-5)
    default = fcnn.grad_cam(model.network, model.params, model.state, x, classes=classes)
    named = fcnn.grad_cam(model.network, model.params, model.state, x, classes=classes, path="conv1")
    assert (default == named).all()  # conv2 has no padding, and so is cropped


def test_saliency_is_the_greatest_slope_of_the_score(lenet):
    model, digits = lenet
    x = images_of(digits, 3)
    one_hot = np.eye(10, dtype=np.float32)[[7, 0, 2]]
    dx = fcnn.trace(model.network, model.params, model.state, x, dy=one_hot).dx
    found = fcnn.saliency(model.network, model.params, model.state, x, classes=np.array([7, 0, 2]))
    assert (found == np.abs(dx[:, 0])).all()


def test_paths_of_a_trace_are_those_of_the_parameters(values):
    params, state, x = values
    found = fcnn.trace(nested(), params, state, x)
    assert {path.rpartition("/")[0] for path in flatten(params)} <= set(found.outputs)


def test_the_gradient_that_is_given_is_not_handed_out_again():
    params = fcnn.freeze({"w": np.eye(2), "b": np.zeros(2)})
    dy = np.ones((3, 2))
    found = fcnn.trace(fcnn.dense(2), params, fcnn.freeze({}), np.ones((3, 2)), dy=dy)
    assert not found.gradients[""].flags.writeable
    assert not np.shares_memory(found.gradients[""], dy)
