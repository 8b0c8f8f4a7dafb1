"""Check backward functions against central differences, in float64.

For a direction u and a step h the derivative of f(t) = sum(c * apply(p + t u)) at 0 is measured as
(f(h) - f(-h)) / 2h and compared with what `backward` says for dy = c: the inner product of the gradient with u. A
direction costs five evaluations whatever the size; small arrays are also checked element by element.

A kink (ReLU at 0, a tie in a max pool) within ±h makes the *measurement* wrong, not the gradient. Instead of
loosening the tolerance it is detected: a smooth f has the same differences at h and at h / 2, up to h². Where they
disagree the direction is tried again with smaller steps, and if they never agree it is reported as one along which
the function has no derivative.

Ideas from Chainer's `gradient_check` and autograd's random directions.
"""

import math
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from fcnn.network.layer import Layer, Shape, expect_layer
from fcnn.training.arguments import measured
from fcnn.training.loss import Loss, expect_loss, loss_of
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import array, boolean, integer, lengths, number, told
from fcnn.values.checks import function as expect_function
from fcnn.values.keys import Key, expect_key, fold_in, generator
from fcnn.values.keys import key as make_key
from fcnn.values.tree import EMPTY, Tree, astype, expect_tree, flatten, freeze, set_at

_STEPS = (1e-4, 1e-5, 1e-6)  # for values around 1; the smaller ones only where a kink lies within the greater
_MOST_INPUTS = 1_000_000
_GREATEST = 1e6  # of values that leave a step of 1e-4 as many digits as the default tolerance asks for
_SMOOTH = 1e-4  # the greatest relative change of slope between h and h / 2 that curvature explains


class GradientError(AssertionError):
    """A gradient is wrong, or can't be measured at this point; the message names the worst path, or the first."""


@attrs.frozen
class Check:
    """One comparison: `path` is `x` or `params/…`, `element` an index or None for a random direction."""

    path: str
    element: tuple[int, ...] | None
    analytic: float
    numeric: float
    error: float
    smooth: bool

    def __str__(self) -> str:
        where = self.path if self.element is None else f"{self.path}{list(self.element)}"
        return f"{where}: backward says {self.analytic:.10g}, central differences {self.numeric:.10g}"


@attrs.frozen
class Report:
    """All comparisons, and how the worst one stands: `worst.error` is relative to the gradient's size."""

    checks: tuple[Check, ...]
    tolerance: float

    @property
    def worst(self) -> Check:
        """The comparison with the greatest relative error, of those that could be measured if there are any."""
        return max(self.checks, key=lambda check: (check.smooth, check.error))

    @property
    def kinks(self) -> tuple[Check, ...]:
        """Directions along which the function has no derivative here."""
        return tuple(check for check in self.checks if not check.smooth)

    @property
    def ok(self) -> bool:
        """Whether everything could be measured and agrees."""
        return not self.kinks and self.worst.error <= self.tolerance


def gradcheck(
    layer: Layer,
    in_shape: Shape,
    *,
    train: bool,
    batch: int = 3,
    key: Key | None = None,
    x: Array | None = None,
    directions: int = 3,
    elementwise: int = 60,
    tolerance: float = 1e-6,
    raises: bool = True,
) -> Report:
    """Check a layer's or network's `backward` for every parameter and for x, under a random dy.

    Args:
        layer: what to check, at parameters from its own `init`, moved a little so that none is 0 or 1 exactly.
        in_shape: one input's shape without the batch axis.
        train: the mode.
        batch: how many inputs.
        key: seeds everything; `fcnn.key(0)` when None.
        x: the point; drawn from a normal distribution when None.
        directions: random directions an array.
        elementwise: arrays of at most so many numbers are checked element by element too.
        tolerance: the greatest relative error, |analytic - numeric| / the gradient's size along such a direction.
        raises: raise GradientError on failure, instead of leaving it to the report.

    >>> from fcnn import conv2d
    >>> gradcheck(conv2d(2, 3), (2, 5, 5), train=True).ok
    True
    """
    expect_layer("layer", layer)
    in_shape = lengths("in_shape", in_shape)
    boolean("train", train)
    integer("batch", batch, least=1, most=_MOST_INPUTS)
    root = _checked_options(key, directions, elementwise, tolerance, raises)
    point = _point("x", x, in_shape) if x is not None else _normal(fold_in(root, "x"), (batch, *in_shape))
    made = layer.init(fold_in(root, "init"), in_shape)
    params = _moved(astype(made.params, np.float64), fold_in(root, "params"))
    state = astype(made.state, np.float64)
    dropout_key = fold_in(root, "apply")

    def forward(values: Tree) -> Array:
        p = values.get("params", EMPTY)
        return layer.apply(p, state, values["x"], train=train, key=dropout_key).y

    out = layer.apply(params, state, point, train=train, key=dropout_key)
    weights = _normal(fold_in(root, "dy"), out.y.shape)
    grads = layer.backward(params, out.cache, weights)
    if grads.dx is None:
        raise GradientError("x: backward gave no dx, though need_dx is True by default")
    values = freeze({"x": point, **({"params": params} if params else {})})
    gradient = freeze({"x": grads.dx, **({"params": grads.params} if grads.params else {})})
    return _check(
        lambda v: float((forward(v) * weights).sum()),
        values,
        gradient,
        root,
        directions,
        elementwise,
        tolerance,
        raises,
    )


