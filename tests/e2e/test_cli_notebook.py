"""A pipeline in a real notebook kernel: it shows its graph, its run shows progress, its output is a value."""

from __future__ import annotations

from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="the notebook client is not installed")
nbformat = pytest.importorskip("nbformat", reason="the notebook format is not installed")
pytest.importorskip("ipykernel", reason="the notebook kernel is not installed")

CELLS = [
    """
from penstock import context, pipeline, step

@step
def extract(n: int) -> list[int]:
    context().progress(1, 2, "half")
    return list(range(n))

@step
def double(x: int) -> int:
    return 2 * x

@pipeline
def sums(n: int = 3) -> list[int]:
    return double.map(x=extract(n))
""",
    "sums",
    "run = sums.run()",
    "run.output",
]


@pytest.mark.filterwarnings("ignore")
def test_a_notebook_shows_the_graph_and_the_progress_of_a_pipeline(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(text) for text in CELLS]
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3", resources=place).execute()
    _, graph, run, output = (cell.outputs for cell in notebook.cells)
    assert graph[0]["data"]["text/html"].startswith("<svg")
    assert "succeeded in" in run[0]["data"]["text/html"]
    assert "double x 3" in run[0]["data"]["text/html"]
    assert "\x1b" not in run[0]["data"]["text/html"]
    assert output[0]["data"]["text/plain"] == "[0, 2, 4]"
