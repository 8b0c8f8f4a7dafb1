"""The recipe of the CIFAR-10 record, step by step beside a script for PyTorch: every number of both networks.

K. Jordan, arXiv 2404.00498 (airbench94): whitening, dirac, batch norm's biases at 64 times the rate, lookahead; and the
variant of 2024 by Muon. The script sums the loss over the batch, where `softmax_cross_entropy` is the mean: with rates
times the batch's size, and coefficients of L2 divided by it, that is the same.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from parity import F, Muon, one_thread, tensor, tensors, torch
from records import cifar10

import fcnn
from fcnn import optim, tree
from fcnn.values.tree import flatten

__all__ = ["one_thread"]  # a fixture of all tests here

N, STEPS = 16, 20
WIDTHS = (8, 16, 16)  # a few of the paper's (64, 256, 256), for the time
MOMENTUM = 0.85
KILOSTEP = 1024 * (1 + 1 / (1 - MOMENTUM))
LR, DECAY = 11.5 / KILOSTEP, 0.0153 * N / KILOSTEP


def batch(step: int) -> fcnn.Batch:
    """Noisy pictures of ten, smooth as photographs are."""
    rng = np.random.default_rng(step)
    pictures = np.random.default_rng(0).standard_normal((10, 3, 4, 4)).repeat(8, axis=2).repeat(8, axis=3)
    labels = rng.integers(0, 10, N)
    return fcnn.Batch(pictures[labels] + 0.5 * rng.standard_normal((N, 3, 32, 32)), labels)


def close(found: np.ndarray, expected: Any) -> None:
    """Within 1e-9 of the greatest number: rounding, 1e-16, may grow over 20 steps; 1e-14 was seen, by Muon 5e-13."""
    expected = expected.detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def all_close(state: fcnn.TrainState, weights: dict[str, Any]) -> None:
    for path, leaf in (*flatten(state.params).items(), *flatten(state.layer_state).items()):
        close(leaf, weights[path])


# As the library has it.


def network_of(divisor: float) -> fcnn.Layer:
    return fcnn.hold(fcnn.airbench(WIDTHS, divisor=divisor), "whiten", only="w")


def first_state(network: fcnn.Layer, optimizer: fcnn.Transform) -> fcnn.TrainState:
    state = fcnn.init_state(network, optimizer, fcnn.key(0), (3, 32, 32), np.float64)
    params = tree.set_at(state.params, "whiten/w", fcnn.whitening_filters(batch(99).x))
    return fcnn.TrainState(params, state.layer_state, optimizer.init(params), 0, state.key)


def sgd(lr: float, rate: Callable[[float], Any]) -> fcnn.Transform:
    return fcnn.sgd(rate(lr * N), MOMENTUM, nesterov=True, weight_decay=DECAY / lr / N)


def of_the_paper(total: int, whitening_steps: int) -> fcnn.Transform:
    def rate(lr: float) -> Any:
        return fcnn.piecewise_linear([(0, 0.2 * lr), (int(0.23 * total), lr), (total, 0.07 * lr)])

    return fcnn.by_path(
        {
            "*/gamma": optim.set_to_zero(),
            "*/beta": sgd(64 * LR, rate),
            "whiten/b": sgd(LR, lambda lr: fcnn.until(rate(lr), steps=whitening_steps)),
            "*": sgd(LR, rate),
        }
    )


def by_muon(total: int, whitening_steps: int) -> fcnn.Transform:
    return cifar10.optimizer(total, whitening_steps, N)


# As a script for PyTorch has it.


def forward(weights: dict[str, Any], x: Any, divisor: float, *, train: bool = True) -> Any:
    def norm(x: Any, path: str) -> Any:
        mean, var, gamma, beta = (weights[f"{path}/{name}"] for name in ("mean", "var", "gamma", "beta"))
        return F.gelu(F.batch_norm(x, mean, var, gamma, beta, train, 1 - 0.6, 1e-12))

    x = F.gelu(F.conv2d(x, weights["whiten/w"], weights["whiten/b"]))
    for group in ("group1", "group2", "group3"):
        x = norm(F.max_pool2d(F.conv2d(x, weights[f"{group}/conv1/w"], padding=1), 2), f"{group}/bn1")
        x = norm(F.conv2d(x, weights[f"{group}/conv2/w"], padding=1), f"{group}/bn2")
    return F.linear(F.max_pool2d(x, 3).flatten(1), weights["head/w"]) / divisor


def chosen(weights: dict[str, Any], ends: str | tuple[str, ...]) -> list[Any]:
    return [weight for path, weight in weights.items() if path.endswith(ends)]


class Paper:
    """SGD with two groups, of which the biases of batch norm are one; the whitening bias learns for some steps."""

    def __init__(self, weights: dict[str, Any], total: int, whitening_steps: int) -> None:
        self.bias, self.whitening_steps, self.at = weights["whiten/b"], whitening_steps, 0
        groups = [
            {"params": chosen(weights, ends), "lr": lr, "weight_decay": DECAY / lr}
            for ends, lr in (("beta", 64 * LR), (("conv1/w", "conv2/w", "head/w", "whiten/b"), LR))
        ]
        self.optimizer = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
        multipliers = np.interp(range(total + 1), [0, int(0.23 * total), total], [0.2, 1, 0.07])
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: multipliers[step])

    def step(self) -> None:
        if self.at >= self.whitening_steps:
            self.bias.grad = None
        self.optimizer.step()
        self.scheduler.step()
        self.at += 1


class ByMuon:
    """SGD for all but filters, and Muon for these; rates fall to 0."""

    def __init__(self, weights: dict[str, Any], total: int, whitening_steps: int) -> None:
        self.total, self.whitening_steps, self.at = total, whitening_steps, 0
        rates = {"whiten/b": 0.053, "beta": 0.053, "head/w": 0.67}
        groups = [
            {"params": chosen(weights, end), "lr": lr, "initial_lr": lr, "weight_decay": 2e-6 * N / lr}
            for end, lr in rates.items()
        ]
        self.optimizer = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
        self.muon = Muon(chosen(weights, ("conv1/w", "conv2/w")), 0.24, 0.6, 3, rescale=True)

    def step(self) -> None:
        first, *others = self.optimizer.param_groups
        first["lr"] = first["initial_lr"] * max(0, 1 - self.at / self.whitening_steps)
        for group in others:
            group["lr"] = group["initial_lr"] * (1 - self.at / self.total)
        self.muon.lr = 0.24 * (1 - self.at / self.total)
        self.optimizer.step()
        self.muon.step()
        self.at += 1


class Lookahead:
    """A copy of all floats, batch norm's statistics too, to which the network goes back every five steps."""

    def __init__(self, weights: dict[str, Any], total: int) -> None:
        self.weights, self.total = weights, total
        self.averages = {path: weight.detach().clone() for path, weight in weights.items()}

    @torch.no_grad()
    def update(self, decay: float) -> None:
        for path, weight in self.weights.items():
            self.averages[path].lerp_(weight, 1 - decay)
            weight.copy_(self.averages[path])

    def after(self, step: int) -> None:
        if step % 5 == 0:
            self.update(0.95**5 * (step / self.total) ** 3)


