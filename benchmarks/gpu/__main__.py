"""On a GPU: cuDNN's baseline, the kernels' results against float64, their times, in one run of some minutes.

python benchmarks/gpu [--seconds 440] [--out FILE] [--parts baseline,correct] [--dry]

Writes results/gpu.json after every row, so that a run cut short loses nothing; prints the table last.
``--dry`` runs every part on the CPU in Triton's interpreter, with tiny sizes: its figures mean nothing.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])

from gpu.setting import CLOCK, DRY  # noqa: E402, I001 - before Triton

import torch  # noqa: E402

import record  # noqa: E402
from gpu import app, proofs, sight, table, times, timing  # noqa: E402

# Each part, and its share of the whole time; what it does not use is left to those after it.
PARTS = {
    times.facts: 0.01,
    times.baseline: 0.17,
    times.compiling: 0.2,
    proofs.correct: 0.14,
    proofs.loop: 0.06,
    sight.sight: 0.04,
    app.app: 0.12,
    times.speed: 0.14,
    times.options: 0.05,
    times.ablations: 0.03,
    proofs.sanitizer: 0.04,
    times.sweep: 1.0,
}


def run_all(names: list[str], total: float, out: Path | None) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def save() -> None:
        if out is None:
            record.write("gpu", found)
        else:
            out.write_text(json.dumps(found, indent=1), encoding="utf-8")

    signal.alarm(round(total) + 30)  # ends a kernel that hangs; what was found before is in the file
    began, shares = time.monotonic(), 0.0
    for part, share in PARTS.items():
        name, shares = part.__name__, shares + share
        if name not in names:
            continue
        start, rows = time.monotonic(), found.setdefault(name, [])
        CLOCK.until = began + total * min(1, shares)
        try:
            for row in part():
                rows.append(row)
                save()
                if time.monotonic() > CLOCK.until:
                    rows.append({"cut short": f"after {time.monotonic() - start:.0f} s"})
                    break
        except Exception as error:  # the other parts still run
            rows.append({"error": f"{type(error).__name__}: {str(error)[:500]}"})
        torch.use_deterministic_algorithms(False)
        save()
        print(f"{name}: {len(rows)} rows, {time.monotonic() - start:.0f} s", flush=True)
    signal.alarm(0)
    return found


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--seconds", type=float, default=440)
    parse.add_argument("--out", type=Path, help="default: results/gpu.json")
    parse.add_argument("--parts", default=",".join(part.__name__ for part in PARTS))
    parse.add_argument("--dry", action="store_true", help="on the CPU in the interpreter")
    parse.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    asked = parse.parse_args()
    names = asked.parts.split(",")
    if unknown := set(names) - {part.__name__ for part in PARTS}:
        sys.exit(f"--parts: there is no {sorted(unknown)[0]}")
    if not DRY and not torch.cuda.is_available():
        sys.exit("there is no CUDA device; --dry runs every part on the CPU")
    timing.prepare()
    if asked.tiny:
        return proofs.tiny()
    return table.show(run_all(names, asked.seconds, asked.out))


if __name__ == "__main__":
    main()
