"""PyTorch's files: read and written to the bit, by whichever version they were saved; hostile ones in a sentence."""

import datetime
import math
import pickle
import tracemalloc
import uuid
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch_files as files

import fcnn
from fcnn import ExchangeError, load_torch, save_torch
from fcnn.exchange.matching import match

A = np.arange(12, dtype=np.float32).reshape(3, 4)
ARRAYS = {
    "w": A,
    "d": A.astype(np.float64)[::2],
    "h": A.astype(np.float16).T,
    "b": A > 5,
    "u1": A.astype(np.uint8),
    **{f"i{size}": np.array([-1, 1], f"i{size}") for size in (1, 2, 4, 8)},
    "c": np.array([1 + 2j], np.complex64),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((2, 0, 3), np.float32),
    "é": np.array([math.nan, -0.0, math.inf], np.float32),
    "big": A.astype(">f4"),
}
NET = fcnn.serial(
    conv1=fcnn.conv2d(2, 3), bn1=fcnn.batch_norm(), flat=fcnn.flatten(), fc=fcnn.serial(out=fcnn.dense(3))
)
MADE = NET.init(fcnn.key(0), (1, 6, 6))


def same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype.newbyteorder("="), array.shape), name
        assert found[name].tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes(), name
        assert found[name].flags.c_contiguous, name
        assert not found[name].flags.writeable, name


def written(tmp_path, data):
    path = tmp_path / "w.pt"
    path.write_bytes(data)
    return path


def both(tensors, storages, tmp_path):
    """What is read of a file of each format."""
    for write in (files.zipped, files.legacy):
        yield load_torch(written(tmp_path, write(files.pickled(tensors), storages)))


def test_what_is_written_comes_back_to_the_bit(tmp_path):
    save_torch(tmp_path / "a.pt", ARRAYS)
    same(load_torch(tmp_path / "a.pt"), ARRAYS)


def test_a_network_comes_back_as_what_it_was(tmp_path):
    model = fcnn.Model(NET, MADE.params, MADE.state, in_shape=(1, 6, 6), classes=("a", "b", "c"))
    for value in (MADE, MADE.params, model):
        save_torch(tmp_path / "a.pt", value)
        found = load_torch(tmp_path / "a.pt", value)
        assert type(found) is type(value)
        if value is model:
            assert (found.params, found.state, found.classes) == (model.params, model.state, model.classes)
        else:
            assert found == value


def test_the_same_values_give_the_same_bytes(tmp_path):
    for name in ("a.pt", "b.pt"):
        save_torch(tmp_path / name, ARRAYS)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_storages_are_aligned_and_written_once(tmp_path):
    save_torch(tmp_path / "a.pt", {"one": A, "two": A, "three": A.copy()})
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        assert archive.testzip() is None
        places = [info for info in archive.infolist() if "/data/" in info.filename]
        assert len(places) == 2
        assert {(i.header_offset + 30 + len(i.filename) + len(i.extra)) % 64 for i in places} == {0}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_all_protocols_are_read(protocol, tmp_path):
    content = OrderedDict(epoch=3, rate=0.5, text="é", flags=(True, False, None), tags={"a", "b"}, more=[1, [2**70]])
    data = pickle.dumps(content, protocol)
    (tmp_path / "a.pt").write_bytes(files.zipped(data))
    with pytest.raises(ExchangeError, match=r"a\.pt: it holds no tensors by name; it has epoch, rate, text, flags"):
        load_torch(tmp_path / "a.pt")


