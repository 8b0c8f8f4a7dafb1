"""PyTorch's two formats, written by hand: files as it writes them, and files that no PyTorch would write."""

import io
import zipfile

import numpy as np

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
VERSION = b"\x80\x02M\xe9\x03."
MACHINE = b"\x80\x02}X\r\0\0\0little_endian\x88s."


def integer(value):
    return b"\x8a\x20" + int(value).to_bytes(32, "little", signed=True)


def text(value):
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def called(name, *arguments):
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def integers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def storage(kind, key, numel, view=None):
    return (
        b"("
        + text("storage")
        + f"ctorch\n{kind}\n".encode()
        + text(key)
        + text("cpu")
        + integer(numel)
        + (b"" if view is None else view)
        + b"tQ"
    )


def tensor(key, shape, strides, *, numel, offset=0, kind="FloatStorage", view=None, rebuild="_rebuild_tensor_v2"):
    parts = storage(kind, key, numel, view), integer(offset), integers(shape), integers(strides)
    more = () if rebuild == "_rebuild_tensor" else (b"\x89", b"ccollections\nOrderedDict\n)R")
    return called(f"torch._utils.{rebuild}", *parts, *more)


def pickled(value, protocol=2):
    """A dict of texts to opcodes or further dicts, or opcodes as they are."""
    return b"\x80" + bytes([protocol]) + _items(value) + b"."


def _items(value):
    if isinstance(value, bytes):
        return value
    return b"}(" + b"".join(text(name) + _items(one) for name, one in value.items()) + b"u"


def zipped(data, storages=(), *, root="archive", byteorder=b"little", compression=zipfile.ZIP_STORED, more=()):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        members = {"data.pkl": data, "byteorder": byteorder, **dict(more)}
        members |= {f"data/{key}": content for key, content in dict(storages).items()}
        for name, content in members.items():
            if content is not None:
                archive.writestr(zipfile.ZipInfo(f"{root}/{name}"), content, compression)
    return stream.getvalue()


def legacy(data, storages=(), *, itemsize=4):
    parts = [MAGIC, VERSION, MACHINE, data, b"\x80\x02](" + b"".join(text(key) for key in dict(storages)) + b"e."]
    for content in dict(storages).values():
        parts += [(len(content) // itemsize).to_bytes(8, "little"), content]
    return b"".join(parts)


def plain(arrays):
    """What PyTorch would write of arrays of float32, as an opcode for each, and their storages."""
    tensors, storages = {}, {}
    for name, array in arrays.items():
        key = str(len(storages))
        strides = [s // array.itemsize for s in np.ascontiguousarray(array).strides]
        tensors[name] = tensor(key, array.shape, strides, numel=array.size)
        storages[key] = array.tobytes()
    return tensors, storages
