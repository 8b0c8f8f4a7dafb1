"""Networks there and back, as descriptions, pickles, copies and files; what is none is refused in a sentence."""

import copy
import io
import json
import pickle
import random
import re
import tracemalloc
import zipfile

import attrs
import numpy as np
import pytest
from cases import CASES, Case, descendants

import fcnn
from fcnn import CheckpointError, Init, Layer, LayerError, Model, build, describe, load_model, save_model
from fcnn.network.initializers import Draw, initializer_constructor
from fcnn.values.tree import EMPTY, astype

KEY = fcnn.key(0)


def twice(*, body: Layer, times: float = 2.0) -> Layer:
    """times * body(x): a combinator of one's own."""

    def init(key, in_shape):
        made = body.init(fcnn.fold_in(key, "body"), in_shape)
        return Init(fcnn.freeze({"body": made.params}), EMPTY, made.out_shape, made.macs)

    def apply(params, state, x, *, train, key=None):
        out = body.apply(params["body"], EMPTY, x, train=train, key=key)
        return fcnn.Out(out.y * times, EMPTY, out.cache)

    def backward(params, cache, dy, *, need_dx=True):
        grads = body.backward(params["body"], cache, dy * times, need_dx=need_dx)
        return fcnn.Grads(grads.dx, fcnn.freeze({"body": grads.params}))

    return Layer("twice", {"times": times}, {"body": body}, twice, init, apply, backward)


OWN = fcnn.serial(flat=fcnn.flatten(), pair=twice(body=fcnn.dense(3, weights=fcnn.he("uniform")), times=3.0))
NETWORKS = [*CASES, Case("own combinator", OWN, (2, 3, 3))]


@pytest.fixture(params=NETWORKS, ids=lambda case: case.name)
def case(request) -> Case:
    return request.param


def outputs(layer, made, in_shape):
    x = fcnn.generator(KEY).standard_normal((2, *in_shape)).astype(np.float32)
    return layer.apply(made.params, made.state, x, train=True, key=KEY).y.tobytes()


def assert_same(one, other, in_shape):
    assert repr(one) == repr(other)
    made = one.init(KEY, in_shape)
    assert other.init(KEY, in_shape) == made
    assert outputs(one, made, in_shape) == outputs(other, made, in_shape)


def test_a_network_comes_back_from_its_description(case):
    assert_same(build(json.loads(json.dumps(describe(case.layer))), layers=[twice]), case.layer, case.in_shape)


def test_a_network_pickles_and_a_copy_is_itself(case):
    assert_same(pickle.loads(pickle.dumps(case.layer)), case.layer, case.in_shape)
    assert copy.copy(case.layer) is copy.deepcopy(case.layer) is case.layer
    assert copy.deepcopy({"net": case.layer})["net"] is case.layer


@pytest.mark.parametrize("rule", [fcnn.checked, fcnn.without_caches, lambda net: fcnn.hold(net, "conv*")])
def test_what_was_rewritten_pickles_as_what_it_is(rule):
    network = rule(fcnn.lenet5())
    again = pickle.loads(pickle.dumps(network))
    assert [layer.held for _, layer in descendants(again)] == [layer.held for _, layer in descendants(network)]
    assert [layer.rewritten for _, layer in descendants(again)] == [
        layer.rewritten for _, layer in descendants(network)
    ]
    assert_same(again, network, (1, 28, 28))


def test_models_fits_and_errors_pickle():
    digits = fcnn.data.make_digits(KEY, 50)
    fitted = fcnn.fit(fcnn.hold(fcnn.lenet5(), "conv*"), digits, epochs=1, progress=False)
    again = pickle.loads(pickle.dumps(fitted))
    assert (again.state, again.history, again.model.params) == (fitted.state, fitted.history, fitted.model.params)
    assert (again.model.in_shape, again.model.classes) == ((1, 28, 28), ())
    assert copy.deepcopy(fitted.model).params == fitted.model.params
    for error in (fcnn.DivergedError("why", fitted.state), fcnn.InterruptedFit("why", fitted)):
        assert str(pickle.loads(pickle.dumps(error))) == "why"


@fcnn.layer_constructor
def mapped(function: object) -> fcnn.Functions:
    def init(key, in_shape):
        return Init(EMPTY, EMPTY, in_shape)

    return fcnn.Functions(init, init, init)  # only init is called


