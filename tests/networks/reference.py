"""A Network computed in float64, step by step, as its equations are written: what every engine must give."""

from dataclasses import fields

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

EPSILON = 1e-5


def run(network: Network, x: np.ndarray) -> np.ndarray:
    """The outputs [T,N,O] of x [T,N,C] or symbols [T,N]. With a pool each step ends a sequence of its own."""
    x = np.asarray(x)
    if any(isinstance(stage, Pool) for stage in network.stages):
        return np.concatenate([_run(network, x[: t + 1]) for t in range(len(x))])
    return _run(network, x)


def _run(network: Network, x: np.ndarray) -> np.ndarray:
    y = x
    for stage in network.stages:
        y = _stage(stage, y)
    if network.skip:
        y = y.copy()
        y[..., : network.skip] += x[-len(y) :, :, : network.skip]
    return y


def _stage(stage: object, x: np.ndarray) -> np.ndarray:
    if isinstance(stage, Bidirectional):
        return np.concatenate([_layer(stage.forward, x), _layer(stage.backward, x)], axis=-1)
    if isinstance(stage, Recurrent):
        return _layer(stage, x)
    p = {f.name: _wide(getattr(stage, f.name)) for f in fields(stage)}
    if isinstance(stage, Embedding):
        return p["weight"][x if x.ndim == 2 else x[..., 0].astype(int)]
    if isinstance(stage, Normalise):
        return np.arcsinh((x - p["centre"]) / p["scale"])
    if isinstance(stage, Scale):
        return p["shift"] + p["scale"] * x
    if isinstance(stage, Dense):
        return _activation(stage.activation, x @ p["weight"].T + p["bias"])
    assert isinstance(stage, Pool)
    return _pool(stage, p["query"], x)[None]


def _pool(stage: Pool, query: np.ndarray | None, x: np.ndarray) -> np.ndarray:
    half = stage.width // 2
    if stage.kind == "ends":
        return np.concatenate([x[-1, :, :half], x[0, :, half:]], axis=-1)
    if stage.kind == "attention":
        score = np.exp(x @ query / np.sqrt(stage.width))
        return (score[..., None] * x).sum(0) / score.sum(0)[:, None]
    found = {"mean": x.mean(0), "max": x.max(0)}
    return np.concatenate([found[kind] for kind in stage.kind.split("-")], axis=-1)


def _layer(layer: Recurrent, x: np.ndarray) -> np.ndarray:
    if layer.reverse:
        return _forward(layer, x[::-1])[::-1]
    return _forward(layer, x)


def _forward(layer: Recurrent, x: np.ndarray) -> np.ndarray:
    W, U, b = (_wide(each) for each in (layer.weight_ih, layer.weight_hh, layer.bias))
    h = np.broadcast_to(_wide(layer.h_0), (x.shape[1], len(layer.h_0)))
    c = None if layer.cell == "rnn" else np.broadcast_to(_wide(layer.c_0), (x.shape[1], layer.hidden_size))
    found = []
    for x_t in x:
        Wx, Uh = x_t @ W.T, h @ U.T
        if layer.cell == "rnn":
            new = np.tanh(Wx + Uh + b) if layer.nonlinearity == "tanh" else np.maximum(0, Wx + Uh + b)
        else:
            new, c = _step(layer, Wx, Uh, b, c)
        h = layer.zoneout[0] * h + (1 - layer.zoneout[0]) * new
        found.append(h)
    return np.stack(found)


def _step(layer: Recurrent, Wx: np.ndarray, Uh: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple:
    if layer.gain_x is not None:
        Wx, Uh = _norm(Wx) * _wide(layer.gain_x), _norm(Uh) * _wide(layer.gain_h)
    a_i, a_f, a_g, a_o = np.split(Wx + Uh + b, 4, axis=-1)
    p_i, p_f, p_o = np.zeros((3, 1)) if layer.peepholes is None else _wide(layer.peepholes)
    i = _sigmoid(a_i + p_i * c)
    f = 1 - i if layer.coupled else _sigmoid(a_f + p_f * c)
    new = i * np.tanh(a_g) + f * c
    o = _sigmoid(a_o + p_o * new)
    seen = new if layer.gain_c is None else _norm(new) * _wide(layer.gain_c) + _wide(layer.bias_c)
    h = o * np.tanh(seen)
    if layer.weight_hr is not None:
        h = h @ _wide(layer.weight_hr).T
    return h, layer.zoneout[1] * c + (1 - layer.zoneout[1]) * new


def _activation(name: str, x: np.ndarray) -> np.ndarray:
    if name == "softmax":
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)
    kinds = {"": lambda x: x, "tanh": np.tanh, "sigmoid": _sigmoid, "relu": lambda x: np.maximum(0, x)}
    return kinds[name](x)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPSILON)


def _wide(value: object) -> object:
    return value.astype(np.float64) if isinstance(value, np.ndarray) else value
