"""Convolutional networks in pure NumPy, in a functional style, with hand-written and proved derivatives.

Parameters are immutable trees, a layer is three pure functions (`fcnn.layer`), training is a fold over batches
(`fcnn.train`). Begin with the example in the README; `fcnn.ops` holds the mathematics.
"""

from fcnn import data, initializers, losses, metrics, models, ops, optim, parallel, schedules, tree
from fcnn.checkpoint import CheckpointError, load, load_meta, save
from fcnn.combinators import branch, residual, serial
from fcnn.data import Batch, Dataset, Split, batches
from fcnn.gradcheck import GradientError, gradcheck, gradcheck_loss
from fcnn.initializers import constant, he, kaiming_uniform, lecun, xavier, zeros
from fcnn.keys import Key, fold_in, generator, key
from fcnn.layer import (
    Functions,
    Grads,
    Init,
    Layer,
    LayerError,
    Out,
    describe,
    layer_constructor,
    summary,
)
from fcnn.layers import (
    avg_pool2d,
    batch_norm,
    conv2d,
    dense,
    dropout,
    flatten,
    gelu,
    global_avg_pool2d,
    identity,
    leaky_relu,
    max_pool2d,
    relu,
    sigmoid,
    softmax,
    tanh,
)
from fcnn.losses import mean_squared_error, softmax_cross_entropy
from fcnn.metrics import accuracy, classification_report, confusion_matrix
from fcnn.models import lenet5, lenet5_bn
from fcnn.ops import col2im, im2col
from fcnn.optim import Transform, adam, adamw, chain, clip_by_global_norm, sgd
from fcnn.schedules import constant_schedule, cosine, linear_warmup, piecewise_linear, step_decay
from fcnn.train import Evaluation, Record, TrainState, evaluate, fold, gradient, init_state, scan, train_step
from fcnn.tree import Tree, TreeError, freeze

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "CheckpointError",
    "Dataset",
    "Evaluation",
    "Functions",
    "GradientError",
    "Grads",
    "Init",
    "Key",
    "Layer",
    "LayerError",
    "Out",
    "Record",
    "Split",
    "TrainState",
    "Transform",
    "Tree",
    "TreeError",
    "accuracy",
    "adam",
    "adamw",
    "avg_pool2d",
    "batch_norm",
    "batches",
    "branch",
    "chain",
    "classification_report",
    "clip_by_global_norm",
    "col2im",
    "confusion_matrix",
    "constant",
    "constant_schedule",
    "conv2d",
    "cosine",
    "data",
    "dense",
    "describe",
    "dropout",
    "evaluate",
    "flatten",
    "fold",
    "fold_in",
    "freeze",
    "gelu",
    "generator",
    "global_avg_pool2d",
    "gradcheck",
    "gradcheck_loss",
    "gradient",
    "he",
    "identity",
    "im2col",
    "init_state",
    "initializers",
    "kaiming_uniform",
    "key",
    "layer_constructor",
    "leaky_relu",
    "lecun",
    "lenet5",
    "lenet5_bn",
    "linear_warmup",
    "load",
    "load_meta",
    "losses",
    "max_pool2d",
    "mean_squared_error",
    "metrics",
    "models",
    "ops",
    "optim",
    "parallel",
    "piecewise_linear",
    "relu",
    "residual",
    "save",
    "scan",
    "schedules",
    "serial",
    "sgd",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "step_decay",
    "summary",
    "tanh",
    "train_step",
    "tree",
    "xavier",
    "zeros",
]
