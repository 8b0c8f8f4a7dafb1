"""The table of layers that drives every generic test (`test_layers.py`): adding a layer is one row."""

from collections.abc import Iterator
from dataclasses import dataclass

from fcnn import (
    Layer,
    adaptive_avg_pool2d,
    avg_pool2d,
    batch_norm,
    branch,
    clip,
    constant,
    conv2d,
    dense,
    dropout,
    elu,
    flatten,
    fuse,
    gelu,
    global_avg_pool2d,
    hardsigmoid,
    hardswish,
    he,
    identity,
    kaiming_uniform,
    leaky_relu,
    lecun,
    lenet5,
    lenet5_bn,
    log_softmax,
    max_pool2d,
    normalize,
    relu,
    relu6,
    residual,
    serial,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
    xavier,
)


@dataclass(frozen=True)
class Case:
    """A layer, one input's shape, and what kind of layer it is."""

    name: str
    layer: Layer
    in_shape: tuple[int, ...]
    stochastic: bool = False  # draws random numbers in training
    stateful: bool = False  # changes its state in training
    norms_features: bool = False  # has a batch norm of features, which have no variance in a batch of one


def descendants(layer: Layer, path: str = "") -> Iterator[tuple[str, Layer]]:
    """The layer and all inside it, with their paths ("" for the layer itself)."""
    yield path, layer
    for name, child in layer.children.items():
        yield from descendants(child, f"{path}/{name}" if path else name)


_NESTED = serial(
    stem=conv2d(4, 3, padding=1, bias=False),
    bn1=batch_norm(),
    res1=residual(serial(conv1=conv2d(4, 3, padding="same"), relu1=leaky_relu(0.1), drop1=dropout(0.3))),
    mix=branch(merge="concat", a=conv2d(2, 1), b=serial(max_pool2d(3, stride=1, padding=1), conv2d(3, 3, padding=1))),
    pool=global_avg_pool2d(),
    head=dense(3),
)

