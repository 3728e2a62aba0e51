"""Language models: the data, the measure, and the text they write."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from inputs import TEXT
from undertow.app.data.text import Alphabet, TextTask, lanes, read_text
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig
from undertow.app.runs.folder import open_run


def data_config(path, **options):
    return DataConfig(**{"source": str(path), "task": "text", "validation": 0.1, "steps": 16} | options)


def test_characters_are_numbered_in_order(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("bäcab\r\n", encoding="utf-8", newline="")
    alphabet, symbols = read_text(path, as_bytes=False)
    assert alphabet.characters == "\n\rabcä"
    assert alphabet.encode("bäc").tolist() == symbols[:3].tolist()


def test_bytes_where_characters_do_not_serve(tmp_path):
    content = "".join(map(chr, range(300, 1500))).encode()
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    alphabet, symbols = read_text(path, as_bytes=False)
    assert alphabet == Alphabet(None)
    assert symbols.tolist() == list(content)


@pytest.mark.parametrize("content", [b"\x00\x01\x02abc", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04abc", b"PAR1abc"])
def test_binary_content_is_read_as_bytes_alone(tmp_path, content):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.txt: "):
        read_text(path, as_bytes=False)
    assert read_text(path, as_bytes=True)[1].tolist() == list(content)


def test_windows_go_on_where_the_last_ended():
    symbols = np.arange(41)
    batches = list(lanes(symbols, n=4, steps=3))
    x, y = (torch.cat([getattr(batch, name) for batch in batches]) for name in "xy")
    assert x.T.flatten().tolist() == list(range(40))
    assert (y == x + 1).all()
    assert [batch.carried for batch in batches] == [False, True, True, True]
    assert sum(len(batch.x) for batch in batches) == 10


def test_train_and_validation_share_no_symbol(text):
    task = TextTask(data_config(text), 8, 0)
    assert len(task.train) + len(task.validation) == text.stat().st_size
    assert len(task.validation) == int(0.1 * text.stat().st_size)
    assert sum(1 for _ in task.train_batches(0)) == task.steps_per_epoch()


def test_learns_a_rhyme_and_says_it(undertow, text):
    result = undertow("train", text, *TEXT, "--epochs", 12, "--lr", 0.02, "--run", "r")
    assert result.code == 0, result.err
    assert "text: rhyme.txt is no table" in result.out
    assert "bits/char" in result.out
    rows = [json.loads(line) for line in Path("r/metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["validation"] < 0.2 < 3 < rows[0]["train"]
    said = undertow("generate", "r", "--prompt", "the quick", "--length", 36, "--temperature", 0)
    assert said.out == "the quick brown fox jumps over the lazy dog.\n\n"
    assert said.err == ""


def test_measure_is_the_cross_entropy_of_the_whole_validation_part(undertow, text):
    undertow("train", text, *TEXT, "--epochs", 1, "--run", "r")
    run = open_run(Path("r"))
    model, task = run.load_model(), TextTask(run.data, run.training.batch_size, 0)
    bits, count = 0.0, 0
    lane = (len(task.validation) - 1) // 16
    for k in range(16):
        symbols = torch.from_numpy(task.validation[k * lane : (k + 1) * lane + 1])
        with torch.no_grad():
            scores = model(symbols[:-1, None])[0][:, 0].log_softmax(-1)
        bits -= float(scores.gather(1, symbols[1:, None]).sum()) / math.log(2)
        count += lane
    assert run.read_metrics()[-1]["validation"] == pytest.approx(bits / count, rel=1e-5)


def test_same_seed_same_text_and_another_seed_another(undertow, text):
    undertow("train", text, *TEXT, "--epochs", 1, "--run", "r")
    one, two, other = (undertow("generate", "r", "--seed", seed, "--length", 60).out for seed in (1, 1, 2))
    assert one == two != other
    assert len(one) == 1 + 60 + 1


def test_bytes_model_writes_readable_text(undertow, text):
    assert undertow("train", text, *TEXT, "--epochs", 1, "--bytes", "--run", "r").code == 0
    assert open_run(Path("r")).unit == "bits/byte"
    assert undertow("generate", "r", "--prompt", "né", "--length", 40).out.startswith("né")
    for verb, flag in (("generate", "--prompt"), ("inspect", "--input"), ("doctor", "--input")):
        refused = undertow(verb, "r", flag, "n\udce9")  # é in Latin-1, as Python has it
        assert refused.code == 2
        assert refused.err == f"undertow: {flag}: expected Unicode text, got 'n\\udce9'\n"
