"""Sheets of digits as people write, print, photograph and scan them, made for the tests: grey levels float32 (H, W)."""

import itertools
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONTS = Path(matplotlib.get_data_path(), "fonts", "ttf")
NAMES = ("DejaVuSans", "cmr10", "DejaVuSerif-Italic", "STIXGeneral", "DejaVuSans-Oblique")

# Each digit's pen strokes in a square of side 1: (across, down).
STROKES = (
    [[(0.5, 0), (0.15, 0.2), (0.1, 0.6), (0.35, 1), (0.7, 0.9), (0.85, 0.5), (0.8, 0.15), (0.5, 0)]],
    [[(0.3, 0.2), (0.55, 0), (0.5, 1)]],
    [[(0.1, 0.25), (0.3, 0.02), (0.7, 0.05), (0.8, 0.3), (0.5, 0.65), (0.1, 0.98), (0.5, 0.95), (0.9, 1)]],
    [[(0.15, 0.1), (0.5, 0), (0.8, 0.15), (0.7, 0.4), (0.4, 0.48), (0.75, 0.55), (0.85, 0.8), (0.5, 1), (0.1, 0.9)]],
    [[(0.6, 0), (0.1, 0.6), (0.9, 0.62)], [(0.65, 0.3), (0.6, 1)]],
    [[(0.8, 0), (0.25, 0.02), (0.2, 0.42), (0.6, 0.4), (0.85, 0.65), (0.7, 0.95), (0.3, 1), (0.1, 0.85)]],
    [[(0.7, 0), (0.3, 0.35), (0.15, 0.75), (0.4, 1), (0.75, 0.9), (0.75, 0.6), (0.45, 0.5), (0.2, 0.7)]],
    [[(0.1, 0.03), (0.85, 0), (0.55, 0.5), (0.4, 1)]],
    [
        [(0.75, 0.15), (0.45, 0), (0.2, 0.2), (0.5, 0.45), (0.8, 0.75), (0.5, 1), (0.2, 0.8), (0.5, 0.48), (0.78, 0.2)],
        [(0.78, 0.2), (0.75, 0.15)],
    ],
    [[(0.8, 0.2), (0.5, 0), (0.2, 0.2), (0.35, 0.48), (0.75, 0.35), (0.8, 0.2), (0.75, 0.6), (0.6, 1)]],
)


class Sheet(NamedTuple):
    """A picture, and the digits on it in reading order, with the middle of each as (x, y)."""

    picture: Image.Image
    truth: list[int]
    middles: list[tuple[float, float]]


def rounded(points):
    """A line with its corners cut (Chaikin), as a hand draws it."""
    for _ in range(2):
        inner = [
            (u * x + (1 - u) * a, u * y + (1 - u) * b)
            for (x, y), (a, b) in itertools.pairwise(points)
            for u in (0.75, 0.25)
        ]
        points = [points[0], *inner, points[-1]]
    return points


def laid(sheet, share, x, y, ink=40):
    """Darken a sheet where the share of paper is less than 1."""
    height, width = share.shape
    part = sheet[y : y + height, x : x + width]
    part[...] = np.minimum(part, ink + (part - ink) * share)


