"""Networks of networks: frozen in part, checked for finite numbers, without caches."""

import pickle
import re
import tracemalloc

import attrs
import numpy as np
import pytest
from cases import CASES, Case, descendants

import fcnn
from fcnn import Functions, Grads, Init, LayerError, Out, layer_constructor, tree
from fcnn.network.rewriting import held_paths, leaves
from fcnn.values.tree import EMPTY, flatten, freeze

KEY = fcnn.key(0)
LOSS = fcnn.softmax_cross_entropy()


def network():
    return fcnn.serial(
        conv1=fcnn.conv2d(4, 3, bias=False),
        bn1=fcnn.batch_norm(),
        relu1=fcnn.relu(),
        res1=fcnn.residual(fcnn.serial(conv=fcnn.conv2d(4, 3, padding=1), drop=fcnn.dropout(0.5))),
        pool=fcnn.global_avg_pool2d(),
        fc1=fcnn.dense(6),
        fc2=fcnn.dense(3),
    )


def images(n=8, seed=0):
    return fcnn.generator(fcnn.key(seed)).standard_normal((n, 2, 8, 8)).astype(np.float32)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request) -> Case:
    return request.param


def arrays(case, seed=1):
    made = case.layer.init(KEY, case.in_shape)
    x = fcnn.generator(fcnn.key(seed)).standard_normal((3, *case.in_shape)).astype(np.float32)
    return made, x


def test_without_caches_gives_the_same_outputs_and_keeps_nothing(case):
    made, x = arrays(case)
    whole = case.layer.apply(made.params, made.state, x, train=False)
    lean = fcnn.without_caches(case.layer)
    out = lean.apply(made.params, made.state, x, train=False)
    assert out.y.tobytes() == whole.y.tobytes()
    assert out.state == whole.state
    assert lean.init(KEY, case.in_shape) == made
    with pytest.raises(LayerError, match="a network without caches has no backward pass"):
        lean.backward(made.params, out.cache, out.y)


def test_evaluation_takes_the_memory_of_a_layer_and_not_of_all():
    deep = fcnn.serial(**{f"conv{k}": fcnn.conv2d(8, 3, padding=1) for k in range(12)})
    made = deep.init(KEY, (8, 16, 16))
    x = np.zeros((64, 8, 16, 16), np.float32)

    def peak(layer):
        layer.apply(made.params, made.state, x, train=False)  # a thread keeps its scratch memory from the first time on
        tracemalloc.start()
        layer.apply(made.params, made.state, x, train=False)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(fcnn.without_caches(deep)) < peak(deep) / 3


def test_checked_changes_nothing_while_all_is_finite(case):
    made, x = arrays(case)
    again = fcnn.rewrite(case.layer, lambda path, layer: layer)  # which undoes `fuse`, as `checked` does
    for train in (True, False):
        found = []
        for layer in (again, fcnn.checked(case.layer)):
            out = layer.apply(made.params, made.state, x, train=train, key=KEY)
            found.append((out.y.tobytes(), layer.backward(made.params, out.cache, out.y)))
        assert found[0][0] == found[1][0]
        assert found[0][1].dx.tobytes() == found[1][1].dx.tobytes()
        assert found[0][1].params == found[1][1].params


@pytest.mark.parametrize("path", ["conv1/w", "res1/body/conv/b", "fc2/w"])
def test_the_first_output_that_is_not_finite_is_named(path):
    checked = fcnn.checked(network())
    made = checked.init(KEY, (2, 8, 8))
    broken = tree.set_at(made.params, path, np.full_like(flatten(made.params)[path], np.nan))
    with pytest.raises(LayerError, match=f"^{path.rpartition('/')[0]}: the output is not finite: [0-9]+ of [0-9]+"):
        checked.apply(broken, made.state, images(), train=False)


def test_the_first_gradient_that_is_not_finite_is_named():
    checked = fcnn.checked(network())
    made = checked.init(KEY, (2, 8, 8))
    out = checked.apply(made.params, made.state, images(), train=True, key=KEY)
    dy = np.zeros_like(out.y)
    dy[0, 1] = np.inf
    with pytest.raises(LayerError, match=r"^fc2: the gradient of (the input|w) is not finite: [0-9]+ of [0-9]+"):
        checked.backward(made.params, out.cache, dy)


def gradients(layer, need_dx=False):
    made = layer.init(KEY, (2, 8, 8))
    out = layer.apply(made.params, made.state, images(), train=True, key=KEY)
    _, dy = LOSS(out.y, np.arange(8) % 3)
    return made, out, layer.backward(made.params, out.cache, dy, need_dx=need_dx)


