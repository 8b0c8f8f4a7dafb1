"""Arrays of one's own in an .npz file as a data set: what is read, and that a file from anywhere does no harm."""

import contextlib
import io
import pickle
import zipfile

import numpy as np
import pytest

import fcnn
from fcnn.data import DataError, load_npz

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (30, 3, 8, 8), np.uint8)
Y = np.arange(30) // 10
NAMES = np.array(["rose", "tulip", "lily"])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mine.npz"


def test_a_share_of_each_class_is_for_testing(path):
    np.savez(path, x=X, y=Y, classes=NAMES)
    data = load_npz(path)
    assert repr(data) == "Dataset('mine', train=Split(24 images of 3x8x8), test=Split(6 images of 3x8x8))"
    assert data.classes == ("rose", "tulip", "lily")
    assert np.bincount(data.test.y).tolist() == [2, 2, 2]
    assert len({*data.train.y[:8].tolist()}) > 1, "the first are not all of one class"
    label = {image.tobytes(): int(k) for image, k in zip(X, Y, strict=True)}
    for split in (data.train, data.test):
        assert [label.pop(image.tobytes()) for image in split.x] == split.y.tolist()
    assert not label
    assert load_npz(path).fingerprint() == data.fingerprint()
    assert load_npz(path, seed=1).fingerprint() != data.fingerprint()
    assert len(load_npz(path, test=0.5).test) == 15


def test_test_arrays_and_the_names_that_keras_gives_are_taken(path):
    np.savez_compressed(path, x_train=X[:, 0], y_train=Y, x_test=X[:5, 0], y_test=Y[:5])
    data = load_npz(path)
    assert (data.train.in_shape, data.classes, len(data.train)) == ((1, 8, 8), ("0", "1", "2"), 30)
    np.testing.assert_array_equal(data.test.x[:, 0], X[:5, 0])
    assert sorted(image.tobytes() for image in data.train.x[:, 0]) == sorted(image.tobytes() for image in X[:, 0])


def test_features_and_numbers_are_taken(path):
    x, y = RNG.normal(size=(20, 4)), RNG.normal(size=20)
    np.savez(path, x=x.astype(">f8"), y=y)
    data = load_npz(path)
    assert (len(data.train), len(data.test), data.classes, data.train.has_classes) == (16, 4, (), False)
    assert sorted([*data.train.y, *data.test.y]) == sorted(y)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": X, "b": Y}, "it has no x and no y, it has a, b; np.savez(path, x=x, y=y) writes such"),
        ({"x": X, "y": Y, "x_test": X}, "it has no y_test, it has x, y, x_test; "),
        (
            {"x": X, "y": NAMES[Y]},
            "a split's y is classes, integers (N,), or numbers, floats (N,) or (N, K), got <U5; names",
        ),
        (
            {"x": X.transpose(0, 2, 3, 1), "y": Y},
            "its images are (N, C, H, W), got (30, 8, 8, 3); where channels come last",
        ),
        ({"x": X, "y": Y[:9]}, "a split has one target for each input, got 30 inputs and 9 targets"),
        (
            {"x": X.astype(int), "y": Y},
            "a split's x is an array, images (N, C, H, W) or features (N, D) of uint8 or of",
        ),
        (
            {"x": X.astype(np.float32), "y": Y},
            "its images are floats from 0 to 255; give uint8, or floats from 0 to 1, as pictures to predict from are "
            "prepared so (what a network needs besides is a layer, fcnn.normalize)",
        ),
        ({"x": X / 255, "y": Y, "x_test": X / 128 - 1, "y_test": Y}, "its images are floats from -1 to 0.992; give"),
        (
            {"x": X, "y": Y, "X_test": X, "Y_test": Y},
            "it has X_test, Y_test, too, and nothing says what that is; names are",
        ),
        ({"x": X, "x_train": X, "y": Y}, "it has x_train, too, and nothing says what that is; names are"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y / 2}, "its y is int64 and its y_test float64: classes are"),
        ({"x": X, "y": Y, "classes": np.array([0x7FFFFFFF], np.uint32).view("<U1")}, ""),
        ({"x": np.full((30, 4), np.nan), "y": Y}, "its x holds numbers that are not finite"),
        ({"x": X, "y": Y - 1}, "a split's labels are class numbers from 0 on, got -1 to 1"),
        ({"x": X, "y": Y, "classes": NAMES[:2]}, "classes are 2 names, and its y has classes up to 2"),
        ({"x": X, "y": Y, "classes": NAMES[[0, 1, 1]]}, "classes are different names, of letters that can be printed"),
        (
            {"x": X, "y": Y, "classes": np.array(["a", "b", "\x1b[2J"])},
            "classes are different names, of letters that can",
        ),
        ({"x": X, "y": Y, "classes": np.arange(3)}, "classes are names, an array of text (K,), got int64 (3,)"),
        ({"x": X, "y": Y * 10**6}, "its classes are numbered below 10,000, got 2000000"),
        (
            {"x": X[:21], "y": Y[:21]},
            "the class 2 has one input; it takes two at least, one to train on and one to test",
        ),
        ({"x": X, "y": Y * 2}, "the class 1 has no input; it takes two at least"),
        ({"x": X[:0], "y": Y[:0]}, "no input to train on"),
        ({"x": X, "y": Y, "x_test": X[:0], "y_test": Y[:0]}, "no input to test with"),
        ({"x": X, "y": Y, "x_test": X[:, :1], "y_test": Y}, "train and test have inputs of one shape, got Split("),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_what_is_no_data_set_is_refused(path, arrays, message):
    np.savez(path, **arrays)
    with pytest.raises(DataError) as caught:
        load_npz(path)
    assert str(caught.value).startswith(f"{path}: {message}")


class Evil:
    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def member(shape, dtype="|u1", content=b""):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue() + content


def npz(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return stream.getvalue()


Y_FILE = member((30,), "<i8", Y.tobytes())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a whole .npz file"),
        (pickle.dumps(Evil()), "not a whole .npz file"),
        (
            npz(x=member((1,), "|O", pickle.dumps(Evil())), y=Y_FILE),
            "x in it is no plain array (of objects, perhaps, which",
        ),
        (npz(x=member((10**6, 3, 1000, 1000)), y=Y_FILE), "its arrays are more than 4,294,967,296 bytes"),
        (npz(x=member((30, 3, 8, 8)), y=Y_FILE), "x in it: wrong length"),
        (
            npz(x=member((30, 1, 1, 1), content=bytes(30)), y=Y_FILE, classes=member((10**6,), "<U10")),
            "classes in it is more",
        ),
        (npz(x=member((10**30,)), y=Y_FILE), "its arrays are more than 4,294,967,296 bytes"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_a_file_from_anywhere_does_no_harm(path, data, message):
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        load_npz(path)
    assert message in str(caught.value)


def test_no_damage_gives_wrong_arrays(path):
    np.savez_compressed(path, x=X, y=Y, classes=NAMES)
    expected, whole = load_npz(path).fingerprint(), path.read_bytes()
    for place in RNG.integers(0, len(whole), 200).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << int(RNG.integers(8))]) + whole[place + 1 :])
        with contextlib.suppress(DataError):
            assert load_npz(path).fingerprint() == expected


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DataError, match=r"gone\.npz: no such file; it is an \.npz file with arrays x and y"):
        fcnn.data.load(tmp_path / "gone.npz")
