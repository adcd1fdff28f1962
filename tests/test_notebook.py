"""The notebook runs from top to bottom in a kernel of its own."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "examples" / "folder_to_report.ipynb"
pytestmark = pytest.mark.slow


@pytest.fixture
def executed(tmp_path, oxford):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    return notebook, tmp_path


# The kernel's own sockets are closed after the test.
@pytest.mark.filterwarnings("default")
def test_the_notebook_goes_from_a_folder_to_a_report(executed):
    notebook, folder = executed
    assert (folder / "report.html").stat().st_size > 10_000
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    shown = [output for cell in outputs for output in cell if output.output_type == "execute_result"]
    assert sum("text/html" in output.data for output in shown) >= 3
    assert all(len(output.data["text/plain"].splitlines()) <= 20 for output in shown)
    texts = [output.data["text/plain"] for output in shown]
    (accuracy,) = [float(text) for text in texts if re.fullmatch(r"[01]\.\d+", text)]
    assert accuracy > 0.8
