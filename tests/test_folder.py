"""Pictures of one's own as a data set: what is read, what is left out and told, what is refused, what is cached."""

import os
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from picture_files import FORMS, write_bad_pictures
from PIL import Image
from shapes import CLASSES, shape, write_shapes

import fcnn
from fcnn.data import DataError, DataWarning, Preprocessing, folder, pictures, prepared

DIGIT = fcnn.data.make_digits(fcnn.key(7), 1).x[0, 0]
NOT_UTF8 = os.fsdecode(b"r\xf6se")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, and files that are old enough to be kept in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(prepared, "_SETTLED", -60.0)
    return tmp_path / "cache/fcnn/pictures"


@pytest.fixture
def root(tmp_path):
    return write_shapes(tmp_path / "shapes", 5)


def quiet(root, **options):
    """The folder, of which something is left out."""
    with pytest.warns(DataWarning):
        return folder(root, **options)


def files(data):
    return sorted(data.train_files + data.test_files)


def draw(path, seed=0, name="circle"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape(name, fcnn.fold_in(fcnn.key(99), seed)).save(path, format="PNG")


def test_a_folder_is_a_class_and_their_order_is_that_of_the_names(root):
    data = folder(root)
    splits = "train=Split(12 images of 3x32x32), test=Split(3 images of 3x32x32)"
    assert repr(data) == f"PictureFolder('shapes', {splits}, 3 classes, 0 left out)"
    assert data.classes == CLASSES
    assert (data.pictures, data.left_out) == (Preprocessing(3, 32, 32), {})
    for split, names in ((data.train, data.train_files), (data.test, data.test_files)):
        assert [data.classes[label] for label in split.y] == [name.partition("/")[0] for name in names]
        for image, name in zip(split.x, names, strict=True):
            np.testing.assert_array_equal(image, pictures.read_picture(root / name, data.pictures)[0])
    assert files(data) == sorted(f"{path.parent.name}/{path.name}" for path in root.glob("*/*"))


def test_the_split_is_of_each_class_and_decided_by_seed_and_names_alone(root, tmp_path):
    data = folder(root)
    assert np.bincount(data.test.y).tolist() == [1, 1, 1]
    assert len({*data.train.y[:6].tolist()}) > 1, "the first are not all of one class"
    (tmp_path / "other").mkdir()
    for path in sorted(root.glob("*/*"), reverse=True):  # written in another order, and with other pixels
        (tmp_path / "other" / path.parent.name).mkdir(exist_ok=True)
        draw(
            tmp_path / "other" / path.parent.name / path.name,
            seed=int.from_bytes(path.parent.name.encode()) + int(path.stem),
        )
    other = folder(tmp_path / "other")
    assert (other.train_files, other.test_files) == (data.train_files, data.test_files)
    assert folder(root, seed=1).test_files != data.test_files
    assert np.bincount(folder(root, test=0.6).test.y).tolist() == [3, 3, 3]
    for share, count in ((0.001, 1), (0.999, 4)):
        assert np.bincount(folder(root, test=share).test.y).tolist() == [count] * 3
    draw(root / "cross" / "new.png", seed=5)
    more = folder(root)
    assert len({*data.test_files} & {*more.test_files}) >= 2, "other classes keep theirs"


def test_train_and_test_are_the_splits_where_they_are_there(root, tmp_path):
    (tmp_path / "both").mkdir()
    root.rename(tmp_path / "both/train")
    write_shapes(tmp_path / "both/test", 2, seed=1)
    data = folder(tmp_path / "both")
    assert (len(data.train), len(data.test), data.classes) == (15, 6, CLASSES)
    assert all(name.startswith("train/") for name in data.train_files)
    assert all(name.startswith("test/") for name in data.test_files)
    write_shapes(tmp_path / "both/val", 2, seed=2)
    assert quiet(tmp_path / "both").left_out == {"val": "neither in train/ nor in test/"}


def test_a_class_may_be_called_train(root):
    (root / "circle").rename(root / "train")
    assert folder(root).classes == ("cross", "train", "triangle")


def test_what_systems_and_programs_hide_is_passed_over(root):
    before = files(folder(root))
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._01.jpg"):
        (root / "cross" / name).write_bytes(b"nothing")
        (root / name).write_bytes(b"nothing")
    for name in (".ipynb_checkpoints", "__MACOSX", "cross/.git", "cross/@eaDir"):
        draw(root / name / "01.png")
    (root / "LICENSE.txt").write_text("do what you like")
    data = folder(root)  # a warning would be an error
    assert (files(data), data.left_out) == (before, {})


def test_folders_within_a_class_are_of_that_class(root):
    draw(root / "cross/2024/may/one.png")
    assert "cross/2024/may/one.png" in files(folder(root))


def test_what_is_no_picture_is_left_out_and_named(root, monkeypatch):
    before = files(folder(root))
    draw(root / "stray.png")
    monkeypatch.chdir(root / "cross")
    write_bad_pictures(DIGIT)
    Path("clear.png").unlink()  # over white it is blank.png
    Path("notes.txt").write_text("lines")
    with pytest.warns(
        DataWarning, match=r"shapes: left out: stray\.png \(not in the folder of a class\), .* and \d more$"
    ):
        data = folder(root)
    reasons = {
        "stray.png": "not in the folder of a class",
        "cross/text.png": "not a picture, or a damaged one",
        "cross/notes.txt": "not a picture, or a damaged one",
        "cross/empty.png": "not a picture, or a damaged one",
        "cross/half.png": "a damaged picture (",
        "cross/flipped.png": "a damaged picture (",
        "cross/half.jpg": "a damaged picture (",
        "cross/bomb.png": "it is more than 50,000,000 pixels",
        "cross/large.png": "8,000 x 8,000 is more than 50,000,000 pixels",
        "cross/pipe.png": "a pipe, not a file",
    }
    assert data.left_out.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert data.left_out[name].startswith(reason)
    whole = {f"cross/{name}" for name in ("whole.png", "whole.jpg", "blank.png", "black.png")}
    assert {*files(data)} == {*before} | whole


def test_links_are_followed_within_the_folder_only(root, tmp_path):
    draw(tmp_path / "private.png", seed=3)
    draw(root / "cross/far/real.png", seed=4)
    links = {
        "out.png": tmp_path / "private.png",
        "up.png": "../../private.png",
        "nowhere.png": "gone.png",
        "self.png": "self.png",
        "around": "..",
        "in.png": "far/real.png",
    }
    for name, target in links.items():
        (root / "cross" / name).symlink_to(target)
    data = quiet(root, test=0.001)
    out = "a link that leads out of the folder; put the picture itself there"
    found = dict(data.left_out)
    twice = {
        name for name in found if name in ("cross/in.png", "cross/far/real.png")
    }  # where one of them is to test with
    assert {name: found[name] for name in found.keys() - twice} == {
        "cross/out.png": out,
        "cross/up.png": out,
        "cross/nowhere.png": "it can't be read (No such file or directory)",
        "cross/self.png": "it can't be read (Too many levels of symbolic links)",
        "cross/around": "a link to a folder; those aren't followed",
    }
    assert {"cross/in.png", "cross/far/real.png"} <= {*files(data)} | twice
    (tmp_path / "link").symlink_to(root)
    assert files(quiet(tmp_path / "link", test=0.001)) == files(data)


def test_the_same_picture_in_two_classes_is_in_neither(root):
    draw(root / "cross/a.png")
    draw(root / "circle/b.png")
    data = quiet(root)
    assert data.left_out == {
        "circle/b.png": "the same picture as cross/a.png, and one of the two classes is wrong",
        "cross/a.png": "the same picture as circle/b.png, and one of the two classes is wrong",
    }
    assert len(files(data)) == 15


def test_no_picture_to_test_with_is_one_to_train_on(root, tmp_path):
    for k in range(8):
        draw(root / f"cross/copy{k}.png")
    data = quiet(root, test=0.4)
    assert data.left_out
    assert not {image.tobytes() for image in data.train.x} & {image.tobytes() for image in data.test.x}
    for name, reason in data.left_out.items():
        assert (name.startswith("cross/copy"), reason.startswith("the same picture as cross/copy")) == (True, True)
        assert reason.endswith(", which is one to train on")
    (tmp_path / "both").mkdir()
    root.rename(tmp_path / "both/train")
    write_shapes(tmp_path / "both/test", 2, seed=1)
    draw(tmp_path / "both/test/cross/again.png")
    data = quiet(tmp_path / "both")
    assert data.left_out == {
        "test/cross/again.png": "the same picture as train/cross/copy0.png, which is one to train on"
    }


@pytest.mark.parametrize("grey", [False, True])
def test_pictures_of_every_kind_become_images_of_one_kind(tmp_path, grey):
    for name, form in FORMS.items():
        (tmp_path / "a" / "b").mkdir(parents=True, exist_ok=True)
        form(DIGIT).save(tmp_path / f"a/b/{name}.png")
    shape("cross", fcnn.key(0)).convert("CMYK").save(tmp_path / "a/b/cmyk.jpg")
    write_shapes(tmp_path / "a" / "c", 2, classes=("x",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # as images, some of them are the same
        data = folder(tmp_path / "a", grey=grey, size=(24, 40))
    assert data.train.in_shape == (1 if grey else 3, 24, 40)
    assert data.classes == ("b", "c")
    known = {image.tobytes() for split in (data.train, data.test) for image in split.x}
    for path in (tmp_path / "a/b").iterdir():
        assert pictures.read_picture(path, data.pictures)[0].tobytes() in known


def test_a_picture_is_upright_cropped_to_its_middle_and_scaled(tmp_path):
    sheet = np.zeros((60, 300, 3), np.uint8)
    sheet[:, 120:180] = [10, 200, 60]  # the middle square
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    for name, picture in (("flat", Image.fromarray(sheet)), ("turned", Image.fromarray(sheet).rotate(90, expand=True))):
        picture.save(tmp_path / f"{name}.png", exif=exif if name == "turned" else Image.Exif())
    for name in ("flat", "turned"):
        pixels, steps = pictures.read_picture(tmp_path / f"{name}.png", Preprocessing(3, 20, 20))
        assert (pixels == np.array([10, 200, 60])[:, None, None]).all()
        assert steps == ("scaled to 20x20",)
    grey, _ = pictures.read_picture(tmp_path / "flat.png", Preprocessing(1, 20, 20))
    assert np.unique(grey).tolist() == [round(0.299 * 10 + 0.587 * 200 + 0.114 * 60)]
    wide, _ = pictures.read_picture(
        tmp_path / "flat.png", Preprocessing(3, 10, 50)
    )  # its very proportions: nothing is cropped
    assert wide[1, 5].tolist()[:10] == [0] * 10
    assert wide[1, 5, 25] == 200
    exact = np.random.default_rng(0).integers(0, 256, (10, 50, 3), np.uint8)
    np.testing.assert_array_equal(
        pictures.prepare(Image.fromarray(exact), Preprocessing(3, 10, 50))[0], exact.transpose(2, 0, 1)
    )
    assert pictures.prepare(Image.fromarray(sheet[:1]), Preprocessing(1, 7, 3))[0].shape == (1, 7, 3)


def test_a_large_photo_is_decoded_small_and_looks_the_same(tmp_path):
    big = shape("triangle", fcnn.key(3), size=(2000, 1501))
    big.save(tmp_path / "a.jpg", quality=95)
    big.rotate(90, expand=True).save(tmp_path / "b.jpg", quality=95)
    sizes = []
    for name in ("a.jpg", "b.jpg"):
        with open(tmp_path / name, "rb") as file:
            sizes.append(pictures._decoded(file, 4 * 32).size)
        seen, _ = pictures.read_picture(tmp_path / name, Preprocessing(3, 32, 32))
        full, _ = pictures.prepare(pictures.open_picture(tmp_path / name), Preprocessing(3, 32, 32))
        assert np.abs(seen.astype(float) - full).mean() < 1
        assert np.abs(seen.astype(float) - full).max() < 24  # at edges
    assert sizes == [(250, 188), (188, 250)]


def one_class(root):
    for name in ("cross", "triangle"):
        for path in (root / name).iterdir():
            path.unlink()
        (root / name).rmdir()


def pair_of(one, other):
    def make(root):
        for name in (one, other):
            draw(root / name / "a.png", seed=len(name))

    return make


def parts(**classes):
    """train/ and test/ and so on, of these classes, in place of what is there."""

    def make(root):
        for path in root.iterdir():
            path.rename(root.parent / path.name)
        for part, names in classes.items():
            for k, name in enumerate(names.split()):
                draw(root / part / name / "a.png", seed=k)
                draw(root / part / name / "b.png", seed=k + 50)

    return make


def only_broken(root):
    for path in (root / "cross").iterdir():
        path.write_bytes(b"nothing")


def single(root):
    for path in sorted((root / "cross").iterdir())[1:]:
        path.unlink()


def linked(root):
    (root / "cross").rename(root.parent / "cross")
    (root / "cross").symlink_to(root.parent / "cross")


def without_labels(root):
    parts(train="a b")(root)
    draw(root / "test/one.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            one_class,
            "{}: one class only, circle; a folder of pictures holds a folder for each class, such as rose/ and",
        ),
        (lambda root: (root / "empty").mkdir(), "{}/empty: no picture of this class; add some, or remove the folder"),
        (
            only_broken,
            "{}/cross: no picture of this class; add some, or remove the folder; left out: cross/00.png (not a",
        ),
        (single, "{}: the class cross has one input; it takes two at least, one to train on and one to test with"),
        (linked, "{}/cross: a link to a folder; those aren't followed, so put the folder itself there"),
        (lambda root: (root / "oval").symlink_to("gone"), "{}/oval: a link to a folder"),
        (
            pair_of("Rose", "rose"),
            "{}: the classes 'Rose' and 'rose' have the same name but for case, spaces or how letters",
        ),
        (pair_of("rose", "rose "), "{}: the classes 'rose' and 'rose ' have the same name but for case, spaces or how"),
        (
            pair_of(*(unicodedata.normalize(form, "Rosé") for form in ("NFC", "NFD"))),
            r"{}: the classes 'Rose\u0301' and 'Ros\xe9' have the same name but for case, spaces or how letters",
        ),
        (
            pair_of("rose", NOT_UTF8),
            r"{}/r\udcf6se: a class is named by its folder, and this name can't be printed; rename",
        ),
        (
            pair_of("rose", "two\nlines"),
            r"{}/two\nlines: a class is named by its folder, and this name can't be printed",
        ),
        (
            parts(train="a b", test="b c"),
            "{}: train/ and test/ have other classes; only in train/: a; only in test/: c",
        ),
        (parts(train="a b", test="b"), "{}: train/ and test/ have other classes; only in train/: a"),
        (
            parts(train="a b", val="a b"),
            "{}: train/ holds folders, as a part of a data set does, and is no class; there",
        ),
        (
            parts(Train="a b", Test="a b"),
            "{}: Test/ holds folders, as a part of a data set does, and is no class; there",
        ),
        (without_labels, "{}: train/ holds folders, as a part of a data set does, and is no class; there must be both"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_a_folder_that_can_be_misunderstood_is_refused(root, spoil, message):
    spoil(root)
    with pytest.raises(DataError) as caught:
        folder(root)
    assert str(caught.value).startswith(message.format(root))


def test_what_is_no_folder_is_refused(tmp_path, root, monkeypatch):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "none").mkdir()
    for name, message in (
        ("gone", "gone: no such folder; a folder of pictures holds a folder for each class"),
        ("shapes/cross/00.png", "00.png: a file, not a folder"),
        ("loop", "loop: cannot be read (Too many levels of symbolic links); allow it"),
        ("none", "none: no folder in it; a folder of pictures holds a folder for each class, such as rose/ and tulip/"),
    ):
        with pytest.raises(DataError) as caught:
            folder(tmp_path / name)
        assert message in str(caught.value)
    monkeypatch.setattr("fcnn.data.folders.MOST_BYTES", 15 * 3 * 32 * 32)
    assert len(folder(root).train) == 12
    with pytest.raises(
        DataError, match=r"15 files as images \(3, 32, 33\) are more than 46,080 bytes; choose a smaller"
    ):
        folder(root, size=(32, 33))


def test_a_file_of_any_name_is_read(root):
    name = os.fsdecode(b"cross/\xff\xfe.jpg")
    draw(root / name)
    draw(root / "cross/two\nlines")
    data = folder(root)
    assert {name, "cross/two\nlines"} <= {*files(data)}
    (root / name).write_bytes(b"nothing")
    assert [*quiet(root).left_out] == [r"cross/\udcff\udcfe.jpg"]


def nothing_is_decoded(monkeypatch):
    def read(*args):
        raise AssertionError("a picture was decoded again")

    monkeypatch.setattr(pictures, "read_picture", read)


def same(one, other):
    assert (one.train_files, one.test_files, one.classes, one.left_out) == (
        other.train_files, other.test_files, other.classes, other.left_out
    )  # fmt: skip
    assert one.fingerprint() == other.fingerprint()
    return True


def test_prepared_pictures_are_kept_and_told_of_once(root, cache, monkeypatch):
    (root / "cross/bad.png").write_bytes(b"nothing")
    told = []
    first = quiet(root, progress=lambda *args: told.append(args))
    assert told == [("pictures in shapes", k + 1, 16) for k in range(16)]
    assert (len([*cache.iterdir()]), cache.stat().st_mode & 0o777) == (1, 0o700)
    with monkeypatch.context() as patch:
        nothing_is_decoded(patch)
        assert same(quiet(root), first)
        assert len(quiet(root, test=0.5, seed=4).test) > 3  # of the same images
        with pytest.raises(AssertionError):
            folder(root, size=16)
        with pytest.raises(AssertionError):
            folder(root, grey=True)
        with pytest.raises(AssertionError):
            folder(root, cache=False)
    quiet(root, size=16)
    assert len([*cache.iterdir()]) == 2, "one for each kind of image"


def change_pixels(root):
    """Another picture with the size in bytes and the time of the one before, as some copying programs leave it."""
    path = root / "cross/00.png"
    before = path.stat()
    Image.new("RGB", (40, 40), (9, 99, 199)).save(path)
    path.write_bytes(path.read_bytes().ljust(before.st_size, b"\0"))  # what follows a PNG's end is not read
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        change_pixels,
        lambda root: (root / "cross/00.png").unlink(),
        lambda root: (root / "cross/00.png").rename(root / "circle/new.png"),
        lambda root: draw(root / "cross/new.png"),
    ],
    ids=["pixels", "removed", "moved", "added"],
)
def test_a_stale_cache_is_not_believed(root, cache, change):
    first = folder(root)
    change(root)
    now = folder(root)
    assert now.fingerprint() != first.fingerprint()
    assert same(now, folder(root, cache=False))
    assert len([*cache.iterdir()]) == 1, "the new takes the place of the old"


def test_a_damaged_cache_is_not_believed(root, cache):
    first = folder(root, size=8)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    rng = np.random.default_rng(0)
    places = rng.integers(0, len(whole), 40).tolist()
    flipped = [whole[:k] + bytes([whole[k] ^ 1 << int(rng.integers(8))]) + whole[k + 1 :] for k in places]
    for data in (b"", b"nothing", whole[:-30], whole[: len(whole) // 2], *flipped):
        kept.write_bytes(data)
        assert same(folder(root, size=8), first)
    with np.load(kept) as archive:
        about, x = str(archive["about"]), archive["x"].copy()
    x[0, 0, 0, 0] ^= 1  # whole, and with another pixel
    for about_now, x_now in ((about, x), ("[]", x), (about, x[:3]), (about.replace("reasons", "reason"), x), ("{", x)):
        np.savez(kept, about=np.array(about_now), x=x_now)
        assert same(folder(root, size=8), first)


def test_what_was_changed_just_now_is_not_kept(root, cache, monkeypatch):
    monkeypatch.setattr(prepared, "_SETTLED", 2.0)
    folder(root)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_done_without(root, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert same(folder(root), folder(root, cache=False))


def test_what_it_is_travels_with_the_model(root, tmp_path, monkeypatch):
    data = folder(root, size=(20, 24))
    network = fcnn.serial(fcnn.normalize(*fcnn.data.channel_statistics(data.train)), fcnn.flatten(), fcnn.dense(3))
    fitted = fcnn.fit(network, data, epochs=1, batch_size=4, folder=tmp_path / "run", progress=False)
    fcnn.save_model(tmp_path / "model.npz", fitted.model)
    paths = [root / name for name in data.test_files]
    expected = fcnn.predict(fitted.model, data.test.x)
    for path in ("model.npz", "run/epoch-01.npz"):
        model = fcnn.load_model(tmp_path / path)
        assert model.meta["pictures"] == {"channels": 3, "height": 20, "width": 24}
        found = fcnn.predict_pictures(model, paths)
        np.testing.assert_array_equal(found.outputs, expected.outputs)
        assert found.names == CLASSES
    with pytest.raises(pictures.PictureError, match=r"gone\.png: no such file$"):
        fcnn.predict_pictures(model, ["gone.png"])
    for meta in (
        {"pictures": {"channels": 3, "height": 32, "width": 32}},
        {"pictures": {"channels": 2}},
        {"pictures": 3},
    ):
        wrong = fcnn.Model(network, fitted.model.params, in_shape=(3, 20, 24), meta=meta)
        with pytest.raises(
            ValueError, match=r"^the model's meta (prepares pictures as images|doesn't say how pictures)"
        ):
            fcnn.predict_pictures(wrong, paths)


def test_statistics_are_of_each_channel():
    x = np.random.default_rng(0).integers(0, 256, (50, 3, 20, 10), np.uint8)
    x[:, 2] = 7
    for inputs, unit in ((x, 255), (x.astype(np.float32) + 1000, 1)):
        mean, deviation = fcnn.data.channel_statistics(fcnn.Split(inputs, np.zeros(50, int)))
        exact = inputs.astype(np.float64) / unit
        np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=1e-12)
        np.testing.assert_allclose(deviation[:2], exact.std(axis=(0, 2, 3))[:2], rtol=1e-12)
        assert deviation[2] == 1
    with pytest.raises(ValueError, match="an empty split has no mean"):
        fcnn.data.channel_statistics(fcnn.Split(x[:0], np.zeros(0, int)))


def test_one_function_loads_whatever_is_named(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert same(fcnn.data.load("shapes"), folder(root))
    assert same(fcnn.data.load("elsewhere/shapes", root), folder(root))
    assert fcnn.data.load(Path("shapes"), size=16, grey=True).train.in_shape == (1, 16, 16)
    for wrong in (lambda: fcnn.data.load("digits", size=16), lambda: fcnn.data.load("a.npz", grey=True)):
        with pytest.raises(ValueError, match="size and grey are of a folder of pictures"):
            wrong()
    (tmp_path / "mnist").mkdir()
    assert [*map(fcnn.data.is_own, ("mnist", "./mnist", Path("mnist"), "shapes", "a.npz", "a/b"))] == [
        False,
        *[True] * 5,
    ]


def test_without_pillow_a_sentence_says_what_to_install(root, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match="Pillow, which is missing"):
        folder(root)


def test_bars_are_shown_where_somebody_watches(root, monkeypatch, capsys):
    for watched in (False, True):
        monkeypatch.setattr("sys.stderr.isatty", lambda watched=watched: watched)
        with fcnn.data.bars(" pictures") as progress:
            folder(root, cache=False, progress=progress)
        assert ("pictures in shapes" in capsys.readouterr().err) is watched


def test_nothing_is_warned_of_where_nothing_is_left_out(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder(root)
