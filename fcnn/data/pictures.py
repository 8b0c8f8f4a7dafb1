"""Pictures of any size and kind, made into images such as a network was trained on.

    pixels, steps = read_picture("seven.jpg", "mnist")  # uint8 (1, 28, 28); ("inverted", "fitted")
    pixels, steps = read_picture("rose.jpg", Preprocessing(3, 32, 32))  # as for a folder of pictures

Pillow decodes and scales. It is imported where it is used: nothing else in the library needs it to predict.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from fcnn.data.cleaning import cleaned
from fcnn.data.png import checked
from fcnn.data.preprocessing import MOST_SIDE, Preprocessing, preprocessing_of
from fcnn.data.sources import SOURCES
from fcnn.values.arrays import NDArray, frozen
from fcnn.values.checks import boolean, file_path, integer, lengths, one_of, texts, told
from fcnn.values.files import opened, why_unreadable
from fcnn.values.packages import expect_pillow
from fcnn.values.text import printable

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Pixels = NDArray[np.uint8]

SHAPES = {"mnist": (1, 28, 28), "fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32), "digits": (1, 28, 28)}
"""The shape (C, H, W) of each data set's images."""

CLASSES = {name: SOURCES["mnist" if name == "digits" else name].classes for name in SHAPES}
"""The names of each data set's classes."""

RECIPES = """\
A picture may have any size and be grey, coloured, transparent (it is laid over white) or of 16 bits. It is made into an
image such as the network was trained on:
- digits as MNIST was made: shading, noise, ruled lines, a scanner's dark frame and specks taken away; strokes of a thin
  pen thickened; light on dark (a picture is inverted if its border's median is nearer to its lightest pixel
  than to its darkest), the background black and the strongest ink white; the digit's bounding box scaled into 20x20,
  keeping its aspect ratio, with anti-aliasing; its centre of mass put at the centre of 28x28. A picture of 28x28 is
  taken as it is, except that it may be inverted;
- clothes as Fashion-MNIST: the same, but the box scaled into the whole of 28x28 and put in its middle;
- cifar10: the middle square scaled to 32x32, with anti-aliasing; colours are not inverted;
- a folder of pictures of one's own: as cifar10, to the size and in the grey or colour that it was trained with;
- other networks of coloured images: as cifar10, to the size that they take."""
"""What `prepare` does, for people who have pictures and don't read programs."""

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
"""The kinds of file that `open_picture` reads."""

MOST_PIXELS = 50_000_000
"""The greatest picture that `open_picture` reads: a phone's photo, and some 200 MB as RGBA."""

_WHITES = (1023, 4095, 16383, 65535)  # the greatest level of 10, 12, 14 and 16 bits
_ENOUGH = 4  # times an image's greater side: what is left of a JPEG's sides when it is scaled as it is decoded
_MOST_BYTES = 10 * MOST_PIXELS  # of a PNG, whose pixels take at most 8
_LEAST_CONTRAST = 16  # grey levels; less is an empty sheet with a camera's or JPEG's noise
_INK = 0.2  # of the strongest ink: what counts for the bounding box, above the noise
_SIDE, _BOX, _CENTRE = 28, 20, 14  # MNIST's pixels: the image, the digit's box, the row and column of its mass


class PictureError(ValueError):
    """A file is no picture to predict from; the message says why, without the file's name."""


def read_picture(
    path: str | os.PathLike[str], dataset: str | Preprocessing, invert: bool | None = None
) -> tuple[Pixels, tuple[str, ...]]:
    """The image that a network trained on a data set gets for the picture in a file: see `prepare`.

    For pictures of one's own a large JPEG is scaled down by 2, 4 or 8 while it is decoded, which is much faster and
    averages pixels as the scaling does that follows.

    Raises PictureError also where there is no file, but a folder, a pipe or nothing; ImportError without Pillow.
    """
    if not isinstance(path, (str, os.PathLike)):  # a name that no file can have is no picture
        file_path("path", path)
    _check_how(dataset, invert)
    if reason := why_unreadable(path):
        raise PictureError(reason)
    expect_pillow()
    try:
        with opened(path) as file:
            picture = _decoded(file, _ENOUGH * max(dataset.shape[1:]) if isinstance(dataset, Preprocessing) else None)
    except OSError as error:  # it has gone since
        raise PictureError(str(error.strerror or error)) from None
    return prepare(picture, dataset, invert)


