"""Long pieces of work: what is shown of them, in a terminal and elsewhere."""

import io

import pytest

from inputs import FORECAST
from undertow.app import working
from undertow.app.reading import forecaster
from undertow.app.terminal import Terminal


class Out(io.StringIO):
    def __init__(self, tty):
        super().__init__()
        self.tty = tty

    def isatty(self):
        return self.tty


@pytest.fixture
def passing(monkeypatch):
    """Seconds that pass with each look at the clock."""
    clock = iter(range(0, 10**6, 4))
    monkeypatch.setattr(working.time, "monotonic", lambda: next(clock))


def shown(monkeypatch, tty):
    out = Out(tty)
    monkeypatch.setattr("sys.stdout", out)
    with working.shown(Terminal(file=out, force_terminal=tty, width=80)):
        assert list(working.through(range(10), 10, "windows")) == list(range(10))
    return out.getvalue()


def test_a_line_now_and_then_where_there_is_no_terminal(passing, monkeypatch):
    lines = shown(monkeypatch, tty=False).splitlines()
    assert lines[0].startswith("windows: ")
    assert all(line.endswith(" left") for line in lines)
    assert 2 <= len(lines) < 10


def test_a_live_line_in_a_terminal(monkeypatch):
    monkeypatch.setattr(working, "REFRESH", 0)
    assert "windows" in shown(monkeypatch, tty=True)


def test_nothing_is_shown_unless_it_is_asked_for(passing, capsys):
    assert list(working.through("abc", 3, "letters")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("tty", [True, False])
def test_work_without_an_end_in_sight_is_shown_in_a_terminal_alone(tty, monkeypatch):
    out = Out(tty)
    monkeypatch.setattr("sys.stdout", out)
    with working.shown(Terminal(file=out, force_terminal=tty, width=80)), working.busy("reading a.csv"):
        pass
    assert ("reading a.csv" in out.getvalue()) == tty
    assert out.getvalue().endswith("\x1b[2K" if tty else "")  # the line is cleared


def test_predictions_and_evaluations_tell_how_far_they_are(undertow, waves, monkeypatch):
    assert undertow("train", waves, *FORECAST, "--epochs", 1, "--folder", "r", "-q").code == 0
    monkeypatch.setattr(forecaster, "BATCH", 50)
    monkeypatch.setattr(working, "PLAIN_EVERY", 0)
    for verb in (("predict", "r", waves), ("evaluate", "r")):
        said = undertow(*verb)
        assert said.code == 0, said.err
        assert "windows: 100%  00:00 left" in said.out, verb
