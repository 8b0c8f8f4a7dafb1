"""Where NumPy and attrs are all there is, networks are made, trained, run and kept; the rest says what it lacks."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from running import SCRIPTS

# Finders that know of what is installed NumPy and attrs alone. `importlib.util.find_spec` asks them, too.
BEGINNING = """
import sys

class Only:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        found = None if top in LACKING else self.finder.find_spec(name, path, target)
        places = found and [found.origin, *(found.submodule_search_locations or [])]
        installed = found and any("-packages" in str(place) for place in places)
        return None if installed and top not in {"numpy", "attr", "attrs", "fcnn"} else found

sys.meta_path[:] = [Only(finder) for finder in sys.meta_path]
"""
# What a browser's Python hasn't: modules, forks, threads. (https://pyodide.org/en/stable/usage/wasm-constraints.html)
BROWSER = """
import os, threading

def start(thread):
    raise RuntimeError("can't start new thread")

threading.Thread.start = start
del os.fork
"""
WORK = """
import importlib
import pkgutil
import tempfile
from pathlib import Path

import numpy as np

import fcnn

for module in pkgutil.walk_packages(fcnn.__path__, "fcnn."):
    if module.name != "fcnn.inspection.plots":
        importlib.import_module(module.name)
rng = np.random.default_rng(0)
x, y = rng.random((60, 1, 12, 12), np.float32), rng.integers(0, 3, 60)
network = fcnn.serial(
    conv1=fcnn.conv2d(8, 3, padding=1), bn1=fcnn.batch_norm(), relu1=fcnn.relu(), pool1=fcnn.max_pool2d(2),
    res1=fcnn.residual(fcnn.conv2d(8, 3, padding=1)), pool2=fcnn.global_avg_pool2d(),
    drop1=fcnn.dropout(0.1), fc1=fcnn.dense(3),
)
with tempfile.TemporaryDirectory() as folder:
    fitted = fcnn.fit(network, (x, y), epochs=2, batch_size=20, validation=(x[:9], y[:9]), folder=folder)
    fitted = fcnn.fit(network, (x, y), epochs=3, batch_size=20, validation=(x[:9], y[:9]), folder=folder, resume=True)
    path = Path(folder, "model.npz")
    fcnn.save_model(path, fitted.model)
    model = fcnn.load_model(path)
    fcnn.save(path, model.params)
    assert fcnn.load(path, like=model.params) == model.params
    for write, read in ((fcnn.save_torch, fcnn.load_torch), (fcnn.save_safetensors, fcnn.load_safetensors)):
        write(path, model)
        assert read(path, model).params == model.params
    fcnn.save_onnx(path, model)
    assert fcnn.load_onnx(path).in_shape == model.in_shape
    np.savez(path, x=x, y=y)
    assert len(fcnn.data.load_npz(path).train) > 40
outputs = fcnn.predictor(model.network, model.params, model.state)(x)
plain = model.network.apply(model.params, model.state, x, train=False).y
assert np.abs(outputs - plain).max() < 1e-4  # batch norm is multiplied into the weights before it
assert fcnn.predict(model, x[:5]).classes.shape == (5,)
optimizer, loss = fcnn.adam(1e-3), fcnn.softmax_cross_entropy()
with fcnn.parallel.threads(2) as map_fn:
    gradient = fcnn.parallel.sharded(fcnn.gradient(network, loss), 8, map_fn)
    step = fcnn.train_step(network, loss, optimizer, gradient)
    start = fcnn.init_state(network, optimizer, fcnn.key(0), (1, 12, 12))
    stream = fcnn.batches(fcnn.Split(x, y), 16, fcnn.key(1), epochs=1)
    final, records = fcnn.fold(step, start, stream)
    fcnn.evaluate(network, final.params, final.layer_state, (x, y), map_fn=map_fn)
fcnn.gradcheck(fcnn.serial(fcnn.dense(3), fcnn.relu()), (4,), train=True)
fcnn.grad_cam(network, model.params, model.state, x[:2])
lenet = fcnn.lenet5((1, 28, 28), 3)
made = lenet.init(fcnn.key(0), (1, 28, 28))
page = fcnn.explore(fcnn.Model(lenet, made.params, made.state, in_shape=(1, 28, 28)))
assert page.startswith("<!") and fcnn.summary(lenet, (1, 28, 28)) and network._repr_html_()
with fcnn.data.bars() as progress:
    progress("nothing", 1, 2)