def open_picture(path: str | os.PathLike[str]) -> "Picture":
    """Decode a picture, whole, and upright however the camera was held.

    Nothing is decoded before the picture is known to have at most `MOST_PIXELS`.

    Raises:
        PictureError: it is none of `FORMATS`, damaged or too large.
        OSError: the file can't be read.
        ImportError: Pillow is missing.
    """
    expect_pillow()
    with opened(file_path("path", path)) as file:
        return _decoded(file)


def decoder() -> str:
    """What decodes and scales, with its version: another may give other pixels. Raises ImportError without Pillow."""
    expect_pillow()
    import PIL

    return f"Pillow {PIL.__version__}"


def dataset_like(in_shape: Sequence[int], classes: Sequence[str] = ()) -> str:
    """As whose images pictures are prepared for a model that doesn't say what it was trained on.

    It is the first data set in `SHAPES` with images of that shape and such classes, or else the first with images of
    that shape. Raises ValueError if there is none.

    >>> dataset_like((3, 32, 32)), dataset_like((1, 28, 28), ["even", "odd"])
    ('cifar10', 'mnist')
    >>> dataset_like((1, 28, 28), CLASSES["fashion_mnist"])
    'fashion_mnist'
    """
    in_shape, classes = lengths("in_shape", in_shape), texts("classes", classes, "names of the network's outputs")
    alike = [name for name, shape in SHAPES.items() if shape == in_shape]
    if not alike:
        raise ValueError(
            f"pictures are prepared as images {' or '.join(map(str, dict.fromkeys(SHAPES.values())))}, the network "
            f"takes {in_shape}; make its inputs yourself and call fcnn.predict(model, inputs)"
        )
    return next((name for name in alike if CLASSES[name] == classes), alike[0])


def prepared_as(
    in_shape: Sequence[int], classes: Sequence[str] = (), meta: Mapping[str, Any] | None = None
) -> str | Preprocessing:
    """How pictures are prepared for a model: as its meta says, or else as for the data set that it is like.

    For coloured images of other sizes, as networks from elsewhere take them, the middle of a picture is scaled to them.

    Raises ValueError where its meta contradicts its `in_shape`, and as `preprocessing_of` and `dataset_like` do.

    >>> prepared_as((3, 64, 64), meta={"pictures": {"channels": 3, "height": 64, "width": 64}})
    Preprocessing(channels=3, height=64, width=64)
    >>> prepared_as((1, 28, 28)), prepared_as((3, 224, 224))
    ('mnist', Preprocessing(channels=3, height=224, width=224))
    """
    found = preprocessing_of({} if meta is None else meta)
    if found is None:
        shape = lengths("in_shape", in_shape)
        if len(shape) == 3 and shape[0] == 3 and shape not in SHAPES.values() and max(shape) <= MOST_SIDE:
            return Preprocessing(*shape)
        return dataset_like(in_shape, classes)
    if found.shape != lengths("in_shape", in_shape):
        raise ValueError(f"the model's meta prepares pictures as images {found.shape}, its network takes {in_shape}")
    return found


