"""`fit`: the bits of the fold by hand, whatever runs it, however often it is stopped; own data; early stopping."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import fcnn
from fcnn import DivergedError, Fitted, InterruptedFit, RunError, Split, fit, parallel, tree
from fcnn.training.epochs import epoch_line
from fcnn.training.runs import claimed
from fcnn.values.keys import fold_in, key

DIGITS = fcnn.data.make_digits(key(3), 400)
KEY = key(0)
DATA = fcnn.Dataset(DIGITS.take(300), DIGITS.take(list(range(300, 400))), "digits", tuple("0123456789"))
SMALL = fcnn.serial(
    conv=fcnn.conv2d(3, 5, stride=3), act=fcnn.relu(), drop=fcnn.dropout(0.2), flat=fcnn.flatten(), out=fcnn.dense(10)
)
NORMED = fcnn.serial(conv=fcnn.conv2d(3, 5, stride=3), bn=fcnn.batch_norm(), flat=fcnn.flatten(), out=fcnn.dense(10))


def run(network=SMALL, data=DATA, **options):
    return fit(network, data, **{"epochs": 2, "batch_size": 64, "seed": 5, "workers": 1, "progress": False, **options})


def timeless(history):
    return [{k: v for k, v in item.items() if k not in ("seconds", "images_per_second")} for item in history]


def by_hand(network, shard_size, epochs=2):
    """The fold that `fit` is made of."""
    optimizer, loss = fcnn.adam(1e-3), fcnn.softmax_cross_entropy()
    start = fcnn.init_state(network, optimizer, fold_in(key(5), "model"), (1, 28, 28))
    stream = fcnn.batches(DATA.train, 64, fold_in(key(5), "batches"), epochs=epochs)
    with parallel.threads(1):
        gradient = fcnn.gradient(network, loss)
        gradient = parallel.sharded(gradient, shard_size) if shard_size else gradient
        return fcnn.fold(fcnn.train_step(network, loss, optimizer, gradient), start, stream)[0]


@pytest.mark.parametrize(
    ("network", "options", "shard_size"),
    [(SMALL, {}, 64), (SMALL, {"shard_size": 20}, 20), (SMALL, {"shard_size": 0}, 0), (NORMED, {}, 0)],
    ids=["default", "shards of 20", "whole batches", "batch norm"],
)
def test_the_bits_are_those_of_the_fold_by_hand(network, options, shard_size):
    assert run(network, **options).state == by_hand(network, shard_size)


@pytest.mark.parametrize("workers", [2, 3])
def test_the_bits_do_not_depend_on_how_many_work(workers):
    alone = run(shard_size=16)
    assert run(shard_size=16, workers=workers).state == alone.state
    if hasattr(os, "fork"):
        assert run(shard_size=16, workers=parallel.processes(workers)).state == alone.state


def test_the_history_says_what_was_seen():
    found = run(epochs=2, metrics=[lambda y, t: 7.0, top_three])
    assert [item["epoch"] for item in found.history] == [1, 2]
    values = found.state.params, found.state.layer_state
    last, expected = found.history[-1], fcnn.evaluate(SMALL, *values, DATA.test)
    assert (last["validation_loss"], last["validation_accuracy"]) == (expected.loss, expected.accuracy)
    assert last["metrics"] == {"<lambda>": 7.0, "top_three": top_three(expected.outputs, DATA.test.y)}
    assert last["train_loss"] < found.history[0]["train_loss"]
    assert 0 < last["train_accuracy"] < 1
    assert json.loads(json.dumps(found.history)) == list(found.history)
    assert re.fullmatch(r"Fitted\(2 epochs; epoch 2: training loss .*, accuracy .*; validation loss .*\)", repr(found))
    assert (found.model.network, found.model.in_shape, found.model.classes) == (SMALL, (1, 28, 28), DATA.classes)
    assert found.model.params == found.state.params


def top_three(outputs, targets):
    return float(np.mean([target in np.argsort(-row)[:3] for row, target in zip(outputs, targets, strict=True)]))


def test_stopped_after_any_epoch_and_resumed_it_ends_with_the_same_bits(tmp_path):
    whole = run(epochs=3)
    run(epochs=1, folder=tmp_path / "run")
    run(epochs=2, folder=tmp_path / "run", resume=True)
    again = run(epochs=3, folder=tmp_path / "run", resume=True)
    assert again.state == whole.state
    assert timeless(again.history) == timeless(whole.history)
    written = json.loads((tmp_path / "run" / "history.json").read_text())
    assert timeless(written["epochs"]) == timeless(whole.history)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "epoch-01.npz", "epoch-02.npz", "epoch-03.npz", "history.json",
    ]  # fmt: skip
    finished = run(epochs=3, folder=tmp_path / "run", resume=True)
    assert (finished.state, finished.history) == (again.state, again.history)


def test_resuming_what_has_not_begun_begins(tmp_path):
    assert run(folder=tmp_path / "new", resume=True).state == run().state


CODE = """
import sys
import test_fit
print("ready", flush=True)
test_fit.run(epochs=int(sys.argv[2]), folder=sys.argv[1], optimizer=test_fit.fcnn.adam(1e-3), resume=len(sys.argv) > 3)
"""


def start(folder, epochs):
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CODE, str(folder), str(epochs)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=os.path.dirname(__file__),
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def wait_for(path, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"no {path.name} after {seconds} s"
        time.sleep(0.01)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda sent: sent.name)
def test_killed_or_interrupted_anywhere_it_goes_on_to_the_same_bits(tmp_path, sent):
    folder = tmp_path / "run"
    process = start(folder, 5_000)
    wait_for(folder / "epoch-02.npz")
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    if sent != signal.SIGKILL:
        assert "interrupted after step" in err
        assert "go on with resume=True" in err
    epochs = len(list(folder.glob("epoch-*.npz"))) + 1
    again = run(epochs=epochs, folder=folder, resume=True)
    whole = run(epochs=epochs)
    assert again.state == whole.state
    assert timeless(again.history) == timeless(whole.history)
    assert timeless(json.loads((folder / "history.json").read_text())["epochs"]) == timeless(whole.history)


def test_an_interrupted_fit_without_a_folder_loses_nothing():
    calls = []

    def interrupting(key, batch):
        calls.append(key)
        if len(calls) == 7:
            signal.raise_signal(signal.SIGINT)
        return batch

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(InterruptedFit, match="interrupted after step 7; it is in this error's `fitted`") as caught:
        run(transform=interrupting)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert isinstance(caught.value, KeyboardInterrupt)
    reached = caught.value.fitted
    assert (reached.state.step, len(reached.history)) == (7, 1)
    assert run(start=reached.state).state == run().state


def test_in_another_thread_signals_are_left_alone():
    found = []
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=lambda: found.append(run()))
    thread.start()
    thread.join()
    assert found[0].state == run().state
    assert signal.getsignal(signal.SIGINT) is before


def test_what_depends_on_the_epoch_goes_on_where_it_was(tmp_path):
    flip = fcnn.data.alternating_flip(key(1))
    whole = run(epochs=3, transform=flip)
    calls = []

    def interrupting(k, batch):
        calls.append(batch.epoch)
        if len(calls) == 7:
            signal.raise_signal(signal.SIGINT)
        return flip(k, batch)

    with pytest.raises(InterruptedFit) as caught:
        run(epochs=3, transform=interrupting)
    assert calls == [0] * 5 + [1, 1]
    assert run(epochs=3, start=caught.value.fitted.state, transform=flip).state == whole.state
    run(epochs=1, transform=flip, folder=tmp_path)
    assert run(epochs=3, transform=flip, folder=tmp_path, resume=True).state == whole.state
    with pytest.raises(RunError, match=r"transform: 'alternating_flip\(key=Key\(0x"):
        run(epochs=3, transform=fcnn.data.alternating_flip(key(2)), folder=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 32}, "batch_size: 64, now 32"),
        ({"seed": 6}, "seed: 5, now 6"),
        ({"optimizer": fcnn.adam(1e-2)}, r"optimizer: 'adam\(0.001\)', now 'adam\(0.01\)'"),
        ({"optimizer": fcnn.adam(fcnn.cosine(1e-3, steps=9))}, r"now 'adam\(cosine\(0.001, steps=9\)\)'"),
        ({"loss": fcnn.softmax_cross_entropy(0.1)}, r"now 'softmax_cross_entropy\(label_smoothing=0.1\)'"),
        ({"shard_size": 0}, "shard_size: 64, now 0"),
        ({"drop_last": True}, "drop_last: False, now True"),
        ({"transform": fcnn.data.random_shift(2)}, r"transform: 'None', now \"random_shift\(pixels=2"),
        ({"network": NORMED}, "network: another one"),
        ({"network": fcnn.hold(SMALL, "conv")}, r"held: \[\], now \['conv'\]"),
        ({"data": DATA.train.take(list(range(300))[::-1])}, "data: '[0-9a-f]{32}', now '[0-9a-f]{32}'"),
        ({"data": DATA.train.take(200)}, r"train: 'Split\(300 images of 1x28x28\)', now 'Split\(200"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_settings_are_refused_with_the_difference(tmp_path, options, message):
    run(epochs=1, folder=tmp_path)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunError, match=f"(?s)is a run with other settings:.*{message}"):
        run(**{"epochs": 2, "folder": tmp_path, "resume": True, **options})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept


def test_a_folder_belongs_to_one_run(tmp_path):
    run(epochs=1, folder=tmp_path / "a")
    with pytest.raises(RunError, match="is not empty; go on with resume, or choose another folder"):
        run(folder=tmp_path / "a")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="is not empty, and holds no checkpoint of a run; choose another folder"):
        run(folder=tmp_path / "mine")
    with pytest.raises(RunError, match=r"can't make the folder .*choose another"):
        run(folder=tmp_path / "mine" / "thesis.txt" / "run")
    with claimed(tmp_path / "b", resume=False), pytest.raises(RunError, match="belongs to a run that is going on"):
        run(folder=tmp_path / "b", resume=True)
    run(epochs=1, folder=tmp_path / "b")


def test_a_run_that_was_killed_leaves_no_claim(tmp_path):
    process = start(tmp_path / "run", 5_000)
    wait_for(tmp_path / "run")
    process.kill()
    process.communicate()
    for leftover in (tmp_path / "run").glob("epoch-*"):
        leftover.unlink()
    (tmp_path / "run" / "history.json").unlink(missing_ok=True)
    (tmp_path / "run" / ".epoch-01.npz.fcnn-0123456789abcdef.tmp").write_text("half a checkpoint")
    assert run(epochs=1, folder=tmp_path / "run").history


def test_it_goes_on_from_a_model_or_a_state():
    first = run(epochs=1)
    assert run(epochs=2, start=first.state).state == run(epochs=2).state
    tuned = run(epochs=1, start=first.model, optimizer=fcnn.sgd(0.0))
    assert tuned.state.params == first.state.params
    assert tuned.state.step == 5
    with pytest.raises(ValueError, match=r"(?s)the start's parameters are not the network's.*bn/gamma: missing"):
        run(NORMED, start=first.model)


def test_a_start_of_other_shapes_is_told_with_its_paths():
    wider = fcnn.serial(flat=fcnn.flatten(), out=fcnn.dense(12))
    narrow = fcnn.serial(flat=fcnn.flatten(), out=fcnn.dense(10))
    first = run(wider, epochs=1)
    message = r"(?s)the start's parameters .*set_at.*out/w: \(12, 784\), the network has \(10, 784\)"
    for start in (first.model, first.state):
        with pytest.raises(ValueError, match=message):
            run(narrow, start=start)
    with pytest.raises(ValueError, match=r"(?s)the start's optimizer's state .*velocity/out/w: missing"):
        run(wider, start=first.state, optimizer=fcnn.sgd(0.1, momentum=0.9))
    fresh = narrow.init(KEY, (1, 28, 28)).params
    params = tree.set_at(first.model.params, "out", fresh["out"])
    tuned = fcnn.Model(narrow, params, in_shape=(1, 28, 28))
    assert run(narrow, start=tuned).model.network is narrow


def test_epochs_are_numbered_on_from_a_state(tmp_path):
    state = run(epochs=2).state
    found = run(epochs=4, start=state, folder=tmp_path / "a", validation=60, patience=1)
    numbers = [item["epoch"] for item in found.history]
    assert numbers[0] == 3
    assert found.best_epoch in numbers
    files = sorted(path.name for path in (tmp_path / "a").glob("epoch-*"))
    assert files == [f"epoch-{number:02d}.npz" for number in numbers]
    assert found.state == fcnn.load(tmp_path / "a" / f"epoch-{found.best_epoch:02d}.npz", like=found.state)


def test_early_stopping_gives_the_best_state_and_says_so(tmp_path):
    def worse_and_worse(step):  # a learning rate that ruins what was learnt
        return 1e-3 if step < 10 else 0.3

    options = {"optimizer": fcnn.adam(worse_and_worse), "epochs": 20, "validation": 60, "patience": 2}
    found = run(**options, folder=tmp_path / "a")
    losses = [item["validation_loss"] for item in found.history]
    assert found.best_epoch == int(np.argmin(losses)) + 1 == len(losses) - 2
    assert found.state == fcnn.load(tmp_path / "a" / f"epoch-{found.best_epoch:02d}.npz", like=found.state)
    assert f"the best after epoch {found.best_epoch}" in repr(found)
    kept = DATA.train.take(list(range(240, 300)))
    assert fcnn.evaluate(SMALL, found.state.params, found.state.layer_state, kept).loss == min(losses)
    again = run(**options, folder=tmp_path / "a", resume=True)
    assert (again.state, again.best_epoch) == (found.state, found.best_epoch)


def test_resumed_within_an_epoch_the_best_state_is_still_that_of_an_epochs_end(tmp_path):
    calls, at = [], 0

    def rate(step):  # it ruins what was learnt in the first two epochs of four steps
        return 1e-3 if step < 8 else 0.3

    def interrupting(key, batch):
        calls.append(key)
        if len(calls) == at:
            signal.raise_signal(signal.SIGINT)
        return batch

    options = {"optimizer": fcnn.adam(rate), "epochs": 20, "validation": 60, "patience": 2, "transform": interrupting}
    whole = run(**options)
    calls, at = [], 4 * whole.best_epoch + 2
    with pytest.raises(InterruptedFit):
        run(**options, folder=tmp_path / "a")
    found = run(**options, folder=tmp_path / "a", resume=True)
    assert found.best_epoch == whole.best_epoch
    assert found.state == whole.state
    assert found.state.step == 4 * whole.best_epoch


def test_a_metric_that_is_not_finite_costs_nothing(tmp_path):
    def nan(outputs, targets):
        return float("nan")

    found = run(metrics=[nan, nan, top_three], folder=tmp_path / "a")
    assert list(found.history[-1]["metrics"]) == ["nan", "nan 2", "top_three"]
    assert found.history[-1]["metrics"]["nan"] is None
    assert "nan not finite" in epoch_line(found.history[-1])
    assert "top_three" in found._repr_html_()


def test_what_only_looks_like_a_checkpoint_is_none(tmp_path):
    run(epochs=2, folder=tmp_path / "a")
    (tmp_path / "a" / "epoch-01-best.npz").write_bytes((tmp_path / "a" / "epoch-01.npz").read_bytes())
    assert run(epochs=2, folder=tmp_path / "a", resume=True).state == run(epochs=2).state
    with pytest.raises(RunError, match="has 2 epochs behind it already, more than 1"):
        run(epochs=1, folder=tmp_path / "a", resume=True)


def test_what_is_held_out_is_not_trained_on():
    assert run(validation=100).state == run(data=DATA.train.take(200), validation=DATA.test).state


def test_a_loss_that_is_not_finite_ends_it_with_the_last_good_state():
    with pytest.raises(DivergedError, match=r"the loss is not finite at step [0-9]+ \(epoch [0-9]\)") as caught:
        run(optimizer=fcnn.sgd(1e30))
    assert caught.value.state.step >= 1


RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 6))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_and_targets_of_ones_own(dtype):
    y = X @ np.arange(6.0) + 1
    network = fcnn.serial(a=fcnn.dense(16), act=fcnn.tanh(), b=fcnn.dense(1))
    found = run(
        network, (X.astype(dtype), y[:, None]), epochs=60, optimizer=fcnn.adam(0.03), loss=fcnn.mean_squared_error()
    )
    assert found.history[-1]["train_loss"] < found.history[0]["train_loss"] / 20
    assert found.history[-1]["train_accuracy"] is None
    assert found.history[-1]["validation_loss"] is None
    assert "accuracy" not in epoch_line(found.history[-1])


def test_a_network_of_sequences_is_trained_evaluated_predicted_and_looked_into(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    x = rng.standard_normal((120, 2, 30)) * 0.3
    x[:, 0] += np.sin(np.arange(30) * np.where(y, 1.5, 0.5)[:, None])  # two tones, in one of two channels
    network = fcnn.serial(
        conv=fcnn.conv1d(4, 5), act=fcnn.relu(), pool=fcnn.max_pool1d(2), mean=fcnn.global_avg_pool1d(),
        out=fcnn.dense(2),
    )  # fmt: skip
    split = Split(x, y)
    assert (repr(split), split.in_shape) == ("Split(120 sequences of 2x30)", (2, 30))
    assert [split.take(3).x.shape, split.hold_out(20)[0].x.shape] == [(3, 2, 30), (100, 2, 30)]
    options = {"epochs": 20, "batch_size": 16, "optimizer": fcnn.adam(1e-2), "validation": 20}
    whole = run(network, (x, y), **options)
    assert whole.history[-1]["validation_accuracy"] > 0.9
    run(network, (x, y), **{**options, "epochs": 7}, folder=tmp_path)
    assert run(network, (x, y), **options, folder=tmp_path, resume=True, workers=3).state == whole.state
    model = whole.model
    found = fcnn.predict(model, x)
    assert np.mean(found.classes == y) > 0.9
    # float32: the layers that training runs one by one, in batches of another size, add in another order
    batch = fcnn.data.as_batch(x, y)
    plain = model.network.apply(model.params, model.state, batch.x, train=False).y
    np.testing.assert_allclose(found.outputs, plain, rtol=1e-4, atol=1e-5)
    maps = fcnn.saliency(model.network, model.params, model.state, batch.x)
    dy = np.eye(2, dtype=np.float32)[plain.argmax(axis=1)]
    traced = fcnn.trace(model.network, model.params, model.state, batch.x, dy=dy)
    assert maps.shape == (120, 30)
    assert (maps == np.abs(traced.dx).max(axis=1)).all()
    assert traced.outputs["pool"].shape == (120, 4, 13)
    fcnn.save_model(tmp_path / "tones.npz", model)
    again = fcnn.predict(fcnn.load_model(tmp_path / "tones.npz"), x)
    assert (again.outputs == found.outputs).all()


def test_float_images_stay_as_they_are_and_uint8_become_shares():
    floats = Split(DATA.train.x / np.float32(255), DATA.train.y)
    assert run(data=floats, validation=DATA.test).state == run(data=DATA.train, validation=DATA.test).state


def test_several_labels_an_input_have_no_accuracy():
    y = (X[:, :3] > 0).astype(np.float32)
    found = run(fcnn.serial(a=fcnn.dense(3), b=fcnn.sigmoid()), (X, y), loss=fcnn.mean_squared_error(), validation=50)
    assert (found.history[-1]["train_accuracy"], found.history[-1]["validation_accuracy"]) == (None, None)


def test_several_labels_an_input_have_a_metric_of_their_own():
    y = (X[:, :3] > 0).astype(np.float32)
    found = run(
        fcnn.dense(3), (X, y), loss=fcnn.binary_cross_entropy(), validation=50, metrics=[fcnn.binary_accuracy],
        epochs=20, optimizer=fcnn.adam(0.1),
    )  # fmt: skip
    share = found.history[-1]["metrics"]["binary_accuracy"]
    assert share > 0.9
    values = found.model.params, found.model.state
    held_out = (X[-50:], y[-50:])
    said = fcnn.evaluate(
        found.model.network, *values, held_out, loss=fcnn.binary_cross_entropy(), metrics=[fcnn.binary_accuracy]
    )
    assert said.metrics == {"binary_accuracy": share}
    with pytest.raises(ValueError, match=r"for several labels an input there is fcnn\.binary_cross_entropy\(\)$"):
        run(fcnn.dense(3), (X, y))
    with pytest.raises(ValueError, match=r"for a yes or no there is fcnn\.binary_cross_entropy\(\)$"):
        run(fcnn.dense(1), (X, y[:, 0].astype(int)))


def test_one_output_has_no_accuracy():
    y = (X[:, 0] > 0).astype(int)

    def loss(outputs, targets):  # of one logit
        z = outputs[:, 0]
        value = np.logaddexp(0, -np.where(targets, z, -z)).mean()
        return float(value), ((1 / (1 + np.exp(-z)) - targets) / len(z))[:, None].astype(outputs.dtype)

    found = run(fcnn.dense(1), (X, y), loss=loss, epochs=5, validation=50)
    assert (found.history[-1]["train_accuracy"], found.history[-1]["validation_accuracy"]) == (None, None)
    assert fcnn.evaluate(fcnn.dense(1), found.model.params, found.model.state, (X, y), loss=loss).predictions is None


def test_one_output_learns_a_yes_or_no():
    y = (X[:, 0] > 0).astype(int)
    found = run(fcnn.dense(1), (X, y), loss=fcnn.binary_cross_entropy(), optimizer=fcnn.adam(0.1), epochs=20)
    logits = fcnn.evaluate(fcnn.dense(1), found.model.params, found.model.state, (X, y), loss=lambda o, t: (0, o))
    assert np.mean((logits.outputs[:, 0] > 0) == y) > 0.95
    assert logits.accuracy is None


@pytest.mark.parametrize("shard_size", [0, 16])
def test_of_a_weighted_mean_an_epoch_and_a_split_are_the_mean_over_all_that_counts(shard_size):
    """With a rate of 0 each batch sees the same network, so an epoch says what an evaluation does."""
    y = np.where(X[:, 1] > 1, 255, (X[:, 0] > 0).astype(int))
    loss = fcnn.softmax_cross_entropy(class_weights=[1, 9], ignored=255)
    found = run(
        fcnn.dense(2), (X, y), loss=loss, optimizer=fcnn.sgd(0.0), epochs=1, validation=(X, y), shard_size=shard_size
    )
    item, known = found.history[0], y != 255
    outputs = X.astype(np.float32) @ found.state.params["w"].T + found.state.params["b"]
    # float32 sums over 200 rows, rounded by 6e-8 each time
    assert item["train_loss"] == pytest.approx(loss(outputs, y)[0], rel=1e-5)
    assert item["validation_loss"] == pytest.approx(loss(outputs, y)[0], rel=1e-5)
    assert item["train_accuracy"] == item["validation_accuracy"] == np.mean(outputs.argmax(axis=1)[known] == y[known])


def test_labels_all_of_which_are_ignored_end_no_run():
    loss = fcnn.softmax_cross_entropy(ignored=255)
    data = (X, np.full(200, 255))
    found = run(fcnn.dense(2), data, loss=loss, epochs=1, validation=50)
    assert found.history[0]["train_loss"] == found.history[0]["validation_loss"] == 0.0
    assert found.history[0]["train_accuracy"] is found.history[0]["validation_accuracy"] is None
    assert found.state.params == run(fcnn.dense(2), data, loss=loss, epochs=0, validation=50).state.params


def test_no_epochs_give_the_start():
    found = run(epochs=0)
    assert (found.history, found.state.step) == ((), 0)
    assert isinstance(found, Fitted)


def test_a_gradient_of_ones_own_is_used():
    gradient = parallel.sharded(fcnn.gradient(SMALL, fcnn.softmax_cross_entropy()), 20)
    assert run(gradient=gradient).state == run(shard_size=20).state


def test_nothing_is_printed_where_nobody_watches(capfd):
    run(progress=True)
    assert capfd.readouterr() == ("", "")


def test_a_fine_tuned_network_keeps_what_is_held_to_the_bit():
    first = run(epochs=1)
    tuned = run(fcnn.hold(SMALL, "conv"), start=first.model, optimizer=fcnn.adamw(1e-2), epochs=2)
    assert tuned.state.params["conv"] == first.state.params["conv"]
    assert tree.ravel(tuned.state.params["out"]).tobytes() != tree.ravel(first.state.params["out"]).tobytes()


def test_it_leaves_the_callers_error_state_alone():
    with np.errstate(all="raise"), contextlib.suppress(DivergedError):
        run(optimizer=fcnn.sgd(1e30))


def test_blas_has_one_thread_while_fit_runs_and_its_own_again_afterwards():
    """Else two programs on the same cores would wait for each other in every product."""

    def blas():
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    def loss(outputs, targets):
        seen.append(blas())
        return plain(outputs, targets)

    seen, plain, before = [], fcnn.softmax_cross_entropy(), blas()
    with threadpool_limits(2, user_api="blas"):
        run(loss=loss, epochs=1)
        assert set(blas()) == {2}
    assert set(map(tuple, seen)) == {(1,) * len(before)}


@pytest.mark.skipif(os.name != "posix", reason="names of files have other limits")
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_can_not_be_looked_into_is_refused_by_its_name(tmp_path, resume):
    folder = tmp_path / ("x" * 256)
    message = r"^can't look into the folder .*x \(File name too long\); choose another folder$"
    with pytest.raises(RunError, match=message):
        fcnn.fit(fcnn.dense(2), (np.ones((4, 1)), np.arange(4) % 2), epochs=1, folder=folder, resume=resume)
