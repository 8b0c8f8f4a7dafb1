"""The readers take exactly their format, and refuse everything else with a sentence."""

import gzip
import os
import pickle
import struct
import tracemalloc
import zlib

import damage
import data_files as files
import numpy as np
import pytest

from fcnn.data import DataError, Dataset, Split
from fcnn.data.readers import (
    gunzip,
    read_cifar_binary,
    read_cifar_pickle,
    read_cifar_png,
    read_idx_images,
    read_idx_labels,
    read_label_json,
)

X = files.images(6, 3, 32, 32)
Y = files.labels(6)
GREY = files.images(5, 4, 3)


def test_idx_images_and_labels_come_back():
    x, y = read_idx_images(files.idx(GREY), "x"), read_idx_labels(files.idx(files.labels(5)), "y")
    np.testing.assert_array_equal(x[:, 0], GREY)
    assert (x.dtype, x.shape, x.flags.writeable) == (np.uint8, (5, 1, 4, 3), False)
    assert (y.dtype, y.tolist(), y.flags.writeable) == (np.int64, [0, 1, 2, 3, 4], False)


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (read_cifar_pickle, files.cifar_pickle(X, Y)),
        (read_cifar_binary, files.cifar_binary(X, Y)),
        (
            lambda data, name: (read_cifar_png(data, name), read_label_json(files.label_json(Y), name)),
            files.cifar_png(X),
        ),
    ],
    ids=["pickle", "binary", "png"],
)
def test_cifar_forms_agree(read, data):
    x, y = read(data, "batch")
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    assert (x.dtype, y.dtype) == (np.uint8, np.int64)
    assert x.flags.c_contiguous
    assert not x.flags.writeable
    assert not y.flags.writeable


IDX = files.idx(GREY)
PICKLE = files.cifar_pickle(X, Y)
PNG = files.cifar_png(X)
CHUNKS = damage.png_chunks(PNG)
PIXELS = b"".join(content for kind, content in CHUNKS if kind == b"IDAT")
RAW = zlib.decompress(PIXELS)
remade = damage.png_file


def header(rows):
    return struct.pack(">IIBBBBB", 1024, rows, 8, 2, 0, 0, 0)


def pixels(raw):
    return b"IDAT", zlib.compress(raw, 1)


