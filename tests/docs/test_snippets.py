"""README and docs: the Python blocks run in order, a page in one namespace, and so do the undertow commands.

A block is left out only where an HTML comment just above it says why: ``<!-- not run: the reason -->``.
"""

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from typer.testing import CliRunner

from undertow.app.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXEMPT = r"(?:<!-- not run: (?P<reason>[^\n]+?) -->\n+)?"
BLOCK = re.compile(EXEMPT + r"^```(?P<kind>\w*)\n(?P<text>.*?)^```", re.M | re.S)
SCRIPTS = ("python examples/amp.py",)  # commands beside undertow's that are run, without options
SMALLER = {  # what shortens a command that would take long, by the beginning of the command
    "undertow train examples/data/rhymes.txt": "--epochs 1 --hidden-size 8 --num-layers 1 --steps 32",
    "undertow generate": "--length 20",
    "undertow train examples/data/river.csv": "--epochs 1 --hidden-size 4 --steps 30",
    "undertow train examples/data/sales.csv": "--epochs 1 --hidden-size 4 --steps 10",
    "undertow train examples/data/gestures.csv": "--epochs 1 --hidden-size 4",
    "undertow train examples/data/activity.csv": "--epochs 1 --hidden-size 4",
    "undertow train examples/data/batteries.csv": "--epochs 1 --hidden-size 4",
    "undertow train examples/messy/": "--epochs 1 --hidden-size 4 --steps 20",
    "undertow tune examples/data/river.csv": "--epochs 1 --trials 1 --batch-size 128",
    "undertow train clean.wav": "--epochs 1 --hidden-size 4",
    "python examples/amp.py": "4",
    "undertow train adding": "--epochs 1 --hidden-size 4 --minutes 0.02",
    "undertow train two-sequence": "--epochs 1 --hidden-size 4 --minutes 0.02",
    "undertow demo": "--lag 10 --steps 2",
    "undertow classics --quick": "lag-distractors",
}


class Block(NamedTuple):
    reason: str | None  # why it is not run
    kind: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = BLOCK.finditer(page.read_text("utf-8"))
    return [Block(*each.group("reason", "kind", "text")) for each in found]


def commands(page: Path) -> list[str]:
    """Lines that begin with ``undertow``, and those of SCRIPTS, without their comments."""
    shell = [block for block in blocks(page) if block.kind in ("", "sh") and not block.reason]
    lines = [re.sub(r"\s+#.*", "", line) for block in shell for line in block.text.splitlines()]
    return [line for line in lines if line.startswith(("undertow ", *SCRIPTS))]


def smaller(command: str) -> list[str]:
    words = shlex.split(command)[1:]
    more = shlex.split(" ".join(more for start, more in SMALLER.items() if command.startswith(start)))
    for flag in (flag for flag in more if flag.startswith("--") and flag in words):
        del words[words.index(flag) : words.index(flag) + 2]  # an option may be given once only
    return words + more


def with_python(page: Path) -> bool:
    return any(block.kind == "python" and not block.reason for block in blocks(page))


@pytest.mark.parametrize("page", list(filter(with_python, PAGES)), ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", "examples")
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": page.stem}
    for block in blocks(page):
        if block.kind == "python" and not block.reason:
            exec(compile(block.text, page.name, "exec"), names)


@pytest.mark.parametrize("page", list(filter(commands, PAGES)), ids=lambda page: page.name)
def test_commands_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", "examples")
    for command in commands(page):
        if command.startswith("python "):
            monkeypatch.setattr(sys, "argv", smaller(command))
            runpy.run_path(smaller(command)[0], run_name="__main__")
            continue
        result = CliRunner().invoke(app, smaller(command))
        assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception!r}"


def test_exemptions_stand_just_above_a_block():
    for page in PAGES:
        reasons = re.findall("<!-- not run", page.read_text("utf-8"))
        assert len(reasons) == len([block for block in blocks(page) if block.reason]), page.name


def test_the_example_data_are_what_the_script_makes(tmp_path):
    runpy.run_path(str(ROOT / "examples/data/make.py"))["main"](tmp_path)
    made = sorted(tmp_path.iterdir())
    names = ["activity.csv", "batteries.csv", "gestures.csv", "rhymes.txt", "river.csv", "sales.csv"]
    assert [path.name for path in made] == names
    for path in made:
        assert path.read_bytes() == (ROOT / "examples/data" / path.name).read_bytes().replace(b"\r\n", b"\n")
