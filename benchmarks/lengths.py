"""Sequences of unequal lengths: ours by every way there is, and nn.LSTM on packed sequences.

python benchmarks/lengths.py [--repeats 7] [--peer-repeats 3] [--threads 2]
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import record
import undertow
from undertow.app.bench.speed import Results, Shape, Spread, make, make_task, same, seconds, spread
from undertow.app.bench.view import duration
from undertow.app.verbs.bench import machine

SHAPES = [Shape(64, 200, 32, 128), Shape(256, 365, 32, 64)]
Way = Callable[[torch.nn.LSTM, Tensor, Tensor], Tensor]  # module, x [T,N,C], lengths [N] -> y [T,N,H]
Ways = dict[str, tuple[type[torch.nn.LSTM], Way]]  # column -> module and how it is called


def padded(lstm: torch.nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    """Every sequence to the full length, its end as if it were data."""
    y: Tensor = lstm(x)[0]
    return y


def packed(lstm: torch.nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    y, _ = lstm(pack_padded_sequence(x, lengths, enforce_sorted=False))
    return pad_packed_sequence(y, total_length=x.shape[0])[0]


def by_lengths(lstm: torch.nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    y: Tensor = lstm(x, None, lengths=lengths)[0]
    return y


def ways() -> Ways:
    """All there are; the last is what the others are compared with."""
    found: Ways = {
        "padded": (undertow.LSTM, padded),
        "packed": (undertow.LSTM, packed),
    }
    try:
        by_lengths(undertow.LSTM(1, 1), torch.zeros(1, 1, 1), torch.ones(1, dtype=torch.int64))
        found["lengths="] = (undertow.LSTM, by_lengths)
    except TypeError:
        print("this undertow.LSTM takes no lengths=\n")
    return found | {"nn packed": (torch.nn.LSTM, packed)}


def draw(shape: Shape, least: int) -> Tensor:
    """Lengths [N], uniform in [least, T], in any order."""
    generator = torch.Generator().manual_seed(2)
    return torch.randint(least, shape.T + 1, (shape.N,), generator=generator)


def step_of(
    lstm: torch.nn.LSTM, way: Way, x: Tensor, lengths: Tensor, training: bool
) -> Callable[[], Results]:
    """One call: y where there is data, or the gradients of its sum there."""
    live = (torch.arange(x.shape[0]).unsqueeze(1) < lengths).unsqueeze(2).to(x.dtype)  # [T,N,1]
    dy = live.expand(*live.shape[:2], lstm.hidden_size).contiguous()
    leaf = x.clone().requires_grad_()

    def forward() -> Results:
        with torch.no_grad():
            return {"y": way(lstm, x, lengths)}

    def step() -> Results:
        lstm.zero_grad()
        leaf.grad = None
        way(lstm, leaf, lengths).backward(dy)
        grads = {name: p.grad for name, p in lstm.named_parameters() if p.grad is not None}
        return grads | {"input": leaf.grad} if leaf.grad is not None else grads

    return step if training else forward


def measure(
    taken: Ways, shape: Shape, least: int, training: bool, repeats: int, peer_repeats: int
) -> dict[str, Spread]:
    """Seconds a call of each way, by turns, after all have given the same. Raises AssertionError if not."""
    task = make_task(shape, training, torch.get_num_threads())
    lengths = draw(shape, least)
    live = torch.arange(shape.T).unsqueeze(1) < lengths
    calls = {}
    for name, (kind, way) in taken.items():
        module = make(kind, shape)
        module.load_state_dict(task.weights)
        calls[name] = step_of(module, way, task.x, lengths, training)
    *ours, peer = calls
    expected = calls[peer]()
    for name in ours:
        got = calls[name]()
        if not training:  # past its end a padded sequence goes on, and nobody looks
            got["y"] *= live.unsqueeze(2)
        for key, right in expected.items():
            same(f"{name}: {key}", got[key], right, 1e-4 if training else 1e-5)
    counts = {name: max(1, int(0.02 / seconds(calls[name], 1))) for name in ours}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(max(repeats, peer_repeats)):
        for name in ours if k < repeats else []:
            times[name].append(seconds(calls[name], counts[name]))
        if k < peer_repeats:
            times[peer].append(seconds(calls[peer], 1))
    return {name: spread(found) for name, found in times.items()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--peer-repeats", type=int, default=3, help="of nn.LSTM, which may take seconds")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    taken = ways()
    names = list(taken)
    print(f"{machine()}, threads: {chosen.threads}; nn.LSTM's time over ours in brackets\n")
    print(f"{'N,T,C,H':16}{'lengths':12}{'':10}" + "".join(f"{name:>19}" for name in names))
    rows: list[dict[str, Any]] = []
    for shape in SHAPES:
        for least in (shape.T // 2, 1):
            for training in (False, True):
                found = measure(taken, shape, least, training, chosen.repeats, chosen.peer_repeats)
                reference = found[names[-1]][1]
                ratios = {name: reference / found[name][1] for name in names[:-1]}
                cells = [f"{duration(found[name][1])} ({ratio:.1f})" for name, ratio in ratios.items()]
                kind, span = "training" if training else "inference", f"{least} to {shape.T}"
                line = "".join(f"{cell:>19}" for cell in [*cells, duration(reference)])
                print(f"{shape!s:16}{span:12}{kind:10}{line}", flush=True)
                rows.append(
                    {
                        "shape": str(shape),
                        "lengths": [least, shape.T],
                        "training": training,
                        "threads": chosen.threads,
                        "seconds": found,
                        "ratio": ratios,
                    }
                )
    record.write("lengths", {"machine": machine(), "torch": torch.__version__, "rows": rows})


if __name__ == "__main__":
    main()
