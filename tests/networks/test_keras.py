"""Keras' files as Keras 3.15 lays them out, made by hand; in tests/clients/formats Keras makes them."""

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from made import draw
from reference import run
from undertow.networks import Bidirectional, Dense, Network, Recurrent, Unsupported, read
from undertow.networks.formats.content import to_order


def config(kind: str, **entries: object) -> dict[str, object]:
    return {"class_name": kind, "config": {"name": kind.lower(), **entries}}


def archive(layers: list[dict], weights: dict[str, list], kind: str = "Sequential", **more: object) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as held:
        for path, arrays in weights.items():
            for k, each in enumerate(arrays):
                held[f"layers/{path}/vars/{k}"] = each
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        model = {"class_name": kind, "config": {"name": "mine", "layers": layers, **more}}
        zipped.writestr("config.json", json.dumps(model))
        zipped.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        zipped.writestr("model.weights.h5", file.getvalue())
    return out.getvalue()


def whole(layers: list[dict], weights: dict[str, dict[str, np.ndarray]]) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as held:
        held.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": layers}})
        for layer, arrays in weights.items():
            group = held.create_group(f"model_weights/{layer}")
            group.attrs["weight_names"] = [f"{layer}/{name}".encode() for name in arrays]
            for name, each in arrays.items():
                group[f"{layer}/{name}"] = each
    return file.getvalue()


LAYERS = [config("InputLayer", batch_shape=[None, None, 2]), config("LSTM", return_sequences=True),
          config("Dense", activation="tanh")]  # fmt: skip
W, U, b, kernel, bias = draw(2, 12), draw(3, 12), draw(12), draw(3, 1), draw(1)
WEIGHTS = {"lstm/cell": [W, U, b], "dense": [kernel, bias]}


def expected() -> Network:
    """The gates of Keras are i, f, c, o, as undertow's; its kernels are transposed."""
    return Network((Recurrent("lstm", W.T, U.T, b), Dense(kernel.T, bias, "tanh")))


def saved(tmp_path: Path, data: bytes, name: str = "a.keras") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def test_both_forms_are_read(tmp_path: Path) -> None:
    x = draw(6, 2, 2)
    arrays = {"lstm": {"kernel": W, "recurrent": U, "bias": b}, "dense": {"kernel": kernel, "bias": bias}}
    for data in (archive(LAYERS, WEIGHTS), whole(LAYERS, arrays)):
        found = read(saved(tmp_path, data))
        np.testing.assert_array_equal(run(found, x), run(expected(), x))
        assert not found.once


def test_the_order_of_gates_would_be_noticed() -> None:
    x = draw(6, 2, 2)
    wrong = Network((Recurrent("lstm", to_order(W, "icfo").T, U.T, b), Dense(kernel.T, bias, "tanh")))
    assert np.abs(run(wrong, x) - run(expected(), x)).max() > 1e-3


def test_layers_of_one_kind_are_counted(tmp_path: Path) -> None:
    layers = [config("LSTM", return_sequences=True), config("LSTM")]
    layers[1]["config"]["name"] = "another"
    second = [draw(3, 8), draw(2, 8), draw(8)]
    found = read(saved(tmp_path, archive(layers, {"lstm/cell": [W, U, b], "lstm_1/cell": second})))
    np.testing.assert_array_equal(found.recurrent()[1].weight_ih, second[0].T)
    assert found.once


def test_one_answer_of_two_directions_stands_at_both_ends(tmp_path: Path) -> None:
    layers = [config("Bidirectional", layer=config("LSTM"), merge_mode="concat")]
    back = [draw(2, 12), draw(3, 12), draw(12)]
    where = {f"bidirectional/{end}_layer/cell": each for end, each in
             (("forward", [W, U, b]), ("backward", back))}  # fmt: skip
    found = read(saved(tmp_path, archive(layers, where)))
    assert isinstance(found.stages[0], Bidirectional) and found.stages[1].kind == "ends"
    x = draw(5, 1, 2)
    backward = run(Network((Recurrent("lstm", *(each.T for each in back)),)), x[::-1])
    np.testing.assert_allclose(run(found, x)[-1, :, 3:], backward[-1], atol=1e-12)


def changed(kind: str, **entries: object) -> bytes:
    layers = [LAYERS[0], config("LSTM", return_sequences=True, **entries), LAYERS[2]]
    return archive([*layers[:1], layers[1] if kind == "LSTM" else config(kind, **entries)], WEIGHTS)


def chained(*outputs: str) -> bytes:
    layers = json.loads(json.dumps(LAYERS))
    for layer, source in zip(layers, (None, "inputlayer", "lstm"), strict=True):
        layer["inbound_nodes"] = [[[source, 0, 0, {}]]] if source else []
    return archive(layers, WEIGHTS, "Functional", output_layers=[[each, 0, 0] for each in outputs])


