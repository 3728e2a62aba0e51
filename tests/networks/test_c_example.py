"""examples/c filters a WAV file as the stream does."""

import os
import shutil
import struct
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest

from made import draw, lstm
from undertow import networks
from undertow.networks import Dense, Network
from undertow.stream import load

EXAMPLE = Path(__file__).parents[2] / "examples/c"
STRICT = (
    "-std=c99 -pedantic -Wall -Wextra -Werror -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
)
NETWORK = Network((lstm(1, 8, h_0=draw(8)), Dense(0.1 * draw(1, 8), [0.0])), skip=1, sample_rate=44_100.0)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    for path in EXAMPLE.iterdir():
        shutil.copy(path, folder)
    networks.write(NETWORK, folder / "amp.c")
    subprocess.run(["make", "-s", "-C", folder], check=True, env=os.environ | {"CFLAGS": STRICT})
    return folder / "filter"


def filtered(program: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, folder / "in.wav", folder / "out.wav"], capture_output=True, text=True)


def streamed(x: np.ndarray) -> np.ndarray:
    """Each channel of x [T,channels] by itself."""
    return np.concatenate([load(NETWORK).process(channel[:, None]) for channel in x.T], axis=1)


def samples(T: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.9, 0.9, (T, channels)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2])
def test_16_bits(channels: int, program: Path, tmp_path: Path) -> None:
    x = np.round(samples(1000, channels) * 32768).astype("<i2")
    with wave.open(str(tmp_path / "in.wav"), "wb") as file:
        file.setparams((channels, 2, 44_100, 0, "NONE", ""))
        file.writeframes(x.tobytes())
    run = filtered(program, tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    with wave.open(str(tmp_path / "out.wav"), "rb") as file:
        assert file.getparams()[:4] == (channels, 2, 44_100, 1000)
        found = np.frombuffer(file.readframes(1000), "<i2").reshape(x.shape)
    expected = np.clip(streamed((x / 32768).astype(np.float32)), -1, 32767 / 32768)
    assert (abs(expected) < 0.99).mean() > 0.5  # not all is clipped
    assert np.abs(found - expected * 32768).max() <= 0.51


def as_floats(x: np.ndarray, rate: int = 44_100, kind: int = 3, bits: int = 32) -> bytes:
    """A WAV file with a chunk that no program knows, of an odd size."""
    channels = x.shape[1]
    about = struct.pack("<HHIIHH", kind, channels, rate, rate * 4 * channels, 4 * channels, bits)
    chunks = (
        b"fmt \x10\0\0\0" + about + b"note\3\0\0\0abc\0" + b"data" + struct.pack("<I", x.nbytes) + x.tobytes()
    )
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks


def test_floats_at_another_rate_are_filtered_and_said(program: Path, tmp_path: Path) -> None:
    x = samples(131, 2)
    (tmp_path / "in.wav").write_bytes(as_floats(x, rate=48_000))
    run = filtered(program, tmp_path)
    assert run.returncode == 0
    assert run.stderr == f"filter: {tmp_path / 'in.wav'}: has 48000 Hz, the network was made for 44100 Hz\n"
    data = (tmp_path / "out.wav").read_bytes()
    assert len(data) == 44 + x.nbytes
    assert data[:44] == as_floats(x, rate=48_000)[:36].replace(
        struct.pack("<I", len(as_floats(x)) - 8), struct.pack("<I", len(data) - 8), 1
    ) + b"data" + struct.pack("<I", x.nbytes)
    np.testing.assert_allclose(np.frombuffer(data[44:], "<f4").reshape(x.shape), streamed(x), atol=1e-6)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "expected a WAV file"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "damaged: the samples come before their format"),
        (b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0ab", "damaged: the format is cut off"),
        (b"RIFF\0\0\0\0WAVEnote\x10\0\0\0ab", "damaged: cut off"),
        (b"RIFF\0\0\0\0WAVE", "damaged: no samples"),
        (as_floats(samples(3, 1), kind=1), "expected samples of 16 bits or 32-bit floats"),
    ],
)
def test_other_files_are_refused_in_one_line(data: bytes, said: str, program: Path, tmp_path: Path) -> None:
    (tmp_path / "in.wav").write_bytes(data)
    run = filtered(program, tmp_path)
    assert (run.returncode, run.stderr) == (2, f"filter: {tmp_path / 'in.wav'}: {said}\n")
    assert not (tmp_path / "out.wav").exists()


def test_a_file_that_is_cut_off_is_filtered_as_far_as_it_goes(program: Path, tmp_path: Path) -> None:
    x = samples(300, 1)
    (tmp_path / "in.wav").write_bytes(as_floats(x)[:-402])
    assert filtered(program, tmp_path).returncode == 0
    data = (tmp_path / "out.wav").read_bytes()
    np.testing.assert_allclose(np.frombuffer(data[44:], "<f4"), streamed(x)[:199, 0], atol=1e-6)
