"""Files that PyTorch saved, read with NumPy alone: nothing that they name is imported or called.

`torch.save` writes a pickle, in which each tensor is told by its storage, offset, shape and strides, and beside it the
storages' raw numbers: since 1.6 as members of a zip (`data.pkl`, `data/0`, `data/1`, …), before one after the other.
"""

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, overload

import attrs
import numpy as np

from fcnn.exchange.errors import ExchangeError
from fcnn.exchange.matching import filled
from fcnn.exchange.names import T, expect_template
from fcnn.exchange.state_dicts import Storage, Tensor, chosen
from fcnn.exchange.torch_refusals import of_name, of_other_file
from fcnn.values.archives import Archive, Bounded, DamagedFileError, opened_archive
from fcnn.values.arrays import Array, frozen
from fcnn.values.checks import file_path, instance, told
from fcnn.values.files import opened
from fcnn.values.kinds import looks_like
from fcnn.values.pickles import ForeignError, Known, Named, PickleError, read_pickle
from fcnn.values.text import MOST_OF_A_NAME, printable

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of files before PyTorch 1.6
_MOST_AXES = 32  # NumPy's before 2.0
_MOST_COPIED = 16 << 20  # bytes that views, such as one number expanded to many, may take beyond the file's size
_MOST_NUMBERS = 1 << 58
_BFLOAT16 = "bfloat16"
_STORAGES = {
    **{
        "Float": "f4",
        "Double": "f8",
        "Half": "f2",
        "BFloat16": _BFLOAT16,
        "ComplexFloat": "c8",
        "ComplexDouble": "c16",
    },
    **{"Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "b1"},
}
_UNTYPED = "torch.storage UntypedStorage"  # of dtypes that have no storage of their own
_DTYPES = (
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
    *("int8", "int16", "int32", "int64", "uint8", "bool"),
)
_STORAGE_DTYPES = {**{f"torch {name}Storage": dtype for name, dtype in _STORAGES.items()}, _UNTYPED: None}
_UNSIGNED = {"torch uint16": "u2", "torch uint32": "u4", "torch uint64": "u8"}

Order: TypeAlias = Literal["<", ">"]  # of bytes


@overload
def load_torch(
    path: str | os.PathLike[str], like: None = None, *, names: None = None, part: str | None = None
) -> dict[str, Array]: ...


@overload
def load_torch(
    path: str | os.PathLike[str], like: T, *, names: Mapping[str, str] | None = None, part: str | None = None
) -> T: ...


def load_torch(
    path: str | os.PathLike[str],
    like: Any = None,
    *,
    names: Mapping[str, str] | None = None,
    part: str | None = None,
) -> Any:
    """Read the values that PyTorch saved: a `state_dict`, or a checkpoint that holds one. PyTorch isn't needed.

    Files of all versions since 0.2 are read. Of a checkpoint, the values under `model`, `state_dict` or
    `model_state_dict` are taken, or under another name if nothing else in it holds tensors by name; `module.` and
    `_orig_mod.`, which parallel and compiled networks put before all names, are left out, and so is all that is no
    tensor. Tensors come in their own dtype, but bfloat16 as float32, which holds the same numbers.

    Args:
        path: the file, by custom ending in `.pt` or `.pth`.
        like: what the values are for: a `Model`, an `Init` as a network's `init` makes it, or a tree of parameters.
        names: the file's name for each path of `like`, such as {"conv1/w": "features.0.weight"}. Without, names that
            `torch_names` gives are recognised, and torchvision's; others are matched in the file's order, with shapes.
        part: which part of a checkpoint is meant, such as "model_ema".

    Returns:
        What `like` is, with the file's values, and halves as float32; without `like`, a dict from the file's names to
        read-only arrays.

    Raises:
        ExchangeError: it is no such file, or damaged; it names what isn't known, as whole pickled networks and
            TorchScript do; or it doesn't fit `like`: then it lists all that is missing, unexpected or of another shape.
        OSError: the file can't be read.
    """
    path = file_path("path", path)
    if part is not None:
        instance("part", part, str, 'text, such as "state_dict"')
    expect_template(like, names)
    arrays = _read(path, part)
    return arrays if like is None else filled(path, arrays, like, names)


def _read(path: Path, part: str | None) -> dict[str, Array]:
    with opened(path) as raw:
        head = raw.read(512)
    try:
        if head[:2] == b"PK":
            return _read_zip(path, part)
        if head[:1] == b"\x80":
            return _read_legacy(path, part)
        raise DamagedFileError(of_other_file(path, head))
    except ForeignError as error:
        raise ExchangeError(f"{path}: {of_name(error)}") from error
    except (DamagedFileError, PickleError) as error:
        raise ExchangeError(f"{path}: {error}") from error


# What the pickle says.


def _storage(identity: object) -> Storage:
    """A storage by its persistent id: ("storage", type, key, location, number of elements[, view])."""
    match identity:
        case ("storage", Named(name), str(key), _, int(numel), *view) if (
            name in _STORAGE_DTYPES and 0 <= numel < _MOST_NUMBERS
        ):
            dtype = _STORAGE_DTYPES[name]
            match view:
                case [] | [None]:
                    return Storage(key, dtype, numel)
                case [(_, int(begin), int(size))] if 0 <= begin <= begin + size <= numel:
                    return Storage(key, dtype, begin + size, begin)
    raise PickleError("a pickle with a storage that isn't told as PyTorch tells them")


def _tensor(
    storage: object = None, offset: object = None, shape: object = None, strides: object = None, *_: object
) -> Any:
    if not isinstance(storage, Storage) or storage.dtype is None:
        raise PickleError("a pickle with a tensor of no known storage")
    return _checked(storage, storage.dtype, offset, shape, strides)


def _tensor_of_dtype(*arguments: object) -> Tensor:
    """A tensor of a dtype that has no storage of its own: (storage, offset, shape, strides, …, dtype, …)."""
    match arguments:
        case (Storage() as storage, offset, shape, strides, _, _, Named(name), *_) if name in _UNSIGNED:
            numel = storage.numel // np.dtype(_UNSIGNED[name]).itemsize
            return _checked(attrs.evolve(storage, numel=numel), _UNSIGNED[name], offset, shape, strides)
    raise PickleError("a pickle with a tensor of no known dtype")


def _checked(storage: Storage, dtype: str, offset: object, shape: object, strides: object) -> Tensor:
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= _MOST_AXES):
        raise PickleError("a pickle with a tensor of no shape")
    if not all(type(one) is int and 0 <= one < _MOST_NUMBERS for one in (offset, *shape, *strides)):
        raise PickleError("a pickle with a tensor whose offset, shape or strides are no counts")
    assert isinstance(offset, int)
    return Tensor(storage, dtype, storage.begin + offset, shape, strides)