def test_the_last_layer_is_the_output_of_a_chain(tmp_path: Path) -> None:
    x = draw(6, 2, 2)
    found = read(saved(tmp_path, chained("dense")))
    np.testing.assert_array_equal(run(found, x), run(expected(), x))


def branched() -> bytes:
    layers = json.loads(json.dumps(LAYERS))
    for layer, source in zip(layers, (None, "inputlayer", "inputlayer"), strict=True):
        history = {"class_name": "__keras_tensor__", "config": {"keras_history": [source, 0, 0]}}
        layer["inbound_nodes"] = [{"args": [history], "kwargs": {}}] if source else []
    return archive(layers, WEIGHTS, "Functional")


REFUSED = {
    "gru": (changed("GRU"), Unsupported, "layer gru: GRU has no counterpart"),
    "hard sigmoid": (changed("LSTM", recurrent_activation="hard_sigmoid"), Unsupported, "got hard_sigmoid"),
    "relu": (changed("LSTM", activation="relu"), Unsupported, "layer lstm: expected sigmoid gates and tanh"),
    "backwards": (changed("LSTM", go_backwards=True), Unsupported, "go_backwards: expected False"),
    "gelu": (archive([*LAYERS[:2], config("Dense", activation="gelu")], WEIGHTS), Unsupported, "got gelu"),
    "sum": (changed("Bidirectional", layer=config("LSTM"), merge_mode="sum"), Unsupported, "merge_mode"),
    "mask": (changed("Embedding", mask_zero=True), Unsupported, "mask_zero"),
    "branches": (branched(), Unsupported, "layer inputlayer: expected one chain of layers, got branches"),
    "two outputs": (chained("lstm", "dense"), Unsupported, "layer lstm: an output too; expected that of"),
    "own class": (archive(LAYERS, WEIGHTS, "MyModel"), Unsupported, "MyModel: expected a Sequential"),
    "vector": (archive([*LAYERS[:1], config("LSTM"), config("LSTM", name="b")], WEIGHTS | {"lstm_1/cell": [
        draw(3, 12), U, b]}), Unsupported, "layer b: reads one vector"),
    "no weights": (archive(LAYERS, {}), ValueError, "layer lstm: expected 3 arrays, got 0"),
    "shape": (archive(LAYERS, {"lstm/cell": [W, U.T, b]}), ValueError, r"recurrent kernel: expected shape"),
    "not finite": (archive(LAYERS, {"lstm/cell": [W * np.nan, U, b]}), ValueError, "is not finite"),
    "declared": (archive([config("InputLayer", batch_shape=[None, None, 3]), *LAYERS[1:]], WEIGHTS),
                 ValueError, "layer lstm: expected 3 inputs as declared, got 2"),
    "variance": (archive([LAYERS[0], config("Normalization", mean=[0, 0], variance=[-1, 1]), *LAYERS[1:]],
                         WEIGHTS), ValueError, r"stage 0 \(Scale\): scale: a number is not finite"),
    "dtype": (changed("LSTM", dtype={"config": None}), ValueError, "layer lstm: dtype: expected an object"),
    "shape of input": (archive([config("InputLayer", batch_shape={"a": 1}), *LAYERS[1:]], WEIGHTS),
                       ValueError, "damaged: KeyError"),
    "half": (archive(LAYERS, WEIGHTS)[:-40], ValueError, "damaged: not a complete archive"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(data: bytes, kind: type, words: str, tmp_path: Path) -> None:
    path = saved(tmp_path, data)
    with pytest.raises(kind, match=words) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    assert type(error.value) is kind


def test_links_out_of_a_file_are_not_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["vars/0"] = W
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": LAYERS}})
        group = file.create_group("model_weights/lstm")
        group.attrs["weight_names"] = [b"a"]
        group["a"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "vars/0")
    with pytest.raises(Unsupported, match="a link, expected the data"):
        read(tmp_path / "a.h5")


def test_weights_alone(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file["layers/lstm/cell/vars/0"] = W
    with pytest.raises(Unsupported, match="weights alone; save the whole model"):
        read(tmp_path / "a.weights.h5")


def test_files_damaged_anywhere(tmp_path: Path) -> None:
    data = archive(LAYERS, WEIGHTS)
    random = np.random.default_rng(0)
    for _ in range(60):
        bad = bytearray(data)
        for place in random.integers(len(bad), size=3):
            bad[place] = random.integers(256)
        try:
            read(saved(tmp_path, bytes(bad)))
        except ValueError as error:
            assert str(error).startswith(str(tmp_path))