def prepare(
    picture: "Picture", dataset: str | Preprocessing, invert: bool | None = None
) -> tuple[Pixels, tuple[str, ...]]:
    """The image that a network trained on a data set gets for a picture, and what was done to make it.

    Args:
        picture: of any size and mode; where it is transparent, it is laid over white.
        dataset: what the network was trained on, a name in `SHAPES`, of which `RECIPES` says what is done for each; or
            for pictures of one's own what `fcnn.data.folder` says of them, `data.pictures`. A picture of the images'
            size is taken as it is, inverting aside.
        invert: whether light and dark are swapped; None: where a greyscale picture's border is light, as those of the
            data sets are dark, and never in colour.

    Returns:
        The image, uint8 (C, H, W), and the steps in order: of "over white", for digits those of `fcnn.data.ink.Ink`,
        "thickened" and `SEVERAL`, and of "inverted", "fitted", "scaled to 32x32" those that were taken.

    Raises:
        PictureError: nothing is on the picture, of a data set with a name: there may be a class of empty pictures.
        ValueError: another data set.

    >>> from PIL import Image
    >>> sheet = Image.new("L", (90, 60), "white")
    >>> sheet.paste("black", (40, 10, 50, 50))
    >>> pixels, steps = prepare(sheet, "mnist")
    >>> pixels.shape, pixels.dtype, steps
    ((1, 28, 28), dtype('uint8'), ('inverted', 'fitted'))
    """
    check_picture(picture)
    _check_how(dataset, invert)
    from PIL import ImageOps

    own = isinstance(dataset, Preprocessing)
    channels, height, width = dataset.shape if isinstance(dataset, Preprocessing) else SHAPES[dataset]
    picture, was_transparent = over_white(picture)
    steps = ["over white"] if was_transparent else []
    picture = picture.convert("L" if channels == 1 else "RGB")
    if not own and np.ptp(picture.getextrema(), axis=-1).max() < _LEAST_CONTRAST:
        raise PictureError(" ".join(["nothing is on it; it is all of one colour", *steps]))
    if dataset in ("mnist", "digits") and picture.size != (width, height):
        picture, invert, cleaning = cleaned(picture, invert)
        steps += cleaning
    if invert or (invert is None and channels == 1 and not own and has_light_border(picture)):
        picture = ImageOps.invert(picture)
        steps.append("inverted")
    if picture.size != (width, height):
        if channels == 3 or own:
            picture = _middle(picture, height, width)
            steps.append(f"scaled to {height}x{width}")
        else:
            clothes = dataset == "fashion_mnist"
            picture = fit_figure(picture, _SIDE if clothes else _BOX, by_mass=not clothes)
            steps.append("fitted")
    pixels = np.asarray(picture)
    return frozen(np.array(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1), order="C")), tuple(steps)


def over_white(picture: "Picture") -> tuple["Picture", bool]:
    """A picture of 8 bits a channel, laid over white where it is transparent; and whether it is anywhere.

    Of 16 bits, those are taken that its levels need of 10, 12, 14 and 16: scanners' and cameras' fill fewer than all.
    """
    check_picture(picture)
    from PIL import Image

    if picture.mode.startswith("I"):  # Pillow's own conversion cuts 16 bits off at 255
        levels = np.asarray(picture).astype(np.int64)
        clear = picture.info.get("transparency")
        hidden = isinstance(clear, int) and bool((levels == clear).any())
        highest = levels[levels != clear].max(initial=0) if hidden else levels.max()
        white = next((bits for bits in _WHITES if highest <= bits), highest)  # 12 bits of a scanner come in 16
        levels = np.where(levels == clear, white, levels) if hidden else levels
        return Image.fromarray(((levels * 255 + white // 2) // white).astype(np.uint8)), hidden
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture, False
    picture = picture.convert("RGBA")
    if picture.getchannel("A").getextrema()[0] == 255:
        return picture, False
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture), True


def has_light_border(picture: "Picture") -> bool:
    """Whether the median of a greyscale picture's outermost pixels is nearer to its lightest than to its darkest."""
    check_picture(picture)
    grey = np.asarray(picture, np.float32)
    return _border_median(grey) > (float(grey.min()) + float(grey.max())) / 2


def middle_square(picture: "Picture", side: int) -> "Picture":
    """The greatest square in the middle of a picture, scaled to `side` x `side` pixels with anti-aliasing."""
    check_picture(picture)
    integer("side", side, least=1, most=MOST_SIDE)
    return _middle(picture, side, side)


def fit_figure(picture: "Picture", box: int, *, by_mass: bool) -> "Picture":
    """MNIST's recipe (LeCun, Cortes & Burges) for a light figure over dark: a greyscale picture of 28x28 pixels.

    The background, taken from the border, becomes 0; the figure's bounding box is scaled into `box` x `box` pixels,
    keeping its aspect ratio, with anti-aliasing, and stretched to 255, as a thin stroke would fade. Then its centre of
    mass is put at the middle. MNIST's images have their mass at row and column 14.0, counted from 0.

    Args:
        picture: greyscale (mode L), not all of one level.
        box: pixels, at most 28.
        by_mass: put the figure at its centre of mass; otherwise its box goes in the middle.
    """
    check_picture(picture)
    integer("box", box, least=1, most=_SIDE)
    boolean("by_mass", by_mass)
    from PIL import Image

    grey = np.asarray(picture, np.float32)
    # A dark figure over light, if it is to be taken as it is, has no background.
    background = float(grey.min()) if has_light_border(picture) else _border_median(grey)
    ink = np.clip((grey - background) / (float(grey.max()) - background), 0, 1)
    rows, columns = (np.flatnonzero((ink > _INK).any(axis=axis)) for axis in (1, 0))
    figure = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = (max(1, round(box * length / max(figure.shape))) for length in figure.shape)
    scaled = Image.fromarray(np.ascontiguousarray(figure)).resize((width, height), Image.Resampling.BICUBIC)
    small = np.clip(np.asarray(scaled), 0, None)
    small = small / small.max()

    mass = [np.average(np.arange(n), weights=small.sum(axis=axis)) for n, axis in ((height, 1), (width, 0))]
    corner = [_CENTRE - row for row in mass] if by_mass else [(_SIDE - n) / 2 for n in small.shape]
    top, left = (min(max(round(start), 0), _SIDE - n) for start, n in zip(corner, small.shape, strict=True))
    image = np.zeros((_SIDE, _SIDE), np.uint8)
    image[top : top + height, left : left + width] = np.rint(small * 255)
    return Image.fromarray(image)


def as_picture(pixels: Pixels) -> "Picture":
    """An image, uint8 (1, H, W) or (3, H, W), as a picture to look at or to save. Raises ImportError without Pillow."""
    expect_pillow()
    from PIL import Image

    expected = "pixels are an image, uint8 (1, H, W) or (3, H, W)"
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        raise TypeError(f"{expected}, got {told(pixels)}")
    if pixels.ndim != 3 or len(pixels) not in (1, 3) or not pixels.size:
        advice = "; pictures are made one by one" if pixels.ndim == 4 else ""
        raise ValueError(f"{expected}, got {told(pixels)}{advice}")
    return Image.fromarray(np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)))


