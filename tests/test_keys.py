"""Keys: plain immutable values, pure, without collisions, the same in every process."""

import json
import os
import pickle
import subprocess
import sys

import attrs
import numpy as np
import pytest

import fcnn
from fcnn import fold_in, generator, key

PROGRAM = """
import json, fcnn
root = fcnn.key(7)
keys = [root, fcnn.fold_in(root, "conv1"), fcnn.fold_in(root, 3), fcnn.fold_in(fcnn.fold_in(root, "é"), "b")]
print(json.dumps([[k.value for k in keys], fcnn.generator(keys[1]).random(3).tolist()]))
"""


def test_pure():
    assert fold_in(fold_in(key(3), "a"), 5) == fold_in(fold_in(key(3), "a"), 5)
    np.testing.assert_array_equal(generator(key(3)).random(5), generator(key(3)).random(5))


def test_making_generators_and_drawing_leaves_a_key_as_it_was():
    one = key(0)
    before = one.value
    generator(one).random(100)
    fold_in(one, "a")
    assert one.value == before == key(0).value


def test_no_collisions_over_thousands():
    roots = [key(seed) for seed in range(2000)]
    by_number = [fold_in(roots[0], number) for number in range(2000)]
    by_name = [fold_in(roots[0], str(number)) for number in range(2000)]
    deeper = [fold_in(fold_in(roots[0], a), b) for a in range(40) for b in range(40)]
    everything = roots + by_number + by_name + deeper
    assert len(set(everything)) == len(everything)


def test_names_are_not_joined():
    root = key(0)
    assert len({fold_in(fold_in(root, "a"), "bc"), fold_in(fold_in(root, "ab"), "c"), fold_in(root, "abc")}) == 3


def test_the_order_of_folding_matters_but_that_of_calling_does_not():
    root = key(0)
    assert fold_in(fold_in(root, "a"), "b") != fold_in(fold_in(root, "b"), "a")
    forwards = [fold_in(root, name) for name in ("a", "b", "c")]
    backwards = [fold_in(root, name) for name in ("c", "b", "a")]
    assert forwards == backwards[::-1]


def test_streams_of_neighbouring_keys_are_unrelated():
    draws = np.stack([generator(fold_in(key(0), number)).normal(size=4000) for number in range(8)])
    off_diagonal = np.corrcoef(draws) - np.eye(8)
    assert np.abs(off_diagonal).max() < 0.08  # five standard deviations of a correlation of 4000 independent pairs


def test_keys_are_immutable_hashable_values():
    one = key(0)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.value = 1
    assert {one: "found"}[key(0)] == "found"
    assert pickle.loads(pickle.dumps(one)) == one
    assert eval(repr(one), {"Key": fcnn.Key}) == one


def test_numpy_integers_do_as_well():
    assert key(np.int64(5)) == key(5)
    assert fold_in(key(0), np.uint8(5)) == fold_in(key(0), 5)


@pytest.mark.parametrize("seed", [1.0, "0", None, True])
def test_a_seed_is_an_integer(seed):
    with pytest.raises(TypeError, match=r"^seed is an integer of at least 0, got"):
        key(seed)


@pytest.mark.parametrize("data", [1.0, None, b"a", False])
def test_what_is_folded_in_is_a_name_or_an_integer(data):
    with pytest.raises(TypeError, match=r"^data, where it is no text, is an integer of at least 0, got"):
        fold_in(key(0), data)


def test_negative_numbers_are_refused():
    with pytest.raises(ValueError, match="seed is an integer of at least 0, got -1"):
        key(-1)
    with pytest.raises(ValueError, match="data, where it is no text, is an integer of at least 0, got -1"):
        fold_in(key(0), -1)


@pytest.mark.parametrize("value", [-1, 1 << 128, 1.0, "0"])
def test_a_key_is_made_by_key(value):
    with pytest.raises(ValueError, match=r"make keys with fcnn\.key\(seed\)"):
        fcnn.Key(value)


def test_equal_in_every_process_whatever_the_hash_seed():
    found = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        result = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True)
        found.append(json.loads(result.stdout))
    root = key(7)
    keys = [root, fold_in(root, "conv1"), fold_in(root, 3), fold_in(fold_in(root, "é"), "b")]
    assert found[0] == found[1] == [[k.value for k in keys], generator(keys[1]).random(3).tolist()]


def test_the_values_stay_what_they_are():
    """Checkpoints hold keys, so a change of the derivation would break resuming from older files."""
    assert fold_in(fold_in(key(0), "conv1"), 1).value == 0xC6E97CA6EF8D6E599FE8D86534FF1225


def test_training_never_touches_the_global_generator():
    model = fcnn.serial(flatten=fcnn.flatten(), drop=fcnn.dropout(0.5), fc=fcnn.dense(10))
    optimizer = fcnn.adam(1e-3)
    np.random.seed(123)  # noqa: NPY002 (the global state is what is watched)
    before = np.random.get_state()  # noqa: NPY002
    split = fcnn.data.make_digits(key(0), 40)
    state = fcnn.init_state(model, optimizer, key(0), (1, 28, 28))
    stream = fcnn.batches(split, 16, key(1), transform=fcnn.data.random_shift(2))
    fcnn.fold(fcnn.train_step(model, fcnn.softmax_cross_entropy(), optimizer), state, stream)
    after = np.random.get_state()  # noqa: NPY002
    assert before[0] == after[0]
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]
