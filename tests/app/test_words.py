"""Names and values from data: printed as they stand, whatever they hold, in every verb and every picture."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inputs import CLASSIFY, FORECAST, TEXT, walk_table, wave_table
from undertow.app import cli, words
from undertow.app.terminal import Terminal, marked

NASTY = "rate [/h] \x1b[31m $a_{$ :smile:"  # markup, an escape sequence, a broken formula, an emoji code
SEEN = "rate [/h] ␛[31m $a_{$ :smile:"
SHORT = ("--epochs", 1, "-q")


def printed(*values, width=80):
    terminal = Terminal(width=width, force_terminal=False)
    with terminal.capture() as capture:
        terminal.print(*values)
    return capture.get()


@given(st.text(st.characters(codec="utf-8")))
def test_whatever_is_printed_no_control_character_comes_out(text):
    for shown in (printed(text), printed(marked("[bold]{text}[/]", text=text)), words.cell(text)):
        assert not words.HARMFUL.search(shown)


def test_data_are_printed_as_they_stand():
    assert printed(NASTY).rstrip() == SEEN
    assert printed(marked("[bold]{name}[/]", name=NASTY)).rstrip() == SEEN
    assert words.line("a\nb\tc\r") == "a↵b c␍"
    assert words.visible("a\nb\tc \x85\u202e\x7f") == "a\nb\tc ��␡"
    assert words.cell("x" * 41) == "x" * 39 + "…" and words.cell("x" * 40) == "x" * 40


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((1, "row"), "the row"),
        ((3, "row"), "the 3 rows"),
        ((3, "row", 3), "the 3 rows"),
        ((3, "row", 1), "the last of 3 rows"),
        ((3, "row", 2, "first"), "the first 2 of 3 rows"),
    ],
)
def test_all_things_or_some_of_them(asked, said):
    assert words.all_of(*asked) == said


def test_nouns_with_a_plural_of_their_own():
    assert [words.counted(n, "stretch", "stretches") for n in (1, 2)] == ["1 stretch", "2 stretches"]


@pytest.mark.parametrize(
    ("n", "said"), [(0, "0 steps"), (1, "1 step"), (1.0, "1 step"), (0.5, "0.5 steps"), (1000, "1,000 steps")]
)
def test_one_thing_has_no_s(n, said):
    assert words.counted(n, "step") == said


@pytest.fixture
def run(undertow):
    """A forecast of, from and grouped by names that are markup, escape sequences and broken formulas."""
    table = wave_table(160).rename({"level": NASTY, "place": "[bold]", "sky": "[/x]"})
    table = table.with_columns(pl.col("[/x]") + " \x1b]0;title\x07[/]", pl.col("[bold]") + "[/]" + "w" * 90)
    table.write_csv("$waves$ [red].csv")
    options = ["--target", NASTY, "--group", "[bold]", *FORECAST[4:]]
    result = undertow("train", "$waves$ [red].csv", *options, "--folder", "run", *SHORT[:2])
    assert result.code == 0, result.err
    assert SEEN in result.out and "[/x]" in result.out and "$waves$ [red].csv" not in result.err
    assert not words.HARMFUL.search(result.out)
    assert Path("run/curve.png").exists()
    return Path("run")


def test_every_verb_prints_a_forecast_s_names_as_they_stand(undertow, run):
    for verb in (
        ("info", run), ("inspect", run), ("doctor", run),
        ("predict", run, "$waves$ [red].csv", "-o", "out.csv"),
    ):  # fmt: skip
        result = undertow(*verb)
        assert result.code == 0, result.err
        assert not words.HARMFUL.search(result.out), verb
    assert SEEN in result.out
    assert "south[/]" + "w" * 31 + "…" in result.out  # a cell is cut
    assert len(pl.read_csv("out.csv")) > 0
    assert SEEN.split()[0] in undertow("info", run).out


def test_every_verb_prints_a_classification_s_names_as_they_stand(undertow):
    table = walk_table(40).with_columns(pl.col("way") + " [/b]\x1b[2J", pl.col("id") + "[/c]")
    table.write_csv("walks.csv")
    assert undertow("train", "walks.csv", *CLASSIFY, "--folder", "run", *SHORT).code == 0
    for verb in (("info", "run"), ("inspect", "run"), ("doctor", "run"), ("predict", "run", "walks.csv")):
        result = undertow(*verb)
        assert result.code == 0, result.err
        assert not words.HARMFUL.search(result.out), verb
    assert "w0[/c]" in result.out and "up [/b]␛[2J: " in result.out


def test_the_file_of_predictions_is_there_before_anything_is_printed(undertow, run, monkeypatch):
    def broken(*_):
        raise SystemExit(3)

    monkeypatch.setattr("undertow.app.verbs.predict.show", broken)
    assert undertow("predict", run, "$waves$ [red].csv", "--output", "out.csv").code == 3
    assert len(pl.read_csv("out.csv")) > 0


def test_a_refusal_is_one_line_without_control_characters(undertow):
    wave_table(40).write_csv("waves.csv")
    result = undertow("train", "waves.csv", "--target", "a\x1b[31m\nb")
    assert result.code == 2
    assert result.err.count("\n") == 1 and not words.HARMFUL.search(result.err)


def test_generated_text_reaches_a_terminal_visible_and_a_pipe_as_it_is(undertow):
    Path("codes.txt").write_text("ab\x1b[31m\n" * 300)
    assert undertow("train", "codes.txt", *TEXT, "--folder", "run", *SHORT).code == 0
    command = [sys.executable, "-m", "undertow", "generate", "run", "--prompt", "a\x1b[31m", "--length", "0"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"a\x1b[31m\n"
    ours, theirs = pty.openpty()
    subprocess.run(command, stdout=theirs, check=True)
    os.close(theirs)
    assert os.read(ours, 1000).decode() == "a␛[31m\r\n"
    os.close(ours)


# ------------------------------------------------------------------------------------ the source


def test_nothing_is_printed_past_the_terminal():
    """rich's own Console interprets brackets, and its markup is for our own words: ``marked``."""
    app = Path(words.__file__).parent
    for path in app.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if path.name != "terminal.py":
            assert not re.search(r"\bConsole\(|from_markup|highlight=False", source), path


