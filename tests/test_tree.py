"""Trees: immutable from every side, equal by their bits, and errors that name the path."""

import copy
import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from strategies import DTYPES, examples, leaves, trees

from fcnn import TreeError, freeze, tree


@pytest.fixture
def params():
    return freeze({"conv1": {"w": np.arange(6.0).reshape(2, 3), "b": np.zeros(2)}, "fc": {"w": np.ones(4)}})


@pytest.mark.parametrize("name", ["conv1", "new"])
def test_no_item_can_be_set_or_deleted(params, name):
    with pytest.raises(TypeError, match=r"immutable; fcnn\.tree\.set_at"):
        params[name] = np.ones(1)
    with pytest.raises((TypeError, AttributeError)):
        del params[name]
    assert list(params) == ["conv1", "fc"]


@pytest.mark.parametrize("name", ["_items", "new"])
def test_no_attribute_can_be_set_or_deleted(params, name):
    with pytest.raises(TypeError, match="immutable"):
        setattr(params, name, {})
    with pytest.raises((TypeError, AttributeError)):
        delattr(params, name)
    assert list(params) == ["conv1", "fc"]


@pytest.mark.parametrize("method", ["pop", "popitem", "clear", "update", "setdefault", "__ior__"])
def test_there_is_no_method_that_changes_a_tree(params, method):
    assert not hasattr(params, method)


def test_no_array_can_be_written(params):
    for leaf in tree.flatten(params).values():
        with pytest.raises(ValueError, match="read-only"):
            leaf[...] = 5.0
        with pytest.raises(ValueError, match="read-only"):
            leaf += 1.0


def test_what_was_frozen_may_change_afterwards_without_changing_the_tree():
    array, inner = np.zeros(3), {"b": np.zeros(1)}
    nested = {"w": array, "inner": inner}
    frozen = freeze(nested)
    array[:] = 7
    inner["b"][:] = 7
    inner["c"] = nested["new"] = np.ones(1)
    del nested["w"]
    assert frozen == freeze({"w": np.zeros(3), "inner": {"b": np.zeros(1)}})


def _read_only_slice(base):
    view = base[1:]
    view.flags.writeable = False
    return view


@pytest.mark.parametrize(
    "view",
    [
        _read_only_slice,
        lambda base: _read_only_slice(base[::-1].reshape(5, 2)),
        lambda base: np.broadcast_to(base, (2, 10)),
        lambda base: sliding_window_view(base, 3),
    ],
    ids=["slice", "view of a view", "broadcast_to", "sliding_window_view"],
)
def test_a_read_only_view_of_a_writable_array_is_copied(view):
    base = np.zeros(10)
    made = view(base)
    assert not made.flags.writeable
    frozen = freeze({"w": made})
    base[:] = 7
    assert not frozen["w"].any()


def test_a_read_only_array_over_a_writable_buffer_is_copied():
    buffer = bytearray(32)
    array = np.frombuffer(buffer, np.uint8)
    array.flags.writeable = False
    frozen = freeze({"w": array})
    buffer[:] = b"7" * 32
    assert not frozen["w"].any()


def test_a_read_only_array_is_shared_not_copied():
    array = np.zeros(3)
    array.flags.writeable = False
    assert freeze({"w": array})["w"] is array


def test_freeze_is_idempotent(params):
    assert freeze(params) is params


@pytest.mark.parametrize("name", ["", "W", "1a", "_a", "a-b", "a/b", "a b", "é", "a\n", 1, None])
def test_names_are_checked_and_the_error_says_where(name):
    with pytest.raises(TreeError, match=r"(?s)^fc/.*does not match \[a-z\]"):
        freeze({"fc": {name: np.ones(1)}})


@pytest.mark.parametrize("leaf", [1.0, [1.0], None, "w", (np.ones(1),)])
def test_a_leaf_is_an_array_and_the_error_says_where(leaf):
    advice = "; np.asarray(value, np.float32) makes one of it" if isinstance(leaf, (list, tuple)) else ""
    said = re.escape(f"fc/w: a leaf is a NumPy array of numbers, got {leaf!r}{advice}")
    with pytest.raises(TreeError, match=f"^{said}$"):
        freeze({"fc": {"w": leaf}})


def test_a_numpy_scalar_becomes_a_0d_array():
    leaf = freeze({"s": np.float32(2.5)})["s"]
    assert isinstance(leaf, np.ndarray)
    assert (leaf.shape, leaf.dtype, leaf.item()) == ((), np.float32, 2.5)


def test_a_missing_name_is_an_error_that_lists_the_names(params):
    with pytest.raises(KeyError, match="no 'conv2' in this tree; it has conv1, fc"):
        params["conv2"]
    with pytest.raises(KeyError, match="it has nothing"):
        freeze({})["w"]


