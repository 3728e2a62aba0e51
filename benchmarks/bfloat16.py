"""bfloat16 against float32: ours against ours, and against nn.LSTM in bfloat16.

python benchmarks/bfloat16.py [--repeats 7] [--threads 2]
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch

import record
import undertow
from undertow.app.bench.speed import Shape, seconds, spread
from undertow.app.bench.view import duration
from undertow.app.verbs.bench import machine

SHAPES = [
    Shape(64, 100, 32, 128),
    Shape(256, 100, 32, 256),
    Shape(32, 100, 128, 256),
    Shape(32, 64, 512, 512),
    Shape(64, 64, 1024, 1024),
]


def step_of(lstm: torch.nn.LSTM, shape: Shape, training: bool) -> Callable[[], Any]:
    """One call, on the same numbers for all: y, or the gradients of its sum."""
    x = torch.randn(shape.T, shape.N, shape.C, generator=torch.Generator().manual_seed(1))
    x = x.bfloat16().to(lstm.weight_hh_l0.dtype).requires_grad_()
    dy = torch.ones(shape.T, shape.N, shape.H, dtype=x.dtype)

    def forward() -> Any:
        with torch.no_grad():
            return lstm(x)[0].float()

    def step() -> Any:
        lstm.zero_grad()
        x.grad = None
        lstm(x)[0].backward(dy)
        return lstm.weight_hh_l0.grad

    return step if training else forward


def measure(shape: Shape, training: bool, repeats: int) -> dict[str, Any]:
    """Seconds a call of each, by turns, and how far ours in bfloat16 is from ours in float32, of the norm."""
    half = undertow.LSTM(shape.C, shape.H, dtype=torch.bfloat16)
    single, theirs = undertow.LSTM(shape.C, shape.H), torch.nn.LSTM(shape.C, shape.H, dtype=torch.bfloat16)
    for other in (single, theirs):
        other.load_state_dict(half.state_dict())
    calls = {
        name: step_of(lstm, shape, training)
        for name, lstm in (("bfloat16", half), ("float32", single), ("nn bfloat16", theirs))
    }
    found = {name: call().clone() for name, call in calls.items()}
    error = ((found["bfloat16"] - found["float32"]).norm() / found["float32"].norm()).item()
    assert error < 0.02, f"{shape}: bfloat16 differs from float32 by {error:.1e}"
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(call, 1))
    spreads = {name: spread(each) for name, each in times.items()}
    return {"shape": str(shape), "training": training, "seconds": spreads, "error": error}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    print(f"{machine()}, threads: {chosen.threads}; in brackets: their time over ours in bfloat16\n")
    print(f"{'N,T,C,H':18}{'':11}{'bfloat16':>10}{'float32':>18}{'nn bfloat16':>18}{'error':>9}")
    rows = []
    for shape in SHAPES:
        for training in (False, True):
            row = measure(shape, training, chosen.repeats)
            ours, *others = (row["seconds"][name][1] for name in ("bfloat16", "float32", "nn bfloat16"))
            cells = "".join(f"{f'{duration(other)} ({other / ours:.2f})':>18}" for other in others)
            kind = "training" if training else "inference"
            print(f"{shape!s:18}{kind:11}{duration(ours):>10}{cells}{row['error']:>9.1e}", flush=True)
            rows.append(row | {"threads": chosen.threads})
    record.write("bfloat16", {"machine": machine(), "torch": torch.__version__, "rows": rows})


if __name__ == "__main__":
    main()