# --------------------------------------------------------------------------------- 80 columns


def test_what_verbs_print_fits_80_columns_but_for_paths(undertow, monkeypatch):
    wave_table(160).rename({"sky": "weather in the morning"}).write_csv("waves.csv")
    monkeypatch.setenv("COLUMNS", "80")
    train = undertow("train", "waves.csv", *FORECAST, "--folder", "run", "--epochs", 1)
    verbs = [train, *(undertow(verb, "run") for verb in ("info", "doctor", "inspect"))]
    verbs.append(undertow("predict", "run", "waves.csv", "-o", "out.csv"))
    for result in verbs:
        assert result.code == 0, result.err
        for each in result.out.splitlines():
            assert len(each) <= 80 or "/" in each, each
    assert "1 epoch of" in train.out and "1 epochs" not in train.out


@pytest.mark.parametrize("verb", ["train", "tune"])
def test_a_group_of_options_fits_a_screen(undertow, monkeypatch, verb):
    monkeypatch.setenv("COLUMNS", "80")
    for group in undertow(verb, "--help").out.split("╭─ ")[1:]:
        assert group[: group.index("╰")].count("\n") + 1 <= 24, group  # with the line below


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_is_written_for_80_columns(verb):
    """typer keeps the ends of lines, so that a longer one would leave a word alone on the next."""
    text = re.sub(r"\[/?dim\]", "", cli.load(verb).help or "")
    assert all(len(each) <= 78 for each in text.splitlines()) or text.count("\n") == 0