def test_strides_are_honoured(tmp_path):
    numbers = np.arange(2 * 3 * 4 * 5, dtype=np.float32)
    last = numbers.reshape(2, 4, 5, 3).transpose(0, 3, 1, 2)
    tensors = {
        "channels_last": files.tensor("0", (2, 3, 4, 5), (60, 1, 15, 3), numel=120),
        "transposed": files.tensor("0", (5, 4), (1, 5), numel=120, offset=7),
        "one": files.tensor("0", (7, 1, 3), (9, 10**12, 1), numel=120),
        "expanded": files.tensor("0", (4, 3), (0, 2), numel=120, offset=1),
        "scalar": files.tensor("0", (), (), numel=120, offset=119),
        "empty": files.tensor("0", (0, 3), (3, 1), numel=120, offset=120),
    }
    for found in both(tensors, {"0": numbers.tobytes()}, tmp_path):
        same(
            found,
            {
                "channels_last": last,
                "transposed": numbers[7:27].reshape(4, 5).T,
                "one": numbers[:63].reshape(7, 1, 9)[..., :3],
                "expanded": np.broadcast_to(numbers[1:7:2], (4, 3)),
                "scalar": numbers[119],
                "empty": np.zeros((0, 3), np.float32),
            },
        )


def test_bfloat16_becomes_float32(tmp_path):
    numbers = np.array([1.0, -2.5, 0.0, np.inf], np.float32)
    halves = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    tensors = {"w": files.tensor("0", (2, 2), (1, 2), numel=4, kind="BFloat16Storage")}
    path = written(tmp_path, files.zipped(files.pickled(tensors), {"0": halves.tobytes()}))
    same(load_torch(path), {"w": numbers.reshape(2, 2).T})
    path = written(tmp_path, files.legacy(files.pickled(tensors), {"0": halves.tobytes()}, itemsize=2))
    same(load_torch(path), {"w": numbers.reshape(2, 2).T})


def test_truth_values_are_0_or_1(tmp_path):
    tensors = {"b": files.tensor("0", (3,), (1,), numel=3, kind="BoolStorage")}
    path = written(tmp_path, files.zipped(files.pickled(tensors), {"0": b"\0\1\2"}))
    same(load_torch(path), {"b": np.array([False, True, True])})


def test_a_big_endian_machine_s_files_are_read(tmp_path):
    tensors, _ = files.plain({"w": A})
    for order, dtype in ((b"big", ">f4"), (b"little", "<f4"), (None, "<f4")):
        data = files.zipped(files.pickled(tensors), {"0": A.astype(dtype).tobytes()}, byteorder=order)
        same(load_torch(written(tmp_path, data)), {"w": A})


def test_views_of_storages_as_old_versions_had_them(tmp_path):
    view = b"(" + files.text("v") + files.integer(4) + files.integer(6) + b"t"
    tensors = {
        "w": files.tensor("0", (2, 3), (3, 1), numel=12, view=view, rebuild="_rebuild_tensor"),
        "all": files.tensor("0", (3, 4), (4, 1), numel=12, view=b"N"),
    }
    path = written(tmp_path, files.legacy(files.pickled(tensors), {"0": A.tobytes()}))
    same(load_torch(path), {"w": A.ravel()[4:10].reshape(2, 3), "all": A})


def test_of_a_checkpoint_the_network_s_values_are_taken(tmp_path):
    tensors, storages = files.plain({"module.fc.weight": A, "module.fc.bias": A[0]})
    plain = {"fc.weight": A, "fc.bias": A[0]}
    loss = files.tensor("0", (), (), numel=12)
    namespace = b"cargparse\nNamespace\n)\x81}" + files.text("lr") + b"G" + bytes(8) + b"sb"
    for wrapped in (
        tensors,
        {"epoch": b"K\3", "state_dict": tensors, "loss": loss},
        {"model": tensors, "model_ema": tensors},
        {"model_state_dict": tensors, "optimizer": {"state": {"0": {"moment": loss}}}, "args": namespace},
        {"my_network": tensors, "names": b"]"},
    ):
        for found in both(wrapped, storages, tmp_path):
            same(found, plain)
    path = written(tmp_path, files.zipped(files.pickled({"model": {"a": loss}, "ema": tensors}), storages))
    same(load_torch(path, part="ema"), plain)
    with pytest.raises(ExchangeError, match=r"it has no part emma of tensors by name; it has model, ema$"):
        load_torch(path, part="emma")
    path = written(tmp_path, files.zipped(files.pickled({"a": tensors, "b": tensors}), storages))
    with pytest.raises(ExchangeError, match=r"it has several parts with tensors: a, b; say which with part=…$"):
        load_torch(path)
    path = written(
        tmp_path, files.zipped(files.pickled({f"_orig_mod.{name}": one for name, one in tensors.items()}), storages)
    )
    same(load_torch(path), plain)


