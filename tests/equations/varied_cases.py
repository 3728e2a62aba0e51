"""The cases of cases.py with options: for ``equations.variants`` and the paths tested against them."""

from dataclasses import fields

import numpy as np
import pytest

from cases import Case
from undertow.equations import variants as va

OF_RNN = ["mask", "reset", "recurrent", "zoneout_h"]
OPTIONS = [*OF_RNN, "zoneout_c", "coupled", "peepholes", "norms"]
STEPWISE = ("mask", "reset", "zoneout_h", "zoneout_c")  # what has a value at each step
FIELDS = {f.name for f in fields(va.Variant)}


def draw(name, size, rng):
    """The fields of one option: what is given, and what is learnt."""
    T, N, _, H = size
    zoneout = rng.choice([0, 1, 0.3], size=(T, N, H))
    fixed = {
        "mask": {"mask": rng.random((T, N)) < 0.6},
        "reset": {"reset": rng.random((T, N)) < 0.4},
        "recurrent": {"recurrent": rng.choice([0, 2, 1.2], size=(N, H))},
        "zoneout_h": {"zoneout_h": zoneout},
        "zoneout_c": {"zoneout_c": zoneout},
        "coupled": {"coupled": True},
    }
    shapes = {
        "reset": {"reset_h": (N, H), "reset_c": (N, H)},
        "peepholes": {"peepholes": (3, H)},
        "norms": {"gain_x": (4 * H,), "gain_h": (4 * H,), "gain_c": (H,), "bias_c": (H,)},
    }
    learnt = {field: rng.normal(size=shape) for field, shape in shapes.get(name, {}).items()}
    return fixed.get(name, {}), learnt


class Varied(Case):
    """A Case with the options named."""

    def __init__(self, kind, size, options, how="full", reverse=False, seed=0):
        super().__init__(kind, size, how, reverse, seed=seed)
        self.size, self.fixed, rng = size, {}, np.random.default_rng(seed + 1)
        for name in options:
            fixed, learnt = draw(name, size, rng)
            self.fixed |= fixed
            self.given |= learnt
        if kind == "rnn":
            self.given.pop("reset_c", None)

    def forward(self, **changed):
        given = self.given | changed
        variant = va.Variant(**self.fixed, **{k: v for k, v in given.items() if k in FIELDS})
        layer = getattr(va, self.kind)
        arrays = {k: v for k, v in given.items() if k not in FIELDS}
        return layer(**arrays, lengths=self.lengths, reverse=self.reverse, variant=variant)

    def backward(self):
        g, (_, tape) = self.given, self.forward()
        layer_backward = getattr(va, f"{self.kind}_backward")
        return layer_backward(tape, g["x"], g["weight_ih"], g["weight_hh"], self.dy, **self.d_n)

    def part(self, n, a, b, start, last):
        """Sequence n from step a to b alone, from these states; dh_n and dc_n are its own if the last."""
        part = Varied(self.kind, (b - a, 1, *self.size[2:]), [], reverse=self.reverse)
        part.given = {k: v for k, v in self.given.items() if not k.startswith("reset")}
        part.given |= {"x": self.given["x"][a:b, n : n + 1]}
        part.given |= {f"{s}_0": state[None] for s, state in zip(self.states, start, strict=True)}
        part.fixed = {k: v for k, v in self.fixed.items() if k != "reset"}
        part.fixed |= {k: v[a:b, n : n + 1] for k, v in part.fixed.items() if k in STEPWISE}
        part.fixed |= {k: v[n : n + 1] for k, v in part.fixed.items() if k == "recurrent"}
        part.dy = self.dy[a:b, n : n + 1]
        part.d_n = {k: v[n : n + 1] * last for k, v in self.d_n.items()}
        return part


def options_of(kind):
    return OPTIONS if kind == "lstm" else OF_RNN


each_option = pytest.mark.parametrize(
    ("kind", "options"),
    [(kind, [name]) for kind in ("lstm", "rnn") for name in options_of(kind)]
    + [("lstm", OPTIONS), ("rnn", OF_RNN)],
    ids=lambda v: v if isinstance(v, str) else "+".join(v) if len(v) == 1 else "everything",
)