def test_values_that_are_not_the_networks_are_not_written(tmp_path):
    network = fcnn.serial(fc=fcnn.dense(2), bn=fcnn.batch_norm())
    made = network.init(KEY, (3,))
    half = fcnn.tree.set_at(made.params, "fc/w", np.zeros((2, 3), np.float16))
    wide = fcnn.tree.set_at(made.params, "fc/w", np.zeros((7, 3), np.float32))
    for params, state, told in (
        (EMPTY, made.state, "params/fc/w: missing, the network has (2, 3)"),
        (half, made.state, "params/fc/w: float16, networks compute in float32 or float64"),
        (wide, made.state, "params/fc/w: (7, 3), the network has (2, 3)"),
        (made.params, EMPTY, "state/bn/mean: missing, the network has (2,)"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"the model's values are not its network's:\n  {told}")):
            save_model(tmp_path / "m.npz", Model(network, params, state, in_shape=(3,)))
    with pytest.raises(ValueError, match=r"so that it comes back: fc: dense\(2\) expects \(D,\), got \(3, 4, 4\)"):
        save_model(tmp_path / "m.npz", Model(network, made.params, made.state, in_shape=(3, 4, 4)))
    assert not any(tmp_path.iterdir())


def test_a_network_whose_arguments_are_not_plain_is_not_written(tmp_path):
    network = fcnn.serial(act=mapped(np.tanh))
    with pytest.raises(ValueError, match="can't be written so that it comes back: act: arguments are plain values"):
        save_model(tmp_path / "m.npz", Model(network, EMPTY, in_shape=(3,)))
    with pytest.raises(LayerError, match="act: arguments are plain values"):
        build(describe(network), layers=[mapped])
    with pytest.raises(TypeError, match=r"model is a Model, such as fitted\.model, got "):
        save_model(tmp_path / "m.npz", EMPTY)
    assert not list(tmp_path.iterdir())


def node(kind, config=None, **children):
    return {"kind": kind, "config": config or {}, "children": children}


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (None, "a layer is described by kind, config and children"),
        ([], "a layer is described by kind"),
        ({"kind": "relu"}, "a layer is described by kind"),
        ({**node("relu"), "make": "os.system"}, "a layer is described by kind"),
        (node(3), "kind is text, got 3"),
        ({**node("relu"), "config": []}, r"config is a mapping, got \[\]"),
        (node("os.system"), "no constructor of layers is called 'os.system'; name your own in layers="),
        (node("lenet5"), "no constructor of layers is called 'lenet5'"),
        (node("build"), "no constructor of layers is called 'build'"),
        (node("relu", {"x": 1}), r"relu: relu\(\) got an unexpected keyword argument 'x'"),
        (node("dense", {"units": 2.5}), "dense: units is an integer of at least 1, got 2.5"),
        (node("dense", {"units": {"a": 1}}), "arguments are plain values, got"),
        (
            node("dense", {"units": 2, "weights": {"kind": "he", "config": {"distribution": "x"}}}),
            "he: he's distribution is",
        ),
        (node("dense", {"units": 2, "weights": {"kind": "eval", "config": {}}}), "arguments are plain values"),
        (
            node("dense", {"units": 2, "weights": "he()"}),
            r"dense: weights is an Initializer, such as fcnn\.he\(\), got 'he\(\)'",
        ),
        (node("dense", {"units": 2}, bias=node("relu")), r"dense: bias is True or False, got relu\(\)"),
        (node("residual", body=node("relu")), "residual is not made of body"),
        (node("serial"), "serial: serial expects at least one layer"),
        (
            node("serial", a=node("serial", b=node("conv2d", {"filters": 1}))),
            r"^a/b: conv2d: conv2d\(\) missing a required argument",
        ),
        (node("serial", A=node("relu")), "serial: A: the name 'A' does not match"),
        (node("branch", {"merge": "max"}, a=node("relu")), 'branch: branch\'s merge is "sum", "concat" or "multiply"'),
        (node("conv2d", {"filters": 1, "kernel": [[[1]]]}), "plain values"),
        (node("normalize", {"mean": "a", "std": 1.0}), "normalize: normalize's mean is a number"),
    ],
)
def test_what_is_no_network_is_refused_with_its_path(description, message):
    with pytest.raises(LayerError, match=message):
        build(description)


def test_descriptions_are_bounded_in_depth_and_size():
    deep = node("relu")
    for _ in range(100):
        deep = node("serial", a=deep)
    build(deep)
    with pytest.raises(LayerError, match=r"^(a/){100}a: a description has at most 100 layers one within the other"):
        build(node("serial", a=deep))
    many = {f"a{k}": node("relu") for k in range(10_000)}
    with pytest.raises(LayerError, match="at most 10,000 layers"):
        build(node("serial", **many))


