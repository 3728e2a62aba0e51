"""``undertow.trace``: every gate, state and gradient of every step, of any model that holds an LSTM or RNN.

    >>> import torch, undertow
    >>> model = torch.nn.ModuleDict({"lstm": undertow.LSTM(3, 8)})
    >>> with undertow.trace(model) as trace:
    ...     y, _ = model["lstm"](torch.randn(20, 4, 3))
    ...     y[-1].sum().backward()
    >>> layer = trace["lstm"].layers[0]
    >>> layer.f.shape, layer.dc.shape  # the forget gate; ∂E/∂c_t
    ((20, 4, 8), (21, 4, 8))

What is kept is what training keeps anyway, so watching costs next to nothing; gradients at every step are
computed when they are read. ``Layer`` says what there is; ``undertow.flow`` takes ``layer.tape``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch

from undertow.kernels import recording
from undertow.kernels.recording import Recording
from undertow.nn import LSTM, RNN
from undertow.records import trace_file
from undertow.records.layer import Layer, NotRecorded
from undertow.tape import Array

if TYPE_CHECKING:
    from typing_extensions import Unpack


def trace(model: torch.nn.Module) -> "Trace":
    """Watch every undertow.LSTM and undertow.RNN in ``model``, or ``model`` itself, inside a ``with``.

    Calls made inside the block are recorded, those of other threads are not; backward may come after it. The
    results are the same bits as without. A module in two traces at once is recorded by the inner one.

    Only calls that the native kernels compute are recorded. Reading another one raises NotRecorded, a
    RuntimeError that says why: projections, relu, half precision, other devices, torch.compile.
    Raises TypeError where ``model`` is no module and ValueError where it holds neither LSTM nor RNN of ours.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    found = {name: module for name, module in model.named_modules() if isinstance(module, LSTM | RNN)}
    if not found:
        raise ValueError(
            f"model: expected one that holds an undertow.LSTM or undertow.RNN, got {type(model).__name__} "
            "without any; undertow.convert makes them of torch's"
        )
    return Trace(found, found.values())


class Call:
    """One call of a module. ``layers`` holds a Layer each; NotRecorded where the kernels did not run."""

    def __init__(self, found: Sequence[Recording | Layer | str], again: bool = False) -> None:
        self._found = found  # may still grow
        self._again = again  # made during a backward pass
        self._layers: list[Layer | str] = []

    @property
    def _counts(self) -> bool:
        """Whether the program made it: torch.utils.checkpoint makes a call again for its tensors alone."""
        return not self._again or any(isinstance(r, Recording) and r.reached for r in self._found)

    @property
    def layers(self) -> list[Layer]:
        """[L], the forward direction; the other one is ``layers[k].reverse``."""
        layers: list[Layer] = []
        for k, layer in enumerate(self.layers_or_reasons()):
            if isinstance(layer, str):
                raise NotRecorded(f"layer {k}: nothing was recorded of this call: {layer}")
            layers.append(layer)
        return layers

    def layers_or_reasons(self) -> list[Layer | str]:
        """The same with a string, that says why, for each that is missing."""
        for found in self._found[len(self._layers) :]:
            if isinstance(found, Recording):
                self._layers.append(found.missing or Layer.of(found.directions()))
            else:
                self._layers.append(found)
        return self._layers


class Traced:
    """What a trace holds of one module: ``calls``, in order; ``layers`` and the like are the last call's.

    A call that torch.utils.checkpoint makes again during backward counts where backward reaches it, as with
    ``use_reentrant=True``; else the first call has the gradients.
    """

    def __init__(self, name: str, calls: Iterable[Call] = ()) -> None:
        self.name = name
        self._calls = list(calls)
        self._last: list[Recording] = []  # of the last call

    @property
    def calls(self) -> list[Call]:
        """Every call, in order."""
        return [call for call in self._calls if call._counts]

    @property
    def layers(self) -> list[Layer]:
        """Of the last call. Raises NotRecorded where there was none."""
        calls = self.calls
        if not calls:
            raise NotRecorded(
                f"{self.name!r}: no call was recorded. It was not called inside the trace and in its thread, "
                "or torch's own operator served it: on another device than the CPU, or in torch.compile"
            )
        return calls[-1].layers

    def listen(self) -> Callable[[], Recording]:
        """What gives the Recording of each layer of the next call."""
        before, self._last = iter(self._last), []
        return partial(self._record, before, self._last)

    def _record(self, before: Iterator[Recording], recordings: list[Recording]) -> Recording:
        if not recordings:  # only now: a call whose arguments are refused is none
            self._calls.append(Call(recordings, again=recording.in_backward()))
        last = next(before, None)
        recordings.append(Recording(() if last is None else last.weights))
        return recordings[-1]


