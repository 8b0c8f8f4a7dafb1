"""Losses and metrics against numbers worked out by hand."""

import math
import tracemalloc

import numpy as np
import pytest

import fcnn
from fcnn import (
    accuracy,
    binary_accuracy,
    binary_cross_entropy,
    classification_report,
    confusion_matrix,
    huber,
    mean_absolute_error,
    mean_squared_error,
    softmax_cross_entropy,
)

LOG2, LOG3 = math.log(2), math.log(3)


@pytest.mark.parametrize(
    ("logits", "labels", "smoothing", "value", "gradient"),
    [
        ([[0.0, 0.0]], [1], 0.0, LOG2, [[0.5, -0.5]]),
        # softmax (1/4, 3/4); the loss is -log(3/4)
        ([[0.0, LOG3]], [1], 0.0, math.log(4 / 3), [[0.25, -0.25]]),
        # the mean of log 2 and log 4: every row's gradient is halved
        ([[0.0, 0.0], [0.0, LOG3]], [0, 0], 0.0, 1.5 * LOG2, [[-0.25, 0.25], [-0.375, 0.375]]),
        # q = (1/8, 7/8): 1/8 log 4 + 7/8 log(4/3)
        ([[0.0, LOG3]], [1], 0.25, math.log(4) / 8 + 7 * math.log(4 / 3) / 8, [[0.125, -0.125]]),
        ([[5.0, 5.0, 5.0, 5.0]], [3], 0.5, math.log(4), [[0.125, 0.125, 0.125, -0.375]]),
    ],
)
def test_cross_entropy_by_hand(logits, labels, smoothing, value, gradient):
    found, d_logits = softmax_cross_entropy(smoothing)(np.array(logits), np.array(labels))
    assert isinstance(found, float)
    # a few roundings, 1.1e-16 each, of numbers up to 2
    assert found == pytest.approx(value, abs=1e-15)
    np.testing.assert_allclose(d_logits, gradient, rtol=0, atol=1e-15)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_does_not_see_a_shift_of_the_logits_and_its_gradient_sums_to_zero(smoothing):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(7, 5)), rng.integers(0, 5, 7)
    loss = softmax_cross_entropy(smoothing)
    value, d_logits = loss(logits, labels)
    shifted, d_shifted = loss(logits + 64.0, labels)
    # logits around 64 are rounded by 7e-15
    assert shifted == pytest.approx(value, rel=1e-13, abs=0)
    np.testing.assert_allclose(d_shifted, d_logits, rtol=0, atol=1e-13)
    # five numbers below 1/7, rounded by 1.4e-17 each
    np.testing.assert_allclose(d_logits.sum(axis=1), 0, rtol=0, atol=1e-16)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_labels_of_any_integer_type(dtype):
    logits = np.array([[0.0, LOG3]])
    assert softmax_cross_entropy()(logits, np.array([1], dtype))[0] == pytest.approx(
        math.log(4 / 3), rel=1e-15, abs=0
    )  # a few roundings


@pytest.mark.parametrize("shape", [(4,), (2, 2), (1, 2, 2)])
def test_mean_squared_error_by_hand(shape):
    outputs, targets = np.array([1.0, 2.0, 3.0, -4.0]).reshape(shape), np.array([1, 0, 0, 0]).reshape(shape)
    value, d_outputs = mean_squared_error()(outputs, targets)
    assert value == 29 / 4
    np.testing.assert_array_equal(d_outputs, np.array([0.0, 1.0, 1.5, -2.0]).reshape(shape))


def test_weighted_cross_entropy_by_hand():
    """log 2 of class 0 counts once, log 4 of class 1 three times."""
    logits, labels = np.array([[0.0, 0.0], [LOG3, 0.0]]), np.array([0, 1])
    value, d_logits = softmax_cross_entropy(class_weights=[1, 3])(logits, labels)
    assert value == pytest.approx((LOG2 + 3 * 2 * LOG2) / 4, rel=1e-15, abs=0)  # a few roundings
    np.testing.assert_allclose(d_logits, [[-0.125, 0.125], [9 / 16, -9 / 16]], rtol=0, atol=1e-15)


