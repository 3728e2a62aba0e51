"""Other launches of the kernels than those of the table."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gpu.setting import DRY, SHAPES, TIMED, Shape
from undertow.kernels.triton import rules

Launched = tuple[Shape, torch.dtype, rules.Launch]


def launches() -> list[Launched]:
    """Other launches than those of the table, and those."""
    sizes = [
        (32, 100, 16, 64),
        (256, 100, 32, 64),
        (2048, 50, 64, 128),
        (64, 100, 32, 128),
        (64, 100, 32, 256),
    ]
    found: list[Launched] = []
    for shape in SHAPES if DRY else sizes:
        N, _, _, H = shape
        for dtype in TIMED:
            size = dtype.itemsize
            own = rules.launch(H, N, size)
            fits = 4 * rules.units(H) ** 2 * size <= 140 << 10
            found.append((shape, dtype, own))
            for BN, BK, warps in itertools.product((8, 16), (0,) if fits else (32, 64), (4, 8)):
                how = own._replace(BN=BN, BK=BK, warps=warps, stages=2 if BK else 1)
                if how != own and not (DRY and (BN, warps) != (16, 4)):
                    found.append((shape, dtype, how))
    return found


@contextmanager
def launched(how: rules.Launch | None, dtype: torch.dtype) -> Iterator[None]:
    """Every kernel is launched so; None: by the table."""
    table = rules.LAUNCHES
    if how is not None:
        rules.LAUNCHES = {dtype.itemsize: (how._replace(units=512, most=rules.MANY, shared=0),)}
    try:
        yield
    finally:
        rules.LAUNCHES = table
