"""Made-up results of the study, as the runner would write them, and the arrays: shared by its tests."""

import itertools

import attrs
import numpy as np
from study.experiment.cells import GradientChecks, Parting, Timing, Training, key_of, settings_of

import fcnn

INITS = ("he", "xavier", "kaiming_uniform")
SIZES = (1_000, 10_000, 60_000)
ABLATIONS = (
    {"optimizer": "sgd", "lr": 0.05}, {"batch_norm": True}, {"dropout": 0.25}, {"batch_norm": True, "dropout": 0.25}
)  # fmt: skip
SECONDS = {"fcnn": [2.0, 2.5, 1.6], "pytorch": [3.0, 3.5, 2.56]}  # of epochs; their ratios are 1.5, 1.4 and 1.6
VARIANTS = {"fcnn": "processes", "pytorch": "channels_last"}


def machine(processor="A <fast> processor"):
    versions = {"Python": "3.11.9", "fcnn": "0.1.0", "numpy": "2.3.5"}
    return {"processor": processor, "cores": 2, "memory_gib": 7.75, "system": "Linux", "versions": versions,
            "blas": "openblas 0.3"}  # fmt: skip


def noise(*parts):
    """A number from -1 to 1 that depends on the parts alone."""
    return 2 * fcnn.generator(fcnn.fold_in(fcnn.key(1), "/".join(map(str, parts)))).random() - 1


def entry(cell, result, where=None):
    kind, config = settings_of(cell)
    return {"kind": kind, "key": key_of(kind, config), "config": config, "result": result,
            "machine": where or machine()}  # fmt: skip


def training(framework, accuracy, **settings):
    history = [
        {"epoch": k, "train_loss": 1 / k, "train_accuracy": accuracy - 0.02 / k, "validation_loss": 0.9 / k,
         "validation_accuracy": accuracy - 0.1 * (2 - k), "seconds": 3.0 + k / 10}
        for k in (1, 2)
    ]  # fmt: skip
    result = {"history": history, "test_accuracy": accuracy, "macro_f1": accuracy - 0.001}
    return entry(Training(framework=framework, epochs=2, **settings), result)


def timing(frameworks, dataset):
    found = {
        name: {"variant": VARIANTS[name], "step_seconds": {VARIANTS[name]: 0.004, "another": 0.005},
               "seconds": SECONDS[name], "images_per_second": SIZES[-1] / np.median(SECONDS[name]),
               "peak_memory_mib": 256.0}
        for name in frameworks
    }  # fmt: skip
    return entry(Timing(dataset=dataset, threads=2, frameworks=tuple(frameworks)), {"frameworks": found})


def detailed(cell, data):
    """A detailed cell's arrays; its report and confusion matrix go into its result."""
    labels = data.test.y
    rng = fcnn.generator(fcnn.fold_in(fcnn.key(2), cell["key"]))
    predictions = np.where(rng.random(len(labels)) < 0.8, labels, (labels + 1) % 10)
    cell["result"]["confusion"] = fcnn.confusion_matrix(predictions, labels, 10).tolist()
    cell["result"]["report"] = attrs.asdict(fcnn.classification_report(predictions, labels, data.classes))
    channels = data.test.x.shape[1]
    arrays = {"filters": rng.standard_normal((3, 6, channels, 5, 5)).cumsum(axis=0), "predictions": predictions,
              "confidence": 0.1 + 0.9 * rng.random(len(labels)), "labels": labels}  # fmt: skip
    if cell["config"]["framework"] == "fcnn":
        arrays |= {"digit": data.test.x[0], "map_conv1": rng.standard_normal((6, 28, 28)),
                   "map_relu1": np.zeros((6, 28, 28)), "map_conv2": rng.standard_normal((16, 10, 10))}  # fmt: skip
    return arrays


def images(name):
    """A small stand-in for a data set."""
    rng = np.random.default_rng(0)
    shape, names = ((3, 32, 32), ("airplane", "automobile")) if name == "cifar10" else ((1, 28, 28), ("0", "1"))
    x, y = rng.integers(0, 256, (120, *shape), dtype=np.uint8), np.arange(120) % 10
    names += tuple(f"class {k}" if name == "cifar10" else str(k) for k in range(2, 10))
    return fcnn.Dataset(fcnn.Split(x[:1], y[:1]), fcnn.Split(x, y), name, names)


def accuracy_of(framework, init, size, seed, gap, init_effect):
    base = {1_000: 0.86, 10_000: 0.955, 60_000: 0.9885}[size]
    shift = (gap if framework == "fcnn" else 0.0) + (init_effect if init == "he" else 0.0)
    return base + shift + 0.001 * noise(framework, init, size, seed)


def make(frameworks=("fcnn", "pytorch"), datasets=("mnist", "cifar10"), gap=0.0, init_effect=0.0, seeds=3):
    """Results without a summary, and the arrays."""
    cells = [timing(frameworks, dataset) for dataset in datasets]
    for framework, init, size, seed in itertools.product(frameworks, INITS, SIZES, range(seeds)):
        accuracy = accuracy_of(framework, init, size, seed, gap, init_effect)
        detail = (init, size, seed) == ("xavier", SIZES[-1], 0)
        cells.append(training(framework, accuracy, init=init, train_size=size, seed=seed, detail=detail))
    if "cifar10" in datasets:
        cells += [training(framework, 0.6, dataset="cifar10", detail=True) for framework in frameworks]
    for framework, batch, seed in itertools.product(frameworks, (32, 1024), range(seeds)):
        accuracy = 0.9 + 0.01 * noise(batch, seed)
        cells.append(training(framework, accuracy, batch_size=batch, train_size=10_000, seed=seed))
    for change, seed in itertools.product(ABLATIONS, range(seeds)):
        cells.append(training("fcnn", 0.93 + 0.01 * noise(str(change), seed), train_size=10_000, seed=seed, **change))
    for dtype, unit in (("float32", 1e-7), ("float64", 1e-16)) if len(frameworks) > 1 else ():
        steps = [
            {"fcnn_loss": 2.0 / k, "pytorch_loss": 2.0 / k + unit * k, "distance": unit * k} for k in range(1, 121)
        ]
        cells.append(entry(Parting(dtype=dtype), {"steps": steps}))
    rows = [{"name": "dense", "train": 3.25e-9, "eval": 1e-10, "comparisons": 3},
            {"name": "mean_squared_error", "train": 2e-10, "eval": None, "comparisons": 1}]  # fmt: skip
    cells.append(entry(GradientChecks(), {"rows": rows}, machine("an older one")))
    arrays = {
        cell["key"]: detailed(cell, images(cell["config"]["dataset"])) for cell in cells if cell["config"].get("detail")
    }
    missing = [] if len(frameworks) > 1 else ["PyTorch is not installed: its half is missing."]
    meta = {"scale": "full", "seconds": 4321.0, "git_commit": "abc1234", "date": "2026-01-02", "workers": 2}
    return {"meta": meta, "missing": missing, "cells": cells}, arrays
