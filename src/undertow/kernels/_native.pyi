from typing import Any, Literal

from numpy.typing import ArrayLike

# Arrays: NumPy or torch, on the CPU. Shapes and strides: native/lstm.h.
Array = ArrayLike | Any
Cell = Literal["lstm", "rnn"]

def forward(
    cell: Cell,
    x: Array,
    h_0: Array | None,
    c_0: Array | None,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
    y: Array,
    h_n: Array | None,
    c_n: Array | None,
    gates: Array | None,
    c: Array | None,
    lengths: Array | None,
    batch_sizes: Array | None,
    order: Array | None,
    reverse: bool,
    threads: int,
) -> None: ...
def backward(
    cell: Cell,
    x: Array,
    h_0: Array | None,
    c_0: Array | None,
    weight_ih: Array,
    weight_hh: Array,
    y: Array,
    gates: Array | None,
    c: Array | None,
    dy: Array | None,
    dh_n: Array | None,
    dc_n: Array | None,
    dx: Array | None,
    dh_0: Array | None,
    dc_0: Array | None,
    dweight_ih: Array | None,
    dweight_hh: Array | None,
    dbias: Array | None,
    dgates: Array | None,
    dh: Array | None,
    dc: Array | None,
    lengths: Array | None,
    batch_sizes: Array | None,
    order: Array | None,
    reverse: bool,
    threads: int,
) -> None: ...
def isa() -> str: ...
def isa_levels() -> list[str]: ...
def share_openmp() -> bool: ...
def pooled(count: int, wide: bool) -> Any: ...
def release_scratch() -> None: ...
def sigmoid(x: Array, y: Array) -> None: ...
def tanh(x: Array, y: Array) -> None: ...
def fma_peak(threads: int, seconds: float) -> float: ...
def handover(rounds: int) -> float: ...
