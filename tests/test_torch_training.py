"""Against PyTorch: 200 steps of every optimizer on a small network, every schedule, and LeNet."""

import contextlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from parity import F, Muon, assert_close, one_thread, run, tensor, tensors, torch

import fcnn
from fcnn import Tree
from fcnn.training.optim import Updated, add_weight_decay, global_norm, scale_by_adam, scale_by_learning_rate
from fcnn.values.tree import flatten

__all__ = ["one_thread"]  # a fixture of all tests here

NETWORK = fcnn.serial(
    conv=fcnn.conv2d(4, 3, padding=1, bias=False),
    bn=fcnn.batch_norm(),
    relu=fcnn.relu(),
    pool=fcnn.max_pool2d(2),
    res=fcnn.residual(fcnn.serial(conv=fcnn.conv2d(4, 3, padding=1), tanh=fcnn.tanh())),
    flat=fcnn.flatten(),
    fc=fcnn.dense(5),
)
STEPS = 200


def batch(step: int) -> fcnn.Batch:
    """Sixteen noisy pictures of five; a new batch in each step."""
    rng = np.random.default_rng(step)
    labels = rng.integers(0, 5, 16)
    pictures = np.random.default_rng(0).standard_normal((5, 1, 6, 6))
    return fcnn.Batch(pictures[labels] + rng.standard_normal((16, 1, 6, 6)), labels)


