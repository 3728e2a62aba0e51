"""The speed table of the README: every shape, one thread and all; writes results/ with machine and commit.

python benchmarks/speed.py [--peers] [--memory]
"""

import json
import os
import subprocess
import sys

import record


def main() -> None:
    output = record.path("speed")
    threads = ",".join(str(n) for n in sorted({1, os.cpu_count() or 1}))
    command = [sys.executable, "-m", "undertow.app.cli", "bench", "--full", "--threads", threads]
    subprocess.run([*command, "--output", str(output), *sys.argv[1:]], check=True)
    record.write("speed", json.loads(output.read_text()))


if __name__ == "__main__":
    main()
