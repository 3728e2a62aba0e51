"""On a GPU: cuDNN's baseline, the kernels' results against float64, their times, in one run of some minutes.

python benchmarks/gpu [--seconds 440] [--out FILE] [--parts baseline,correct] [--dry]

Writes results/gpu.json after every row, so that a run cut short loses nothing; prints the table last.
``--dry`` runs every part on the CPU in Triton's interpreter, with tiny sizes: its figures mean nothing.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])

from gpu.setting import DRY  # noqa: E402, I001 - before Triton

import torch  # noqa: E402

import record  # noqa: E402
from gpu import app, proofs, table, times  # noqa: E402
from undertow.kernels import cpu, engines, triton  # noqa: E402

PARTS = (
    times.facts,
    times.baseline,
    times.compiling,
    proofs.correct,
    proofs.sanitizer,
    proofs.loop,
    app.app,
    times.speed,
    times.options,
    times.ablations,
    times.sweep,
)
# of the whole time, at most
SHARES = {"baseline": 0.2, "compiling": 0.3, "correct": 0.15, "sanitizer": 0.1, "loop": 0.1, "app": 0.12,
          "speed": 0.2, "options": 0.1, "ablations": 0.05}  # fmt: skip


def run_all(names: list[str], total: float, out: Path | None) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def save() -> None:
        if out is None:
            record.write("gpu", found)
        else:
            out.write_text(json.dumps(found, indent=1), encoding="utf-8")

    began = time.monotonic()
    for part in PARTS:
        name = part.__name__
        if name not in names:
            continue
        start, rows = time.monotonic(), found.setdefault(name, [])
        end = min(began + total, start + SHARES.get(name, 1) * total)
        try:
            for row in part():
                rows.append(row)
                save()
                if time.monotonic() > end:
                    rows.append({"cut short": f"after {time.monotonic() - start:.0f} s"})
                    break
        except Exception as error:  # the other parts still run
            rows.append({"error": f"{type(error).__name__}: {str(error)[:500]}"})
        torch.use_deterministic_algorithms(False)
        save()
        print(f"{name}: {len(rows)} rows, {time.monotonic() - start:.0f} s", flush=True)
    return found


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--seconds", type=float, default=440)
    parse.add_argument("--out", type=Path, help="default: results/gpu.json")
    parse.add_argument("--parts", default=",".join(part.__name__ for part in PARTS))
    parse.add_argument("--dry", action="store_true", help="on the CPU in the interpreter")
    parse.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    asked = parse.parse_args()
    if DRY:
        triton.DEVICES.append("cpu")
        torch.set_num_threads(1)
        engines.ENGINES = tuple(e for e in engines.ENGINES if e is not cpu.ENGINE)
    elif not torch.cuda.is_available():
        sys.exit("there is no CUDA device; --dry runs every part on the CPU")
    if asked.tiny:
        return proofs.tiny()
    return table.show(run_all(asked.parts.split(","), asked.seconds, asked.out))


if __name__ == "__main__":
    main()