def clipped(parameters: list[Any], most: float) -> None:
    """As `clip_grad_norm_`, which divides by the norm + 1e-6, without that."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
    if norm > most:
        for p in parameters:
            p.grad *= most / norm


def where(weights: dict[str, Any], chosen: Callable[[str], bool]) -> list[Any]:
    return [weight for path, weight in weights.items() if chosen(path)]


class Several:
    """Optimizers for parts of the parameters, as one."""

    def __init__(self, *optimizers: Any) -> None:
        self.optimizers = optimizers

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()


O = torch.optim  # noqa: E741
OPTIMIZERS: dict[str, tuple[Any, Callable[[dict[str, Any]], Any]]] = {
    "sgd": (fcnn.sgd(0.1), lambda w: O.SGD(w.values(), 0.1)),
    "sgd, weight decay": (
        fcnn.sgd(0.1, weight_decay=0.02),
        lambda w: O.SGD(w.values(), 0.1, weight_decay=0.02),
    ),
    "momentum": (fcnn.sgd(0.05, momentum=0.9), lambda w: O.SGD(w.values(), 0.05, momentum=0.9)),
    "momentum, weight decay": (
        fcnn.sgd(0.05, momentum=0.5, weight_decay=0.02),
        lambda w: O.SGD(w.values(), 0.05, momentum=0.5, weight_decay=0.02),
    ),
    "nesterov": (
        fcnn.sgd(0.05, momentum=0.9, nesterov=True),
        lambda w: O.SGD(w.values(), 0.05, momentum=0.9, nesterov=True),
    ),
    "nesterov, weight decay": (
        fcnn.sgd(0.05, momentum=0.8, nesterov=True, weight_decay=0.01),
        lambda w: O.SGD(w.values(), 0.05, momentum=0.8, nesterov=True, weight_decay=0.01),
    ),
    "adam": (fcnn.adam(0.01), lambda w: O.Adam(w.values(), 0.01)),
    "adam, weight decay": (
        fcnn.adam(0.01, weight_decay=0.1),
        lambda w: O.Adam(w.values(), 0.01, weight_decay=0.1),
    ),
    "adam, betas and eps": (
        fcnn.adam(0.01, 0.8, 0.99, 1e-4),
        lambda w: O.Adam(w.values(), 0.01, (0.8, 0.99), 1e-4),
    ),
    "adam, no momentum": (fcnn.adam(0.01, 0.0), lambda w: O.Adam(w.values(), 0.01, (0.0, 0.999))),
    "adamw": (fcnn.adamw(0.01), lambda w: O.AdamW(w.values(), 0.01)),
    "adamw, betas, eps and decay": (
        fcnn.adamw(0.01, 0.85, 0.95, 1e-6, weight_decay=0.2),
        lambda w: O.AdamW(w.values(), 0.01, (0.85, 0.95), 1e-6, weight_decay=0.2),
    ),
    "rmsprop": (fcnn.rmsprop(0.003), lambda w: O.RMSprop(w.values(), 0.003)),
    "rmsprop, decay, eps and weight decay": (
        fcnn.rmsprop(0.003, decay=0.9, eps=1e-4, weight_decay=0.02),
        lambda w: O.RMSprop(w.values(), 0.003, 0.9, 1e-4, weight_decay=0.02),
    ),
    "rmsprop, momentum": (
        fcnn.rmsprop(0.001, momentum=0.8),
        lambda w: O.RMSprop(w.values(), 0.001, momentum=0.8),
    ),
    "rmsprop, centered": (
        fcnn.rmsprop(0.003, centered=True),
        lambda w: O.RMSprop(w.values(), 0.003, centered=True),
    ),
    "rmsprop, centered, momentum and weight decay": (
        fcnn.rmsprop(0.001, decay=0.95, momentum=0.5, centered=True, weight_decay=0.02),
        lambda w: O.RMSprop(w.values(), 0.001, 0.95, momentum=0.5, centered=True, weight_decay=0.02),
    ),
    "muon": (
        fcnn.by_path(
            {
                "*conv/w": fcnn.muon(0.05, 0.6, steps=3, rescale=True),
                "fc/w": fcnn.muon(0.02),
                "bn/gamma": fcnn.optim.set_to_zero(),
                "*": fcnn.sgd(0.02, 0.85, nesterov=True),
            }
        ),
        lambda w: Several(
            Muon(where(w, lambda path: path.endswith("conv/w")), 0.05, 0.6, 3, True),
            Muon(where(w, lambda path: path == "fc/w"), 0.02, 0.95, 5, False),
            O.SGD(where(w, lambda path: path.endswith(("/b", "beta"))), 0.02, 0.85, nesterov=True),
        ),
    ),
    "weight decay of weights only": (
        fcnn.chain(
            scale_by_adam(),
            fcnn.masked(add_weight_decay(0.2), "*/w"),
            scale_by_learning_rate(0.01),
        ),
        lambda w: O.AdamW(
            [
                {"params": where(w, lambda path: path.endswith("/w")), "weight_decay": 0.2},
                {"params": where(w, lambda path: not path.endswith("/w")), "weight_decay": 0.0},
            ],
            0.01,
        ),
    ),
    "a rate for each group": (
        fcnn.by_path({"fc/*": fcnn.adam(0.02), "bn/*": fcnn.adam(0.001), "*": fcnn.adam(0.005)}),
        lambda w: O.Adam(
            [
                {"params": where(w, lambda path: path.startswith("fc/")), "lr": 0.02},
                {"params": where(w, lambda path: path.startswith("bn/")), "lr": 0.001},
                {"params": where(w, lambda path: not path.startswith(("fc/", "bn/"))), "lr": 0.005},
            ]
        ),
    ),
    "an optimizer for each group": (
        fcnn.by_path({"*/w": fcnn.adamw(0.01), "*": fcnn.sgd(0.05, momentum=0.9)}),
        lambda w: Several(
            O.AdamW(where(w, lambda path: path.endswith("/w")), 0.01),
            O.SGD(where(w, lambda path: not path.endswith("/w")), 0.05, momentum=0.9),
        ),
    ),
}


def follow(
    optimizer: Any, make: Callable[[dict[str, Any]], Any], most: float | None = None, schedule: Any = None
) -> tuple[list[float], list[float]]:
    """Train the network by both for 200 steps; the losses of both, and all parameters and statistics are compared."""
    loss = fcnn.softmax_cross_entropy(0.1)
    state = fcnn.init_state(NETWORK, optimizer, fcnn.key(0), (1, 6, 6), np.float64)
    weights, statistics = tensors(state.params, grad=True), tensors(state.layer_state)
    theirs = make(weights)
    scheduler = schedule and schedule(theirs)
    step, losses, expected = fcnn.train_step(NETWORK, loss, optimizer), [], []
    for at in range(STEPS):
        x, y = batch(at)
        state, record = step(state, (x, y))
        for weight in weights.values():
            weight.grad = None
        value = F.cross_entropy(
            run(NETWORK, weights | statistics, tensor(x), train=True), tensor(y), label_smoothing=0.1
        )
        value.backward()
        if most:
            clipped(list(weights.values()), most)
        theirs.step()
        if scheduler:
            scheduler.step()
        losses.append(record.loss)
        expected.append(value.item())
        for path, leaf in (
            (*flatten(state.params).items(), *flatten(state.layer_state).items()) if at % 20 == 19 else ()
        ):
            assert_close(leaf, (weights | statistics)[path], 1e-10)
    # What rounding differs by, 1e-16, may grow as the paths go on, and in 200 steps by less than a million.
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-10)
    assert losses[-1] < losses[0]
    return losses, expected


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_follow_the_same_path(name: str) -> None:
    follow(*OPTIMIZERS[name])


@pytest.mark.parametrize("name", ["momentum", "adam", "an optimizer for each group"])
def test_clipped_gradients_follow_the_same_path(name: str) -> None:
    optimizer, make = OPTIMIZERS[name]
    most, norms = 0.8, []

    def noted(grads: Tree, state: Tree, params: Tree, step: int) -> Any:
        norms.append(global_norm(grads))
        return Updated(grads, state)

    noting = fcnn.Transform("noting", lambda params: fcnn.freeze({}), noted)
    follow(fcnn.chain(noting, fcnn.clip_by_global_norm(most), optimizer), make, most)
    assert min(norms) < most < max(norms), "some gradients are clipped and some are not"


def test_pytorch_clips_to_the_same_norm_but_for_its_epsilon() -> None:
    grads = fcnn.freeze({"a": np.array([3.0, -4.0]), "b": np.array([[12.0]])})
    theirs = [torch.zeros_like(one) for one in tensors(grads).values()]
    for one, grad in zip(theirs, tensors(grads).values(), strict=True):
        one.grad = grad
    torch.nn.utils.clip_grad_norm_(theirs, 2.0)
    clip = fcnn.clip_by_global_norm(2.0)
    found = clip.update(grads, clip.init(grads), grads, 0).updates
    for leaf, one in zip(flatten(found).values(), theirs, strict=True):
        # PyTorch divides by the norm, 13, plus 1e-6
        np.testing.assert_allclose(leaf, one.grad.numpy(), rtol=1e-6 / 13 * 1.01)


@pytest.mark.parametrize(
    ("average", "theirs"),
    [
        (fcnn.moving_average(1.0, every=7), {}),  # stochastic weight averaging
        (fcnn.moving_average(0.9), {"avg_fn": lambda e, p, n: e + (1 - min(0.9, int(n) / (int(n) + 1))) * (p - e)}),
    ],
    ids=["plain mean", "moving average"],
)
def test_averages_are_those_of_averaged_models(average: Any, theirs: dict[str, Any]) -> None:
    loss, optimizer = fcnn.softmax_cross_entropy(), fcnn.adam(0.01)
    state = average.begin(fcnn.init_state(NETWORK, optimizer, fcnn.key(0), (1, 6, 6), np.float64))
    module = torch.nn.Module()

    def load(values: Tree) -> None:
        for path, leaf in flatten(values).items():
            setattr(module, path.replace("/", "_"), torch.nn.Parameter(tensor(leaf)))

    load(fcnn.freeze({"params": state.params, "state": state.layer_state}))
    averaged = torch.optim.swa_utils.AveragedModel(module, **theirs)
    step = average.step(fcnn.train_step(NETWORK, loss, optimizer))
    for at in range(35):
        state, _ = step(state, batch(at))
        if state.step % average.every == 0:
            load(fcnn.freeze({"params": state.params, "state": state.layer_state}))
            averaged.update_parameters(module)
    found = average.averaged(state)
    for path, leaf in flatten(fcnn.freeze({"params": found.params, "state": found.layer_state})).items():
        assert_close(leaf, getattr(averaged.module, path.replace("/", "_")))


S = O.lr_scheduler


def cosine_warmed_up(optimizer: Any) -> Any:
    return S.ChainedScheduler([S.LinearLR(optimizer, 1 / 20, 1, 19), S.CosineAnnealingLR(optimizer, 200)])


def one_cycle(optimizer: Any, anneal_strategy: str = "linear", **options: Any) -> Any:
    return S.OneCycleLR(optimizer, 1.0, 101, anneal_strategy=anneal_strategy, cycle_momentum=False, **options)


SCHEDULES = {  # the schedule, PyTorch's, and for how many steps they are the same
    "constant": (fcnn.constant_schedule(0.3), lambda o: S.ConstantLR(o, 1.0), 50),
    "step": (fcnn.step_decay(1.0, every=7, factor=0.3), lambda o: S.StepLR(o, 7, 0.3), 120),
    "exponential": (fcnn.step_decay(1.0, every=1, factor=0.95), lambda o: S.ExponentialLR(o, 0.95), 120),
    "cosine": (fcnn.cosine(1.0, steps=120), lambda o: S.CosineAnnealingLR(o, 120), 121),
    "cosine to an end": (fcnn.cosine(1.0, steps=50, end=0.1), lambda o: S.CosineAnnealingLR(o, 50, 0.1), 51),
    "warmup": (fcnn.linear_warmup(1.0, steps=10), lambda o: S.LinearLR(o, 1 / 10, 1, 9), 60),
    "warmup of cosine": (fcnn.linear_warmup(fcnn.cosine(1.0, steps=200), steps=20), cosine_warmed_up, 200),
    "warmup of steps": (
        fcnn.linear_warmup(fcnn.step_decay(1.0, every=15, factor=0.5), steps=8),
        lambda o: S.ChainedScheduler([S.LinearLR(o, 1 / 8, 1, 7), S.StepLR(o, 15, 0.5)]),
        100,
    ),
    "warmup, then another": (
        fcnn.piecewise_linear([(0, 0.1), (10, 1.0), (60, 0.0)]),
        lambda o: S.SequentialLR(o, [S.LinearLR(o, 0.1, 1, 10), S.LinearLR(o, 1, 0, 50)], [10]),
        100,
    ),
    "linear": (fcnn.piecewise_linear([(0, 1.0), (80, 0.05)]), lambda o: S.LinearLR(o, 1, 0.05, 80), 120),
    "polynomial of degree 1": (fcnn.piecewise_linear([(0, 1.0), (80, 0.0)]), lambda o: S.PolynomialLR(o, 80), 120),
    "one cycle": (fcnn.one_cycle(1.0, steps=101), lambda o: one_cycle(o, "cos"), 101),
    "one cycle, linear": (fcnn.one_cycle(1.0, steps=101, shape="linear"), one_cycle, 101),
    "one cycle between other rates": (
        fcnn.one_cycle(1.0, steps=101, rising=0.23, start=0.2, end=0.07),
        lambda o: one_cycle(o, "cos", pct_start=0.23, div_factor=5, final_div_factor=0.2 / 0.07),
        101,
    ),
    "polynomial, upwards": (fcnn.ramp(1.0, steps=80, power=3), lambda o: S.LambdaLR(o, lambda k: (k / 80) ** 3), 81),
    "until": (fcnn.until(1.0, steps=7), lambda o: S.LambdaLR(o, lambda k: float(k < 7)), 20),
    "one cycle of three phases": (
        fcnn.piecewise_linear([(0, 0.1), (0.4 * 101 - 1, 1.0), (0.8 * 101 - 2, 0.1), (100, 1e-3)]),
        lambda o: one_cycle(o, pct_start=0.4, div_factor=10, final_div_factor=100, three_phase=True),
        101,
    ),
    "triangle": (
        fcnn.piecewise_linear([(0, 0.1), (20, 1.0), (40, 0.1), (60, 1.0)]),
        lambda o: S.CyclicLR(o, 0.1, 1.0, 20, cycle_momentum=False),
        61,
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")  # PyTorch's SequentialLR warns of itself
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    mine, make, steps = SCHEDULES[name]
    optimizer = O.SGD([torch.zeros(1, requires_grad=True)], lr=0.3 if name == "constant" else 1.0)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < steps:
            scheduler.step()
    # PyTorch makes each rate of the one before it: 200 roundings of numbers up to 1.
    np.testing.assert_allclose([mine(step) for step in range(steps)], rates, rtol=0, atol=1e-13)


def test_a_schedule_drives_the_same_path() -> None:
    schedule = fcnn.linear_warmup(fcnn.cosine(0.02, steps=200), steps=20)
    follow(fcnn.adam(schedule), lambda w: O.Adam(w.values(), 0.02), schedule=cosine_warmed_up)


class LeNet(torch.nn.Module):
    """The study's network as a PyTorch user writes it."""

    def __init__(self, params: Tree) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterDict(
            {path.replace("/", "_"): tensor(leaf) for path, leaf in flatten(params).items()}
        )

    def forward(self, x: Any) -> Any:
        p = self.weights
        x = F.max_pool2d(F.relu(F.conv2d(x, p["conv1_w"], p["conv1_b"], padding=2)), 2)
        x = F.max_pool2d(F.relu(F.conv2d(x, p["conv2_w"], p["conv2_b"])), 2)
        x = F.relu(F.linear(x.flatten(1), p["fc1_w"], p["fc1_b"]))
        x = F.relu(F.linear(x, p["fc2_w"], p["fc2_b"]))
        return F.linear(x, p["fc3_w"], p["fc3_b"])


