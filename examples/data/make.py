"""Makes the example data of README and docs, all invented.

    python examples/data/make.py [folder]

Needs NumPy. The same seed gives the same files.
"""

import csv
import datetime
import sys
from pathlib import Path

import numpy as np

WHO = ["cat", "dog", "mouse", "crow", "king", "queen", "goose", "hen", "lamb", "pig", "frog", "owl"]
LIKE = ["old", "small", "merry", "grey", "brave", "sleepy", "tiny", "proud"]
DID = ["danced", "jumped", "ran", "sang", "sat", "slept", "hopped", "walked"]
RHYMES = [
    ["hill", "mill", "sill"],
    ["tree", "sea", "quay"],
    ["wall", "hall", "stall"],
    ["door", "floor", "shore"],
    ["light", "kite", "night"],
    ["lane", "rain", "train"],
]
DAYS = 731  # 2022-01-01 to 2024-01-01
HOLIDAYS = ("01-01", "05-01", "10-03", "12-25", "12-26")
GESTURES = ("circle", "swipe", "shake", "still")
STATES = {"rest": (0, 0.0), "walk": (1.8, 2.0), "run": (2.7, 4.5)}  # steps a second, acceleration in m/s²


def rhymes(rng: np.random.Generator, verses: int = 300) -> str:
    """Verses of four lines; lines two and four rhyme."""
    text = []
    for _ in range(verses):
        who, other = rng.choice(WHO, 2, replace=False)
        like, did = rng.choice(LIKE), rng.choice(DID, 2, replace=False)
        first, second = rng.choice(RHYMES[rng.integers(len(RHYMES))], 2, replace=False)
        text += [f"The {like} little {who}", f"{did[0]} by the {first},"]
        text += [f"and so did the {other}", f"that {did[1]} by the {second}.", ""]
    return "\n".join(text)


def river(rng: np.random.Generator) -> list[list[object]]:
    """Daily rain in mm and river level in m: the level rises with rain and snowmelt, then recedes."""
    rows: list[list[object]] = [["date", "rain", "level"]]
    start, wet, storage = datetime.date(2022, 1, 1), False, 20.0
    for day in range(DAYS):
        season = np.cos(2 * np.pi * (day - 30) / 365.25)  # wettest at the end of January
        wet = rng.random() < (0.65 if wet else 0.25) + 0.1 * season
        rain = rng.gamma(0.8, 9) if wet else 0.0
        melt = 2.0 * max(0.0, np.sin(2 * np.pi * (day - 60) / 365.25))
        storage = 0.88 * storage + 0.7 * rain + melt
        level = 0.4 + 0.18 * np.sqrt(storage) + rng.normal(0, 0.01)
        rows.append([start + datetime.timedelta(day), f"{rain:.1f}", f"{level:.2f}"])
    return rows


def gesture(rng: np.random.Generator, name: str) -> np.ndarray:
    """Acceleration in m/s² along two axes at 10 Hz, 20 to 40 steps: [T, 2]."""
    t = np.arange(rng.integers(20, 41)) / 10
    phase, size, rate = rng.uniform(0, 2 * np.pi), rng.uniform(2, 4), rng.uniform(0.8, 1.2)
    angle = 2 * np.pi * rate * t + phase
    wave = {
        "circle": (np.cos(angle), np.sin(angle)),
        "swipe": (np.sin(2 * np.pi * t / t[-1]), 0 * t),
        "shake": (np.sign(np.sin(3 * angle)), 0.3 * np.sin(3 * angle)),
        "still": (0 * t, 0 * t),
    }[name]
    return size * np.stack(wave, axis=1) + rng.normal(0, 0.3, (len(t), 2))


def gestures(rng: np.random.Generator, count: int = 60) -> list[list[object]]:
    """One row a step: the sequence's number, its label and the acceleration."""
    rows: list[list[object]] = [["id", "gesture", "x", "y"]]
    for number in range(count):
        name = GESTURES[number % len(GESTURES)]
        rows += [[number, name, f"{x:.2f}", f"{y:.2f}"] for x, y in gesture(rng, name)]
    return rows


