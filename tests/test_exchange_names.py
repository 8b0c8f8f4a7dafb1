"""Values find their places: by a table, by names, in order, by shapes; and what doesn't fit is told, all of it."""

import numpy as np
import pytest

import fcnn
from fcnn import ExchangeError, load_safetensors, load_torch, save_safetensors, save_torch, torch_names
from fcnn.exchange.keras import load_keras
from fcnn.exchange.matching import match
from fcnn.exchange.torchvision import torchvision_modules, torchvision_names

NET = fcnn.serial(
    conv1=fcnn.conv2d(4, 3, padding=1),
    bn1=fcnn.batch_norm(),
    res1=fcnn.residual(fcnn.serial(conv=fcnn.conv2d(4, 3, padding=1, bias=False), bn=fcnn.batch_norm())),
    pool=fcnn.global_avg_pool2d(),
    flat=fcnn.flatten(),
    fc=fcnn.dense(3),
)
MADE = NET.init(fcnn.key(0), (2, 6, 6))
RNG = np.random.default_rng(0)


def drawn(made):
    """The same network with values that are all different."""
    params, state = (fcnn.tree.map(lambda a: RNG.normal(size=a.shape).astype(a.dtype), t) for t in made[:2])
    return made._replace(params=params, state=state)


VALUES = drawn(MADE)
FLAT = {**fcnn.tree.flatten(VALUES.params), **fcnn.tree.flatten(VALUES.state)}
OTHER = {  # the names that somebody's module has, in its order
    "features.0.weight": "conv1/w",
    "features.0.bias": "conv1/b",
    "features.1.weight": "bn1/gamma",
    "features.1.bias": "bn1/beta",
    "features.1.running_mean": "bn1/mean",
    "features.1.running_var": "bn1/var",
    "features.1.num_batches_tracked": None,
    "block.0.weight": "res1/body/conv/w",
    "block.1.weight": "res1/body/bn/gamma",
    "block.1.bias": "res1/body/bn/beta",
    "block.1.running_mean": "res1/body/bn/mean",
    "block.1.running_var": "res1/body/bn/var",
    "head.weight": "fc/w",
    "head.bias": "fc/b",
}
THEIRS = {name: np.array(7) if path is None else FLAT[path] for name, path in OTHER.items()}
TABLE = {path: name for name, path in OTHER.items() if path}


def test_pytorch_s_names_are_paths_with_its_words():
    names = torch_names(MADE)
    assert list(names)[:6] == ["conv1/w", "conv1/b", "bn1/gamma", "bn1/beta", "bn1/mean", "bn1/var"]
    assert names["res1/body/bn/var"] == "res1.body.bn.running_var"
    assert torch_names(fcnn.dense(2).init(fcnn.key(0), (3,)).params) == {"w": "weight", "b": "bias"}
    assert torch_names(fcnn.Model(NET, MADE.params, MADE.state, in_shape=(2, 6, 6))) == names


@pytest.mark.parametrize(("save", "load"), [(save_torch, load_torch), (save_safetensors, load_safetensors)])
def test_a_table_of_names_leads_there_and_back(save, load, tmp_path):
    path = tmp_path / "a"
    save(path, THEIRS)
    assert load(path, MADE, names=TABLE) == VALUES
    save(path, VALUES, names=TABLE)
    found = load(path)
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in THEIRS.items() if "tracked" not in name
    }
    save(path, {**THEIRS, "auxiliary.weight": np.ones(3)})  # what the table doesn't name isn't asked for
    assert load(path, MADE, names=TABLE) == VALUES


def test_names_are_found_in_the_order_of_the_layers():
    assert match(THEIRS, MADE) == {path: TABLE[path] for path in torch_names(MADE)}
    for count in range(20):  # whatever order a layer has within
        groups = {}
        for name in THEIRS:
            groups.setdefault(name.rpartition(".")[0], []).append(name)
        shuffled = [name for group in groups.values() for name in np.random.default_rng(count).permutation(group)]
        assert match({name: THEIRS[name] for name in shuffled}, MADE) == match(THEIRS, MADE)


def test_words_that_are_not_pytorch_s_are_taken_in_their_order():
    words = {"weight": "kernel", "bias": "offset", "running_mean": "m", "running_var": "v"}
    renamed = {}
    for name, array in THEIRS.items():
        if "tracked" not in name:
            layer, _, word = name.rpartition(".")
            renamed[f"{layer}.{words[word]}"] = array
    assert list(match(renamed, MADE)) == list(torch_names(MADE))


