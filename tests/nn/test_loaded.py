"""undertow.load: the outputs of the float64 reference for every stage, seen by trace and doctor."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import undertow
from made import ALL, AMPLIFIER, OPTIONS, STACKED, both, draw, input_of, lstm, rnn
from reference import run
from undertow.networks import Bidirectional, Network, Unsupported, read, write


def outputs(module: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.tensor(x)).numpy()


def compared(network: Network, module: torch.nn.Module) -> None:
    x = input_of(network)
    expected = run(network, x)
    if network.once:
        expected = expected[-1]
    np.testing.assert_allclose(outputs(module, x), expected, atol=2e-6)


@pytest.mark.parametrize("name", [name for name in ALL if name != "both"])
def test_outputs(name: str, tmp_path: Path) -> None:
    write(ALL[name], tmp_path / "a.safetensors")
    module = undertow.load(tmp_path / "a.safetensors")
    assert not module.training
    compared(ALL[name], module)


def test_one_answer_without_a_pool(tmp_path: Path) -> None:
    write(replace(STACKED, once=True), tmp_path / "a.safetensors")
    module = undertow.load(tmp_path / "a.safetensors")
    assert outputs(module, input_of(STACKED)).shape == (2, 2)
    compared(module.network, module)


def test_both_directions_stacked() -> None:
    compared(network := Network((both(3, 4), both(8, 5), both(10, 2, rnn))), module := undertow.load(network))
    assert [name for name, _ in module.named_children()] == ["rnn", "rnn_2"]


def test_directions_of_different_kinds_are_refused() -> None:
    mixed = Bidirectional(lstm(2, 3), lstm(2, 3, reverse=True, coupled=True))
    with pytest.raises(Unsupported, match="coupled: expected the same in both directions"):
        undertow.load(Network((mixed,)))


def test_peepholes_of_one_direction() -> None:
    network = Network((Bidirectional(lstm(2, 3, peepholes=draw(3, 3)), lstm(2, 3, reverse=True)),))
    compared(network, undertow.load(network))


@pytest.mark.parametrize("name", ["a.nam", "a.onnx"])
def test_other_formats(name: str, tmp_path: Path) -> None:
    write(AMPLIFIER, tmp_path / name)
    compared(AMPLIFIER, undertow.load(tmp_path / name))


def test_the_way_back_keeps_every_bit() -> None:
    for network in (OPTIONS, STACKED, AMPLIFIER):
        found = undertow.load(network).to_network()
        x = input_of(network)
        np.testing.assert_array_equal(run(found, x), run(network, x))


def test_what_training_changes_can_be_written(tmp_path: Path) -> None:
    module = undertow.load(AMPLIFIER).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.randn(5, 1, 1)).square().sum().backward()
    optimizer.step()
    write(module.to_network(), tmp_path / "b.nam")
    changed = read(tmp_path / "b.nam")
    assert not np.array_equal(changed.recurrent()[0].h_0, AMPLIFIER.recurrent()[0].h_0)
    compared(changed, module)


def test_trace_and_doctor_see_it() -> None:
    module = undertow.load(STACKED)
    x = input_of(STACKED, T=30, N=4)
    with undertow.trace(module) as trace:
        module(torch.tensor(x))[-1].square().sum().backward()
    assert [layer.f.shape for layer in trace["rnn"].layers] == [(30, 4, 5), (30, 4, 4)]
    first = Network(STACKED.stages[:1])
    np.testing.assert_allclose(trace["rnn"].layers[0].h[1:], run(first, x), atol=1e-6)
    assert undertow.diagnose(trace, module).outcomes
