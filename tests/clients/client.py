"""What every client's file shares: it runs the program, once, and writes down what came out.

``python NAME.py RESULT.json`` runs it with torch's LSTM, ``python -m undertow.run NAME.py RESULT.json`` with
ours: the file knows of neither. With ``--other-rounding`` torch's oneDNN is off: the same equations, summed
in another order, which shows how far rounding alone takes the program.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

SEED = 1

Train = Callable[[Any], dict[str, Any]]


def main(package: str, what: str, prepare: Callable[[], Any], train: Train) -> None:
    """Run ``train(prepare())`` in an empty folder, and time ``train``, which returns what to compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path)
    parser.add_argument("--other-rounding", action="store_true")
    options = parser.parse_args()
    sys.argv = sys.argv[:1]  # the program's own
    result = options.result.resolve()
    torch.backends.mkldnn.set_flags(not options.other_rounding)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        data = prepare()
        seed()
        calls = count_torchs_calls()
        start = time.perf_counter(), time.process_time()
        values = train(data)
        end = time.perf_counter(), time.process_time()
        os.chdir("/")
    found = {
        "package": package,
        "version": version(package),
        "torch": torch.__version__,
        "what": what,
        "threads": torch.get_num_threads(),
        "seconds": end[0] - start[0],
        "processor_seconds": end[1] - start[1],
        "torchs_calls": len(calls),
        "values": {name: np.asarray(v, dtype=np.float64).ravel().tolist() for name, v in values.items()},
    }
    result.write_text(json.dumps(found))


def seed() -> None:
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002  what the programs draw from
    torch.manual_seed(SEED)


def count_torchs_calls() -> list[None]:
    """A list that grows by one with every call of torch's own LSTM operator."""
    calls: list[None] = []
    lstm = torch._VF.lstm

    def counted(*args: Any) -> Any:
        calls.append(None)
        return lstm(*args)

    torch._VF.lstm = counted
    return calls