def test_halves_become_float32_in_a_network_and_other_floats_stay(tmp_path):
    for dtype, expected in ((np.float16, np.float32), (np.float32, np.float32), (np.float64, np.float64)):
        arrays = {"w": A.astype(dtype), "b": A[:, 0].astype(dtype)}
        save_torch(tmp_path / "a.pt", {"weight": arrays["w"], "bias": arrays["b"]})
        found = load_torch(tmp_path / "a.pt", fcnn.freeze({"w": A, "b": A[:, 0]}))
        assert found == fcnn.tree.astype(fcnn.freeze(arrays | {"w": A}), expected)


# What is refused.

W = files.tensor("0", (3, 4), (4, 1), numel=12)
GOOD = files.zipped(files.pickled({"w": W}), {"0": A.tobytes()})


def one(**options):
    shape, strides = options.pop("shape", (3, 4)), options.pop("strides", (4, 1))
    return files.zipped(
        files.pickled({"w": files.tensor("0", shape, strides, **{"numel": 12, **options})}), {"0": A.tobytes()}
    )


SAVE_ALONE = "where PyTorch is, save the values alone: torch.save(model.state_dict(), path)"
COUNTS = "a pickle with a tensor whose offset, shape or strides are no counts"
KEPT_NOTHING = "a pickle that takes up again what it never kept"
REFUSED = {
    "empty": (b"", "no PyTorch file: it is empty"),
    "text": (b"<!DOCTYPE html>", "no PyTorch file; it looks like a web page, not what was to be downloaded"),
    "git lfs": (
        b"version https://git-lfs.github.com/spec/v1\n",
        "no PyTorch file; it looks like a pointer of Git LFS",
    ),
    "hdf5": (
        b"\x89HDF\r\n\x1a\n" + bytes(99),
        "no PyTorch file; it looks like HDF5, as Keras writes it: ",
    ),
    "tar": (b"sys_info".ljust(257, b"\0") + b"ustar" + bytes(99), "PyTorch 0.1's tar format, which isn't read"),
    "safetensors": (b"\2\0\0\0\0\0\0\0{}", "no PyTorch file; it looks like a file of safetensors: use"),
    "a pickle": (pickle.dumps([1]), "no PyTorch file: a pickle, but not one of torch.save"),
    "another version": (files.MAGIC + b"\x80\x02K\5.", "PyTorch's format 5, which isn't known"),
    "cut short": (GOOD[:-30], "not a whole PyTorch file (its directory: File is not a zip file)"),
    "no pickle": (files.zipped(None), "no PyTorch file; it looks like a zip of something else"),
    "torchscript": (files.zipped(b"", more={"code/a.py": b""}), "a TorchScript program, which only PyTorch can run"),
    "compressed": (
        files.zipped(files.pickled({"w": W}), {"0": bytes(4000)}, compression=zipfile.ZIP_DEFLATED),
        "archive/data.pkl in it is compressed, which PyTorch doesn't do",
    ),
    "byte order": (files.zipped(b"", byteorder=b"middle"), "it says neither that its bytes are little-endian nor"),
    "code": (
        files.zipped(pickle.dumps({"a": math.sqrt})),
        f"it holds something of math.sqrt beside its values, and nothing that a file names is run here; {SAVE_ALONE}",
    ),
    "a class": (
        files.zipped(b"\x80\x04\x8c\x02my\x94\x8c\x06a\nNet\x1b\x94\x93)\x81."),
        r"it needs my.a\nNet\x1b to be run",
    ),
    "one tensor": (files.zipped(files.pickled(W)), "it holds one tensor, no values by name; save a state_dict"),
    "a list": (files.zipped(b"\x80\2]."), "it holds a list, no values by name; save a state_dict"),
    "nothing": (files.zipped(b"\x80\2}."), "it holds no tensors by name; it has none"),
    "half a pickle": (
        files.zipped(b"\x80\2}"),
        "a pickle that does not evaluate (pickle exhausted before seeing STOP)",
    ),
    "opcodes": (files.zipped(b"\x80\2(i__main__\nA\n."), "a pickle with the opcode INST, which such files don't hold"),
    "a great memo": (files.zipped(b"\x80\2]r\xff\xff\xff\xff."), "a pickle that keeps more than 500,000 values"),
    "nothing kept": (files.zipped(b"\x80\2]r\5\0\0\0j\xff\xff\xff\x7f."), KEPT_NOTHING),
    "nothing kept between": (files.zipped(b"\x80\2]r\5\0\0\0h\2."), KEPT_NOTHING),
    "a great text": (files.zipped(b"\x80\2T\xff\xff\xff\x7f."), "(it ends where 65,536 bytes should follow)"),
    "a text of less": (files.zipped(b"\x80\2T\xff\xff\xff\xff."), "(a text of less than no bytes)"),
    "a short text cut": (files.zipped(b"\x80\2X\xff\0\0\0a."), "(it ends where 255 bytes should follow)"),
    "no such opcode": (files.zipped(b"\x80\2\xff."), r"(b'\xff' is no opcode)"),
    "a text of protocol 0": (files.zipped(b'\x80\2S"\\%c"\n.'), "the opcode STRING, which such files don't hold"),
    "a great number": (files.zipped(b"\x80\2\x8b\xff\0\0\0" + b"1" * 255 + b"."), "the opcode LONG4, which such"),
    "a line without an end": (files.zipped(b"\x80\2I" + b"1" * 100_000), "(a line without an end)"),
    "two values": (files.zipped(b"\x80\2NN."), "(it ends with more or less than one value)"),
    "an open mark": (files.zipped(b"\x80\2(N."), "(it ends with more or less than one value)"),
    "no mark": (files.zipped(b"\x80\2tt."), "(no mark is set)"),
    "half a pair": (files.zipped(b"\x80\2}(" + files.text("a") + b"u."), "(a key without a value)"),
    "no pairs": (
        files.zipped(b"\x80\2ccollections\nOrderedDict\n]K\1a\x85R."),
        "a pickle with a dict of what are no pairs",
    ),
    "a name": (files.zipped(b"\x80\2ctorch\nSize\n."), "it holds the name torch.Size, no values by name; save a st"),
    "a call": (files.zipped(b"\x80\2ctorch\nSize\n)R."), "it holds one torch.Size, no values by name; save a state_"),
    "None": (files.zipped(b"\x80\2N."), "it holds nothing, no values by name; save a state_dict"),
    "a number": (files.zipped(b"\x80\2K\1."), "it holds a number, no values by name; save a state_dict"),
    "a long text": (files.zipped(b"\x80\2" + files.text("a" * 20_000) + b"."), "it holds a long text, no values by"),
    "a long name": (files.zipped(files.pickled({"a" * 20_000: W})), "a pickle with a name that is too long"),
    "half a character": (
        files.zipped(b"\x80\2}X\3\0\0\0\xed\xa0\x80" + W + b"s."),
        r"\ud800 is the name of a tensor, and no text that can be one",
    ),
    "long texts": (
        files.zipped(b"\x80\2(" + files.text("\U0001f600" + "a" * 9_000) * 1000 + b"l."),
        "a pickle whose texts take more than 33,554,432 bytes",
    ),
    **{
        f"a storage of {name}": (
            files.zipped(b"\x80\2(" + files.text("storage") + name + files.text("0") + files.text("cpu") + b"K\1tQ."),
            "a pickle with a storage that isn't told as PyTorch tells them",
        )
        for name in (b"ctorch\nSize\n", b"cnumpy\ndtype\n", b"ctorch\ndevice\n")
    },
    "deep": (files.zipped(b"\x80\2N" + b"\x85" * 90_000 + b"."), "it holds a tuple"),
    "deep keys": (files.zipped(b"\x80\2}N" + b"\x85" * 90_000 + b"Ns."), "(a key that is neither text nor number)"),
    "no storage": (files.zipped(files.pickled({"w": W})), "it names the storage 0, and doesn't have it"),
    "short storage": (
        files.zipped(files.pickled({"w": W}), {"0": bytes(47)}),
        "w is of 12 numbers, for which the file has 47 bytes",
    ),
    "beyond": (one(strides=(4, 2)), "w reaches to number 14 of 12"),
    "offset": (one(offset=1), "w reaches to number 12 of 12"),
    "far offset": (one(offset=2**57), "w reaches to number 144,115,188,075,855,883 of 12"),
    "great strides": (one(strides=(2**57, 2**57)), "of 12"),
    "numel": (one(numel=2**57, shape=(2**57,), strides=(1,)), "w is of 144,115,188,075,855,872 numbers, for which"),
    "negative strides": (one(strides=(-4, 1)), COUNTS),
    "negative offset": (one(offset=-1), COUNTS),
    "negative shape": (one(shape=(-1, -1)), COUNTS),
    "huge offset": (one(offset=1 << 200), COUNTS),
    "axes": (one(shape=(1,) * 33, strides=(1,) * 33), "a pickle with a tensor of no shape"),
    "other axes": (one(shape=(1, 1), strides=(1,)), "a pickle with a tensor of no shape"),
    "no array": (one(shape=(0,) + (2**57,) * 9, strides=(1,) * 10), "w has no numbers, and a shape that no array has"),
    "expanded": (
        one(shape=(2**57,), strides=(0,)),
        "w is expanded to 576,460,752,303,423,488 bytes, more than the fil",
    ),
    "unknown storage": (one(kind="QInt8Storage"), "it has tensors that need torch.QInt8Storage, which isn't known"),
    "no key": (
        files.zipped(files.pickled({"w": b"(" + files.text("storage") + b"K\1tQ"})),
        "a pickle with a storage that isn't told as PyTorch tells them",
    ),
    "legacy cut": (files.legacy(files.pickled({"w": W}), {"0": A.tobytes()})[:-1], "its storage 0 is cut short"),
    "legacy none": (files.legacy(files.pickled({"w": W})), "it names the storage 0, and doesn't have it"),
    "legacy other": (files.legacy(files.pickled({"w": W}), {"1": b""}), "it has a storage 1 of no tensor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_file_of_values_is_refused_in_a_sentence(name, tmp_path):
    data, sentence = REFUSED[name]
    path = written(tmp_path, data)
    tracemalloc.start()
    try:
        with pytest.raises(ExchangeError) as caught:
            load_torch(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ")
    assert sentence in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value).replace(str(path), "")) < 300


PAIRS = b"](" + b"".join(b"X\5\0\0\0%05dN\x86" % number for number in range(60_000)) + b"e\x85"
SHARED = {  # a function's name and its arguments
    "a list": b"ccollections\nOrderedDict\nq\0" + PAIRS,
    "arguments": b"ctorch._utils\n_rebuild_parameter\nq\0(" + W + b"N" * 100_000 + b"t",
}


@pytest.mark.parametrize("name", SHARED)
def test_what_all_calls_are_given_is_bounded_though_it_is_in_the_file_once(name, tmp_path):
    path = written(tmp_path, files.zipped(b"\x80\2" + SHARED[name] + b"q\1" + b"(" + b"h\0h\1R" * 9 + b"t."))
    with pytest.raises(ExchangeError, match=r"w\.pt: a pickle whose calls are given more than 500,000 values$"):
        load_torch(path)


def test_a_part_that_has_many_names_is_looked_at_once(tmp_path):
    inner = b"}q\1(" + b"".join(files.text(f"w{number}") + b"h\0" for number in range(3000)) + b"u0"
    names = b"".join(files.text(f"p{number}") + b"h\1" for number in range(3000))
    path = written(tmp_path, files.zipped(b"\x80\2" + W + b"q\0000" + inner + b"}(" + names + b"u."))
    tracemalloc.start()
    try:
        with pytest.raises(ExchangeError, match=r"several parts with tensors: p0, p1, .*, 2990 more; say which"):
            load_torch(path)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20  # of copies it would be 9 million items
    finally:
        tracemalloc.stop()


def test_texts_beside_the_values_may_be_long_and_keys_may_be_numbers(tmp_path):
    log, numbers = files.text("a" * 100_000), b"}(" + b"".join(b"K%cN" % number for number in range(9)) + b"u"
    data = files.pickled({"log": log, "state": numbers, "model": {"w": W}})
    assert list(load_torch(written(tmp_path, files.zipped(data, {"0": A.tobytes()})))) == ["w"]


def test_only_so_many_opcodes_are_read(tmp_path):
    path = written(tmp_path, files.zipped(b"\x80\2" + b"}" * 600_000))
    with pytest.raises(ExchangeError, match=r"w\.pt: a pickle of more than 500,000 opcodes$"):
        load_torch(path)


def test_members_that_lie_over_one_another_take_no_memory_twice(tmp_path):
    data = files.zipped(files.pickled({"w": W}), {"0": bytes(100_000)})
    path = written(tmp_path, data)
    with zipfile.ZipFile(path, "a") as archive:
        for copy in range(9):
            info = archive.getinfo("archive/data/0")
            again = zipfile.ZipInfo(f"archive/data/{copy + 1}")
            again.header_offset, again.CRC = info.header_offset, info.CRC
            again.file_size, again.compress_size = info.file_size, info.compress_size
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
        archive._didModify = True
    with pytest.raises(ExchangeError, match=r"its members are 1,000,\d+ bytes in a file of 10\d,\d+$"):
        load_torch(path)


def test_nothing_that_a_file_names_is_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "made"), "w")

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for data in (files.zipped(pickle.dumps({"a": Evil()}, protocol)), files.legacy(pickle.dumps(Evil(), protocol))):
            with pytest.raises(ExchangeError):
                load_torch(written(tmp_path, data))
    assert not (tmp_path / "made").exists()


