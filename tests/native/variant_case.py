"""One call of the kernels of a variant: the problem, the equations' answer, the kernels'.

Extends layer_case.Case: what is added is drawn here, and every output is filled with NaN before the call.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from layer_case import BACKWARD, FORWARD, GRADIENTS, Arrays, Case
from undertow.equations import variants
from undertow.kernels import native

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
SUMS = ("dreset_h", "dreset_c", "dpeepholes", "dgain_x", "dgain_h", "dgain_c", "dbias_c")


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

    @cached_property
    def given(self) -> Arrays:
        """x and the rest as the kernel is given them: with a NaN wherever the mask says not to read."""
        x = self.inputs["x"].copy()
        if self.variant.mask is not None:
            x[~np.asarray(self.variant.mask)] = np.nan
        return self.inputs | {"x": x}

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
        names = [*GRADIENTS, "dc_0", *SUMS]
        steps = {"dgates": found.dgates, "dh": found.dh[1:], "dc": found.dc[1:]}
        return {n: getattr(found, n) for n in names} | {n: self.as_tape(a) for n, a in steps.items()}

    def forward(self, *, tape: bool = True, layout: str = "contiguous", threads: int = 1) -> Arrays:
        T, N, H = self.T, self.N, self.H
        shapes = {"y": (T, N, H), "h_n": (N, H), "c_n": (N, H)}
        if tape:
            c = (T + 1, N, H) if len(self.tape_shape) == 2 else (N + self.tape_shape[0], H)
            shapes |= {"gates": (*self.tape_shape, 4, H), "c": c}
            if self.norms:
                shapes |= {"normed": (*self.tape_shape, 2, 4, H), "scale": (*self.tape_shape, 2)}
        out = {name: np.full(shape, np.nan, self.dtype) for name, shape in shapes.items()}
        self.call("varied_forward", [*ADDED, *FORWARD], out, threads)
        return out

    def backward(self, outputs: Arrays, *, threads: int = 1) -> Arrays:  # type: ignore[override]
        T, N, C, H = self.T, self.N, self.C, self.H
        shapes = {
            "dh_0": (N, H),
            "dc_0": (N, H),
            "dweight_hh": (4 * H, H),
            "dgates": (*self.tape_shape, 4, H),
        }
        shapes |= {
            "dh": (*self.tape_shape, H),
            "dc": (*self.tape_shape, H),
            "dreset_h": (N, H),
            "dreset_c": (N, H),
        }
        shapes |= {"dx": (T, N, C), "dweight_ih": (4 * H, C), "dbias": (4 * H,)}
        if self.variant.peepholes is not None:
            shapes["dpeepholes"] = (3, H)
        if self.norms:
            shapes |= {"dgain_x": (4 * H,), "dgain_h": (4 * H,), "dgain_c": (H,), "dbias_c": (H,)}
        out = {name: np.full(shape, np.nan, self.dtype) for name, shape in shapes.items()}
        kept = {name: a for name, a in outputs.items() if name not in {"h_n", "c_n"}}
        self.call("varied_backward", [*ADDED, *ADDED_OUT, *BACKWARD], out, threads, kept | self.upstream)
        return out

    def call(
        self, function: str, names: list[str], out: Arrays, threads: int, more: Arrays | None = None
    ) -> None:
        v, given = self.variant, self.given | (more or {})
        fresh = None if v.reset is None else as_run(np.asarray(v.reset), self.lengths, self.reverse)
        shape = (self.T, self.N, self.H)
        broad = {
            name: None if a is None else np.broadcast_to(np.asarray(a), shape)
            for name, a in (("zoneout_h", v.zoneout_h), ("zoneout_c", v.zoneout_c))
        }
        added = {"mask": v.mask, "reset": fresh, "h_reset": v.reset_h, "c_reset": v.reset_c}
        added |= {"recurrent": v.recurrent, "peepholes": v.peepholes} | broad
        added |= {name: getattr(v, name) for name in ("gain_x", "gain_h", "gain_c", "bias_c")}
        arrays = given | added | out
        arrays |= {"dh_reset": out.get("dreset_h"), "dc_reset": out.get("dreset_c")}
        options = {**self.ranking, "reverse": self.reverse, "threads": threads, "coupled": v.coupled}
        getattr(native, function)(cell="lstm", **{name: arrays.get(name) for name in names}, **options)

    def __str__(self) -> str:
        return "-".join([super().__str__(), *self.options])


def as_run(reset: np.ndarray, lengths: np.ndarray | None, reverse: bool) -> np.ndarray:
    """Before which steps the kernel is to reset: in reverse, on the way from t to t - 1."""
    if not reverse:
        return reset
    T, N = reset.shape
    inside = np.arange(T)[:, None] < (np.full(N, T) if lengths is None else lengths)
    return np.concatenate([(reset & inside)[1:], np.zeros((min(T, 1), N), bool)])


STATES = ["mask", "reset", "h_reset", "c_reset", "recurrent", "zoneout_h", "zoneout_c", "peepholes"]
ADDED = [*STATES, "gain_x", "gain_h", "gain_c", "bias_c", "normed", "scale"]
ADDED_OUT = ["dh_reset", "dc_reset", "dpeepholes", "dgain_x", "dgain_h", "dgain_c", "dbias_c"]
