"""Sound from two recordings to a network that plays: train, predict, evaluate, the stream, other formats."""

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import undertow as package
from sounds import RATE, SOUND, delayed, driven, played, plucked, write
from undertow import networks, stream
from undertow.app import metrics
from undertow.app.runs.folder import open_run
from undertow.app.terminal import Terminal
from undertow.app.training import summary


def test_a_known_network_is_learnt(undertow):
    """The truth is an LSTM, so one of more units can come as close as its training lets it."""
    x = plucked(5)
    write(Path("x.wav"), x)
    write(Path("y.wav"), delayed(played(x), 30))
    result = undertow("train", "x.wav", "y.wav", *SOUND, "--epochs", 10, "--lr", 0.02, "--folder", "r")
    assert result.code == 0, result.err
    assert "sound: x.wav is a recording" in result.out
    assert "y.wav lags by" in result.out
    best = min(row["validation"] for row in open_run(Path("r")).read_metrics())
    assert best < 1e-3
    assert f"{best:.4g} ESR on the validation part" in result.out
    assert re.search(r"linear filter, 512 taps +0\.\d+ ESR +beaten by (9\d|100)%", result.out)
    assert "undertow predict r INPUT.wav -o OUTPUT.wav" in result.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("clean.wav",), "clean.wav: expected two recordings, before the device and after it: undertow"),
        (("clean.wav", "amp.wav", "amp.wav"), "amp.wav: given 2 times; expected once"),
        (("clean.wav", "b.wav"), "b.wav: no such file"),
        (("clean.wav", "a.mp3"), "a.mp3: mp3 loses samples; expected WAV, FLAC or AIFF"),
        (("a.mp3", "clean.wav"), "a.mp3: mp3 loses samples; expected WAV, FLAC or AIFF"),
        (("clean.wav", "a.csv"), "clean.wav: expected two recordings"),
        (("sounds",), "sounds: expected two recordings"),
        (("clean.wav", "amp.wav", "--target", "x"), "--target: has no meaning for task sound (clean.wav is"),
        (("clean.wav", "amp.wav", "--members", 2), "--members: has no meaning for task sound"),
        (("clean.wav", "amp.wav", *SOUND, "--select", "mae"), "--select mae: expected loss, last for this"),
        (("clean.wav", "amp.wav", "--steps", 1), "--steps 1: expected 2 or more"),
        (("clean.wav", "amp.wav", "--delay", 99_999), "--delay 99999: the recordings have 16,000 samples"),
        (("clean.wav", "amp.wav", "--channel", 0), "--channel 0: expected a whole number from 1"),
        (("clean.wav", "amp.wav", "--emphasis", 1), "--emphasis 1.0: expected a number from 0 below 1"),
    ],
)  # fmt: skip
def test_a_command_that_does_not_fit_is_refused_in_a_line(undertow, amp, words, said):
    Path("a.mp3").write_text("not silence")
    Path("a.csv").write_text("x,y\n1,2\n")
    Path("sounds").mkdir()
    write(Path("sounds") / "a.wav", plucked(1))
    result = undertow("train", *words, "--folder", "r")
    assert result.code == 2
    assert said in result.err.replace(f"{amp[0].parent}/", "")
    assert result.err.count("\n") == 1
    assert not Path("r").exists()


