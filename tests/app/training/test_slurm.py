"""``undertow train`` under SLURM's srun, whose variables are set here as a real srun sets them."""

import os
import subprocess
import sys

import pytest

OPTIONS = "--steps 8 --batch-size 4 --hidden-size 4 --num-layers 1 --epochs 1 --folder r --timeout 100"


def of_srun(rank, **more):
    """The variables of ``srun -n 2`` on one machine; the port follows from the number of the job."""
    found = {"STEP_ID": "0", "PROCID": rank, "LOCALID": rank, "NTASKS": "2", "NNODES": "1", "NODEID": "0"}
    found |= {"JOB_ID": str(os.getpid()), "NODELIST": "localhost", "STEP_TASKS_PER_NODE": "2"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "MASTER_"))}
    return kept | {f"SLURM_{name}": value for name, value in (found | more).items()}


@pytest.mark.parametrize(
    "more", [{}, {"JOB_NAME": "interactive"}, {"NTASKS_PER_NODE": "4"}], ids=["-n 2", "salloc", "of the job"]
)
def test_the_tasks_of_srun_are_one_training(tmp_path, more):
    (tmp_path / "text.txt").write_text("a text that is read by two tasks of one job\n" * 20)
    command = [sys.executable, "-m", "undertow", "train", "text.txt", *OPTIONS.split()]
    tasks = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=of_srun(rank, **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in "01"
    ]
    said = [task.communicate(timeout=600)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert "2 processes" in said[0]
    assert said[1] == ""
