"""Where the parts run, on what, and which sizes; with ``--dry`` on the CPU, in Triton's interpreter."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

DRY = "--dry" in sys.argv
if DRY:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked for where new memory is filled with NaN

import torch  # noqa: E402

DEVICE = "cpu" if DRY else "cuda"
HALF = [torch.float16] if DRY else [torch.bfloat16, torch.float16]  # bfloat16 is wrong in the interpreter
DTYPES = [torch.float32, *HALF]
TIMED = DTYPES[: 1 if DRY else 2]
BOUNDS = {"ieee": 1e-5, "tf32": 2e-3, "torch.bfloat16": 2e-2, "torch.float16": 2e-2}
GOALS = {(32, 100, 16, 64): 1.0, (256, 365, 32, 64): 1.5, (64, 100, 32, 128): 1.2, (2048, 100, 64, 128): 1.3}
SHAPES = [*GOALS, (256, 100, 32, 256), (32, 64, 512, 512), (16, 500, 8, 32)]  # N, T, C, H
GRID = [(n, 100, 32, h) for h in (32, 64, 128, 160, 192, 256, 512) for n in (8, 32, 128, 512, 2048)]
if DRY:
    SHAPES, GRID = [(3, 2, 2, 3)], [(2, 2, 2, 3)]
OPTIONS = ["mask", "reset", "recurrent", "zoneout", "peepholes", "coupled", "norms"]
Run = Callable[[], Any]
Row = dict[str, Any]


class Clock:
    """When the part that runs must end."""

    until = float("inf")

    def left(self) -> float:
        """The seconds that are left to it."""
        return max(1.0, self.until - time.monotonic())


CLOCK = Clock()


def proved(about: Row, run: Run) -> Row:
    """A row on what ``run`` proves: it returns more for the row, or raises what is not right."""
    try:
        return about | {"ok": True} | (run() or {})
    except Exception as error:  # the others still run
        return about | {"ok": False, "error": f"{type(error).__name__}: {str(error)[:300]}"}


Shape = tuple[int, ...]  # N, T, C, H