def test_without_soundfile_the_command_says_what_to_install(undertow, trained, amp, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    for words in (("train", *amp), ("predict", trained["plain"].folder, amp[0], "-o", "o.wav")):
        result = undertow(*words)
        assert result.code == 2
        assert f"{amp[0]}: sound needs soundfile: pip install 'undertow[sound]'" in result.err


# -- a trained run --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs without and with skip, of loud and of faint recordings."""
    folder, x = tmp_path_factory.mktemp("sound"), plucked(2)
    write(folder / "clean.wav", 0.02 * x)
    write(folder / "amp.wav", delayed(driven(x), 9))
    found = {}
    for name, skip in (("plain", False), ("skip", True)):
        found[name] = package.train(
            [folder / "clean.wav", folder / "amp.wav"], folder=folder / name, quiet=True, hidden_size=8,
            batch_size=8, steps=64, epochs=2, skip=skip, num_layers=1 + skip,
        )  # fmt: skip
    return found


def through_module(run, x):
    with torch.no_grad():
        return run.model(torch.from_numpy(x)[:, None, None])[0][:, 0, 0].numpy()


@pytest.mark.parametrize("name", ["plain", "skip"])
def test_the_stream_plays_what_the_module_computes(trained, name):
    x = 0.02 * plucked(1, seed=4)
    expected = through_module(trained[name], x)
    s = stream.load(trained[name].folder)
    assert (s.network.sample_rate, s.network.skip) == (RATE, name == "skip")
    found = np.concatenate([s.process(block) for block in np.split(x, [7, 100, 4096])])
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "ending"), [("plain", "nam"), ("plain", "json"), ("plain", "onnx"), ("skip", "json")]
)
def test_a_run_goes_into_files_of_other_programs(trained, tmp_path, name, ending):
    x = 0.02 * plucked(1, seed=4)
    networks.write(networks.read(trained[name].folder), tmp_path / f"a.{ending}")
    again = networks.read(tmp_path / f"a.{ending}")
    if ending != "onnx":
        assert again.sample_rate == RATE
    expected = stream.load(trained[name].folder).process(x)
    np.testing.assert_allclose(stream.load(again).process(x), expected, atol=1e-6 * np.abs(expected).max())


def test_nam_has_no_place_for_skip(trained, tmp_path):
    with pytest.raises(networks.Unsupported, match="nam: no place for skip"):
        networks.write(networks.read(trained["skip"].folder), tmp_path / "a.nam")


@pytest.mark.parametrize(("name", "target"), [("plain", "nam"), ("skip", "rtneural")])
def test_the_export_that_a_training_suggests_works(undertow, trained, name, target):
    screen = io.StringIO()
    summary.following(Terminal(file=screen), open_run(trained[name].folder))
    export = next(line.split() for line in screen.getvalue().splitlines() if " export " in line)
    assert export[-1] == target
    result = undertow(*export[1:])
    assert result.code == 0, result.err


def test_predict_plays_every_channel_into_a_float_file(undertow, trained):
    run = trained["plain"]
    both = np.column_stack([plucked(10, seed=4), 0.02 * plucked(10, seed=5)])  # one as loud as nothing known
    write(Path("in.wav"), both, subtype="PCM_24")
    result = undertow("predict", run.folder, "in.wav", "-o", "out.wav")
    assert result.code == 0, result.err
    assert re.match(r"10\.0 s at 8,000 Hz, 32-bit float, peak \d.*dB\), written to out\.wav", result.out)
    made, rate = soundfile.read("out.wav", dtype="float32")
    assert (rate, soundfile.info("out.wav").subtype) == (RATE, "FLOAT")
    given, _ = soundfile.read("in.wav", dtype="float32")
    for k in range(2):
        np.testing.assert_array_equal(made[:, k], stream.load(run.folder).process(np.array(given[:, k])))
    assert f"peak {np.abs(made).max():.3g} " in result.out
    np.testing.assert_array_equal(run.predict("in.wav"), made)
    np.testing.assert_array_equal(run.predict(given[:, 0]), made[:, 0])


def test_predict_refuses_in_a_line(undertow, trained, amp):
    folder = trained["plain"].folder
    write(Path("fast.wav"), plucked(1), 2 * RATE)
    for words, said in (
        (("fast.wav", "-o", "o.wav"), "fast.wav: 16,000 samples a second, and"),
        (("clean.wav",), "--output: expected the WAV file to write"),
        (("clean.wav", "-o", "o.flac"), "--output o.flac: expected a name that ends in .wav"),
        (("clean.wav", "-o", "o.wav", "--gaps", "fill"), "--gaps fill: has no meaning for task sound"),
        (("no.wav", "-o", "o.wav"), "no.wav: no such file"),
    ):
        result = undertow("predict", folder, *words)
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert said in result.err
    assert not Path("o.wav").exists()
    with pytest.raises(package.UserError, match="--gaps fill: has no meaning for task sound"):
        trained["plain"].predict("clean.wav", gaps="fill")
    for wrong in (3.0, np.zeros((2, 2, 2)), [], {}, None):
        with pytest.raises(package.UserError, match=r"sound: expected a path or samples \[n\]"):
            trained["plain"].predict(wrong)


