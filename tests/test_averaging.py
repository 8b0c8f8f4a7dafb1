"""Averages of a network's values: the published formulas, step by step, and the bits of runs that stop and go on."""

import copy
import pickle

import attrs
import numpy as np
import pytest

import fcnn
from fcnn import Averaging, TrainState, fold, lookahead, moving_average, scan, tree
from fcnn.training.averaging import averaged_values, begun
from fcnn.values.tree import EMPTY, flatten

NETWORK = fcnn.serial(
    conv=fcnn.conv2d(3, 3), bn=fcnn.batch_norm(), act=fcnn.relu(), flat=fcnn.flatten(), fc=fcnn.dense(3)
)
LOSS, ADAM = fcnn.softmax_cross_entropy(), fcnn.adam(0.01)
STEP = fcnn.train_step(NETWORK, LOSS, ADAM)
DIGITS = fcnn.data.make_digits(fcnn.key(3), 200)
AVERAGES = [
    lookahead(0.8),
    lookahead(fcnn.ramp(0.95**5, steps=23, power=3), every=3),
    moving_average(0.9),
    moving_average(fcnn.ramp(0.9, steps=10), every=2),
    moving_average(1.0, every=4),
]
every_average = pytest.mark.parametrize("average", AVERAGES, ids=str)


def start(dtype=np.float64) -> TrainState:
    return fcnn.init_state(NETWORK, ADAM, fcnn.key(0), (1, 6, 6), dtype)


def batches(count: int, dtype=np.float64) -> list[fcnn.Batch]:
    rng = np.random.default_rng(5)
    return [fcnn.Batch(rng.standard_normal((8, 1, 6, 6)).astype(dtype), rng.integers(0, 3, 8)) for _ in range(count)]


def values(state: TrainState) -> dict[str, np.ndarray]:
    return {**flatten(state.params), **flatten(state.layer_state)}


