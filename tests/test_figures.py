"""Figures on sheets and photographs: found, in order, told right; and what is no figure, or none that a digit is."""

import numpy as np
import pytest
from picture_files import enlarged
from PIL import Image
from sheets import (
    dithered,
    drawn,
    framed,
    noisy,
    photograph,
    ruled,
    scribble,
    sheet_of_ten,
    skewed,
    twelve_bits,
    unevenly_lit,
)

import fcnn
from fcnn.data import components, pictures
from fcnn.data.cleaning import SEVERAL
from fcnn.data.figures import Figure, draw_boxes, find_figures
from fcnn.data.ink import find_ink
from fcnn.data.strokes import stroke_width, thickened
from fcnn.training.reading import read_figures, views

TRAIN = fcnn.data.make_digits(fcnn.key(1), 4000)
DIGITS = fcnn.data.make_digits(fcnn.key(7), 20)


@pytest.fixture(scope="module")
def model():
    """LeNet on the embedded digits, moved about a little."""
    fitted = fcnn.fit(
        fcnn.lenet5((1, 28, 28), 10),
        fcnn.Dataset(TRAIN, DIGITS, "digits", tuple("0123456789")),
        epochs=6,
        batch_size=64,
        optimizer=fcnn.adam(2e-3),
        transform=fcnn.data.random_affine(8, 0.1, 1),
        workers=1,
        progress=False,
    )
    return fitted.model


def told(model, figures):
    return fcnn.predict(model, np.stack([figure.pixels for figure in figures])).classes.tolist()


def right(model, figures, truth):
    """How many are right; there must be as many as there are, and in their order."""
    assert len(figures) == len(truth)
    return int((np.array(told(model, figures)) == truth).sum())


@pytest.mark.parametrize("kind", ["fonts", "strokes", "both"])
@pytest.mark.parametrize("graph_paper", [False, True])
def test_nine_of_ten_digits_on_a_skewed_ruled_sheet_in_the_shadow(model, kind, graph_paper):
    sheet = sheet_of_ten(np.random.default_rng(3), kind, graph_paper=graph_paper)
    figures = find_figures(sheet.picture)
    assert right(model, figures, sheet.truth) >= 9
    for figure, (x, y) in zip(figures, sheet.middles, strict=True):
        left, top, right_, bottom = figure.box
        assert left < x < right_
        assert top < y < bottom
        assert (figure.pixels.dtype, figure.pixels.shape, figure.pixels.flags.writeable) == (
            np.uint8, (1, 28, 28), False,
        )  # fmt: skip
        assert not figure.flaw
        assert {"shading removed", "noise removed", "lines removed"} <= set(figure.notes)


def test_a_thin_pens_strokes_are_thickened_as_mnists_are(model):
    sheet = sheet_of_ten(np.random.default_rng(5), "strokes", pen=2)
    figures = find_figures(sheet.picture)
    assert right(model, figures, sheet.truth) >= 9
    widths = [stroke_width(figure.pixels[0] / np.float32(255)) for figure in figures]
    assert 1.9 < np.median(widths) < 3
    assert all("thickened" in figure.notes for figure in figures)


@pytest.mark.parametrize("slant", [-6, 6])
def test_two_lines_are_read_one_after_the_other(slant):
    sheet = sheet_of_ten(np.random.default_rng(2), "fonts", slant=slant)
    middles = [((f.box[0] + f.box[2]) / 2, (f.box[1] + f.box[3]) / 2) for f in find_figures(sheet.picture)]
    np.testing.assert_allclose(middles, sheet.middles, rtol=0, atol=25)


