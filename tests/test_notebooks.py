"""The notebooks: as they are kept, with what they showed, and run again with fewer steps."""

import asyncio
import re
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))

BETTER = {
    "01_quickstart": ("synthetic", "random"),
    "02_group_robust": ("robust", "plain"),
    "03_provable_selection": ("kernel-herding", "random"),
    "04_rdd_gradient_matching": ("robust", "plain"),
}
"""What each notebook prints figures of, the better first."""


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell.get("outputs", [])]


def check_figures(notebook, name):
    printed = "".join(output.get("text", "") for output in outputs(notebook))
    figures = {words[0]: words[1] for words in map(str.split, printed.splitlines()) if len(words) > 1}
    better, worse = BETTER[name]
    assert float(figures[better]) > float(figures[worse])


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_kept_with_what_it_showed(file):
    notebook = nbformat.read(file, as_version=4)
    assert "%pip install" in code(notebook)[0].source  # where the package is not there, as on Colab
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    assert not [o for o in outputs(notebook) if o.output_type == "error" or o.get("name") == "stderr"]
    text = "".join(output.get("text", "") + str(output.get("data", {})) for output in outputs(notebook))
    assert not re.search(r"/(work|tmp|root|home|Users)/", text)
    check_figures(notebook, file.stem)


FEWER = {
    r"^STEPS = \d+": "STEPS = 10",
    r"epochs=\d+": "epochs=1",
    r"depth=3 if wide else 2, width=128 if wide else 32": "depth=1, width=8",
    r"\(10, 100, 1000\)": "(10, 100)",
}
"""What makes a notebook short: figures are those of the kept outputs, here every cell has to run."""


@pytest.fixture(scope="module")
def kernel():
    """One for all notebooks: to import everything takes longer than to run a short one."""
    kernel = AsyncKernelManager(kernel_name="python3")
    yield kernel
    asyncio.run(kernel.shutdown_kernel(now=True))


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_from_top_to_bottom(file, kernel, tmp_path, quick_flags):
    notebook = nbformat.read(file, as_version=4)
    for cell in code(notebook):
        cell.outputs = []
        for pattern, fewer in FEWER.items():
            cell.source = re.sub(pattern, fewer, cell.source, flags=re.M)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))  # of all names that the one before had
    client = NotebookClient(notebook, timeout=300, km=kernel, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    client.kc.stop_channels()
    printed = "".join(output.get("text", "") for output in outputs(notebook))
    assert all(name in printed for name in BETTER[file.stem])


def test_every_notebook_is_told_what_to_show():
    assert {file.stem for file in NOTEBOOKS} == set(BETTER)
