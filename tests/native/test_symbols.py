"""A symbol in place of x gives what its vector gives, of which one number is 1: all outputs and gradients."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest

from layer_case import Arrays, Case, arguments, assert_close, assert_same_bits
from undertow.kernels import native

TOLERANCE = {"float64": 1e-11, "float32": 2e-5}  # as in test_kernels.py
SIZES = [  # T, N, S, H
    (1, 1, 1, 1),
    (1, 9, 3, 5),
    (5, 1, 6, 37),
    (60, 31, 7, 37),  # several of the backward's blocks
    (4, 7, 300, 70),
]


@dataclass(frozen=True)
class Symbols(Case):
    """C counts the symbols."""

    @cached_property
    def symbols(self) -> np.ndarray:
        """[T,N,1]."""
        return np.random.default_rng(self.seed + 2).integers(0, self.C, (self.T, self.N, 1))

    @cached_property
    def inputs(self) -> Arrays:
        return super().inputs | {"x": np.eye(self.C, dtype=self.dtype)[self.symbols[..., 0]]}

    def read(self, given: Arrays) -> Arrays:
        """What the kernels are given; past a sequence's end there may be any symbol."""
        return given | {"x": self.pack(self.symbols) if self.packed else self.symbols}

    def run(self, threads: int = 1) -> Arrays:
        T, N, H, steps = self.T, self.N, self.H, self.tape_shape
        rows = (T, N) if not self.packed else steps
        out = self.blank({"h_n": (N, H), "c_n": (N, H), "y": (*rows, H)} | self.tape_shapes)
        given = self.read(self.inputs) | self.ranking
        native.forward(*arguments("forward", self.cell, given | out, self.reverse, threads))
        found = self.blank(self.gradient_shapes)
        dy = self.pack(self.upstream["dy"]) if self.packed else self.upstream["dy"]
        given |= self.upstream | {"dy": dy} | {name: out[name] for name in ("y", *self.tape_shapes)}
        native.backward(*arguments("backward", self.cell, given | found, self.reverse, threads))
        return found | out | ({"y": self.pad(out["y"])} if self.packed else {})


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("how", ["whole", "ragged", "packed"])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_same_as_its_vector(dtype, size, how, reverse):
    ragged, packed = how != "whole", how == "packed"
    case = Symbols("lstm", *size, dtype, reverse=reverse, ragged=ragged, packed=packed)
    found = case.run()
    expected = case.expected_outputs | case.expected_gradients()
    del expected["dx"]
    assert_close(found, expected, TOLERANCE[dtype])
    assert_same_bits(case.run(threads=3), found)


@pytest.mark.parametrize(("symbol", "said"), [(-1, "symbol -1"), (3, "symbol 3")])
def test_an_unknown_symbol_is_refused(symbol, said):
    case = Symbols("lstm", 2, 2, 3, 5)
    case.symbols[1, 0] = symbol
    with pytest.raises(ValueError, match=f"x: expected symbols from 0 to 2, got {said}"):
        native.forward(
            *arguments(
                "forward",
                "lstm",
                case.read(Case("lstm", 2, 2, 3, 5).inputs)
                | case.blank({"h_n": (2, 5), "c_n": (2, 5), "y": (2, 2, 5)}),
            )
        )


def test_the_rnn_reads_none():
    case = Symbols("rnn", 2, 2, 3, 5)
    given = case.read(case.inputs) | case.blank({"h_n": (2, 5), "y": (2, 2, 5)})
    with pytest.raises(ValueError, match="cell: expected 'lstm' with symbols, got 'rnn'"):
        native.forward(*arguments("forward", "rnn", given))
