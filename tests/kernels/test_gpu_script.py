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
    parts = "facts baseline compiling correct loop sight app speed options ablations sanitizer sweep"
    assert list(found) == parts.split()
    for part, rows in found.items():
        assert rows, part
        assert not [
            row for row in rows if {"error", "refused", "cut short"} & set(row) or row.get("ok") is False
        ]
    assert "0 not right" in run.stdout
    assert "Error" not in run.stdout  # of a process that compiles
    assert "(3, 2, 2, 3)" in run.stdout


def test_without_a_gpu_it_says_so():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    run = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == "there is no CUDA device; --dry runs every part on the CPU\n"


def test_a_part_that_takes_too_long_or_fails_leaves_the_others_theirs(tmp_path):
    """Parts of our own, by a clock of our own; each row is in the file before the next is asked for."""
    program = f"""
import sys, time
sys.argv = ["gpu", "--dry"]
sys.path[:0] = [{str(SCRIPT.parent)!r}]
from pathlib import Path
from gpu import __main__ as script

out, clock = Path({str(tmp_path / "gpu.json")!r}), [0.0]
time.monotonic = lambda: clock[0]

def slow():
    for k in range(100):
        clock[0] += 1
        yield {{"row": k}}
        assert f'"row": {{k}}' in out.read_text()

def wrong():
    yield {{"left": script.CLOCK.left()}}
    raise RuntimeError("no such kernel")

def last():
    yield {{"left": script.CLOCK.left()}}

script.PARTS = {{slow: 0.3, wrong: 0.1, last: 0.6}}
script.run_all(["slow", "wrong", "last"], 10.0, out)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["slow"] == [*({"row": k} for k in range(4)), {"cut short": "after 4 s"}]
    assert found["wrong"] == [{"left": 1.0}, {"error": "RuntimeError: no such kernel"}]
    assert found["last"] == [{"left": 6.0}]
