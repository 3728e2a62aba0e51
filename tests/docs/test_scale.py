"""docs/scale.md: its commands run as they stand there, in order, as a reader would type them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import undertow
from undertow.app.runs.folder import open_run

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "scale.md"


def script() -> str:
    """The blocks of several processes, those marked bash, in one script that stops at the first error."""
    blocks = PAGE.read_text("utf-8").split("```bash\n")[1:]
    return "set -e\n" + "".join(block.split("```")[0] for block in blocks)


def test_the_commands_lead_from_one_process_to_two_machines(tmp_path):
    shutil.copytree(ROOT / "examples" / "data", tmp_path / "examples" / "data")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, module in (("undertow", "undertow"), ("torchrun", "torch.distributed.run")):
        (tools / name).write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        (tools / name).chmod(0o755)
    variables = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(undertow.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-c", script()], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    two, far = (open_run(tmp_path / "runs" / name) for name in ("two", "far"))
    assert [row["epoch"] for row in far.read_metrics()] == [0.5, 1.0]
    assert [row["epoch"] for row in two.read_metrics()] == [0.5, 1.0, 1.5, 2.0]
    assert done.stdout.count("2 processes") == 2  # one voice each, of --devices and of two machines
    assert "finished already" in done.stdout  # by torchrun, which found nothing left to do
