"""undertow, whose clock counts processor time: a budget then means the same on a busy machine.

python benchmarks/evidence/clocked.py ARGUMENTS
"""

import time

time.monotonic = time.process_time

from undertow.app import main  # noqa: E402

main()
