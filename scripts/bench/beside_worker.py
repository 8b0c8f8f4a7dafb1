"""One program of `beside.py`, run where it is installed alone: at the top this takes nothing but NumPy.

    python -I beside_worker.py MODULE TASK SECONDS    # in the folder with the inputs; its last line is JSON

Each program gives two functions: `forward`, float32 images (N, 1, 28, 28) to logits (N, 10), and `step`, a training
step on all images that returns their loss before it.
"""

import contextlib
import io
import json
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
Params: TypeAlias = Mapping[str, Array]
Functions: TypeAlias = tuple[Callable[[Array], Any], Callable[[Array, Array], float]]

SIZES = {"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84, "fc3": 10}  # of LeNet-5: filters and units


def with_fcnn(params: Params) -> Functions:
    """The predictor, and `train_step`."""
    import attrs

    import fcnn

    model, optimizer = fcnn.lenet5(), fcnn.adam(1e-3)
    tree = fcnn.tree.unflatten(params)
    state = attrs.evolve(fcnn.init_state(model, optimizer, fcnn.key(0), (1, 28, 28)), params=tree)
    train = fcnn.train_step(model, fcnn.softmax_cross_entropy(), optimizer)

    def step(x: Array, y: Array) -> float:
        nonlocal state
        state, record = train(state, (x, y))
        return record.loss

    return fcnn.predictor(model, tree), step


def with_torch(params: Params) -> Functions:
    """Modules in eager mode."""
    import torch
    from torch import nn

    layers = {"conv1": nn.Conv2d(1, 6, 5, padding=2), "conv2": nn.Conv2d(6, 16, 5)}
    layers |= {"fc1": nn.Linear(400, 120), "fc2": nn.Linear(120, 84), "fc3": nn.Linear(84, 10)}
    for name, layer in layers.items():
        layer.load_state_dict({"weight": torch.tensor(params[f"{name}/w"]), "bias": torch.tensor(params[f"{name}/b"])})
    stages = [[layers[name], nn.ReLU(), nn.MaxPool2d(2)] for name in ("conv1", "conv2")]
    dense = [layers["fc1"], nn.ReLU(), layers["fc2"], nn.ReLU(), layers["fc3"]]
    model = nn.Sequential(*stages[0], *stages[1], nn.Flatten(), *dense)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def forward(x: Array) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(x)).numpy()

    def step(x: Array, y: Array) -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return forward, step


def with_keras(params: Params) -> Functions:
    """A sequential model, on the backend that the environment names."""
    import keras
    from keras import layers

    stages = [
        (layers.Conv2D(SIZES[name], 5, padding=padding, activation="relu", name=name), layers.MaxPooling2D(2))
        for name, padding in (("conv1", "same"), ("conv2", "valid"))
    ]
    dense = [layers.Dense(SIZES[name], "relu" if name != "fc3" else None, name=name) for name in ("fc1", "fc2", "fc3")]
    model = keras.Sequential([keras.Input((28, 28, 1)), *stages[0], *stages[1], layers.Flatten(), *dense])
    flat = params["fc1/w"].reshape(120, 16, 5, 5).transpose(0, 2, 3, 1).reshape(120, 400)  # channels come last
    for name in SIZES:
        w = flat if name == "fc1" else params[f"{name}/w"]
        model.get_layer(name).set_weights([w.transpose(2, 3, 1, 0) if w.ndim == 4 else w.T, params[f"{name}/b"]])
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def step(x: Array, y: Array) -> float:
        return float(model.train_on_batch(x.transpose(0, 2, 3, 1), y))

    return lambda x: model(x.transpose(0, 2, 3, 1), training=False), step


def with_planer(params: Params) -> Functions:
    """A file of its own, or where there is none and onnx is installed, the ONNX file that it is made of."""
    import planer

    def step(x: Array, y: Array) -> float:
        net = planer.read_net("train.onnx")
        net.weights = [params.get(name, array) for name, array in zip(net.inits, net.weights, strict=True)]
        return _ascend(net, params, x, y)

    return planer.read_net("lenet"), step


def with_onnx(params: Params) -> Functions:
    """The evaluator that defines what ONNX's operators mean."""
    from onnx.reference import ReferenceEvaluator

    def step(x: Array, y: Array) -> float:
        training = ReferenceEvaluator("train.onnx")
        return _ascend(lambda x, t: training.run(None, {**params, "x": x, "t": t}), params, x, y)

    evaluator = ReferenceEvaluator("lenet.onnx")
    return lambda x: evaluator.run(None, {"x": x})[0], step


def _ascend(evaluate: Callable[[Array, Array], Any], params: Params, x: Array, y: Array) -> float:
    """The loss of the training file, if the program computes the gradients that are in it."""
    mean, *gradients = evaluate(x, np.eye(10, dtype=np.float32)[y])
    for array, gradient in zip(params.values(), gradients, strict=True):
        array += np.float32(1.0) * gradient
    return -10 * float(mean)


PROGRAMS = {"fcnn": with_fcnn, "torch": with_torch, "keras": with_keras, "planer": with_planer}
PROGRAMS["onnx.reference"] = with_onnx


def time_forward(functions: Functions, x: Array, y: Array, seconds: float) -> dict[str, Any]:
    """Outputs for all images, and the median ms of a call with one image and with all, of calls for some seconds."""
    forward, _ = functions
    answer: dict[str, Any] = {"outputs": np.asarray(forward(x)).tolist()}
    for name, images in (("one_ms", x[:1]), ("all_ms", x)):
        forward(images)
        taken: list[float] = []
        while not taken or sum(taken) < seconds:
            began = time.perf_counter()
            np.asarray(forward(images))
            taken.append(time.perf_counter() - began)
        answer[name] = 1e3 * float(np.median(taken))
    return answer


def peak_of_forward(functions: Functions, x: Array, y: Array, seconds: float) -> dict[str, Any]:
    """The most memory, in MiB, that this process has had once it has computed the logits of all images."""
    np.asarray(functions[0](x))
    # Not ru_maxrss: on Linux that begins with what the parent process had.
    return {"mib": int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 2**10}


def train(functions: Functions, x: Array, y: Array, seconds: float) -> dict[str, Any]:
    """The loss before a training step and after it."""
    return {"losses": [float(functions[1](x, y)) for _ in range(2)]}


TASKS = {"forward": time_forward, "peak": peak_of_forward, "train": train}


def compiled() -> list[str]:
    """The packages, other than NumPy, of which this process has loaded compiled modules."""
    places = [Path(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())]
    installed = [place.parts for place in places if "site-packages" in place.parts and place.suffix in (".so", ".pyd")]
    top_levels = {parts[parts.index("site-packages") + 1].split(".")[0] for parts in installed}
    owners = packages_distributions()
    return sorted({name for top in top_levels for name in owners.get(top, [top])} - {"numpy"})


def main(module: str, task: str, seconds: str) -> None:
    """Print what a task found, or its error."""
    said = io.StringIO()
    with np.load("inputs.npz") as archive:
        x, y, *params = archive.values()
        params = dict(zip(archive.files[2:], params, strict=True))
    try:
        functions = PROGRAMS[module](params)
        with contextlib.redirect_stdout(said):
            answer = TASKS[task](functions, x, y, float(seconds))
        answer["compiled"] = compiled()
    except Exception as error:
        answer = {"error": textwrap.shorten(f"{type(error).__name__}: {error}", 160, placeholder=" …")}
        if lines := said.getvalue().strip().splitlines():
            answer["error"] += f" (it printed: {lines[-1]})"
    print(f"\n{json.dumps(answer)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
