"""scripts/explore.py: the page that it writes, and what it says where there is something amiss."""

import explore
import pytest
import train
from running import few_digits, runner
from shapes import write_shapes
from test_explorer import data_of, fitted

import fcnn


@pytest.fixture
def run(capsys):
    return runner(explore, capsys)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "lenet.npz"
    fcnn.save_model(path, fitted(fcnn.lenet5((1, 28, 28), 10), few_digits(64), steps=1))
    return path


def test_the_page_lies_beside_the_model_or_where_it_is_wanted(run, model_file, tmp_path):
    code, out, err = run(model_file, "--dataset", "digits")
    page = model_file.with_name("explorer.html")
    assert (code, err) == (0, "")
    assert out == f"{page} ({page.stat().st_size / 1e6:.1f} MB): open it in a browser\n"
    assert len(data_of(page.read_text())["examples"]) == 50
    code, _, err = run(
        model_file, "--dataset", "digits", "--examples", "3", "--title", "Mine", "--out", tmp_path / "a.html"
    )
    assert (code, err) == (0, "")
    data = data_of((tmp_path / "a.html").read_text())
    assert (data["title"], len(data["examples"])) == ("Mine", 3)


def test_without_a_data_set_the_page_has_no_test_images_and_says_why(run, model_file, tmp_path):
    code, out, err = run(model_file, "--out", tmp_path / "a.html")
    assert (code, "open it in a browser" in out) == (0, True)
    assert err == (
        "note: the file doesn't say what the network was trained on, so the page has no test images; "
        "--dataset names it\n"
    )
    assert data_of((tmp_path / "a.html").read_text())["examples"] == []
    code, _, err = run(model_file, "--dataset", "mnist", "--data", tmp_path, "--out", tmp_path / "b.html")
    assert code == 0
    assert err.endswith("; the page has no test images\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.npz"], "none.npz: "),
        (["MODEL", "--dataset", "cifar10"], "the images of cifar10 are (3, 28, 28), the network takes (1, 28, 28)"),
        (["MODEL", "--dataset", "digits", "--out", "none/a.html"], "none"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(run, model_file, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    digits = few_digits(64)
    colours = fcnn.Split(digits.test.x.repeat(3, axis=1), digits.test.y)
    sets = {None: digits, "digits": digits, "cifar10": fcnn.Dataset(colours, colours, "cifar10", digits.classes)}
    monkeypatch.setattr(explore, "load_data", lambda name, root: sets[name])
    code, out, err = run(*(model_file if argument == "MODEL" else argument for argument in arguments))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert said in err


def test_a_network_that_it_cannot_show_is_named(run, tmp_path):
    network = fcnn.serial(flat=fcnn.flatten(), body=fcnn.residual(fcnn.dense(784)), head=fcnn.dense(10))
    params, state, _, _ = network.init(fcnn.key(0), (1, 28, 28))
    fcnn.save_model(tmp_path / "m.npz", fcnn.Model(network, params, state, in_shape=(1, 28, 28)))
    code, out, err = run(tmp_path / "m.npz", "--examples", "0")
    assert (code, out) == (1, "")
    assert err == (
        "error: body: the explorer's page computes layers one after the other, not residual; "
        "explore a part of the network\n"
    )


def test_a_network_of_somebodys_own_pictures_brings_their_test_images(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_shapes(tmp_path / "flowers", 10)
    options = "--dataset ./flowers --size 20 --grey --epochs 1 --batch-size 8 --threads 1 --workers threads --out run"
    assert train.main(options.split()) == 0
    code, _, err = run("run/epoch-01.npz")
    assert (code, err) == (0, f"note: the test images are those of {tmp_path / 'flowers'}, as the file says\n")
    data = data_of((tmp_path / "run" / "explorer.html").read_text())
    assert (data["in_shape"], data["fit"], data["classes"]) == ([1, 20, 20], None, ["circle", "cross", "triangle"])
    assert len(data["examples"]) == 6  # a fifth of each class
    (tmp_path / "flowers").rename(tmp_path / "moved")
    code, _, err = run("run/epoch-01.npz", "--dataset", "moved")
    assert (code, err) == (0, "")
    code, _, err = run("run/epoch-01.npz")
    assert (code, "the page has no test images" in err) == (0, True)
    (tmp_path / "moved" / "cross").rename(tmp_path / "moved" / "plus")
    code, _, err = run("run/epoch-01.npz", "--dataset", "moved")
    assert (code, err) == (
        1,
        "error: the classes of moved are circle, plus, triangle, those of the network circle, cross, triangle\n",
    )
