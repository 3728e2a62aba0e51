"""Which calls the kernels for GPUs get, and how they are launched, decided for fakes of GPUs."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

import undertow
from undertow.kernels import dispatch, engines, triton
from undertow.kernels.triton import device, precision, rules


@pytest.fixture
def card(monkeypatch):
    """A GPU of our choice, and Triton."""
    found = SimpleNamespace(capability=(9, 0), shared=227 << 10)
    monkeypatch.setattr(triton.engine, "INSTALLED", True)
    monkeypatch.setattr(device, "is_capable", lambda _: found.capability >= device.OLDEST)
    monkeypatch.setattr(device, "shared_memory", lambda _: found.shared)
    return found


@dataclasses.dataclass
class OnCard:
    """What the decision reads of a tensor."""

    dtype: torch.dtype = torch.float32
    is_cpu = is_meta = False
    is_cuda = True
    device = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("H", "N", "dtype", "packed", "ours"),
    [
        (64, 32, torch.float32, False, False),  # cuDNN's persistent kernel: about 1 us a step
        (64, 256, torch.float32, False, True),
        (128, 64, torch.float32, False, True),
        (64, 2048, torch.float32, False, True),
        (512, 32, torch.float32, False, False),
        (512, 32, torch.bfloat16, True, False),
        (64, 2, torch.float32, True, True),
        (256, 64, torch.bfloat16, False, True),
        (64, 64, torch.float64, True, False),
    ],
)
def test_plain_calls(H, N, dtype, packed, ours, card):
    x = OnCard(dtype)
    assert dispatch.torch_serves(x)
    assert dispatch.has_kernels(x, "lstm", H, N, packed) == ours
    assert not dispatch.has_kernels(x, "rnn_tanh", H, N, packed)
    card.capability = (7, 5)
    assert not dispatch.has_kernels(x, "lstm", H, N, packed)


def test_without_triton_torch_serves(card, monkeypatch):
    monkeypatch.setattr(triton.engine, "INSTALLED", False)
    assert not dispatch.has_kernels(OnCard(), "lstm", 64, 256, True)


def test_autocast_decides_the_dtype(card, monkeypatch):
    assert not dispatch.has_kernels(OnCard(), "lstm", 256, 512, False)
    monkeypatch.setattr(triton.engine.tensors, "autocasts", lambda _: True)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda _: torch.bfloat16)
    assert dispatch.has_kernels(OnCard(), "lstm", 256, 512, False)


def test_the_bounds_do_not_contradict_one_another():
    """A call is in one row at most, and every row can be launched."""
    for k, one in enumerate(rules.OURS):
        assert one.above < one.units <= rules.LARGEST
        assert one.least <= one.most
        for other in rules.OURS[k + 1 :]:
            apart = one.units <= other.above or other.units <= one.above
            assert (one.size, one.packed) != (other.size, other.packed) or apart


@pytest.mark.parametrize("shared", [99, 163, 227])
@pytest.mark.parametrize("size", [2, 4])
def test_every_call_has_a_launch(size, shared):
    """On an RTX, an A100 and an H100, up to the largest layer."""
    for H in range(1, rules.LARGEST + 1):
        for N in (1, 1056, 1057, 1 << 20):
            how = rules.launch(H, N, size, shared << 10)
            assert rules.units(H) <= how.units
            assert how.shared <= shared
            assert how.BK == 0 or rules.units(H) % how.BK == 0


def test_the_table_has_the_kernels_before_torchs_operator():
    names = [type(engine).__name__ for engine in engines.ENGINES]
    assert names == ["Segments", "CPU", "PerSample", "Segments", "Triton", "Elsewhere", "Plain"]


def test_calls_of_the_cpu_are_not_theirs(card):
    lstm, x = undertow.LSTM(3, 4, dtype=torch.float16), torch.randn(5, 2, 3, dtype=torch.float16)
    assert not dispatch.has_kernels(x, "lstm", 4, 2, True)
    assert lstm(x, lengths=[5, 3])[0].grad_fn.name() != "_LayerBackward"


def test_products_follow_the_precision_of_recurrent_layers():
    rnn, matmul = torch.backends.cudnn.rnn, torch.backends.cuda.matmul
    before = rnn.fp32_precision, matmul.fp32_precision
    try:
        for wanted, of_kernels in (("tf32", "tf32"), ("ieee", "tf32x3")):
            rnn.fp32_precision = wanted
            assert precision.of_kernels(torch.float32) == of_kernels
            assert precision.of_kernels(torch.bfloat16) == "ieee"
            with precision.of_products():
                assert matmul.fp32_precision == wanted
            assert matmul.fp32_precision == before[1]
    finally:
        rnn.fp32_precision, matmul.fp32_precision = before


def test_programs_for_others_hold_torchs_operator(card, monkeypatch):
    """jit.trace and torch.onnx: what they write must run without undertow."""
    assert dispatch.knows(OnCard(), "lstm", 64)
    monkeypatch.setattr(torch._C, "_is_tracing", lambda: True)
    assert not dispatch.knows(OnCard(), "lstm", 64)
