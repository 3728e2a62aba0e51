"""``make test-formats``: undertow reads and writes files of other programs, in an environment of its own.

It installs the requirements and the wheel, runs check.py there, and keeps what came out, with the programs'
versions, in results.json. It fails where an output differs by more than check.py's TOLERANCE.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from driver import environment  # noqa: E402

PROGRAMS = {  # environment, of ../requirements -> programs, as check.py names them
    "formats": ("Keras", "torch.onnx", "sb3-contrib", "onnxruntime"),
    "amp": ("NAM",),
}
RESULTS = HERE / "results.json"

parser = argparse.ArgumentParser()
parser.add_argument("--wheel", type=Path, required=True, help="undertow, built")
options = parser.parse_args()
helpers = os.pathsep.join(str(HERE.parents[1] / room) for room in (".", "networks"))
found, failed = [], False
for name, programs in PROGRAMS.items():
    python = environment(name, options.wheel)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [python, "-W", "ignore", HERE / "check.py", result, *programs]
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": helpers})
        failed |= done.returncode != 0
        found += json.loads(result.read_text()) if result.exists() else []
RESULTS.write_text(json.dumps(found, indent=1) + "\n")
sys.exit(failed)