def test_names_without_a_template_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^names are of the paths of like=…, which is missing$"):
        load_torch(written(tmp_path, GOOD), names={"w": "w"})


def test_only_values_are_written(tmp_path):
    for value in ([1], {"w": [1.0]}, {1: A}, {"w": np.array(["a"])}, NET):
        with pytest.raises(TypeError, match=r"^value is a Model, an Init"):
            save_torch(tmp_path / "a.pt", value)
    with pytest.raises(TypeError, match=r"^w: uint16, for which PyTorch has no storage; \.astype"):
        save_torch(tmp_path / "a.pt", {"w": A.astype(np.uint16)})
    assert not (tmp_path / "a.pt").exists()


# Against PyTorch itself.


def module(torch):
    part = torch.nn.Sequential(OrderedDict(out=torch.nn.Linear(32, 3)))
    layers = OrderedDict(conv1=torch.nn.Conv2d(1, 2, 3), bn1=torch.nn.BatchNorm2d(2), flat=torch.nn.Flatten(), fc=part)
    return torch.nn.Sequential(layers)


def test_pytorch_loads_what_is_written_strictly_and_gives_it_back_to_the_bit(tmp_path):
    torch = pytest.importorskip("torch")
    save_torch(tmp_path / "a.pt", MADE)
    for options in ({}, {"mmap": True}, {"weights_only": False}):
        theirs = module(torch)
        theirs.load_state_dict(torch.load(tmp_path / "a.pt", **options), strict=True)
        torch.save(theirs.state_dict(), tmp_path / "b.pt")
        assert load_torch(tmp_path / "b.pt", MADE) == MADE
    save_torch(tmp_path / "a.pt", {name: array for name, array in ARRAYS.items() if array.dtype.isnative})
    for name, theirs in torch.load(tmp_path / "a.pt", mmap=True).items():
        assert theirs.numpy().dtype == ARRAYS[name].dtype
        assert theirs.numpy().tobytes() == ARRAYS[name].tobytes()


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("is_zip", [True, False])
def test_what_pytorch_saves_is_read_to_the_bit(protocol, is_zip, tmp_path):
    torch = pytest.importorskip("torch")
    theirs = module(torch).to(memory_format=torch.channels_last)
    big = torch.arange(12.0).reshape(3, 4)
    values = {
        **theirs.state_dict(),
        "tied": theirs.conv1.weight,
        "transposed": big.t(),
        "part": big[1:, ::2],
        "expanded": torch.ones(1).expand(1000),
        "half": torch.ones(2).half(),
        "bfloat": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).bfloat16().t(),
        "truth": torch.tensor([True, False]),
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "complex": torch.tensor([1 + 2j]),
    }
    if is_zip:
        values["uint16"] = torch.tensor([1, 65535], dtype=torch.uint16)
    expected = {
        name: (one.float() if one.dtype == torch.bfloat16 else one).detach().numpy() for name, one in values.items()
    }
    optimizer = torch.optim.Adam(theirs.parameters())
    theirs(torch.ones(2, 1, 6, 6)).sum().backward()
    optimizer.step()
    values = {name: one if one.dtype != torch.float32 else torch.tensor(0) + one for name, one in values.items()}
    values["tied"] = values["conv1.weight"]
    expected |= {name: one.detach().numpy() for name, one in values.items() if one.dtype == torch.float32}
    for content in (values, {"epoch": 1, "state_dict": values, "optimizer": optimizer.state_dict()}):
        options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": is_zip}
        torch.save(content, tmp_path / "a.pt", **options)
        same(load_torch(tmp_path / "a.pt"), expected)