def decay_of(average: Averaging, steps: int) -> float:
    """The formulas as the docstrings have them, for the rows above."""
    match AVERAGES.index(average):
        case 0:
            return 0.8
        case 1:
            return 0.95**5 * min(steps / 23, 1) ** 3
        case 2:
            return min(0.9, (steps - 1) / steps)
        case 3:
            return min(0.9 * min(steps / 10, 1), (steps // 2 - 1) / (steps // 2))
        case _:
            return (steps // 4 - 1) / (steps // 4)


@every_average
def test_averages_are_those_of_the_formula(average):
    plain = averaging = start()
    averaging, expected = average.begin(averaging), values(plain)
    for number, batch in enumerate(batches(24), 1):
        plain, record = STEP(plain, batch)
        averaging, found = average.step(STEP)(averaging, batch)
        if number % average.every == 0:
            d = decay_of(average, number)
            expected = {path: e + (1 - d) * (values(plain)[path] - e) for path, e in expected.items()}
            if average.name == "lookahead":
                params = tree.unflatten({path: expected[path] for path in flatten(plain.params)})
                state = tree.unflatten({path: expected[path] for path in flatten(plain.layer_state)})
                plain = attrs.evolve(plain, params=params, layer_state=state)
        assert found == record
        for path, leaf in values(average.averaged(averaging)).items():
            # Some roundings of numbers around 1; that a decay of 0 takes the value itself is one.
            np.testing.assert_allclose(leaf, expected[path], rtol=0, atol=1e-13, err_msg=path)
        for path, leaf in values(averaging).items():
            np.testing.assert_allclose(leaf, values(plain)[path], rtol=0, atol=1e-13, err_msg=path)
    assert averaging.step == 24
    assert average.averaged(averaging).params != start().params


def test_an_average_that_never_forgets_is_the_mean_of_all():
    average = moving_average(1.0, every=2)
    states = [state for state, _ in scan(average.step(STEP), average.begin(start()), batches(10))]
    means = {path: np.mean([values(state)[path] for state in states[1::2]], axis=0) for path in values(start())}
    for path, leaf in values(average.averaged(states[-1])).items():
        np.testing.assert_allclose(leaf, means[path], rtol=0, atol=1e-14, err_msg=path)  # five roundings


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_average
def test_steps_are_pure_and_keep_dtypes(average, dtype):
    first, step = average.begin(start(dtype)), average.step(STEP)
    before = pickle.dumps(first)
    found, _ = fold(step, first, batches(7, dtype))
    assert fold(step, first, batches(7, dtype))[0] == found
    assert pickle.dumps(first) == before
    for part in (found.params, found.layer_state, found.opt_state):
        assert {(leaf.dtype, leaf.flags.writeable) for leaf in flatten(part).values()} == {(np.dtype(dtype), False)}


def test_several_averages_lie_side_by_side():
    ahead, mean = lookahead(0.5, every=2), moving_average(0.9)
    both = mean.step(ahead.step(STEP))
    found, _ = fold(both, mean.begin(ahead.begin(start())), batches(6))
    alone, _ = fold(ahead.step(STEP), ahead.begin(start()), batches(6))
    assert found.params == alone.params == ahead.averaged(found).params != mean.averaged(found).params


def test_what_stands_still_stands_still_in_averages_and_counts_are_not_averaged():
    @fcnn.layer_constructor
    def counting() -> fcnn.Functions:
        def init(key, in_shape):
            return fcnn.Init(EMPTY, fcnn.freeze({"calls": np.zeros(1)}), in_shape)

        def apply(params, state, x, *, train, key=None):
            return fcnn.Out(x, fcnn.freeze({"calls": state["calls"].astype(np.int64) + 1}), None)

        def backward(params, cache, dy, *, need_dx=True):
            return fcnn.Grads(dy, EMPTY)

        return fcnn.Functions(init, apply, backward)

    network = fcnn.hold(fcnn.serial(count=counting(), fc1=fcnn.dense(3), act=fcnn.tanh(), fc2=fcnn.dense(3)), "fc1")
    state, average = fcnn.init_state(network, ADAM, fcnn.key(0), (4,)), lookahead(0.7, every=2)
    stream = [(np.ones((2, 4), np.float32), np.array([0, 1]))] * 5
    found, _ = fold(average.step(fcnn.train_step(network, LOSS, ADAM)), average.begin(state), stream)
    assert average.averaged(found).params["fc1"] == found.params["fc1"] == state.params["fc1"]
    assert average.averaged(found).layer_state["count"]["calls"].tolist() == [4]
    assert average.averaged(found).params["fc2"] != found.params["fc2"] != state.params["fc2"]


@every_average
def test_an_averaging_prints_as_the_call_that_makes_it_again_and_pickles(average):
    for again in (eval(str(average), vars(fcnn).copy()), pickle.loads(pickle.dumps(average))):
        assert str(again) == str(average)
        assert fold(again.step(STEP), again.begin(start()), batches(7)) == fold(
            average.step(STEP), average.begin(start()), batches(7)
        )
    assert copy.deepcopy(average) is copy.copy(average) is average


def test_an_averaging_of_ones_own():
    own = Averaging("own", 2, np.reciprocal, goes_on_from_it=False)
    assert (str(own), str(pickle.loads(pickle.dumps(own)))) == ("own()", "own()")
    found, _ = fold(own.step(STEP), own.begin(start()), batches(2))
    assert own.averaged(found).params == found.params  # 1 / 2 of integers is 0


def test_without_an_averaging_values_are_the_states_own():
    state = start()
    assert begun(None, state) is state
    assert averaged_values(None, state) == (state.params, state.layer_state)


NET = fcnn.serial(conv=fcnn.conv2d(3, 5, stride=4), bn=fcnn.batch_norm(), flat=fcnn.flatten(), fc=fcnn.dense(10))


def run(average, **options):
    data = fcnn.Dataset(DIGITS.take(150), DIGITS.take(list(range(150, 200))), "digits", tuple("0123456789"))
    settings = {"epochs": 3, "batch_size": 32, "seed": 5, "workers": 1, "progress": False, **options}
    return fcnn.fit(NET, data, average=average, **settings), data


@pytest.mark.parametrize("average", [lookahead(0.6, every=4), moving_average(0.95)], ids=str)
def test_fit_evaluates_and_hands_out_the_averages_and_goes_on_to_the_same_bits(tmp_path, average):
    whole, data = run(average)
    averages = average.averaged(whole.state)
    assert (whole.model.params, whole.model.state) == (averages.params, averages.layer_state)
    assert whole.model.params != whole.state.params
    expected = fcnn.evaluate(NET, averages.params, averages.layer_state, data.test)
    assert whole.history[-1]["validation_loss"] == expected.loss
    for epochs in (1, 2, 3):
        again, _ = run(average, epochs=epochs, folder=tmp_path / "run", resume=epochs > 1)
    assert again.state == whole.state
    assert again.model.params == whole.model.params
    half, _ = run(average, epochs=1)
    on, _ = run(average, start=half.state)
    assert on.state == whole.state
    from_model, _ = run(average, start=half.model, epochs=0)
    assert average.averaged(from_model.state).params == half.model.params
    with pytest.raises(fcnn.RunError, match=rf"average: '{average.name}\(.*', now 'None'"):
        run(None, folder=tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match=rf"start's optimizer's state .*\n  {average.name}/params/conv/w: missing"):
        run(average, start=run(None, epochs=1)[0].state)


def test_a_run_from_before_there_were_averages_goes_on(tmp_path, monkeypatch):
    before = run(None, epochs=1, folder=tmp_path / "run")[0]
    meta = fcnn.load_meta(tmp_path / "run" / "epoch-01.npz")
    del meta["fit"]["average"]
    fcnn.save(tmp_path / "run" / "epoch-01.npz", before.state, meta=meta)
    assert run(None, folder=tmp_path / "run", resume=True)[0].state == run(None)[0].state
