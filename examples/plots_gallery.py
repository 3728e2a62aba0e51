"""The figures of docs/plots.md, by undertow.plots: an LSTM trained on the adding problem, and others.

    python examples/plots_gallery.py [folder for the figures]

Needs torch and matplotlib; about a minute on one core.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import undertow
from undertow import flow, plots, problems

LAG, HIDDEN_SIZE, STEPS = 100, 32, 1000
ADDING = problems.get("adding")


class Network(torch.nn.Module):
    """A recurrent layer, and a linear layer that answers after the last step."""

    def __init__(self, layer: torch.nn.RNNBase) -> None:
        super().__init__()
        self.layer, self.head = layer, torch.nn.Linear(layer.hidden_size, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x)[0][-1])


def batch(rng: np.random.Generator, n: int = 64) -> list[torch.Tensor]:
    return list(map(torch.from_numpy, ADDING.sample(rng, n, LAG)))


def train(network: Network) -> undertow.FlowMonitor:
    """The plain torch loop, with a monitor in it."""
    rng = np.random.default_rng(0)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, STEPS)
    monitor = undertow.FlowMonitor(network, every=25)
    for step in range(STEPS):
        x, target = batch(rng)
        optimizer.zero_grad()
        loss = (network(x) - target).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        for record in monitor.step():
            if step % 100 == 0:
                f, lags, growth = (getattr(record.summary, k) for k in ("f_median", "horizon_1pct", "growth"))
                print(f"step {step}: error {loss:.4f}, f {f:.2f}, lags to 1 % {lags:g}, growth {growth:.4f}")
    return monitor


def watch(network: Network) -> undertow.records.layer.Layer:
    """Traces one batch of new sequences."""
    x, target = batch(np.random.default_rng(1), 16)
    with undertow.trace(network) as trace:
        (network(x) - target).square().mean().backward()
    return trace["layer"].layers[0]


def reach(layer: undertow.records.layer.Layer) -> flow.GradientByLag:
    """The last step's error, followed back."""
    return flow.gradient_by_lag(layer.tape, layer.weight_hh, layer.dh[-1])


def forgetful(layer: torch.nn.LSTM) -> torch.nn.LSTM:
    """Recurrent weights four times as large as torch starts them: the textbook chain's worst case."""
    with torch.no_grad():
        layer.weight_hh_l0.mul_(4)
    return layer


def patient(layer: torch.nn.LSTM) -> torch.nn.LSTM:
    """A forget gate's bias of 2: f starts near 0.9."""
    with torch.no_grad():
        layer.bias_hh_l0[layer.hidden_size : 2 * layer.hidden_size] = 2
    return layer


def figures(network: Network, monitor: undertow.FlowMonitor) -> dict[str, Figure]:
    trained = watch(network)
    start = watch(Network(undertow.LSTM(2, HIDDEN_SIZE)))
    plain = watch(Network(undertow.RNN(2, HIDDEN_SIZE)))
    strong = watch(Network(forgetful(undertow.LSTM(2, HIDDEN_SIZE))))
    layers = {"LSTM, trained": trained, "plain RNN": plain, "LSTM, at start": start}

    by_f = np.argsort(trained.f.mean(axis=(0, 1)))
    keeping = by_f[[-1, 3]]  # a unit that remembers, and one that forgets
    found = {
        "gate-maps": plots.gate_maps(trained)[0],
        "gate-lines": plots.gate_lines(trained, keeping)[0],
        "by-lag": plots.gradient_by_lag({name: reach(layer) for name, layer in layers.items()})[0],
        "saturation": plots.saturation(flow.gate_saturation(trained.tape))[0],
        "saturation-bars": plots.saturation_bars(flow.gate_saturation(trained.tape))[0],
        "flow-over-training": plots.flow_over_training(monitor.records, lag=LAG)[0],
    }
    two = {"LSTM, trained": trained, "LSTM, U × 4": strong}
    found["four-terms"], ((one, many),) = plots.panels(1, 2)
    plots.four_terms(strong.tape, strong.weight_hh, ax=one)
    plots.departure({name: flow.departure(x.tape, x.weight_hh) for name, x in two.items()}, ax=many)
    found["spectrum"], ((circle, spectrum),) = plots.panels(1, 2, (7.2, 2.9))
    plots.eigenvalues(trained.tape, trained.weight_hh, ax=circle)
    exponents = {name: flow.lyapunov(x.tape, x.weight_hh, k=16, skip=20) for name, x in layers.items()}
    plots.lyapunov(exponents, ax=spectrum)
    return found


def main(folder: Path) -> None:
    torch.manual_seed(0)
    network = Network(patient(undertow.LSTM(2, HIDDEN_SIZE)))
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures(network, train(network)).items():
        figure.savefig(folder / f"plots-{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
