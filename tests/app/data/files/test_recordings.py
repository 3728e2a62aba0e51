"""Files of sound: any sample format comes in as float32, and what is no sound is refused in a line."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sounds import plucked, write
from undertow.app.data.files.recordings import BLOCK, convert, read
from undertow.app.errors import UserError

FORMATS = {
    "PCM_U8": (".wav", 7), "PCM_16": (".wav", 15), "PCM_24": (".wav", 23), "PCM_32": (".wav", 23),
    "FLOAT": (".wav", 24), "DOUBLE": (".wav", 24),
}  # fmt: skip


@pytest.mark.parametrize("subtype", FORMATS)
def test_any_sample_format(tmp_path, subtype):
    ending, bits = FORMATS[subtype]
    x = plucked(0.2)
    found = read(write(tmp_path / f"a{ending}", x, 44_100, subtype))
    assert (found.rate, found.samples.dtype, found.samples.shape) == (44_100, np.float32, (len(x), 1))
    np.testing.assert_allclose(found.samples[:, 0], x, atol=2.0**-bits)


@pytest.mark.parametrize("ending", ["flac", "aiff", "wav"])
def test_channels_of_other_containers(tmp_path, ending):
    x = np.column_stack([plucked(0.2), plucked(0.2, seed=1)])
    found = read(write(tmp_path / f"a.{ending}", x, subtype="PCM_24"))
    np.testing.assert_allclose(found.samples, x, atol=2.0**-23)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read(path)
    return str(error.value)


def test_what_is_no_sound_is_refused(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF1234WAVE")
    (tmp_path / "b.wav").write_text("x,y\n1,2\n")
    write(tmp_path / "c.wav", np.empty(0))
    for name in ("a.wav", "b.wav"):
        assert refusal(tmp_path / name).startswith(f"{tmp_path / name}: no recording that libsndfile reads: ")
    assert refusal(tmp_path / "c.wav") == f"{tmp_path / 'c.wav'}: the recording is empty"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sample_that_is_no_number_is_refused(tmp_path, value):
    x = plucked(1)
    x[4000] = value
    path = write(tmp_path / "a.wav", x)
    assert refusal(path) == f"{path}: sample 4,000 (at 0.500 s) is {value}; expected finite numbers"


def test_a_recording_is_converted_block_by_block(tmp_path):
    x = np.tile(np.column_stack([plucked(1), plucked(1, seed=1)]), (10, 1))
    assert len(x) > BLOCK
    begun = []
    peak = convert(
        write(tmp_path / "a.wav", x),
        tmp_path / "b.wav",
        lambda rate, channels: begun.append((rate, channels)) or (lambda block: 3 * block),
    )
    assert begun == [(8000, 2)]
    made, rate = soundfile.read(tmp_path / "b.wav", dtype="float32")
    assert (rate, soundfile.info(tmp_path / "b.wav").subtype) == (8000, "FLOAT")
    np.testing.assert_array_equal(made, 3 * x)
    assert peak == np.abs(3 * x).max() > 1  # nothing is clipped


def test_a_failure_leaves_no_file(tmp_path):
    x = np.tile(plucked(1), 10)
    x[-1] = np.nan
    with pytest.raises(UserError, match="is nan"):
        convert(write(tmp_path / "a.wav", x), tmp_path / "b.wav", lambda *_: np.negative)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
