"""Each instruction-set level that this processor runs passes the kernel tests.

The level in use passes them in the ordinary run; UNDERTOW_ISA forces each other one in its own process.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from undertow.kernels import native

HERE = Path(__file__).parent
RUN = """
import sys, pytest
from undertow.kernels import native
assert native.isa() == sys.argv[1], native.isa()
sys.exit(pytest.main(["-x", "--capture=sys", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""


def python(code: str, *arguments: str, isa: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "UNDERTOW_ISA"}
    environment |= {"UNDERTOW_ISA": isa} if isa is not None else {}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize("level", [level for level in native.isa_levels() if level != native.isa()])
def test_a_forced_level_passes_the_kernel_tests(level):
    files = [str(HERE / f"test_{name}.py") for name in ("kernels", "varied_kernels", "vecmath", "bfloat16")]
    files.append(str(HERE.parent / "stream" / "test_stream.py"))
    done = python(RUN, level, *files, isa=level)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_levels():
    levels = native.isa_levels()
    assert levels[0] == "baseline"
    assert native.isa() in levels
    done = python("from undertow.kernels import native; print(native.isa())", isa=None)
    assert done.stdout.strip() == levels[-1], "the best is taken where none is forced"


@pytest.mark.parametrize("unknown", ["avx9000", "AVX2", " "])
def test_an_unknown_level_is_refused(unknown):
    code = """
import numpy as np
from undertow.kernels import native
x = np.zeros(1, np.float32)
for use in (native.isa, lambda: native.tanh(x, x.copy())):
    try:
        use()
    except ValueError as error:
        assert str(error).startswith("UNDERTOW_ISA: expected") and "avx2" in str(error), error
    else:
        raise SystemExit("accepted")
"""
    done = python(code, isa=unknown)
    assert done.returncode == 0, done.stderr
