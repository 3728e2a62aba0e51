"""torch's own sample inputs for LSTM and RNN, those its test suite runs: ours gives what torch's gives.

Tolerances are of the largest number in a sample: its gradients, up to 100, are sums of what is as large, and
torch's own differ from float64's by 3e-7 of that.
"""

import pytest
import torch
from torch.testing._internal import common_modules

import undertow

OURS = {torch.nn.LSTM: undertow.LSTM, torch.nn.RNN: undertow.RNN}
INFOS = {info.module_cls: info for info in common_modules.module_db if info.module_cls in OURS}
TOLERANCE = {torch.float32: 5e-6, torch.float64: 2e-14}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")  # theirs
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("cell", OURS)
def test_torchs_samples(cell, dtype, training):
    torch.manual_seed(0)
    info = INFOS[cell]
    samples = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=training)
    for sample in samples:
        made, given = sample.constructor_input, sample.forward_input
        theirs = cell(*made.args, **made.kwargs).to(dtype).train(training)
        ours = OURS[cell](*made.args, **made.kwargs).to(dtype).train(training)
        ours.load_state_dict(theirs.state_dict())
        expected, got = run(theirs, given), run(ours, given)
        largest = max(float(a.detach().abs().max()) for a in expected)
        torch.testing.assert_close(got, expected, rtol=0, atol=TOLERANCE[dtype] * max(1, largest))
    assert len(samples) >= 8


def run(module, given):
    """Outputs, and the gradients of all parameters and of the input."""
    x = given.args[0].detach().clone().requires_grad_()
    y, states = module(x, *given.args[1:], **given.kwargs)
    finals = states if isinstance(states, tuple) else (states,)
    sum((out * out).sum() for out in (y, *finals)).backward()
    return [y, *finals, x.grad, *(p.grad for p in module.parameters())]