def _parameter(data: object = None, *_: object) -> Tensor:
    if not isinstance(data, Tensor):
        raise PickleError("a pickle with a parameter that is no tensor")
    return data


def _dict(pairs: object = (), *_: object) -> dict[str, Any]:
    if not isinstance(pairs, list):
        return {}
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise PickleError("a pickle with a dict of what are no pairs")
    return {key: value for key, value in pairs if isinstance(key, str)}


_KNOWN: dict[str, Callable[..., object] | None] = {
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_parameter_with_state": _parameter,
    "collections OrderedDict": _dict,
    "collections defaultdict": _dict,
    "collections Counter": _dict,
    **dict.fromkeys(_STORAGE_DTYPES),
    # What checkpoints hold beside tensors, and what of it is passed over.
    **dict.fromkeys(_UNSIGNED),
    **{f"torch {name}": None for name in ("Size", "device", *_DTYPES)},
    **{f"{module} {name}": None for module in ("builtins", "__builtin__") for name in ("set", "list", "dict", "int")},
    **{f"numpy{core}.multiarray {name}": None for core in (".core", "._core") for name in ("scalar", "_reconstruct")},
    **{f"numpy {name}": None for name in ("dtype", "ndarray")},
    **{f"datetime {name}": None for name in ("datetime", "date", "time", "timedelta", "timezone")},
    **dict.fromkeys(("argparse Namespace", "_codecs encode", "pathlib PosixPath", "pathlib WindowsPath")),
}


def _pickle(
    stream: BinaryIO | bytes, known: Known | None = None, persistent: Callable[[object], object] | None = None
) -> object:
    return read_pickle(stream, known or {}, persistent=persistent, longest=MOST_OF_A_NAME)


# Where the numbers are.


def _read_zip(path: Path, part: str | None) -> dict[str, Array]:
    with opened_archive(path, "PyTorch") as archive:
        names, size = archive.names, path.stat().st_size
        if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
            advice = "where PyTorch is: torch.save(torch.jit.load(path).state_dict(), 'values.pt')"
            raise DamagedFileError(f"a TorchScript program, which only PyTorch can run; {advice}")
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            seen = looks_like(path, "PyTorch")
            what = f"; {seen}" if seen else ": a zip without a data.pkl in its one folder"
            raise DamagedFileError(f"no PyTorch file{what}")
        if archive.compressed is not None:
            raise DamagedFileError(f"{printable(archive.compressed)} in it is compressed, which PyTorch doesn't do")
        if archive.size > size:
            raise DamagedFileError(f"its members are {archive.size:,} bytes in a file of {size:,}")
        root = pickles[0].removesuffix("data.pkl")
        order = _byte_order(archive, f"{root}byteorder")
        tensors = chosen(_pickle(archive.content(pickles[0]), _KNOWN, _storage), part)

        def storage(key: str) -> bytes:
            if f"{root}data/{key}" not in names:
                raise DamagedFileError(f"it names the storage {printable(key)}, and doesn't have it")
            return archive.content(f"{root}data/{key}")

        return _arrays(tensors, storage, order, size)


