"""The kernels compiled for GPUs that need not be there, from the arguments that the engine gives them.

Registers, spills, shared memory and tensor cores are read from the compiled code.
"""

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import undertow
from undertow.kernels import engines, triton
from undertow.kernels.triton import device, passes, rules

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
SHARED = {80: 163, 86: 99, 90: 227, 100: 227}  # KiB of shared memory of a program
T, C = 2, 8


class Card:
    """Takes the place of CUDA's driver: says which GPU to compile for."""

    def __init__(self, capability):
        self.capability = capability

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, _):
        return 0


class Compiled:
    """A kernel that is compiled where it would be launched."""

    def __init__(self, kernel, found):
        self.kernel, self.found = kernel, found

    def __getitem__(self, grid):
        return lambda *args, **options: self.found.append(self.kernel.warmup(*args, grid=grid, **options))


@pytest.fixture
def compiled(monkeypatch):
    """A function that trains a module for one step and returns the kernels, forward and backward."""
    from triton.runtime import driver

    before = driver._active
    real = passes.kernels()

    def compile_for(
        card, H, dtype=torch.float32, N=64, form="even", marks=(), states=None, back=True, **options
    ):
        found = []
        driver.set_active(Card(card))
        monkeypatch.setattr(passes, "kernels", lambda: [Compiled(kernel, found) for kernel in real])
        monkeypatch.setattr(device, "shared_memory", lambda _: SHARED[card] << 10)
        module, x = undertow.LSTM(C, H, dtype=dtype, **options), torch.randn(T, N, C, dtype=dtype)
        given = {name: torch.ones(T, N, dtype=torch.bool) for name in marks}
        if form == "lengths":
            given["lengths"] = torch.full((N,), T)
        elif form == "packed":
            x = pack_padded_sequence(x, torch.full((N,), T))
        y, ends = module(x, states, **given)
        if back:
            ((y.data if form == "packed" else y).sum() + sum(end.sum() for end in ends)).backward()
        return found

    monkeypatch.setattr(triton.engine, "DEVICES", ["cpu"])
    monkeypatch.setattr(engines, "ENGINES", (triton.ENGINE,))
    monkeypatch.setattr(triton.ENGINE, "is_faster", lambda *_: True)
    yield compile_for
    driver._active = before


def resources(kernel, folder):
    """Registers of a thread, bytes of stack, and the instructions, as the wheel's cuobjdump reads them."""
    import triton as package

    tool = Path(package.__file__).parent / "backends/nvidia/bin/cuobjdump"
    file = folder / "kernel.cubin"
    file.write_bytes(kernel.asm["cubin"])
    said = subprocess.run([tool, "--dump-resource-usage", file], capture_output=True, text=True, check=True)
    code = subprocess.run([tool, "-sass", file], capture_output=True, text=True, check=True)
    return *map(int, re.search(r"REG:(\d+) STACK:(\d+)", said.stdout).groups()), code.stdout


CASES = {
    "plain": (80, 64, {}),
    "lengths, mask and reset": (90, 64, {"form": "lengths", "marks": ("mask", "reset")}),
    "packed, in blocks": (90, 128, {"form": "packed"}),
    "half precision": (100, 128, {"dtype": torch.bfloat16}),
    "256 units": (80, 256, {}),
    "a small card": (86, 200, {"dtype": torch.float16, "N": 2000}),
    "layer norm": (90, 64, {"layer_norm": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_kernels_fit(case, compiled, tmp_path):
    card, H, more = CASES[case]
    size = more.get("dtype", torch.float32).itemsize
    how = rules.launch(H, more.get("N", 64), size, SHARED[card] << 10)
    for kernel in compiled(card, H, **more):
        registers, stack, code = resources(kernel, tmp_path)
        assert stack == 0, "registers are spilled"
        assert registers * 32 * kernel.metadata.num_warps <= 65536
        assert kernel.metadata.shared <= how.shared << 10 <= SHARED[card] << 10
        assert re.search("HMMA|HGMMA", code), "no tensor cores"


def test_float32_without_tf32_takes_three_products(compiled, tmp_path, monkeypatch):
    times = []
    for precision in ("tf32", "ieee"):
        monkeypatch.setattr(passes.precision, "allowed", lambda p=precision: p)
        (kernel,) = compiled(80, 64, back=False)
        _, stack, code = resources(kernel, tmp_path)
        assert stack == 0
        assert kernel.metadata.shared <= rules.launch(64, 64, 4).shared << 10
        times.append(len(re.findall("HMMA", code)))
    assert times[1] == 3 * times[0]


def test_no_new_kernel_for_another_n_or_t_or_layer(compiled):
    """Triton makes a kernel for each number that it knows to be 1 or a multiple of 16: not of these.

    Nor for states that lie behind an odd number of others, as the second layer's do.
    """
    forward, back = set(), set()
    for N in (1, 3, 16):
        states = torch.zeros(2, N, 15), torch.zeros(2, N, 15)
        kernels = compiled(80, 15, N=N, num_layers=2, states=states)
        forward |= {id(kernel) for kernel in kernels[:2]}
        back |= {id(kernel) for kernel in kernels[2:]}
    assert (len(forward), len(back)) == (1, 1)
