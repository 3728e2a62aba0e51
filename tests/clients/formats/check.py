"""Models made and run by the programs that people use; undertow reads their files, same outputs.

``python check.py RESULT.json PROGRAM...`` runs in an environment of its own. Each check makes a model
with random weights, lets its own program save and run it, and compares with the network that undertow reads,
computed in float64 (tests/networks/reference.py). ``driver.py`` starts it.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np

import made
from reference import run
from undertow import networks

TOLERANCE = 2e-6  # float32 on both sides, a few layers and some tens of steps
T, N = 12, 3

Check = Callable[[Path], Iterator[tuple[str, float]]]  # what was compared, and the largest difference


def largest(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        raise SystemExit(f"shapes differ: {found.shape} and {expected.shape}")
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


def signal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


# -- Keras ------------------------------------------------------------------------------------------


def keras_models() -> dict[str, object]:
    import keras

    layers, Sequential = keras.layers, keras.Sequential
    x = keras.Input((None, 3), name="x")
    y = layers.LSTM(5, return_sequences=True, name="memory")(x)
    y = layers.Dropout(0.3)(y)
    y = layers.Dense(4)(y)
    y = layers.Activation("tanh")(y)
    normal = layers.Normalization()
    normal.adapt(10 * signal(50, 4, 3))
    batch = layers.BatchNormalization()
    models = {
        "amplifier": [layers.LSTM(6, return_sequences=True), layers.Dense(1)],
        "stacked, one answer": [
            layers.LSTM(6, return_sequences=True), layers.LSTM(4), layers.Dense(3, activation="softmax"),
        ],
        "RTNeural's shape": [
            layers.TimeDistributed(layers.Dense(8, activation="tanh")),
            layers.LSTM(8, return_sequences=True), layers.Dense(1),
        ],
        "both directions": [
            layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
            layers.Bidirectional(layers.SimpleRNN(3)), layers.Dense(2, activation="sigmoid"),
        ],
        "pooled": [
            normal, layers.LSTM(4, return_sequences=True, use_bias=False), layers.GlobalMaxPooling1D(),
            layers.Dense(4, activation="relu"), layers.Rescaling(2.0, 1.0), layers.Dense(2, use_bias=False),
        ],
        "normalised": [
            batch, layers.SimpleRNN(4, activation="relu", return_sequences=True),
            layers.GlobalAveragePooling1D(), layers.Softmax(),
        ],
    }  # fmt: skip
    made = {
        name: Sequential([keras.Input((None, 1 if name == "amplifier" else 3)), *each])
        for name, each in models.items()
    }
    made["functional"] = keras.Model(x, y)
    made["text"] = Sequential(
        [keras.Input((None,)), layers.Embedding(9, 4), layers.LSTM(5, return_sequences=True), layers.Dense(9)]
    )
    return made


def check_keras(folder: Path) -> Iterator[tuple[str, float]]:
    random = np.random.default_rng(0)
    for name, model in keras_models().items():
        for weights in model.weights:
            if weights.dtype == "float32":
                weights.assign(
                    random.uniform(0.1 if "variance" in weights.path else -0.7, 0.7, weights.shape)
                )
        x = random.integers(0, 9, (N, T)) if name == "text" else signal(N, T, model.input_shape[-1])
        expected = np.asarray(model.predict(x, verbose=0))
        for suffix in (".keras", ".h5"):
            path = folder / f"model{suffix}"
            model.save(path)
            found = run(networks.read(path), x.swapaxes(0, 1)).swapaxes(0, 1)
            if expected.ndim == 2:  # one answer
                found = found[:, -1]
            yield f"{suffix}: {name}", largest(found, expected)


# -- torch's exporters and onnxruntime ---------------------------------------------------------------


def torch_models() -> dict[str, object]:
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self, answer: str, *layers: nn.Module, **options: object) -> None:
            super().__init__()
            self.before = nn.ModuleList(layers)
            self.rnn = nn.LSTM(4, 5, **options)
            self.head = nn.Linear(10 if self.rnn.bidirectional else 5, 2)
            self.answer = answer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.before:
                x = layer(x)
            y, (h, _) = self.rnn(x)
            if self.answer == "last step":
                y = y[:, -1] if self.rnn.batch_first else y[-1]
            elif self.answer == "state":
                y = torch.cat([h[-2], h[-1]], dim=-1) if self.rnn.bidirectional else h[-1]
            elif self.answer == "mean":
                y = y.mean(1 if self.rnn.batch_first else 0)
            return torch.softmax(self.head(torch.relu(y)), -1)

    return {
        "every step": Model("every step"),
        "two layers, batch first": Model("every step", num_layers=2, batch_first=True),
        "both directions": Model("every step", num_layers=2, bidirectional=True),
        "last step": Model("last step", nn.Linear(4, 4), nn.Tanh(), batch_first=True),
        "last state": Model("state", num_layers=2),
        "both last states": Model("state", bidirectional=True, batch_first=True),
        "mean": Model("mean", batch_first=True),
        "text": Model("every step", nn.Embedding(9, 4), batch_first=True),
    }


def check_torch(folder: Path) -> Iterator[tuple[str, float]]:
    import onnxruntime
    import torch

    for name, model in torch_models().items():
        model.eval()
        torch.manual_seed(0)
        for p in model.parameters():
            torch.nn.init.uniform_(p, -0.7, 0.7)
        first = model.rnn.batch_first
        shape = (N, T) if first else (T, N)
        x = torch.randint(9, shape) if name == "text" else torch.tensor(signal(*shape, 4))
        for exporter in ("dynamo", "TorchScript"):
            path = folder / "model.onnx"
            torch.onnx.export(
                model, (x,), path, dynamo=exporter == "dynamo", verbose=False, external_data=False,
                input_names=["x"],
            )  # fmt: skip
            session = onnxruntime.InferenceSession(path)
            expected = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
            found = run(networks.read(path), x.numpy().swapaxes(0, 1) if first else x.numpy())
            if expected.ndim == 2:  # one answer
                found = found[-1]
            elif first:
                found = found.swapaxes(0, 1)
            yield f"{exporter}: {name}", largest(found, expected)


def check_written(folder: Path) -> Iterator[tuple[str, float]]:
    import onnxruntime

    for name, network in made.ALL.items():
        path = folder / f"{name}.onnx"
        if name == "options":  # layer normalisation, zoneout and projections have no place
            last = made.rnn(4, 3, nonlinearity="relu", h_0=made.draw(3))
            network = networks.Network((*network.stages[:2], last))
        networks.write(network, path)
        x = made.input_of(network)
        found = onnxruntime.InferenceSession(path).run(None, {"x": x})[0]
        expected = run(network, x)
        yield f"written: {name}", largest(expected[-len(found) :], found)


# -- sb3-contrib ------------------------------------------------------------------------------------


def check_policies(folder: Path) -> Iterator[tuple[str, float]]:
    import torch
    from sb3_contrib import RecurrentPPO

    small = {"n_lstm_layers": 2, "lstm_hidden_size": 8}
    cases = {
        "CartPole-v1": {},
        "Pendulum-v1": small | {"net_arch": [], "activation_fn": torch.nn.ReLU, "enable_critic_lstm": False},
        "Acrobot-v1": small | {"net_arch": [7], "activation_fn": torch.nn.ReLU},
        "MountainCar-v0": small | {"shared_lstm": True, "enable_critic_lstm": False},
        "FrozenLake-v1": small,
    }
    for name, options in cases.items():
        model = RecurrentPPO("MlpLstmPolicy", name, policy_kwargs=options, seed=0, device="cpu")
        for p in model.policy.parameters():
            torch.nn.init.uniform_(p, -0.3, 0.3)
        model.save(folder / "policy.zip")
        policy = model.policy
        discrete = hasattr(model.observation_space, "n")
        C = model.observation_space.n if discrete else model.observation_space.shape[0]
        x = np.eye(C)[np.random.default_rng(0).integers(C, size=T)] if discrete else signal(T, C)
        given = torch.tensor(x.argmax(-1) if discrete else x)
        starts = torch.zeros(T)
        L, H = policy.lstm_hidden_state_shape[0], policy.lstm_actor.hidden_size
        zero = (torch.zeros(L, 1, H), torch.zeros(L, 1, H))
        with torch.no_grad():
            actions = policy.get_distribution(given, zero, starts)[0].distribution
            answers = {"actor": actions.mean if name == "Pendulum-v1" else actions.logits}
            if not (options.get("enable_critic_lstm") is False and not options.get("shared_lstm")):
                answers["critic"] = policy.predict_values(given, zero, starts)
        for part, expected in answers.items():
            found = run(networks.read(folder / "policy.zip", part), x[:, None])[:, 0]
            if part == "actor" and name != "Pendulum-v1":  # torch brings logits to a sum of 1
                found = found - np.log(np.exp(found).sum(-1, keepdims=True))
            yield f"{name}, {part}", largest(found, expected.numpy())


# -- Neural Amp Modeler -----------------------------------------------------------------------------


def check_nam(folder: Path) -> Iterator[tuple[str, float]]:
    import torch
    from nam.models import init_from_nam
    from nam.models.recurrent import LSTM

    def theirs(path: Path, x: np.ndarray) -> np.ndarray:
        model = init_from_nam(json.loads(path.read_text())).eval()
        with torch.no_grad():
            return model(torch.tensor(x.T), pad_start=False).numpy().T

    x = signal(60, 1)
    deep = networks.Network((made.lstm(1, 5, h_0=made.draw(5)), made.lstm(5, 5), made.dense(5, 1)))
    for name, network in (("one layer", made.AMPLIFIER), ("two layers", deep)):
        networks.write(network, folder / "ours.nam")
        yield f"written: {name}", largest(run(network, x[:, None])[..., 0], theirs(folder / "ours.nam", x))
    torch.manual_seed(0)
    LSTM(6, num_layers=2, sample_rate=48_000).export(folder, basename="theirs")
    network = networks.read(folder / "theirs.nam")
    assert network.sample_rate == 48_000 and network.recurrent()[0].h_0.any()
    yield "exported", largest(run(network, x[:, None])[..., 0], theirs(folder / "theirs.nam", x))


CHECKS: dict[str, tuple[str, Check]] = {
    "Keras": ("keras", check_keras),
    "torch.onnx": ("torch", check_torch),
    "sb3-contrib": ("sb3_contrib", check_policies),
    "onnxruntime": ("onnxruntime", check_written),
    "NAM": ("neural-amp-modeler", check_nam),
}


def main(result: Path) -> None:
    found, failed = [], False
    wanted = sys.argv[2:] or CHECKS
    for name, (package, check) in CHECKS.items():
        if name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for what, difference in check(Path(folder)):
                failed |= not difference <= TOLERANCE
                row = {
                    "program": name,
                    "version": version(package).partition("+")[0],
                    "what": what,
                    "error": difference,
                }
                print(f"{name} {row['version']}  {what}: {difference:.1e}", flush=True)
                found.append(row)
    result.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
