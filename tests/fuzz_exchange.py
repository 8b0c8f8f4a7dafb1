"""Files of other programs for `fuzz.py`: PyTorch's and safetensors, as they are written and as nobody writes them."""

import io
import json
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import damage
import numpy as np
import torch_files
from fuzz_case import Case, require

import fcnn

BF16 = "bfloat16"
STORAGES = {
    **{"FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": BF16, "LongStorage": "i8"},
    **{"IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "b1"},
    **{"ComplexFloatStorage": "c8", "ComplexDoubleStorage": "c16"},
}
PARTS = ("module.", "_orig_mod.")


class TorchFiles:
    """`load_torch`, without a template and with one."""

    def __init__(self, folder: Path) -> None:
        network = fcnn.serial(fc1=fcnn.dense(4), bn1=fcnn.batch_norm(), fc2=fcnn.dense(3))
        self.template = network.init(fcnn.key(9), (5,))
        rng = np.random.default_rng(0)
        self.files: list[bytes] = []
        for seed in (0, 1):
            fcnn.save_torch(folder / "corpus.pt", network.init(fcnn.key(seed), (5,)))
            self.files.append((folder / "corpus.pt").read_bytes())
        numbers = {str(key): rng.normal(size=60).astype(np.float32).tobytes() for key in range(3)}
        tensor = torch_files.tensor
        tensors = {
            "conv.weight": tensor("0", (2, 3, 2, 2), (12, 1, 6, 3), numel=60),
            "conv.bias": tensor("0", (3,), (1,), numel=60, offset=57),
            "tied": tensor("0", (2, 3, 2, 2), (12, 1, 6, 3), numel=60),
            "half": tensor("1", (4, 5), (1, 4), numel=120, kind="HalfStorage"),
            "bfloat": tensor("2", (3, 5), (5, 1), numel=120, kind="BFloat16Storage", offset=3),
            "truth": torch_files.called(
                "torch._utils._rebuild_parameter", tensor("0", (), (), numel=60), b"\x88", b"N"
            ),
            "empty": tensor("1", (0, 4), (4, 1), numel=120, kind="HalfStorage"),
            "expanded": tensor("0", (100,), (0,), numel=60),
        }
        checkpoint = {"epoch": b"K\3", "state_dict": tensors, "more": {"a": b"]", "b": b"}"}}
        for data in (torch_files.pickled(tensors), torch_files.pickled(checkpoint, 4)):
            self.files += [torch_files.zipped(data, numbers), self.legacy(data, numbers)]

    def legacy(self, data: bytes, numbers: dict[str, bytes]) -> bytes:
        whole = [torch_files.MAGIC, torch_files.VERSION, torch_files.MACHINE, data]
        whole.append(b"\x80\x02](" + b"".join(map(torch_files.text, numbers)) + b"e.")
        for key, content in numbers.items():
            whole += [(len(content) // (4 if key == "0" else 2)).to_bytes(8, "little"), content]
        return b"".join(whole)

    def case(self, rng: random.Random) -> Case:
        data, other = rng.choice(self.files), rng.choice(self.files)
        match rng.randrange(10):
            case 0 | 1 | 2:
                data = damage.blind(rng, data, other)
            case 3 | 4 | 5:
                data = self.lies(rng)
            case _ if data[:2] == b"PK":
                data = damage.zip_mutated(rng, data, self.files[0], lambda member: self.inner(rng, member))
            case _:
                data = self.pickles_mutated(rng, data)
        errors, allowed = (fcnn.ExchangeError,), 3 * len(data)
        if rng.random() < 0.2:
            read, check = self.load, lambda found: self.is_like(found, data)
            return Case(data, read, check, errors, allowed, lines=True)
        return Case(data, fcnn.load_torch, lambda found: self.is_told(found, data), errors, allowed)

    def load(self, path: Path) -> Any:
        return fcnn.load_torch(path, self.template)

    def inner(self, rng: random.Random, member: damage.Member) -> bytes:
        if member.name.endswith(b".pkl") and rng.random() < 0.8:
            try:
                return damage.pickle_mutated(rng, member.content)
            except (ValueError, IndexError):  # it was changed before
                pass
        return damage.blind(rng, member.content)

    def pickles_mutated(self, rng: random.Random, data: bytes) -> bytes:
        """A file of the old format in which one of its pickles is changed."""
        stream, parts = io.BytesIO(data), []
        for _ in range(5):
            begin = stream.tell()
            for _ in damage.pickletools.genops(stream):
                pass
            parts.append(data[begin : stream.tell()])
        place = rng.choice((0, 1, 2, 3, 3, 3, 3, 4, 4))
        parts[place] = damage.pickle_mutated(rng, parts[place])
        numbers = data[stream.tell() :]
        return b"".join(parts) + (damage.blind(rng, numbers) if rng.random() < 0.3 else numbers)

    def lies(self, rng: random.Random) -> bytes:
        """A file whose tensors reach where they will."""
        odd = [*damage.NUMBERS, -1, -4, 3, 4, 5, 12, 59, 60, 61, 1 << 57, 1 << 200]
        usual = [0, 1, 2, 3, 4, 5, 12, 15]

        def number() -> int:
            return rng.choice(odd if rng.random() < 0.15 else usual)

        tensors = {}
        for name in ("a.weight", "a.bias", *(f"more.{i}" for i in range(rng.choice((0, 0, 1, 5))))):
            axes = rng.choice((0, 1, 2, 2, 4, 33 if rng.random() < 0.1 else 3))
            shape, strides = [number() for _ in range(axes)], [number() for _ in range(axes)]
            kind = rng.choice((*STORAGES, "QInt8Storage")) if rng.random() < 0.3 else "FloatStorage"
            numel = rng.choice((60, 60, 60, 30, number()))
            key = rng.choice(("0", "0", "0", "1", "9") if rng.random() < 0.2 else "0")
            view = rng.choice((None, None, None, b"N", b"(" + torch_files.text("v") + b"K\1K\2t"))
            tensors[name] = torch_files.tensor(
                key, shape, strides, numel=numel, offset=number() if rng.random() < 0.5 else 0, kind=kind, view=view
            )
        numbers = {"0": rng.randbytes(240), "1": rng.randbytes(rng.choice((0, 16, 239)))}
        data = torch_files.pickled({"state_dict": tensors} if rng.random() < 0.3 else tensors)
        if rng.random() < 0.5:
            return torch_files.legacy(data, numbers)
        order = rng.choice((b"little", b"little", b"big", None, b"odd"))
        return torch_files.zipped(data, numbers, byteorder=order)

    def is_like(self, found: Any, data: bytes) -> bool:
        for ours, theirs in ((found.params, self.template.params), (found.state, self.template.state)):
            shapes = [{path: leaf.shape for path, leaf in fcnn.tree.flatten(tree).items()} for tree in (ours, theirs)]
            if shapes[0] != shapes[1]:
                return False
        leaves = [*fcnn.tree.flatten(found.params).values(), *fcnn.tree.flatten(found.state).values()]
        told = [array.tobytes() for array in self.told(data, "<").values() if array is not None]
        return all(leaf.tobytes() in told or leaf.astype(np.float16).tobytes() in told for leaf in leaves)

    def is_told(self, found: dict[str, Any], data: bytes) -> bool:
        told = {}
        for name, array in self.told(data, "<").items():
            for prefix in ("", *PARTS, PARTS[0] * 2, PARTS[0] + PARTS[1]):
                told.setdefault(name.removeprefix(prefix), []).append(array)
        require(found, "no arrays")
        for name, array in found.items():
            require(array.flags.c_contiguous and not array.flags.writeable, f"{name} in another order, or writable")
            same = [one for one in told.get(name, ()) if one is not None and one.shape == array.shape]
            if not any(one.dtype == array.dtype and one.tobytes() == array.tobytes() for one in same):
                return False
        return True

    def told(self, data: bytes, order: str) -> dict[str, Any]:
        """All tensors that a file holds, wherever in it, by Python's own unpickler and NumPy; None if that fails."""
        if data[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                names = archive.namelist()
                (root,) = [n[:-8] for n in names if n.count("/") == 1 and n.endswith("/data.pkl")]
                big = f"{root}byteorder" in names and archive.read(f"{root}byteorder") == b"big"
                tensors = Unpickler(io.BytesIO(archive.read(f"{root}data.pkl"))).load()
                return values(tensors, lambda key: archive.read(f"{root}data/{key}"), ">" if big else "<")
        stream = io.BytesIO(data)
        _, _, _, tensors, keys = [Unpickler(stream).load() for _ in range(5)]
        sizes: dict[str, int] = {}
        for _, tensor in all_tensors(tensors):
            sizes.setdefault(tensor[0][2], size_of(tensor[0][1]))
        numbers = {}
        for key in keys:
            count = int.from_bytes(stream.read(8), "little")
            numbers[key] = stream.read(count * sizes.get(key, 4))
        return values(tensors, numbers.__getitem__, order)


def size_of(kind: str) -> int:
    return 2 if STORAGES[kind] == BF16 else np.dtype(STORAGES[kind]).itemsize


class Unpickler(pickle._Unpickler):  # that in Python, which takes no memory for what it isn't given
    """Python's own, in which everything that is called gives its arguments, and a frame's length says nothing."""

    dispatch = {**pickle._Unpickler.dispatch, pickle.FRAME[0]: lambda self: self.read(8)}  # noqa: RUF012

    def find_class(self, module: str, name: str) -> Any:
        if name.endswith("Storage"):
            return name
        if name in ("OrderedDict", "defaultdict", "Counter"):
            return lambda *_: Dict()
        if name == "_rebuild_parameter":
            return lambda tensor, *_: tensor
        return lambda *arguments: Tensor(arguments)

    def persistent_load(self, identity: Any) -> Any:
        return identity


class Dict(dict):
    """One that takes attributes."""


class Tensor(tuple):
    """What a call was given."""


def all_tensors(value: Any) -> list[tuple[Any, Any]]:
    items = [(name, one) for name, one in value.items()] if isinstance(value, dict) else []
    inner = [item for _, one in items if isinstance(one, dict) for item in one.items()]
    return [(name, one) for name, one in [*items, *inner] if isinstance(one, Tensor)]


def values(root: Any, numbers: Any, order: str) -> dict[str, Any]:
    return {name: value(tensor, numbers, order) for name, tensor in all_tensors(root)}


def value(tensor: Any, numbers: Any, order: str) -> Any:
    """A tensor's array, number by number."""
    try:
        (_, kind, key, _, _, *view), offset, shape, strides = tensor[:4]
        offset += view[0][1] if view and view[0] else 0
        is_bfloat = STORAGES[kind] == BF16
        if 0 in shape:
            return np.empty(shape, "f4" if is_bfloat else STORAGES[kind])
        flat = numbers(key)
        dtype = np.dtype("u2" if is_bfloat else STORAGES[kind])
        flat = np.frombuffer(flat[: len(flat) // dtype.itemsize * dtype.itemsize], dtype.newbyteorder(order))
        if dtype == "b1":
            flat = flat.view("u1") != 0
        places = np.full(shape, offset, np.int64)
        for axis, stride in enumerate(strides):
            if shape[axis] > 1:
                places += stride * np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))])
        found = flat[places].astype(dtype)
        return (found.astype("u4") << 16).view("f4") if is_bfloat else found
    except (ValueError, TypeError, LookupError, OverflowError, AttributeError, MemoryError):
        return None


class Safetensors:
    """`load_safetensors`."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        path = folder / "corpus.safetensors"
        wide = {name: rng.normal(size=(30, 40)).astype(name) for name in ("f8", "f4", "f2")}
        integers = {name: np.arange(6).astype(name) for name in ("i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1")}
        fcnn.save_safetensors(path, {**wide, **integers, "empty": np.zeros((0, 3)), "scalar": np.array(2.5)})
        self.files = [path.read_bytes()]
        fcnn.save_safetensors(path, fcnn.serial(fcnn.conv2d(2, 3), fcnn.batch_norm()).init(fcnn.key(0), (1, 4, 4)))
        self.files.append(path.read_bytes())
        self.files.append(self.files[0].replace(b'"F16"', b'"BF16"'))

    def case(self, rng: random.Random) -> Case:
        data, other = rng.choice(self.files), rng.choice(self.files)
        length = int.from_bytes(data[:8], "little")
        text, numbers = data[8 : 8 + length], data[8 + length :]
        match rng.randrange(10):
            case 0 | 1 | 2:
                data = damage.blind(rng, data, other)
            case 3 | 4 | 5 | 6:
                theirs = other[8 : 8 + int.from_bytes(other[:8], "little")].decode()
                changed = damage.json_text(rng, text.decode(), theirs).encode("utf-8", "surrogatepass")
                data = self.made(rng, changed, numbers)
            case 7 | 8:
                data = self.made(rng, self.lies(rng, json.loads(text)), numbers)
            case _:
                data = self.made(rng, damage.blind(rng, text), damage.blind(rng, numbers))
        errors = (fcnn.ExchangeError,)
        return Case(data, fcnn.load_safetensors, lambda found: self.is_told(found, data), errors, 3 * len(data))

    def made(self, rng: random.Random, text: bytes, numbers: bytes) -> bytes:
        length = len(text) if rng.random() < 0.9 else rng.choice(damage.NUMBERS) % (1 << 64)
        return length.to_bytes(8, "little") + text + numbers

    def lies(self, rng: random.Random, header: dict[str, Any]) -> bytes:
        """A header whose shapes, types and offsets are others."""
        names = [name for name in header if name != "__metadata__"]
        for _ in range(rng.choice((1, 1, 2, 3))):
            entry = header[rng.choice(names)]
            match rng.randrange(8):
                case 0:
                    entry["shape"] = rng.choice(([], [0], [12], [2, 6], [1 << 62, 4], [-1], [1] * 40, [0, 1 << 63]))
                case 1:
                    entry["dtype"] = rng.choice(("F32", "BF16", "U8", "BOOL", "F8_E4M3", "C64", ""))
                case 2:
                    entry["data_offsets"] = [rng.choice((0, 1, 8, *damage.NUMBERS)), rng.choice((48, *damage.NUMBERS))]
                case 3:
                    other = header[rng.choice(names)]
                    entry["data_offsets"], other["data_offsets"] = other["data_offsets"], entry["data_offsets"]
                case 4:
                    entry["data_offsets"] = [one + rng.choice((-8, -1, 1, 8)) for one in entry["data_offsets"]]
                case 5:
                    entry["shape"] = [1, *entry["shape"][::-1]]
                case 6:
                    header = {name: header[name] for name in rng.sample(list(header), len(header))}
                case _:
                    other = header[rng.choice(names)]
                    entry.update({name: other[name] for name in rng.sample(list(other), 2)})
        return json.dumps(header).encode()

    def is_told(self, found: dict[str, Any], data: bytes) -> bool:
        length = int.from_bytes(data[:8], "little")
        header, numbers = json.loads(data[8 : 8 + length]), data[8 + length :]
        header.pop("__metadata__", None)
        require(list(found) == list(header), "other names")
        spans = sorted(tuple(entry["data_offsets"]) for entry in header.values())
        require([0, *(stop for _, stop in spans)] == [*(start for start, _ in spans), len(numbers)], "holes")
        for name, entry in header.items():
            start, stop = entry["data_offsets"]
            kind, bits = entry["dtype"][0].lower(), entry["dtype"][1:]
            dtype = {"BF16": "u2", "BOOL": "u1"}.get(entry["dtype"]) or f"{kind}{int(bits) // 8}"
            array = np.frombuffer(numbers[start:stop], dtype).reshape(entry["shape"])
            if entry["dtype"] == "BF16":
                array = (array.astype("u4") << 16).view("f4")
            if entry["dtype"] == "BOOL":
                array = np.asarray(array != 0)
            ours = found[name]
            if (ours.dtype, ours.shape, ours.tobytes()) != (array.dtype, array.shape, array.tobytes()):
                return False
        return True


KINDS = {"torch": TorchFiles, "safetensors": Safetensors}
