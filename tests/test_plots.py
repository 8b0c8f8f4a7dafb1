"""Figures: what is drawn for histories with gaps and for maps, that notebooks show it, and what is refused."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from fcnn.inspection import plots


def history(count=3, **more):
    full = {"train_loss": 0.5, "train_accuracy": 0.75, "validation_loss": 0.25, "validation_accuracy": 0.5}
    return [{"epoch": epoch, **full, **more} for epoch in range(1, count + 1)]


def lines(axes):
    return {line.get_label(): list(line.get_ydata()) for line in axes.lines}


def test_curves_draws_loss_and_accuracy():
    figure = plots.curves(history(), "a title", "test", loss_name="cross-entropy (nats)")
    loss, accuracy = figure.axes
    training = "training (mean over the epoch)"
    assert lines(loss) == {training: [0.5] * 3, "test": [0.25] * 3}
    assert lines(accuracy) == {training: [75] * 3, "test": [50] * 3}
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("cross-entropy (nats)", "accuracy (%)")
    assert figure.get_suptitle() == "a title"


def test_curves_leaves_out_what_is_not_known():
    nothing = {"validation_loss": None, "validation_accuracy": None}
    assert [list(lines(axes)) for axes in plots.curves(history(**nothing)).axes] == [
        ["training (mean over the epoch)"],
        ["training (mean over the epoch)"],
    ]
    regression = plots.curves(history(train_accuracy=None, validation_accuracy=None, metrics={"worst": 3.0}))
    assert [axes.get_ylabel() for axes in regression.axes] == ["loss"]
    assert list(lines(regression.axes[0])) == ["training (mean over the epoch)", "validation"]
    later = plots.curves([*history(1, **nothing), *history(2)[1:]])
    np.testing.assert_array_equal(lines(later.axes[0])["validation"], [np.nan, 0.25])
    only = plots.curves([{"epoch": 1, "train_loss": 0.5}])
    assert [axes.get_ylabel() for axes in only.axes] == ["loss"]


def test_curves_of_no_epoch_is_empty():
    figure = plots.curves([])
    figure.savefig(io.BytesIO())
    assert not figure.axes[0].lines


def images(count, channels=1, side=6):
    return np.random.default_rng(0).integers(0, 256, (count, channels, side, side)).astype(np.uint8)


@pytest.mark.parametrize("count", [1, 4, 5, 7])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_heatmaps_draws_each_image_above_its_map(count, channels):
    x = images(count, channels)
    maps = np.arange(count)[:, None, None] * x[:, 0] / 7  # the first one is 0 everywhere
    *panels, bar = plots.heatmaps(x, maps, titles=[f"class {k}" for k in range(count)], name="warmth").axes
    drawn = [axes for axes in panels if axes.images]
    above = [axes for axes in drawn if axes.get_title()]
    below = [axes for axes in drawn if not axes.get_title()]
    assert [axes.get_title() for axes in above] == [f"class {k}" for k in range(count)]
    for picture, axes, map_, its in zip(x, above, maps, below, strict=False):
        pixels = axes.images[0].get_array()
        assert pixels.shape == ((6, 6, 3) if channels == 3 else (6, 6))
        assert (pixels.min(), pixels.max()) == (0, 1)
        np.testing.assert_allclose(its.images[0].get_array(), map_ / (map_.max() or 1), rtol=1e-15)  # a quotient
        assert axes.get_position().x0 == pytest.approx(
            its.get_position().x0, abs=1e-3
        )  # of the figure's width: less than a pixel
        assert picture.shape == (channels, 6, 6)
    assert len(above) == len(below) == count
    assert bar.get_ylabel() == "warmth\nas a share of its greatest"


@pytest.mark.parametrize("figure", [plots.curves(history()), plots.heatmaps(images(2), images(2)[:, 0])])
def test_a_figure_shows_itself_as_png(figure):
    data, size = figure._repr_png_()
    width, height = figure.get_size_inches()
    pixels = imread(io.BytesIO(data))
    assert pixels.shape[:2] == (round(height * 150), round(width * 150))
    assert size == {"width": round(width * 96), "height": round(height * 96)}


@pytest.mark.parametrize("value", [0.0, 7.0, 1e300, -np.inf, np.nan])
def test_heatmaps_of_a_constant_and_of_numbers_that_are_none(value):
    images = np.full((1, 1, 4, 4), value)
    images[0, 0, 0, 0] = -1e300 if value == 1e300 else value
    maps = np.zeros((1, 4, 4))
    maps[0, 1] = value if not np.isfinite(value) else 0
    above, below, _ = plots.heatmaps(images, maps).axes
    for axes, numbers in ((above, images[0, 0]), (below, maps[0])):
        drawn = np.ma.masked_invalid(axes.images[0].get_array())  # blank where there is nothing to draw
        assert drawn.mask.any() == (not np.isfinite(numbers).all())
        assert drawn.compressed().min(initial=0) >= 0
        assert drawn.compressed().max(initial=0) <= 1
