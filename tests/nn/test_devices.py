"""``torch.set_default_device`` beside modules on the CPU: every tensor made inside names its own device."""

import re
from pathlib import Path

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence

import undertow

MADE = re.compile(r"torch\.(arange|zeros|ones|tensor|as_tensor|empty|full|rand|randn|eye|linspace)\(")
ROOMS = ("kernels", "nn", "tracing")


@pytest.fixture
def elsewhere():
    """New tensors are of another device than the modules and inputs below."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def x():
    return torch.randn(5, 2, 3, device="cpu")


def test_lengths_marks_and_options(elsewhere):
    options = {"zoneout": 0.1, "recurrent_dropout": 0.2, "layer_norm": True, "input_dropout": 0.1}
    lstm = undertow.LSTM(3, 4, bidirectional=True, weight_drop=0.1, device="cpu", **options)
    marks = [[True, False]] * 5
    y, _ = lstm(x(), lengths=[5, 3], mask=marks, reset=marks)
    y.sum().backward()
    assert y.is_cpu
    assert lstm.weight_hh_l0.grad.is_cpu


def test_projections_of_packed_sequences(elsewhere):
    sizes = torch.tensor([2, 2, 2, 1, 1], device="cpu")
    packed = PackedSequence(torch.randn(8, 3, device="cpu"), sizes)
    assert undertow.LSTM(3, 4, proj_size=2, device="cpu")(packed)[0].data.is_cpu


def test_states_carried(elsewhere):
    carried = undertow.LSTM(3, 4, device="cpu").stateful()
    carried(x())
    carried.reset([1])
    assert carried(x())[0].is_cpu


def test_segments(elsewhere):
    lstm = undertow.LSTM(3, 4, checkpoint=2, device="cpu")
    lstm(x(), lengths=[5, 3])[0].sum().backward()
    assert lstm.weight_hh_l0.grad.is_cpu


def test_sight(elsewhere):
    lstm = undertow.LSTM(3, 4, device="cpu")
    with undertow.trace(lstm) as trace:
        lstm(x())[0].sum().backward()
    assert trace.layers[0].c.shape == trace.layers[0].dc.shape == (6, 2, 4)
    monitor = undertow.FlowMonitor(lstm, every=1)
    lstm(x())[0].sum().backward()
    assert monitor.step()
    assert lstm(x(), lengths=[5, 3], return_tape=True)[2][0].c.is_cpu


@pytest.mark.parametrize(
    "path",
    [p for room in ROOMS for p in (Path(undertow.__file__).parent / room).glob("*.py")],
    ids=lambda p: p.stem,
)
def test_every_tensor_made_inside_names_its_device(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    code = [line for line in lines if MADE.search(line) and not line.lstrip().startswith((">>>", "..."))]
    assert [line for line in code if "device=" not in line] == []
