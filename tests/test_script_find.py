"""scripts/predict.py --find from outside: every digit of a sheet, boxes in a copy, and what is no sheet of digits."""

import json
from pathlib import Path

import numpy as np
import predict as script
import pytest
from PIL import Image
from running import runner
from sheets import grey_picture, printed

import fcnn
from fcnn.data.pictures import CLASSES

NETWORK = fcnn.serial(
    fcnn.normalize(0.2, 0.3), fcnn.conv2d(6, 5, stride=2), fcnn.relu(), fcnn.flatten(), fcnn.dense(10)
)
TRUTH = (3, 0, 7, 2)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.npz"
    data = fcnn.Dataset(fcnn.data.make_digits(fcnn.key(1), 2000), fcnn.data.make_digits(fcnn.key(2), 20), "digits")
    fitted = fcnn.fit(NETWORK, data, epochs=4, batch_size=32, workers=1, progress=False)
    model = fitted.model
    fcnn.save_model(
        path, fcnn.Model(NETWORK, model.params, model.state, in_shape=(1, 28, 28), classes=CLASSES["digits"])
    )
    return path


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sheet = np.full((300, 500), 230, np.float32)
    for place, digit in enumerate(TRUTH):
        printed(sheet, digit, 60 + place % 2 * 200, 20 + place // 2 * 140, 90, "DejaVuSans")
    grey_picture(sheet).save("a sheet.png")
    Image.new("L", (90, 60), 255).save("blank.png")
    return runner(script, capsys)


def test_every_digit_of_a_sheet_is_told_and_boxed(run, saved):
    code, out, err = run(saved, "a sheet.png", "--find", "--json", "--save-prepared", "seen")
    assert (code, err) == (0, "")
    items = json.loads(out)
    assert [item["figure"] for item in items] == [1, 2, 3, 4]
    assert sum(item["prediction"] == digit for item, digit in zip(items, TRUTH, strict=True)) >= 3
    boxes = np.array([item["box"] for item in items])
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes[[0, 2], 2] < boxes[[1, 3], 0]).all()
    assert (boxes[:2, 3].max()) < boxes[2:, 1].min()
    for item in items:
        assert (item["label"] is None) == bool(item["reason"])
        assert item["probability"] == max(item["probabilities"].values())
    assert {item["boxed"] for item in items} == {str(Path("boxed", "001-a-sheet-boxed.png"))}
    with Image.open(items[0]["boxed"]) as copy, Image.open("a sheet.png") as sheet:
        assert (copy.size, copy.mode, sheet.mode) == (sheet.size, "RGB", "L")
        assert np.ptp(np.asarray(copy).astype(int), axis=-1).max() > 100  # boxes are coloured
    assert len(list(Path("seen").iterdir())) == 4


def test_the_table_numbers_figures_and_says_where_boxes_are(run, saved):
    code, out, err = run(saved, "blank.png", "a sheet.png", "missing.png", "--find", "--boxed", "copies")
    lines = out.splitlines()
    assert code == 1
    assert err.splitlines() == ["error: blank.png: no figure is on it", "error: missing.png: no such file"]
    assert lines[0].split()[:4] == ["source", "figure", "box", "prediction"]
    assert [line.removeprefix("a sheet.png").split()[0] for line in lines[1:5]] == ["1", "2", "3", "4"]
    assert lines[5:] == ["boxes are drawn into copies in copies"]
    assert [path.name for path in Path("copies").iterdir()] == ["002-a-sheet-boxed.png"]


def test_several_figures_taken_for_one_are_not_passed_over(run, saved):
    code, out, err = run(saved, "a sheet.png")
    assert code == 0
    assert err == "note: a sheet.png: several figures are on it, taken for one; --find tells each\n"
    assert "several figures" in out


def test_what_finding_refuses(run, saved):
    Path("file").write_text("")
    code, _, err = run(saved, "a sheet.png", "--find", "--boxed", "file")
    assert code == 1
    assert err.startswith("error: can't write to file (")
    assert err.endswith("; choose another --boxed\n")
    for wrong in (["--find"], ["a sheet.png", "--find", "--rows", "0"]):
        code, _, err = run(saved, *wrong)
        assert code == 2
        assert "name pictures" in err or "--find looks for digits in pictures" in err
    network = fcnn.serial(fcnn.flatten(), fcnn.dense(10))
    made = network.init(fcnn.key(0), (3, 32, 32))
    fcnn.save_model("cifar.npz", fcnn.Model(network, made.params, made.state, in_shape=(3, 32, 32)))
    told = "--find is for networks of digits, this one takes pictures (3, 32, 32) as those of cifar10; leave it out"
    assert run("cifar.npz", "a sheet.png", "--find") == (1, "", f"error: {told}\n")
