"""The embedded data set: digits drawn from matplotlib's fonts, bent and shaken until they look written by hand.

Each image takes one font's digit, and is drawn in a single bilinear warp of that glyph: scaled, slanted, turned and
shifted (the affine part), bent by a smooth random field (the elastic part, after Simard, Steinkraus & Platt, "Best
practices for convolutional neural networks", ICDAR 2003), with a stroke that is thinned or thickened.
As in MNIST the digits are white on black, in a box of about 20 x 20 pixels in the middle of 28 x 28.
"""

from functools import cache
from pathlib import Path

import numpy as np

from fcnn.data.types import Dataset, Split
from fcnn.values.arrays import NDArray, frozen
from fcnn.values.checks import integer
from fcnn.values.keys import Key, expect_key, fold_in, generator, key
from fcnn.values.packages import expect_package

Floats = NDArray[np.float32]

_SIDE = 28  # pixels of an image
_GLYPH = 96  # pixels of a glyph's square, in which a digit is _HEIGHT high
_HEIGHT = 60
_BLUR = 2.0  # standard deviation in glyph pixels: wide enough that another threshold is another stroke width
_KNOTS = 5  # the elastic field is given at 5 x 5 points and smooth between them
_MOST_IMAGES = 1_000_000_000  # some 800 GB
_CHUNK = 500  # images drawn at a time, each class equally often; a part of what the result is, like the key

_FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Oblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmr10", "cmss10", "cmtt10", "cmti10", "cmb10"),
)


def digits(key: Key, n: int) -> Split:
    """Draw `n` images of digits: uint8 (n, 1, 28, 28) and their labels, a pure function of `key` and `n`.

    The first n of more are the same n. Every 500 hold each digit 50 times, in random order. The outlines come from
    matplotlib's FreeType, so another matplotlib may change the last bits. Raises ValueError for a negative `n`.

    >>> from fcnn.values.keys import key
    >>> split = digits(key(0), 20)
    >>> split, bool((split.take(5).x == digits(key(0), 5).x).all())
    (Split(20 images of 1x28x28), True)
    """
    expect_key("key", key)
    integer("n, the number of images,", n, least=0, most=_MOST_IMAGES)
    x = np.empty((n, 1, _SIDE, _SIDE), np.uint8)
    y = np.empty(n, np.int64)
    for chunk, start in enumerate(range(0, n, _CHUNK)):
        count = min(_CHUNK, n - start)
        images, labels = _draw(fold_in(key, chunk))
        x[start : start + count, 0] = images[:count]
        y[start : start + count] = labels[:count]
    return Split(frozen(x), frozen(y))


def load_digits() -> Dataset:
    """The fixed data set that `load("digits")` gives: 10,000 images to train on, 2,000 to test."""
    root = key(0)
    train, test = digits(fold_in(root, "train"), 10_000), digits(fold_in(root, "test"), 2_000)
    return Dataset(train, test, "digits", tuple("0123456789"))


def _draw(key: Key) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """One chunk: images uint8 (500, 28, 28) and labels int64 (500,)."""
    rng = generator(key)
    labels = rng.permutation(_CHUNK) % 10
    fonts = rng.integers(len(_FONTS), size=_CHUNK)
    rows, columns = _positions(rng)
    height = _bilinear(_glyphs(), fonts * 10 + labels, rows, columns)
    # A blurred glyph falls off across its outline, so where it is cut decides how thick the stroke is.
    cut = rng.uniform(0.18, 0.42, (_CHUNK, 1, 1)).astype(np.float32)
    softness = rng.uniform(0.2, 0.36, (_CHUNK, 1, 1)).astype(np.float32)  # at most twice the cut: black stays black
    ink = np.clip((height - cut) / softness + np.float32(0.5), 0, 1)
    return np.rint(ink * 255).astype(np.uint8), labels


