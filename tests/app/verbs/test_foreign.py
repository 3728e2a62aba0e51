"""`undertow inspect` and `undertow doctor` on files of other programs, with tables and sound."""

import base64
import json
import re
import wave
from pathlib import Path

import numpy as np
import pytest

from browser import chromium, opened
from made import ALL, AMPLIFIER, OPTIONS, POOLED, STACKED, SYMBOLS, draw, lstm
from reference import run
from undertow import networks
from undertow.app.reading.samples import read_samples


def table(path: Path, names: str, rows: np.ndarray) -> Path:
    heading = f"{names}\n" if names else ""
    path.write_text(heading + "".join(",".join(f"{v:.6g}" for v in row) + "\n" for row in rows))
    return path


def sound(path: Path, samples: np.ndarray, width: int = 2, channels: int = 1, rate: int = 48_000) -> Path:
    whole = np.round(samples * (2 ** (8 * width - 1) - 1)).astype("<i4")
    raw = (whole + 128).astype(np.uint8) if width == 1 else whole.view(np.uint8).reshape(-1, 4)[:, :width]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.repeat(raw.reshape(len(samples), width, order="C"), channels, 0).tobytes())
    return path


def data_of(page: Path) -> dict:
    content = page.read_text(encoding="utf-8")
    start = content.index('id="undertow-data">') + len('id="undertow-data">')
    return json.loads(content[start : content.index("</script>", start)])


RANDOM = np.random.default_rng(0)


def test_a_table_with_columns_by_name_or_in_order(undertow):
    networks.write(STACKED, "net.onnx")
    x = RANDOM.uniform(-1, 1, (50, 3))
    table(Path("all.csv"), "time,a,b,c", np.column_stack([np.arange(50), x]))
    table(Path("plain.csv"), "", x)
    named = undertow("inspect", "net.onnx", "-i", "all.csv", *(w for c in "abc" for w in ("--column", c)))
    assert (named.code, named.out) == (0, "The report: net.onnx.report.html\n"), named.err
    data = data_of(Path("net.onnx.report.html"))
    assert (data["T"], data["inputNames"]) == (50, ["a", "b", "c"])
    assert "It holds no labels" in Path("net.onnx.report.html").read_text()
    assert undertow("inspect", "net.onnx", "-i", "plain.csv", "--steps", 20).code == 0
    data = data_of(Path("net.onnx.report.html"))
    assert (data["T"], data["inputNames"]) == (20, ["x0", "x1", "x2"])
    assert data["networks"][0]["onlyAtTheEnd"] is False


def test_the_page_holds_the_hidden_states_of_the_reference(undertow):
    networks.write(AMPLIFIER, "amp.nam")
    samples = np.concatenate([np.zeros(100), RANDOM.uniform(-0.5, 0.5, 300)])
    sound(Path("a.wav"), samples)
    assert undertow("inspect", "amp.nam", "-i", "a.wav", "--steps", 64, "-o", "p.html").code == 0
    data = data_of(Path("p.html"))
    given = read_samples(Path("a.wav"), AMPLIFIER)
    assert given.start in (100, 101)
    x = given.x[given.start : given.start + 64, None]
    expected = run(networks.Network(AMPLIFIER.stages[:1]), x)[:, 0]
    held = data["networks"][0]["layers"][0]["values"]["h"]
    h = np.frombuffer(base64.b64decode(held["bytes"]), held["type"]).reshape(held["shape"])
    np.testing.assert_allclose(h[-64:], expected, atol=1e-6)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_sound_of_any_width(width, tmp_path):
    samples = np.array([0.5, -0.25, 0.125, -1.0])
    found = read_samples(sound(tmp_path / "a.wav", samples, width, channels=2, rate=44_100), AMPLIFIER)
    np.testing.assert_allclose(found.x[:, 0], samples, atol=2.0 / 2 ** (8 * width - 1))
    assert found.about == "44,100 Hz, the first of 2 channels (the network was trained at 48,000 Hz)"


def test_symbols_by_number_or_name(undertow):
    networks.write(SYMBOLS, "net.onnx")
    Path("a.txt").write_text("\n".join("abcabcgfedabc"))
    assert undertow("inspect", "net.onnx", "-i", "a.txt").code == 0
    assert data_of(Path("net.onnx.report.html"))["symbols"] == list("abcabcgfedabc")
    Path("a.txt").write_text("\n".join("0120126"))
    assert undertow("inspect", "net.onnx", "-i", "a.txt").code == 0
    assert data_of(Path("net.onnx.report.html"))["symbols"] == list("abcabcg")
    Path("a.txt").write_text("0\n7\n")
    assert undertow("inspect", "net.onnx", "-i", "a.txt").err == (
        "undertow: a.txt: line 2: expected a symbol's number from 0 to 6, got '7'\n"
    )


def test_two_networks_side_by_side(undertow):
    for name in ("a.safetensors", "b.onnx"):
        networks.write(STACKED, name)
    table(Path("x.csv"), "", RANDOM.uniform(-1, 1, (30, 3)))
    result = undertow("inspect", "a.safetensors", "--compare", "b.onnx", "-i", "x.csv")
    assert result.code == 0, result.err
    page = data_of(Path("a.safetensors.report.html"))
    assert [each["name"] for each in page["networks"]] == ["a.safetensors", "b.onnx"]
    networks.write(SYMBOLS, "c.onnx")
    assert (
        "cannot read what a.safetensors reads"
        in undertow("inspect", "a.safetensors", "--compare", "c.onnx", "-i", "x.csv").err
    )


