"""Language models: the data, the measure, and the text they write."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from inputs import TEXT
from undertow.app.data.tasks.text import TextTask, excerpts, lanes
from undertow.app.data.texts.alphabet import Bytes
from undertow.app.data.texts.streams import Stream
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig, ModelConfig
from undertow.app.runs.folder import open_run
from undertow.app.runs.model import SequenceModel
from undertow.app.runs.objective import Objective, Score
from undertow.problems import UNSCORED


def data_config(path, **options):
    return DataConfig(**{"source": str(path), "task": "text", "validation": 0.1, "steps": 16} | options)


def first_symbols(path, n=3, **options):
    task = TextTask(data_config(path, steps=1, **options), 1, 0)
    return task.alphabet, task.train.symbols[:n].tolist()


def test_characters_are_numbered_in_order(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("bäcab\r\n" * 4, encoding="utf-8", newline="")
    alphabet, symbols = first_symbols(path)
    assert alphabet.vocabulary == [*"\n\rabcä"]
    assert alphabet.encode("bäc").tolist() == symbols == [3, 5, 4]


def test_bytes_where_characters_do_not_serve(tmp_path):
    content = "".join(map(chr, range(300, 1500))).encode()
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    alphabet, symbols = first_symbols(path, 1000)
    assert alphabet == Bytes([])
    assert symbols == list(content[:1000])
    assert first_symbols(path, symbols="characters")[0].size == 1200


@pytest.mark.parametrize("content", [b"\x00\x01\x02abc", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04abc", b"PAR1abc"])
def test_binary_content_is_read_as_bytes_alone(tmp_path, content):
    path = tmp_path / "a.txt"
    path.write_bytes(content * 9)
    with pytest.raises(UserError, match=r"a\.txt: "):
        first_symbols(path)
    assert first_symbols(path, 6, symbols="bytes")[1] == list(content[:6])
    task = TextTask(data_config(path, steps=1, symbols="bytes"), 1, 0)
    assert task.objective.unit == ("bits/char" if content == b"PAR1abc" else "bits/byte")


def test_windows_go_on_where_the_last_ended():
    symbols = np.arange(41)
    batches = list(lanes(Stream(symbols, symbols == 0), n=4, steps=3))
    x, y = (torch.cat([getattr(batch, name) for batch in batches]) for name in "xy")
    assert x.T.flatten().tolist() == list(range(40))
    assert (y == x + 1).all()
    assert [batch.carried for batch in batches] == [False, True, True, True]
    assert sum(len(batch.x) for batch in batches) == 10
    assert [batch.reset for batch in batches] == [None] * 4


def test_no_document_is_predicted_from_the_one_before(tmp_path):
    symbols, begins = np.arange(20), np.isin(np.arange(20), [0, 3, 10, 11])
    batches = list(lanes(Stream(symbols, begins), n=2, steps=4))
    x, y, reset = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("x", "y", "reset"))
    assert x.T.tolist() == [list(range(9)), list(range(9, 18))]
    expected = [UNSCORED if k in (3, 10, 11) else k for k in range(1, 19)]
    assert y.T.flatten().tolist() == expected
    assert reset.T.flatten().tolist() == begins[:18].tolist()


def test_train_and_validation_share_no_symbol(text):
    task = TextTask(data_config(text), 8, 0)
    assert len(task.train) + len(task.validation) == text.stat().st_size
    assert len(task.validation) == int(0.1 * text.stat().st_size)
    assert sum(1 for _ in task.train_batches(0)) == task.steps_per_epoch()


def test_each_document_is_read_from_a_zero_state():
    torch.manual_seed(0)
    model = SequenceModel(ModelConfig("lstm", 8, 2, 0.0, 5, "every", symbols=5, width=4)).eval()
    documents = [np.random.default_rng(0).integers(5, size=n) for n in (7, 1, 12, 4)]
    begins = np.zeros(24, bool)
    begins[[0, 7, 8, 20]] = True
    state, outputs = None, []
    for batch in lanes(Stream(np.concatenate(documents), begins), n=1, steps=5):
        output, state = model(batch.x, state if batch.carried else None, reset=batch.reset)
        outputs.append(output[:, 0])
    alone = torch.cat([model(torch.from_numpy(each)[:, None])[0][:, 0] for each in documents])
    torch.testing.assert_close(torch.cat(outputs), alone[:-1])


def test_excerpts_lie_within_documents_and_do_not_overlap_more_than_they_must():
    begins = np.zeros(40, bool)
    begins[[0, 4, 20]] = True
    text = Stream(np.arange(40), begins)
    batch = excerpts(text, 2, 6)
    assert batch.x.T.tolist() == [list(range(4, 10)), list(range(33, 39))]
    assert (batch.y == batch.x + 1).all()
    assert excerpts(text, 99, 6).x.shape == (6, 5)
    assert excerpts(text, 1, 1000).x.T.tolist() == [list(range(20, 39))]


def test_a_batch_without_targets_counts_nothing():
    objective, score = Objective("bits", "bits/char"), Score()
    output = torch.randn(2, 3, 5, requires_grad=True)
    y = torch.full((2, 3), UNSCORED)
    loss = objective.loss(output, y)
    loss.backward()
    assert loss == 0
    assert not output.grad.any()
    score.add(loss.item(), output, y, "bits")
    assert score.count == 0


def test_the_score_is_bits_by_character_whatever_the_symbols(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("naïve old cat, naïve old dog. " * 60 + "unheard", encoding="utf-8")
    task = TextTask(data_config(path, symbols="bytes"), 1, 0)
    held_back = path.read_bytes()[-len(task.validation) :].decode(errors="replace")
    assert task.objective.scale == len(task.validation) / len(held_back) > 1
    assert Score(3 * math.log(2), 3).value(task.objective) == pytest.approx(task.objective.scale)
    words = TextTask(data_config(path, symbols="words"), 1, 0)
    held_back = path.read_text("utf-8")[-180:]
    assert words.objective.scale == len(words.validation) / 180
    letters = len(set("naïveoldcatdog,. "))
    spelt = words.alphabet.unknown(held_back)
    assert spelt[-1] == " unheard"
    assert words.objective.extra == pytest.approx(
        sum(len(w) + 1 for w in spelt) * math.log2(letters + 1) / 180
    )
    assert "of those that validate are unknown" in words.facts.lines[1]


def test_what_was_inferred_is_said(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(map(chr, range(300, 1500))), encoding="utf-8")
    assert TextTask(data_config(path, steps=1), 1, 0).facts.lines == [
        "1,200 characters; the last 120 validate",
        "symbols: bytes, since 1,200 characters are different (--symbols overrides)",
    ]
    path.write_text("abba" * 50, encoding="utf-8")
    assert TextTask(data_config(path, steps=1), 1, 0).facts.lines[1] == "symbols: characters, 2 different"


def test_several_files_are_documents(undertow, text):
    for name in ("b", "c"):
        Path(f"{name}.txt").write_text(text.read_text()[:900])
    result = undertow("train", text, "b.txt", "c.txt", *TEXT, "--epochs", 1, "--folder", "r")
    assert "5,400 characters in 3 files, each from a zero state; the end of each validates, 540" in result.out
    assert undertow("train", "--resume", "r", "--epochs", 2).code == 0
    assert undertow("inspect", "r").code == undertow("doctor", "r").code == 0
    Path("many").mkdir()
    for k in range(30):
        Path(f"many/{k:02}.txt").write_text(text.read_text()[: 450 + k % 3])
    result = undertow("train", "many", *TEXT, "--epochs", 1, "--folder", "s")
    said = "13,530 characters in 30 files, each from a zero state; [23] whole files validate, with [0-9,]+\n"
    assert re.search(said, result.out)
    assert undertow("inspect", "s").code == undertow("doctor", "s").code == 0


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_words_and_pairs_work_in_every_verb(undertow, text, kind):
    text.write_text(text.read_text() + "unheard of things " * 3)
    given = (
        text,
        *TEXT,
        "--symbols",
        kind,
        "--vocabulary",
        300,
        "--epochs",
        30,
        "--lr",
        0.02,
        "--folder",
        "r",
    )
    result = undertow("train", *given)
    assert result.code == 0, result.err
    unit = {"words": "word", "bpe": "token"}[kind]
    assert " bits/char (perplexity " in result.out
    assert f" per {unit}) on the validation part" in result.out
    said = undertow("generate", "r", "--prompt", "the quick brown", "--length", 6, "--temperature", 0)
    assert said.out.startswith("the quick brown fox jumps over ")
    assert f" per {unit})" in undertow("info", "r").out
    for verb in ("inspect", "doctor"):
        assert undertow(verb, "r").code == undertow(verb, "r", "--input", "the brown zebra fox").code == 0
    assert "generate" in undertow("predict", "r", text).err
    kept = open_run(Path("r")).facts
    assert undertow("train", "--resume", "r", "--epochs", 31, "--patience", 99).code == 0
    assert open_run(Path("r")).facts == kept


def test_an_unknown_word_is_never_written_and_one_of_the_prompt_is_named(undertow, text):
    undertow("train", text, *TEXT, "--symbols", "words", "--epochs", 1, "--folder", "r")
    said = undertow("generate", "r", "--prompt", "the zebra", "--temperature", 1e6, "--length", 400)
    assert "<unk>" not in said.out
    assert said.err == "undertow: --prompt: read as <unk>, since the model does not know it: zebra\n"


def test_learns_a_rhyme_and_says_it(undertow, text):
    result = undertow("train", text, *TEXT, "--epochs", 12, "--lr", 0.02, "--folder", "r")
    assert result.code == 0, result.err
    assert "text: rhyme.txt is no table" in result.out
    assert "bits/char" in result.out
    rows = [json.loads(line) for line in Path("r/metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["validation"] < 0.2 < 3 < rows[0]["train"]
    said = undertow("generate", "r", "--prompt", "the quick", "--length", 36, "--temperature", 0)
    assert said.out == "the quick brown fox jumps over the lazy dog.\n\n"
    assert said.err == ""


def test_measure_is_the_cross_entropy_of_the_whole_validation_part(undertow, text):
    undertow("train", text, *TEXT, "--epochs", 1, "--folder", "r")
    run = open_run(Path("r"))
    model, task = run.load_model(), TextTask(run.data, run.training.batch_size, 0)
    bits, count = 0.0, 0
    lane = (len(task.validation) - 1) // 16
    for k in range(16):
        symbols = torch.from_numpy(task.validation.symbols[k * lane : (k + 1) * lane + 1])
        with torch.no_grad():
            scores = model(symbols[:-1, None])[0][:, 0].log_softmax(-1)
        bits -= float(scores.gather(1, symbols[1:, None]).sum()) / math.log(2)
        count += lane
    assert run.read_metrics()[-1]["validation"] == pytest.approx(bits / count, rel=1e-5)


def test_same_seed_same_text_and_another_seed_another(undertow, text):
    undertow("train", text, *TEXT, "--epochs", 1, "--folder", "r")
    one, two, other = (undertow("generate", "r", "--seed", seed, "--length", 60).out for seed in (1, 1, 2))
    assert one == two != other
    assert len(one) == 60 + 1  # and the end of the line


def test_bytes_model_writes_readable_text(undertow, text):
    assert undertow("train", text, *TEXT, "--epochs", 1, "--symbols", "bytes", "--folder", "r").code == 0
    assert open_run(Path("r")).unit == "bits/char"
    assert undertow("generate", "r", "--prompt", "né", "--length", 40).out.startswith("né")
    for verb, flag in (("generate", "--prompt"), ("inspect", "--input"), ("doctor", "--input")):
        refused = undertow(verb, "r", flag, "n\udce9")  # é in Latin-1, as Python has it
        assert refused.code == 2
        assert refused.err == f"undertow: {flag}: expected Unicode text, got 'n\\udce9'\n"