def test_is_a_mapping(params):
    assert (len(params), list(params), "fc" in params, "w" in params) == (2, ["conv1", "fc"], True, False)
    assert params.get("conv2", 5) == 5
    assert repr(params["conv1"]) == "{w: float64[2, 3], b: float64[2]}"


# Laws, for trees of any dtypes, shapes, bits and memory orders.


def get(nested, path):
    for name in path.split("/"):
        nested = nested[name]
    return nested


@given(trees())
@examples(150)
def test_unflatten_inverts_flatten(nested):
    leaves = tree.flatten(nested)
    again = tree.unflatten(leaves)
    assert again == nested
    assert list(tree.flatten(again)) == list(leaves)
    assert all(get(nested, path) is leaf for path, leaf in leaves.items())
    assert tree.size(nested) == sum(leaf.size for leaf in leaves.values())
    backwards = tree.unflatten(dict(reversed(leaves.items())))
    assert backwards == nested, "a tree is a mapping, whose order is no part of its value"


@given(trees())
@examples(100)
def test_map_of_the_identity_and_of_a_composition(nested):
    assert tree.map(lambda leaf: leaf, nested) == nested
    assert tree.map_elementwise(lambda leaf: leaf, nested) == nested

    def swap(leaf):
        return leaf.byteswap()

    def reverse(leaf):
        return leaf[::-1] if leaf.ndim else leaf

    assert tree.map(lambda leaf: reverse(swap(leaf)), nested) == tree.map(reverse, tree.map(swap, nested))
    assert tree.map(swap, tree.map(swap, nested)) == nested
    assert tree.map(lambda one, other: other, nested, tree.map(swap, nested)) == tree.map(swap, nested)
    assert tree.map_elementwise(swap, nested) == tree.map(swap, nested)


@given(trees(min_size=1), st.data())
@examples(100)
def test_set_at_and_get_are_lenses(nested, data):
    paths = list(tree.flatten(nested))
    assume(paths)
    one, other = data.draw(st.sampled_from(paths)), data.draw(st.sampled_from(paths))
    first, second = data.draw(leaves()), data.draw(leaves())
    assert tree.set_at(nested, one, get(nested, one)) == nested
    changed = tree.set_at(nested, one, first)
    assert freeze({"leaf": get(changed, one)}) == freeze({"leaf": first})
    assert tree.set_at(changed, one, second) == tree.set_at(nested, one, second)
    assert all(get(changed, path) is leaf for path, leaf in tree.flatten(nested).items() if path != one)
    if one != other:
        swapped = tree.set_at(tree.set_at(nested, other, second), one, first)
        assert tree.set_at(changed, other, second) == swapped


@given(st.data(), st.sampled_from(DTYPES))
@examples(100)
def test_unravel_inverts_ravel(data, dtype):
    nested = data.draw(trees(leaves(st.just(dtype)), min_size=1))
    assume(tree.flatten(nested))
    flat = tree.ravel(nested)
    assert flat.dtype == np.dtype(dtype).newbyteorder("=")  # trees are in the machine's byte order
    assert flat.tobytes() == b"".join(leaf.tobytes() for leaf in tree.flatten(nested).values())
    again = tree.unravel(flat, nested)
    assert tree.ravel(again).tobytes() == flat.tobytes()
    assert again == nested


@given(trees(leaves(st.just("<f4"))))
@examples(50)
def test_astype_and_back_keeps_every_bit(nested):
    nested = tree.map(lambda leaf: np.where(np.isnan(leaf), np.float32(np.nan), leaf), nested)  # others lose a bit
    wide = tree.astype(nested, np.float64)
    assert {leaf.dtype for leaf in tree.flatten(wide).values()} <= {np.dtype(np.float64)}
    assert tree.astype(wide, np.float32) == nested
    same = tree.astype(nested, np.float32)
    assert all(get(same, path) is leaf for path, leaf in tree.flatten(nested).items())


@given(trees())
@examples(100)
def test_pickle_and_deepcopy_keep_every_bit_and_stay_immutable(nested):
    ravelled = tree.map_elementwise(lambda leaf: leaf, nested)
    for again in (pickle.loads(pickle.dumps(nested)), pickle.loads(pickle.dumps(ravelled)), copy.deepcopy(nested)):
        assert again == nested
        assert list(tree.flatten(again)) == list(tree.flatten(nested))
        assert all(not leaf.flags.writeable for leaf in tree.flatten(again).values())


@given(trees(min_size=1), st.data())
@examples(100)
def test_a_tree_with_one_other_bit_is_another(nested, data):
    assert tree.map(lambda leaf: np.array(leaf, order="C"), nested) == nested
    paths = [path for path, leaf in tree.flatten(nested).items() if leaf.nbytes]
    assume(paths)
    path = data.draw(st.sampled_from(paths))
    leaf = get(nested, path)
    raw = bytearray(leaf.tobytes())
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= 1
    other = np.frombuffer(bytes(raw), leaf.dtype).reshape(leaf.shape)
    assert tree.set_at(nested, path, other) != nested
    assert tree.set_at(nested, path, leaf[None]) != nested
    if leaf.itemsize <= 8:
        kind = "u" if leaf.dtype.kind == "i" else "i"
        assert tree.set_at(nested, path, leaf.view(f"{kind}{leaf.itemsize}")) != nested


