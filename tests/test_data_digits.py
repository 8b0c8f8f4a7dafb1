"""The embedded digits: the same on every run, balanced, in the middle, and neither trivial nor broken."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from fcnn.data import Split, load, make_digits
from fcnn.values.keys import key


@pytest.fixture(scope="module")
def data():
    return load("digits")


def test_shapes_and_balance(data):
    assert repr(data) == "Dataset('digits', train=Split(10000 images of 1x28x28), test=Split(2000 images of 1x28x28))"
    assert np.bincount(data.train.y).tolist() == [1000] * 10
    assert np.bincount(data.test.y).tolist() == [200] * 10
    assert data.classes == tuple("0123456789")


def test_training_and_test_images_are_all_different(data):
    images = {image.tobytes() for split in (data.train, data.test) for image in split.x}
    assert len(images) == 12_000


def test_looks_like_mnist(data):
    x = data.train.x[:, 0]
    assert x.max(axis=(1, 2)).min() > 100, "every digit can be seen"
    assert 30 < x.mean() < 50, "MNIST's mean is 33"
    assert (x[:, [0, -1]] == 0).mean() > 0.98, "white on black, away from the edge"
    heights = np.array([np.ptp(np.nonzero(image.max(axis=1) > 60)[0]) + 1 for image in x])
    assert 18 < heights.mean() < 22
    weight = x.sum(axis=(1, 2), dtype=float)
    for axis in (1, 2):
        centre = (x.sum(axis=3 - axis, dtype=float) * np.arange(28)).sum(axis=1) / weight
        assert abs(centre.mean() - 13.5) < 0.7


def test_is_learnable_and_not_trivial(data):
    """Nearest class means, the simplest classifier, is far above chance and far below a network."""
    means = np.stack([data.train.x[data.train.y == digit].mean(axis=0).ravel() for digit in range(10)])
    test = data.test.x.reshape(2000, -1).astype(float)
    guess = (test @ means.T - (means**2).sum(axis=1) / 2).argmax(axis=1)
    assert 0.5 < (guess == data.test.y).mean() < 0.9


def test_a_pure_function_of_key_and_n():
    split = make_digits(key(0), 1200)
    np.testing.assert_array_equal(make_digits(key(0), 1200).x, split.x)
    for n in (0, 1, 500, 501):
        shorter = make_digits(key(0), n)
        np.testing.assert_array_equal(shorter.x, split.x[:n])
        np.testing.assert_array_equal(shorter.y, split.y[:n])
    assert not np.array_equal(make_digits(key(1), 10).x, split.x[:10])
    assert isinstance(split, Split)


def test_the_same_bits_in_another_process():
    code = (
        "import hashlib; from fcnn.data import make_digits; from fcnn.values.keys import key\n"
        "print(hashlib.sha256(make_digits(key(0), 40).x).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(make_digits(key(0), 40).x).hexdigest()
