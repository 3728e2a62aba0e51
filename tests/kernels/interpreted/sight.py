"""What the engine on a GPU leaves for ``trace``: every array is that of the CPU's kernels."""

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import undertow
from undertow.kernels import engines, triton
from undertow.records.layer import NotRecorded

T, N, C, H = 4, 3, 2, 3
ARRAYS = ("i", "f", "g", "o", "c", "h", "di", "df", "dg", "do", "dc", "dh", "mask", "lengths")
FORMS = ("even", "sequences first", "lengths", "packed")
OPTIONS = {"plain": {}, "options": {"peepholes": True, "coupled": True}}


@pytest.fixture
def here(monkeypatch):
    """The engine computes; the CPU's kernels do not."""

    def choose(on_gpu):
        monkeypatch.setattr(engines, "ENGINES", (triton.ENGINE,) if on_gpu else before)

    before = engines.ENGINES
    return choose


def traced(form, x, **options):
    torch.manual_seed(0)
    module = undertow.LSTM(C, H, 2, bidirectional=True, batch_first=form == "sequences first", **options)
    given = {"lengths": [2, 4, 1]} if form == "lengths" else {}
    if form == "packed":
        x = pack_padded_sequence(x, [2, 4, 1], enforce_sorted=False)
    with undertow.trace(module) as trace:
        y, (h_n, c_n) = module(x, **given)
        y = y.data if form == "packed" else y
        (y.square().sum() + h_n.sum() + c_n.sum()).backward()
    return trace.layers


def assert_close(found, expected, name):
    """To rounding, of the largest number; NaN in the same places."""
    scale = max(1, np.nanmax(np.abs(expected), initial=0))
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize(("form", "options"), [*((form, "plain") for form in FORMS), ("lengths", "options")])
def test_every_array_is_that_of_the_cpu(form, options, here):
    x, layers = torch.randn(T, N, C), []
    x = x.transpose(0, 1) if form == "sequences first" else x
    for on_gpu in (True, False):
        here(on_gpu)
        layers.append(traced(form, x, **OPTIONS[options]))
    for found, expected in zip(*layers, strict=True):
        for a, e in zip(found.directions, expected.directions, strict=True):
            assert isinstance(a.source.recording.engine, triton.engine.Triton)
            for name in ARRAYS:
                assert_close(getattr(a, name), getattr(e, name), name)
            assert a.tape.added == e.tape.added
            if options == "plain":
                for name, array in vars(e.gradients).items():
                    assert_close(getattr(a.gradients, name), array, name)


def test_float16_is_shown_in_float32(here):
    here(True)
    layer = traced("even", torch.randn(T, N, C).half(), dtype=torch.float16)[0]
    assert layer.dtype == "float16"
    assert layer.h.dtype == layer.c.dtype == layer.df.dtype == np.float32


def test_the_monitor_and_the_doctor_see(here):
    here(True)
    torch.manual_seed(0)
    lstm, x = undertow.LSTM(C, H, 2), torch.randn(T, N, C)
    monitor = undertow.FlowMonitor(lstm, every=1)
    lstm(x)[0].sum().backward()
    assert len(monitor.step()) == 2
    assert not monitor.missing
    with undertow.trace(lstm) as trace:
        lstm(x)[0].sum().backward()
    assert undertow.diagnose(trace, lstm).findings is not None


def test_without_gradients(here):
    here(True)
    lstm = undertow.LSTM(C, H)
    with undertow.trace(lstm) as trace, torch.no_grad():
        y, _ = lstm(torch.randn(T, N, C))
    np.testing.assert_allclose(trace.layers[0].h[1:], y.numpy(), atol=1e-6)
    with pytest.raises(NotRecorded, match="under no_grad"):
        _ = trace.layers[0].dh