@pytest.mark.parametrize(
    ("patterns", "held"),
    [
        ("fc1", ["fc1"]),
        ("conv*", ["conv1"]),
        (["conv1", "bn?"], ["bn1", "conv1"]),
        ("res1/*", ["res1/body/conv"]),
        ("*", ["bn1", "conv1", "fc1", "fc2", "res1/body/conv"]),
    ],
)
def test_held_layers_get_zeros_and_the_others_what_they_got(patterns, held):
    frozen = fcnn.hold(network(), patterns)
    made, _, grads = gradients(frozen)
    assert made == network().init(KEY, (2, 8, 8))
    assert flatten(grads.params).keys() == flatten(made.params).keys()
    for path, leaf in flatten(grads.params).items():
        assert leaf.shape == flatten(made.params)[path].shape
        assert leaf.any() == (path.rpartition("/")[0] not in held), path
    if patterns == "fc1":  # it computes in training as in evaluation, so all else is as without holding it
        _, _, plain = gradients(network())
        for path in ("conv1/w", "fc2/w", "res1/body/conv/b"):
            assert (flatten(plain.params)[path] == flatten(grads.params)[path]).all()


def test_the_gradient_of_the_input_goes_through_what_is_held():
    _, _, plain = gradients(network(), need_dx=True)
    _, _, grads = gradients(fcnn.hold(network(), ["fc*"]), need_dx=True)
    assert (plain.dx == grads.dx).all()


def test_held_batch_norm_does_not_go_on_averaging_and_held_dropout_drops_nothing():
    made, out, _ = gradients(fcnn.hold(network(), "bn1"))
    assert out.state["bn1"] == made.state["bn1"]
    _, out, _ = gradients(network())
    assert out.state["bn1"] != made.state["bn1"]
    held = fcnn.hold(fcnn.serial(drop=fcnn.dropout(0.5)), "drop")
    x = images()
    assert (held.apply(EMPTY, EMPTY, x, train=True).y == x).all()


def counted(log):
    """A layer with a parameter, which notes what its backward pass is asked for."""

    @layer_constructor
    def spy(name: str) -> Functions:
        def init(key, in_shape):
            return Init(freeze({"w": np.ones(1, np.float32)}), EMPTY, in_shape)

        def apply(params, state, x, *, train, key=None):
            return Out(params["w"] * x, EMPTY, None)

        def backward(params, cache, dy, *, need_dx=True, need_params=True):
            log.append((name, need_dx, need_params))
            return Grads(dy if need_dx else None, freeze({"w": np.ones(1, np.float32)}) if need_params else EMPTY)

        return Functions(init, apply, backward)

    return spy


def test_no_gradient_of_what_is_held_is_computed_and_backward_ends_where_nothing_before_learns():
    log = []
    spy = counted(log)
    chain = fcnn.serial(a=spy("a"), b=fcnn.residual(spy("b")), c=spy("c"), d=spy("d"))
    made = chain.init(KEY, (3,))
    x = np.ones((2, 3), np.float32)

    def run(patterns, need_dx=False):
        log.clear()
        held = fcnn.hold(chain, patterns)
        out = held.apply(made.params, made.state, x, train=True, key=KEY)
        held.backward(made.params, out.cache, out.y, need_dx=need_dx)
        return log

    assert run("d") == [("d", True, False), ("c", True, True), ("b", True, True), ("a", False, True)]
    assert run(["a", "b/*"]) == [("d", True, True), ("c", False, True)]
    assert run("*") == []
    assert run("*", need_dx=True) == [(name, True, False) for name in "dcba"]


def test_a_pattern_that_matches_nothing_lists_the_paths():
    with pytest.raises(ValueError, match=r"no layer's path matches 'convv\*'; there are conv1, bn1, relu1, res1/"):
        fcnn.hold(network(), ["fc1", "convv*"])


@pytest.mark.parametrize(
    "optimizer",
    [fcnn.adamw(1e-2, weight_decay=0.1), fcnn.sgd(0.1, momentum=0.9, weight_decay=0.1), fcnn.adam(1e-2)],
    ids=repr,
)
def test_a_step_leaves_held_parameters_as_they_are_whatever_the_optimizer_does(optimizer):
    held = fcnn.hold(network(), ["conv1", "res1/*", "fc1"])
    start = fcnn.init_state(held, optimizer, KEY, (2, 8, 8))
    moving = fcnn.train_step(network(), LOSS, optimizer)  # fills the momentum of all
    step = fcnn.train_step(held, LOSS, optimizer)
    batch = images(), np.arange(8) % 3
    start, _ = moving(start, batch)
    state, _ = fcnn.fold(step, start, [batch] * 3)
    held_paths = {path for path, layer in leaves(held) if layer.held}
    for path, leaf in flatten(state.params).items():
        same = leaf.tobytes() == flatten(start.params)[path].tobytes()
        assert same == (path.rpartition("/")[0] in held_paths), path


