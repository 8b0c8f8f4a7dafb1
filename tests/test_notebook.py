"""A real notebook: a kernel runs its cells, and what they end with shows, without a magic."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

CELLS = (
    "import fcnn, numpy as np\n"
    "from fcnn.inspection import plots\n"
    "digits = fcnn.data.make_digits(fcnn.key(0), 200)\n"
    "fitted = fcnn.fit(fcnn.lenet5(), digits, epochs=1, workers=1)\n"
    "model = fitted.model\n"
    "x = fcnn.data.as_batch(digits.x[:2], digits.y[:2]).x",
    "model.network",
    "model",
    "model.params",
    "fitted",
    "fcnn.trace(model.network, model.params, model.state, x)",
    "plots.curves(fitted.history)",
    "plots.heatmaps(x, fcnn.saliency(model.network, model.params, model.state, x))",
)
# In a process of its own: its warnings and sockets are not this test's.
RUN = """
import json, sys, nbclient, nbformat
cells = [nbformat.v4.new_code_cell(source) for source in json.load(sys.stdin)]
notebook = nbformat.v4.new_notebook(cells=cells)
nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
json.dump([[dict(output) for output in cell.outputs] for cell in notebook.cells], sys.stdout)
"""


@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("nbclient", "ipykernel")), reason="nbclient or ipykernel is not installed"
)
def test_values_and_figures_show_themselves():
    run = subprocess.run([sys.executable, "-c", RUN], input=json.dumps(CELLS), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    _, *shown = json.loads(run.stdout)
    kinds = [[sorted(output["data"]) for output in outputs] for outputs in shown]
    assert kinds == [[["text/html", "text/plain"]]] * 5 + [[["image/png", "text/plain"]]] * 2
    texts = [outputs[0]["data"].get("text/html", "") for outputs in shown]
    for text, part in zip(
        texts, ("conv2d(16, 5)", "→ (16, 10, 10)", "conv2/w", "training accuracy", "relu2"), strict=False
    ):
        assert part in text
    for (output,) in shown[5:]:
        assert output["metadata"]["image/png"]["width"] > 300