WORDS = [
    "serial", "conv2d", "dense", "he", "kind", "config", "children", "weights", "a", "", "A/b", None, True, 0, 1, -1,
    2.5, float("nan"), float("inf"), 10**30, [], {}, [1, 2], "same", "\0", "é" * 200, [[1]],
    {"kind": "he", "config": {}},
]  # fmt: skip


def mutated(rng, value, depth=0):
    """A description with something changed somewhere."""
    if rng.random() < 0.15 or depth > 6:
        return rng.choice(WORDS)
    if isinstance(value, dict) and value:
        name = rng.choice(list(value))
        change = rng.random()
        if change < 0.1:
            return {k: v for k, v in value.items() if k != name}
        if change < 0.2:
            return {**value, str(rng.choice(WORDS)): value[name]}
        return {**value, name: mutated(rng, value[name], depth + 1)}
    if isinstance(value, list) and value:
        return [*value[:-1], mutated(rng, value[-1], depth + 1)]
    return rng.choice(WORDS)


def test_mutated_descriptions_give_a_network_or_a_sentence():
    rng = random.Random(0)
    originals = [describe(case.layer) for case in CASES]
    built = longest = 0
    for _ in range(5_000):
        description = rng.choice(originals)
        for _ in range(rng.randrange(1, 4)):
            description = mutated(rng, description)
        try:
            built += isinstance(build(description), Layer)
        except LayerError as error:
            longest = max(longest, len(str(error)))
    assert 0 < longest < 2_000
    assert 50 < built < 4_900


def model_of(case, dtype=np.float32, **more):
    made = case.layer.init(KEY, case.in_shape)
    return Model(case.layer, astype(made.params, dtype), astype(made.state, dtype), in_shape=case.in_shape, **more)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_comes_back_from_its_file_without_code(case, dtype, tmp_path):
    model = model_of(case, dtype, classes=["a", "b"], meta={"note": [1, None, "é"]})
    save_model(tmp_path / "m.npz", model)
    again = load_model(tmp_path / "m.npz", layers=[twice])
    assert (again.params, again.state) == (model.params, model.state)
    assert (again.in_shape, again.classes, dict(again.meta)) == (case.in_shape, ("a", "b"), {"note": [1, None, "é"]})
    assert_same(again.network, case.layer, case.in_shape)


def test_a_layer_of_ones_own_must_be_named(tmp_path):
    save_model(tmp_path / "m.npz", model_of(NETWORKS[-1]))
    with pytest.raises(CheckpointError, match=r"m\.npz: its network: pair: no constructor .* 'twice'; name your own"):
        load_model(tmp_path / "m.npz")


def written(path, network, params, in_shape):
    fcnn.save(path, params, meta={"network": describe(network), "in_shape": in_shape, "classes": []})


SMALL = fcnn.serial(fc1=fcnn.dense(4), fc2=fcnn.dense(2))


@pytest.mark.parametrize(
    ("network", "in_shape", "message"),
    [
        (
            fcnn.serial(fc1=fcnn.dense(5), fc2=fcnn.dense(2)),
            [3],
            r"fc1: it has w of shape \(5, 3\), the file's params/fc1/w",
        ),
        (fcnn.serial(fc1=fcnn.dense(10**9), fc2=fcnn.dense(10**9)), [10**6], r"fc1: it has w of shape \(1000000000, "),
        (fcnn.serial(fc1=fcnn.dense(10**9), fc2=fcnn.dense(2)), [10**15], "fc1: "),
        (
            fcnn.serial(fc1=fcnn.dense(4), bn=fcnn.batch_norm(), fc2=fcnn.dense(2)),
            [3],
            "bn: .* the file has no params/bn",
        ),
        (fcnn.serial(fc1=fcnn.dense(4), fc3=fcnn.dense(2)), [3], "fc3: .* the file has no params/fc3/w"),
        (SMALL, [3, 3], r"fc1: dense\(4\) expects \(D,\), got \(3, 3\)"),
        (SMALL, [-3], r"in_shape is a tuple of lengths, .* got \[-3\]"),
        (SMALL, [3.0], r"in_shape is a tuple of lengths, .* got \[3.0\]"),
        (SMALL, 3, "in_shape is a tuple of lengths, .* got 3"),
        (SMALL, "3", "in_shape is a tuple of lengths, .* got '3'"),
    ],
)
def test_a_network_that_the_file_does_not_hold_is_refused(network, in_shape, message, tmp_path):
    params = SMALL.init(KEY, (3,)).params
    written(tmp_path / "m.npz", network, params, in_shape)
    with pytest.raises(CheckpointError, match=f"m.npz: its network: .*{message}"):
        load_model(tmp_path / "m.npz")


