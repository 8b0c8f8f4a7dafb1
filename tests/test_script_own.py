"""scripts/train.py on pictures of one's own, and scripts/predict.py on what it leaves: from folder to prediction."""

import shutil
from pathlib import Path

import numpy as np
import predict
import pytest
import train
from running import json_objects, runner
from shapes import CLASSES, shape, write_shapes

import fcnn

LEARN = ["--batch-size", "16", "--epochs", "12", "--workers", "threads"]
SHORT = ["--batch-size", "16", "--epochs", "2", "--workers", "threads"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def run(place, monkeypatch, capsys):
    monkeypatch.setattr(train, "draw_curves", lambda *args: None)  # half a second each
    return runner(train, capsys)


@pytest.fixture
def found(place, capsys):
    return json_objects(runner(predict, capsys))


def arrays(checkpoint):
    with np.load(checkpoint, allow_pickle=False) as archive:
        return {name: archive[name].tobytes() for name in archive.files if name != "meta"}


def test_shapes_are_learnt_and_predicted_from_the_file_alone(run, found, place, tmp_path, monkeypatch):
    write_shapes(place / "shapes", 40)
    (place / "shapes/cross/bad.png").write_bytes(b"no picture")
    code, out, err = run("--dataset", "shapes", *LEARN)
    assert (code, "on shapes: 96 training images, 24 test images" in out) == (0, True)
    assert err == "left out: cross/bad.png: not a picture, or a damaged one; PNG, JPEG, GIF, BMP, WEBP can be read\n"
    folder = Path("runs/shapes-lenet5-seed0")
    history = fcnn.load_meta(folder / "epoch-12.npz")["history"]
    assert history[-1]["validation_accuracy"] >= 0.95

    with pytest.warns(fcnn.data.DataWarning):
        data = fcnn.data.load("shapes")
    model = fcnn.load_model(folder / "epoch-12.npz")
    assert (model.classes, model.in_shape) == (CLASSES, (3, 32, 32))
    assert (
        fcnn.evaluate(model.network, model.params, model.state, data.test).accuracy
        == history[-1]["validation_accuracy"]
    )
    mean, deviation = fcnn.data.channel_statistics(data.train)
    assert model.network.children["norm"].config == {"mean": (*mean,), "std": (*deviation,)}

    alone = tmp_path / "alone"  # nothing of the folder, the run or the cache
    alone.mkdir()
    shutil.move(folder / "epoch-12.npz", alone / "shapes.npz")
    shutil.rmtree(place / "runs")
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    shutil.move(place / "shapes", tmp_path / "moved")
    monkeypatch.chdir(alone)
    new = write_shapes(tmp_path / "new", 20, seed=1)
    paths = sorted(new.glob("*/*"))
    objects = found("shapes.npz", *paths)
    assert np.mean([item["label"] == path.parent.name for item, path in zip(objects, paths, strict=True)]) >= 0.9
    assert set(objects[0]["probabilities"]) == set(CLASSES)
    assert objects[0]["preparation"] == ["scaled to 32x32"]
    tests = [tmp_path / "moved" / name for name in data.test_files]  # prepared as in training, to the bit
    found("shapes.npz", *tests, "--save-prepared", "seen")
    for path, image in zip(sorted(Path("seen").iterdir()), data.test.x, strict=True):
        np.testing.assert_array_equal(fcnn.data.pictures.read_picture(path, data.pictures)[0], image)


def test_a_run_goes_on_with_the_same_pictures_or_not_at_all(run, place, tmp_path, monkeypatch):
    write_shapes(place / "shapes", 6)
    options = ["--dataset", "shapes", "--size", "20", "--grey", "--model", "lenet5_bn"]
    assert run(*options, *SHORT, "--out", "whole")[0] == 0
    assert run(*options, *SHORT[:3], "1", *SHORT[4:], "--out", "part")[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # the path is whole, so that it is found from anywhere
    code, _, err = run("--resume", place / "part", "--epochs", "2")
    monkeypatch.chdir(place)
    assert (code, err) == (0, "")
    assert arrays("part/epoch-02.npz") == arrays("whole/epoch-02.npz")
    assert fcnn.load_model("part/epoch-02.npz").in_shape == (1, 20, 20)

    (place / "shapes").rename(tmp_path / "moved")
    code, _, err = run("--resume", "part", "--epochs", "3")
    said = f"error: {place / 'shapes'}: no such folder; a folder of pictures holds a folder for each class; "
    assert (code, err.strip()) == (1, said + "if it has moved, name its place with --data")
    assert run("--resume", "part", "--epochs", "3", "--data", tmp_path / "moved")[0] == 0

    before = arrays("part/epoch-03.npz")
    (tmp_path / "moved/cross/00.png").unlink()
    code, _, err = run("--resume", "part", "--epochs", "4", "--data", tmp_path / "moved")
    counts = "(training inputs: 15, now 14); put it back as it was, or begin a new run"
    assert (code, err.strip()) == (1, f"error: {place / 'shapes'} is not any more what the run was trained on {counts}")
    shape("cross", fcnn.key(77)).save(tmp_path / "moved/cross/00.png")
    code, _, err = run("--resume", "part", "--epochs", "4", "--data", tmp_path / "moved")
    assert (code, "trained on (as many inputs, but not the same ones); put it back" in err) == (1, True)
    assert arrays("part/epoch-03.npz") == before
    assert not Path("part/epoch-04.npz").exists()


def test_arrays_are_learnt_and_predicted(run, found, place):
    write_shapes(place / "shapes", 6)
    data = fcnn.data.folder(place / "shapes", size=28, grey=True)
    x, y = (np.concatenate([getattr(split, part) for split in (data.train, data.test)]) for part in "xy")
    np.savez("mine.npz", x=x, y=y, classes=np.array(data.classes))
    assert run("--dataset", "mine.npz", *SHORT)[0] == 0
    assert run("--resume", "runs/mine-lenet5-seed0", "--epochs", "3")[0] == 0
    assert set(found("runs/mine-lenet5-seed0/epoch-03.npz", "shapes/cross/00.png")[0]["probabilities"]) == set(CLASSES)
    np.savez("mine.npz", x=x, y=y.astype(float))
    code, _, err = run("--dataset", "mine.npz")
    assert (code, "its targets are numbers, and this script tells classes apart; use fcnn.fit" in err) == (1, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--rows", "0"],
            "--rows are of a data set with a name, and the network was trained on pictures; name pictures",
        ),
        (["--dataset", "mnist"], "it was trained on pictures of somebody's own; leave out --dataset mnist"),
        (
            ["--dataset", "./shapes"],
            "--dataset ./shapes: only mnist, fashion_mnist, cifar10, digits have a name; leave it",
        ),
        (["--dataset", "shape"], "unknown data set 'shape'. There are mnist"),
    ],
    ids=str,
)
def test_predicting_needs_no_data_set(place, capsys, options, message):
    data = fcnn.data.folder(write_shapes(place / "shapes", 2))
    network = fcnn.serial(fcnn.flatten(), fcnn.dense(3))
    fcnn.save_model("a.npz", fcnn.fit(network, data, epochs=0, progress=False).model)
    code, out, err = runner(predict, capsys)("a.npz", "shapes/cross/00.png", *options)
    assert (code, out, message in err) == (1, "", True), err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (
            ["--dataset", "digits", "--size", "16"],
            2,
            "--size and --grey are of a folder of pictures; add --dataset FOLDER",
        ),
        (["--grey"], 2, "--size and --grey are of a folder of pictures"),
        (
            ["--dataset", "shapes", "--data", "here"],
            2,
            "--data is where a data set with a name is; --dataset names your own",
        ),
        (["--dataset", "shape"], 2, "unknown data set 'shape'. There are mnist"),
        (["--dataset", "./shape"], 1, "shape: no such folder; a folder of pictures holds a folder for each class"),
        (["--dataset", "shape.npz"], 1, "shape.npz: no such file; it is an .npz file with arrays x and y"),
        (["--dataset", "shapes", "--size", "15"], 1, "LeNet-5 takes images (C, H, W) of at least 16x16 pixels"),
        (
            ["--dataset", "shapes/cross"],
            1,
            "cross: no folder in it; a folder of pictures holds a folder for each class",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nonsense_gets_a_sentence(run, place, options, code, message):
    write_shapes(place / "shapes", 2)
    found, _, err = run(*options)
    assert (found, message in err) == (code, True), err
    assert not Path("runs").exists()
