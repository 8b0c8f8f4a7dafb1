"""What a network of digits says of the figures on a sheet, and of which it had better say nothing."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import numpy as np

from fcnn.data.figures import Figure
from fcnn.network.model import Model, expect_model
from fcnn.training.prediction import predict
from fcnn.values.arrays import NDArray, frozen
from fcnn.values.checks import number, told

Floats = NDArray[np.float64]

LEAST = 0.75
"""The least probability, averaged over views, with which a figure is told: see `read_figures`."""

# Each view: down and right in pixels, clockwise in degrees, and how many times as large.
_VIEWS = (
    (0, 0, 0, 1.0),
    *((1, 0, 0, 1.0), (-1, 0, 0, 1.0), (0, 1, 0, 1.0), (0, -1, 0, 1.0)),
    *((0, 0, 10, 1.0), (0, 0, -10, 1.0), (0, 0, 0, 0.85), (0, 0, 0, 1.15)),
)


@attrs.frozen(eq=False)
class Reading:
    """What a network says of one figure.

    prediction: the class, 0 to K - 1; None: none of them.
    label: the class's name; None where there is no prediction.
    probability: of the likeliest class, over all views of the figure.
    probabilities: of every class, float64 (K,).
    reason: why it is none; empty where there is a prediction.
    """

    prediction: int | None
    label: str | None
    probability: float
    probabilities: Floats = attrs.field(repr=False)
    reason: str = ""


def read_figures(
    model: Model,
    figures: Sequence[Figure],
    *,
    least: float = LEAST,
    map_fn: Callable[..., Iterable[Any]] = map,
) -> list[Reading]:
    """Tell each figure's class, or that it is none.

    A network that knows ten digits sees one of them in everything. So nine views of each figure are asked for: as it
    is, moved by a pixel in four directions, turned by 10 degrees either way, and scaled by 0.85 and 1.15. What stands
    on chance falls apart under them. A figure is none where no class has a mean probability of at least `least`, or its
    shape can't be a digit's (`Figure.flaw`).

    Many that are no digits are told as digits all the same. LeNet-5 after three epochs on MNIST, at 0.75, refused 3.5 %
    of those of 2,000 test digits that it was right about, and 31 of the 40 that it was wrong about; and it refused 73 %
    of 150 random scribbles, 55 % of 111 letters of three fonts (none of C, I, J, L, O, S), 88 % of 48 geometric shapes
    and 68 % of what stands out in 60 photographs of CIFAR-10. One view at the same threshold: 1.7 %, 26 of 40; 49, 41,
    58 and 65 %.

    Args:
        model: of images (1, 28, 28).
        figures: as `fcnn.data.figures.find_figures` gives them.
        least: 0 tells everything, 1 only what is certain to the last digit.
        map_fn: as `evaluate` takes it.

    Raises:
        TypeError: model is no Model, or figures are no list of Figure.
        ValueError: the network takes images of another shape; least is outside [0, 1].
    """
    expect_model("model", model)
    number("least", least, "[0, 1]")
    if not isinstance(figures, (list, tuple)) or not all(isinstance(figure, Figure) for figure in figures):
        raise TypeError(
            f"figures are a list of Figure, as fcnn.data.figures.find_figures gives it, got {told(figures)}"
        )
    if model.in_shape != (1, 28, 28):
        raise ValueError(f"read_figures expects a network of images (1, 28, 28), got one of {model.in_shape}")
    if not figures:
        return []
    images = np.stack([figure.pixels for figure in figures])
    found = predict(model, views(images).reshape(-1, *images.shape[1:]), map_fn=map_fn)
    probabilities = found.probabilities.reshape(len(figures), len(_VIEWS), -1).mean(axis=1)
    readings = []
    for figure, row in zip(figures, probabilities, strict=True):
        best = int(row.argmax())
        unsure = f"not like a digit: at most {row[best]:.0%} over views of it" if row[best] < least else ""
        reason = figure.flaw or unsure
        prediction, label = (None, None) if reason else (best, found.names[best])
        readings.append(Reading(prediction, label, float(row[best]), frozen(row), reason))
    return readings


def views(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Nine views of each image, uint8 (N, 9, C, H, W): see `read_figures`. What comes in from outside is black.

    Args:
        images: uint8 (N, C, H, W).
    """
    height, width = images.shape[2:]
    down, right = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    rimmed = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.float32)
    seen = np.empty((len(images), len(_VIEWS), *images.shape[1:]), np.uint8)
    for which, (move_down, move_right, turn, scale) in enumerate(_VIEWS):
        angle = np.deg2rad(turn)
        y, x = (down - move_down) / scale, (right - move_right) / scale
        rows = np.cos(angle) * y - np.sin(angle) * x + (height - 1) / 2
        columns = np.sin(angle) * y + np.cos(angle) * x + (width - 1) / 2
        rows, columns = np.clip(rows, -1, height) + 1, np.clip(columns, -1, width) + 1
        top, left = np.minimum(rows.astype(int), height), np.minimum(columns.astype(int), width)
        below, beside = rows - top, columns - left
        upper = rimmed[:, :, top, left] * (1 - beside) + rimmed[:, :, top, left + 1] * beside
        lower = rimmed[:, :, top + 1, left] * (1 - beside) + rimmed[:, :, top + 1, left + 1] * beside
        seen[:, which] = np.rint(upper * (1 - below) + lower * below)
    return seen
