"""Trace files of earlier versions: those that do not name the dtype, nor what was added to the equations."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

import undertow

T, N, C, H = 5, 3, 2, 4


def saved(path, dtype, zero=False):
    """A file of one traced call, with the fields that each direction names."""
    lstm = undertow.LSTM(C, H, dtype=dtype, bidirectional=True)
    if zero:
        torch.nn.utils.vector_to_parameters(
            torch.zeros(sum(p.numel() for p in lstm.parameters())), lstm.parameters()
        )
    with undertow.trace(lstm) as trace:
        lstm(torch.randn(T, N, C, dtype=dtype))[0].sum().backward()
    trace.save(path)
    return trace.layers[0]


def forget(path, *fields):
    """Write the file again as a version that knew no such ``fields`` did."""
    with safe_open(path, "np") as file:
        about = json.loads(file.metadata()["trace"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for module in about["modules"]:
        for way in (way for call in module["calls"] for layer in call for way in layer):
            for field in fields:
                del way[field]
    save_file(tensors, path, {"trace": json.dumps(about)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_the_dtype_of_a_file_that_does_not_name_it(dtype, tmp_path):
    layer = saved(tmp_path / "old", dtype)
    forget(tmp_path / "old", "dtype", "added")
    found = undertow.load_trace(tmp_path / "old").layers[0]
    for way, expected in zip(found.directions, layer.directions, strict=True):
        assert way.dtype == expected.dtype == str(dtype).removeprefix("torch.")
        assert way.tape.added == ()
        np.testing.assert_array_equal(way.h, expected.h)
        np.testing.assert_array_equal(way.dc, expected.dc)


def test_a_file_of_zeros_is_taken_for_float32(tmp_path):
    """Every float32 in it could be a bfloat16, and none says so."""
    saved(tmp_path / "old", torch.float32, zero=True)
    forget(tmp_path / "old", "dtype")
    assert undertow.load_trace(tmp_path / "old").layers[0].dtype == "float32"


def test_a_file_that_names_the_dtype_is_believed(tmp_path):
    """Weights of 1 and states of 0 would pass for bfloat16."""
    lstm = undertow.LSTM(C, H, bias=False)
    with torch.no_grad():
        for weight in lstm.parameters():
            weight.fill_(1)
    with undertow.trace(lstm) as trace:
        lstm(torch.zeros(T, N, C))
    trace.save(tmp_path / "new")
    assert undertow.load_trace(tmp_path / "new").layers[0].dtype == "float32"
