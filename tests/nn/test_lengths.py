"""Where ``lengths`` cost no packing."""

import pytest
import torch

import undertow
from undertow.kernels import dispatch

META = torch.zeros(2, 3, 4, device="meta")


@pytest.mark.parametrize("known", [True, False])
def test_on_other_devices_there_must_be_kernels(monkeypatch, known):
    asked = []
    monkeypatch.setattr(dispatch, "knows", lambda x, cell, H: asked.append((cell, H)) or known)
    assert undertow.LSTM(4, 5).serves_lengths(META) is known
    assert undertow.RNN(4, 5).serves_lengths(META) is known
    assert asked == [("lstm", 5), ("rnn_tanh", 5)]
    assert not undertow.LSTM(4, 5, proj_size=2).serves_lengths(META)
    assert len(asked) == 2


def test_on_the_cpu_they_never_do():
    assert undertow.LSTM(4, 5, proj_size=2).serves_lengths(torch.zeros(2, 3, 4))
    assert not undertow.RNN(4, 5).serves_lengths(META)
