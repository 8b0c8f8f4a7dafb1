"""Augmentations are pure, keep shape, dtype, labels and memory order, and do what a slow loop does."""

import copy
import functools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from fcnn.data import Batch, Split, alternating_flip, batches, compose, random_affine, random_flip, random_shift
from fcnn.ops.layout import block, unblock
from fcnn.values.arrays import frozen
from fcnn.values.keys import fold_in, key

ALL = [
    random_shift(2),
    random_shift(2, mode="zero"),
    random_shift(0),
    random_flip(),
    alternating_flip(key(7)),
    random_affine(),
    compose(random_shift(1), random_flip(), random_flip()),
]


def batch_of(n=8, shape=(3, 6, 5), dtype=np.float32, seed=0):
    x = np.random.default_rng(seed).random((n, *shape)).astype(dtype)
    return Batch(frozen(x), frozen(np.arange(n)), frozen(np.arange(n)[::-1] + 5), 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_contract(transform, dtype):
    batch = batch_of(dtype=dtype)
    before = batch.x.copy()
    out = transform(key(1), batch)
    assert (out.x.shape, out.x.dtype) == (batch.x.shape, dtype)
    assert out.x.transpose(2, 1, 3, 0).flags.c_contiguous
    np.testing.assert_array_equal(out.y, batch.y)
    assert (out.rows.tolist(), out.epoch) == (batch.rows.tolist(), 2)
    np.testing.assert_array_equal(batch.x, before)
    assert not np.shares_memory(out.x, batch.x)
    with pytest.raises(ValueError, match="read-only"):
        out.x[0] = 0
    assert not out.x.base.flags.writeable
    np.testing.assert_array_equal(transform(key(1), batch).x, out.x)
    innermost = batch._replace(x=frozen(unblock(block(batch.x))))
    np.testing.assert_array_equal(transform(key(1), innermost).x, out.x)
    for again in (pickle.loads(pickle.dumps(transform)), copy.deepcopy(transform)):
        assert repr(again) == repr(transform)
        np.testing.assert_array_equal(again(key(1), batch).x, out.x)


@pytest.mark.parametrize("transform", [ALL[0], ALL[3], ALL[5], ALL[6]], ids=repr)
def test_another_key_gives_another_batch(transform):
    batch = batch_of(32)
    assert not np.array_equal(transform(key(0), batch).x, transform(key(1), batch).x)


@pytest.mark.parametrize("transform", [ALL[0], ALL[1], ALL[4], random_affine(0, 0, 0)], ids=repr)
def test_any_number_of_images_comes_back_in_its_order(transform):
    """None, and more than are taken at a time: each image is told by its brightness, and keeps its place."""
    for n in (0, 1, 127, 128, 129, 300):
        levels = np.arange(n, dtype=np.float32)
        x = np.broadcast_to(levels[:, None, None, None], (n, 2, 5, 5))
        out = transform(key(3), Batch(x, np.arange(n), rows=np.arange(n))).x
        np.testing.assert_array_equal(out[:, :, 2, 2], np.stack([levels, levels], axis=1))


@examples(30)
@given(st.integers(0, 4), st.sampled_from([("reflect", "reflect"), ("zero", "constant")]), st.integers(0, 99))
def test_a_shift_is_a_crop_of_the_padded_image(pixels, modes, seed):
    mode, pad_mode = modes
    batch = batch_of(4, seed=seed)
    out = random_shift(pixels, mode=mode)(key(seed), batch)
    p, (h, w) = pixels, batch.x.shape[2:]
    for image, shifted in zip(batch.x, out.x, strict=True):
        padded = np.pad(image, ((0, 0), (p, p), (p, p)), mode=pad_mode)
        crops = [padded[:, i : i + h, j : j + w] for i in range(2 * p + 1) for j in range(2 * p + 1)]
        assert any(np.array_equal(crop, shifted) for crop in crops)


def test_shifts_reach_every_offset_equally_often():
    x = np.zeros((9000, 1, 3, 3), np.float32)
    x[:, 0, 1, 1] = 1
    where = random_shift(1, "zero")(key(0), Batch(x, np.zeros(9000, np.int64))).x.sum(axis=(0, 1))
    assert where.sum() == 9000
    assert 880 < where.min() <= where.max() < 1120


def test_a_flip_mirrors_about_half_of_the_images():
    batch = batch_of(1000, (1, 2, 3))
    out = random_flip()(key(0), batch).x
    flipped = (out == batch.x[..., ::-1]).all(axis=(1, 2, 3))
    assert ((out == batch.x).all(axis=(1, 2, 3)) ^ flipped).all()
    assert 430 < flipped.sum() < 570


def mirrored(split, stream):
    """Which images of the split came mirrored, in each epoch, by their rows."""
    found = {}
    for batch in stream:
        plain = split.x[batch.rows].astype(np.float32) / np.float32(255)
        across = (batch.x == plain[..., ::-1]).all(axis=(1, 2, 3))
        assert (across ^ (batch.x == plain).all(axis=(1, 2, 3))).all()
        found.setdefault(batch.epoch, np.full(len(split), -1))[batch.rows] = across
    return found


def test_an_alternating_flip_mirrors_a_fixed_half_and_then_the_others():
    split = Split(np.random.default_rng(0).integers(0, 256, (400, 1, 3, 4), dtype=np.uint8), np.zeros(400, np.int64))
    flip = alternating_flip(key(1))
    first = mirrored(split, batches(split, 64, key(0), epochs=4, transform=flip))
    assert [*first] == [0, 1, 2, 3]
    assert 160 < first[0].sum() < 240
    for epoch in range(4):
        np.testing.assert_array_equal(first[epoch], first[0] ^ (epoch % 2))
    # It is the image that is drawn for, whatever the batches, their order and the stream's key.
    other = mirrored(split, batches(split, 17, key(5), epochs=3, start_step=30, transform=compose(flip), shuffle=False))
    np.testing.assert_array_equal(other[2], first[0])
    another = mirrored(split, batches(split, 64, key(0), transform=alternating_flip(key(2))))
    assert 120 < (another[0] != first[0]).sum() < 280
    half = split.take(200)
    np.testing.assert_array_equal(mirrored(half, batches(half, 64, key(0), transform=flip))[0], first[0][:200])


def test_an_alternating_flip_needs_nothing_but_its_own_key_and_what_the_batch_says():
    x = np.broadcast_to(np.arange(3, dtype=np.float32), (4, 1, 1, 3))
    rows = np.array([2, 9, 0, 9], np.int32)
    flip = alternating_flip(key(0))
    even, odd = (flip(key(epoch), Batch(x, np.arange(4), rows, epoch)).x[:, 0, 0] for epoch in (8, 9))
    np.testing.assert_array_equal(even, odd[:, ::-1])
    np.testing.assert_array_equal(even[1], even[3])
    unsigned = flip(key(8), Batch(x, np.arange(4), rows.astype(np.uint8), 8)).x[:, 0, 0]
    np.testing.assert_array_equal(unsigned, even)


def test_transforms_take_and_give_plain_pairs():
    x, y = np.zeros((2, 1, 3, 3), np.float32), np.arange(2)
    out = compose(random_flip(), random_shift(1))(key(0), (x, y))
    assert (type(out), out.rows, out.epoch) == (Batch, None, 0)


def test_an_affine_map_that_moves_nothing_is_the_identity():
    batch = batch_of()
    # positions up to 5 are float32, rounded by 2.4e-7: so much of a neighbour is blended in
    np.testing.assert_allclose(random_affine(0, 0, 0)(key(0), batch).x, batch.x, rtol=0, atol=1e-6)


def test_an_affine_shift_by_a_fraction_blends_neighbours_and_is_black_outside():
    x = np.ones((200, 1, 5, 5), np.float32)
    out = random_affine(0, 0, 3.0)(key(0), Batch(x, np.zeros(200, np.int64))).x
    assert out.min() >= 0
    assert out.max() <= 1 + 1e-6
    assert (out == 0).any()
    ramp = np.broadcast_to(np.arange(9, dtype=np.float32), (50, 1, 9, 9))
    moved = random_affine(0, 0, 1.0)(key(0), Batch(ramp, np.zeros(50, np.int64))).x[:, 0, 4]
    steps = np.diff(moved[:, 2:-2], axis=1)
    # differences of float32 values up to 8 at positions up to 8, rounded by 4.8e-7 each
    np.testing.assert_allclose(steps, 1, rtol=0, atol=1e-5)
    assert np.abs(moved[:, 4] - 4).max() <= 1 + 1e-5


def test_an_affine_map_matches_a_loop_in_the_documented_formula():
    image = np.random.default_rng(0).random((7, 7))
    out = random_affine(30, 0.2, 1.5)(key(5), Batch(image[None, None], np.zeros(1, np.int64))).x[0, 0]
    from fcnn.values.keys import generator

    rng = generator(key(5))
    angle, factor = np.deg2rad(rng.uniform(-30, 30, 1)[0]), rng.uniform(0.8, 1.2, 1)[0]
    shift = rng.uniform(-1.5, 1.5, (2, 1))[:, 0]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def at(i, j):
        return image[i, j] if 0 <= i < 7 and 0 <= j < 7 else 0.0

    for p in np.ndindex(7, 7):
        r, c = turn @ (np.array(p) - 3 - shift) / factor + 3
        i, j = int(np.floor(r)), int(np.floor(c))
        a, b = r - i, c - j
        expected = (at(i, j) * (1 - b) + at(i, j + 1) * b) * (1 - a)
        expected += (at(i + 1, j) * (1 - b) + at(i + 1, j + 1) * b) * a
        assert out[p] == pytest.approx(expected, abs=1e-13)  # float64: positions up to 7, and six products


def test_compose_derives_keys_by_name_and_place_among_that_name():
    seen = []

    def spy(k, batch):
        seen.append(k)
        return batch

    compose(spy, random_flip(), spy)(key(0), batch_of())
    assert seen == [fold_in(key(0), "spy1"), fold_in(key(0), "spy2")]
    flip = compose(random_flip())(key(0), batch_of())
    np.testing.assert_array_equal(compose(random_shift(0), random_flip())(key(0), batch_of()).x, flip.x)
    assert compose()(key(0), batch_of()).x.shape == batch_of().x.shape
    compose(functools.partial(spy))(key(0), batch_of())
    assert seen[-1] == fold_in(key(0), "partial1")
