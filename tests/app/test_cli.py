"""The command itself: quick, lazy, and clear about what it can do."""

import subprocess
import sys

import pytest

import undertow as package
from inputs import TEXT

HEAVY = ("torch", "polars", "matplotlib", "lightning_fabric", "numpy")


def loaded_by(*arguments, code=0, heavy=HEAVY):
    """Which of ``heavy`` a process has loaded after the command, which ends with ``code``."""
    script = (
        "import sys, undertow.app.cli as cli\n"
        f"sys.argv = ['undertow', *{[str(a) for a in arguments]!r}]\n"
        "found = 0\n"
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
    ],
    ids=" ".join,
)
def test_what_can_be_refused_is_refused_before_torch_is_imported(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    heavy = ("torch", "polars", "matplotlib", "lightning_fabric")
    assert loaded_by(*arguments, code=2, heavy=heavy) == "[]"
    assert not (tmp_path / "runs").exists()


def test_info_needs_no_torch(undertow, text):
    assert undertow("train", text, *TEXT, "--epochs", 1, "--run", "r").code == 0
    assert loaded_by("info", "r", heavy=("torch", "polars", "matplotlib", "lightning_fabric")) == "[]"


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


@pytest.mark.parametrize("arguments", [["trian"], ["train", "--no-such-option"], ["info"]])
def test_wrong_usage_exits_2(undertow, arguments):
    result = undertow(*arguments)
    assert result.code == 2
    assert "Usage" in result.err


def test_each_option_of_train_has_help(undertow):
    out = undertow("train", "--help").out
    for panel in ("Data", "Model", "Training", "Run"):
        assert f"─ {panel} ─" in out
    for option in ("--target", "--cell", "--patience", "--resume", "--bytes"):
        assert option in out


def test_without_its_libraries_the_command_says_what_to_install():
    script = "import sys; sys.modules['typer'] = None; from undertow.app import main; main()"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "undertow[app]" in ended.stderr
    assert "Traceback" not in ended.stderr