"""
MISSING = """
def told(call):
    try:
        call()
    except ModuleNotFoundError as error:
        print(error)

told(lambda: fcnn.data.load("digits"))
told(lambda: __import__("fcnn.inspection.plots"))
told(lambda: fcnn.data.pictures.open_picture("a.png"))
told(lambda: __import__("fcnn.data.ink").data.ink.find_ink(255 * x[0, 0]))
"""
AS_SCRIPT = """
import runpy

_, sys.path[0], *sys.argv[:] = sys.argv
runpy.run_path(sys.argv[0], run_name="__main__")
"""
ADD = "which is missing; add it with: python -m pip install"
DIGITS = f"the embedded digits are drawn from the fonts of matplotlib, {ADD} matplotlib"
FULL = "No module named 'matplotlib'; python -m pip install -e \".[full]\" adds what scripts need"


def run(*parts: str, lacking: tuple[str, ...] = ()) -> list[str]:
    """What is printed by a Python of its own, whose warnings are errors."""
    code = f"LACKING = {set(lacking)!r}\n" + "\n".join(parts)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_all_but_pictures_and_figures_needs_numpy_and_attrs_alone() -> None:
    assert run(BEGINNING, WORK, MISSING) == [
        DIGITS,
        f"figures are drawn by matplotlib, {ADD} matplotlib",
        f"pictures are read by Pillow, {ADD} pillow",
        f"pictures are read by Pillow, {ADD} pillow",
    ]


def test_a_python_without_threads_processes_and_locks_does_as_well() -> None:
    lacking = ("_curses", "_multiprocessing", "_posixshmem", "_ssl", "fcntl", "grp", "pwd", "resource", "termios")
    assert run(BEGINNING, BROWSER, WORK, lacking=lacking) == []


@pytest.mark.parametrize("count", [1, 2])
def test_without_threadpoolctl_threads_map_one_after_the_other(count: int) -> None:
    code = f"""
import threading
import fcnn
from fcnn.values.cores import available, each_of, one_blas_thread

with fcnn.parallel.threads({count}) as map_fn:
    print(*map_fn(lambda n: threading.get_ident() == threading.main_thread().ident, range(3)))
with one_blas_thread(), one_blas_thread():
    print(available(), each_of(3, lambda n: n, 1e9))
"""
    assert run(BEGINNING, code) == ["True True True", "1 [0, 1, 2]"]


def script(folder: Path, name: str, *arguments: object) -> tuple[int, str, str]:
    """Run a script with NumPy and attrs alone, as its file does, in a folder: exit code, standard output and error."""
    code = f"LACKING = ()\n{BEGINNING}{AS_SCRIPT}"
    command = [sys.executable, "-W", "error", "-c", code, SCRIPTS, SCRIPTS / name, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_scripts_train_and_explain_on_arrays_without_figures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", x=rng.integers(0, 256, (60, 1, 28, 28), np.uint8), y=rng.integers(0, 3, 60))
    code, out, err = script(tmp_path, "train.py", "--dataset", "mine.npz", "--epochs", 1, "--out", "run")
    assert (code, err) == (0, "")
    assert "no curves.png: matplotlib is missing; add it with: python -m pip install matplotlib\n" in out
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["epoch-01.npz", "history.json"]
    code, out, err = script(tmp_path, "explore.py", "run/epoch-01.npz", "--dataset", "mine.npz")
    assert (code, err, (tmp_path / "run/explorer.html").exists()) == (0, "", True)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("tour.py", DIGITS),
        ("train.py --dataset digits", DIGITS),
        ("study --quick", FULL),
        ("bench --list", FULL),
    ],
)
def test_what_else_a_script_needs_it_says_in_a_sentence(tmp_path: Path, command: str, sentence: str) -> None:
    code, out, err = script(tmp_path, *command.split())
    assert (code, out, err.lstrip()) == (1, "", f"error: {sentence}\n")