def drawn(sheet, digit, x, y, size, pen, rng=None):
    """Draw a digit by strokes into a sheet, `size` pixels high, its top left at x, y."""
    fine = 4
    side = int(size * 1.2) * fine
    picture = Image.new("L", (side, side), 255)
    draw = ImageDraw.Draw(picture)
    for stroke in STROKES[digit]:
        points = np.array(stroke) * [0.64, 1] * size * fine + 0.1 * size * fine
        if rng is not None:
            points += rng.normal(0, 0.02 * size * fine, points.shape)
        line = rounded([tuple(point) for point in points])
        draw.line(line, fill=0, width=pen * fine, joint="curve")
        for a, b in (line[0], line[-1]):
            reach = pen * fine / 2
            draw.ellipse((a - reach, b - reach, a + reach, b + reach), fill=0)
    share = np.asarray(picture.resize((side // fine,) * 2, Image.Resampling.BOX), np.float32) / 255
    laid(sheet, share, x, y)


def printed(sheet, digit, x, y, size, name):
    """Print a digit into a sheet in one of matplotlib's fonts."""
    font = ImageFont.truetype(FONTS / f"{name}.ttf", round(size * 1.35))
    picture = Image.new("L", (int(size * 1.2), int(size * 1.3)), 255)
    left, top, right, bottom = font.getbbox(str(digit))
    place = (picture.width - left - right) / 2, (picture.height - top - bottom) / 2
    ImageDraw.Draw(picture).text(place, str(digit), fill=0, font=font)
    laid(sheet, np.asarray(picture, np.float32) / 255, x, y)


def sheet_of_ten(rng, kind, *, pen=6, slant=5, graph_paper=False):
    """The ten digits on two lines, by "fonts", "strokes" or "both": ruled, skewed, in a shadow, and noisy."""
    width, height = 1200, 700
    sheet = np.full((height, width), 225, np.float32)
    for y in range(60, height, 70):
        sheet[y : y + 2] = 150
    for x in range(40, width, 70) if graph_paper else ():
        sheet[:, x : x + 2] = 150
    truth, middles = rng.permutation(10).tolist(), []
    turn = np.deg2rad(slant)
    for place, digit in enumerate(truth):
        line, column = divmod(place, 5)
        x, y = 100 + column * 210 + int(rng.integers(-15, 16)), 110 + line * 270 + int(rng.integers(-12, 13))
        size = int(rng.integers(95, 126))
        if kind == "fonts" or (kind == "both" and place % 2):
            printed(sheet, digit, x, y, size, NAMES[place % 5])
        else:
            drawn(sheet, digit, x, y, size, pen, rng)
        across, down = x + 0.5 * size - width / 2, y + 0.62 * size - height / 2
        middles.append((
            width / 2 + np.cos(turn) * across + np.sin(turn) * down,
            height / 2 - np.sin(turn) * across + np.cos(turn) * down,
        ))  # fmt: skip
    sheet = unevenly_lit(skewed(sheet, slant, outside=225))
    right, below = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    shadow = 1 - 0.3 / (1 + np.exp(-(right + below / 2 - 1) * 60))
    return Sheet(grey_picture(noisy(sheet * shadow, 6, rng)), truth, middles)


def photograph(image):
    """An image (28, 28), light on dark, as dark ink on grey paper with a margin, three times as large."""
    sheet = Image.fromarray(np.pad(image, 14)).resize((168, 168), Image.Resampling.BICUBIC)
    return 225 - 185 * np.asarray(sheet, np.float32) / 255


def noisy(grey, deviation=12, rng=None):
    rng = np.random.default_rng(0) if rng is None else rng
    return grey + rng.normal(0, deviation, grey.shape).astype(np.float32)


def unevenly_lit(grey):
    """With 40 % less light on the right."""
    return grey * np.linspace(1, 0.6, grey.shape[1], dtype=np.float32)


def ruled(grey):
    grey = grey.copy()
    for y in range(20, grey.shape[0], 30):
        grey[y : y + 2] = np.minimum(grey[y : y + 2], 150)
    return grey


def framed(grey):
    """As a scanner frames what lies askew under its lid."""
    grey = grey.copy()
    grey[:8] = grey[:, :8] = 20
    grey[-4:] = 25
    return grey


def skewed(grey, degrees, outside):
    turned = grey_picture(grey).rotate(degrees, fillcolor=outside, resample=Image.Resampling.BICUBIC)
    return np.asarray(turned, np.float32)


def dithered(grey):
    return grey_picture(grey).convert("1")


def twelve_bits(grey):
    return Image.fromarray((grey * 16).astype(np.uint16))


def scribble(rng):
    """A random line of 6 to 15 points."""
    picture = Image.new("L", (200, 200), 255)
    points = rounded([tuple(point) for point in rng.uniform(30, 170, (int(rng.integers(6, 16)), 2))])
    ImageDraw.Draw(picture).line(points, fill=0, width=int(rng.integers(3, 16)), joint="curve")
    return picture


def grey_picture(grey):
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
