"""The processor's best, measured now, to compare the speed of the kernels with.

On a shared machine these figures change from minute to minute, so measure them beside what they explain.
"""


def fma_peak(threads: int = 1, seconds: float = 0.01) -> float:
    """Measure the peak rate of float32 multiply-adds, from registers alone.

    It uses the widest vectors that the kernels use on this processor.

    Args:
        threads: how many threads compute at the same time.
        seconds: how long they compute.

    Returns:
        The rate of all threads together in GFLOP/s; 0 if the system gives fewer threads.

    Raises:
        ValueError: ``threads`` is below 1, or ``seconds`` is not above 0.
        ModuleNotFoundError: the kernels have not been built.
    """
    from undertow.kernels import native

    return native.fma_peak(threads, seconds) / 1e9


def handover(rounds: int = 1000) -> float:
    """Measure how long a cache line takes from one thread to another: the cost of a synchronisation.

    It is half of a round trip, the median of 15 series.

    Args:
        rounds: round trips of each series.

    Returns:
        Seconds; 0 if the system gives only one thread.

    Raises:
        ValueError: ``rounds`` is below 1.
        ModuleNotFoundError: the kernels have not been built.
    """
    from undertow.kernels import native

    return native.handover(rounds)
