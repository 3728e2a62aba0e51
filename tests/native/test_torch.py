"""torch tensors are arrays too: read and written in place, refused where they have no memory here."""

import numpy as np
import pytest

from layer_case import Case, arguments, assert_same_bits
from undertow.kernels import native

torch = pytest.importorskip("torch")
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402


def run(case, wrap):
    """Both passes on ``wrap``ped arrays; the arrays themselves."""
    made = case.forward() | case.backward(case.forward())
    arrays = {name: np.full_like(a, np.nan) for name, a in made.items()} | case.inputs | case.upstream
    given = {name: wrap(a) for name, a in arrays.items()}
    given |= {name: None if a is None else wrap(a) for name, a in case.ranking.items()}
    for function in ("forward", "backward"):
        getattr(native, function)(*arguments(function, case.cell, given, case.reverse, threads=2))
    return {name: arrays[name] for name in made}, made


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensors_give_the_same_bits_as_arrays(dtype):
    found, expected = run(Case(dtype=dtype, ragged=True, reverse=True), torch.from_numpy)
    assert_same_bits(found, expected)


def test_views_of_tensors():
    """Offsets and strides: (N,T) layouts and slices."""
    case = Case(N=6)
    expected = case.forward()
    x = torch.from_numpy(case.inputs["x"]).transpose(0, 1).contiguous().transpose(0, 1)
    y = torch.full((case.T, case.N, 3 * case.H), torch.nan, dtype=torch.float64)
    out = {name: torch.full(a.shape, torch.nan, dtype=torch.float64) for name, a in expected.items()}
    given = {name: torch.from_numpy(a) for name, a in case.inputs.items()} | {"x": x}
    given |= out | {"y": y[:, :, case.H : 2 * case.H]}
    native.forward(*arguments("forward", "lstm", given | case.ranking))
    assert_same_bits({name: given[name].numpy() for name in expected}, expected)
    assert y[:, :, : case.H].isnan().all()
    assert y[:, :, 2 * case.H :].isnan().all()


def fake(x):
    with FakeTensorMode() as mode:
        return mode.from_tensor(x)


@pytest.mark.parametrize("without_memory", [lambda x: x.to("meta"), fake, lambda x: x.to_sparse()])
def test_a_tensor_without_memory_here_is_refused(without_memory):
    x = torch.zeros(4)
    for given in [(without_memory(x), x), (x, without_memory(x))]:
        with pytest.raises((TypeError, ValueError)):
            native.tanh(*given)


def test_a_tensor_of_another_dtype_is_refused():
    x = torch.zeros(4)
    for other in (torch.float16, torch.bfloat16, torch.int64, torch.complex64):
        with pytest.raises(TypeError, match=r"^y: expected"):
            native.tanh(x, x.to(other))