class Trace(Mapping[str, Traced]):
    """Module name, as in ``model.named_modules()``, -> Traced. A model that is itself the LSTM is called "".

    ``trace.layers`` and ``trace.calls`` are those of the only module, where there is but one.
    """

    def __init__(self, names: Iterable[str], modules: Iterable[torch.nn.Module] = ()) -> None:
        self._traced = {name: Traced(name) for name in names}
        self._listeners = {m: t.listen for m, t in zip(modules, self._traced.values(), strict=False)}
        self._tokens: list[Any] = []
        self._loss_per_step: Array | None = None

    def __enter__(self) -> "Trace":
        self._tokens.append(recording.watch(self._listeners))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        recording.unwatch(self._tokens.pop())

    def __getitem__(self, name: str) -> Traced:
        if name not in self._traced:
            raise KeyError(f"no LSTM or RNN is called {name!r}; there are {list(self._traced)}")
        return self._traced[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._traced)

    def __len__(self) -> int:
        return len(self._traced)

    @property
    def layers(self) -> list[Layer]:
        """Of the last call of the only module. Raises ValueError where there are several."""
        return self._only().layers

    @property
    def calls(self) -> list[Call]:
        """Of the only module. Raises ValueError where there are several."""
        return self._only().calls

    @property
    def loss_per_step(self) -> Array | None:
        """E_t, [T] or [T,N] in the order of time, None until somebody assigns it.

        A trace sees gradients and no loss, so the loss is for you to give: ``trace.loss_per_step = E``, a
        tensor or array, of which the values are copied. Raises ValueError where it has another dimension.
        """
        return self._loss_per_step

    @loss_per_step.setter
    def loss_per_step(self, E: Any) -> None:
        values = np.array(E.detach().cpu().numpy() if isinstance(E, torch.Tensor) else E)
        if values.ndim not in (1, 2):
            raise ValueError(f"loss_per_step: expected shape [T] or [T, N], got {list(values.shape)}")
        self._loss_per_step = values

    def _only(self) -> Traced:
        if len(self._traced) != 1:
            raise ValueError(f"trace: expected one of {list(self._traced)}, as in trace[name]")
        return next(iter(self._traced.values()))

    # ------------------------------------------------------------------ to a file and back

    def save(self, path: str | PathLike[str]) -> None:
        """All of it into a safetensors file, arrays as ``tape`` and ``gradients`` have them; no pickle.

        What was not recorded is saved as the reason why. Raises OSError where the file cannot be written.
        """
        modules = {name: [call.layers_or_reasons() for call in found.calls] for name, found in self.items()}
        trace_file.write(path, modules, self._loss_per_step)

    # ------------------------------------------------------------------ to a page

    def report(
        self,
        path: str | PathLike[str],
        *,
        sequence: int = 0,
        module: str | None = None,
        loss_weight: float | None = None,
        name: str | None = None,
        answer: str = "",
        compare: "Mapping[str, Trace] | None" = None,
        answers: Sequence[str] = (),
        **captions: "Unpack[Captions]",
    ) -> None:
        """Write a page that shows one sequence of the last call, which any browser opens from disk.

        The page has every gate, state and gradient at every step, the gradient that flows back from any
        step, and what each unit follows; docs/report.md explains how to read it. It needs Bokeh and Jinja2,
        of the extra undertow[app].

        Args:
            path: the HTML file.
            sequence: the index of the sequence in the batch.
            module: the name of the module to show; None: the only one.
            loss_weight: backward was called on loss_weight · ΣE_t, where E_t is the ``loss_per_step``
                that was assigned. It lets the page show ∂E_t/∂c_s. None: the loss is the mean of E_t.
            name: what the page calls this network; None: its cell.
            answer: what this network answered, in words.
            compare: other networks by name, with their traces of the same sequence.
            answers: what the others answered, in words.
            **captions: what the sequence and the page are called, see ``Captions``.

        Raises:
            ValueError: an argument does not fit the sequence, or is no Unicode text; the message names it.
            IndexError: there is no such sequence.
            KeyError: there is no such module.
            NotRecorded: the call was not recorded.
            ModuleNotFoundError: Bokeh or Jinja2 is not installed.
        """
        report = _report()
        own = name or self._chosen(module).layers[0].cell.upper().replace("RNN", "plain RNN")
        captions["title"] = captions.get("title") or f"{own}, traced"
        traces = [(own, self), *(compare or {}).items()]
        said = [answer, *answers, *[""] * len(traces)]
        networks = [
            report.network(
                each,
                found._chosen(module).layers,
                sequence,
                found._loss_per_step,
                loss_weight,
                words,
                found._chosen(module).name,
            )
            for (each, found), words in zip(traces, said, strict=False)
        ]
        T = _one_length(networks)
        report.write(path, networks, report.sequence_of(T, **captions))

    def _chosen(self, module: str | None) -> Traced:
        return self._only() if module is None else self[module]


class Captions(TypedDict, total=False):
    """Words and numbers for the page of ``Trace.report``. All of them may be left out."""

    symbols: Sequence[str] | None  # [T], what was read
    targets: Sequence[str] | None  # [T], what E_t is the error of
    inputs: npt.ArrayLike | None  # [T,C], numbers that were read
    input_names: Sequence[str] | None  # [C]
    steps: Sequence[str] | None  # [T], names of the steps, such as dates
    loss_unit: str  # of E_t: nats, bits
    title: str | None  # the heading
    about: str  # the line below it


def _one_length(networks: Sequence[Any]) -> int:
    """How many steps the sequence has in every one of them."""
    T: int = networks[0].T
    for each in networks[1:]:
        if each.T != T:
            raise ValueError(
                f"compare: expected the same sequence of {T} steps, got {each.T} of {each.name!r}"
            )
    return T


def _report() -> Any:
    """Import ``undertow.report``, which needs Bokeh."""
    try:
        from undertow import report
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("undertow"):
            raise
        raise ModuleNotFoundError(
            f"trace.report needs {missing.name}: pip install 'undertow[app]'", name=missing.name
        ) from None
    return report


def load_trace(path: str | PathLike[str]) -> Trace:
    """What ``Trace.save`` wrote, to be read as the trace itself was.

    Raises FileNotFoundError where there is none, ValueError where it is another or a newer kind of file.
    """
    modules, loss = trace_file.read(path)
    loaded = Trace(modules)
    for name, calls in modules.items():
        loaded._traced[name] = Traced(name, map(Call, calls))
    loaded._loss_per_step = loss
    return loaded
