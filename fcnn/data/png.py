"""PNG files, checked where Pillow is lenient: it believes the last of two headers, and makes black rows of what lacks.

https://www.w3.org/TR/png-3/
"""

import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")  # width, height, bits, colour type, and how it is compressed, filtered, interlaced
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_AT_A_TIME = 1 << 20  # bytes that are inflated


class PngError(ValueError):
    """A file is no whole PNG; the message says why, without the file's name."""


def checked(data: bytes) -> bytes:
    """The same picture with only the chunks that it can't do without: its header, palette, pixels and end.

    Raises PngError unless checksums are right, there is one header, and as many pixels as that says.
    """
    chunks = _critical_chunks(data)
    kinds = [kind for kind, _ in chunks]
    pixels = kinds.count(b"IDAT")
    palette = kinds[1:2] == [b"PLTE"]
    if kinds != [b"IHDR", *[b"PLTE"] * palette, *[b"IDAT"] * pixels, b"IEND"] or not pixels:
        came = " ".join(kind.decode("latin-1") for kind in kinds[:6])
        raise PngError(f"expected the chunks IHDR PLTE IDAT… IEND, got {came!r:.60}")
    _check_pixels([content for kind, content in chunks if kind == b"IDAT"], _size(chunks[0][1]))
    parts = [struct.pack(">I", len(content)) + kind + content + _sum(kind, content) for kind, content in chunks]
    return _SIGNATURE + b"".join(parts)


def _critical_chunks(data: bytes) -> list[tuple[bytes, memoryview]]:
    """Kinds and contents of the chunks up to the end, but for the ancillary ones."""
    if not data.startswith(_SIGNATURE):
        raise PngError(f"it starts with {data[:8]!r}")
    view, place = memoryview(data), len(_SIGNATURE)
    chunks: list[tuple[bytes, memoryview]] = []
    while not chunks or chunks[-1][0] != b"IEND":
        if place + 12 > len(data):
            raise PngError("it is cut short")
        length, kind = struct.unpack_from(">I4s", data, place)
        content, stop = view[place + 8 : place + 8 + length], place + 12 + length
        if stop > len(data):
            raise PngError("it is cut short")
        if _sum(kind, content) != data[stop - 4 : stop]:
            raise PngError(f"a wrong checksum of its chunk {kind!r}")
        if not kind[0] & 0x20:  # what is ancillary begins with a small letter
            chunks.append((kind, content))
        place = stop
    return chunks


def _size(header: memoryview) -> int:
    """How many bytes its pixels take before they are compressed."""
    if len(header) != _HEADER.size:
        raise PngError(f"its header is {len(header)} bytes, not {_HEADER.size}")
    width, height, depth, colour, _, _, interlaced = _HEADER.unpack(header)
    if colour not in _CHANNELS:
        raise PngError(f"its header names the colour type {colour}")
    bits = _CHANNELS[colour] * depth
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-((left - width) // right), -((top - height) // down)) for left, top, right, down in passes]
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)


def _check_pixels(parts: list[memoryview], size: int) -> None:
    inflater, found = zlib.decompressobj(), 0
    try:
        for part in parts:
            left: bytes | memoryview = part
            while left and found <= size and not inflater.eof:
                found += len(inflater.decompress(left, _AT_A_TIME))
                left = inflater.unconsumed_tail
    except zlib.error as error:
        raise PngError(f"its pixels don't inflate ({error})") from None
    if found != size or not inflater.eof:
        came = f"{found:,}, cut short" if found <= size else "more"
        raise PngError(f"expected {size:,} bytes of pixels, got {came}")


def _sum(kind: bytes, content: memoryview) -> bytes:
    return struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
