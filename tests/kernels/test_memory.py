"""Where the system has no memory left: what the kernels keep is given back, and programs may go on."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch, undertow
torch.set_num_threads(1)
module = undertow.{cell}(64, 64)

def train(N):
    module(torch.randn(64, N, 64))[0].sum().backward()

train(4)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20),) * 2)
try:
    train({large})
    print("there was memory")
except RuntimeError as error:
    print("DefaultCPUAllocator: can't allocate memory" in str(error))
for N in (1024, 512, 256, 128, 1024):
    train(N)
print("went on")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")
@pytest.mark.parametrize("cell, large", [("LSTM", 4096), ("RNN", 16384)])
def test_smaller_batches_work_after_one_that_did_not_fit(cell, large):
    program = PROGRAM.format(cell=cell, large=large)
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout.split("\n")[:2] == ["True", "went on"], found.stderr
