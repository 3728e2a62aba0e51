"""Other people's files: RTNeural's published vectors, files written and read back, what is refused."""

import json
import os
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import undertow
from made import ALL, AMPLIFIER, DENSE_FIRST, OPTIONS, SKIP, STACKED, SYMBOLS, draw, input_of
from reference import run
from undertow.networks import Assumed, Dense, Network, Recurrent, Unsupported, read, write

NEAR = [folder / "shared" / "data" / "formats" for folder in Path(__file__).parents[3:5]]
SAMPLES = next(filter(Path.is_dir, NEAR), NEAR[0])
samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no samples of other programs in {SAMPLES}")


def same(one: Network, other: Network, exactly: bool = True) -> None:
    x = input_of(one)
    np.testing.assert_allclose(run(other, x), run(one, x), rtol=0, atol=0 if exactly else 1e-6)
    assert (one.skip, one.sample_rate, one.once) == (other.skip, other.sample_rate, other.once)


# -- published vectors ------------------------------------------------------------------------------


@samples
@pytest.mark.parametrize("name", ["rtneural-lstm", "rtneural-lstm_torch"])
def test_rtneurals_published_vectors(name: str) -> None:
    network = read(SAMPLES / f"{name}.json")
    x, y = (np.loadtxt(SAMPLES / f"{name}_{of}_python.csv", ndmin=2) for of in "xy")
    error = np.abs(run(network, x[:, None])[:, 0] - y).max()
    assert error <= 2e-7 * max(1, np.abs(y).max())


@samples
def test_a_nam_file_starts_from_its_own_states() -> None:
    network = read(SAMPLES / "lstm.nam")
    layer = network.recurrent()[0]
    assert (network.input_size, layer.hidden_size, network.output_size) == (1, 3, 1)
    assert np.any(layer.h_0) and np.any(layer.c_0)
    content = json.loads((SAMPLES / "lstm.nam").read_text())
    assert layer.weight_ih[0, 0] == np.float32(content["weights"][0])
    assert layer.weight_hh[0, 0] == np.float32(content["weights"][1])
    assert network.metadata["metadata"]["gear_make"] == "Darkglass Electronics"


# -- written and read back --------------------------------------------------------------------------


@pytest.mark.parametrize("network", ALL.values(), ids=ALL)
def test_the_own_file_keeps_everything(network: Network, tmp_path: Path) -> None:
    write(network, tmp_path / "a.safetensors")
    found = read(tmp_path / "a.safetensors")
    same(network, found)
    assert (found.labels, found.metadata) == (network.labels, network.metadata)
    assert [type(stage) for stage in found.stages] == [type(stage) for stage in network.stages]
    write(found, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (AMPLIFIER, "a.nam"), (SKIP, "a.json"), (STACKED, "a.json"), (DENSE_FIRST, "a.aidax"),
    ],
)  # fmt: skip
def test_written_and_read_back(network: Network, name: str, tmp_path: Path) -> None:
    write(network, tmp_path / name)
    same(network, read(tmp_path / name))


def test_a_nam_file_written_again_is_the_same(tmp_path: Path) -> None:
    write(AMPLIFIER, tmp_path / "a.nam")
    write(read(tmp_path / "a.nam"), tmp_path / "b.nam")
    assert json.loads((tmp_path / "a.nam").read_text()) == json.loads((tmp_path / "b.nam").read_text())


# -- AIDA-X and Proteus -----------------------------------------------------------------------------


def proteus(**data: object) -> dict[str, object]:
    tensors = {"weight_ih_l0": (12, 1), "weight_hh_l0": (12, 3), "bias_ih_l0": (12,), "bias_hh_l0": (12,)}
    state = {f"rec.{name}": draw(*shape).tolist() for name, shape in tensors.items()}
    state |= {"lin.weight": draw(1, 3).tolist(), "lin.bias": [0.5]}
    model = {"model": "SimpleRNN", "unit_type": "LSTM", "input_size": 1, "hidden_size": 3, "skip": 1}
    return {"model_data": model | data, "state_dict": state}


