"""The explorer's page: what it computes equals the library, what can be done on it works, and it is one file."""

import base64
import json
import re
from pathlib import Path

import attrs
import numpy as np
import pytest
from browser import chromium, opened  # noqa: F401 (a fixture)
from PIL import Image

import fcnn
from fcnn.inspection.explorer import explore, page_part
from fcnn.inspection.lessons import lesson_of
from fcnn.network import rewriting

DIGITS = fcnn.data.load("digits")
MOST = (
    1e-5  # that they may differ by, of the greatest number of an array; before float32 carries them it is 1e-12 or so
)


def fitted(network, data, steps=60):
    """A model of a network that has learnt for a moment, so that its parameters and statistics are no longer zeros."""
    train = data.train.take(32 * steps)
    return fcnn.fit(
        network, fcnn.Dataset(train, data.test.take(64), data.name, data.classes), epochs=1, batch_size=32
    ).model


def colours():
    """Small coloured images of three classes, with noise."""
    rng = np.random.default_rng(0)
    y = np.arange(600) % 3
    x = rng.integers(0, 120, (600, 3, 13, 11)).astype(np.uint8)
    x[np.arange(600), y, 3:9, 2:7] += 100
    train, test = fcnn.Split(x[:400], y[:400]), fcnn.Split(x[400:], y[400:])
    return fcnn.Dataset(train, test, "colours", ("red", "green", "blue"))


def every_layer():
    """All layers that the page knows, in one network for images of 13 by 11 pixels."""
    return fcnn.serial(
        norm=fcnn.normalize([0.3, 0.3, 0.3], [0.2, 0.2, 0.3]),
        conv1=fcnn.conv2d(6, (3, 4), stride=(1, 2), padding="same", bias=False),
        bn1=fcnn.batch_norm(eps=1e-3),
        act1=fcnn.leaky_relu(0.1),
        pool1=fcnn.max_pool2d(3, stride=2, padding=1),
        block=fcnn.serial(conv=fcnn.conv2d(5, 3, padding=((2, 1), (0, 2))), act=fcnn.gelu(), same=fcnn.identity()),
        share=fcnn.softmax(),
        pool2=fcnn.avg_pool2d((2, 1), stride=1, padding=(1, 0)),
        conv2=fcnn.conv2d(8, 1),
        act2=fcnn.tanh(),
        pool3=fcnn.global_avg_pool2d(),
        drop=fcnn.dropout(0.3),
        flat=fcnn.flatten(),
        fc1=fcnn.dense(7, bias=False),
        bn2=fcnn.batch_norm(),
        act3=fcnn.sigmoid(),
        fc2=fcnn.dense(6),
        relu=fcnn.relu(),
        fc3=fcnn.dense(3),
    )


NETWORKS = {
    "lenet5": lambda: (fcnn.lenet5((1, 28, 28), 10), DIGITS),
    "lenet5_bn": lambda: (fcnn.lenet5_bn((1, 28, 28), 10), DIGITS),
    "every layer": lambda: (every_layer(), colours()),
}


@pytest.fixture(scope="module", params=NETWORKS)
def model_and_data(request):
    network, data = NETWORKS[request.param]()
    return fitted(network, data, steps=12), data


@pytest.fixture(scope="module")
def lenet_page(tmp_path_factory):
    """The page of a LeNet that knows some digits."""
    path = tmp_path_factory.mktemp("page") / "explorer.html"
    path.write_text(explore(fitted(fcnn.lenet5((1, 28, 28), 10), DIGITS), DIGITS.test))
    return path