def _decoded(file: BinaryIO, least: int | None = None) -> "Picture":
    """The picture in a file; a JPEG with no more pixels than it takes to have sides of at least `least`."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    too_large = f"is more than {MOST_PIXELS:,} pixels; scale it down"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a picture's faults that Pillow can mend
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise PictureError(f"{picture.width:,} x {picture.height:,} {too_large}")
                if picture.format == "PNG":
                    place, size = file.tell(), file.seek(0, os.SEEK_END)
                    file.seek(0)
                    checked(file.read(min(size, _MOST_BYTES)))
                    file.seek(place)
                if least is not None and picture.format == "JPEG":
                    picture.draft(picture.mode, (least, least))
                picture.load()
                return ImageOps.exif_transpose(picture)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"not a picture, or a damaged one; {', '.join(FORMATS)} can be read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(f"it {too_large}") from None
    except Exception as error:  # a damaged file makes Pillow's decoders raise almost anything
        reason = printable(" ".join(str(error).split()), 200) or type(error).__name__
        raise PictureError(f"a damaged picture ({reason})") from None


def _middle(picture: "Picture", height: int, width: int) -> "Picture":
    """The greatest part in a picture's middle with these proportions, scaled to this size with anti-aliasing."""
    from PIL import Image

    wide, high = picture.size
    # As whole numbers, so that no rounding decides: the greatest w, h with w : h as width : height.
    w, h = min(wide, max(1, high * width // height)), min(high, max(1, wide * height // width))
    left, top = (wide - w) // 2, (high - h) // 2
    part = picture.crop((left, top, left + w, top + h))  # resize's `box` would let its surroundings bleed in
    return part.resize((width, height), Image.Resampling.BICUBIC)


def _border_median(grey: NDArray[Any]) -> float:
    """The median of the outermost pixels, which are background in most pictures."""
    return float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))


def check_picture(picture: object) -> None:
    """Raise TypeError unless it is an image of Pillow; ImportError without Pillow."""
    expect_pillow()
    from PIL import Image

    is_a_name = isinstance(picture, (str, os.PathLike))
    advice = "; fcnn.data.pictures.read_picture takes the name of a file" if is_a_name else ""
    if not isinstance(picture, Image.Image):
        raise TypeError(f"picture is an image of Pillow, got {told(picture)}{advice}")


def _check_how(dataset: object, invert: object) -> None:
    if not isinstance(dataset, Preprocessing):
        one_of("dataset", dataset, tuple(SHAPES))
    if invert is not None and not isinstance(invert, bool):
        raise TypeError(f"invert is True, False or None, got {told(invert)}")