CASES = (
    Case("conv2d", conv2d(3, 3), (2, 6, 5)),
    Case("conv2d stride", conv2d(3, 3, stride=2), (2, 7, 8)),
    Case("conv2d stride beyond kernel", conv2d(2, 2, stride=3), (2, 8, 9)),
    Case("conv2d rectangular", conv2d(3, (2, 4), stride=(3, 1)), (2, 7, 6)),
    Case("conv2d padding", conv2d(3, 3, padding=2), (2, 4, 5)),
    Case("conv2d padding pair", conv2d(3, 3, padding=(0, 2)), (2, 5, 4)),
    Case("conv2d same odd", conv2d(3, 3, padding="same"), (2, 5, 4)),
    Case("conv2d same odd stride", conv2d(3, 5, stride=2, padding="same"), (2, 7, 6)),
    Case("conv2d same even", conv2d(3, (2, 4), padding="same"), (2, 5, 4)),
    Case("conv2d same even stride", conv2d(3, 4, stride=(2, 3), padding="same"), (2, 7, 8)),
    Case("conv2d 1x1", conv2d(4, 1), (3, 3, 4)),
    Case("conv2d 1x1 stride", conv2d(4, 1, stride=2), (3, 5, 4)),
    Case("conv2d no bias", conv2d(3, 3, bias=False), (2, 5, 5)),
    Case("conv2d whole image", conv2d(3, (4, 5)), (2, 4, 5)),
    Case("conv2d one channel", conv2d(1, 3, weights=xavier("uniform"), biases=constant(0.5)), (1, 4, 4)),
    Case("dense", dense(4, weights=lecun()), (7,)),
    Case("dense no bias", dense(4, bias=False), (7,)),
    Case("dense one to one", dense(1, weights=kaiming_uniform(), biases=kaiming_uniform()), (1,)),
    Case("batch_norm features", batch_norm(), (5,), stateful=True, norms_features=True),
    Case("batch_norm images", batch_norm(decay=0.5, eps=1e-3), (3, 4, 2), stateful=True),
    Case("normalize", normalize(0.5, 0.25), (3, 4, 2)),
    Case("normalize channels", normalize((0.5, 0.4, 0.3), [0.2, 0.3, 0.4]), (3, 4, 2)),
    Case("normalize features", normalize(0.5, (0.2, 0.3)), (2,)),
    Case("dropout features", dropout(0.4), (20,), stochastic=True),
    Case("dropout images", dropout(0.5), (3, 4, 5), stochastic=True),
    Case("dropout nothing", dropout(0.0), (6,)),
    Case("max_pool2d", max_pool2d(2), (2, 4, 6)),
    Case("max_pool2d not tiling", max_pool2d(2), (2, 5, 7)),
    Case("max_pool2d overlap", max_pool2d(3, stride=2), (2, 7, 7)),
    Case("max_pool2d gaps", max_pool2d(2, stride=3), (2, 8, 7)),
    Case("max_pool2d padding", max_pool2d((3, 2), stride=(2, 1), padding=1), (2, 5, 4)),
    Case("max_pool2d same", max_pool2d(3, stride=2, padding="same"), (2, 5, 6)),
    Case("max_pool2d ceil", max_pool2d(3, stride=2, padding=1, ceil_mode=True), (2, 6, 5)),
    Case("max_pool2d ceil in one window", max_pool2d((4, 3), stride=(2, 3), ceil_mode=True), (2, 3, 4)),
    Case("avg_pool2d", avg_pool2d(2), (2, 4, 6)),
    Case("avg_pool2d not tiling", avg_pool2d((2, 3)), (2, 5, 7)),
    Case("avg_pool2d overlap", avg_pool2d(3, stride=1), (2, 5, 4)),
    Case("avg_pool2d gaps", avg_pool2d(2, stride=(3, 4)), (2, 8, 7)),
    Case("avg_pool2d padding", avg_pool2d(3, stride=2, padding=(1, 2)), (2, 5, 4)),
    Case("avg_pool2d ceil", avg_pool2d(3, stride=2, padding=1, ceil_mode=True), (2, 6, 5)),
    Case("avg_pool2d of pixels", avg_pool2d((2, 3), stride=1, padding="same", count_include_pad=False), (2, 4, 5)),
    Case("avg_pool2d ceil of pixels", avg_pool2d(3, padding=1, ceil_mode=True, count_include_pad=False), (2, 6, 5)),
    Case("adaptive_avg_pool2d", adaptive_avg_pool2d((2, 3)), (2, 4, 5)),
    Case("adaptive_avg_pool2d one", adaptive_avg_pool2d(1), (3, 4, 5)),
    Case("adaptive_avg_pool2d larger", adaptive_avg_pool2d((5, 7)), (2, 3, 7)),
    Case("global_avg_pool2d", global_avg_pool2d(), (3, 4, 5)),
    Case("flatten", flatten(), (3, 4, 5)),
    Case("flatten one row", flatten(), (3, 1, 5)),
    Case("flatten features", flatten(), (6,)),
    Case("identity features", identity(), (6,)),
    Case("identity images", identity(), (2, 3, 4)),
    Case("relu", relu(), (2, 3, 4)),
    Case("leaky_relu", leaky_relu(), (2, 3, 4)),
    Case("leaky_relu slope", leaky_relu(0.3), (7,)),
    Case("sigmoid", sigmoid(), (2, 3, 4)),
    Case("tanh", tanh(), (2, 3, 4)),
    Case("gelu", gelu(), (2, 3, 4)),
    Case("gelu by tanh", gelu("tanh"), (2, 3, 4)),
    Case("silu", silu(), (2, 3, 4)),
    Case("softplus", softplus(), (2, 3, 4)),
    Case("elu", elu(), (2, 3, 4)),
    Case("elu alpha", elu(0.3), (7,)),
    Case("clip", clip(-0.5, 0.7), (2, 3, 4)),
    Case("clip below", clip(-0.5), (7,)),
    Case("relu6", relu6(), (2, 3, 4)),
    Case("hardsigmoid", hardsigmoid(), (2, 3, 4)),
    Case("hardsigmoid alpha", hardsigmoid(0.9, 0.2), (7,)),
    Case("hardswish", hardswish(), (2, 3, 4)),
    Case("softmax features", softmax(), (6,)),
    Case("softmax images", softmax(), (4, 3, 2)),
    Case("log_softmax features", log_softmax(), (6,)),
    Case("log_softmax images", log_softmax(), (4, 3, 2)),
    Case("serial", serial(conv2d(3, 3), relu(), max_pool2d(2), flatten(), dense(4)), (2, 6, 6)),
    Case("serial one", serial(only=relu()), (5,)),
    Case("serial dropout", serial(dense(8), tanh(), dropout(0.5), dense(3)), (4,), stochastic=True),
    Case("residual", residual(conv2d(2, 3, padding=1, weights=he("uniform"))), (2, 4, 5)),
    Case("residual shortcut", residual(conv2d(3, 3, stride=2, padding=1), conv2d(3, 1, stride=2)), (2, 5, 4)),
    Case("residual identities", residual(identity()), (2, 3, 4)),
    Case("residual dropouts", residual(dropout(0.5), dropout(0.3)), (9,), stochastic=True),
    Case("branch sum", branch(merge="sum", a=dense(3), b=serial(dense(4), gelu(), dense(3))), (5,)),
    Case("branch concat images", branch(conv2d(2, 1), avg_pool2d(3, stride=1, padding=1), merge="concat"), (3, 4, 5)),
    Case(
        "branch concat features",
        branch(merge="concat", a=dense(2), b=batch_norm()),
        (4,),
        stateful=True,
        norms_features=True,
    ),
    Case("branch multiply", branch(merge="multiply", a=dense(3), b=tanh(), c=dense(1)), (3,)),
    Case("branch multiply one", branch(sigmoid(), merge="multiply"), (2, 3, 2)),
    Case(
        "branch multiply gate",
        branch(
            merge="multiply",
            x=identity(),
            gate=serial(adaptive_avg_pool2d(1), conv2d(2, 1), relu(), conv2d(4, 1), sigmoid()),
        ),
        (4, 3, 5),
    ),
    Case(
        "branch multiply rows and columns",
        branch(adaptive_avg_pool2d((1, 4)), adaptive_avg_pool2d((3, 1)), conv2d(1, 3), merge="multiply"),
        (2, 5, 6),
    ),
    Case("fused relu", fuse(serial(conv2d(3, 3), relu())), (2, 5, 4)),
    Case("fused pool", fuse(serial(conv2d(5, 2, stride=(1, 2), padding="same"), relu(), max_pool2d(2))), (3, 6, 8)),
    Case("fused pool alone", fuse(serial(conv2d(4, 3, bias=False), max_pool2d(2), flatten(), dense(2))), (2, 6, 6)),
    Case("fused norm", fuse(serial(conv2d(3, 3, padding=1), batch_norm())), (2, 5, 4), stateful=True),
    Case(
        "fused norm pool",
        fuse(serial(conv2d(4, 3, padding=1, bias=False), batch_norm(decay=0.5, eps=1e-3), relu(), max_pool2d(2))),
        (3, 6, 4),
        stateful=True,
    ),
    Case(
        "fused nested",
        fuse(residual(serial(conv2d(2, 1), batch_norm(), relu(), conv2d(2, 3, padding=1), relu()))),
        (2, 3, 4),
        stateful=True,
    ),
    Case("nested", _NESTED, (3, 6, 5), stochastic=True, stateful=True),
    Case("lenet5", lenet5(), (1, 28, 28)),
    Case("lenet5_bn", lenet5_bn((3, 32, 32), 5), (3, 32, 32), stochastic=True, stateful=True, norms_features=True),
)