def test_parameters_alone_are_taken_of_a_file_with_state(tmp_path):
    save_torch(tmp_path / "a.pt", THEIRS)
    assert load_torch(tmp_path / "a.pt", MADE.params) == VALUES.params
    save_torch(tmp_path / "a.pt", VALUES)
    assert load_torch(tmp_path / "a.pt", MADE.params) == VALUES.params


def test_without_an_order_layers_are_told_by_their_shapes():
    network = fcnn.serial(*(fcnn.serial(fcnn.dense(5), fcnn.dense(5)) for _ in range(11)), fcnn.dense(2))
    made = network.init(fcnn.key(0), (5,))
    paths = list(torch_names(made))
    names = [f"blocks.{i // 2}.fc{i % 2 + 1}" for i in range(22)] + ["head"]
    table = {path: f"{names[i // 2]}.{('weight', 'bias')[i % 2]}" for i, path in enumerate(paths)}
    arrays = {table[path]: array for path, array in fcnn.tree.flatten(made.params).items()}
    by_name = {name: arrays[name] for name in sorted(arrays)}
    assert list(by_name)[:4] == ["blocks.0.fc1.bias", "blocks.0.fc1.weight", "blocks.0.fc2.bias", "blocks.0.fc2.weight"]
    assert list(by_name)[8].startswith("blocks.10.")
    assert match(by_name, made, ordered=False) == table


def test_without_an_order_what_is_not_clear_is_refused(tmp_path):
    made = fcnn.serial(a=fcnn.dense(5), b=fcnn.dense(5)).init(fcnn.key(0), (5,))
    a, b = made.params["a"], made.params["b"]
    arrays = {"zulu.weight": a["w"], "zulu.bias": a["b"], "alpha.weight": b["w"], "alpha.bias": b["b"]}
    save_safetensors(tmp_path / "a.safetensors", arrays)
    with pytest.raises(ExchangeError) as caught:
        load_safetensors(tmp_path / "a.safetensors", made)
    assert str(caught.value) == (
        f"{tmp_path / 'a.safetensors'}: 1 difference(s) from the network; is it another's, or are its names to be "
        "given with names=…?\n  of equal shapes, and in no order: alpha, zulu"
    )
    table = {"a/w": "zulu.weight", "a/b": "zulu.bias", "b/w": "alpha.weight", "b/b": "alpha.bias"}
    assert load_safetensors(tmp_path / "a.safetensors", made, names=table) == made
    assert match(arrays, made) == table


def told(call):
    with pytest.raises(ExchangeError) as caught:
        call()
    first, *lines = str(caught.value).split("\n  ")
    assert "difference(s) from the network" in first
    return lines


def test_all_that_does_not_fit_is_told(tmp_path):
    path = tmp_path / "a.pt"
    ours = {name: FLAT[place] for place, name in torch_names(MADE).items()}
    del ours["fc.bias"]
    save_torch(path, {**ours, "conv1.weight": np.ones((4, 2, 5, 5)), "bn1.bias": np.arange(4), "more\n": np.ones(1)})
    assert told(lambda: load_torch(path, MADE)) == [
        "wrong shape ((4, 2, 5, 5), expected (4, 2, 3, 3)): conv1/w (conv1.weight)",
        "wrong dtype (int64, expected floats): bn1/beta (bn1.bias)",
        "missing: fc/b (fc.bias)",
        r"unexpected: more\n",
    ]
    short = {name: array for name, array in THEIRS.items() if not name.startswith("head")}
    assert told(lambda: match(short, MADE)) == ["missing: fc/w", "missing: fc/b"]
    assert told(lambda: match({**THEIRS, "last.weight": np.ones(3)}, MADE)) == ["unexpected: last.weight"]
    save_torch(path, THEIRS)
    assert told(lambda: load_torch(path, MADE, names={**TABLE, "fc/b": "head.offset"})) == [
        "missing: fc/b (head.offset; did you mean head.bias?)"
    ]


def test_thousands_of_differences_are_not_all_told():
    lines = told(lambda: match({f"l{i}.weight": np.ones(1) for i in range(3000)}, MADE))
    assert len(lines) == 1001
    assert lines[-1].startswith("and 2,0")


def test_of_two_float_types_each_stays(tmp_path):
    for dtype in (np.float32, np.float64):
        values = MADE._replace(
            params=fcnn.tree.astype(VALUES.params, dtype), state=fcnn.tree.astype(VALUES.state, dtype)
        )
        save_torch(tmp_path / "a.pt", values)
        assert load_torch(tmp_path / "a.pt", MADE) == values


