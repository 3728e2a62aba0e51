"""The table at the end."""

import json
from typing import Any


def show(found: dict[str, Any]) -> None:
    """The table."""
    print(json.dumps(found.get("facts", [{}])[0], indent=1))
    proofs = [row for part in ("correct", "loop", "sight", "app", "sanitizer") for row in found.get(part, [])]
    bad = [row for row in proofs if row.get("ok") is False]
    print(f"{len(proofs)} proofs, {len(bad)} not right")
    for row in bad[:20]:
        print("  ", row)
    names = ("ours", "chosen", "lengths", "packed")
    print("\ncuDNN's time over ours: plain, as chosen, lengths and packed against packed")
    print(f"{'N, T, C, H':>22} {'dtype':>9} {'cuDNN ms':>9}", *(f"{name:>8}" for name in names))
    for row in found.get("speed", []):
        if "ms" not in row:
            print(row)
            continue
        ms = row["ms"]
        ratios = [ms["cudnn"] / ms[name] for name in ("ours", "chosen")]
        ratios += [ms["cudnn packed"] / ms[name] for name in ("ours lengths", "ours packed") if name in ms]
        shown = " ".join(f"{r:8.2f}" for r in ratios)
        goal = f"  goal {row['goal']}" if row["goal"] else ""
        print(f"{row['shape']!s:>22} {row['dtype'][6:]:>9} {ms['cudnn']:9.3f} {shown}{goal}")
    print("\noption: its time over our plain layer's, the time of torch operations over ours")
    for row in found.get("options", []):
        ms = row.get("ms", {})
        if "ours" in ms:
            slow = f"{ms['torch'] / ms['ours']:7.1f}" if "torch" in ms else ""
            print(f"  {row['option']:>18} {ms['ours'] / ms['plain']:5.2f} {slow}")
    print("\na step of undertow train, and of a user's loop with nn.LSTM, in us")
    for row in found.get("app", []):
        if "us_a_step" in row:
            each = row["us_a_step"]
            print(f"  {row['task']:>18} {each['ours']:9.0f} {each['torch']:9.0f}")
