"""Where figures go: results/NAME.json, with machine and commit."""

import json
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def path(name: str) -> Path:
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.json"


def write(name: str, figures: dict[str, Any]) -> None:
    described = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(described, capture_output=True, text=True, cwd=HERE, check=True).stdout.strip()
    path(name).write_text(json.dumps({"commit": commit} | figures, indent=1) + "\n")
