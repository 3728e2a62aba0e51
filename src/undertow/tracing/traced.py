"""A trace: the recorded calls of a model's modules, from ``undertow.trace`` or from a file. NumPy alone.

``records.layer.Layer`` lists the arrays of a layer; ``undertow.flow`` takes ``layer.tape``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt

from undertow.records import trace_file
from undertow.records.layer import Layer, NotRecorded
from undertow.tape import Array

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from undertow.kernels.recording import Recording


class Call:
    """One call of a module.

    Args:
        found: for each layer its recording, its ``Layer``, or the reason why there is none.
        again: the call was made during a backward pass, as torch.utils.checkpoint does.
    """

    def __init__(self, found: "Sequence[Recording | Layer | str]", again: bool = False) -> None:
        self._found = found  # may still grow
        self._again = again  # made during a backward pass
        self._layers: list[Layer | str] = []

    @property
    def _counts(self) -> bool:
        """Whether the program made the call: torch.utils.checkpoint repeats calls only for their tensors."""
        return not self._again or any(not isinstance(r, Layer | str) and r.reached for r in self._found)

    @property
    def layers(self) -> list[Layer]:
        """A ``Layer`` for each of the L layers, in the forward direction; ``layers[k].reverse`` is the other.

        Raises:
            NotRecorded: a layer was not recorded. The message gives the reason.
        """
        layers: list[Layer] = []
        for k, layer in enumerate(self.layers_or_reasons()):
            if isinstance(layer, str):
                raise NotRecorded(f"layer {k}: nothing was recorded of this call: {layer}")
            layers.append(layer)
        return layers

    def layers_or_reasons(self) -> list[Layer | str]:
        """Return ``layers``, with the reason as a string in place of each layer that was not recorded."""
        for found in self._found[len(self._layers) :]:
            if isinstance(found, Layer | str):
                self._layers.append(found)
            else:
                self._layers.append(found.missing or Layer.of(found.directions()))
        return self._layers


class Traced:
    """The recorded calls of one module.

    A call that torch.utils.checkpoint repeats during the backward pass counts only if the backward pass
    reaches it, as with ``use_reentrant=True``. Otherwise the first call has the gradients.

    Args:
        name: the module's name in the model.
        calls: its calls, in order.
    """

    def __init__(self, name: str, calls: Iterable[Call] = ()) -> None:
        self.name = name
        self._calls = list(calls)

    @property
    def calls(self) -> list[Call]:
        """Every call, in order."""
        return [call for call in self._calls if call._counts]

    @property
    def layers(self) -> list[Layer]:
        """The layers of the last call, see ``Call.layers``.

        Raises:
            NotRecorded: no call was recorded, or a layer of the last one was not.
        """
        calls = self.calls
        if not calls:
            raise NotRecorded(
                f"{self.name!r}: no call was recorded. It was not called inside the trace and in its thread, "
                "or it was part of a program of torch.compile"
            )
        return calls[-1].layers


class Trace(Mapping[str, Traced]):
    """The recorded calls of a model: a mapping of module names to ``Traced``.

    Names are those of ``model.named_modules()``. If the model itself is the LSTM, its name is "". If there is
    one module, ``trace.layers`` and ``trace.calls`` are short for ``trace[name].layers`` and
    ``trace[name].calls``.

    Args:
        traced: the recorded calls of each module.
    """

    def __init__(self, traced: Iterable[Traced]) -> None:
        self._traced = {each.name: each for each in traced}
        self._loss_per_step: Array | None = None

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
        """The layers of the last call of the only module, see ``Call.layers``.

        Raises:
            ValueError: there are several modules.
            NotRecorded: the call was not recorded.
        """
        return self._only().layers

    @property
    def calls(self) -> list[Call]:
        """The calls of the only module, in order. Raises ValueError if there are several modules."""
        return self._only().calls

    @property
    def loss_per_step(self) -> Array | None:
        """The loss E_t at each step, [T] or [T,N] in the order of time; None until it is assigned.

        A trace records gradients but not the loss. Assign a tensor or an array, ``trace.loss_per_step = E``;
        its values are copied.

        Raises:
            ValueError: the assigned values do not have 1 or 2 dimensions.
        """
        return self._loss_per_step

    @loss_per_step.setter
    def loss_per_step(self, E: Any) -> None:
        values = np.array(E.detach().cpu().numpy() if hasattr(E, "detach") else E)
        if values.ndim not in (1, 2):
            raise ValueError(f"loss_per_step: expected shape [T] or [T, N], got {list(values.shape)}")
        self._loss_per_step = values

    def _only(self) -> Traced:
        if len(self._traced) != 1:
            raise ValueError(f"trace: expected one of {list(self._traced)}, as in trace[name]")
        return next(iter(self._traced.values()))

    # ------------------------------------------------------------------ to a file and back

    def save(self, path: str | PathLike[str]) -> None:
        """Write the trace into a safetensors file, which ``load_trace`` reads.

        The file holds the arrays of ``layer.tape`` and ``layer.gradients`` for every call, and the reason for
        every layer that was not recorded. It holds no pickle.

        Args:
            path: the file.

        Raises:
            OSError: the file cannot be written.
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
        """Write a page on one sequence of the last call. Any browser opens it from disk.

        The page shows every gate, state and gradient at every step, the gradient that flows back from any
        step, and what each unit follows. docs/report.md explains how to read it. Writing it needs Bokeh and
        Jinja2, which the extra undertow[app] installs.

        Args:
            path: the HTML file.
            sequence: the index of the sequence in the batch.
            module: the name of the module to show; None: the only one.
            loss_weight: backward was called on loss_weight · ΣE_t, where E_t is the assigned
                ``loss_per_step``. With it the page shows ∂E_t/∂c_s. None: the loss is the mean of E_t.
            name: the network's name on the page; None: its cell.
            answer: the answer of this network, in words.
            compare: other networks by name, with their traces of the same sequence.
            answers: the answers of the other networks, in words.
            **captions: names and words for the sequence and the page, see ``Captions``.

        Raises:
            ValueError: an argument does not fit the sequence, or is no Unicode text. The message names it.
            IndexError: the batch has no such sequence.
            KeyError: the trace has no such module.
            OSError: the file cannot be written.
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
    """Words and numbers for the page of ``Trace.report``. All are optional.

    Attributes:
        symbols: [T] symbols that the network read.
        targets: [T] symbols that the network had to predict; E_t is the error of predicting them.
        inputs: [T,C] finite numbers that the network read.
        input_names: C names of the inputs.
        steps: [T] names of the steps, such as dates.
        loss_unit: the unit of E_t, such as nats or bits.
        title: the heading of the page.
        about: the line below the heading.
    """

    symbols: Sequence[str] | None
    targets: Sequence[str] | None
    inputs: npt.ArrayLike | None
    input_names: Sequence[str] | None
    steps: Sequence[str] | None
    loss_unit: str
    title: str | None
    about: str


def _one_length(networks: Sequence[Any]) -> int:
    """The number of steps, which must be the same in all networks."""
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
    """Read a trace that ``Trace.save`` wrote.

    Args:
        path: the file.

    Returns:
        A trace with the same arrays; it cannot record further calls.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no trace, or a newer version of undertow wrote it.
    """
    modules, loss = trace_file.read(path)
    loaded = Trace(Traced(name, map(Call, calls)) for name, calls in modules.items())
    loaded._loss_per_step = loss
    return loaded