def _positions(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Where in its glyph each image takes each pixel from: rows and columns, (500, 28, 28), in glyph pixels."""
    size = (_CHUNK, 1, 1)
    turn = np.deg2rad(np.clip(rng.normal(0, 8, size), -20, 20))
    slant = np.clip(rng.normal(0, 0.2, size), -0.4, 0.4)
    scale = _HEIGHT / 20 / rng.uniform(0.8, 1.05, size)  # glyph pixels per pixel
    aspect = np.exp(rng.normal(0, 0.1, size))
    shift = rng.normal(0, 0.7, (2, *size))

    centre = (_SIDE - 1) / 2
    down, right = np.meshgrid(np.arange(_SIDE) - centre, np.arange(_SIDE) - centre, indexing="ij")
    down, right = down - shift[0], right - shift[1]
    bend_down, bend_right = _elastic(rng), _elastic(rng)
    rows = (np.cos(turn) * down - np.sin(turn) * right + bend_down) * scale
    columns = (np.sin(turn) * down + np.cos(turn) * right + bend_right) * scale
    columns = (columns + slant * rows) * aspect
    middle = (_GLYPH - 1) / 2
    return (rows + middle).astype(np.float32), (columns + middle).astype(np.float32)


def _elastic(rng: np.random.Generator) -> NDArray[np.float64]:
    """A smooth random displacement for each image, (500, 28, 28), in pixels: a blend of what is drawn at the knots."""
    strength = rng.uniform(0.4, 1.6, (_CHUNK, 1, 1))
    knots = strength * rng.normal(size=(_CHUNK, _KNOTS, _KNOTS))
    spacing = (_SIDE - 1) / (_KNOTS - 1)
    distance = (np.arange(_SIDE)[:, None] - spacing * np.arange(_KNOTS)) / spacing
    weights = np.exp(-(distance**2) / 0.7)
    weights /= weights.sum(axis=1, keepdims=True)
    # Sums written out: a matrix product's last bits would depend on the BLAS and its threads.
    rows = np.zeros((_CHUNK, _SIDE, _KNOTS))
    field = np.zeros((_CHUNK, _SIDE, _SIDE))
    for k in range(_KNOTS):
        rows += weights[:, k, None] * knots[:, None, k, :]
    for k in range(_KNOTS):
        field += weights[:, k] * rows[:, :, k, None]
    return field


def _bilinear(glyphs: Floats, which: NDArray[np.int64], rows: Floats, columns: Floats) -> Floats:
    """`glyphs[which]` at fractional positions, zero outside: (n, 28, 28)."""
    # Glyphs have an empty rim, so a position moved to the rim is as empty as the one outside.
    rows, columns = np.clip(rows, 0, _GLYPH - 1.001), np.clip(columns, 0, _GLYPH - 1.001)
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    below, beside = rows - top, columns - left
    at = (which[:, None, None] * _GLYPH + top) * _GLYPH + left
    flat = glyphs.reshape(-1)
    upper = flat[at] * (1 - beside) + flat[at + 1] * beside
    lower = flat[at + _GLYPH] * (1 - beside) + flat[at + _GLYPH + 1] * beside
    result: Floats = (upper * (1 - below) + lower * below).astype(np.float32)
    return result


@cache
def _glyphs() -> Floats:
    """Every font's ten digits, blurred: float32 (fonts * 10, 96, 96) in [0, 1], drawn once in a process."""
    expect_package("matplotlib", "the embedded digits are drawn from the fonts of matplotlib")
    import matplotlib
    from matplotlib.ft2font import FT2Font

    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    glyphs = np.zeros((len(_FONTS) * 10, _GLYPH, _GLYPH), np.float32)
    for i, name in enumerate(_FONTS):
        font = FT2Font(str(folder / f"{name}.ttf"))
        font.set_size(_HEIGHT / 0.72, 72)  # digits are about 0.72 em high in DejaVu
        for digit in range(10):
            font.set_text(str(digit))
            font.draw_glyphs_to_bitmap(antialiased=True)
            outline = np.asarray(font.get_image())
            h, w = outline.shape
            top, left = (_GLYPH - h) // 2, (_GLYPH - w) // 2
            glyphs[i * 10 + digit, top : top + h, left : left + w] = outline
    glyphs /= 255
    return frozen(_blurred(_blurred(glyphs, axis=1), axis=2))


def _blurred(images: Floats, axis: int) -> Floats:
    """Convolve with a Gaussian along `axis`; the images' empty rims make the wrapped ends harmless."""
    reach = int(3 * _BLUR)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-((offsets / _BLUR) ** 2) / 2)
    weights = (weights / weights.sum()).astype(np.float32)
    return sum((w * np.roll(images, o, axis) for w, o in zip(weights, offsets, strict=True)), np.zeros_like(images))
