"""What scripts/predict.py --find does: each figure in pictures of several digits, and copies with boxes around them."""

import argparse
from pathlib import Path
from typing import Any

from console import Stop, complain
from machine import cores

import fcnn
from fcnn import parallel
from fcnn.data import figures, pictures
from fcnn.training.reading import read_figures
from fcnn.values.files import replacing, why_unreadable
from fcnn.values.text import printable


def check(model: fcnn.Model, prepared_as: str | fcnn.data.Preprocessing) -> None:
    """Stop unless it is a network of digits: figures are prepared as MNIST's."""
    if prepared_as not in ("mnist", "digits"):
        whose = prepared_as if isinstance(prepared_as, str) else "a folder"
        raise Stop(
            f"--find is for networks of digits, this one takes pictures {model.in_shape} as those of {whose}; "
            "leave it out"
        )


def read(
    model: fcnn.Model, arguments: argparse.Namespace, invert: bool | None
) -> tuple[list[tuple[pictures.Pixels, dict[str, Any]]], list[dict[str, Any]], int]:
    """Every figure as the network got it, what it says of each, ready for JSON, and in how many pictures any was.

    Pictures that can't be read, or are empty, are complained of and left out.
    """
    examples, items, many = [], [], 0
    for number, path in enumerate(arguments.images, 1):
        try:
            if reason := why_unreadable(path):
                raise pictures.PictureError(reason)
            picture = pictures.open_picture(path)
            found = figures.find_figures(picture, invert)
            if not found:
                raise pictures.PictureError("no figure is on it")
        except pictures.PictureError as error:
            complain(f"{printable(path, None)}: {error}")
            continue
        with parallel.threads(cores()) as map_fn:
            readings = read_figures(model, found, map_fn=map_fn)
        copy = figures.draw_boxes(picture, found, [said.label for said in readings])
        boxed = save(copy, arguments.boxed, number, path, "boxed", "--boxed")
        names = model.classes or tuple(map(str, range(len(readings[0].probabilities))))
        for place, (figure, said) in enumerate(zip(found, readings, strict=True), 1):
            item = {"source": path, "figure": place, "box": figure.box, "prediction": said.prediction}
            item |= {"label": said.label, "probability": said.probability, "reason": said.reason, "boxed": boxed}
            item |= {"preparation": figure.notes}
            item["probabilities"] = dict(zip(names, said.probabilities.tolist(), strict=True))
            examples.append((figure.pixels, item))
            items.append(item)
        many += 1
    return examples, items, many


def save(picture: Any, folder: str, number: int, source: str, what: str, option: str) -> str:
    """Write a picture in one step, named after its number, what it was made of and what it is; its path."""
    stem = Path(source).stem.replace(" ", "-").encode(errors="replace")[:150].decode(errors="ignore")
    path = Path(folder) / f"{number:03d}-{stem}-{what}.png"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            picture.save(file, format="png")
    except OSError as error:
        why = str(error.strerror).partition(";")[0]  # without its own advice
        raise Stop(f"can't write to {error.filename or folder} ({why}); choose another {option}") from None
    return str(path)