def training_split() -> fcnn.Split:
    """MNIST where $FCNN_DATA has it, else noisy copies of ten random pictures."""
    if folder := os.environ.get("FCNN_DATA"):
        with contextlib.suppress(fcnn.data.DataError):
            return fcnn.data.load("mnist", folder).train
    rng = np.random.default_rng(0)
    pictures = np.kron(rng.integers(0, 200, (10, 1, 7, 7)), np.ones((4, 4), int))
    labels = rng.integers(0, 10, 640)
    noisy = pictures[labels] + rng.integers(0, 56, (640, 1, 28, 28))
    return fcnn.Split(noisy.astype(np.uint8), labels)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-10), (np.float32, 1e-4)], ids=["float64", "float32"])
def test_lenet_has_the_same_losses_for_a_hundred_steps_of_adam(dtype: type, bound: float) -> None:
    model, loss, optimizer = fcnn.lenet5(), fcnn.softmax_cross_entropy(), fcnn.adam(1e-3)
    start = fcnn.init_state(model, optimizer, fcnn.key(0), (1, 28, 28), dtype)
    stream = [
        fcnn.Batch(b.x.astype(dtype), b.y)
        for _, b in zip(range(100), fcnn.batches(training_split(), 32, fcnn.key(1), epochs=5), strict=False)
    ]
    assert len(stream) == 100

    reference = LeNet(start.params)
    logits = model.apply(start.params, start.layer_state, stream[0].x, train=False).y
    assert_close(logits, reference(tensor(stream[0].x)))

    _, records = fcnn.fold(fcnn.train_step(model, loss, optimizer), start, stream)
    theirs = []
    adam = torch.optim.Adam(reference.parameters(), 1e-3)
    for batch in stream:
        adam.zero_grad()
        value = F.cross_entropy(reference(tensor(batch.x)), tensor(batch.y))
        value.backward()
        adam.step()
        theirs.append(value.item())
    assert theirs[-1] < 0.5 * theirs[0]
    # a hundred steps of Adam carry roundings on, 1.1e-16 or 6e-8 each; a thousandfold is much
    np.testing.assert_allclose([record.loss for record in records], theirs, rtol=0, atol=bound)
