"""What a trace on the GPU shows, beside one on the CPU; the monitor, the doctor and ``return_tape``."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import undertow
from gpu.setting import DEVICE, DRY, Row, proved
from gpu.timing import by_the_cpu

ARRAYS = ("i", "f", "g", "o", "c", "h", "di", "df", "dg", "do", "dc", "dh")
OF_RNN = ("h", "dh")
BOUND = 1e-4  # float32 without tf32, dh over all steps
T, N, C, H = (4, 3, 2, 3) if DRY else (20, 9, 7, 37)
LENGTHS = [max(1, T - 2 * k) for k in range(N)]
Case = tuple[Any, dict[str, Any], str, torch.dtype]
CASES: dict[str, Case] = {
    "plain": (undertow.LSTM, {"num_layers": 2, "bidirectional": True}, "even", torch.float32),
    "lengths": (undertow.LSTM, {"bidirectional": True}, "lengths", torch.float32),
    "packed": (undertow.LSTM, {"bidirectional": True}, "packed", torch.float32),
    "options": (undertow.LSTM, {"peepholes": True, "coupled": True}, "lengths", torch.float32),
}
if not DRY:  # what torch's operator computes there, and the CPU's kernels record
    CASES |= {
        "the plain RNN": (undertow.RNN, {"num_layers": 2}, "packed", torch.float32),
        "float64": (undertow.LSTM, {}, "even", torch.float64),
    }


def traced(module: Any, x: Any, form: str) -> Any:
    """The layers of a module that has read x, [T,N,C], forward and backward."""
    given = {"lengths": torch.tensor(LENGTHS, device=x.device)} if form == "lengths" else {}
    if form == "packed":
        x = pack_padded_sequence(x, torch.tensor(LENGTHS))
    with undertow.trace(module) as trace:
        y = module(x, **given)[0]
        (y.data if form == "packed" else y).square().sum().backward()
    return trace.layers


def difference(found: Any, expected: Any) -> float:
    """The norm of the difference over that of what is expected; infinite if NaN is in other places."""
    known = np.isfinite(expected)
    if not np.array_equal(np.isfinite(found), known):
        return np.inf
    return float(np.linalg.norm((found - expected)[known]) / max(np.linalg.norm(expected[known]), 1e-30))


def compared(case: Case) -> Row:
    """The largest difference of all arrays, layers and directions."""
    kind, options, form, dtype = case
    torch.manual_seed(0)
    here, x = kind(C, H, dtype=dtype, **options), torch.randn(T, N, C, dtype=dtype)
    there = kind(C, H, dtype=dtype, **options)
    there.load_state_dict(here.state_dict())
    layers = traced(there.to(DEVICE), x.to(DEVICE), form)
    with by_the_cpu():
        expected = traced(here, x, form)
    pairs = [
        (a, e)
        for one, other in zip(layers, expected, strict=True)
        for a, e in zip(one.directions, other.directions, strict=True)
    ]
    names = ARRAYS if kind is undertow.LSTM else OF_RNN
    found = {name: max(difference(getattr(a, name), getattr(e, name)) for a, e in pairs) for name in names}
    worst = max(found, key=found.__getitem__)
    return {"ok": found[worst] <= BOUND, "worst": worst, "normwise": found[worst]}


def watched() -> None:
    """The monitor, the doctor and ``return_tape`` of a module on the GPU."""
    lstm, x = undertow.LSTM(C, H, 2, device=DEVICE), torch.randn(T, N, C, device=DEVICE)
    monitor = undertow.FlowMonitor(lstm, every=1)
    lstm(x)[0].sum().backward()
    assert len(monitor.step()) == 2
    assert not monitor.missing
    with undertow.trace(lstm) as trace:
        lstm(x)[0].sum().backward()
    assert undertow.diagnose(trace, lstm).findings is not None
    y, _, steps = lstm(x, return_tape=True)
    torch.testing.assert_close(y, steps[-1].h[1:], rtol=0, atol=0)


def sight() -> Iterator[Row]:
    """Each kind of trace, and who reads traces."""
    torch.backends.cudnn.rnn.fp32_precision = "ieee"
    try:
        for name, case in CASES.items():
            yield proved({"what": f"trace: {name}"}, partial(compared, case))
        yield proved({"what": "monitor, doctor, return_tape"}, watched)
    finally:
        torch.backends.cudnn.rnn.fp32_precision = "tf32"
