"""What values show in a notebook: what is in their HTML, that it is sound and safe, and that it stays small."""

from html.parser import HTMLParser

import attrs
import numpy as np
import pytest

import fcnn
from fcnn.values import html

OURS = {"style", "div", "p", "details", "summary", "ul", "li", "span", "b", "i", "code"}
OURS |= {"table", "thead", "tbody", "tr", "th", "td"}


class Parsed(HTMLParser):
    """HTML taken apart; fails where it isn't well-formed, and where it could run or fetch anything."""

    def __init__(self, markup):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(markup)
        self.close()
        assert not self.open, f"not closed: {self.open}"
        self.text = " ".join(self.texts)

    def handle_starttag(self, tag, attributes):
        assert tag in OURS
        assert {name for name, _ in attributes} <= {"class", "open", "scope", "colspan"}
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            assert "url" not in data
            assert "@import" not in data
        elif data.strip():
            self.texts.append(data.strip())


def parsed(value):
    return Parsed(value._repr_html_())


def rows(markup):
    """The cells of every row of the tables, as text."""
    found = []

    class Rows(Parsed):
        def handle_starttag(self, tag, attributes):
            super().handle_starttag(tag, attributes)
            if tag == "tr":
                found.append([])
            if tag in ("th", "td"):
                found[-1].append("")

        def handle_data(self, data):
            super().handle_data(data)
            if self.open and self.open[-1] in ("th", "td"):
                found[-1][-1] += data

    Rows(markup)
    return found


def test_a_tree_shows_paths_shapes_dtypes_and_spread():
    tree = fcnn.freeze({"fc": {"w": np.array([[-1.0, 0.0, 4.0]]), "n": np.array([1, 2, 70_000])}, "b": np.float32(0.5)})
    assert "Tree: 3 arrays, 7 numbers" in parsed(tree).texts
    assert rows(tree._repr_html_()) == [
        ["path", "shape", "dtype", "least", "mean ± sd", "greatest"],
        ["fc/w", "(1, 3)", "float64", "-1", "1 ± 2.16", "4"],
        ["fc/n", "(3,)", "int64", "1", "2.33e+04 ± 3.3e+04", "70000"],
        ["b", "()", "float32", "0.5", "0.5 ± 0", "0.5"],
    ]


@pytest.mark.parametrize(
    ("array", "spread"),
    [
        (np.array([1.0, np.nan, 3.0, -np.inf]), ["1", "2 ± 1, 2 not finite", "3"]),
        (np.full(3, np.nan, np.float32), ["", "3 not finite", ""]),
        (np.zeros((0, 4)), ["", "", ""]),
        (np.array(True), ["True", "1 ± 0", "True"]),
        (np.array([0, 60_000], np.float16), ["0", "3e+04 ± 3e+04", "6e+04"]),
        (np.array([-3e38, 3e38], np.float32), ["-3e+38", "0 ± 3e+38", "3e+38"]),
        (np.array([1e308, 1e308]), ["1e+308", "inf ± inf", "1e+308"]),
        (np.array([2**64 - 1], np.uint64), ["18446744073709551615", "1.84e+19 ± 0", "18446744073709551615"]),
        (np.array([1j]), ["", "", ""]),
        (np.array(["a<b"]), ["", "", ""]),
        (np.zeros(2, [("x", "f4"), ("y", "i2")]), ["", "", ""]),
    ],
    ids=lambda value: str(value.dtype) if isinstance(value, np.ndarray) else None,
)
def test_the_spread_of_any_array(array, spread):
    assert rows(html.view(html.arrays([("a", array)])))[1][3:] == spread


def test_an_empty_tree():
    assert parsed(fcnn.freeze({})).texts == ["Tree: 0 arrays, 0 numbers"]


def test_a_layer_folds_and_shows_how_it_was_made():
    body = fcnn.serial(conv=fcnn.conv2d(8, 3, padding="same"), act=fcnn.relu())
    network = fcnn.serial(stem=fcnn.conv2d(8, 3), res1=fcnn.residual(body), mix=fcnn.branch(merge="sum", a=fcnn.tanh()))
    found = parsed(fcnn.hold(network, "stem"))
    told = "serial stem conv2d(8, 3), held res1 residual body serial conv conv2d(8, 3, padding='same') act relu() "
    assert found.text == told + "shortcut identity() mix branch(merge='sum') a tanh()"
    assert found.tags.count("details") == 4
    assert parsed(fcnn.relu()).texts == ["relu()"]


def test_a_model_shows_shapes_parameters_and_multiply_adds():
    network = fcnn.serial(features=fcnn.serial(conv=fcnn.conv2d(6, 5, padding=2), act=fcnn.relu()), flat=fcnn.flatten())
    made = network.init(fcnn.key(0), (1, 28, 28))
    model = fcnn.Model(
        network, made.params, made.state, in_shape=(1, 28, 28), classes=("cat", "dog"), meta={"by": "me"}
    )
    found = parsed(model)
    assert "Model: inputs (1, 28, 28), 156 parameters classes: cat, dog meta: {'by': 'me'} serial" in found.text
    for line in (
        "serial → (4704,) 156 parameters 117,600 multiply-adds",
        "features serial → (6, 28, 28) 156 parameters 117,600 multiply-adds",
        "conv conv2d(6, 5, padding=2) → (6, 28, 28) 156 parameters 117,600 multiply-adds",
        "act relu() → (6, 28, 28) flat",
        "flat flatten() → (4704,)",
    ):
        assert line in found.text


