"""Makes the files of this folder, which docs/data.md reads: ``python examples/messy/make.py``."""

import datetime as dt
import sys
from pathlib import Path

import numpy as np


def main(folder: Path) -> None:
    rng = np.random.default_rng(3)
    days = [dt.date(2020, 1, 1) + dt.timedelta(k) for k in range(300)]
    level = 3 + np.sin(2 * np.pi * np.arange(300) / 60) + 0.1 * rng.normal(size=300)
    level[100:110] = -999.0  # the logger was out of order
    rain = rng.exponential(2, 300)
    rows = [
        f"{day:%d.%m.%Y};{a:.2f};{b:.1f}\n".replace(".", ",")
        for day, a, b in zip(days, level, rain, strict=True)
    ]
    text = "# Messstelle 7\nDatum;Höhe;Regen\n" + "".join(row.replace(",", ".", 2) for row in rows)
    (folder / "gauge.csv").write_bytes(text.encode("latin-1"))
    hours = [dt.datetime(2021, 10, 24) + dt.timedelta(hours=k) for k in range(300)]
    local = [hour if hour < dt.datetime(2021, 10, 31, 2) else hour - dt.timedelta(hours=1) for hour in hours]
    load = 50 + 10 * np.sin(2 * np.pi * np.arange(300) / 24) + rng.normal(size=300)
    lines = [f"{hour:%Y-%m-%d %H:%M},{value:.1f}\n" for hour, value in zip(local, load, strict=True)]
    (folder / "load.csv").write_text("time,load\n" + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
