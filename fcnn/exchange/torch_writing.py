"""Files for PyTorch, written with NumPy alone: a zip of a pickle and the raw numbers."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fcnn.exchange.names import Like, named_values
from fcnn.values.arrays import Array
from fcnn.values.checks import file_path
from fcnn.values.files import replacing

if TYPE_CHECKING:
    import zipfile

_STORAGES = {
    **{"f4": "Float", "f8": "Double", "f2": "Half", "c8": "ComplexFloat", "c16": "ComplexDouble"},
    **{"i8": "Long", "i4": "Int", "i2": "Short", "i1": "Char", "u1": "Byte", "b1": "Bool"},
}
_ALIGNMENT = 64  # bytes, of storages, as PyTorch lays them
_ROOT = "archive"


def save_torch(
    path: str | os.PathLike[str], value: Like | dict[str, Array], *, names: Mapping[str, str] | None = None
) -> None:
    """Write values so that PyTorch reads them: `module.load_state_dict(torch.load(path))`. PyTorch isn't needed.

    The file is a state_dict, which `torch.load` takes as it is by default (`weights_only=True`) and with `mmap=True`.
    It loads strictly also where the module counts `num_batches_tracked`, which the file doesn't hold. It is written
    atomically, as `save` does.

    Args:
        path: the file, by custom ending in `.pt` or `.pth`.
        value: a `Model`, an `Init`, a tree of parameters, or a dict of arrays by name.
        names: what each path of a network is called in the file; by default as `torch_names` gives it. What `match`
            found when a file was loaded gives its names back.

    Raises:
        TypeError: it isn't one of these, or of a dtype that torch.load knows no storage for.
        ValueError: a name has more than 10,000 characters, or half of one (a surrogate).
        OSError: the file can't be written.
    """
    import zipfile

    path = file_path("path", path)
    arrays = named_values(value, names)
    for name, array in arrays.items():
        if array.dtype.str[1:] not in _STORAGES:
            raise TypeError(f"{name}: {array.dtype}, for which PyTorch has no storage; .astype(np.float32) makes one")
    keys: dict[int, str] = {}  # an array that has two names is written once
    tensors = [_text(name) + _tensor(one, keys.setdefault(id(one), str(len(keys)))) for name, one in arrays.items()]
    stored = {keys[id(array)]: array for array in arrays.values()}
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _write(archive, "data.pkl", b"\x80\x02}(" + b"".join(tensors) + b"u.")
        for name, content in {".format_version": b"1", ".storage_alignment": b"64", "byteorder": b"little"}.items():
            _write(archive, name, content)
        for key, array in stored.items():
            plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            _write(archive, f"data/{key}", plain.reshape(-1).view(np.uint8).data)
        _write(archive, "version", b"3\n")


def _write(archive: "zipfile.ZipFile", name: str, content: Any) -> None:
    """Put a member into the zip, with padding before it, so that it can be mapped into memory."""
    import zipfile

    info = zipfile.ZipInfo(f"{_ROOT}/{name}")
    assert archive.fp is not None
    begin = archive.fp.tell() + zipfile.sizeFileHeader + len(info.filename) + 4  # type: ignore[attr-defined]
    padding = -begin % _ALIGNMENT
    info.extra = b"FB" + padding.to_bytes(2, "little") + bytes(padding)
    archive.writestr(info, content)


# Opcodes of pickles: c names a function, ( … t is a tuple, Q an object that is kept elsewhere, R a call.


def _tensor(array: Array, key: str) -> bytes:
    """torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad=False, hooks=OrderedDict())."""
    kind = f"ctorch\n{_STORAGES[array.dtype.str[1:]]}Storage\n".encode()
    storage = b"(" + _text("storage") + kind + _text(key) + _text("cpu") + _integer(array.size) + b"tQ"
    strides = [1]
    for size in array.shape[:0:-1]:
        strides.insert(0, strides[0] * size)
    shapes = _tuple(array.shape) + _tuple(tuple(strides)[: array.ndim])
    hooks = b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + _integer(0) + shapes + b"\x89" + hooks + b"tR"


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def _integer(value: int) -> bytes:
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


def _tuple(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