def gradcheck_loss(
    loss: Loss,
    outputs: Array,
    targets: Any,
    *,
    key: Key | None = None,
    directions: int = 3,
    elementwise: int = 60,
    tolerance: float = 1e-6,
    raises: bool = True,
) -> Report:
    """Check a loss's `d_outputs`; arguments and report as for `gradcheck`, with outputs under the path `outputs`.

    >>> from fcnn import softmax_cross_entropy
    >>> gradcheck_loss(softmax_cross_entropy(0.1), np.eye(3), np.array([0, 2, 1])).ok
    True
    """
    expect_loss("loss", loss)
    root = _checked_options(key, directions, elementwise, tolerance, raises)
    point = freeze({"outputs": _point("outputs", outputs, None)})
    gradient = freeze({"outputs": loss_of(loss, point["outputs"], targets)[1]})

    def value(values: Tree) -> float:
        return loss_of(loss, values["outputs"], targets)[0]

    return _check(value, point, gradient, root, directions, elementwise, tolerance, raises)


def gradcheck_function(
    function: Callable[[Tree], float],
    values: Tree,
    gradient: Tree,
    *,
    key: Key | None = None,
    directions: int = 3,
    elementwise: int = 60,
    tolerance: float = 1e-6,
    raises: bool = True,
) -> Report:
    """Check the gradient of any function at any point, such as a network's loss at the weights that it has.

    Other arguments and the report are as for `gradcheck`, with the paths of `values`.

    Args:
        function: from a tree like `values`, of float64, to a number.
        values: the point.
        gradient: the function's there, a tree of the same paths and shapes.

    >>> from fcnn import dense, gradient, init_state, key, sgd, softmax_cross_entropy
    >>> network, batch = dense(2), (np.eye(3), np.array([0, 1, 1]))
    >>> start = init_state(network, sgd(0.1), key(0), (3,), np.float64)
    >>> slope = gradient(network, softmax_cross_entropy())
    >>> at = lambda params: slope(params, start.layer_state, start.key, batch)
    >>> gradcheck_function(lambda params: at(params).loss, start.params, at(start.params).grads).ok
    True
    """
    expect_function("function", function, "a function from a tree like values to a number")
    point = astype(expect_tree("values", values), np.float64)
    slopes = astype(expect_tree("gradient", gradient), np.float64)
    root = _checked_options(key, directions, elementwise, tolerance, raises)

    def value(changed: Tree) -> float:
        return measured("gradcheck_function's function gives", function(changed))

    return _check(value, point, slopes, root, directions, elementwise, tolerance, raises)


def _checked_options(key: Any, directions: int, elementwise: int, tolerance: float, raises: bool) -> Key:
    """The key that seeds everything, once the other options are known to be such."""
    integer("directions", directions, least=0)
    integer("elementwise", elementwise, least=0)
    number("tolerance", tolerance, "(0, inf)")
    boolean("raises", raises)
    return make_key(0) if key is None else expect_key("key", key)


def _point(name: str, value: Any, in_shape: Shape | None) -> Array:
    """Where derivatives are measured, as float64; of a layer's input, (N, …) with its `in_shape`."""
    point = array(name, value, "real numbers")
    if point.dtype.kind == "c" or not point.size:
        raise ValueError(f"{name} are real numbers, at least one, got {told(point)}")
    if in_shape is not None and point.shape[1:] != in_shape:
        raise ValueError(f"x has the shape (N, {', '.join(map(str, in_shape))}), got {point.shape}")
    return frozen(point.astype(np.float64))


