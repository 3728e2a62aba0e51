"""The numbers and figures of docs/gradient-flow.md: how error flows back through five networks.

    python examples/gradient_flow.py [folder for the figures]

Needs torch and matplotlib; half a minute on one core. The same seed gives the same numbers, but for what
training makes of rounding on another machine.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import undertow
from undertow import equations, flow, problems

LAG, HIDDEN_SIZE, BATCH_SIZE, TRAINING_STEPS, WATCHED = 100, 64, 64, 1500, 16
ADDING = problems.get("adding")
BLUE, ORANGE, GREEN, PURPLE, INK = "#0072B2", "#D55E00", "#009E73", "#A9579A", "#30343B"
COLORS = {
    "plain RNN": ORANGE, "LSTM, torch's start": PURPLE, "LSTM, 4 U": INK, "LSTM, chrono start": GREEN,
    "LSTM, trained": BLUE,
}  # fmt: skip
NUDGES = {
    "LSTM, trained": 7,
    "LSTM, chrono start": 1,
    "LSTM, 4 U": -1,
    "plain RNN": -4,
}  # labels that are close


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
    carousel: np.ndarray | None = None  # [lag, N], log of its Frobenius norm; LSTM only
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
        log_products = flow.carousel(tape).log_products_to()[::-1]  # [lag, N, H]
        result.carousel = 0.5 * np.logaddexp.reduce(2 * log_products, axis=-1)
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


def label(axes: Axes, y: float, text: str, color: str, dy: float = 0) -> None:
    """A name at the right end of a line, in the line's colour."""
    axes.annotate(text, (LAG, y), xytext=(6, dy), textcoords="offset points", color=color, va="center")


def figure(panels: int) -> tuple[Figure, list[Axes]]:
    """A figure and its panels, each over the lag on a logarithmic axis."""
    made = Figure(figsize=(5.2 * panels + 0.6, 3.7), dpi=120, layout="constrained")
    all_axes = list(made.subplots(1, panels, squeeze=False)[0])
    for axes in all_axes:
        axes.set(yscale="log", xlim=(0, LAG), xlabel="lag: steps back")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.2)
    return made, all_axes


def draw_by_lag(flows: dict[str, Flow], path: Path) -> None:
    """How far an error reaches back in each network."""
    made, (axes,) = figure(1)
    for name, measured in flows.items():
        axes.plot(measured.size, color=COLORS[name], lw=2)
        label(axes, measured.size[-1], name, COLORS[name], dy=NUDGES.get(name, 0))
    axes.set_title("Gradient of the last step's error, relative to lag 0", loc="left", fontsize=10)
    axes.axhline(0.01, color=INK, lw=0.8, ls=":")
    made.savefig(path)


def draw_three(flows: dict[str, Flow], path: Path) -> None:
    """Left: the three gradients of the trained network by lag. Right: each textbook chain's departure."""
    made, (norms, departure) = figure(2)
    trained = flows["LSTM, trained"]
    for name, log_norm, color in [
        ("truth", trained.departure.log_true_norm, BLUE),
        ("textbook chain", trained.departure.log_chain_norm, ORANGE),
        ("carousel", trained.carousel, GREEN),
    ]:
        size = np.exp(np.median(log_norm - log_norm[0], axis=1))
        norms.plot(size, color=color, lw=2)
        label(norms, size[-1], name, color)
    norms.set(yscale="linear", ylim=(0, 1.02))
    norms.set_title("LSTM, trained: norm of ∂c_T/∂c_t relative to lag 0", loc="left", fontsize=10)
    lags = range(2, LAG + 1)  # at lag 1 there is no departure
    for name, measured in flows.items():
        if measured.departure is not None:
            error = np.median(measured.departure.relative_error[2:], axis=1)
            departure.plot(lags, error, color=COLORS[name], lw=2)
            label(departure, error[-1], name, COLORS[name])
    departure.set_title("Textbook chain: ‖chain − truth‖ / ‖truth‖", loc="left", fontsize=10)
    departure.axhline(1, color=INK, lw=0.8, ls=":")
    made.savefig(path)


def report(flows: dict[str, Flow]) -> None:
    """Print what the document quotes."""
    for name, f in flows.items():
        horizon = np.median(f.horizon.h if f.horizon.c is None else f.horizon.c, axis=1)
        print(f"{name}: lag 100 {f.size[-1]:.3g}, horizons {horizon}, Lyapunov {f.exponent:.4f} a step")
        if f.departure is not None:
            for lag in (1, 2, 5, 10, 20, 50, 100):
                d = f.departure
                error, cosine = np.median(d.relative_error[lag]), np.median(d.cosine[lag])
                ratio = np.exp(np.median(d.log_chain_norm[lag] - d.log_true_norm[lag]))
                carousel = np.exp(np.median(f.carousel[lag] - d.log_true_norm[lag]))
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
    folder.mkdir(parents=True, exist_ok=True)
    draw_by_lag(flows, folder / "gradient-by-lag.png")
    draw_three(flows, folder / "three-gradients.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
