"""Small inputs with a known answer, and options with which they train in a second."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

DATA = Path(__file__).parents[3] / "shared" / "data"  # real inputs beside the project; absent elsewhere

FORECAST = ("--target", "level", "--group", "place", "--steps", 10, "--hidden-size", 16)
CLASSIFY = ("--sequence", "id", "--label", "way", "--hidden-size", 8)
TEXT = ("--steps", 16, "--batch-size", 8, "--hidden-size", 32, "--num-layers", 1)


def changed(options: tuple, *others: tuple) -> list:
    """Options with some of them replaced, or added: none may be given twice."""
    found: dict = {}
    for part in (*options, *(part for each in others for part in each)):
        if str(part).startswith("-") and not str(part)[1:2].isdigit():
            flag, found[part] = part, ()
        else:
            found[flag] = (part,)
    return [part for flag, value in found.items() for part in (flag, *value)]


def wave_table(days: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    tables = []
    for place, level in (("north", 10.0), ("south", 20.0)):
        t = np.arange(days)
        level_by_day = level + 3 * np.sin(2 * np.pi * t / 8) + 0.1 * rng.normal(size=days)
        tables.append(
            pl.DataFrame(
                {
                    "day": [date(2020, 1, 1) + timedelta(days=int(k)) for k in t],
                    "place": place,
                    "sky": rng.choice(["clear", "cloud"], days),
                    "level": level_by_day.round(4),
                }
            )
        )
    return pl.concat(tables)


def walk_table(n: int, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        drift = 1 if number % 2 else -1
        position = np.cumsum(drift + 0.3 * rng.normal(size=rng.integers(4, 10)))
        rows += [(f"w{number}", k, float(x), "up" if drift > 0 else "down") for k, x in enumerate(position)]
    return pl.DataFrame(rows, schema=["id", "step", "x", "way"], orient="row")