def test_a_model_whose_inputs_do_not_fit_is_shown_without_shapes():
    network = fcnn.serial(flat=fcnn.flatten(), conv=fcnn.conv2d(6, 5))
    found = parsed(fcnn.Model(network, fcnn.freeze({}), in_shape=(1, 8, 8)))
    assert "It takes no inputs of this shape: conv: conv2d(6, 5) expects (C, H, W), got (64,)" in found.text
    assert "conv conv2d(6, 5)" in found.text
    assert "→" not in found.text


def items(count, **more):
    return tuple(
        {
            "epoch": epoch, "train_loss": 1 / epoch, "train_accuracy": None, "validation_loss": 2 / epoch,
            "validation_accuracy": None, "seconds": 1.25, "images_per_second": 48_000.0, **more,
        }
        for epoch in range(1, count + 1)
    )  # fmt: skip


@pytest.fixture
def fitted():
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(8, 1)
    return fcnn.fit(fcnn.serial(fcnn.dense(2)), (x, (x[:, 0] > 0).astype(int)), epochs=1, progress=False, workers=1)


def test_fitted_shows_its_epochs(fitted):
    assert parsed(fitted).texts[0] == "Fitted: after epoch 1"
    known = ["epoch", "training loss", "training accuracy", "seconds", "inputs a second"]
    assert rows(fitted._repr_html_())[0] == known
    later = attrs.evolve(fitted, history=items(3, metrics={"<worst>": 0.125}), best_epoch=2)
    assert parsed(later).texts[0] == "Fitted: after epoch 2, the best of 3"
    assert rows(later._repr_html_())[::3] == [
        ["epoch", "training loss", "validation loss", "seconds", "inputs a second", "<worst>"],
        ["3", "0.3333", "0.6667", "1.2", "48,000", "0.125"],
    ]
    assert parsed(attrs.evolve(fitted, history=())).texts == ["Fitted: no epoch finished"]


def test_a_metric_of_some_epochs_only(fitted):
    history = (*items(1), *items(2, metrics={"worst": 0.5})[1:])
    assert [row[-1] for row in rows(attrs.evolve(fitted, history=history)._repr_html_())] == ["worst", "", "0.5"]


def test_a_trace_shows_outputs_and_gradients(fitted):
    model, x = fitted.model, np.ones((3, 1), np.float32)
    forward = fcnn.trace(model.network, model.params, model.state, x)
    assert parsed(forward).texts[:2] == ["Trace: 2 layers", "outputs"]
    assert "gradients" not in parsed(forward).text
    assert [row[:3] for row in rows(forward._repr_html_())[1:]] == [
        ["dense1", "(3, 2)", "float32"],
        ["the network", "(3, 2)", "float32"],
    ]
    both = fcnn.trace(model.network, model.params, model.state, x, dy=lambda y: y)
    found = [row[:2] for row in rows(both._repr_html_()) if row[0] != "path"]
    noted = [["dense1", "(3, 2)"], ["the network", "(3, 2)"]]
    assert found == [*noted, *noted, ["dx", "(3, 1)"], ["dense1/w", "(2, 1)"], ["dense1/b", "(2,)"]]
    headings = ["outputs", "gradients of the outputs", "gradient of the input", "gradients of the parameters"]
    assert [text for text in parsed(both).texts if text in headings] == headings


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "</details></div>", '"><img src=x onerror=alert(1)>', "&amp;"]
)
def test_text_is_escaped(fitted, text):
    network = fcnn.serial(fcnn.dense(2))

    @fcnn.layer_constructor
    def named(name):
        return fcnn.Functions(*(getattr(network, function) for function in ("init", "apply", "backward")))

    model = attrs.evolve(fitted.model, network=named(text), classes=(text, "b"), meta={text: text})
    found = parsed(model)  # fails for a tag or an attribute that isn't ours
    assert f"classes: {text}, b" in found.text
    assert f"meta: {{{text!r}: {text!r}}}" in found.text
    assert f"named({text!r})" in found.text
    assert text in parsed(attrs.evolve(fitted, history=items(1, metrics={text: 1.0}))).texts


def test_what_is_long_is_cut_and_says_so(fitted):
    tree = fcnn.freeze({f"layer{number}": {"w": np.zeros(3), "b": np.zeros(3)} for number in range(5000)})
    network = fcnn.serial(*[fcnn.relu()] * 2000)
    blocks = fcnn.serial(*[fcnn.residual(fcnn.relu())] * 500)
    deep = fcnn.relu()
    for _ in range(100):
        deep = fcnn.serial(deep)
    many = attrs.evolve(fitted.model, classes=tuple(map(str, range(100_000))), meta={"log": "long " * 100_000})
    for value, left_out in (
        (tree, "… 9,900 left out …"),
        (network, "… 1,901 left out"),
        (blocks, "… 1,401 left out"),
        (deep, "… 1 left out"),
        (attrs.evolve(fitted, history=items(1000)), "… 900 left out …"),
        (many, "…"),
    ):
        found = parsed(value)
        assert left_out in found.text
        assert len(value._repr_html_()) < 40_000
    assert rows(tree._repr_html_())[50][0] == "layer24/b"
    assert rows(tree._repr_html_())[52][0] == "layer4975/w"
