"""The kernels compiled for GPUs, of which none need be there: registers, shared memory, tensor cores."""

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from undertow.kernels.triton import rules

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
POINTERS = {
    "cells": "*fp32", "scales": "*fp32", "sums": "*fp32",
    "lengths": "*i64", "starts": "*i64", "order": "*i64", "mask": "*i1", "reset": "*i1",
}  # fmt: skip
NORMS = ("bias", "gain_x", "gain_h", "gain_c", "bias_c", "lines", "scales", "dlines", "sums")
OPTIONAL = {  # arguments that are None, unless one of these options is on
    **{name: {"norms"} for name in NORMS},
    **{name: {"reset"} for name in ("reset_h", "reset_c", "dreset_h", "dreset_c")},
    **{name: {name} for name in ("lengths", "starts", "mask", "reset", "recurrent", "peepholes")},
    **{name: {name} for name in ("zoneout_h", "zoneout_c")},
    "order": {"lengths", "starts"},
    "sums": {"norms", "peepholes"},
    "exchange": {"blocks"},
    "dh_steps": {"steps"},
    "dc_steps": {"steps"},
}
LIMITS = {80: 163, 90: 227}  # KiB of shared memory of a program


def described(kernel, H, numbers, how, on, precision):
    """What Triton needs to compile a kernel: the type of each argument, the constants, what is aligned."""
    from undertow.kernels.triton.forward import NUMBERS

    constants = {"H": H, "Y": H, "HP": rules.units(H), "BN": how.BN, "BK": how.BK}
    constants |= {"COUPLED": "coupled" in on, "PRECISION": precision}
    on = {*on, *(["blocks"] if how.BK else [])}
    types, given, aligned = {}, {}, {}
    for k, name in enumerate(kernel.arg_names):
        if name in constants or not OPTIONAL.get(name, on | {""}) & (on | {""}):
            types[name], given[(k,)] = "constexpr", constants.get(name)
        elif name in NUMBERS:
            types[name] = "i32"
        else:
            types[name], aligned[(k,)] = POINTERS.get(name, "*" + numbers), [["tt.divisibility", 16]]
    return types, given, aligned


def compiled(name, H, numbers, card, on=(), N=64, precision="tf32"):
    """The launch, the registers, bytes of stack and of shared memory, and the instructions of a kernel."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from undertow.kernels.triton import backward, forward

    kernel = {"forward": forward.forward, "backward": backward.backward}[name]
    how = rules.launch(H, N, 4 if numbers == "fp32" else 2, LIMITS[card] << 10)
    source = ASTSource(kernel, *described(kernel, H, numbers, how, on, precision))
    options = {"num_warps": how.warps, "num_stages": how.stages}
    found = triton.compile(source, target=GPUTarget("cuda", card, 32), options=options)
    return how, found


def resources(found, folder):
    """Registers and bytes of stack, as the wheel's cuobjdump reads them, and the instructions."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    file = folder / "kernel.cubin"
    file.write_bytes(found.asm["cubin"])
    said = subprocess.run([tool, "--dump-resource-usage", file], capture_output=True, text=True, check=True)
    code = subprocess.run([tool, "-sass", file], capture_output=True, text=True, check=True)
    registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", said.stdout).groups())
    return registers, stack, code.stdout


CASES = [
    pytest.param(name, H, numbers, card, on, 64, id=f"{name}-{H}-{numbers}-sm_{card}-{'+'.join(on)}")
    for name, H, numbers, card, on in [
        ("forward", 64, "fp32", 80, ()),
        ("backward", 64, "fp32", 80, ()),
        ("forward", 64, "fp32", 90, ("lengths", "mask", "reset")),
        ("backward", 64, "fp32", 90, ("lengths", "mask", "reset")),
        ("forward", 128, "bf16", 90, ()),
        ("backward", 128, "bf16", 90, ()),
        ("backward", 128, "fp32", 90, ("starts",)),
        ("backward", 256, "fp32", 80, ()),
        ("backward", 64, "fp32", 90, ("norms",)),
    ]
]


@pytest.mark.parametrize(("name", "H", "numbers", "card", "on", "N"), CASES)
def test_kernels_fit(name, H, numbers, card, on, N, tmp_path):
    how, found = compiled(name, H, numbers, card, on, N)
    registers, stack, code = resources(found, tmp_path)
    assert stack == 0, "registers are spilled"
    assert registers * 32 * how.warps <= 65536
    assert found.metadata.shared <= how.shared << 10 <= LIMITS[card] << 10
    assert re.search("HMMA|HGMMA", code), "no tensor cores"


def test_float32_without_tf32_takes_three_products(tmp_path):
    times = []
    for precision in ("tf32", "tf32x3"):
        _, found = compiled("forward", 64, "fp32", 80, precision=precision)
        _, stack, code = resources(found, tmp_path)
        assert stack == 0
        times.append(len(re.findall("HMMA", code)))
    assert times[1] == 3 * times[0]