FORMS = {
    "noise": noisy,
    "much noise": lambda grey: noisy(grey, 25),
    "shading": unevenly_lit,
    "ruled": ruled,
    "frame": framed,
    "skewed frame": lambda grey: skewed(grey, 2, outside=20),
    "dithered": dithered,
    "dithered in the shade": lambda grey: dithered(unevenly_lit(grey)),
    "12 bits": twelve_bits,
    "all": lambda grey: noisy(framed(unevenly_lit(ruled(grey)))),
    "chalk": lambda grey: noisy(255 - unevenly_lit(grey)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_photographed_digit_is_told_as_the_clean_one_is(model, form):
    def prepared(make):
        return np.stack([pictures.prepare(make(photograph(image[0])), "mnist")[0] for image in DIGITS.x[:10]])

    clean = fcnn.predict(model, prepared(lambda grey: Image.fromarray(grey.astype(np.uint8)))).classes
    assert (fcnn.predict(model, prepared(lambda grey: picture_of(FORMS[form](grey)))).classes == clean).mean() >= 0.9
    found = [find_figures(picture_of(FORMS[form](photograph(image[0])))) for image in DIGITS.x[:10]]
    assert np.mean([len(figures) == 1 for figures in found]) >= 0.95
    assert np.mean([told(model, figures[:1])[0] == best for figures, best in zip(found, clean, strict=True)]) >= 0.9


def picture_of(grey):
    return grey if isinstance(grey, Image.Image) else Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("image", DIGITS.x[:6, 0])
def test_a_clean_picture_is_prepared_as_it_always_was(image):
    cut = Image.fromarray(255 - np.pad(np.asarray(enlarged(image)), 20))
    pixels, steps = pictures.prepare(cut, "mnist")
    expected = pictures.fit_figure(Image.eval(cut, lambda level: 255 - level), 20, by_mass=True)
    assert steps in (("inverted", "fitted"), ("thickened", "inverted", "fitted"))
    if "thickened" not in steps:
        np.testing.assert_array_equal(pixels[0], np.asarray(expected))


def test_a_tight_cut_is_not_taken_for_a_frame_or_rules():
    bar = np.full((90, 60), 255, np.uint8)
    bar[:3] = bar[:, 40:43] = 0  # a 7 in a thin pen, without a margin
    pixels, steps = pictures.prepare(Image.fromarray(bar), "mnist")
    assert steps == ("inverted", "fitted")
    assert pixels[0].any(axis=0).sum() >= 13


def test_two_figures_in_a_picture_of_one_are_noticed():
    sheet = np.full((200, 300), 255.0, np.float32)
    for digit, x in ((5, 30), (1, 140)):
        drawn(sheet, digit, x, 40, 110, 10)
    picture = picture_of(sheet)
    assert SEVERAL in pictures.prepare(picture, "mnist")[1]
    assert SEVERAL not in pictures.prepare(picture.crop((0, 0, 150, 200)), "mnist")[1]
    assert SEVERAL not in pictures.prepare(picture, "fashion_mnist")[1]
    assert len(find_figures(picture)) == 2


def test_the_bar_of_a_5_and_the_stem_of_a_4_belong_to_them():
    sheet = np.full((300, 600), 255.0, np.float32)
    sheet[60:72, 60:120] = 0  # the bar, apart
    sheet[78:140, 50:62] = sheet[130:142, 50:120] = sheet[130:200, 108:120] = sheet[190:202, 40:120] = 0
    sheet[60:140, 300:312] = sheet[130:142, 300:380] = sheet[150:210, 345:357] = 0
    drawn(sheet, 1, 425, 60, 140, 12)
    found = find_figures(picture_of(sheet))
    assert found[0].box[:2] == (40, 60)
    assert [("joined of 2 pieces" in figure.notes) for figure in found] == [True, True, False]


def test_empty_sheets_and_specks_have_no_figure():
    rng = np.random.default_rng(0)
    for level in (0, 128, 255):
        assert find_figures(Image.new("L", (300, 200), level)) == []
    assert find_figures(Image.new("RGBA", (300, 200), (0, 0, 0, 0))) == []
    assert find_figures(Image.new("L", (1, 1), 7)) == []
    assert find_figures(picture_of(200 + rng.normal(0, 12, (300, 400)))) == []
    assert find_figures(picture_of(unevenly_lit(np.full((300, 400), 220.0, np.float32)))) == []
    specked = np.full((400, 400), 230, np.uint8)
    specked[100:103, 200:203] = 10
    assert find_figures(Image.fromarray(specked)) == []
    specked[150:250, 60:75] = 10  # a figure, beside which it is still a speck
    assert [figure.box for figure in find_figures(Image.fromarray(specked))] == [(60, 150, 75, 250)]


def test_a_huge_picture_is_refused_before_it_is_looked_at(monkeypatch):
    monkeypatch.setattr("fcnn.data.figures.MOST_PIXELS", 9_999)
    with pytest.raises(pictures.PictureError, match=r"^it is more than 9,999 pixels; scale it down$"):
        find_figures(Image.new("L", (100, 100)))


def test_a_phones_photo_is_scaled_down_and_boxes_are_in_its_pixels():
    small = sheet_of_ten(np.random.default_rng(2), "fonts").picture
    large = small.resize((small.width * 3, small.height * 3), Image.Resampling.BICUBIC)
    boxes = [np.array([figure.box for figure in find_figures(picture)]) for picture in (small, large)]
    np.testing.assert_allclose(boxes[1] / 3, boxes[0], rtol=0, atol=4)


def test_light_ink_is_found_and_can_be_demanded():
    sheet = np.full((200, 200), 20.0, np.float32)
    sheet[50:150, 90:105] = 220
    for invert in (None, False):
        assert [figure.box for figure in find_figures(picture_of(sheet), invert)] == [(90, 50, 105, 150)]
    dark = [figure.box for figure in find_figures(picture_of(sheet), True)]
    assert (90, 50, 105, 150) not in dark


def test_shapes_that_no_digit_has_are_told():
    sheet = np.full((300, 600), 255.0, np.float32)
    for digit, x in ((3, 40), (2, 160)):
        drawn(sheet, digit, x, 100, 80, 8)
    sheet[130:160, 300:420] = 0  # as wide as figures that touch
    sheet[150:170, 500:515] = 0
    flaws = [figure.flaw for figure in find_figures(picture_of(sheet))]
    assert flaws == ["", "", "wider than a digit; figures that touch are not separated", "smaller than the others"]


def test_scribbles_are_none_and_digits_are_not(model):
    rng = np.random.default_rng(4)
    found = [figure for _ in range(40) for figure in find_figures(scribble(rng))]
    none = [reading.prediction is None for reading in read_figures(model, found)]
    assert np.mean(none) >= 0.35  # of a network that has seen little; the docstring has those of a better one
    own = [Figure((0, 0, 28, 28), pixels) for pixels in DIGITS.x]
    readings = read_figures(model, own)
    assert np.mean([reading.prediction is None for reading in readings]) <= 0.15
    for reading in readings:
        assert reading.probabilities.sum() == pytest.approx(1)
        assert reading.probability == reading.probabilities.max()
        assert (reading.label is None) == (reading.prediction is None) == bool(reading.reason)
    assert read_figures(model, []) == []
    assert all(reading.prediction is not None for reading in read_figures(model, own, least=0))
    flawed = read_figures(model, [Figure((0, 0, 28, 28), DIGITS.x[0], "in too many pieces")], least=0)[0]
    assert (flawed.label, flawed.reason) == (None, "in too many pieces")


def test_views_are_small_changes_of_an_image():
    images = DIGITS.x[:3]
    seen = views(images)
    assert (seen.shape, seen.dtype) == ((3, 9, 1, 28, 28), np.uint8)
    np.testing.assert_array_equal(seen[:, 0], images)
    np.testing.assert_array_equal(seen[:, 1, :, 1:], images[:, :, :-1])  # a pixel down
    np.testing.assert_array_equal(seen[:, 4, :, :, :-1], images[:, :, :, 1:])  # a pixel to the left
    assert not seen[:, 1, :, 0].any()
    change = [np.abs(seen[:, k].astype(int) - images).mean() for k in range(1, 9)]
    assert min(change) > 1
    assert seen[:, 7].sum() < images.sum() < seen[:, 8].sum()


@pytest.mark.parametrize("ground", ["white", "black", (120, 120, 120)])
@pytest.mark.parametrize(
    "box", [(100, 80, 140, 150), (0, 0, 40, 60), (260, 140, 300, 200), (0, 0, 300, 200), (290, 0, 300, 8)]
)
def test_boxes_and_labels_are_drawn_into_a_copy(ground, box):
    picture = Image.new("RGB", (300, 200), ground)
    figure = Figure(box, DIGITS.x[0])
    copy = draw_boxes(picture, [figure], ["8"])
    assert picture.getcolors() == [(60_000, picture.getpixel((0, 0)))]
    assert (copy.size, copy.mode) == (picture.size, "RGB")
    blue, red = ((np.asarray(c) == colour).all(axis=-1) for c, colour in (
        (copy, (0, 90, 181)), (draw_boxes(picture, [figure], [None]), (200, 45, 20)),
    ))  # fmt: skip
    assert blue.sum() > 50
    assert red.sum() > blue.sum()  # "none" is wider
    white = (np.asarray(copy) == 255).all(axis=-1)
    if ground == "black":  # the label, with its text, is whole
        rows, columns = np.nonzero(white)
        assert len(rows) > 40
        assert rows.min() >= 0
        assert columns.max() < 300


def test_a_label_a_figure():
    with pytest.raises(ValueError, match="one label a figure, got 0 figures and 1 labels"):
        draw_boxes(Image.new("L", (9, 9)), [], ["3"])


@pytest.mark.parametrize("seed", range(40))
def test_components_are_those_of_a_flood(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(tuple(rng.integers(1, 20, 2))) < rng.random()
    labels, count = components.label(mask)
    expected, number = np.zeros(mask.shape, int), 0
    for start in zip(*np.nonzero(mask), strict=True):
        if not expected[start]:
            number += 1
            expected[start], stack = number, [start]
            while stack:
                y, x = stack.pop()
                for place in [(b, a) for b in (y - 1, y, y + 1) for a in (x - 1, x, x + 1)]:
                    inside = 0 <= place[0] < mask.shape[0] and 0 <= place[1] < mask.shape[1]
                    if inside and mask[place] and not expected[place]:
                        expected[place] = number
                        stack.append(place)
    assert count == number
    np.testing.assert_array_equal(labels, expected)
    for k, (left, top, right_, bottom) in enumerate(components.boxes(labels, count), 1):
        rows, columns = np.nonzero(expected == k)
        assert (left, top, right_, bottom) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_ink_is_looked_for_in_grey_levels():
    with pytest.raises(TypeError, match=r"^grey is an array of float32 \(H, W\), got "):
        find_ink(np.zeros((3, 3), np.uint8))
    with pytest.raises(TypeError, match=r"^mask is an array of bool \(H, W\), got "):
        components.label(np.zeros((3, 3), np.uint8))


def test_strokes_of_mnists_width_are_left():
    bar = np.zeros((100, 40), np.float32)
    bar[5:95, 10:24] = 1
    assert thickened(bar)[1] is False
    thin, was_thin = thickened(bar[:, 20:26].copy())
    assert was_thin
    assert 8 < stroke_width(np.pad(thin, 3)) < 14  # of the hundred that are 20 pixels of MNIST's
    assert thickened(np.zeros((5, 5), np.float32))[1] is False


def test_a_sheet_is_the_same_each_time():
    first, again = (sheet_of_ten(np.random.default_rng(2), "both") for _ in range(2))
    assert first.picture.tobytes() == again.picture.tobytes()


def test_squared_paper_and_thousands_of_pieces_are_no_figures_and_take_no_room():
    squared = np.full((800, 800), 255, np.uint8)
    squared[::7] = squared[:, ::7] = 0
    find_figures(Image.fromarray(squared))
    pictures.prepare(Image.fromarray(squared), "mnist")
    rng = np.random.default_rng(0)
    dots = np.full((1200, 1200), 255, np.uint8)
    for y in range(10, 1180, 25):
        for x in range(10, 1180, 25):
            down, across = rng.integers(0, 8, 2)
            dots[y + down : y + down + 12, x + across : x + across + 12] = 0
    with pytest.raises(
        pictures.PictureError, match=r"^2,209 pieces of ink are on it, at most 1,500 are looked at; cut "
    ):
        find_figures(Image.fromarray(dots))
    assert pictures.prepare(Image.fromarray(dots), "mnist")[0].shape == (1, 28, 28)


def test_what_is_drawn_are_figures_and_labels():
    sheet = Image.new("L", (60, 60), 255)
    with pytest.raises(TypeError, match=r"^figures are a list of Figure, as find_figures gives it, got "):
        draw_boxes(sheet, [1], ["1"])
    with pytest.raises(TypeError, match=r"^labels are a list of text, or None for none, got "):
        draw_boxes(sheet, [], "")
