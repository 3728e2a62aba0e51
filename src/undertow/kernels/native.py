"""The CPU kernels: one layer, one direction, all time steps, in float32, float64 or bfloat16.

``forward`` and ``backward`` write into arrays that the caller made; native/lstm.h holds their contract. An
array is anything that speaks DLPack or the buffer protocol, such as NumPy arrays and torch CPU tensors. They
raise TypeError for a wrong dtype and ValueError, naming the argument, for a wrong shape or stride. They raise
Scattered, a ValueError, where a contiguous copy of an array that is only read would serve.

``isa()`` names the instruction-set level in use, and ``isa_levels()`` those that this processor runs. The
environment variable UNDERTOW_ISA, read at the first call, forces one of them. ``share_openmp()`` makes the
kernels use the OpenMP threads that the process has loaded (torch's) in place of their own; it returns False
if there are none.

``are_plain(tensors, types)`` says whether the kernels may read the memory of torch tensors of these types.

``head`` computes what follows the layers of a small network, with its loss and all gradients.

``pooled(count, wide)`` is a torch tensor [count], float64 if ``wide`` else float32, not initialised, whose
memory keeps its pages when the tensor dies and serves the next of about that size; ``release_scratch()``
gives all such memory that is not in use, and the kernels' own, back to the system; what is in use goes there
when its tensor dies. Where the system has no memory left, idle memory is given back first; if that is not
enough, they raise RuntimeError in torch's words.

``read_cached(file, offsets, parts, missing, threads)`` reads those parts of a file that the system has in its
cache, for tables that are kept on disk.

``Plan`` and ``Streams`` are the streaming runtime that ``undertow.stream`` stands on.

``fma_peak(threads, seconds)`` in flops a second, and ``handover(rounds)`` in seconds, measure the machine:
see undertow.hardware.
"""

from undertow.kernels._native import (
    Plan,
    Scattered,
    Streams,
    are_plain,
    backward,
    fma_peak,
    forward,
    handover,
    head,
    isa,
    isa_levels,
    pooled,
    read_cached,
    release_scratch,
    share_openmp,
    sigmoid,
    tanh,
)

__all__ = [
    "Plan",
    "Scattered",
    "Streams",
    "are_plain",
    "backward",
    "fma_peak",
    "forward",
    "handover",
    "head",
    "isa",
    "isa_levels",
    "pooled",
    "read_cached",
    "release_scratch",
    "share_openmp",
    "sigmoid",
    "tanh",
]
