"""undertow.patch: while it lasts torch.nn.LSTM is ours, whoever asks for it, and then it is torch's again."""

import io
import os
import pickle
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest
import torch

import undertow
from torchscript import torchscript

T, N, C, H = 5, 3, 4, 6
# in a dict: the names of this module are among those that are patched
THEIRS = {"LSTM": torch.nn.LSTM, "RNN": torch.nn.RNN}
OURS = {"LSTM": undertow.LSTM, "RNN": undertow.RNN}


class Before(torch.nn.LSTM):
    """A class of before, that calls its base in both ways."""

    def __init__(self, *args, **kwargs):
        torch.nn.LSTM.__init__(self, *args, **kwargs)

    def forward(self, x, hx=None):
        y, states = super().forward(x, hx)
        return 2 * y, states


@pytest.fixture
def importer():
    """A module that has bound torch's classes to names of its own."""
    module = types.ModuleType("a_library_of_before")
    exec("from torch.nn import LSTM, RNN as Plain, GRU", vars(module))
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def names_of_theirs():
    """Every name of torch's classes in every module."""
    modules = [m for m in list(sys.modules.values()) if isinstance(m, types.ModuleType)]
    kinds = list(THEIRS.values())
    found = [(m.__name__, name) for m in modules for name, v in vars(m).items() if any(v is k for k in kinds)]
    return sorted(found)


@pytest.mark.parametrize("cell", ["LSTM", "RNN"])
def test_torchs_names_are_ours_while_it_lasts(cell):
    with undertow.patch():
        for module in (torch.nn, torch.nn.modules, torch.nn.modules.rnn):
            assert getattr(module, cell) is OURS[cell]
        made = getattr(torch.nn, cell)(C, H)
        assert type(made) is OURS[cell] and isinstance(made, getattr(torch.nn, cell))
        assert type(torch.nn.GRU(C, H)) is torch.nn.GRU
    for module in (torch.nn, torch.nn.modules, torch.nn.modules.rnn):
        assert getattr(module, cell) is THEIRS[cell]
    assert type(made) is OURS[cell] and isinstance(made, getattr(torch.nn, cell))


def test_names_that_modules_have_bound(importer):
    before = names_of_theirs()
    assert ("a_library_of_before", "LSTM") in before and ("a_library_of_before", "Plain") in before
    with undertow.patch():
        assert names_of_theirs() == []
        assert importer.LSTM is undertow.LSTM and importer.Plain is undertow.RNN
        assert importer.GRU is torch.nn.GRU
    assert names_of_theirs() == before


def test_a_name_that_the_program_changes_inside_stays_its_own(importer):
    with undertow.patch():
        importer.LSTM = None
    assert importer.LSTM is None and importer.Plain is torch.nn.RNN


def run(lstm):
    torch.manual_seed(0)
    return lstm(torch.randn(T, N, C))[0]


def test_derived_classes(torchs_calls):
    made_before = Before(C, H)
    bases, mro = Before.__bases__, Before.__mro__
    expected = run(made_before)
    assert torchs_calls == ["LSTM"]
    with undertow.patch():
        inside = Before(C, H)
        inside.load_state_dict(made_before.state_dict())

        class Inside(torch.nn.LSTM):
            pass

        for module in (made_before, inside):
            assert isinstance(module, undertow.LSTM)
            torch.testing.assert_close(run(module), expected)
        assert torchs_calls == ["LSTM"]  # ours served all of them
    assert Before.__bases__ == bases and Before.__mro__ == mro
    assert issubclass(Inside, undertow.LSTM)
    torch.testing.assert_close(run(inside), expected)  # torch's again
    assert torchs_calls == ["LSTM", "LSTM"]


@pytest.fixture
def torchs_calls(monkeypatch):
    """The calls of torch's own operator for the LSTM."""
    calls, lstm = [], torch._VF.lstm
    monkeypatch.setattr(torch._VF, "lstm", lambda *args: calls.append("LSTM") or lstm(*args), raising=False)
    return calls


def test_pickles_made_inside_load_outside_and_torchs_inside():
    theirs = torch.nn.LSTM(C, H)
    old, file = pickle.dumps(theirs), io.BytesIO()
    with undertow.patch():
        made = torch.nn.LSTM(C, H)
        new = pickle.dumps(made)
        torch.save(made.state_dict(), file)
        assert type(pickle.loads(old)) is undertow.LSTM
        assert torch.equal(run(pickle.loads(old)), run(undertow.convert(theirs)))
    assert type(pickle.loads(new)) is undertow.LSTM
    assert torch.equal(run(pickle.loads(new)), run(made))
    file.seek(0)
    torch.nn.LSTM(C, H).load_state_dict(torch.load(file, weights_only=True))


def test_nested_and_decorating():
    @undertow.patch()
    def make():
        return torch.nn.LSTM(C, H)

    with undertow.patch():
        assert type(make()) is undertow.LSTM
        assert torch.nn.LSTM is undertow.LSTM
    assert torch.nn.LSTM is THEIRS["LSTM"]
    assert type(make()) is undertow.LSTM
    with pytest.raises(ZeroDivisionError), undertow.patch():
        raise ZeroDivisionError
    assert torch.nn.LSTM is THEIRS["LSTM"]


def test_of_several_threads_it_lasts_until_the_last_ends():
    started, finish = threading.Event(), threading.Event()

    def other():
        with undertow.patch():
            started.set()
            finish.wait()

    thread = threading.Thread(target=other)
    with undertow.patch():
        thread.start()
        started.wait()
    assert torch.nn.LSTM is undertow.LSTM
    finish.set()
    thread.join()
    assert torch.nn.LSTM is THEIRS["LSTM"]


def test_convert_and_back_inside():
    with undertow.patch():
        model = torch.nn.Sequential(torch.nn.LSTM(C, H))
        assert type(undertow.convert(model, back=True)[0]) is THEIRS["LSTM"]
        assert type(undertow.convert(model)[0]) is undertow.LSTM


@torchscript
def test_scripted_inside():
    with undertow.patch():
        module = torch.nn.Sequential(torch.nn.LSTM(C, H))
        scripted = torch.jit.script(module)
        torch.testing.assert_close(run(scripted), run(module))


PROGRAM = """
import sys, torch
from torch.nn import LSTM
if __name__ == "__main__":
    print(type(LSTM(3, 4)).__module__, LSTM is torch.nn.LSTM, sys.argv[1:], sys.path[0] == {folder!r}, end="")
"""


def python(*words, cwd=None):
    """``python -m undertow.run`` with ``words``, from another folder too."""
    path = os.pathsep.join([str(Path(undertow.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "undertow.run", *words]
    env = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env)


@pytest.mark.parametrize("form", ["script", "module"])
def test_a_program_on_the_command_line(form, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(folder=str(tmp_path)))
    program = [str(script)] if form == "script" else ["-m", "program"]
    done = python(*program, "--lr", "-m", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "undertow.nn True ['--lr', '-m'] True"


@pytest.mark.parametrize("words", [[], ["-m"], ["--help"]])
def test_no_program(words):
    done = python(*words)
    assert done.returncode == 1
    assert "usage: python -m undertow.run script.py" in done.stderr


def test_a_programs_exit_is_its_own(tmp_path):
    script = tmp_path / "program.py"
    script.write_text("raise SystemExit(7)")
    assert python(str(script)).returncode == 7