def _check(
    function: Callable[[Tree], float],
    values: Tree,
    gradient: Tree,
    root: Key,
    directions: int,
    elementwise: int,
    tolerance: float,
    raises: bool,
) -> Report:
    points, slopes = flatten(values), flatten(gradient)
    if points.keys() != slopes.keys():
        raise GradientError(f"backward gave gradients for {', '.join(slopes)}, expected {', '.join(points)}")
    checks: list[Check] = []
    for path, point in points.items():
        if slopes[path].shape != point.shape:
            raise GradientError(f"{path}: the gradient's shape is {slopes[path].shape}, expected {point.shape}")
        greatest = np.abs(point).max(initial=0.0)
        if not greatest <= _GREATEST:
            raise GradientError(
                f"{path} holds {greatest:.3g}, where steps of {_STEPS[0]:g} measure nothing; choose a point of numbers "
                f"around 1, at most {_GREATEST:g}"
            )
        if not (finite := np.isfinite(slopes[path])).all():
            raise GradientError(f"{path}: the gradient holds {slopes[path][~finite][0]}, expected finite numbers")
        along = fold_in(fold_in(root, "directions"), path)
        tried: list[tuple[tuple[int, ...] | None, Array]]
        tried = [(None, _normal(fold_in(along, number), point.shape)) for number in range(directions)]
        if point.size <= elementwise:
            for element in np.ndindex(point.shape):
                unit: Array = np.zeros(point.shape)
                unit[element] = 1
                tried.append((element, unit))
        for which, u in tried:
            checks.append(_compare(function, values, path, which, u, slopes[path], tolerance))
    if not checks:
        raise ValueError("nothing is compared: directions is 0, and no array has as few numbers as elementwise")
    report = Report(tuple(checks), tolerance)
    if raises and report.kinks:
        raise GradientError(
            f"not differentiable at this point along {len(report.kinks)} of {len(checks)} directions, first "
            f"{report.kinks[0]}; choose another key or x"
        )
    if raises and not report.ok:
        raise GradientError(f"{report.worst} (relative error {report.worst.error:.2g}, tolerance {tolerance:.2g})")
    return report


def _compare(
    function: Callable[[Tree], float],
    values: Tree,
    path: str,
    element: tuple[int, ...] | None,
    u: Array,
    slope: Array,
    tolerance: float,
) -> Check:
    point = flatten(values)[path]
    analytic = float((slope * u).sum())
    # What counts as small: the size of the gradient along a typical direction as long as u, because the inner
    # product with u itself may be small by accident.
    scale = max(abs(analytic), math.sqrt(float((slope * slope).mean() * (u * u).sum())))
    middle = function(values)

    def value(t: float) -> float:
        return function(set_at(values, path, frozen(point + t * u)))

    best: tuple[float, float, float] | None = None
    for h in _STEPS:
        resolution = 100 * np.finfo(float).eps * max(abs(middle), 1.0) / h  # rounding of f, carried to the quotient
        far, near = (value(h), value(-h)), (value(h / 2), value(-h / 2))
        wide, narrow = (far[0] - far[1]) / (2 * h), (near[0] - near[1]) / h
        # The jump of the slope within the step: 0 up to h² for a smooth f, the jump itself for a kink in the middle.
        jump = abs(2 * (near[0] - 2 * middle + near[1]) / (h / 2) - (far[0] - 2 * middle + far[1]) / h)
        gap = max(abs(wide - narrow), jump) / max(scale, abs(narrow), resolution / _SMOOTH)
        numeric = (4 * narrow - wide) / 3  # Richardson: the h² terms cancel
        error = abs(analytic - numeric) / max(scale, abs(numeric), resolution / tolerance)
        if best is None or gap < best[0]:
            best = gap, numeric, error
        if gap <= _SMOOTH and error <= tolerance:
            break  # else a slight kink may lie within the step, which a smaller one avoids
    assert best is not None
    gap, numeric, error = best
    return Check(path, element, analytic, numeric, error, gap <= _SMOOTH)


def _moved(params: Tree, key: Key) -> Tree:
    """The parameters plus small random numbers, so that biases of 0 and scales of 1 hide no mistake."""
    for path, leaf in flatten(params).items():
        params = set_at(params, path, frozen(leaf + 0.1 * _normal(fold_in(key, path), leaf.shape)))
    return params


def _normal(key: Key, shape: Shape) -> Array:
    return frozen(generator(key).standard_normal(shape))
