"""A network is data: made again from what it was made of, rewritten, described and summed up."""

import pickle

import numpy as np
import pytest
from cases import CASES, Case, descendants

import fcnn
from fcnn import Functions, Init, Layer, LayerError, layer_constructor
from fcnn.network.initializers import Fan, Initializer
from fcnn.network.rewriting import rewrite
from fcnn.values.tree import EMPTY

KEY = fcnn.key(0)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request) -> Case:
    return request.param


def assert_same_network(one: Layer, other: Layer, in_shape: tuple[int, ...]) -> None:
    """Equal in all that can be seen: how they print, their first values, and what they compute."""
    assert repr(one) == repr(other)
    made = one.init(KEY, in_shape)
    assert made == other.init(KEY, in_shape)
    x = fcnn.generator(KEY).standard_normal((2, *in_shape)).astype(np.float32)
    ours, theirs = (layer.apply(made.params, made.state, x, train=True, key=KEY) for layer in (one, other))
    assert ours.y.tobytes() == theirs.y.tobytes()
    assert ours.state == theirs.state


def test_a_layer_is_made_again_of_its_config_and_children(case):
    for _, layer in descendants(case.layer):
        assert layer.make.__name__ == layer.kind
        assert repr(layer.make(**layer.config, **layer.children)) == repr(layer)
    assert_same_network(case.layer.make(**case.layer.config, **case.layer.children), case.layer, case.in_shape)


def test_a_rule_that_changes_nothing_makes_the_same_network(case):
    seen = []
    again = rewrite(case.layer, lambda path, layer: seen.append(path) or layer)
    assert sorted(seen) == sorted(path for path, _ in descendants(case.layer))
    assert_same_network(again, case.layer, case.in_shape)


def test_a_rule_sees_the_innermost_first_and_then_what_it_made_of_them():
    network = fcnn.serial(a=fcnn.relu(), r=fcnn.residual(fcnn.serial(b=fcnn.relu(), c=fcnn.dense(3))))
    seen = []

    def rule(path, layer):
        seen.append((path, repr(layer)))
        return fcnn.tanh() if layer.kind == "relu" else layer

    again = rewrite(network, rule)
    assert seen[:3] == [("a", "relu()"), ("r/body/b", "relu()"), ("r/body/c", "dense(3)")]
    assert seen[3] == ("r/body", "serial(b=tanh(), c=dense(3))")
    assert [path for path, _ in seen[4:]] == ["r/shortcut", "r", ""]
    assert list(again.init(KEY, (3,)).params["r"]["body"]) == ["c"]
    assert repr(network.children["a"]) == "relu()", "the network itself is as it was"


@pytest.mark.parametrize("initializer", [fcnn.he(), fcnn.xavier("uniform"), fcnn.constant(0.5), fcnn.zeros()], ids=str)
def test_an_initializer_is_made_again_of_its_config(initializer: Initializer):
    again = initializer.make(**initializer.config)
    assert again == initializer
    assert hash(again) == hash(initializer)
    fan = Fan(4, 3)
    assert initializer(KEY, (3, 4), fan).tobytes() == again(KEY, (3, 4), fan).tobytes()
    assert initializer.make is getattr(fcnn, initializer.kind)


