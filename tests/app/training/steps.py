"""Print the loss of every step of trainings in 1, 2 and 3 processes, as JSON: plan -> processes -> losses.

python steps.py FOLDER, which holds the sources of the plans.
"""

import json
import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3] / "tools"))
import ranks

from undertow.app.training import curve
from undertow.app.training.trainer import Trainer

SMALL = ["--hidden-size", "4", "--num-layers", "1", "--dropout", "0", "-q"]
WAVES = ["waves.csv", "--target", "level", "--group", "place", "--steps", "10"]
LABELS = ["--sequence", "id", "--noise", "0"]
PLANS = {
    "text": ["rhyme.txt", "--steps", "12", "--batch-size", "5", "--epochs", "2"],
    "two streams": ["rhyme.txt", "--steps", "30", "--batch-size", "2", "--epochs", "2"],
    "documents": ["rhymes", "--steps", "12", "--batch-size", "5", "--epochs", "2"],
    "forecast": [*WAVES, "--batch-size", "7",
                 "--epochs", "3", "--noise", "0", "--interval", "0"],
    "decoder": [*WAVES, "--horizon", "3",
                "--head", "decoder", "--embed-group", "--batch-size", "7", "--epochs", "3", "--noise", "0",
                "--interval", "0"],
    "classify": ["walks.csv", *LABELS, "--label", "way", "--class-weights", "balanced", "--batch-size", "7",
                 "--epochs", "10"],
    "regress": ["walks.csv", *LABELS, "--label", "end", "--batch-size", "7", "--epochs", "10"],
    "steps": ["steps.csv", *LABELS, "--label", "sign", "--per", "step", "--batch-size", "7",
              "--epochs", "10"],
    "sound": ["clean.wav", "amp.wav", "--steps", "64", "--batch-size", "5", "--epochs", "6"],
    "problem": ["two-sequence", "--steps", "6", "--batch-size", "5", "--epochs", "1"],
}  # fmt: skip
FURTHER = ("two streams", "documents", "decoder")  # in 3 processes only


def noted(path: Path) -> None:
    """Let the first process write the loss of each step."""
    before = Trainer.on_step

    def on_step(self, loop, steps):
        if self.team.leads:
            with path.open("a") as file:
                file.write(f"{steps[0].loss!r}\n")
        before(self, loop, steps)

    Trainer.on_step = on_step
    return before


def losses(plan: list[str], size: int, folder: str) -> dict:
    path = Path(f"{folder}.losses")
    before = noted(path)
    codes = [ranks.ended(each) for each in ranks.start(["train", *plan, *SMALL, "--folder", folder], size)]
    Trainer.on_step = before
    assert not any(codes), (folder, codes, ranks.said(size))
    rows = [json.loads(row) for row in Path(folder, "metrics.jsonl").read_text().splitlines()]
    names = "train", "validation", "train_loss", "validation_loss", "grad_norm"
    return {
        "losses": [float(line) for line in path.read_text().splitlines()],
        "metrics": [[row[name] for name in names] for row in rows],
        "said": ranks.said(size) if size == 1 else [Path(f"said-{k}").read_text() for k in range(size)],
    }


def main() -> None:
    os.chdir(sys.argv[1])
    ranks.prepare()
    curve.draw = lambda *_: None  # it takes longer than the training
    found = {
        name: {
            size: losses(plan, size, f"{name} {size}") for size in ((1, 3) if name in FURTHER else (1, 2, 3))
        }
        for name, plan in PLANS.items()
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
