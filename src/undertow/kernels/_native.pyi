"""
The CPU kernels. native/lstm.h has their contract; undertow.kernels.native is the way in.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal


class Scattered(ValueError):
    pass

def forward(cell: Literal['lstm', 'rnn'], x: Any, states: Sequence[Any], weights: Sequence[Any], outputs: Sequence[Any], tape: Sequence[Any] | None, ragged: Sequence[Any] | None, options: Any, reverse: bool, threads: int) -> None:
    """
    Run one layer in one direction over all time steps, and write its outputs.

    Arrays are NumPy arrays or torch tensors on the CPU. native/lstm.h has their layouts.

    Args:
        cell: The recurrence.
        x: [T,N,C], or [R,C] where batch_sizes are given; float32, float64 or, without options, bfloat16. Or symbols of the
            LSTM without options, int64 with C = 1: each stands for a column of weight_ih, and the weights' dtype counts.
        states: h_0 and c_0, [N,H] or [1,N,H]. Each may be None for zero; c_0 is None for the RNN.
        weights: weight_ih [G*H,C], weight_hh [G*H,H], bias_ih and bias_hh [G*H] or None, then nothing but None.
        outputs: y, like x with H features, h_n and c_n like the states. h_n may be None; c_n is None for the RNN.
        tape: gates and c, with layer normalisation also normed and scale, for a backward pass. None for no tape.
        ragged: lengths [N], batch_sizes [T] and order [N], int64, each may be None. None for sequences of length T.
        options: What is added to the LSTM, as the attributes mask, reset (as run), reset_h, reset_c, recurrent,
            zoneout_h, zoneout_c, peepholes, coupled, gain_x, gain_h, gain_c and bias_c. None for nothing.
        reverse: Whether to run from the last step to the first.
        threads: How many threads to use, at least 1. Results do not depend on it.

    Raises:
        TypeError: An array has another dtype than x, or is none on the CPU.
        ValueError: A shape, a stride or a length does not fit. The message names the argument.
    """

def backward(cell: Literal['lstm', 'rnn'], x: Any, states: Sequence[Any], weights: Sequence[Any], y: Any, tape: Sequence[Any] | None, douts: Sequence[Any], dins: Sequence[Any], dsteps: Sequence[Any] | None, ragged: Sequence[Any] | None, options: Any, doptions: Any, reverse: bool, threads: int) -> None:
    """
    Go back through the steps of a forward pass, and write the gradients asked for.

    Args:
        cell: As for forward, like x, states, ragged, options, reverse and threads.
        weights: weight_ih and weight_hh. Biases are not read.
        y: The output of the forward pass.
        tape: What the forward pass left; None for the RNN.
        douts: Gradients of y, h_n and c_n. None counts as zero.
        dins: Where to write the gradients of x, h_0, c_0, weight_ih, weight_hh and of the sum of both biases. Each may be
            None.
        dsteps: Where to write the gradients of every step's gates before their activation, of h and of c. Each, and
            the whole, may be None.
        doptions: Where to write the gradients of options, as the attributes reset_h, reset_c, peepholes, gain_x,
            gain_h, gain_c and bias_c. Each, and the whole, may be None.

    Raises:
        TypeError: As forward does.
        ValueError: As forward does.
    """

def head(hidden: Any, features: Any, kept: Any, weights: Sequence[Any], window: Sequence[Any] | None, target: Any, unit: Any, unscored: int, output: Any, gradients: Sequence[Any] | None) -> tuple[float, int, int]:
    """
    Compute what follows the layers of a small network, its loss and all gradients. native/head.h has the equations.

    Args:
        hidden: y [T,N,F/2], whose mean and largest are the features; or None.
        features: [N,F]; written where there is hidden. All numbers are float32 or float64.
        kept: Factors of the features, [N,F]; or None.
        weights: weight [O,F] and bias [O].
        window: Of a forecast last and size [N,K], moves [T,N,K] and the linear part [K,O/K,T]; or None.
        target: Numbers [N,O], or classes int64 [N].
        unit: Of numbers [O] or [N,O]; of classes their weights [O], or None.
        unscored: The class that is no target.
        output: Where to write the predictions, [N,O].
        gradients: Where to write those of hidden, features, weight, bias and the linear part, the first and the last of them
            None where there is none; or None.

    Returns:
        The loss, how many targets there are, and of classes for how many the largest output is that of the target.

    Raises:
        TypeError: An array has another dtype, or is none on the CPU.
        ValueError: A shape or a class does not fit. The message names the argument.
    """

def read_cached(file: int, offsets: Any, parts: Any, missing: Any, threads: int) -> int:
    """
    Read those parts of a file that the system has in its cache, and wait for none.

    Args:
        file: Its descriptor.
        offsets: Where the parts begin, in bytes, int64 [N].
        parts: float32 [N,M]; filled where a part is in the cache, else undefined.
        missing: bool [N]; filled: where a part is not wholly there, or the system cannot tell.
        threads: How many threads to use, at least 1.

    Returns:
        How many parts are missing.

    Raises:
        TypeError: An array has another dtype, or is none on the CPU.
        ValueError: A shape or a stride does not fit. The message names the argument.
    """

def are_plain(tensors: tuple[Any, ...], types: tuple[type, ...]) -> bool:
    """
    Whether the kernels may read the memory of all these torch tensors.

    Args:
        tensors: Each may be None.
        types: The types that tensors may have. A subclass may be anything: fake, distributed, quantised.

    Returns:
        False if a tensor has another type or another dtype than the first, is not a dense one on the CPU, or is negated
        lazily or holds no numbers.
    """

def isa() -> str: ...

def isa_levels() -> list[str]: ...

def share_openmp() -> bool: ...

def pooled(count: int, wide: bool) -> Any: ...

def release_scratch() -> None: ...

def sigmoid(x: Any, y: Any) -> None: ...

def tanh(x: Any, y: Any) -> None: ...

class Plan:
    """A network's stages, packed for this processor. Streams share it."""

    def __init__(self, stages: list[dict[str, Any]], skip: int) -> None: ...

class Streams:
    """Streams of one plan, each with its own state."""

    def __init__(self, plan: Plan, rows: int, many: bool) -> None: ...

    def step(self, x: Any, out: Any) -> None:
        """
        Take one step. Nothing is allocated.

        Args:
            x: The input, float32 [C]; [N,C] of N streams. A last dimension of 1 may be left out.
            out: Where the output is written, float32 [O]; [N,O] of N streams.

        Raises:
            TypeError: An array has another dtype or cannot be read.
            ValueError: A shape does not fit. The message names the argument.
            RuntimeError: Another thread is using the stream.
        """

    def bind(self, x: Any, out: Any) -> Callable[[], None]:
        """
        Check the arrays of ``step`` once.

        Args:
            x: As of ``step``, a NumPy array. Whoever binds it writes each input into it.
            out: As of ``step``, a NumPy array.

        Returns:
            A function without arguments that takes one step on these arrays.

        Raises:
            TypeError: As ``step`` does.
            ValueError: As ``step`` does.
        """

    def run(self, x: Any, out: Any) -> None:
        """
        Take T steps, x [T,C] or [T,N,C], out [T,O] or [T,N,O], as ``step`` does. Nothing is allocated.
        """

    def reset(self) -> None:
        """Return to the initial state."""

    def move_state(self, stage: int, offset: int, array: Any, write: bool) -> None: ...

    @property
    def lanes(self) -> int: ...

def fma_peak(threads: int, seconds: float) -> float: ...

def handover(rounds: int) -> float: ...