# ---- the page as a file ---------------------------------------------------------------------------------------------


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_the_page_is_one_file_of_little_size_that_asks_for_nothing_from_outside():
    page = explore(fitted(fcnn.lenet5((1, 28, 28), 10), DIGITS, steps=1), DIGITS.test)
    assert len(page.encode()) <= 1_500_000
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)|@import|url\(|https?:""", page)
    assert "@@" not in page
    assert len(data_of(page)["examples"]) == 50


def test_examples_are_of_all_classes_and_at_most_half_are_wrong():
    model = fitted(fcnn.lenet5((1, 28, 28), 10), DIGITS, steps=12)
    examples = data_of(explore(model, DIGITS.test))["examples"]
    said = fcnn.predict(model, DIGITS.test.x).classes
    wrong = [each for each in examples if each["said"] != each["label"]]
    assert len(wrong) == min(25, int((said != DIGITS.test.y).sum()))
    shown = np.bincount([each["label"] for each in examples if each["said"] == each["label"]], minlength=10)
    there = np.bincount(DIGITS.test.y[said == DIGITS.test.y], minlength=10)
    assert ((shown >= shown.max() - 1) | (shown == there)).all()
    for each in examples:
        pixels = np.frombuffer(base64.b64decode(each["x"]["data"]), np.uint8).reshape(each["x"]["shape"])
        rows = np.flatnonzero((DIGITS.test.x == pixels).all(axis=(1, 2, 3)))
        assert each["label"] in DIGITS.test.y[rows]
        assert each["said"] in said[rows]


def test_names_from_a_file_stay_text():
    hostile = tuple(f"</script><img src=x onerror=alert({k})>@@data@@" for k in range(10))
    model = attrs.evolve(fitted(fcnn.lenet5((1, 28, 28), 10), DIGITS, steps=1), classes=hostile)
    page = explore(model, title="</title><script>alert(1)</script>")
    assert data_of(page)["classes"] == list(hostile)
    assert "<img" not in page
    assert "<script>alert" not in page


def test_what_the_page_computes_has_a_lesson_and_is_compared_below():
    computed = re.search(r"const LAYERS = \{(.*?)\};", page_part("layers.js"), re.S)[1]
    kinds = {name.partition(":")[0].strip() for name in computed.split(",") if name.strip()}
    leaves = (network for _, network in rewriting.leaves(every_layer()))
    assert {layer.kind for layer in leaves} == kinds == {kind for kind in fcnn.layers.__all__ if lesson_of(kind)}


def test_lessons_quote_the_library():
    for kind, lesson in [(kind, lesson_of(kind)) for kind in fcnn.layers.__all__]:
        assert lesson is None or len(lesson.lines) == (0 if kind == "identity" else 2)
    (forward, backward) = lesson_of("conv2d").lines
    text = Path(fcnn.ops.__file__).with_name("lowered.py").read_text().splitlines()
    for line in (forward, backward):
        assert text[int(line.where.partition(" line ")[2]) - 1].strip() == line.code
    assert lesson_of("mine") is None


@pytest.mark.parametrize(
    ("network", "in_shape", "error", "message"),
    [
        (
            fcnn.serial(a=fcnn.flatten(), b=fcnn.residual(fcnn.dense(4)), c=fcnn.dense(2)), (1, 2, 2), fcnn.LayerError,
            "b: the explorer's page computes layers one after the other, not residual; explore a part of the network",
        ),
        (
            fcnn.serial(a=fcnn.max_pool2d(2, ceil_mode=True), b=fcnn.flatten(), c=fcnn.dense(2)), (1, 3, 3),
            fcnn.LayerError, "a: the explorer's page computes pools without ceil_mode, and means that count padding, "
            "not max_pool2d(2, ceil_mode=True)",
        ),
        (
            fcnn.serial(a=fcnn.avg_pool2d(2, count_include_pad=False), b=fcnn.flatten(), c=fcnn.dense(2)), (1, 4, 4),
            fcnn.LayerError, "a: the explorer's page computes pools without ceil_mode, and means that count padding, "
            "not avg_pool2d(2, count_include_pad=False)",
        ),
        (
            fcnn.serial(a=fcnn.adaptive_avg_pool2d(2), b=fcnn.flatten(), c=fcnn.dense(2)), (1, 4, 4), fcnn.LayerError,
            "a: the explorer's page doesn't know how to compute adaptive_avg_pool2d",
        ),
        (
            fcnn.serial(a=fcnn.flatten(), b=fcnn.dense(2), c=fcnn.softmax()), (1, 2, 2), ValueError,
            "the explorer's page expects a network that gives scores of two classes or more, not probabilities",
        ),
        (
            fcnn.serial(a=fcnn.flatten(), b=fcnn.serial(c=fcnn.dense(2), d=fcnn.softmax()), e=fcnn.dropout(0.5)),
            (1, 2, 2), ValueError,
            "the explorer's page expects a network that gives scores of two classes or more, not probabilities",
        ),
        (
            fcnn.serial(a=fcnn.flatten(), b=fcnn.dense(1)), (1, 2, 2), ValueError,
            "the explorer's page expects a network that gives scores of two classes or more, not outputs of shape (1,)",
        ),
        (
            fcnn.serial(a=fcnn.flatten(), b=fcnn.gelu("tanh"), c=fcnn.dense(2)), (1, 2, 2), fcnn.LayerError,
            "b: the explorer's page doesn't know how to compute gelu(approximate='tanh')",
        ),
        (
            fcnn.serial(b=fcnn.conv2d(2, 1, groups=2), c=fcnn.flatten(), d=fcnn.dense(2)), (2, 2, 2), fcnn.LayerError,
            "b: the explorer's page computes conv2d without groups and dilation only",
        ),
        (
            fcnn.serial(b=fcnn.conv2d(2, 1, dilation=2), c=fcnn.flatten(), d=fcnn.dense(2)), (1, 2, 2), fcnn.LayerError,
            "b: the explorer's page computes conv2d without groups and dilation only",
        ),
        (
            fcnn.hold(fcnn.serial(a=fcnn.flatten(), b=fcnn.dense(2)), "b", only="w"), (1, 2, 2), fcnn.LayerError,
            "b: the explorer's page shows layers that are held whole, or not at all",
        ),
        (
            fcnn.serial(b=fcnn.dense(2)), (4,), ValueError,
            "the explorer's page takes pictures, (1, H, W) or (3, H, W); the network takes (4,)",
        ),
        (
            fcnn.serial(a=fcnn.flatten(), b=fcnn.dense(2)), (2, 3, 3), ValueError,
            "the explorer's page takes pictures, (1, H, W) or (3, H, W); the network takes (2, 3, 3)",
        ),
    ],
)  # fmt: skip
def test_what_the_page_cannot_show_is_refused_with_a_sentence(network, in_shape, error, message):
    params, state, _, _ = network.init(fcnn.key(0), in_shape)
    with pytest.raises(error, match=re.escape(message) + "$"):
        explore(fcnn.Model(network, params, state, in_shape=in_shape))


def test_a_layer_of_ones_own_is_refused():
    @fcnn.layer_constructor
    def twice():
        made = fcnn.identity()
        return fcnn.Functions(made.init, made.apply, made.backward)

    network = fcnn.serial(flat=fcnn.flatten(), mine=twice(), fc=fcnn.dense(2))
    params, state, _, _ = network.init(fcnn.key(0), (1, 2, 2))
    with pytest.raises(fcnn.LayerError, match=r"^mine: the explorer's page doesn't know how to compute twice$"):
        explore(fcnn.Model(network, params, state, in_shape=(1, 2, 2)))


def test_parameters_are_finite_floats_and_every_output_has_a_name():
    model = fitted(fcnn.lenet5((1, 28, 28), 10), DIGITS, steps=1)
    changed = fcnn.tree.set_at(model.params, "conv2/b", np.full(16, np.nan, np.float32))
    with pytest.raises(
        ValueError, match=r"^conv2/b: not all of it is finite; use a model whose training did not diverge$"
    ):
        explore(attrs.evolve(model, params=changed))
    changed = fcnn.tree.set_at(model.params, "conv2/b", np.zeros(16, np.float16))
    with pytest.raises(ValueError, match=r"^conv2/b: the explorer's page takes float32 or float64, got float16$"):
        explore(attrs.evolve(model, params=changed))
    with pytest.raises(ValueError, match=r"^the model has names for 2 classes, and 10 outputs$"):
        explore(attrs.evolve(model, classes=("a", "b")))


def test_examples_are_images_of_the_network():
    model = fitted(fcnn.lenet5((1, 28, 28), 10), DIGITS, steps=1)
    x, y = DIGITS.test.x[:4], DIGITS.test.y[:4]
    for images in (x[:, :, 1:], x[:0]):
        message = f"examples are images, (N, 1, 28, 28), at least one, got {images.shape}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            explore(model, fcnn.Split(images, y[: len(images)]))
    with pytest.raises(ValueError, match=r"^examples are images of uint8, or of floats from 0 to 1$"):
        explore(model, fcnn.Split(x.astype(np.float32), y))
    (floats,) = data_of(explore(model, fcnn.Split(x[:1] / np.float32(255), y[:1])))["examples"]
    assert np.array_equal(
        np.frombuffer(base64.b64decode(floats["x"]["data"]), np.float32), x[0].ravel() / np.float32(255)
    )
    message = "examples' labels are classes from 0 to 9, as the network has 10 outputs"
    with pytest.raises(ValueError, match=f"^{message}$"):
        explore(model, fcnn.Split(x, y + 7))
    with pytest.raises(TypeError, match=r"^examples is a Split of images and their classes, such as mnist.test, got"):
        explore(model, DIGITS)


# ---- the page equals the library ------------------------------------------------------------------------------------

ALL_OF_IT = """(at) => {
  const text = (array) => {
    const bytes = new Uint8Array(Float32Array.from(array.data).buffer);
    let letters = "";
    for (let i = 0; i < bytes.length; i += 8192) letters += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return btoa(letters);
  };
  explorer.pick(at);
  const { now } = explorer, { run, back, x, camLayer, target } = now, size = x.shape.slice(1);
  const found = {
    target, loss: back.loss, dx: text(back.dx), outputs: run.outputs.map(text), gradients: back.gradients.map(text),
    params: back.params.map((named) => Object.fromEntries(Object.entries(named).map(([name, p]) => [name, text(p)]))),
    cam: camLayer === null ? null : text(Engine.gradCam(now.network, run, camLayer, target, size)),
    path: camLayer === null ? null : now.network[camLayer].path,
  };
  found.after = Engine.forward(Engine.stepped(now.network, back.params, 0.01), x).outputs.map(text);
  return found;
}"""


def numbers(text, shape):
    return np.frombuffer(base64.b64decode(text), np.float32).reshape(shape)


def assert_equal(found, expected, name):
    """Within MOST of the greatest number of the array."""
    expected = np.asarray(expected)
    most = max(np.abs(expected).max(initial=0), 1e-30)
    assert np.abs(numbers(found, expected.shape) - expected).max(initial=0) <= MOST * most, name


def in_float64(tree):
    return fcnn.tree.map(lambda array: array.astype(np.float64), tree)


def at(tree, path):
    for name in path.split("/"):
        tree = tree[name]
    return tree


def test_every_number_of_fifty_images_is_that_of_the_library(chromium, model_and_data, tmp_path):  # noqa: F811
    model, data = model_and_data
    path = tmp_path / "page.html"
    path.write_text(explore(model, data.test))
    examples = data_of(path.read_text())["examples"]
    assert len(examples) == 50
    params, state = in_float64(model.params), in_float64(model.state)
    loss = fcnn.softmax_cross_entropy()
    with opened(chromium, path) as page:
        for number, example in enumerate(examples):
            found = page.evaluate(ALL_OF_IT, number)
            assert found["target"] == example["label"]
            pixels = np.frombuffer(base64.b64decode(example["x"]["data"]), np.uint8).reshape(1, *model.in_shape)
            label = np.array([example["label"]])
            x = fcnn.data.as_batch(pixels, label).x.astype(np.float64)
            traced = fcnn.trace(model.network, params, state, x, dy=lambda y, label=label: loss(y, label)[1])
            leaves = [path for path in traced.outputs if path not in ("", "block")]
            assert abs(found["loss"] - loss(traced.outputs[""], label)[0]) <= MOST
            assert_equal(found["dx"], traced.dx, "dx")
            stepped = fcnn.tree.map(lambda p, g: p - 0.01 * g, params, traced.grads)
            after = fcnn.trace(model.network, stepped, state, x).outputs
            for k, layer in enumerate(leaves):
                assert_equal(found["outputs"][k], traced.outputs[layer], layer)
                assert_equal(found["gradients"][k], traced.gradients[layer], f"gradient of {layer}")
                assert_equal(found["after"][k], after[layer], f"{layer} after a step")
                for name, gradient in found["params"][k].items():
                    assert_equal(gradient, at(traced.grads, layer)[name], f"gradient of {layer}/{name}")
            if found["path"] is not None:
                # It is the class's own score that Grad-CAM asks for.
                cam = fcnn.grad_cam(model.network, params, state, x, classes=label, path=found["path"])
                assert np.array_equal(cam, fcnn.grad_cam(model.network, params, state, x, classes=label))
                assert_equal(found["cam"], cam, "Grad-CAM")


# ---- what can be done on it -----------------------------------------------------------------------------------------


def verdict(page):
    return page.locator("#verdict").inner_text()


def says(page, pattern):
    """Wait until it does. Playwright's waiting for a function would be against the page's own security policy."""
    from playwright.sync_api import expect

    expect(page.locator("#verdict")).to_have_text(re.compile(pattern))


def draw(page, *points):
    """With the mouse, through points in shares of the paper."""
    page.locator("#paper").scroll_into_view_if_needed()
    box = page.locator("#paper").bounding_box()
    places = [(box["x"] + across * box["width"], box["y"] + down * box["height"]) for across, down in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()
    says(page, "^It says")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_a_person_can_do_all_of_it(chromium, lenet_page, tmp_path, scheme, width):  # noqa: F811
    with opened(chromium, lenet_page, width, color_scheme=scheme, has_touch=width < 500) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        # Draw a one.
        page.get_by_role("button", name="Clear").click()
        assert verdict(page) == "The paper is empty. Draw something."
        draw(page, (0.5, 0.15), (0.5, 0.85))
        says(page, "^It says 1,")
        # A click on a number shows how it is made.
        page.locator(".layer", has_text="conv1").locator(".tile").nth(2).click(position={"x": 30, "y": 40})
        body = page.locator("#unit-body")
        assert "conv1 conv2d(6, 5, padding=2): map 3, row" in body.inner_text()
        assert body.locator(".grid td").count() == 50
        *terms, total = [float(text.replace("−", "-")) for text in body.locator(".total td").all_inner_texts()]
        assert abs(sum(terms) - total) <= 1e-3 * max(map(abs, terms))
        assert page.locator(".mark").count() == 2
        if width < 1000:
            page.get_by_role("button", name="Close").click()
            assert not page.locator("#unit").is_visible()
        # Pick, look back, learn, undo.
        page.locator("#examples button").nth(3).click()
        assert re.match(r"It says \d, with .*%\. That is (right|wrong: it is \d)\.", verdict(page))
        page.get_by_role("button", name="Gradients of the loss").click()
        assert "loss −log p(" in page.locator("#view-note").inner_text()
        page.locator("#target").select_option("8")
        assert "loss −log p(8) changes" in page.locator("#view-note").inner_text()
        before, told = page.evaluate("explorer.now.back.loss"), page.locator("#step tr").nth(1).inner_text().split()
        page.get_by_role("button", name="Take this step").click()
        assert page.evaluate("explorer.now.back.loss") < before
        assert page.locator("#step tr").nth(1).inner_text().split()[1] == told[2]
        page.get_by_role("button", name="Back to the trained network").click()
        assert page.evaluate("explorer.now.back.loss") == before
        page.locator("#cam-layer").select_option(label="conv2")
        assert "of layer conv2" in page.locator("#cam").get_attribute("aria-label")
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_pictures_are_opened_and_dropped_and_what_is_none_is_refused(chromium, lenet_page, tmp_path):  # noqa: F811
    sheet = Image.new("L", (120, 90), 250)
    sheet.paste(20, (55, 10, 63, 80))  # a one in ink
    sheet.save(tmp_path / "one.png")
    (tmp_path / "none.png").write_bytes(b"no picture")
    with opened(chromium, lenet_page) as page:
        page.get_by_role("button", name="Clear").click()
        page.locator("#file").set_input_files(tmp_path / "one.png")
        says(page, "^It says 1,")
        seen = np.array(page.evaluate("Array.from(explorer.now.x.data)")).reshape(28, 28)
        expected, _ = fcnn.data.pictures.read_picture(tmp_path / "one.png", "mnist")
        assert np.abs(seen - expected[0] / 255).max() < 0.1  # a box's mean where Pillow takes a cubic
        page.locator("#file").set_input_files(tmp_path / "none.png")
        says(page, "^none.png is no picture that this browser reads; the paper is as it was.$")
        # A drop of the picture of one test image gives just that image.
        text = page.evaluate(
            """() => {
              const canvas = document.createElement("canvas");
              Paint.picture(canvas, explorer.examples[7].picture);
              return canvas.toDataURL();
            }"""
        )
        page.get_by_role("button", name="Clear").click()
        page.evaluate(
            """(text) => {
              const bytes = Uint8Array.from(atob(text.split(",")[1]), (letter) => letter.charCodeAt(0));
              const data = new DataTransfer();
              data.items.add(new File([bytes], "digit.png", { type: "image/png" }));
              const drop = new DragEvent("drop", { dataTransfer: data, bubbles: true });
              document.getElementById("paper").dispatchEvent(drop);
            }""",
            text,
        )
        says(page, "^It says")
        seen, picked = page.evaluate(
            "[explorer.now.x.data, explorer.examples[7].picture.data].map((a) => Array.from(a))"
        )
        assert np.abs(np.subtract(seen, picked)).max() < 0.02


def test_all_of_it_can_be_done_with_the_keyboard(chromium, lenet_page):  # noqa: F811
    with opened(chromium, lenet_page, reduced_motion="reduce") as page:
        page.get_by_role("button", name="Clear").click()
        page.locator("#paper").focus()
        for key in [*["ArrowUp"] * 9, " ", *["ArrowDown"] * 18]:
            page.keyboard.press(key)
        says(page, "^It says 1,")
        assert page.locator("#paper").get_attribute("aria-label") == (
            "Drawing area of 28 by 28; pen down at row 24, column 15"
        )
        maps = page.get_by_role("application", name="conv2, 16×10×10")
        maps.focus()
        page.keyboard.press("ArrowDown")
        assert page.locator("#unit-body p").first.inner_text() == "conv2 conv2d(16, 5): map 1, row 2, column 1"
        page.keyboard.press("ArrowLeft")
        assert page.locator("#unit-body p").first.inner_text() == "conv2 conv2d(16, 5): map 16, row 2, column 10"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "unit"
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("conv2, 16×10×10")
        assert page.locator(".mark").count() == 0
        # Everything that can be used has a name.
        unnamed = page.evaluate(
            """[...document.querySelectorAll("button, input, select, canvas[role], [tabindex='0']")].filter((e) =>
              !e.getAttribute("aria-label") && !e.textContent.trim() && !e.labels?.length).map((e) => e.outerHTML)"""
        )
        assert unnamed == []


def test_colours_follow_the_scheme_while_the_page_is_open(chromium, lenet_page):  # noqa: F811
    map_of_conv1 = "document.querySelectorAll('.layer canvas')[1].toDataURL()"
    with opened(chromium, lenet_page, color_scheme="light") as page:
        light = page.evaluate(map_of_conv1)
        page.emulate_media(color_scheme="dark")
        says(page, "^It says")
        for _ in range(100):
            if (dark := page.evaluate(map_of_conv1)) != light:
                break
            page.wait_for_timeout(20)
        assert dark != light


def test_held_layers_do_not_learn_and_long_names_and_wide_pictures_fit(chromium, tmp_path):  # noqa: F811
    network = fcnn.hold(
        fcnn.serial(flat=fcnn.flatten(), fc=fcnn.dense(12), relu=fcnn.relu(), head=fcnn.dense(12)), "fc"
    )
    params, state, _, _ = network.init(fcnn.key(0), (1, 5, 60))
    names = tuple(f"a class with a name of forty letters, no. {k}" for k in range(12))
    model = fcnn.Model(network, params, state, in_shape=(1, 5, 60), classes=names)
    (tmp_path / "page.html").write_text(explore(model))
    with opened(chromium, tmp_path / "page.html", 390) as page:
        draw(page, (0.2, 0.5), (0.8, 0.5))
        page.get_by_role("button", name="Take this step").click()
        moved = page.evaluate("explorer.now.network.map(({ params }, k) => params !== explorer.trained[k].params)")
        assert moved == [True, False, True, True]
        box = page.locator("#paper").bounding_box()
        assert 11 < box["width"] / box["height"] < 13
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.locator("#fit-choice").is_hidden()


def test_the_way_back_follows_what_is_drawn(chromium, lenet_page):  # noqa: F811
    from playwright.sync_api import expect

    with opened(chromium, lenet_page) as page:
        page.get_by_role("button", name="Clear").click()
        empty = page.locator("#loss").inner_text()
        draw(page, (0.5, 0.15), (0.5, 0.85))
        expect(page.locator("#loss")).not_to_have_text(empty)
        expect(page.locator("#said")).to_have_text(re.compile("^It says"))
        loss = page.evaluate("explorer.backwards(explorer.now.network, explorer.now.run, explorer.now.target).loss")
        assert page.evaluate("explorer.now.back.loss") == loss