def test_trees_travel_to_other_processes(params):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(tree.size, params).result() == 12


@pytest.mark.parametrize("order", [1, -1])
def test_unflatten_refuses_a_path_that_is_an_array_and_a_subtree(order):
    leaves = {"fc": np.ones(1), "fc/w": np.ones(1)}
    with pytest.raises(TreeError, match=r"^fc: both an array and the beginning of"):
        tree.unflatten(dict(list(leaves.items())[::order]))


def test_map_joins_trees_by_name_whatever_their_order():
    a = freeze({"x": np.array([1.0]), "y": np.array([2.0])})
    b = freeze({"y": np.array([20.0]), "x": np.array([10.0])})
    assert tree.map(np.add, a, b) == freeze({"x": np.array([11.0]), "y": np.array([22.0])})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"conv1": {"w": np.ones(1)}}, "top of the tree: the trees differ: one has conv1, fc, another conv1"),
        ({"conv1": {"w": np.ones(1)}, "fc": {"w": np.ones(1)}}, "conv1: the trees differ: one has w, b, another w"),
        ({"conv1": {}, "fc": {}}, "conv1: the trees differ: one has w, b, another nothing"),
        ({"conv1": np.ones(1), "fc": {}}, "conv1: the trees differ: a subtree in one, an array in another"),
        (
            {"conv1": {"w": {"x": np.ones(1)}, "b": np.ones(1)}, "fc": {}},
            "conv1/w: the trees differ: an array in one, a subtree in another",
        ),
    ],
)
def test_map_over_trees_that_differ_names_the_path(params, other, message):
    with pytest.raises(TreeError, match=f"^{message}$"):
        tree.map(np.add, params, freeze(other))


def test_map_does_not_alias_what_the_function_can_still_write_to(params):
    scratch = np.zeros(3)
    mapped = tree.map(lambda leaf: scratch, params)
    scratch[:] = 9
    assert not mapped["fc"]["w"].any()


def test_set_at_replaces_a_leaf_or_a_subtree_and_keeps_order_and_the_rest(params):
    changed = tree.set_at(params, "conv1/w", np.full(2, 7.0))
    assert list(tree.flatten(changed)) == ["conv1/w", "conv1/b", "fc/w"]
    assert changed["conv1"]["w"].tolist() == [7.0, 7.0]
    assert changed["fc"] is params["fc"]
    assert params["conv1"]["w"].shape == (2, 3)
    assert list(tree.flatten(tree.set_at(params, "conv1", {"v": np.ones(1)}))) == ["conv1/v", "fc/w"]


def test_set_at_copies_a_writable_value(params):
    value = np.zeros(2)
    changed = tree.set_at(params, "conv1/b", value)
    value[:] = 7
    assert not changed["conv1"]["b"].any()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("conv2/w", "conv2/w: no such path; at 'conv2' the tree has conv1, fc"),
        ("conv1/v", "conv1/v: no such path; at 'v' the tree has w, b"),
        ("conv1/w/x", "conv1/w/x: no such path; 'w' is an array"),
        ("", ": no such path; at '' the tree has conv1, fc"),
    ],
)
def test_set_at_needs_a_path_that_exists(params, path, message):
    with pytest.raises(TreeError, match=f"^{message}$"):
        tree.set_at(params, path, np.ones(1))


def test_astype_casts_every_leaf(params):
    single = tree.astype(params, np.float32)
    assert {leaf.dtype for leaf in tree.flatten(single).values()} == {np.dtype(np.float32)}
    assert tree.astype(single, np.float64) == params


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (np.array([np.nan]), np.array([np.nan]), True),
        (np.array([0.0]), np.array([-0.0]), False),
        (np.float32([1]), np.float64([1]), False),
        (np.zeros((1, 2)), np.zeros((2, 1)), False),
        (np.zeros((1, 0)), np.zeros(0), False),
        (np.arange(4.0).reshape(2, 2), np.asfortranarray(np.arange(4.0).reshape(2, 2)), True),
    ],
    ids=["nan", "signed zero", "dtype", "shape", "empty shapes", "memory order"],
)
def test_equality_is_of_bits_dtypes_and_shapes(a, b, same):
    assert (freeze({"w": a}) == freeze({"w": b})) is same
    assert (freeze({"w": a}) != freeze({"w": b})) is not same


def test_equality_is_of_paths_and_only_with_trees(params):
    assert freeze({"a": np.ones(1)}) != freeze({"b": np.ones(1)})
    assert params != dict(params)
    with pytest.raises(TypeError, match="unhashable"):
        hash(params)
