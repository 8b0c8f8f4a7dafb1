"""The README's code runs as it stands, and the files it names exist."""

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from shapes import shape, write_shapes
from sheets import sheet_of_ten

import fcnn
from fcnn import data, parallel
from fcnn.data import pictures
from fcnn.exchange.torchvision import torchvision_names

ROOT = Path(__file__).parents[1]


def blocks(*languages):
    """Each fenced block in one of these languages: (its line in the README, its text)."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    fences = re.finditer(r"^```(\w+)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, f.start(2)), f[2]) for f in fences if f[1] in languages]


@pytest.fixture
def small_data(monkeypatch):
    """Any data set, but as a few hundred of the embedded digits, in the shape that the name promises."""
    digits = data.make_digits(fcnn.key(0), 400)

    real = data.load

    def load(name, *args, **kwargs):
        if name not in data.DATASETS:
            return real(name, *args, **kwargs)
        x = digits.x
        if name == "cifar10":
            x = np.repeat(np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2))), 3, axis=1)
        split = data.Split(x, digits.y)
        return data.Dataset(split.take(300), split.take(list(range(300, 400))), name, tuple("0123456789"))

    monkeypatch.setattr(fcnn.data, "load", load)


def make_files(folder):
    """What a reader of the README has: files of the names that it uses."""
    model = fcnn.lenet5((1, 28, 28), 10)
    params = model.init(fcnn.key(0), (1, 28, 28)).params
    fcnn.save_model(folder / "lenet.npz", fcnn.Model(model, params, in_shape=(1, 28, 28)))
    fcnn.save_torch(folder / "lenet.pt", params)
    theirs = fcnn.resnet18().init(fcnn.key(0), (3, 224, 224))
    fcnn.save_torch(folder / "resnet18.pt", theirs, names=torchvision_names("resnet18", theirs))
    pictures.as_picture(255 - data.make_digits(fcnn.key(0), 1).x[0]).resize((90, 90)).save(folder / "digit.png")
    sheet_of_ten(np.random.default_rng(0), "fonts").picture.save(folder / "sheet.jpg")
    write_shapes(folder / "flowers", 10, classes=("rose", "tulip"))
    shape("circle", fcnn.key(0)).save(folder / "new.jpg")


@pytest.fixture
def reader(tmp_path, monkeypatch, small_data):
    """A reader's own folder."""
    monkeypatch.chdir(tmp_path)
    make_files(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


# What is not run here, and which test runs it.
ELSEWHERE = {
    "scripts/study": "tests/test_study.py",
    "scripts/one_file.py": "tests/test_one_file.py",
    "scripts/records": "tests/test_records.py",
    "mpiexec": "tests/test_mpi.py",
    "pip install": "the commands that are CI itself",
}


@pytest.mark.usefixtures("reader")
def test_every_command_that_runs_a_script_works(capsys):
    """In order, in one folder, on small data."""
    lines = [line for _, code in blocks("bash") for line in code.splitlines()]
    run = [line for line in lines if not any(part in line for part in ELSEWHERE)]
    assert len(run) >= 5
    for line in run:
        python, script, *arguments = shlex.split(line, comments=True)
        assert python == ".venv/bin/python"
        main = importlib.import_module(Path(script).stem).main
        if script == "scripts/train.py":
            arguments += ["--threads", "1", "--workers", "threads"]  # no processes within the tests' own
        assert (main(arguments) or 0, capsys.readouterr().err) == (0, ""), line


def test_every_python_block_runs_in_one_session(reader):
    (reader / "runs" / "mnist-lenet5-seed0").mkdir(parents=True)
    (reader / "lenet.npz").rename(reader / "runs" / "mnist-lenet5-seed0" / "epoch-05.npz")
    session = {}
    found = blocks("python")
    assert found, "the README shows the library in use"
    with parallel.threads(1):
        for line, code in found:
            exec(compile("\n" * line + code, "README.md", "exec"), session)


def test_the_readme_shows_how_to_install_and_to_train():
    commands = blocks("bash", "console", "sh")
    assert len(commands) >= 2
    text = "\n".join(code for _, code in commands)
    assert "pip install" in text
    assert "scripts/train.py" in text


def test_every_script_that_the_readme_runs_exists():
    named = {
        name for _, code in blocks("bash", "console", "sh") for name in re.findall(r"\bscripts/[\w/]+\.py\b", code)
    }
    assert named
    assert not [name for name in sorted(named) if not (ROOT / name).is_file()]


def test_every_link_to_a_file_leads_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
    assert not [link for link in links if not (ROOT / link).exists()]


def test_every_place_that_the_map_names_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:fcnn|scripts|tests|\.ci)/[\w/.]+)`", text)
    assert len(named) > 15
    assert not [name for name in named if not (ROOT / name).exists()]
