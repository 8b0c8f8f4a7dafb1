"""Convolutional networks in pure NumPy, in a functional style, with hand-written and proved derivatives.

Parameters are immutable trees, a layer is three pure functions (`fcnn.network.layer`), training is a fold over batches
(`fcnn.training.step`). Begin with the example in the README; `fcnn.ops` holds the mathematics.
"""

import importlib
import typing

from fcnn import data, ops
from fcnn.data import Batch, Dataset, Split, batches
from fcnn.inspection.explorer import explore
from fcnn.inspection.gradcheck import GradientError, gradcheck, gradcheck_function, gradcheck_loss
from fcnn.inspection.tracing import Trace, grad_cam, saliency, trace
from fcnn.network import initializers, layers, models
from fcnn.network.combinators import branch, residual, serial
from fcnn.network.description import build, describe, summary
from fcnn.network.fusing import fuse
from fcnn.network.inference import predictor
from fcnn.network.initializers import constant, dirac, he, kaiming_uniform, lecun, whitening_filters, xavier, zeros
from fcnn.network.layer import Functions, Grads, Init, Layer, LayerError, Out, layer_constructor
from fcnn.network.layers import (
    adaptive_avg_pool2d,
    avg_pool1d,
    avg_pool2d,
    batch_norm,
    clip,
    conv1d,
    conv2d,
    conv_transpose2d,
    dense,
    dropout,
    elu,
    flatten,
    gelu,
    global_avg_pool1d,
    global_avg_pool2d,
    group_norm,
    hardsigmoid,
    hardswish,
    identity,
    layer_norm,
    leaky_relu,
    log_softmax,
    max_pool1d,
    max_pool2d,
    mirror,
    normalize,
    prelu,
    relu,
    relu6,
    reshape,
    shift,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
    upsample,
)
from fcnn.network.model import Model
from fcnn.network.models import airbench, lenet5, lenet5_bn, mobilenet_v2, resnet18, resnet_cifar, squeezenet1_1, vgg11
from fcnn.network.rewriting import checked, hold, rewrite, without_caches
from fcnn.network.views import averaged_views
from fcnn.ops import col2im, im2col
from fcnn.training import losses, metrics, optim, parallel, schedules
from fcnn.training.averaging import Averaging, lookahead, moving_average
from fcnn.training.checkpoint import CheckpointError, load, load_meta, load_model, save, save_model
from fcnn.training.epochs import DivergedError
from fcnn.training.fit import Fitted, InterruptedFit, fit
from fcnn.training.loss import WeightedLoss
from fcnn.training.losses import (
    binary_cross_entropy,
    huber,
    mean_absolute_error,
    mean_squared_error,
    softmax_cross_entropy,
)
from fcnn.training.metrics import accuracy, binary_accuracy, classification_report, confusion_matrix
from fcnn.training.optim import adam, adamw, by_path, chain, clip_by_global_norm, masked, muon, rmsprop, sgd
from fcnn.training.prediction import Predictions, predict, predict_pictures
from fcnn.training.reading import Reading, read_figures
from fcnn.training.runs import RunError
from fcnn.training.schedules import (
    constant_schedule,
    cosine,
    linear_warmup,
    one_cycle,
    piecewise_linear,
    ramp,
    step_decay,
    until,
)
from fcnn.training.step import Evaluation, Record, TrainState, evaluate, fold, gradient, init_state, scan, train_step
from fcnn.training.transform import Transform
from fcnn.values import allocation, tree
from fcnn.values.keys import Key, fold_in, generator, key
from fcnn.values.tree import Tree, TreeError, freeze

if typing.TYPE_CHECKING:
    from fcnn.exchange.errors import ExchangeError
    from fcnn.exchange.formats import export_model, import_model
    from fcnn.exchange.keras import load_keras
    from fcnn.exchange.names import torch_names
    from fcnn.exchange.onnx_export import save_onnx
    from fcnn.exchange.onnx_import import load_onnx
    from fcnn.exchange.safetensors import load_safetensors, save_safetensors
    from fcnn.exchange.torch_reading import load_torch
    from fcnn.exchange.torch_writing import save_torch

__version__ = "0.1.0"

allocation.keep_freed_memory()

# Imported when they are first asked for, which saves a start a fifth of its time: the names, by their modules.
_LATER = {
    name: f"fcnn.exchange.{module}"
    for module, names in {
        "errors": ["ExchangeError"],
        "formats": ["export_model", "import_model"],
        "keras": ["load_keras"],
        "names": ["torch_names"],
        "onnx_export": ["save_onnx"],
        "onnx_import": ["load_onnx"],
        "safetensors": ["load_safetensors", "save_safetensors"],
        "torch_reading": ["load_torch"],
        "torch_writing": ["save_torch"],
    }.items()
    for name in names
}