@pytest.mark.parametrize(
    ("patterns", "only", "held"),
    [
        ("conv1", "w", ["conv1/w"]),
        ("bn1", ["gamma"], ["bn1/gamma"]),
        (["res1/body/conv", "fc?"], "b", ["res1/body/conv/b", "fc1/b", "fc2/b"]),
        ("fc1", ("w", "b"), ["fc1/w", "fc1/b"]),
    ],
)
def test_held_in_part_layers_compute_and_learn_as_they_did_but_for_that_part(patterns, only, held):
    plain, frozen = network(), fcnn.hold(network(), patterns, only=only)
    assert held_paths(frozen) == held
    for need_dx in (False, True):
        (made, out, grads), (_, found, less) = gradients(plain, need_dx), gradients(frozen, need_dx)
        assert found.y.tobytes() == out.y.tobytes()
        assert found.state == out.state
        assert need_dx == (less.dx is not None)
        assert flatten(less.params).keys() == flatten(made.params).keys()
        for path, leaf in flatten(less.params).items():
            expected = np.zeros_like(leaf) if path in held else flatten(grads.params)[path]
            # Held layers aren't fused with what follows them: the rounding of sums of some hundred numbers differs.
            np.testing.assert_allclose(leaf, expected, rtol=1e-5, atol=1e-7, err_msg=path)
    start = fcnn.init_state(frozen, fcnn.adamw(1e-2), KEY, (2, 8, 8))
    step = fcnn.train_step(frozen, LOSS, fcnn.adamw(1e-2))
    state, _ = fcnn.fold(step, start, [(images(), np.arange(8) % 3)] * 2)
    for path, leaf in flatten(state.params).items():
        assert (leaf.tobytes() == flatten(start.params)[path].tobytes()) == (path in held), path


def test_of_what_is_held_in_part_no_gradient_is_computed(monkeypatch):
    network = fcnn.hold(fcnn.serial(a=fcnn.conv2d(2, 3), b=fcnn.flatten(), c=fcnn.dense(2)), ["a", "c"], only="w")
    made = network.init(KEY, (1, 5, 5))
    out = network.apply(made.params, made.state, np.ones((3, 1, 5, 5), np.float32), train=True)
    monkeypatch.setattr("fcnn.ops.conv.weight_gradient", None)  # nobody calls it
    grads = network.backward(made.params, out.cache, out.y, need_dx=False).params
    assert grads["a"]["b"].any()
    assert grads["c"]["b"].any()
    assert not grads["a"]["w"].any()


def test_what_is_held_in_part_can_be_held_again_rewritten_and_pickled():
    held = fcnn.hold(fcnn.hold(network(), "fc*", only="w"), "fc1", only="b")
    for again in (held, fcnn.checked(held), pickle.loads(pickle.dumps(held)), fcnn.fuse(held)):
        assert held_paths(again) == ["fc1/w", "fc1/b", "fc2/w"]
        _, _, grads = gradients(again)
        assert [path for path, leaf in flatten(grads.params).items() if not leaf.any()] == ["fc1/w", "fc1/b", "fc2/w"]
    assert held_paths(fcnn.hold(held, "fc1")) == ["fc1", "fc2/w"]
    assert "dense(6), w and b held" in html_text(held)
    assert held_paths(fcnn.hold(fcnn.dense(3), "*", only="w")) == ["w"]


def html_text(network):
    return re.sub("<[^>]*>", "", network._repr_html_())


def test_a_name_that_is_no_parameter_of_a_held_layer_is_told_with_its_path():
    held = fcnn.hold(network(), ["conv1", "fc1"], only=["w", "b"])
    made = held.init(KEY, (2, 8, 8))
    with pytest.raises(LayerError, match=r"^conv1: hold: only b; the layer's parameters are w$"):
        held.apply(made.params, made.state, images(), train=True, key=KEY)


def test_rewriting_again_keeps_what_was_held():
    again = fcnn.checked(fcnn.hold(network(), "conv1"))
    assert [path for path, layer in descendants(again) if layer.held] == ["conv1"]
    _, _, grads = gradients(again)
    assert not grads.params["conv1"]["w"].any()


def test_a_combinator_that_a_rule_changed_is_not_made_again_in_silence():
    def rule(path, layer):
        if layer.kind != "residual":
            return layer

        def apply(params, state, x, *, train, key=None):
            out = layer.apply(params, state, x, train=train, key=key)
            return out._replace(y=out.y * 0)

        return attrs.evolve(layer, apply=apply, rewritten=True)

    changed = fcnn.rewrite(network(), rule)
    for again in (fcnn.without_caches, fcnn.checked, lambda net: fcnn.hold(net, "fc1")):
        with pytest.raises(LayerError, match=r"^res1: a rule changed this combinator"):
            again(changed)
