"""Batches are a pure function of their arguments, whatever step they start from."""

import copy
import itertools
import pickle

import data_files as files
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

import fcnn
from fcnn.data import Batch, Split, as_batch, batches, steps_per_epoch
from fcnn.values.keys import fold_in, generator, key

DATA = examples(50)


def numbered(n, shape=(1, 2, 3)):
    return Split(files.images(n, *shape), np.arange(n))


def same(left, right):
    return all(np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y) for a, b in zip(left, right, strict=True))


def jitter(k, batch):
    return Batch(batch.x + generator(k).random(dtype=np.float32), batch.y)


@DATA
@given(st.data())
def test_starting_at_a_step_gives_the_tail_of_the_whole(data):
    n, size = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
    options = {
        "epochs": data.draw(st.integers(0, 3)),
        "shuffle": data.draw(st.booleans()),
        "drop_last": data.draw(st.booleans()) and n >= size,
        "transform": data.draw(st.sampled_from([None, jitter])),
    }
    seed = key(data.draw(st.integers(0, 5)))
    whole = list(batches(numbered(n), size, seed, **options))
    start = data.draw(st.integers(0, len(whole)))
    assert same(batches(numbered(n), size, seed, start_step=start, **options), whole[start:])


@DATA
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 9))
def test_each_epoch_is_a_permutation_in_batches_of_the_size(n, size, seed):
    steps = steps_per_epoch(n, size)
    stream = list(batches(numbered(n), size, key(seed), epochs=2))
    assert len(stream) == 2 * steps
    for epoch in (stream[:steps], stream[steps:]):
        assert all(len(batch.y) == size for batch in epoch[:-1])
        assert sorted(np.concatenate([batch.y for batch in epoch])) == list(range(n))


def test_epochs_and_keys_differ_and_the_order_is_the_documented_one():
    split = numbered(100)
    first, second = (batch.y for batch in batches(split, 100, key(0), epochs=2))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, next(batches(split, 100, key(1))).y)
    expected = generator(fold_in(fold_in(key(0), "epoch"), 1)).permutation(100)
    np.testing.assert_array_equal(second, expected)
    np.testing.assert_array_equal(next(batches(split, 100, key(0), shuffle=False)).y, np.arange(100))


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_batch_says_which_rows_of_which_epoch_it_holds(shuffle):
    split = numbered(7)
    stream = list(batches(split, 3, key(1), epochs=3, start_step=2, shuffle=shuffle))
    assert [batch.epoch for batch in stream] == [0, 1, 1, 1, 2, 2, 2]
    for batch in stream:
        assert batch.rows.dtype == np.int64
        np.testing.assert_array_equal(split.y[batch.rows], batch.y)
        assert not batch.rows.flags.writeable
        assert not batch.rows.base.flags.writeable


def test_a_transform_sees_them_and_what_it_gives_is_what_comes():
    seen = []

    def brighter(k, batch):
        seen.append((batch.rows.tolist(), batch.epoch))
        return batch._replace(x=batch.x + 1)

    stream = list(batches(numbered(5), 2, key(0), epochs=2, transform=brighter))
    assert seen == [(batch.rows.tolist(), batch.epoch) for batch in stream]
    assert seen == [(batch.y.tolist(), batch.epoch) for batch in batches(numbered(5), 2, key(0), epochs=2)]
    assert {batch.rows is None for batch in batches(numbered(5), 2, key(0), transform=jitter)} == {True}


def test_a_batch_is_the_pair_that_it_was_before():
    x, y, rows = np.zeros((2, 3)), np.arange(2), np.array([4, 9])
    plain, told = Batch(x, y), Batch(x, y, rows=rows, epoch=3)
    for batch in (plain, told):
        assert isinstance(batch, tuple)
        assert len(batch) == 2
        first, second = batch
        assert (first, second) == (batch.x, batch.y) == (batch[0], batch[1])
        assert batch._fields == ("x", "y")
        assert batch._asdict() == {"x": x, "y": y}
    assert (plain.rows, plain.epoch) == (Batch._make((x, y)).rows, Batch._make((x, y)).epoch) == (None, 0)
    assert repr(plain) == f"Batch(x={x!r}, y={y!r})"
    assert repr(told) == f"Batch(x={x!r}, y={y!r}, rows={rows!r}, epoch=3)"