@pytest.mark.parametrize(
    ("read", "data", "message"),
    [
        (read_idx_images, b"", "expected an IDX file of bytes with 3 axes"),
        (read_idx_images, IDX[:10], "expected an IDX file"),
        (read_idx_images, files.idx(files.labels(5)), r"magic 00000803\), got magic 00000801"),
        (read_idx_images, IDX[:-1], r"expected 60 bytes for the shape \(5, 4, 3\) in its header, got 59 bytes"),
        (read_idx_images, IDX + b"x", "got 61 bytes"),
        (read_idx_images, IDX[:4] + b"\xff" * 12 + IDX[16:], "in its header, got 60 bytes"),
        (read_idx_images, IDX[:4] + bytes(4) + b"\xff" * 8, r"without a zero in its header, got \(0, 4294967295, 429"),
        (read_idx_images, IDX[:4] + b"\xff" * 8 + bytes(4), "without a zero in its header"),
        (read_idx_labels, files.idx(files.labels(0)), "without a zero in its header"),
        (read_idx_labels, IDX, "with 1 axes"),
        (read_cifar_binary, b"\1" * 3072, "3073 bytes, got 3072 bytes"),
        (read_cifar_binary, files.cifar_binary(X, Y + 90), "expected labels 0 to 9, got 95"),
        (read_label_json, b"[1, 2", "that is not JSON"),
        (read_label_json, b"\xff\xfe\xfd", "that is not JSON"),
        (read_label_json, b"[" * 100_000, "that is not JSON"),
        (read_label_json, b'{"a": 1}', "got a JSON dict"),
        (read_label_json, b"[1, 10]", "expected labels 0 to 9"),
        (read_label_json, b"[1, -1]", "expected labels 0 to 9"),
        (read_label_json, b"[true]", "expected labels 0 to 9"),
        (read_label_json, b"[1.5]", "expected labels 0 to 9"),
        (read_cifar_png, PNG[:10], "expected a PNG file, got 10 bytes"),
        (read_cifar_png, b"GIF89a" + PNG[6:], "a file that starts with b'GIF89a"),
        (read_cifar_png, PNG[: len(PNG) // 2], r"does not decode \(it is cut short\)"),
        (read_cifar_png, PNG[:50] + bytes([PNG[50] ^ 1]) + PNG[51:], "a wrong checksum of its chunk b'IDAT'"),
        (read_cifar_png, remade([*CHUNKS[:1], *CHUNKS]), "expected the chunks IHDR PLTE IDAT… IEND, got 'IHDR IHDR"),
        (read_cifar_png, remade([CHUNKS[0], (b"IHDR", header(9)), *CHUNKS[1:]]), "got 'IHDR IHDR IDAT"),
        (read_cifar_png, remade([*CHUNKS[:-1], (b"IHDR", header(9)), CHUNKS[-1]]), "got 'IHDR IDAT IHDR IEND'"),
        (read_cifar_png, remade([CHUNKS[0], CHUNKS[-1]]), "got 'IHDR IEND'"),
        (read_cifar_png, remade([CHUNKS[0], (b"IDAT", PIXELS[:-9]), CHUNKS[-1]]), "cut short"),
        (
            read_cifar_png,
            remade([CHUNKS[0], pixels(RAW[:-3073]), CHUNKS[-1]]),
            "expected 18,438 bytes of pixels, got 15,365",
        ),
        (read_cifar_png, remade([CHUNKS[0], pixels(RAW + bytes(1)), CHUNKS[-1]]), "18,438 bytes of pixels, got more"),
        (read_cifar_png, remade([CHUNKS[0], pixels(bytes(1 << 28)), CHUNKS[-1]]), "18,438 bytes of pixels, got more"),
        (read_cifar_png, remade([CHUNKS[0], (b"IDAT", b"no zlib"), CHUNKS[-1]]), "its pixels don't inflate"),
        (read_cifar_png, PNG[:-12] + b"\xff" * 4 + b"IEND1234", r"does not decode \(it is cut short\)"),
        (
            read_cifar_pickle,
            files.cifar_pickle(X, Y).replace(b"(K\x01", b"(K\x02"),
            "of two axes under `data`, got some",
        ),
        (read_cifar_png, files.cifar_png(X, "L"), "8 bits, colour type 0"),
        (read_cifar_png, PNG[:16] + struct.pack(">2I", 1024, 2**31 - 1) + PNG[24:], "got 1024 x 2147483647"),
        (read_cifar_pickle, b"", "expected a pickle"),
        (read_cifar_pickle, PICKLE[:-1], "does not evaluate"),
        (read_cifar_pickle, PICKLE[:200], "does not evaluate"),
        (read_cifar_pickle, b"\x80\x02].", "got a pickle of a list"),
        (read_cifar_pickle, b"\x80\x02cnumpy\ndtype\n.", "got a pickle of the name numpy.dtype"),
        (read_cifar_pickle, b"\x80\x02}.", "a pickled dict with `data` and `labels`"),
        (read_cifar_pickle, files.cifar_pickle(X, Y[:-1]), "expected a list of 6 labels, got 5"),
        (read_cifar_pickle, files.cifar_pickle(X, Y + 90), "expected labels 0 to 9"),
        (read_cifar_pickle, files.cifar_pickle(X, Y, shape=(2**31 - 1, 3072)), "as 2147483647 x 3072"),
        (read_cifar_pickle, files.cifar_pickle(X, Y, shape=(12, 1536)), "expected rows of 3072 pixels"),
        (read_cifar_pickle, files.cifar_pickle(X, Y, dtype=b"O8"), "numpy dtype called with"),
        (read_cifar_pickle, b"\x80\x02}(N" + b"\x85" * 99_000 + b"Nu.", "a key that is neither text nor number"),
        (read_cifar_pickle, b"\x80\x02N" + b"\x85" * 3_000_000 + b".", "a pickle of more than 100,000 opcodes"),
        (read_cifar_pickle, b"\x80\x02N" + b"\x85" * 90_000 + b"\x85R.", "does not evaluate"),
        (read_cifar_pickle, b"\x80\x02" + b"}" * 3_000_000 + b".", "a pickle of more than 100,000 opcodes"),
        (read_cifar_pickle, b"\x80\x02]q\x00" + b"h\x00" * 9 + b".", "a pickle that does not evaluate"),
        (read_cifar_pickle, b"\x80\x02c" + b"x" * 9000 + b"\ny\n.", "one that calls x{80}…x{17}.y"),
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else getattr(value, "__name__", str(value)),
)
def test_refuses_what_is_not_its_format(read, data, message):
    with pytest.raises(DataError, match=f"^some/file: .*{message}.*; get the file anew"):
        read(data, "some/file")


def test_what_a_png_may_also_have_changes_no_image():
    """Transparency, an animation's frames, a profile: only the header, and the pixels in any parts, make the image."""
    parts = [(b"IDAT", PIXELS[i : i + 5000]) for i in range(0, len(PIXELS), 5000)]
    frame = struct.pack(">IIIIIHHBB", 0, 512, 2, 1, 1, 1, 1, 0, 0)
    more = [
        (b"tRNS", bytes(6)),
        (b"acTL", struct.pack(">II", 2, 0)),
        (b"fcTL", frame),
        (b"gAMA", bytes(4)),
        (b"tEXt", b"a"),
    ]
    np.testing.assert_array_equal(read_cifar_png(remade([CHUNKS[0], *more, *parts, CHUNKS[-1]]), "f"), X)


def test_gunzip_believes_no_content_without_its_checksum():
    whole = files.gz(b"abc")
    for damaged in (whole[:-1], whole[:-8], whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]):
        with pytest.raises(DataError, match=r"^f\.gz: expected .*(cut short|incorrect data check)"):
            gunzip(damaged, 3, "f.gz")
    assert gunzip(whole + b"what lies behind it", 3, "f.gz") == b"abc"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_nothing_is_called(protocol, tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/owned",)

    for content in (Malicious(), {"data": Malicious(), "labels": []}):
        with pytest.raises(DataError, match=r"^evil: expected"):
            read_cifar_pickle(pickle.dumps(content, protocol), "evil")
    assert not list(tmp_path.iterdir())


def test_a_pickle_that_names_another_function_is_refused_by_name():
    data = files.cifar_pickle(X, Y, reconstruct=b"cposix\nsystem\n")
    with pytest.raises(DataError, match=r"one that calls posix\.system;"):
        read_cifar_pickle(data, "evil")


def test_a_pickle_with_a_huge_memo_index_costs_no_memory():
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="a pickle that keeps more than 100,000 values"):
            read_cifar_pickle(b"\x80\x02]r\xff\xff\xff\xff.", "evil")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_gunzip_gives_the_content_and_no_more():
    assert gunzip(files.gz(b"abc"), 3, "f.gz") == b"abc"
    with pytest.raises(DataError, match=r"f\.gz: expected 2 bytes when decompressed, got more"):
        gunzip(files.gz(b"abc"), 2, "f.gz")
    with pytest.raises(DataError, match="expected 4 bytes when decompressed, got 3;"):
        gunzip(files.gz(b"abc"), 4, "f.gz")
    with pytest.raises(DataError, match="expected a gzip file"):
        gunzip(b"not gzip", 4, "f.gz")
    with pytest.raises(DataError, match="cut short"):
        gunzip(files.gz(bytes(100_000))[:30], 100_000, "f.gz")


def test_a_decompression_bomb_is_stopped_at_the_expected_size():
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="got more"):
            gunzip(bomb, 1000, "bomb.gz")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_split_protects():
    x, y = files.images(4, 1, 3, 3), np.arange(4)
    split = Split(x, y)
    x[:] = 0
    y[:] = 0
    assert split.x.any()
    assert split.y.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        split.x[0] = 1
    assert Split(split.x, split.y).x is split.x
    assert Split(split.x[:, :, ::-1], split.y).x.flags.c_contiguous


def test_take():
    split = Split(files.images(4, 1, 3, 3), np.arange(4))
    assert split.take(2).y.tolist() == [0, 1]
    assert split.take(np.array([3, 0, 3])).y.tolist() == [3, 0, 3]
    assert len(split.take(0)) == len(split.take([])) == 0
    with pytest.raises(ValueError, match=r"expects 0 to 4, the number of images, got 5"):
        split.take(5)
    with pytest.raises(IndexError):
        split.take([4])
    with pytest.raises(TypeError, match="a number of images or a list of indices"):
        split.take([0.5])


def test_the_last_images_are_held_out():
    split = Split(files.images(5, 1, 3, 3), np.arange(5))
    rest, last = split.hold_out(2)
    assert (rest.y.tolist(), last.y.tolist()) == ([0, 1, 2], [3, 4])
    assert last.x.tolist() == split.x[3:].tolist()
    with pytest.raises(ValueError, match=r"expects 0 to 5, the number of images, got 6"):
        split.hold_out(6)


def test_dataset_validates_and_its_repr_is_short():
    split = Split(files.images(4, 1, 3, 3), np.arange(4))
    assert repr(Dataset(split, split)) == "Dataset('', train=Split(4 images of 1x3x3), test=Split(4 images of 1x3x3))"
    with pytest.raises(ValueError, match="inputs of one shape"):
        Dataset(split, Split(files.images(4, 3, 3, 3), np.arange(4)))
    with pytest.raises(ValueError, match="below 2, the number of classes, got 3"):
        Dataset(split, split, classes=("a", "b"))
