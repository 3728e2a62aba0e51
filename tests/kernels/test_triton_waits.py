"""What the engine on a GPU does around its kernels reads no number there: on the device meta that raises."""

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence

import undertow
from undertow.kernels import triton
from undertow.kernels.triton import device, passes

T, N, C, H = 5, 3, 2, 4
META = torch.device("meta")
OPTIONS = {
    "peepholes": True,
    "layer_norm": True,
    "zoneout": 0.1,
    "recurrent_dropout": 0.2,
    "input_dropout": 0.1,
}


class Kernel:
    """Takes the place of one: counts its launches, and that all its tensors lie on the device."""

    def __init__(self):
        self.launches = 0

    def __getitem__(self, grid):
        return self.launch

    def launch(self, *given, **constants):
        assert {t.device for t in given if isinstance(t, torch.Tensor)} == {META}
        self.launches += 1


@pytest.fixture
def kernels(monkeypatch):
    found = Kernel(), Kernel()
    monkeypatch.setattr(triton.engine, "INSTALLED", True)
    monkeypatch.setattr(triton.engine, "DEVICES", ["meta"])
    monkeypatch.setattr(triton.ENGINE, "is_faster", lambda *_: True)
    monkeypatch.setattr(passes, "kernels", lambda: found)
    monkeypatch.setattr(device, "is_capable", lambda _: True)
    monkeypatch.setattr(device, "shared_memory", lambda _: 227 << 10)
    return found


@pytest.mark.parametrize(
    ("options", "form"),
    [
        ({}, "even"),
        ({"batch_first": True}, "lengths"),
        ({}, "packed"),
        (OPTIONS, "marks"),
        ({"checkpoint": 2}, "even"),
        ({"checkpoint": 2}, "packed"),
    ],
    ids=str,
)
def test_a_step_reads_nothing_from_the_device(options, form, kernels):
    module = undertow.LSTM(C, H, 2, bidirectional=True, device=META, **options)
    x, given = torch.randn(T, N, C, device=META), {}
    if form == "packed":  # batch sizes lie on the CPU, as torch has it
        order = torch.zeros(N, dtype=torch.int64, device=META)
        x = PackedSequence(torch.randn(9, C, device=META), torch.tensor([3, 2, 2, 1, 1]), order, order)
    if form in ("lengths", "marks"):
        given = {"lengths": torch.zeros(N, dtype=torch.int64, device=META)}
    if form == "marks":
        marks = torch.zeros(T, N, dtype=torch.bool, device=META)
        given |= {"mask": marks, "reset": marks}
    if "batch_first" in options:
        x = x.transpose(0, 1)
    y, (h_n, c_n) = module(x, **given)
    ((y.data if form == "packed" else y).sum() + h_n.sum() + c_n.sum()).backward()
    assert all(p.grad.is_meta for p in module.parameters())
    assert all(kernel.launches >= 2 for kernel in kernels)