def activity(rng: np.random.Generator, count: int = 24, length: int = 150) -> list[list[object]]:
    """Acceleration in m/s² at the hip of 24 people, 10 times a second; each changes state every 2 to 6 s."""
    rows: list[list[object]] = [["person", "seconds", "up", "forward", "state"]]
    for person in range(count):
        state, left, phase = str(rng.choice(list(STATES))), rng.integers(20, 61), rng.uniform(0, 2 * np.pi)
        strength, tilt = rng.uniform(0.6, 1.4), rng.normal(0, 0.5)  # of the person and of the sensor
        for step in range(length):
            if left == 0:
                state = str(rng.choice([other for other in STATES if other != state]))
                left = rng.integers(20, 61)
            left -= 1
            rate, size = STATES[state]
            phase += 2 * np.pi * rate / 10
            up = strength * size * np.sin(phase) + tilt + rng.normal(0, 0.8)
            forward = 0.5 * strength * size * np.cos(phase) - tilt + rng.normal(0, 0.8)
            rows.append([person, f"{step / 10:.1f}", f"{up:.1f}", f"{forward:.1f}", state])
    return rows


def batteries(rng: np.random.Generator, count: int = 100) -> list[list[object]]:
    """A check-up every ten cycles, and the cycles that then remain until 80% of the capacity is left."""
    rows: list[list[object]] = [["battery", "capacity", "resistance", "temperature", "remaining"]]
    for battery in range(count):
        warmth = rng.uniform(15, 40)
        life = 1000 * np.exp(-0.03 * (warmth - 15) + rng.normal(0, 0.1))
        checks = int(rng.uniform(0.2, 0.9) * life / 10)
        bend, capacity, resistance = rng.uniform(1.2, 1.8), rng.normal(1.1, 0.01), rng.normal(16, 0.4)
        for check in range(checks):
            used = 10 * check / life
            left = capacity * (1 - 0.2 * used**bend) + rng.normal(0, 0.003)
            ohms = resistance * (1 + 0.3 * used) + rng.normal(0, 0.1)
            degrees = warmth + rng.normal(0, 1)
            remaining = round(life - 10 * (checks - 1))
            rows.append([battery, f"{left:.3f}", f"{ohms:.1f}", f"{degrees:.1f}", remaining])
    return rows


def sales(rng: np.random.Generator, days: int = 400, ahead: int = 14) -> list[list[object]]:
    """Units sold a day, of two items in three stores; the last days are not sold yet."""
    rows: list[list[object]] = [["date", "store", "item", "area", "promo", "holiday", "sold"]]
    start = datetime.date(2023, 1, 1)
    for store, area in (("north", 120), ("south", 300), ("west", 210)):
        for item, share, gain in (("coffee", 0.3, 0.8), ("tea", 0.2, 0.5)):
            level = share * area
            for day in range(days + ahead):
                date = start + datetime.timedelta(day)
                promo, holiday = int(rng.random() < 0.2), int(date.strftime("%m-%d") in HOLIDAYS)
                week = 1 + 0.3 * (date.weekday() >= 5)
                level += 0.02 * area * rng.normal() - 0.05 * (level - share * area)
                mean = level * week * (1 + gain * promo) * (1 - 0.7 * holiday)
                sold = max(0, round(mean * (1 + 0.05 * rng.normal())))
                rows.append([date, store, item, area, promo, holiday, sold if day < days else ""])
    return rows


def write(path: Path, rows: list[list[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    (folder / "rhymes.txt").write_text(rhymes(rng), encoding="utf-8")
    write(folder / "river.csv", river(rng))
    write(folder / "gestures.csv", gestures(rng))
    write(folder / "sales.csv", sales(rng))
    write(folder / "activity.csv", activity(rng))
    write(folder / "batteries.csv", batteries(rng))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
