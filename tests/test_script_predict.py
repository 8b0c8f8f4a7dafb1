"""scripts/predict.py from outside: what it says of pictures and rows, and that bad input gets one sentence."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import predict as script
import pytest
from picture_files import FORMS, dark_on_coloured_paper, enlarged, ink_on_transparent, write_bad_pictures
from PIL import Image
from running import SCRIPTS, json_objects, runner

import fcnn
from fcnn import parallel
from fcnn.values.tree import astype

DIGITS = fcnn.data.make_digits(fcnn.key(7), 40)


def settings(model="lenet5", dataset="digits"):
    return {"settings": {"model": model, "dataset": dataset}}


@pytest.fixture(scope="module")
def dataset():
    """Fewer digits than the embedded set has."""
    train, test = (fcnn.data.make_digits(fcnn.fold_in(fcnn.key(1), part), n) for part, n in (("a", 2500), ("b", 200)))
    return fcnn.Dataset(train, test, "digits", tuple("0123456789"))


def trained(name, train, epochs):
    model = getattr(fcnn, name)((1, 28, 28), 10)
    optimizer = fcnn.adam(2e-3)
    step = fcnn.train_step(model, fcnn.softmax_cross_entropy(), optimizer)
    start = fcnn.init_state(model, optimizer, fcnn.key(0), (1, 28, 28))
    with parallel.threads(1):  # on one BLAS thread: more would wait for each other on a busy machine
        return model, fcnn.fold(step, start, fcnn.batches(train, 64, fcnn.key(1), epochs=epochs))[0]


@pytest.fixture(scope="module")
def lenet(dataset):
    return trained("lenet5", dataset.train, 5)


@pytest.fixture(scope="module")
def normed(dataset):
    return trained("lenet5_bn", dataset.train.take(640), 1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, lenet):
    """The model's checkpoint, written once: a safe write waits for the disk."""
    path = tmp_path_factory.mktemp("saved") / "model.npz"
    fcnn.save(path, lenet[1], meta=settings())
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch, saved):
    """An empty working folder but for the model's checkpoint."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(saved, "model.npz")
    return tmp_path


@pytest.fixture
def run(folder, monkeypatch, capsys, dataset):
    """Run the script in this process: (exit code, standard output, standard error)."""
    real = fcnn.data.load
    monkeypatch.setattr(
        fcnn.data, "load", lambda name, *args, **kw: dataset if name == "digits" else real(name, *args, **kw)
    )
    return runner(script, capsys)


@pytest.fixture
def found(run):
    """The objects that --json gives, of a run without a complaint."""

    return json_objects(run)


def direct(model, values, x):
    state = values.state if isinstance(values, fcnn.Init) else values.layer_state
    outputs = fcnn.evaluate(model, values.params, state, fcnn.Split(x, np.zeros(len(x), np.int64))).outputs
    return fcnn.ops.softmax(outputs.astype(np.float64))[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_digit_is_recognised_in_whatever_form_it_comes(found, lenet, form):
    expected = direct(*lenet, DIGITS.x).argmax(axis=1)
    paths = [f"{i:02d}.png" for i in range(len(DIGITS))]
    for path, image in zip(paths, DIGITS.x, strict=True):
        FORMS[form](image[0]).save(path)
    objects = found("model.npz", *paths)
    assert [item["source"] for item in objects] == paths
    assert (
        np.mean([item["prediction"] for item in objects] == expected) >= 0.8
    )  # the set's digits are not quite where MNIST's recipe puts them


def test_a_jpeg_is_read_upright(found):
    for i, image in enumerate(DIGITS.x[:20]):
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter
        dark_on_coloured_paper(image[0]).rotate(90, expand=True).save(f"{i:02d}.jpg", exif=exif)
        dark_on_coloured_paper(image[0]).save(f"{i:02d}.png")
    turned, plain = (found("model.npz", *sorted(Path().glob(f"*.{kind}"))) for kind in ("jpg", "png"))
    agree = [a["prediction"] == b["prediction"] for a, b in zip(turned, plain, strict=True)]
    assert len(agree) == 20
    assert np.mean(agree) >= 0.8


def test_a_picture_of_the_right_size_is_taken_as_it_is(found, lenet):
    Image.fromarray(DIGITS.x[3, 0]).save("a.png")
    Image.fromarray(255 - DIGITS.x[3, 0]).save("b.png")
    expected = direct(*lenet, DIGITS.x[3:4])[0]
    for item, notes in zip(found("model.npz", "a.png", "b.png"), ([], ["inverted"]), strict=True):
        # float32 scores, which another batch size changes by 1e-6 of 10; an exp passes that on. JSON keeps all digits
        np.testing.assert_allclose(list(item["probabilities"].values()), expected, rtol=1e-4, atol=1e-9)
        assert item["preparation"] == notes


def test_clothes_are_prepared_as_fashion_mnist_was(run, found, lenet):
    fcnn.save("fashion.npz", lenet[1], meta=settings(dataset="fashion_mnist"))
    sheet = np.zeros((300, 200), np.uint8)
    sheet[40:180, 100:150] = 200  # 140 x 50: 28 x 10
    Image.fromarray(sheet).save("a.png")
    item = found("fashion.npz", "a.png", "--save-prepared", "seen")[0]
    with Image.open(item["prepared"]) as picture:
        seen = np.asarray(picture)
    assert np.flatnonzero(seen.any(axis=1)).tolist() == list(range(28))
    assert np.flatnonzero(seen.any(axis=0)).tolist() == list(range(9, 19))
    assert "Trouser" in {name.capitalize() for name in item["probabilities"]}


def test_what_was_prepared_is_not_written_over_anything_but_a_file(run):
    ink_on_transparent(DIGITS.x[0, 0]).save("a.png")
    seen = Path("seen")
    seen.mkdir()
    (seen / "001-a-seen.png").symlink_to("elsewhere.png")
    assert run("model.npz", "a.png", "--save-prepared", "seen")[0] == 0
    assert (seen / "001-a-seen.png").is_symlink()
    written = (seen / "elsewhere.png").read_bytes()
    (seen / "elsewhere.png").chmod(0o400)
    told = "error: can't write to seen/001-a-seen.png ({}); choose another --save-prepared"
    assert told.format("a read-only file") in run("model.npz", "a.png", "--save-prepared", "seen")[2]
    assert (seen / "elsewhere.png").read_bytes() == written
    (seen / "001-a-seen.png").unlink()
    os.mkfifo(seen / "001-a-seen.png")  # which would be waited for until somebody reads it
    assert told.format("a pipe, not a file") in run("model.npz", "a.png", "--save-prepared", "seen")[2]


def test_what_was_prepared_predicts_the_same_again(run, found):
    for i, image in enumerate(DIGITS.x[:5]):
        ink_on_transparent(image[0]).save(f"{i}.png")
    code, out, _ = run("model.npz", *sorted(Path().glob("*.png")), "--rows", "0", "--save-prepared", "seen/here")
    assert code == 0
    assert out.endswith("what the network saw is in seen/here\n")
    files = sorted(path.name for path in Path("seen/here").iterdir())
    assert files == [f"00{i + 1}-{i}-seen.png" for i in range(5)] + ["006-digits-test-0-seen.png"]
    first = found("model.npz", *sorted(Path().glob("*.png")))
    again = found("model.npz", *sorted(Path("seen/here").iterdir()))[:5]
    for one, other in zip(first, again, strict=True):
        # as above: float32 scores in batches of another size
        assert one["probabilities"] == pytest.approx(other["probabilities"], rel=1e-4, abs=1e-9)


def test_inverting_can_be_demanded_and_forbidden(found):
    image = DIGITS.x[0, 0]
    Image.fromarray(255 - image).save("a.png")
    seen = {}
    for choice in ("auto", "yes", "no"):
        item = found("model.npz", "a.png", "--invert", choice, "--save-prepared", choice)[0]
        with Image.open(item["prepared"]) as picture:
            seen[choice] = np.asarray(picture)
    np.testing.assert_array_equal(seen["auto"], image)
    np.testing.assert_array_equal(seen["yes"], image)
    np.testing.assert_array_equal(seen["no"], 255 - image)


def test_colour_pictures_are_cropped_to_the_middle_and_scaled(found):
    model = fcnn.lenet5((3, 32, 32), 10)
    made = model.init(fcnn.key(0), (3, 32, 32))
    fcnn.save("cifar.npz", made, meta=settings(dataset="cifar10"))
    picture = np.zeros((100, 300, 3), np.uint8)
    picture[:, 100:200] = [10, 200, 60]  # the middle square
    picture[40:60, 140:160] = [250, 0, 0]
    Image.fromarray(picture).save("a.png")
    exact = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(exact).save("b.png")
    wide, small = found("cifar.npz", "a.png", "b.png", "--save-prepared", "seen")
    with Image.open(wide["prepared"]) as one, Image.open(small["prepared"]) as other:
        seen = np.asarray(one)
        np.testing.assert_array_equal(np.asarray(other), exact)
    assert seen.shape == (32, 32, 3)
    assert (seen[[0, -1]] == [10, 200, 60]).all()
    assert np.abs(seen[16, 16].astype(int) - [250, 0, 0]).max() <= 10
    assert wide["preparation"] == ["scaled to 32x32"]
    assert small["preparation"] == []
    # as above: float32 scores in batches of another size
    np.testing.assert_allclose(
        list(small["probabilities"].values()), direct(model, made, exact.transpose(2, 0, 1)[None])[0], rtol=1e-4
    )
    assert list(small["probabilities"])[3] == "cat"


def test_json_has_every_probability_and_the_truth_where_known(found, dataset, lenet):
    enlarged(DIGITS.x[0, 0]).save("a.png")
    objects = found("model.npz", "a.png", "--rows", "0:3,7")
    assert [item["source"] for item in objects] == ["a.png", *(f"digits test {row}" for row in (0, 1, 2, 7))]
    base = {"source", "prediction", "label", "probability", "probabilities"}
    assert objects[0].keys() == base | {"preparation"}
    expected = direct(*lenet, dataset.test.x[[0, 1, 2, 7]])
    for item, row, label in zip(objects[1:], expected, dataset.test.y[[0, 1, 2, 7]], strict=True):
        assert item.keys() == base | {"truth", "truth_label", "right"}
        assert list(item["probabilities"]) == list("0123456789")
        np.testing.assert_allclose(list(item["probabilities"].values()), row, rtol=1e-4, atol=1e-9)
        # as above, and float64 sums of ten
        assert sum(item["probabilities"].values()) == pytest.approx(1)
        assert item["prediction"] == row.argmax()
        assert item["label"] == str(row.argmax())
        assert item["probability"] == item["probabilities"][item["label"]] == max(item["probabilities"].values())
        assert (item["truth"], item["truth_label"], item["right"]) == (label, str(label), row.argmax() == label)


def test_the_table_marks_wrong_rows_and_ends_with_the_accuracy(run, dataset, lenet):
    code, out, err = run("model.npz", "--rows", "0:200")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["source", "prediction", "probability", "runners-up", "truth"]
    guesses = direct(*lenet, dataset.test.x).argmax(axis=1)
    wrong = guesses != dataset.test.y
    assert 0 < wrong.sum() < 40
    for line, row, guess, label in zip(lines[1:201], range(200), guesses, dataset.test.y, strict=True):
        pattern = r"digits test (\d+) +(\d) +([\d.]+)%  (\d) ([\d.]+)%, (\d) ([\d.]+)% +(\d)(  wrong)?"
        cells = re.fullmatch(pattern, line).groups()
        assert [int(cells[0]), int(cells[1]), int(cells[7])] == [row, guess, label]
        assert float(cells[2]) >= float(cells[4]) >= float(cells[6])
        assert (cells[8] is not None) == (guess != label)
    assert lines[201:] == ["", f"{200 - wrong.sum()} of 200 rows right: accuracy {1 - wrong.mean():.2%}"]


def test_the_table_of_pictures_says_what_was_done(run):
    ink_on_transparent(DIGITS.x[0, 0]).save("a.png")
    code, out, _ = run("model.npz", "--top", "1", "a.png")  # a picture after an option
    assert code == 0
    header, line = out.splitlines()
    assert header.split() == ["source", "prediction", "probability", "runners-up", "prepared"]
    assert re.fullmatch(r"a\.png +\d +[\d.]+% +over white, inverted, fitted", line)
    assert header.index("prepared") == line.index("over white")
    many = run("model.npz", "a.png", "--top", "99")[1].splitlines()[1]
    assert many.count("%") == 10


def test_rows_can_be_of_the_training_split_and_of_a_set_with_the_same_classes(found, dataset, lenet):
    fcnn.save("mnist.npz", lenet[1], meta=settings(dataset="mnist"))
    item = found("mnist.npz", "--dataset", "digits", "--rows", "5", "--split", "train")[0]
    assert (item["source"], item["truth"]) == ("digits train 5", dataset.train.y[5])


def test_a_model_with_batch_norm_is_read_with_its_state(found, normed, dataset):
    fcnn.save("bn.npz", normed[1], meta=settings("lenet5_bn"))
    expected = direct(*normed, dataset.test.x[:20])
    rows = found("bn.npz", "--rows", "0:20")
    # as above, of scores ten times as large
    np.testing.assert_allclose([list(item["probabilities"].values()) for item in rows], expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("what", ["parameters", "parameters and state", "double precision"])
def test_a_file_without_settings_is_read_with_options(found, lenet, dataset, what):
    model, final = lenet
    value = {
        "parameters": final.params,
        "parameters and state": fcnn.Init(final.params, final.layer_state, (10,)),
        "double precision": astype(final.params, np.float64),
    }[what]
    fcnn.save("bare.npz", value)
    rows = found("bare.npz", "--model", "lenet5", "--dataset", "digits", "--rows", "0:9")
    expected = direct(model, final, dataset.test.x[:9]).argmax(axis=1)
    assert [item["prediction"] for item in rows] == expected.tolist()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("text.png", "not a picture, or a damaged one; PNG, JPEG, GIF, BMP, WEBP can be read"),
        ("empty.png", "not a picture, or a damaged one"),
        ("half.png", "a damaged picture ("),
        ("flipped.png", "a damaged picture ("),
        ("half.jpg", "a damaged picture (image file is truncated"),
        ("blank.png", "nothing is on it; it is all of one colour"),
        ("black.png", "nothing is on it; it is all of one colour"),
        ("clear.png", "nothing is on it; it is all of one colour over white"),
        ("bomb.png", "more than 50,000,000 pixels; scale it down"),
        ("large.png", "8,000 x 8,000 is more than 50,000,000 pixels; scale it down"),
        ("folder.png", "a folder, not a file"),
        ("pipe.png", "not a file"),
        ("missing.png", "no such file"),
        ("model.npz", "not a picture, or a damaged one"),
        ("a\nb\x1b[2J.png", "no such file"),
        ("a" * 5000, "it can't be read (File name too long)"),
    ],
)
def test_a_bad_picture_is_reported_and_the_others_are_predicted(run, name, sentence):
    write_bad_pictures(DIGITS.x[0, 0])
    code, out, err = run("model.npz", "whole.png", name, "whole.jpg", "--json")
    assert code == 1
    assert [item["source"] for item in json.loads(out)] == ["whole.png", "whole.jpg"]
    assert sentence in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert run("model.npz", name)[:2] == (1, "")
    assert run("model.npz", name, "--json")[:2] == (1, "[]\n")


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory, saved, lenet, normed):
    """Files that are not the model that was asked for."""
    folder = tmp_path_factory.mktemp("bad")
    data = saved.read_bytes()
    (folder / "half.npz").write_bytes(data[: len(data) // 2])
    (folder / "empty.npz").write_bytes(b"")
    (folder / "text.npz").write_text("this is no model")
    (folder / "folder.npz").mkdir()
    np.savez(folder / "arrays.npz", a=np.zeros(3))
    fcnn.save(folder / "bare.npz", lenet[1].params)
    fcnn.save(folder / "stateless.npz", normed[1].params, meta=settings("lenet5_bn"))
    fcnn.save(folder / "other.npz", normed[1], meta=settings("lenet5"))
    fcnn.save(folder / "unknown.npz", lenet[1].params, meta=settings("resnet50"))
    fcnn.save(folder / "elsewhere.npz", lenet[1].params, meta=settings(dataset="imagenet"))
    fcnn.save(folder / "odd.npz", lenet[1].params, meta={"settings": ["lenet5"]})
    fcnn.save(folder / "mnist.npz", lenet[1].params, meta=settings(dataset="mnist"))
    fcnn.save(folder / "cifar.npz", lenet[1].params, meta=settings(dataset="cifar10"))
    nan = fcnn.tree.map(lambda leaf: np.full_like(leaf, np.nan), lenet[1].params)
    fcnn.save(folder / "diverged.npz", nan, meta=settings())
    flipped = bytearray(data)
    flipped[data.index(b"params/fc1/w") + 5000] ^= 0xFF
    (folder / "flipped.npz").write_bytes(flipped)
    enlarged(DIGITS.x[0, 0]).save(folder / "a.png")
    return folder


@pytest.fixture
def files(folder, bad_files):
    """The bad files, in the working folder."""
    shutil.copytree(bad_files, folder, dirs_exist_ok=True)


BARE = (
    "the file doesn't say which network it holds "
    "(its meta neither describes one nor has settings of scripts/train.py); name it, such as "
)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing.npz"], "missing.npz: no such file; MODEL is a checkpoint of scripts/train.py or fcnn.fit"),
        (["folder.npz"], "folder.npz: a folder, not a file; MODEL is"),
        (["empty.npz"], "empty.npz: not a whole .npz file"),
        (["text.npz"], "text.npz: no checkpoint of fcnn; it looks like text"),
        (["a.png"], "a.png: no checkpoint of fcnn; it looks like a picture (PNG)"),
        (["half.npz"], "half.npz: not a whole .npz file"),
        (["flipped.npz"], "flipped.npz: not a whole .npz file"),
        (["arrays.npz"], "arrays.npz: no checkpoint of fcnn: it holds no `meta`"),
        (["bare.npz"], f"bare.npz: {BARE}--model lenet5 --dataset mnist"),
        (["bare.npz", "--model", "lenet5"], BARE),
        (["bare.npz", "--dataset", "mnist"], BARE),
        (
            ["bare.npz", "--model", "lenet6", "--dataset", "mnist"],
            "unknown model 'lenet6'; there are lenet5, lenet5_bn",
        ),
        (["bare.npz", "--model", "lenet5", "--dataset", "cifar10"], "it doesn't hold lenet5 for cifar10: wrong shape"),
        (["bare.npz", "--model", "lenet5_bn", "--dataset", "mnist"], "it doesn't hold lenet5_bn for mnist: missing: "),
        (["model.npz", "--model", "lenet5_bn"], "model.npz: it holds lenet5, not lenet5_bn; leave out --model"),
        (["stateless.npz"], "but not the means and variances that batch norm needs"),
        (["other.npz"], "other.npz: it doesn't hold lenet5 for digits: missing: params/conv1/b; "),
        (["cifar.npz"], "it doesn't hold lenet5 for cifar10: wrong shape"),
        (["unknown.npz"], "its settings name the model 'resnet50', this script knows lenet5, lenet5_bn"),
        (["elsewhere.npz"], "its settings name the dataset 'imagenet', this script knows mnist"),
        (["odd.npz"], "its settings name the model None"),
        (["diverged.npz"], "the network's outputs are not finite, its training diverged"),
        (["model.npz", "--dataset", "mnits"], "unknown data set 'mnits', did you mean 'mnist'?"),
        (["model.npz", "--dataset", "mnist"], "trained on digits; --dataset mnist needs --rows, such as 0:10"),
        (["model.npz", "--dataset", "cifar10", "--rows", "0"], "trained on digits, whose classes are not those of"),
        (["mnist.npz", "--rows", "0", "--data", "nowhere"], "nowhere: no such folder"),
        (["model.npz", "--rows", "200"], "--rows 200: no row 200; the test rows of digits are 0 to 199"),
        (["model.npz", "--rows", "0:10,190:201"], "no row 200; the test rows of digits are 0 to 199"),
        (["model.npz", "--rows", "0:999999999999"], "no row 200"),
        (["model.npz", "--rows", "5:5"], "--rows 5:5: the range 5:5 holds no row"),
        (["model.npz", "--rows", "7:5"], "holds no row; of 0:10 the 10 is left out"),
        *(
            (["model.npz", f"--rows={text}"], f"--rows takes rows and ranges from 0 on, such as 0:10,42, got {text!r}")
            for text in ("", "x", "1,", "-1", "1:2:3", ":5", "1.5", "²", "9" * 5000)
        ),
        (["model.npz", "--save-prepared", "a.png/x"], "can't write to a.png/x ("),
    ],
)
def test_bad_input_gets_one_sentence(run, files, arguments, sentence):
    code, out, err = run(arguments[0], "a.png", *arguments[1:])
    assert (code, out) == (1, "")
    assert sentence in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_the_command_line_asks_for_something_to_predict(run):
    code, _, err = run("model.npz")
    assert code == 2
    assert "name pictures, or rows of a data set with --rows 0:10" in err


def test_no_damage_gives_a_traceback(run):
    """Cut short or with a bit turned, anywhere: an answer or a sentence."""
    rng = np.random.default_rng(0)
    enlarged(DIGITS.x[0, 0]).save("a.png")
    dark_on_coloured_paper(DIGITS.x[0, 0]).save("a.jpg")
    ink_on_transparent(DIGITS.x[0, 0]).quantize(16).save("a.gif")
    for name in ("model.npz", "a.png", "a.jpg", "a.gif"):
        data = Path(name).read_bytes()
        for number in range(21):
            place = int(rng.integers(len(data)))
            if number % 3 == 0:
                place = int(rng.integers(min(200, len(data))))  # where the headers are
            turned = data[:place] + bytes([data[place] ^ 1 << int(rng.integers(8))]) + data[place + 1 :]
            bad = Path(f"bad{Path(name).suffix}")
            bad.write_bytes(data[:place] if number % 2 else turned)
            code, _, err = run(bad, "a.png") if name == "model.npz" else run("model.npz", bad)
            assert code in (0, 1)
            # Where damage leaves a picture, there may be several figures on it.
            assert [line.partition(":")[0] for line in err.splitlines()] in (["error"] * code, ["note"]), err


def test_without_pillow_rows_are_predicted_and_pictures_get_a_sentence(run, monkeypatch):
    enlarged(DIGITS.x[0, 0]).save("a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert run("model.npz", "--rows", "0:2")[0] == 0
    sentence = "error: pictures are read by Pillow, which is missing; add it with: python -m pip install pillow\n"
    assert run("model.npz", "a.png") == (1, "", sentence)
    assert run("model.npz", "--rows", "0:2", "--save-prepared", "seen") == (1, "", sentence)


def test_it_runs_as_a_script_from_any_folder(folder):
    enlarged(DIGITS.x[0, 0]).save("a.png")
    command = [sys.executable, "-W", "error", SCRIPTS / "predict.py", "model.npz", "a.png", "b.png"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "error: b.png: no such file\n"
    assert done.stdout.splitlines()[1].startswith("a.png ")