def test_the_doctor_says_what_it_can_without_labels(undertow):
    networks.write(AMPLIFIER, "amp.nam")
    sound(Path("a.wav"), RANDOM.uniform(-0.5, 0.5, 2000))
    result = undertow("doctor", "amp.nam", "-i", "a.wav", "--lag", 30)
    assert result.code == 0, result.err
    said = " ".join(result.out.split())
    assert "amp.nam: LSTM, 1 layer of 5 units, 156 parameters; read 16 pieces of 125 steps of a.wav" in said
    assert "It holds no labels: the error E is half the squared output, ½|y|², at each step." in said
    assert "Not learning: no loss of a guess to compare with is known" in said
    assert "Memory horizon" not in said.split("not judged")[-1]
    page = Path("amp.nam.doctor.html").read_text()
    assert "undertow inspect amp.nam --input a.wav" in page


def test_modules_without_a_kernel_are_named_and_the_others_shown(undertow):
    networks.write(OPTIONS, "net.safetensors")
    table(Path("x.csv"), "", RANDOM.uniform(-1, 1, (30, 3)))
    assert undertow("inspect", "net.safetensors", "-i", "x.csv").code == 0
    page = Path("net.safetensors.report.html").read_text()
    assert "Not shown: rnn_3: layer 0: nothing was recorded of this call: projections" in page
    assert "Shown is rnn of rnn, rnn_2." in page


@pytest.mark.parametrize("kind", ["mean-max", "ends"])
def test_one_answer_at_the_end(undertow, kind):
    networks.write(POOLED[kind], "net.safetensors")
    table(Path("x.csv"), "", RANDOM.uniform(-1, 1, (30, 2)))
    assert undertow("inspect", "net.safetensors", "-i", "x.csv").code == 0
    page = Path("net.safetensors.report.html").read_text()
    assert "half the squared output, ½|y|², after the last step" in page
    assert undertow("doctor", "net.safetensors", "-i", "x.csv").code == 0


@pytest.mark.parametrize(
    ("name", "rows", "more", "words"),
    [
        ("stacked", None, (), "net.safetensors: the file holds no data; give them with --input FILE"),
        ("stacked", "a,b\n1,2\n", (), "x.csv: has 2 columns, and the network reads 3"),
        ("stacked", "a,b,c,d\n1,2,3,4\n", (), "has 4 columns, .* 3; --column NAME picks them"),
        ("stacked", "a,b,c\n1,2,3\n", ("--column", "z"), "no column 'z' .--column.; columns: a, b, c"),
        ("stacked", "a,b,c\n1,2,3\n", ("--column", "a"), "--column: the network reads 3 columns, got 1"),
        ("stacked", "a,b,c\n1,2,3\n4,x,6\n", (), "x.csv: line 3, column 2: expected a number, got 'x'"),
        ("stacked", "a,b,c\n1,2,3\n4,6\n", (), "x.csv: line 3 has 2 values, expected 3"),
        ("stacked", "a,b,c\n1,2,3\n", (), "x.csv: expected 2 steps or more, got 1"),
        ("projected", "1,2,3\n" * 9, (), "net.safetensors: rnn cannot be shown: layer 0: .*projections"),
    ],
)  # fmt: skip
def test_refused(undertow, name, rows, more, words):
    projected = networks.Network((lstm(3, 4, 2, weight_hr=draw(2, 4)),))
    networks.write(ALL.get(name, projected), "net.safetensors")
    given = () if rows is None else ("-i", "x.csv")
    if rows is not None:
        Path("x.csv").write_text(rows)
    for verb in ("inspect", "doctor"):
        result = undertow(verb, "net.safetensors", *given, *more)
        assert result.code == 2 and result.err.count("\n") == 1
        assert re.search(words, result.err), result.err


def test_files_that_are_no_network_or_no_sound(undertow):
    Path("a.txt").write_text("hello")
    assert "a.txt: expected a network as .nam, RTNeural" in undertow("inspect", "a.txt", "-i", "a.txt").err
    networks.write(AMPLIFIER, "amp.nam")
    Path("a.wav").write_bytes(b"RIFF1234WAVE")
    assert "a.wav: no recording that libsndfile reads" in undertow("doctor", "amp.nam", "-i", "a.wav").err
    networks.write(OPTIONS, "b.safetensors")
    sound(Path("a.wav"), np.ones(50))
    assert (
        "sound has one value a step, and the network reads 3"
        in undertow("inspect", "b.safetensors", "-i", "a.wav").err
    )


def test_a_run_knows_its_columns(undertow):
    Path("run").mkdir()
    assert "a run knows its columns" in undertow("inspect", "run", "--column", "a").err


def test_the_page_opens_at_any_width(undertow):
    networks.write(STACKED, "net.onnx")
    table(Path("x.csv"), "a,b,c", RANDOM.uniform(-1, 1, (60, 3)))
    assert undertow("inspect", "net.onnx", "-i", "x.csv").code == 0
    assert undertow("doctor", "net.onnx", "-i", "x.csv").code == 0
    with chromium() as browser:
        for name in ("net.onnx.report.html", "net.onnx.doctor.html"):
            for width in (1280, 390):
                with opened(browser, Path(name), width=width) as page:
                    assert page.evaluate("document.documentElement.scrollWidth") <= width
                    assert "It holds no labels" in page.inner_text("body")
