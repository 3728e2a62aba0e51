"""The command itself: quick, lazy, and clear about what it can do."""

import subprocess
import sys

import pytest

import undertow as package

HEAVY = ("torch", "polars", "matplotlib", "lightning_fabric", "numpy")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["info", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    code = (
        "import sys, undertow.app.cli as cli\n"
        f"sys.argv = ['undertow', *{arguments!r}]\n"
        "try: cli.main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout


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
