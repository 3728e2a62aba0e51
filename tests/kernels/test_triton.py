"""The kernels for GPUs, in Triton's interpreter: the tests in ``interpreted``, in one process of their own.

Triton decides at its import whether it interprets, and other tests import it to compile.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_interpreted():
    parts = sorted((HERE / "interpreted").glob("[!c]*.py"))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *parts]
    run = subprocess.run(
        command,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "skipped" not in run.stdout