def test_more_than_the_network_has_is_refused(tmp_path):
    params = SMALL.init(KEY, (3,)).params
    written(tmp_path / "m.npz", fcnn.serial(fc1=fcnn.dense(4)), params, [3])
    with pytest.raises(CheckpointError, match="unexpected: params/fc2/w"):
        load_model(tmp_path / "m.npz")


def test_arrays_of_other_kinds_are_refused(tmp_path):
    params = fcnn.tree.map(lambda leaf: leaf.astype(np.int32), SMALL.init(KEY, (3,)).params)
    written(tmp_path / "m.npz", SMALL, params, [3])
    with pytest.raises(CheckpointError, match="the file's params/fc1/w is int32"):
        load_model(tmp_path / "m.npz")


def test_a_file_of_parameters_only_says_how_to_load_it(tmp_path):
    fcnn.save(tmp_path / "p.npz", SMALL.init(KEY, (3,)).params)
    with pytest.raises(CheckpointError, match=r"doesn't describe its network; load its parameters with fcnn\.load"):
        load_model(tmp_path / "p.npz")


def test_a_model_is_a_value():
    model = model_of(CASES[0], classes=("a",))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        model.classes = ()
    with pytest.raises(TypeError):
        model.meta["a"] = 1
    assert repr(model) == "Model(conv2d, 57 parameters, inputs (2, 6, 5), 1 classes)"


@initializer_constructor
def within(limit: float) -> Draw:
    return lambda rng, shape, fan: rng.uniform(-limit, limit, shape)


@pytest.mark.parametrize("weights", [within(0.1), fcnn.dirac(within(0.1))], ids=str)
def test_an_initializer_of_ones_own_comes_back(tmp_path, weights):
    network = fcnn.serial(fc=fcnn.dense(3, weights=weights))
    made = network.init(KEY, (4,))
    save_model(tmp_path / "m.npz", Model(network, made.params, in_shape=(4,)))
    again = load_model(tmp_path / "m.npz", layers=[within])
    assert again.network.init(KEY, (4,)) == made
    with pytest.raises(CheckpointError, match="fc: arguments are plain values"):
        load_model(tmp_path / "m.npz")


def test_a_network_takes_no_more_memory_than_its_file_holds(tmp_path):
    for network, in_shape in (
        (fcnn.batch_norm(), [3 * 10**8]),
        (fcnn.serial(flat=fcnn.flatten(), bn=fcnn.batch_norm()), [3, 10**4, 10**4]),
    ):
        fcnn.save(tmp_path / "m.npz", EMPTY, meta={"network": describe(network), "in_shape": in_shape})
        tracemalloc.start()
        with pytest.raises(CheckpointError, match="the file holds nothing for so many channels or features"):
            load_model(tmp_path / "m.npz")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()


def test_a_member_that_says_it_is_small_is_not_inflated_beyond(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1, 50_000_000)})
    with zipfile.ZipFile(tmp_path / "m.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        text = json.dumps({"format": 1, "network": describe(fcnn.dense(1, bias=False)), "in_shape": [50_000_000]})
        meta = io.BytesIO()
        np.save(meta, np.array(text))
        archive.writestr("meta.npy", meta.getvalue())
        archive.writestr("params/w.npy", header.getvalue() + bytes(200_000_000))
    data = bytearray((tmp_path / "m.npz").read_bytes())
    claimed = (len(header.getvalue()) + 200_000_000).to_bytes(4, "little")
    assert data.count(claimed) == 2  # in the member's header and in the directory
    (tmp_path / "m.npz").write_bytes(bytes(data).replace(claimed, (20_000).to_bytes(4, "little")))
    tracemalloc.start()
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "m.npz")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_class_names_are_text():
    with pytest.raises(TypeError, match="classes are names, one for each output, got 1 among them"):
        model_of(CASES[0], classes=[1, 2])


def test_values_nested_without_end_are_refused():
    deep = []
    for _ in range(3_000):
        deep = [deep]
    with pytest.raises(LayerError):
        build(node("conv2d", {"filters": deep, "kernel": 3}))
    he = {"kind": "he", "config": {"distribution": "normal"}}
    for _ in range(600):
        he = {"kind": "he", "config": {"distribution": he}}
    with pytest.raises(LayerError):
        build(node("dense", {"units": 3, "weights": he}))
