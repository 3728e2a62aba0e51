"""``undertow.FlowMonitor``: does memory reach back far enough, and is it getting better? Over training.

    >>> monitor = undertow.FlowMonitor(model, every=50)
    >>> for x, target in batches:
    ...     criterion(model(x), target).backward()
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    ...     monitor.step()
    >>> undertow.plots.flow_over_training(monitor.records)

docs/plots.md has it with Lightning and TensorBoard. ``undertow.flow.Summary`` lists what is recorded.
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
from undertow.kernels import recording
from undertow.kernels.recording import Recording
from undertow.nn import LSTM, RNN
from undertow.records import flow_record
from undertow.records.flow_record import FlowRecord
from undertow.records.layer import Layer, NotRecorded
from undertow.tracing import trace, walk_back


class FlowMonitor:
    """Records how gradients flow in every undertow.LSTM and undertow.RNN of ``model``, every so many steps.

    Call ``step`` once after each training step, where a scheduler's would stand; nothing else of the loop
    changes. Step 0, the network as it was initialised, is the first recorded. What is watched is the last
    call of each module, in training mode, that backward reached: evaluation in between does not matter, and
    of the batches over which gradients are accumulated it is the last. Results are the same bits as without.

    ``sequences``: how many of the batch are looked at, spread over it. ``writer``: what has TensorBoard's
    ``add_scalar(tag, value, step)``, for every number of every record.

    ``records`` is what was recorded; ``missing`` maps each module without a record, at the last step
    that was due, to the reason: what ``undertow.trace`` cannot record, evaluation mode, no backward,
    ``checkpoint=``.
    The first time a warning says so too. Between the steps to be recorded nothing is kept or hooked.

    Raises TypeError where ``model`` is no module, ValueError where it holds neither LSTM nor RNN of ours, or
    ``every`` or ``sequences`` is below 1.
    """

    def __init__(
        self, model: torch.nn.Module, every: int = 50, *, sequences: int = 4, writer: Any = None
    ) -> None:
        for name, value in {"every": every, "sequences": sequences}.items():
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        trace(model)  # raises what it would
        self.every, self.sequences, self.writer = every, sequences, writer
        self.steps = 0  # done so far; where training is resumed, set it
        self.records: list[FlowRecord] = []
        self.missing: dict[str, str] = {}
        self._modules = {n: m for n, m in model.named_modules() if isinstance(m, LSTM | RNN)}
        self._watches: dict[str, _Watch] = {}
        self._warned: set[tuple[str, str]] = set()
        self._watch()

    def step(self) -> list[FlowRecord]:
        """A training step was done. Returns what was recorded of it: nothing, unless it was due."""
        found = self._read() if self._watches else []
        self.steps += 1
        if self.steps % self.every == 0:
            self._watch()
        return found

    def close(self) -> None:
        """Stop watching. Records stay; a later ``step`` goes on."""
        for watch in self._watches.values():
            watch.remove()
        self._watches = {}

    def to_dicts(self) -> list[dict[str, Any]]:
        """A flat dict for each record, for polars.DataFrame or pandas.DataFrame."""
        return [record.to_dict() for record in self.records]

    def save(self, path: str | PathLike[str]) -> None:
        """The records as a table, .csv, or .json with null for what is no finite number.

        Raises ValueError for another ending, OSError where the file cannot be written.
        """
        flow_record.save(self.records, path)

    def callback(self) -> Any:
        """A Callback for Lightning's Trainer: calls ``step``, logs each number to the Trainer's loggers.

        Of the package that has been imported, lightning.pytorch or pytorch_lightning; RuntimeError where
        neither has.
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
        """Of each direction; of a few sequences that have a step at all."""
        assert isinstance(layer.source, recording.Direction)
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
    """Has each call of a module recorded, by hooks around it, and keeps the last that backward reaches.

    All others are kept alive by their graphs alone.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module
        self._calls: list[list[str | None]] = []  # of each layer, why it is of no use unless backward comes
        self._made: list[Recording] = []  # by the call that is going on
        self._weights: list[list[tuple[torch.Tensor, torch.Tensor]]] = []  # of each layer, the last copies
        self._last = -1  # the last call reached, and its layers
        self._found: dict[int, Recording] = {}
        self._open: list[Any] = []
        self._why = "it was not called, or torch.compile or jit called it"
        self._hooks = [
            module.register_forward_pre_hook(_Hook(self._before)),
            module.register_forward_hook(_Hook(self._after), always_call=True),
        ]

    def layers(self) -> list[Layer]:
        """Of the last call that backward reached. Raises NotRecorded."""
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
        self._after(module)  # of a call that Ctrl-C ended: torch runs no hook then
        reason = self._why_not(module)
        if reason is None:
            self._open.append(recording.watch({module: self._listen}))
        else:
            self._why = reason

    def _after(self, module: torch.nn.Module) -> None:
        with suppress(
            ValueError
        ):  # Ctrl-C, and since then another context: what was set is gone with its own
            while self._open:
                recording.unwatch(self._open.pop())
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
        if module in (recording.traced.get() or {}):
            return "an undertow.trace was watching it"
        if getattr(module, "checkpoint", None) is not None:
            return "it trains in segments (checkpoint=), which keep no tape"
        return None


class _Hook:
    """A hook that copies and pickles of its module take along as one that does nothing."""

    def __init__(self, run: Callable[[torch.nn.Module], None]) -> None:
        self._run = run

    def __call__(self, module: torch.nn.Module, *_: Any) -> None:
        if not torch.compiler.is_compiling():
            self._run(module)

    def __reduce__(self) -> Any:
        return _Hook, (_nothing,)


def _nothing(module: torch.nn.Module) -> None:
    pass