def test_proteus_adds_its_input(tmp_path: Path) -> None:
    content = proteus()
    (tmp_path / "a.json").write_text(json.dumps(content))
    network = read(tmp_path / "a.json")
    lstm, head = torch.nn.LSTM(1, 3), torch.nn.Linear(3, 1)
    for prefix, module in (("rec.", lstm), ("lin.", head)):
        state = {name[4:]: torch.tensor(v) for name, v in content["state_dict"].items() if name[:4] == prefix}
        module.load_state_dict(state)
    x = torch.randn(20, 1, 1)
    expected = head(lstm(x)[0]) + x
    np.testing.assert_allclose(run(network, x.numpy()), expected.detach(), atol=1e-6)


def test_aida_xs_gains_in_decibels_and_rate_as_text(tmp_path: Path) -> None:
    write(STACKED, tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    content |= {"in_gain": 6.0, "out_gain": -20, "metadata": {"samplerate": "44100"}}
    (tmp_path / "b.json").write_text(json.dumps(content))
    found, x = read(tmp_path / "b.json"), input_of(STACKED)
    louder = x.astype(np.float64)
    louder[..., 0] *= 10 ** (6 / 20)
    np.testing.assert_allclose(run(found, x), 0.1 * run(STACKED, louder), rtol=1e-6)
    assert found.sample_rate == 44100


# -- torch ------------------------------------------------------------------------------------------


class Tagger(torch.nn.Module):
    """A model of somebody."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.emb = torch.nn.Embedding(9, 4)
        self.rnn = undertow.LSTM(4, 5, 2, **options)
        self.out = torch.nn.Linear((2 if self.rnn.bidirectional else 1) * (self.rnn.proj_size or 5), 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(self.emb(x))[0])


OF_TORCH = {
    "plain": {},
    "bidirectional": {"bidirectional": True},
    "projected": {"proj_size": 3},
    "own states": {"learn_initial_state": True, "bidirectional": True},
    "norms": {"layer_norm": True, "peepholes": True},
    "no bias": {"bias": False},
}


@pytest.mark.parametrize("kind", ["safetensors", "pt", "checkpoint", "json", "bfloat16"])
@pytest.mark.parametrize("options", OF_TORCH.values(), ids=OF_TORCH)
def test_state_dicts(options: dict[str, object], kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Tagger(**options).eval()
    for p in model.parameters():
        torch.nn.init.uniform_(p, -0.7, 0.7)
    if kind == "bfloat16":
        model.load_state_dict({name: value.bfloat16() for name, value in model.state_dict().items()})
    state, path = model.state_dict(), tmp_path / f"a.{kind}"
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "json":
        path.write_text(json.dumps({name: value.tolist() for name, value in state.items()}))
    elif kind == "bfloat16":
        save_file({name: value.bfloat16() for name, value in state.items()}, path)
    else:
        torch.save({"epoch": 3, "state_dict": state} if kind == "checkpoint" else state, path)
    x = torch.randint(9, (7, 2))
    noted = kind in ("pt", "checkpoint") or (kind == "json" and "peepholes" not in options)
    told = pytest.warns(Assumed, match="assumed coupled=False and zoneout=0, which a state dict does not say")
    with nullcontext() if noted else told:
        network = read(path)
    assert ("assumed" in network.metadata) != noted
    np.testing.assert_allclose(run(network, x.numpy()), model(x).detach(), atol=2e-6)


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        (undertow.LSTM, {"coupled": True}),
        (undertow.LSTM, {"zoneout": (0.1, 0.3), "bidirectional": True, "num_layers": 2}),
        (undertow.LSTM, {"coupled": True, "peepholes": True, "zoneout": 1}),
        (undertow.RNN, {"nonlinearity": "relu", "zoneout": 0.2}),
    ],
)
def test_a_state_dict_of_undertow_says_what_its_tensors_do_not_show(
    cell: type[torch.nn.Module], options: dict[str, Any], tmp_path: Path
) -> None:
    module, x = cell(2, 3, **options).eval(), torch.randn(6, 1, 2)
    holder = torch.nn.ModuleDict({"rnn": module})
    for k, state in enumerate((module.state_dict(), {"model": holder.state_dict()})):
        torch.save(state, tmp_path / f"{k}.pt")
        torch.load(tmp_path / f"{k}.pt", weights_only=True)
        found = run(read(tmp_path / f"{k}.pt"), x.numpy())
        np.testing.assert_allclose(found, module(x)[0].detach(), atol=1e-6)


def test_options_that_were_tampered_with_are_refused(tmp_path: Path) -> None:
    wrong: list[Any] = [7, {}, {"coupled": 1, "zoneout": (0.0, 0.0), "relu": False}]
    wrong += [
        {"coupled": False, "zoneout": pair, "relu": False} for pair in (0.0, (0.5,), (0.0, float("nan")))
    ]
    for noted in wrong:
        state = undertow.LSTM(2, 3).state_dict()
        state._metadata[""]["undertow"] = noted  # type: ignore[attr-defined]
        torch.save(state, tmp_path / "a.pt")
        with pytest.raises(ValueError, match=r"noted as|zoneout: expected between 0 and 1"):
            read(tmp_path / "a.pt")


def test_a_plain_rnn_of_torch(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.RNN(2, 3))
    torch.save(model.state_dict(), tmp_path / "a.pt")
    x = torch.randn(6, 1, 2)
    with pytest.warns(
        Assumed, match="assumed nonlinearity='tanh' and zoneout=0, which a state dict does not say"
    ):
        found = run(read(tmp_path / "a.pt"), x.numpy())
    np.testing.assert_allclose(found, model(x)[0].detach(), atol=1e-6)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch /tmp/undertow-was-here",)


# -- weights in fewer bits --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stacked", "options", "symbols"])
def test_weights_in_16_bits_take_half_the_file(name: str, tmp_path: Path) -> None:
    network = {"stacked": STACKED, "options": OPTIONS, "symbols": SYMBOLS}[name]
    write(network, tmp_path / "a.safetensors", dtype="int16")
    found = read(tmp_path / "a.safetensors")
    for one, other in zip(network.recurrent(), found.recurrent(), strict=True):
        for each in ("weight_ih", "weight_hh"):
            w, q = getattr(one, each), getattr(other, each)
            assert np.all(np.abs(w - q) <= np.abs(w).max(axis=1, keepdims=True) / 65534 * 1.01)
        assert np.array_equal(one.bias, other.bias)
    x = input_of(network)
    expected, y = run(network, x), run(found, x)
    assert ((y - expected) ** 2).sum() <= 1e-10 * (expected**2).sum()
    write(found, tmp_path / "b.safetensors", dtype="int16")  # once rounded, they stay
    assert ((run(read(tmp_path / "b.safetensors"), x) - y) ** 2).sum() <= 1e-12 * (expected**2).sum()


def test_a_file_of_a_large_network_is_halved(tmp_path: Path) -> None:
    network = Network(
        (Recurrent("lstm", draw(256, 3), draw(256, 64), draw(256)), Dense(draw(2, 64), draw(2)))
    )
    for dtype in ("float32", "int16"):
        write(network, tmp_path / f"{dtype}.safetensors", dtype=dtype)
    whole, half = ((tmp_path / f"{dtype}.safetensors").stat().st_size for dtype in ("float32", "int16"))
    assert half <= 0.55 * whole


def test_weights_in_8_bits_are_for_classifiers(tmp_path: Path) -> None:
    layer, head = Recurrent("lstm", draw(32, 3), draw(32, 8), draw(32)), Dense(draw(4, 8), draw(4), "softmax")
    path = tmp_path / "a.safetensors"
    write(Network((layer, head)), path, dtype="int8")
    network = Network((layer, head))
    assert np.abs(run(read(path), input_of(network)) - run(network, input_of(network))).max() <= 0.05
    with pytest.raises(Unsupported, match=r"a.safetensors: int8: expected a classifier"):
        write(STACKED, path, dtype="int8")
    with pytest.raises(ValueError, match=r"dtype: expected float32, int16, int8, got int4"):
        write(STACKED, path, dtype="int4")
    with pytest.raises(ValueError, match=r"dtype: expected float32 but for a name that ends in .safetensors"):
        write(STACKED, tmp_path / "a.onnx", dtype="int16")
    infinite = Recurrent("lstm", np.full((4, 1), np.inf), np.ones((4, 1)), np.ones(4))
    with pytest.raises(Unsupported, match="int16: expected finite weights"):
        write(Network((infinite,)), path, dtype="int16")


def test_a_scale_that_is_missing_is_damage(tmp_path: Path) -> None:
    write(AMPLIFIER, tmp_path / "a.safetensors", dtype="int16")
    data = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(data.replace(b"0.weight_hh.scale", b"0.weight_hh.skale"))
    with pytest.raises(ValueError, match=r"damaged: 0.weight_hh: expected a matrix and a scale"):
        read(tmp_path / "a.safetensors")


# -- refused ----------------------------------------------------------------------------------------


def changed(network: Network, **entries: object) -> bytes:
    content = json.loads(_written(network, "a.json"))
    return json.dumps(content | entries).encode()


def _written(network: Network, name: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(network, Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def pt(value: object) -> bytes:
    import io

    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def layer(**entries: object) -> bytes:
    content = json.loads(_written(STACKED, "a.json"))
    content["layers"][0] |= entries
    return json.dumps(content).encode()


def state(**modules: torch.nn.Module) -> bytes:
    return pt(torch.nn.ModuleDict(modules).state_dict())


LSTM, Linear = torch.nn.LSTM, torch.nn.Linear
REFUSED = {
    "gru": (layer(type="gru"), Unsupported, r"layers\[0\]: expected an LSTM.*got gru"),
    "activation": (layer(type="dense", weights=[draw(3, 4).tolist()], activation="elu", shape=[4]),
                   Unsupported, r"layers\[0\]: activation: .*got elu"),
    "shape": (layer(shape=[None, 6]), ValueError, r"layers\[0\]\.shape: expected 5 as of the weights, got 6"),
    "ragged": (layer(weights=[[[1, 2], [3]], [], []]), ValueError, r"weights\[0\]: expected rows of equal"),
    "text": (layer(weights=[[["a"]], [], []]), ValueError, r"weights\[0\]: expected numbers"),
    "too large": (layer(weights=[[[1e300] * 20] * 3, [], []]), ValueError, "not finite in float32"),
    "no layers": (changed(STACKED, layers=3), ValueError, "layers: expected a list, got a number"),
    "gain and skip": (changed(SKIP, in_gain=3), Unsupported, "in_gain, out_gain"),
    "other architecture": (b'{"architecture": "WaveNet", "config": {}, "weights": []}', Unsupported,
                           "architecture: expected LSTM, got WaveNet"),
    "short": (b'{"architecture": "LSTM", "config": {"num_layers": 1, "input_size": 1, "hidden_size": 3}, '
              b'"weights": [1]}', ValueError, r"weights: expected shape \[\d+\], got \[1\]"),
    "units": (json.dumps(proteus(unit_type="GRU")).encode(), Unsupported, "unit_type: .* got GRU"),
    "sizes": (json.dumps(proteus(hidden_size=9)).encode(), ValueError, "the tensors have 3, got 9"),
    "unknown": (b'{"a": 1}', ValueError, "JSON of no known program"),
    "half": (_written(STACKED, "a.json")[:-40], ValueError, "damaged: not JSON"),
    "deep": (b'{"a":' + b"[" * 100_000, ValueError, "damaged: not JSON"),
    "nan": (b'{"a": NaN}', ValueError, "NaN is no number of JSON"),
    "empty": (b"", ValueError, "file of another kind"),
    "half safetensors": (_written(STACKED, "a.safetensors")[:-4], ValueError, "no complete safetensors file"),
    "half pt": (pt(LSTM(1, 2).state_dict())[:-30], ValueError, "damaged"),
    "module": (pt(LSTM(1, 2)), Unsupported, r"data.pkl: torch\.nn\.modules\.rnn\.LSTM"),
    "code": (pt({"a": Evil()}), Unsupported, r"data.pkl: (posix|nt)\.system"),
    "gru of torch": (state(a=torch.nn.GRU(2, 3)), Unsupported, "a.: expected an LSTM or RNN, got a GRU"),
    "two heads": (state(a=LSTM(2, 3), b=Linear(3, 4), c=Linear(4, 2)), Unsupported, "which activation"),
    "before": (state(a=Linear(5, 2), b=LSTM(2, 3)), Unsupported, "a: a linear layer before b"),
    "order": (state(a=LSTM(3, 3), b=LSTM(3, 3)), Unsupported, "not clear: a → b or b → a"),
    "branches": (state(a=LSTM(2, 3), b=LSTM(2, 3)), Unsupported, "do not form a chain"),
    "conv": (state(a=LSTM(2, 3), b=torch.nn.Conv1d(2, 2, 2)), Unsupported, "b.weight, b.bias: expected par"),
    "extra": (json.dumps(proteus() | {"state_dict": proteus()["state_dict"] | {"rec.more": [1.0]}}).encode(),
              Unsupported, r"state_dict\.rec\.more: expected an LSTM rec"),
    "gain": (changed(STACKED, in_gain=1e9), ValueError, "in_gain: a number is not finite in float32"),
    "extra layer": (pt(LSTM(2, 3).state_dict() | {"bias_ih_l4": torch.zeros(12)}), ValueError,
                    "damaged: bias_ih_l4 belongs to no layer"),
    "extra direction": (pt(LSTM(2, 3).state_dict() | {"bias_ih_l0_reverse": torch.zeros(12)}), ValueError,
                        "damaged: bias_ih_l0_reverse belongs to no layer"),
    "extra state": (pt(LSTM(2, 3).state_dict() | {"h_0": torch.zeros(4, 3)}), ValueError,
                    r"h_0: expected 1 rows, got shape \[4, 3\]"),
    "sum": (pt(dict.fromkeys(LSTM(1, 1, bias=False).state_dict(), torch.ones(4, 1))
               | dict.fromkeys(("bias_ih_l0", "bias_hh_l0"), torch.full((4,), 3e38))), ValueError,
            r"stage 0 \(Recurrent\): bias: a number is not finite"),
    "no lstm": (state(a=Linear(2, 3)), Unsupported, "expected the state dict of an LSTM"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(data: bytes, kind: type, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.file"
    path.write_bytes(data)
    with pytest.raises(kind, match=words) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    assert type(error.value) is kind
    assert not Path("/tmp/undertow-was-here").exists()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read(tmp_path / "a.nam")


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", bytes(50 << 20))
    with pytest.raises(ValueError, match="unpacks to 52,428,800 bytes"):
        read(path)


@pytest.mark.parametrize(
    ("network", "name", "words"),
    [
        (OPTIONS, "a.nam", "nam: expected LSTM layers and a Dense head"),
        (STACKED, "a.nam", "expected layers of equal size, got 5 and 4"),
        (SKIP, "a.nam", "no place for skip"),
        (AMPLIFIER, "a.json", "RTNeural: no place for initial state"),
        (SYMBOLS, "a.json", "no place for Embedding"),
    ],
)
def test_what_a_format_has_no_place_for(network: Network, name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=words):
        write(network, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_suffix_that_no_format_has(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.nam"):
        write(STACKED, tmp_path / "a.xyz")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"cell":"lstm"', '"cell":"gruu"', "expected lstm, rnn, got 'gruu'"),
        ('"stage":"Dense"', '"stage":"Danse"', "expected Embedding"),
        ('"format":1', '"format":7', "reads 1, got 7"),
        ('"0.bias"', '"9.bias"', "0.bias is missing|belongs to no stage"),
    ],
)
def test_a_tampered_own_file(old: str, new: str, words: str, tmp_path: Path) -> None:
    data = _written(STACKED, "a.safetensors")
    old, new = (each.replace('"', r"\"").replace(":", ": ") if ":" in each else each for each in (old, new))
    assert old.encode() in data
    (tmp_path / "a").write_bytes(data.replace(old.encode(), new.encode()))
    with pytest.raises(ValueError, match=words):
        read(tmp_path / "a")


@pytest.mark.parametrize("rate", [0, -48000.0])
@pytest.mark.parametrize("name", ["a.nam", "a.json"])
def test_a_sample_rate_lies_above_0(name: str, rate: float, tmp_path: Path) -> None:
    write(AMPLIFIER if name == "a.nam" else STACKED, tmp_path / name)
    content = json.loads((tmp_path / name).read_text())
    content |= {"sample_rate": rate} if name == "a.nam" else {"samplerate": rate}
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match="expected more than 0 Hz"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nam", "a.json", "a.safetensors", "a.pt"])
def test_a_file_damaged_anywhere_gives_a_network_or_one_error(name: str, tmp_path: Path) -> None:
    """Bytes changed and cut at random places: never another library's exception."""
    network = AMPLIFIER if name == "a.nam" else STACKED
    data = pt(LSTM(2, 3).state_dict()) if name == "a.pt" else _written(network, name)
    random, path = np.random.default_rng(0), tmp_path / name
    for k in range(150):
        bad = bytearray(data[: int(random.integers(len(data)))] if k % 3 == 0 else data)
        for place in random.integers(len(bad), size=int(random.integers(1, 4))) if bad else ():
            bad[place] = random.integers(256)
        path.write_bytes(bad)
        try:
            assert isinstance(read(path), Network)
        except ValueError as error:
            assert str(error).startswith(str(path))
