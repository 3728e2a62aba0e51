"""Run a command, and write its seconds of processor time and its peak memory in MiB into a file.

python -S benchmarks/evidence/used.py FILE COMMAND ...

A process counts the memory of the one that started it as its own peak, so this one is small.
"""

import os
import resource
import sys
from pathlib import Path

status = os.spawnvp(os.P_WAIT, sys.argv[2], sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
Path(sys.argv[1]).write_text(f"{used.ru_utime + used.ru_stime} {used.ru_maxrss / 1024}")
sys.exit(status)
