from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))

BETTER = {
    "01_quickstart": ("synthetic", "random"),
    "02_group_robust": ("robust", "plain"),
    "03_provable_selection": ("kernel-herding", "random"),
    "04_rdd_gradient_matching": ("robust", "plain"),
}
"""What each notebook prints figures of, the better first."""


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebook_runs_from_top_to_bottom(file, tmp_path):
    notebook = nbformat.read(file, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [], "outputs are stripped before committing"
            cell.source = cell.source.replace("STEPS = 300", "STEPS = 30")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    figures = {words[0]: words[1] for words in map(str.split, printed.splitlines()) if len(words) > 1}
    better, worse = BETTER[file.stem]
    assert float(figures[better]) > float(figures[worse])


def test_there_is_a_notebook():
    assert NOTEBOOKS