def __getattr__(name: str) -> typing.Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


__all__ = [
    # Randomness: keys, and what is drawn from them.
    "Key",
    "key",
    "fold_in",
    "generator",
    # Trees of arrays: parameters, state, gradients.
    "Tree",
    "TreeError",
    "freeze",
    "tree",
    # Layers that compute with weights.
    "conv2d",
    "conv_transpose2d",
    "conv1d",
    "dense",
    "batch_norm",
    "layer_norm",
    "group_norm",
    "prelu",
    # Layers without weights.
    "normalize",
    "max_pool2d",
    "avg_pool2d",
    "global_avg_pool2d",
    "adaptive_avg_pool2d",
    "max_pool1d",
    "avg_pool1d",
    "global_avg_pool1d",
    "upsample",
    "flatten",
    "reshape",
    "mirror",
    "shift",
    "identity",
    "dropout",
    "relu",
    "leaky_relu",
    "sigmoid",
    "tanh",
    "gelu",
    "silu",
    "elu",
    "softplus",
    "clip",
    "relu6",
    "hardsigmoid",
    "hardswish",
    "softmax",
    "log_softmax",
    "layers",
    # Networks: layers made of layers, and some that have a name.
    "serial",
    "residual",
    "branch",
    "averaged_views",
    "lenet5",
    "lenet5_bn",
    "resnet18",
    "resnet_cifar",
    "vgg11",
    "mobilenet_v2",
    "squeezenet1_1",
    "airbench",
    "models",
    # A network as data, there and back, and as a table.
    "describe",
    "build",
    "summary",
    # Networks of networks: frozen in part, checked, lean.
    "rewrite",
    "fuse",
    "predictor",
    "hold",
    "checked",
    "without_caches",
    # How weights begin.
    "he",
    "xavier",
    "lecun",
    "kaiming_uniform",
    "constant",
    "zeros",
    "dirac",
    "whitening_filters",
    "initializers",
    # The contract, for layers of one's own.
    "Layer",
    "Functions",
    "Init",
    "Out",
    "Grads",
    "LayerError",
    "layer_constructor",
    # The mathematics, on arrays.
    "ops",
    "im2col",
    "col2im",
    # Data.
    "Dataset",
    "Split",
    "Batch",
    "batches",
    "data",
    # Losses.
    "softmax_cross_entropy",
    "binary_cross_entropy",
    "mean_squared_error",
    "mean_absolute_error",
    "huber",
    "WeightedLoss",
    "losses",
    # Optimizers.
    "Transform",
    "adam",
    "adamw",
    "rmsprop",
    "muon",
    "sgd",
    "clip_by_global_norm",
    "chain",
    "masked",
    "by_path",
    "optim",
    # Learning rates.
    "constant_schedule",
    "step_decay",
    "cosine",
    "linear_warmup",
    "piecewise_linear",
    "one_cycle",
    "ramp",
    "until",
    "schedules",
    # Training, for everyday use.
    "fit",
    "Fitted",
    "DivergedError",
    "InterruptedFit",
    "RunError",
    # What that is made of: a step, and its fold over batches, on one core or many.
    "TrainState",
    "Record",
    "init_state",
    "gradient",
    "train_step",
    "fold",
    "scan",
    "parallel",
    # Averages of a network's values over the steps.
    "Averaging",
    "lookahead",
    "moving_average",
    # How good a network is.
    "Evaluation",
    "evaluate",
    "Predictions",
    "predict",
    "predict_pictures",
    "Reading",
    "read_figures",
    "accuracy",
    "binary_accuracy",
    "confusion_matrix",
    "classification_report",
    "metrics",
    # What a network computes on its way.
    "trace",
    "Trace",
    "saliency",
    "grad_cam",
    "explore",
    # Files.
    "Model",
    "save_model",
    "load_model",
    "save",
    "load",
    "load_meta",
    "CheckpointError",
    # Files of other programs.
    "import_model",
    "export_model",
    "load_torch",
    "save_torch",
    "load_safetensors",
    "save_safetensors",
    "load_onnx",
    "save_onnx",
    "torch_names",
    "load_keras",
    "ExchangeError",
    # Derivatives against central differences.
    "gradcheck",
    "gradcheck_loss",
    "gradcheck_function",
    "GradientError",
]
