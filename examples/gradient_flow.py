"""The numbers and figures of docs/gradient-flow.md: how error flows back through five networks.

    python examples/gradient_flow.py [folder for the figures]

Needs torch and matplotlib; half a minute on one core. The same seed gives the same numbers, except that
training amplifies rounding differences between machines.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import undertow
from undertow import equations, flow, palette, plots, problems

LAG, HIDDEN_SIZE, BATCH_SIZE, TRAINING_STEPS, WATCHED = 100, 64, 64, 1500, 16
ADDING = problems.get("adding")
COLORS = {
    "plain RNN": palette.RNN,
    "LSTM, torch's start": palette.PURPLE,
    "LSTM, 4 U": palette.INK,
    "LSTM, chrono start": palette.GREEN,
    "LSTM, trained": palette.LSTM,
}


class Network(torch.nn.Module):
    """A recurrent layer, and a linear layer that answers after the last step."""

    def __init__(self, layer: torch.nn.RNNBase) -> None:
        super().__init__()
        self.layer, self.head = layer, torch.nn.Linear(layer.hidden_size, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x)[0][-1])


@dataclass
class Flow:
    """What ``undertow.flow`` says of one network on the watched sequences."""

    by_lag: flow.GradientByLag
    horizon: flow.MemoryHorizon
    exponent: float  # the leading Lyapunov exponent, mean over sequences
    carousel: flow.Carousel | None = None  # LSTM only
    departure: flow.Departure | None = None

    @property
    def size(self) -> np.ndarray:
        """‖∂E/∂c‖ by lag, of a plain RNN ‖∂E/∂h‖, relative to lag 0: median over sequences, [lag]."""
        log_norm = self.by_lag.log_dh_norm if self.by_lag.dc is None else self.by_lag.log_dc_norm
        return np.exp(np.median(log_norm - log_norm[0], axis=1))


def measure(network: Network, x: np.ndarray) -> Flow:
    """Run the network by ``undertow.equations`` in float64 and follow the error at the last step back."""
    w = {name: p.detach().double().numpy() for name, p in network.layer.named_parameters()}
    W, U, b = w["weight_ih_l0"], w["weight_hh_l0"], w["bias_ih_l0"] + w["bias_hh_l0"]
    zero = np.zeros((x.shape[1], HIDDEN_SIZE))
    is_lstm = isinstance(network.layer, torch.nn.LSTM)
    tape = equations.lstm(x, zero, zero, W, U, b)[1] if is_lstm else equations.rnn(x, zero, W, U, b)[1]
    dh = zero + network.head.weight.detach().double().numpy()  # ∂ŷ/∂h_T; the error itself only scales it
    by_lag = flow.gradient_by_lag(tape, U, dh)
    exponent = flow.lyapunov(tape, U, skip=20).exponents.mean()
    result = Flow(by_lag, flow.memory_horizon(by_lag), float(exponent))
    if is_lstm:
        result.carousel = flow.carousel(tape)
        result.departure = flow.departure(tape, U)
    return result


@torch.no_grad()
def strong(layer: torch.nn.LSTM) -> torch.nn.LSTM:
    """Recurrent weights four times as large as torch starts them: units that drive each other hard."""
    layer.weight_hh_l0.mul_(4)
    return layer


def train(network: Network, rng: np.random.Generator) -> float:
    """Train on the adding problem; the mean square error on 1000 fresh sequences (guessing: 0.167)."""
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, TRAINING_STEPS)
    for _ in range(TRAINING_STEPS):
        x, target = map(torch.from_numpy, ADDING.sample(rng, BATCH_SIZE, LAG))
        optimiser.zero_grad()
        (network(x) - target).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        x, target = map(torch.from_numpy, ADDING.sample(rng, 1000, LAG))
        return float((network(x) - target).square().mean())


def draw(flows: dict[str, Flow], folder: Path) -> None:
    """How far an error reaches back in each; the three gradients of the trained one; each departure."""
    folder.mkdir(parents=True, exist_ok=True)
    figure, ((ax,),) = plots.panels(size=(5, 3.3))
    plots.gradient_by_lag({name: f.by_lag for name, f in flows.items()}, ax=ax, colors=COLORS)
    figure.savefig(folder / "gradient-by-lag.png")

    figure, ((norms, departure),) = plots.panels(1, 2, (8.4, 3.1))
    trained = flows["LSTM, trained"]
    plots.three_gradients(trained.departure, trained.carousel, ax=norms)
    norms.set_title(f"LSTM, trained: {norms.get_title('left')}", loc="left", fontsize=8)
    departures = {name: f.departure for name, f in flows.items() if f.departure is not None}
    plots.departure(departures, ax=departure, colors=COLORS)
    figure.savefig(folder / "three-gradients.png")


def report(flows: dict[str, Flow]) -> None:
    """Print what the document quotes."""
    for name, f in flows.items():
        horizon = np.median(f.horizon.h if f.horizon.c is None else f.horizon.c, axis=1)
        print(f"{name}: lag 100 {f.size[-1]:.3g}, horizons {horizon}, Lyapunov {f.exponent:.4f} a step")
        if f.departure is not None:
            log_products = f.carousel.log_products_to()[::-1]  # [lag, N, H]
            log_carousel = np.logaddexp.reduce(2 * log_products, axis=-1) / 2
            for lag in (1, 2, 5, 10, 20, 50, 100):
                d = f.departure
                error, cosine = np.median(d.relative_error[lag]), np.median(d.cosine[lag])
                ratio = np.exp(np.median(d.log_chain_norm[lag] - d.log_true_norm[lag]))
                carousel = np.exp(np.median(log_carousel[lag] - d.log_true_norm[lag]))
                print(
                    f"  lag {lag}: off by {error:.3g}, cosine {cosine:.3f}, norm {ratio:.3f} of the truth's, "
                    f"the carousel's {carousel:.3f}"
                )


def main(folder: Path) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x = ADDING.sample(rng, WATCHED, LAG)[0].astype(np.float64)
    patient = Network(undertow.LSTM(2, HIDDEN_SIZE, init="chrono", max_lag=LAG))
    flows = {
        "plain RNN": measure(Network(undertow.RNN(2, HIDDEN_SIZE)), x),
        "LSTM, torch's start": measure(Network(undertow.LSTM(2, HIDDEN_SIZE)), x),
        "LSTM, 4 U": measure(Network(strong(undertow.LSTM(2, HIDDEN_SIZE))), x),
        "LSTM, chrono start": measure(patient, x),
    }
    print(f"mean square error after training: {train(patient, rng):.4f}")
    flows["LSTM, trained"] = measure(patient, x)
    report(flows)
    draw(flows, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
