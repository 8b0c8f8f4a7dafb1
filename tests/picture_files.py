"""Pictures of a digit in all the forms that people have them in, and files that are no pictures, made for the tests."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def enlarged(image, factor=5):
    return Image.fromarray(image).resize((28 * factor, 28 * factor), Image.Resampling.BICUBIC)


def negative(picture):
    return Image.eval(picture, lambda level: 255 - level)


def off_centre(image):
    sheet = Image.new("L", (400, 260), 0)
    sheet.paste(enlarged(image), (230, 20))
    return sheet


def ink_on_transparent(image):
    ink = enlarged(image)
    layer = Image.new("RGBA", ink.size, (30, 0, 90, 0))
    layer.putalpha(ink)
    return layer


def sixteen_bits(image):
    return Image.fromarray(np.asarray(enlarged(image)).astype(np.uint16) * 257)


def dark_on_coloured_paper(image):
    share = np.asarray(off_centre(image), np.float32)[..., None] / 255
    pixels = (1 - share) * np.array([240, 230, 190]) + share * np.array([20, 30, 120])
    return Image.fromarray(pixels.astype(np.uint8))


FORMS = {
    "enlarged": enlarged,
    "shrunk": lambda image: enlarged(image).resize((22, 22), Image.Resampling.BICUBIC),
    "huge": lambda image: enlarged(image, 16),
    "inverted": lambda image: negative(enlarged(image)),
    "off centre": off_centre,
    "transparent": ink_on_transparent,
    "16 bits": sixteen_bits,
    "palette": lambda image: negative(off_centre(image)).quantize(16),
    "coloured": dark_on_coloured_paper,
    "grey and alpha": lambda image: ink_on_transparent(image).convert("LA"),
    "black and white": lambda image: enlarged(image).convert("1"),
}


def png(width, height):
    """The beginning of a PNG of any size."""

    def chunk(data):
        return struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))

    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(header) + chunk(b"IDAT" + zlib.compress(bytes(1000)))


def write_bad_pictures(image):
    """Write into the working folder whole.png and whole.jpg, pictures of the image, and what is none beside them."""
    sheet = enlarged(image)
    sheet.save("whole.png")
    data = Path("whole.png").read_bytes()
    Path("text.png").write_text("this is no picture")
    Path("empty.png").write_bytes(b"")
    Path("half.png").write_bytes(data[: len(data) // 2])
    Path("flipped.png").write_bytes(data[:60] + bytes([data[60] ^ 0xFF]) + data[61:])
    sheet.convert("RGB").save("whole.jpg")
    Path("half.jpg").write_bytes(Path("whole.jpg").read_bytes()[:-400])
    Image.new("RGB", (40, 30), "white").save("blank.png")
    Image.new("L", (28, 28), 0).save("black.png")
    Image.new("RGBA", (40, 30), (0, 0, 0, 0)).save("clear.png")
    Path("bomb.png").write_bytes(png(60_000, 60_000))
    Path("large.png").write_bytes(png(8_000, 8_000))
    Path("folder.png").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe.png")
    else:
        Path("pipe.png").mkdir()
