"""``make test-formats``: undertow reads and writes files of other programs, in an environment of its own.

It installs ``requirements/formats.txt`` and the wheel, runs check.py there, and keeps what came out, with the
programs' versions, in results.json. It fails where an output differs by more than check.py's TOLERANCE.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from driver import environment  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--wheel", type=Path, required=True, help="undertow, built")
parser.add_argument("--only", nargs="+", default=[], help="programs, as check.py names them")
options = parser.parse_args()
python = environment("formats", options.wheel)
helpers = os.pathsep.join(str(HERE.parents[1] / room) for room in (".", "networks"))
command = [python, "-W", "ignore", HERE / "check.py", HERE / "results.json", *options.only]
sys.exit(subprocess.run(command, env=os.environ | {"PYTHONPATH": helpers}).returncode)