def _byte_order(archive: Archive, name: str) -> Order:
    if name not in archive.names:  # before PyTorch 2.1
        return "<"
    found = archive.content(name) if archive.size_of(name) < 16 else b""
    if found not in (b"little", b"big"):
        raise DamagedFileError("it says neither that its bytes are little-endian nor that they are big-endian")
    return "<" if found == b"little" else ">"


def _read_legacy(path: Path, part: str | None) -> dict[str, Array]:
    seen: dict[str, Storage] = {}

    def storage_seen(identity: object) -> Storage:
        found = _storage(identity)
        return seen.setdefault(found.key, found) if found.begin == 0 else found

    with opened(path) as raw, Bounded(raw) as file:  # type: ignore[arg-type]  # as in `opened_archive`
        size = path.stat().st_size
        if _pickle(file) != _MAGIC:
            raise DamagedFileError("no PyTorch file: a pickle, but not one of torch.save")
        if (version := _pickle(file)) != _PROTOCOL:
            raise DamagedFileError(f"PyTorch's format {printable(told(version))}, which isn't known")
        _pickle(file)  # the machine's sizes; the numbers are little-endian on any
        root = _pickle(file, _KNOWN, storage_seen)
        keys = _pickle(file)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise DamagedFileError("it has no list of its storages")
        places: dict[str, tuple[int, int]] = {}
        for key in keys:
            if key not in seen:
                raise DamagedFileError(f"it has a storage {printable(key)} of no tensor")
            count = int.from_bytes(file.read(8), "little", signed=True)
            length = count * _itemsize(seen[key].dtype)
            if count < 0 or file.tell() + length > size:
                raise DamagedFileError(f"its storage {printable(key)} is cut short")
            places[key] = file.tell(), length
            file.seek(length, os.SEEK_CUR)

        def storage(key: str) -> bytes:
            if key not in places:
                raise DamagedFileError(f"it names the storage {printable(key)}, and doesn't have it")
            file.seek(places[key][0])
            return file.read(places[key][1])

        return _arrays(chosen(root, part), storage, "<", size)


def _itemsize(dtype: str | None) -> int:
    return 1 if dtype is None else 2 if dtype == _BFLOAT16 else np.dtype(dtype).itemsize


def _arrays(
    tensors: Mapping[str, Tensor], storage: Callable[[str], bytes], order: Order, size: int
) -> dict[str, Array]:
    """The tensors' numbers; each storage is read once, and kept only as long as tensors are made of it."""
    sharing: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        sharing.setdefault(tensor.storage.key, []).append(name)
    found: dict[str, Array] = {}
    allowed = size + _MOST_COPIED
    for key, names in sharing.items():
        data = storage(key)
        made: dict[str, Array] = {}  # by text: a file could know which numbers take long as keys
        for name in names:
            tensor = tensors[name]
            if (told_as := repr(tensor)) not in made:
                try:
                    made[told_as], copied = _array(data, tensor, order, allowed)
                except DamagedFileError as error:
                    raise DamagedFileError(f"{printable(name)} {error}") from error
                allowed -= copied
            found[name] = made[told_as]
    return {name: found[name] for name in tensors}


def _array(data: bytes, tensor: Tensor, order: Order, allowed: int) -> tuple[Array, int]:
    """A tensor's numbers in C order, and how many bytes it took to copy them: none where they lie in that order."""
    itemsize, numel = _itemsize(tensor.dtype), tensor.storage.numel
    if numel * itemsize > len(data):
        raise DamagedFileError(f"is of {numel:,} numbers, for which the file has {len(data):,} bytes")
    dtype = np.dtype("u2" if tensor.dtype == _BFLOAT16 else tensor.dtype).newbyteorder(order)
    size = math.prod(tensor.shape)
    if size == 0:
        return _empty(tensor), 0
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    if last >= numel:
        raise DamagedFileError(f"reaches to number {last:,} of {numel:,}")
    # Of an axis of one, any stride may stand there.
    strides = [itemsize * stride if n > 1 else 0 for n, stride in zip(tensor.shape, tensor.strides, strict=True)]
    view: Array = np.ndarray(tensor.shape, dtype, data, itemsize * tensor.offset, strides)
    plain = view.flags.c_contiguous and dtype.isnative and tensor.dtype not in (_BFLOAT16, "b1")
    if plain:
        return frozen(view), 0
    needed = size * max(itemsize, 4)
    if needed > allowed:
        raise DamagedFileError(f"is expanded to {needed:,} bytes, more than the file may take")
    if tensor.dtype == _BFLOAT16:  # the upper half of a float32
        wide = view.astype("u4", order="C")
        wide <<= 16
        return frozen(wide.view("f4")), needed
    if tensor.dtype == "b1":
        return frozen(np.not_equal(view.view("u1"), 0, order="C")), needed
    return frozen(np.array(view, dtype.newbyteorder("="), order="C")), needed


def _empty(tensor: Tensor) -> Array:
    try:
        return frozen(np.empty(tensor.shape, "f4" if tensor.dtype == _BFLOAT16 else tensor.dtype))
    except ValueError:
        raise DamagedFileError("has no numbers, and a shape that no array has") from None
