"""bfloat16 in the kernels, against undertow.equations fed the same numbers in float64.

A number kept in bfloat16 has 8 bits: each time one is stored it loses 2e-3 of itself, at most. Sums and the
cell are float32. Errors are relative to the largest magnitude in the array expected; of the gradient of a
weight, to the largest sum of the magnitudes of its terms, for they are what is rounded, and may cancel.
"""

import numpy as np
import pytest

from layer_case import Case, arguments
from undertow.kernels import native

torch = pytest.importorskip("torch")

MOST = {"y": 5e-3, "h_n": 5e-3, "c_n": 5e-3, "gates": 5e-3, "c": 5e-3}  # of the gradients: 2e-2
SIZES = [(1, 1, 1, 1), (5, 1, 3, 64), (9, 7, 16, 16), (7, 5, 70, 1), (60, 31, 3, 37), (13, 25, 8, 64),
         (6, 300, 2, 5), (4, 7, 5, 130), (20, 33, 128, 256), (3, 2, 0, 5)]  # fmt: skip
FLOAT32 = {"c"}


def tensors(arrays):
    return {
        name: torch.tensor(a).to(torch.float32 if name in FLOAT32 else torch.bfloat16)
        for name, a in arrays.items()
    }


def of_same_numbers(**options):
    """A case whose numbers bfloat16 holds exactly."""
    case = Case(dtype="float64", **options)
    for arrays in (case.inputs, case.upstream):
        for name, a in arrays.items():
            arrays[name] = torch.tensor(a).bfloat16().double().numpy()
    return case


def run(case, threads=1):
    """Every output and gradient, as float64 arrays, padded."""
    T, N, C, H = case.T, case.N, case.C, case.H
    shapes = {"y": (T, N, H), "h_n": (N, H), "c_n": (N, H), "gates": (*case.tape_shape, 4, H)}
    shapes |= {"c": (T + 1, N, H) if len(case.tape_shape) == 2 else (N + case.tape_shape[0], H)}
    wanted = {"dx": (T, N, C), "dh_0": (N, H), "dc_0": (N, H), "dbias": (case.rows,)}
    wanted |= {"dweight_ih": (case.rows, C), "dweight_hh": (case.rows, H)}
    if case.cell == "rnn":
        for name in ("c_n", "gates", "c"):
            del shapes[name]
        del wanted["dc_0"]
    made = tensors({name: np.full(shape, np.nan) for name, shape in (shapes | wanted).items()})
    given = tensors({name: case.padded_with_nan(a) if name in {"x", "dy"} else a
                     for name, a in (case.inputs | case.upstream).items()})  # fmt: skip
    ranking = {name: None if a is None else torch.tensor(a) for name, a in case.ranking.items()}
    for function in ("forward", "backward"):
        taken = arguments(function, case.cell, given | made | ranking, case.reverse, threads)
        getattr(native, function)(*taken)
    return {name: t.double().numpy() for name, t in made.items()}


def magnitudes(case, expected):
    """The reach of each array."""
    x = case.inputs["x"][::-1] if case.reverse else case.inputs["x"]
    dgates = np.abs(expected["dgates"]).reshape(-1, case.rows)
    feeds = {"dweight_ih": case.as_tape(x).reshape(len(dgates), case.C), "dbias": np.ones((len(dgates), 1))}
    feeds["dweight_hh"] = case.as_tape(case._reference[1].h[:-1]).reshape(-1, case.H)
    arrays = expected | {name: dgates.T @ np.abs(feed) for name, feed in feeds.items()}
    return {name: np.abs(a).max(initial=0) for name, a in arrays.items()}


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("ragged", [False, True])
def test_error(cell, size, ragged):
    T, N, C, H = size
    case = of_same_numbers(cell=cell, T=T, N=N, C=C, H=H, ragged=ragged, reverse=ragged, bias=not ragged)
    expected = case.expected_outputs | case.expected_gradients()
    reach = magnitudes(case, expected)
    for name, a in run(case, threads=2).items():
        assert np.abs(a - expected[name]).max(initial=0) <= MOST.get(name, 2e-2) * reach[name], name


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
@pytest.mark.parametrize("size", [(25, 24, 33, 37), (8, 3, 300, 260)], ids=str)
def test_same_bits_for_any_number_of_threads(cell, size):
    T, N, C, H = size
    case = of_same_numbers(cell=cell, T=T, N=N, C=C, H=H, ragged=True)
    alone = run(case)
    for threads in (2, 3):
        for name, a in run(case, threads).items():
            assert np.array_equal(a, alone[name]), name


def test_nan_stays_nan_and_in_its_sequence():
    case = of_same_numbers(N=9)
    clean = run(case)
    case.inputs["x"][3, 4] = np.nan
    found = run(case)
    assert np.isnan(found["y"][3:, 4]).all()
    others = np.arange(9) != 4
    assert np.array_equal(found["y"][:, others], clean["y"][:, others])
    assert np.isnan(found["dweight_ih"]).all()


def test_a_symbol_is_the_same_as_its_vector():
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