@pytest.mark.parametrize(("ignored", "dtype"), [(-1, np.int64), (-100, np.int32), (255, np.uint8), (1, np.uint64)])
def test_ignored_labels_count_for_nothing(ignored, dtype):
    logits = np.array([[0.0, LOG3], [7.0, -2.0], [0.0, 0.0]])
    labels = np.array([0, ignored, 0]).astype(dtype)
    loss = softmax_cross_entropy(ignored=ignored)
    value, d_logits = loss(logits, labels)
    expected, d_expected = softmax_cross_entropy()(logits[[0, 2]], np.array([0, 0]))
    assert value == expected
    assert d_logits.tolist() == [d_expected[0].tolist(), [0.0, 0.0], d_expected[1].tolist()]
    assert loss.weights(labels).tolist() == [1, 0, 1]


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"class_weights": [1, 2]}], ids=str)
def test_where_all_labels_are_ignored_nothing_is_learnt(options):
    value, d_logits = softmax_cross_entropy(**options, ignored=-1)(np.ones((3, 2), np.float32), np.full(3, -1))
    assert (value, d_logits.tolist(), d_logits.dtype) == (0.0, [[0.0, 0.0]] * 3, np.float32)


def test_binary_cross_entropy_by_hand():
    """sigmoid(log 3) is 3/4: the costs are -log of 3/4 and of 1/4, and half of each."""
    logits, targets = np.array([[LOG3, LOG3], [LOG3, -LOG3]]), np.array([[1, 0], [0.5, 1]])
    value, d_logits = binary_cross_entropy()(logits, targets)
    sure, unsure = math.log(4 / 3), math.log(4)
    assert value == pytest.approx((sure + unsure + (sure + unsure) / 2 + unsure) / 4, rel=1e-15, abs=0)
    np.testing.assert_allclose(d_logits, np.array([[-1, 3], [1, -3]]) / 16, rtol=0, atol=1e-16)
    value, d_logits = binary_cross_entropy([2, 5])(logits, targets)
    assert value == pytest.approx((2 * sure + unsure + sure + unsure / 2 + 5 * unsure) / 4, rel=1e-15, abs=0)
    np.testing.assert_allclose(d_logits, np.array([[-2, 3], [0.5, -15]]) / 16, rtol=0, atol=1e-15)


def test_binary_cross_entropy_of_one_output_takes_labels_in_a_row():
    logits, labels = np.array([[0.3], [-2.0], [1.0]]), np.array([1, 0, 0])
    in_a_row, in_a_column = (binary_cross_entropy(2)(logits, y) for y in (labels, labels[:, None]))
    assert in_a_row[0] == in_a_column[0]
    assert in_a_row[1].tolist() == in_a_column[1].tolist()
    assert in_a_row[1].shape == (3, 1)


def test_absolute_and_huber_errors_by_hand():
    outputs, targets = np.array([1.0, -4.0, 2.0, 0.5]), np.array([0, 0, 2, 0])
    value, d_outputs = mean_absolute_error()(outputs, targets)
    assert (value, d_outputs.tolist()) == (5.5 / 4, [0.25, -0.25, 0.0, 0.25])
    value, d_outputs = huber()(outputs, targets)
    assert (value, d_outputs.tolist()) == ((0.5 + 3.5 + 0 + 0.125) / 4, [0.25, -0.25, 0.0, 0.125])


#           label: 0  0  0  0  1  1  2  2  2  2
LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
GUESSES = np.array([0, 0, 0, 1, 1, 0, 2, 2, 2, 1])


