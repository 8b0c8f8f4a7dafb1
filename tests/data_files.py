"""Small files in the formats of the real data sets, made for the tests of fcnn.data."""

import gzip
import hashlib
import io
import json
import struct
import tarfile

import numpy as np


def images(n, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def labels(n):
    return np.arange(n, dtype=np.uint8) % 10


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def gz(data, **options):
    return gzip.compress(data, **options)


def _text(value):
    return b"U" + bytes([len(value)]) + value


def _number(value):
    return b"J" + struct.pack("<i", value)


def _list(items):
    return b"](" + b"".join(items) + b"e"


def pickled_array(array, *, reconstruct=b"cnumpy.core.multiarray\n_reconstruct\n", shape=None, dtype=b"u1"):
    rows, columns = array.shape if shape is None else shape
    made = reconstruct + b"cnumpy\nndarray\n" + b"K\x00\x85" + _text(b"b") + b"\x87R"
    kind = b"cnumpy\ndtype\n" + _text(dtype) + b"K\x00K\x01\x87R"
    kind += b"(K\x03" + _text(b"|") + b"NNN" + _number(-1) * 2 + b"K\x00tb"
    pixels = array.tobytes()
    state = b"(K\x01" + _number(rows) + _number(columns) + b"\x86" + kind + b"\x89"
    return made + state + b"T" + struct.pack("<i", len(pixels)) + pixels + b"tb"


def cifar_pickle(x, y, **options):
    """What Python 2 wrote at protocol 2, opcode for opcode: no str of Python 3 can be pickled to that."""
    flat = x.reshape(len(x), -1)
    items = _text(b"batch_label") + _text(b"a batch") + _text(b"labels") + _list([b"K" + bytes([v]) for v in y])
    items += _text(b"data") + pickled_array(flat, **options)
    return b"\x80\x02}q\x01(" + items + b"u."


def cifar_binary(x, y):
    return np.concatenate([np.asarray(y, np.uint8)[:, None], x.reshape(len(x), -1)], axis=1).tobytes()


def cifar_png(x, mode="RGB"):
    from PIL import Image

    stream = io.BytesIO()
    rows = np.ascontiguousarray(x.reshape(len(x), 3, 1024).transpose(0, 2, 1))
    Image.fromarray(rows).convert(mode).save(stream, "PNG")
    return stream.getvalue()


def label_json(y):
    return json.dumps([int(v) for v in y]).encode()


def tar(members, *, links=()):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    return stream.getvalue()


def sha256(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
