"""A folder of drawn shapes, a folder a class, as people have pictures: of any size, colour and place."""

import numpy as np
from PIL import Image, ImageDraw

import fcnn

CLASSES = ("circle", "cross", "triangle")


def shape(name, key, size=None):
    """One shape in one colour on another, turned and put somewhere."""
    rng = fcnn.generator(key)
    width, height = size or rng.integers(48, 97, 2).tolist()
    paper, ink = rng.integers(150, 256, 3), rng.integers(0, 90, 3)
    picture = Image.new("RGB", (width, height), tuple(paper.tolist()))
    side = min(width, height)
    radius = side * rng.uniform(0.25, 0.36)
    middle = np.array([width / 2, height / 2]) + rng.uniform(-0.08, 0.08, 2) * side
    draw, fill = ImageDraw.Draw(picture), tuple(ink.tolist())

    def corner(turns, length=radius):
        return tuple((middle + length * np.array([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)])).tolist())

    start = rng.uniform(0, 1)
    if name == "circle":
        draw.ellipse([tuple((middle - radius).tolist()), tuple((middle + radius).tolist())], fill=fill)
    elif name == "cross":
        for turn in (start, start + 0.25):
            draw.line([corner(turn), corner(turn + 0.5)], fill=fill, width=max(4, round(radius / 3)))
    else:
        draw.polygon([corner(start + k / 3) for k in range(3)], fill=fill)
    return picture


def write_shapes(folder, count, classes=CLASSES, seed=0):
    """So many pictures of each class, as folder/circle/00.png, 01.jpg, …"""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for k in range(count):
            key = fcnn.fold_in(fcnn.fold_in(fcnn.key(seed), name), k)
            shape(name, key).save(folder / name / f"{k:02d}.{('png', 'jpg')[k % 2]}", quality=95)
    return folder
