"""A notebook in a real kernel: what a person sees there."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")
CELLS = (
    """
import numpy as np
import conformask as cm
y = np.random.default_rng(0).uniform(0.2, 0.8, (30, 16, 16, 1)).astype(np.float32)
known = cm.Triplets.from_arrays(y, y + 0.02, y)
scorer = cm.Heuristic(cm.local_spread, channels=1)
masker = cm.calibrate(scorer, known, threshold=0.01, loss="l1")
""",
    "cm.show(masker, y[0, ..., 0], y[0, ..., 0] + np.float32(0.02), y[0, ..., 0])",
    "cm.evaluate(masker, cm.Triplets.from_arrays(y[:, ::-1], y[:, ::-1] + 0.02, y[:, ::-1]))",
)


@pytest.mark.thorough
def test_a_kernel_shows_the_figure_and_the_evaluation(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    context = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=context).execute()
    strip, evaluation = (
        next(each["data"] for each in cell["outputs"] if each["output_type"] == "execute_result")
        for cell in notebook.cells[1:]
    )
    assert strip["text/html"].count("<img") == len(("x", "output", "truth", "error", "mask", "overlay"))
    sentence = "In at least 9 of 10 new images, what stays visible is off by at most 1 % of the range"
    assert sentence in strip["text/html"]
    assert "image/png" in strip
    assert evaluation["text/html"].index(sentence) < evaluation["text/html"].index("P(l1 &lt;= 0.01)")
