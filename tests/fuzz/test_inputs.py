"""Small malformed tables and texts, trained on and predicted from: never a traceback."""

import random
from pathlib import Path
from typing import Any

import pytest

from commands import TRAIN, call
from sampling import examples, seed

pytestmark = pytest.mark.filterwarnings("default")

CASES, PARTS = 500, 10
CELLS = [
    "", "NA", "nan", "inf", "-inf", "1e400", "1e308", "-1e308", "1e-320", "9" * 30, "x", "true",
    "2020-13-01", "2020-01-01", "1800-01-01", "9999-12-31", "0x1", "1,5", '"', '""', "'", "\t", "é", "\x00",
    "\ufeff", "12:00", " 1",
]  # fmt: skip
PIECES = [
    b"",
    b"\n",
    b"\r",
    b",",
    b";",
    b'"',
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\n\n\n",
    b"9" * 400,
]
SOURCES = {"text": "rhyme.txt", "forecast": "waves.csv", "classify": "walks.csv"}


def change_cells(path: Path, draw: random.Random) -> str:
    """Other cells, rows or columns of a table."""
    rows = [line.split(",") for line in path.read_text().splitlines()]
    how = draw.choice(
        ["cell", "cell", "column", "row twice", "without column", "few rows", "name", "ragged", "order"]
    )
    row, column = draw.randrange(len(rows)), draw.randrange(len(rows[0]))
    if how == "cell":
        rows[row][column] = draw.choice(CELLS)
    elif how == "column":
        value = draw.choice(CELLS)
        rows[1:] = [[*line[:column], value, *line[column + 1 :]] for line in rows[1:]]
    elif how == "row twice":
        rows.append(rows[row])
    elif how == "without column":
        rows = [line[:column] + line[column + 1 :] for line in rows]
    elif how == "few rows":
        rows = rows[: draw.randrange(8)]
    elif how == "name":
        rows[0][column] = draw.choice([*CELLS, *rows[0]])
    elif how == "ragged":
        rows[row] = rows[row][:column] if draw.random() < 0.5 else [*rows[row], "1"]
    else:
        body = rows[1:]
        draw.shuffle(body)
        rows[1:] = body
    path.write_text("\n".join(",".join(line) for line in rows) + "\n")
    return f"{how} at {row}, {column}"


def change_bytes(path: Path, draw: random.Random) -> str:
    raw = path.read_bytes()
    place, piece = draw.randrange(len(raw)), draw.choice(PIECES)
    how = draw.choice(["put in", "cut", "alone", "reversed"])
    raw = {
        "put in": raw[:place] + piece + raw[place:],
        "cut": raw[:place],
        "alone": piece * draw.randint(1, 200),
        "reversed": raw[::-1],
    }[how]
    path.write_bytes(raw)
    return f"{how} {piece!r} at {place}"


def spoil(path: Path, draw: random.Random) -> list[str]:
    """Change a file in one to three ways; what was done."""
    done = []
    for _ in range(draw.randint(1, 3)):
        if not path.stat().st_size:
            break
        table = path.suffix == ".csv" and draw.random() < 0.75
        try:
            done.append(change_cells(path, draw) if table else change_bytes(path, draw))
        except (IndexError, ValueError):  # no longer a table that can be changed by cells
            done.append(change_bytes(path, draw))
    return done


def command(task: str, draw: random.Random) -> tuple[Any, ...]:
    if task == "text":
        return (
            "train",
            *TRAIN[task],
            "--folder",
            "new",
            *(["--symbols", "bytes"] if draw.random() < 0.3 else []),
        )
    gaps = ("--gaps", draw.choice(["fill", "error"])) if draw.random() < 0.4 else ()
    if draw.random() < 0.5:
        return ("predict", task, SOURCES[task], *gaps, "-o", "new.csv")
    return ("train", *TRAIN[task], "--folder", "new", *gaps)


@pytest.mark.parametrize("part", range(PARTS))
def test_spoilt_inputs(place, part):
    start = seed(part)
    draw = random.Random(start)
    for number in range(examples(CASES) // PARTS):
        place()
        task = draw.choice(list(SOURCES))
        path = Path(SOURCES[task])
        done = spoil(path, draw)
        arguments = command(task, draw)
        ended = call(*arguments)
        ended.check(f"case {start}.{number}: {arguments} with {path}: {done}")
        if ended.code == 2:
            assert not Path("new").exists()
            assert not Path("new.csv").exists()
