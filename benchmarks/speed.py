"""The speed table of the README: every shape, one thread and all; writes results/ with machine and commit.

python benchmarks/speed.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=HERE, check=True
    ).stdout.strip()
    output = results / "speed.json"
    threads = ",".join(str(n) for n in sorted({1, os.cpu_count() or 1}))
    command = [sys.executable, "-m", "undertow.app.cli", "bench", "--full", "--threads", threads]
    subprocess.run([*command, "--output", str(output), *sys.argv[1:]], check=True)
    output.write_text(json.dumps({"commit": commit} | json.loads(output.read_text()), indent=1) + "\n")


if __name__ == "__main__":
    main()
