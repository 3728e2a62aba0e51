"""What is examined: every traced layer in each direction, measured by ``undertow.flow``, and the training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from undertow import flow
from undertow.layout import gate
from undertow.records.layer import Layer, NotRecorded
from undertow.tape import Tape

Array = npt.NDArray[np.float64]
NO_LSTM = "there is no LSTM"
SKIP = 20  # steps that a Lyapunov vector gets to turn towards the leading direction


@dataclass(frozen=True)
class Patient:
    """One layer in one direction. Each measure is taken once, when it is first asked for."""

    where: str  # "rnn, layer 0, reverse"
    layer: Layer
    bias_ih: Array | None = None  # [G*H]; None without biases or without the model
    bias_hh: Array | None = None

    @property
    def tape(self) -> Tape:
        """The tape of an LSTM."""
        assert isinstance(self.layer.tape, Tape)
        return self.layer.tape

    @property
    def is_lstm(self) -> bool:
        """Whether the layer is an LSTM."""
        return self.layer.cell == "lstm"

    @property
    def steps(self) -> int:
        """T, the steps of the longest sequence."""
        return len(self.layer.h) - 1

    @property
    def finite(self) -> bool:
        """Whether every h is finite."""
        return bool(np.isfinite(self.layer.h[1:][self.layer.mask]).all())

    @cached_property
    def by_lag(self) -> flow.GradientByLag | None:
        """How the error after each sequence's last step reaches back; None without a recorded backward."""
        try:
            steps = self.layer.source.steps
        except NotRecorded:
            return None
        dh, dc = flow.error_at(self.layer.tape, steps.dh, steps.dc)
        return flow.gradient_by_lag(self.layer.tape, self.layer.weight_hh, dh, dc=dc)

    @cached_property
    def log_size(self) -> Array:
        """log ‖∂E_s/∂c‖ by lag, or log ‖∂E_s/∂h‖ of a plain RNN, [lag,N]. It needs a ``by_lag``."""
        assert self.by_lag is not None
        of_c = self.by_lag.log_dc_norm
        return self.by_lag.log_dh_norm if of_c is None else of_c

    @cached_property
    def faded(self) -> Array:
        """The gradient relative to its size at lag 0, natural logarithm, [lag,N]; NaN if that is zero."""
        with np.errstate(invalid="ignore"):  # -inf - (-inf): zero from the start
            return np.asarray(self.log_size - self.log_size[0])

    @cached_property
    def horizons(self) -> tuple[float, float]:
        """Lags at which the gradient is down to 1/e and to 1 %, medians over sequences; NaN if it is zero."""
        if self.by_lag is None:
            return np.nan, np.nan
        found = flow.memory_horizon(self.by_lag)
        e, percent = flow.lower_median(found.h if found.c is None else found.c)
        return float(e), float(percent)

    @cached_property
    def exponent(self) -> float:
        """The leading Lyapunov exponent per step, mean over sequences; NaN if there are too few steps.

        The first 20 steps are left out, or the first half of fewer than 40.
        """
        skip = min(SKIP, self.steps // 2)
        found = flow.lyapunov(self.layer.tape, self.layer.weight_hh, skip=skip).exponents[:, 0]
        found = found[~np.isnan(found)]
        return float(found.mean()) if len(found) else np.nan

    @cached_property
    def saturation(self) -> flow.GateSaturation:
        """How often each gate is saturated, at the default thresholds of ``flow.gate_saturation``."""
        return flow.gate_saturation(self.tape)

    @cached_property
    def health(self) -> flow.UnitHealth:
        """Which units are dead or never forget, at the default thresholds of ``flow.unit_health``."""
        return flow.unit_health(self.tape)

    @cached_property
    def log_carousel(self) -> Array:
        """Mean log f of each unit over the steps of all sequences, [H]: what a step leaves along the cell."""
        logs = flow.carousel(self.tape).log_product()  # [N, H], summed over each sequence's own steps
        return np.asarray(logs.sum(axis=0) / max(1, int(self.layer.lengths.sum())))

    def bias(self, name: str) -> Array | None:
        """Return a gate's bias before its sigmoid, b_ih + b_hh, [H]; None if the biases are not known."""
        if self.bias_ih is None or self.bias_hh is None:
            return None
        return np.asarray(gate(self.bias_ih + self.bias_hh, name, self.layer.h.shape[-1]))


@dataclass(frozen=True)
class Training:
    """What is known of a training beside the network itself. All of it may be left out."""

    rows: Sequence[Mapping[str, Any]] = ()
    """One for each evaluation, as in a run's metrics.jsonl: step, train_loss, validation_loss, lr,
    grad_norm (mean since the row before), clipped (fraction of steps since). Missing keys are not judged."""
    clip: float = 0.0  # largest gradient norm; 0: not clipped
    baseline: float | None = None  # loss of the best guess that needs no learning, in the unit of the losses
    baseline_name: str = "the best constant guess"

    def column(self, name: str) -> Array:
        """Return one number of every row, [rows], NaN where it is missing."""
        return np.array([row.get(name, np.nan) for row in self.rows], dtype=np.float64)

    @property
    def skill(self) -> float:
        """1 - loss / baseline at the best evaluation: 0 for a guess, 1 without error, NaN if not known."""
        losses = self.column("validation_loss")
        if self.baseline is None or not self.baseline > 0 or not np.isfinite(losses).any():
            return np.nan
        return float(1 - np.nanmin(losses) / self.baseline)


@dataclass(frozen=True)
class Case:
    """Everything that the checks look at."""

    patients: Sequence[Patient]
    missing: Sequence[str]  # why layers are not among them
    lag: int | None
    training: Training

    @property
    def lstms(self) -> list[Patient]:
        """The patients that are LSTMs."""
        return [patient for patient in self.patients if patient.is_lstm]


def admit(trace: Mapping[str, Any], model: Any) -> tuple[list[Patient], list[str]]:
    """Collect every layer that was recorded in each module's last call.

    Args:
        trace: of ``undertow.trace`` or ``load_trace``.
        model: the torch module that was traced, or None.

    Returns:
        The layers, one for each direction, and the reasons why others are missing.
    """
    patients: list[Patient] = []
    missing: list[str] = []
    for name, traced in trace.items():
        try:
            layers = traced.layers
        except NotRecorded as reason:
            missing.append(f"{name or 'the module'}: {reason}")
            continue
        for k, layer in enumerate(layers):
            for way in layer.directions:
                reverse = bool(way.tape.reverse)
                where = ", ".join(
                    [*([name] if name else []), f"layer {k}", *(["reverse"] if reverse else [])]
                )
                if not way.lengths.any():
                    missing.append(f"{where}: it took no step")
                    continue
                if way.tape.added:
                    added = ", ".join(way.tape.added)
                    missing.append(
                        f"{where}: the checks know the LSTM's own equations, not those with {added}"
                    )
                    continue
                patients.append(Patient(where, way, *biases(model, name, k, reverse)))
    return patients, missing


def biases(model: Any, name: str, k: int, reverse: bool) -> Iterator[Array | None]:
    """Yield bias_ih and bias_hh of one layer in float64, None each if there is none or no model is given.

    Only methods of tensors are used, so torch need not be imported. Raises ValueError if the model has no
    module of this name.
    """
    try:
        module = None if model is None else model.get_submodule(name)
    except AttributeError:
        raise ValueError(f"model: expected the module that was traced, got one without {name!r}") from None
    for kind in ("ih", "hh"):
        value = getattr(module, f"bias_{kind}_l{k}{'_reverse' * reverse}", None)
        yield None if value is None else np.asarray(value.detach().cpu().double().numpy())
