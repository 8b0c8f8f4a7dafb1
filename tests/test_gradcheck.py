"""The checker itself: planted bugs must be rejected by path, and kinks must be told from bugs."""

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest

import fcnn
from fcnn import (
    GradientError,
    Grads,
    Layer,
    Tree,
    batch_norm,
    conv2d,
    dense,
    flatten,
    gradcheck,
    gradcheck_function,
    gradcheck_loss,
    max_pool2d,
    mean_squared_error,
    relu,
    serial,
    sigmoid,
    softmax,
    softmax_cross_entropy,
)
from fcnn.values.tree import freeze, set_at

Change = Callable[[Tree, Any, np.ndarray, Grads], Grads]


def broken(layer: Layer, change: Change) -> Layer:
    """`layer` with a bug: `change(params, cache, dy, grads)` spoils the true gradients."""

    def backward(params: Tree, cache: Any, dy: np.ndarray, *, need_dx: bool = True) -> Grads:
        return change(params, cache, dy, layer.backward(params, cache, dy, need_dx=need_dx))

    return attrs.evolve(layer, backward=backward)


def param(path: str, function: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Spoil one parameter's gradient."""

    def change(params: Tree, cache: Any, dy: np.ndarray, grads: Grads) -> Grads:
        value = grads.params
        for name in path.split("/"):
            value = value[name]
        return grads._replace(params=set_at(grads.params, path, function(value)))

    return change


def of_x(function: Callable[[np.ndarray], Any]) -> Change:
    """Spoil dx, in a writable copy."""
    return lambda params, cache, dy, grads: grads._replace(dx=function(np.array(grads.dx)))


def at_border(dx: np.ndarray) -> np.ndarray:
    dx[0, 0, 0, -1] *= 1.01
    return dx


def under_cross_entropy_only(params: Tree, cache: Any, dy: np.ndarray, grads: Grads) -> Grads:
    return grads._replace(dx=dy)  # right if dy is already softmax - onehot


def as_in_the_other_mode(params: Tree, cache: Any, dy: np.ndarray, grads: Grads) -> Grads:
    return batch_norm().backward(params, attrs.evolve(cache, train=not cache.train), dy)


NET = serial(c1=conv2d(2, 3, padding=1), act=relu(), flat=flatten(), fc=dense(3))
BUGS = {  # name: layer, in_shape, bug, mode, the path that must be named
    "1 % of dw": (conv2d(2, 3), (2, 5, 5), param("w", lambda w: 1.01 * w), True, "params/w"),
    "0.01 % of dw": (dense(3), (4,), param("w", lambda w: 1.0001 * w), True, "params/w"),
    "no bias gradient": (conv2d(2, 3), (2, 5, 5), param("b", np.zeros_like), False, "params/b"),
    "flipped filter": (conv2d(2, 3), (2, 5, 5), param("w", lambda w: w[:, :, ::-1, ::-1]), True, "params/w"),
    "transposed filter": (conv2d(2, 3), (2, 5, 5), param("w", lambda w: w.swapaxes(2, 3)), True, "params/w"),
    "swapped channels": (conv2d(2, 3), (2, 5, 5), param("w", lambda w: w.swapaxes(0, 1)), True, "params/w"),
    "sign": (dense(3), (4,), param("b", np.negative), True, "params/b"),
    "mean over the batch": (dense(3), (4,), param("w", lambda w: w / 3), True, "params/w"),
    "deep in a network": (NET, (1, 4, 4), param("c1/w", lambda w: 1.01 * w), True, "params/c1/w"),
    "dx at one border pixel": (conv2d(2, 3, padding=1), (1, 4, 4), of_x(at_border), True, "x"),
    "dx of a large image": (conv2d(2, 3), (3, 9, 9), of_x(lambda dx: np.roll(dx, 1, axis=3)), True, "x"),
    "dx constant": (relu(), (5,), of_x(np.ones_like), True, "x"),
    "dx missing": (dense(3), (4,), of_x(lambda dx: None), True, "x"),
    "dx of NaN": (dense(3), (4,), of_x(lambda dx: np.nan * dx), True, "x"),
    "dx of another shape": (dense(3), (4,), of_x(lambda dx: dx[:1]), True, "x"),
    "derivative of sigmoid": (sigmoid(), (5,), lambda p, y, dy, g: g._replace(dx=dy * y), True, "x"),
    "softmax under cross-entropy only": (softmax(), (5,), under_cross_entropy_only, True, "x"),
    "training formula in evaluation": (batch_norm(), (3, 2, 2), as_in_the_other_mode, False, "x"),
    "evaluation formula in training": (batch_norm(), (3, 2, 2), as_in_the_other_mode, True, "x"),
    "no factor gamma": (
        batch_norm(), (3,), lambda p, c, dy, g: g._replace(dx=g.dx / p["gamma"]), True, "x",
    ),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_rejected(bug: str) -> None:
    layer, in_shape, change, train, path = BUGS[bug]
    assert gradcheck(layer, in_shape, train=train).ok
    with pytest.raises(GradientError, match=rf"^{path}(\[.*\])?: "):
        gradcheck(broken(layer, change), in_shape, train=train)


def test_missing_gradient_is_named() -> None:
    layer = broken(dense(3), lambda params, cache, dy, grads: grads._replace(params=freeze({"w": grads.params["w"]})))
    with pytest.raises(GradientError, match=r"backward gave gradients for x, params/w, expected x, params/w, params/b"):
        gradcheck(layer, (4,), train=True)


def test_one_wrong_element_is_found_by_random_directions_alone() -> None:
    layer = broken(conv2d(2, 3, padding=1), of_x(at_border))
    assert not gradcheck(layer, (1, 4, 4), train=True, elementwise=0, directions=1, raises=False).ok


def test_report_says_what_is_wrong_and_how_much() -> None:
    report = gradcheck(broken(dense(3), param("w", lambda w: 1.01 * w)), (4,), train=True, raises=False)
    assert not report.ok
    assert not report.kinks
    assert report.worst.path == "params/w"
    # 1 in 101 is 0.0099, measured by differences
    assert report.worst.error == pytest.approx(0.01, rel=0.02, abs=0)
    assert {check.path for check in report.checks} == {"x", "params/w", "params/b"}
    assert len(report.checks) == 3 * 3 + 3 * 4 + 3 * 4 + 3  # directions, then every element of x, w and b


def test_result_depends_on_the_key_only() -> None:
    reports = [gradcheck(NET, (1, 4, 4), train=True, key=fcnn.key(seed)) for seed in (4, 4, 5)]
    assert reports[0] == reports[1] != reports[2]


AT_KINKS = {
    "relu at 0": (relu(), np.array([[0.0, 1.0, -1.0]])),
    "leaky relu at 0": (fcnn.leaky_relu(0.5), np.array([[2.0, 0.0, -1.0]])),
    "max pool with a tie": (max_pool2d(2), np.array([[[[1.0, 1.0], [0.0, -1.0]]]])),
    "relu after a layer": (serial(fcnn.avg_pool2d(2), relu()), np.array([[[[1.0, -1.0], [2.0, -2.0]]]])),
}


@pytest.mark.parametrize("name", AT_KINKS)
def test_kinks_are_reported_as_kinks(name: str) -> None:
    layer, x = AT_KINKS[name]
    with pytest.raises(GradientError, match=r"^not differentiable at this point along .* directions, first x"):
        gradcheck(layer, x.shape[1:], train=True, x=x)
    report = gradcheck(layer, x.shape[1:], train=True, x=x, raises=False)
    assert not report.ok
    assert report.kinks
    # What can be measured agrees: the kink is not blamed on the gradient.
    assert all(check.error <= report.tolerance for check in report.checks if check.smooth)


@pytest.mark.parametrize("distance", [1e-1, 3e-4, 3e-5, 3e-6])
def test_points_near_kinks_pass(distance: float) -> None:
    x = np.array([[distance, 1.0, -distance, -1.0]])
    assert gradcheck(relu(), (4,), train=True, x=x).ok
    tied = np.array([[[[1.0, 1.0 + distance], [0.5, 1.0 - distance]]]])
    assert gradcheck(max_pool2d(2), (1, 2, 2), train=True, x=tied).ok
    with pytest.raises(GradientError, match=r"^x"):  # and a bug there is still a bug
        gradcheck(broken(relu(), of_x(lambda dx: 1.01 * dx)), (4,), train=True, x=x)


@pytest.mark.parametrize("distance", [5e-5, 2e-5])
def test_a_slight_kink_near_the_point_is_no_bug(distance: float) -> None:
    """One that is too slight to be told from curvature, and still more than the tolerance."""
    bent = fcnn.branch(merge="sum", a=fcnn.identity(), b=serial(fcnn.normalize(0.0, 5e3), relu()))
    x = np.array([[distance, 1.0, -distance, -1.0]])
    assert gradcheck(bent, (4,), train=True, x=x).ok
    with pytest.raises(GradientError, match=r"^x"):
        gradcheck(broken(bent, of_x(lambda dx: 1.0001 * dx)), (4,), train=True, x=x)


def test_gradients_that_are_zero_pass_and_must_be_zero() -> None:
    layer = serial(conv=conv2d(2, 3), bn=batch_norm())  # the mean takes out any bias
    assert gradcheck(layer, (1, 5, 5), train=True).ok
    with pytest.raises(GradientError, match=r"^params/conv/b"):
        gradcheck(broken(layer, param("conv/b", lambda b: b + 1e-3)), (1, 5, 5), train=True)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
def test_bugs_are_found_whatever_the_size_of_the_gradient(size: float) -> None:
    layer = dense(3, bias=False)
    x = size * np.random.default_rng(0).standard_normal((3, 4))
    assert gradcheck(layer, (4,), train=True, x=x).ok
    with pytest.raises(GradientError, match=r"^params/w"):
        gradcheck(broken(layer, param("w", lambda w: 1.01 * w)), (4,), train=True, x=x)


LOGITS, LABELS = np.random.default_rng(0).standard_normal((4, 5)), np.array([1, 0, 4, 4])
TARGETS = np.random.default_rng(1).standard_normal((4, 5))
LOSSES = {
    "cross-entropy": (softmax_cross_entropy(), LABELS),
    "smoothed cross-entropy": (softmax_cross_entropy(0.1), LABELS),
    "mean squared error": (mean_squared_error(), TARGETS),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_pass(name: str) -> None:
    loss, targets = LOSSES[name]
    assert gradcheck_loss(loss, LOGITS, targets).ok
    assert gradcheck_loss(loss, 30 * LOGITS, targets).ok


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "spoil",
    [lambda d: 1.01 * d, lambda d: d * len(d), np.negative, lambda d: d[::-1], lambda d: d + 1e-4 * (d == d.max())],
    ids=["1 %", "sum over the batch", "sign", "rows in another order", "one element"],
)
def test_planted_loss_bugs_are_rejected(name: str, spoil: Callable[[np.ndarray], np.ndarray]) -> None:
    loss, targets = LOSSES[name]

    def wrong(outputs: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
        value, d_outputs = loss(outputs, targets)
        return value, spoil(d_outputs)

    with pytest.raises(GradientError, match=r"^outputs(\[.*\])?: backward says .* central differences"):
        gradcheck_loss(wrong, LOGITS, targets)


def test_smoothing_left_out_of_the_gradient_is_rejected() -> None:
    def wrong(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
        return softmax_cross_entropy(0.1)(logits, labels)[0], softmax_cross_entropy()(logits, labels)[1]

    with pytest.raises(GradientError, match=r"^outputs"):
        gradcheck_loss(wrong, LOGITS, LABELS)


def cubes(values: Tree) -> float:
    return float((values["a"] ** 3).sum() + (values["b"]["c"] * values["a"][0]).sum())


AT = freeze({"a": np.array([0.5, -2.0]), "b": {"c": np.array([[1.0, 3.0]])}})
SLOPES = freeze({"a": np.array([0.75 + 4.0, 12.0]), "b": {"c": np.array([[0.5, 0.5]])}})


def test_the_gradient_of_any_function_is_checked_at_its_point() -> None:
    report = gradcheck_function(cubes, AT, SLOPES)
    assert report.ok
    assert {check.path for check in report.checks} == {"a", "b/c"}
    assert len(report.checks) == 2 * 3 + 4
    analytic = {(check.path, check.element): check.analytic for check in report.checks if check.element}
    assert analytic[("a", (1,))] == 12
    for path, wrong in (("a", np.array([4.75, 12.01])), ("b/c", np.array([[0.5, 0.0]]))):
        with pytest.raises(GradientError, match=rf"^{path}.*: backward says"):
            gradcheck_function(cubes, AT, set_at(SLOPES, path, wrong))


def test_the_loss_of_a_network_is_checked_at_its_own_weights() -> None:
    """Of float32, too: the gradient has its precision then."""
    network, loss, batch = NET, softmax_cross_entropy(), (np.ones((2, 1, 4, 4), np.float32), np.array([0, 2]))
    for dtype, tolerance in ((np.float64, 1e-6), (np.float32, 1e-4)):
        start = fcnn.init_state(network, fcnn.sgd(0.1), fcnn.key(0), (1, 4, 4), dtype)
        slope = fcnn.gradient(network, loss)
        grads = slope(start.params, start.layer_state, start.key, batch).grads

        def value(params: Tree) -> float:
            y = network.apply(params, fcnn.freeze({}), batch[0].astype(np.float64), train=True).y
            return loss(y, batch[1])[0]

        assert gradcheck_function(value, start.params, grads, tolerance=tolerance).ok
        with pytest.raises(GradientError, match=r"^c1/b"):
            gradcheck_function(value, start.params, set_at(grads, "c1/b", grads["c1"]["b"] * 1.01), tolerance=tolerance)


def test_a_gradient_for_other_paths_is_named() -> None:
    with pytest.raises(GradientError, match=r"^backward gave gradients for a, expected a, b/c$"):
        gradcheck_function(cubes, AT, freeze({"a": SLOPES["a"]}))
