"""A symbol in place of x gives what its vector gives, of which one number is 1: all outputs and gradients."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import torch

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


def test_bfloat16_is_the_same_as_its_vector():
    torch.manual_seed(0)
    T, N, S, H = 20, 33, 65, 48
    symbols = torch.randint(0, S, (T, N, 1))
    x = torch.eye(S)[symbols[..., 0]].bfloat16()
    shapes = (4 * H, S), (4 * H, H), (4 * H,), (4 * H,)
    weights = tuple(torch.empty(*shape).uniform_(-0.3, 0.3).bfloat16() for shape in shapes)
    dy = torch.randn(T, N, H).bfloat16()
    found = []
    for read in (symbols, x):
        y, h_n, c_n = (torch.empty(*shape, dtype=torch.bfloat16) for shape in ((T, N, H), (N, H), (N, H)))
        tape = torch.empty(T, N, 4, H, dtype=torch.bfloat16), torch.empty(T + 1, N, H)
        native.forward("lstm", read, (None, None), weights, (y, h_n, c_n), tape, None, None, False, 2)
        sums = [torch.empty_like(each) for each in weights[:3]]
        ends, starts = (dy, None, None), (None, None, None, *sums)
        given = (None, None), weights[:2], y, tape, ends, starts, None, None, None, None
        native.backward("lstm", read, *given, False, 2)
        found.append((y, c_n, *sums))
    for of_symbols, of_vectors in zip(*found, strict=True):
        assert torch.allclose(of_symbols.float(), of_vectors.float(), rtol=2**-7, atol=2**-9 * dy.abs().max())


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
