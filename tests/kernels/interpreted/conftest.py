"""For what Triton's interpreter runs: the kernels take tensors of the CPU, and new memory holds NaN."""

import pytest
import torch

from undertow.kernels import triton
from undertow.kernels.triton import rules


@pytest.fixture(autouse=True)
def interpreted():
    torch.set_num_threads(1)
    triton.DEVICES.append("cpu")
    torch.use_deterministic_algorithms(True)  # torch.empty fills with NaN
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
    triton.DEVICES.remove("cpu")


@pytest.fixture
def blocks(monkeypatch):
    """Every launch takes U in blocks of 16 columns, as those of large layers do."""
    row = rules.Launch(512, rules.MANY, BN=8, BK=16, warps=4, stages=1, shared=0)
    monkeypatch.setattr(rules, "LAUNCHES", {2: (row,), 4: (row,)})