@pytest.mark.parametrize(
    ("optimizer", "theirs", "total", "whitening_steps", "divisor", "looks_ahead"),
    [
        (of_the_paper, Paper, 476, 144, 9.0, True),
        (of_the_paper, Paper, 20, 8, 9.0, True),
        (by_muon, ByMuon, 200, 75, 16.0, False),
        (by_muon, ByMuon, 20, 8, 16.0, False),
    ],
    ids=["the paper", "the paper, in few steps", "by muon", "by muon, in few steps"],
)
def test_the_first_steps_are_those_of_the_script(
    optimizer: Any, theirs: Any, total: int, whitening_steps: int, divisor: float, looks_ahead: bool
) -> None:
    transform, network = optimizer(total, whitening_steps), network_of(divisor)
    state = first_state(network, transform)
    step = fcnn.train_step(network, fcnn.softmax_cross_entropy(0.2), transform)
    average = fcnn.lookahead(fcnn.ramp(0.95**5, steps=total, power=3), every=5)
    weights = tensors(state.params, state.layer_state)
    for path, weight in weights.items():
        weight.requires_grad_(path.endswith(("/w", "/b", "/beta")) and path != "whiten/w")
    learn = theirs(weights, total, whitening_steps)
    ahead = Lookahead(weights, total)
    if looks_ahead:
        state, step = average.begin(state), average.step(step)
    for number in range(1, min(total, STEPS) + 1):
        images = batch(number)
        state, record = step(state, images)
        for weight in weights.values():
            weight.grad = None
        outputs = forward(weights, tensor(images.x), divisor)
        loss = F.cross_entropy(outputs, tensor(images.y), label_smoothing=0.2, reduction="sum")
        loss.backward()
        learn.step()
        if looks_ahead:
            ahead.after(number)
        assert record.loss == pytest.approx(loss.item() / N, rel=1e-9)
        all_close(state, weights)
    if looks_ahead:
        ahead.update(1.0)
        state = average.averaged(state)
        all_close(state, weights)
    x = batch(0).x
    outputs = fcnn.predictor(network, state.params, state.layer_state)(x)
    close(outputs, forward(weights, tensor(x), divisor, train=False))
    assert (state.params["group1"]["bn1"]["gamma"] == 1).all()
    assert state.params["whiten"]["w"].tobytes() == fcnn.whitening_filters(batch(99).x).tobytes()


def test_by_fit_in_one_run_or_in_two_of_which_the_second_holds_what_has_learnt_it_has_the_same_bits() -> None:
    """Where the whitening bias stands still, nothing before the first group need be computed backwards."""
    images = np.concatenate([batch(number).x for number in range(6)]).astype(np.float32)
    data = fcnn.Split(images, np.concatenate([batch(number).y for number in range(6)]))
    total, first = 4 * 6, 2 * 6
    transform, network = of_the_paper(total, first), network_of(9.0)
    start = fcnn.init_state(network, transform, fcnn.key(0), (3, 32, 32))
    params = tree.set_at(start.params, "whiten/w", fcnn.whitening_filters(images))
    model = fcnn.Model(network, params, start.layer_state, in_shape=(3, 32, 32))
    average = fcnn.lookahead(fcnn.ramp(0.95**5, steps=total, power=3), every=5)

    def fit(network: fcnn.Layer, **options: Any) -> fcnn.Fitted:
        loss = fcnn.softmax_cross_entropy(0.2)
        settings = {"batch_size": N, "optimizer": transform, "loss": loss, "average": average, "progress": False}
        return fcnn.fit(network, data, **settings, **options)

    whole = fit(network, start=model, epochs=4)
    half = fit(network, start=model, epochs=2)
    other = fit(fcnn.hold(network, "whiten"), start=half.state, epochs=4)
    assert half.model.params["whiten"]["b"].any()
    assert (other.model.params, other.model.state) == (whole.model.params, whole.model.state)
    assert (other.state.params, other.state.layer_state) == (whole.state.params, whole.state.layer_state)
    assert [item["epoch"] for item in other.history] == [3, 4]