def test_what_is_known_of_a_batch_stays_with_it_and_does_not_change():
    told = Batch(np.zeros((2, 3)), np.arange(2), np.array([4, 9]), 3)
    for again in (told._replace(y=np.ones(2)), pickle.loads(pickle.dumps(told)), copy.copy(told), copy.deepcopy(told)):
        assert type(again) is Batch
        assert (again.rows.tolist(), again.epoch) == ([4, 9], 3)
    assert told._replace(rows=None, epoch=4).epoch == 4
    for name in ("rows", "epoch", "x", "other"):
        with pytest.raises(AttributeError, match=r"^a batch is immutable; batch\._replace\(…\) makes another$"):
            setattr(told, name, 1)
    with pytest.raises(TypeError, match="other"):
        told._replace(other=1)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 1, 5)])
def test_pixels_are_divided_by_255_and_lie_batch_innermost(shape):
    split = numbered(7, shape)
    batch = next(batches(split, 7, key(0)))
    np.testing.assert_array_equal(batch.x, split.x[batch.y].astype(np.float32) / 255)
    assert (batch.x.dtype, batch.y.dtype) == (np.float32, np.int64)
    assert batch.x.transpose(2, 1, 3, 0).flags.c_contiguous
    for array in batch:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
        assert array.base is None or not array.base.flags.writeable


def test_sequences_of_floats_lie_batch_innermost():
    x, y = np.random.default_rng(0).standard_normal((7, 3, 5)), np.arange(7)
    for batch in (as_batch(x, y), next(batches(Split(x, y), 7, key(0), shuffle=False))):
        np.testing.assert_array_equal(batch.x, x.astype(np.float32))
        assert batch.x.T.flags.c_contiguous  # (L, C, N)
        assert not batch.x.flags.writeable


def test_every_grey_level_is_the_float_quotient():
    x = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
    expected = np.arange(256, dtype=np.float32) / np.float32(255)
    np.testing.assert_array_equal(as_batch(x, np.arange(256)).x.ravel(), expected)


def test_as_batch_keeps_its_inputs():
    x, y = files.images(3, 1, 2, 2), np.arange(3)
    before = x.copy()
    batch = as_batch(x, y)
    y[:] = 9
    np.testing.assert_array_equal(x, before)
    assert batch.y.tolist() == [0, 1, 2]


def test_the_transform_gets_the_key_of_its_step():
    keys = []

    def remember(k, batch):
        keys.append(k)
        return batch

    list(batches(numbered(4), 2, key(3), epochs=2, start_step=1, transform=remember))
    assert keys == [fold_in(fold_in(key(3), "transform"), step) for step in (1, 2, 3)]


def test_steps_per_epoch():
    assert [steps_per_epoch(10, size) for size in (1, 3, 5, 10, 11)] == [10, 4, 2, 1, 1]
    assert [steps_per_epoch(10, size, drop_last=True) for size in (1, 3, 5, 10)] == [10, 3, 2, 1]


def test_a_late_start_reads_nothing_of_what_it_skips():
    class Counting(np.ndarray):
        reads = 0

        def __getitem__(self, item):
            Counting.reads += 1
            return np.asarray(self)[item]

    split = numbered(1000)
    object.__setattr__(split, "x", split.x.view(Counting))
    list(itertools.islice(batches(split, 1, key(0), epochs=10, start_step=9_990), 5))
    assert Counting.reads == 5


@pytest.mark.parametrize("value", [1e300, -3.5e38])
def test_numbers_beyond_float32_are_refused_and_not_made_infinite(value):
    x, y = np.array([[0.5], [value], [np.inf]]), np.arange(3)
    message = r"^x holds finite numbers beyond 3\.4e\+38, the greatest in a batch, of float32; scale them$"
    network = fcnn.dense(3)
    made = network.init(key(0), (1,))
    model = fcnn.Model(network, made.params, in_shape=(1,))
    for use in (
        lambda: as_batch(x, y),
        lambda: next(batches(Split(x, y), 3, key(0))),
        lambda: fcnn.evaluate(network, made.params, made.state, (x, y)),
        lambda: fcnn.predict(model, x),
        lambda: fcnn.fit(network, (x, y), epochs=1, progress=False),
    ):
        with pytest.raises(ValueError, match=message):
            use()
    np.testing.assert_array_equal(as_batch(np.array([[np.inf], [-np.inf]]), y[:2]).x, [[np.inf], [-np.inf]])