def test_a_network_of_maps_learns_the_labels_of_pixels_by_the_loss_in_the_docstring():
    def of_pixels(logits, labels):
        rows = logits.transpose(0, 2, 3, 1)
        value, d_rows = softmax_cross_entropy()(rows.reshape(-1, rows.shape[3]), labels.reshape(-1))
        return value, d_rows.reshape(rows.shape).transpose(0, 3, 1, 2)

    x = np.random.default_rng(0).standard_normal((16, 1, 5, 5)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    network, optimizer = fcnn.serial(conv=fcnn.conv2d(2, 1)), fcnn.adam(0.1)
    start = fcnn.init_state(network, optimizer, fcnn.key(0), (1, 5, 5))
    final, records = fcnn.fold(fcnn.train_step(network, of_pixels, optimizer), start, [(x, y)] * 40)
    assert records[-1].loss < 0.2 < 0.5 < records[0].loss
    outputs = fcnn.predictor(network, final.params, final.layer_state)(x)
    assert np.mean(outputs.argmax(axis=1) == y) > 0.95


def test_accuracy():
    assert accuracy(GUESSES, LABELS) == 0.7
    assert accuracy(LABELS, LABELS) == 1.0


def test_binary_accuracy_is_the_share_of_labels_that_are_right():
    logits = np.array([[1.0, -1.0, 0.0], [2.0, 3.0, -4.0]])
    targets = np.array([[1, 1, 0], [0, 1, 0]])  # of the first, second and third label 1, 1 and 2 are right
    for kind in (np.float32, np.int64, bool):
        assert binary_accuracy(logits, targets.astype(kind)) == 4 / 6
    assert binary_accuracy(logits[:, :1], targets[:, 0]) == binary_accuracy(logits[:, 0], targets[:, 0]) == 0.5
    assert binary_accuracy(logits[:, :1], targets[:, :1]) == 0.5
    assert binary_accuracy(np.array([np.nan, np.inf], np.float32), np.array([1, 1])) == 0.5


def test_confusion_matrix_has_the_truth_in_rows_and_the_guesses_in_columns():
    table = confusion_matrix(GUESSES, LABELS)
    assert table.tolist() == [[3, 1, 0], [1, 1, 0], [0, 1, 3]]
    assert (table.dtype, table.flags.writeable) == (np.int64, False)
    assert confusion_matrix(np.array([1]), np.array([0]), classes=3).tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_confusion_matrix_of_small_integers_does_not_overflow():
    labels = np.array([199, 0], np.uint8)
    table = confusion_matrix(labels, labels)
    assert (table.shape, table[199, 199], table[0, 0], table.sum()) == ((200, 200), 1, 1, 2)


def test_a_great_label_takes_no_memory_in_a_report():
    """A table of 50,001 classes would take 20 GB."""
    tracemalloc.start()
    try:
        report = classification_report(np.array([0, 50_000, 7]), np.array([0, 50_000, 50_000]))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert [(name, one.precision, one.recall, one.support) for name, one in report.classes.items()] == [
        ("0", 1.0, 1.0, 1),
        ("7", 0.0, 0.0, 0),
        ("50000", 1.0, 0.5, 2),
    ]
    assert report.accuracy == 2 / 3


def test_scores_by_hand():
    report = classification_report(GUESSES, LABELS)
    precision, recall, f1, support = (3 / 4, 1 / 3, 1.0), (3 / 4, 1 / 2, 3 / 4), (3 / 4, 2 / 5, 6 / 7), (4, 2, 4)
    for k, name in enumerate("012"):
        scores = report.classes[name]
        assert (scores.precision, scores.recall, scores.support) == (precision[k], recall[k], support[k])
        assert scores.f1 == pytest.approx(f1[k], rel=1e-15, abs=0)  # a few roundings
    assert report.accuracy == 0.7
    for average, weights in ((report.macro, (1 / 3,) * 3), (report.weighted, (0.4, 0.2, 0.4))):
        assert average.precision == pytest.approx(np.dot(precision, weights), rel=1e-15, abs=0)
        assert average.recall == pytest.approx(np.dot(recall, weights), rel=1e-15, abs=0)
        assert average.f1 == pytest.approx(np.dot(f1, weights), rel=1e-15, abs=0)
        assert average.support == 10


def test_the_report_reads_as_scikit_learns():
    assert str(classification_report(GUESSES, LABELS, ["cat", "dog", "bird"])) == (
        "              precision    recall  f1-score   support\n"
        "\n"
        "         cat     0.7500    0.7500    0.7500         4\n"
        "         dog     0.3333    0.5000    0.4000         2\n"
        "        bird     1.0000    0.7500    0.8571         4\n"
        "\n"
        "    accuracy                         0.7000        10\n"
        "   macro avg     0.6944    0.6667    0.6690        10\n"
        "weighted avg     0.7667    0.7000    0.7229        10"
    )


def test_the_report_widens_with_the_names():
    lines = str(classification_report(GUESSES, LABELS, ["a", "b", "a class with a long name"])).splitlines()
    assert {len(line) for line in lines if line} == {len("a class with a long name") + 41}
    assert lines[4].startswith("a class with a long name ")


def test_zero_over_zero_is_zero():
    """Class 1 was never guessed, class 2 never true, class 3 neither."""
    report = classification_report(np.array([0, 0, 2]), np.array([0, 1, 0]), list("abcd"))
    assert [(s.precision, s.recall, s.f1, s.support) for s in report.classes.values()] == [
        (0.5, 0.5, 0.5, 2),
        (0.0, 0.0, 0.0, 1),
        (0.0, 0.0, 0.0, 0),
        (0.0, 0.0, 0.0, 0),
    ]
    assert report.macro.precision == 0.125
    assert report.weighted.precision == pytest.approx(1 / 3, rel=1e-15, abs=0)  # a few roundings