def test_pytorch_s_other_files_are_refused_by_name(tmp_path):
    torch = pytest.importorskip("torch")
    whole = "it needs torch.nn.modules.container.Sequential to be run, as networks do that were pickled whole; "
    for content, said in (
        (module(torch), whole),
        ({"model": module(torch)}, whole),
        ({"w": torch.eye(2).to_sparse()}, "it has tensors that need torch._utils._rebuild_sparse_tensor, which isn't"),
        ({"w": torch.eye(2).to(torch.float8_e4m3fn)}, "it has numbers of torch.float8_e4m3fn, which aren't read; "),
        ({"w": torch.eye(2), "id": uuid.UUID(int=1)}, "it holds something of uuid.UUID beside its values, and "),
    ):
        for is_zip in (True, False):
            torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=is_zip)
            with pytest.raises(ExchangeError) as caught:
                load_torch(tmp_path / "a.pt")
            assert str(caught.value).startswith(f"{tmp_path / 'a.pt'}: {said}")


def test_what_stands_beside_pytorch_s_values_is_passed_over(tmp_path):
    torch = pytest.importorskip("torch")
    beside = {"at": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC), "took": datetime.timedelta(3)}
    beside |= {"dtypes": [torch.int32, torch.complex64, torch.uint8, torch.bool], "device": torch.device("cpu")}
    for is_zip in (True, False):
        torch.save({"w": torch.eye(2), **beside}, tmp_path / "a.pt", _use_new_zipfile_serialization=is_zip)
        same(load_torch(tmp_path / "a.pt"), {"w": np.eye(2, dtype=np.float32)})


def test_what_was_matched_in_order_is_given_back_to_the_bit(tmp_path):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(*module(torch)[:3], torch.nn.Linear(32, 3)).to(memory_format=torch.channels_last)
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    names = match(load_torch(tmp_path / "a.pt"), MADE)
    assert list(names.values()) == [name for name in theirs.state_dict() if "tracked" not in name]
    found = load_torch(tmp_path / "a.pt", MADE)
    assert found == load_torch(tmp_path / "a.pt", MADE, names=names)
    save_torch(tmp_path / "b.pt", found, names=names)
    back = torch.load(tmp_path / "b.pt")
    for name, tensor in theirs.state_dict().items():
        assert "tracked" in name or tensor.numpy().tobytes() == back[name].numpy().tobytes()
    theirs.load_state_dict(back, strict=True)
    x = np.random.default_rng(0).normal(size=(2, 1, 6, 6)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(x)).numpy()
    # A dozen roundings of float32 on numbers of about one.
    np.testing.assert_allclose(NET.apply(found.params, found.state, x, train=False).y, expected, rtol=0, atol=2e-6)
