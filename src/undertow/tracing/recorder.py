"""``undertow.trace``: every gate, state and gradient at every step, in any model with an LSTM or RNN.

    >>> import torch, undertow
    >>> model = torch.nn.ModuleDict({"lstm": undertow.LSTM(3, 8)})
    >>> with undertow.trace(model) as trace:
    ...     y, _ = model["lstm"](torch.randn(20, 4, 3))
    ...     y[-1].sum().backward()
    >>> layer = trace["lstm"].layers[0]
    >>> layer.f.shape, layer.dc.shape  # the forget gate; ∂E/∂c_t
    ((20, 4, 8), (21, 4, 8))

A trace refers to what training keeps anyway, so it costs little time (docs/decisions.md). Gradients at every
step are computed when they are read.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any

import torch

from undertow.kernels import listening
from undertow.kernels.recording import Recording
from undertow.nn import LSTM, RNN
from undertow.tracing.traced import Call, Trace, Traced


def trace(model: torch.nn.Module) -> "Recorder":
    """Record the calls of every undertow.LSTM and undertow.RNN in a model, within a ``with`` block.

    The trace records calls made inside the block, but not those of other threads. The backward pass may come
    after the block. On the CPU results are the same bits as without a trace. If two traces watch a module,
    the inner one records it.

    Only calls that the native kernels can compute are recorded. Reading any other call raises NotRecorded, a
    RuntimeError that gives the reason: projections, relu, half precision on the CPU, torch.compile. On an
    NVIDIA GPU undertow's kernels compute and record the layers that they serve. Otherwise torch's operator
    computes a watched module on its device layer by layer, and the native kernels compute the same again on
    the CPU for the record, which agrees to the device's rounding.

    Args:
        model: a model that holds an ``LSTM`` or ``RNN`` of undertow, or such a module itself.

    Returns:
        A ``Trace`` that is also the context manager.

    Raises:
        TypeError: ``model`` is not a torch.nn.Module.
        ValueError: the model holds no LSTM or RNN of undertow.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    found = {name: module for name, module in model.named_modules() if isinstance(module, LSTM | RNN)}
    if not found:
        raise ValueError(
            f"model: expected one that holds an undertow.LSTM or undertow.RNN, got {type(model).__name__} "
            "without any; undertow.convert makes them of torch's"
        )
    return Recorder(found)


class Recorder(Trace):
    """A trace that records, within a ``with`` block.

    Args:
        modules: the modules to record, by name.
    """

    def __init__(self, modules: Mapping[str, torch.nn.Module]) -> None:
        traced = {name: Recorded(name) for name in modules}
        super().__init__(traced.values())
        self._listeners = {module: traced[name].listen for name, module in modules.items()}
        self._tokens: list[Any] = []

    def __enter__(self) -> "Recorder":
        self._tokens.append(listening.watch(self._listeners))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        listening.unwatch(self._tokens.pop())


class Recorded(Traced):
    """The calls of one module, recorded as they are made.

    Args:
        name: the module's name in the model.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._last: list[Recording] = []  # the layers of the last call

    def listen(self) -> Callable[[], Recording]:
        """Start the recording of the next call.

        Returns:
            A function that makes the ``Recording`` of the next layer.
        """
        before, self._last = iter(self._last), []
        return partial(self._record, before, self._last)

    def _record(self, before: Iterator[Recording], recordings: list[Recording]) -> Recording:
        if not recordings:  # only now: a call with wrong arguments does not count
            self._calls.append(Call(recordings, again=listening.in_backward()))
        last = next(before, None)
        recordings.append(Recording(() if last is None else last.weights))
        return recordings[-1]