def test_evaluate_finds_the_error_of_the_training_again(undertow, trained):
    run = trained["plain"]
    rows = run.evaluate()
    mine, gain, linear = rows.iter_rows(named=True)
    best = run.metrics["validation"].min()
    assert mine["esr"] == pytest.approx(best, rel=1e-4)
    assert mine["esr_db"] == pytest.approx(10 * np.log10(best), abs=1e-3)
    kept = open_run(run.folder).baselines
    assert [gain["esr"], linear["esr"]] == pytest.approx(list(kept.values()))
    said = undertow("evaluate", run.folder).out
    assert f"ESR                      {mine['esr']:.4g}" in said
    assert "chose the weights" in said
    assert "ESR against the baselines" in said


def test_evaluate_on_other_recordings(undertow, trained):
    run, x = trained["plain"], 0.02 * plucked(2, seed=8)
    y = delayed(driven(plucked(2, seed=8)), 50)
    write(Path("a.wav"), x)
    write(Path("b.wav"), y)
    found = run.evaluate(["a.wav", "b.wav"])
    late = int(
        re.search(r"b\.wav lags by (\d+) samples", undertow("evaluate", run.folder, "a.wav", "b.wav").out)[1]
    )
    assert 42 <= late <= 50
    expected = stream.load(run.folder).process(x)[: len(x) - late]
    assert found["esr"][0] == pytest.approx(metrics.esr(y[late:], expected), rel=1e-6)
    assert found["n"][0] == len(x) - late
    for words, said in (
        (("a.wav",), "a.wav: task sound: expected two recordings, INPUT.wav TARGET.wav, got 1"),
        (("a.wav", "no.wav"), "no.wav: no such file"),
        (("--picture", "p.png"), "--picture p.png: task sound has no picture"),
        (("--backtest", 2), "--backtest: has no meaning for task sound"),
    ):
        result = undertow("evaluate", run.folder, *words)
        assert (result.code, said in result.err) == (2, True), result.err


def test_a_missing_target_is_named(undertow, amp):
    assert undertow("train", *amp, *SOUND, "--epochs", 1, "--folder", "r").code == 0
    amp[1].unlink()
    for words in (("evaluate", "r"), ("inspect", "r"), ("train", "--resume", "r", "--epochs", 2)):
        result = undertow(*words)
        assert (result.code, f"{amp[1]}: no such file" in result.err) == (2, True), result.err


def test_a_run_is_seen_with_and_without_its_target(undertow, trained, amp):
    folder = trained["plain"].folder
    for verb, page in (("inspect", "report.html"), ("doctor", "doctor.html")):
        assert undertow(verb, folder).code == 0
        assert "the part held back for validation" in (folder / page).read_text()
        assert undertow(verb, folder, "--input", "clean.wav").code == 0
        assert "It holds no labels" in (folder / page).read_text()
    said = undertow("info", folder).out
    assert "clean.wav to " in said
    assert "sample rate 8000" in said


def test_weights_are_taken_over_and_levels_with_them(undertow, trained, amp):
    options = ("--init-from", trained["plain"].folder, "--epochs", 1, "--lr", 1e-7, "--batch-size", 8)
    result = undertow("train", *amp, *options, "--folder", "new")
    assert result.code == 0, result.err
    assert "amp.wav has no delay" in result.out  # and not that of the other run
    old, new = (open_run(Path(each)).load_model().state_dict() for each in (trained["plain"].folder, "new"))
    for name, value in old.items():
        torch.testing.assert_close(new[name], value, atol=1e-5, rtol=0)
