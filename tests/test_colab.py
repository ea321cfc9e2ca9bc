"""The notebook of launch/ runs from its first cell to its last, as in Colab."""

import pathlib
import sys

import jupytext
import nbclient
import nbformat
import pytest

NOTEBOOK = pathlib.Path(__file__).parents[1] / "launch" / "colab.ipynb"
REMEDY = "jupytext --to ipynb launch/colab.py"


def test_the_notebook_is_made_of_the_script():
    """Cells of the notebook are those of the script, and hold no output."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    script = jupytext.read(NOTEBOOK.with_suffix(".py"))
    cells = [(cell.cell_type, cell.source) for cell in notebook.cells]
    assert cells == [(cell.cell_type, cell.source) for cell in script.cells], REMEDY
    assert not any(cell.get("outputs") for cell in notebook.cells)


def test_no_shell_command_fails_unseen():
    """Of `!command` the exit status is lost."""
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            assert not any(line.startswith(("!", "%")) for line in cell.source.split())


@pytest.mark.slow
def test_it_runs_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setenv("DGA_JAX_CODE", str(NOTEBOOK.parents[1]))
    monkeypatch.setenv("DGA_JAX_PYTHON", sys.executable)
    monkeypatch.setenv("DGA_JAX_STEPS", "2")
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # one device
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    printed = "".join(
        output.get("text", "")
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )
    assert "step 2/2" in printed
    assert "step    2  target" in printed
    assert "The function returns" in printed
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in shown)


def test_a_command_that_fails_ends_it(tmp_path):
    """Whatever is run by the notebook's own function: its error is the cell's."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    first = next(cell for cell in notebook.cells if "def run(" in cell.source)
    again = nbformat.v4.new_code_cell(
        'run(sys.executable, "-c", "raise SystemExit(3)")'
    )
    notebook.cells = [first, again]
    resources = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(notebook, timeout=None, resources=resources)
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="exit status 3"):
        client.execute()
