"""safetensors files: read and written to the bit, also against the reference library; hostile ones in a sentence."""

import json
import tracemalloc

import numpy as np
import pytest

import fcnn
from fcnn import ExchangeError, load_safetensors, save_safetensors
from fcnn.values.arrays import frozen

A = np.arange(12, dtype=np.float32).reshape(3, 4)
ARRAYS = {
    "w": A,
    "d": A.astype(np.float64)[::2],
    "h": A.astype(np.float16).T,
    "b": A > 5,
    **{f"i{size}": np.array([-1, 1], f"i{size}") for size in (1, 2, 4, 8)},
    **{f"u{size}": np.array([0, 255], f"u{size}") for size in (1, 2, 4, 8)},
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((2, 0, 3), np.float32),
    "é.weight": np.array([np.nan, -0.0, np.inf], np.float32),
    "big": A.astype(">f4"),
}


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype.newbyteorder("="), array.shape), name
        assert found[name].tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes(), name
        assert not found[name].flags.writeable, name


def made(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(shape=(3, 4), offsets=(0, 48), dtype="F32", **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def test_what_is_written_comes_back_to_the_bit(tmp_path):
    save_safetensors(tmp_path / "a.safetensors", ARRAYS)
    same(load_safetensors(tmp_path / "a.safetensors"), ARRAYS)
    save_safetensors(tmp_path / "a.safetensors", {})
    assert load_safetensors(tmp_path / "a.safetensors") == {}


def test_a_network_comes_back_as_what_it_was(tmp_path):
    network = fcnn.serial(conv1=fcnn.conv2d(2, 3), bn1=fcnn.batch_norm(), flat=fcnn.flatten(), fc=fcnn.dense(3))
    start = network.init(fcnn.key(0), (1, 6, 6))
    model = fcnn.Model(network, start.params, start.state, in_shape=(1, 6, 6), classes=("a", "b", "c"))
    for value in (start, start.params):
        save_safetensors(tmp_path / "a.safetensors", value)
        assert load_safetensors(tmp_path / "a.safetensors", value) == value
    save_safetensors(tmp_path / "a.safetensors", model)
    found = load_safetensors(tmp_path / "a.safetensors", model)
    assert (found.params, found.state, found.classes) == (model.params, model.state, model.classes)


def test_numbers_lie_at_multiples_of_their_size_behind_a_header_of_eights(tmp_path):
    path = tmp_path / "a.safetensors"
    save_safetensors(path, ARRAYS, metadata={"by": "é"})
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0
    assert header.pop("__metadata__") == {"by": "é"}
    assert all(one["data_offsets"][0] % ARRAYS[name].itemsize == 0 for name, one in header.items())
    assert not list(tmp_path.glob(".*"))


def test_bfloat16_becomes_float32(tmp_path):
    numbers = np.array([1.0, -2.5, 0.0, np.inf], np.float32)
    path = tmp_path / "a.safetensors"
    halves = (numbers.view(np.uint32) >> 16).astype("<u2").tobytes()
    path.write_bytes(made({"w": entry((2, 2), (0, 8), "BF16")}, halves))
    same(load_safetensors(path), {"w": numbers.reshape(2, 2)})


def test_names_keep_the_order_of_the_header_whatever_that_of_the_numbers(tmp_path):
    path = tmp_path / "a.safetensors"
    header = {"b": entry((1,), (4, 8)), "none": entry((0,), (4, 4)), "a": entry((1,), (0, 4))}
    path.write_bytes(made({"__metadata__": {}, **header}, np.array([1, 2], "<f4").tobytes()))
    found = load_safetensors(path)
    assert {name: array.tolist() for name, array in found.items()} == {"b": [2.0], "none": [], "a": [1.0]}
    assert list(found) == ["b", "none", "a"]


GOOD = A.tobytes()
TWO = GOOD + GOOD
NO_ARRAY = "w isn't told as an array with dtype, shape and data_offsets"
COUNTS = "w has a shape or offsets that are no counts"
NO_NAME = "is the name of an array, and no text that can be one"
REFUSED = {
    "empty": (b"", "no safetensors file, or cut short: 0 bytes, and its header would be 0"),
    "a header too long": (
        made({}, length=1000),
        "no safetensors file, or cut short: 10 bytes, and its header would be",
    ),
    "a huge header": (made({}, length=1 << 63), "its header would be 9,223,372,036,854,775,808"),
    "a list": (made([1]), "no safetensors file: its header isn't a JSON object"),
    "a space": (made(b" {}"), "no safetensors file: its header isn't a JSON object"),
    "no text": (made(b"{\xff}"), "its header is no JSON ('utf-8' codec can't decode byte 0xff in position 1"),
    "no JSON": (made(b"{"), "its header is no JSON (Expecting property name enclosed in double quotes"),
    "behind it": (made(b"{} {}"), "its header is no JSON (Extra data"),
    "NaN": (made(b'{"w": NaN}'), "its header is no JSON (NaN in it)"),
    "long number": (made(b'{"w": ' + b"9" * 5000 + b"}"), "its header is no JSON (Exceeds the limit"),
    "deep": (made(b'{"w": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "its header is no JSON (maximum recursion"),
    "many values": (made(b'{"w": [' + b"[]," * 600_000 + b"1]}"), "its header is of more than 500,000 values"),
    "twice": (made(b'{"w": 1, "v": 2, "w": 3}'), "w is in its header twice"),
    "twice within": (made(b'{"w": {"dtype": "F32", "dtype": "F32"}}'), "dtype is in its header twice"),
    "metadata": (made({"__metadata__": {"a": 1}}), "its metadata is no object of texts"),
    "no object": (made({"w": 1}), NO_ARRAY),
    "less": (made({"w": {"dtype": "F32", "shape": [3, 4]}}, GOOD), NO_ARRAY),
    "more": (made({"w": entry(strides=[4, 1])}, GOOD), NO_ARRAY),
    "offsets": (made({"w": entry(offsets=(0, 48, 48))}, GOOD), NO_ARRAY),
    "dtype": (made({"w": entry(dtype="F8_E4M3")}, GOOD), "w is of dtype F8_E4M3; known are F64, F32, F16"),
    "negative": (made({"w": entry((-3, -4))}, GOOD), COUNTS),
    "negative offset": (made({"w": entry(offsets=(-48, 0))}, GOOD), COUNTS),
    "floats": (made({"w": entry((3.0, 4))}, GOOD), COUNTS),
    "truth": (made({"w": entry((True, 12))}, GOOD), COUNTS),
    "huge": (made({"w": entry((1 << 63,))}, GOOD), COUNTS),
    "axes": (made({"w": entry((1,) * 33, (0, 4))}, GOOD[:4]), COUNTS),
    "size": (made({"w": entry((3, 5))}, GOOD), "w has 48 bytes, for which its shape and dtype have others"),
    "backwards": (made({"w": entry((3, 4), (48, 0))}, GOOD), "w has -48 bytes, for which its shape and dtype have"),
    "great": (
        made({"w": entry((1 << 50,), (0, 1 << 52))}, GOOD),
        "w ends at 4,503,599,627,370,496, and the file has 48",
    ),
    "no array": (made({"w": entry((0, 1 << 62), (0, 0))}), "w has no numbers, and a shape that no array has"),
    "hole": (made({"w": entry(offsets=(48, 96))}, TWO), "w begins at 48, where the one before ends at 0"),
    "overlap": (
        made({"w": entry(), "v": entry(offsets=(40, 88))}, TWO),
        "v begins at 40, where the one before ends at 48",
    ),
    "the same": (made({"w": entry(), "v": entry()}, GOOD), "v begins at 0, where the one before ends at 48"),
    "left over": (made({"w": entry()}, TWO), "it has 48 bytes that belong to no array"),
    "cut short": (made({"w": entry()}, GOOD[:-1]), "w ends at 48, and the file has 47 bytes of numbers"),
    "half a character": (made({"w\ud800": entry()}, GOOD), rf"w\ud800 {NO_NAME}"),
    "a long name": (made({"w" * 10_001: entry()}, GOOD), f"w {NO_NAME}"),
    "a long header": (made(b"{" + b" " * (17 << 20) + b"}"), "its header is of 17,825,794 bytes, more than 16,777,216"),
    **{
        f"a long header of {text}": (made(b'{"' + text + b"a" * size + b'": 1}'), f"more than {most}, with characters")
        for text, size, most in (
            ("é".encode(), 9 << 20, "8,388,608"),
            (b"\\u00e9", 9 << 20, "8,388,608"),
            ("\U0001f600".encode(), 5 << 20, "4,194,304"),
            (b"\\ud83d\\ude00", 5 << 20, "4,194,304"),
        )
    },
    "unprintable": (made({"a\nb\x1b" * 50: 1}), r"a\nb\x1ba\nb\x1b"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_such_file_is_refused_in_a_sentence(name, tmp_path):
    data, sentence = REFUSED[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ExchangeError) as caught:
            load_safetensors(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ")
    assert sentence in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value).replace(str(path), "")) < 400


def test_many_names_that_are_there_twice_are_told_at_once(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(made(b"{" + b",".join(b'"%d":1' % (i // 2) for i in range(300_000)) + b"}"))
    with pytest.raises(ExchangeError, match=r"0 is in its header twice$"):
        load_safetensors(path)


def test_only_values_are_written(tmp_path):
    path = tmp_path / "a.safetensors"
    for value, text in (
        (
            {"c": np.ones(2, complex)},
            "a safetensors file holds arrays of numbers by name, got c: complex128, which it d",
        ),
        (
            {"__metadata__": A},
            "a safetensors file holds arrays of numbers by name, got __metadata__: which is the name",
        ),
    ):
        with pytest.raises(TypeError) as caught:
            save_safetensors(path, value)
        assert str(caught.value).startswith(text)
    with pytest.raises(TypeError, match=r"^metadata is a mapping of texts to texts, got \{'a': 1\}$"):
        save_safetensors(path, {"w": A}, metadata={"a": 1})
    assert not path.exists()


def test_the_reference_library_reads_and_writes_the_same(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "a.safetensors"
    save_safetensors(path, ARRAYS)
    same({name: frozen(array) for name, array in library.load_file(path).items()}, ARRAYS)
    plain = {name: np.ascontiguousarray(array) for name, array in ARRAYS.items() if name != "big"}
    plain["scalar"] = ARRAYS["scalar"]
    library.save_file(plain, path, {"format": "np"})
    same(load_safetensors(path), plain)


def test_pytorch_s_halves_come_through_the_reference_library(tmp_path):
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    halves = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    library.save_file({"w": halves}, tmp_path / "a.safetensors")
    same(load_safetensors(tmp_path / "a.safetensors"), {"w": halves.float().numpy()})
