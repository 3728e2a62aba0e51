"""``undertow.FlowMonitor`` records during training how far back a network's memory reaches.

    >>> monitor = undertow.FlowMonitor(model, every=50)
    >>> for x, target in batches:
    ...     criterion(model(x), target).backward()
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    ...     monitor.step()
    >>> undertow.plots.flow_over_training(monitor.records)

docs/plots.md shows its use with Lightning and TensorBoard. ``undertow.flow.Summary`` lists the numbers.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import torch

from undertow import flow
from undertow.kernels import listening
from undertow.kernels.recording import Direction, Recording
from undertow.nn import LSTM, RNN
from undertow.records import flow_record
from undertow.records.flow_record import FlowRecord
from undertow.records.layer import Layer, NotRecorded
from undertow.tracing import walk_back
from undertow.tracing.recorder import trace


class FlowMonitor:
    """Records the gradient flow in every undertow.LSTM and undertow.RNN of a model, at regular steps.

    Call ``step`` once after each training step, where ``scheduler.step()`` would stand. The rest of the loop
    does not change, and results are the same bits as without a monitor. The first record is of step 0, the
    network as it was initialised. Between the steps to record, the monitor keeps nothing and sets no hooks.

    The monitor records each module's last call in training mode that a backward pass reached. It ignores
    evaluation, and with accumulated gradients it records the last batch.

    Args:
        model: a model that holds an ``LSTM`` or ``RNN`` of undertow.
        every: the number of steps from one record to the next.
        sequences: the number of sequences to record, spread over the batch.
        writer: an object with TensorBoard's ``add_scalar(tag, value, step)``; it gets every number of every
            record. None: no writer.

    Attributes:
        records: a ``FlowRecord`` for each recorded step, layer and direction.
        missing: each module without a record at the last step to record, with the reason: a call that
            ``undertow.trace`` cannot record, evaluation mode, no backward pass, ``checkpoint=``. A warning
            gives each reason once.
        steps: the number of training steps so far. If training is resumed, set it.

    Raises:
        TypeError: ``model`` is not a torch.nn.Module.
        ValueError: the model holds no LSTM or RNN of undertow, or ``every`` or ``sequences`` is below 1.
    """

    def __init__(
        self, model: torch.nn.Module, every: int = 50, *, sequences: int = 4, writer: Any = None
    ) -> None:
        for name, value in {"every": every, "sequences": sequences}.items():
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        trace(model)  # the same exceptions
        self.every, self.sequences, self.writer = every, sequences, writer
        self.steps = 0
        self.records: list[FlowRecord] = []
        self.missing: dict[str, str] = {}
        self._modules = {n: m for n, m in model.named_modules() if isinstance(m, LSTM | RNN)}
        self._watches: dict[str, _Watch] = {}
        self._warned: set[tuple[str, str]] = set()
        self._watch()

    def step(self) -> list[FlowRecord]:
        """Tell the monitor that a training step is done.

        Returns:
            The records of this step; an empty list if it was not to be recorded.
        """
        found = self._read() if self._watches else []
        self.steps += 1
        if self.steps % self.every == 0:
            self._watch()
        return found

    def close(self) -> None:
        """Stop recording the current step. Records stay, and a later ``step`` continues."""
        for watch in self._watches.values():
            watch.remove()
        self._watches = {}

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a flat dict for each record, for polars.DataFrame or pandas.DataFrame."""
        return [record.to_dict() for record in self.records]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the records as a table.

        Args:
            path: a file ending in .csv or .json. In JSON, null stands for numbers that are not finite.

        Raises:
            ValueError: the file has another ending.
            OSError: the file cannot be written.
        """
        flow_record.save(self.records, path)

    def callback(self) -> Any:
        """Make a callback for Lightning's Trainer.

        Returns:
            A Callback that calls ``step`` after each step of the optimizer and passes each number to the
            Trainer's loggers. It fits lightning.pytorch and pytorch_lightning.

        Raises:
            RuntimeError: neither package has been imported.
        """
        from undertow.tracing import lightning

        return lightning.make(self)

    def __repr__(self) -> str:
        return (
            f"FlowMonitor({', '.join(map(repr, self._modules))}, every={self.every}: "
            f"{self.steps} steps, {len(self.records)} records)"
        )

    # ------------------------------------------------------------------ one sample

    def _watch(self) -> None:
        self.close()
        self._watches = {name: _Watch(module) for name, module in self._modules.items()}

    def _read(self) -> list[FlowRecord]:
        watches = self._watches
        self.close()
        self.missing, found = {}, []
        for name, watch in watches.items():
            try:
                found += self._records(name, watch.layers())
            except NotRecorded as error:
                self._miss(name, str(error))
        self.records += found
        self._write(found)
        return found

    def _records(self, name: str, layers: list[Layer]) -> list[FlowRecord]:
        return [
            FlowRecord(self.steps, name, k, way.tape.reverse, way.cell, summary)
            for k, layer in enumerate(layers)
            for way, summary in self._summaries(layer)
        ]

    def _summaries(self, layer: Layer) -> Iterator[tuple[Layer, flow.Summary]]:
        """Summarise each direction, from a few sequences that are not empty."""
        assert isinstance(layer.source, Direction)
        whole = layer.source.recording
        if whole.added:
            raise NotRecorded(f"flow knows the LSTM's own equations, not those with {', '.join(whole.added)}")
        places = whole.places
        alive = np.arange(places.N) if places.lengths is None else np.flatnonzero(places.lengths)
        if not len(alive):
            raise NotRecorded("every sequence was empty")
        chosen = alive[np.linspace(0, len(alive) - 1, min(self.sequences, len(alive))).round().astype(int)]
        part = whole.of(chosen.tolist())
        if part is not whole:
            layer, chosen = Layer.of(part.directions()), np.arange(len(chosen))
        for way in layer.directions:
            steps, tape = way.source.steps, way.tape.of(chosen)
            dh, dc = steps.dh[:, chosen], None if steps.dc is None else steps.dc[:, chosen]
            with np.errstate(all="ignore"):
                by_lag = walk_back.gradient_by_lag(tape, way.source.weights, *flow.last_error(tape, dh, dc))
            yield way, flow.summary(tape, way.weight_hh, by_lag, dh, dc)

    def _miss(self, name: str, reason: str) -> None:
        self.missing[name] = reason
        if (name, reason) not in self._warned:
            self._warned.add((name, reason))
            warnings.warn(
                f"FlowMonitor: nothing was recorded of {name!r} at step {self.steps}: {reason}", stacklevel=4
            )

    def _write(self, records: list[FlowRecord]) -> None:
        if self.writer is not None:
            for record in records:
                for tag, value in record.scalars().items():
                    self.writer.add_scalar(tag, value, record.step)


# ---------------------------------------------------------------------------------------- watching


class _Watch:
    """Records each call of a module with hooks, and keeps the last one that a backward pass reaches.

    Only their graphs keep other recordings alive.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module
        self._calls: list[list[str | None]] = []  # for each call and layer: what its recording lacks so far
        self._made: list[Recording] = []  # the recordings of the call that runs now
        self._weights: list[list[tuple[torch.Tensor, torch.Tensor]]] = []  # each layer's last copies
        self._last = -1  # the last call that a backward pass reached, and its layers
        self._found: dict[int, Recording] = {}
        self._open: list[Any] = []
        self._why = "it was not called, or torch.compile or jit called it"
        self._hooks = [
            module.register_forward_pre_hook(_Hook(self._before)),
            module.register_forward_hook(_Hook(self._after), always_call=True),
        ]

    def layers(self) -> list[Layer]:
        """The layers of the last call that a backward pass reached. Raises NotRecorded if there is none."""
        if not self._calls:
            raise NotRecorded(self._why)
        layers = [self._found.get(k, why) for k, why in enumerate(self._calls[self._last])]
        for k, found in enumerate(layers):
            reason = found.why_not() if isinstance(found, Recording) else found
            if reason is not None:
                raise NotRecorded(f"layer {k}: nothing was recorded of this call: {reason}")
        return [Layer.of(found.directions()) for found in layers if isinstance(found, Recording)]

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._after(self._module)

    def _before(self, module: torch.nn.Module) -> None:
        self._after(module)  # for a call that Ctrl-C ended: torch ran no hook after it
        reason = self._why_not(module)
        if reason is None:
            self._open.append(listening.watch({module: self._listen}))
        else:
            self._why = reason

    def _after(self, module: torch.nn.Module) -> None:
        with suppress(ValueError):  # after Ctrl-C in another context, whose variables are gone
            while self._open:
                listening.unwatch(self._open.pop())
        if self._made:
            self._calls.append([made.why_not() for made in self._made])
            self._weights = [made.weights for made in self._made]
            self._made = []

    def _listen(self) -> Callable[[], Recording]:
        return partial(self._record, len(self._calls))

    def _record(self, call: int) -> Recording:
        k = len(self._made)
        weights = self._weights[k] if k < len(self._weights) else ()
        self._made.append(Recording(weights, partial(self._reached, call, k)))
        return self._made[-1]

    def _reached(self, call: int, k: int, found: Recording) -> None:
        if call > self._last:
            self._last, self._found = call, {}
        if call == self._last:
            self._found[k] = found

    def _why_not(self, module: torch.nn.Module) -> str | None:
        if not torch.is_grad_enabled() or not module.training:
            return "it was only called in evaluation mode or without gradients"
        if module in (listening.traced.get() or {}):
            return "an undertow.trace was watching it"
        if getattr(module, "checkpoint", None) is not None:
            return "it trains in segments (checkpoint=), which keep no tape"
        return None


class _Hook:
    """A hook whose copies, in copies and pickles of its module, do nothing."""

    def __init__(self, run: Callable[[torch.nn.Module], None]) -> None:
        self._run = run

    def __call__(self, module: torch.nn.Module, *_: Any) -> None:
        if not torch.compiler.is_compiling():
            self._run(module)

    def __reduce__(self) -> Any:
        return _Hook, (_nothing,)


def _nothing(module: torch.nn.Module) -> None:
    pass
