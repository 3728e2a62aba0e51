"""What watching costs: training steps in undertow.trace, with gradients read afterwards or not, by turns.

python benchmarks/trace.py [--repeats 15] [--threads 2]

Watching keeps what training computes anyway. The gradients of every step are computed when they are read, so
that is timed too: ``read`` is a watched step after which one reads dc, and with it has all the others made.
All three must give the same bits.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch

import record
import undertow
from undertow.app.bench.speed import Results, Shape, Spread, call, make, make_task, seconds, spread
from undertow.app.bench.view import duration
from undertow.app.verbs.bench import machine

SHAPES = [Shape(32, 100, 16, 64), Shape(64, 100, 32, 128), Shape(256, 100, 32, 256)]
Step = Callable[[], Results]


def ways(module: torch.nn.LSTM, step: Step) -> dict[str, Step]:
    """The same step; a trace dies with it, as where one step in a while is looked at."""

    def traced() -> Results:
        with undertow.trace(module):
            return step()

    def read() -> Results:
        with undertow.trace(module) as trace:
            results = step()
        assert len(trace.layers[0].dc)
        return results

    return {"untraced": step, "traced": traced, "read": read}


def measure(shape: Shape, repeats: int) -> tuple[dict[str, Spread], dict[str, Spread]]:
    """Seconds a step of each way, and over those untraced of the same round.

    Raises AssertionError where a way changes a result.
    """
    task = make_task(shape, True, torch.get_num_threads())
    module = make(undertow.LSTM, shape)
    module.load_state_dict(task.weights)
    calls = ways(module, call(module, task.x, True))
    expected = {name: t.clone() for name, t in calls["untraced"]().items()}
    for way, step in calls.items():
        for name, found in step().items():
            assert torch.equal(found, expected[name]), f"{way}: {name} changed"
    count = max(1, int(0.05 / seconds(calls["untraced"], 1)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(repeats):
        for name in list(calls) if k % 2 else list(calls)[::-1]:
            times[name].append(seconds(calls[name], count))
    base = times["untraced"]
    ratios = {name: [a / b for a, b in zip(found, base, strict=True)] for name, found in times.items()}
    return tuple({name: spread(v) for name, v in table.items()} for table in (times, ratios))


def main() -> None:
    options = argparse.ArgumentParser(description="What watching costs a training step.")
    options.add_argument("--repeats", type=int, default=15)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    print(f"{machine()}, threads: {chosen.threads}; time over the untraced one's, quartiles in brackets\n")
    print(f"{'N,T,C,H':18}{'untraced':>12}{'traced':>26}{'traced and read':>26}")
    rows: list[dict[str, Any]] = []
    for shape in SHAPES:
        found, ratios = measure(shape, chosen.repeats)
        cells = [f"{m:.3f} ({a:.3f} to {b:.3f})" for a, m, b in (ratios["traced"], ratios["read"])]
        print(f"{shape!s:18}{duration(found['untraced'][1]):>12}{cells[0]:>26}{cells[1]:>26}", flush=True)
        rows.append({"shape": str(shape), "threads": chosen.threads, "seconds": found, "ratio": ratios})
    record.write("trace", {"machine": machine(), "torch": torch.__version__, "rows": rows})


if __name__ == "__main__":
    main()
