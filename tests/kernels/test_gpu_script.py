"""``make gpu`` without a GPU: every part runs, in Triton's interpreter."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu"


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_every_part_runs(tmp_path):
    out = tmp_path / "gpu.json"
    command = [sys.executable, SCRIPT, "--dry", "--out", out]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(out.read_text())
    parts = "facts baseline compiling correct sanitizer loop app speed options ablations sweep"
    assert list(found) == parts.split()
    for part, rows in found.items():
        assert rows, part
        assert not [
            row for row in rows if {"error", "refused", "cut short"} & set(row) or row.get("ok") is False
        ]
    assert "0 not right" in run.stdout
    assert "(3, 2, 2, 3)" in run.stdout


def test_without_a_gpu_it_says_so():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    run = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == "there is no CUDA device; --dry runs every part on the CPU\n"
