"""What the processor can do at best, measured now: what the speed of the kernels is to be compared with.

Machines that others use too change from minute to minute, so take these figures beside what they explain.
"""


def fma_peak(threads: int = 1, seconds: float = 0.01) -> float:
    """Float32 multiply-adds in GFLOP/s: ``threads`` threads at once for ``seconds``, out of registers alone.

    With the widest vectors that the kernels use here. 0 where the system gives fewer threads. Raises
    ValueError for ``threads`` below 1 or ``seconds`` not above 0, ModuleNotFoundError where the kernels
    have not been built.
    """
    from undertow.kernels import native

    return native.fma_peak(threads, seconds) / 1e9


def handover(rounds: int = 1000) -> float:
    """Seconds in which a cache line goes from one thread to another: what each meeting of two threads costs.

    Half of there and back, the median of 15 series of ``rounds``. 0 where the system gives one thread alone.
    Raises ValueError for ``rounds`` below 1, ModuleNotFoundError where the kernels have not been built.
    """
    from undertow.kernels import native

    return native.handover(rounds)
