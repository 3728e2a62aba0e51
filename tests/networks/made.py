"""Networks with random weights, one for each thing that a Network can hold."""

import numpy as np

from undertow.networks import (
    Bidirectional,
    Dense,
    Embedding,
    Network,
    Normalise,
    Pool,
    Recurrent,
    Scale,
)

_random = np.random.default_rng(0)


def draw(*shape: int) -> np.ndarray:
    return _random.uniform(-0.7, 0.7, shape).astype(np.float32)


def lstm(C: int, H: int, R: int | None = None, **more: object) -> Recurrent:
    return Recurrent("lstm", draw(4 * H, C), draw(4 * H, R or H), draw(4 * H), **more)


def rnn(C: int, H: int, **more: object) -> Recurrent:
    return Recurrent("rnn", draw(H, C), draw(H, H), draw(H), **more)


def norms(H: int) -> dict[str, np.ndarray]:
    return {"gain_x": draw(4 * H), "gain_h": draw(4 * H), "gain_c": draw(H), "bias_c": draw(H)}


def dense(C: int, O: int, activation: str = "") -> Dense:  # noqa: E741
    return Dense(draw(O, C), draw(O), activation)


def both(C: int, H: int, make: object = lstm) -> Bidirectional:
    return Bidirectional(make(C, H), make(C, H, reverse=True))


AMPLIFIER = Network((lstm(1, 5, h_0=draw(5), c_0=draw(5)), dense(5, 1)), sample_rate=48_000.0)
SKIP = Network((lstm(2, 5), dense(5, 1)), skip=1)
STACKED = Network((lstm(3, 5), lstm(5, 4), dense(4, 2)))
DENSE_FIRST = Network((dense(2, 6, "tanh"), lstm(6, 4), dense(4, 4, "relu"), dense(4, 3, "softmax")))
SYMBOLS = Network((Embedding(draw(7, 3)), lstm(3, 5), dense(5, 7)), labels=tuple("abcdefg"))
OPTIONS = Network(
    (
        Normalise(draw(3), 1 + draw(3)),
        lstm(3, 4, peepholes=draw(3, 4), coupled=True, h_0=draw(4), c_0=draw(4)),
        lstm(4, 5, **norms(5), zoneout=(0.1, 0.2)),
        lstm(5, 6, 2, weight_hr=draw(2, 6)),
        rnn(2, 3, nonlinearity="relu", h_0=draw(3)),
        dense(3, 2),
        Scale(draw(2), draw(2)),
    ),
    metadata={"made": [1, 2.5, None]},
)
BOTH = Network((both(3, 4), both(8, 2, rnn), dense(4, 2)))
POOLED = {
    kind: Network((both(2, 3), Pool(kind, 6, draw(6) if kind == "attention" else None),
                   dense(12 if kind == "mean-max" else 6, 2)))
    for kind in ("mean", "max", "mean-max", "attention", "ends")
}  # fmt: skip
ALL = {
    "amplifier": AMPLIFIER, "skip": SKIP, "stacked": STACKED, "dense first": DENSE_FIRST, "symbols": SYMBOLS,
    "options": OPTIONS, "both": BOTH, **POOLED,
}  # fmt: skip


def input_of(network: Network, T: int = 9, N: int = 2) -> np.ndarray:
    """x [T,N,C], or symbols [T,N]."""
    random = np.random.default_rng(1)
    if network.symbols:
        return random.integers(0, network.symbols, (T, N))
    return random.uniform(-1, 1, (T, N, network.input_size)).astype(np.float32)
