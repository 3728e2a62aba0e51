"""One call of the kernels of a variant: the problem, the equations' answer, the kernels'.

Extends layer_case.Case: what is added is drawn here, and every output is filled with NaN before the call.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from layer_case import GRADIENTS, TRAINED, Arrays, Case, Shapes
from undertow.equations import variants

OPTIONS = (
    "mask",
    "reset",
    "reset_states",
    "recurrent",
    "zoneout_h",
    "zoneout_c",
    "coupled",
    "peepholes",
    "norms",
)


@dataclass(frozen=True)
class VariantCase(Case):
    """``options``: of OPTIONS, those that are added."""

    options: tuple[str, ...] = ()

    @cached_property
    def variant(self) -> variants.Variant:
        T, N, H, random = self.T, self.N, self.H, np.random.default_rng(self.seed + 1)

        def drawn(*shape: int, scale: float = 1, around: float = 0) -> np.ndarray:
            return (around + scale * random.standard_normal(shape)).astype(self.dtype)

        every: dict[str, Any] = {
            "mask": {"mask": random.random((T, N)) < 0.7},
            "reset": {"reset": random.random((T, N)) < 0.2},
            "reset_states": {"reset_h": drawn(N, H), "reset_c": drawn(N, H)},
            "recurrent": {"recurrent": (2 * (random.random((N, H)) < 0.5)).astype(self.dtype)},
            "zoneout_h": {"zoneout_h": (random.random((T, N, H)) < 0.3).astype(self.dtype)},
            "zoneout_c": {"zoneout_c": random.random((1, 1, H)).astype(self.dtype)},
            "coupled": {"coupled": True},
            "peepholes": {"peepholes": drawn(3, H)},
            "norms": {
                "gain_x": drawn(4 * H, scale=0.3, around=1),
                "gain_h": drawn(4 * H, scale=0.3, around=1),
                "gain_c": drawn(H, scale=0.3, around=1),
                "bias_c": drawn(H, scale=0.3),
            },
        }
        return variants.Variant(**{k: v for option in self.options for k, v in every[option].items()})

    @property
    def norms(self) -> bool:
        return "norms" in self.options

    @property
    def given(self) -> Arrays:
        """With what is added, and a NaN wherever the mask says not to read."""
        v, whole, x = self.variant, (self.T, self.N, self.H), super().given["x"].copy()
        added = {field.name: getattr(v, field.name) for field in fields(v)}
        if v.mask is not None:
            x[~np.asarray(v.mask)] = np.nan
        if v.reset is not None:
            added["reset"] = as_run(np.asarray(v.reset), self.lengths, self.reverse)
        for name in ("zoneout_h", "zoneout_c"):
            if added[name] is not None:
                added[name] = np.broadcast_to(np.asarray(added[name]), whole)
        return super().given | added | {"x": x}

    @property
    def tape_shapes(self) -> Shapes:
        norms: Shapes = {"normed": (*self.tape_shape, 2, 4, self.H), "scale": (*self.tape_shape, 2)}
        return super().tape_shapes | (norms if self.norms else {})

    @property
    def gradient_shapes(self) -> Shapes:
        N, H = self.N, self.H
        shapes: Shapes = {"dreset_h": (N, H), "dreset_c": (N, H)}
        if self.variant.peepholes is not None:
            shapes["dpeepholes"] = (3, H)
        if self.norms:
            shapes |= {"dgain_x": (4 * H,), "dgain_h": (4 * H,), "dgain_c": (H,), "dbias_c": (H,)}
        return super().gradient_shapes | shapes

    @cached_property
    def _reference(self) -> tuple[np.ndarray, Any]:
        i = self.inputs
        bias = i["bias_ih"].astype(np.float64) + i["bias_hh"] if self.bias else None
        layer = i["x"], i["h_0"], i["c_0"], i["weight_ih"], i["weight_hh"], bias
        return variants.lstm(*layer, lengths=self.lengths, reverse=self.reverse, variant=self.variant)

    def expected_gradients(self, upstream: Arrays | None = None) -> Arrays:
        _, tape = self._reference
        weights = self.inputs["weight_ih"], self.inputs["weight_hh"]
        found = variants.lstm_backward(tape, self.inputs["x"], *weights, **self.upstream)
        names = [*GRADIENTS, "dc_0", *(f"d{name}" for name in TRAINED)]
        steps = {"dgates": found.dgates, "dh": found.dh[1:], "dc": found.dc[1:]}
        return {n: getattr(found, n) for n in names} | {n: self.as_tape(a) for n, a in steps.items()}

    def __str__(self) -> str:
        return "-".join([super().__str__(), *self.options])


def as_run(reset: np.ndarray, lengths: np.ndarray | None, reverse: bool) -> np.ndarray:
    """Before which steps the kernel is to reset: in reverse, on the way from t to t - 1."""
    if not reverse:
        return reset
    T, N = reset.shape
    inside = np.arange(T)[:, None] < (np.full(N, T) if lengths is None else lengths)
    return np.concatenate([(reset & inside)[1:], np.zeros((min(T, 1), N), bool)])