# torchvision.


COUNTS = {"resnet18": 41, "vgg11": 11, "mobilenet_v2": 105, "squeezenet1_1": 26}


@pytest.mark.parametrize("kind", COUNTS)
def test_torchvision_s_modules_are_named_each_once(kind):
    modules = torchvision_modules(kind)
    assert len(set(modules)) == len(modules) == COUNTS[kind]


def test_a_network_s_values_get_torchvision_s_names_in_order():
    layers = [fcnn.conv2d(2, 1) for _ in range(8)] + [fcnn.flatten()] + [fcnn.dense(2) for _ in range(3)]
    made = fcnn.serial(*layers).init(fcnn.key(0), (1, 1, 1))
    names = torchvision_names("vgg11", made)
    assert names["conv2d1/w"] == "features.0.weight"
    assert names["conv2d8/b"] == "features.18.bias"
    assert names["dense3/w"] == "classifier.6.weight"
    with pytest.raises(ValueError, match=r"^resnet18 has 41 layers with weights, the network 11$"):
        torchvision_names("resnet18", made)


# Keras.


def conv(x, kernel, bias):
    """Of images (N, H, W, C) by filters (KH, KW, C, F), as Keras has them."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    return np.einsum("nhwckl,klcf->nhwf", windows, kernel) + bias


def norm(x, gamma, beta, mean, var):
    return gamma * (x - mean) / np.sqrt(var + 1e-3) + beta


def test_what_keras_has_is_computed_alike(tmp_path):
    same = {"decay": 0.99, "eps": 1e-3}
    network = fcnn.serial(
        conv1=fcnn.conv2d(4, (3, 2)),
        bn1=fcnn.batch_norm(**same),
        flat=fcnn.flatten(),
        bn2=fcnn.batch_norm(**same),
        fc1=fcnn.dense(4 * 4 * 4),
        fc2=fcnn.dense(3),
    )
    made = network.init(fcnn.key(0), (2, 6, 5))
    shapes = [(3, 2, 2, 4), (4,), *[(4,)] * 4, *[(64,)] * 4, (64, 64), (64,), (64, 3), (3,)]
    weights = [np.abs(RNG.normal(size=shape)) for shape in shapes]
    np.savez(tmp_path / "w.npz", *weights)
    model = load_keras(tmp_path / "w.npz", fcnn.Model(network, made.params, made.state, in_shape=(2, 6, 5)))
    x = RNG.normal(size=(3, 6, 5, 2))
    expected = norm(conv(x, *weights[:2]), *weights[2:6]).reshape(3, -1)
    expected = norm(expected, *weights[6:10]) @ weights[10] + weights[11]
    expected = expected @ weights[12] + weights[13]
    found = network.apply(model.params, model.state, x.transpose(0, 3, 1, 2), train=False).y
    # Some hundred roundings of float64 in a sum.
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)


def test_a_depthwise_filter_of_keras_is_one_of_groups(tmp_path):
    kernel = RNG.normal(size=(3, 3, 2, 2))
    leaf = np.zeros((4, 1, 3, 3))
    np.savez(tmp_path / "w.npz", kernel)
    like = fcnn.Model(fcnn.conv2d(4, 3, bias=False), fcnn.freeze({"w": leaf}), in_shape=(1, 6, 6))
    found = load_keras(tmp_path / "w.npz", like).params["w"]
    for channel in (0, 1):
        for multiple in (0, 1):
            assert np.array_equal(found[2 * channel + multiple, 0], kernel[:, :, channel, multiple])


def test_what_does_not_fit_a_keras_file_is_told(tmp_path):
    path = tmp_path / "w.npz"
    made = fcnn.dense(3).init(fcnn.key(0), (2,))
    like = fcnn.Model(fcnn.dense(3), made.params, in_shape=(2,))
    np.savez(path, np.ones((3, 2)), np.ones(3, int), np.ones(1), other=np.ones(1))
    assert told(lambda: load_keras(path, like)) == [
        "wrong shape ((3, 2), expected (2, 3)): w (arr_0)",
        "not a plain array of floats: b (arr_1)",
        "unexpected: other",
        "unexpected: arr_2",
    ]
    np.savez(path, np.ones((2, 3), np.float16))
    assert told(lambda: load_keras(path, like)) == ["missing: b (arr_1)"]
    path.write_bytes(b"PK")
    with pytest.raises(ExchangeError, match=r"w\.npz: not a whole \.npz file"):
        load_keras(path, like)
