"""Numbers of the kernels' launches, and which plain calls stay cuDNN's: tables, found without a GPU.

No GPU has run these kernels yet. The tiles below are those that compile for sm_80 and sm_90 without spilling
registers, up to 256 units (tests/kernels/test_triton_compiled.py). ``make gpu`` measures others. Bounds of
cuDNN follow from published times of its algorithms and from the arithmetic of ours, not from a comparison.
"""

from typing import NamedTuple


class Launch(NamedTuple):
    """How a kernel is launched, for HP up to ``units`` and up to ``most`` sequences."""

    units: int
    most: int
    BN: int  # sequences of a program
    BK: int  # columns of U in a block; 0: U stays in the program's memory
    warps: int
    stages: int  # blocks on their way at once
    shared: int  # KiB of memory that a program needs at most: of float32 that for three products in tf32


MANY = 1 << 30
# For numbers of 4 bytes and of 2. Beyond 1056 sequences programs of 8 would be more than 132 processors.
LAUNCHES = {
    4: (
        Launch(32, 1056, BN=8, BK=0, warps=4, stages=1, shared=48),
        Launch(32, MANY, BN=16, BK=0, warps=4, stages=1, shared=48),
        Launch(64, 1056, BN=8, BK=0, warps=4, stages=1, shared=136),
        Launch(64, MANY, BN=16, BK=0, warps=8, stages=1, shared=144),
        Launch(128, MANY, BN=8, BK=32, warps=8, stages=2, shared=72),
        Launch(256, MANY, BN=8, BK=32, warps=8, stages=2, shared=140),
        Launch(256, MANY, BN=8, BK=16, warps=8, stages=2, shared=72),
        Launch(512, MANY, BN=8, BK=16, warps=16, stages=2, shared=140),
        Launch(512, MANY, BN=8, BK=16, warps=16, stages=1, shared=72),
    ),
    2: (
        Launch(64, 1056, BN=8, BK=0, warps=4, stages=1, shared=48),
        Launch(64, MANY, BN=16, BK=0, warps=4, stages=1, shared=48),
        Launch(128, 1056, BN=8, BK=0, warps=8, stages=1, shared=148),
        Launch(128, MANY, BN=16, BK=0, warps=8, stages=1, shared=152),
        Launch(256, MANY, BN=8, BK=32, warps=8, stages=2, shared=72),
        Launch(512, MANY, BN=8, BK=32, warps=16, stages=2, shared=140),
        Launch(512, MANY, BN=8, BK=32, warps=16, stages=1, shared=72),
    ),
}
LARGEST = 512  # units: beyond, the weights of a step take longer to come than torch's operations take


class Bound(NamedTuple):
    """Plain calls that the kernels compute, of more than ``above`` and up to ``units`` units."""

    size: int  # bytes of a number
    packed: bool
    above: int
    units: int
    least: int  # sequences
    most: int


# cuDNN runs its persistent algorithm for padded calls alone, and up to 128 units in training: about 1 us a
# step for few sequences, several times that for many. Packed calls and larger layers take its standard
# algorithm: 7 to 21 us a step. From 512 units on a step is a product large enough for it.
OURS = (
    Bound(4, False, 0, 64, 128, MANY),
    Bound(4, False, 64, 128, 32, MANY),
    Bound(4, False, 128, 192, 32, 256),
    Bound(2, False, 0, 64, 128, MANY),
    Bound(2, False, 64, 128, 16, MANY),
    Bound(2, False, 128, 256, 32, 512),
    Bound(4, True, 0, 128, 1, MANY),
    Bound(4, True, 128, 256, 1, 256),
    Bound(2, True, 0, 256, 1, MANY),
)


def ours(H: int, N: int, size: int, packed: bool) -> bool:
    """Return whether the kernels compute a plain call, and cuDNN does not.

    Args:
        H: units.
        N: sequences.
        size: bytes of a number.
        packed: whether the call is of a PackedSequence.
    """
    return any(
        (size, packed) == (b.size, b.packed) and b.above < H <= b.units and b.least <= N <= b.most
        for b in OURS
    )


def units(H: int) -> int:
    """Return HP: the power of two from H on, at least 16, as tensor cores ask."""
    return max(16, 1 << (H - 1).bit_length())


def launch(H: int, N: int, size: int, shared: int = MANY) -> Launch:
    """Choose the launch of the kernels.

    Args:
        H: units.
        N: sequences.
        size: bytes of a number.
        shared: bytes of memory that the device gives a program.

    Returns:
        The first row of the table that fits.
    """
    HP = units(H)
    fitting = (r for r in LAUNCHES[size] if r.units >= HP and r.most >= N and r.shared << 10 <= shared)
    return next(fitting)
