"""Disturb a training in several processes again and again, go on with --resume auto, and compare the end.

python tools/kills_ddp.py [--kills 50] [--seed 0]

At a random instant a process is killed, all are killed or asked to end, one stops answering (as behind a
lost network) or has no memory left. All others must then end by themselves, each with one line. In the end,
weights and optimiser must be those of an undisturbed training: bit for bit where the number of processes
stayed the same, and to rounding where it changed and nothing was drawn at random. The folder must hold a
run's files and nothing else.
"""

import argparse
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import ranks
import torch
from kills import content
from safetensors import safe_open

from undertow.app.runs.folder import FILES
from undertow.app.training import trainer

OPTIONS = "--steps 16 --batch-size 7 --hidden-size 12 --num-layers 2 --epochs 3 --timeout 10 --resume auto"
START = ["train", "rhyme.txt", *OPTIONS.split()]
SAVE_EVERY = 0.02  # seconds: many chances to be killed while writing
GRACE = 60  # seconds after which a process that should have ended hangs
FAULTS = {"kill one": 4, "kill all": 1, "terminate": 2, "stop one": 1, "no memory": 2}  # how often each


def starved(arguments: list[str], size: int, rank: int, step: int) -> list[int]:
    """Start the processes, one of which asks for more memory than there is at a step."""
    before = trainer.Trainer.on_step

    def on_step(self: trainer.Trainer, loop: object, steps: list) -> None:
        before(self, loop, steps)
        if os.environ.get("RANK", "0") == str(rank) and self.loop.step >= step:
            torch.empty(2**50)

    trainer.Trainer.on_step = on_step
    started = ranks.start(arguments, size)
    trainer.Trainer.on_step = before
    return started


def wait(processes: list[int]) -> list[int]:
    """The exit codes of processes, all of which end within GRACE seconds."""
    codes: dict[int, int] = {}
    until = time.monotonic() + GRACE
    while len(codes) < len(processes):
        for process in set(processes) - set(codes):
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                codes[process] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            for process in set(processes) - set(codes):
                os.kill(process, signal.SIGKILL)
            raise AssertionError(f"{len(processes) - len(codes)} of {len(processes)} processes hang")
        time.sleep(0.01)
    return [codes[process] for process in processes]


def disturbed(arguments: list[str], size: int, fault: str, draw: random.Random, longest: float) -> list[int]:
    """Run a training with one fault; the exit codes of its processes."""
    one = draw.randrange(size)
    if fault == "no memory":
        return wait(starved(arguments, size, one, draw.randrange(1, 40)))
    processes = ranks.start(arguments, size)
    time.sleep(draw.uniform(0, 0.8 * longest))
    number = {"terminate": signal.SIGTERM, "stop one": signal.SIGSTOP}.get(fault, signal.SIGKILL)
    chosen = processes if fault in ("kill all", "terminate") else [processes[one]]
    for process in chosen:
        os.kill(process, number)
    if fault != "stop one":
        return wait(processes)
    codes = wait([process for process in processes if process not in chosen])
    os.kill(chosen[0], signal.SIGKILL)
    wait(chosen)
    return [*codes[:one], -signal.SIGKILL, *codes[one:]]


def check(fault: str, codes: list[int]) -> None:
    """Each process that was not killed ended well, was asked to end, or says in one line what went wrong."""
    for rank, code in enumerate(codes):
        said = Path(f"said-{rank}").read_text()
        what = f"{fault}: process {rank} ended with {code}: {said}"
        errors = [line for line in said.splitlines() if line.startswith("undertow: ")]
        assert "Traceback" not in said, what
        assert code in (0, 2, 128 + signal.SIGTERM, -signal.SIGKILL), what
        assert len(errors) == (code == 2), what


def train_through(
    command: list[str], sizes: list[int], longest: float, draw: random.Random, most: int
) -> int:
    """Train to the end with up to ``most`` faults; how many there were."""
    faults = 0
    while True:
        size = draw.choice(sizes)
        if faults == most:
            codes = wait(ranks.start(command, size))
            assert not any(codes), ranks.said(size)
            return faults
        fault = draw.choices(list(FAULTS), list(FAULTS.values()))[0]
        codes = disturbed(command, size, fault, draw, longest)
        check(fault, codes)
        faults += any(codes)


def compare(folder: Path, whole: Path, exact: bool) -> None:
    """Check that two runs hold the same weights, optimiser and metrics."""
    mine, other = ({**content(each), **tensors(each)} for each in (folder, whole))
    for name in sorted(set(mine) | set(other)):
        one, two = mine.get(name), other.get(name)
        if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor) and "random" not in name:
            tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-2, "atol": 1e-4}
            torch.testing.assert_close(one, two, **tolerance, msg=lambda said, name=name: f"{name}: {said}")
    for one, two in zip(mine["metrics.jsonl"], other["metrics.jsonl"], strict=True):
        for name, value in two.items():
            near = abs(one[name] - value) <= (1e-9 if exact else 1e-3) * max(1.0, abs(value))
            assert near, f"{folder}: {name}: {one[name]} instead of {value}"


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {f"best {key}": file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def main() -> None:
    options = argparse.ArgumentParser(description="Disturb a training in several processes, and resume it.")
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    draw, faults, rounds = random.Random(chosen.seed), 0, 0
    trainer.SAVE_EVERY = SAVE_EVERY
    ranks.prepare()
    with tempfile.TemporaryDirectory() as made:
        os.chdir(made)
        Path("rhyme.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 40)
        began = time.monotonic()
        for dropout in ("0.2", "0"):
            start = [*START, "--dropout", dropout, "--folder", f"whole-{dropout}"]
            assert not any(wait(ranks.start(start, 2))), ranks.said(2)
        longest = (time.monotonic() - began) / 2
        while faults < chosen.kills:
            rounds, folder = rounds + 1, Path(f"run-{rounds}")
            sizes, dropout = ([1, 2, 3], "0") if rounds % 2 == 0 else ([2], "0.2")
            start = [*START, "--dropout", dropout, "--folder", str(folder)]
            faults += train_through(start, sizes, longest, draw, min(8, chosen.kills - faults))
            compare(folder, Path(f"whole-{dropout}"), exact=sizes == [2])
            names = sorted(path.name for path in folder.iterdir())
            assert names == sorted(FILES), f"{folder} holds {names}"
        os.chdir("/")
    print(f"{faults} kills in {rounds} trainings; each ended like the undisturbed one of {longest:.1f} s")


if __name__ == "__main__":
    main()
