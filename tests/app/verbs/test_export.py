"""``undertow export``: every task to every target that can hold it, with the numbers of the run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import onnx
from inputs import CLASSIFY, FORECAST, TEXT, changed
from undertow import networks, stream
from undertow.app.exporting.onnx import Forecast
from undertow.app.reading.forecaster import forecast
from undertow.app.runs.folder import open_run

onnxruntime = pytest.importorskip("onnxruntime")
WAYS = {
    "text": TEXT,
    "forecast": FORECAST,
    "classify": CLASSIFY,
    "problem": ("--steps", 20, "--hidden-size", 8),
}


@pytest.fixture
def train(undertow, text, waves, walks):
    """``train("text")`` -> the folder of its run."""
    sources = {"text": text, "forecast": waves, "classify": walks, "problem": "adding"}

    def run(task, *options):
        short = ("--epochs", 1)
        result = undertow(
            "train", sources[task], *changed(WAYS[task], short, options), "-q", "--folder", task
        )
        assert result.code == 0, result.err
        return Path(task)

    return run


def ran(path, **given):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, given), strict=True))


def test_a_text_goes_on_in_onnx(undertow, train):
    run = train("text")
    result = undertow("export", run, "--to", "onnx")
    assert result.code == 0, result.err
    first, reads, gives, compared = result.out.splitlines()
    assert first == f"written: text.onnx, {Path('text.onnx').stat().st_size:,} bytes"
    assert reads.startswith("reads x [T,N], h_0_l0 [1,N,")
    assert gives.startswith("gives y [T,N,")
    assert compared.startswith("ONNX Runtime differs from the network by at most ")
    network = networks.read(run)
    symbols = np.random.default_rng(0).integers(0, network.symbols, (30, 1))
    state = {
        f"{name}_0_l{k}": getattr(layer, f"{name}_0")[None, None]
        for k, layer in enumerate(network.recurrent())
        for name in ("h", "c")
    }
    found = []
    for part in (symbols[:13], symbols[13:]):
        given = ran("text.onnx", x=part, **state)
        found.append(given.pop("y"))
        state = {name.replace("_n_", "_0_"): value for name, value in given.items()}
    right = stream.load(run).process(symbols)
    np.testing.assert_allclose(np.concatenate(found)[:, 0], right, atol=1e-6)
    props = {each.key: each.value for each in onnx.load("text.onnx").metadata_props}
    assert json.loads(props["labels"]) == list(network.labels)


def test_sequences_of_any_length_in_onnx(undertow, train):
    result = undertow("export", train("classify"), "-o", "steps.onnx")
    assert result.code == 0, result.err
    assert "lengths [N]" in result.out
    assert result.out.splitlines()[-1].startswith("features of x: ")
    model = open_run(Path("classify")).load_model()
    x, lengths = torch.randn(9, 4, model.config.inputs), torch.tensor([9, 2, 5, 1])
    with torch.no_grad():
        right = model(x, lengths=lengths)[0].numpy()
    found = ran("steps.onnx", x=x.numpy(), lengths=lengths.numpy())["y"][0]
    np.testing.assert_allclose(found, right, atol=1e-6)


@pytest.mark.parametrize("options", [(), ("--head", "decoder", "--horizon", 3), ("--interval", 0)])
def test_a_forecast_and_its_interval_in_onnx(undertow, train, options):
    run = open_run(train("forecast", *options))
    result = undertow("export", run.folder, "--to", "onnx")
    assert result.code == 0, result.err
    rows = run.data.steps + run.model.ahead
    assert f"reads x [{rows},N,{run.model.inputs}]" in result.out
    assert f"a window has {rows} rows" in result.out
    table = torch.randn(80, run.model.inputs)
    starts = torch.arange(6)[:, None] + torch.arange(rows)
    right = forecast(run, table, starts)
    found = ran("forecast.onnx", x=table[starts.T].numpy())
    assert found["y"].shape == (6, run.data.horizon, len(run.data.target))
    np.testing.assert_allclose(found["y"].reshape(6, -1), right.prediction, atol=1e-5)
    assert ("lower" in found) == (right.lower is not None) == (options[:1] != ("--interval",))
    if right.lower is not None and right.upper is not None:
        np.testing.assert_allclose(found["lower"].reshape(6, -1), right.lower, atol=1e-5)
        np.testing.assert_allclose(found["upper"].reshape(6, -1), right.upper, atol=1e-5)
        assert Forecast(run)(table[starts.T])[0].shape == (6, run.data.horizon, len(run.data.target))
    made = onnx.load("forecast.onnx")
    props = {each.key: each.value for each in made.metadata_props}
    assert len(json.loads(props["features"])) == run.model.inputs
    assert str(Path.cwd()).encode() not in made.SerializeToString()
    assert b"/undertow/" not in made.SerializeToString()  # no trace of where it was made


def test_a_simulation_streams_and_exports(undertow, waves):
    options = ("--target", "level", "--group", "place", "--simulate", "--epochs", 1, "--steps", 12)
    result = undertow("train", waves, *options, "-q", "--folder", "sim")
    assert result.code == 0, result.err
    assert undertow("export", "sim", "--to", "onnx").code == 0
    model, x = open_run(Path("sim")).load_model(), torch.randn(12, 3, networks.read("sim").input_size)
    with torch.no_grad():
        right = model(x)[0].numpy()
    np.testing.assert_allclose(stream.load("sim").streams(3).process(x.numpy())[-1], right, atol=1e-5)
    lengths = np.full(3, 12)
    np.testing.assert_allclose(ran("sim.onnx", x=x.numpy(), lengths=lengths)["y"][0], right, atol=1e-5)


def test_a_program_of_pytorch(undertow, train):
    run = train("text")
    result = undertow("export", run, "--to", "torch")
    assert result.code == 0, result.err
    assert sorted(each.name for each in Path().glob("text*.*")) == ["text.py", "text_weights.safetensors"]
    symbols = np.random.default_rng(0).integers(0, networks.read(run).symbols, (20, 1))
    code = (
        f"import torch, json, text; x = torch.tensor({symbols.tolist()}); "
        "print(json.dumps(text.load()(x)[0].tolist()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    np.testing.assert_allclose(
        np.array(json.loads(found))[:, 0], stream.load(run).process(symbols), atol=1e-6
    )


@pytest.mark.parametrize("to", ["nam", "rtneural"])
def test_a_model_of_sound_goes_from_format_to_format(undertow, tmp_path, to):
    draw = np.random.default_rng(0).standard_normal
    layer = networks.Recurrent("lstm", draw((32, 1)), draw((32, 8)), draw(32))
    network = networks.Network((layer, networks.Dense(draw((1, 8)), draw(1))), sample_rate=48_000.0)
    networks.write(network, tmp_path / "amp.onnx")
    result = undertow("export", "amp.onnx", "--to", to)
    assert result.code == 0, result.err
    x = np.sin(np.arange(200, dtype=np.float32) / 9)
    path = result.out.split(": ")[1].split(",")[0]
    right = stream.load(network).process(x)
    np.testing.assert_allclose(stream.load(path).process(x), right, atol=1e-6)


def test_initial_states_that_are_not_zero_are_told(undertow, tmp_path):
    draw = np.random.default_rng(0).standard_normal
    layer = networks.Recurrent("lstm", draw((8, 1)), draw((8, 2)), draw(8), h_0=[0.5, 0], c_0=[0, -2])
    networks.write(networks.Network((layer,)), tmp_path / "amp.nam.safetensors")
    result = undertow("export", "amp.nam.safetensors", "-o", "a.onnx")
    assert "the network begins with states that are not zero: initial_states in" in result.out
    props = {each.key: each.value for each in onnx.load("a.onnx").metadata_props}
    assert json.loads(props["initial_states"]) == {"h_0_l0": [0.5, 0], "c_0_l0": [0, -2]}


def test_what_cannot_be_exported_is_said_in_one_line(undertow, train):
    train("text")
    train("forecast")
    cases = {
        ("text", "--to", "nam"): "undertow: text.nam: nam: no place for Embedding\n",
        ("text",): "undertow: --to: expected onnx, c, nam, rtneural, torch, safetensors\n",
        (
            "text",
            "--to",
            "tf",
        ): "undertow: --to: expected onnx, c, nam, rtneural, torch, safetensors, got tf\n",
        (
            "text",
            "-o",
            "a.h5",
        ): "expected onnx, c, nam, rtneural, torch, safetensors, since --output is a.h5\n",
        ("text", "--to", "onnx", "-o", "a.py"): "--output a.py: expected a name that ends in .onnx\n",
        (
            "forecast",
            "--to",
            "torch",
        ): "forecast: a forecast: its windows and its decoder have no counterpart",
        ("nothing", "--to", "onnx"): "undertow: nothing: no such file\n",
    }
    for given, words in cases.items():
        result = undertow("export", *given)
        assert (result.code, result.out) == (2, ""), given
        assert words in result.err
        assert result.err.count("\n") == 1
    assert not list(Path().glob("*.onnx")) + list(Path().glob("*.py"))


def test_files_that_exist_stay(undertow, train):
    train("text")
    for name, to in (("text.onnx", "onnx"), ("text.py", "torch"), ("text_weights.safetensors", "torch")):
        Path(name).write_text("mine")
        result = undertow("export", "text", "--to", to)
        assert result.code == 2
        assert f"{name}: " in result.err and "--overwrite" in result.err
        assert Path(name).read_text() == "mine"
        assert undertow("export", "text", "--to", to, "--overwrite").code == 0
        Path(name).unlink()


@pytest.mark.parametrize(
    ("folder", "to", "name"),
    [("text-1", "torch", "text_1.py"), ("text-1", "c", "text_1.c"), ("text-1", "onnx", "text-1.onnx"),
     ("1", "torch", "network_1.py"), ("for", "c", "network_for.c")],
)  # fmt: skip
def test_the_name_of_the_file(undertow, train, folder, to, name):
    train("text").rename(folder)
    result = undertow("export", folder, "--to", to)
    assert result.code == 0, result.err
    assert result.out.startswith(f"written: {name}, ")
    assert Path(name).exists()


def test_a_program_needs_a_name_that_can_be_imported(undertow, train):
    result = undertow("export", train("text"), "-o", "my-net.py")
    assert (result.code, "expected a name that Python can import" in result.err) == (2, True)


def test_a_text_in_c(undertow, train):
    result = undertow("export", train("text"), "--to", "c")
    assert result.code == 0, result.err
    assert "text_step" in Path("text.c").read_text()
    assert result.out.splitlines()[0].endswith(f"text.h, {Path('text.h').stat().st_size:,} bytes")


def test_an_ensemble_names_its_members(undertow, text):
    train = ("train", text, *TEXT, "--epochs", 1, "--members", 2, "-q", "--folder", "two")
    result = undertow(*train)
    assert result.code == 0, result.err
    result = undertow("export", "two", "--to", "onnx")
    assert (result.code, result.err) == (
        2,
        "undertow: two: an ensemble; export a member, such as two/members/1\n",
    )
    assert undertow("export", "two/members/1", "--to", "onnx").code == 0


def test_without_onnx_runtime_it_is_said(undertow, train, monkeypatch):
    train("text")
    monkeypatch.setattr("undertow.app.exporting.onnx.installed", lambda library: False)
    result = undertow("export", "text", "--to", "onnx")
    assert result.code == 0, result.err
    assert "not compared with the network: pip install 'undertow[onnx]' brings ONNX Runtime" in result.out


def test_weights_in_fewer_bits(undertow, train, walks):
    run = train("classify")
    result = undertow("export", run, "--to", "safetensors", "--dtype", "int8")
    assert result.code == 0, result.err
    written, *_, accuracy = result.out.splitlines()
    assert written.startswith("written: classify.safetensors, ")
    percent = r"\d+\.\d %"
    about = (
        rf"accuracy: {percent} in float32, {percent} in int8 \(\d+ answers on walks.csv, the part held back"
    )
    assert re.match(about, accuracy)
    result = undertow("export", run, "-o", "b.safetensors", "--dtype", "int8", "--data", walks)
    assert result.out.splitlines()[-1].endswith(f"answers on {Path(walks).name})")
    assert networks.read("b.safetensors").metadata["task"] == "classify"
    for options, error in (
        (("--to", "onnx", "--dtype", "int16"), "--dtype int16: expected with --to safetensors"),
        (("--to", "safetensors", "--dtype", "int4"), "--dtype: expected float32, int16, int8, got int4"),
        (("--to", "safetensors", "--data", walks), f"--data {walks}: expected with --dtype int8"),
    ):
        result = undertow("export", run, *options)
        assert result.code == 2 and error in result.err, result.err


def test_only_classes_are_told_in_8_bits(undertow, train):
    run = train("text")
    result = undertow("export", run, "--to", "safetensors", "--dtype", "int8")
    assert (result.code, result.out) == (2, "")
    assert "--dtype int8: expected the run of a classifier (--label), got text" in result.err
    result = undertow("export", run, "--to", "safetensors", "--dtype", "int16")
    assert result.code == 0, result.err


def test_what_a_state_dict_does_not_say_is_said(undertow):
    save_file(torch.nn.LSTM(2, 3).state_dict(), "a.safetensors")
    result = undertow("export", "a.safetensors", "--to", "c")
    assert result.code == 0
    assert "a.safetensors: assumed coupled=False and zoneout=0, which a state dict does not say" in result.err
