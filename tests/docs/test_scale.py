"""docs/scale.md: its commands run as they stand there, in order, as a reader would type them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import undertow
from cable import ADDRESSES, two_machines
from undertow.app.runs.folder import open_run

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "scale.md"


def blocks() -> list[str]:
    """The blocks of several processes, those marked bash."""
    return [block.split("```")[0] for block in PAGE.read_text("utf-8").split("```bash\n")[1:]]


def prepared(folder: Path, torchrun: str = "") -> dict[str, str]:
    """The environment of a reader in a folder, whose ``torchrun`` may begin with other lines."""
    shutil.copytree(ROOT / "examples" / "data", folder / "examples" / "data")
    tools = folder / "bin"
    tools.mkdir()
    for name, module, before in (
        ("undertow", "undertow", ""),
        ("torchrun", "torch.distributed.run", torchrun),
    ):
        (tools / name).write_text(f'#!/bin/bash\n{before}exec $within {sys.executable} -m {module} "$@"\n')
        (tools / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(undertow.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }


def run(script: str, folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["bash", "-c", f"set -e\n{script}"]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


def test_the_commands_lead_from_one_process_to_two_machines(tmp_path):
    done = run("".join(blocks()), tmp_path, prepared(tmp_path))
    assert done.returncode == 0, done.stderr
    for name in ("two", "far"):
        assert len(open_run(tmp_path / "runs" / name).read_metrics()) == 2
    assert done.stdout.count("2 processes") == 2  # one voice each, of --devices and of two machines


def test_the_commands_of_two_machines_run_on_two_that_a_cable_joins(tmp_path):
    with two_machines() as cable:
        lines = [
            f"[[ \"$*\" == *'--node-rank {k}'* ]] && within='{' '.join(cable.within(k))}'\n" for k in (0, 1)
        ]
        variables = prepared(tmp_path, "".join(lines))
        done = run(blocks()[-1].replace("127.0.0.1", ADDRESSES[0]), tmp_path, variables)
    assert done.returncode == 0, done.stderr
    assert len(open_run(tmp_path / "runs" / "far").read_metrics()) == 2
    assert done.stdout.count("2 processes") == 1


KILLED_ONCE = """
import os, signal, time
from pathlib import Path
from undertow.app.training import trainer
learn, trainer.SAVE_EVERY = trainer.Trainer.on_step, 0.0
def on_step(self, loop, steps):
    learn(self, loop, steps)
    if loop.step == 9 and os.environ["RANK"] == "1" and not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
trainer.Trainer.on_step = on_step
if Path("killed").exists() and os.environ["RANK"] == "0":
    time.sleep(2)  # meanwhile the other process finds what the first start has left in torchrun's store
from undertow.app import main
main()
"""


def test_torchrun_starts_a_killed_training_again_and_it_goes_on(tmp_path):
    """The command of docs/scale.md, with a smaller network; a process of it is killed at its ninth step."""
    command = next(line for line in PAGE.read_text("utf-8").splitlines() if "--max-restarts" in line[:60])
    (tmp_path / "killed.py").write_text(KILLED_ONCE)
    options = " --epochs 1 --hidden-size 8 --num-layers 1 --steps 32"
    script = command.replace("-m undertow", "killed.py").replace(
        "--nproc-per-node", "--standalone --nproc-per-node"
    )
    done = run(script + options, tmp_path, prepared(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "killed").exists()
    assert "Going on with runs/one" in done.stdout
    assert len(open_run(tmp_path / "runs" / "one").read_metrics()) == 2
