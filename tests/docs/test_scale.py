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
    for name in ("two", "far"):
        assert len(open_run(tmp_path / "runs" / name).read_metrics()) == 2
    assert done.stdout.count("2 processes") == 2  # one voice each, of --devices and of two machines