def test_initializers_differ_by_their_arguments():
    assert fcnn.he() == fcnn.he("normal") != fcnn.he("uniform")
    assert fcnn.constant(1.0) != fcnn.constant(2.0)
    assert fcnn.he() != fcnn.lecun()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fcnn.conv2d(6, 5, init=fcnn.he()), r"conv2d\(\) got init=, which is now called weights="),
        (lambda: fcnn.dense(6, bias_init=fcnn.zeros()), r"dense\(\) got bias_init=, which is now called biases="),
        (lambda: fcnn.lenet5(init=fcnn.he()), r"lenet5\(\) got init=, which is now called weights="),
        (lambda: fcnn.lenet5_bn(bias_init=fcnn.he()), r"lenet5_bn\(\) got bias_init=, which is now called biases="),
        (lambda: fcnn.relu(init=1), "got an unexpected keyword argument 'init'"),
    ],
)
def test_an_old_name_of_an_argument_is_answered_with_the_new_one(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def loops(layer: Layer, in_shape: tuple[int, ...]) -> int:
    """The multiply-adds of a convolution or a dense layer, counted one by one."""
    made = layer.init(KEY, in_shape)
    if "w" not in made.params:
        return 0
    # What an output is the sum of, or what an input of a transposed convolution is added to.
    numbers = int(np.prod(in_shape if layer.kind == "conv_transpose2d" else made.out_shape))
    return sum(1 for _ in range(numbers) for _ in range(made.params["w"][0].size))


def test_multiply_adds_are_those_of_the_products():
    for case in CASES:
        if not case.layer.children:
            assert case.layer.init(KEY, case.in_shape).macs == loops(case.layer, case.in_shape), case.name
    assert fcnn.lenet5().init(KEY, (1, 28, 28)).macs == 117_600 + 240_000 + 48_000 + 10_080 + 840
    double = fcnn.residual(fcnn.dense(3), fcnn.dense(3))
    assert double.init(KEY, (3,)).macs == 18


def in_sequence(*, first: Layer, second: Layer) -> Layer:
    """A sequential combinator of one's own, of which the library knows nothing."""
    children = {"first": first, "second": second}

    def init(key, in_shape):
        one = first.init(fcnn.fold_in(key, "first"), in_shape)
        two = second.init(fcnn.fold_in(key, "second"), one.out_shape)
        params = {name: made.params for name, made in (("first", one), ("second", two)) if made.params}
        return Init(fcnn.freeze(params), EMPTY, two.out_shape, one.macs + two.macs)

    return Layer("in_sequence", {}, children, in_sequence, init, init, init)  # only init is called


def test_summary_needs_to_know_no_combinator():
    network = fcnn.serial(pair=in_sequence(first=fcnn.dense(5), second=fcnn.dense(2)), head=fcnn.dense(3))
    lines = [line.split() for line in fcnn.summary(network, (4,)).splitlines()]
    assert lines[0] == ["path", "layer", "output", "parameters", "multiply-adds", "activations"]
    assert lines[2:5] == [
        ["pair/first", "dense(5)", "(5,)", "25", "20", "20", "B"],
        ["pair/second", "dense(2)", "(2,)", "12", "10", "8", "B"],
        ["head", "dense(3)", "(3,)", "9", "6", "12", "B"],
    ]
    total = fcnn.summary(network, (4,)).splitlines()[-1]
    assert total == "input (4,), 46 parameters, 36 multiply-adds, 40 B of activations an input"


def test_summary_asks_every_layer_once():
    asked = []

    @layer_constructor
    def counted(name: str) -> Functions:
        def init(key, in_shape):
            asked.append(name)
            return Init(EMPTY, EMPTY, in_shape)

        return Functions(init, init, init)  # only init is called

    network = counted("innermost")
    for depth in range(6):
        network = fcnn.serial(a=counted(f"a{depth}"), b=fcnn.residual(network))
    fcnn.summary(network, (3,))
    assert sorted(asked) == sorted(["innermost", *(f"a{depth}" for depth in range(6))])


def test_summary_draws_no_weights():
    text = fcnn.summary(fcnn.serial(fc=fcnn.dense(10**7, bias=False)), (10**7,))  # 400 TB of them
    assert "100,000,000,000,000 parameters" in text


def test_summary_names_the_layer_that_does_not_fit():
    network = fcnn.serial(flat=fcnn.flatten(), res1=fcnn.residual(fcnn.serial(conv1=fcnn.conv2d(2, 3))))
    with pytest.raises(LayerError, match=r"^res1/body/conv1: conv2d\(2, 3\) expects \(C, H, W\), got \(48,\)"):
        fcnn.summary(network, (3, 4, 4))


def test_the_deepest_network_does_everything(tmp_path):
    network = fcnn.relu()
    for _ in range(99):
        network = fcnn.serial(a=network)
    network = fcnn.residual(network)
    assert network.depth == 100
    made = network.init(KEY, (3,))
    x = np.ones((2, 3), np.float32)
    for layer in (
        network,
        fcnn.build(fcnn.describe(network)),
        fcnn.checked(network),
        pickle.loads(pickle.dumps(network)),
    ):
        out = layer.apply(made.params, made.state, x, train=True, key=KEY)
        assert (layer.backward(made.params, out.cache, x).dx == 2).all()
        assert repr(layer) == repr(network)
    assert "relu()" in fcnn.summary(network, (3,))
    fcnn.save_model(tmp_path / "m.npz", fcnn.Model(network, made.params, in_shape=(3,)))
    assert repr(fcnn.load_model(tmp_path / "m.npz").network) == repr(network)
    with pytest.raises(LayerError, match=r"^serial: a network has at most 100 layers one within the other$"):
        fcnn.serial(a=network)


@pytest.mark.parametrize(
    "name",
    ["a\nb", "\x1b[31m", "\u202e", "\ud800", "X" * 9000],
    ids=["lines", "a terminal's", "turned", "half", "long"],
)
def test_whatever_names_a_description_has_an_error_is_one_line(name):
    """Descriptions come in files from anywhere, and what is wrong with them goes to a terminal."""
    good = fcnn.describe(fcnn.serial(a=fcnn.relu()))
    odd = [
        {**good, name: 1},
        {"kind": "relu", name: {}, "children": {}},
        {**good, "kind": name},
        {**good, "config": name},
        {**good, "config": {name: name}},
        {**good, "children": {name: fcnn.describe(fcnn.relu())}},
        {**good, "children": {"a": {**good, "kind": name}, name: 0}},
        {"kind": "dense", "config": {"units": name}, "children": {}},
        {"kind": "dense", "config": {"units": 1, "weights": {"kind": name, "config": {}}}, "children": {}},
        {"kind": "dense", "config": {"units": 1, "weights": {"kind": "he", "config": {name: 1}}}, "children": {}},
    ]
    for description in odd:
        with pytest.raises(fcnn.LayerError) as caught:
            fcnn.build(description)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 600
