"""What lies in examples/ beside the data: a notebook, and a training under Lightning on two processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # of Jupyter's packages
def test_notebooks_run(path, tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept in the repository"
    here = {"metadata": {"path": str(tmp_path / "examples")}}
    ran = nbclient.NotebookClient(notebook, timeout=600, resources=here).execute()
    said = "".join(str(output) for cell in ran.cells for output in cell.get("outputs", []))
    assert "on the validation part" in said  # what train prints
    assert said.count("image/png") == 2
    assert "\\r" not in said  # lines, no bar that draws over itself
    assert "\\x1b[2K" not in said


def test_lightning_trains_on_two_processes():
    pytest.importorskip("lightning.pytorch")
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / "lightning_two_processes.py"), "5"],
        capture_output=True, text=True, timeout=600, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    heading = next(k for k, line in enumerate(lines) if line.startswith("step  mean forget gate"))
    assert [int(line.split()[0]) for line in lines[heading + 1 :]] == [0, 1, 2, 3, 4]
    assert "MEMBER: 2/2" in run.stderr  # both processes took part
