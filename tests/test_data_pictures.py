"""Pictures to images: what is decoded and what refused, and that images come out as those of the data sets are."""

import io
import os
import sys
import zlib

import damage
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_files import FORMS, enlarged, negative, write_bad_pictures
from PIL import Image
from strategies import examples

import fcnn
from fcnn.data import pictures
from fcnn.data.png import PngError, checked

DIGIT = fcnn.data.make_digits(fcnn.key(7), 1).x[0, 0]


def figure(height, width, size=(300, 200), ink=255, paper=0):
    """A bar of so many pixels, a little off the centre of a sheet of (height, width)."""
    sheet = np.full(size, paper, np.uint8)
    sheet[20 : 20 + height, 30 : 30 + width] = ink
    return Image.fromarray(sheet)


def mass(image):
    """The centre of mass: row and column."""
    return [np.average(np.arange(28), weights=image.sum(axis=axis, dtype=float)) for axis in (1, 0)]


@pytest.mark.parametrize("kind", pictures.FORMATS)
def test_every_format_is_read(tmp_path, kind):
    enlarged(DIGIT).save(tmp_path / "a", format=kind)
    found = np.asarray(pictures.open_picture(tmp_path / "a").convert("L"), float)
    assert found.shape == (140, 140)
    assert np.abs(found - np.asarray(enlarged(DIGIT))).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright_however_the_camera_was_held(tmp_path, orientation):
    """EXIF's eight orientations: where the first row and the first column of the file belong."""
    upright = np.random.default_rng(0).integers(0, 256, (3, 5), np.uint8)
    rows, columns = {
        **{1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left")},
        **{5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom")},
    }[orientation]
    stored = upright.T if rows in ("left", "right") else upright
    stored = stored[::-1] if rows in ("bottom", "right") else stored
    stored = stored[:, ::-1] if columns in ("bottom", "right") else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(pictures.open_picture(tmp_path / "a.png")), upright)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("text.png", "not a picture, or a damaged one; PNG, JPEG, GIF, BMP, WEBP can be read"),
        ("empty.png", "not a picture, or a damaged one; PNG, JPEG, GIF, BMP, WEBP can be read"),
        ("half.png", "a damaged picture ("),
        ("flipped.png", "a damaged picture ("),
        ("half.jpg", "a damaged picture (image file is truncated"),
        ("bomb.png", "it is more than 50,000,000 pixels; scale it down"),
        ("large.png", "8,000 x 8,000 is more than 50,000,000 pixels; scale it down"),
    ],
)
def test_what_is_no_picture_is_refused_in_a_sentence(tmp_path, monkeypatch, name, sentence):
    monkeypatch.chdir(tmp_path)
    write_bad_pictures(DIGIT)
    with pytest.raises(pictures.PictureError) as caught:
        pictures.open_picture(name)
    assert str(caught.value).startswith(sentence)
    assert name not in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_is_read_only_with_one_header_and_all_its_pixels(tmp_path, mode, interlaced):
    """Pillow would believe the last header, and make black rows of missing pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (13, 11, 4), np.uint8)
    picture = Image.fromarray(pixels).convert("L" if mode == "I;16" else "RGB" if mode == "P" else mode)
    picture = {"P": lambda: picture.quantize(7), "I;16": lambda: Image.fromarray(pixels[..., 0] * np.uint16(257))}.get(
        mode, lambda: picture
    )()
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    chunks = damage.png_chunks(stream.getvalue())
    first = [kind for kind, _ in chunks].index(b"IDAT")
    raw = zlib.decompress(b"".join(content for kind, content in chunks if kind == b"IDAT"))
    if interlaced:  # by Adam7 it has other rows; how many bytes follows from the specification's table
        bits = {"1": 1, "L": 8, "LA": 16, "P": chunks[0][1][8], "RGB": 24, "RGBA": 32, "I;16": 16}[mode]
        passes = [(2, 2), (1, 2), (3, 2), (3, 4), (6, 3), (5, 7), (11, 6)]  # columns and rows of 11 x 13
        raw = b"".join((b"\0" + bytes((columns * bits + 7) // 8)) * rows for columns, rows in passes)
        chunks[0] = b"IHDR", chunks[0][1][:-1] + b"\1"

    def opened(raw, header=()):
        made = [*chunks[:1], *header, *chunks[1:first], (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
        (tmp_path / "a.png").write_bytes(damage.png_file(made))
        return pictures.open_picture(tmp_path / "a.png")

    assert opened(raw).size == (11, 13)
    for damaged in (lambda: opened(raw[:-1]), lambda: opened(raw[:9]), lambda: opened(raw, header=[chunks[0]])):
        with pytest.raises(pictures.PictureError, match=r"^a damaged picture \(expected .*, got .*\)$"):
            damaged()


@pytest.mark.parametrize(
    ("header", "message"),
    [(bytes(12), "its header is 12 bytes, not 13"), (bytes(9) + b"\5" + bytes(3), "colour type 5")],
)
def test_headers_that_no_png_has(header, message):
    with pytest.raises(PngError, match=message):
        checked(damage.png_file([(b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")]))
    with pytest.raises(PngError, match="it starts with b'GIF89a"):
        checked(b"GIF89a" + bytes(9))


def test_a_file_that_cannot_be_read_raises_what_open_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        pictures.open_picture(tmp_path / "missing.png")
    with pytest.raises(OSError, match=os.fspath(tmp_path)):
        pictures.open_picture(tmp_path)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("text.png", "not a picture, or a damaged one"),
        ("blank.png", "nothing is on it; it is all of one colour"),
        ("folder.png", "a folder, not a file"),
        ("pipe.png", "a pipe, not a file"),
        ("missing.png", "no such file"),
        ("a" * 5000, r"it can't be read \(File name too long\)"),
        ("a\0b", "no such file"),
    ],
)
def test_whatever_a_path_is_reading_a_picture_ends_with_a_sentence(tmp_path, monkeypatch, name, sentence):
    monkeypatch.chdir(tmp_path)
    write_bad_pictures(DIGIT)
    with pytest.raises(pictures.PictureError, match=f"^{sentence}"):
        pictures.read_picture(name, "mnist")


def test_a_picture_is_read_and_prepared(tmp_path):
    negative(enlarged(DIGIT)).save(tmp_path / "a.png")
    for invert in (None, False):
        pixels, steps = pictures.read_picture(tmp_path / "a.png", "mnist", invert)
        expected, its_steps = pictures.prepare(negative(enlarged(DIGIT)), "mnist", invert)
        np.testing.assert_array_equal(pixels, expected)
        assert steps == its_steps


def test_classes_and_shapes_are_those_of_the_data_sets():
    digits = fcnn.data.load("digits")
    assert set(pictures.SHAPES) == set(pictures.CLASSES) == set(fcnn.data.DATASETS)
    assert (pictures.SHAPES["digits"], pictures.CLASSES["digits"]) == (digits.train.in_shape, digits.classes)


@pytest.mark.parametrize("name", pictures.SHAPES)
def test_a_data_set_is_known_by_its_shape_and_classes(name):
    found = pictures.dataset_like(list(pictures.SHAPES[name]), list(pictures.CLASSES[name]))
    assert found == ("mnist" if name == "digits" else name)
    assert pictures.CLASSES[found] == pictures.CLASSES[name]


@pytest.mark.parametrize("shape", [(3, 28, 28), (784,)])
def test_no_data_set_has_inputs_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"as images \(1, 28, 28\) or \(3, 32, 32\), the network takes \(.*call fcnn"):
        pictures.dataset_like(shape)


def test_without_pillow_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    for call in (lambda: pictures.open_picture("a.png"), lambda: pictures.as_picture(DIGIT[None])):
        with pytest.raises(ImportError, match="Pillow, which is missing; add it with: python -m pip install pillow"):
            call()


@pytest.mark.parametrize("dataset", pictures.SHAPES)
@pytest.mark.parametrize("form", FORMS)
def test_images_have_the_shape_of_the_data_set(form, dataset):
    picture = FORMS[form](DIGIT)
    before = picture.tobytes()
    pixels, steps = pictures.prepare(picture, dataset)
    assert (pixels.dtype, pixels.shape) == (np.uint8, pictures.SHAPES[dataset])
    assert (pixels.flags.writeable, pixels.flags.c_contiguous) == (False, True)
    assert steps
    assert (picture.tobytes(), picture.size) == (before, FORMS[form](DIGIT).size)
    again, steps = pictures.prepare(pictures.as_picture(pixels), dataset)
    np.testing.assert_array_equal(again, pixels)
    assert steps == ()


def test_digits_are_prepared_as_mnist_was():
    sheet = np.full((300, 200), 235, np.uint8)
    sheet[40:240, 110:150] = 15  # 200 x 40: 20 x 4 in MNIST's box
    sheet[40:80, 110:190] = 15  # and a bar that moves the mass
    for dataset in ("mnist", "digits"):
        pixels, steps = pictures.prepare(Image.fromarray(sheet), dataset)
        seen = pixels[0].astype(float)
        assert (seen.min(), seen.max()) == (0, 255)
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        assert (len(rows), len(columns)) == (20, 8)
        assert np.abs(np.subtract(mass(seen), 14)).max() <= 0.5
        assert steps == ("inverted", "fitted")


def test_clothes_are_prepared_as_fashion_mnist_was():
    pixels, steps = pictures.prepare(figure(140, 50, ink=200), "fashion_mnist")
    assert np.flatnonzero(pixels[0].any(axis=1)).tolist() == list(range(28))
    assert np.flatnonzero(pixels[0].any(axis=0)).tolist() == list(range(9, 19))
    assert steps == ("fitted",)


def test_a_picture_of_the_right_size_is_taken_as_it_is():
    colours = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    for image, dataset, expected in (
        (DIGIT, "mnist", (DIGIT[None], ())),
        (255 - DIGIT, "fashion_mnist", (DIGIT[None], ("inverted",))),
        (colours, "cifar10", (colours.transpose(2, 0, 1), ())),
    ):
        pixels, steps = pictures.prepare(Image.fromarray(image), dataset)
        np.testing.assert_array_equal(pixels, expected[0])
        assert steps == expected[1]


@pytest.mark.parametrize("invert", [True, False])
def test_inverting_can_be_demanded_and_forbidden(invert):
    for image in (DIGIT, 255 - DIGIT):
        pixels, steps = pictures.prepare(Image.fromarray(image), "mnist", invert)
        np.testing.assert_array_equal(pixels[0], 255 - image if invert else image)
        assert steps == (("inverted",) if invert else ())
    colours = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    pixels, _ = pictures.prepare(Image.fromarray(colours), "cifar10", invert)
    np.testing.assert_array_equal(pixels.transpose(1, 2, 0), 255 - colours if invert else colours)


@pytest.mark.parametrize("invert", [True, False])
@pytest.mark.parametrize("light", [True, False])
def test_any_choice_of_inverting_gives_an_image(invert, light):
    picture = enlarged(DIGIT)
    pixels, _ = pictures.prepare(negative(picture) if light else picture, "mnist", invert)
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_colour_is_never_inverted_by_itself():
    paper = Image.new("RGB", (40, 40), "white")
    paper.paste("black", (15, 15, 25, 25))
    pixels, steps = pictures.prepare(paper, "cifar10")
    assert (pixels[:, 0, 0].tolist(), steps) == ([255] * 3, ("scaled to 32x32",))


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_an_empty_sheet_is_refused(dataset):
    noise = np.random.default_rng(0).integers(240, 255, (50, 50, 3), np.uint8)
    for picture in (Image.new("L", (28, 28), 0), Image.fromarray(noise)):
        with pytest.raises(pictures.PictureError, match=r"^nothing is on it; it is all of one colour$"):
            pictures.prepare(picture, dataset)
    with pytest.raises(pictures.PictureError, match=r"^nothing is on it; it is all of one colour over white$"):
        pictures.prepare(Image.new("RGBA", (40, 30), (0, 0, 0, 0)), dataset)


def test_what_is_transparent_is_laid_over_white():
    layer = Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    assert pictures.over_white(layer)[1] is False
    layer.putpixel((0, 0), (10, 20, 30, 0))
    found, was_transparent = pictures.over_white(layer)
    assert [found.getpixel((x, 0))[:3] for x in (0, 1)] == [(255, 255, 255), (10, 20, 30)]
    assert was_transparent
    opaque = Image.new("RGB", (2, 1))
    assert pictures.over_white(opaque) == (opaque, False)


def test_sixteen_bits_become_eight_and_their_transparent_level_white():
    levels = Image.fromarray(np.array([[0, 257, 32768, 65535]], np.uint16))
    found, was_transparent = pictures.over_white(levels)
    assert (np.asarray(found).tolist(), was_transparent) == ([[0, 1, 128, 255]], False)
    levels.info["transparency"] = 257
    found, was_transparent = pictures.over_white(levels)
    assert (np.asarray(found).tolist(), was_transparent) == ([[0, 255, 128, 255]], True)


def test_the_middle_square_takes_nothing_from_beside_it():
    sheet = np.zeros((100, 300, 3), np.uint8)
    sheet[:, 100:200] = [10, 200, 60]
    for picture in (Image.fromarray(sheet), Image.fromarray(sheet).transpose(Image.Transpose.TRANSPOSE)):
        found = np.asarray(pictures.middle_square(picture, 32))
        assert found.shape == (32, 32, 3)
        assert (found == [10, 200, 60]).all()
    assert pictures.middle_square(Image.new("L", (1, 500)), 32).size == (32, 32)


@given(st.integers(1, 260), st.integers(1, 150), st.integers(0, 200), st.booleans())
@examples(60)
def test_a_figure_of_any_proportions_fits_into_its_box(height, width, paper, by_mass):
    box = 20 if by_mass else 28
    picture = figure(height, width, ink=255, paper=paper)
    image = np.asarray(pictures.fit_figure(picture, box, by_mass=by_mass))
    assert (image.dtype, image.shape, image.max()) == (np.uint8, (28, 28), 255)
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    found, expected = (len(rows), len(columns)), [max(1, round(box * n / max(height, width))) for n in (height, width)]
    assert (np.array(found) <= expected).all()
    assert max(found) == box
    middle = mass(image) if by_mass else [(rows[0] + rows[-1]) / 2 + 0.5, (columns[0] + columns[-1]) / 2 + 0.5]
    assert np.abs(np.subtract(middle, 14)).max() <= 0.5


def test_a_border_is_light_or_dark():
    assert pictures.has_light_border(figure(40, 40, ink=20, paper=200))
    assert not pictures.has_light_border(figure(40, 40, ink=200, paper=20))


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 5, 7)])
def test_an_image_can_be_looked_at(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = np.asarray(pictures.as_picture(pixels))
    np.testing.assert_array_equal(found if found.ndim == 2 else found.transpose(2, 0, 1), pixels.squeeze())
