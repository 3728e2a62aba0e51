"""One layer in D directions with options, as the kernels are given it, beside the equations' word on it."""

import numpy as np
import pytest
import torch

from calls import call_of
from cases import relative_error
from undertow.kernels import plain
from undertow.kernels.call import PLAIN, Ragged, Variant
from varied_cases import STEPWISE, Varied

T, N, C, H = SIZE = 7, 4, 3, 5
WEIGHTS = ["weight_ih", "weight_hh", "bias"]
TOLERANCE = {torch.float64: (1e-10, 1e-10), torch.float32: (1e-5, 1e-4)}


class Layer:
    """One layer in D directions, for ``plain.layer``; and each direction as a ``Varied`` of the equations."""

    def __init__(self, cell, options, form="even", D=1, dtype=torch.float64, size=SIZE):
        how = {"even": "full", "lengths": "zero", "packed": "ragged"}[form]
        self.cell, self.form, self.dtype, self.size = cell, form, dtype, size
        self.cases = [Varied(cell, size, options, how, reverse=d == 1, seed=d) for d in range(D)]
        for case in self.cases:
            case.given["x"] = self.cases[0].given["x"]
            case.fixed |= {k: self.cases[0].fixed[k] for k in ("mask", "reset") if k in case.fixed}
            for arrays in (case.given, case.fixed, case.d_n):
                arrays |= {k: self.rounded(v) for k, v in arrays.items()}
            case.dy = self.rounded(case.dy)
        lengths = self.cases[0].lengths
        self.ragged = (None, None, None)  # lengths, batch_sizes, order
        if form == "lengths":
            self.ragged = (torch.tensor(lengths), None, None)
        elif form == "packed":
            order, T = np.argsort(-lengths, kind="stable"), size[0]
            inside = np.arange(T)[:, None] < lengths[order]
            self.places = [(t, n) for t in range(T) for n in order[inside[t]]]
            self.ragged = (None, torch.tensor(inside.sum(1)), torch.tensor(order))

    def rounded(self, array):
        """What there is of it in the layer's dtype, so that both sides are given the same numbers."""
        if not isinstance(array, np.ndarray) or array.dtype == bool:
            return array
        return torch.tensor(array, dtype=self.dtype).numpy()

    def rows(self, array):
        """[T,N,...] as the layer is given it."""
        return np.stack([array[place] for place in self.places]) if self.form == "packed" else array

    def padded(self, rows):
        """And back: [T,N,...]."""
        if self.form != "packed":
            return rows
        array = np.zeros((*self.size[:2], *rows.shape[1:]))
        for row, place in zip(rows, self.places, strict=True):
            array[place] = row
        return array

    def leaves(self):
        """What has a gradient: x, states and the variant's fields by name; weights, a list a direction."""
        stacked = [k for k in self.cases[0].given if k not in ("x", *WEIGHTS)]
        given = {k: np.stack([case.given[k] for case in self.cases]) for k in stacked}
        leaves = {k: torch.tensor(v, dtype=self.dtype) for k, v in given.items()}
        leaves["x"] = torch.tensor(self.rows(self.cases[0].given["x"]), dtype=self.dtype)
        weights = [[torch.tensor(case.given[k], dtype=self.dtype) for k in WEIGHTS] for case in self.cases]
        for leaf in (*leaves.values(), *(w for each in weights for w in each)):
            leaf.requires_grad_()
        return leaves, weights

    def variant(self, leaves):
        fields = {}
        for name, value in self.cases[0].fixed.items():
            if name in ("mask", "reset"):
                fields[name] = torch.tensor(value)
            elif name == "coupled":
                fields[name] = value
            else:
                every = [case.fixed[name] for case in self.cases]
                every = [self.rows(v) for v in every] if name in STEPWISE else every
                fields[name] = torch.tensor(np.stack(every), dtype=self.dtype)
        fields |= {k: v for k, v in leaves.items() if k in Variant._fields}
        return Variant(**fields) if fields else PLAIN

    def run(self, leaves, weights, steps=None):
        states = [leaves[f"{s}_0"] for s in self.cases[0].states]
        each = [[W, U, b, torch.zeros_like(b), None] for W, U, b in weights]
        variant, ragged = self.variant(leaves), Ragged(*self.ragged)
        return plain.layer(call_of(self.cell, leaves["x"], states, each, ragged, variant=variant), steps)

    def check(self):
        """All outputs and all gradients."""
        leaves, weights = self.leaves()
        y, *finals = self.run(leaves, weights)
        expected = [case.forward() for case in self.cases]
        of_outputs, of_gradients = TOLERANCE[self.dtype]
        self.close(
            "y", self.padded(y.detach().numpy()), np.concatenate([e[0] for e in expected], -1), of_outputs
        )
        for s, final in zip(self.cases[0].states, finals, strict=True):
            self.close(
                s, final.detach(), np.stack([getattr(tape, s)[-1] for _, tape in expected]), of_outputs
            )

        dy = np.concatenate([self.rows(case.dy) for case in self.cases], -1)
        d_n = [np.stack([case.d_n[f"d{s}_n"] for case in self.cases]) for s in self.cases[0].states]
        torch.autograd.backward((y, *finals), [torch.tensor(d, dtype=self.dtype) for d in (dy, *d_n)])
        found = [case.backward() for case in self.cases]
        for name, leaf in leaves.items():
            every = [getattr(gradients, f"d{name}") for gradients in found]
            actual = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()
            if name == "x":
                self.close(name, self.padded(actual), sum(every), of_gradients)
            else:
                self.close(name, actual, np.stack(every), of_gradients)
        for each, gradients in zip(weights, found, strict=True):
            for name, leaf in zip(WEIGHTS, each, strict=True):
                self.close(name, leaf.grad, getattr(gradients, f"d{name}"), of_gradients)

    def close(self, name, actual, expected, tolerance):
        assert relative_error(np.asarray(actual, np.float64), expected) < tolerance, name


forms = pytest.mark.parametrize("form", ["even", "lengths", "packed"])
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
