"""The command itself: quick, lazy, and clear about what it can do."""

import subprocess
import sys

import pytest

import undertow as package
from inputs import CLASSIFY, FORECAST, TEXT

HEAVY = ("torch", "polars", "matplotlib", "lightning_fabric", "numpy")
SLOW = ("polars", "matplotlib", "lightning_fabric", "torch._dynamo")  # each a second or so, beside torch


def loaded_by(*arguments, code=0, heavy=HEAVY, before=""):
    """Which of ``heavy`` a process has loaded after the command, which ends with ``code``."""
    script = (
        "import sys, undertow.app.cli as cli\n"
        f"sys.argv = ['undertow', *{[str(a) for a in arguments]!r}]\n"
        f"{before}found = 0\n"
        "try: cli.main()\n"
        "except SystemExit as stop: found = stop.code or 0\n"
        f"assert found == {code}, found\n"
        f"print('LOADED', [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split("LOADED ")[1].strip()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["info", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    assert loaded_by(*arguments) == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "x.txt", "--hidden-size", "0"],
        ["train", "x.txt", "--lr", "nan"],
        ["train", "nowhere.txt"],
        ["train", "adding", "--gaps", "fill"],
        ["train", "adding", "--task", "text"],
        ["train"],
        ["train", "--resume", "nowhere"],
        ["info", "nowhere"],
        ["predict", "nowhere", "table.csv"],
        ["generate", "nowhere"],
        ["inspect", "nowhere"],
        ["doctor", "nowhere"],
        ["train", "waves.csv"],
        ["train", "waves.csv", "--target", "height"],
        ["train", "waves.csv", "--task", "forecast"],
        ["train", "walks.csv", "--label", "way"],
        ["train", "adding", "--task", "problem", "--symbols", "bytes"],
        ["train", "rhyme.txt", "--task", "problem"],
    ],
    ids=" ".join,
)
def test_what_can_be_refused_is_refused_before_torch_is_imported(
    arguments, tmp_path, monkeypatch, waves, walks, text
):
    monkeypatch.chdir(tmp_path)
    numpy = not any(
        name.endswith(".csv") for name in arguments
    )  # which names of problems need, and checks of runs
    assert loaded_by(*arguments, code=2, heavy=HEAVY[: 4 if numpy else 5]) == "[]"
    assert not (tmp_path / "runs").exists()


RUNS = {"text": ("text", TEXT), "forecast": ("waves", FORECAST), "classify": ("walks", CLASSIFY)}


@pytest.mark.parametrize("task", RUNS)
def test_a_run_is_read_with_what_that_needs(undertow, request, task):
    source, options = RUNS[task]
    path = request.getfixturevalue(source)
    assert undertow("train", path, *options, "--epochs", 1, "--folder", "r").code == 0
    assert loaded_by("info", "r", heavy=HEAVY[:-1]) == "[]"
    for verb in ("inspect", "doctor", *(["predict"] if task != "text" else [])):
        nowhere = ["nowhere.csv"] if verb == "predict" else ["--output", "nowhere/page.html"]
        assert loaded_by(verb, "r", *nowhere, code=2, heavy=HEAVY[:-1]) == "[]"
    if task == "text":
        assert loaded_by("generate", "r", "--length", 3, heavy=SLOW) == "[]"
    else:
        assert loaded_by("predict", "r", path, heavy=SLOW) == "['polars']"


@pytest.mark.parametrize("task", ["text", "problem"])
def test_training_loads_what_it_needs(text, task, tmp_path, monkeypatch):
    """matplotlib comes with the curve, which is drawn at the end."""
    monkeypatch.chdir(tmp_path)
    options = (text, *TEXT) if task == "text" else ("adding", "--steps", 10, "--hidden-size", 8)
    assert loaded_by("train", *options, "--epochs", 1, "-q", "--folder", "r", heavy=SLOW) == "['matplotlib']"
    blank = "import types; blank = types.ModuleType('curve'); blank.draw = lambda *_: None\n"
    blank += "sys.modules['undertow.app.training.curve'] = blank\n"
    again = ("--resume", "r", "--epochs", 2, "-q")
    assert loaded_by("train", *again, heavy=SLOW, before=blank) == "[]"


def test_the_package_is_a_command():
    done = subprocess.run([sys.executable, "-m", "undertow", "--version"], capture_output=True, text=True)
    assert done.stdout == f"undertow {package.__version__}\n"


def test_help_is_quick():
    """Best of three, since the machine may be busy; processor time, not the clock."""
    script = "import time, sys; sys.argv = ['undertow', '--help']\nimport undertow.app.cli as cli\n"
    script += "try: cli.main()\nexcept SystemExit: pass\nprint('TIME', time.process_time())"
    times = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        times.append(float(done.stdout.split("TIME")[1]))
    assert min(times) < 0.5


def test_verbs_are_listed(undertow):
    result = undertow("--help")
    assert result.code == 0
    for verb in ("train", "generate", "predict", "info"):
        assert f" {verb} " in result.out


def test_version(undertow):
    assert undertow("--version").out == f"undertow {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("trian", "no such command 'trian'; see undertow --help"),
        (
            "train --epoch 3 a.csv",
            "no such option: --epoch (Possible options: --epochs); see undertow train --help",
        ),
        ("train a.csv --epochs", "option '--epochs' requires an argument; see undertow --help"),
        ("train a.csv --epochs 1.5", "--epochs 1.5: expected a whole number"),
        ("train a.csv --dropout half", "--dropout half: expected a number"),
        ("tune a.csv --trials many", "--trials many: expected a whole number"),
        ("info", "missing argument 'run'; see undertow info --help"),
        ("info a b", "got unexpected extra argument (b); see undertow info --help"),
    ],
)
def test_wrong_usage_is_one_line(undertow, arguments, said):
    result = undertow(*arguments.split())
    assert (result.code, result.out) == (2, "")
    assert (
        result.err.replace("argument(s)", "argument") == f"undertow: {said}\n"
    )  # as typer's versions say it


def test_without_arguments_the_command_shows_its_help(undertow):
    result = undertow()
    assert (result.code, result.err.strip()) == (2, "")
    assert "Usage: undertow [OPTIONS] COMMAND" in result.out


def test_each_option_of_train_has_help(undertow):
    out = undertow("train", "--help").out
    for panel in ("Data", "Forecasts", "Labelled sequences", "Text", "How files are read", "Model", "Run"):
        assert f"─ {panel} ─" in out
    for option in ("--target", "--cell", "--patience", "--resume", "--symbols"):
        assert option in out


def test_without_its_libraries_the_command_says_what_to_install():
    script = "import sys; sys.modules['typer'] = None; from undertow.app import main; main()"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "undertow[app]" in ended.stderr
    assert "Traceback" not in ended.stderr
